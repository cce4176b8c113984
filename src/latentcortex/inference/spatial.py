"""How alike maps are over voxels whose neighbours are alike."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist

from latentcortex._arrays import FloatArray, arrays, check_finite, random_for
from latentcortex.errors import InputError
from latentcortex.scoring._centring import standard

MAX_VOXELS: Final = 1000
"""Drawn to tell how maps vary with distance."""
N_BINS: Final = 40
"""Of distance, each wider than the one before by the same factor."""
MIN_PLACES: Final = 8
"""Independent places below which an interval over them means nothing."""


def map_similarity(values: FloatArray, places: FloatArray, *, level: float = 0.95, seed: int) -> FloatArray:
    r"""Correlate maps with each other over voxels, with intervals that know how smooth the maps are.

    Neighbouring voxels share blood, noise and signal, and count for less than as many independent ones. The variance of
    r between two unrelated maps that are as smooth as these follows from their autocorrelations at every distance, and
    with it the number of independent places; ends are Fisher's with that number, and Student's t.

    .. math:: \hat n = 1 + 1 / \sigma_r^2, \qquad
        \sigma_r^2 = \frac{1}{n} + \Big(1 - \frac{1}{n}\Big) \sum_k w_k \hat C_x(k) \hat C_y(k)

    with :math:`w_k` the fraction of pairs of voxels in bin k of distance, and :math:`\hat C` the autocorrelation there.

    Parameters
    ----------
    values : ndarray of shape (n_maps, n_voxels)
        A voxel where any map is nan is left out.
    places : ndarray of shape (n_voxels, n_dims)
        Where each voxel is, in mm or any other unit, such as `Surface.places`.
    level : float
        Of the interval, between 0 and 1.
    seed : int
        For the 1,000 voxels from which autocorrelations are told where there are more.

    Returns
    -------
    ndarray of shape (3, n_maps, n_maps)
        Pearson's r, and the lower and upper end of its interval. nan for a map that is constant; ends are nan where the
        maps have fewer than 8 independent places.

    Raises
    ------
    AlignmentError
        If there is not one place per voxel.
    InputError
        If a number is out of its range, or a place not finite.

    References
    ----------
    Clifford, Richardson and Hemon (1989), doi:10.2307/2532039; Dutilleul (1993), doi:10.2307/2532625
    """
    values, places = arrays(values=(values, "n_maps n_voxels"), places=(places, "n_voxels n_dims"))
    check_finite("places", places)
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level:g}.")
    finite = np.isfinite(values).all(0)
    out = np.full((3, len(values), len(values)), np.nan)
    if finite.sum() < 2:
        return out
    centred = standard(values[:, finite].T)[0].T
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = centred / np.sqrt((centred**2).mean(1, keepdims=True))
        out[0] = np.clip(unit @ unit.T / unit.shape[1], -1, 1)
        n_places = _independent(unit, np.asarray(places[finite], dtype=np.float64), seed)
        enough = np.where(n_places >= MIN_PLACES, n_places, np.nan)
        # Student's t, since how many they are is itself estimated.
        reach = stats.t.ppf((1 + level) / 2, enough - 2) / np.sqrt(enough - 3)
        middle = np.arctanh(out[0])
        out[1], out[2] = np.tanh(middle - reach), np.tanh(middle + reach)
    return out


def _independent(unit: FloatArray, places: FloatArray, seed: int) -> FloatArray:
    """Count the independent places of every two maps of mean 0 and variance 1, (n_maps, n_maps)."""
    n = unit.shape[1]
    drawn = np.sort(random_for(seed, "places", n).permutation(n)[:MAX_VOXELS])
    apart = pdist(places[drawn])
    code = np.zeros(len(apart), dtype=np.intp)
    if apart.max() > 0:
        nearest = apart[apart > 0].min()
        steps = np.log(np.maximum(apart, nearest) / nearest) / max(np.log(apart.max() / nearest), 1e-12)
        code = np.minimum((N_BINS * steps).astype(np.intp), N_BINS - 1)
    n_pairs = np.bincount(code, minlength=N_BINS)
    rows, columns = np.triu_indices(len(drawn), 1)
    products = [np.bincount(code, one[rows] * one[columns], minlength=N_BINS) for one in unit[:, drawn]]
    covariance = np.stack(products) / np.maximum(n_pairs, 1)
    variance = 1 / n + (1 - 1 / n) * (covariance * n_pairs) @ covariance.T / len(apart)
    return np.asarray(1 + 1 / np.maximum(variance, 1 / n))
