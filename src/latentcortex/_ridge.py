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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from scipy import linalg

from latentcortex._arrays import BoolArray, FloatArray, IntArray, in_threads, one_thread, tiles

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
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that is gone, by the criterion that was chosen by.
    dtype : dtype
        Of the responses, and of what is predicted.
    """

    dual: FloatArray
    intercept: FloatArray
    alpha: FloatArray
    mixture: IntArray
    score: FloatArray
    dtype: Any


@dataclass(frozen=True, eq=False)
class Criterion:
    """Among what is chosen, and how.

    Parameters
    ----------
    mixtures : ndarray of shape (n_mixtures, n_bands)
    alphas : ndarray of shape (n_alphas,)
        Ascending.
    after : tuple of int
        For each mixture the one that must be a voxel's best so far for it to be tried, or -1; empty for all -1.
    selection : {"gcv", "loo", "kfold"}
        Generalised cross-validation, leaving out one row at a time in closed form, or k folds.
    folds : ndarray of int, shape (n_rows,), optional
        For `kfold`.
    refine : bool
        Choose alpha between the given ones.
    fit_intercept : bool
    """

    mixtures: FloatArray
    alphas: FloatArray
    after: tuple[int, ...] = ()
    selection: str = "gcv"
    folds: IntArray | None = None
    refine: bool = True
    fit_intercept: bool = True


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The orthonormal basis of the complement of sqrt(weights), as a Householder reflection.

    Without an intercept nothing is to be removed: rows are only weighted.
    """

    root: FloatArray
    intercept: bool = True

    @cached_property
    def _normal(self) -> FloatArray:
        normal = self.root / np.linalg.norm(self.root)
        normal[0] += 1.0
        return np.asarray(normal / np.linalg.norm(normal))

    def forward(self, rows: FloatArray) -> FloatArray:
        """Weight rows (n, m) and rotate them into the complement (n - 1, m), in their own precision."""
        normal, root = self._normal.astype(rows.dtype), self.root.astype(rows.dtype)
        if not self.intercept:
            return np.asarray(rows * root[:, None])
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
        if not self.intercept:
            out[:] = dual * root[:, None]
            return
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
        return np.asarray(1 / (1 + self.values / alphas[:, None]))


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
    def of(cls, grams: Sequence[FloatArray], weights: FloatArray, dtype: Any, criterion: Criterion) -> _Prepared:
        rotation, mixtures = _Rotation(np.sqrt(weights), criterion.fit_intercept), criterion.mixtures
        rotated = in_threads(rotation.gram, list(grams))
        small = len(weights) <= FEW_ROWS or criterion.alphas.min() < SMALLEST * max(map(_largest, rotated))
        own = np.dtype(np.float64 if small else dtype)
        mixed = in_threads(lambda mixture: _Mixed.of(_weighted_sum(mixture, rotated), own), list(mixtures))
        return cls(rotated, mixed, mixtures, rotation, weights, own)

    def intercept(self, y: FloatArray) -> FloatArray:
        """Average responses over rows, or 0 without an intercept; (n_voxels,)."""
        if not self.rotation.intercept:
            return np.zeros(y.shape[1])
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
    def by_rows(cls, prepared: _Prepared, targets: FloatArray, criterion: Criterion) -> _Best:
        """Search all mixtures and alphas by generalised or leave-one-out cross-validation.

        The first mixture is tried on all voxels. The others are tried where it leaves less than a hopeless part
        of the variance; elsewhere there is nothing to divide between bands. A mixture that comes after another is
        tried only where that one is the best so far.
        """
        errors = _loo if criterion.selection == "loo" else _gcv
        z = prepared.mixed[0].vectors.T @ targets
        score, alpha = _smallest(errors(prepared, 0, z, criterion.alphas), criterion)
        best = cls(score, alpha, np.zeros(targets.shape[1], dtype=np.intp), z)
        nothing = errors(prepared, 0, z, np.array([np.inf]))[0]
        hopeful = np.asarray(score < HOPELESS * nothing)
        after = criterion.after or (-1,) * len(prepared.mixed)
        for k in range(1, len(prepared.mixed)):
            own = np.flatnonzero(hopeful & (best.mixture == after[k]) if after[k] >= 0 else hopeful)
            if len(own) == 0:
                continue
            z = prepared.mixed[k].vectors.T @ targets[:, own]
            score, alpha = _smallest(errors(prepared, k, z, criterion.alphas), criterion)
            better = np.asarray(score < best.score[own] * (1 - TIE))
            won = own[better]
            best.score[won], best.alpha[won], best.mixture[won] = score[better], alpha[better], k
            best.z[:, won] = z[:, better]
        with np.errstate(invalid="ignore", divide="ignore"):
            gone = np.where(nothing > 0, 1 - best.score / nothing, np.nan)
        return replace(best, score=gone)


def _gcv(prepared: _Prepared, k: int, z: FloatArray, alphas: FloatArray) -> FloatArray:
    """Score every alpha of one mixture by generalised cross-validation; (n_alphas, n_voxels)."""
    shrink = prepared.mixed[k].shrunk(alphas)
    return np.asarray((shrink**2).astype(z.dtype) @ (z * z) / (shrink.sum(1) ** 2)[:, None].astype(z.dtype))


def _loo(prepared: _Prepared, k: int, z: FloatArray, alphas: FloatArray) -> FloatArray:
    """Score every alpha by leaving out one row at a time: residuals over what the hat matrix leaves of each row."""
    mixed = prepared.mixed[k]
    # Weights are undone at the end of `backward`; here rows stay weighted, as their errors are.
    directions = np.empty((len(prepared.weights), len(mixed.values)), dtype=z.dtype)
    prepared.rotation.backward(mixed.vectors, directions)
    directions /= prepared.rotation.root[:, None].astype(z.dtype)
    out = np.empty((len(alphas), z.shape[1]), dtype=z.dtype)
    for a, shrink in enumerate(mixed.shrunk(alphas).astype(z.dtype)):
        left = directions**2 @ shrink
        out[a] = (((directions @ (shrink[:, None] * z)) / left[:, None]) ** 2).sum(0)
    return out


def _smallest(errors: FloatArray, criterion: Criterion) -> tuple[FloatArray, FloatArray]:
    """Return each voxel's smallest error and its alpha; among equals the largest alpha.

    With `refine` alpha is where a parabola through the smallest error and its neighbours is lowest, in log alpha.
    """
    alphas, smallest = criterion.alphas, errors.min(0)
    equal = errors <= smallest * (1 + TIE)
    index = len(errors) - 1 - equal[::-1].argmax(0)
    if not criterion.refine or len(alphas) < 3:
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
    weights: FloatArray,
    criterion: Criterion,
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Search by k-fold cross-validation; score, alpha and mixture, (n_voxels,) each."""
    folds = np.zeros(len(y), dtype=np.intp) if criterion.folds is None else criterion.folds
    parts = in_threads(lambda k: _fold_errors(grams, y, weights, folds == k, criterion), list(np.unique(folds)))
    *errors, nothing = np.sum(parts, axis=0)
    best = [_smallest(some, criterion) for some in errors]
    scores = np.stack([score for score, _ in best])
    mixture = (scores <= scores.min(0) * (1 + TIE)).argmax(0)
    voxel = np.arange(y.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        gone = np.where(nothing[0] > 0, 1 - scores[mixture, voxel] / nothing[0], np.nan)
    return gone, np.stack([alpha for _, alpha in best])[mixture, voxel], mixture


def _fold_errors(
    grams: Sequence[FloatArray], y: FloatArray, weights: FloatArray, test: BoolArray, criterion: Criterion
) -> FloatArray:
    """Sum squared errors on the held-out rows of one fold; (n_mixtures + 1, n_alphas, n_voxels).

    The last is the error of the intercept alone.
    """
    train = ~np.asarray(test, dtype=bool)
    mixtures, alphas = criterion.mixtures, criterion.alphas
    inner = [gram[np.ix_(train, train)] for gram in grams]
    prepared = _Prepared.of(inner, weights[train], y.dtype, criterion)
    onto = [gram[np.ix_(test, train)] for gram in grams]
    if criterion.fit_intercept:
        onto = [_centred_rows(rows, gram, weights[train]) for rows, gram in zip(onto, inner, strict=True)]
    targets = prepared.targets(y[train])
    truth = (y[test] - prepared.intercept(y[train])).astype(prepared.dtype)
    importance = weights[test].astype(prepared.dtype)
    out = np.empty((len(mixtures) + 1, len(alphas), y.shape[1]), dtype=np.float32)
    out[-1] = importance @ (truth * truth)
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
def solve(grams: Sequence[FloatArray], y: FloatArray, *, weights: FloatArray, criterion: Criterion) -> Solution:
    """Fit banded ridge, choosing mixture and alpha for each voxel.

    Parameters
    ----------
    grams : sequence of n_bands ndarrays of shape (n_rows, n_rows)
        Centred on the weighted mean of the rows, if there is an intercept.
    y : ndarray of shape (n_rows, n_voxels)
        In float64 everything is float64.
    weights : ndarray of shape (n_rows,)
        How many trials each row averages; held-out rows count by their weights, too.
    criterion : Criterion

    Returns
    -------
    Solution

    References
    ----------
    Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751; Dupré la Tour et al. (2022),
    doi:10.1016/j.neuroimage.2022.119728
    """
    prepared = _Prepared.of(grams, weights, y.dtype, criterion)
    n_voxels = y.shape[1]
    alpha, score, mixture = np.empty(n_voxels), np.empty(n_voxels), np.empty(n_voxels, dtype=np.intp)
    out = Solution(np.empty((len(y), n_voxels)), prepared.intercept(y), alpha, mixture, score, y.dtype)
    chosen = _by_folds(grams, y, weights, criterion) if criterion.selection == "kfold" else None

    def fill(tile: slice) -> None:
        targets = prepared.targets(y[:, tile])
        if chosen is None:
            best = _Best.by_rows(prepared, targets, criterion)
        else:
            some_score, some_alpha, some_mixture = chosen[0][tile], chosen[1][tile], chosen[2][tile]
            best = _Best(some_score, some_alpha, some_mixture, _rotated(prepared, targets, some_mixture))
        prepared.rotation.backward(_dual(prepared, best, y[:, tile]), out.dual[:, tile])
        out.alpha[tile], out.mixture[tile], out.score[tile] = best.alpha, best.mixture, best.score

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
    ndarray of shape (n_bands, n_new, n_voxels)
        In the precision of the responses.
    """
    gamma = mixtures[solution.mixture]

    out = np.empty((len(grams), len(grams[0]), solution.dual.shape[1]), dtype=solution.dtype)

    def fill(tile: slice) -> None:
        # In float64: where alpha is small, dual weights are large and cancel.
        for b, gram in enumerate(grams):
            out[b, :, tile] = (gram @ solution.dual[:, tile]) * gamma[tile, b]

    in_threads(fill, tiles(solution.dual.shape[1]))
    return out
