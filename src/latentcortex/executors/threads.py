"""Cells side by side in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from latentcortex._arrays import whole_number
from latentcortex._ranges import PositiveCount
from latentcortex.executors._sharing import Spare, in_cell, inside, n_cores, one_thread, run_cell

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Threads:
    """Runs as many cells at once as there are workers, each in a thread of this process with one BLAS thread.

    Where cells are fewer than workers, or the last of them run, those that run share the other threads.

    Parameters
    ----------
    n_workers : int, optional
        By default as many as there are cores.
    """

    n_workers: PositiveCount | None = None

    def __post_init__(self) -> None:
        if self.n_workers is not None:
            whole_number("n_workers", self.n_workers, least=1)

    def map(self, function: Callable[[_T], _R], cells: Sequence[_T]) -> Iterator[_R]:
        """Call a function with each cell; see `Executor.map`. What the caller set in context variables holds in them.

        When whoever reads the results stops, or an exception is raised, those that run are waited for.
        """
        n_workers = n_cores() if self.n_workers is None else self.n_workers
        if in_cell():  # its threads are given out already
            yield from map(function, cells)
            return
        if not cells:
            return
        spare = Spare(n_workers, waiting=len(cells))
        with one_thread(), ThreadPoolExecutor(min(n_workers, len(cells))) as pool:
            futures = [pool.submit(inside(spare).run, run_cell, spare, function, cell) for cell in cells]
            try:
                for future in futures:
                    yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
