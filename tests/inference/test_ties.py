"""What rounding may not decide: ties between observations and nulls, p-values at their border, predictions alike."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from latentcortex import Encoder, Features, Responses, inference, scoring
from latentcortex.encoding import Criterion, Folds, Null, Prediction
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.evaluation import identification, image_weights, two_alternative
from latentcortex.inference.ties import at_most
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

IDS = [f"s{i:03d}" for i in range(120)]


# Borders of p


@pytest.mark.parametrize("q", [0.001, 0.01, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bh_rejects_from_the_permutations_that_are_needed_on_and_not_before(q: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    drawn = [(n, int(rng.integers(1, n + 1))) for n in rng.integers(1, 3000, 60).tolist()]
    for n_tests, n_true in [(980, 10), (1000, 20), (60, 3), (7, 7), *drawn]:
        needed = inference.permutations_needed(n_tests, n_true, q)
        for n_permutations, expected in ((needed, n_true), (needed - 1, 0)):
            # In float32 one permutation in a million is no difference.
            if n_permutations > 0 and (expected or dtype == np.float64):
                p = np.where(np.arange(n_tests) < n_true, 1 / (n_permutations + 1), 1.0).astype(dtype)
                found = inference.fdr(p, q)
                assert found.rejected.sum() == expected, (n_tests, n_true, n_permutations)
                np.testing.assert_array_equal(found.q_values <= q, found.rejected)


@pytest.mark.parametrize("method", ["bh", "by", "storey"])
def test_what_is_rejected_does_not_depend_on_the_precision_of_p(method: str) -> None:
    """Maps are float32, and are corrected again from them."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        p = (rng.integers(0, 1000, 300) ** 2 // 1000 + 1) / 1000
        wide, narrow = (inference.fdr(p.astype(dtype), 0.2, method).rejected for dtype in (np.float64, np.float32))
        np.testing.assert_array_equal(wide, narrow)
        maps = [{"one": (some := p.astype(dtype)), "other": some[::-1] ** 0.5} for dtype in (np.float64, np.float32)]
        wide, narrow = (inference.hierarchical_fdr(some, 0.2, method)["one"].rejected for some in maps)
        np.testing.assert_array_equal(wide, narrow)


def test_a_p_of_05_is_at_most_05_in_float32_too() -> None:
    assert at_most(np.array([0.05, 0.0501, np.nan], dtype=np.float32), 0.05).tolist() == [True, False, False]


def test_true_discoveries_are_bounded_alike_where_p_stand_on_their_border() -> None:
    """Each p is exactly its rank's part of alpha, by fractions: all are rejected, by closed testing."""
    for n in (3, 6, 12):
        p = np.arange(1, n + 1) * 0.05 / n
        assert inference.true_discovery_bound(p, np.ones(n, dtype=bool), alpha=0.05) == 1.0


def test_tfce_of_a_scaled_map_is_scaled() -> None:
    adjacency = inference.grid_adjacency(np.ones((20, 1, 1), dtype=bool))
    stat = np.random.default_rng(0).permutation(np.arange(1.0, 21.0))
    for scale in (0.6066357757671799, 0.7, 1 / 3, 1e-9):
        found = inference.tfce(stat * scale, adjacency, n_steps=120)
        np.testing.assert_allclose(found, inference.tfce(stat, adjacency, n_steps=120) * scale**3, rtol=1e-9)


# Nulls


def test_a_null_in_float32_reaches_an_observation_in_float64_that_it_equals() -> None:
    rng = np.random.default_rng(2)
    y, yhat = rng.standard_normal((2, 50, 300))
    orders = [np.arange(50) if i % 3 == 0 else rng.permutation(50) for i in range(30)]
    wide, narrow = ([side.astype(dtype) for side in (y, yhat)] for dtype in (np.float64, np.float32))
    observed, exact = (wide[0] * wide[1]).sum(0), np.stack([(wide[0][order] * wide[1]).sum(0) for order in orders])
    # The same rows in another order of summation.
    null = np.stack([(narrow[0][order] * narrow[1])[::-1].sum(0) for order in orders])
    expected = ((exact >= observed).sum(0) + 1) / 31
    assert expected.min() >= 11 / 31
    assert (((null >= observed).sum(0) + 1) / 31).min() < 11 / 31
    np.testing.assert_array_equal(inference.permutation_p(observed, null), expected)
    np.testing.assert_array_equal(inference.permutation_p(1e-12 * observed, np.float32(1e-12) * null), expected)
    p, _ = inference.sequential_p(
        observed, lambda start, stop, voxels: null[start:stop, voxels], n_permutations=30, enough=31
    )
    np.testing.assert_array_equal(p, expected)
    joint = inference.max_t(np.full(300, exact.max()), null)
    np.testing.assert_array_equal(joint, (1 + (exact.max(1) == exact.max()).sum()) / 31)


def test_a_null_of_other_values_is_counted_as_it_is() -> None:
    rng = np.random.default_rng(3)
    observed, null = rng.standard_normal(400), rng.standard_normal((99, 400)).astype(np.float32)
    expected = ((null >= observed).sum(0) + 1) / 100
    np.testing.assert_array_equal(inference.permutation_p(observed, null), expected)


@pytest.mark.parametrize("n_groups", [2, 3, 4, 5])
def test_few_groups_are_brought_into_each_of_their_orders_once(n_groups: int) -> None:
    groups = [str(i % n_groups) for i in range(3 * n_groups)]
    orders = inference.exchange(len(groups), n_permutations=500, seed=0, groups=groups)
    firsts = [tuple(int(groups[row]) for row in order[:n_groups]) for order in orders]
    assert sorted(firsts) == sorted(set(permutations(range(n_groups))) - {tuple(range(n_groups))})
    assert len(inference.exchange(len(groups), n_permutations=1, seed=0, groups=groups)) == 1


def test_few_stretches_start_everywhere_once() -> None:
    orders = inference.exchange(6, n_permutations=100, seed=0, block=3)
    assert {tuple(order) for order in orders} == {tuple(np.roll(np.arange(6), k)) for k in range(1, 6)}
    assert len(orders) == 5


@pytest.mark.parametrize("n_clusters", [5, 6, 8])
def test_few_clusters_are_flipped_in_every_way_and_p_is_the_exact_one(n_clusters: int) -> None:
    rng = np.random.default_rng(4)
    clusters = [str(i % n_clusters) for i in range(6 * n_clusters)]
    y, yhat = rng.standard_normal((2, len(clusters), 50))
    y[:, :10] += 3 * yhat[:, :10]
    apart = [(side - side.mean(0)) for side in (y, yhat)]
    each = np.stack([(apart[0] * apart[1])[np.array(clusters) == str(k)].sum(0) for k in range(n_clusters)])
    signs = np.array(list(product([1, -1], repeat=n_clusters)))
    exact = (signs @ each >= each.sum(0) - 1e-9).mean(0)
    p = inference.cluster_p(y, yhat, clusters, n_permutations=300, seed=0)
    np.testing.assert_allclose(p, exact, rtol=1e-12)
    assert p.min() == 2.0**-n_clusters
    p = inference.paired_difference_p(y, y, yhat, clusters=clusters, n_permutations=300, seed=0)
    np.testing.assert_allclose(p, 2.0 ** (1 - n_clusters))


def sessions(n_dims: int, *, zscored: bool):
    """Six sessions; voxels from none to strong signal."""
    rng = np.random.default_rng(5)
    x, session = rng.standard_normal((120, n_dims)), np.arange(120) // 20
    y = x @ rng.standard_normal((n_dims, 60)) / np.sqrt(n_dims) * np.linspace(0, 2, 60)
    y = y + rng.standard_normal((120, 60)) + rng.standard_normal((6, 60))[session]
    for k in range(6) if zscored else ():
        y[session == k] = (y[session == k] - y[session == k].mean(0)) / y[session == k].std(0)
    names = [str(k) for k in session]
    shown = {"stimulus": IDS, "session": names, "run": ["1"] * 120}
    responses = Responses.single_trials(y.astype(np.float32), Unlocated(60), **shown)
    splits = Splits.k_fold(IDS, 6, groups=names, unit="session", seed=0)
    return Features.from_arrays(IDS, {"z": x}), responses, splits


def test_no_intercept_is_fitted_across_sessions_where_none_is_asked_for() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((96, 8))
    y = 5 + x @ rng.standard_normal((8, 4)) + rng.standard_normal((96, 4))
    ids, session = tuple(IDS[:96]), tuple(str(i // 16) for i in range(96))
    responses = Responses.single_trials(y, Unlocated(4), stimulus=ids, session=session, run=["1"] * 96)
    features, fold = Features.from_arrays(ids, {"x": x}), np.arange(96) // 16
    for intercept in (True, False):
        one, other = (
            Folds.of(features, responses, splits, "none").predict(BandedRidge([10.0], fit_intercept=intercept)).yhat
            for splits in (Splits(ids, fold, session, "session"), Splits(ids, fold, ids, "stimulus"))
        )
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("n_dims", [10, 200])
def test_flipping_nothing_or_everything_ties_with_the_observation_to_the_last_bit(n_dims: int) -> None:
    """Also in voxels without signal, where any rounding of the responses would choose another penalty."""
    features, responses, splits = sessions(n_dims, zscored=True)
    folds, one = Folds.of(features, responses, splits, "none"), np.ones(120, dtype=np.float32)
    expected = folds.predict(BandedRidge()).r
    for signs in (one, -one):
        np.testing.assert_array_equal(folds.predict(BandedRidge(), signs=signs).r, expected)


def test_no_p_across_sessions_is_below_what_six_sessions_can_give() -> None:
    """Two of 64, as sessions of mean 0 give the same r when all are flipped; it was .0133 with 300 drawn flips."""
    features, responses, splits = sessions(10, zscored=True)
    encoder = Encoder(BandedRidge(alphas=[3.0], selection="gcv"))
    maps = encoder.cross_validate(features, responses, splits, zscore="none", n_permutations=300)
    p = maps.values(statistic="p").astype(np.float64)
    assert p.min() == pytest.approx(2 / 64)
    np.testing.assert_allclose(p * 64, np.round(p * 64), atol=1e-4)
    facts = maps.find_columns(statistic="p").columns.iloc[0]
    assert facts["null"] == "63 flips of signs of whole clusters, each refitted in every fold"


# Predictions that are the same


@pytest.mark.parametrize("n_dims", [10, 200])
def test_an_exact_multiple_of_a_band_adds_nothing_anywhere(n_dims: int) -> None:
    """It was unique at p < .05 in 5 to 9 % of voxels, by the rounding of the two predictions."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((120, n_dims))
    y = x @ rng.standard_normal((n_dims, 200)) / np.sqrt(n_dims) * np.linspace(0, 2, 200)
    y = (y + rng.standard_normal((120, 200))).astype(np.float32)
    shown = {"stimulus": IDS, "session": ["1"] * 120, "run": ["1"] * 120}
    train, test = Responses.single_trials(y, Unlocated(200), **shown).split(test_ids=IDS[80:], zscore="none")
    features = Features.from_arrays(IDS, {"z": x, "c": 2.7 * x})
    maps = Encoder(BandedRidge()).fit(features, train).score(features, test, shares=("unique",), identifiability=False)
    for band in features.bands:
        np.testing.assert_array_equal(maps.values(statistic="uniqueP", band=band), 1.0)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_predictions_that_differ_by_more_than_rounding_are_tested(offset: float) -> None:
    rng = np.random.default_rng(7)
    y, one, other = rng.standard_normal((3, 80, 50))
    for size in (1e-12, 1.0, 1e12):
        given = [size * (some + offset) for some in (y, y + one, y + 0.5 * other)]
        expected = inference.paired_difference_p(y, y + one, y + 0.5 * other, n_permutations=499, seed=0)
        found = inference.paired_difference_p(*given, n_permutations=499, seed=0)
        np.testing.assert_allclose(found, expected, atol=1 / 500 + 1e-9)
    assert expected.max() < 1


@pytest.mark.parametrize("n_refits", [0, 5])
def test_layers_that_are_one_another_are_not_preferred(n_refits: int) -> None:
    rng = np.random.default_rng(8)
    y = rng.standard_normal((60, 30))
    layer = (y + 0.5 * rng.standard_normal(y.shape)).astype(np.float32)
    yhat = np.stack([layer, (layer * np.float32(1 / 3)) * np.float32(3)])
    assert (yhat[0] != yhat[1]).any(0).all()
    r = np.stack([scoring.correlation(y, band) for band in yhat])

    def refits(k: int, voxels: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(k).standard_normal(y.shape)[:, voxels].astype(np.float32)
        half = yhat[0][:, voxels] + 0.1 * noise
        return np.stack([half, (half * np.float32(1 / 3)) * np.float32(3)])

    how = inference.Resampling(200, 199, refits=refits if n_refits else None, n_refits=max(n_refits, 5))
    found = inference.preference(y, yhat, np.stack([inference.correlation_p(one, 60) for one in r]), resampling=how)
    assert found.found.all()
    for values, expected in ((found.flat_p, 1.0), (found.runner_up_p, 1.0), (found.confidence, 0.5)):
        np.testing.assert_array_equal(values, expected)
    assert not found.identifiable.any()


# Identification


def test_similarities_that_differ_by_rounding_are_ties() -> None:
    similarity = np.full((6, 6, 2), 0.3, dtype=np.float32)
    similarity += np.random.default_rng(9).integers(-2, 3, similarity.shape).astype(np.float32) * np.float32(3e-8)
    counts = image_weights(6, n_draws=10, seed=0)
    assert identification(similarity, counts, fixed="original").value == 0.5
    log_p = np.log(np.float32([[0.25, 0.25, 0.5]])) + np.float32([[1e-7, 0, 0]])
    np.testing.assert_array_equal(two_alternative(log_p, np.array([0, 1, 2])), [[0.25], [0.25], [1.0]])


def test_the_null_of_a_test_set_counts_patterns_of_signs() -> None:
    """And says so: with five clusters there are 31 flips, not 1000."""
    rng = np.random.default_rng(10)
    y = rng.standard_normal((50, 4)).astype(np.float32)
    clusters = tuple(str(i % 5) for i in range(50))
    null = Null.of(Prediction(y, y[None], np.zeros(4), clusters=clusters), Criterion())
    assert str(null) == "31 flips of signs of whole clusters"
    np.testing.assert_allclose(null.p(Prediction(y, y[None], np.zeros(4), clusters=clusters)), 1 / 32)
