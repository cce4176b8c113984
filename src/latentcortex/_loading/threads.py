"""How a network is run so that its last bits do not depend on the machine: one thread for each pass, many passes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from latentcortex.executors import most_threads, share

MADE_BY: Final = {"threads": "one per pass"}
"""What a store of features, or of images, says of it, so that none is finished with other roundings."""

_M = TypeVar("_M")
_T = TypeVar("_T")
_R = TypeVar("_R")

_lock = threading.Lock()
_inside: list[int] = []
"""The number of threads before, once for everyone who is inside."""


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute every operation in one thread: sums that several share end in other last bits.

    The number is the process's: it is set by the first thread that wants it and taken back by the last.
    """
    import torch

    with _lock:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                torch.set_num_threads(before)


def twin(model: _M, modules: Iterable[Any]) -> _M:
    """Copy a model, its weights excepted, so that two threads can use it at once: hooks and grids are its own."""
    shared: dict[int, Any] = {
        id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())
    }
    return copy.deepcopy(model, shared)


class Passes:
    """Runs passes of one model, on a CPU as many side by side as there are threads to use, each in one thread.

    Parameters
    ----------
    model : object
    modules : iterable of modules
        Those in `model` (torch.nn.Module), whose weights are shared.
    alone : bool
        One pass after the other, as an accelerator wants it.
    """

    def __init__(self, model: Any, modules: Iterable[Any], *, alone: bool = False) -> None:
        self._model, self._modules, self._alone = model, list(modules), alone
        self._free = [model]
        self._one_at_a_time = threading.Lock()

    def map(self, function: Callable[[Any, _T], _R], items: Sequence[_T]) -> list[_R]:
        """Call `function` with a model and each item; results come in the order of the items."""
        with one_torch_thread(), self._one_at_a_time:
            if self._alone:
                return [function(self._model, item) for item in items]
            # Made while nobody uses the model: a copy takes its hooks along.
            while len(self._free) < min(len(items), most_threads()):
                self._free.append(twin(self._model, self._modules))
            return share(lambda item: self._one(function, item), items)

    def _one(self, function: Callable[[Any, _T], _R], item: _T) -> _R:
        model = self._free.pop()
        try:
            return function(model, item)
        finally:
            self._free.append(model)
