"""How much of the responses any model could explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import special, stats

from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    arrays,
    check_axes,
    check_finite,
    finite_number,
    random_for,
    whole_number,
)
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.scoring.accuracy import correlation

N_NODES: Final = 64
"""Of the quadrature of the unbiased ceiling; its error is below 1e-6."""
MAX_OFF: Final = 4
"""How many times larger or smaller than 1 the variance of z-scores may be, over the stimuli at hand."""


@dataclass(frozen=True, eq=False)
class _Noise:
    """What the repeats of each stimulus say; every array is (n_stimuli, n_voxels), 0 where it is not known.

    Parameters
    ----------
    repeated : ndarray of bool
        Stimuli of two trials or more, whose noise can be told.
    n : ndarray
        Trials.
    mean : ndarray
        Over the trials of a repeated stimulus, less that over all of these.
    squared_error : ndarray
        Of that mean: the variance over trials, divided by their number.
    of_scored : ndarray
        The noise variance of the responses that are scored, also of those that were shown once.
    averaged : ndarray of shape (n_stimuli,)
        Trials that are averaged in these.
    """

    repeated: BoolArray
    n: FloatArray
    mean: FloatArray
    squared_error: FloatArray
    of_scored: FloatArray
    averaged: FloatArray

    @classmethod
    def of(cls, repeats: FloatArray, n_averaged: float | FloatArray) -> _Noise:
        n, mean, within = _by_stimulus(repeats)
        averaged = _averaged(n_averaged, len(n))
        repeated, degrees = n >= 2, np.maximum(n - 1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_trial = np.where(repeated, within / degrees, within.sum(0) / degrees.sum(0))
            squared_error = np.where(repeated, of_trial / n, 0)
            of_scored = np.where(n > 0, of_trial / averaged[:, None], 0)
            centre = np.where(repeated, mean, 0).sum(0) / repeated.sum(0)
        return cls(repeated, n, np.where(repeated, mean - centre, 0), squared_error, of_scored, averaged)

    @property
    def defined(self) -> BoolArray:
        """Which voxels have a ceiling, (n_voxels,)."""
        degrees = np.maximum(self.n - 1, 0).sum(0)
        return np.asarray((self.repeated.sum(0) >= 2) & (degrees >= 3) & (np.abs(self.mean).max(0) > 0))

    @property
    def times(self) -> FloatArray:
        """The noise of what is scored, in units of that of the means of repeated stimuli, (n_voxels,)."""
        seen, repeated = self.n > 0, self.repeated
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = (self.of_scored.sum(0) / seen.sum(0)) / (self.squared_error.sum(0) / repeated.sum(0))
            inverse = np.where(repeated, 1 / self.n, 0).sum(0) / repeated.sum(0)
            without_noise = float(np.mean(1 / self.averaged)) / inverse
        return np.asarray(np.where(np.isfinite(ratio), ratio, without_noise))


def noise_ceiling(repeats: FloatArray, *, n_averaged: float | FloatArray = 1) -> FloatArray:
    r"""Estimate the fraction of variance that any model could explain.

    The noise of each stimulus's mean is told by its own repeats; the signal variance is what the variance of these
    means has beyond the mean of that. Neither is assumed to be 1, nor the noise to be the same for all stimuli, which
    need not have equally many repeats.

    .. math:: \hat\sigma_s^2 = \mathrm{var}_i(\bar y_i) - \frac{1}{n} \sum_i \frac{s_i^2}{n_i}, \qquad
        c = \frac{\sigma_s^2}{\sigma_s^2 + \frac{1}{n} \sum_i s_i^2 / k_i}

    with :math:`s_i^2` the variance over the :math:`n_i` repeats of stimulus i and :math:`k_i` the trials that are
    averaged in its scored response. Noise that repeats share, as those within one run do, is not seen, and is taken for
    signal.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        Single trials; nan where a stimulus has fewer repeats.
    n_averaged : float or ndarray of shape (n_stimuli,)
        k, over how many trials the scored responses are averaged.

    Returns
    -------
    ndarray of shape (n_voxels,)
        Unclipped, so that it can be below 0 where there is no signal. For Gaussian responses, equal repeats, and four
        stimuli or more, it is unbiased where `n_averaged` is at most the number of repeats (Olkin and Pratt's estimate
        of an intraclass correlation where it is 1), and nearly so for unequal repeats. Above that it is the ratio of
        unbiased variances, which is too low on average, and minus infinity where signal and noise together are
        estimated below 0. Stimuli with one trial tell neither signal nor noise; those that are scored are taken to have
        the noise of the average repeated trial. nan where fewer than two stimuli have two repeats, or these leave fewer
        than three degrees of freedom, where nothing varies, and where a trial is infinite.

    Raises
    ------
    AlignmentError
        If `repeats` has other axes, or `n_averaged` is not one number or one per stimulus.
    InputError
        If `n_averaged` is not above 0.

    References
    ----------
    Olkin and Pratt (1958), doi:10.1214/aoms/1177706717, for unbiased estimates; Allen et al. (2022),
    doi:10.1038/s41593-021-00962-x, for the signal and noise variances.
    """
    noise = _Noise.of(repeats, n_averaged)
    n_repeated, times = noise.repeated.sum(0), noise.times
    with np.errstate(invalid="ignore", divide="ignore"):
        # What a mean's variance would be if all of it were noise, over what it is.
        ratio = noise.squared_error.sum(0) / n_repeated / _variance(noise.mean, noise.repeated)
        ceiling = _ceiling(ratio, n_repeated, times)
        inverse = np.where(noise.repeated, 1 / noise.n, 0)
        # Of a sum of variances, were they equal (Satterthwaite); that of all trials where repeats are as many.
        degrees = inverse.sum(0) ** 2 / np.where(noise.repeated, inverse**2 / (noise.n - 1), 0).sum(0)
    fewer = np.flatnonzero(noise.defined & (times - 1 > 1e-6))
    more, between, within = times[fewer] - 1, n_repeated[fewer] - 1, degrees[fewer]
    noise_share = _unbiased(more * ratio[fewer] * within / between, between, within)
    ceiling[fewer] = noise_share - (1 - noise_share) / more
    return np.asarray(np.where(noise.defined, ceiling, np.nan))


def weighted_ceiling(repeats: FloatArray, weights: FloatArray) -> FloatArray:
    """Estimate the noise ceiling of the mean of all repeats from some of the stimuli, or under other weightings.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        As for `noise_ceiling`.
    weights : ndarray of shape (n_draws, n_stimuli)
        Non-negative, each row summing to 1.

    Returns
    -------
    ndarray of shape (n_draws, n_voxels)
        What `noise_ceiling` with `n_averaged` the number of each stimulus's repeats gives for the stimuli that weigh
        something, where these weigh alike and all are repeated. Unclipped; nan where that of all stimuli is.
    """
    given, w = arrays(repeats=(repeats, "n_repeats n_stimuli n_voxels"), weights=(weights, "n_draws n_stimuli"))
    n_averaged = np.maximum(np.isfinite(given).any(2).sum(0), 1).astype(np.float64)
    noise = _Noise.of(given, n_averaged)
    w = w.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = w @ noise.repeated
        count = total**2 / (w**2 @ noise.repeated)
        variance = (w @ noise.mean**2 / total - (w @ noise.mean / total) ** 2) * count / (count - 1)
        mean_noise = w @ noise.squared_error / total
        times = np.where(mean_noise > 0, w @ noise.of_scored / (w @ (noise.n > 0)) / mean_noise, 1)
        ceiling = _ceiling(mean_noise / variance, count, times)
    return np.asarray(np.where(noise.defined, ceiling, np.nan))


def _ceiling(ratio: FloatArray, n_stimuli: FloatArray | IntArray, times: FloatArray) -> FloatArray:
    """Turn the noise fraction of the variance of means into the ceiling of responses of so many times that noise."""
    # The mean of 1 / F is not 1 / the mean of F: with this factor it is.
    unbiased = ratio * np.maximum(n_stimuli - 3, 1) / (n_stimuli - 1)
    total = 1 + (times - 1) * unbiased
    return np.asarray(np.where(total > 0, (1 - unbiased) / total, -np.inf))


def _averaged(n_averaged: float | FloatArray, n_stimuli: int) -> FloatArray:
    """Return over how many trials the scored response to each stimulus is averaged, (n_stimuli,)."""
    if np.ndim(n_averaged) == 0:
        n_averaged = np.full(n_stimuli, finite_number("n_averaged", n_averaged))
    (given,) = arrays(n_averaged=(n_averaged, "n_stimuli"))
    check_axes("n_averaged", given.shape, "n_stimuli", {"n_stimuli": n_stimuli})
    check_finite("n_averaged", given)
    if not given.min() > 0:
        raise InputError(f"n_averaged must be above 0; got {given.min():g}.")
    return np.asarray(given, dtype=np.float64)


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


def normalised_mean(score: FloatArray, ceiling: FloatArray, *, n_stimuli: int | None = None) -> float:
    r"""Relate the scores of many voxels to what any model could reach there, so that a perfect model has 1.

    .. math:: \frac{\sum_v R^2_v}{\sum_v c_v}, \qquad
        \sqrt{\frac{\sum_v \mathrm{sign}(r_v) \, \widehat{\rho^2_v}}{\sum_v c_v}}

    Sums are of what is linear in the ceiling and has no bias. The mean of r over the square root of the mean ceiling is
    not: a perfect model has .7 of it where half of the voxels are silent.

    Parameters
    ----------
    score, ceiling : ndarray of shape (n_voxels,)
        The ceiling in units of explained variance, unclipped.
    n_stimuli : int, optional
        Of how many stimuli scores are correlations; without it they are R² or shares of it. A squared correlation is
        too large by about 1 / n where nothing is predicted, and is corrected for that.

    Returns
    -------
    float
        Over voxels that have both. Of R², the fraction of the explainable variance that is explained; of r, the root of
        the fraction that predictions would explain if scaled best, with the sign of the sum. Can exceed 1; nan where no
        voxel has both, or their ceilings add up to nothing above 0.

    References
    ----------
    Olkin and Pratt (1958), doi:10.1214/aoms/1177706717, for the squared correlation
    """
    explained, explainable = normalised_sums(score, ceiling, n_stimuli=n_stimuli)
    return normalised_by_sums(explained, explainable, root=n_stimuli is not None)


def normalised_sums(score: FloatArray, ceiling: FloatArray, *, n_stimuli: int | None = None) -> tuple[float, float]:
    """Sum up what `normalised_mean` divides, over voxels that have both; sums of some voxels add up to those of all.

    Parameters are those of `normalised_mean`.

    Returns
    -------
    explained, explainable : float
        Of scores (R², or unbiased squares of r with their sign), and of ceilings.
    """
    score, ceiling = arrays(score=(score, "n_voxels"), ceiling=(ceiling, "n_voxels"))
    both = np.isfinite(score) & np.isfinite(ceiling)
    values, explainable = score[both].astype(np.float64), float(ceiling[both].sum(dtype=np.float64))
    if n_stimuli is None or not both.any():
        return float(values.sum()), explainable
    n, rest = whole_number("n_stimuli", n_stimuli, least=4), 1 - values**2
    return float((np.sign(values) * (1 - (n - 3) / (n - 2) * rest * (1 + 2 * rest / n))).sum()), explainable


def normalised_by_sums(explained: float, explainable: float, *, root: bool) -> float:
    """Divide the `normalised_sums` of all voxels, and take the root where scores were r; see `normalised_mean`."""
    if not explainable > 0:
        return float("nan")
    fraction = explained / explainable
    return float(np.sign(fraction) * np.sqrt(np.abs(fraction))) if root else float(fraction)


def _variance(centred: FloatArray, seen: BoolArray) -> FloatArray:
    """Compute the variance over stimuli of values that are 0 where they are not seen, (n_voxels,)."""
    return np.asarray((centred**2).sum(0) / (seen.sum(0) - 1))


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
        if not 1 / MAX_OFF < middle < MAX_OFF:
            raise InputError(
                f"Responses of the median voxel have a variance of {middle:.3g} over all trials; ncsnr expects 1, of "
                "z-scores within sessions. Z-score them, or use noise_ceiling, which takes any unit."
            )
        noise = within.sum(0) / degrees
        return np.where(degrees > 0, np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise), np.nan)


def noise_ceiling_ci(
    repeats: FloatArray, *, n_averaged: float | FloatArray = 1, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Find an interval of the noise ceiling, by leaving out one stimulus at a time with all its repeats.

    The logarithm of the ratio of the variance of stimulus means to what noise alone would make of it is jackknifed, and
    its interval by Student's t is turned into one of the ceiling.

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        nan where a stimulus has fewer repeats.
    n_averaged : float or ndarray of shape (n_stimuli,)
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
    noise = _Noise.of(repeats, n_averaged)
    seen, times = noise.repeated, noise.times
    sums = [noise.mean, noise.mean**2, noise.squared_error, seen.astype(np.float64)]
    total = [part.sum(0) for part in sums]
    with np.errstate(invalid="ignore", divide="ignore"):
        each = _log_ratio(*(whole - part for whole, part in zip(total, sums, strict=True)))
        ratio = _log_ratio(*total)
        count = seen.sum(0)
        each = np.where(seen, each, 0)
        spread = np.where(seen, (each - each.sum(0) / count) ** 2, 0).sum(0) * (count - 1) / count
        reach = stats.t.ppf((1 + level) / 2, np.maximum(count - 1, 1)) * np.sqrt(spread)
        per_noise = [np.exp(ratio + side * reach) - 1 for side in (-1, 1)]
        ends = [np.where(x > -times, x / (x + times), -np.inf) for x in per_noise]
    low, high = (np.where(noise.defined, end, np.nan) for end in ends)
    return low, high


def _log_ratio(first: FloatArray, second: FloatArray, squared_error: FloatArray, count: FloatArray) -> FloatArray:
    """Compare the variance of stimulus means with what noise makes of it, from sums over stimuli."""
    variance = (second - first**2 / count) / (count - 1)
    return np.asarray(np.log(variance / (squared_error / count)))


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
    measured: BoolArray = np.asarray(np.isfinite(data).any(2))
    repeated = np.flatnonzero(measured.sum(0) >= 2)
    if len(repeated) < 3:
        return np.full(data.shape[2], np.nan)
    r_of_halves = []
    for k in range(n_splits):
        rng = random_for(seed, "halves", k)
        halves = np.empty((2, len(repeated), data.shape[2]))
        for i, stimulus in enumerate(repeated):
            turns = rng.permutation(np.flatnonzero(measured[:, stimulus]))
            half = len(turns) // 2
            halves[0, i], halves[1, i] = data[turns[:half], stimulus].mean(0), data[turns[half:], stimulus].mean(0)
        r_of_halves.append(correlation(halves[0], halves[1]))
    return np.asarray(np.mean(r_of_halves, axis=0))


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
