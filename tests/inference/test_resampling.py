"""Bootstrap, flipped signs and prevalence against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from latentcortex import inference
from latentcortex.errors import InputError


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


def test_prevalence_is_nan_where_nobody_was_tested() -> None:
    likely = inference.prevalence(np.array([3, np.nan, 8]), 8)
    assert np.isnan(likely).tolist() == [[False, True, False]] * 3
    np.testing.assert_array_equal(likely[:, [0, 2]], inference.prevalence(np.array([3, 8]), 8))
    with pytest.raises(InputError, match=r"whole numbers; found 2\.5"):
        inference.prevalence(np.array([2.5]), 8)
