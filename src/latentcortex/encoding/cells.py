"""Cells: what is computed on its own, kept in parts, and never twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from latentcortex import _files, executors
from latentcortex._arrays import TILE, digest
from latentcortex._store import Store
from latentcortex.encoding.chunks import chunks_of
from latentcortex.encoding.pieces import Piece
from latentcortex.maps import Maps
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.responses import counting_lost

logger = logging.getLogger(__name__)

Result = Mapping[str, Piece]
"""Pieces of one cell, by name: one for each of its models, and what comparing them gives."""
_Item = TypeVar("_Item")


@dataclass(frozen=True, eq=False)
class Cell(Generic[_Item]):
    """One piece of work that depends on no other.

    Parameters
    ----------
    item : object
        What the function that computes it is given.
    facts : dict
        What the cell is, beside what the study depends on: its models, and voxels or permutations. The name of its part
        is a hash of them, and the log says them.
    """

    item: _Item
    facts: Mapping[str, Any]

    def key(self, stem: str) -> str:
        """Name its part; the stem says what all cells depend on."""
        return f"{stem}-{digest(sorted(self.facts.items()))[:32]}"


@dataclass(frozen=True, eq=False)
class Cells:
    """How cells are computed, and where they are kept.

    Parameters
    ----------
    executor : executors.Executor
        What runs them side by side.
    store : Store, optional
        Where results are kept; without it they are in memory, and an interrupted run begins anew.
    stem : str
        How the names of their parts begin; it says what all cells depend on: participant, data, settings, versions.
    chunk_voxels : int
        Voxels of a chunk, a multiple of 1,024; 0 for all. No result depends on it.
    progress : bool
        Draw a progress bar.
    start : float
        Where in the list of cells to begin, from 0 to below 1; those before come last. Processes that share the work
        begin at several places.
    """

    executor: executors.Executor = field(default_factory=lambda: executors.make("threads"))
    store: Store | None = None
    stem: str = "cell"
    chunk_voxels: int = 0
    progress: bool = False
    start: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs cells: a cell that is sent elsewhere runs there, and begins no others."""
        return {name: value for name, value in vars(self).items() if name != "executor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the default executor, which runs cells of a cell in its own thread."""
        vars(self).update(state, executor=executors.make("threads"))

    def chunks(self, n_voxels: int, estimator: object = None) -> list[slice]:
        """Cut voxels into chunks; larger ones for an estimator whose every fit begins from nothing."""
        at_once: int = getattr(estimator, "voxels_at_once", TILE)
        return chunks_of(n_voxels, -(-self.chunk_voxels // at_once) * at_once)

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
        first, results = int(self.start * len(cells)), []
        taken = [*cells[first:], *cells[:first]]
        with tqdm(total=len(cells), desc=title, unit="cell", disable=not self.progress) as bar:
            for result in self.executor.map(_KeptCell(function, self.store, self.stem, _files.log_facts()), taken):
                results.append(result)
                bar.update()
        n_last = len(cells) - first
        return results[n_last:] + results[:n_last]

    def of(self, name: str) -> Cells:
        """Take the same for cells whose parts have names of their own."""
        return replace(self, stem=f"{self.stem}-{name}")

    def aside(self, facts: Mapping[str, Any], *, n_voxels: int) -> Maps | None:
        """Take maps that were put aside, by this run or one that was interrupted; None where there are none."""
        if self.store is None:
            return None
        return load_maps(self.store, _maps_key(self.stem, facts), n_voxels=n_voxels)

    def put_aside(self, maps: Maps, facts: Mapping[str, Any]) -> Maps:
        """Keep maps among the parts, and give the same ones, whose columns stay there until they are read."""
        if self.store is None:
            return maps
        save_maps(self.store, _maps_key(self.stem, facts), maps)
        return self.aside(facts, n_voxels=maps.space.n_voxels) or maps

    def remove(self, cells: Sequence[Cell[Any]]) -> None:
        """Delete the parts of some cells, which nothing needs any more."""
        if self.store is not None:
            self.store.remove([cell.key(self.stem) for cell in cells])

    def forget(self) -> None:
        """Delete all parts that begin with the stem: nothing needs them any more."""
        if self.store is not None:
            self.store.remove(filter(lambda key: key.startswith(f"{self.stem}-"), self.store.keys()))


def _maps_key(stem: str, facts: Mapping[str, Any]) -> str:
    """Name the part of maps that are put aside."""
    return Cell(None, {"maps": "", **facts}).key(stem)


@dataclass(frozen=True, eq=False)
class _KeptCell(Generic[_Item]):
    """Computes a cell, unless its part is there.

    Parameters
    ----------
    function : callable
    store : Store, optional
    stem : str
    about : dict
        What the log tells of where cells are computed: an executor that sends them elsewhere need not know it.
    """

    function: Callable[[_Item], Result]
    store: Store | None
    stem: str
    about: Mapping[str, Any]

    def __call__(self, cell: Cell[_Item]) -> Result:
        """Compute, keep and log; what is kept stays in its part, and takes memory only while it is looked at."""
        with counting_lost(), _files.telling_of(**self.about):
            return self._result(cell)

    def _result(self, cell: Cell[_Item]) -> Result:
        if self.store is None:
            return self._computed(cell)
        key = cell.key(self.stem)
        part = self.store.load(key, mmap=True)
        if part is not None:
            logger.info("A cell was there already.", extra={"facts": {_files.EVENT: "cell", **cell.facts}})
            return _unpacked(self.store, key, part.arrays)
        result = self._computed(cell)
        self.store.save(key, _packed(result), cell.facts)
        logger.info("A cell was computed.", extra={"facts": {_files.EVENT: "cell", **cell.facts}})
        part = self.store.load(key, mmap=True)
        return result if part is None else _unpacked(self.store, key, part.arrays)

    def _computed(self, cell: Cell[_Item]) -> Result:
        """Compute a cell, of which every record of the log then says that it was made in it."""
        with _files.telling_of(**{_files.CELL: dict(cell.facts)}):
            return self.function(cell.item)


def _packed(result: Result) -> dict[str, NDArray[Any]]:
    """Name every array by its piece, by what it is and by its name."""
    return {
        f"{piece}\t{kind}\t{name}": np.asarray(array)
        for piece, parts in result.items()
        for kind, arrays in (("values", parts.values), ("sums", parts.sums))
        for name, array in arrays.items()
    }


def _unpacked(store: Store, key: str, names: Iterable[str]) -> Result:
    """Undo `_packed`, for arrays that stay in their part."""
    pieces: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        piece, kind, array = name.split("\t")
        pieces.setdefault(piece, {"values": {}, "sums": {}})[kind][array] = name
    return {
        piece: Piece(_InPart(store, key, kinds["values"]), _InPart(store, key, kinds["sums"]))
        for piece, kinds in pieces.items()
    }


@dataclass(frozen=True, eq=False)
class _InPart(Mapping[str, NDArray[Any]]):
    """Arrays of a part that is mapped whenever one is asked for: many parts held open would need as many descriptors.

    Parameters
    ----------
    store : Store
    key : str
    names : mapping of str to str
        Name -> that in the part.
    """

    store: Store
    key: str
    names: Mapping[str, str]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Map an array; raise `IncompleteError` if its part is gone."""
        return self.store.take(self.key, self.names[name], mmap=True)

    def __iter__(self) -> Iterator[str]:
        """List the names."""
        return iter(self.names)

    def __len__(self) -> int:
        """Count them."""
        return len(self.names)
