"""How much of the responses any model could explain."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import stats

from latentcortex._arrays import BoolArray, FloatArray, random_for, same_length
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.scoring.accuracy import correlation


def noise_ceiling(repeats: FloatArray, *, n_averaged: float = 1) -> FloatArray:
    r"""Estimate the fraction of variance that any model could explain.

    The noise variance is the mean over stimuli of the variance over repeats, the signal variance is what
    the variance of the stimulus means has beyond its share of noise; neither is assumed to be 1.

    .. math:: c = \sigma_s^2 / (\sigma_s^2 + \sigma_n^2 / k)

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        Single trials; nan where a stimulus has fewer repeats.
    n_averaged : float
        k, over how many trials the scored responses are averaged.

    Returns
    -------
    ndarray of shape (n_voxels,)
        Unclipped, so that it can be below 0 where there is no signal: unbiased for Gaussian responses averaged over
        all of equal repeats, and nearly so otherwise. nan where fewer than two stimuli have two repeats, or where
        nothing varies; minus infinity where signal and noise together are estimated below 0, which needs `n_averaged`
        above the repeats.

    References
    ----------
    Allen et al. (2022), doi:10.1038/s41593-021-00962-x, for the signal and noise variances.
    """
    if not n_averaged > 0:
        raise InputError(f"n_averaged must be above 0; got {n_averaged:g}.")
    n, mean, within = _by_stimulus(repeats)
    seen = (n > 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = within.sum(0) / np.maximum(n - 1, 0).sum(0)
        # The mean of 1 / F is not 1 / the mean of F: with this factor it is, and the ceiling is unbiased.
        spread = _variance_over_stimuli(mean) * (seen - 1) / np.maximum(seen - 3, 1)
        noise_of_means = noise * np.where(n > 0, 1 / np.maximum(n, 1), 0).sum(0) / seen
        signal = spread - noise_of_means
        total = signal + noise / n_averaged
        ceiling = np.where(total > 0, signal / total, -np.inf)
    enough = ((n >= 2).sum(0) >= 2) & (seen >= 2) & (spread > 0)
    return np.asarray(np.where(enough, ceiling, np.nan))


def normalised_score(score: FloatArray, ceiling: FloatArray, *, of: Literal["r2", "r"] = "r2") -> FloatArray:
    """Divide a score by its noise ceiling (r by the ceiling's square root).

    Parameters
    ----------
    score, ceiling : ndarray of shape (n_voxels,)
        The ceiling in units of explained variance.
    of : {"r2", "r"}

    Returns
    -------
    ndarray of shape (n_voxels,)
        Can exceed 1; nan where the ceiling is not above 0.
    """
    same_length(score=score, ceiling=ceiling)
    if of not in ("r2", "r"):
        raise unknown("score", of, ("r2", "r"))
    usable = np.where(ceiling > 0, ceiling, np.nan)
    return np.asarray(score / (usable if of == "r2" else np.sqrt(usable)))


def _variance_over_stimuli(mean: FloatArray) -> FloatArray:
    seen = np.isfinite(mean)
    n = np.maximum(seen.sum(0), 1)
    centre = np.where(seen, mean, 0).sum(0) / n
    squares = np.where(seen, (mean - centre) ** 2, 0).sum(0)
    return np.asarray(squares / np.maximum(n - 1, 1))


def ncsnr(repeats: FloatArray) -> FloatArray:
    r"""Compute the noise ceiling signal-to-noise ratio of responses that are z-scored within sessions.

    .. math:: \mathrm{ncsnr} = \sqrt{\max(0, 1 - \sigma_n^2)} / \sigma_n

    where :math:`\sigma_n^2` is the mean over stimuli of the variance over their repeats; the total variance is 1, since
    responses were z-scored. `noise_ceiling` estimates it instead.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        Single trials in units of z-scores; nan where a stimulus has fewer repeats. Stimuli weigh by their degrees of
        freedom: where all have the same number of repeats, equally.

    Returns
    -------
    ndarray of shape (n_voxels,)
        At least 0; infinite where repeats do not differ; nan where no stimulus was repeated.

    References
    ----------
    Allen et al. (2022), doi:10.1038/s41593-021-00962-x
    """
    n, _, within = _by_stimulus(repeats)
    degrees = np.maximum(n - 1, 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = within.sum(0) / degrees
        return np.where(degrees > 0, np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise), np.nan)


def noise_ceiling_ci(
    repeats: FloatArray, *, n_averaged: float = 1, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Find an interval of the noise ceiling, by leaving out one stimulus at a time with all its repeats.

    The logarithm of the ratio of the variance of stimulus means to what noise alone would make of it is jackknifed, and
    its interval by Student's t is turned into one of the ceiling.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        nan where a stimulus has fewer repeats.
    n_averaged : float
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : ndarray of shape (n_voxels,)
        Unclipped, like the ceiling, and possibly minus infinity; nan where that is.

    References
    ----------
    Arvesen and Schmitz (1970), doi:10.2307/2529107, for the jackknife of the logarithm
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level:g}.")
    n, mean, within = _by_stimulus(repeats)
    seen = n > 0
    mean = np.where(seen, mean, 0)
    inverse = np.where(seen, 1 / np.maximum(n, 1), 0)
    centred = np.where(seen, mean - mean.sum(0) / np.maximum(seen.sum(0), 1), 0)
    own = [centred, centred**2, within, np.maximum(n - 1, 0), inverse, seen.astype(np.float64)]
    total = [part.sum(0) for part in own]
    with np.errstate(invalid="ignore", divide="ignore"):
        each = _log_ratio(*(whole - part for whole, part in zip(total, own, strict=True)))
        ratio = _log_ratio(*total)
        count = seen.sum(0)
        each = np.where(seen, each, 0)
        spread = np.where(seen, (each - each.sum(0) / count) ** 2, 0).sum(0) * (count - 1) / count
        reach = stats.t.ppf((1 + level) / 2, np.maximum(count - 1, 1)) * np.sqrt(spread)
        per_noise = [(np.exp(ratio + side * reach) - 1) * total[4] / total[5] for side in (-1, 1)]
        ends = [np.where(x > -1 / n_averaged, x / (x + 1 / n_averaged), -np.inf) for x in per_noise]
    defined = ~np.isnan(noise_ceiling(repeats, n_averaged=n_averaged))
    low, high = (np.where(defined, end, np.nan) for end in ends)
    return low, high


def _log_ratio(
    first: FloatArray,
    second: FloatArray,
    within: FloatArray,
    degrees: FloatArray,
    inverse: FloatArray,
    count: FloatArray,
) -> FloatArray:
    """Compare the variance of stimulus means with what noise makes of it, from sums over stimuli."""
    variance = (second - first**2 / count) / (count - 1)
    return np.asarray(np.log(variance / (within / degrees * inverse / count)))


def split_half(repeats: FloatArray, *, seed: int, n_splits: int = 20) -> FloatArray:
    """Correlate the means of two halves of each stimulus's repeats, averaged over random halvings.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        nan where a stimulus has fewer repeats; stimuli with one are left out.
    seed : int
        For the halvings.
    n_splits : int

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [-1, 1], of half of the repeats (Spearman and Brown's formula is not applied); nan where fewer than three
        stimuli were repeated.
    """
    data = np.asarray(repeats, dtype=np.float64)
    there: BoolArray = np.asarray(np.isfinite(data).any(2))
    repeated = np.flatnonzero(there.sum(0) >= 2)
    if len(repeated) < 3:
        return np.full(data.shape[2], np.nan)
    found = []
    for k in range(n_splits):
        rng = random_for(seed, "halves", k)
        halves = np.empty((2, len(repeated), data.shape[2]))
        for i, stimulus in enumerate(repeated):
            turns = rng.permutation(np.flatnonzero(there[:, stimulus]))
            half = len(turns) // 2
            halves[0, i], halves[1, i] = data[turns[:half], stimulus].mean(0), data[turns[half:], stimulus].mean(0)
        found.append(correlation(halves[0], halves[1]))
    return np.asarray(np.mean(found, axis=0))


def _by_stimulus(repeats: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Count the repeats of each stimulus, average them (nan for none), and sum their squared distances from that.

    Returns
    -------
    n, mean, within : ndarray of float64, shape (n_stimuli, n_voxels)
    """
    data = np.asarray(repeats, dtype=np.float64)
    if data.ndim != 3:
        raise AlignmentError(f"repeats is {data.shape}; expected (n_repeats, n_stimuli, n_voxels).")
    n = np.isfinite(data).sum(0).astype(np.float64)
    mean = np.where(n > 0, np.nansum(data, axis=0) / np.maximum(n, 1), np.nan)
    return n, mean, np.nansum((data - mean) ** 2, axis=0)
