"""Maps in one file, exactly as they are: what an interrupted run goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex.errors import IncompleteError
from latentcortex.features import DAMAGE
from latentcortex.maps import Maps
from latentcortex.space import Bare, Space, Surface, Volume


def save_state(maps: Maps, path: Path) -> None:
    """Write maps into one file, to be read back by `load_state`."""
    columns = _bytes(json.dumps(_files.plain(maps.columns.to_dict("records"))))
    arrays: dict[str, Any] = {"data": maps.data, "columns": columns, **_packed(maps.space)}
    with _files.writing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def load_state(path: Path) -> Maps:
    """Read maps back; raise `IncompleteError` if the file is damaged."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            data, space = stored["data"], _unpacked(stored)
            columns = pd.DataFrame(json.loads(stored["columns"].tobytes()))
    except DAMAGE as error:
        if _files.is_refused(error):
            raise
        raise IncompleteError(f"{path} is damaged ({error}); delete it and run again.") from None
    return Maps(data, columns, space)


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


def _unpacked(stored: Mapping[str, NDArray[Any]]) -> Space:
    """Make the space of what `_packed` made of it."""
    kind = stored["kind"].tobytes().decode()
    if kind == "volume":
        placed = stored["to_voxels"] if len(stored["to_voxels"]) else None
        about = json.loads(stored["about"].tobytes())
        return Volume(stored["mask"], stored["affine"], **about, to_voxels=placed)
    return (
        Bare(len(stored["data"])) if kind == "bare" else Surface(stored["about"].tobytes().decode(), stored["vertices"])
    )


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)
