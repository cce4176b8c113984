"""Maps in one file, exactly as they are: what an interrupted run goes on from."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _files, _npy
from latentcortex.errors import IncompleteError, InputError
from latentcortex.maps import Maps
from latentcortex.space import Bare, Space, Surface, Volume


def save_state(maps: Maps, path: Path) -> None:
    """Write maps into one file, to be read back by `load_state`."""
    columns = _bytes(json.dumps(_files.plain(maps.columns.to_dict("records"))))
    arrays: dict[str, Any] = {"data": maps.data, "columns": columns, **_packed(maps.space)}
    with _files.writing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


MAX_BYTES: Final = 2**28
"""Of what is beside the values: their columns in words, and where the voxels are (a grid of 645 places a side)."""

Read = Callable[[str, int], NDArray[Any]]
"""Reads one array by its name, of at most so many bytes."""


def load_state(path: Path, *, n_voxels: int) -> Maps:
    """Read the maps of so many voxels back; raise `IncompleteError` if the file is damaged or of other voxels."""
    try:
        with zipfile.ZipFile(path) as archive:
            read: Read = lambda name, most: _npy.read_member(archive, name, source=str(path), max_bytes=most)  # noqa: E731
            columns = pd.DataFrame(json.loads(read("columns", MAX_BYTES).tobytes()))
            data = read("data", 4 * n_voxels * len(columns) + _npy.MAX_HEADER_BYTES)
            if data.dtype != np.float32 or len(data) != n_voxels:
                raise InputError(f"it holds {data.dtype} of {len(data)} voxels; expected float32 of {n_voxels}")
            return Maps(data, columns, _unpacked(read, n_voxels))
    except (*_npy.DAMAGE, KeyError, TypeError) as error:
        if _files.is_refused(error):
            raise
        raise IncompleteError(f"{path} is damaged ({str(error).rstrip('.')}); delete it and run again.") from None


def _packed(space: Space) -> dict[str, NDArray[Any]]:
    """Turn a space into arrays."""
    if isinstance(space, Volume):
        about = {"reference": space.reference, "template": space.template}
        placed = np.empty((0, 4)) if space.to_voxels is None else space.to_voxels
        arrays: dict[str, NDArray[Any]] = {"mask": space.mask, "affine": space.affine, "to_voxels": placed}
        return {**arrays, "kind": _bytes("volume"), "about": _bytes(json.dumps(about))}
    if isinstance(space, Surface):
        return {"kind": _bytes("surface"), "about": _bytes(space.template), "vertices": space.vertices}
    return {"kind": _bytes("bare")}


def _unpacked(read: Read, n_voxels: int) -> Space:
    """Make the space of what `_packed` made of it."""
    kind = read("kind", MAX_BYTES).tobytes()
    if kind == b"bare":
        return Bare(n_voxels)
    about = read("about", MAX_BYTES).tobytes()
    if kind == b"surface":
        return Surface(about.decode(), read("vertices", MAX_BYTES))
    if kind != b"volume":
        raise InputError(f"its voxels are of an unknown kind, {kind[:20]!r}")
    placed = read("to_voxels", MAX_BYTES)
    mask, affine = read("mask", MAX_BYTES), read("affine", MAX_BYTES)
    return Volume(mask, affine, **json.loads(about), to_voxels=placed if len(placed) else None)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
