"""Small facts about arrays and ids that every other module relies on."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from latentcortex.errors import AlignmentError, InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

TILE: Final = 1024
"""Voxels per block of the canonical grid. Results depend on it in the last bits, so nobody may choose it."""

CONSTANT: Final = {4: 1e-6, 8: 1e-14}
"""By the bytes of a number: what varies by less than this fraction of its size is constant."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def same_length(**arrays: Sized) -> None:
    """Raise `AlignmentError` unless all named arrays have the same number of entries."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise AlignmentError(f"These must have one entry each per row: {found}.")


def listed(items: Iterable[object], most: int = 10) -> str:
    """Write the first items out and count the rest."""
    known = [str(item) for item in items]
    rest = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + rest


def positions(ids: Sequence[str], wanted: Sequence[str], *, what: str = "ids") -> NDArray[np.intp]:
    """Find where each wanted id stands among `ids`; ids, never row numbers, join two things.

    Raises
    ------
    AlignmentError
        If an id is wanted that is not there.

    Examples
    --------
    >>> positions(["b", "a"], ["a", "b"]).tolist()
    [1, 0]
    """
    where = {name: i for i, name in enumerate(ids)}
    missing = [name for name in wanted if name not in where]
    if missing:
        raise AlignmentError(f"{len(missing)} of {len(wanted)} {what} are not there: {listed(missing)}.")
    return np.array([where[name] for name in wanted], dtype=np.intp)


def unique_ids(ids: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Return the ids as a tuple of strings; raise `InputError` if one stands twice."""
    known = tuple(ids)
    twice = sorted({name for name in known if known.count(name) > 1}) if len(set(known)) < len(known) else []
    if twice:
        raise InputError(f"{what} must be unique, but {listed(twice)} stand there more than once.")
    return known


def digest(*parts: object) -> str:
    """Hash what `repr` tells of the parts: 64 hexadecimal digits."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()


def fingerprint(array: NDArray[Any]) -> str:
    """Hash an array's type, shape and values without copying them."""
    own = np.ascontiguousarray(array)
    known = hashlib.sha256(f"{own.dtype.str}{own.shape}".encode())
    known.update(own.reshape(-1).view(np.uint8).data)
    return known.hexdigest()


def varying(values: NDArray[Any]) -> BoolArray:
    """Tell which columns are finite and vary by more than the rounding of their precision; (n_columns,)."""
    low, high = values.min(0), values.max(0)
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(size) & (high - low > CONSTANT[values.dtype.itemsize] * size), dtype=bool)


def random_for(seed: int, *what: str | int) -> np.random.Generator:
    """Make the generator for one purpose, so that no draw depends on the order of calls.

    Examples
    --------
    >>> bool(random_for(0, "noise", "img1").random() == random_for(0, "noise", "img1").random())
    True
    """
    return np.random.default_rng(int(digest(seed, *what)[:32], 16))


def passes(n_rows: int, size: int) -> Iterator[tuple[list[int], int]]:
    """Cut rows into passes of one size, the last padded with its own last row; yield rows and how many count.

    Examples
    --------
    >>> list(passes(3, 2))
    [([0, 1], 2), ([2, 2], 1)]
    """
    for start in range(0, n_rows, size):
        rows = list(range(start, min(start + size, n_rows)))
        yield rows + [rows[-1]] * (size - len(rows)), len(rows)


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return a whole number; raise `InputError` for anything else, or if it is less than `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def refuse_beyond_memory(name: str, count: int, n_bytes: int) -> None:
    """Raise `InputError` if so many draws, of so many bytes each, are more than the memory that is free.

    It is asked before anything is drawn: what is held at once is known from the settings.
    """
    import psutil  # a moment to import, for those who draw

    free = psutil.virtual_memory().available
    if count * n_bytes > free:
        raise InputError(
            f"{name} = {count} takes {count * n_bytes / 1e9:,.1f} GB of memory, and {free / 1e9:.1f} GB are free; ask "
            "for fewer."
        )


def finite_number(name: str, value: object) -> float:
    """Return a number; raise `InputError` for anything else, and for nan and infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise InputError(f"{name} must be a finite number; got {value!r}.")
    return float(value)


def words(name: str, values: object) -> tuple[str, ...]:
    """Return a list of distinct names as a tuple; raise `InputError` for anything else, a single name too."""
    known = tuple(values) if isinstance(values, (list, tuple)) else ()
    if not known or not all(isinstance(one, str) for one in known) or len(set(known)) < len(known):
        raise InputError(f"{name} must be a list of distinct names, at least one; got {values!r}.")
    return known


def tiles(n_voxels: int) -> list[slice]:
    """Cut voxels along the canonical grid."""
    return [slice(i, min(i + TILE, n_voxels)) for i in range(0, n_voxels, TILE)]


def n_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    importlib.import_module("scipy.linalg")  # brings its own BLAS, which must be loaded to be found
    return ThreadpoolController()


_worker = threading.local()


_limit_lock = threading.Lock()
_limits: list[Any] = []
"""The limit that is in force, while anybody wants it, and once more for everyone else who does."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute every matrix product in one BLAS thread: its last bits depend on how many threads share it.

    The limit is the process's: it is set by the first thread that wants it and taken back by the last.
    """
    if getattr(_worker, "inside", False):  # whoever started this worker has set the limit
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


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Map over items with one BLAS thread each; results come in the order of the items.

    Inside a worker it maps without further threads.
    """
    with one_thread():
        n_workers = min(len(items), n_cores())
        if n_workers < 2 or getattr(_worker, "inside", False):
            return [function(item) for item in items]
        with ThreadPoolExecutor(n_workers, initializer=setattr, initargs=(_worker, "inside", True)) as pool:
            return list(pool.map(function, items))
