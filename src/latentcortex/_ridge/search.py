"""Which mixture of bands and which alpha each voxel gets.

Each mixture is decomposed once, whatever the number of voxels; then every alpha costs one product of squared
shrinkage with squared rotated responses. Voxels come in tiles, and nothing here grows with their number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, IntArray, varying
from latentcortex._ridge.backend import Backend, NumPy
from latentcortex._ridge.design import Basis, Design, weighted_sum

HOPELESS: Final = 0.997
"""Fraction of the null model's error above which a voxel's first mixture has found nothing."""
TIE: Final = 1e-5
"""Errors that differ by less than this fraction are equal: float32 cannot tell them apart."""
FEW_ROWS: Final = 512
"""Up to so many rows everything is float64: it costs nothing."""
SMALLEST: Final = 4e-6
"""Of the largest eigenvalue: a smaller alpha is lost in float32's rounding, and everything is float64."""


@dataclass(frozen=True)
class Face:
    """The candidates of one model: a face of the simplex of mixtures.

    Parameters
    ----------
    bands : tuple of int
        Which bands the model has.
    mixtures : tuple of int
        Rows of `Criterion.mixtures`, ascending; the first is tried on all voxels.
    after : tuple of int
        For each of them the row that must be a voxel's best so far for it to be tried, or -1; empty for all -1.
    gated : bool
        Whether a voxel in which the first finds nothing is tried no further: only where the first has all bands.
    """

    bands: tuple[int, ...]
    mixtures: tuple[int, ...]
    after: tuple[int, ...] = ()
    gated: bool = True

    def before(self, k: int) -> int:
        """Say which mixture must be the best so far for mixture k to be tried, or -1."""
        return self.after[self.mixtures.index(k)] if self.after else -1


@dataclass(frozen=True, eq=False)
class Criterion:
    """Among what is chosen, and how.

    Parameters
    ----------
    mixtures : ndarray of shape (n_mixtures, n_bands)
    alphas : ndarray of shape (n_alphas,)
        Ascending.
    faces : tuple of Face
        One per model that is fitted.
    selection : {"gcv", "loo"}
        Generalised cross-validation, or leaving out one row at a time in closed form.
    folds : ndarray of int, shape (n_rows,), optional
        Then k-fold cross-validation chooses.
    refine : bool
        Choose alpha between the given ones.
    fit_intercept : bool
    """

    mixtures: FloatArray
    alphas: FloatArray
    faces: tuple[Face, ...]
    selection: str = "gcv"
    folds: IntArray | None = None
    refine: bool = True
    fit_intercept: bool = True


@dataclass(frozen=True, eq=False)
class Mixed:
    """One mixture of kernels, decomposed.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        Eigenvalues, at least 0.
    directions : array of the backend, shape (n_rows, m)
        Eigenvectors, brought back to the rows and times the square roots of the weights.
    """

    values: FloatArray
    directions: Any

    def shrunk(self, alphas: FloatArray) -> FloatArray:
        """Compute what is left of each direction at each alpha; (n_alphas, m)."""
        return np.asarray(1 / (1 + self.values / alphas[:, None]))


class Once:
    """A decomposition that is made when it is first asked for, by whichever thread asks first; others wait."""

    def __init__(self, make: Callable[[], Mixed]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: Mixed | None = None

    def __call__(self) -> Mixed:
        """Return the decomposition."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
                del self._make  # what it was made from may go
            return self._made

    def __getstate__(self) -> Mixed:
        """Copy and pickle what was made: a lock cannot be."""
        return self()

    def __setstate__(self, made: Mixed) -> None:
        """Take what was made."""
        self._lock, self._made = threading.Lock(), made


@dataclass(frozen=True, eq=False)
class Targets:
    """The responses of a tile of voxels, less their mean.

    Parameters
    ----------
    rows : array of the backend, shape (n_rows, n_voxels)
        0 where a voxel is not valid.
    intercept : ndarray of shape (n_voxels,)
    valid : ndarray of bool, shape (n_voxels,)
        Finite, and not constant.
    """

    rows: Any
    intercept: FloatArray
    valid: BoolArray


@dataclass(frozen=True, eq=False)
class Prepared:
    """One set of rows, ready for any responses.

    Parameters
    ----------
    mixed : dict
        Mixture -> its decomposition, made at its first use.
    weights : ndarray of shape (n_rows,)
    intercept : bool
    n_free : int
        Rows less the intercept.
    dtype : dtype
        What is worked in.
    backend : Backend
    """

    mixed: dict[tuple[float, ...], Once]
    weights: FloatArray
    intercept: bool
    n_free: int
    dtype: Any
    backend: Backend

    @classmethod
    def of(
        cls,
        design: Design,
        weights: FloatArray,
        criterion: Criterion,
        *,
        dtype: Any,
        backend: Backend,
        known: Mapping[tuple[float, ...], Once] | None = None,
    ) -> Prepared:
        """Make ready to decompose the mixtures that are not known yet, for responses of this precision."""
        basis = design.basis(weights, intercept=criterion.fit_intercept)
        own = _precision(basis, len(weights), dtype, criterion.alphas)
        place = backend if backend.has_float64 or own == np.float32 else NumPy()
        mixed = dict(known or {})
        for gamma in map(tuple, criterion.mixtures.tolist()):
            if gamma not in mixed:
                mixed[gamma] = Once(partial(_decomposed, basis, np.asarray(gamma), own, place))
        return cls(mixed, weights, criterion.fit_intercept, basis.n_free, own, place)

    def of_mixture(self, gamma: FloatArray) -> Mixed:
        """Return the decomposition of a mixture."""
        return self.mixed[tuple(gamma.tolist())]()

    def targets(self, y: FloatArray) -> Targets:
        """Read the responses (n_rows, n_voxels) of a tile, and take their mean off in float64."""
        valid = varying(y)
        # What is constant here, in one fold perhaps, has a mean like any other.
        known = y if valid.all() else np.where(np.isfinite(y).all(0), y, 0)
        mean = self.weights @ known / self.weights.sum() if self.intercept else np.zeros(y.shape[1])
        return Targets(self.centred(known, mean), mean, valid)

    def centred(self, y: FloatArray, intercept: FloatArray) -> Any:
        """Take the intercept off in float64, and only then round."""
        rows = np.empty(y.shape, dtype=self.dtype)
        np.subtract(y, intercept, out=rows, casting="same_kind")
        return self.backend.put(rows, self.dtype)

    def total(self, rows: Any) -> FloatArray:
        """Compute the weighted sum of squares of each voxel, (n_voxels,)."""
        return self.backend.get(self.backend.put(self.weights, self.dtype) @ (rows * rows)).astype(np.float64)


def _precision(basis: Basis, n_rows: int, dtype: Any, alphas: FloatArray) -> Any:
    """Choose what to work in: float32 where responses are, rows are many and alphas not tiny."""
    if dtype == np.float64 or n_rows <= FEW_ROWS:
        return np.dtype(np.float64)
    largest = max((min(float(np.abs(g).sum(0).max()), float(np.trace(g))) for g in basis.grams if len(g)), default=0.0)
    return np.dtype(np.float64 if alphas.min() < SMALLEST * largest else np.float32)


def _decomposed(basis: Basis, mixture: FloatArray, dtype: Any, backend: Backend) -> Mixed:
    values, vectors = backend.eigh(weighted_sum(mixture, basis.grams), dtype)
    directions = backend.put(basis.outward(vectors), dtype)
    return Mixed(np.maximum(values.astype(np.float64), 0), directions)


# Candidates


@dataclass(frozen=True, eq=False)
class Best:
    """The best candidate of each voxel of a tile.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that is gone; nan where there is none.
    alpha : ndarray of shape (n_voxels,)
    mixture : ndarray of int, shape (n_voxels,)
        Row of `Criterion.mixtures`.
    """

    score: FloatArray
    alpha: FloatArray
    mixture: IntArray

    @classmethod
    def of(cls, error: FloatArray, nothing: FloatArray, alpha: FloatArray, mixture: IntArray) -> Best:
        """Express errors as what they leave of the intercept's."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(np.where(nothing > 0, 1 - error / nothing, np.nan), alpha, mixture)


@dataclass(eq=False)
class _Running:
    """The best so far of one face, changed in place as mixtures are tried."""

    face: Face
    error: FloatArray
    alpha: FloatArray
    mixture: IntArray
    hopeful: BoolArray = field(default_factory=lambda: np.empty(0, dtype=bool))

    @classmethod
    def of(cls, face: Face, n_voxels: int) -> _Running:
        return cls(face, np.full(n_voxels, np.inf), np.ones(n_voxels), np.full(n_voxels, -1, dtype=np.intp))

    def wants(self, k: int) -> BoolArray:
        """Tell for which voxels mixture k is tried."""
        if k not in self.face.mixtures:
            return np.zeros(len(self.error), dtype=bool)
        if k == self.face.mixtures[0]:
            return np.ones(len(self.error), dtype=bool)
        before = self.face.before(k)
        return self.hopeful if before < 0 else np.asarray(self.hopeful & (self.mixture == before))

    def tried(self, k: int, voxels: IntArray, error: FloatArray, alpha: FloatArray, nothing: FloatArray) -> None:
        """Keep mixture k where it is better than what was tried before."""
        better = error < self.error[voxels] * (1 - TIE)
        won = voxels[better]
        self.error[won], self.alpha[won], self.mixture[won] = error[better], alpha[better], k
        if k == self.face.mixtures[0]:
            self.hopeful = np.asarray((self.error < HOPELESS * nothing) | (not self.face.gated))


def by_rows(prepared: Prepared, targets: Targets, criterion: Criterion) -> list[Best]:
    """Search by generalised or leave-one-out cross-validation; one result per face.

    The first mixture of a face is tried on all voxels. The others are tried where it leaves less than a hopeless part
    of the variance; elsewhere there is nothing to divide between bands. A mixture that comes after another is
    tried only where that one is the best so far.
    """
    errors = _loo if criterion.selection == "loo" else _gcv
    n_voxels = len(targets.intercept)
    nothing = _nothing(prepared, targets, criterion.selection)
    running = [_Running.of(face, n_voxels) for face in criterion.faces]
    for k, gamma in enumerate(criterion.mixtures):
        wanted = [one.wants(k) for one in running]
        own = np.flatnonzero(np.logical_or.reduce(wanted))
        if len(own) == 0:
            continue
        found = errors(prepared, prepared.of_mixture(gamma), _of(targets.rows, own), criterion.alphas)
        error, alpha = _smallest(found, criterion)
        for one, wants in zip(running, wanted, strict=True):
            among = wants[own]
            one.tried(k, own[among], error[among], alpha[among], nothing)
    return [Best.of(one.error, nothing, one.alpha, np.maximum(one.mixture, one.face.mixtures[0])) for one in running]


def _of(rows: Any, own: IntArray) -> Any:
    """Take these columns, without a copy where that is all of them."""
    return rows if len(own) == rows.shape[1] else rows[:, own]


def _nothing(prepared: Prepared, targets: Targets, selection: str) -> FloatArray:
    """Compute the error of the intercept alone, by the same criterion; (n_voxels,)."""
    if selection == "gcv":
        return np.asarray(prepared.total(targets.rows) / prepared.n_free**2)
    weights = prepared.weights
    left = 1 - weights / weights.sum() * prepared.intercept
    rows = prepared.backend.get(targets.rows).astype(np.float64)
    return np.asarray((weights / left**2) @ (rows * rows))


def _gcv(prepared: Prepared, mixed: Mixed, rows: Any, alphas: FloatArray) -> FloatArray:
    """Score every alpha of one mixture by generalised cross-validation; (n_alphas, n_voxels)."""
    shrink = mixed.shrunk(alphas)
    z = mixed.directions.T @ rows
    z *= z
    error = prepared.backend.get(prepared.backend.put(shrink**2, prepared.dtype) @ z)
    beyond = prepared.n_free - len(mixed.values)
    if beyond:  # what no column reaches is left at every alpha
        error = error + np.maximum(prepared.total(rows) - prepared.backend.get(z.sum(0)), 0)
    return np.asarray(error / ((beyond + shrink.sum(1)) ** 2)[:, None])


def _loo(prepared: Prepared, mixed: Mixed, rows: Any, alphas: FloatArray) -> FloatArray:
    """Score every alpha by leaving out one row at a time: residuals over what the hat matrix leaves of each row."""
    backend, weights = prepared.backend, prepared.weights
    root = backend.put(np.sqrt(weights)[:, None], prepared.dtype)
    directions = mixed.directions / root  # rows stay weighted, as their errors are
    z = mixed.directions.T @ rows
    square = backend.get(directions * directions).astype(np.float64)
    beyond = 1 - weights / weights.sum() * prepared.intercept - square.sum(1)
    left_out = rows * root - directions @ z if prepared.n_free > len(mixed.values) else 0
    out = np.empty((len(alphas), rows.shape[1]))
    for a, shrink in enumerate(mixed.shrunk(alphas)):
        left = backend.put((np.maximum(beyond, 0) + square @ shrink)[:, None], prepared.dtype)
        residual = (directions @ (backend.put(shrink[:, None], prepared.dtype) * z) + left_out) / left
        out[a] = backend.get((residual * residual).sum(0))
    return out


def _smallest(errors: FloatArray, criterion: Criterion) -> tuple[FloatArray, FloatArray]:
    """Return each voxel's smallest error and its alpha; among equals the largest alpha.

    With `refine` alpha is where a parabola through the logarithms of the smallest error and of its neighbours is
    lowest, in log alpha, and the error is that of the parabola.
    """
    alphas, smallest = criterion.alphas, errors.min(0)
    equal = errors <= smallest * (1 + TIE)
    index = len(errors) - 1 - equal[::-1].argmax(0)
    if not criterion.refine or len(alphas) < 3:
        return smallest, alphas[index]
    inside, voxel = np.clip(index, 1, len(alphas) - 2), np.arange(errors.shape[1])
    around = np.stack([errors[inside + k, voxel] for k in (-1, 0, 1)]).astype(np.float64)
    positive = around.min(0) > 0
    left, middle, right = np.log(np.where(positive, around, 1))
    x = np.log(alphas)
    dl, dr = x[inside] - x[inside - 1], x[inside + 1] - x[inside]
    slope_l, slope_r = (middle - left) / dl, (right - middle) / dr
    bend = (slope_r - slope_l) / (dl + dr)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = -((slope_l * dr + slope_r * dl) / (dl + dr)) / (2 * bend)
        lowest = middle - bend * shift**2
    usable = (index == inside) & positive & (bend > TIE) & (shift >= -dl) & (shift <= dr)
    alpha = np.where(usable, np.exp(x[inside] + np.where(usable, shift, 0)), alphas[index])
    return np.where(usable, np.exp(np.where(usable, lowest, 0)), smallest), alpha


# Folds


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold, ready for any responses.

    Parameters
    ----------
    prepared : Prepared
        Of the other rows.
    ahead : list of arrays of the backend, shape (n_held_out, m)
        For each mixture, what carries rotated responses to predictions of the held-out rows.
    train : ndarray of bool, shape (n_rows,)
    weights : ndarray of shape (n_held_out,)
        Held-out rows count by their weights.
    """

    prepared: Prepared
    ahead: list[Any]
    train: BoolArray
    weights: FloatArray

    @classmethod
    def of(
        cls, design: Design, weights: FloatArray, k: int, criterion: Criterion, *, dtype: Any, backend: Backend
    ) -> Fold:
        """Decompose every mixture on the rows outside fold k."""
        train = np.asarray(criterion.folds != k)
        inner, new = design.parted(train, weights, intercept=criterion.fit_intercept)
        prepared = Prepared.of(inner, weights[train], criterion, dtype=dtype, backend=backend)
        ahead = []
        for gamma in criterion.mixtures:
            directions = prepared.backend.get(prepared.of_mixture(gamma).directions).astype(np.float64)
            parts = [
                weight * (rows @ inner.applied(b, directions))
                for b, (weight, rows) in enumerate(zip(gamma, new, strict=True))
                if weight
            ]
            ahead.append(prepared.backend.put(np.sum(parts, axis=0), prepared.dtype))
        return cls(prepared, ahead, train, weights[~train])

    def errors(self, y: FloatArray, criterion: Criterion) -> FloatArray:
        """Sum squared errors on the held-out rows of a tile; (n_mixtures + 1, n_alphas, n_voxels).

        The last is the error of the intercept alone.
        """
        backend, dtype = self.prepared.backend, self.prepared.dtype
        targets = self.prepared.targets(y[self.train])
        truth = backend.put(np.where(np.isfinite(y[~self.train]), y[~self.train] - targets.intercept, 0), dtype)
        importance = backend.put(self.weights, dtype)
        out = np.empty((len(criterion.mixtures) + 1, len(criterion.alphas), y.shape[1]))
        out[-1] = backend.get(importance @ (truth * truth))
        for m, (gamma, ahead) in enumerate(zip(criterion.mixtures, self.ahead, strict=True)):
            mixed = self.prepared.of_mixture(gamma)
            z = mixed.directions.T @ targets.rows
            for a, alpha in enumerate(criterion.alphas):
                error = truth - (ahead / backend.put(mixed.values + alpha, dtype)) @ z
                out[m, a] = backend.get(importance @ (error * error))
        return out


def by_folds(folds: Sequence[Fold], y: FloatArray, criterion: Criterion) -> list[Best]:
    """Search a tile by k-fold cross-validation; one result per face."""
    *errors, nothing = np.sum([fold.errors(y, criterion) for fold in folds], axis=0)
    best = [_smallest(some, criterion) for some in errors]
    error, alpha = np.stack([one for one, _ in best]), np.stack([one for _, one in best])
    voxel, found = np.arange(y.shape[1]), []
    for face in criterion.faces:
        among = np.asarray(face.mixtures)
        own = error[among]
        mixture = among[(own <= own.min(0) * (1 + TIE)).argmax(0)]
        found.append(Best.of(error[mixture, voxel], nothing[0], alpha[mixture, voxel], mixture))
    return found
