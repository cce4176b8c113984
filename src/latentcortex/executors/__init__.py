"""Executors: where and how many cells of work run side by side. Add a file here and a line to the shelf.

Nothing else starts threads or processes. A cell is one call of a function that depends on its argument alone. Inside a
cell, work that can be divided is divided by `share`, which uses the threads that the cell was given; outside of any
cell it uses all cores. Whoever must watch something meanwhile does so `beside`, and another program is run by
`process`.
"""

from __future__ import annotations

from typing import Any, Final

from latentcortex._shelf import Shelf
from latentcortex.executors._background import called_every, run_program
from latentcortex.executors._sharing import most_threads, n_cores, one_thread, share, with_threads
from latentcortex.executors.executor import Executor

__all__ = [
    "SHELF",
    "Executor",
    "called_every",
    "make",
    "most_threads",
    "n_cores",
    "one_thread",
    "run_program",
    "share",
    "with_threads",
]

SHELF: Final = Shelf("executor", {"threads": "latentcortex.executors.threads:Threads"})


@SHELF.documented
def make(name: str, **arguments: Any) -> Executor:
    """Make an executor by name."""
    executor: Executor = SHELF.make(name, **arguments)
    return executor


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name."""
    return SHELF.named(name)
