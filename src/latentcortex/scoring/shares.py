"""Whose the explained variance is: splits of a joint score between bands."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np

from latentcortex._arrays import FloatArray, one_thread, same_length
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.scoring._centring import less_mean, varies
from latentcortex.scoring.accuracy import spread_of


def product_shares(y: FloatArray, yhat_bands: FloatArray, *, of: Literal["r2", "r"] = "r2") -> FloatArray:
    r"""Split the joint score between bands by the product measure.

    With both sides centred over stimuli and :math:`\hat y = \sum_i \hat y_i`,

    .. math::
        R^2_i = \frac{\sum_t [2 y \hat y_i - \hat y_i \hat y]}{\sum_t y^2}, \qquad
        r_i = \frac{\mathrm{cov}(y, \hat y_i)}{\mathrm{sd}(y)\,\mathrm{sd}(\hat y)}

    The correlation form sums to the joint r; the R² form to the joint R² of the centred prediction, which
    differs from `r2` by what a shift of the mean costs.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
    yhat_bands : ndarray of shape (n_bands, n_stimuli, n_voxels)
        What each band contributes to the joint prediction.
    of : {"r2", "r"}

    Returns
    -------
    ndarray of shape (n_bands, n_voxels)
        Can be negative, and is kept so; nan where the joint score is undefined.

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728
    """
    if yhat_bands.ndim != 3 or yhat_bands.shape[1:] != y.shape:
        raise AlignmentError(f"yhat_bands is {yhat_bands.shape}; expected (n_bands, {y.shape[0]}, {y.shape[1]}).")
    if of not in ("r2", "r"):
        raise unknown("score", of, ("r2", "r"))
    centred = less_mean(y)
    joint = less_mean(yhat_bands.sum(0))
    parts = [less_mean(band) for band in yhat_bands]
    total = (centred * centred).sum(0)
    defined = varies(y, centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        if of == "r2":
            shares = np.stack([(2 * centred * part - part * joint).sum(0) / total for part in parts])
        else:
            scale = np.sqrt(total * (joint * joint).sum(0))
            shares = np.stack([(centred * part).sum(0) / scale for part in parts])
            defined = defined & varies(yhat_bands.sum(0), joint)
    return np.asarray(np.where(defined, shares, np.nan))


def weighted_product_shares(y: FloatArray, yhat_bands: FloatArray, weights: FloatArray) -> FloatArray:
    """Split the joint R² by the product measure under several weightings of the stimuli; see `product_shares`.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
    yhat_bands : ndarray of shape (n_bands, n_stimuli, n_voxels)
    weights : ndarray of shape (n_draws, n_stimuli)
        Non-negative, each row summing to 1, such as the counts of bootstrap draws.

    Returns
    -------
    ndarray of float32, shape (n_bands, n_draws, n_voxels)
        nan where undefined.
    """
    w, centred = weights.astype(np.float32), less_mean(y).astype(np.float32)
    parts = [less_mean(band).astype(np.float32) for band in yhat_bands]
    rest = 2 * centred - np.sum(parts, axis=0)
    mean_y, mean_rest = w @ centred, w @ rest
    with np.errstate(invalid="ignore", divide="ignore"):
        total = spread_of(w @ (centred * centred), mean_y)
        return np.stack([(w @ (rest * part) - mean_rest * (w @ part)) / total for part in parts])


R2BySubset = Mapping[tuple[str, ...], FloatArray]
"""Bands of a model, refitted with penalties of its own -> its R² on the same held-out rows, (n_voxels,)."""


def unique_shares(r2_by_subset: R2BySubset) -> FloatArray:
    r"""Compute what the joint model loses without each band, refitted.

    .. math:: U_i = R^2(\text{all}) - R^2(\text{all but } i)

    It is the predictive gain at this number of stimuli, not unique information: while stimuli are fewer than
    columns, a band that is a function of another still gains.

    Parameters
    ----------
    r2_by_subset : mapping of tuple of str to ndarray of shape (n_voxels,)
        At least the joint model, whose order the result has, and each model without one of its bands. A model of
        no band explains 0.

    Returns
    -------
    ndarray of shape (n_bands, n_voxels)
        Can be negative; nan where a model's R² is.

    Raises
    ------
    InputError
        If a model is missing.
    """
    bands, known = _by_set(r2_by_subset)
    everything = frozenset(bands)
    return np.stack([_of(known, everything) - _of(known, everything - {band}) for band in bands])


def commonality(r2_by_subset: R2BySubset) -> dict[tuple[str, ...], FloatArray]:
    r"""Divide the joint R² into what each set of bands explains in common and no other band explains.

    .. math:: C(S) = \sum_{T \subseteq S} (-1)^{|T| + 1} R^2\bigl((\text{all} \setminus S) \cup T\bigr)

    Parameters
    ----------
    r2_by_subset : mapping of tuple of str to ndarray of shape (n_voxels,)
        All 2 ** n_bands - 1 models.

    Returns
    -------
    dict of tuple of str to ndarray of shape (n_voxels,)
        Each non-empty set of bands, in the joint model's order; together they are the joint R². A set of one band has
        its unique share. Can be negative: bands can suppress each other.

    Raises
    ------
    InputError
        If a model is missing.

    References
    ----------
    Mood (1971), doi:10.3102/00346543041003191
    """
    bands, known = _by_set(r2_by_subset)
    everything = frozenset(bands)
    found = {}
    for size in range(1, len(bands) + 1):
        for chosen in combinations(bands, size):
            total = np.zeros_like(_of(known, everything))
            for k in range(size + 1):
                for some in combinations(chosen, k):
                    total += (-1) ** (k + 1) * _of(known, (everything - set(chosen)) | set(some))
            found[chosen] = total
    return found


def shapley_shares(r2_by_subset: R2BySubset) -> FloatArray:
    r"""Average over all orders of the bands what each adds to those before it (Shapley; LMG).

    .. math:: \phi_i = \frac{1}{n} \sum_{S \not\ni i} \binom{n - 1}{|S|}^{-1} \bigl[R^2(S \cup i) - R^2(S)\bigr]

    Parameters
    ----------
    r2_by_subset : mapping of tuple of str to ndarray of shape (n_voxels,)
        All 2 ** n_bands - 1 models.

    Returns
    -------
    ndarray of shape (n_bands, n_voxels)
        Sums to the joint R²; can be negative.

    Raises
    ------
    InputError
        If a model is missing.

    References
    ----------
    Grömping (2007), doi:10.1198/000313007X188252
    """
    bands, known = _by_set(r2_by_subset)
    shares = []
    for band in bands:
        others = [other for other in bands if other != band]
        total = np.zeros_like(_of(known, frozenset(bands)))
        for k in range(len(bands)):
            for some in combinations(others, k):
                before = frozenset(some)
                total += (_of(known, before | {band}) - _of(known, before)) / comb(len(others), k)
        shares.append(total / len(bands))
    return np.stack(shares)


def _by_set(r2_by_subset: R2BySubset) -> tuple[tuple[str, ...], dict[frozenset[str], FloatArray]]:
    """Find the joint model, and every model by its set of bands."""
    if not r2_by_subset:
        raise InputError("There is no model to split: r2_by_subset is empty.")
    bands = max(r2_by_subset, key=len)
    known: dict[frozenset[str], FloatArray] = {
        frozenset(subset): np.asarray(r2, dtype=np.float64) for subset, r2 in r2_by_subset.items()
    }
    if len(known) < len(r2_by_subset):
        raise InputError("Two models of r2_by_subset have the same bands.")
    strange = set().union(*known) - set(bands)
    if strange:
        raise InputError(f"No model has all bands: {', '.join(sorted(strange))} missing from {', '.join(bands)}.")
    shapes = {r2.shape for r2 in known.values()}
    if len(shapes) > 1:
        raise AlignmentError(f"R² of all models must have one shape; found {', '.join(map(str, sorted(shapes)))}.")
    return bands, known


def _of(known: Mapping[frozenset[str], FloatArray], bands: frozenset[str]) -> FloatArray:
    if not bands:
        return np.zeros_like(next(iter(known.values())))
    if bands not in known:
        raise InputError(f"r2_by_subset lacks the model of {', '.join(sorted(bands))}.")
    return known[bands]


def overlap(one: FloatArray, other: FloatArray) -> float:
    r"""Tell how much of what two bands hold is common to both, whatever the responses are.

    Each band's leading principal components, those that hold 95 % of its variance and at most a quarter as many as
    stimuli, are compared by canonical correlation analysis; with :math:`U, V` their orthonormal scores,

    .. math:: o = \frac{\lVert U^T V \rVert^2 / \min(k_U, k_V) - e}{1 - e}, \qquad e = \frac{\max(k_U, k_V)}{n - 1}

    is the mean squared canonical correlation, less what unrelated bands have.

    Parameters
    ----------
    one, other : ndarray of shape (n_stimuli, n_components)
        Of the two bands, from `leading`.

    Returns
    -------
    float
        At most 1: the components of the one are linear functions of the other's. 0 on average for unrelated bands, and
        possibly below.

    References
    ----------
    Hotelling (1936), doi:10.1093/biomet/28.3-4.321
    """
    same_length(one=one, other=other)
    k = sorted((one.shape[1], other.shape[1]))
    chance = k[1] / (len(one) - 1)
    common = float(((one.T @ other) ** 2).sum()) / k[0]
    return float((common - chance) / (1 - chance))


@one_thread()
def leading(gram: FloatArray) -> FloatArray:
    """Take a band's leading principal components: orthonormal scores, (n_stimuli, n_components).

    Those that hold 95 % of its variance, and at most a quarter as many as stimuli.

    Parameters
    ----------
    gram : ndarray of shape (n_stimuli, n_stimuli)
        Centred.
    """
    values, vectors = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    enough = int(np.searchsorted(np.cumsum(values), 0.95 * values.sum())) + 1
    return vectors[:, : min(enough, len(gram) // 4)]
