from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from latentcortex import Features, Maps, Responses, analyses, estimators, inference, scoring
from latentcortex._arrays import positions
from latentcortex._store import Store
from latentcortex.analyses import (
    Analysis,
    ComparedScores,
    HalfFits,
    Halves,
    Scorer,
    by_step,
    profile,
)
from latentcortex.analyses.layers import Layers
from latentcortex.bands import Model
from latentcortex.encoding import Cells, Criterion, Encoder, Folds, HeldOutSides, Null, ReadByChunk, RegionMeans
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya
from latentcortex.inference import exchange
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

IDS = [f"s{i:03d}" for i in range(120)]
TEST = IDS[80:]


def study(n_voxels: int = 12, signal: float = 1.0, n_repeats: int = 2, seed: int = 0):
    """Plant voxels that follow z (first third), zc (second third) or nothing, with unequal repeats."""
    rng = np.random.default_rng(seed)
    bands = {"z": rng.standard_normal((120, 10)), "zc_strength-80_step-100": rng.standard_normal((120, 25))}
    third = n_voxels // 3
    mean = np.zeros((120, n_voxels))
    for k, x in enumerate(bands.values()):
        mean[:, k * third : (k + 1) * third] = (
            signal * x @ rng.standard_normal((x.shape[1], third)) / np.sqrt(x.shape[1])
        )
    shown = np.concatenate([np.repeat(np.arange(120), n_repeats), np.arange(0, 120, 2)])
    shown = rng.permutation(shown)
    data = (mean[shown] + rng.standard_normal((len(shown), n_voxels))).astype(np.float32)
    session = [str(i % 3) for i in range(len(shown))]
    responses = Responses.single_trials(
        data, Unlocated(n_voxels), stimulus=[IDS[i] for i in shown], session=session, run=["1"] * len(shown)
    )
    return Features.from_arrays(IDS, bands), responses


def encoder(**arguments) -> Encoder:
    return Encoder(estimators.make("banded_ridge", **arguments), analysis="test")


def test_the_fit_is_sklearns_on_single_trials() -> None:
    features, responses = study()
    train, _test = responses.split(test_ids=TEST, zscore="none")
    one = features.select_bands(["z"])
    found = encoder(alphas=[5.0], selection="gcv").fit(one, train).predict(one, TEST)
    rows = [IDS.index(name) for name in train.rows["stimulus"]]
    x = features.array("z").astype(np.float64)
    averaged = train.averaged()
    fitted = x[[IDS.index(name) for name in averaged.ids]]
    centred = fitted - np.average(fitted, axis=0, weights=averaged.n_repeats)
    theirs = Ridge(alpha=5 * (centred**2).sum(1).mean()).fit(x[rows], train.data)
    np.testing.assert_allclose(found, theirs.predict(x[80:]), rtol=1e-4, atol=1e-5)


def test_planted_voxels_are_found_and_shares_go_to_their_band() -> None:
    features, responses = study(n_voxels=30)
    train, test = responses.split(test_ids=TEST)
    maps = encoder().fit(features, train).score(features, test)
    mask = maps.values(statistic="mask")
    assert mask[:20].mean() > 0.9
    assert mask[20:].mean() <= 0.2
    share = {band: maps.values(statistic="shareR2", band=band) for band in features.bands}
    z, zc = share["z"], share["zc_strength-80_step-100"]
    assert (z[:10] > zc[:10]).all()
    assert (z[10:20] < zc[10:20]).all()
    r = sum(maps.values(statistic="shareR", band=band) for band in features.bands)
    np.testing.assert_allclose(r, maps.values(statistic="r"), rtol=1e-5)


def test_constant_and_nan_voxels_are_nan_in_every_map_and_outside_the_family() -> None:
    features, responses = study()
    data = responses.data.copy()
    data[:, 0], data[5, 1], data[:, 2] = 4.0, np.nan, np.nan
    spoiled = Responses(data, responses.rows, responses.space)
    train, test = spoiled.split(test_ids=TEST)
    maps = encoder().fit(features, train).score(features, test, identifiability=False)
    assert np.isnan(maps.data[:3]).all()
    assert np.isfinite(maps.data[3:]).all()
    assert (maps.find_columns(statistic="q").columns["n_tests"] == 9).all()
    few = Responses(data[:, 3:], responses.rows, Unlocated(9)).split(test_ids=TEST)
    alone = encoder().fit(features, few[0]).score(features, few[1], identifiability=False)
    np.testing.assert_allclose(alone.data, maps.data[3:], rtol=1e-4, atol=1e-5)


def test_no_usable_voxel_is_an_input_error() -> None:
    features, responses = study()
    empty = Responses(np.full_like(responses.data, np.nan), responses.rows, responses.space)
    with pytest.raises(InputError, match="0 of 12 voxels are usable"):
        encoder().fit(features, empty)
    with pytest.raises(InputError, match="0 of 12 voxels are usable in every fold"):
        encoder().cross_validate(features, empty, Splits.k_fold(IDS, 3, seed=0), n_permutations=1)


def test_a_stimulus_that_was_fitted_on_cannot_be_scored() -> None:
    features, responses = study()
    model = encoder().fit(features, responses)
    with pytest.raises(InputError, match="120 test stimuli were fitted on"):
        model.score(features, responses)
    with pytest.raises(AlignmentError, match="no features"):
        encoder().fit(features.select_stimuli(IDS[:50]), responses)


def test_two_encoders_with_one_estimator_do_not_change_each_other() -> None:
    features, responses = study()
    train, _ = responses.split(test_ids=TEST)
    estimator = BandedRidge()
    one = Encoder(estimator).fit(features, train)
    before = one.predict(features, TEST)
    Encoder(estimator).fit(features, train.select_stimuli(IDS[:40]))
    np.testing.assert_array_equal(one.predict(features, TEST), before)


def test_the_permutation_p_of_a_held_out_set_agrees_with_the_closed_form() -> None:
    features, responses = study(n_voxels=60, signal=0.3)
    train, test = responses.split(test_ids=TEST)
    model = encoder().fit(features, train)
    closed = model.score(features, test).values(statistic="p")
    drawn = model.score(features, test, null="permutation", n_permutations=500).values(statistic="p")
    # A p that is clearly large is counted until the null has reached it 20 times, and no further.
    error = np.where(drawn > 20 / 501, drawn / np.sqrt(20), np.sqrt(drawn / 500))
    assert (np.abs(closed - drawn) < 4 * error).all()
    assert drawn.min() >= 1 / 501 - 1e-9


def test_cross_validation_never_fits_on_what_it_tests() -> None:
    features, responses = study()
    splits = Splits.k_fold(IDS, 4, seed=0)
    for (train_ids, test_ids), (train, test) in zip(
        splits, Folds.of(features, responses, splits, "session").sides, strict=True
    ):
        assert set(train.ids) == set(train_ids)
        assert set(test.ids) == set(test_ids)


def test_cross_validation_predicts_what_an_encoder_fitted_on_each_fold_predicts() -> None:
    features, responses = study()
    splits = Splits.k_fold(IDS, 3, seed=0)
    found = Folds.of(features, responses, splits, "session").predict(BandedRidge())
    for train_ids, test_ids in splits:
        train, test = responses.split(train_ids=train_ids, test_ids=test_ids)
        expected = encoder().fit(features, train).predict_held_out(features, test)
        rows = positions(IDS, test.averaged().ids)
        np.testing.assert_allclose(found.yhat[rows], expected.yhat, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.y[rows], expected.y, rtol=1e-6)


def test_a_permutation_is_a_fit_to_features_that_changed_owners() -> None:
    features, responses = study()
    splits = Splits.k_fold(IDS, 3, seed=0)
    order = exchange(120, n_permutations=1, seed=0)[0]
    exchanged = Features.from_arrays(IDS, {b: features.array(b)[order] for b in features.bands})
    found = Folds.of(features, responses, splits, "session").predict(BandedRidge(), order)
    expected = Folds.of(exchanged, responses, splits, "session").predict(BandedRidge())
    np.testing.assert_allclose(found.yhat, expected.yhat, rtol=1e-4, atol=1e-5)


def test_the_pooled_null_is_valid_and_planted_voxels_are_found() -> None:
    features, responses = study(n_voxels=600)
    maps = encoder(alphas=[10.0], mixtures=np.array([[0.5, 0.5]]), selection="gcv").cross_validate(
        features, responses, Splits.k_fold(IDS, 3, seed=0), n_permutations=59
    )
    p = maps.values(statistic="p")
    assert p.min() >= 1 / 60 - 1e-9
    assert (p[:400] <= 0.05).mean() > 0.9
    # The 200 null voxels share their predictions' stimuli, so their rate varies more than independent ones.
    assert (p[400:] <= 0.05).mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


def test_permutations_extend_bit_for_bit() -> None:
    features, responses = study()
    folds = Folds.of(features, responses, Splits.k_fold(IDS, 3, seed=0), "session")
    few, many = (encoder().null(folds, Null("permutation", n, 1)) for n in (3, 12))
    np.testing.assert_array_equal(few, many[:3])


def test_groups_stay_together_when_stimuli_are_exchanged(monkeypatch) -> None:
    features, responses = study()
    groups = [f"g{i // 4}" for i in range(120)]
    folds = Folds.of(features, responses, Splits.k_fold(IDS, 3, groups=groups, seed=0), "session")
    seen = []
    monkeypatch.setattr(
        Folds, "predict", lambda self, estimator, order=None, signs=None: seen.append(order) or study_prediction()
    )
    encoder().null(folds, Null("permutation", 2, 0))
    for order in seen:
        assert len({tuple(row) for row in np.sort(order).reshape(-1, 4)}) == 30
        assert all(len({groups[i] for i in order[k : k + 4]}) == 1 for k in range(0, 120, 4))


def study_prediction():
    from latentcortex.encoding import Prediction

    rng = np.random.default_rng(0)
    return Prediction(rng.standard_normal((9, 2)), rng.standard_normal((1, 9, 2)), np.zeros(2))


def test_too_few_permutations_are_warned_of(caplog) -> None:
    features, responses = study(n_voxels=60, signal=0.0)
    train, test = responses.split(test_ids=TEST)
    encoder().fit(features, train).score(features, test, null="permutation", n_permutations=5)
    assert "5 permutations are too few to reject as few voxels as seem active at q = 0.05; at least" in caplog.text


def test_an_unknown_share_is_an_input_error() -> None:
    features, responses = study()
    train, test = responses.split(test_ids=TEST)
    with pytest.raises(InputError, match=r"Unknown share 'produkt'. Did you mean 'product'"):
        encoder().fit(features, train).score(features, test, shares=["produkt"])


# The canonical analyses

BANDS = [
    "z",
    "c",
    "zc_strength-20_step-100",
    "zc_strength-80_step-50",
    "zc_strength-80_step-100",
    *(f"unet_layer-{la}_strength-80_step-{k}" for k in (50, 100) for la in ("down0", "mid", "up2")),
]


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("latents", [("z",), ("c",), ("zc_strength-80_step-100",)]),
        ("noise-levels", [("z", "zc_strength-20_step-100"), ("z", "zc_strength-80_step-100")]),
        ("denoising-steps", [("z", "zc_strength-80_step-50"), ("z", "zc_strength-80_step-100")]),
        ("unet-layers", [(name,) for name in BANDS[5:]]),
        ("unet-partition", [tuple(BANDS[5:8]), tuple(BANDS[8:])]),
    ],
)
def test_the_canonical_analyses_choose_their_models(name: str, models: list) -> None:
    assert list(analyses.make(name, BANDS).models) == models


def test_an_analysis_without_its_bands_is_an_input_error() -> None:
    with pytest.raises(InputError, match="needs layers, such as unet_layer-mid_strength-80_step-50; there are z, c"):
        analyses.make("unet-layers", ["z", "c"])
    with pytest.raises(InputError, match="Did you mean 'latents'"):
        analyses.make("latent", BANDS)
    assert analyses.make("latents", ["pixels"]).models == (("pixels",),)


def test_layers_are_grouped_by_step() -> None:
    models = [*analyses.make("unet-layers", BANDS).models, Model(["z"])]
    assert by_step(models) == {"50": BANDS[5:8], "100": BANDS[8:]}


def test_the_preferred_layer_is_the_planted_one_and_ties_are_unsure() -> None:
    rng = np.random.default_rng(0)
    layers = BANDS[5:8]
    values = {name: rng.standard_normal((120, 8)) for name in layers}
    features = Features.from_arrays(IDS, values)
    mean = np.hstack([values[name] @ rng.standard_normal((8, 20)) for name in layers])
    mean = np.hstack([mean, np.zeros((120, 20)), np.ones((120, 1))])
    data = mean + np.r_[np.ones(80), 0] * rng.standard_normal(mean.shape)
    responses = Responses.single_trials(
        data.astype(np.float32), Unlocated(81), stimulus=IDS, session=["1"] * 120, run=["1"] * 120
    )
    train, test = responses.split(test_ids=TEST)
    predictions = {
        name: encoder().fit(features.select_bands([name]), train).predict_held_out(features.select_bands([name]), test)
        for name in layers
    }
    p = np.stack([inference.correlation_p(one.r, len(one.y)) for one in predictions.values()])
    averaged = train.averaged()
    halves = HalfFits(Halves(features, averaged, test.ids, encoder().estimator.__class__, 0), averaged)
    each, how = list(predictions.values()), Criterion()
    null, r = Null.widest([Null.of(one, how) for one in each]), np.stack([one.r for one in each])
    comparison = Layers("50")
    scores = ComparedScores(
        bands=tuple(layers),
        accuracy=np.repeat(r[:, None], 3, axis=1),
        p=p,
        tested=comparison.cell(each, p, how, null, halves),
        features=features,
        train_ids=averaged.ids,
        criterion=how,
        null=null,
        n_refits=20,
        facts={"analysis": "unet-layers", "n_stimuli": 40},
    )
    maps = Maps.build(Unlocated(81), comparison.finish(scores))
    winner, confidence = maps.values(statistic="preferred"), maps.values(statistic="confidence")
    np.testing.assert_array_equal(winner[:60], np.repeat([0, 1, 2], 20))
    assert (maps.values(statistic="identifiable")[:60] == 1).mean() > 0.9
    assert np.nanmax(np.append(maps.values(statistic="identifiable")[60:80], 0)) == 0
    assert (confidence[:60] > 0.95).mean() > 0.9
    assert not (confidence[60:80] > 0.95).any()  # found by chance at most, and then unsure
    assert np.isnan(maps.data[80]).all()
    assert maps.values(statistic="mask")[:60].mean() > 0.9
    assert scoring.correlation(test.data, predictions[layers[0]].yhat)[:20].min() > 0.3


def test_a_tiny_p_is_not_0_in_float32_maps() -> None:
    features, _ = study()
    x = features.array("z") @ np.random.default_rng(0).standard_normal((10, 3))
    exact = Responses.single_trials(
        x.astype(np.float32), Unlocated(3), stimulus=IDS, session=["1"] * 120, run=["1"] * 120
    )
    train, test = exact.split(test_ids=TEST)
    maps = (
        encoder(alphas=[1e-6], selection="gcv")
        .fit(features.select_bands(["z"]), train)
        .score(features.select_bands(["z"]), test)
    )
    assert (maps.values(statistic="p") > 0).all()
    assert (maps.values(statistic="q") > 0).all()


def test_stimuli_that_no_fold_holds_out_are_refused_where_predictions_are_pooled() -> None:
    features, responses = study()
    fold = np.arange(120) % 3
    fold[5:7] = -1
    with pytest.raises(InputError, match=r"2 stimuli are in no fold that holds them out: s0*5, s0*6\. Predictions"):
        encoder().cross_validate(features, responses, Splits(tuple(IDS), fold, tuple(IDS)))


def test_cross_validation_splits_joint_scores_between_bands() -> None:
    features, responses = study(n_voxels=12)[:2]
    splits = Splits.k_fold(IDS, 4, seed=0)
    maps = Encoder(BandedRidge(seed=0)).cross_validate(features, responses, splits, n_permutations=19)
    shares = np.stack([maps.values(band=band, statistic="shareR2") for band in features.bands])
    assert (shares[0] > shares[1])[:4].all()
    assert (shares[1] > shares[0])[4:8].all()
    np.testing.assert_allclose(shares.sum(0), maps.values(statistic="r2"), atol=0.05)


# Shares of refitted models


def test_unique_and_shapley_shares_go_to_the_band_that_voxels_follow() -> None:
    features, responses = study(n_voxels=30)
    train, test = responses.split(test_ids=TEST)
    shares = ("product", "unique", "shapley", "common")
    # Of these fitted models: halves of 80 stimuli leave little to be sure of.
    maps = encoder().fit(features, train).score(features, test, shares=shares, n_refits=0)
    z, zc = features.bands
    r2 = maps.values(statistic="r2")
    unique = {band: maps.values(band=band, statistic="uniqueR2") for band in features.bands}
    shapley = {band: maps.values(band=band, statistic="shapleyR2") for band in features.bands}
    common = maps.values(band=f"{z}+{zc}", statistic="commonR2")
    # All splits are of R² about the means, as product shares are; what the shift of the mean takes stands beside r2.
    product = sum(maps.values(band=band, statistic="shareR2") for band in features.bands)
    np.testing.assert_allclose(shapley[z] + shapley[zc], product, atol=1e-5)
    np.testing.assert_allclose(unique[z] + unique[zc] + common, product, atol=1e-5)
    offset = maps.find_columns(statistic="r2").columns["offset"].iloc[0]
    assert (r2 - product).mean() == pytest.approx(offset, abs=1e-5)
    assert unique[z][:10].mean() > 0.2 > 0.05 > abs(unique[z][10:20].mean())
    assert unique[zc][10:20].mean() > 0.1 > 0.05 > abs(unique[zc][:10].mean())
    found = {band: maps.values(band=band, statistic="uniqueMask") == 1 for band in features.bands}
    assert found[z][:10].mean() >= 0.6
    assert found[zc][:10].mean() < 0.2
    assert found[z][20:].sum() + found[zc][20:].sum() <= 2
    facts = maps.find_columns(band=z, statistic="uniqueQ").columns.iloc[0]
    assert facts["family"] == f"test: all 30 valid voxels of the unique share of {z} in {z}+{zc}"
    assert facts["null"].startswith("4999 flips")


def test_nested_models_are_those_fitted_alone() -> None:
    features, responses = study()
    train, test = responses.split(test_ids=TEST)
    maps = encoder().fit(features, train).score(features, test, shares=("unique",))
    ids, y = test.averaged().ids, test.averaged().data

    def about_means(*bands: str) -> np.ndarray:
        left = y - encoder().fit(features.select_bands(bands), train).predict(features.select_bands(bands), ids)
        return 1 - left.var(0) / y.var(0)

    for band, other in zip(features.bands, reversed(features.bands), strict=True):
        expected = about_means(*features.bands) - about_means(other)
        np.testing.assert_allclose(maps.values(band=band, statistic="uniqueR2"), expected, atol=1e-5)


def test_an_estimator_that_refits_no_subsets_has_product_shares_only() -> None:
    features, responses = study()
    train, test = responses.split(test_ids=TEST)
    theirs = Encoder(estimators.make("himalaya"), analysis="test").fit(features, train)
    with pytest.raises(InputError, match="himalaya does not refit subsets of bands; use banded_ridge"):
        theirs.score(features, test, shares=("unique",))
    assert "shareR2" in set(theirs.score(features, test).columns["statistic"])


@pytest.mark.parametrize("name", ["latents", "unet-layers", "unet-partition", "learning-curve"])
def test_no_digit_depends_on_the_size_of_chunks(name: str) -> None:
    """Also of what is tested in the few voxels of a chunk that may be significant, of which one chunk has only one."""
    rng = np.random.default_rng(5)
    values = {band: rng.standard_normal((120, 6)) for band in BANDS}
    data = rng.standard_normal((120, 2 * 1024 + 1)).astype(np.float32)
    for start, band in enumerate(BANDS):
        data[:, 100 * start : 100 * start + 40] += values[band] @ rng.standard_normal((6, 40)).astype(np.float32)
    data[:, [1024, -1]] += values["z"][:, :2] @ np.full((2, 2), 3, dtype=np.float32)
    data[:, 2000] = np.nan
    regions = RegionMeans(np.repeat([1, 2, 0, 5], 600)[: data.shape[1]], {1: "early", 2: "ventral", 5: "late"})
    maps = []
    for size in (1024, 0):
        criterion = Criterion(shares=("product", "unique"), n_refits=5, identifiability=False)
        sides = (Features.from_arrays(IDS, values), once(data), lambda: BandedRidge(seed=0))
        scorer = Scorer(*sides, criterion, Cells(chunk_voxels=size), twin=name == "latents", regions=regions)
        maps.append(analyses.make(name, BANDS).maps(scorer))
    if name != "learning-curve":
        assert set(maps[0].find_columns(statistic="r").columns["intervals"].iloc[0]) == {"early", "ventral", "late"}
    assert_same(maps)


def once(data: np.ndarray) -> HeldOutSides:
    """Take responses to stimuli that were shown once, in one run."""
    alone = {"session": ["1"] * 120, "run": ["1"] * 120}
    responses = Responses.single_trials(data.astype(np.float32), Unlocated(data.shape[1]), stimulus=IDS, **alone)
    return HeldOutSides(*responses.split(test_ids=TEST))


def assert_same(maps: list[Maps]) -> None:
    for other in maps[1:]:
        np.testing.assert_array_equal(other.data, maps[0].data)
        assert other.columns.equals(maps[0].columns)


def test_no_digit_of_a_test_that_refits_depends_on_the_size_of_chunks() -> None:
    """One voxel has an alpha so small that its tile is tested in float64; large alphas make gains nearly equal."""
    rng = np.random.default_rng(7)
    values = {band: rng.standard_normal((120, 6)) for band in ("z", "c")}
    data = rng.standard_normal((120, 3 * 1024 + 7))
    for start, band in enumerate(values):
        data[:, 1000 + start : 3000 : 3] += 0.4 * values[band] @ rng.standard_normal((6, 1))
    data[:, 1500] = values["z"][:, 0] + 1e-3 * rng.standard_normal(120)
    data[:, -1] += values["z"][:, 0]
    features, maps = Features.from_arrays(IDS, values), []
    make = partial(BandedRidge, alphas=(1e-4, 1.0, 1e2, 1e4, 1e6))
    for size in (1024, 0):
        how = Criterion(shares=("unique",), share="freedman-lane", n_permutations=199, identifiability=False)
        scorer = Scorer(features, once(data), make, how, Cells(chunk_voxels=size))
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    p = maps[0].values(band="z", statistic="uniqueP")
    assert (p[1024:2048] < 1).sum() > 100
    assert_same(maps)


class HimalayaOfTwoTiles(Himalaya):
    voxels_at_once = 2048


def test_no_digit_of_himalaya_depends_on_the_size_of_chunks() -> None:
    """Of its own batches of 1,000 valid voxels one ends in another place in each stretch, and some voxels are lost."""
    rng = np.random.default_rng(3)
    values = {band: rng.standard_normal((120, 60)) for band in ("z", "c")}
    data = values["z"] @ rng.standard_normal((60, 5 * 1024 + 3)) + 9 * rng.standard_normal((120, 5 * 1024 + 3))
    data[0, ::10] = np.nan
    features, maps = Features.from_arrays(IDS, values), []
    for size in (1024, 4096, 0):
        scorer = Scorer(
            features,
            once(data),
            lambda: HimalayaOfTwoTiles(alphas=(1.0, 30.0, 1000.0), mixtures="dirichlet", n_iter=4, cv=3),
            Criterion(identifiability=False),
            Cells(chunk_voxels=size),
        )
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    assert_same(maps)


class NotPreparing:
    """A stranger that refits subsets, and does not prepare."""

    def __init__(self) -> None:
        self.own = BandedRidge()

    def __getattr__(self, name: str) -> object:
        if name in ("own", "prepare", "prepare_gram") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.own, name)

    def fit(self, *given: object, **how: object) -> NotPreparing:
        self.own.fit(*given, **how)
        return self


def test_unique_shares_of_a_stranger_do_not_depend_on_the_size_of_chunks() -> None:
    """Also where a chunk has no valid voxel."""
    rng = np.random.default_rng(2)
    values = {band: rng.standard_normal((120, 6)) for band in ("z", "c")}
    data = rng.standard_normal((120, 2 * 1024 + 5))
    data[:, :20] += values["z"] @ rng.standard_normal((6, 20))
    data[:, -2:] += values["z"][:, :1]
    data[:, 1024:2048] = 1.0
    features, maps = Features.from_arrays(IDS, values), []
    for size in (1024, 0):
        criterion = Criterion(shares=("unique",), n_refits=5, identifiability=False)
        scorer = Scorer(features, once(data), NotPreparing, criterion, Cells(chunk_voxels=size))
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    assert (maps[0].values(band="z", statistic="uniqueMask")[:20] == 1).sum() > 10
    assert_same(maps)


def test_no_digit_of_a_profile_depends_on_the_size_of_chunks_and_no_cell_is_computed_twice(tmp_path, caplog) -> None:
    """Kinds of splits share a store, and stimuli are repeated, so that ceilings are summed up, too."""
    rng, n_voxels = np.random.default_rng(6), 2 * 1024 + 1
    z = rng.standard_normal((120, 6))
    data = rng.standard_normal((2, 120, n_voxels)).astype(np.float32)
    data[..., :100] += z @ rng.standard_normal((6, 100)).astype(np.float32)
    data[..., -1] += z[:, 0].astype(np.float32)
    data[0, 3, 1500] = np.nan
    shown = {"stimulus": IDS * 2, "session": ["1"] * 120 + ["2"] * 120, "run": ["1"] * 240}
    trials = Responses.single_trials(data.reshape(240, -1), Unlocated(n_voxels), **shown)
    splits = {"random": Splits.held_out(IDS[:80], TEST), "cluster": Splits.held_out(IDS[40:], IDS[:40])}
    kinds = {kind: ReadByChunk.of(trials, split, "session") for kind, split in splits.items()}
    clusters = {name: str(i // 8) for i, name in enumerate(IDS)}
    analysis, features = analyses.make("generalisation", ["z"]), Features.from_arrays(IDS, {"z": z})
    criterion, kept, maps, computed = Criterion(), Cells(store=Store(tmp_path), chunk_voxels=1024), [], []
    for cells in (Cells(), Cells(chunk_voxels=2048), kept, kept):
        caplog.clear()
        with caplog.at_level("INFO"):
            how = {"criterion": criterion, "clusters": clusters, "cells": cells}
            maps.append(profile(analysis, features, kinds, lambda: BandedRidge(seed=0), **how))
        computed.append(caplog.messages.count("A cell was computed."))
    for other in maps[1:]:
        np.testing.assert_array_equal(other.data, maps[0].data)
        assert other.columns.equals(maps[0].columns)
    n_kinds, of_chunks = 2, 2 * 3  # which voxels are usable, and scores; once, the null is chosen
    assert computed == [0, 0, n_kinds * (of_chunks + 1), 0]
    r = maps[0].find_columns(statistic="r").columns
    assert (r["normalised_low"] < r["normalised"]).all()
    assert (r["normalised"] < r["normalised_high"]).all()


def test_no_digit_of_pooled_predictions_depends_on_the_size_of_chunks() -> None:
    features, responses = study(n_voxels=30)
    many = Responses(np.tile(responses.data, (1, 36)), responses.rows, Unlocated(1080))
    by_chunk = ReadByChunk.of(many, Splits.k_fold(IDS, 3, seed=0), "session")
    analysis, maps = analyses.make("noise-levels", features.bands), []
    for size in (1024, 0):
        how = (lambda: BandedRidge(selection="gcv", seed=0), Criterion(n_permutations=12), Cells(chunk_voxels=size))
        maps.append(Scorer(features, by_chunk, *how).score(analysis))
    np.testing.assert_array_equal(maps[1].data, maps[0].data)
    assert maps[1].columns.equals(maps[0].columns)


def test_an_analysis_has_the_shares_that_were_asked_for() -> None:
    features, responses = study(n_voxels=30)
    train, test = responses.split(test_ids=TEST)
    criterion = Criterion(shares=("product", "unique"))
    scorer = Scorer(features, HeldOutSides(train, test), lambda: estimators.make("banded_ridge"), criterion)
    found = set(scorer.score(analyses.make("noise-levels", features.bands)).columns["statistic"])
    expected = {"r", "r2", "p", "q", "mask", "shareR2", "shareR", "uniqueR2", "uniqueP", "uniqueQ", "uniqueMask"}
    assert found == expected | {"excessR2", "identifiability"}
