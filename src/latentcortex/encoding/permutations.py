"""Permutations across folds: each exchanges stimuli, or flips clusters, and refits every fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from latentcortex import _ridge
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._files import telling_of
from latentcortex.encoding.cells import Cell, Cells, Result
from latentcortex.encoding.chunks import SplitResponses
from latentcortex.encoding.criterion import Null
from latentcortex.encoding.draws import Draws
from latentcortex.encoding.fitted import ready_bytes
from latentcortex.encoding.folds import FoldModel, Folds
from latentcortex.encoding.models import ModelPlan
from latentcortex.encoding.pieces import Piece
from latentcortex.estimators import without_warnings

READY: Final = ("_cells", "_whole")
"""Attributes that are made when they are first asked for, and take much memory."""
DRAWS_AT_ONCE: Final = 10
"""A cell has so many permutations: a kill costs no more, and they are about as large as a chunk's predictions."""

READY_BYTES: Final = 1_000_000_000
"""Models of several permutations are ready together up to so many bytes."""


@dataclass(frozen=True, eq=False)
class Permutations:
    """The permutations of one model across folds.

    Pooled r is biased downwards and its parametric p is not valid; each permutation refits every fold and so carries
    the same bias, and the permutation p is valid. Eigenvectors of a permutation are the same for all voxels, and are
    most of its work: cells are stretches of permutations, each over all voxels, which are read chunk by chunk.

    Parameters
    ----------
    plan : ModelPlan
        Of predictions that are pooled over folds.
    responses : SplitResponses
    null : Null
        From `plan.null`.
    cells : Cells
    facts : mapping of str to str
        What the cells are of: analysis and model.
    """

    plan: ModelPlan
    responses: SplitResponses
    null: Null
    cells: Cells
    facts: Mapping[str, str]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is ready: it is made again, with the same bits, where it is sent."""
        return {name: value for name, value in vars(self).items() if name not in READY}

    def drawn(self) -> Draws:
        """Compute r of all voxels in every permutation."""
        if len(self._chunks) == 1:
            _ = self._whole  # before threads ask for it
        with telling_of(control="permutations that refit"):
            title = f"{self.facts['analysis']}, permutations"
            return Draws([result["draws"] for result in self.cells.map(self._permuted, self._cells, title=title)])

    def forget(self) -> None:
        """Delete the parts of permutations, as many numbers per voxel as there are, once maps are kept."""
        self.cells.remove(self._cells)

    @cached_property
    def _cells(self) -> list[Cell[FloatArray | IntArray]]:
        draws = self.plan.folds.null_draws(self.null)
        return [
            Cell(draws[stretch], {**self.facts, "draws": f"{stretch.start}-{stretch.stop}"})
            for stretch in _stretches(len(draws), DRAWS_AT_ONCE)
        ]

    @property
    def _chunks(self) -> list[slice]:
        return self.cells.chunks(self.responses.space.n_voxels, self.plan.estimator)

    @cached_property
    def _whole(self) -> Folds:
        """The folds of all voxels, where they are one chunk."""
        return self._folds(slice(None))

    def _folds(self, voxels: slice) -> Folds:
        return self.plan.folds.replaced(self.responses.folds(voxels))

    def _permuted(self, draws: FloatArray | IntArray) -> Result:
        """Score the pooled predictions of all voxels in each of some permutations."""
        silent, folds = without_warnings(self.plan.estimator), self.plan.folds
        r = np.empty((len(draws), self.responses.space.n_voxels), np.float32)
        if self.null.name == "clusters":
            models = folds.models(silent)
            self._refit([(models, signs) for signs in draws], r)
            return {"draws": Piece({"r": r})}
        with _ridge.keeping_none():  # another order has kernels of its own, which are used once
            for stretch in _stretches(len(draws), self._at_once):
                self._refit([(folds.models(silent, order), None) for order in draws[stretch]], r[stretch])
        return {"draws": Piece({"r": r})}

    def _refit(self, each: Sequence[tuple[list[FoldModel], FloatArray | None]], out: FloatArray) -> None:
        """Fill in r of models, with these signs, of all voxels; every chunk is read and parted once for all of them."""
        chunks = self._chunks
        for voxels in chunks:
            folds = self._whole if len(chunks) == 1 else self._folds(voxels)
            for row, (models, signs) in enumerate(each):
                out[row, voxels] = folds.predicted(models, signs)[0].r

    @property
    def _at_once(self) -> int:
        """Count the orders whose models are ready together while a chunk is read once: those that memory holds."""
        n_bytes = sum(ready_bytes(len(train.ids), self.plan.folds.features) for train, _ in self.plan.folds.sides)
        return int(np.clip(READY_BYTES // n_bytes, 1, DRAWS_AT_ONCE))


def _stretches(n_draws: int, size: int) -> list[slice]:
    """Cut permutations into stretches."""
    return [slice(start, min(start + size, n_draws)) for start in range(0, n_draws, size)]
