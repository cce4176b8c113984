"""A small model of Stable Diffusion 3's classes: a flow-matching transformer, two CLIP encoders, with or without T5."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

from _models import SCALE, SHIFT, changed, small_flow  # noqa: E402

from latentcortex import _ldm, analyses  # noqa: E402
from latentcortex.analyses import by_step  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402
from latentcortex.extraction import extract, predicted_bytes  # noqa: E402
from latentcortex.extractors.ldm import LDM  # noqa: E402
from latentcortex.reconstructors.ldm import LDMReconstructor as Reconstructor  # noqa: E402
from latentcortex.stimuli import pixel_hash  # noqa: E402

STEPS = 10
BLOCK = "dit_layer-block1_strength-80_step-50"
BANDS = ["z", "c", "c_part-pooled", "c_layer-1", "zc_strength-80_step-100", "zc_strength-40_step-50_as-x0", BLOCK]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return small_flow(tmp_path_factory.mktemp("flow") / "small", tiny_model)


@pytest.fixture(scope="module")
def without_t5(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow") / "without"
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("*_3"))
    return folder


@pytest.fixture(scope="module")
def ldm(small: Path) -> LDM:
    return LDM(str(small), n_steps=STEPS)


def pipeline_of(model: _ldm.LatentDiffusion, folder: Path) -> diffusers.StableDiffusion3Img2ImgPipeline:
    """Put the same parts into the pipeline of diffusers, with a scheduler of its own."""
    (first, second, *third) = model.texts
    tokenizer, t5 = third[0] if third else (None, None)
    pipeline = diffusers.StableDiffusion3Img2ImgPipeline(
        vae=model.vae,
        transformer=model.unet.transformer,
        text_encoder=first[1],
        tokenizer=first[0],
        text_encoder_2=second[1],
        tokenizer_2=second[0],
        text_encoder_3=t5,
        tokenizer_3=tokenizer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(n: int, seed: int) -> torch.Tensor:
    return torch.randn((n, 16, 8, 8), generator=torch.Generator().manual_seed(seed))


def extracted(model: LDM, stimuli, ids: list[str], bands: list[str]) -> dict[str, np.ndarray]:
    images = stimuli.images(ids)
    return model.extract(images, stimuli.captions(ids), [pixel_hash(image) for image in images], bands)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_trajectory_is_that_of_the_pipeline(small: Path, tmp_path: Path, shift: float) -> None:
    folder = changed(small, tmp_path / "model", "scheduler", shift=shift)
    model = _ldm.load(folder)
    assert model.of_flow
    assert model.told_pooled
    c, z, noise = _ldm.condition(model, [("a cat", "dog"), ("bus",)], pixels=16), drawn(2, 3), drawn(2, 5)
    taps = [_ldm.Tap("x_t", strength, 100) for strength in (20, 50, 80, 100)]
    caught = _ldm.trajectory(model, z, c, noise, n_steps=STEPS, taps=taps).caught
    pipeline = pipeline_of(model, folder)
    for tap in taps:
        theirs = pipeline(
            prompt_embeds=c.states,
            pooled_prompt_embeds=c.pooled,
            image=z,
            strength=tap.strength / 100,
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(5),
            height=16,
            width=16,
            output_type="latent",
        ).images
        assert (caught[tap] - theirs).norm() / theirs.norm() < 1e-5
        assert (caught[tap] - z).norm() / z.norm() > 0.01


def test_denoising_with_guidance_is_that_of_the_pipeline(small: Path) -> None:
    model = _ldm.load(small)
    c, nothing, z, noise = (
        *(_ldm.condition(model, [captions], pixels=16) for captions in (("bus",), ())),
        drawn(1, 3),
        drawn(1, 5),
    )
    x = _ldm.noised(model, z, noise, n_own=6, n_steps=STEPS)
    ours = _ldm.denoised(model, x, c, n_own=6, n_steps=STEPS, guidance=4.0)
    theirs = pipeline_of(model, small)(
        prompt_embeds=c.states,
        pooled_prompt_embeds=c.pooled,
        negative_prompt_embeds=nothing.states,
        negative_pooled_prompt_embeds=nothing.pooled,
        image=z,
        strength=0.6,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        height=16,
        width=16,
        output_type="latent",
    ).images
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


@pytest.mark.parametrize("with_t5", [True, False])
def test_what_the_transformer_is_told_is_what_the_pipeline_tells_it(
    small: Path, without_t5: Path, with_t5: bool
) -> None:
    folder = small if with_t5 else without_t5
    model = _ldm.load(folder)
    assert len(model.texts) == 2 + with_t5
    c = _ldm.condition(model, [("a cat", "red car and a bus"), ("bus",), ()], pixels=16)
    found = [
        pipeline_of(model, folder).encode_prompt(text, None, None, do_classifier_free_guidance=False, device="cpu")
        for text in ("a cat", "red car and a bus", "bus", "")
    ]
    states, pooled = (torch.cat([one[k] for one in found]) for k in (0, 2))
    mean = [torch.cat([one[:2].mean(0, keepdim=True), one[2:]]) for one in (states, pooled)]
    torch.testing.assert_close(c.states, mean[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(c.pooled, mean[1], rtol=1e-5, atol=1e-6)
    assert c.states.shape == (3, 16 + _ldm.T5_TOKENS, 40)
    assert bool(c.states[:, 16:].any()) == with_t5


def test_z_is_shifted_and_scaled_and_decoding_is_the_way_back(ldm: LDM, pictures) -> None:
    stimuli = pictures(["a", "b"])
    vae = ldm.parts.vae
    x = torch.from_numpy(stimuli.images(["a", "b"])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(x).latent_dist.mean
        image = vae.decode(mean).sample
    found = extracted(ldm, stimuli, ["a", "b"], ["z"])["z"]
    np.testing.assert_allclose(found, ((mean - SHIFT) * SCALE).flatten(1).numpy(), rtol=1e-5, atol=1e-6)
    decoded = _ldm.decode(ldm.parts, (mean - SHIFT) * SCALE)
    bytes_of = ((image.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(decoded - bytes_of).max() < 0.51


def test_only_z_is_reconstructed_since_pooled_text_is_not_decoded(small: Path, ldm: LDM, pictures) -> None:
    stimuli = pictures(["a", "b"])
    latents = extracted(ldm, stimuli, ["a", "b"], ["z"])
    images = Reconstructor(str(small), routes=["z"], n_steps=STEPS).reconstruct("z", latents, ["a", "b"], 1)
    z = torch.from_numpy(latents["z"].reshape(2, 16, 8, 8))
    np.testing.assert_array_equal(images[:, 0], _ldm.decode(ldm.parts, z))
    with pytest.raises(InputError, match="Route zc needs the pooled text that this model is given besides c"):
        Reconstructor(str(small), n_steps=STEPS)


def test_a_layer_is_the_image_tokens_of_its_block_where_their_patches_lie(ldm: LDM) -> None:
    """Also of the last block, which has no text any more, and without the captions."""
    model, z, noise = ldm.parts, drawn(2, 3), drawn(2, 5)
    c, nothing = (_ldm.condition(model, captions, pixels=16) for captions in ([("a dog",), ("bus",)], [()]))
    blocks = [f"transformer_blocks.{i}" for i in range(3)]
    half, clean = _ldm.Tap("x_t", 20, 50), _ldm.Tap("x0", 20, 100)
    late = [_ldm.Tap(block, 20, 100, blind=blind) for block in blocks for blind in (False, True)]
    caught = _ldm.trajectory(model, z, c, noise, n_steps=STEPS, taps=[half, clean, *late], nothing=nothing).caught
    t, sigma, heard = model.scheduler.timesteps[-1], model.scheduler.sigmas[-2], []
    handles = [
        model.unet.get_submodule(block).register_forward_hook(lambda m, i, o: heard.append(o[1])) for block in blocks
    ]
    with torch.inference_mode():
        for told in (c, nothing.repeat(2)):
            predicted = model.unet.transformer(caught[half], told.states, told.pooled, t.expand(2)).sample
            if told is c:
                torch.testing.assert_close(caught[clean], caught[half] - sigma * predicted)
    for handle in handles:
        handle.remove()
    for tap in late:
        tokens = heard[blocks.index(tap.what) + 3 * tap.blind]
        assert caught[tap].shape == (2, 16, 4, 4)
        for place in range(16):
            torch.testing.assert_close(caught[tap][:, :, place // 4, place % 4], tokens[:, place])
    assert not torch.allclose(caught[late[0]], caught[late[1]])


def test_the_clean_latent_and_the_noise_are_the_ends_of_a_straight_way(ldm: LDM) -> None:
    schedule, z, noise = ldm.parts.scheduler, drawn(1, 3), drawn(1, 5)
    schedule.set_timesteps(STEPS)
    for t, after in zip(schedule.timesteps[:-1], schedule.timesteps[1:], strict=True):
        step = schedule.step(noise - z, t, schedule.add_noise(z, noise, t[None]))
        torch.testing.assert_close(step.pred_original_sample, z, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(step.prev_sample, schedule.add_noise(z, noise, after[None]), rtol=1e-5, atol=1e-5)


def test_the_sidecar_says_where_on_the_schedule_a_band_lies(ldm: LDM) -> None:
    """With a shift of 3, sigma is 3 s / (1 + 2 s) where the grid without shift has s."""
    assert ldm.timestep("z") == {}
    assert ldm.timestep("zc_strength-80_step-100") == {"timestep": 0, "alpha_bar": 1.0}
    assert ldm.timestep("zc_strength-100_step-0") == {"timestep": 1000.0, "alpha_bar": 0.0}
    found = ldm.timestep("zc_strength-50_step-0")
    s = 1 - 5 / 9 * (1 - 0.003 / 1.002)
    assert found["timestep"] == pytest.approx(1000 * 3 * s / (1 + 2 * s))
    assert ldm.timestep("dit_layer-block0_strength-60_step-50") == ldm.timestep("zc_strength-60_step-33")
    x = torch.full((1, 1, 1, 1), 1.0)
    schedule = ldm.parts.scheduler
    t = torch.tensor([found["timestep"]])
    signal, noise = (float(schedule.add_noise(a * x, b * x, t)) ** 2 for a, b in ((1, 0), (0, 1)))
    assert found["alpha_bar"] == pytest.approx(signal / (signal + noise))
    assert found["alpha_bar"] < ldm.timestep("zc_strength-50_step-20")["alpha_bar"]


def test_bands_are_those_of_the_canonical_analyses(ldm: LDM) -> None:
    assert ldm.layers == ("block0", "block1", "block2")
    assert ldm.modules["block2"] == "transformer_blocks.2"
    layers = analyses.make("unet-layers", ldm.bands).models
    partition = analyses.make("unet-partition", ldm.bands).models
    assert len(layers) == 9
    assert partition[1] == tuple(f"dit_layer-block{i}_strength-80_step-50" for i in range(3))
    assert by_step(layers)["50"] == list(partition[1])
    assert len(analyses.make("denoising-steps", ldm.bands).models) == 3


@pytest.mark.parametrize("with_t5", [True, False])
def test_the_width_of_every_band_is_known_before_anything_is_loaded(
    small: Path, without_t5: Path, pictures, with_t5: bool
) -> None:
    folder = str(small if with_t5 else without_t5)
    for more in ({}, {"pool": 2}, {"n_projected": 50}):
        model = LDM(folder, n_steps=STEPS, bands=BANDS, batch=2, **more)
        dims = model.dims(BANDS)
        assert "parts" not in model.__dict__
        found = extracted(model, pictures(["a"]), ["a"], BANDS)
        assert {band: values.shape[1] for band, values in found.items()} == dims
        assert dims[BLOCK] == {"pool": 16 * 4, "n_projected": 50}.get(next(iter(more), ""), 16 * 16)
        assert predicted_bytes(model, BANDS, 10) == 40 * sum(dims.values())
    # 8 steps at 80 % and 2 of 4 at 40 %.
    assert model.n_rows(BANDS) == 8 + 2


def test_pooled_layers_are_means_over_neighbouring_patches(small: Path, pictures) -> None:
    stimuli = pictures(["a", "b"])
    whole, pooled = (
        extracted(LDM(str(small), n_steps=STEPS, bands=[BLOCK], pool=pool, batch=2), stimuli, ["a", "b"], [BLOCK])[
            BLOCK
        ]
        for pool in (0, 2)
    )
    fields = whole.reshape(2, 16, 2, 2, 2, 2).mean((3, 5))
    np.testing.assert_allclose(pooled, fields.reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_order_or_company(small: Path, pictures) -> None:
    """But for rounding: tokens of all images are multiplied together, and where threads part them is the library's."""
    model, ids = LDM(str(small), n_steps=STEPS, batch=5), [f"s{i}" for i in range(7)]
    stimuli = pictures(ids)
    everyone = extracted(model, stimuli, ids, BANDS)
    few = extracted(model, stimuli, ["s6", "s3", "s1"], BANDS)
    other = extracted(LDM(str(small), n_steps=STEPS, batch=3), stimuli, ids[:2], BANDS)
    for band in BANDS:
        np.testing.assert_allclose(few[band], everyone[band][[6, 3, 1]], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other[band], everyone[band][:2], rtol=1e-4, atol=1e-5)


def test_a_store_is_extracted_end_to_end_and_opened_again(small: Path, pictures, tmp_path: Path) -> None:
    model = LDM(str(small), n_steps=STEPS, strengths=[40, 80], steps=[50, 100], batch=4)
    stimuli = pictures([f"s{i}" for i in range(5)])
    features = extract(stimuli, model, store=tmp_path, progress=False)
    assert features.bands == model.bands
    assert features.dims == model.dims(model.bands)
    alone = extracted(model, stimuli, ["s3"], list(model.bands))
    for band in model.bands:
        np.testing.assert_allclose(features.array(band)[3], alone[band][0], rtol=1e-4, atol=1e-5)
    assert extract(stimuli, model, store=tmp_path, progress=False).folder == features.folder


def test_an_untrained_transformer_and_half_precision_change_layers_and_leave_z(small: Path, pictures) -> None:
    stimuli = pictures(["a", "b"])
    options = {"model": str(small), "n_steps": STEPS, "bands": ["z", BLOCK], "batch": 2}
    usual, untrained, half = (
        extracted(LDM(**options, **more), stimuli, ["a", "b"], ["z", BLOCK])
        for more in ({}, {"weights": "untrained"}, {"dtype": "bfloat16"})
    )
    for other, least, most in ((untrained, 0.1, np.inf), (half, 1e-6, 0.1)):
        np.testing.assert_array_equal(usual["z"], other["z"])
        assert least < np.linalg.norm(usual[BLOCK] - other[BLOCK]) / np.linalg.norm(usual[BLOCK]) < most


@pytest.mark.parametrize(
    ("band", "says"),
    [
        ("unet_layer-mid_strength-80_step-50", "Unknown band of ldm 'unet_layer-mid_strength-80_step-50'."),
        ("dit_layer-block3_strength-80_step-50", "Unknown layer 'block3'. Did you mean 'block"),
        ("dit_layer-block0_strength-80_step-0", "lie in 1..100"),
        ("dit_layer-block0_strength-80", "needs step-NUMBER"),
        ("dit_layer-block0_strength-80_step-50_as-x0", "Unknown entity of band"),
        ("c_layer-3", "the text encoder has the layers 0..2"),
    ],
)
def test_an_impossible_band_is_an_input_error(ldm: LDM, band: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        ldm.check([band])


def test_a_unet_has_no_layers_of_a_transformer(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="Unknown band of ldm 'dit_layer-mid_strength-80_step-50'"):
        LDM(str(tiny_model), n_steps=STEPS, bands=["dit_layer-mid_strength-80_step-50"])


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        ("transformer", {"_class_name": "FluxTransformer2DModel"}, "transformer is a FluxTransformer2DModel; only SD3"),
        ("scheduler", {"_class_name": "DDIMScheduler"}, "must be FlowMatchEulerDiscreteScheduler; got DDIMScheduler"),
        ("scheduler", {"use_dynamic_shifting": True}, "The scheduler has use_dynamic_shifting"),
    ],
)
def test_a_model_of_another_family_is_an_input_error(
    small: Path, tmp_path: Path, part: str, values: dict, says: str
) -> None:
    folder = changed(small, tmp_path / "model", part, **values)
    with pytest.raises(InputError, match=says):
        _ = LDM(str(folder), n_steps=STEPS).parts


def test_a_missing_part_an_impossible_size_and_a_module_that_is_not_there_are_input_errors(
    small: Path, tmp_path: Path
) -> None:
    for pixels, says in ((18, "a multiple of 4"), (36, "at most 32")):
        with pytest.raises(InputError, match=f"pixels must be {says} for this model; got {pixels}"):
            LDM(str(small), n_steps=STEPS, pixels=pixels)
    for own, pool, says in (
        ("blocks.1", 0, r"The transformer has no module 'blocks\.1'"),
        ("transformer_blocks", 0, "Module 'transformer_blocks' is never called"),
        ("transformer_blocks.1.ff", 2, r"pool needs maps; a layer of shape \(16, 16\) has no places"),
    ):
        model = LDM(str(small), n_steps=STEPS, layers={"own": own}, pool=pool)
        with pytest.raises(InputError, match=says):
            model.dims(model.bands)
    folder = tmp_path / "model"
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("tokenizer_3", "tokenizer_2"))
    with pytest.raises(InputError, match="not a latent diffusion model: no tokenizer_2, tokenizer_3 in it"):
        _ldm.load(folder)


def test_stable_diffusion_3_5_medium_is_sized_from_its_configuration_alone(tmp_path: Path) -> None:
    configs = {
        "transformer": {
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "num_layers": 24,
            "attention_head_dim": 64,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 384,
            "dual_attention_layers": list(range(13)),
            "qk_norm": "rms_norm",
        },
        "vae": {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16},
        "text_encoder": {"hidden_size": 768, "projection_dim": 768},
        "text_encoder_2": {"hidden_size": 1280, "projection_dim": 1280},
    }
    for part, config in configs.items():
        (tmp_path / part).mkdir()
        text = {"max_position_embeddings": 77, "num_hidden_layers": 12} if part.startswith("text") else {}
        (tmp_path / part / "config.json").write_text(json.dumps({**config, **text}))
    model = LDM(str(tmp_path), pool=8)
    assert (model.pixels, model.latent) == (1024, (16, 128, 128))
    assert model.layers == ("block0", "block6", "block12", "block17", "block23")
    bands = ["z", "c", "c_part-pooled", "dit_layer-block23_strength-80_step-50"]
    expected = (16 * 128 * 128, 333 * 4096, 2048, 1536 * 8 * 8)
    assert tuple(model.dims(bands).values()) == expected
    assert LDM(str(tmp_path)).dims(bands[-1:]) == {bands[-1]: 6_291_456}
