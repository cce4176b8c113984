"""Cells: what is computed on its own, kept in parts, and never twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentcortex import executors
from latentcortex._arrays import digest
from latentcortex.encoding.chunks import chunks_of
from latentcortex.encoding.pieces import Piece

logger = logging.getLogger(__name__)

EVENT: Final = "cell"
"""The `event` of a log record that says that a cell was computed, or was there already."""

Result = Mapping[str, Piece]
"""Pieces of one cell, by name: one for each of its models, and what comparing them gives."""
_Item = TypeVar("_Item")


class Parts(Protocol):
    """Where the results of cells are kept, each by a key that is a hash of what it depends on; see `_store.Store`."""

    def load(self, key: str) -> Any | None:
        """Return a part, with `arrays` and `facts`; None where it is not there or damaged."""
        ...

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Write a part, whole or not at all."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete parts."""
        ...


@dataclass(frozen=True, eq=False)
class Cell(Generic[_Item]):
    """One piece of work that depends on no other.

    Parameters
    ----------
    item : object
        What the function that computes it is given.
    facts : dict
        What the cell is, beside the key of the study: kind, models, voxels or permutations. Its key is their hash, and
        the log says them.
    """

    item: _Item
    facts: Mapping[str, Any]

    def key(self, of_all: str) -> str:
        """Name its part, beside what all cells depend on."""
        return digest(of_all, sorted(self.facts.items()))


@dataclass(frozen=True, eq=False)
class Cells:
    """How cells are computed, and where they are kept.

    Parameters
    ----------
    executor : executors.Executor
        What runs them side by side.
    parts : Parts, optional
        Where results are kept; without it they are in memory, and an interrupted run begins anew.
    key : str
        Hash of what all cells depend on: data, settings, versions.
    chunk_voxels : int
        Voxels of a chunk, a multiple of 1,024; 0 for all. No result depends on it.
    progress : bool
        Draw a progress bar.
    """

    executor: executors.Executor = field(default_factory=lambda: executors.make("threads"))
    parts: Parts | None = None
    key: str = ""
    chunk_voxels: int = 0
    progress: bool = False

    def chunks(self, n_voxels: int) -> list[slice]:
        """Cut voxels into chunks."""
        return chunks_of(n_voxels, self.chunk_voxels)

    def map(self, function: Callable[[_Item], Result], cells: Sequence[Cell[_Item]], *, title: str) -> list[Result]:
        """Compute every cell that is not there yet; results come in the order of the cells.

        Parameters
        ----------
        function : callable
            Pure: it gives the same for the same item, whatever else runs.
        cells : sequence of Cell
        title : str
            For the progress bar.
        """
        results = []
        with tqdm(total=len(cells), desc=title, unit="cell", disable=not self.progress) as bar:
            for result in self.executor.map(_Kept(function, self.parts, self.key), cells):
                results.append(result)
                bar.update()
        return results

    def forget(self, cells: Sequence[Cell[Any]]) -> None:
        """Delete the parts of cells that nothing needs any more."""
        if self.parts is not None:
            self.parts.remove([cell.key(self.key) for cell in cells])


@dataclass(frozen=True, eq=False)
class _Kept(Generic[_Item]):
    """Computes a cell, unless its part is there.

    Parameters
    ----------
    function : callable
    parts : Parts, optional
    key : str
        Of what all cells depend on.
    """

    function: Callable[[_Item], Result]
    parts: Parts | None
    key: str

    def __call__(self, cell: Cell[_Item]) -> Result:
        """Compute, keep and log."""
        if self.parts is None:
            return self.function(cell.item)
        part = self.parts.load(cell.key(self.key))
        if part is not None:
            logger.info("A cell was there already.", extra={"facts": {"event": EVENT, **cell.facts}})
            return _unpacked(part.arrays)
        result = self.function(cell.item)
        self.parts.save(cell.key(self.key), _packed(result), cell.facts)
        logger.info("A cell was computed.", extra={"facts": {"event": EVENT, **cell.facts}})
        return result


def _packed(result: Result) -> dict[str, NDArray[Any]]:
    """Name every array by its piece, by what it is and by its name."""
    return {
        f"{piece}\t{kind}\t{name}": np.asarray(array)
        for piece, of in result.items()
        for kind, arrays in (("values", of.values), ("sums", of.sums))
        for name, array in arrays.items()
    }


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Result:
    """Undo `_packed`."""
    pieces: dict[str, dict[str, dict[str, NDArray[Any]]]] = {}
    for name, array in arrays.items():
        piece, kind, what = name.split("\t")
        pieces.setdefault(piece, {"values": {}, "sums": {}})[kind][what] = array
    return {name: Piece(of["values"], of["sums"]) for name, of in pieces.items()}
