"""Corrections for many tests: families, joint nulls, and bounds on true discoveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.sparse import csgraph, csr_array
from statsmodels.stats.multitest import fdrcorrection

from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    arrays,
    by_band,
    numbers,
    truths,
    whole_array,
    whole_number,
)
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.inference.null import matching
from latentcortex.inference.ties import at_most, lowest, reaches, settled, tie


@dataclass(frozen=True, eq=False)
class Fdr:
    """What a correction over one family of tests rejects.

    Parameters
    ----------
    rejected : ndarray of bool
        Of the shape of p; False outside the family.
    q_values : ndarray of float64
        The smallest q at which each test is rejected; nan outside the family. What equals q up to rounding of the
        p-values, as of counts it may, is exactly q, and rejected (`inference.ties`).
    threshold : float
        The largest rejected p; 0 if none is.
    n_tests : int
        Size of the family: tests whose p is not nan.
    """

    rejected: BoolArray
    q_values: FloatArray
    threshold: float
    n_tests: int


PROCEDURES: Final[dict[str, Literal["indep", "negcorr"]]] = {"bh": "indep", "by": "negcorr", "storey": "indep"}
"""Corrections, and what statsmodels calls the procedure of each."""
STOREY_TAIL: Final = 0.5
"""p above this are taken to be of true nulls, by Storey's procedure."""


def fdr(p: FloatArray, q: float = 0.05, method: str = "bh") -> Fdr:
    """Control the false discovery rate over one family.

    Parameters
    ----------
    p : ndarray, any shape
        In [0, 1]; nan is outside the family.
    q : float
        In (0, 1).
    method : {"bh", "by", "storey"}
        Benjamini-Hochberg; Benjamini-Yekutieli, under any dependence; or Storey's, which divides by the estimated
        fraction of true nulls and is for many independent tests: where voxels share noise, that fraction jumps from map
        to map: with half of the noise shared, .13 of the rejections are false at q = .05.

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
    doi:10.1214/aos/1013699998; Storey, Taylor and Siegmund (2004), doi:10.1111/j.1467-9868.2004.00439.x

    Examples
    --------
    >>> fdr(np.array([0.01, np.nan, 0.5])).n_tests
    2
    """
    if not 0 < q < 1:
        hint = f" Did you mean {q / 100:g}?" if 1 <= q < 100 else ""
        raise InputError(f"q must lie between 0 and 1; got {q:g}.{hint}")
    if method not in PROCEDURES:
        raise unknown("correction", method, PROCEDURES)
    values = np.asarray(numbers("p", p), dtype=np.float64)
    family = ~np.isnan(values)
    inside = values[family]
    _check_range(inside)
    rejected, q_values = np.zeros(values.shape, dtype=bool), np.full(values.shape, np.nan)
    if inside.size:
        # Storey's guarantee ends at the p that the nulls were counted above.
        tail = ~at_most(inside, STOREY_TAIL)
        nulls = min((np.sum(tail) + 1) / (inside.size * (1 - STOREY_TAIL)), 1.0) if method == "storey" else 1.0
        _, adjusted = fdrcorrection(inside, alpha=q, method=PROCEDURES[method])
        adjusted = settled(np.where(tail, adjusted, adjusted * nulls), q, of=tie(p))
        rejected[family], q_values[family] = adjusted <= q, adjusted
    threshold = float(values[rejected].max()) if rejected.any() else 0.0
    return Fdr(rejected, q_values, threshold, int(family.sum()))


def bh_level(q: float, n_tests: int, method: str) -> float:
    """Find the q at which Benjamini and Hochberg reject no more than a method: for `by` q over 1 + 1/2 + 1/3 ..."""
    return q / float((1 / np.arange(1, max(n_tests, 1) + 1)).sum()) if method == "by" else q


def hierarchical_fdr(p: Mapping[str, FloatArray], q: float = 0.05, method: str = "bh") -> dict[str, Fdr]:
    r"""Control the false discovery rate within those of many maps in which anything is found.

    Maps are chosen by the correction of their Simes p; within the R chosen of m, voxels are corrected at
    :math:`q R / m`. On average over the chosen maps the rate is then q, which looking only at maps with discoveries
    would not keep.

    Parameters
    ----------
    p : mapping of str to ndarray of shape (n_voxels,)
        Map -> p of its voxels, in [0, 1]; nan is outside its family, and a map of nothing else is none.
    q : float
    method : {"bh", "by", "storey"}

    Returns
    -------
    dict of str to Fdr
        Of the same maps; q-values carry the choice of maps, and may reach 1.

    References
    ----------
    Benjamini and Bogomolov (2014), doi:10.1111/rssb.12028
    """
    p = by_band("p", p)
    within = {name: fdr(values, q, method) for name, values in p.items()}
    # Simes's p of a family is the smallest of its adjusted p-values.
    simes = np.array([np.fmin.reduce(fdr(values, q).q_values, axis=None, initial=np.nan) for values in p.values()])
    simes = simes.astype(np.result_type(np.float32, *p.values()))  # no finer than the p that they are of
    maps = fdr(simes, q, method)
    n_chosen = max(int(maps.rejected.sum()), 1)
    corrected = {}
    for (name, own), of_map in zip(within.items(), maps.q_values, strict=True):
        inflated = np.minimum(np.maximum(own.q_values * maps.n_tests / n_chosen, of_map), 1)
        inflated = settled(inflated, q, of=tie(p[name]))
        rejected = inflated <= q
        threshold = float(p[name][rejected].max()) if rejected.any() else 0.0
        corrected[name] = Fdr(rejected, inflated, threshold, own.n_tests)
    return corrected


def _check_range(p: FloatArray) -> None:
    defined = np.asarray(p)[~np.isnan(p)]
    if defined.size and (defined.min() < 0 or defined.max() > 1):
        raise InputError(f"p-values must lie in [0, 1]; found {defined.min():.4g} to {defined.max():.4g}.")


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
    (p,) = arrays(p=(p, "n_bands n_voxels"))
    _check_range(p)
    ordered = np.sort(p, axis=0)
    rank = np.arange(1, len(p) + 1)[:, None]
    combined = (ordered * len(p) / rank).min(0)
    return np.asarray(np.where(np.isnan(p).any(0), np.nan, np.minimum(combined, 1)))


def max_t(observed: FloatArray, null: FloatArray) -> FloatArray:
    """Control the chance of any false rejection, under any dependence: compare with the maximum over voxels.

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    null : ndarray of shape (n_permutations, n_voxels)
        The full matrix, every permutation of all voxels.

    Returns
    -------
    ndarray of shape (n_voxels,)
        Family-wise corrected p, at least 1 / (n_permutations + 1); nan where the observation or any null value is.

    References
    ----------
    Nichols and Holmes (2002), doi:10.1002/hbm.1058
    """
    observed, null = matching(observed, null)
    defined = np.isfinite(observed) & np.isfinite(null).all(0)
    if not defined.any():
        return np.full(len(observed), np.nan)
    largest = np.sort(null[:, defined].max(1))
    reached = len(largest) - np.searchsorted(largest, lowest(observed, largest), side="left")
    return np.where(defined, (reached + 1) / (len(largest) + 1), np.nan)


def true_discovery_bound(p: FloatArray, roi: BoolArray, *, alpha: float = 0.05) -> float:
    r"""Bound from below the fraction of a region's voxels that are truly active, for any region however chosen.

    All regions are bounded together with confidence 1 - alpha (all-resolutions inference, by closed testing with
    Simes's test, which is valid under the positive dependence that neighbouring voxels have): the region may be chosen
    after looking at the map.

    .. math:: d(S) = \max_{1 \le u \le |S|} 1 - u + |\{i \in S : h p_i \le u \alpha\}|

    with h the largest number of hypotheses that could all be true.

    Parameters
    ----------
    p : ndarray of shape (n_voxels,)
        Of the whole map, which is the family; nan is outside.
    roi : ndarray of bool, shape (n_voxels,)
    alpha : float

    Returns
    -------
    float
        In [0, 1], of the region's voxels that are in the family; nan if there is none.

    References
    ----------
    Rosenblatt et al. (2018), doi:10.1016/j.neuroimage.2018.07.060; Goeman et al. (2019), doi:10.1093/biomet/asz041
    """
    (p,) = arrays(p=(p, "n_voxels"))
    roi = truths("roi", roi, len(p))
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1; got {alpha:g}.")
    _check_range(p)
    values = np.asarray(p, dtype=np.float64)
    inside = np.sort(values[roi & ~np.isnan(values)])
    if len(inside) == 0:
        return float("nan")
    alpha *= 1 + tie(p)  # what equals its limit up to rounding has not passed it
    h = _could_be_null(np.sort(values[~np.isnan(values)]), alpha)
    u = np.arange(1, len(inside) + 1)
    bounds = 1 - u + np.searchsorted(inside * h, u * alpha, side="right")
    return float(max(bounds.max(), 0) / len(inside))


def _could_be_null(p: FloatArray, alpha: float) -> int:
    """Count the hypotheses of the largest set that Simes's test does not reject; p ascending.

    Simes's p of the i largest falls as i grows, so that the border can be bisected.
    """
    m = len(p)

    def rejected(i: int) -> bool:
        return bool((i * p[m - i :] <= np.arange(1, i + 1) * alpha).any())

    low, high = 0, m
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if rejected(middle) else (middle, high)
    return low


def tfce(
    stat: FloatArray, adjacency: csr_array, *, n_steps: int = 100, extent: float = 0.5, height: float = 2.0
) -> FloatArray:
    r"""Enhance a map where neighbouring voxels support each other, without choosing a threshold.

    .. math:: \mathrm{TFCE}(v) = \sum_h e_h(v)^E h^H \Delta h

    with e the number of voxels of the cluster above h that v is in. Only values above 0 are enhanced.

    Parameters
    ----------
    stat : ndarray of shape (n_voxels,)
        nan is outside of every cluster.
    adjacency : sparse array of shape (n_voxels, n_voxels)
        Symmetric, not 0 between neighbours; from `mesh_adjacency` or `grid_adjacency`.
    n_steps : int
        Heights between 0 and the maximum.
    extent, height : float
        E and H; .5 and 2 for volumes, 1 and 2 for surfaces.

    Returns
    -------
    ndarray of shape (n_voxels,)
        At least 0; nan where the statistic is.

    Raises
    ------
    AlignmentError
        If the adjacency is not of these voxels.
    InputError
        If a value is infinite: heights up to there would leave every other voxel at 0.

    References
    ----------
    Smith and Nichols (2009), doi:10.1016/j.neuroimage.2008.03.061
    """
    (stat,) = arrays(stat=(stat, "n_voxels"))
    whole_number("n_steps", n_steps, least=1)
    shape = getattr(adjacency, "shape", type(adjacency).__name__)
    if shape != (len(stat), len(stat)):
        raise AlignmentError(f"The adjacency is {shape}; expected ({len(stat)}, {len(stat)}).")
    infinite = int(np.isinf(stat).sum())
    if infinite:
        raise InputError(f"The statistic is infinite in {infinite} voxels; TFCE needs finite values, or nan for none.")
    values = np.where(np.isnan(stat), 0.0, stat.astype(np.float64))
    out = np.zeros(len(values))
    top = values.max(initial=0)
    links = csr_array(adjacency)
    step = top / n_steps
    for h in np.linspace(0, top, n_steps + 1)[1:] if top > 0 else ():
        above = np.flatnonzero(reaches(values, h, size=top))
        if len(above) == 0:
            break
        _, label = csgraph.connected_components(links[above][:, above], directed=False)
        out[above] += np.bincount(label)[label] ** extent * h**height * step
    return np.where(np.isnan(stat), np.nan, out)


def mesh_adjacency(faces: IntArray, n_vertices: int) -> csr_array:
    """Join vertices that share an edge of a triangle, (n_vertices, n_vertices); faces are (n_faces, 3)."""
    faces = whole_array("faces", faces, least=0, most=whole_number("n_vertices", n_vertices, least=1) - 1)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise AlignmentError(f"faces are {faces.shape}; expected (n_faces, 3).")
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return _joined(pairs, n_vertices)


def grid_adjacency(mask: BoolArray) -> csr_array:
    """Join voxels of a 3-D mask that share a face, in the order of `mask`'s true values."""
    mask = truths("mask", mask)
    if not mask.any():
        raise InputError("mask is true nowhere; expected at least one voxel.")
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(int(mask.sum()))
    pairs = []
    for axis in range(mask.ndim):
        first = number.take(range(mask.shape[axis] - 1), axis=axis).ravel()
        second = number.take(range(1, mask.shape[axis]), axis=axis).ravel()
        both = (first >= 0) & (second >= 0)
        pairs.append(np.stack([first[both], second[both]], axis=1))
    return _joined(np.concatenate(pairs), int(mask.sum()))


def _joined(pairs: IntArray, n: int) -> csr_array:
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    links = csr_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    links.data[:] = 1
    return links
