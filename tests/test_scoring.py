from __future__ import annotations

import numpy as np
import pytest
from himalaya.scoring import correlation_score_split, r2_score_split
from scipy import stats
from sklearn.metrics import r2_score

from latentcortex import scoring
from latentcortex.errors import AlignmentError


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
