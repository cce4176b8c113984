"""Stable Diffusion 1.4 at full size with random weights, and a small model of each of its relatives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import small_xl  # noqa: E402

from latentcortex import _ldm  # noqa: E402
from latentcortex.extractors.ldm import LDM  # noqa: E402
from latentcortex.stimuli import pixel_hash  # noqa: E402

UNET = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "layers_per_block": 2,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
    "sample_size": 512,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
    "projection_dim": 768,
}
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
PUBLISHED = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
"""Parameters of the released model."""
LAYERS = {
    "down0": (320, 20, 20),
    "down2": (1280, 5, 5),
    "mid": (1280, 5, 5),
    "up1": (1280, 20, 20),
    "up3": (320, 40, 40),
}
"""Shapes of the default layers for images of 320 pixels."""


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """Write the configuration of Stable Diffusion 1.4, without weights."""
    folder = tmp_path_factory.mktemp("stable")
    for part, config in (("unet", UNET), ("vae", VAE), ("text_encoder", TEXT)):
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
    return folder


def test_the_default_model_has_the_published_size_and_its_layers_the_published_shapes(stable: Path) -> None:
    with torch.device("meta"):
        counted = {
            "unet": diffusers.UNet2DConditionModel.from_config(UNET),
            "vae": diffusers.AutoencoderKL.from_config(VAE),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)),
        }
    for part, model in counted.items():
        assert sum(p.numel() for p in model.parameters()) == PUBLISHED[part]
    ldm = LDM(str(stable))
    assert (ldm.pixels, ldm.latent, ldm.n_steps) == (320, (4, 40, 40), 50)
    assert ldm.layers == tuple(LAYERS)
    dims = ldm.dims(ldm.bands)
    assert dims["z"] == 6400
    assert dims["c"] == 77 * 768
    for layer, shape in LAYERS.items():
        assert dims[f"unet_layer-{layer}_strength-80_step-50"] == np.prod(shape)
    assert LDM(str(stable), pixels=512).latent == (4, 64, 64)
    # Strengths of 20, 40, 60 and 80 % of 50 steps, each strength once.
    assert ldm.n_rows(ldm.bands) == 10 + 20 + 30 + 40


@pytest.mark.slow
def test_the_default_model_at_full_size_goes_from_an_image_to_every_band(stable: Path, tiny_model: Path) -> None:
    """Random weights, one image, one step; weights take four bytes each, and no more than half as much besides."""
    bands = ["z", "c", "zc_strength-2_step-100", *(f"unet_layer-{la}_strength-2_step-100" for la in LAYERS)]
    ldm = LDM(str(stable), bands=bands, batch=1)
    before = psutil.Process().memory_info().rss
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(tiny_model / "tokenizer", model_max_length=77)
        end = tokenizer.eos_token_id
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT, eos_token_id=end, bos_token_id=end))
        parts = [diffusers.AutoencoderKL.from_config(VAE), diffusers.UNet2DConditionModel.from_config(UNET)]
    for part in (*parts, text):
        part.eval().requires_grad_(False)
    scheduler = diffusers.DDIMScheduler.from_config(
        SCHEDULER, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading"
    )
    ldm.__dict__["parts"] = _ldm.LatentDiffusion(*parts, ((tokenizer, text),), scheduler)
    image = np.random.default_rng(0).integers(0, 256, (1, 425, 425, 3), dtype=np.uint8)
    found = ldm.extract(image, [("a cat",)], [pixel_hash(image[0])], bands)
    assert {band: values.shape[1] for band, values in found.items()} == ldm.dims(bands)
    assert all(np.isfinite(values).all() for values in found.values())
    weights = 4 * sum(PUBLISHED.values())
    assert psutil.Process().memory_info().rss - before < 1.5 * weights


def test_the_trajectory_of_xl_is_that_of_its_pipeline(tiny_model: Path, tmp_path: Path, pictures) -> None:
    folder = small_xl(tmp_path, tiny_model)
    ldm = LDM(
        str(folder),
        n_steps=10,
        bands=["c", "c_part-pooled", "zc_strength-80_step-100", "unet_layer-mid_strength-80_step-50"],
    )
    model, captions = ldm.parts, [("a cat", "dog"), ("bus",)]
    assert model.told_pooled
    c = _ldm.condition(model, captions, pixels=16)
    assert c.states.shape == (2, 16, 32)
    assert c.pooled is not None
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=model.vae,
        unet=model.unet,
        text_encoder=model.texts[0][1],
        tokenizer=model.texts[0][0],
        text_encoder_2=model.texts[1][1],
        tokenizer_2=model.texts[1][0],
        scheduler=model.scheduler,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    states, _, pooled, _ = pipeline.encode_prompt(
        "bus", num_images_per_prompt=1, do_classifier_free_guidance=False, device="cpu"
    )
    torch.testing.assert_close(c.states[1:], states, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.pooled[1:], pooled, rtol=1e-5, atol=1e-6)
    z = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    tap = _ldm.Tap("x_t", 80, 100)
    ours = _ldm.trajectory(model, z, c, noise, n_steps=10, taps=[tap]).caught[tap]
    theirs = pipeline(
        prompt_embeds=c.states,
        pooled_prompt_embeds=c.pooled,
        image=z,
        strength=0.8,
        num_inference_steps=10,
        guidance_scale=1.0,
        original_size=(16, 16),
        target_size=(16, 16),
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    assert (ours - theirs).norm() / theirs.norm() < 1e-6
    stimuli = pictures(["a"])
    images = stimuli.images(["a"])
    found = ldm.extract(images, stimuli.captions(["a"]), [pixel_hash(images[0])], ldm.bands)
    assert {band: values.shape[1] for band, values in found.items()} == ldm.dims(ldm.bands)


@pytest.mark.parametrize("zeros", [None, True, False])
def test_without_text_xl_is_told_what_its_pipeline_tells_it(
    tiny_model: Path, tmp_path: Path, zeros: bool | None
) -> None:
    folder = small_xl(tmp_path, tiny_model)
    if zeros is not None:
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": zeros}
        (folder / "model_index.json").write_text(json.dumps(index))
    layer = "unet_layer-mid_strength-80_step-50_branch-unconditional"
    model = LDM(str(folder), n_steps=10, bands=[layer])
    assert model.made_by.get("unconditional") == (None if zeros is False else "zeros")
    parts, c = model.parts, _ldm.condition(model.parts, [("bus",)], pixels=16)
    options = {} if zeros is None else {"force_zeros_for_empty_prompt": zeros}
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=parts.vae,
        unet=parts.unet,
        text_encoder=parts.texts[0][1],
        tokenizer=parts.texts[0][0],
        text_encoder_2=parts.texts[1][1],
        tokenizer_2=parts.texts[1][0],
        scheduler=parts.scheduler,
        add_watermarker=False,
        **options,
    )
    pipeline.set_progress_bar_config(disable=True)
    _, states, _, pooled = pipeline.encode_prompt("bus", device="cpu")
    nothing = _ldm.unconditional(parts, pixels=16)
    torch.testing.assert_close(nothing.states, states, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nothing.pooled, pooled, rtol=1e-5, atol=1e-6)
    z, noise = (torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed)) for seed in (3, 5))
    x = _ldm.noised(parts, z, noise, n_own=6, n_steps=10)
    ours = _ldm.denoised(parts, x, c, n_own=6, n_steps=10, guidance=4.0)
    theirs = pipeline(
        prompt="bus",
        image=z,
        strength=0.6,
        num_inference_steps=10,
        guidance_scale=4.0,
        original_size=(16, 16),
        target_size=(16, 16),
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


def test_a_model_that_predicts_v_goes_along_its_own_trajectory(tiny_model: Path, tmp_path: Path) -> None:
    """Stable Diffusion 2.1 at 768 pixels predicts v; what a step does with it stands in the scheduler."""
    for part in ("vae", "unet", "tokenizer", "text_encoder"):
        (tmp_path / part).symlink_to(tiny_model / part)
    config = {
        **json.loads((tiny_model / "scheduler" / "scheduler_config.json").read_text()),
        "prediction_type": "v_prediction",
    }
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    models = [_ldm.load(folder) for folder in (tiny_model, tmp_path)]
    z, noise = torch.randn((2, 1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    half, clean = _ldm.Tap("x_t", 20, 50), _ldm.Tap("x0", 20, 100)
    for model, v in zip(models, (False, True), strict=True):
        c = _ldm.condition(model, [("bus",)], pixels=16)
        caught = _ldm.trajectory(model, z, c, noise, n_steps=10, taps=[half, clean]).caught
        with torch.inference_mode():
            predicted = model.unet(caught[half], torch.tensor(1), c.states).sample
        signal, rest = model.scheduler.alphas_cumprod[1].sqrt(), (1 - model.scheduler.alphas_cumprod[1]).sqrt()
        of_v = signal * caught[half] - rest * predicted
        of_noise = (caught[half] - rest * predicted) / signal
        torch.testing.assert_close(caught[clean], of_v if v else of_noise)
