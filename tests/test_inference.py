from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

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
