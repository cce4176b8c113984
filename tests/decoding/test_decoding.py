"""Decoding: planted latents come back, selection is nested, groups share folds, nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from latentcortex import decoding
from latentcortex.decoding import Decoder, decode_held_out, regions_of, shuffled
from latentcortex.errors import AlignmentError, InputError
from latentcortex.features import Features
from latentcortex.responses import Responses
from latentcortex.scoring import correlation
from latentcortex.space import Atlas, Surface, Unlocated

IDS = [f"s{i:03d}" for i in range(120)]
TRAIN, TEST = IDS[:90], IDS[90:]


def planted(n_voxels: int = 40, n_driven: int = 20, noise: float = 0.5, seed: int = 0) -> tuple[Features, Responses]:
    """Six latent dimensions of mean 5, which drive the first voxels."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((len(IDS), 6)) + 5
    data = rng.standard_normal((len(IDS), n_voxels)) * noise
    data[:, :n_driven] += (z - 5) @ rng.standard_normal((6, n_driven))
    return Features.from_arrays(IDS, {"z": z}), responses(data)


def responses(data: np.ndarray, ids: list[str] | None = None, space: Surface | Unlocated | None = None) -> Responses:
    names = ids or IDS
    columns = {"stimulus": names, "session": ["01"] * len(names), "run": ["01"] * len(names)}
    return Responses.single_trials(data.astype(np.float32), space or Unlocated(data.shape[1]), **columns)


def split(both: Responses) -> tuple[Responses, Responses]:
    return both.split(test_ids=TEST, train_ids=TRAIN)


def test_planted_latents_come_back_with_their_mean():
    features, both = planted()
    train, test = split(both)
    decoded = Decoder().fit(features, train).decode(test)
    true = features.array("z", TEST)
    assert decoded.ids == tuple(TEST)
    assert decoded.bands == ("z",)
    assert correlation(true, decoded.array("z")).min() > 0.9
    assert decoded.array("z").mean() == pytest.approx(5, abs=0.2)  # without an intercept it would be 0


def test_with_one_penalty_it_equals_scikit_learns_ridge():
    features, both = planted()
    train, test = split(both)
    decoded = Decoder(alphas=[3.0]).fit(features, train).decode(test)
    x = train.data.astype(np.float64)
    scale = ((x - x.mean(0)) ** 2).sum() / len(x)
    theirs = Ridge(alpha=3.0 * scale).fit(x, features.array("z", TRAIN)).predict(test.data)
    np.testing.assert_allclose(decoded.array("z"), theirs, rtol=1e-4)


def test_a_constant_dimension_is_decoded_as_its_value():
    features, both = planted()
    train, test = split(both)
    z = features.array("z").copy()
    z[:, 2] = 7
    decoded = Decoder().fit(Features.from_arrays(IDS, {"z": z}), train).decode(test)
    np.testing.assert_allclose(decoded.array("z")[:, 2], 7, rtol=1e-6)


def test_the_voxels_that_a_band_predicts_are_chosen():
    features, both = planted(n_voxels=200, n_driven=20)
    train, _ = split(both)
    decoder = Decoder(n_voxels=20).fit(features, train)
    voxels = decoder._models["z"][0]
    assert set(voxels.tolist()) == set(range(20))


def test_choosing_voxels_inside_the_training_set_leaks_nothing():
    """With selection on all stimuli a decoder of pure noise would identify far above chance."""
    scores = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        features = Features.from_arrays(IDS, {"z": rng.standard_normal((len(IDS), 6))})
        both = responses(rng.standard_normal((len(IDS), 800)))
        decoded = decode_held_out(lambda: Decoder(n_voxels=20), features, [split(both)])
        scores.append(correlation(features.array("z", TEST), decoded.array("z")).mean())
    assert abs(np.mean(scores)) < 3 * np.std(scores, ddof=1) / np.sqrt(len(scores))


def test_identical_images_share_a_fold():
    """Every stimulus twice with the same noise: ungrouped folds would see no noise and choose too small a penalty."""
    rng = np.random.default_rng(0)
    z, x = rng.standard_normal((60, 3)), rng.standard_normal((60, 200))
    ids = [f"{name}{copy}" for copy in "ab" for name in IDS[:60]]
    z_twice = np.concatenate([z, z])
    features = Features.from_arrays(ids, {"z": z_twice})
    train = responses(np.concatenate([x, x]) + 0.5 * rng.standard_normal((120, 200)), ids)
    groups = {name: name[:-1] for name in ids}
    penalties = [
        np.median(Decoder().fit(features, train, groups=given)._models["z"][1].alphas_) for given in (groups, None)
    ]
    assert penalties[0] > 10 * penalties[1]


def test_each_band_is_decoded_from_its_regions():
    labels = np.zeros(20484, dtype=np.intp)
    labels[:10], labels[10:30] = 1, 5
    atlas = Atlas("test", labels, {1: "early", 5: "ventral"})
    space = Surface("fsaverage5", np.arange(40))
    features, both = planted()
    train, test = split(responses(both.data, space=space))
    both_bands = Features.from_arrays(IDS, {"z": features.array("z"), "c": features.array("z")})
    decoder = Decoder("takagi2023", atlas=atlas).fit(both_bands, train)
    assert decoder._models["z"][0].tolist() == list(range(10))
    assert decoder._models["c"][0].tolist() == list(range(10, 30))
    assert decoder.decode(test).bands == ("z", "c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decoder("takagi2023"), "needs an atlas"),
        (lambda: Decoder("takagi2032"), "Did you mean 'takagi2023'"),
        (lambda: Decoder(n_voxels=-1), "n_voxels must be a whole number of at least 0"),
        (lambda: regions_of({"z": "early"}), "needs a list of regions"),
        (lambda: regions_of({"z": []}), "needs a list of regions"),
    ],
)
def test_impossible_choices_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_region_that_does_not_exist_is_named():
    atlas = Atlas("test", np.ones(20484, dtype=np.intp), {1: "early"})
    features, both = planted()
    train, _ = split(responses(both.data, space=Surface("fsaverage5", np.arange(40))))
    with pytest.raises(InputError, match="earyl"):
        Decoder({"z": ["earyl"]}, atlas=atlas).fit(features, train)


def test_voxels_without_a_position_cannot_be_chosen_by_region():
    atlas = Atlas("test", np.ones(20484, dtype=np.intp), {1: "early"})
    features, both = planted()
    with pytest.raises(InputError, match="no known position"):
        Decoder({"z": ["early"]}, atlas=atlas).fit(features, split(both)[0])


def test_a_voxel_that_is_nan_in_the_test_responses_is_not_used():
    features, both = planted()
    train, test = split(both)
    spoiled = test.data.copy()
    spoiled[3, 0] = np.nan
    test = Responses(spoiled, test.rows, test.space)
    with pytest.raises(AlignmentError, match="1 of the 40 voxels"):
        Decoder().fit(features, train).decode(test)
    assert np.isfinite(decode_held_out(Decoder, features, [(train, test)]).array("z")).all()


def test_a_stimulus_that_was_fitted_is_not_decoded():
    features, both = planted()
    train, _ = split(both)
    with pytest.raises(InputError, match="were fitted on"):
        decode_held_out(Decoder, features, [(train, train)])


def test_shuffling_exchanges_responses_within_each_side():
    _, both = planted()
    sides = split(both)
    for moved, side in zip(next(shuffled([sides], seed=0)), sides, strict=True):
        assert sorted(moved.ids) == sorted(side.ids)
        assert moved.ids != side.ids
        np.testing.assert_array_equal(moved.data, side.data)


def test_shuffled_responses_decode_nothing():
    features, both = planted()
    found = []
    for seed in range(10):
        decoded = decode_held_out(Decoder, features, shuffled([split(both)], seed=seed))
        found.append(np.nanmean(correlation(features.array("z", TEST), decoded.array("z"))))
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / np.sqrt(10)


def test_decoded_features_are_features_like_any_other(tmp_path):
    features, both = planted()
    decoded = decode_held_out(Decoder, features, [split(both)])
    stored = decoded.save(tmp_path / "decoded")
    assert stored.ids == decoded.ids
    np.testing.assert_array_equal(stored.array("z"), decoded.array("z"))
    assert stored.made_by["name"] == "decoder"
    assert stored.gram("z", TEST, TEST, fit_on=TEST).shape == (30, 30)


def test_the_preset_is_that_of_the_paper():
    assert decoding.ROIS["takagi2023"] == {"z": ("early",), "c": ("ventral",)}
