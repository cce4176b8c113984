"""Whether one model predicts better than another, whichever stimuli both had been fitted to. Arrays in, arrays out.

Flips of held-out stimuli hold the fitted models fixed: they say whether these two predict differently well, and two
bands that are tied differ by the luck of their fit, which any number of held-out stimuli then finds. How much the
difference would vary with other fitted stimuli is told by fits to random halves of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from latentcortex._arrays import FloatArray, IntArray, arrays, labels, numbers, tiles, whole_number
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import one_thread
from latentcortex.inference.resampling import cluster_sums, paired_difference_p, share_p
from latentcortex.scoring._centring import BY_BAND, PAIR

MIN_REFITS: Final = 5
"""Halves of the fitted stimuli that a variance is estimated from."""

MIN_CLUSTERS: Final = 5
"""Held-out stimuli, or clusters of them, that a test needs."""

MAX_FALL: Final = 2**0.5
"""How much higher a score is than after half of the stimuli, at most: r where a fit is nearly all noise."""

Refit = Callable[[int, IntArray], FloatArray]
"""Number of a half, voxels -> predictions (n_models, n_stimuli, n_these_voxels) of the models fitted to that half."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """What is drawn again to learn how sure a comparison of models is, and how often.

    Parameters
    ----------
    n_draws : int
        Bootstrap draws of held-out stimuli.
    n_permutations : int
        Draws of signs, for the tests.
    clusters : sequence of str, optional
        Of each held-out stimulus; stimuli of a cluster are alike, and each is its own by default.
    refits : callable, optional
        ``refits(k, voxels)`` predicts the held-out stimuli, (n_models, n_stimuli, len(voxels)), with the same models
        fitted to the k-th random half of the fitted stimuli, which is one half for all models and voxels. For k = 0, 1,
        and so on it is called once for each stretch of voxels, so that what depends on k alone can be kept meanwhile.
    n_refits : int
        Halves, at least 5.
    """

    n_draws: int = 1000
    n_permutations: int = 4999
    clusters: Sequence[str] | None = None
    refits: Refit | None = None
    n_refits: int = 20

    def __post_init__(self) -> None:
        whole_number("n_draws", self.n_draws, least=1)
        whole_number("n_permutations", self.n_permutations, least=1)
        whole_number("n_refits", self.n_refits, least=MIN_REFITS)

    def codes(self, n_stimuli: int) -> IntArray:
        """Find the number of each held-out stimulus's cluster; raise `InputError` if there are fewer than 5."""
        clusters = range(n_stimuli) if self.clusters is None else self.clusters
        names, code = np.unique(labels("clusters", clusters, n_stimuli), return_inverse=True)
        if len(names) < MIN_CLUSTERS:
            raise InputError(f"{len(names)} held-out stimuli or clusters are too few; needs at least {MIN_CLUSTERS}.")
        return np.asarray(code, dtype=np.intp)

    def refitted(self, k: int, voxels: IntArray, shape: tuple[int, int]) -> FloatArray:
        """Predict from half k; raise `AlignmentError` unless it is (n_models, n_stimuli) = `shape` by voxels."""
        if self.refits is None:
            raise InputError("Nothing is fitted to halves: give refits.")
        again = numbers(f"refit {k}", self.refits(k, voxels))
        if again.shape != (*shape, len(voxels)):
            raise AlignmentError(f"Refit {k} predicts {again.shape}; expected {(*shape, len(voxels))}.")
        return again


@one_thread()
def better_p(
    y: FloatArray,
    yhat: FloatArray,
    pairs: Sequence[tuple[int, int]],
    *,
    two_sided: bool,
    resampling: Resampling | None = None,
    seed: int,
) -> FloatArray:
    r"""Test whether one model predicts better than another, with the variance of fitting where half-fits are given.

    With :math:`d` the difference of the mean squared errors about the means of the held-out stimuli,

    .. math:: t = d / \sqrt{s^2 / n + c^2 v}

    with :math:`s^2` the variance over held-out stimuli (or clusters) of what each adds to d, and v the variance of d
    over half-fits, less the part of it that comes of few held-out stimuli, which is in :math:`s^2` already. Halves of a
    sample vary around their mean as much as the whole varies from sample to sample where a fit is good (the delete-d
    jackknife), and less where it is nearly all noise: c, between 1 and the square root of 2, is how much more both
    models together explain than those of the halves. Degrees of freedom are Welch and Satterthwaite's. p is the larger
    of this t test's and of that by flips of signs (`share_p`, `paired_difference_p`), which is right for few stimuli
    and tails that are not Gaussian. Without refits it is the flips alone, and holds for these fitted models only.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
        Held-out responses.
    yhat : ndarray of shape (n_models, n_stimuli, n_voxels)
    pairs : sequence of (int, int)
        Rows of `yhat`: whether the first predicts better than the second.
    two_sided : bool
        Whether the second may be the better one, too.
    resampling : Resampling, optional
    seed : int

    Returns
    -------
    ndarray of shape (n_pairs, n_voxels)
        In (0, 1]; 1 where the two predictions are the same; nan where a prediction, or that of a half-fit, is not
        finite.

    Raises
    ------
    AlignmentError
        If shapes do not fit together.
    InputError
        If there are fewer than 5 stimuli or clusters.

    References
    ----------
    Shao and Wu (1989), doi:10.1214/aos/1176347263, for halves as a jackknife; Satterthwaite (1946), doi:10.2307/3002019
    """
    y, yhat = arrays(y=(y, PAIR), yhat=(yhat, BY_BAND))
    drawn = resampling or Resampling()
    code, flipped = drawn.codes(len(y)), paired_difference_p if two_sided else share_p
    flips = {"clusters": drawn.clusters, "n_permutations": drawn.n_permutations, "seed": seed}
    p = np.stack([flipped(y, yhat[one], yhat[other], **flips) for one, other in pairs])  # type: ignore[arg-type]
    if drawn.refits is None or not y.shape[1]:
        return p
    halves = _HalfGains.of(y, yhat.shape[:2], pairs, code, drawn)
    for number, (one, other) in enumerate(pairs):
        for tile in tiles(y.shape[1]):
            explained = _explained(y[:, tile], yhat[[one, other]][..., tile])
            gain = cluster_sums(code, explained[0] - explained[1])
            moved = halves.moved(number, tile, explained.mean(1).sum(0))
            t = welch_p(gain.sum(0) / len(y), held_out_variance(gain, len(y)), len(gain), moved, two_sided=two_sided)
            p[number, tile] = np.maximum(p[number, tile], t)
    return p


def welch_p(
    ahead: FloatArray, held_out: FloatArray, n_clusters: int, moved: FloatArray, *, two_sided: bool = True
) -> FloatArray:
    """Test a difference whose variance is that of held-out stimuli plus that of fitting.

    Parameters
    ----------
    ahead, held_out : ndarray of shape (n_voxels,)
        The difference, and its variance over held-out stimuli.
    n_clusters : int
        Held-out stimuli, or clusters of them, behind that variance.
    moved : ndarray of shape (n_refits, n_voxels)
        Deviations by fitting, whose mean square is the variance.
    two_sided : bool

    Returns
    -------
    ndarray of shape (n_voxels,)
        1 where nothing varies and nothing differs.
    """
    fitting = (moved * moved).mean(0)
    variance = held_out + fitting
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = variance**2 / (held_out**2 / (n_clusters - 1) + fitting**2 / (len(moved) - 1))
        t = ahead / np.sqrt(variance)
        p = 2 * stats.t.sf(np.abs(t), freedom) if two_sided else stats.t.sf(t, freedom)
    return np.asarray(np.where((variance == 0) & (ahead == 0), 1.0, p))


def held_out_variance(sums: FloatArray, n_stimuli: int) -> FloatArray:
    """Estimate the variance of a mean over stimuli from its sums over clusters (n_clusters, n), (n,)."""
    n_clusters = len(sums)
    apart = sums - sums.mean(0)
    return np.asarray((apart * apart).sum(0) * n_clusters / (n_clusters - 1) / n_stimuli**2)


def chance_variance(squares: FloatArray, total: FloatArray, n_refits: int, n_stimuli: int) -> FloatArray:
    """Estimate which part of the variance over half-fits comes of few held-out stimuli, (n,).

    Parameters
    ----------
    squares : ndarray of shape (n,)
        Sum over half-fits and clusters of the squares of what each cluster adds.
    total : ndarray of shape (n_clusters, n)
        Sum over half-fits of what each cluster adds.
    n_refits, n_stimuli : int
    """
    n_clusters = len(total)
    apart = (squares - (total.astype(np.float64) ** 2).sum(0) / n_refits) / (n_refits - 1)
    return np.asarray(apart * n_clusters / (n_clusters - 1) / n_stimuli**2)


def _explained(y: FloatArray, yhat: FloatArray) -> FloatArray:
    """Compute by how much predictions lower each stimulus's squared error about the mean, (n_models, n_stimuli, n)."""
    wide = np.asarray(y, dtype=np.float64)
    again = np.asarray(yhat, dtype=np.float64)
    wide, again = wide - wide.mean(0), again - again.mean(1, keepdims=True)
    return np.asarray((2 * wide - again) * again)


@dataclass(frozen=True, eq=False)
class _HalfGains:
    """What half-fits say of several pairs of models.

    Parameters
    ----------
    gains : ndarray of shape (n_pairs, n_refits, n_voxels)
        Differences of the mean squared error.
    chance : ndarray of shape (n_pairs, n_voxels)
        Their variance that comes of few held-out stimuli.
    explained : ndarray of shape (n_pairs, n_voxels)
        What both models of a pair explain together, mean over halves.
    """

    gains: FloatArray
    chance: FloatArray
    explained: FloatArray

    @classmethod
    def of(
        cls,
        y: FloatArray,
        shape: tuple[int, int],
        pairs: Sequence[tuple[int, int]],
        code: IntArray,
        resampling: Resampling,
    ) -> _HalfGains:
        n_stimuli, n_voxels = y.shape
        gains, explained = np.empty((len(pairs), resampling.n_refits, n_voxels)), np.zeros((len(pairs), n_voxels))
        squares = np.zeros((len(pairs), n_voxels))
        total = np.zeros((len(pairs), int(code.max()) + 1, n_voxels), dtype=np.float32)
        for k in range(resampling.n_refits):
            for tile in tiles(n_voxels):
                again = _explained(y[:, tile], resampling.refitted(k, np.arange(n_voxels)[tile], shape))
                mean = again.mean(1)
                for number, (one, other) in enumerate(pairs):
                    gain = cluster_sums(code, again[one] - again[other])
                    gains[number, k, tile] = gain.sum(0) / n_stimuli
                    explained[number, tile] += (mean[one] + mean[other]) / resampling.n_refits
                    squares[number, tile] += (gain * gain).sum(0)
                    total[number, :, tile] += gain
        chance = [chance_variance(*both, resampling.n_refits, n_stimuli) for both in zip(squares, total, strict=True)]
        return cls(gains, np.stack(chance), explained)

    def moved(self, number: int, tile: slice, explained: FloatArray) -> FloatArray:
        """Find deviations by fitting of one pair, (n_refits, n); its models together explain so much."""
        gains = self.gains[number][:, tile]
        return without_chance(gains, self.chance[number, tile]) * fall(explained, self.explained[number, tile])


def without_chance(scores: FloatArray, chance: FloatArray) -> FloatArray:
    """Take the deviations of half-fits' scores (n_refits, n), without the variance that few stimuli gave them."""
    n_refits = len(scores)
    deviation = (scores - scores.mean(0)) * np.sqrt(n_refits / (n_refits - 1))
    return np.asarray(deviation * np.sqrt(kept(deviation, chance)))


def kept(deviation: FloatArray, chance: FloatArray) -> FloatArray:
    """Compute which fraction of the variance of deviations (n_refits, n) is not of few held-out stimuli, (n,)."""
    spread = (deviation**2).mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread == 0, 0, np.clip(1 - chance / spread, 0, 1)))


def fall(whole: FloatArray, halves: FloatArray) -> FloatArray:
    """Compute how much higher a score is than after half of the stimuli, between 1 and `MAX_FALL`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(np.abs(whole) / np.maximum(halves, 0), 1, MAX_FALL))
