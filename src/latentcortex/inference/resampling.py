"""Intervals by resampling stimuli, and paired tests over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array

from latentcortex._arrays import (
    FloatArray,
    IntArray,
    arrays,
    labels,
    numbers,
    random_for,
    refuse_beyond_memory,
    tiles,
    whole_number,
)
from latentcortex.errors import InputError
from latentcortex.executors import share
from latentcortex.inference.ties import reaches, same_predictions
from latentcortex.scoring._centring import PAIR, standard


def bootstrap_rows(n_rows: int, *, n_draws: int, seed: int) -> IntArray:
    """Draw rows with replacement; draw i depends on (seed, i) only.

    Returns
    -------
    ndarray of int, shape (n_draws, n_rows)
    """
    whole_number("n_rows", n_rows, least=1)
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
    whole_number("n_rows", n_rows, least=1)
    given = labels("clusters", range(n_rows) if clusters is None else clusters, n_rows)
    names, code = np.unique(given, return_inverse=True)
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
    if not len(draws):
        raise InputError("There is no draw to compute the statistic of; make some with bootstrap_rows.")
    values = numbers("statistic", [numbers("statistic", statistic(rows)) for rows in draws]).astype(np.float64)
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
    of whole clusters where stimuli come in clusters. A loss is the square of a residual without the residuals' mean:
    were a shift of the baseline of the test set in it, which all stimuli share, it would pass for a gain of every one
    of them. What a model gains is the difference of `scoring.r2` about the means (``offset=False``). Under the null the
    differences lie symmetrically about 0, as with Gaussian noise; a skewed loss over few stimuli bends the rate. What
    is tested is predictive gain at this number of fitted stimuli, not unique information.

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
        One-sided, with the +1 rule, and never below one over the number of different patterns of signs, 2 ** n of n
        stimuli or clusters. 1 where the two predictions are the same but for rounding (`inference.ties`), nan where
        anything is not finite.
    """
    return _flipped_p(_gain(y, yhat_full, yhat_reduced, clusters), n_permutations, seed, two_sided=False)


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
    return _flipped_p(_gain(y, yhat_one, yhat_other, clusters), n_permutations, seed, two_sided=True)


def cluster_p(
    y: FloatArray, yhat: FloatArray, clusters: Sequence[str], *, n_permutations: int = 4999, seed: int
) -> FloatArray:
    """Test whether predictions correlate with responses to stimuli that come in clusters.

    What each cluster adds to the covariance has its sign flipped: stimuli of a cluster are alike, and counting them
    one by one would make the null too narrow. Responses are taken about the mean of the clusters' means. About the mean
    of all stimuli a cluster with half of them would pull the others to its opposite side, and what these add would have
    the sign of what it adds: .11 of voxels without signal would pass at .05. It is the score test of a regression
    whose residuals have their signs flipped by cluster (the restricted wild cluster bootstrap).

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

    References
    ----------
    Cameron, Gelbach and Miller (2008), doi:10.1162/rest.90.3.414
    """
    y, yhat = arrays(y=(y, PAIR), yhat=(yhat, PAIR))

    def adds(tile: slice) -> FloatArray:
        return _covariance_of_clusters(standard(y[:, tile])[0], standard(yhat[:, tile])[0], clusters)

    return _flipped_p(_by_tile(adds, y.shape[1]), n_permutations, seed, two_sided=False)


def _by_tile(of: Callable[[slice], FloatArray], n_voxels: int) -> FloatArray:
    """Compute a block of voxels per thread, which keeps what is computed on the way small; voxels are the last axis."""
    return np.concatenate(share(of, tiles(n_voxels) or [slice(0)]), axis=-1)


def cluster_sums(code: IntArray, values: FloatArray) -> FloatArray:
    """Sum over the stimuli of each cluster, in their order, (n_stimuli, n) -> (n_clusters, n).

    A sum does not depend on what the other clusters are.

    Parameters
    ----------
    code : ndarray of int, shape (n_stimuli,)
        Numbers of clusters, from 0 without a gap.
    values : ndarray of shape (n_stimuli, n)
    """
    if np.array_equal(code, np.arange(len(code))):
        return values
    total = csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(int(code.max()) + 1, len(code)))
    return np.asarray(total @ values)


def _covariance_of_clusters(response: FloatArray, prediction: FloatArray, clusters: Sequence[str] | None) -> FloatArray:
    """Compute what each cluster, or each stimulus, adds to the covariance of two sides, (n_clusters, n_voxels).

    The sum is the covariance times n_stimuli, wherever the responses' mean is taken: predictions are without theirs.

    Parameters
    ----------
    response, prediction : ndarray of float64, shape (n_stimuli, n_voxels)
    clusters : sequence of str, optional

    Raises
    ------
    InputError
        If there are fewer than 5 stimuli or clusters.
    """
    given = labels("clusters", range(len(response)) if clusters is None else clusters, len(response))
    names, code = np.unique(given, return_inverse=True)
    if len(names) < 5:
        raise InputError(f"{len(names)} stimuli or clusters are too few to flip signs of; needs at least 5.")
    with np.errstate(invalid="ignore", over="ignore"):
        means = cluster_sums(code, response) / np.bincount(code)[:, None]
        return cluster_sums(code, (response - means.mean(0)) * (prediction - prediction.mean(0)))


def _gain(y: FloatArray, one: FloatArray, other: FloatArray, clusters: Sequence[str] | None) -> FloatArray:
    """Compute the loss of the other less that of the one, of each stimulus or cluster.

    A difference of squares is a product: of what neither predicts, y less the mean of both, and twice what sets them
    apart.
    """
    y, one, other = arrays(y=(y, PAIR), yhat_one=(one, PAIR), yhat_other=(other, PAIR))

    def lost(tile: slice) -> FloatArray:
        with np.errstate(invalid="ignore", over="ignore"):
            first, second = (side[:, tile].astype(np.float64) for side in (one, other))
            return _covariance_of_clusters(y[:, tile] - (first + second) / 2, 2 * (first - second), clusters)

    gain = _by_tile(lost, y.shape[1])
    gain[:, np.isfinite(gain).all(0) & same_predictions(one, other)] = 0
    return gain


def _flipped_p(gain: FloatArray, n_permutations: int, seed: int, *, two_sided: bool) -> FloatArray:
    whole_number("n_permutations", n_permutations, least=1)
    drawn = signs(len(gain), n_permutations, seed)

    def tested(tile: slice) -> FloatArray:
        of_tile = gain[:, tile]
        size = np.sqrt((of_tile * of_tile).sum(0))
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.where(size == 0, 0, of_tile / size)
        # The sum of squares is 1 whatever the signs, so that the sum is as good as Student's t.
        observed, null = scaled.sum(0), drawn @ scaled.astype(np.float32)
        if two_sided:
            observed, null = np.abs(observed), np.abs(null)
        reached = reaches(null, observed, size=1.0).sum(0)
        return np.where(np.isfinite(observed), (reached + 1) / (len(drawn) + 1), np.nan)

    return _by_tile(tested, gain.shape[1])


@lru_cache(maxsize=2)
def signs(n_rows: int, n_permutations: int, seed: int, purpose: str = "signs") -> FloatArray:
    """Draw signs for one purpose, float32 (n_permutations, n_rows); draw i depends on (seed, purpose, i) only.

    Few rows have few patterns of signs: where no more than so many, all are given, each once and in random order, but
    for the one that flips nothing (see `n_flips`). No p is then below one over their number. They are kept, since every
    band and stretch of voxels needs the same.
    """
    n_drawn = n_flips(n_rows, n_permutations)
    refuse_beyond_memory("n_permutations", n_drawn, 16 * n_rows)
    if n_drawn == 2**n_rows - 1:
        patterns = random_for(seed, purpose).permutation(np.arange(1, 2**n_rows))
        return (1 - 2 * (patterns[:, None] >> np.arange(n_rows) & 1)).astype(np.float32)
    both = np.array([-1, 1], dtype=np.float32)
    return np.stack([random_for(seed, purpose, i).choice(both, n_rows) for i in range(n_permutations)])


def n_flips(n_rows: int, n_permutations: int) -> int:
    """Count the draws of signs of so many rows or clusters: all patterns but one where these are fewer."""
    return n_permutations if n_rows > 60 else min(n_permutations, 2**n_rows - 1)


def prevalence(n_significant: IntArray, n_participants: int, *, alpha: float = 0.05, level: float = 0.95) -> FloatArray:
    """Estimate in which fraction of the population an effect is there, from how many participants show it.

    Parameters
    ----------
    n_significant : ndarray of shape (n_voxels,)
        Participants whose own test at `alpha` rejects, whole numbers; nan where none was tested.
    n_participants : int
    alpha : float
        Of each participant's test.
    level : float
        Of the highest posterior density interval.

    Returns
    -------
    ndarray of shape (3, n_voxels)
        The most probable prevalence and its interval, in [0, 1], under a flat prior; nan where the number is.

    Raises
    ------
    InputError
        If a number is not whole or not in 0 to `n_participants`, or a level is out of range.

    References
    ----------
    Ince et al. (2021), doi:10.7554/eLife.62461
    """
    if not (0 < alpha < 1 and 0 < level < 1):
        raise InputError(f"alpha and level must lie between 0 and 1; got {alpha:g} and {level:g}.")
    whole_number("n_participants", n_participants, least=1)
    (k,) = arrays(n_significant=(n_significant, "n_voxels"))
    odd = k[~np.isnan(k) & ~((k >= 0) & (k <= n_participants) & (k == np.floor(k)))]
    if len(odd):
        raise InputError(f"n_significant must lie in 0..{n_participants}, whole numbers; found {odd[0]:g}.")
    grid = np.linspace(0, 1, 2001)
    rate = alpha + (1 - alpha) * grid
    out = np.full((3, len(k)), np.nan)
    for count in np.unique(k[~np.isnan(k)]):
        density = rate**count * (1 - rate) ** (n_participants - count)
        density /= density.sum()
        order = np.argsort(-density, kind="stable")
        inside = np.sort(order[: int(np.searchsorted(np.cumsum(density[order]), level)) + 1])
        out[:, k == count] = np.array([grid[density.argmax()], grid[inside[0]], grid[inside[-1]]])[:, None]
    return out
