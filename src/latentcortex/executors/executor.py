"""What a study asks of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

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
