"""Some columns of an array in HDF5, read without the others."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import IntArray

STRETCH: Final = 4096
"""Columns that are read at once of an array that is not laid out by column."""


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
