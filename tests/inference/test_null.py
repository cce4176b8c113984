"""P of correlations and of permutations: by scipy, calibrated, of whole groups and stretches, and of a fitted tail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from latentcortex import inference, scoring
from latentcortex.errors import InputError


def null_correlations(n: int, n_voxels: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scoring.correlation(rng.standard_normal((n, n_voxels)), rng.standard_normal((n, n_voxels)))


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
@pytest.mark.parametrize("n", [5, 100])
def test_the_p_of_a_correlation_is_scipys(alternative: str, n: int) -> None:
    rng = np.random.default_rng(0)
    y, yhat = rng.standard_normal((2, n, 6))
    expected = [stats.pearsonr(y[:, v], yhat[:, v], alternative=alternative).pvalue for v in range(6)]
    found = inference.correlation_p(scoring.correlation(y, yhat), n, alternative)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_the_p_of_a_correlation_is_calibrated(alternative: str) -> None:
    n_voxels = 20_000
    p = inference.correlation_p(null_correlations(60, n_voxels), 60, alternative)
    assert abs(np.mean(p < 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / n_voxels)
    assert stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_the_closed_form_is_what_draws_approach(alternative: str) -> None:
    r = np.linspace(-0.3, 0.3, 13)
    exact = inference.correlation_p(r, 50, alternative)
    drawn = inference.correlation_p(r, 50, alternative, n_draws=20_000)
    assert (np.abs(drawn - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000) + 1e-4).all()
    assert inference.correlation_p(np.array([1.0]), 50, n_draws=99) == 1 / 100


def test_the_p_of_a_correlation_is_never_0_and_nan_stays_nan() -> None:
    p = inference.correlation_p(np.array([1.0, -1.0, 1.0000001, np.nan]), 10)
    assert p[0] > 0
    assert p[1] == 1
    assert p[2] == p[0]
    assert np.isnan(p[3])
    assert np.isnan(inference.correlation_p(np.full(3, np.nan), 10)).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([0.5], 2), "needs at least 3"),
        (([1.2], 9), "must lie in \\[-1, 1\\]; found 1.2"),
        (([0.5], 9, "less"), "Unknown alternative 'less'"),
    ],
)
def test_an_impossible_correlation_is_an_input_error(arguments: tuple, says: str) -> None:
    with pytest.raises(InputError, match=says):
        inference.correlation_p(*arguments)


def test_the_permutation_p_counts_the_observation_itself() -> None:
    null = np.tile(np.arange(9.0)[:, None], (1, 4))
    p = inference.permutation_p(np.array([100.0, 8.0, -1.0, np.nan]), null)
    np.testing.assert_allclose(p, [0.1, 0.2, 1.0, np.nan])


def test_the_permutation_p_is_valid_under_the_null() -> None:
    rng = np.random.default_rng(0)
    p = inference.permutation_p(rng.standard_normal(5000), rng.standard_normal((99, 5000)))
    assert p.min() == 1 / 100
    for level in (0.01, 0.05, 0.2):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / 5000)


def test_permutation_i_depends_on_the_seed_and_i_only() -> None:
    few, many = (inference.exchange(30, n_permutations=n, seed=4) for n in (5, 12))
    np.testing.assert_array_equal(few, many[:5])
    assert not np.array_equal(few, inference.exchange(30, n_permutations=5, seed=5))
    np.testing.assert_array_equal(np.sort(many, axis=1), np.tile(np.arange(30), (12, 1)))
    assert len({tuple(row) for row in many}) == 12


def test_groups_are_exchanged_whole_with_groups_of_their_size() -> None:
    groups = [*"aabbcc", *"ddd", *"eee", "f"]
    for order in inference.exchange(13, n_permutations=20, seed=0, groups=groups):
        assert sorted(order) == list(range(13))
        taken = [groups[i] for i in order]
        assert [len({*taken[i:j]}) for i, j in ((0, 2), (2, 4), (4, 6), (6, 9), (9, 12))] == [1] * 5
        assert taken[12] == "f"


def test_groups_of_different_sizes_cannot_be_exchanged() -> None:
    with pytest.raises(InputError, match="2 groups of different sizes"):
        inference.exchange(3, n_permutations=5, seed=0, groups=["a", "b", "b"])
    with pytest.raises(InputError, match="at least 1; got 0"):
        inference.exchange(3, n_permutations=0, seed=0)


def test_exchanging_single_members_of_clusters_would_not_be_valid_but_whole_clusters_are() -> None:
    rng = np.random.default_rng(0)
    n_voxels, groups = 1000, np.repeat(np.arange(20), 5)
    y, yhat = (
        0.8 * rng.standard_normal((20, n_voxels))[groups] + 0.6 * rng.standard_normal((100, n_voxels)) for _ in range(2)
    )
    observed = scoring.correlation(y, yhat)

    def rate(names: list[str] | None) -> float:
        orders = inference.exchange(100, n_permutations=99, seed=0, groups=names)
        null = np.stack([scoring.correlation(y[order], yhat) for order in orders])
        return float(np.mean(inference.permutation_p(observed, null) <= 0.05))

    assert rate(None) > 0.1
    assert rate([str(g) for g in groups]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n_voxels)


def test_the_permutations_needed_are_those_below_which_bh_cannot_reject() -> None:
    n_voxels, n_true, q = 1000, 20, 0.05
    needed = inference.permutations_needed(n_voxels, n_true, q)
    for n, rejects in ((needed, True), (needed - 1, False)):
        p = np.where(np.arange(n_voxels) < n_true, 1 / (n + 1), 1.0)
        assert inference.fdr(p, q).rejected.any() == rejects


def test_stretches_change_places_and_stay_whole() -> None:
    orders = inference.exchange(23, n_permutations=50, seed=0, block=5)
    assert (np.sort(orders, axis=1) == np.arange(23)).all()
    starts = set()
    for order in orders:
        stretches = order[:20].reshape(4, 5)
        assert (np.diff(stretches, axis=1) % 23 == 1).all()
        start = (order[20] - 20) % 23
        assert ((stretches[:, 0] - start) % 23 % 5 == 0).all()
        np.testing.assert_array_equal(order[20:], (np.arange(20, 23) + start) % 23)
        starts.add(int(start))
    assert len(starts) > 15
    assert len({tuple(order) for order in orders.tolist()}) > 40


def test_a_shift_keeps_the_order_around_a_circle_and_is_never_small() -> None:
    orders = inference.exchange(30, n_permutations=200, seed=0, shift=True, block=4)
    steps = (orders[:, 1] - orders[:, 0]) % 30
    assert (steps == 1).all()
    offset = (-orders[:, 0]) % 30
    assert set(offset.tolist()) == set(range(4, 27))
    np.testing.assert_array_equal(orders[:100], inference.exchange(30, n_permutations=100, seed=0, shift=True, block=4))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"groups": ["a"] * 10, "shift": True}, "not both"),
        ({"block": 0}, "at least 1 row"),
        ({"shift": True, "block": 6}, "cannot be shifted by at least 6"),
        ({"block": 10}, "cannot be exchanged"),
    ],
)
def test_exchanges_that_cannot_be_are_an_input_error(arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        inference.exchange(10, n_permutations=5, seed=0, **arguments)


@pytest.mark.parametrize(("ar", "low", "high"), [(0.0, 1, 1), (0.3, 15, 22), (0.56, 60, 75), (0.8, 200, 200)])
def test_blocks_are_as_long_as_rows_are_correlated(ar: float, low: int, high: int) -> None:
    y = autocorrelated(np.random.default_rng(0), 1000, 300, ar)
    assert low <= inference.block_length(y) <= high


def autocorrelated(rng: np.random.Generator, n: int, n_voxels: int, ar: float) -> np.ndarray:
    noise = rng.standard_normal((n + 50, n_voxels))
    return signal.lfilter([1], [1, -ar], noise, axis=0)[50:]


def test_stopping_early_changes_no_small_p() -> None:
    rng = np.random.default_rng(0)
    null = rng.standard_normal((2000, 300))
    observed = np.concatenate([rng.standard_normal(250), np.full(49, 3.0), [np.nan]])
    asked = []

    def draw(start: int, stop: int, voxels: np.ndarray) -> np.ndarray:
        asked.append((stop - start) * len(voxels))
        return null[start:stop, voxels]

    p, n_used = inference.sequential_p(observed, draw, n_permutations=2000)
    full = inference.permutation_p(observed, null)
    never = n_used == 2000
    np.testing.assert_array_equal(p[never], full[never])
    assert (full[never][:-1] < 0.02).all()
    assert np.abs(p[~never] - full[~never])[:-1].max() < 0.25
    assert np.isnan(p[-1])
    assert sum(asked) < 0.4 * null.size
    uniform = stats.kstest(inference.sequential_p(rng.standard_normal(300), draw, n_permutations=2000)[0], "uniform")
    assert uniform.pvalue > 0.001


def test_an_undefined_null_leaves_p_undefined() -> None:
    p, _ = inference.sequential_p(
        np.zeros(2),
        lambda start, stop, voxels: np.full((stop - start, len(voxels)), [np.nan, 1.0])[:, voxels],
        n_permutations=100,
    )
    assert np.isnan(p[0])
    assert p[1] > 0.5
    with pytest.raises(InputError, match="enough must be a whole number of at least 1"):
        inference.sequential_p(np.zeros(2), lambda *_: np.zeros((1, 2)), n_permutations=5, enough=0)


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="rows has 10, groups has 4"):
        inference.exchange(10, n_permutations=1, seed=0, groups=list("aabb"))


def test_the_fitted_tail_continues_the_null() -> None:
    rng = np.random.default_rng(0)
    observed = np.array([3.4, 3.7, 0.3, np.nan, 40.0])
    p, approximate = inference.tail_p(observed, rng.standard_normal((5000, 5)))
    assert approximate.tolist()[1:4] == [True, False, False]
    # Of a Gaussian null it errs upwards.
    above = np.log10(p[:2]) - np.log10(stats.norm.sf(observed[:2]))
    assert (above > -0.3).all()
    assert (above < 0.8).all()
    assert p[4] == pytest.approx(1 / 50_010)
    assert p[2] == pytest.approx(stats.norm.sf(0.3), abs=0.02)


def test_correlations_beyond_1_by_rounding_are_taken_as_1_and_told(caplog) -> None:
    p = inference.correlation_p(np.array([1.0000001, 0.5, -1.0]), 20)
    assert "1 correlations lie beyond 1 by rounding" in caplog.text
    assert p[0] == inference.correlation_p(np.array([1.0]), 20)[0]
    with pytest.raises(InputError, match=r"must lie in \[-1, 1\]; found 1.01"):
        inference.correlation_p(np.array([1.01]), 20)


def test_a_constant_voxel_has_no_p_and_no_autocorrelation() -> None:
    """.1 is no sum of powers of two: what its mean leaves of it varies."""
    rng = np.random.default_rng(0)
    y, yhat = rng.standard_normal((2, 40, 2))
    y[:, 0] = 0.1
    clusters = [f"c{i // 4}" for i in range(40)]
    for p in (inference.cluster_p(y, yhat, clusters, seed=0), inference.cluster_p(yhat, y, clusters, seed=0)):
        assert np.isnan(p).tolist() == [True, False]
    assert np.isnan(inference.lag_one(y)).tolist() == [True, False]
    maps = inference.map_similarity(y.T, np.arange(40.0)[:, None], seed=0)
    assert np.isnan(maps[:, 0]).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: inference.bootstrap_weights(4, clusters=["a"] * 3, n_draws=2, seed=0), "rows has 4, clusters has 3"),
        (lambda: inference.bootstrap_weights(3, clusters=["a", None, "b"], n_draws=2, seed=0), "all strings"),
        (lambda: inference.exchange(3, n_permutations=2, seed=0, groups=["a", 1, "b"]), "all strings or all whole"),
        (lambda: inference.bootstrap_rows(3, n_draws=0, seed=0), "n_draws must be"),
        (lambda: inference.bootstrap_ci(np.mean, []), "There is no draw"),
        (lambda: inference.true_discovery_bound(np.full(3, 0.1), np.array([0, 2, 1])), "expected truth values"),
        (lambda: inference.mesh_adjacency(np.array([[0, 1, 3]]), 3), r"faces must lie in 0\.\.2; found 0 to 3"),
        (lambda: inference.mesh_adjacency(np.array([[0.0, 1, 2]]), 3), "expected whole numbers"),
        (lambda: inference.grid_adjacency(np.ones((2, 2, 2))), "expected truth values"),
        (lambda: inference.map_similarity(np.ones((2, 3)), np.ones((2, 3)), seed=0), r"places is \(2, 3\)"),
        (
            lambda: inference.sequential_p(np.zeros(3), lambda i, j, voxels: np.zeros((j - i, 1)), n_permutations=9),
            r"draw gave \(9, 1\); expected \(9, 3\)",
        ),
    ],
)
def test_labels_masks_and_draws_that_do_not_fit_are_one_line(call, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
