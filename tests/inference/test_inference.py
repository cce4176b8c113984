from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats
from sklearn.linear_model import LinearRegression
from statsmodels.stats.multitest import multipletests

from latentcortex import inference, scoring
from latentcortex.errors import InputError
from latentcortex.inference.corrections import PROCEDURES
from latentcortex.reporting.titles import CORRECTIONS


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


# Permutations


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


# False discovery rate


@pytest.mark.parametrize(("method", "name"), [("bh", "fdr_bh"), ("by", "fdr_by")])
def test_fdr_is_statsmodels_over_random_families_with_ties(method: str, name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        p = rng.random(rng.integers(1, 400)) ** rng.integers(1, 6)
        p = np.round(p, rng.integers(1, 5))
        found = inference.fdr(p, 0.05, method)
        rejected, q_values = multipletests(p, 0.05, name)[:2]
        np.testing.assert_array_equal(found.rejected, rejected)
        np.testing.assert_allclose(found.q_values, q_values, rtol=1e-12)
        assert found.n_tests == len(p)
        assert found.threshold == (p[rejected].max() if rejected.any() else 0)


def test_fdr_is_scipys() -> None:
    p = np.random.default_rng(1).random(200) ** 3
    np.testing.assert_allclose(inference.fdr(p).q_values, stats.false_discovery_control(p), rtol=1e-12)


def test_nan_is_outside_the_family_and_counted() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.5]])
    found = inference.fdr(p, 0.05)
    assert found.n_tests == 3
    assert found.rejected.tolist() == [[True, False], [False, False]]
    assert np.isnan(found.q_values[0, 1])


def test_one_rejection_at_the_first_place_is_found_and_an_empty_family_rejects_nothing() -> None:
    assert inference.fdr(np.array([1e-6, 0.9, 0.8])).rejected.tolist() == [True, False, False]
    nothing = inference.fdr(np.full(4, np.nan))
    assert (nothing.n_tests, nothing.threshold, nothing.rejected.any()) == (0, 0.0, False)


def test_float16_p_values_lose_nothing() -> None:
    p = np.r_[np.full(10, 1e-6), np.full(90, 0.9)].astype(np.float16)
    assert inference.fdr(p).rejected.sum() == 10


@pytest.mark.parametrize(
    ("q", "says"), [(5, "Did you mean 0.05"), (0, "between 0 and 1"), (1, "between"), (-0.1, "between")]
)
def test_an_impossible_q_is_an_error_with_a_hint(q: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        inference.fdr(np.array([0.1]), q)


def test_impossible_p_values_and_methods_are_errors() -> None:
    with pytest.raises(InputError, match="must lie in"):
        inference.fdr(np.array([0.1, -0.1]))
    with pytest.raises(InputError, match="Did you mean 'bh'"):
        inference.fdr(np.array([0.1]), method="bhh")


def test_bh_holds_its_rate_and_finds_what_is_planted() -> None:
    rng = np.random.default_rng(0)
    proportions, power = [], []
    for _ in range(200):
        z = rng.standard_normal(1000)
        z[:100] += 3.5
        rejected = inference.fdr(stats.norm.sf(z)).rejected
        proportions.append(rejected[100:].sum() / max(rejected.sum(), 1))
        power.append(rejected[:100].mean())
    assert np.mean(proportions) <= 0.05 + 3 * np.std(proportions) / np.sqrt(200)
    assert np.mean(power) > 0.7


# Several tests of one voxel, and intervals


def test_simes_is_the_smallest_bh_adjusted_p_and_valid_under_the_null() -> None:
    p = np.random.default_rng(0).random((5, 20_000))
    found = inference.simes_p(p)
    np.testing.assert_allclose(
        found[:50], [stats.false_discovery_control(p[:, v]).min() for v in range(50)], rtol=1e-12
    )
    assert abs(np.mean(found < 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 20_000)
    p[2, 0] = np.nan
    assert np.isnan(inference.simes_p(p)[0])


def test_a_bootstrap_draw_depends_on_the_seed_and_its_number_only() -> None:
    few, many = (inference.bootstrap_rows(30, n_draws=n, seed=4) for n in (5, 12))
    np.testing.assert_array_equal(few, many[:5])


def test_the_bootstrap_interval_covers_a_mean() -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((100, 400)) + 2
    draws = inference.bootstrap_rows(100, n_draws=400, seed=0)
    low, high = inference.bootstrap_ci(lambda rows: data[rows].mean(0), draws)
    assert abs(np.mean((low < 2) & (high > 2)) - 0.95) < 0.05


def test_an_interval_is_nan_where_the_statistic_always_is_without_a_warning() -> None:
    draws = inference.bootstrap_rows(10, n_draws=20, seed=0)
    values = np.stack([np.full(10, np.nan), np.arange(10.0)], axis=1)
    low, high = inference.bootstrap_ci(lambda rows: values[rows].mean(0), draws)
    assert np.isnan(low[0])
    assert low[1] < high[1]
    assert np.isfinite(inference.bootstrap_ci(lambda rows: values[rows, 1].mean(), draws)[0])
    with pytest.raises(InputError, match="level"):
        inference.bootstrap_ci(lambda rows: rows, draws, 95)


# Time series


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


# Fewer permutations, and their tail


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


def test_storeys_procedure_never_rejects_what_it_counts_as_null() -> None:
    found = inference.fdr(np.r_[np.full(99, 1e-6), 0.9], method="storey")
    assert found.rejected.tolist() == [True] * 99 + [False]


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


# Families


def test_max_t_holds_the_family_wise_rate_under_dependence() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        draws = 0.7 * rng.standard_normal((200, 1)) + 0.7 * rng.standard_normal((200, 40))
        hits += (inference.max_t(draws[0], draws[1:]) <= 0.05).any()
    assert hits / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert hits / 300 >= 0.02


def test_max_t_leaves_undefined_voxels_out() -> None:
    null = np.random.default_rng(0).standard_normal((99, 3))
    null[4, 1] = np.nan
    p = inference.max_t(np.array([9.0, 9.0, -9.0]), null)
    np.testing.assert_allclose(p[[0, 2]], [0.01, 1.0])
    assert np.isnan(p[1])


def test_storeys_procedure_rejects_more_where_many_are_true_and_holds_its_rate() -> None:
    rng = np.random.default_rng(0)
    fdp, more = [], []
    for _ in range(200):
        true = np.arange(400) < 160
        p = stats.norm.sf(rng.standard_normal(400) + 2.5 * true)
        storey, bh = (inference.fdr(p, method=name).rejected for name in ("storey", "bh"))
        fdp.append((storey & ~true).sum() / max(storey.sum(), 1))
        more.append(storey.sum() - bh.sum())
    assert np.mean(fdp) <= 0.05 + 3 * stats.sem(fdp)
    assert np.mean(more) > 5


def closed_testing(p: np.ndarray, roi: np.ndarray, alpha: float) -> float:
    """Every intersection tested by Simes, over all subsets: the definition itself."""
    m = len(p)
    simes = {}
    for bits in range(1, 2**m):
        own = np.sort(p[[i for i in range(m) if bits >> i & 1]])
        simes[bits] = (own * len(own) / np.arange(1, len(own) + 1)).min() <= alpha
    rejected = {b: all(simes[c] for c in simes if c & b == b) for b in simes}
    inside = sum(1 << i for i in np.flatnonzero(roi))
    kept = [bin(b).count("1") for b in rejected if b & inside == b and not rejected[b]]
    return (roi.sum() - max(kept, default=0)) / roi.sum()


@pytest.mark.parametrize("seed", range(12))
def test_true_discoveries_are_bounded_as_closed_testing_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = stats.norm.sf(rng.standard_normal(8) + 3 * (rng.random(8) < 0.5))
    roi = rng.random(8) < 0.6
    roi[0] = True
    assert inference.true_discovery_bound(p, roi) == pytest.approx(closed_testing(p, roi, 0.05))


def test_the_bound_holds_for_regions_chosen_afterwards() -> None:
    rng = np.random.default_rng(0)
    wrong, bounds = 0, []
    for _ in range(300):
        true = np.arange(500) < 100
        p = stats.norm.sf(rng.standard_normal(500) + 3 * true)
        best = p <= np.sort(p)[80]
        for roi in (best, true, ~true):
            wrong += inference.true_discovery_bound(p, roi) > true[roi].mean()
        bounds.append(inference.true_discovery_bound(p, best))
    assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(bounds) > 0.5
    assert np.isnan(inference.true_discovery_bound(np.array([0.1, np.nan]), np.array([False, True])))


def test_tfce_is_the_sum_over_heights_and_joins_neighbours() -> None:
    mask = np.zeros((4, 3, 3), dtype=bool)
    mask[:, 1, 1], mask[0, 0, 0] = True, True
    adjacency = inference.grid_adjacency(mask)
    assert adjacency.shape == (5, 5)
    assert adjacency.nnz == 6
    order = [tuple(where) for where in np.argwhere(mask)]
    stat = np.array([{(0, 0, 0): 2.0, (3, 1, 1): -1.0}.get(where, 1.0) for where in order])
    found = inference.tfce(stat, adjacency, n_steps=400)
    h = np.linspace(0, 2, 401)[1:]
    expected = {(0, 0, 0): (h**2).sum() * 0.005, (3, 1, 1): 0.0}
    three = (3**0.5 * h[h <= 1] ** 2).sum() * 0.005
    np.testing.assert_allclose(found, [expected.get(where, three) for where in order], rtol=1e-9)


def test_a_mesh_joins_vertices_of_a_triangle() -> None:
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    dense = inference.mesh_adjacency(faces, 5).toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert np.argwhere(np.triu(dense)).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert set(np.unique(dense)) == {0, 1}


def test_tfce_leaves_undefined_voxels_undefined_and_nothing_where_nothing_is_above_0() -> None:
    adjacency = inference.mesh_adjacency(np.array([[0, 1, 2]]), 3)
    np.testing.assert_array_equal(inference.tfce(np.array([-1.0, -2, np.nan]), adjacency), [0, 0, np.nan])


# Shares


def two_models(seed: int, *, gain: float, n_voxels: int = 300, clusters: int = 0):
    """Refitted least squares with and without a second band that adds `gain` to the signal, on 300 test stimuli."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((900, 20))
    second = 0.7 * x[:, :10] + 0.7 * rng.standard_normal((900, 10))
    y = x @ rng.standard_normal((20, n_voxels)) / 4 + gain * second @ rng.standard_normal((10, n_voxels))
    names = None
    noise = 2 * rng.standard_normal((900, n_voxels))
    if clusters:
        names = [str(i % clusters) for i in range(300)]
        noise[600:] += rng.standard_normal((clusters, n_voxels))[np.arange(300) % clusters]
    y = y + noise
    full = LinearRegression().fit(np.hstack([x, second])[:600], y[:600]).predict(np.hstack([x, second])[600:])
    reduced = LinearRegression().fit(x[:600], y[:600]).predict(x[600:])
    return y[600:], full, reduced, names


def lost(residual: np.ndarray) -> np.ndarray:
    """Square residuals about their mean over stimuli."""
    return (residual - residual.mean(0)) ** 2


def test_a_band_that_adds_nothing_has_no_share() -> None:
    p = np.concatenate([inference.share_p(*two_models(s, gain=0)[:3], n_permutations=999, seed=0) for s in range(4)])
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


def test_a_band_that_adds_something_is_found() -> None:
    y, full, reduced, _ = two_models(0, gain=0.6)
    p = inference.share_p(y, full, reduced, n_permutations=999, seed=0)
    assert (p <= 0.05).mean() > 0.9
    assert p.min() == pytest.approx(1 / 1000)
    np.testing.assert_array_equal(p, inference.share_p(y, full, reduced, n_permutations=999, seed=0))


def test_flipped_signs_are_students_paired_test_where_many_stimuli_are_compared() -> None:
    y, full, reduced, _ = two_models(0, gain=0.05)
    gain = lost(y - reduced) - lost(y - full)
    theirs = stats.ttest_1samp(gain, 0, alternative="greater").pvalue
    ours = inference.share_p(y, full, reduced, n_permutations=4999, seed=0)
    np.testing.assert_allclose(ours, theirs, atol=0.035)
    both = inference.paired_difference_p(y, full, reduced, n_permutations=4999, seed=0)
    np.testing.assert_allclose(both, stats.ttest_1samp(gain, 0).pvalue, atol=0.05)


def test_whole_clusters_are_flipped() -> None:
    y, full, reduced, names = two_models(1, gain=0, clusters=20)
    gain = lost(y - reduced) - lost(y - full)
    summed = np.stack([gain[np.asarray(names) == name].sum(0) for name in dict.fromkeys(names)])
    theirs = stats.ttest_1samp(summed, 0, alternative="greater").pvalue
    ours = inference.share_p(y, full, reduced, clusters=names, n_permutations=4999, seed=0)
    np.testing.assert_allclose(ours, theirs, atol=0.06)
    with pytest.raises(InputError, match="2 stimuli or clusters are too few"):
        inference.share_p(y, full, reduced, clusters=["a", "b"] * 150, seed=0)


def test_models_that_predict_the_same_do_not_differ() -> None:
    y, full, _, _ = two_models(0, gain=0.3, n_voxels=5)
    y[3, 2] = np.nan
    np.testing.assert_array_equal(inference.share_p(y, full, full, seed=0), [1, 1, np.nan, 1, 1])


# Few participants


def test_every_correction_has_a_name_in_the_methods_text() -> None:
    assert set(CORRECTIONS) == set(PROCEDURES)


def test_prevalence_is_highest_where_the_published_formula_says() -> None:
    k = np.array([0, 3, 8])
    found = inference.prevalence(k, 8)
    np.testing.assert_allclose(found[0], np.maximum((k / 8 - 0.05) / 0.95, 0), atol=1e-3)
    assert (found[1] <= found[0]).all()
    assert (found[0] <= found[2]).all()
    # All of 8: the density above theta is that of Beta(9, 1), cut at alpha.
    low = (stats.beta(9, 1).ppf(0.05 + 0.95 * 0) - 0.05) / 0.95
    assert found[1][2] == pytest.approx(low, abs=0.01)
    with pytest.raises(InputError, match=r"must lie in 0\.\.8"):
        inference.prevalence(np.array([9]), 8)


def test_correlations_beyond_1_by_rounding_are_taken_as_1_and_told(caplog) -> None:
    p = inference.correlation_p(np.array([1.0000001, 0.5, -1.0]), 20)
    assert "1 correlations lie beyond 1 by rounding" in caplog.text
    assert p[0] == inference.correlation_p(np.array([1.0]), 20)[0]
    with pytest.raises(InputError, match=r"must lie in \[-1, 1\]; found 1.01"):
        inference.correlation_p(np.array([1.01]), 20)


def simulated(rng: np.random.Generator, n_maps: int, n_active: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw p of many maps of 500 voxels, of which a few maps have 25 active ones."""
    active = np.zeros((n_maps, 500), dtype=bool)
    active[:n_active, :25] = True
    p = stats.norm.sf(rng.standard_normal((n_maps, 500)) + 3.5 * active)
    return {str(i): one for i, one in enumerate(p)}, active


def test_choosing_maps_first_is_paid_for() -> None:
    """2 of 60 maps have signal: voxels of maps that were chosen for having some would be false too often."""
    rng = np.random.default_rng(11)
    rates: dict[str, list[float]] = {"hierarchical": [], "naive": []}
    for _ in range(200):
        p, active = simulated(rng, 60, 2)
        found = {name: one.rejected for name, one in inference.hierarchical_fdr(p).items()}
        naive = {name: inference.fdr(one).rejected for name, one in p.items()}
        for kind, maps in (("hierarchical", found), ("naive", naive)):
            chosen = [name for name, one in maps.items() if one.any()]
            fdp = [(maps[name] & ~active[int(name)]).sum() / maps[name].sum() for name in chosen]
            rates[kind].append(float(np.mean(fdp)) if fdp else 0.0)
    assert np.mean(rates["hierarchical"]) <= 0.05 + 3 * stats.sem(rates["hierarchical"])
    assert np.mean(rates["naive"]) > 0.2


def test_one_map_alone_is_corrected_as_ever() -> None:
    p = np.append(np.random.default_rng(12).random(300) ** 3, np.nan)
    (one,) = inference.hierarchical_fdr({"only": p}).values()
    same = inference.fdr(p)
    np.testing.assert_array_equal(one.rejected, same.rejected)
    np.testing.assert_allclose(one.q_values, same.q_values)
    assert (one.threshold, one.n_tests) == (same.threshold, 300)
    nothing = inference.hierarchical_fdr({"a": np.full(5, np.nan), "b": np.ones(5)})
    assert not any(found.rejected.any() for found in nothing.values())


def test_prevalence_is_nan_where_nobody_was_tested() -> None:
    likely = inference.prevalence(np.array([3, np.nan, 8]), 8)
    assert np.isnan(likely).tolist() == [[False, True, False]] * 3
    np.testing.assert_array_equal(likely[:, [0, 2]], inference.prevalence(np.array([3, 8]), 8))
    with pytest.raises(InputError, match=r"whole numbers; found 2\.5"):
        inference.prevalence(np.array([2.5]), 8)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_value_does_not_take_the_enhancement_of_all_others(infinite: float) -> None:
    stat = np.random.default_rng(0).standard_normal(125)
    stat[7] = infinite
    with pytest.raises(InputError, match="infinite in 1 voxels"):
        inference.tfce(stat, inference.grid_adjacency(np.ones((5, 5, 5), dtype=bool)))


def test_a_map_without_a_test_changes_nothing_of_the_others() -> None:
    rng = np.random.default_rng(0)
    p = {"one": rng.uniform(size=200) ** 6, "other": rng.uniform(size=200)}
    expected = inference.hierarchical_fdr(p)
    corrected = inference.hierarchical_fdr(p | {"empty": np.full(200, np.nan)})
    for name, wanted in expected.items():
        np.testing.assert_array_equal(corrected[name].q_values, wanted.q_values)
    assert corrected["empty"].n_tests == 0
    assert np.isnan(corrected["empty"].q_values).all()
    assert not corrected["empty"].rejected.any()


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
