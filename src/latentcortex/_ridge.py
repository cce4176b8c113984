"""Solvers of banded ridge as plain functions of Gram matrices. numpy in, numpy out.

The model is y = intercept + sum_b x_b w_b with penalty alpha * sum_b |w_b|^2 / gamma_b: band b has the kernel
gamma_b K_b, where gamma, one number per band summing to one, is a *mixture*. Rows carry weights (how many
trials they average), so that the fit equals the one on single trials. The intercept is removed exactly,
by rotating rows into the complement of the weights' square roots: no null direction is left on which
generalised cross-validation could choose the smallest alpha.

Each mixture is decomposed once, whatever the number of voxels; then every alpha costs one product of squared
shrinkage with squared rotated responses. Many rows of float32 responses are searched and solved in float32, and the
solution is refined in float64 where float32 is not enough for its alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from scipy import linalg

from latentcortex._arrays import BoolArray, FloatArray, IntArray, in_threads, n_cores, one_thread, tiles

AT_ONCE: Final = 256
"""Columns that are rotated together."""
HOPELESS: Final = 0.997
"""Fraction of the null model's GCV score above which a voxel's first mixture has found nothing."""
TIE: Final = 1e-5
"""Errors that differ by less than this fraction are equal: float32 cannot tell them apart."""
FEW_ROWS: Final = 512
"""Up to so many rows everything is float64: it costs nothing."""
SMALLEST: Final = 4e-6
"""Of the largest eigenvalue: a smaller alpha is lost in float32's rounding, and everything is float64."""
ROUNDING: Final = 8
"""Rounding errors of a decomposition and a product, in units of the last place."""
MOST_REFINED: Final = 8
"""Times that a solution in float32 is refined at most."""
ACCURATE: Final = 1e-5
"""Relative error of dual weights that a solution in float32 may have."""


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

    @cached_property
    def _normal(self) -> FloatArray:
        normal = self.root / np.linalg.norm(self.root)
        normal[0] += 1.0
        return np.asarray(normal / np.linalg.norm(normal))

    def forward(self, rows: FloatArray) -> FloatArray:
        """Weight rows (n, m) and rotate them into the complement (n - 1, m), in their own precision."""
        normal, root = self._normal.astype(rows.dtype), self.root.astype(rows.dtype)
        out = np.empty((len(rows) - 1, rows.shape[1]), dtype=rows.dtype)
        for some in _columns(rows.shape[1]):
            weighted = rows[:, some] * root[:, None]
            weighted -= np.outer(2 * normal, normal @ weighted)
            out[:, some] = weighted[1:]
        return out

    def gram(self, gram: FloatArray) -> FloatArray:
        """Weight and rotate a Gram matrix (n, n) on both sides."""
        return self.forward(self.forward(gram).T)

    def backward(self, dual: FloatArray, out: FloatArray) -> None:
        """Bring dual weights (n - 1, m) back to the rows, into `out` (n, m); each column then sums to 0."""
        normal, root = self._normal.astype(dual.dtype), self.root.astype(dual.dtype)
        for some in _columns(dual.shape[1]):
            shift = np.outer(-2 * normal, normal[1:] @ dual[:, some])
            shift[1:] += dual[:, some]
            shift *= root[:, None]
            out[:, some] = shift


@dataclass(frozen=True, eq=False)
class _Mixed:
    """One mixture of kernels, decomposed.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        Eigenvalues, at least 0.
    vectors : ndarray of shape (m, m)
        Eigenvectors, in the precision that is worked in.
    """

    values: FloatArray
    vectors: FloatArray

    @classmethod
    def of(cls, kernel: FloatArray, dtype: Any) -> _Mixed:
        values, vectors = linalg.eigh(kernel.astype(dtype), driver="evd", overwrite_a=True, check_finite=False)
        return cls(np.maximum(values.astype(np.float64), 0), vectors)

    def shrunk(self, alphas: FloatArray) -> FloatArray:
        """Compute what is left of each direction at each alpha; (n_alphas, m)."""
        return np.asarray(alphas[:, None] / (self.values + alphas[:, None]))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """One set of rows, ready for any responses: Gram matrices without the intercept, and their mixtures.

    Parameters
    ----------
    grams : list of n_bands ndarrays of float64, shape (m, m)
        Rotated; m = n_rows - 1.
    mixed : list of _Mixed
        One per mixture.
    mixtures : ndarray of shape (n_mixtures, n_bands)
    rotation : _Rotation
    weights : ndarray of shape (n_rows,)
    dtype : dtype
        What is worked in.
    """

    grams: list[FloatArray]
    mixed: list[_Mixed]
    mixtures: FloatArray
    rotation: _Rotation
    weights: FloatArray
    dtype: Any

    @classmethod
    def of(
        cls, grams: Sequence[FloatArray], weights: FloatArray, mixtures: FloatArray, alphas: FloatArray, dtype: Any
    ) -> _Prepared:
        rotation = _Rotation(np.sqrt(weights))
        rotated = in_threads(rotation.gram, list(grams))
        small = len(weights) <= FEW_ROWS or alphas.min() < SMALLEST * max(map(_largest, rotated))
        own = np.dtype(np.float64 if small else dtype)
        mixed = in_threads(lambda mixture: _Mixed.of(_weighted_sum(mixture, rotated), own), list(mixtures))
        return cls(rotated, mixed, mixtures, rotation, weights, own)

    def intercept(self, y: FloatArray) -> FloatArray:
        """Average responses over rows; (n_voxels,)."""
        return np.asarray(self.weights @ y / self.weights.sum())

    def targets(self, y: FloatArray, dtype: Any = None) -> FloatArray:
        """Rotate responses (n_rows, n_voxels), less their mean; (m, n_voxels), in the precision that is worked in."""
        centred = np.asarray(y, dtype=np.float64) - self.intercept(y)
        return self.rotation.forward(centred.astype(dtype or self.dtype))


def _columns(n: int) -> Iterator[slice]:
    """Cut columns into blocks that a processor's cache holds."""
    return (slice(i, i + AT_ONCE) for i in range(0, n, AT_ONCE))


def _largest(gram: FloatArray) -> float:
    """Bound the largest eigenvalue of a kernel."""
    return float(min(np.abs(gram).sum(0).max(), np.trace(gram)))


def _weighted_sum(mixture: FloatArray, grams: Sequence[FloatArray]) -> FloatArray:
    total = np.zeros_like(grams[0])
    for weight, gram in zip(mixture, grams, strict=True):
        if weight:
            total += weight * gram
    return total


# Search


@dataclass(frozen=True, eq=False)
class _Best:
    """The best candidate so far of some voxels, and their responses rotated to its eigenvectors.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
    alpha : ndarray of shape (n_voxels,)
    mixture : ndarray of int, shape (n_voxels,)
    z : ndarray of shape (m, n_voxels)
    """

    score: FloatArray
    alpha: FloatArray
    mixture: IntArray
    z: FloatArray

    @classmethod
    def by_gcv(cls, prepared: _Prepared, targets: FloatArray, alphas: FloatArray, *, refine: bool) -> _Best:
        """Search all mixtures and alphas by generalised cross-validation.

        The first mixture is tried on all voxels. The others are tried where it leaves less than a hopeless part
        of the variance; elsewhere there is nothing to divide between bands.
        """
        z = prepared.mixed[0].vectors.T @ targets
        score, alpha = _gcv(prepared.mixed[0], z, alphas, refine=refine)
        best = cls(score, alpha, np.zeros(targets.shape[1], dtype=np.intp), z)
        nothing = (targets**2).sum(0) / len(targets) ** 2
        hopeful = np.flatnonzero(score < HOPELESS * nothing)
        some = targets[:, hopeful]
        others = list(range(1, len(prepared.mixed))) if len(hopeful) else []

        def tried(k: int) -> tuple[FloatArray, FloatArray, FloatArray]:
            z = prepared.mixed[k].vectors.T @ some
            return *_gcv(prepared.mixed[k], z, alphas, refine=refine), z

        at_once = n_cores()
        for start in range(0, len(others), at_once):
            numbers = others[start : start + at_once]
            for k, (score, alpha, some_z) in zip(numbers, in_threads(tried, numbers), strict=True):
                better = np.asarray(score < best.score[hopeful] * (1 - TIE))
                own = hopeful[better]
                best.score[own], best.alpha[own], best.mixture[own] = score[better], alpha[better], k
                best.z[:, own] = some_z[:, better]
        return best


def _gcv(mixed: _Mixed, z: FloatArray, alphas: FloatArray, *, refine: bool) -> tuple[FloatArray, FloatArray]:
    """Find the best alpha by generalised cross-validation, and its score; (n_voxels,) each."""
    shrink = mixed.shrunk(alphas)
    errors = (shrink**2).astype(z.dtype) @ (z * z) / (shrink.sum(1) ** 2)[:, None].astype(z.dtype)
    return _smallest(errors, alphas, refine=refine)


def _smallest(errors: FloatArray, alphas: FloatArray, *, refine: bool) -> tuple[FloatArray, FloatArray]:
    """Return each voxel's smallest error and its alpha; among equals the largest alpha.

    With `refine` alpha is where a parabola through the smallest error and its neighbours is lowest, in log alpha.
    """
    smallest = errors.min(0)
    equal = errors <= smallest * (1 + TIE)
    index = len(errors) - 1 - equal[::-1].argmax(0)
    if not refine or len(alphas) < 3:
        return smallest, alphas[index]
    inside, voxel = np.clip(index, 1, len(alphas) - 2), np.arange(errors.shape[1])
    left, middle, right = (errors[inside + k, voxel].astype(np.float64) for k in (-1, 0, 1))
    x = np.log(alphas)
    dl, dr = x[inside] - x[inside - 1], x[inside + 1] - x[inside]
    slope_l, slope_r = (middle - left) / dl, (right - middle) / dr
    bend = (slope_r - slope_l) / (dl + dr)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = -((slope_l * dr + slope_r * dl) / (dl + dr)) / (2 * bend)
        lowest = middle - bend * shift**2
    usable = (index == inside) & (bend > TIE * middle) & (np.abs(shift) <= np.maximum(dl, dr))
    alpha = np.where(usable, np.exp(x[inside] + np.where(usable, shift, 0)), alphas[index])
    return np.where(usable, lowest, smallest).astype(errors.dtype), alpha


def _by_folds(
    grams: Sequence[FloatArray],
    y: FloatArray,
    prepared: _Prepared,
    alphas: FloatArray,
    folds: IntArray,
    *,
    refine: bool,
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Search by k-fold cross-validation; score, alpha and mixture, (n_voxels,) each."""
    mixtures, weights = prepared.mixtures, prepared.weights
    parts = in_threads(lambda k: _fold_errors(grams, y, weights, mixtures, alphas, folds == k), list(np.unique(folds)))
    best = [_smallest(errors, alphas, refine=refine) for errors in np.sum(parts, axis=0)]
    scores = np.stack([score for score, _ in best])
    mixture = (scores <= scores.min(0) * (1 + TIE)).argmax(0)
    voxel = np.arange(y.shape[1])
    return scores[mixture, voxel], np.stack([alpha for _, alpha in best])[mixture, voxel], mixture


def _fold_errors(
    grams: Sequence[FloatArray],
    y: FloatArray,
    weights: FloatArray,
    mixtures: FloatArray,
    alphas: FloatArray,
    test: BoolArray,
) -> FloatArray:
    """Sum squared errors on the held-out rows of one fold; (n_mixtures, n_alphas, n_voxels)."""
    train = ~np.asarray(test, dtype=bool)
    inner = [gram[np.ix_(train, train)] for gram in grams]
    prepared = _Prepared.of(inner, weights[train], mixtures, alphas, y.dtype)
    onto = [_centred_rows(gram[np.ix_(test, train)], k, weights[train]) for gram, k in zip(grams, inner, strict=True)]
    targets = prepared.targets(y[train])
    truth = (y[test] - prepared.intercept(y[train])).astype(prepared.dtype)
    importance = weights[test].astype(prepared.dtype)
    out = np.zeros((len(mixtures), len(alphas), y.shape[1]), dtype=np.float32)
    for m, (mixture, mixed) in enumerate(zip(mixtures, prepared.mixed, strict=True)):
        z = mixed.vectors.T @ targets
        directions = np.empty((int(train.sum()), len(mixed.values)))
        prepared.rotation.backward(mixed.vectors.astype(np.float64), directions)
        ahead = _weighted_sum(mixture, onto) @ directions
        for a, alpha in enumerate(alphas):
            error = truth - (ahead / (mixed.values + alpha)).astype(prepared.dtype) @ z
            out[m, a] = importance @ (error * error)
    return out


def _centred_rows(across: FloatArray, inner: FloatArray, weights: FloatArray) -> FloatArray:
    """Move the origin of new rows to the training rows' weighted mean.

    Dual weights sum to zero, so only the term that varies with the training row is left to subtract.
    """
    return np.asarray(across - weights @ inner / weights.sum())


# Solution


@one_thread()
def solve(
    grams: Sequence[FloatArray],
    y: FloatArray,
    *,
    weights: FloatArray,
    mixtures: FloatArray,
    alphas: FloatArray,
    folds: IntArray | None = None,
    refine: bool = True,
) -> Solution:
    """Fit banded ridge, choosing mixture and alpha for each voxel.

    Parameters
    ----------
    grams : sequence of n_bands ndarrays of shape (n_rows, n_rows)
        Centred on the weighted mean of the rows.
    y : ndarray of shape (n_rows, n_voxels)
        In float64 everything is float64.
    weights : ndarray of shape (n_rows,)
        How many trials each row averages.
    mixtures : ndarray of shape (n_mixtures, n_bands)
    alphas : ndarray of shape (n_alphas,)
        Ascending.
    folds : ndarray of int, shape (n_rows,), optional
        Choose by k-fold cross-validation over these folds, held-out rows counted by their weights; by
        generalised cross-validation over the rows without.
    refine : bool
        Choose alpha between the given ones.

    Returns
    -------
    Solution

    References
    ----------
    Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751; Dupré la Tour et al. (2022),
    doi:10.1016/j.neuroimage.2022.119728
    """
    prepared = _Prepared.of(grams, weights, mixtures, alphas, y.dtype)
    n_voxels = y.shape[1]
    out = Solution(
        np.empty((len(y), n_voxels)), np.empty(n_voxels), np.empty(n_voxels), np.empty(n_voxels, dtype=np.intp)
    )
    chosen = None if folds is None else _by_folds(grams, y, prepared, alphas, folds, refine=refine)

    def fill(tile: slice) -> None:
        targets = prepared.targets(y[:, tile])
        if chosen is None:
            best = _Best.by_gcv(prepared, targets, alphas, refine=refine)
        else:
            score, alpha, mixture = chosen[0][tile], chosen[1][tile], chosen[2][tile]
            best = _Best(score, alpha, mixture, _rotated(prepared, targets, mixture))
        prepared.rotation.backward(_dual(prepared, best, y[:, tile]), out.dual[:, tile])
        out.intercept[tile] = prepared.intercept(y[:, tile])
        out.alpha[tile], out.mixture[tile] = best.alpha, best.mixture

    in_threads(fill, tiles(n_voxels))
    return out


def _rotated(prepared: _Prepared, targets: FloatArray, mixture: IntArray) -> FloatArray:
    """Rotate targets (m, n_voxels) to the eigenvectors of each voxel's mixture."""
    z = np.empty_like(targets)
    for m in np.unique(mixture):
        own = np.flatnonzero(mixture == m)
        z[:, own] = prepared.mixed[m].vectors.T @ targets[:, own]
    return z


def _dual(prepared: _Prepared, best: _Best, y: FloatArray) -> FloatArray:
    """Solve for the dual weights (m, n_voxels) at each voxel's mixture and alpha."""
    dual = np.empty(best.z.shape, dtype=prepared.dtype)
    rough = np.zeros(len(best.alpha))
    for m in np.unique(best.mixture):
        own, mixed = np.flatnonzero(best.mixture == m), prepared.mixed[m]
        spread = mixed.values[:, None] + best.alpha[own]
        dual[:, own] = mixed.vectors @ (best.z[:, own] / spread.astype(prepared.dtype))
        rough[own] = ROUNDING * np.finfo(prepared.dtype).eps * mixed.values[-1] / best.alpha[own]
    return dual if rough.max(initial=0) <= ACCURATE else _refined(prepared, best, y, dual, rough)


def _refined(prepared: _Prepared, best: _Best, y: FloatArray, dual: FloatArray, rough: FloatArray) -> FloatArray:
    """Solve again, in float64, for what the dual weights leave of the responses.

    The relative error of a solution is about rounding times the largest eigenvalue by alpha (`rough`); each time
    multiplies it by the same factor.
    """
    exact = dual.astype(np.float64)
    times = np.ceil(np.log(ACCURATE) / np.log(np.clip(rough, 1e-30, 0.5))).astype(int) - 1
    for m in np.unique(best.mixture[times > 0]):
        mixed, kernel = prepared.mixed[m], _weighted_sum(prepared.mixtures[m], prepared.grams)
        for time in range(min(int(times.max()), MOST_REFINED)):
            own = np.flatnonzero((best.mixture == m) & (times > time))
            targets = prepared.targets(y[:, own], np.float64)
            left = targets - kernel @ exact[:, own] - best.alpha[own] * exact[:, own]
            spread = (mixed.values[:, None] + best.alpha[own]).astype(prepared.dtype)
            exact[:, own] += mixed.vectors @ (mixed.vectors.T @ left.astype(prepared.dtype) / spread)
    return exact


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
