from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from latentcortex import _ldm  # noqa: E402
from latentcortex._hub import weights_hash  # noqa: E402
from latentcortex._loading import modules  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402
from latentcortex.extraction import extract  # noqa: E402
from latentcortex.extractors.ldm import BATCH, LDM, PHANTOM  # noqa: E402
from latentcortex.stimuli import pixel_hash  # noqa: E402

STRENGTHS = (20, 40, 60, 80)


def extracted(model: LDM, stimuli, ids, bands):
    images = stimuli.images(ids)
    hashes = [pixel_hash(image) for image in images]
    return model.extract(images, stimuli.captions(ids), hashes, bands)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LDM:
    return LDM(model=str(tiny_model), n_steps=10)


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


def img2img(model: _ldm.LatentDiffusion) -> diffusers.StableDiffusionImg2ImgPipeline:
    """Put the same parts into the pipeline of diffusers."""
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        vae=model.vae,
        unet=model.unet,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        scheduler=model.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def given(model: _ldm.LatentDiffusion, captions: list[tuple[str, ...]], seed: int = 3):
    """Draw z and noise, and encode captions."""
    shape = (len(captions), 4, *[model.unet.config.sample_size] * 2)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 2))
    return z, _ldm.condition(model, captions, pixels=16), noise


def every_strength(n_steps: int) -> list[int]:
    """Strengths in percent of which diffusers takes as many steps; its float product is one short at a few."""
    return [s for s in range(1, 101) if s * n_steps >= 100 and int(n_steps * (s / 100)) == s * n_steps // 100]


def compared(model: _ldm.LatentDiffusion, n_steps: int, strengths: list[int]) -> float:
    """Largest relative difference of final latents from those of the pipeline, over strengths."""
    z, c, noise = given(model, [("a cat", "dog"), ("bus",)])
    taps = [_ldm.Tap("x_t", s, 100) for s in strengths]
    caught = _ldm.trajectory(model, z, c, noise, n_steps=n_steps, taps=taps).caught
    pipeline, worst = img2img(model), 0.0
    for tap in taps:
        theirs = pipeline(
            prompt_embeds=c.states,
            image=z,
            strength=tap.strength / 100,
            num_inference_steps=n_steps,
            guidance_scale=1.0,
            eta=0.0,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        ).images
        worst = max(worst, float((caught[tap] - theirs).norm() / theirs.norm()))
    return worst


def test_the_trajectory_is_that_of_diffusers_img2img(tiny_model: Path) -> None:
    assert compared(_ldm.load(tiny_model), 10, [20, 40, 50, 80, 100]) < 1e-6


@pytest.mark.slow
def test_on_the_phantom_the_trajectory_is_that_of_diffusers_at_every_strength() -> None:
    strengths = every_strength(10)
    assert len(strengths) > 80
    assert compared(_ldm.load(LDM(model=PHANTOM).folder), 10, strengths[::7]) < 1e-6
    assert compared(_ldm.load(LDM(model=PHANTOM).folder), 50, every_strength(50)[::17]) < 1e-6


def test_step_0_is_the_noised_latent(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    z, c, noise = given(model, [()])
    tap = _ldm.Tap("x_t", 60, 0)
    for start, t in (("consistent", 501), ("compvis", 601)):
        caught = _ldm.trajectory(model, z, c, noise, n_steps=10, taps=[tap], start=start).caught[tap]
        alpha_bar = model.scheduler.alphas_cumprod[t]
        torch.testing.assert_close(caught, alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise)


def test_the_start_of_compvis_is_one_grid_step_noisier_and_denoises_alike(tiny_model: Path) -> None:
    """50 steps at 80 %: noised at t = 801 where denoising begins at 781, as their code does."""
    model = _ldm.load(tiny_model)
    z, c, noise = given(model, [("bus",)])
    first, last = _ldm.Tap("x_t", 80, 0), _ldm.Tap("x_t", 80, 100)
    caught = _ldm.trajectory(model, z, c, noise, n_steps=50, taps=[first, last], start="compvis").caught
    alpha_bar = model.scheduler.alphas_cumprod[801]
    assert float(alpha_bar) == pytest.approx(0.03655, abs=1e-5)
    torch.testing.assert_close(caught[first], alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise)
    x = _ldm.denoised(model, caught[first], c, n_own=40, n_steps=50, guidance=1.0)
    torch.testing.assert_close(caught[last], x, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="lies beyond the grid of noise_start = 'compvis'"):
        _ldm.trajectory(model, z, c, noise, n_steps=50, taps=[_ldm.Tap("x_t", 100, 100)], start="compvis")


def test_a_layer_is_what_its_module_gives_in_the_call_that_completes_the_step(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    z, c, noise = given(model, [("a dog",)])
    nothing = _ldm.condition(model, [()], pixels=16)
    half, late, early, blind, clean = (
        _ldm.Tap("x_t", 20, 50),
        _ldm.Tap("mid_block", 20, 100),
        _ldm.Tap("mid_block", 20, 50),
        _ldm.Tap("mid_block", 20, 100, blind=True),
        _ldm.Tap("x0", 20, 100),
    )
    taps = [half, late, early, blind, clean]
    caught = _ldm.trajectory(model, z, c, noise, n_steps=10, taps=taps, nothing=nothing).caught
    heard = []
    handle = model.unet.mid_block.register_forward_hook(lambda m, i, o: heard.append(o))
    t = torch.tensor(1)
    with torch.inference_mode():
        predicted = model.unet(caught[half], t, c.states).sample
        model.unet(caught[half], t, nothing.states)
    handle.remove()
    torch.testing.assert_close(caught[late], heard[0])
    torch.testing.assert_close(caught[blind], heard[1])
    assert not torch.allclose(caught[early], heard[0])
    alpha_bar = model.scheduler.alphas_cumprod[1]
    torch.testing.assert_close(caught[clean], (caught[half] - (1 - alpha_bar).sqrt() * predicted) / alpha_bar.sqrt())


def test_no_more_rows_pass_through_the_unet_than_the_trajectories_need(model: LDM, tiny_model: Path) -> None:
    """A strength joins when the grid reaches it, and leaves with its last tap."""
    parts = _ldm.load(tiny_model)
    z, c, noise = given(parts, [("a dog",), ("bus",)])
    for bands, rows, calls in (
        (["zc_strength-80_step-50"], 4, 4),
        (["zc_strength-80_step-100", "zc_strength-20_step-100"], 10, 8),
        (["zc_strength-40_step-25", "unet_layer-mid_strength-80_step-50"], 5, 5),
        (["unet_layer-mid_strength-40_step-100", "unet_layer-mid_strength-40_step-100_branch-unconditional"], 5, 5),
        (["z", "c"], 0, 0),
    ):
        taps = tuple(model._taps(bands).values())
        nothing = _ldm.condition(parts, [()], pixels=16)
        way = _ldm.trajectory(parts, z, c, noise, n_steps=10, taps=taps, nothing=nothing)
        assert (way.n_rows, way.n_calls) == (2 * rows, calls)
        assert model.n_rows(bands) == rows


def test_the_width_of_every_band_is_known_before_anything_is_computed(model: LDM, pictures) -> None:
    bands = [*model.bands, "z_sampled-0", "c_layer-1", "c_part-pooled", "zc_strength-40_step-50_as-x0"]
    found = extracted(model, pictures(["a"]), ["a"], bands)
    assert {band: values.shape[1] for band, values in found.items()} == model.dims(bands)


def test_a_sample_of_z_scatters_around_its_mean_as_the_posterior_does(model: LDM, pictures) -> None:
    stimuli, bands = pictures(["a"]), ["z", *(f"z_sampled-{k}" for k in range(60))]
    found = extracted(model, stimuli, ["a"], bands)
    drawn = np.stack([found[band][0] for band in bands[1:]])
    x = torch.from_numpy(stimuli.images(["a"])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        spread = 0.7 * model.parts.vae.encode(x).latent_dist.std.flatten().numpy()
    assert np.abs((drawn.mean(0) - found["z"][0]) / spread).max() < 5 / 60**0.5
    assert drawn.std(0) / spread == pytest.approx(1, abs=0.4)
    assert not np.array_equal(drawn[0], drawn[1])


def test_text_layers_are_hidden_states_and_pooled_text_is_that_of_the_end(model: LDM, pictures) -> None:
    stimuli = pictures(["n"])  # with two captions
    found = extracted(model, stimuli, ["n"], ["c_layer-0", "c_layer-1", "c_part-pooled"])
    texts = list(stimuli.captions(["n"])[0])
    parts = model.parts
    tokens = parts.tokenizer(texts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        out = parts.text_encoder(tokens.input_ids, output_hidden_states=True)
    for band, expected in (
        ("c_layer-0", out.hidden_states[0]),
        ("c_layer-1", out.hidden_states[1]),
        ("c_part-pooled", out.pooler_output),
    ):
        np.testing.assert_allclose(found[band][0], expected.mean(0).flatten().numpy(), rtol=1e-5, atol=1e-6)


def test_layers_can_be_named_pooled_and_projected(tiny_model: Path, pictures) -> None:
    stimuli, name = pictures(["a", "b", "d"]), "unet_layer-own_strength-80_step-50"
    own = {"own": "up_blocks.1.attentions.0"}
    whole = LDM(str(tiny_model), n_steps=10, layers=own, bands=[name])
    values = extracted(whole, stimuli, ["a", "b", "d"], [name])[name]
    pooled = extracted(
        LDM(str(tiny_model), n_steps=10, layers=own, bands=[name], pool=2), stimuli, ["a", "b", "d"], [name]
    )
    side = round((values.shape[1] / 16) ** 0.5)
    fields = values.reshape(3, 16, 2, side // 2, 2, side // 2).mean((3, 5))
    np.testing.assert_allclose(pooled[name], fields.reshape(3, -1), rtol=1e-4, atol=1e-5)
    made = LDM(str(tiny_model), n_steps=10, layers=own, bands=[name], n_projected=200)
    projected = extracted(made, stimuli, ["a", "b", "d"], [name])[name]
    assert projected.shape == (3, 200) == (3, made.dims([name])[name])
    distances = [np.linalg.norm(x[[0, 0, 1]] - x[[1, 2, 2]], axis=1) for x in (values, projected)]
    np.testing.assert_allclose(distances[1] / distances[0], 1, atol=0.35)
    assert made.made_by != whole.made_by


def test_several_seeds_are_averaged_and_say_how_reliable_the_average_is(tiny_model: Path, pictures, tmp_path) -> None:
    from latentcortex.extraction import extract

    stimuli = pictures([f"s{i}" for i in range(30)])
    noisy, calm = "zc_strength-80_step-0", "zc_strength-20_step-0"
    made = LDM(str(tiny_model), n_steps=10, bands=["z", noisy, calm], n_seeds=4)
    features = extract(stimuli, made, store=tmp_path, progress=False)
    z, sums = features.array("z"), made.parts.scheduler.alphas_cumprod
    for band, t in ((noisy, 701), (calm, 101)):
        signal, noise = float(sums[t]) * z.var(0, ddof=1).sum(), (1 - float(sums[t])) * z.shape[1] / 4
        assert features.seed_reliability(band) == pytest.approx(signal / (signal + noise), abs=0.1)
    assert features.seed_reliability(calm) > features.seed_reliability(noisy)
    assert features.seed_reliability("z") is None
    assert features.bands == ("z", noisy, calm)


def test_baselines_share_the_architecture_or_the_noise_but_not_what_was_learned(tiny_model: Path, pictures) -> None:
    stimuli, name = pictures(["a", "b"]), "unet_layer-mid_strength-40_step-100"
    options = {"model": str(tiny_model), "n_steps": 10, "bands": [name, "z"]}
    usual, untrained, noise = (LDM(**options, **more) for more in ({}, {"weights": "untrained"}, {"input": "noise"}))
    found = {id(m): extracted(m, stimuli, ["a", "b"], [name, "z"]) for m in (usual, untrained, noise)}
    assert untrained.dims([name]) == usual.dims([name])
    assert not np.allclose(found[id(usual)][name], found[id(untrained)][name])
    np.testing.assert_array_equal(found[id(usual)]["z"], found[id(untrained)]["z"])
    again = extracted(LDM(**options, weights="untrained"), stimuli, ["a", "b"], [name, "z"])
    np.testing.assert_array_equal(again[name], found[id(untrained)][name])
    assert np.abs(np.corrcoef(found[id(noise)]["z"].ravel(), found[id(usual)]["z"].ravel())[0, 1]) < 0.3
    assert len({str(m.made_by) for m in (usual, untrained, noise)}) == 3


def test_half_precision_changes_features_little_and_leaves_z(tiny_model: Path, pictures) -> None:
    stimuli, name = pictures(["a", "b"]), "zc_strength-60_step-100"
    options = {"model": str(tiny_model), "n_steps": 10, "bands": ["z", name]}
    full, half = (extracted(LDM(**options, dtype=d), stimuli, ["a", "b"], ["z", name]) for d in ("float32", "bfloat16"))
    np.testing.assert_array_equal(full["z"], half["z"])
    assert 0 < np.linalg.norm(full[name] - half[name]) / np.linalg.norm(full[name]) < 0.05


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
    drawn = model._noise(["x", "x", "y"], "diffusion noise")
    other = LDM(model=str(tiny_model), n_steps=10, seed=1)._noise(["x"], "diffusion noise")
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], other[0])


def test_the_sidecar_says_where_on_the_schedule_a_band_lies(model: LDM) -> None:
    assert model.timestep("z") == {}
    assert model.timestep("zc_strength-80_step-0")["timestep"] == 701
    assert model.timestep("unet_layer-mid_strength-80_step-100")["timestep"] == 1
    assert model.timestep("zc_strength-80_step-100")["timestep"] == 0
    assert model.timestep("zc_strength-20_step-100")["alpha_bar"] > 0.99


@pytest.mark.parametrize("n_steps", [501, 600, 750, 940, 1000, 1001, 5000, 300, 180])
def test_a_grid_that_ends_below_its_strengths_is_refused(tiny_model: Path, n_steps: int) -> None:
    """A grid takes whole timesteps: 501 to 999 of 1000 begin as many timesteps below 1000 as they lack."""
    with pytest.raises(InputError, match=r"such as n_steps = \d+|must be at most 1000, the timesteps"):
        LDM(str(tiny_model), n_steps=n_steps)


@pytest.mark.parametrize("n_steps", [5, 10, 25, 30, 50, 60, 100, 200, 250, 500])
def test_a_grid_that_is_taken_begins_at_its_strength_to_a_step_and_a_twentieth(tiny_model: Path, n_steps: int) -> None:
    model = LDM(str(tiny_model), n_steps=n_steps)
    for strength in (20, 60, 100):
        begins = model.timestep(f"zc_strength-{strength}_step-0")["timestep"]
        assert abs(begins - strength / 100 * 1000) <= 1000 / n_steps + 50


def test_the_log_says_at_which_timestep_each_strength_begins(tiny_model: Path, caplog) -> None:
    with caplog.at_level("INFO", logger="latentcortex"):
        _ = LDM(str(tiny_model), n_steps=50, bands=["zc_strength-80_step-100", "zc_strength-20_step-50"]).parts
    said = [record.getMessage() for record in caplog.records if "strengths begin" in record.getMessage()]
    assert said == ["Of 1000 timesteps of training, strengths begin: 20 % at 181, 80 % at 781."]


def test_a_strength_beyond_the_grid_of_compvis_is_refused_before_anything_is_loaded(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="A strength of 100 % lies beyond the grid of noise_start = 'compvis'"):
        LDM(str(tiny_model), n_steps=10, strengths=[100], noise_start="compvis")


def test_captions_that_the_window_cuts_are_counted(tiny_model: Path, pictures, tmp_path: Path, caplog) -> None:
    """A window of 16 tokens holds 14 letters of this tokenizer, between the marks of begin and end."""
    captions = [("a cat", "a" * 14), ("a" * 15,), ("a long red bus on a road", "a" * 15)]
    model = LDM(str(tiny_model), n_steps=10, bands=["z", "c"])
    says = model.cut(captions)
    assert says.startswith("3 of 5 captions are longer than the model's window of 16 tokens, and what lies beyond")
    assert says.endswith("for example of 'a long red bus on a road' (20 tokens).")
    assert model.cut(captions[:1]) == LDM(str(tiny_model), n_steps=10, bands=["z"]).cut(captions) == ""
    long = _ldm.encode_captions(model.parts, [("a" * 15,), ("a" * 25,)])
    whole = _ldm.encode_captions(model.parts, [("a" * 13,), ("b" * 13,)])
    assert torch.equal(long[0], long[1])
    assert not torch.equal(whole[0], whole[1])
    stimuli = pictures(["a", "b"])
    stimuli = type(stimuli)(stimuli.table.assign(captions=[("a bus",), ("a very long red bus",)]), stimuli.load)
    with caplog.at_level("WARNING", logger="latentcortex"):
        extract(stimuli, model, store=tmp_path, progress=False)
    assert [r.getMessage()[:17] for r in caplog.records if "window" in r.getMessage()] == ["1 of 2 captions a"]


@pytest.mark.parametrize(
    ("band", "says"),
    [
        ("zz", "Unknown band of ldm 'zz'. Did you mean 'z'?"),
        ("zc_strength-80", "needs step-NUMBER"),
        ("zc_strength-5_step-100", "at least one step"),
        ("unet_layer-mid_strength-80_step-0", "lie in 1..100"),
        ("unet_layer-midd_strength-80_step-50", "Unknown layer 'midd'. Did you mean 'mid'?"),
        ("zc strength", "is not a name"),
        ("zc_strength-80_step-100_of-x0", "Unknown entity of band zc_strength-80_step-100_of-x0: 'of'"),
        ("zc_strength-80_step-100_as-x1", "Unknown as of band zc_strength-80_step-100_as-x1: 'x1'. Known: x0."),
        ("zc_strength-80_step-0_as-x0", "lie in 1..100"),
        ("z_sampled-a", "needs sampled-NUMBER"),
        ("c_layer-9", "the text encoder has the layers 0..1"),
    ],
)
def test_an_impossible_band_is_an_input_error(model: LDM, band: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        model.check([band])


@pytest.mark.parametrize(
    "wrong",
    [
        {"strengths": [0.8]},
        {"steps": []},
        {"strengths": [5]},
        {"strengths": [101]},
        {"pixels": 20},
        {"dtype": "float8"},
        {"noise_start": "diffusers"},
        {"n_seeds": 0},
    ],
)
def test_an_impossible_setting_is_an_input_error(tiny_model: Path, wrong: dict) -> None:
    with pytest.raises(InputError):
        LDM(model=str(tiny_model), n_steps=10, **wrong)


def test_a_model_that_is_not_there_is_an_input_error_that_says_how_to_get_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="is not there: give a folder"):
        LDM(model=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"unet/config\.json is missing"):
        LDM(model=str(tmp_path))
    with pytest.raises(InputError, match=r"hf download CompVis/stable-diffusion-v1-4 --revision 133a221b[0-9a-f]{32} "):
        LDM()
    with pytest.raises(InputError, match="needs `revision`, the commit of 40 hex digits; got main"):
        LDM("somebody/something", revision="main")


def test_a_model_that_was_fetched_is_found_by_its_name_and_commit(
    tiny_model: Path, tmp_path: Path, monkeypatch
) -> None:
    commit = "a" * 40
    snapshot = tmp_path / "models--lab--tiny" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_model)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = LDM("lab/tiny", revision=commit, n_steps=10)
    assert found.made_by["weights"] == weights_hash(tiny_model)


def test_what_an_operating_system_puts_beside_weights_does_not_change_their_hash(tiny_model: Path, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    for clutter in ("._model_index.json", "unet/._config.json", ".AppleDouble/config.json"):
        (copy / clutter).parent.mkdir(exist_ok=True)
        (copy / clutter).write_bytes(b"\0\5\x16\7")
    assert weights_hash(copy) == weights_hash(tiny_model)


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


@pytest.mark.parametrize("name", ["cuda:99", "cdua", "meta"])
def test_a_device_that_cannot_compute_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"device = '{name}' cannot be used on this machine: .*Use 'cpu'"):
        modules.check_device(name)
    modules.check_device("cpu")
