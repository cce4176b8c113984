"""Model folders: every part is checked whole before anything is loaded, and what is wrong is one line that names it."""

from __future__ import annotations

import json
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import changed, linked, small_flow, small_xl  # noqa: E402
from huggingface_hub import is_offline_mode  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from latentcortex import _ldm, extract  # noqa: E402
from latentcortex._loading import configuration, modules, threads  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402
from latentcortex.extractors.ldm import LDM  # noqa: E402
from latentcortex.study import Study  # noqa: E402

Damage = Callable[[Path], None]
FLOW_PARTS = ("vae", "transformer", "text_encoder", "text_encoder_3")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "xl").mkdir()
    return {
        "1": tiny_model,
        "xl": small_xl(folder / "xl", tiny_model),
        "3": small_flow(folder / "3", tiny_model),
    }


def checked(folder: Path) -> None:
    _ldm.Layout.read(folder).checked()


def refused(folder: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        checked(folder)
    assert "\n" not in str(error.value)


def replaced(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def weights_of(part: Path) -> Path:
    (path,) = part.glob("*.safetensors")
    return path


def rewritten(part: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = weights_of(part)
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})


def bias(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(name for name in tensors if name.endswith((".bias", "layer_norm.weight")))[0]


def without_a_bias(part: Path) -> None:
    rewritten(part, lambda tensors: tensors.pop(bias(tensors)))


def with_one_more(part: Path) -> None:
    rewritten(part, lambda tensors: tensors.update({"classifier.weight": torch.zeros(2)}))


def of_other_shape(part: Path) -> None:
    rewritten(part, lambda tensors: tensors.update({bias(tensors): torch.zeros(3)}))


def packed(part: Path) -> None:
    rewritten(part, lambda tensors: tensors.update({bias(tensors): tensors[bias(tensors)].to(torch.int8)}))


def cut(part: Path) -> None:
    replaced(weights_of(part), weights_of(part).read_bytes()[:-9])


def pointed(part: Path) -> None:
    replaced(weights_of(part), b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n")


def of_one_length(part: Path) -> None:
    replaced(weights_of(part), struct.pack("<Q", 2**60) + weights_of(part).read_bytes()[8:])


def gone(part: Path) -> None:
    weights_of(part).unlink()


def adapted(part: Path) -> None:
    (part / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')


def of_no_table(part: Path) -> None:
    replaced(part / "config.json", b"[1]")


def of_no_json(part: Path) -> None:
    replaced(part / "config.json", (part / "config.json").read_bytes()[:-9])


def nested(part: Path) -> None:
    replaced(part / "config.json", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def long(part: Path) -> None:
    replaced(part / "config.json", b"{" + b" " * 2**21 + b"}")


def unconfigured(part: Path) -> None:
    (part / "config.json").unlink()


DAMAGES: dict[Damage, str] = {
    without_a_bias: "lacks 1 weights of its .*, among them",
    with_one_more: r"has 1 weights that a .* of its configuration does not have, among them classifier\.weight",
    of_other_shape: r"of shape \(3,\); its configuration makes it",
    packed: "as I8; only weights as F16, BF16, F32, F64 are read",
    cut: "cannot be loaded: .*Fetch it again",
    pointed: "is a pointer of git-lfs and not the file; fetch it with: git lfs pull",
    of_one_length: "its first bytes are not the length of a header",
    gone: "no file named",
    adapted: "is an adapter",
    of_no_table: "must be a table of settings",
    of_no_json: "is not JSON",
    nested: "nested too deeply|nested more than",
    long: "a table of settings has at most",
    unconfigured: r"config\.json is missing",
}


@pytest.mark.parametrize("part", FLOW_PARTS)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_part_is_named(models: dict[str, Path], tmp_path: Path, part: str, damage: Damage) -> None:
    folder = linked(models["3"], tmp_path / "model")
    damage(folder / part)
    refused(folder, f"/model/{part}.*({DAMAGES[damage]})")


@pytest.mark.parametrize("damage", [without_a_bias, of_other_shape, pointed], ids=lambda damage: damage.__name__)
def test_a_damaged_unet_is_named(tiny_model: Path, tmp_path: Path, damage: Damage) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    damage(folder / "unet")
    refused(folder, f"/model/unet.*({DAMAGES[damage]})")


def test_whole_models_pass(models: dict[str, Path]) -> None:
    for folder in models.values():
        checked(folder)


def test_nothing_is_loaded_or_written_where_a_part_is_damaged(tiny_model: Path, tmp_path: Path, pictures) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    rewritten(folder / "vae", lambda tensors: tensors.pop("quant_conv.weight"))
    model = LDM(str(folder), n_steps=10)
    with pytest.raises(InputError, match=r"lacks 1 weights of its AutoencoderKL, among them quant_conv\.weight"):
        extract(pictures(["a"]), model, store=tmp_path / "store", progress=False)
    assert "parts" not in model.__dict__
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("model", "part", "values", "says"),
    [
        ("1", "unet", {"class_embed_type": "timestep"}, "has class_embed_type = 'timestep'; how such a"),
        ("1", "unet", {"num_class_embeds": 10}, "has num_class_embeds = 10; how such a"),
        ("1", "unet", {"encoder_hid_dim_type": "text_proj"}, "has encoder_hid_dim_type"),
        ("1", "unet", {"time_cond_proj_dim": 256}, "has time_cond_proj_dim = 256"),
        ("1", "unet", {"_class_name": "UNetMotionModel"}, "is a UNetMotionModel; only UNet2DConditionModel"),
        ("1", "unet", {"layers_per_block": 10**9}, "layers_per_block = 1000000000; a known model has at most"),
        ("1", "unet", {"layers_per_block": 100, "transformer_layers_per_block": 100}, "asks for 30000 blocks"),
        ("1", "unet", {"block_out_channels": [8, 16]}, "must have one entry for each stage in each list"),
        ("1", "unet", {"block_out_channels": [8, 16, "16"]}, "has block_out_channels = "),
        ("1", "unet", {"sample_skze": 8}, "has sample_skze, which a UNet2DConditionModel does not have"),
        ("1", "unet", {"attention_head_dim": None}, "does not say attention_head_dim, which a UNet2DConditionModel"),
        ("1", "text_encoder", {"hidden_act": None}, "does not say hidden_act, which a CLIPTextModel needs"),
        ("1", "text_encoder", {"layer_norm_eps": "0"}, "makes no CLIPTextModel: Validation error for field"),
        ("3", "scheduler", {"shift_terminal": 1.0}, "has shift_terminal, with which no trajectory is known"),
        ("1", "unet", {"norm_num_groups": 3}, "makes no UNet2DConditionModel"),
        ("1", "unet", {"mid_block_type": "Nothing"}, "makes no UNet2DConditionModel"),
        ("1", "unet", {"cross_attention_dim": 24}, r"of shape \(8, 12\); its configuration makes it \(8, 24\)"),
        ("1", "unet", {"in_channels": 4.0}, r"has in_channels = 4\.0; expected"),
        ("1", "unet", {"quantization_config": {"load_in_8bit": True}}, "has quantization_config, with which code"),
        ("1", "vae", {"latents_mean": [0.0] * 4}, "has latents_mean"),
        ("1", "vae", {"latents_std": [1.0] * 4}, "has latents_std"),
        ("1", "vae", {"scaling_factor": 0}, "has scaling_factor = 0; expected"),
        ("1", "vae", {"shift_factor": "0.1"}, "has shift_factor = '0.1'; expected"),
        ("1", "vae", {"_class_name": "AutoencoderTiny"}, "is a AutoencoderTiny; only AutoencoderKL"),
        ("1", "text_encoder", {"model_type": "xlm-roberta"}, "is a xlm-roberta; only CLIPTextModel"),
        ("1", "text_encoder", {"auto_map": {"AutoModel": "evil.py"}}, "has auto_map, with which code"),
        ("1", "text_encoder", {"num_hidden_layers": 3000}, "asks for 3000 blocks"),
        ("1", "text_encoder", {"max_position_embeddings": 10**5}, "a known model has at most 4096"),
        ("1", "text_encoder", {"hidden_act": "exec"}, "makes no CLIPTextModel"),
        ("1", "text_encoder", {"attn_implementation": "kernels-community/evil"}, "which is fetched code"),
        ("1", "text_encoder", {"_attn_implementation": "flash_attention_2"}, "which is fetched code"),
        ("1", "text_encoder", {"nested": {"_attn_implementation_internal": "x/y"}}, "which is fetched code"),
        ("1", "text_encoder", {"eos_token_id": 5}, "ends texts with token 53; the text encoder looks for 5"),
        (
            "1",
            "scheduler",
            {"_class_name": "EDMEulerScheduler"},
            "class EDMEulerScheduler, whose noise is not known",
        ),
        ("1", "scheduler", {"_class_name": None}, "is of the class None, whose noise"),
        ("1", "scheduler", {"num_train_timesteps": 10**12}, "num_train_timesteps = 1000000000000"),
        ("1", "scheduler", {"num_train_timesteps": 10**5}, "num_train_timesteps = 100000; expected 2 to 10000"),
        ("1", "scheduler", {"beta_end": 12.0}, "betas between 0 and 1"),
        ("1", "scheduler", {"beta_schedule": "sigmoid"}, "Unknown beta_schedule in"),
        ("1", "scheduler", {"prediction_type": "flow_prediction"}, "Unknown prediction_type in"),
        ("1", "scheduler", {"rescale_betas_zero_snr": "false"}, "rescale_betas_zero_snr = 'false'; expected true or"),
        ("1", "scheduler", {"trained_betas": [0.1]}, "as many trained_betas as timesteps of training, 1000"),
        ("1", "scheduler", {"thresholding": True}, "has thresholding, with which no trajectory is known"),
        ("1", "scheduler", {"clip_sample": True}, "has clip_sample, with which no trajectory is known"),
        ("xl", "unet", {"addition_embed_type": "image"}, "has addition_embed_type = 'image'"),
        ("3", "scheduler", {"shift": -1}, "has shift = -1; expected"),
        ("3", "transformer", {"num_layers": 10**7}, "num_layers = 10000000; a known model has at most"),
        ("3", "transformer", {"pos_embed_max_size": 10**5}, "pos_embed_max_size = 100000; a known model"),
        ("3", "text_encoder_3", {"num_layers": 4000}, "asks for 4000 blocks"),
        ("3", "vae", {"use_quant_conv": True}, r"lacks 2 weights of its AutoencoderKL, among them quant_conv\.bias"),
    ],
)
def test_a_configuration_that_is_not_known_is_refused_by_name(
    models: dict[str, Path], tmp_path: Path, model: str, part: str, values: dict, says: str
) -> None:
    source = models[model]
    if model == "xl":  # its parts are links to those of another
        source = Path(shutil.copytree(source, tmp_path / "copy"))
    refused(changed(source, tmp_path / "model", part, **values), says)


def test_a_scheduler_that_leaves_its_noise_out_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    replaced(folder / "scheduler" / "scheduler_config.json", b'{"_class_name": "PNDMScheduler"}')
    refused(folder, "does not say num_train_timesteps, beta_start, beta_end, beta_schedule")


def test_timesteps_without_bound_are_refused_before_they_take_memory(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", "scheduler", num_train_timesteps=10**12)
    code = f"from latentcortex.extractors.ldm import LDM; LDM({str(folder)!r}, n_steps=10)"

    def at_most() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30,) * 2)

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=at_most, check=False)
    assert done.stderr.splitlines()[-1].startswith("latentcortex.errors.InputError")


@pytest.mark.parametrize(("channels", "shown"), [(9, "mask"), (5, "depth")])
def test_a_unet_that_is_shown_more_than_the_latent_is_refused(
    tiny_model: Path, tmp_path: Path, channels: int, shown: str
) -> None:
    """Inpainting has 9 channels, depth to image 5: whole models, of another task."""
    folder = linked(tiny_model, tmp_path / "model")
    shutil.rmtree(folder / "unet")
    config = diffusers.UNet2DConditionModel.load_config(tiny_model / "unet")
    unet = diffusers.UNet2DConditionModel.from_config({**config, "in_channels": channels})
    unet.save_pretrained(folder / "unet")
    refused(folder, f"takes {channels} channels and the latent has 4; a denoiser that is also shown .*{shown}")


def test_a_unet_without_a_size_needs_pixels(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", "unet", sample_size=None)
    with pytest.raises(InputError, match="does not say for which sample_size it was made; set `pixels`"):
        LDM(str(folder), n_steps=10)
    assert LDM(str(folder), n_steps=10, pixels=16).latent == (4, 8, 8)


def test_half_of_a_second_pair_is_a_missing_part(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["xl"], tmp_path / "model"))
    shutil.rmtree(folder / "tokenizer_2")
    refused(folder, "is not a latent diffusion model: no tokenizer_2 in it")


# Tokenizers.


def without_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def tokens_changed(folder: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    replaced(folder / "tokenizer.json", json.dumps(content).encode())


def with_empty_vocabulary(folder: Path) -> None:
    tokens_changed(folder, lambda content: content["model"].update(vocab={}, merges=[]))


def with_other_letters(folder: Path) -> None:
    def change(content: dict) -> None:
        vocab = content["model"]["vocab"]
        content["model"]["vocab"] = {{"o": "é", "o</w>": "é</w>"}.get(token, token): i for token, i in vocab.items()}

    tokens_changed(folder, change)


def with_one_more_token(folder: Path) -> None:
    def change(content: dict) -> None:
        content["model"]["vocab"]["ö"] = len(content["model"]["vocab"])

    tokens_changed(folder, change)


def torn(folder: Path) -> None:
    replaced(folder / "tokenizer.json", (folder / "tokenizer.json").read_bytes()[:-30])


def settings(**values: object) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "tokenizer_config.json"
        replaced(path, json.dumps({**json.loads(path.read_text()), **values}).encode())

    return damage


def vocabulary_elsewhere(folder: Path) -> None:
    settings(vocab_file="/etc/passwd")(folder)


def running(folder: Path) -> None:
    settings(auto_map={"AutoTokenizer": ["evil.py", None]})(folder)


def of_another_class(folder: Path) -> None:
    settings(tokenizer_class="BertTokenizer")(folder)


def of_another_window(folder: Path) -> None:
    settings(model_max_length=12)(folder)


def pointed_vocabulary(folder: Path) -> None:
    replaced(folder / "tokenizer.json", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")


TOKENIZERS: dict[Damage, str] = {
    without_vocabulary: r"has no tokenizer\.json or vocab\.json and merges\.txt",
    with_empty_vocabulary: "does not give words back|cannot be loaded|tokens; the text encoder",
    with_other_letters: "does not give words back: it reads ",
    with_one_more_token: "has 55 tokens; the text encoder was made for 54",
    torn: "cannot be loaded as a CLIPTokenizer",
    pointed_vocabulary: "is a pointer of git-lfs",
    vocabulary_elsewhere: "has vocab_file, which reads files elsewhere",
    running: "has auto_map, with which code would be fetched or run",
    of_another_class: "is a BertTokenizer; the text encoder takes a CLIPTokenizer",
    of_another_window: "cuts texts at 12 tokens; the text encoder has 16 places",
}


@pytest.mark.parametrize("damage", TOKENIZERS, ids=lambda damage: damage.__name__)
def test_a_damaged_tokenizer_is_named(tiny_model: Path, tmp_path: Path, damage: Damage) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    damage(folder / "tokenizer")
    refused(folder, f"/model/tokenizer.*({TOKENIZERS[damage]})")


def test_a_window_that_a_tokenizer_does_not_say_is_that_of_its_encoder(tiny_model: Path, tmp_path: Path) -> None:
    """Without one transformers takes 10^30 tokens, to which every caption would be padded."""
    folder = linked(tiny_model, tmp_path / "model")
    content = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
    del content["model_max_length"]
    replaced(folder / "tokenizer" / "tokenizer_config.json", json.dumps(content).encode())
    model, whole = _ldm.load(folder), _ldm.load(tiny_model)
    torch.testing.assert_close(
        _ldm.encode_captions(model, [("a cat",)]), _ldm.encode_captions(whole, [("a cat",)]), rtol=0, atol=0
    )


@pytest.mark.parametrize("device", ["cuda:77", "abacus", "meta"])
def test_a_device_that_is_not_there_is_one_line_before_anything_is_loaded(tiny_model: Path, device: str) -> None:
    model = LDM(str(tiny_model), n_steps=10, device=device)
    with pytest.raises(InputError, match=f"device = '{device}' cannot be used on this machine: ") as error:
        model.check(["z"], [("a cat",)])
    assert "\n" not in str(error.value)
    assert "parts" not in model.__dict__


def test_weights_that_are_not_finite_are_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    rewritten(folder / "unet", lambda tensors: tensors["conv_in.bias"].fill_(float("nan")))
    with pytest.raises(
        InputError, match=r"has weights that are not finite as torch\.float32, among them conv_in\.bias"
    ):
        _ldm.load(folder)


def test_what_a_library_raises_while_it_loads_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", "text_encoder", initializer_factor=None)
    with pytest.raises(InputError, match="text_encoder cannot be loaded: unsupported operand"):
        _ldm.load(folder)


def test_attention_is_computed_as_the_loader_says_and_not_as_the_folder_does(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", "text_encoder", _attn_implementation="eager")
    assert _ldm.load(folder).text_encoder.config._attn_implementation == "sdpa"


def test_a_tokenizer_of_t5_is_tried_too(models: dict[str, Path], tmp_path: Path) -> None:
    folder = linked(models["3"], tmp_path / "model")
    (folder / "tokenizer_3" / "tokenizer.json").unlink()
    refused(folder, r"/model/tokenizer_3 has no tokenizer\.json or spiece\.model")


# Older folders.


def test_a_folder_with_the_names_of_older_files_is_the_same_model(tiny_model: Path, tmp_path: Path) -> None:
    """Names of the released Stable Diffusion 1.4: `text_model.`, kept places, attention of the autoencoder, PNDM."""
    folder = linked(tiny_model, tmp_path / "model")

    def texts(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"text_model.{name}"] = tensors.pop(name)
        tensors["text_model.embeddings.position_ids"] = torch.arange(16)[None]

    def attention(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            old = name
            for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                old = old.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
            tensors[old] = tensors.pop(name)

    rewritten(folder / "text_encoder", texts)
    rewritten(folder / "vae", attention)
    assert any("proj_attn" in name for name in load_file(weights_of(folder / "vae")))
    noise = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pndm = {"_class_name": "PNDMScheduler", **noise, "skip_prk_steps": True, "steps_offset": 1}
    replaced(folder / "scheduler" / "scheduler_config.json", json.dumps(pndm).encode())
    model, whole = _ldm.load(folder), _ldm.load(tiny_model)
    for one, other in zip(model.modules, whole.modules, strict=True):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    torch.testing.assert_close(model.scheduler.alphas_cumprod, whole.scheduler.alphas_cumprod, rtol=0, atol=0)


def shared_out(part: Path) -> Path:
    """Write the weights into two files with an index."""
    path = weights_of(part)
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    halves = {f"{path.stem}-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for name, kept in halves.items():
        save_file({key: tensors[key] for key in kept}, part / name, metadata={"format": "pt"})
    index = part / f"{path.name}.index.json"
    weight_map = {key: name for name, kept in halves.items() for key in kept}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_in_several_files_are_read_from_beside_their_index(tiny_model: Path, tmp_path: Path, part: str) -> None:
    folder = linked(tiny_model, tmp_path / "model")
    index = shared_out(folder / part)
    before, after = _ldm.load(tiny_model), _ldm.load(folder)
    for one, other in zip(before.modules, after.modules, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    content = json.loads(index.read_text())
    for name, says in (("../vae/x.safetensors", "must name files of weights beside it"), ("x.safetensors", "lacks x")):
        content["weight_map"] = dict.fromkeys(content["weight_map"], name)
        index.write_text(json.dumps(content))
        refused(folder, says)


def test_no_library_may_ask_the_hub_while_it_loads() -> None:
    before = is_offline_mode()
    with modules.listening():
        assert is_offline_mode()
    assert is_offline_mode() == before


def test_what_a_library_warns_of_while_it_loads_is_logged(tiny_model: Path, tmp_path: Path, caplog, capfd) -> None:
    averaged = changed(tiny_model, tmp_path / "averaged", "unet", use_ema_warmup=True)
    folder = changed(averaged, tmp_path / "model", "text_encoder", number_of_heads=3)
    with caplog.at_level("WARNING", logger="latentcortex"):
        _ldm.load(folder)
    said = [record.getMessage() for record in caplog.records]
    assert any("use_ema_warmup" in line and line.startswith("While a model was loaded") for line in said)
    assert any(line.endswith("config.json has number_of_heads, which is not known and not read.") for line in said)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "config_class"),
    [
        (configuration.UNET, None),
        (configuration.TRANSFORMER, None),
        (configuration.AUTOENCODER, None),
        (configuration.CLIP_TEXT, transformers.CLIPTextConfig),
        (configuration.T5, transformers.T5Config),
    ],
)
def test_what_a_configuration_leaves_out_is_what_the_library_takes(kind: configuration.Kind, config_class) -> None:
    import inspect

    made = config_class() if config_class else None
    library = inspect.signature(getattr(diffusers, kind.name).__init__).parameters if made is None else {}
    for key, value in kind.defaults.items():
        assert value == (getattr(made, key) if made is not None else library[key].default), key


def test_the_text_and_vision_towers_have_the_defaults_of_the_library() -> None:
    for name, defaults in configuration.TOWERS.items():
        made = {"text_config": transformers.CLIPTextConfig, "vision_config": transformers.CLIPVisionConfig}[name]()
        assert {key: getattr(made, key) for key in defaults} == defaults


# Threads.


def test_features_have_the_same_bits_whatever_the_threads_of_torch(tiny_model: Path, pictures) -> None:
    stimuli = pictures([f"s{i}" for i in range(7)])
    ids, images = stimuli.ids, stimuli.images(stimuli.ids)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            model = LDM(str(tiny_model), n_steps=10, batch=2)
            found.append(model.extract(images, stimuli.captions(ids), list(ids), model.bands))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert model.made_by["threads"] == "one per pass"
    for band in found[0]:
        for other in found[1:]:
            np.testing.assert_array_equal(found[0][band], other[band])


def test_threads_are_given_back_where_a_pass_fails() -> None:
    before = torch.get_num_threads()

    def fails(_model: object, _item: int) -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("in a pass")

    with pytest.raises(ValueError, match="in a pass"):
        threads.Passes(object(), []).map(fails, [1, 2])
    assert torch.get_num_threads() == before


def test_two_passes_at_once_share_weights_and_nothing_else(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    other = threads.twin(model, model.modules)
    for one, two in zip(model.modules, other.modules, strict=True):
        assert one is not two
        assert all(a is b for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert other.scheduler is not model.scheduler
    assert re.match("CLIPTokenizer", type(other.tokenizer).__name__)


# In a study.


@pytest.fixture
def diffusion_study(folder_study: Path, tiny_model: Path) -> Path:
    """Let a study look at the tiny model, its captions being long for two of 60 pictures."""
    table = folder_study.parent / "data" / "stimuli.tsv"
    header, *rows = table.read_text().splitlines()
    captions = ["a very long red bus", "b" * 30, *["a bus"] * 58]
    lines = [f"{header}\tcaption", *(f"{row}\t{text}" for row, text in zip(rows, captions, strict=True))]
    table.write_text("\n".join(lines) + "\n")
    extractor = f'name = "ldm"\nmodel = "{tiny_model}"\nn_steps = 10\nbands = ["z", "c"]\npixels = 32'
    folder_study.write_text(folder_study.read_text().replace('name = "pixels"\nsize = 8', extractor))
    return folder_study


def test_check_counts_captions_that_are_cut(diffusion_study: Path) -> None:
    (one,) = [one for one in Study.read(diffusion_study).check() if one.rule == "cut-captions"]
    assert one.findings[0].startswith("2 of 60 captions are longer than the model's window of 16 tokens")


def test_a_study_refuses_before_it_extracts_what_its_reconstructor_cannot_use(diffusion_study: Path) -> None:
    text, out = diffusion_study.read_text(), diffusion_study.parent / "out"
    reconstructor = '\n[decoding]\n\n[reconstructor]\nname = "ldm"\nn_samples = 1\n'
    diffusion_study.write_text(text + reconstructor + 'model = "phantom"\n')
    with pytest.raises(InputError, match="z has 1024 dimensions; this model's has 64"):
        Study.read(diffusion_study).run(out, until="decode", progress=False)
    assert not out.exists()
    diffusion_study.write_text(text + reconstructor)
    assert Study.read(diffusion_study).reconstructor()._source.pixels == 32
