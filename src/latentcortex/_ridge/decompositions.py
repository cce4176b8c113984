"""Decompositions that are kept on disk and mapped into memory.

The next stretch of voxels, a run that is resumed and another worker then read them instead of decomposing again, and
the decompositions of many models take no memory of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, digest, fingerprint
from latentcortex._ridge.backend import Backend, NumPy
from latentcortex._store import Part, Store

logger = logging.getLogger(__name__)

FORMAT: Final = "latentcortex-decomposition 1"
MIN_SIZE: Final = 400
"""Fewest rows, or columns where these are fewer, of a decomposition that is kept on disk: a smaller one is made again
(30 ms) about as fast as it is written."""


@dataclass(frozen=True, eq=False)
class DecomposedMixture:
    """The eigendecomposition of one mixture of kernels of weighted rows, K = U diag(values) U'.

    With z = directions' y, dual weights at penalty alpha are directions @ (z / (values + alpha)), and predictions of
    held-out rows are ahead @ (z / (values + alpha)).

    Parameters
    ----------
    values : ndarray of float64, shape (m,)
        Eigenvalues, at least 0.
    directions : array of the backend, shape (n_rows, m)
        Eigenvectors in the rows' coordinates, times the square roots of the rows' weights: sqrt(W) U.
    ahead : array of the backend, shape (n_held_out, m), optional
        Kernel of the held-out rows with the fitted ones, times `directions`; None where no row is held out.
    """

    values: FloatArray
    directions: Any
    ahead: Any = None

    def shrinkage(self, alphas: FloatArray) -> FloatArray:
        """Compute which fraction of each direction is left at each alpha: 1 / (1 + values / alpha), (n_alphas, m)."""
        return np.asarray(1 / (1 + self.values / alphas[:, None]))


_writing = threading.Lock()
_warned: set[Path] = set()
_scratch: ContextVar[Store | None] = ContextVar("_scratch", default=None)


@contextmanager
def keeping(folder: Path, *, max_bytes: int | None) -> Iterator[None]:
    """Keep the decompositions and kernels of a `with` block in a folder; the least recently used are deleted first.

    Their names are hashes of everything that they depend on: the rows' kernels or columns, weights, mixture, fold and
    precision, and the versions of the libraries that decompose. Results have the same bits as without the folder.

    Parameters
    ----------
    folder : Path
        A folder on a disk of this machine. Processes may share it, and it may be deleted when none runs.
    max_bytes : int, optional
        Bytes that the folder may take; with 0 nothing is kept, and by default everything is.
    """
    token = _scratch.set(None if max_bytes == 0 else Store(folder, max_bytes=max_bytes))
    try:
        yield
    finally:
        _scratch.reset(token)


@contextmanager
def keeping_none() -> Iterator[None]:
    """Keep no decompositions and kernels of a `with` block, whose rows nobody will fit again."""
    token = _scratch.set(None)
    try:
        yield
    finally:
        _scratch.reset(token)


def clear(folder: Path) -> None:
    """Delete all decompositions in a folder; a process that has mapped one can go on reading it."""
    store = Store(folder)
    store.remove(store.keys())
    with suppress(OSError):  # not there, or another process of the same study writes into it
        folder.rmdir()


def decomposition(
    rows_key: str,
    size: int,
    mixture: tuple[float, ...],
    *,
    dtype: np.dtype[Any],
    backend: Backend,
    make: Callable[[], DecomposedMixture],
) -> DecomposedMixture:
    """Read the decomposition of a mixture of some rows, or make it and keep it.

    Parameters
    ----------
    rows_key : str
        Hash of the rows, from `PreparedRows.key`.
    size : int
        Rows of the matrix that is decomposed; fewer than `MIN_SIZE` are not kept.
    mixture : tuple of float
    dtype : dtype
        Precision of the decomposition.
    backend : Backend
    make : callable
        Decomposes, where nothing is kept.
    """
    store = _scratch.get()
    if store is None or size < MIN_SIZE:
        return make()
    key = digest(FORMAT, rows_key, mixture, dtype.str, backend.name, np.__version__, scipy.__version__)
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


def bound(rows_key: str, size: int, make: Callable[[], float]) -> float:
    """Read the bound of some rows' eigenvalues, or make it, for which kernels are rotated, and keep it."""
    store = _scratch.get()
    if store is None or size < MIN_SIZE:
        return make()
    key = digest(FORMAT, "bound", rows_key)
    part = _load(store, key, mmap=False)
    if part is not None:
        return float(part.facts["largest"])
    largest = make()
    _write(store, key, {}, {"largest": largest})
    return largest


def mapped(array: FloatArray) -> FloatArray:
    """Write an array of many rows, such as a kernel, to disk and map it into memory.

    The array itself is returned where it has few rows, or where nothing is kept.
    """
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
    """Tell whether an array lies in memory by columns, so that its transpose is what is written.

    A store writes arrays by rows, and the last bits of a product may depend on how its factors lie in memory.
    """
    return array.flags.f_contiguous and not array.flags.c_contiguous


def key_of(*parts: object) -> str:
    """Hash arrays by their values and other objects by their text."""
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
    """Read a part of the store, or None where the disk cannot: the caller makes it again."""
    try:
        return store.load(key, mmap=mmap)
    except OSError as error:
        _warn_once(store, error)
        return None


def _write(store: Store, key: str, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write a part to the store; where the disk cannot, it will be made again, and results are the same."""
    try:
        with _writing:  # two threads that make room at the same time would delete too much
            store.save(key, arrays, facts)
    except OSError as error:
        _warn_once(store, error)


def _warn_once(store: Store, error: OSError) -> None:
    """Warn of a folder that cannot be read or written, and after the first time only log it."""
    level = logging.DEBUG if store.folder in _warned else logging.WARNING
    _warned.add(store.folder)
    message = "%s keeps no decompositions, so that they are made again; let this process write there, or make room: %s"
    logger.log(level, message, store.folder, error)
