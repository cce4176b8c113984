"""Banded ridge fitted tile by tile: four numbers are kept per voxel, and dual weights are solved for on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import DTypeLike

from latentcortex._arrays import TILE, BoolArray, FloatArray, IntArray, tiles
from latentcortex._ridge.backend import Backend
from latentcortex._ridge.candidates import ModelCandidates, SearchSpace
from latentcortex._ridge.design import Design
from latentcortex._ridge.prepared import MAX_ROWS_IN_FLOAT64, PreparedRows
from latentcortex._ridge.search import by_folds, by_rows
from latentcortex.errors import InputError
from latentcortex.executors import n_cores, one_thread

ROUNDING_UNITS: Final = 8
"""Error of a decomposition and a product together, in units of the last place."""
MAX_REFINEMENTS: Final = 8
"""Times that a solution in float32 is refined at most."""
MAX_DUAL_ERROR: Final = 1e-4
"""Dual weights in float32 are refined until their relative error is below this."""

FitTile = tuple[slice, slice, slice]
"""A tile, voxels within the tile, and the place of these voxels in a result; see `RidgeFit._pieces`."""


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """Banded ridge fitted to some voxels: what was chosen for each, from which dual weights are solved for on demand.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_voxels)
        The responses, perhaps on disk.
    prepared : PreparedRows
        The rows and their decompositions.
    mixtures : ndarray of shape (n_mixtures, n_design_bands)
    bands : tuple of int
        Bands of the design that the model has.
    intercept : ndarray of shape (n_voxels,)
    alpha : ndarray of shape (n_voxels,)
        The chosen penalty.
    mixture : ndarray of int, shape (n_voxels,)
        Row of `mixtures` that was chosen.
    score : ndarray of shape (n_voxels,)
        Fraction of the error of the intercept alone that the chosen candidate removes, by the criterion that chose it.
    valid : ndarray of bool, shape (n_voxels,)
        Whether the responses are finite and vary. Where they do not, everything else is nan.
    """

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
    def design(self) -> Design:
        """The rows."""
        return self.prepared.design

    @property
    def gamma(self) -> FloatArray:
        """The chosen mixtures, (n_bands, n_voxels)."""
        return np.where(self.valid, self.mixtures[self.mixture][:, self.bands].T, np.nan)

    def dual(self, tile: slice) -> FloatArray:
        """Solve for the dual weights of a tile of voxels, (n_rows, n_voxels).

        They are the solution c of (K + alpha / W) c = y - intercept, with K = sum_b gamma_b K_b and W the rows'
        weights: c = D diag(1 / (lambda + alpha)) D'(y - intercept), with D and lambda the directions and eigenvalues
        of the voxel's mixture. The prediction from band b is gamma_b K_b(new, fitted) c.
        """
        prepared, backend = self.prepared, self.prepared.backend
        valid, mixture = self.valid[tile], self.mixture[tile]
        y = np.ascontiguousarray(np.where(valid, self.y[:, tile], 0))  # (n_rows, n_voxels)
        intercept, alpha = np.where(valid, self.intercept[tile], 0), np.where(valid, self.alpha[tile], 1)
        centred = prepared.centred(y, intercept)  # (n_rows, n_voxels)
        dual = np.empty(y.shape, dtype=prepared.dtype)
        relative_error = np.zeros(len(alpha))  # (n_voxels,): rounding, times the largest eigenvalue by alpha
        for m in np.unique(mixture):
            voxels, decomposed = np.flatnonzero(mixture == m), prepared.of_mixture(self.mixtures[m])
            spread = decomposed.values[:, None] + alpha[voxels]  # (n_directions, n_voxels_of_mixture)
            z = (decomposed.directions.T @ centred[:, voxels]) / backend.put(spread, prepared.dtype)
            dual[:, voxels] = backend.get(decomposed.directions @ z)
            rounding = ROUNDING_UNITS * np.finfo(prepared.dtype).eps
            relative_error[voxels] = rounding * decomposed.values.max(initial=0) / alpha[voxels]
        relative_error[~valid] = 0
        if relative_error.max(initial=0) > MAX_DUAL_ERROR:
            return self._refined(y - intercept, dual, alpha=alpha, mixture=mixture, relative_error=relative_error)
        return dual

    def _refined(
        self, y: FloatArray, dual: FloatArray, *, alpha: FloatArray, mixture: IntArray, relative_error: FloatArray
    ) -> FloatArray:
        """Solve again, in float64, for what dual weights (n_rows, n_voxels) in float32 leave of the centred responses.

        c <- c + solve(y - (K + alpha / W) c), which multiplies the relative error of c by itself each time.
        """
        prepared, backend = self.prepared, self.prepared.backend
        dual = dual.astype(np.float64)
        logarithms = np.log(np.clip(relative_error, 1e-30, 0.5))
        n_times = np.ceil(np.log(MAX_DUAL_ERROR) / logarithms).astype(int) - 1  # (n_voxels,)
        for m in np.unique(mixture[n_times > 0]):
            decomposed = prepared.of_mixture(self.mixtures[m])
            for time in range(min(int(n_times.max()), MAX_REFINEMENTS)):
                voxels = np.flatnonzero((mixture == m) & (n_times > time))
                if len(voxels) == 0:
                    break
                c = dual[:, voxels]  # (n_rows, n_voxels_of_mixture)
                residual = y[:, voxels] - self.design.times(self.mixtures[m], c)
                residual -= alpha[voxels] * c / prepared.weights[:, None]
                z = decomposed.directions.T @ backend.put(
                    residual, prepared.dtype
                )  # (n_directions, n_voxels_of_mixture)
                z /= backend.put(decomposed.values[:, None] + alpha[voxels], prepared.dtype)
                dual[:, voxels] += backend.get(decomposed.directions @ z)
        return dual

    def every_dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Solve for the dual weights of all voxels, or of a slice, in float64: (n_rows, n_voxels)."""
        n_voxels, pieces = self._pieces(voxels)
        out = np.empty((len(self.y), n_voxels))

        def fill(piece: FitTile) -> None:
            tile, in_tile, in_out = piece
            out[:, in_out] = np.where(self.valid[tile], self.dual(tile), np.nan)[:, in_tile]

        self.prepared.backend.map(fill, pieces)
        return out

    def predict(self, new: Sequence[FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band alone, without the intercept.

        Parameters
        ----------
        new : sequence of n_bands ndarrays
            New rows, measured from the mean of the fitted ones: (n_new, n_rows) kernels with the fitted rows, or
            (n_new, n_dims) columns, as the design has them.
        voxels : slice
            Voxels that are predicted; their predictions have the same bits whether they are asked for alone or
            together with others.

        Returns
        -------
        ndarray of shape (n_bands, n_new, n_voxels)
            In the precision of the responses.
        """
        n_voxels, pieces = self._pieces(voxels)
        gamma = self.gamma  # (n_bands, n_all_voxels)
        out = np.empty((len(new), len(new[0]), n_voxels), dtype=self.y.dtype)

        def fill(piece: FitTile) -> None:
            tile, in_tile, in_out = piece
            dual = self.dual(tile)  # (n_rows, n_voxels_of_tile)
            for b, (band, rows) in enumerate(zip(self.bands, new, strict=True)):
                # The product is in float64 where alpha is small: dual weights are large then, and cancel.
                part = (rows.astype(dual.dtype, copy=False) @ self.design.applied(band, dual)) * gamma[b, tile]
                out[b, :, in_out] = part[:, in_tile]

        self.prepared.backend.map(fill, pieces)
        return out

    def _pieces(self, voxels: slice) -> tuple[int, list[FitTile]]:
        """Cut a slice of voxels at the borders of the canonical tiles, whose results never depend on other voxels.

        Returns
        -------
        n_voxels : int
            Of the slice.
        pieces : list of (slice, slice, slice)
            The whole tile; the voxels of the slice within the tile; and their place among the voxels of the slice.
        """
        if getattr(voxels, "step", 0) not in (None, 1):
            raise InputError(f"voxels must be a slice of neighbouring ones, such as slice(0, 100); got {voxels!r}.")
        first, last, _ = voxels.indices(self.y.shape[1])
        pieces = []
        for tile in tiles(self.y.shape[1]):
            start, stop = max(tile.start, first), min(tile.stop, last)
            if start < stop:
                in_tile, in_out = slice(start - tile.start, stop - tile.start), slice(start - first, stop - first)
                pieces.append((tile, in_tile, in_out))
        return max(last - first, 0), pieces


@dataclass(frozen=True, eq=False)
class PreparedFit:
    """Rows and candidates that are ready for responses: everything in a fit that does not depend on the voxels.

    Parameters
    ----------
    search : SearchSpace
    prepared : PreparedRows
        All rows.
    folds : tuple of PreparedRows, optional
        One per fold, which holds out the rows of this fold; empty where candidates are compared without folds. By
        default each fit prepares them anew.
    """

    search: SearchSpace
    prepared: PreparedRows
    folds: tuple[PreparedRows, ...] | None = None

    @classmethod
    def of(
        cls, design: Design, search: SearchSpace, *, weights: FloatArray, dtype: DTypeLike, backend: Backend
    ) -> PreparedFit:
        """Prepare rows and folds; mixtures, which take longest, are decomposed once the first voxels come.

        Parameters
        ----------
        design : Design
        search : SearchSpace
        weights : ndarray of shape (n_rows,)
            How many trials each row averages; held-out rows count by their weights, too.
        dtype : dtype
            Precision of the responses. In float64 everything is computed in float64.
        backend : Backend
        """
        prepared = PreparedRows(design, weights, search, dtype=dtype, backend=backend)
        return cls(search, prepared, _folds(prepared, search))

    def without_folds(self) -> PreparedFit:
        """Free the decompositions of the folds, which take several times the memory of the others."""
        return replace(self, folds=None)

    def among(self, mixtures: FloatArray, models: Sequence[ModelCandidates]) -> PreparedFit:
        """Search among other mixtures of the same rows, as nested models do, and by the same criterion."""
        return replace(self, search=replace(self.search, mixtures=mixtures, models=tuple(models)))

    @one_thread()
    def fit(self, y: FloatArray, *, walked: Callable[[int], object] = bool) -> list[RidgeFit]:
        """Fit banded ridge, choosing mixture and alpha for each voxel; one fit per model of the search.

        A voxel's numbers are the same bits whether its tile is fitted alone or with others.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_voxels)
            In the precision that was prepared for.
        walked : callable
            Called with the number of voxels of each tile that is finished.

        References
        ----------
        Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751; Dupré la Tour et al. (2022),
        doi:10.1016/j.neuroimage.2022.119728
        """
        search, prepared, n_voxels = self.search, self.prepared, y.shape[1]
        folds = _folds(prepared, search) if self.folds is None else self.folds
        fits = [
            RidgeFit(
                y,
                prepared,
                search.mixtures,
                model.bands,
                intercept=np.empty(n_voxels),
                alpha=np.empty(n_voxels, dtype=y.dtype),  # no finer than the errors that it is chosen by
                mixture=np.empty(n_voxels, dtype=np.int16),
                score=np.empty(n_voxels, dtype=y.dtype),
                valid=np.empty(n_voxels, dtype=bool),
            )
            for model in search.models
        ]

        def fill(tile: slice) -> None:
            responses = np.ascontiguousarray(y[:, tile])  # (n_rows, n_voxels_of_tile)
            targets = prepared.targets(responses)
            best = by_folds(folds, responses, search) if folds else by_rows(prepared, targets, search)
            for fit, chosen in zip(fits, best, strict=True):
                fit.intercept[tile] = np.where(targets.valid, targets.intercept, np.nan)
                fit.alpha[tile] = np.where(targets.valid, chosen.alpha, np.nan)
                fit.score[tile] = np.where(targets.valid, chosen.score, np.nan)
                fit.mixture[tile], fit.valid[tile] = chosen.mixture, targets.valid
            walked(responses.shape[1])

        # One queue: the first tiles are searched while the last mixtures are decomposed. Another thread that fits the
        # same rows at this moment decomposes those that no thread has begun.
        jobs: list[Callable[[], object]] = [
            decomposition.begin for rows in folds or (prepared,) for decomposition in rows.ready(search.mixtures)
        ]
        jobs += [partial(fill, tile) for tile in tiles(n_voxels)]
        prepared.backend.map(lambda job: job(), jobs)
        return fits


def _folds(prepared: PreparedRows, search: SearchSpace) -> tuple[PreparedRows, ...]:
    """Prepare the training rows of each fold; none where the search compares candidates without folds."""
    if search.folds is None:
        return ()
    return tuple(prepared.holding_out(np.asarray(search.folds != k), search) for k in np.unique(search.folds))


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
    making = min(workers, n_mixtures)  # mixtures that are decomposed at the same time
    # A worker holds of its tile: responses, centred, those a mixture is tried on, rotated; and once in float64.
    tile = n_rows * min(TILE, n_voxels) * (8 + 4 * itemsize)
    # While the last mixtures are decomposed, memory holds those that are done and the rotated kernels; for each that is
    # being made its kernel, this in the working precision, its eigenvectors and LAPACK's work; and the tiles of workers
    # that have no mixture to make.
    searching = min(max(workers - making, int(workers > 1)), n_tiles)
    decomposing = (n_mixtures - making) * square * itemsize + n_bands * square * 8
    decomposing += making * square * (8 + 4 * itemsize) + searching * tile
    all_decomposed = n_mixtures * square * itemsize + min(workers, n_tiles) * tile
    return max(decomposing, all_decomposed) + 19 * n_voxels
