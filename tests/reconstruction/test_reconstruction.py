"""Reconstruction: the three routes of latent diffusion, the nearest training image, and a store that survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import reconstructors
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.evaluation import samples_of
from latentcortex.features import Features
from latentcortex.reconstruction import MANIFEST, open_reconstructions, reconstruct
from latentcortex.reconstructors.retrieval import Retrieval
from latentcortex.splits import Splits
from latentcortex.stimuli import Stimuli

IDS = [f"s{i}" for i in range(7)]


def decoded(ids: list[str] = IDS) -> Features:
    """Latents of the tiny model's size; each depends on its own id only."""
    rows = [np.random.default_rng(list(name.encode())) for name in ids]
    z = np.stack([rng.standard_normal(4 * 8 * 8) for rng in rows])
    return Features.from_arrays(ids, {"z": z, "c": np.stack([rng.standard_normal(16 * 12) for rng in rows])})


def shown(ids: list[str]) -> Stimuli:
    """Pictures of one grey each, named by their grey."""
    table = pd.DataFrame({"captions": [()] * len(ids)}, index=pd.Index(ids))
    return Stimuli(table, lambda name: np.full((4, 4, 3), int(name[1:]), dtype=np.uint8))


@pytest.fixture(scope="module")
def ldm(tiny_model):
    return reconstructors.make("ldm", model=str(tiny_model), n_steps=10, n_samples=3)


def everything(ldm, store, features=None, **options):
    """All samples of all routes."""
    features = features or decoded()
    return {
        route: samples_of(
            reconstruct(features, ldm, route, store=store, progress=False, **options), options.get("ids", features.ids)
        )
        for route in ldm.routes
    }


# Latent diffusion


def test_the_same_seeds_give_the_same_images_whatever_else_is_asked_for(ldm, tmp_path):
    together = everything(ldm, tmp_path)
    for route, images in together.items():
        alone = reconstruct(decoded(["s4"]), ldm, route, store=tmp_path / "one", progress=False)
        np.testing.assert_array_equal(samples_of(alone, ["s4"])[0], images[4])
        backwards = reconstruct(decoded(IDS[::-1]), ldm, route, store=tmp_path / "back", progress=False)
        np.testing.assert_array_equal(samples_of(backwards, IDS), images)


def test_every_sample_has_noise_of_its_own_and_is_kept(ldm, tmp_path):
    found = everything(ldm, tmp_path)
    assert {route: images.shape[1] for route, images in found.items()} == {"zc": 3, "z": 1, "c": 3}
    assert not np.array_equal(found["zc"][:, 0], found["zc"][:, 1])
    assert not np.array_equal(found["c"][0, 0], found["c"][1, 0])


def test_fewer_samples_are_the_first(ldm, tmp_path):
    full = everything(ldm, tmp_path)["zc"]
    some = reconstruct(decoded(), ldm, "zc", store=tmp_path, n_samples=1, progress=False)
    np.testing.assert_array_equal(samples_of(some, IDS)[:, 0], full[:, 0])


def test_z_alone_is_the_decoded_latent_and_c_alone_does_not_depend_on_z(ldm, tiny_model, tmp_path):
    import torch

    from latentcortex import _ldm

    model = _ldm.load(tiny_model)
    found = everything(ldm, tmp_path)
    z = torch.from_numpy(decoded().array("z").reshape(-1, 4, 8, 8))
    coarse = _ldm.decode(model, z)
    assert np.abs(found["z"][:, 0].astype(int) - coarse).max() <= 1  # another batch, hence the last bit
    other = Features.from_arrays(IDS, {"z": np.zeros((7, 256)), "c": decoded().array("c")})
    again = everything(ldm, tmp_path / "other", other)
    np.testing.assert_array_equal(again["c"], found["c"])
    assert not np.array_equal(again["zc"], found["zc"])


def test_zc_follows_diffusers_image_to_image(tiny_model, tmp_path):
    """The same noise and embeddings through StableDiffusionImg2ImgPipeline, without its safety checker."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    from latentcortex import _ldm

    ours = reconstructors.make(
        "ldm", model=str(tiny_model), n_steps=10, routes=["zc"], n_samples=1, guidance=3.0, strength=80
    )
    model, features = _ldm.load(tiny_model), decoded(["s1"])
    image = samples_of(reconstruct(features, ours, "zc", store=tmp_path, progress=False), ["s1"])[0, 0]
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **{name: getattr(model, name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")},
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(ours._noise("s1", 0)[None])
    coarse = _ldm.decode(model, torch.from_numpy(features.array("z").reshape(1, 4, 8, 8)))
    n_own = _ldm.n_steps_of(80, 10)
    x = _ldm.noised(model, _ldm.encode_images(model, coarse), noise, n_own=n_own, n_steps=10)
    empty = _ldm.encode_captions(model, [()])
    with torch.inference_mode():
        pipeline.prepare_latents = lambda *_args, **_options: x  # it would draw noise of its own
        theirs = pipeline(
            image=torch.zeros(1, 3, 16, 16),
            strength=0.8,
            num_inference_steps=10,
            guidance_scale=3.0,
            prompt_embeds=torch.from_numpy(features.array("c").reshape(1, 16, 12)),
            negative_prompt_embeds=empty,
            output_type="np",
        ).images[0]
    assert np.abs(image.astype(float) - 255 * theirs).max() <= 1.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"routes": ["zz"]}, "Unknown route of ldm 'zz'"),
        ({"routes": []}, "at least one"),
        ({"strength": 0}, "`strength` of reconstructor 'ldm' must be a whole number from 1 to 100; got 0"),
        ({"strength": 101}, "must be a whole number from 1 to 100; got 101"),
        ({"routes": "zc"}, "`routes` of reconstructor 'ldm' must be a list of distinct entries, each one of zc, z, c"),
        ({"guidance": float("nan")}, "finite number"),
        ({"guidance": "high"}, "`guidance` of reconstructor 'ldm' must be a number"),
        ({"n_samples": 2.5}, "whole number"),
        ({"model": "nowhere"}, "nowhere is not there"),
        ({"strength": 5, "n_steps": 10}, "at least one step"),
        ({"n_samples": 0}, "`n_samples` of reconstructor 'ldm' must be a whole number of at least 1; got 0"),
        ({"guidence": 3}, "Did you mean 'guidance'"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    pytest.importorskip("torch")
    with pytest.raises(InputError, match=message):
        reconstructors.make("ldm", **{"model": "phantom", **options})


def test_latents_of_another_model_are_refused(ldm, tmp_path):
    wrong = Features.from_arrays(["a"], {"z": np.zeros((1, 5)), "c": np.zeros((1, 192))})
    with pytest.raises(AlignmentError, match="z has 5 dimensions; this model's has 256"):
        reconstruct(wrong, ldm, "z", store=tmp_path, progress=False)


def test_a_reconstructor_sees_images_as_the_extractor_is_told_to(tiny_model, tmp_path):
    pytest.importorskip("torch")
    from latentcortex import extractors

    seen = extractors.make("ldm", model=str(tiny_model), n_steps=20, pixels=8, dtype="bfloat16")
    small = reconstructors.make("ldm", model=seen, routes=["z"])
    z = Features.from_arrays(["a"], {"z": np.random.default_rng(0).standard_normal((1, 4 * 4 * 4))})
    images = samples_of(reconstruct(z, small, "z", store=tmp_path, progress=False), ["a"])
    assert images.shape == (1, 1, 8, 8, 3)
    assert (small.made_by["dtype"], small.made_by["n_steps"]) == ("bfloat16", 20)
    assert reconstructors.make("ldm", model=seen, n_steps=10).n_steps == 10
    assert str(small._source.parts.unet.dtype) == "torch.bfloat16"


def test_what_cannot_be_reconstructed_is_refused_before_anything_is_extracted(ldm, tiny_model, caplog):
    extractors = pytest.importorskip("latentcortex.extractors")
    ldm.check(extractors.make("ldm", model=str(tiny_model), n_steps=10))
    with pytest.raises(AlignmentError, match=r"z has 64 dimensions; this model's has 256\. Reconstruct with the extr"):
        ldm.check(extractors.make("ldm", model=str(tiny_model), n_steps=10, pixels=8))
    with caplog.at_level("WARNING", logger="latentcortex"):
        ldm.check(extractors.make("ldm", model=str(tiny_model), n_steps=10))
    assert not caplog.records


# The nearest training image


def test_the_nearest_training_image_is_found_and_only_training_images_are_shown(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"t{i}" for i in range(30)]
    z = rng.standard_normal((30, 12)) + 3
    features, stimuli = Features.from_arrays(ids, {"z": z}), shown(ids)
    noisy = Features.from_arrays(["a", "b"], {"z": z[[7, 20]] + 0.2 * rng.standard_normal((2, 12))})
    one = Retrieval(["z"]).fit(features, stimuli, Splits.held_out(ids, ["a", "b"]))
    images = samples_of(reconstruct(noisy, one, "retrieval", store=tmp_path, progress=False), ["a", "b"])
    assert images[:, 0, 0, 0, 0].tolist() == [7, 20]


def test_in_folds_each_stimulus_is_looked_up_among_its_own_training_stimuli():
    z = np.eye(4)
    ids = ["t0", "t1", "t2", "t3"]
    splits = Splits(tuple(ids), np.array([0, 0, 1, 1]), tuple(ids))
    one = Retrieval(["z"]).fit(Features.from_arrays(ids, {"z": z}), shown(ids), splits)
    near = z + 0.1 * np.roll(z, 1, axis=1) + 0.05 * np.roll(z, 2, axis=1)
    names = one.nearest({"z": near[[0, 2]]}, ["t0", "t2"])
    assert names[0] in ids[2:]
    assert names[1] in ids[:2]
    with pytest.raises(AlignmentError, match="tested in no fold"):
        one.nearest({"z": near[[1]]}, ["t9"])


def test_what_was_retrieved_from_other_training_stimuli_is_another_folder(tmp_path):
    ids = ["t0", "t1", "t2"]
    features, query = Features.from_arrays(ids, {"z": np.eye(3)}), Features.from_arrays(["a"], {"z": np.eye(3)[:1]})
    for train in (ids, ids[1:]):
        one = Retrieval(["z"]).fit(features, shown(ids), Splits.held_out(train, ["a"]))
        reconstruct(query, one, "retrieval", store=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 2
    folds = [Splits(tuple(ids), np.array(fold), tuple(ids)) for fold in ([0, 0, 1], [0, 1, 1], [0, 1, 1])]
    made_by = [Retrieval(["z"]).fit(features, shown(ids), splits).made_by for splits in folds]
    assert made_by[0] != made_by[1] == made_by[2]


# The store


@pytest.fixture
def retrieved(tmp_path):
    """Everything that reconstructs 25 stimuli into a store by looking them up."""
    ids = [f"t{i}" for i in range(25)]
    train = [f"f{i}" for i in range(25)]
    z = np.random.default_rng(0).standard_normal((25, 40))
    fitted, decoded = (Features.from_arrays(names, {"z": z}) for names in (train, ids))
    one = Retrieval(["z"]).fit(fitted, shown(train), Splits.held_out(train, ids))
    return lambda: reconstruct(decoded, one, "retrieval", store=tmp_path, progress=False)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reconstructing_again_changes_nothing(retrieved, tmp_path):
    first = retrieved()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert retrieved().ids == first.ids
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == times


def test_a_run_that_was_killed_goes_on_to_the_same_files(retrieved, tmp_path):
    retrieved()
    whole = content(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / MANIFEST).unlink()
    kept = folder / "00001_stimulus-t0_sample-1.png"
    (folder / "00013_stimulus-t12_sample-1.png").unlink()
    before = kept.stat().st_mtime_ns
    with pytest.raises(IncompleteError, match="did not finish"):
        open_reconstructions(folder)
    retrieved()
    assert content(tmp_path) == whole
    assert kept.stat().st_mtime_ns == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def emptied(path: Path) -> None:
    path.write_text("{}")


def reordered(path: Path) -> None:
    """Say of one image that it belongs to another stimulus."""
    text = path.read_text()
    one, two = "00001_stimulus-t0", "00002_stimulus-t1"
    assert one in text
    path.write_text(text.replace(one, "x").replace(two, one).replace("x", two))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("00003_stimulus-t2_sample-1.png", cut),
        ("00003_stimulus-t2_sample-1.png", Path.unlink),
        ("stimuli.tsv", cut),
        ("stimuli.tsv", reordered),
        (MANIFEST, cut),
        (MANIFEST, emptied),
        (MANIFEST, reordered),
        ("part-0001.json", cut),
        ("part-0001.json", reordered),
    ],
)
def test_whatever_is_damaged_is_noticed_and_made_again(retrieved, tmp_path, name, damage, finished):
    retrieved()
    whole = content(tmp_path)
    damage(next(tmp_path.rglob(name)))
    if not finished:
        next(tmp_path.rglob(MANIFEST)).unlink(missing_ok=True)
    found = retrieved()
    after = content(tmp_path)
    assert {key: after[key] for key in after if not key.startswith("part")} == {
        key: whole[key] for key in whole if not key.startswith("part")
    }
    assert samples_of(found, ["t7"])[0, 0, 0, 0, 0] == 7


def test_an_image_swapped_while_the_run_was_dead_is_made_again(retrieved, tmp_path):
    retrieved()
    whole = content(tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / MANIFEST).unlink()
    one, two = folder / "00001_stimulus-t0_sample-1.png", folder / "00002_stimulus-t1_sample-1.png"
    one.write_bytes(two.read_bytes())
    retrieved()
    assert content(tmp_path) == whole


def test_a_route_that_is_not_there_or_lacks_a_band_is_named(tmp_path):
    one = Retrieval(["z", "c"])
    only_z = Features.from_arrays(["a"], {"z": np.zeros((1, 3))})
    with pytest.raises(InputError, match="no route 'zc'; this reconstructor has retrieval"):
        reconstruct(only_z, one, "zc", store=tmp_path)
    with pytest.raises(InputError, match="needs c; decoded are z"):
        reconstruct(only_z, one, "retrieval", store=tmp_path)


def test_reconstructions_are_stimuli_like_any_other(retrieved):
    found = retrieved()
    assert found.ids[:2] == ("t0_sample-1", "t1_sample-1")
    assert found.table.loc["t3_sample-1", "stimulus"] == "t3"
    assert len(found.pixel_hashes()) == 25
