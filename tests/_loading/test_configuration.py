"""Configurations: what is not known is refused by name, and what is left out is what the library takes."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _folders_of_models import refused, replaced

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import changed, linked  # noqa: E402

from latentcortex._loading import configuration  # noqa: E402


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
def test_what_a_configuration_leaves_out_is_what_the_library_takes(kind: configuration.PartKind, config_class) -> None:
    import inspect

    made = config_class() if config_class else None
    library = inspect.signature(getattr(diffusers, kind.name).__init__).parameters if made is None else {}
    for key, value in kind.defaults.items():
        assert value == (getattr(made, key) if made is not None else library[key].default), key


def test_the_text_and_vision_towers_have_the_defaults_of_the_library() -> None:
    for name, defaults in configuration.TOWERS.items():
        made = {"text_config": transformers.CLIPTextConfig, "vision_config": transformers.CLIPVisionConfig}[name]()
        assert {key: getattr(made, key) for key in defaults} == defaults
