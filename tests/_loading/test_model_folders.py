"""Model folders: every part is checked whole before anything is loaded, and what is wrong is one line that names it."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
from _folders_of_models import Damage, checked, refused, replaced, rewritten, weights_of

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import changed, linked  # noqa: E402
from huggingface_hub import is_offline_mode  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from latentcortex import _ldm, extract  # noqa: E402
from latentcortex._loading import modules  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402
from latentcortex.extractors.ldm import LDM  # noqa: E402
from latentcortex.study import Study  # noqa: E402

FLOW_PARTS = ("vae", "transformer", "text_encoder", "text_encoder_3")


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


def test_a_unet_without_a_size_needs_pixels(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "model", "unet", sample_size=None)
    with pytest.raises(InputError, match="does not say for which sample_size it was made; set `pixels`"):
        LDM(str(folder), n_steps=10)
    assert LDM(str(folder), n_steps=10, pixels=16).latent == (4, 8, 8)


def test_half_of_a_second_pair_is_a_missing_part(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["xl"], tmp_path / "model"))
    shutil.rmtree(folder / "tokenizer_2")
    refused(folder, "is not a latent diffusion model: no tokenizer_2 in it")


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
