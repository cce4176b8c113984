"""Intervals by resampling stimuli, and paired tests over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from latentcortex._arrays import (
    FloatArray,
    IntArray,
    in_threads,
    random_for,
    refuse_beyond_memory,
    same_length,
    tiles,
    whole_number,
)
from latentcortex.errors import AlignmentError, InputError


def bootstrap_rows(n_rows: int, *, n_draws: int, seed: int) -> IntArray:
    """Draw rows with replacement; draw i depends on (seed, i) only.

    Returns
    -------
    ndarray of int, shape (n_draws, n_rows)
    """
    refuse_beyond_memory("n_draws", whole_number("n_draws", n_draws, least=1), 48 * n_rows)  # as rows, counts, weights
    return np.stack([random_for(seed, "bootstrap", i).integers(n_rows, size=n_rows) for i in range(n_draws)])


def bootstrap_weights(
    n_rows: int, *, clusters: Sequence[str] | IntArray | None = None, n_draws: int, seed: int
) -> FloatArray:
    """Draw rows, or whole clusters of them, with replacement, as weights.

    Parameters
    ----------
    n_rows : int
    clusters : sequence of length n_rows, optional
        Rows that are drawn together.
    n_draws, seed : int

    Returns
    -------
    ndarray of shape (n_draws, n_rows)
        How often each row was drawn, divided by the sum over rows.
    """
    names, code = np.unique(np.arange(n_rows) if clusters is None else np.asarray(clusters), return_inverse=True)
    rows = bootstrap_rows(len(names), n_draws=n_draws, seed=seed)
    counts = np.stack([np.bincount(row, minlength=len(names))[code] for row in rows]).astype(np.float64)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def bootstrap_ci(
    statistic: Callable[[IntArray], FloatArray], draws: Sequence[IntArray], level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Find a percentile interval of a statistic over resampled stimuli.

    Parameters
    ----------
    statistic : callable
        Row numbers -> values of any one shape.
    draws : sequence of ndarray of int
        From `bootstrap_rows`.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : ndarray
        Of the statistic's shape; nan where it is nan in every draw.
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level:g}.")
    values = np.stack([np.asarray(statistic(rows), dtype=np.float64) for rows in draws])
    tail = (1 - level) / 2
    ends = np.full((2, *values.shape[1:]), np.nan)
    defined = ~np.isnan(values).all(axis=0)
    ends[:, defined] = np.nanquantile(values[:, defined], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def share_p(
    y: FloatArray,
    yhat_full: FloatArray,
    yhat_reduced: FloatArray,
    *,
    clusters: Sequence[str] | None = None,
    n_permutations: int = 4999,
    seed: int,
) -> FloatArray:
    """Test whether a model predicts better with a band than without it, each refitted: its gain at this n.

    The loss of every held-out stimulus with and without the band is compared, and signs of the differences are flipped,
    of whole clusters where stimuli come in clusters. Under the null the differences lie symmetrically about 0, as with
    Gaussian noise; a skewed loss over few stimuli bends the rate. What is tested is predictive gain at this number of
    fitted stimuli, not unique information.

    Parameters
    ----------
    y, yhat_full, yhat_reduced : ndarray of shape (n_stimuli, n_voxels)
        Held-out responses, and predictions of the models with and without the band.
    clusters : sequence of str, optional
        Of each stimulus; stimuli of a cluster are alike, and each is its own by default.
    n_permutations : int
    seed : int
        Flip i depends on (seed, i) only.

    Returns
    -------
    ndarray of shape (n_voxels,)
        One-sided, with the +1 rule; 1 where the two predictions are the same, nan where anything is not finite.
    """
    return _flipped_p(_gain(y, yhat_full, yhat_reduced), clusters, n_permutations, seed, two_sided=False)


def paired_difference_p(
    y: FloatArray,
    yhat_one: FloatArray,
    yhat_other: FloatArray,
    *,
    clusters: Sequence[str] | None = None,
    n_permutations: int = 4999,
    seed: int,
) -> FloatArray:
    """Test whether two models predict a voxel differently well, two-sided; arguments are those of `share_p`."""
    return _flipped_p(_gain(y, yhat_one, yhat_other), clusters, n_permutations, seed, two_sided=True)


def cluster_p(
    y: FloatArray, yhat: FloatArray, clusters: Sequence[str], *, n_permutations: int = 4999, seed: int
) -> FloatArray:
    """Test whether predictions correlate with responses to stimuli that come in clusters.

    What each cluster adds to the covariance has its sign flipped: stimuli of a cluster are alike, and counting them
    one by one would make the null too narrow.

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)
        Held-out responses and their predictions.
    clusters : sequence of str
        Of each stimulus; at least 5 different ones.
    n_permutations : int
    seed : int
        Flip i depends on (seed, i) only.

    Returns
    -------
    ndarray of shape (n_voxels,)
        One-sided, with the +1 rule; nan where anything is not finite or nothing varies.
    """
    same_length(y=y, yhat=yhat)
    a, b = (np.asarray(side, dtype=np.float64) for side in (y, yhat))
    a, b = a - a.mean(0), b - b.mean(0)
    p = _flipped_p(a * b, clusters, n_permutations, seed, two_sided=False)
    return np.asarray(np.where((a * a).sum(0) * (b * b).sum(0) > 0, p, np.nan))


def _gain(y: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    """Compute the loss of the other less that of the one, stimulus by stimulus."""
    y, one, other = (np.asarray(values) for values in (y, one, other))
    if not (y.ndim == 2 and y.shape == one.shape == other.shape):
        raise AlignmentError(f"Responses {y.shape} and predictions {one.shape}, {other.shape} must have one 2-D shape.")
    wide = np.asarray(y, dtype=np.float64)
    return np.asarray((wide - other) ** 2 - (wide - one) ** 2)


def _flipped_p(
    gain: FloatArray, clusters: Sequence[str] | None, n_permutations: int, seed: int, *, two_sided: bool
) -> FloatArray:
    if n_permutations < 1:
        raise InputError(f"n_permutations must be at least 1; got {n_permutations}.")
    if clusters is not None:
        same_length(y=gain, clusters=clusters)
        _, code = np.unique(np.asarray(clusters), return_inverse=True)
        gain = np.stack([np.bincount(code, weights=column) for column in gain.T], axis=1)
    if len(gain) < 5:
        raise InputError(f"{len(gain)} stimuli or clusters are too few to flip signs of; needs at least 5.")
    signs_ = signs(len(gain), n_permutations, seed)

    def tested(tile: slice) -> FloatArray:
        own = gain[:, tile]
        size = np.sqrt((own * own).sum(0))
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.where(size == 0, 0, own / size)
        # The sum of squares is the same whatever the signs, so that the sum is as good as Student's t.
        observed, null = scaled.sum(0), signs_ @ scaled.astype(np.float32)
        if two_sided:
            observed, null = np.abs(observed), np.abs(null)
        reached = (null >= observed - 1e-5 * np.abs(observed)).sum(0)
        return np.where(np.isfinite(observed), (reached + 1) / (n_permutations + 1), np.nan)

    parts = in_threads(tested, tiles(gain.shape[1]))
    return np.concatenate(parts) if parts else np.empty(0)


@lru_cache(maxsize=1)
def signs(n_rows: int, n_permutations: int, seed: int) -> FloatArray:
    """Draw signs, float32 (n_permutations, n_rows); draw i depends on (seed, i) only.

    They are kept, since every band and stretch of voxels needs the same.
    """
    refuse_beyond_memory("n_permutations", n_permutations, 16 * n_rows)
    both = np.array([-1, 1], dtype=np.float32)
    return np.stack([random_for(seed, "signs", i).choice(both, n_rows) for i in range(n_permutations)])


def prevalence(n_significant: IntArray, n_participants: int, *, alpha: float = 0.05, level: float = 0.95) -> FloatArray:
    """Estimate in which fraction of the population an effect is there, from how many participants show it.

    Parameters
    ----------
    n_significant : ndarray of int, shape (n_voxels,)
        Participants whose own test at `alpha` rejects.
    n_participants : int
    alpha : float
        Of each participant's test.
    level : float
        Of the highest posterior density interval.

    Returns
    -------
    ndarray of shape (3, n_voxels)
        The most probable prevalence and its interval, in [0, 1], under a flat prior.

    References
    ----------
    Ince et al. (2021), doi:10.7554/eLife.62461
    """
    if not (0 < alpha < 1 and 0 < level < 1):
        raise InputError(f"alpha and level must lie between 0 and 1; got {alpha:g} and {level:g}.")
    k = np.asarray(n_significant)
    if n_participants < 1 or k.min(initial=0) < 0 or k.max(initial=0) > n_participants:
        raise InputError(f"n_significant must lie in 0..{n_participants}; found {k.min()} to {k.max()}.")
    grid = np.linspace(0, 1, 2001)
    rate = alpha + (1 - alpha) * grid
    out = np.empty((3, len(k)))
    for count in np.unique(k):
        density = rate**count * (1 - rate) ** (n_participants - count)
        density /= density.sum()
        order = np.argsort(-density, kind="stable")
        inside = np.sort(order[: int(np.searchsorted(np.cumsum(density[order]), level)) + 1])
        out[:, k == count] = np.array([grid[density.argmax()], grid[inside[0]], grid[inside[-1]]])[:, None]
    return out
