from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from latentcortex import _ldm  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402
from latentcortex.extractors.ldm import BATCH, LDM, weights_hash  # noqa: E402
from latentcortex.stimuli import pixel_hash  # noqa: E402

STRENGTHS = (20, 40, 60, 80)


def extracted(model: LDM, stimuli, ids, bands):
    images = stimuli.images(ids)
    hashes = [pixel_hash(image) for image in images]
    return model.extract(images, stimuli.captions(ids), hashes, bands)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LDM:
    return LDM(model=str(tiny_model))


def test_bands_are_those_of_the_canonical_analyses(model: LDM) -> None:
    assert model.layers == ("down0", "down1", "mid", "up0", "up2")
    assert len(model.bands) == 2 + 4 + 2 + 15
    model.check(model.bands)


def test_z_is_the_scaled_posterior_mean_of_the_encoder(model: LDM, tiny_model: Path, pictures) -> None:
    stimuli = pictures(["a", "b"])
    vae = diffusers.AutoencoderKL.from_pretrained(tiny_model / "vae")
    x = torch.from_numpy(stimuli.images(["a", "b"])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        expected = vae.encode(x).latent_dist.mean * 0.7
    found = extracted(model, stimuli, ["a", "b"], ["z"])["z"]
    np.testing.assert_allclose(found, expected.flatten(1).numpy(), rtol=1e-5, atol=1e-6)


def parts(folder: Path) -> dict:
    loaded = _ldm.load(folder)
    return {
        "vae": loaded.vae,
        "unet": loaded.unet,
        "text_encoder": loaded.text_encoder,
        "tokenizer": loaded.tokenizer,
        "scheduler": loaded.scheduler,
    }


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_trajectory_is_that_of_diffusers_img2img(tiny_model: Path, strength: int) -> None:
    model = _ldm.load(tiny_model)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **parts(tiny_model), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    z = torch.randn((2, 4, 8, 8), generator=generator)
    c = _ldm.encode_captions(model, [("a cat", "dog"), ("bus",)])
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    taps = [(s, k) for s in STRENGTHS for k in (25, 50, 100)]
    ours = _ldm.trajectory(model, z, c, noise, n_steps=10, latents=taps)
    theirs = pipeline(
        prompt_embeds=c,
        image=z,
        strength=strength / 100,
        num_inference_steps=10,
        guidance_scale=1.0,
        eta=0.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    error = (ours.latents[strength, 100] - theirs).norm() / theirs.norm()
    assert error < 1e-6


def test_step_0_is_the_noised_latent(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    z, noise = torch.randn((1, 4, 8, 8)), torch.randn((1, 4, 8, 8))
    c = _ldm.encode_captions(model, [()])
    caught = _ldm.trajectory(model, z, c, noise, n_steps=10, latents=[(60, 0)]).latents[60, 0]
    alpha_bar = model.scheduler.alphas_cumprod[501]
    torch.testing.assert_close(caught, alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise)


def test_a_layer_is_what_its_module_gives_in_the_call_that_completes_the_step(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    z, noise = torch.randn((1, 4, 8, 8)), torch.randn((1, 4, 8, 8))
    c = _ldm.encode_captions(model, [("a dog",)])
    caught = _ldm.trajectory(
        model,
        z,
        c,
        noise,
        n_steps=10,
        latents=[(20, 50)],
        layers=[("mid_block", 20, 100), ("mid_block", 20, 50)],
    )
    heard = []
    handle = model.unet.mid_block.register_forward_hook(lambda m, i, o: heard.append(o))
    with torch.inference_mode():
        model.unet(caught.latents[20, 50], torch.tensor(1), c)
    handle.remove()
    torch.testing.assert_close(caught.layers["mid_block", 20, 100], heard[0])
    assert not torch.allclose(caught.layers["mid_block", 20, 50], heard[0])


def test_features_do_not_depend_on_batch_order_or_company(model: LDM, pictures) -> None:
    ids = [f"s{i}" for i in range(BATCH + 3)]
    stimuli = pictures(ids)
    bands = ["z", "c", "zc_strength-80_step-100", "unet_layer-mid_strength-80_step-50"]
    everyone = extracted(model, stimuli, ids, bands)
    some = ["s26", "s3", "s11"]
    few = extracted(model, stimuli, some, bands)
    one = extracted(model, stimuli, ["s11"], bands)
    for band in bands:
        np.testing.assert_array_equal(few[band], everyone[band][[26, 3, 11]])
        np.testing.assert_array_equal(one[band], few[band][2:])


def test_a_band_does_not_depend_on_which_others_are_asked_for(model: LDM, pictures) -> None:
    stimuli = pictures(["a", "b"])
    name = "zc_strength-40_step-100"
    alone = extracted(model, stimuli, ["a", "b"], [name])[name]
    joint = extracted(model, stimuli, ["a", "b"], model.bands)[name]
    np.testing.assert_allclose(alone, joint, rtol=1e-5, atol=1e-6)


def test_noise_belongs_to_the_pixels_and_the_seed(model: LDM, tiny_model: Path) -> None:
    np.testing.assert_array_equal(model.noise("x", (4,)), model.noise("x", (4,)))
    assert not np.array_equal(model.noise("x", (4,)), model.noise("y", (4,)))
    assert not np.array_equal(model.noise("x", (4,)), LDM(model=str(tiny_model), seed=1).noise("x", (4,)))


def test_the_sidecar_says_where_on_the_schedule_a_band_lies(model: LDM) -> None:
    assert model.timestep("z") == {}
    assert model.timestep("zc_strength-80_step-0")["timestep"] == 701
    assert model.timestep("unet_layer-mid_strength-80_step-100")["timestep"] == 1
    assert model.timestep("zc_strength-80_step-100")["timestep"] == 0
    assert model.timestep("zc_strength-20_step-100")["alpha_bar"] > 0.99


@pytest.mark.parametrize(
    ("band", "says"),
    [
        ("zz", "Unknown band of ldm 'zz'. Did you mean 'z'?"),
        ("zc_strength-80", "needs step-NUMBER"),
        ("zc_strength-5_step-100", "at least one step"),
        ("unet_layer-mid_strength-80_step-0", "lie in 1..100"),
        ("unet_layer-midd_strength-80_step-50", "Unknown layer 'midd'. Did you mean 'mid'?"),
        ("zc strength", "is not a name"),
    ],
)
def test_an_impossible_band_is_an_input_error(model: LDM, band: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        model.check([band])


@pytest.mark.parametrize("wrong", [{"strengths": [0.8]}, {"steps": []}, {"strengths": [5]}, {"strengths": [101]}])
def test_an_impossible_setting_is_an_input_error(tiny_model: Path, wrong: dict) -> None:
    with pytest.raises(InputError):
        LDM(model=str(tiny_model), **wrong)


def test_a_folder_that_is_no_model_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        LDM(model=str(tmp_path / "none")).bands  # noqa: B018
    with pytest.raises(InputError, match="no scheduler, text_encoder"):
        LDM(model=str(tmp_path)).bands  # noqa: B018


def test_c_without_captions_is_an_input_error(model: LDM) -> None:
    with pytest.raises(InputError, match="1 stimuli have none"):
        model.extract(np.zeros((1, 16, 16, 3), np.uint8), [()], ["x"], ["c"])


def test_images_of_another_size_are_resized(model: LDM, pictures) -> None:
    stimuli = pictures(["a"], size=32)
    assert extracted(model, stimuli, ["a"], ["z"])["z"].shape == (1, 4 * 8 * 8)


def test_decoding_gives_bytes_of_the_image_size(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    image = _ldm.decode(model, torch.randn((2, 4, 8, 8)))
    assert image.shape == (2, 16, 16, 3)
    assert image.dtype == np.uint8


def test_equal_weights_have_equal_hashes_wherever_the_folder_is(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").symlink_to(tiny_model)
    assert weights_hash(tiny_model) == weights_hash((tmp_path / "copy").resolve())
