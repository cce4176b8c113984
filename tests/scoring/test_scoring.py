from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from himalaya.scoring import correlation_score_split, r2_score_split
from scipy import integrate, stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from latentcortex import BandedRidge, scoring
from latentcortex.errors import AlignmentError, InputError
from latentcortex.scoring import reliability


def pair(n: int = 40, n_voxels: int = 12, dtype: type = np.float64):
    rng = np.random.default_rng(0)
    y = rng.standard_normal((n, n_voxels)) + 5
    return y.astype(dtype), (0.5 * y + rng.standard_normal((n, n_voxels))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_correlation_is_scipys(dtype: type) -> None:
    y, yhat = pair(dtype=dtype)
    wide = y.astype(float), yhat.astype(float)
    expected = [stats.pearsonr(wide[0][:, v], wide[1][:, v]).statistic for v in range(12)]
    np.testing.assert_allclose(scoring.correlation(y, yhat), expected, rtol=1e-12)


def test_r2_is_sklearns() -> None:
    y, yhat = pair()
    np.testing.assert_allclose(scoring.r2(y, yhat), r2_score(y, yhat, multioutput="raw_values"), rtol=1e-12)


def test_a_perfect_prediction_has_a_correlation_of_exactly_1() -> None:
    y, _ = pair(dtype=np.float32)
    assert (scoring.correlation(y, y) <= 1).all()
    np.testing.assert_allclose(scoring.correlation(y, -2 * y + 1), -1, rtol=1e-6)


def spoiled():
    y, yhat = pair(n_voxels=6, dtype=np.float32)
    y[:, 0], y[3, 1], y[3, 2] = 0.1, np.nan, np.inf
    yhat[:, 3], yhat[0, 4] = 7, np.nan
    return y, yhat


def test_undefined_is_nan_without_a_warning() -> None:
    y, yhat = spoiled()
    assert np.isnan(scoring.correlation(y, yhat)).tolist() == [True] * 5 + [False]
    assert np.isnan(scoring.r2(y, yhat)).tolist() == [True, True, True, False, True, False]
    weights = np.full((2, 40), 1 / 40)
    assert np.isnan(scoring.weighted_correlation(y, yhat, weights)[:, 1:5]).all()
    for of in ("r2", "r"):
        shares = scoring.product_shares(y, np.stack([yhat, yhat]), of=of)
        assert np.isnan(shares[:, [0, 1, 2, 4]]).all()
        assert np.isfinite(shares[:, 5]).all()


def test_one_stimulus_has_no_score() -> None:
    assert np.isnan(scoring.correlation(np.ones((1, 2)), np.ones((1, 2)))).all()


def bands(n: int = 60, n_voxels: int = 8):
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((3, n, n_voxels)) * np.array([1, 0.5, 0.1])[:, None, None]
    y = parts.sum(0) + rng.standard_normal((n, n_voxels))
    return y - y.mean(0), parts - parts.mean(1, keepdims=True)


def test_product_shares_are_himalayas() -> None:
    y, parts = bands()
    np.testing.assert_allclose(scoring.product_shares(y, parts), r2_score_split(y, parts), rtol=1e-10)
    np.testing.assert_allclose(scoring.product_shares(y, parts, of="r"), correlation_score_split(y, parts), rtol=1e-10)


def test_product_shares_sum_to_the_joint_score() -> None:
    y, parts = bands()
    joint = parts.sum(0)
    np.testing.assert_allclose(scoring.product_shares(y, parts).sum(0), scoring.r2(y, joint), rtol=1e-10)
    np.testing.assert_allclose(
        scoring.product_shares(y + 4, parts - 3, of="r").sum(0), scoring.correlation(y, joint), rtol=1e-10
    )


def test_a_negative_share_is_kept() -> None:
    y, parts = bands()
    against = np.stack([parts[0], -0.5 * parts[0]])
    assert (scoring.product_shares(y, against)[1] < 0).all()


def test_parts_of_another_shape_are_an_alignment_error() -> None:
    y, parts = bands()
    with pytest.raises(AlignmentError, match="expected \\(n_bands, 60, 8\\)"):
        scoring.product_shares(y, parts[:, 1:])
    with pytest.raises(AlignmentError):
        scoring.correlation(y, y[1:])


@pytest.mark.parametrize("ceiling", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_the_noise_ceiling_recovers_the_planted_one(ceiling: float, unequal: bool, k: int) -> None:
    rng = np.random.default_rng(0)
    n_stimuli, n_voxels = 800, 300
    noise_variance = 1.7
    signal_variance = ceiling * noise_variance / (1 - ceiling)
    signal = np.sqrt(signal_variance) * rng.standard_normal((n_stimuli, n_voxels))
    repeats = signal + np.sqrt(noise_variance) * rng.standard_normal((4, n_stimuli, n_voxels)) + 10
    if unequal:
        for stimulus, n in enumerate(rng.integers(1, 5, n_stimuli)):
            repeats[n:, stimulus] = np.nan
    expected = signal_variance / (signal_variance + noise_variance / k)
    found = scoring.noise_ceiling(repeats, n_averaged=k)
    assert abs(found.mean() - expected) <= 0.02
    if ceiling == 0:
        assert 0.3 < np.mean(found < 0) < 0.7  # unclipped, so unbiased


def test_the_ceiling_needs_two_stimuli_with_two_repeats_and_something_that_varies() -> None:
    rng = np.random.default_rng(0)
    single = rng.standard_normal((1, 30, 2))
    assert np.isnan(scoring.noise_ceiling(single)).all()
    repeats = rng.standard_normal((3, 30, 3))
    repeats[..., 0], repeats[..., 1] = 4.0, np.nan
    assert np.isnan(scoring.noise_ceiling(repeats)).tolist() == [True, True, False]


def test_a_normalised_score_can_exceed_1_and_is_nan_without_a_ceiling() -> None:
    score, ceiling = np.array([0.4, 0.4, 0.4, np.nan]), np.array([0.16, 0.0, -0.1, 0.5])
    np.testing.assert_allclose(scoring.normalised_score(score, ceiling), [2.5, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(scoring.normalised_score(score, ceiling, of="r")[0], 1.0)


def test_a_weighted_correlation_is_that_of_the_repeated_rows() -> None:
    y, yhat = pair()
    rows = np.random.default_rng(0).integers(40, size=(5, 40))
    counts = np.stack([np.bincount(r, minlength=40) for r in rows]) / 40
    expected = np.stack([scoring.correlation(y[r], yhat[r]) for r in rows])
    np.testing.assert_allclose(scoring.weighted_correlation(y, yhat, counts), expected, atol=1e-5)


# Shares of refitted models


def by_subset(n_bands: int, seed: int = 0) -> dict[tuple[str, ...], np.ndarray]:
    """R² of least squares on every subset of correlated bands, in sample, by scikit-learn."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((80, 3))
    bands = {name: common + rng.standard_normal((80, 3)) for name in "abcd"[:n_bands]}
    y = common @ rng.standard_normal((3, 5)) + rng.standard_normal((80, 5))
    found = {}
    for k in range(1, n_bands + 1):
        for some in combinations(bands, k):
            x = np.hstack([bands[name] for name in some])
            found[some] = r2_score(y, LinearRegression().fit(x, y).predict(x), multioutput="raw_values")
    return found


@pytest.mark.parametrize("n_bands", [1, 2, 3, 4])
def test_shares_of_refitted_models_add_up(n_bands: int) -> None:
    r2 = by_subset(n_bands)
    full = r2[tuple("abcd"[:n_bands])]
    common, shapley = scoring.commonality(r2), scoring.shapley_shares(r2)
    assert len(common) == 2**n_bands - 1
    np.testing.assert_allclose(sum(common.values()), full, atol=1e-12)
    np.testing.assert_allclose(shapley.sum(0), full, atol=1e-12)
    unique = scoring.unique_shares(r2)
    np.testing.assert_allclose(unique, np.stack([common[name,] for name in "abcd"[:n_bands]]), atol=1e-12)
    # What a set explains in common is shared equally by its bands.
    each = [sum(value / len(some) for some, value in common.items() if name in some) for name in "abcd"[:n_bands]]
    np.testing.assert_allclose(shapley, np.stack(each), atol=1e-12)


def test_shapley_shares_are_the_mean_over_all_orders() -> None:
    r2 = {frozenset(some): value for some, value in by_subset(4).items()} | {frozenset(): np.zeros(5)}
    added = {name: [] for name in "abcd"}
    for order in permutations("abcd"):
        for i, name in enumerate(order):
            added[name].append(r2[frozenset(order[: i + 1])] - r2[frozenset(order[:i])])
    expected = np.stack([np.mean(values, axis=0) for values in added.values()])
    np.testing.assert_allclose(scoring.shapley_shares(by_subset(4)), expected, atol=1e-12)


def test_a_suppressor_has_a_unique_share_above_its_own_r2_and_a_negative_common_one() -> None:
    r2 = {("a",): np.array([0.3]), ("b",): np.array([0.0]), ("a", "b"): np.array([0.5])}
    np.testing.assert_allclose(scoring.unique_shares(r2)[:, 0], [0.5, 0.2])
    np.testing.assert_allclose(scoring.commonality(r2)["a", "b"], -0.2)
    np.testing.assert_allclose(scoring.shapley_shares(r2)[:, 0], [0.4, 0.1])


@pytest.mark.parametrize("share", [scoring.unique_shares, scoring.commonality, scoring.shapley_shares])
def test_models_that_do_not_belong_together_are_an_input_error(share) -> None:
    with pytest.raises(InputError, match="is empty"):
        share({})
    with pytest.raises(InputError, match="lacks the model of b"):
        share({("a",): np.zeros(2), ("a", "b"): np.ones(2)})
    with pytest.raises(InputError, match="same bands"):
        share({("a", "b"): np.zeros(2), ("b", "a"): np.ones(2)})
    with pytest.raises(InputError, match="No model has all bands: c missing"):
        share({("a", "b"): np.zeros(2), ("a", "c"): np.ones(2)})
    with pytest.raises(AlignmentError, match="one shape"):
        share({("a",): np.zeros(2), ("b",): np.zeros(3), ("a", "b"): np.ones(2)})


def test_an_undefined_model_leaves_the_share_undefined() -> None:
    r2 = {("a",): np.array([np.nan, 0.1]), ("b",): np.array([0.2, 0.2]), ("a", "b"): np.array([0.4, 0.4])}
    np.testing.assert_allclose(scoring.unique_shares(r2), [[0.2, 0.2], [np.nan, 0.3]])


# R² corrected for width


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_bands_of_any_width_that_explain_as_much_have_the_same_corrected_r2(decay: float) -> None:
    """Of R² with all its offsets. Population R² .2; 50 to 1,000 columns; observed R² falls to less than a fifth."""
    rng = np.random.default_rng(0)
    observed, corrected, aligned = {}, {}, {}
    for width in (50, 300, 1000):
        x = rng.standard_normal((900, width)) / np.sqrt(1 + np.arange(width)) ** decay
        signal = x @ rng.standard_normal((width, 400))
        y = signal / signal.std(0) + 2 * rng.standard_normal((900, 400))
        centred = (x - x[:600].mean(0)) / np.sqrt(((x[:600] - x[:600].mean(0)) ** 2).sum(1).mean())
        gram, across = centred[:600] @ centred[:600].T, centred[600:] @ centred[:600].T
        chosen = np.median(BandedRidge(selection="gcv").fit_gram({"x": gram}, y[:600]).alphas_)
        model = BandedRidge(alphas=[chosen]).fit_gram({"x": gram}, y[:600])
        score = scoring.r2(y[600:], model.predict_gram({"x": across})[0] + model.intercept_)
        observed[width], corrected[width] = (
            score.mean(),
            scoring.corrected_r2(score, gram, across, model.alphas_).mean(),
        )
        first, others = scoring.alignment(y[:600], gram).mean(1)
        aligned[width] = others / first
    assert observed[1000] < (0.6 if decay else 0.3) * observed[50]
    for width, value in corrected.items():
        assert value == pytest.approx(0.2, abs=0.03), (width, corrected)
        assert 0.6 < aligned[width] < 1.6, (width, aligned)


def test_a_signal_that_does_not_lie_along_the_spectrum_is_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 300)) / np.sqrt(1 + np.arange(300))
    small = x[:, 150:] @ rng.standard_normal((150, 300))
    large = x[:, :5] @ rng.standard_normal((5, 300))
    gram = (x - x.mean(0)) @ (x - x.mean(0)).T
    ratio = []
    for signal in (small, large):
        y = signal / signal.std(0) + rng.standard_normal((600, 300))
        first, others = scoring.alignment(y, gram).mean(1)
        ratio.append(others / first)
    assert ratio[0] > 3
    assert ratio[1] < 0.5


def test_a_voxel_without_a_penalty_has_no_corrected_r2() -> None:
    found = scoring.corrected_r2(np.array([0.1, 0.1]), np.eye(4), np.eye(4), np.array([1.0, np.nan]))
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


# Ceilings


@pytest.mark.parametrize("r", [0.0, 0.2, 0.5, 0.8])
def test_the_interval_of_the_ceiling_covers_the_planted_one(r: float) -> None:
    """Three repeats of 120 stimuli; r is that of a single trial with the truth, the ceiling of three averaged."""
    rng = np.random.default_rng(int(r * 10))
    signal = r * rng.standard_normal((120, 1500))
    repeats = signal + np.sqrt(1 - r**2) * rng.standard_normal((3, 120, 1500))
    planted = r**2 / (r**2 + (1 - r**2) / 3)
    low, high = scoring.noise_ceiling_ci(repeats, n_averaged=3)
    assert scoring.noise_ceiling(repeats, n_averaged=3).mean() == pytest.approx(planted, abs=0.02)
    covered = ((low <= planted) & (planted <= high)).mean()
    assert 0.92 <= covered <= 0.98, covered


def test_ncsnr_gives_the_ceiling_where_responses_have_variance_1() -> None:
    rng = np.random.default_rng(0)
    repeats = 0.6 * rng.standard_normal((1, 2000, 30)) + 0.8 * rng.standard_normal((3, 2000, 30))
    snr = scoring.ncsnr(repeats)
    np.testing.assert_allclose(snr, 0.75, atol=0.06)
    ceiling = snr**2 / (snr**2 + 1 / 3)
    np.testing.assert_allclose(ceiling, scoring.noise_ceiling(repeats, n_averaged=3), atol=0.04)


def test_ncsnr_of_equal_repeats_is_the_published_formula_and_missing_ones_are_left_out() -> None:
    rng = np.random.default_rng(0)
    repeats = rng.standard_normal((3, 50, 4)) * 0.7
    v = np.sqrt(repeats.var(0, ddof=1).mean(0))
    np.testing.assert_allclose(scoring.ncsnr(repeats), np.sqrt(np.maximum(0, 1 - v**2)) / v)
    more = np.concatenate([repeats, np.full((3, 9, 4), np.nan)], axis=1)
    more[0, 50:] = 5.0
    np.testing.assert_allclose(scoring.ncsnr(more), scoring.ncsnr(repeats))
    assert np.isnan(scoring.ncsnr(repeats[:1])).all()


def test_a_ceiling_of_more_trials_than_were_seen_is_never_above_1_by_noise() -> None:
    repeats = np.random.default_rng(0).standard_normal((2, 50, 400))
    ceiling = scoring.noise_ceiling(repeats, n_averaged=10)
    assert ceiling.max() <= 1
    low, high = scoring.noise_ceiling_ci(repeats, n_averaged=10)
    assert not np.isnan(low).any()
    assert (high >= ceiling).all()
    assert np.isnan(scoring.normalised_score(np.full(400, 0.1), ceiling)[ceiling <= 0]).all()


def test_a_voxel_that_is_not_valid_is_nan_in_halves_alone() -> None:
    repeats = np.random.default_rng(0).standard_normal((4, 30, 5))
    repeats[:, :, 2] = np.nan
    assert np.isnan(scoring.split_half(repeats, seed=0)).tolist() == [False, False, True, False, False]


def test_split_halves_correlate_as_planted() -> None:
    rng = np.random.default_rng(0)
    repeats = rng.standard_normal((1, 1500, 20)) + rng.standard_normal((4, 1500, 20))
    repeats[2:, ::3] = np.nan
    expected = np.mean([1 / (1 + 1)] * 1 + [1 / (1 + 0.5)] * 2)
    np.testing.assert_allclose(scoring.split_half(repeats, seed=0).mean(), expected, atol=0.04)
    np.testing.assert_array_equal(scoring.split_half(repeats, seed=3), scoring.split_half(repeats, seed=3))
    assert np.isnan(scoring.split_half(repeats[:1], seed=0)).all()


@pytest.mark.parametrize(("n_stimuli", "n_repeats"), [(4, 2), (10, 3), (11, 4)])
@pytest.mark.parametrize("ceiling", [0.0, 0.2, 0.5, 0.9])
def test_the_ceiling_of_no_more_trials_than_were_seen_is_unbiased_at_few_stimuli(
    n_stimuli: int, n_repeats: int, ceiling: float
) -> None:
    """At 10 stimuli, 3 repeats and a ceiling of .2 of single trials, the ratio of variances gives .18; it gave .27."""
    rng = np.random.default_rng(n_stimuli)
    signal = np.sqrt(ceiling / (1 - ceiling)) * rng.standard_normal((n_stimuli, 40000))
    repeats = signal + rng.standard_normal((n_repeats, n_stimuli, 40000))
    for n_averaged in (1, 1.5):
        planted = ceiling / (ceiling + (1 - ceiling) / n_averaged)
        estimates = scoring.noise_ceiling(repeats, n_averaged=n_averaged)
        error = estimates.std() / np.sqrt(len(estimates))
        assert abs(estimates.mean() - planted) < 4 * error < 0.03, (n_averaged, estimates.mean(), planted)


@pytest.mark.parametrize("between", [2, 3, 9, 99])
@pytest.mark.parametrize("z", [0.1, 0.9, 1.1, 5.0])
def test_what_makes_the_ceiling_unbiased_is_scipys_integral_of_the_beta_distribution(between: int, z: float) -> None:
    for within in (3, between + 1, 3 * (between + 1)):
        power, slow = between / 2 - 1, within / 2 - 1

        def integrand(s: float, power: float = power, slow: float = slow) -> float:
            return slow * (1 - s) ** (slow - 1) * (1 - z * s) ** power if z * s < 1 else 0.0

        expected = integrate.quad(integrand, 0, min(1, 1 / z), limit=200, epsabs=1e-12)[0]
        known = reliability._unbiased(np.array([z]), np.array([float(between)]), np.array([float(within)]))
        assert known[0] == pytest.approx(expected, abs=1e-6), within


def test_a_voxel_with_an_infinite_trial_or_none_that_varies_has_no_ceiling_and_spoils_no_other() -> None:
    rng = np.random.default_rng(0)
    repeats = rng.standard_normal((1, 40, 4)) + rng.standard_normal((3, 40, 4))
    repeats /= repeats.std((0, 1))
    expected = {name: function(repeats) for name, function in CEILINGS.items()}
    repeats[1, 3, 0], repeats[2, 5, 1], repeats[..., 2] = np.inf, -np.inf, 0.1
    for name, function in CEILINGS.items():
        for values, good in zip(np.atleast_2d(function(repeats)), np.atleast_2d(expected[name]), strict=True):
            assert np.isnan(values[:3]).all(), name
            assert values[3] == good[3]


CEILINGS = {
    "noise_ceiling": scoring.noise_ceiling,
    "noise_ceiling_ci": scoring.noise_ceiling_ci,
    "ncsnr": scoring.ncsnr,
    "split_half": lambda repeats: scoring.split_half(repeats, seed=0),
}


def test_ncsnr_refuses_responses_that_are_no_z_scores() -> None:
    rng = np.random.default_rng(0)
    repeats = rng.standard_normal((1, 40, 5)) + rng.standard_normal((3, 40, 5))
    for factor in (300, 1 / 300):
        with pytest.raises(InputError, match="ncsnr expects 1, of z-scores within sessions"):
            scoring.ncsnr(repeats * factor)


def test_a_score_over_an_unusable_ceiling_is_nan() -> None:
    ceiling = np.array([np.inf, -np.inf, np.nan, 0.5])
    np.testing.assert_array_equal(scoring.normalised_score(np.full(4, 0.1), ceiling), [np.nan, np.nan, np.nan, 0.2])


def test_a_constant_voxel_has_no_draws_of_a_score() -> None:
    """.1 is no sum of powers of two: what its mean leaves of it varies."""
    y, yhat = pair(n_voxels=2)
    y[:, 0] = 0.1
    weights = np.random.default_rng(0).dirichlet(np.ones(40), 3)
    for values in (
        scoring.weighted_correlation(y, yhat, weights),
        scoring.weighted_correlation(yhat, y, weights),
        scoring.weighted_r2(y, yhat, weights),
        scoring.weighted_product_shares(y, yhat[None], weights)[0],
    ):
        assert np.isnan(values[:, 0]).all()
        assert np.isfinite(values[:, 1]).all()


def test_weights_that_are_no_weights_are_refused() -> None:
    y, yhat = pair()
    for weights in (np.ones((2, 40)), np.full((2, 40), np.nan), np.eye(40) * 2 - np.roll(np.eye(40), 1, axis=1)):
        with pytest.raises(InputError, match="weights"):
            scoring.weighted_correlation(y, yhat, weights)


def test_a_band_of_few_columns_has_the_same_alignment_whatever_the_order_of_stimuli() -> None:
    """Directions in which the band is 0 are all alike, and a decomposition gives any of them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 3))
    order, expected = rng.permutation(40), None
    for rows in (np.arange(40), order):
        centred = x[rows] - x.mean(0)
        values = scoring.alignment(y[rows], centred @ centred.T)
        expected = values if expected is None else expected
    np.testing.assert_allclose(values, expected, rtol=1e-8)
