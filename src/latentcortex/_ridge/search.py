"""Which mixture of bands and which alpha each voxel gets.

Each mixture is decomposed once, whatever the number of voxels; then every alpha costs one product of squared
shrinkage with squared rotated responses. Voxels come in tiles, and nothing here grows with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex._ridge.decompositions import DecomposedMixture
from latentcortex._ridge.prepared import CentredResponses, PreparedRows

MAX_NULL_ERROR: Final = 0.997
"""Further mixtures are tried on a voxel only if the first leaves less than this fraction of the intercept's error."""
RELATIVE_TIE: Final = 1e-5
"""Two errors count as equal if they differ by less than this fraction, which float32 cannot resolve."""


@dataclass(frozen=True)
class ModelCandidates:
    """The candidates of one model: a face of the simplex of mixtures.

    Parameters
    ----------
    bands : tuple of int
        Which bands the model has.
    mixtures : tuple of int
        Rows of `SearchSpace.mixtures`, ascending; the first is tried on all voxels.
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
class SearchSpace:
    """Among what is chosen, and how.

    Parameters
    ----------
    mixtures : ndarray of shape (n_mixtures, n_bands)
    alphas : ndarray of shape (n_alphas,)
        Ascending.
    faces : tuple of ModelCandidates
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
    faces: tuple[ModelCandidates, ...]
    selection: str = "gcv"
    folds: IntArray | None = None
    refine: bool = True
    fit_intercept: bool = True


# Candidates


@dataclass(frozen=True, eq=False)
class BestCandidate:
    """The best candidate of each voxel of a tile.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that is gone; nan where there is none.
    alpha : ndarray of shape (n_voxels,)
    mixture : ndarray of int, shape (n_voxels,)
        Row of `SearchSpace.mixtures`.
    """

    score: FloatArray
    alpha: FloatArray
    mixture: IntArray

    @classmethod
    def of(cls, error: FloatArray, nothing: FloatArray, alpha: FloatArray, mixture: IntArray) -> BestCandidate:
        """Express errors as what they leave of the intercept's."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return cls(np.where(nothing > 0, 1 - error / nothing, np.nan), alpha, mixture)


@dataclass(eq=False)
class _Running:
    """The best so far of one face, changed in place as mixtures are tried."""

    face: ModelCandidates
    error: FloatArray
    alpha: FloatArray
    mixture: IntArray
    hopeful: BoolArray = field(default_factory=lambda: np.empty(0, dtype=bool))

    @classmethod
    def of(cls, face: ModelCandidates, n_voxels: int) -> _Running:
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
        better = error < self.error[voxels] * (1 - RELATIVE_TIE)
        won = voxels[better]
        self.error[won], self.alpha[won], self.mixture[won] = error[better], alpha[better], k
        if k == self.face.mixtures[0]:
            self.hopeful = np.asarray((self.error < MAX_NULL_ERROR * nothing) | (not self.face.gated))


def by_rows(prepared: PreparedRows, targets: CentredResponses, search: SearchSpace) -> list[BestCandidate]:
    """Search by generalised or leave-one-out cross-validation; one result per face.

    The first mixture of a face is tried on all voxels. The others are tried where it leaves less than a hopeless part
    of the variance; elsewhere there is nothing to divide between bands. A mixture that comes after another is
    tried only where that one is the best so far.
    """
    errors = _loo if search.selection == "loo" else _gcv
    n_voxels = len(targets.intercept)
    nothing = _nothing(prepared, targets, search.selection)
    running = [_Running.of(face, n_voxels) for face in search.faces]
    for k, gamma in enumerate(search.mixtures):
        wanted = [one.wants(k) for one in running]
        voxels = np.flatnonzero(np.logical_or.reduce(wanted))
        if len(voxels) == 0:
            continue
        trial = errors(prepared, prepared.of_mixture(gamma), _of(targets.rows, voxels), search.alphas)
        error, alpha = _smallest(trial, search)
        for one, wants in zip(running, wanted, strict=True):
            among = wants[voxels]
            one.tried(k, voxels[among], error[among], alpha[among], nothing)
    return [
        BestCandidate.of(one.error, nothing, one.alpha, np.maximum(one.mixture, one.face.mixtures[0]))
        for one in running
    ]


def _of(rows: Any, own: IntArray) -> Any:
    """Take these columns, without a copy where that is all of them."""
    return rows if len(own) == rows.shape[1] else rows[:, own]


def _nothing(prepared: PreparedRows, targets: CentredResponses, selection: str) -> FloatArray:
    """Compute the error of the intercept alone, by the same criterion; (n_voxels,)."""
    if selection == "gcv":
        return np.asarray(prepared.total(targets.rows) / prepared.n_free**2)
    weights = prepared.weights
    left = 1 - weights / weights.sum() * prepared.intercept
    rows = prepared.backend.get(targets.rows).astype(np.float64)
    return np.asarray((weights / left**2) @ (rows * rows))


def _gcv(prepared: PreparedRows, mixed: DecomposedMixture, rows: Any, alphas: FloatArray) -> FloatArray:
    """Score every alpha of one mixture by generalised cross-validation; (n_alphas, n_voxels)."""
    shrink = mixed.shrunk(alphas)
    z = mixed.directions.T @ rows
    z *= z
    error = prepared.backend.get(prepared.backend.put(shrink**2, prepared.dtype) @ z)
    beyond = prepared.n_free - len(mixed.values)
    if beyond:  # what no column reaches is left at every alpha
        error = error + np.maximum(prepared.total(rows) - prepared.backend.get(z.sum(0)), 0)
    return np.asarray(error / ((beyond + shrink.sum(1)) ** 2)[:, None])


def _loo(prepared: PreparedRows, mixed: DecomposedMixture, rows: Any, alphas: FloatArray) -> FloatArray:
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


def _smallest(errors: FloatArray, search: SearchSpace) -> tuple[FloatArray, FloatArray]:
    """Return each voxel's smallest error and its alpha; among equals the largest alpha.

    With `refine` alpha is where a parabola through the logarithms of the smallest error and of its neighbours is
    lowest, in log alpha, and the error is that of the parabola.
    """
    alphas, smallest = search.alphas, errors.min(0)
    equal = errors <= smallest * (1 + RELATIVE_TIE)
    index = len(errors) - 1 - equal[::-1].argmax(0)
    if not search.refine or len(alphas) < 3:
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
    usable = (index == inside) & positive & (bend > RELATIVE_TIE) & (shift >= -dl) & (shift <= dr)
    alpha = np.where(usable, np.exp(x[inside] + np.where(usable, shift, 0)), alphas[index])
    return np.where(usable, np.exp(np.where(usable, lowest, 0)), smallest), alpha


# Folds


@dataclass(frozen=True, eq=False)
class SearchFold:
    """One fold, ready for any responses.

    Parameters
    ----------
    prepared : PreparedRows
        Of the other rows.
    train : ndarray of bool, shape (n_rows,)
    weights : ndarray of shape (n_held_out,)
        Held-out rows count by their weights.
    """

    prepared: PreparedRows
    train: BoolArray
    weights: FloatArray

    def errors(self, y: FloatArray, search: SearchSpace) -> FloatArray:
        """Sum squared errors on the held-out rows of a tile; (n_mixtures + 1, n_alphas, n_voxels).

        The last is the error of the intercept alone.
        """
        backend, dtype = self.prepared.backend, self.prepared.dtype
        targets = self.prepared.targets(y[self.train])
        truth = backend.put(np.where(np.isfinite(y[~self.train]), y[~self.train] - targets.intercept, 0), dtype)
        importance = backend.put(self.weights, dtype)
        out = np.empty((len(search.mixtures) + 1, len(search.alphas), y.shape[1]))
        out[-1] = backend.get(importance @ (truth * truth))
        for m, gamma in enumerate(search.mixtures):
            mixed = self.prepared.of_mixture(gamma)
            z = mixed.directions.T @ targets.rows
            for a, alpha in enumerate(search.alphas):
                error = truth - (mixed.ahead / backend.put(mixed.values + alpha, dtype)) @ z
                out[m, a] = backend.get(importance @ (error * error))
        return out


def by_folds(folds: Sequence[SearchFold], y: FloatArray, search: SearchSpace) -> list[BestCandidate]:
    """Search a tile by k-fold cross-validation; one result per face."""
    *errors, nothing = np.sum([fold.errors(y, search) for fold in folds], axis=0)
    best = [_smallest(some, search) for some in errors]
    error, alpha = np.stack([one for one, _ in best]), np.stack([one for _, one in best])
    voxel, chosen = np.arange(y.shape[1]), []
    for face in search.faces:
        among = np.asarray(face.mixtures)
        errors_of_face = error[among]
        mixture = among[(errors_of_face <= errors_of_face.min(0) * (1 + RELATIVE_TIE)).argmax(0)]
        chosen.append(BestCandidate.of(error[mixture, voxel], nothing[0], alpha[mixture, voxel], mixture))
    return chosen
