"""How the joint score of a model, R² or r, is divided between its bands."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np

from latentcortex._arrays import FloatArray, arrays, check_finite, numbers
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import one_thread
from latentcortex.scoring._centring import BY_BAND, PAIR, less_mean, standard
from latentcortex.scoring.accuracy import checked_weights, spread_of


def product_shares(y: FloatArray, yhat_bands: FloatArray, *, of: Literal["r2", "r"] = "r2") -> FloatArray:
    r"""Split the joint score between bands by the product measure.

    With both sides centred over stimuli and :math:`\hat y = \sum_i \hat y_i`,

    .. math::
        R^2_i = \frac{\sum_t [2 y \hat y_i - \hat y_i \hat y]}{\sum_t y^2}, \qquad
        r_i = \frac{\mathrm{cov}(y, \hat y_i)}{\mathrm{sd}(y)\,\mathrm{sd}(\hat y)}

    The correlation form sums to the joint r; the R² form to the joint R² of the centred prediction:
    `r2` also counts the squared difference of both means as error.

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
    y, yhat_bands = arrays(y=(y, PAIR), yhat_bands=(yhat_bands, BY_BAND))
    if of not in ("r2", "r"):
        raise unknown("score", of, ("r2", "r"))
    centred, unit = standard(y)
    joint = yhat_bands.sum(0, dtype=np.float64)
    if of == "r":
        unit = standard(joint)[1]
    with np.errstate(invalid="ignore", over="ignore"):
        parts, whole = [less_mean(band) / unit for band in yhat_bands], less_mean(joint) / unit
        total = (centred * centred).sum(0)
        if of == "r2":
            shares = np.stack([(2 * centred * part - part * whole).sum(0) / total for part in parts])
        else:
            scale = np.sqrt(total * (whole * whole).sum(0))
            shares = np.stack([(centred * part).sum(0) / scale for part in parts])
    return np.asarray(np.where(np.isfinite(shares), shares, np.nan))


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
    y, yhat_bands, weights = arrays(
        y=(y, PAIR), yhat_bands=(yhat_bands, BY_BAND), weights=(weights, "n_draws n_stimuli")
    )
    w, (centred, unit) = checked_weights(weights), standard(y)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        centred = centred.astype(np.float32)
        parts = [(less_mean(band) / unit).astype(np.float32) for band in yhat_bands]
        rest = 2 * centred - np.sum(parts, axis=0)
        mean_y, mean_rest = w @ centred, w @ rest
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
    bands, r2_by_set = _by_set(r2_by_subset)
    everything = frozenset(bands)
    return np.stack([_of(r2_by_set, everything) - _of(r2_by_set, everything - {band}) for band in bands])


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
    Mood (1971), American Educational Research Journal 8, 191-202
    """
    bands, r2_by_set = _by_set(r2_by_subset)
    everything = frozenset(bands)
    common = {}
    for size in range(1, len(bands) + 1):
        for chosen in combinations(bands, size):
            total = np.zeros_like(_of(r2_by_set, everything))
            for k in range(size + 1):
                for subset in combinations(chosen, k):
                    total += (-1) ** (k + 1) * _of(r2_by_set, (everything - set(chosen)) | set(subset))
            common[chosen] = total
    return common


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
    bands, r2_by_set = _by_set(r2_by_subset)
    shares = []
    for band in bands:
        others = [other for other in bands if other != band]
        total = np.zeros_like(_of(r2_by_set, frozenset(bands)))
        for k in range(len(bands)):
            for subset in combinations(others, k):
                before = frozenset(subset)
                total += (_of(r2_by_set, before | {band}) - _of(r2_by_set, before)) / comb(len(others), k)
        shares.append(total / len(bands))
    return np.stack(shares)


def _by_set(r2_by_subset: R2BySubset) -> tuple[tuple[str, ...], dict[frozenset[str], FloatArray]]:
    """Find the joint model, and every model by its set of bands."""
    if not r2_by_subset:
        raise InputError("There is no model to split: r2_by_subset is empty.")
    bands = max(r2_by_subset, key=len)
    r2_by_set: dict[frozenset[str], FloatArray] = {}
    for subset, values in r2_by_subset.items():
        r2 = np.asarray(numbers(f"R² of {'+'.join(subset)}", values), dtype=np.float64)
        r2_by_set[frozenset(subset)] = np.where(np.isfinite(r2), r2, np.nan)
    if len(r2_by_set) < len(r2_by_subset):
        raise InputError("Two models of r2_by_subset have the same bands.")
    strange = set().union(*r2_by_set) - set(bands)
    if strange:
        raise InputError(f"No model has all bands: {', '.join(sorted(strange))} missing from {', '.join(bands)}.")
    shapes = {r2.shape for r2 in r2_by_set.values()}
    if len(shapes) > 1:
        raise AlignmentError(f"R² of all models must have one shape; found {', '.join(map(str, sorted(shapes)))}.")
    return bands, r2_by_set


def _of(r2_by_set: Mapping[frozenset[str], FloatArray], bands: frozenset[str]) -> FloatArray:
    if not bands:
        return np.zeros_like(next(iter(r2_by_set.values())))
    if bands not in r2_by_set:
        raise InputError(f"r2_by_subset lacks the model of {', '.join(sorted(bands))}.")
    return r2_by_set[bands]


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
        possibly below. nan where stimuli are so few that any two bands overlap.

    References
    ----------
    Hotelling (1936), doi:10.1093/biomet/28.3-4.321
    """
    one, other = arrays(one=(one, "n_stimuli n_components"), other=(other, "n_stimuli n_others"))
    k = sorted((one.shape[1], other.shape[1]))
    chance = k[1] / (len(one) - 1)
    if not chance < 1:
        return float("nan")
    common = float(((one.T @ other) ** 2).sum()) / k[0]
    return float((common - chance) / (1 - chance))


@one_thread()
def leading(gram: FloatArray) -> FloatArray:
    """Take a band's leading principal components: orthonormal scores, (n_stimuli, n_components).

    Those that hold 95 % of its variance, and at most a quarter as many as stimuli.

    Parameters
    ----------
    gram : ndarray of shape (n_stimuli, n_stimuli)
        Centred, of at least 4 stimuli.

    Raises
    ------
    InputError
        If stimuli are fewer, or the kernel is not finite or nothing but 0.
    """
    (gram,) = arrays(gram=(gram, "n_stimuli n_stimuli"))
    check_finite("gram", gram)
    if len(gram) < 4 or not gram.any():
        raise InputError(f"gram is of {len(gram)} stimuli, or nothing but 0; expected at least 4 that differ.")
    values, vectors = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    enough = int(np.searchsorted(np.cumsum(values), 0.95 * values.sum())) + 1
    return vectors[:, : min(enough, len(gram) // 4)]


def effective_dims(gram: FloatArray) -> float:
    r"""Count how many dimensions a band's variance is spread over: the participation ratio of its kernel.

    .. math:: d = (\mathrm{tr} K)^2 / \mathrm{tr} K^2

    From as many stimuli, a band of more dimensions predicts less well, although it may hold as much of a voxel.

    Parameters
    ----------
    gram : ndarray of shape (n_stimuli, n_stimuli)
        Centred.

    Returns
    -------
    float
        From 1, one dimension, to the number of columns, where these are independent and of equal variance; stimuli
        less 1 at most.

    Raises
    ------
    InputError
        If the kernel is not finite or nothing but 0.

    References
    ----------
    Gao et al. (2017), doi:10.1101/214262
    """
    (gram,) = arrays(gram=(gram, "n_stimuli n_stimuli"))
    check_finite("gram", gram)
    if not gram.any():
        raise InputError("gram is nothing but 0.")
    wide = np.asarray(gram, dtype=np.float64) / np.abs(gram).max()
    return float(np.trace(wide) ** 2 / (wide * wide).sum())
