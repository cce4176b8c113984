"""Maps as a part of a store, exactly as they are: what an interrupted run goes on from."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._store import Store
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.space import Bare, Space, Surface, Volume

logger = logging.getLogger(__name__)


def save_maps(store: Store, key: str, maps: Maps) -> None:
    """Write maps as one part, to be read back by `load_maps`."""
    arrays, about = _packed(maps.space)
    store.save(key, {"data": maps.data, **arrays}, {"columns": maps.columns.to_dict("records"), "space": about})


def load_maps(store: Store, key: str, *, n_voxels: int) -> Maps | None:
    """Read the maps of so many voxels back; None where they are not there, damaged or of other voxels."""
    part = store.load(key)
    if part is None:
        return None
    try:
        data, columns = part.arrays["data"], pd.DataFrame(part.facts["columns"])
        if data.dtype != np.float32 or data.shape != (n_voxels, len(columns)):
            raise InputError(f"it holds {data.dtype} of shape {data.shape}; expected {(n_voxels, len(columns))}")
        return Maps(data, columns, _unpacked(part.arrays, part.facts["space"], n_voxels))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s counts as not there: %s.", store.path(key), str(error).rstrip("."))
        return None


def _packed(space: Space) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Turn a space into arrays and facts."""
    if isinstance(space, Volume):
        placed = {} if space.to_voxels is None else {"to_voxels": space.to_voxels}
        about = {"kind": "volume", "reference": space.reference, "template": space.template}
        return {"mask": space.mask, "affine": space.affine, **placed}, about
    if isinstance(space, Surface):
        return {"vertices": space.vertices}, {"kind": "surface", "template": space.template}
    return {}, {"kind": "bare"}


def _unpacked(arrays: dict[str, NDArray[Any]], about: dict[str, Any], n_voxels: int) -> Space:
    """Make the space of what `_packed` made of it."""
    if about["kind"] == "bare":
        return Bare(n_voxels)
    if about["kind"] == "surface":
        return Surface(about["template"], arrays["vertices"])
    if about["kind"] != "volume":
        raise InputError(f"its voxels are of an unknown kind, {about['kind']!r}")
    named = {name: about[name] for name in ("reference", "template")}
    return Volume(arrays["mask"], arrays["affine"], **named, to_voxels=arrays.get("to_voxels"))
