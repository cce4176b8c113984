"""How well predictions match responses."""

from __future__ import annotations

from typing import Final

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, arrays, check_finite, tiles
from latentcortex.errors import InputError
from latentcortex.executors import one_thread, share
from latentcortex.scoring._centring import PAIR, less_mean, standard

MIN_GAIN: Final = 0.01
"""Expected R² of a voxel without noise below which a ridge predicts nothing."""


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
    a, b = (standard(side)[0] for side in arrays(y=(y, PAIR), yhat=(yhat, PAIR)))
    return np.asarray(np.clip((a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0)), -1, 1))


def r2(y: FloatArray, yhat: FloatArray, *, offset: bool = True) -> FloatArray:
    r"""Compute the fraction of the response's variance that the prediction explains.

    .. math:: R^2 = 1 - \sum_t (y_t - \hat y_t)^2 / \sum_t (y_t - \bar y)^2

    It is that of scikit-learn, and has two terms: R² about the means, of residuals without their mean over stimuli,
    and the offset, which is never above 0:

    .. math:: R^2 = R^2_{\text{about means}} - n (\bar y - \bar{\hat y})^2 / \sum_t (y_t - \bar y)^2

    Where the baseline of the test set differs from that of the fitted stimuli, the offset says so and nothing of the
    stimuli: shares and differences between models are of R² about the means.

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)
    offset : bool
        Whether the offset counts; otherwise the result is R² about the means.

    Returns
    -------
    ndarray of shape (n_voxels,)
        At most 1, unbounded below; nan where the response is constant or anything is not finite.
    """
    y, yhat = arrays(y=(y, PAIR), yhat=(yhat, PAIR))
    centred, unit = standard(y)
    error = _error(y, yhat, unit, offset=offset)
    with np.errstate(over="ignore"):
        score = 1 - (error * error).sum(0) / (centred * centred).sum(0)
    return np.asarray(np.where(np.isfinite(score), score, np.nan))


def _error(y: FloatArray, yhat: FloatArray, unit: FloatArray, *, offset: bool) -> FloatArray:
    """Subtract the prediction, in float64 and in units of the response; without an offset also the mean of the rest."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.asarray((np.asarray(y, dtype=np.float64) - yhat) / unit)
        return error if offset else less_mean(error)


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
    y, yhat, weights = arrays(y=(y, PAIR), yhat=(yhat, PAIR), weights=(weights, "n_draws n_stimuli"))
    a, b = (standard(values)[0].astype(np.float32) for values in (y, yhat))
    w = checked_weights(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, mean_b = w @ a, w @ b
        spread = np.sqrt(spread_of(w @ (a * a), mean_a) * spread_of(w @ (b * b), mean_b))
        return np.asarray(np.clip((w @ (a * b) - mean_a * mean_b) / spread, -1, 1))


def checked_weights(weights: FloatArray) -> FloatArray:
    """Return weights of stimuli in float32; raise `InputError` unless they are at least 0, each row of sum 1."""
    check_finite("weights", weights)
    total = weights.sum(1, dtype=np.float64)
    if weights.min(initial=0) < 0 or not np.allclose(total, 1, atol=1e-4):
        given = f"from {weights.min():g}, of sum {total.min():g} to {total.max():g}"
        raise InputError(f"weights must be at least 0, each row of sum 1; found some {given}.")
    return weights.astype(np.float32)


def spread_of(squares: FloatArray, mean: FloatArray) -> FloatArray:
    """Take the variance from mean squares and means; nan where it is no more than rounding of these in float32."""
    variance = squares - mean**2
    return np.asarray(np.where(variance > 1e-5 * squares, variance, np.nan))


def weighted_r2(
    y: FloatArray, yhat: FloatArray, weights: FloatArray, *, own_mean: bool = True, offset: bool = True
) -> FloatArray:
    """Score R² under several weightings of the stimuli.

    Parameters
    ----------
    y, yhat, weights
        As for `weighted_correlation`.
    own_mean : bool
        Whether the variance of a draw is about the draw's own mean, as when it is scored anew, or about that of all
        stimuli. Draws of a bootstrap have fewer different stimuli, so that about their own mean they vary less: by 1/n
        on average, and by another amount in every draw, which is the same in all voxels.
    offset : bool
        Whether what a shift of the mean costs counts; see `r2`. The mean is that of a draw or of all stimuli, too.

    Returns
    -------
    ndarray of float32, shape (n_draws, n_voxels)
        nan where undefined.
    """
    y, yhat, weights = arrays(y=(y, PAIR), yhat=(yhat, PAIR), weights=(weights, "n_draws n_stimuli"))
    w, (centred, unit) = checked_weights(weights), standard(y)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        centred, error = centred.astype(np.float32), _error(y, yhat, unit, offset=offset).astype(np.float32)
        squared = w @ (centred * centred)
        variance = spread_of(squared, w @ centred)
        lost = w @ (error * error) - (0 if offset or not own_mean else (w @ error) ** 2)
        return np.asarray(1 - lost / (variance if own_mean else np.where(np.isnan(variance), np.nan, squared)))


@one_thread()
def corrected_r2(score: FloatArray, gram: FloatArray, across: FloatArray, alpha: FloatArray) -> FloatArray:
    r"""Correct R² for what a ridge of this width and this many stimuli must lose; comparable between bands.

    If the voxel's weights are drawn alike for all columns (so that its signal lies along the features' spectrum),
    and a fraction :math:`\rho` of its variance is signal, the expected held-out score of ridge is linear in
    :math:`\rho`, and the correction is its inverse:

    .. math:: E R^2 = \rho a - (1 - \rho) b - m, \qquad \hat\rho = (R^2 + b + m) / (a + b)

    with :math:`A = (K + \alpha)^{-1}`, :math:`a = \mathrm{tr}(2 K_t A K_t^T - K_t A K A K_t^T) / \mathrm{tr} K_{tt}`
    and :math:`b = \mathrm{tr}(K_t A^2 K_t^T) / n_t`; m, 1 / n_t + 1 / n_fitted, is what estimating
    two means costs. Where weights do not lie along the spectrum it is wrong: `alignment` tells.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        Held-out R².
    gram : ndarray of shape (n_fitted, n_fitted)
        Kernel of the fitted stimuli, centred.
    across : ndarray of shape (n_stimuli, n_fitted)
        Kernel between held-out and fitted stimuli. The held-out stimuli's own kernel is taken to have the mean
        diagonal of the fitted ones.
    alpha : ndarray of shape (n_voxels,)
        The penalty of each voxel.

    Returns
    -------
    ndarray of shape (n_voxels,)
        The fraction of variance that the band could explain with unlimited stimuli; can be below 0 and above 1.
        nan where the score or alpha is, and where alpha shrinks the expected gain below .01: nothing is predicted
        there, and nothing can be corrected.

    References
    ----------
    Lage-Castellanos, De Martino and Valente (2024), for the bias; the inverse here follows from the prior above.
    """
    score, gram, across, alpha = arrays(
        score=(score, "n_voxels"),
        gram=(gram, "n_fitted n_fitted"),
        across=(across, "n_stimuli n_fitted"),
        alpha=(alpha, "n_voxels"),
    )
    check_finite("gram", gram)
    check_finite("across", across)
    values, vectors = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    values = np.maximum(values, 0)
    power = ((across @ vectors) ** 2).sum(0)
    defined = np.isfinite(alpha) & (alpha > 0) & np.isfinite(score)
    means = 1 / len(across) + 1 / len(gram)

    def corrected(tile: slice) -> FloatArray:
        left = 1 / (values + np.where(defined[tile], alpha[tile], 1.0)[:, None])
        gain = (2 * left - values * left**2) @ power / (np.trace(gram) / len(gram) * len(across))
        noise = (left**2) @ power / len(across)
        return np.where(defined[tile] & (gain > MIN_GAIN), (score[tile] + noise + means) / (gain + noise), np.nan)

    parts = share(corrected, tiles(len(score)))
    return np.concatenate(parts) if parts else np.empty(0)


@one_thread()
def alignment(y: FloatArray, gram: FloatArray) -> FloatArray:
    """Tell whether a voxel's signal lies along the features' spectrum, as `corrected_r2` takes for granted.

    Signal variance per unit of kernel is estimated from the directions that hold the first half of the kernel's
    trace, and from the others; their ratio, others to first, is 1 on average over voxels where the prior holds, above
    1 where small directions hold more of the signal than their share, and below 1 where they hold less.

    Parameters
    ----------
    y : ndarray of shape (n_fitted, n_voxels)
    gram : ndarray of shape (n_fitted, n_fitted)
        Centred.

    Returns
    -------
    ndarray of shape (2, n_voxels)
        The two estimates, first half and others; each can be negative. Average them over voxels before dividing.
        nan where a voxel is not finite.

    Raises
    ------
    AlignmentError
        If there is not one row of responses for each of the kernel.
    InputError
        If there are fewer than 4 stimuli, or the kernel is not finite.
    """
    y, gram = arrays(y=(y, "n_fitted n_voxels"), gram=(gram, "n_fitted n_fitted"))
    check_finite("gram", gram)
    if len(gram) < 4:
        raise InputError(f"{len(gram)} stimuli are too few to compare directions; needs at least 4.")
    values, vectors = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    order = np.argsort(-values)
    values, z2 = np.maximum(values[order], 0), (vectors[:, order].T @ less_mean(y)) ** 2
    first = np.cumsum(values) <= values.sum() / 2
    first[0] = True
    # Two groups and a common noise: what the mean power of each exceeds the flattest tenth by. Of equal values, such
    # as the zeros of a band with few columns, no order is better than another, and the flattest are all of them.
    flattest = values[-1 - max((len(values) - 1) // 10, 1)] + len(values) * np.finfo(np.float64).eps * values[0]
    floor = values <= flattest

    def mean(values: FloatArray, rows: BoolArray) -> FloatArray:
        """Average, but for the direction of the intercept, which is the last and has no power."""
        return np.asarray(values[rows].sum(0) / (rows.sum() - rows[-1]))

    low, base = mean(values, floor), mean(z2, floor)
    ratios = [(mean(z2, rows) - base) / max(float(mean(values, rows) - low), 1e-300) for rows in (first, ~first)]
    return np.stack(ratios)
