"""An encoder fits what sklearn fits and finds what is planted, by held-out sets, cross-validation and permutations."""

from __future__ import annotations

import numpy as np
import pytest
from _encoders import BANDS, IDS, TEST, encoder, study
from _permutations import permuted_r
from sklearn.linear_model import Ridge

from latentcortex import Features, Maps, Responses, analyses, inference, scoring
from latentcortex._arrays import positions
from latentcortex.analyses import (
    ComparedScores,
    HalfFits,
    Halves,
    by_step,
)
from latentcortex.analyses.layers import Layers
from latentcortex.bands import Model
from latentcortex.encoding import Criterion, Encoder, Folds, Null
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.inference import exchange
from latentcortex.space import Unlocated
from latentcortex.splits import Splits


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
    splits = Splits.k_fold(IDS, 3, seed=0)
    few, many = (
        permuted_r(encoder().estimator, features, responses, splits, "session", Null("permutation", n, 1))
        for n in (3, 12)
    )
    np.testing.assert_array_equal(few, many[:3])


def test_a_permutation_is_the_prediction_of_the_folds_in_its_order() -> None:
    features, responses = study()
    splits, null, estimator = Splits.k_fold(IDS, 3, seed=0), Null("permutation", 2, 1), encoder().estimator
    folds = Folds.of(features, responses, splits, "session")
    expected = [folds.predict(estimator, order).r.astype(np.float32) for order in folds.orders(null)]
    np.testing.assert_array_equal(permuted_r(estimator, features, responses, splits, "session", null), expected)


def test_groups_stay_together_when_stimuli_are_exchanged() -> None:
    features, responses = study()
    groups = [f"g{i // 4}" for i in range(120)]
    folds = Folds.of(features, responses, Splits.k_fold(IDS, 3, groups=groups, seed=0), "session")
    for order in folds.null_draws(Null("permutation", 2, 0)):
        assert len({tuple(row) for row in np.sort(order).reshape(-1, 4)}) == 30
        assert all(len({groups[i] for i in order[k : k + 4]}) == 1 for k in range(0, 120, 4))


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
