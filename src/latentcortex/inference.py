"""How sure one may be: p-values from nulls that fit the design, and corrections. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import fdrcorrection

from latentcortex._arrays import BoolArray, FloatArray, IntArray, random_for
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

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
    if n < 3:
        raise InputError(f"A correlation over {n} stimuli has no p-value; needs at least 3.")
    values = np.asarray(r, dtype=np.float64)
    if np.nanmax(np.abs(values), initial=0) > 1 + 1e-6:
        raise InputError(f"Correlations must lie in [-1, 1]; found {np.nanmax(np.abs(values)):.4g}.")
    values = np.clip(values, -1, 1)
    if n_draws is not None:
        return _drawn_p(values, n, alternative, n_draws, seed)
    statistic = np.abs(values) if alternative == "two-sided" else values
    with np.errstate(divide="ignore"):
        t = statistic * np.sqrt((n - 2) / np.maximum(1 - statistic**2, 0))
    p = stats.t.sf(t, n - 2) * (2 if alternative == "two-sided" else 1)
    return np.asarray(np.where(np.isnan(values), np.nan, np.maximum(p, np.finfo(float).tiny)))


def _drawn_p(r: FloatArray, n: int, alternative: Alternative, n_draws: int, seed: int) -> FloatArray:
    rng = random_for(seed, "null correlations", n)
    null = np.empty(n_draws)
    for start in range(0, n_draws, 1000):
        a, b = rng.standard_normal((2, min(1000, n_draws - start), n))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        null[start : start + len(a)] = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    if alternative == "two-sided":
        r, null = np.abs(r), np.abs(null)
    above = n_draws - np.searchsorted(np.sort(null), r, side="left")
    return np.asarray(np.where(np.isnan(r), np.nan, (above + 1) / (n_draws + 1)))


def permutation_p(observed: FloatArray, null: FloatArray) -> FloatArray:
    """Count how often the null reaches what was observed, one-sided, with the +1 rule.

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    null : ndarray of shape (n_permutations, n_voxels)

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [1 / (n_permutations + 1), 1]; nan where the observation or any null value is nan.

    References
    ----------
    Phipson and Smyth (2010), doi:10.2202/1544-6115.1585
    """
    reached = (null >= observed).sum(0)
    defined = np.isfinite(observed) & np.isfinite(null).all(0)
    return np.asarray(np.where(defined, (reached + 1) / (len(null) + 1), np.nan))


def exchange(n_rows: int, *, n_permutations: int, seed: int, groups: Sequence[str] | None = None) -> IntArray:
    """Draw permutations of exchangeable rows; permutation i depends on (seed, i) only.

    Rows are stimuli (average repeats first, so that they stay together). Where rows come in groups, whole
    groups change places with groups of the same size: their members are alike, and rows exchanged one by
    one would make the null too narrow.

    Parameters
    ----------
    n_rows : int
    n_permutations : int
        At least 1.
    seed : int
    groups : sequence of str, optional
        The group of each row; each row is its own by default.

    Returns
    -------
    ndarray of int, shape (n_permutations, n_rows)

    Raises
    ------
    InputError
        If there is nothing to exchange: no two groups are of one size.
    """
    if n_permutations < 1:
        raise InputError(f"n_permutations must be at least 1; got {n_permutations}.")
    names = groups if groups is not None else range(n_rows)
    members: dict[object, list[int]] = {}
    for row, name in enumerate(names):
        members.setdefault(name, []).append(row)
    alike: dict[int, list[list[int]]] = {}
    for rows in members.values():
        alike.setdefault(len(rows), []).append(rows)
    blocks = [np.array(same) for same in alike.values()]
    if all(len(block) < 2 for block in blocks):
        raise InputError(f"{len(members)} groups of different sizes cannot be exchanged; use groups of one size.")
    return np.stack([_exchanged(blocks, n_rows, random_for(seed, "exchange", i)) for i in range(n_permutations)])


def _exchanged(blocks: Sequence[IntArray], n_rows: int, rng: np.random.Generator) -> IntArray:
    order = np.empty(n_rows, dtype=np.intp)
    for block in blocks:
        order[block] = block[rng.permutation(len(block))]
    return order


def permutations_needed(n_voxels: int, n_expected: int, q: float = 0.05) -> int:
    """Count the permutations below which BH cannot reject even `n_expected` true voxels of `n_voxels`."""
    return max(int(np.ceil(n_voxels / (max(n_expected, 1) * q) - 1e-9)) - 1, 0)


@dataclass(frozen=True, eq=False)
class Fdr:
    """What a correction over one family of tests rejects.

    Parameters
    ----------
    rejected : ndarray of bool
        Of the shape of p; False outside the family.
    q_values : ndarray of float64
        The smallest q at which each test is rejected; nan outside the family.
    threshold : float
        The largest rejected p; 0 if none is.
    n_tests : int
        Size of the family: tests whose p is not nan.
    """

    rejected: BoolArray
    q_values: FloatArray
    threshold: float
    n_tests: int


_PROCEDURES: Final[dict[str, Literal["indep", "negcorr"]]] = {"bh": "indep", "by": "negcorr"}


def fdr(p: FloatArray, q: float = 0.05, method: str = "bh") -> Fdr:
    """Control the false discovery rate over one family.

    Parameters
    ----------
    p : ndarray, any shape
        In [0, 1]; nan is outside the family.
    q : float
        In (0, 1).
    method : {"bh", "by"}
        Benjamini-Hochberg, or Benjamini-Yekutieli under any dependence.

    Returns
    -------
    Fdr

    Raises
    ------
    InputError
        If q or a p is out of range, or the method is not known.

    References
    ----------
    Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x; Benjamini and Yekutieli (2001),
    doi:10.1214/aos/1013699998

    Examples
    --------
    >>> fdr(np.array([0.01, np.nan, 0.5])).n_tests
    2
    """
    if not 0 < q < 1:
        hint = f" Did you mean {q / 100:g}?" if 1 <= q < 100 else ""
        raise InputError(f"q must lie between 0 and 1; got {q:g}.{hint}")
    if method not in _PROCEDURES:
        raise unknown("correction", method, _PROCEDURES)
    values = np.asarray(p, dtype=np.float64)
    family = ~np.isnan(values)
    inside = values[family]
    if inside.size and (inside.min() < 0 or inside.max() > 1):
        raise InputError(f"p-values must lie in [0, 1]; found {inside.min():.4g} to {inside.max():.4g}.")
    rejected, q_values = np.zeros(values.shape, dtype=bool), np.full(values.shape, np.nan)
    if inside.size:
        hit, adjusted = fdrcorrection(inside, alpha=q, method=_PROCEDURES[method])
        rejected[family], q_values[family] = hit, adjusted
    threshold = float(values[rejected].max()) if rejected.any() else 0.0
    return Fdr(rejected, q_values, threshold, int(family.sum()))


def simes_p(p: FloatArray) -> FloatArray:
    """Combine several tests of one voxel into one p that no band has anything there (Simes).

    Parameters
    ----------
    p : ndarray of shape (n_bands, n_voxels)

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [0, 1]; nan where any p is nan.

    References
    ----------
    Simes (1986), doi:10.1093/biomet/73.3.751
    """
    ordered = np.sort(p, axis=0)
    rank = np.arange(1, len(p) + 1)[:, None]
    combined = (ordered * len(p) / rank).min(0)
    return np.asarray(np.where(np.isnan(p).any(0), np.nan, np.minimum(combined, 1)))


def bootstrap_rows(n_rows: int, *, n_draws: int, seed: int) -> IntArray:
    """Draw rows with replacement; draw i depends on (seed, i) only.

    Returns
    -------
    ndarray of int, shape (n_draws, n_rows)
    """
    return np.stack([random_for(seed, "bootstrap", i).integers(n_rows, size=n_rows) for i in range(n_draws)])


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
