"""Executors: where and how many cells of work run side by side. Add a file here and a line to the shelf.

Nothing else starts threads or processes. A cell is one call of a function that depends on its argument alone. Inside a
cell, work that can be divided is divided by `share`, which uses the threads that the cell was given; outside of any
cell it uses all cores. Whoever must watch something meanwhile does so `beside`, and another program is run by
`process`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from latentcortex._shelf import Shelf
from latentcortex.executors._beside import beside, process
from latentcortex.executors._sharing import most_threads, n_cores, one_thread, share, with_threads

__all__ = [
    "SHELF",
    "Executor",
    "beside",
    "make",
    "most_threads",
    "n_cores",
    "one_thread",
    "process",
    "share",
    "with_threads",
]

SHELF: Final = Shelf("executor", {"threads": "latentcortex.executors.threads:Threads"})

_T = TypeVar("_T")
_R = TypeVar("_R")


class Executor(Protocol):
    """What runs cells."""

    def map(self, function: Callable[[_T], _R], cells: Sequence[_T]) -> Iterator[_R]:
        """Call a function with each cell; yield results in the order of the cells, each once it and those before are.

        Parameters
        ----------
        function : callable
            One that a module defines, or `functools.partial` of one: no lambda and nothing that is defined in a
            function, so that an executor may send it to another process.
        cells : sequence
            What can be pickled, as the results can.

        Yields
        ------
        object
            What the function returned. An exception in a cell is raised in place of its result, and cells that have not
            begun are left.
        """
        ...


@SHELF.documented
def make(name: str, **arguments: Any) -> Executor:
    """Make an executor by name."""
    executor: Executor = SHELF.make(name, **arguments)
    return executor


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name."""
    return SHELF.named(name)
