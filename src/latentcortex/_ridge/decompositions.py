"""Decompositions that are kept on disk and mapped into memory.

Nobody makes them again then: not the next stretch of voxels, not a run that goes on, not another worker; and what many
models have decomposed takes no memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, digest, fingerprint
from latentcortex._ridge.backend import Backend, NumPy
from latentcortex._store import Part, Store

if TYPE_CHECKING:
    from latentcortex._ridge.prepared import RowSelection

logger = logging.getLogger(__name__)

FORMAT: Final = "latentcortex-decomposition 1"
MIN_SIZE: Final = 400
"""A decomposition is kept on disk if it has so many rows, or columns where these are fewer: a smaller one is made again
(30 ms) about as fast as it is written."""


@dataclass(frozen=True, eq=False)
class DecomposedMixture:
    """One mixture of kernels, decomposed.

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        Eigenvalues, at least 0.
    directions : array of the backend, shape (n_rows, m)
        Eigenvectors, brought back to the rows and times the square roots of the weights.
    ahead : array of the backend, shape (n_held_out, m), optional
        What carries rotated responses to predictions of the rows that are held out; None where none are.
    """

    values: FloatArray
    directions: Any
    ahead: Any = None

    def shrunk(self, alphas: FloatArray) -> FloatArray:
        """Compute what is left of each direction at each alpha; (n_alphas, m)."""
        return np.asarray(1 / (1 + self.values / alphas[:, None]))


_writing = threading.Lock()
_warned: set[Path] = set()
_scratch: ContextVar[Store | None] = ContextVar("_scratch", default=None)


@contextmanager
def keeping(folder: Path, *, max_bytes: int | None) -> Iterator[None]:
    """Keep decompositions and kernels of the block in a folder, those that were used longest ago making way for others.

    What they depend on is in their names: the rows' kernels or columns, weights, mixture, fold and precision, and the
    libraries that decompose. Results have the same bits as without.

    Parameters
    ----------
    folder : Path
        Of a disk of this machine; it may be shared by processes, and deleted when none runs.
    max_bytes : int, optional
        The room that they may take; with 0 nothing is kept.
    """
    token = _scratch.set(None if max_bytes == 0 else Store(folder, max_bytes=max_bytes))
    try:
        yield
    finally:
        _scratch.reset(token)


@contextmanager
def keeping_none() -> Iterator[None]:
    """Keep no decompositions and kernels of the block: of rows that nobody will fit again they would only take room."""
    token = _scratch.set(None)
    try:
        yield
    finally:
        _scratch.reset(token)


def clear(folder: Path) -> None:
    """Delete what is kept in a folder; a process that has mapped some of it keeps what it has."""
    store = Store(folder)
    store.remove(store.keys())
    with suppress(OSError):  # not there, or another process of the same study writes into it
        folder.rmdir()


def decomposition(
    rows: RowSelection,
    mixture: tuple[float, ...],
    *,
    dtype: np.dtype[Any],
    backend: Backend,
    make: Callable[[], DecomposedMixture],
) -> DecomposedMixture:
    """Take a decomposition that is kept, or make and keep it."""
    store = _scratch.get()
    if store is None or rows.size < MIN_SIZE:
        return make()
    key = digest(FORMAT, rows.key, mixture, dtype.str, backend.name, np.__version__, scipy.__version__)
    kept = _read(store, key, backend, dtype)
    if kept is None:
        made = make()
        arrays = {"values": made.values, "directions": backend.get(made.directions)}
        if made.ahead is not None:
            arrays["ahead"] = backend.get(made.ahead)
        turned = [name for name, array in arrays.items() if _is_turned(array)]
        _write(store, key, {n: a.T if n in turned else a for n, a in arrays.items()}, {"turned": turned})
        kept = _read(store, key, backend, dtype) or made  # the one that takes no memory
    return kept


def bound(rows: RowSelection, make: Callable[[], float]) -> float:
    """Take the bound of the rows' eigenvalues that is kept, or make and keep it: it needs the kernels rotated."""
    store = _scratch.get()
    if store is None or rows.size < MIN_SIZE:
        return make()
    key = digest(FORMAT, "bound", rows.key)
    part = _load(store, key, mmap=False)
    if part is not None:
        return float(part.facts["largest"])
    largest = make()
    _write(store, key, {}, {"largest": largest})
    return largest


def mapped(array: FloatArray) -> FloatArray:
    """Keep an array of many rows, such as a kernel, and map it into memory; the same array where nothing is kept."""
    store = _scratch.get()
    if store is None or len(array) < MIN_SIZE:
        return array
    turned = _is_turned(array)
    key = digest(FORMAT, "array", fingerprint(array), turned)
    part = _load(store, key, mmap=True)
    if part is None:
        _write(store, key, {"array": array.T if turned else array}, {})
        part = _load(store, key, mmap=True)
    if part is None:
        return array
    return part.arrays["array"].T if turned else part.arrays["array"]


def _is_turned(array: FloatArray) -> bool:
    """Tell whether an array lies by columns; a part holds its transpose then.

    The last bits of a product may depend on how its factors lie in memory, and a part's arrays lie by rows.
    """
    return array.flags.f_contiguous and not array.flags.c_contiguous


def key_of(*parts: object) -> str:
    """Hash what rows are made of: arrays by their values, the rest by what it says."""
    return digest(*(fingerprint(part) if isinstance(part, np.ndarray) else part for part in parts))


def _read(store: Store, key: str, backend: Backend, dtype: np.dtype[Any]) -> DecomposedMixture | None:
    part = _load(store, key, mmap=isinstance(backend, NumPy))
    if part is None:
        return None
    arrays = {name: array.T if name in part.facts["turned"] else array for name, array in part.arrays.items()}
    ahead = arrays.get("ahead")
    return DecomposedMixture(
        np.array(arrays["values"]),
        backend.put(arrays["directions"], dtype),
        None if ahead is None else backend.put(ahead, dtype),
    )


def _load(store: Store, key: str, *, mmap: bool) -> Part | None:
    """Read a part; what the disk does not give is made again."""
    try:
        return store.load(key, mmap=mmap)
    except OSError as error:
        _tell_of(store, error)
        return None


def _write(store: Store, key: str, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Keep a part; a disk that does not take it costs time and no result."""
    try:
        with _writing:  # two that make room at once take more than there is
            store.save(key, arrays, facts)
    except OSError as error:
        _tell_of(store, error)


def _tell_of(store: Store, error: OSError) -> None:
    """Warn of a disk once."""
    level = logging.DEBUG if store.folder in _warned else logging.WARNING
    _warned.add(store.folder)
    said = "%s keeps no decompositions, so that they are made again; let this process write there, or make room: %s"
    logger.log(level, said, store.folder, error)
