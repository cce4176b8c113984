"""Work that is shared between the threads that may be used, each with one BLAS thread."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import lru_cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

_T = TypeVar("_T")
_R = TypeVar("_R")


def n_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Spare:
    """Threads that nobody uses at the moment, lent to the cells that run.

    Parameters
    ----------
    most : int
        As many as may run at once.
    waiting : int
        Cells that have not begun: a thread is left for each, so that it begins without waiting.
    """

    def __init__(self, most: int, waiting: int = 0) -> None:
        self.most = most
        self._free, self._waiting, self._lock = most, waiting, threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take the thread that a cell runs in, while it runs."""
        with self._lock:
            self._free -= 1
            self._waiting -= 1
        try:
            yield
        finally:
            with self._lock:
                self._free += 1

    @contextmanager
    def lent(self, wanted: int) -> Iterator[int]:
        """Lend so many threads or fewer, perhaps none, for as long as the block takes."""
        with self._lock:
            n = max(min(wanted, self._free - self._waiting), 0)
            self._free -= n
        try:
            yield n
        finally:
            with self._lock:
                self._free += n


_spare: ContextVar[Spare | None] = ContextVar("_spare", default=None)
"""From where the code that runs here may borrow threads; None outside of any cell."""
_NONE = Spare(0)


def in_cell() -> bool:
    """Tell whether whoever runs this has given out the threads that may be used."""
    return _spare.get() is not None


def most_threads() -> int:
    """Count the threads that `share` uses at most, here."""
    spare = _spare.get()
    return n_cores() if spare is None else max(spare.most, 1)


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    importlib.import_module("scipy.linalg")  # brings its own BLAS, which must be loaded to be found
    return ThreadpoolController()


_limit_lock = threading.Lock()
_limits: list[Any] = []
"""The limit that is in force, while anybody wants it, and once more for everyone else who does."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute every matrix product in one BLAS thread: its last bits depend on how many threads share it.

    The limit is the process's: it is set by the first thread that wants it and taken back by the last.
    """
    if in_cell():  # whoever started it has set the limit
        yield
        return
    with _limit_lock:
        _limits.append(_limits[0] if _limits else _blas().limit(limits=1))
    try:
        yield
    finally:
        with _limit_lock:
            last = _limits.pop()
            if not _limits:
                last.restore_original_limits()


def share(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Map over items with one BLAS thread each; results come in the order of the items.

    In a cell it uses the cell's own thread and those that are spare; in what is shared already, one; elsewhere all
    cores. What the caller has set in context variables, such as what the log tells of, holds in every worker.
    """
    spare, own = _spare.get() or Spare(n_cores()), int(in_cell())  # a cell's own thread waits while others work for it
    with one_thread(), spare.lent(len(items) - own) as lent:
        n_workers = lent + own
        if n_workers < 2:
            return [function(item) for item in items]
        contexts = [inside(_NONE) for _ in items]  # one can be entered by one thread at a time
        with ThreadPoolExecutor(n_workers) as pool:
            return list(pool.map(lambda context, item: context.run(function, item), contexts, items))


def inside(spare: Spare) -> Context:
    """Copy the caller's context for code that may borrow these threads."""
    context = copy_context()
    context.run(_spare.set, spare)
    return context


def with_threads(n_threads: int, function: Callable[[_T], _R], cell: _T) -> _R:
    """Call a function with a cell that is given so many threads, its own included.

    It is how an executor runs a cell in a process of its own, where `share` would use all cores otherwise.
    """
    spare = Spare(n_threads, waiting=1)
    with one_thread():
        return inside(spare).run(run_cell, spare, function, cell)


def run_cell(spare: Spare, function: Callable[[_T], _R], cell: _T) -> _R:
    """Call a function with a cell, in one of these threads."""
    with spare.one():
        return function(cell)
