"""Which mixture of bands and which alpha each voxel gets.

For one mixture, with U diag(lambda) U' = sqrt(W) K sqrt(W) the decomposition of its kernel of weighted rows and z = U'y
the rotated responses, the residuals of ridge with penalty alpha are

    e = U diag(s) z + (y - U z),    s = 1 / (1 + lambda / alpha)

so that after one decomposition, whatever the number of voxels, every alpha costs one product of squared shrinkage s
with squared rotated responses z. Voxels come in tiles, and no array grows with the number of all voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray
from latentcortex._ridge.candidates import SearchSpace
from latentcortex._ridge.decompositions import DecomposedMixture
from latentcortex._ridge.prepared import CentredResponses, PreparedRows

MAX_NULL_ERROR: Final = 0.997
"""A voxel is given further mixtures only if the first leaves less than this fraction of the intercept's error."""
RELATIVE_TIE: Final = 1e-5
"""Two errors count as equal if they differ by less than this fraction, which float32 cannot resolve."""


@dataclass(frozen=True, eq=False)
class BestCandidate:
    """The candidate with the smallest error in each voxel of a tile.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that the candidate removes; nan where the intercept has no error.
    alpha : ndarray of shape (n_voxels,)
    mixture : ndarray of int, shape (n_voxels,)
        Row of `SearchSpace.mixtures`.
    """

    score: FloatArray
    alpha: FloatArray
    mixture: IntArray


def by_rows(prepared: PreparedRows, targets: CentredResponses, search: SearchSpace) -> list[BestCandidate]:
    """Search by generalised or leave-one-out cross-validation; one result per model.

    The first mixture of a model is tried in all voxels, the others only in voxels that it predicts: elsewhere there is
    nothing to divide between bands. A mixture that comes after another one (`ModelCandidates.after`) is tried only
    where that one is the best so far.
    """
    models, n_voxels = search.models, len(targets.intercept)
    leaves_out_rows = search.selection == "loo"
    null_error = _null_error(prepared, targets, leaves_out_rows=leaves_out_rows)  # (n_voxels,)
    best_error = np.full((len(models), n_voxels), np.inf)
    best_alpha = np.ones((len(models), n_voxels))
    best_mixture = np.full((len(models), n_voxels), -1, dtype=np.intp)
    predicted = np.zeros((len(models), n_voxels), dtype=bool)  # by the model's first mixture

    for k, gamma in enumerate(search.mixtures):
        tried = np.zeros((len(models), n_voxels), dtype=bool)
        for m, model in enumerate(models):
            if k == model.mixtures[0]:
                tried[m] = True
            elif k in model.mixtures:
                after = model.after[model.mixtures.index(k)] if model.after else -1
                tried[m] = predicted[m] if after < 0 else predicted[m] & (best_mixture[m] == after)
        voxels = np.flatnonzero(tried.any(axis=0))  # (n_tried,)
        if len(voxels) == 0:
            continue

        y = targets.rows if len(voxels) == n_voxels else targets.rows[:, voxels]  # (n_rows, n_tried)
        errors_of = _leave_one_out_errors if leaves_out_rows else _gcv_errors
        errors = errors_of(prepared, prepared.of_mixture(gamma), y, search.alphas)  # (n_alphas, n_tried)
        error, alpha = _best_alpha(errors, search)  # (n_tried,)

        for m, model in enumerate(models):
            better = tried[m, voxels] & (error < best_error[m, voxels] * (1 - RELATIVE_TIE))  # (n_tried,)
            won = voxels[better]
            best_error[m, won], best_alpha[m, won], best_mixture[m, won] = error[better], alpha[better], k
            if k == model.mixtures[0]:
                predicted[m] = (best_error[m] < MAX_NULL_ERROR * null_error) | (not model.gated)

    first = np.array([model.mixtures[0] for model in models])[:, None]  # where no error is finite
    return _scored(best_error, null_error, best_alpha, np.maximum(best_mixture, first))


def by_folds(folds: Sequence[PreparedRows], y: FloatArray, search: SearchSpace) -> list[BestCandidate]:
    """Search a tile of responses (n_rows, n_voxels) by k-fold cross-validation; one result per model."""
    *errors, null_error = np.sum([held_out_errors(fold, y, search) for fold in folds], axis=0)
    by_mixture = [_best_alpha(errors_of_alphas, search) for errors_of_alphas in errors]
    error, alpha = (np.stack(values) for values in zip(*by_mixture, strict=True))  # (n_mixtures, n_voxels)
    chosen = []
    for model in search.models:
        rows = np.asarray(model.mixtures)
        equal = error[rows] <= error[rows].min(axis=0) * (1 + RELATIVE_TIE)  # (n_mixtures_of_model, n_voxels)
        chosen.append(rows[equal.argmax(axis=0)])  # the first of equals
    mixture = np.stack(chosen)  # (n_models, n_voxels)
    voxel = np.arange(y.shape[1])
    return _scored(error[mixture, voxel], null_error[0], alpha[mixture, voxel], mixture)


def held_out_errors(fold: PreparedRows, y: FloatArray, search: SearchSpace) -> FloatArray:
    """Sum the weighted squared errors of the rows that a fold holds out; (n_mixtures + 1, n_alphas, n_voxels).

    With z = D'y the rotated training responses and A what carries them to the held-out rows (`DecomposedMixture`), the
    errors are y_held_out - A diag(1 / (lambda + alpha)) z. The last of the first axis is the error of the intercept.

    Parameters
    ----------
    fold : PreparedRows
        Of the training rows.
    y : ndarray of shape (n_rows, n_voxels)
        Responses of all rows.
    search : SearchSpace
    """
    backend, dtype, train = fold.backend, fold.dtype, fold.train
    targets = fold.targets(y[train])
    held_out = y[~train]
    truth = backend.put(
        np.where(np.isfinite(held_out), held_out - targets.intercept, 0), dtype
    )  # (n_held_out, n_voxels)
    weights = backend.put(fold.held_out_weights, dtype)  # (n_held_out,)
    out = np.empty((len(search.mixtures) + 1, len(search.alphas), y.shape[1]))
    out[-1] = backend.get(weights @ (truth * truth))
    for m, gamma in enumerate(search.mixtures):
        mixture = fold.of_mixture(gamma)
        z = mixture.directions.T @ targets.rows  # (n_directions, n_voxels)
        for a, alpha in enumerate(search.alphas):
            error = truth - (mixture.ahead / backend.put(mixture.values + alpha, dtype)) @ z  # (n_held_out, n_voxels)
            out[m, a] = backend.get(weights @ (error * error))
    return out


def _scored(error: FloatArray, null_error: FloatArray, alpha: FloatArray, mixture: IntArray) -> list[BestCandidate]:
    """Express errors (n_models, n_voxels) as the fraction of the intercept's error (n_voxels,) that is gone."""
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(null_error > 0, 1 - error / null_error, np.nan)
    return [BestCandidate(*of_model) for of_model in zip(score, alpha, mixture, strict=True)]


def _null_error(prepared: PreparedRows, targets: CentredResponses, *, leaves_out_rows: bool) -> FloatArray:
    """Compute the error of the intercept alone, by the criterion that compares candidates; (n_voxels,)."""
    if not leaves_out_rows:
        return np.asarray(prepared.total(targets.rows) / prepared.n_free**2)
    weights = prepared.weights  # (n_rows,)
    unleveraged = 1 - weights / weights.sum() * prepared.intercept  # (n_rows,): 1 less the diagonal of the hat matrix
    y = prepared.backend.get(targets.rows).astype(np.float64)  # (n_rows, n_voxels)
    return np.asarray((weights / unleveraged**2) @ (y * y))


def _gcv_errors(prepared: PreparedRows, mixture: DecomposedMixture, y: Any, alphas: FloatArray) -> FloatArray:
    """Score every alpha of one mixture by generalised cross-validation; (n_alphas, n_voxels).

    GCV(alpha) = (sum_i s_i^2 z_i^2 + |y - U z|^2) / (sum_i s_i + n_unreached)^2

    with n_unreached the directions of the rows that no column of the features reaches: what lies there is left at every
    alpha.
    """
    shrinkage = mixture.shrinkage(alphas)  # (n_alphas, n_directions)
    z = mixture.directions.T @ y  # (n_directions, n_voxels)
    z *= z
    error = prepared.backend.get(prepared.backend.put(shrinkage**2, prepared.dtype) @ z)  # (n_alphas, n_voxels)
    n_unreached = prepared.n_free - len(mixture.values)
    if n_unreached:
        error = error + np.maximum(prepared.total(y) - prepared.backend.get(z.sum(0)), 0)
    return np.asarray(error / ((n_unreached + shrinkage.sum(1)) ** 2)[:, None])


def _leave_one_out_errors(prepared: PreparedRows, mixture: DecomposedMixture, y: Any, alphas: FloatArray) -> FloatArray:
    """Score every alpha of one mixture by leaving out one row at a time; (n_alphas, n_voxels).

    The error of a row that is left out is its residual e_i over 1 - h_i, with h_i the diagonal of the hat matrix; rows
    stay weighted by the square root of their weight, as their errors are.
    """
    backend, weights = prepared.backend, prepared.weights
    root = backend.put(np.sqrt(weights)[:, None], prepared.dtype)  # (n_rows, 1)
    u = mixture.directions / root  # (n_rows, n_directions)
    z = mixture.directions.T @ y  # (n_directions, n_voxels)
    u2 = backend.get(u * u).astype(np.float64)  # (n_rows, n_directions)
    unreached = 1 - weights / weights.sum() * prepared.intercept - u2.sum(1)  # (n_rows,)
    unexplained = y * root - u @ z if prepared.n_free > len(mixture.values) else 0  # (n_rows, n_voxels)
    out = np.empty((len(alphas), y.shape[1]))
    for a, shrinkage in enumerate(mixture.shrinkage(alphas)):
        unleveraged = np.maximum(unreached, 0) + u2 @ shrinkage  # (n_rows,): 1 - h
        residual = u @ (backend.put(shrinkage[:, None], prepared.dtype) * z) + unexplained  # (n_rows, n_voxels)
        left_out = residual / backend.put(unleveraged[:, None], prepared.dtype)
        out[a] = backend.get((left_out * left_out).sum(0))
    return out


def _best_alpha(errors: FloatArray, search: SearchSpace) -> tuple[FloatArray, FloatArray]:
    """Find each voxel's smallest error and its alpha; among equal errors that of the largest alpha.

    With `refine` a parabola runs through the logarithms of the smallest error and of its two neighbours, over log
    alpha. Its lowest point gives alpha and error where it lies between these neighbours.

    Parameters
    ----------
    errors : ndarray of shape (n_alphas, n_voxels)
    search : SearchSpace

    Returns
    -------
    error, alpha : ndarray of shape (n_voxels,)
    """
    alphas, smallest = search.alphas, errors.min(0)
    equal = errors <= smallest * (1 + RELATIVE_TIE)  # (n_alphas, n_voxels)
    index = len(errors) - 1 - equal[::-1].argmax(0)  # (n_voxels,)
    if not search.refine or len(alphas) < 3:
        return smallest, alphas[index]
    inside, voxel = np.clip(index, 1, len(alphas) - 2), np.arange(errors.shape[1])
    around = np.stack([errors[inside + k, voxel] for k in (-1, 0, 1)]).astype(np.float64)  # (3, n_voxels)
    positive = around.min(0) > 0
    left, middle, right = np.log(np.where(positive, around, 1))
    x = np.log(alphas)
    step_left, step_right = x[inside] - x[inside - 1], x[inside + 1] - x[inside]  # (n_voxels,)
    slope_left, slope_right = (middle - left) / step_left, (right - middle) / step_right
    curvature = (slope_right - slope_left) / (step_left + step_right)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (slope_left * step_right + slope_right * step_left) / (step_left + step_right)
        shift = -slope / (2 * curvature)
        lowest = middle - curvature * shift**2
    usable = (index == inside) & positive & (curvature > RELATIVE_TIE) & (shift >= -step_left) & (shift <= step_right)
    alpha = np.where(usable, np.exp(x[inside] + np.where(usable, shift, 0)), alphas[index])
    return np.where(usable, np.exp(np.where(usable, lowest, 0)), smallest), alpha
