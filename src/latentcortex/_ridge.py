"""Solvers of banded ridge as plain functions of Gram matrices. numpy in, numpy out.

The model is y = intercept + sum_b x_b w_b with penalty alpha * sum_b |w_b|^2 / gamma_b: band b has the kernel
gamma_b K_b, where gamma, one number per band summing to one, is a *mixture*. Rows carry weights (how many
trials they average), so that the fit equals the one on single trials. The intercept is removed exactly,
by rotating rows into the complement of the weights' square roots: no null direction is left on which
generalised cross-validation could choose the smallest alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy import linalg

from latentcortex._arrays import FloatArray, IntArray, in_threads, one_thread, tiles

HOPELESS = 0.997
"""Fraction of the null model's GCV score above which a voxel's first mixture has found nothing."""
RANK_TOLERANCE: Final = 1e-12
"""Directions whose eigenvalue is below this fraction of the largest are rounding."""
TIE: Final = 1e-5
"""Errors that differ by less than this fraction are equal: float32 cannot tell them apart."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A fitted banded ridge, in its dual form.

    Parameters
    ----------
    dual : ndarray of float64, shape (n_rows, n_voxels)
        The prediction from band b is gamma[mixture, b] * K_b(test, train) @ dual.
    intercept : ndarray of shape (n_voxels,)
    alpha : ndarray of shape (n_voxels,)
        The chosen penalty.
    mixture : ndarray of int, shape (n_voxels,)
        Row of `mixtures` that was chosen.
    """

    dual: FloatArray
    intercept: FloatArray
    alpha: FloatArray
    mixture: IntArray


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The orthonormal basis of the complement of sqrt(weights), as a Householder reflection."""

    root: FloatArray

    @property
    def _normal(self) -> FloatArray:
        normal = self.root / np.linalg.norm(self.root)
        normal[0] += 1.0
        return np.asarray(normal / np.linalg.norm(normal))

    def forward(self, rows: FloatArray) -> FloatArray:
        """Weight rows (n, m) and rotate them into the complement (n - 1, m)."""
        weighted = rows * self.root[:, None]
        normal = self._normal
        return np.asarray((weighted - 2 * np.outer(normal, normal @ weighted))[1:])

    def gram(self, gram: FloatArray) -> FloatArray:
        """Weight and rotate a Gram matrix (n, n) on both sides."""
        return self.forward(self.forward(gram).T)

    def backward(self, dual: FloatArray) -> FloatArray:
        """Bring dual weights (n - 1, m) back to the rows (n, m); each column then sums to 0."""
        normal = self._normal[:, None]
        full = np.concatenate([np.zeros_like(dual[:1]), dual])
        return np.asarray((full - 2 * normal * (normal.T @ full)) * self.root[:, None])


@dataclass(frozen=True, eq=False)
class _Problem:
    """Everything one set of rows gives, in the joint row space of all bands (rank r of n - 1)."""

    grams: list[FloatArray]  # n_bands of (r, r)
    targets: FloatArray  # (r, n_voxels), float32
    outside: FloatArray  # (n_voxels,): squared response that no band can reach
    n_outside: int
    basis: FloatArray  # (n - 1, r)
    rotation: _Rotation
    intercept: FloatArray

    @classmethod
    def of(cls, grams: Sequence[FloatArray], y: FloatArray, weights: FloatArray) -> _Problem:
        rotation = _Rotation(np.sqrt(weights))
        rotated = [rotation.gram(gram) for gram in grams]
        values, vectors = linalg.eigh(np.sum(rotated, axis=0), driver="evd", overwrite_a=True, check_finite=False)
        kept = values > RANK_TOLERANCE * max(values[-1], np.finfo(float).tiny)
        basis = vectors[:, kept]
        inner = [basis.T @ gram @ basis for gram in rotated] if len(grams) > 1 else [np.diag(values[kept])]
        intercept = weights @ y / weights.sum()
        targets = np.empty((basis.shape[1], y.shape[1]), dtype=np.float32)
        outside = np.empty(y.shape[1])

        def fill(tile: slice) -> None:
            targets[:, tile], outside[tile] = _targets(y[:, tile], intercept[tile], rotation, basis)

        in_threads(fill, tiles(y.shape[1]))
        n_outside = int(len(values) - kept.sum())
        # What is left of a response that the bands can reach in full is rounding.
        outside *= n_outside > 0
        return cls(inner, targets, outside, n_outside, basis, rotation, intercept)

    def only(self, voxels: slice | IntArray) -> _Problem:
        """Take some voxels."""
        return replace(self, targets=self.targets[:, voxels], outside=self.outside[voxels])


def _targets(
    y: FloatArray, intercept: FloatArray, rotation: _Rotation, basis: FloatArray
) -> tuple[FloatArray, FloatArray]:
    rotated = rotation.forward(np.asarray(y, dtype=np.float64) - intercept)
    inside = basis.T @ rotated
    rest = np.maximum((rotated**2).sum(0) - (inside**2).sum(0), 0)
    return inside.astype(np.float32), rest


def _decomposed(kernel: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Compute eigenvalues, ascending, and eigenvectors; the kernel is overwritten."""
    values, vectors = linalg.eigh(kernel, driver="evd", overwrite_a=True, check_finite=False)
    return values, vectors


def _weighted_sum(mixture: FloatArray, grams: Sequence[FloatArray]) -> FloatArray:
    total = np.zeros_like(grams[0])
    for weight, gram in zip(mixture, grams, strict=True):
        total += weight * gram
    return total


@dataclass(frozen=True, eq=False)
class _Mixed:
    """One mixture of kernels, decomposed: eigenvalues (r,), at least 0, and eigenvectors (r, r).

    With a single band the basis of the problem is that of the eigenvectors already: there are none to apply.
    """

    values: FloatArray
    vectors: FloatArray | None

    @classmethod
    def of(cls, grams: Sequence[FloatArray], mixture: FloatArray) -> _Mixed:
        if len(grams) == 1:
            return cls(np.maximum(mixture[0] * np.diag(grams[0]), 0), None)
        values, vectors = _decomposed(_weighted_sum(mixture, grams))
        return cls(np.maximum(values, 0), vectors)

    def forward(self, targets: FloatArray) -> FloatArray:
        """Rotate targets (r, n_voxels) to the eigenvectors, in their own precision."""
        return targets if self.vectors is None else self.vectors.T.astype(targets.dtype) @ targets

    def backward(self, dual: FloatArray) -> FloatArray:
        """Rotate dual weights (r, n_voxels) back."""
        return dual if self.vectors is None else self.vectors @ dual


def _search(problem: _Problem, mixed: Sequence[_Mixed], alphas: FloatArray) -> list[tuple[FloatArray, IntArray]]:
    """Find the best alpha of every mixture by generalised cross-validation: its score and number.

    The first mixture is tried on all voxels. The others are tried where it leaves less than a hopeless part of
    the variance; elsewhere there is nothing to divide between bands, and their score is infinite.
    """
    n_voxels = problem.targets.shape[1]
    first = in_threads(lambda tile: _smallest(_gcv(problem.only(tile), mixed[0], alphas)), tiles(n_voxels))
    score, index = (np.concatenate(part) for part in zip(*first, strict=True))
    nothing = ((problem.targets**2).sum(0) + problem.outside) / (len(problem.basis)) ** 2
    hopeful = np.flatnonzero(score < HOPELESS * nothing)
    narrowed = problem.only(hopeful)
    best = [(score, index)]
    for some_score, some_index in in_threads(lambda one: _smallest(_gcv(narrowed, one, alphas)), mixed[1:]):
        full, numbers = np.full(n_voxels, np.inf, dtype=np.float32), np.zeros(n_voxels, dtype=np.intp)
        full[hopeful], numbers[hopeful] = some_score, some_index
        best.append((full, numbers))
    return best


def _gcv(problem: _Problem, mixed: _Mixed, alphas: FloatArray) -> FloatArray:
    """Score every alpha by generalised cross-validation; (n_alphas, n_voxels), smaller is better."""
    values = mixed.values
    shrink = alphas[:, None] / (values + alphas[:, None])
    free = shrink.sum(1) + problem.n_outside
    squared = (shrink**2).astype(np.float32)
    out = np.empty((len(alphas), problem.targets.shape[1]), dtype=np.float32)
    for tile in tiles(problem.targets.shape[1]):
        z = mixed.forward(problem.targets[:, tile])
        error = squared @ (z * z) + problem.outside[tile].astype(np.float32)
        out[:, tile] = error / (free**2)[:, None]
    return out


def _fold_errors(
    grams: Sequence[FloatArray],
    y: FloatArray,
    weights: FloatArray,
    mixtures: FloatArray,
    alphas: FloatArray,
    test: FloatArray,
) -> FloatArray:
    """Sum squared errors on the held-out rows of one fold; (n_mixtures, n_alphas, n_voxels)."""
    train = ~np.asarray(test, dtype=bool)
    inner = [gram[np.ix_(train, train)] for gram in grams]
    problem = _Problem.of(inner, y[train], weights[train])
    onto = [_centred_rows(gram[np.ix_(test, train)], k, weights[train]) for gram, k in zip(grams, inner, strict=True)]
    truth = (y[test] - problem.intercept).astype(np.float32)
    importance = weights[test].astype(np.float32)
    out = np.zeros((len(mixtures), len(alphas), y.shape[1]), dtype=np.float32)
    for m, mixture in enumerate(mixtures):
        mixed = _Mixed.of(problem.grams, mixture)
        values, z = mixed.values, mixed.forward(problem.targets)
        directions = problem.basis if mixed.vectors is None else problem.basis @ mixed.vectors
        ahead = _weighted_sum(mixture, onto) @ problem.rotation.backward(directions)
        for a, alpha in enumerate(alphas):
            error = truth - (ahead / (values + alpha)).astype(np.float32) @ z
            out[m, a] = importance @ (error * error)
    return out


def _centred_rows(across: FloatArray, inner: FloatArray, weights: FloatArray) -> FloatArray:
    """Move the origin of new rows to the training rows' weighted mean.

    Dual weights sum to zero, so only the term that varies with the training row is left to subtract.
    """
    return np.asarray(across - weights @ inner / weights.sum())


@one_thread()
def solve(
    grams: Sequence[FloatArray],
    y: FloatArray,
    *,
    weights: FloatArray,
    mixtures: FloatArray,
    alphas: FloatArray,
    folds: IntArray | None = None,
) -> Solution:
    """Fit banded ridge, choosing mixture and alpha for each voxel.

    Parameters
    ----------
    grams : sequence of n_bands ndarrays of shape (n_rows, n_rows)
        Centred on the weighted mean of the rows.
    y : ndarray of shape (n_rows, n_voxels)
    weights : ndarray of shape (n_rows,)
        How many trials each row averages.
    mixtures : ndarray of shape (n_mixtures, n_bands)
    alphas : ndarray of shape (n_alphas,)
    folds : ndarray of int, shape (n_rows,), optional
        Choose by k-fold cross-validation over these folds, held-out rows counted by their weights; by
        generalised cross-validation over the rows without.

    Returns
    -------
    Solution

    References
    ----------
    Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751; Dupré la Tour et al. (2022),
    doi:10.1016/j.neuroimage.2022.119728
    """
    problem = _Problem.of(grams, y, weights)
    mixed = in_threads(lambda mixture: _Mixed.of(problem.grams, mixture), list(mixtures))
    if folds is None:
        best = _search(problem, mixed, alphas)
    else:
        parts = in_threads(
            lambda k: _fold_errors(grams, y, weights, mixtures, alphas, folds == k), list(np.unique(folds))
        )
        best = [_smallest(errors) for errors in np.sum(parts, axis=0)]
    scores = np.stack([score for score, _ in best])
    mixture = (scores <= scores.min(0) * np.float32(1 + TIE)).argmax(0)
    alpha = alphas[np.stack([index for _, index in best])[mixture, np.arange(y.shape[1])]]
    return _assemble(problem, mixed, mixture, alpha)


def _smallest(errors: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return each voxel's smallest error and its alpha; among equals the largest alpha."""
    smallest = errors.min(0)
    equal = errors <= smallest * np.float32(1 + TIE)
    return smallest, len(errors) - 1 - equal[::-1].argmax(0)


def _assemble(problem: _Problem, mixed: Sequence[_Mixed], mixture: IntArray, alpha: FloatArray) -> Solution:
    """Solve at the chosen mixture and alpha of each voxel, in blocks of the canonical grid."""
    out = np.empty((len(problem.basis) + 1, len(alpha)))

    def fill(tile: slice) -> None:
        dual = np.empty(problem.targets[:, tile].shape, dtype=np.float64)
        for m in np.unique(mixture[tile]):
            own = np.flatnonzero(mixture[tile] == m)
            z = mixed[m].forward(problem.targets[:, tile][:, own].astype(np.float64))
            dual[:, own] = mixed[m].backward(z / (mixed[m].values[:, None] + alpha[tile][own]))
        out[:, tile] = problem.rotation.backward(problem.basis @ dual)

    in_threads(fill, tiles(len(alpha)))
    return Solution(out, problem.intercept, alpha, mixture)


def predict_bands(grams: Sequence[FloatArray], solution: Solution, mixtures: FloatArray) -> FloatArray:
    """Predict from each band alone, without the intercept.

    Parameters
    ----------
    grams : sequence of n_bands ndarrays of shape (n_new, n_rows)
        Kernels between new and fitted rows, centred on the fitted rows.
    solution : Solution
    mixtures : ndarray of shape (n_mixtures, n_bands)

    Returns
    -------
    ndarray of float32, shape (n_bands, n_new, n_voxels)
    """
    gamma = mixtures[solution.mixture]

    out = np.empty((len(grams), len(grams[0]), solution.dual.shape[1]), dtype=np.float32)

    def fill(tile: slice) -> None:
        # In float64: where alpha is small, dual weights are large and cancel.
        for b, gram in enumerate(grams):
            out[b, :, tile] = (gram @ solution.dual[:, tile]) * gamma[tile, b]

    in_threads(fill, tiles(solution.dual.shape[1]))
    return out
