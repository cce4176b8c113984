"""How much of the responses any model could explain."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from scipy import special, stats

from latentcortex._arrays import BoolArray, FloatArray, arrays, finite_number, random_for, whole_number
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.scoring.accuracy import correlation

N_NODES: Final = 64
"""Of the quadrature of the unbiased ceiling; its error is below 1e-6."""
MOST_OFF: Final = 4
"""How many times larger or smaller than 1 the variance of z-scores may be, over the stimuli at hand."""


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
        Unclipped, so that it can be below 0 where there is no signal. For Gaussian responses, equal repeats, and four
        stimuli or more, it is unbiased where `n_averaged` is at most the number of repeats (Olkin and Pratt's estimate
        of an intraclass correlation where it is 1), and nearly so for unequal repeats. Above that it is the ratio of
        unbiased variances, which is too low on average, and minus infinity where signal and noise together are
        estimated below 0. nan where fewer than two stimuli have two repeats, or these leave fewer than three degrees
        of freedom, where nothing varies, and where a trial is infinite.

    Raises
    ------
    AlignmentError
        If `repeats` has other axes.
    InputError
        If `n_averaged` is not above 0.

    References
    ----------
    Olkin and Pratt (1958), doi:10.1214/aoms/1177706717, for unbiased estimates; Allen et al. (2022),
    doi:10.1038/s41593-021-00962-x, for the signal and noise variances.
    """
    _check_averaged(n_averaged)
    n, mean, within = _by_stimulus(repeats)
    seen, degrees = (n > 0).sum(0), np.maximum(n - 1, 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        k = seen / np.where(n > 0, 1 / np.maximum(n, 1), 0).sum(0)
        noise, spread = within.sum(0) / degrees, _variance_over_stimuli(mean)
        # What a mean's variance would be if all of it were noise, over what it is.
        ratio = noise / k / spread
        # The mean of 1 / F is not 1 / the mean of F: with this factor it is.
        unbiased = ratio * np.maximum(seen - 3, 1) / (seen - 1)
        total = 1 + (k / n_averaged - 1) * unbiased
        ceiling = np.where(total > 0, (1 - unbiased) / total, -np.inf)
    enough = ((n >= 2).sum(0) >= 2) & (degrees >= 3) & (spread > 0)
    fewer = np.flatnonzero(enough & (k / n_averaged - 1 > 1e-6))
    more = k[fewer] / n_averaged - 1
    noise_share = _unbiased(more * ratio[fewer] * degrees[fewer] / (seen[fewer] - 1), seen[fewer] - 1, degrees[fewer])
    ceiling[fewer] = noise_share - (1 - noise_share) / more
    return np.asarray(np.where(enough, ceiling, np.nan))


def _check_averaged(n_averaged: float) -> None:
    if not finite_number("n_averaged", n_averaged) > 0:
        raise InputError(f"n_averaged must be above 0; got {n_averaged:g}.")


def _unbiased(z: FloatArray, between: FloatArray, within: FloatArray) -> FloatArray:
    r"""Estimate 1 / (1 + q theta) without bias, from z = q W and the degrees of freedom a and b of its parts.

    W, a ratio of sums of squares, is theta times a ratio of independent chi-squares with b and a degrees of freedom.

    .. math:: E (1 - z S)_+^{a/2 - 1} = {}_2F_1(1, 1 - a/2; b/2; z), \qquad S \sim \mathrm{Beta}(1, b/2 - 1)

    (the right side where z is at most 1), by Laguerre's quadrature of -log of the factor that falls to 0 first.
    """
    slow, fast = within / 2 - 1, between / 2 - 1
    below, scale = z <= 1, np.maximum(z, 1)
    own, other = np.where(below, slow, fast + 1), np.where(below, fast, slow - 1)
    share = np.where(below, z, 1 / scale)
    rate = own + np.maximum(other, 0) * share
    total = np.zeros(len(z))
    for node, weight in zip(*special.roots_laguerre(N_NODES), strict=True):
        t = node / rate
        total += weight * np.exp(node - own * t + special.xlog1py(other, share * np.expm1(-t)))
    return np.asarray(total * slow / (rate * scale))


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
        Can exceed 1; nan where the ceiling is not finite and above 0.
    """
    score, ceiling = arrays(score=(score, "n_voxels"), ceiling=(ceiling, "n_voxels"))
    if of not in ("r2", "r"):
        raise unknown("score", of, ("r2", "r"))
    usable = np.where((ceiling > 0) & np.isfinite(ceiling), ceiling, np.nan)
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
        At least 0; infinite where repeats do not differ; nan where no stimulus was repeated, nothing varies, or a trial
        is infinite.

    Raises
    ------
    InputError
        If the median voxel's variance over all trials is not within a factor of 4 of 1: these are no z-scores.

    References
    ----------
    Allen et al. (2022), doi:10.1038/s41593-021-00962-x
    """
    n, mean, within = _by_stimulus(repeats)
    degrees, n_trials = np.maximum(n - 1, 0).sum(0), n.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.nansum(n * mean, axis=0) / n_trials
        total = (within + np.where(n > 0, n * (mean - centre) ** 2, 0)).sum(0) / (n_trials - 1)
        middle = float(np.median(total[degrees > 0])) if (degrees > 0).any() else 1.0
        if not 1 / MOST_OFF < middle < MOST_OFF:
            raise InputError(
                f"Responses of the median voxel have a variance of {middle:.3g} over all trials; ncsnr expects 1, of "
                "z-scores within sessions. Z-score them, or use noise_ceiling, which takes any unit."
            )
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
    _check_averaged(n_averaged)
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
    whole_number("n_splits", n_splits, least=1)
    data = _usable(repeats)
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
    data = _usable(repeats)
    n = np.isfinite(data).sum(0).astype(np.float64)
    mean = np.where(n > 0, np.nansum(data, axis=0) / np.maximum(n, 1), np.nan)
    return n, mean, np.nansum((data - mean) ** 2, axis=0)


def _usable(repeats: FloatArray) -> FloatArray:
    """Return repeats in float64; a voxel with an infinite trial, or that is constant up to rounding, is nan in all."""
    (given,) = arrays(repeats=(repeats, "n_repeats n_stimuli n_voxels"))
    data = np.asarray(given, dtype=np.float64)
    low, high = (end.reduce(end.reduce(data)) for end in (np.fmin, np.fmax))
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(low), np.abs(high))
        usable = np.isfinite(size) & (high - low > 1e-7 * size)
    return np.where(usable, data, np.nan)
