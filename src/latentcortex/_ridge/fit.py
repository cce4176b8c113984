"""Fits of rows to voxels, tile by tile: what is kept of each voxel, and dual weights when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from latentcortex._arrays import TILE, BoolArray, FloatArray, IntArray, tiles
from latentcortex._ridge.backend import Backend
from latentcortex._ridge.decompositions import DecomposedMixture
from latentcortex._ridge.design import Design
from latentcortex._ridge.prepared import MAX_ROWS_IN_FLOAT64, PreparedRows, RowSelection
from latentcortex._ridge.search import ModelCandidates, SearchFold, SearchSpace, by_folds, by_rows
from latentcortex.errors import InputError
from latentcortex.executors import n_cores, one_thread

ROUNDING_UNITS: Final = 8
"""A decomposition and a product together are off by about so many units of the last place."""
MAX_REFINEMENTS: Final = 8
"""A solution in float32 is refined at most so many times."""
MAX_DUAL_ERROR: Final = 1e-4
"""Dual weights in float32 are refined until their relative error is below this."""


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A fitted banded ridge.

    Parameters
    ----------
    design : Design
        The rows.
    y : ndarray of shape (n_rows, n_voxels)
        The responses, perhaps on disk.
    prepared : PreparedRows
        The decompositions.
    mixtures : ndarray of shape (n_mixtures, n_design_bands)
    bands : tuple of int
        Which bands of the design the model has.
    intercept : ndarray of shape (n_voxels,)
    alpha : ndarray of shape (n_voxels,)
        The chosen penalty.
    mixture : ndarray of int, shape (n_voxels,)
        Row of `mixtures` that was chosen.
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that is gone, by the criterion that was chosen by.
    valid : ndarray of bool, shape (n_voxels,)
        Whether the responses are finite and vary. Without that everything else is nan.
    """

    design: Design
    y: FloatArray
    prepared: PreparedRows
    mixtures: FloatArray
    bands: tuple[int, ...]
    intercept: FloatArray
    alpha: FloatArray
    mixture: IntArray
    score: FloatArray
    valid: BoolArray

    @property
    def gamma(self) -> FloatArray:
        """The chosen mixtures, (n_bands, n_voxels)."""
        return np.where(self.valid, self.mixtures[self.mixture][:, self.bands].T, np.nan)

    def dual(self, tile: slice) -> FloatArray:
        """Solve for the dual weights of a tile of voxels, (n_rows, n_voxels).

        The prediction from band b is gamma_b * K_b(new, fitted) @ dual.
        """
        prepared, backend = self.prepared, self.prepared.backend
        valid, mixture = self.valid[tile], self.mixture[tile]
        y = np.ascontiguousarray(np.where(valid, self.y[:, tile], 0))
        mean, alpha = np.where(valid, self.intercept[tile], 0), np.where(valid, self.alpha[tile], 1)
        rows, dual = prepared.centred(y, mean), np.empty(y.shape, dtype=prepared.dtype)
        rough = np.zeros(len(alpha))
        for m in np.unique(mixture):
            own, mixed = np.flatnonzero(mixture == m), self._mixed(m)
            spread = mixed.values[:, None] + alpha[own]
            z = (mixed.directions.T @ rows[:, own]) / backend.put(spread, prepared.dtype)
            dual[:, own] = backend.get(mixed.directions @ z)
            rough[own] = ROUNDING_UNITS * np.finfo(prepared.dtype).eps * mixed.values.max(initial=0) / alpha[own]
        rough[~valid] = 0
        if rough.max(initial=0) > MAX_DUAL_ERROR:
            return self._refined(y - mean, dual, alpha=alpha, mixture=mixture, rough=rough)
        return dual

    def every_dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Solve for the dual weights of all voxels, or some, in float64: (n_rows, n_voxels)."""
        first, last = self._ends(voxels)
        out = np.empty((len(self.y), last - first))

        def fill(tile: slice) -> None:
            some, wanted = _both(tile, first, last)
            out[:, wanted] = np.where(self.valid[tile], self.dual(tile), np.nan)[:, some]

        self.prepared.backend.map(fill, self._tiles(first, last))
        return out

    def _ends(self, voxels: slice) -> tuple[int, int]:
        """Find the first voxel of a slice and the one after its last."""
        if getattr(voxels, "step", 0) not in (None, 1):
            raise InputError(f"voxels must be a slice of neighbouring ones, such as slice(0, 100); got {voxels!r}.")
        first, last, _ = voxels.indices(self.y.shape[1])
        return first, max(first, last)

    def _tiles(self, first: int, last: int) -> list[slice]:
        """List the tiles of the canonical grid that hold some of these voxels."""
        return [tile for tile in tiles(self.y.shape[1]) if tile.start < last and tile.stop > first]

    def predict(self, new: Sequence[FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band alone, without the intercept.

        Parameters
        ----------
        new : sequence of n_bands ndarrays
            New rows, measured from the mean of the fitted ones: (n_new, n_rows) kernels with the fitted rows, or
            (n_new, n_dims) columns, as the design has them.
        voxels : slice
            Which voxels; everything else is the same whether they are asked for alone or together.

        Returns
        -------
        ndarray of shape (n_bands, n_new, n_voxels)
            In the precision of the responses.
        """
        first, last = self._ends(voxels)
        gamma = self.gamma
        out = np.empty((len(new), len(new[0]), last - first), dtype=self.y.dtype)

        def fill(tile: slice) -> None:
            some, wanted = _both(tile, first, last)
            dual = self.dual(tile)
            for b, (band, rows) in enumerate(zip(self.bands, new, strict=True)):
                # In float64 where alpha is small: then dual weights are large and cancel.
                part = (rows.astype(dual.dtype, copy=False) @ self.design.applied(band, dual)) * gamma[b, tile]
                out[b, :, wanted] = part[:, some]

        self.prepared.backend.map(fill, self._tiles(first, last))
        return out

    def _mixed(self, m: int) -> DecomposedMixture:
        return self.prepared.of_mixture(self.mixtures[m])

    def _refined(
        self, truth: FloatArray, dual: FloatArray, *, alpha: FloatArray, mixture: IntArray, rough: FloatArray
    ) -> FloatArray:
        """Solve again, in float64, for what the dual weights leave of the responses.

        The relative error of a solution is about rounding times the largest eigenvalue by alpha (`rough`); each time
        multiplies it by the same factor.
        """
        prepared, backend = self.prepared, self.prepared.backend
        exact = dual.astype(np.float64)
        times = np.ceil(np.log(MAX_DUAL_ERROR) / np.log(np.clip(rough, 1e-30, 0.5))).astype(int) - 1
        for m in np.unique(mixture[times > 0]):
            mixed = self._mixed(m)
            for time in range(min(int(times.max()), MAX_REFINEMENTS)):
                voxels = np.flatnonzero((mixture == m) & (times > time))
                if len(voxels) == 0:
                    break
                now = exact[:, voxels]
                left = truth[:, voxels] - self.design.times(self.mixtures[m], now)
                left -= alpha[voxels] * now / prepared.weights[:, None]
                z = mixed.directions.T @ backend.put(left, prepared.dtype)
                z /= backend.put(mixed.values[:, None] + alpha[voxels], prepared.dtype)
                exact[:, voxels] += backend.get(mixed.directions @ z)
        return exact


@dataclass(frozen=True, eq=False)
class PreparedFit:
    """Rows and candidates that are ready for responses: whatever does not depend on the voxels at hand.

    Parameters
    ----------
    design : Design
    search : SearchSpace
    prepared : PreparedRows
        All rows.
    folds : tuple of SearchFold, optional
        Empty where no folds choose. By default they are prepared by each fit anew.
    """

    design: Design
    search: SearchSpace
    prepared: PreparedRows
    folds: tuple[SearchFold, ...] | None = None

    @classmethod
    def of(
        cls, design: Design, search: SearchSpace, *, weights: FloatArray, dtype: DTypeLike, backend: Backend
    ) -> PreparedFit:
        """Make ready; what takes long, to decompose, is done once the first voxels come.

        Parameters
        ----------
        design : Design
        search : SearchSpace
        weights : ndarray of shape (n_rows,)
            How many trials each row averages; held-out rows count by their weights, too.
        dtype : dtype
            Of the responses. In float64 everything is float64.
        backend : Backend
        """
        rows = RowSelection(design, weights, search.fit_intercept)
        prepared = PreparedRows(rows, search.mixtures, search.alphas, dtype=dtype, backend=backend)
        return cls(design, search, prepared, _folds(prepared, search))

    def without_folds(self) -> PreparedFit:
        """Let the decompositions of the folds go, which take several times the memory of the others."""
        return replace(self, folds=None)

    def among(self, mixtures: FloatArray, faces: Sequence[ModelCandidates]) -> PreparedFit:
        """Choose among other mixtures of the same rows, in the same way: nested models do."""
        return replace(self, search=replace(self.search, mixtures=mixtures, faces=tuple(faces)))

    @one_thread()
    def fit(self, y: FloatArray, *, walked: Callable[[int], object] = bool) -> list[RidgeFit]:
        """Fit banded ridge, choosing mixture and alpha for each voxel; one fit per face of the criterion.

        A voxel's numbers are the same bits whether its tile is fitted alone or with others.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_voxels)
            Of the precision that was said.
        walked : callable
            Told how many voxels each finished tile has.

        References
        ----------
        Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751; Dupré la Tour et al. (2022),
        doi:10.1016/j.neuroimage.2022.119728
        """
        search, prepared = self.search, self.prepared
        folds = _folds(prepared, search) if self.folds is None else self.folds
        fits = [_empty(self.design, y, prepared, search.mixtures, face.bands) for face in search.faces]

        def fill(tile: slice) -> None:
            responses = np.ascontiguousarray(y[:, tile])
            targets = prepared.targets(responses)
            best = by_folds(folds, responses, search) if folds else by_rows(prepared, targets, search)
            for fit, one in zip(fits, best, strict=True):
                fit.intercept[tile] = np.where(targets.valid, targets.intercept, np.nan)
                fit.alpha[tile] = np.where(targets.valid, one.alpha, np.nan)
                fit.score[tile] = np.where(targets.valid, one.score, np.nan)
                fit.mixture[tile], fit.valid[tile] = one.mixture, targets.valid
            walked(responses.shape[1])

        # One queue: while the last mixtures are decomposed, the first tiles are walked already. Others who fit the same
        # rows at this moment decompose those that nobody has begun.
        chosen_in = [fold.prepared for fold in folds] or [prepared]
        jobs: list[Callable[[], object]] = [
            decomposition.begin for rows in chosen_in for decomposition in rows.ready(search.mixtures)
        ]
        jobs += [partial(fill, tile) for tile in tiles(y.shape[1])]
        prepared.backend.map(lambda job: job(), jobs)
        return fits


def _folds(prepared: PreparedRows, search: SearchSpace) -> tuple[SearchFold, ...]:
    """Prepare the folds of a criterion; none where it chooses without."""
    numbers = [] if search.folds is None else np.unique(search.folds).tolist()
    trains = [np.asarray(search.folds != k) for k in numbers]
    return tuple(
        SearchFold(prepared.holding_out(train, search.mixtures), train, prepared.weights[~train]) for train in trains
    )


def _both(tile: slice, first: int, last: int) -> tuple[slice, slice]:
    """Find the voxels from first to last that a tile has: where in the tile, and where from the first."""
    start, stop = max(tile.start, first), min(tile.stop, last)
    return slice(start - tile.start, stop - tile.start), slice(start - first, stop - first)


def _empty(
    design: Design, y: FloatArray, prepared: PreparedRows, mixtures: FloatArray, bands: tuple[int, ...]
) -> RidgeFit:
    alpha, score = np.empty((2, y.shape[1]), dtype=y.dtype)  # no finer than what they are chosen by
    intercept = np.empty(y.shape[1])
    mixture, valid = np.empty(y.shape[1], dtype=np.int16), np.empty(y.shape[1], dtype=bool)
    return RidgeFit(design, y, prepared, mixtures, bands, intercept, alpha, mixture, score, valid)


def memory(n_rows: int, n_bands: int, n_mixtures: int, *, n_voxels: int, itemsize: int = 4) -> int:
    """Predict the bytes that a fit from kernels takes at its peak, besides the kernels and the responses.

    Parameters
    ----------
    n_rows, n_bands, n_mixtures, n_voxels : int
    itemsize : int
        4 where it works in float32, 8 in float64.
    """
    square = n_rows * n_rows
    if n_rows <= MAX_ROWS_IN_FLOAT64:
        itemsize = 8
    workers, n_tiles = n_cores(), -(-n_voxels // TILE)
    making = min(workers, n_mixtures)
    # Of a tile, for each worker: responses, less their mean, those a mixture is tried on, rotated; and in float64 once.
    tile = n_rows * min(TILE, n_voxels) * (8 + 4 * itemsize)
    # While the last mixtures are decomposed: the others, rotated kernels, for each that is made its kernel, that in the
    # working precision, its eigenvectors and LAPACK's work; and tiles of whoever has none to make, or is done.
    others = min(max(workers - making, int(workers > 1)), n_tiles)
    decomposing = (n_mixtures - making) * square * itemsize + n_bands * square * 8
    decomposing += making * square * (8 + 4 * itemsize) + others * tile
    walking = n_mixtures * square * itemsize + min(workers, n_tiles) * tile
    return max(decomposing, walking) + 19 * n_voxels
