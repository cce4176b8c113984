"""HDF5 files: opened for reading, and arrays of which some columns are read without the others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import IntArray, listed
from latentcortex.errors import InputError, first_line

MAGIC: Final = b"\x89HDF\r\n\x1a\n"
STRETCH: Final = 4096
"""Columns that are read at once of an array that is not laid out by column."""


@contextmanager
def opened(path: Path, *, expected: str) -> Iterator[Any]:
    """Open an HDF5 file for reading, as `h5py.File`.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for errors: `the betas of a session`.

    Raises
    ------
    InputError
        If it is missing, empty, only stands for another file, is not HDF5, or turns out to be damaged while it is read.
    """
    import h5py

    if not path.is_file():
        link = " (a link to a file that was not fetched)" if path.is_symlink() else ""
        raise InputError(f"{path} is missing{link}; expected {expected}: download it.")
    _files.refuse_pointer(path)
    with _files.naming(path), path.open("rb") as handle:
        first = handle.read(len(MAGIC))
    if first != MAGIC:
        said = "is empty" if not first else f"is not HDF5 (it starts with {first!r})"
        raise InputError(f"{path} {said}; expected {expected}: download it again.")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        if _files.is_refused(error):
            raise
        raise InputError(f"{path} is not {expected}, or damaged: {first_line(error)}. Download it again.") from None


def array(file: Any, name: str, path: Path) -> Any:
    """Find an array in an open file.

    Raises
    ------
    InputError
        If there is none of this name.
    """
    import h5py

    if not isinstance(file.get(name), h5py.Dataset):
        raise InputError(f"{path} has no array {name!r}; it has {listed(file)}. Download it again.")
    return file[name]


def columns(stored: Any, places: IntArray) -> NDArray[Any]:
    """Read all rows of some columns, (n_rows, n_places).

    Where each column is a chunk of its own that is not packed, as in the betas of NSD, it is read as it lies on the
    disk; else plane by plane.

    Parameters
    ----------
    stored : h5py.Dataset of shape (n_rows, ...)
    places : ndarray of int, shape (n_places, n_axes - 1)
        Where the columns are.
    """
    n_rows, filters = stored.shape[0], stored.id.get_create_plist().get_nfilters()
    if filters or stored.chunks != (n_rows, *(1,) * (stored.ndim - 1)):
        return _by_planes(stored, places)
    out = np.zeros((len(places), n_rows), dtype=stored.dtype)
    whole = stored.id.get_storage_size() == math.prod(stored.shape) * stored.dtype.itemsize
    # In the order of the file, so that what it says of where chunks are is read once.
    for k in np.lexsort(places.T[::-1]).tolist():
        at = (0, *places[k].tolist())
        # A chunk that was never written stands for zeros.
        if whole or stored.id.get_chunk_info_by_coord(at).byte_offset is not None:
            out[k] = np.frombuffer(stored.id.read_direct_chunk(at)[1], dtype=stored.dtype)
    return np.asarray(out.T.astype(stored.dtype.newbyteorder("="), copy=False))


def _by_planes(stored: Any, places: IntArray) -> NDArray[Any]:
    """Read the box that places span in each plane, or in each stretch of a single axis."""
    first = places[:, 0] if places.shape[1] > 1 else places[:, 0] // STRETCH
    out = np.empty((stored.shape[0], len(places)), dtype=stored.dtype.newbyteorder("="))
    for plane in np.unique(first):
        mine = np.flatnonzero(first == plane)
        low, high = places[mine].min(0), places[mine].max(0) + 1
        box = stored[(slice(None), *map(slice, low.tolist(), high.tolist()))]
        out[:, mine] = box[(slice(None), *(places[mine] - low).T)]
    return out
