"""A test set gets the null that fits it: rates where the design is not the textbook's.

What is simulated and measured, and each bound, is in `_battery_designs.py`.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from itertools import permutations

import _battery_designs as battery
import numpy as np
import pytest
from _rates import missed
from _rates import runs as runs_of
from scipy import stats

from latentcortex import BandedRidge, Encoder, Features, Responses, inference, scoring
from latentcortex.analyses import learning_curve
from latentcortex.decoding import Decoder
from latentcortex.encoding import Criterion, Null, Piece, Prediction
from latentcortex.encoding.duplicates import duplicates
from latentcortex.inference.tails import Family, finer_p, more_exchanges
from latentcortex.space import Unlocated

runs = partial(runs_of, battery.BATTERY)


# A baseline that differs


@runs("baseline")
def test_a_shifted_baseline_of_the_test_set_is_no_unique_share(n: int) -> None:
    assert missed(battery.baseline(n)) == []


def test_what_a_shift_of_the_mean_takes_from_r2_is_said(caplog: pytest.LogCaptureFixture) -> None:
    encoder, features, test = battery.shifted(0, 0.5)
    with caplog.at_level(logging.WARNING):
        encoder.score(features, test, identifiability=False)
    (said,) = (one.getMessage() for one in caplog.records if "baselines of the test set" in one.getMessage())
    assert ", a+b: the mean of the test responses is not the predicted one, which takes 0." in said
    caplog.clear()
    encoder, features, test = battery.shifted(0, 0.0)
    encoder.score(features, test, identifiability=False)
    assert "baselines" not in caplog.text


def test_adding_a_number_to_predictions_or_responses_changes_no_p_and_no_r2_about_the_means() -> None:
    rng = np.random.default_rng(0)
    y, one, other = rng.standard_normal((3, 60, 20))
    weights = inference.bootstrap_weights(60, n_draws=5, seed=0)

    def all_of(y: np.ndarray, one: np.ndarray) -> list[np.ndarray]:
        drawn = [scoring.weighted_r2(y, one, weights, own_mean=own, offset=False) for own in (False, True)]
        tested = (inference.share_p, inference.paired_difference_p)
        p = [test(y, one, other, n_permutations=199, seed=0) for test in tested]
        return [scoring.r2(y, one, offset=False), *drawn, *p]

    for plain, moved in zip(all_of(y, one), all_of(y + 3, one - 2), strict=True):
        np.testing.assert_allclose(moved, plain, atol=1e-4)
    level = one - one.mean(0) + y.mean(0)
    np.testing.assert_allclose(scoring.r2(y, level), scoring.r2(y, one, offset=False), rtol=1e-12)
    rows = np.repeat(np.arange(60), np.round(60 * weights[0]).astype(int))
    expected = scoring.r2(y[rows], one[rows], offset=False)
    np.testing.assert_allclose(scoring.weighted_r2(y, one, weights, offset=False)[0], expected, atol=1e-5)


def test_a_learning_curve_ends_at_the_unique_shares_that_are_mapped() -> None:
    encoder, features, test = battery.shifted(0, 0.5, n_voxels=20)
    maps = encoder.score(features, test, shares=("unique",), identifiability=False)
    tiles = encoder.predict_tiles(features, test, shares=("unique",))
    gains = Piece.join([learning_curve.unique_gains(held_out, encoder.bands, seed=0) for held_out in tiles])
    shares, (low, high) = gains.values["shares"], learning_curve.interval(gains, len(test.ids), seed=0)
    mapped = np.stack([maps.values(statistic="uniqueR2", band=band) for band in ("a", "b")])
    np.testing.assert_allclose(shares, mapped, atol=1e-5)
    assert ((low < mapped.mean(1)) & (mapped.mean(1) < high)).all()


# Clusters


@runs("uneven_clusters")
def test_one_cluster_with_half_of_the_stimuli_bends_no_rate(n: int) -> None:
    assert missed(battery.uneven_clusters(n)) == []


# Near-duplicates


@runs("sets_of_duplicates")
def test_near_duplicates_within_a_test_set_count_as_one(n: int) -> None:
    assert missed(battery.sets_of_duplicates(n)) == []


def test_stimuli_with_nearly_equal_features_are_averaged_for_p_and_flipped_together_for_shares() -> None:
    (encoder, features, test), code = battery.near_duplicates(0, 4, n_voxels=20)
    maps = encoder.score(features, test)
    words = "independent Gaussian vectors (stimuli with nearly equal features averaged, which leaves 75)"
    assert maps.find_columns(statistic="p").columns["null"].iloc[0] == words
    null = encoder.null_of(features, test, Criterion())
    assert len({(name, one) for name, one in zip(null.sets, code, strict=True)}) == len(set(null.sets)) == 75
    held_out = encoder.predict_held_out(features, test)
    mean = [np.stack([side[code == one].mean(0) for one in np.unique(code)]) for side in (held_out.y, held_out.varying)]
    expected = [
        stats.pearsonr(y, yhat, alternative="greater").pvalue for y, yhat in zip(mean[0].T, mean[1].T, strict=True)
    ]
    np.testing.assert_allclose(maps.values(statistic="p"), expected, rtol=1e-4)
    assert null.alike(300) == list(null.clusters)
    assert encoder.null_of(features, test, Criterion(null="analytic")).sets == ()  # as is asked for
    permuted = encoder.null_of(features, test, Criterion(null="permutation", n_permutations=99))
    assert permuted.orders(75).shape == (99, 75)
    assert str(permuted).startswith("99 permutations of stimuli (stimuli with nearly equal features averaged")


@pytest.mark.parametrize("wide", [False, True])
def test_categories_that_were_fitted_are_no_sets_and_new_ones_are(wide: bool) -> None:
    """One-hot columns of all stimuli of a category are the same; what they share is what is tested."""
    rng = np.random.default_rng(0)
    category = np.concatenate([np.repeat(np.arange(8), 6), np.repeat(np.arange(4, 12), 6)])
    codes = rng.standard_normal((12, 200 if wide else 12)) if wide else np.eye(12)
    responses = battery.recording(rng.standard_normal((96, 5)))
    features = Features.from_arrays(responses.ids, {"categories": codes[category]})
    train, test = responses.split(test_ids=responses.ids[48:], zscore="none")
    encoder = Encoder(BandedRidge(seed=0)).fit(features, train)
    assert encoder.model.by_columns is not wide
    if not wide:  # columns of new categories do not vary over the fitted stimuli
        codes[8:, :8] = rng.standard_normal((4, 8))
        features = Features.from_arrays(responses.ids, {"categories": codes[category]})
    sets = duplicates(encoder.model, features, test.ids)
    assert len(set(sets)) == 24 + 4
    assert [len({sets[i] for i in np.flatnonzero(category[48:] == one)}) for one in (4, 7, 8, 11)] == [6, 6, 1, 1]
    assert duplicates(encoder.model, features, test.ids[:24]) == ()


def test_neighbours_in_few_dimensions_are_no_sets_unless_they_are_equal() -> None:
    """Of 300 points in a plane most have a neighbour nearer than half a percent."""
    rng = np.random.default_rng(0)
    responses, x = battery.recording(rng.standard_normal((400, 5))), rng.standard_normal((400, 2))
    x[101] = x[100]
    features = Features.from_arrays(responses.ids, {"x": x})
    train, test = responses.split(test_ids=responses.ids[100:], zscore="none")
    encoder = Encoder(BandedRidge(seed=0)).fit(features, train)
    sets = duplicates(encoder.model, features, test.ids)
    assert len(set(sets)) == 299
    assert sets[0] == sets[1]
    assert duplicates(encoder.model, features, test.ids[1:]) == ()


# The order of rows


@runs("order_of_rows")
def test_driven_voxels_are_found_whatever_the_order_of_averaged_stimuli(n: int) -> None:
    assert missed(battery.order_of_rows(n)) == []


def test_a_series_is_what_runs_and_the_order_of_rows_say() -> None:
    ids = [f"s{i}" for i in range(12)]

    def in_time(stimulus: list[str], run: list[str]) -> tuple[bool, bool]:
        data, n = np.random.default_rng(0).standard_normal((len(run), 2)), len(run)
        one = Responses.single_trials(data, Unlocated(2), stimulus=stimulus, session=["1"] * n, run=run)
        return one.in_time, one.averaged().in_time

    assert in_time(ids, ["1"] * 6 + ["2"] * 6) == (True, True)
    assert in_time([*ids, "s0"], ["1"] * 6 + ["2"] * 7) == (True, True)  # most were shown once
    assert in_time(ids, ["1", "2"] * 6) == (False, False)  # sorted by anything else than time
    assert in_time(ids * 2, ["1"] * 12 + ["2"] * 12) == (False, False)  # averages
    assert in_time(ids, [""] * 12) == (False, False)


def test_the_same_rows_are_a_series_only_in_the_order_of_time() -> None:
    """Slow responses and slow predictions: in the order of runs stretches change places, of averages they do not."""
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.standard_normal((2, 200, 30)), axis=1)
    slow -= slow.mean(1, keepdims=True)
    by_time, by_table = (Prediction(slow[0], slow[1:], np.zeros(30), in_time=one) for one in (True, False))
    assert [Null.of(one, Criterion()).name for one in (by_time, by_table)] == ["blocks", "analytic"]


def test_folds_that_choose_a_penalty_are_stretches_only_in_the_order_of_time() -> None:
    """Slow features and responses: trials of two runs in their order, or averages in a table."""
    rng = np.random.default_rng(0)
    x, y = np.cumsum(rng.standard_normal((2, 100, 30)), axis=1)
    ids = [f"s{i:02d}" for i in range(100)]
    features = Features.from_arrays(ids, {"x": x})

    def n_cuts(run: list[str]) -> list[int]:
        shown = Responses.single_trials(y, Unlocated(30), stimulus=ids, session=["1"] * 100, run=run)
        encoded = Encoder(BandedRidge(seed=0)).fit(features, shown).model.estimator
        _, decoded, _ = Decoder(seed=0).fit(features, shown)._models["x"]
        return [int((np.diff(one._ready.search.folds) != 0).sum()) for one in (encoded, decoded)]

    assert n_cuts(["1"] * 50 + ["2"] * 50) == [4, 4]
    assert min(n_cuts(["1", "2"] * 50)) > 50


# Tails


@runs("tails")
def test_heavy_tails_on_both_sides_are_permuted_and_others_are_not(n: int) -> None:
    assert missed(battery.tails(n)) == []


def test_a_single_driven_voxel_of_many_is_found_though_responses_are_skewed() -> None:
    """1,000 permutations give no p below .001, and BH over 2,000 voxels needs .000025."""
    held_out = battery.tailed(0, "rare binary columns, lognormal responses", 2000)
    y = held_out.y.copy()
    y[:, 7] = 3 * held_out.varying[:, 7] + np.log(y[:, 7])
    driven = Prediction(y, held_out.yhat_bands, held_out.offset)
    null = Null.of(driven, Criterion())
    p = null.p(driven)
    assert inference.fdr(p).rejected[7]
    assert p.min() >= 1 / (null.counted + 1)
    few = Null.of(driven, Criterion(null="permutation")).p(driven)
    assert not inference.fdr(few).rejected.any()
    assert str(null) == (
        f"1000 to {null.counted} permutations of stimuli, the more the smaller p, since responses and predictions are "
        "skewed or have heavy tails"
    )
    assert 39_999 <= null.counted <= 79_998  # from what a single rejection needs to twice as many
    assert Null.from_facts(json.loads(json.dumps(null.facts))) == null


def test_how_often_stimuli_are_exchanged_does_not_depend_on_the_voxels_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A single active voxel of a tile is drawn for as often as the map needs, not as if the map had no other."""
    monkeypatch.setattr("latentcortex.inference.tails.ROWS_PER_LOOK", 200_000)
    monkeypatch.setattr("latentcortex.inference.tails.MIN_WORK_PER_LOOK", 10_000_000)
    held_out = battery.tailed(0, "rare binary columns, lognormal responses", 1500)
    y, active = held_out.y.copy(), slice(0, 1500, 10)
    y[:, active] = 3 * held_out.varying[:, active] + np.log(y[:, active])
    driven = Prediction(y, held_out.yhat_bands, held_out.offset)
    null = Null.of(driven, Criterion(), n_tests=300_000)
    assert null.counted < 5000  # a tenth of all voxels are active; a single one would need 12 million
    alone = Prediction(y[:, :7], held_out.yhat_bands[..., :7], held_out.offset[:7])
    np.testing.assert_array_equal(null.p(driven)[:7], null.p(alone))


def test_more_permutations_give_the_p_that_all_orders_give() -> None:
    """Seven stimuli have 5,040 orders, each as likely as the others."""
    rng = np.random.default_rng(1)
    y, yhat = (np.exp(rng.standard_normal((7, 40))) for _ in range(2))
    y, yhat = ((side - side.mean(0)) / np.linalg.norm(side - side.mean(0), axis=0) for side in (y, yhat))
    yhat[:, :20] = y[:, :20] + 0.1 * rng.standard_normal((7, 20))
    yhat -= yhat.mean(0)
    yhat /= np.linalg.norm(yhat, axis=0)
    exact = np.mean([(y[list(order)] * yhat).sum(0) >= (y * yhat).sum(0) - 1e-9 for order in permutations(range(7))], 0)
    family = Family(2000, 0.05)
    first = np.where(exact < 0.02, 1 / 11, exact)
    draw = more_exchanges(y.astype(np.float32), yhat.astype(np.float32), 0)
    p = finer_p(first, 10, (y * yhat).sum(0), draw, family, n_rows=7)
    rare = exact < 0.02
    assert rare.sum() > 10
    np.testing.assert_allclose(p[rare], exact[rare], rtol=0.5, atol=2e-4)
