"""p-values from a null that fits the design."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from math import factorial, prod
from typing import Final, Literal

import numpy as np
from scipy import stats

from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    arrays,
    labels,
    numbers,
    random_for,
    refuse_beyond_memory,
    whole_number,
)
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.inference.ties import at_most, lowest, reaches
from latentcortex.scoring._centring import PAIR, standard

logger = logging.getLogger(__name__)

SLOWEST_QUANTILE: Final = 0.99
"""Quantile over voxels whose autocorrelation says how long stretches must be."""

MAX_LOST_VARIANCE: Final = 0.01
"""Fraction of a correlation's variance that may be lost where stretches end."""

BYTES_PER_DRAW: Final = 2048
"""Of one generator of random numbers."""

Alternative = Literal["greater", "two-sided"]


def correlation_p(
    r: FloatArray,
    n: int,
    alternative: Alternative = "greater",
    *,
    n_draws: int | None = None,
    seed: int = 0,
) -> FloatArray:
    r"""Test correlations against those of two independent Gaussian vectors of length n.

    .. math:: p = 1 - T_{n-2}\left(r \sqrt{(n-2)/(1-r^2)}\right)

    Valid while the stimuli are exchangeable one by one: a held-out test set, neither a time series nor
    predictions pooled over folds.

    Parameters
    ----------
    r : ndarray of shape (n_voxels,)
        In [-1, 1].
    n : int
        Number of stimuli behind each r, at least 3.
    alternative : {"greater", "two-sided"}
    n_draws : int, optional
        Draw the null by Monte Carlo as Takagi and Nishimoto did, instead of the closed form.
    seed : int
        For the draws.

    Returns
    -------
    ndarray of shape (n_voxels,)
        In (0, 1]; nan where r is nan.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389
    """
    if alternative not in ("greater", "two-sided"):
        raise unknown("alternative", alternative, ("greater", "two-sided"))
    if whole_number("n", n, least=1) < 3:
        raise InputError(f"A correlation over {n} stimuli has no p-value; needs at least 3.")
    values = np.asarray(numbers("r", r), dtype=np.float64)
    if np.nanmax(np.abs(values), initial=0) > 1 + 1e-6:
        raise InputError(f"Correlations must lie in [-1, 1]; found {np.nanmax(np.abs(values)):.4g}.")
    beyond = int((np.abs(values) > 1).sum())
    if beyond:
        logger.warning("%d correlations lie beyond 1 by rounding and are taken as 1.", beyond)
    values = np.clip(values, -1, 1)
    if n_draws is not None:
        return _drawn_p(values, n, alternative, whole_number("n_draws", n_draws, least=1), seed)
    statistic = np.abs(values) if alternative == "two-sided" else values
    with np.errstate(divide="ignore"):
        t = statistic * np.sqrt((n - 2) / np.maximum(1 - statistic**2, 0))
    p = stats.t.sf(t, n - 2) * (2 if alternative == "two-sided" else 1)
    return np.asarray(np.where(np.isnan(values), np.nan, np.maximum(p, np.finfo(float).tiny)))


def _drawn_p(r: FloatArray, n: int, alternative: Alternative, n_draws: int, seed: int) -> FloatArray:
    refuse_beyond_memory("n_draws", whole_number("n_draws", n_draws, least=1), 16)
    rng = random_for(seed, "null correlations", n)
    null = np.empty(n_draws)
    for start in range(0, n_draws, 1000):
        a, b = rng.standard_normal((2, min(1000, n_draws - start), n))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        null[start : start + len(a)] = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    if alternative == "two-sided":
        r, null = np.abs(r), np.abs(null)
    above = n_draws - np.searchsorted(np.sort(null), lowest(r, null, size=1.0), side="left")
    return np.asarray(np.where(np.isnan(r), np.nan, (above + 1) / (n_draws + 1)))


def permutation_p(observed: FloatArray, null: FloatArray) -> FloatArray:
    """Count how often the null reaches what was observed, one-sided, with the +1 rule.

    What differs by rounding only, of the coarser of both precisions, is equal (`inference.ties`).

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    null : ndarray of shape (n_permutations, n_voxels)

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [1 / (n_permutations + 1), 1]; nan where the observation or any null value is nan.

    Raises
    ------
    AlignmentError
        If the null has other voxels, or no permutation.

    References
    ----------
    Phipson and Smyth (2010), doi:10.2202/1544-6115.1585
    """
    observed, null = matching(observed, null)
    reached = reaches(null, observed).sum(0)
    defined = np.isfinite(observed) & np.isfinite(null).all(0)
    return np.asarray(np.where(defined, (reached + 1) / (len(null) + 1), np.nan))


def matching(observed: FloatArray, null: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both; raise `AlignmentError` unless the null has a row per permutation, of the voxels observed."""
    both = arrays(observed=(observed, "n_voxels"), null=(null, "n_permutations n_voxels"))
    return both[0], both[1]


def exchange(
    n_rows: int,
    *,
    n_permutations: int,
    seed: int,
    groups: Sequence[str] | None = None,
    block: int | None = None,
    shift: bool = False,
) -> IntArray:
    """Draw permutations of exchangeable rows; permutation i depends on (seed, i) only.

    Rows are stimuli (average repeats first, so that they stay together). Where rows come in groups, whole
    groups change places with groups of the same size: their members are alike, and rows exchanged one by
    one would make the null too narrow. Where rows are a time series, it is shifted around a circle, by a random number
    of rows, and then stretches of `block` rows change places; or it is shifted alone.

    Parameters
    ----------
    n_rows : int
    n_permutations : int
        At least 1. There are only so many different shifts, and few groups have few orders: where no more than so many,
        each is returned once, but for the one that leaves all rows in place. No p is then below one over their number.
    seed : int
    groups : sequence of str, optional
        The group of each row; each row is its own by default.
    block : int, optional
        Rows of a stretch; the last may be shorter. With `shift` the least shift, either way.
    shift : bool
        Only shift the order of rows around a circle, by a random number of rows.

    Returns
    -------
    ndarray of int, shape (n_permutations, n_rows)

    Raises
    ------
    InputError
        If there is nothing to exchange: no two groups or stretches are of one size.
    """
    whole_number("n_permutations", n_permutations, least=1)
    whole_number("n_rows", n_rows, least=1)
    if groups is not None:
        groups = labels("groups", groups, n_rows).tolist()
    if groups is not None and (block is not None or shift):
        raise InputError("Rows are exchanged by groups, or as a time series by blocks or shifts; not both.")
    if block is not None and block < 1:
        raise InputError(f"block must be at least 1 row; got {block}.")
    if shift:
        steps = random_for(seed, "shifts").permutation(shifts_of(n_rows, block or 1))[:n_permutations]
        return np.stack([np.roll(np.arange(n_rows), step) for step in steps])
    if block is not None:
        groups = [str(row // block) for row in range(n_rows)]
    names = groups if groups is not None else range(n_rows)
    members: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(name, []).append(row)
    by_size: dict[int, list[list[int]]] = {}
    for rows in members.values():
        by_size.setdefault(len(rows), []).append(rows)
    blocks = [np.array(same) for same in by_size.values()]
    stay = sum(len(some) < 2 for some in blocks)
    if groups is not None and block is None and 0 < stay < len(blocks):
        text = "p is counted from exchanges in which %d of %d groups, of a size that no other has, never change places."
        logger.warning(text, stay, len(members), extra={"facts": {"statistic": "p"}})
    if all(len(some) < 2 for some in blocks):
        raise InputError(f"{len(members)} groups of different sizes cannot be exchanged; use groups of one size.")
    n_orders = prod(factorial(len(same)) for same in blocks) * (n_rows if block else 1)
    refuse_beyond_memory("n_permutations", min(n_permutations, n_orders), BYTES_PER_DRAW + 16 * n_rows)
    if n_orders <= n_permutations + 1:
        orders = _every_order(blocks, n_rows, turned=block is not None)
        return orders[random_for(seed, "orders").permutation(len(orders))[:n_permutations]]
    draws = [random_for(seed, "exchange", i) for i in range(n_permutations)]
    orders = np.stack([_exchanged(blocks, n_rows, rng) for rng in draws])
    if block is None:
        return orders
    starts = np.array([rng.integers(n_rows) for rng in draws])
    return np.asarray((orders + starts[:, None]) % n_rows)


def shifts_of(n_rows: int, least: int = 1) -> IntArray:
    """List by how many rows a series can be shifted around a circle, at least so many either way.

    Raises
    ------
    InputError
        If there is no such shift.
    """
    if 2 * least > n_rows:
        raise InputError(f"{n_rows} rows cannot be shifted by at least {least} either way.")
    return np.arange(least, n_rows - least + 1)


def _every_order(blocks: Sequence[IntArray], n_rows: int, *, turned: bool) -> IntArray:
    """List all orders of blocks, and from every start if the rows are a series, each once; the present one is none."""

    def orders() -> Iterator[IntArray]:
        for chosen in product(*(permutations(range(len(same))) for same in blocks)):
            order = np.empty(n_rows, dtype=np.intp)
            for same, turn in zip(blocks, chosen, strict=True):
                order[same] = same[list(turn)]
            yield from ((order + start) % n_rows for start in range(n_rows if turned else 1))

    distinct = np.unique(np.stack(list(orders())), axis=0)
    return np.asarray(distinct[(distinct != np.arange(n_rows)).any(1)])


def _exchanged(blocks: Sequence[IntArray], n_rows: int, rng: np.random.Generator) -> IntArray:
    order = np.empty(n_rows, dtype=np.intp)
    for block in blocks:
        order[block] = block[rng.permutation(len(block))]
    return order


def block_length(y: FloatArray, *, least: int = 1) -> int:
    """Choose how many neighbouring rows belong together, from the autocorrelation of their values.

    The autocorrelation r1 of neighbours is read as that of an AR(1) process; the length is the smallest of which ends
    are correlated by less than 1e-6, and which keeps 99 % of the variance of a correlation with predictions as slow:
    with blocks a third as long, ends that touch strangers let 6 of 100 voxels pass at .05. It is that of the slowest
    voxels (the 99th percentile, less what chance gives), since a length that suits most would make the null of these
    too narrow.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_voxels)
        In the order of time; columns that are not finite or constant are left out.
    least : int

    Returns
    -------
    int
        At most a fifth of the rows: fewer blocks could hardly be exchanged.
    """
    each = lag_one(y)
    defined = each[np.isfinite(each)]
    top = float(np.quantile(defined, SLOWEST_QUANTILE)) if len(defined) else 0.0
    # A series of n values of autocorrelation r shows r - 1 / n, give or take sqrt((1 - r^2) / n).
    chance = stats.norm.ppf(SLOWEST_QUANTILE) * np.sqrt((1 - top**2) / len(y)) if len(defined) > 1 else 0.0
    r1 = top + 1 / len(y) - chance
    if r1 <= 0.05:
        return least
    r1 = min(r1, 0.999)
    joined = np.log(1e-6) / np.log(r1)
    # With predictions as slow as responses, products have r1^2, and stretches lose what they have across their ends.
    kept = 2 * r1**2 / (1 - r1**4) / MAX_LOST_VARIANCE
    length = int(np.ceil(max(joined, kept)))
    return max(least, min(length, max(len(y) // 5, 1)))


def lag_one(y: FloatArray) -> FloatArray:
    """Correlate every row with the one after it.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_voxels)
        In the order of time.

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [-1, 1]; nan where a voxel is not finite or constant.
    """
    centred, _ = standard(arrays(y=(y, PAIR))[0])
    return np.asarray((centred[1:] * centred[:-1]).sum(0) / (centred * centred).sum(0))


def sequential_p(
    observed: FloatArray,
    draw: Callable[[int, int, IntArray], FloatArray],
    *,
    n_permutations: int,
    size: FloatArray | float | None = None,
    enough: int = 20,
    at_once: int = 50,
) -> tuple[FloatArray, IntArray]:
    """Compute permutation p-values voxel by voxel, and stop where they are clearly large.

    A voxel whose null has reached the observation `enough` times is done: its p is known well enough and not small.
    For tests of single voxels only: joint methods need the full matrix.

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    draw : callable
        (first permutation, one after the last, voxels) -> null values (n, n_these_voxels).
    n_permutations : int
        At most so many.
    size : ndarray of shape (n_voxels,), or float, optional
        What rounding is relative to, such as 1 for a correlation: what differs by no more is equal
        (`inference.ties`). By default the magnitude of the observation and of the null.
    enough : int
    at_once : int
        Permutations between two looks.

    Returns
    -------
    p : ndarray of shape (n_voxels,)
        `enough` / n where it stopped after n permutations, with the +1 rule where it did not; nan where the
        observation or a null value is.
    n_used : ndarray of int, shape (n_voxels,)

    References
    ----------
    Besag and Clifford (1991), doi:10.1093/biomet/78.2.301
    """
    for name, value in (("n_permutations", n_permutations), ("enough", enough), ("at_once", at_once)):
        whole_number(name, value, least=1)
    (observed,) = arrays(observed=(observed, "n_voxels"))
    if isinstance(size, np.ndarray) and size.ndim:
        arrays(observed=(observed, "n_voxels"), size=(size, "n_voxels"))
    p, n_used = np.full(len(observed), np.nan), np.zeros(len(observed), dtype=np.intp)
    reached = np.zeros(len(observed), dtype=np.intp)
    left = np.flatnonzero(np.isfinite(observed))
    for start in range(0, n_permutations, at_once):
        if len(left) == 0:
            break
        stop = min(start + at_once, n_permutations)
        null = numbers("null", draw(start, stop, left))
        if null.shape != (stop - start, len(left)):
            raise AlignmentError(
                f"draw gave {null.shape}; expected {(stop - start, len(left))}, a row per permutation."
            )
        defined = np.isfinite(null).all(0)
        left, null = left[defined], null[:, defined]
        sizes = None if size is None else np.broadcast_to(size, p.shape)[left]
        hits = np.cumsum(reaches(null, observed[left], size=sizes), axis=0) + reached[left]
        reached[left], n_used[left] = hits[-1], stop
        done = hits[-1] >= enough
        first = (hits[:, done] >= enough).argmax(0) + 1 + start
        p[left[done]], n_used[left[done]] = enough / first, first
        left = left[~done]
    p[left] = (reached[left] + 1) / (n_permutations + 1)
    return p, n_used


def tail_p(observed: FloatArray, null: FloatArray, *, n_tail: int = 250, few: int = 10) -> tuple[FloatArray, BoolArray]:
    """Approximate small permutation p-values by a generalised Pareto distribution of the null's tail.

    It reaches one decade further than counting: no p is below a tenth of 1 / (n_permutations + 1). The tail is never
    lighter than an exponential one, so that p errs upwards where the null's is, as a Gaussian's; of a null with very
    heavy tails it can err downwards.

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    null : ndarray of shape (n_permutations, n_voxels)
    n_tail : int
        Largest null values that it is fitted to; at most a quarter of the permutations are taken.
    few : int
        Where the null reaches the observation at least so often, its count is the p-value.

    Returns
    -------
    p : ndarray of shape (n_voxels,)
    approximate : ndarray of bool, shape (n_voxels,)
        Where p comes from the fitted tail and is no exact permutation p.

    References
    ----------
    Knijnenburg et al. (2009), doi:10.1093/bioinformatics/btp211; Hosking and Wallis (1987),
    doi:10.1080/00401706.1987.10488243, for the fit by moments
    """
    observed, null = matching(observed, null)
    p = permutation_p(observed, null)
    n_tail = min(n_tail, len(null) // 4)
    rare = np.flatnonzero((p * (len(null) + 1) - 1 < few) & np.isfinite(p))
    approximate = np.zeros(len(p), dtype=bool)
    if len(rare) == 0 or n_tail < 20:
        return p, approximate
    top = np.sort(null[:, rare].astype(np.float64), axis=0)[-n_tail - 1 :]
    threshold = (top[0] + top[1]) / 2
    beyond = top[1:] - threshold
    mean, spread = beyond.mean(0), beyond.var(0, ddof=1)
    # A fitted tail that ends somewhere would make what lies beyond impossible: an exponential one is the lightest.
    shape = np.clip((1 - mean**2 / spread) / 2, 0, 0.49)
    excess = observed[rare] - threshold
    left = stats.genpareto.sf(excess, shape, scale=mean * (1 - shape)) * n_tail / len(null)
    fitted = (excess > 0) & (left > 0) & np.isfinite(left)
    least = 1 / (10 * (len(null) + 1))
    p[rare[fitted]], approximate[rare[fitted]] = np.maximum(left[fitted], least), True
    return p, approximate


def permutations_needed(n_voxels: int, n_expected: int, q: float = 0.05) -> int:
    """Count the permutations below which BH cannot reject even `n_expected` true voxels of `n_voxels`.

    Parameters
    ----------
    n_voxels, n_expected : int
        Of the map; how many are expected to be active, 0 counting as 1.
    q : float
        In (0, 1).

    Raises
    ------
    InputError
        If more are expected than there are, or q lies outside.

    Examples
    --------
    >>> permutations_needed(980, 10)
    1959
    """
    if not (0 < q < 1 and 0 <= n_expected <= n_voxels):
        raise InputError(f"Expected 0 < q < 1 and 0 <= n_expected <= {n_voxels}; got {q:g} and {n_expected}.")
    share = n_voxels / max(n_expected, 1)
    fewest = max(int(share / q), 1)  # the smallest p is 1 over so many; rounding may have taken one
    return fewest - 1 if at_most(np.array(share / fewest), q) else fewest
