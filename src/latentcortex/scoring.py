"""How well a prediction matches a response, voxel by voxel. Arrays in, arrays out."""

from __future__ import annotations

from typing import Literal

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, same_length
from latentcortex.errors import AlignmentError


def correlation(y: FloatArray, yhat: FloatArray) -> FloatArray:
    """Correlate responses with predictions over stimuli (Pearson's r).

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)

    Returns
    -------
    ndarray of shape (n_voxels,)
        In [-1, 1]; nan where the response or the prediction is constant or not finite.

    Examples
    --------
    >>> correlation(np.array([[1.0], [2.0], [4.0]]), np.array([[2.0], [4.0], [8.0]])).tolist()
    [1.0]
    """
    same_length(y=y, yhat=yhat)
    a, b = _centred(y), _centred(yhat)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0))
    return np.asarray(np.where(_varies(y, a) & _varies(yhat, b), np.clip(r, -1, 1), np.nan))


def r2(y: FloatArray, yhat: FloatArray) -> FloatArray:
    r"""Compute the fraction of the response's variance that the prediction explains.

    .. math:: R^2 = 1 - \sum_t (y_t - \hat y_t)^2 / \sum_t (y_t - \bar y)^2

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)

    Returns
    -------
    ndarray of shape (n_voxels,)
        At most 1, unbounded below; nan where the response is constant or anything is not finite.
    """
    same_length(y=y, yhat=yhat)
    centred = _centred(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.asarray(y, dtype=np.float64) - yhat
        score = 1 - (error * error).sum(0) / (centred * centred).sum(0)
    return np.asarray(np.where(_varies(y, centred) & np.isfinite(score), score, np.nan))


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
    centred = _centred(y)
    joint = _centred(yhat_bands.sum(0))
    parts = [_centred(band) for band in yhat_bands]
    total = (centred * centred).sum(0)
    defined = _varies(y, centred)
    with np.errstate(invalid="ignore", divide="ignore"):
        if of == "r2":
            shares = np.stack([(2 * centred * part - part * joint).sum(0) / total for part in parts])
        else:
            scale = np.sqrt(total * (joint * joint).sum(0))
            shares = np.stack([(centred * part).sum(0) / scale for part in parts])
            defined = defined & _varies(yhat_bands.sum(0), joint)
    return np.asarray(np.where(defined, shares, np.nan))


def noise_ceiling(repeats: FloatArray, *, n_averaged: float = 1) -> FloatArray:
    r"""Estimate the fraction of variance that any model could explain.

    The noise variance is the mean over stimuli of the variance over repeats, the signal variance is what
    the variance of the stimulus means has beyond its share of noise; neither is assumed to be 1.

    .. math:: c = \sigma_s^2 / (\sigma_s^2 + \sigma_n^2 / k)

    Parameters
    ----------
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels)
        Single trials; nan where a stimulus has fewer repeats.
    n_averaged : float
        k, over how many trials the scored responses are averaged.

    Returns
    -------
    ndarray of shape (n_voxels,)
        Unclipped, so that it can be below 0 where there is no signal: only the bias of a ratio remains,
        of order 1 / n_stimuli. nan where fewer than two stimuli have two repeats, or where nothing varies.

    References
    ----------
    Allen et al. (2022), doi:10.1038/s41593-021-00962-x, for the signal and noise variances.
    """
    data = np.asarray(repeats, dtype=np.float64)
    n = np.isfinite(data).sum(0).astype(np.float64)
    count = np.maximum(n, 1)
    mean = np.where(n > 0, np.nansum(data, axis=0) / count, np.nan)
    squares = np.nansum((data - mean) ** 2, axis=0)
    degrees = np.maximum(n - 1, 0).sum(0)
    seen = (n > 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = squares.sum(0) / degrees
        spread = _variance_over_stimuli(mean)
        noise_of_means = noise * np.where(n > 0, 1 / count, 0).sum(0) / seen
        signal = spread - noise_of_means
        ceiling = signal / (signal + noise / n_averaged)
    enough = ((n >= 2).sum(0) >= 2) & (seen >= 2) & (spread > 0)
    return np.asarray(np.where(enough, ceiling, np.nan))


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
        Can exceed 1; nan where the ceiling is not above 0.
    """
    same_length(score=score, ceiling=ceiling)
    usable = np.where(ceiling > 0, ceiling, np.nan)
    return np.asarray(score / (usable if of == "r2" else np.sqrt(usable)))


def _centred(values: FloatArray) -> FloatArray:
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(wide - wide.mean(0))


def _varies(values: FloatArray, centred: FloatArray) -> BoolArray:
    """Tell where a column is finite and not constant up to rounding."""
    size = np.abs(np.asarray(values, dtype=np.float64)).max(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(size) & (np.abs(centred).max(0) > 1e-7 * size), dtype=bool)


def _variance_over_stimuli(mean: FloatArray) -> FloatArray:
    seen = np.isfinite(mean)
    n = np.maximum(seen.sum(0), 1)
    centre = np.where(seen, mean, 0).sum(0) / n
    squares = np.where(seen, (mean - centre) ** 2, 0).sum(0)
    return np.asarray(squares / np.maximum(n - 1, 1))


def weighted_correlation(y: FloatArray, yhat: FloatArray, weights: FloatArray) -> FloatArray:
    """Correlate under several weightings of the stimuli, such as the counts of bootstrap draws.

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)
    weights : ndarray of shape (n_draws, n_stimuli)
        Non-negative, each row summing to 1.

    Returns
    -------
    ndarray of float32, shape (n_draws, n_voxels)
        nan where undefined.
    """
    a, b = (_centred(values).astype(np.float32) for values in (y, yhat))
    w = weights.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, mean_b = w @ a, w @ b
        spread = np.sqrt((w @ (a * a) - mean_a**2) * (w @ (b * b) - mean_b**2))
        return np.asarray((w @ (a * b) - mean_a * mean_b) / spread)
