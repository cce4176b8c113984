"""Maps kept bit by bit as a part of a store, from which an interrupted run goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._store import Store
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.space import Space, Surface, Unlocated, Volume

logger = logging.getLogger(__name__)


def save_maps(store: Store, key: str, maps: Maps) -> None:
    """Write maps as one part, to be read back by `load_maps`; one column after the other is in memory."""
    arrays, facts = _space_to_arrays(maps.space)
    store.save(key, _LazyColumns(maps, arrays), {"columns": maps.columns.to_dict("records"), "space": facts})


def load_maps(store: Store, key: str, *, n_voxels: int) -> Maps | None:
    """Read the maps of so many voxels back; None where they are not there, damaged or of other voxels.

    The part is compared with its hashes at once; its columns stay in the file, and each is read, and compared, whenever
    it is asked for.
    """
    part = store.load(key, mmap=True)
    if part is None:
        return None
    try:
        columns = pd.DataFrame(part.facts["columns"])
        names = [str(number) for number in range(len(columns))]
        for values in (part.arrays[name] for name in names):
            if values.dtype != np.float32 or values.shape != (n_voxels,):
                raise InputError(f"it holds {values.dtype} of shape {values.shape}; expected float32 of {(n_voxels,)}")
        space = {name: np.array(values) for name, values in part.arrays.items() if name not in names}
        vectors = [partial(store.take, key, name) for name in names]
        return Maps(vectors, columns, _space_from_arrays(space, part.facts["space"], n_voxels))
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("%s counts as not there: %s.", store.path(key), str(error).rstrip("."))
        return None


class _LazyColumns(Mapping[str, NDArray[Any]]):
    """The arrays of a part: those of the space, and every column by its number, read when it is asked for."""

    def __init__(self, maps: Maps, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.maps, self.arrays = maps, arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Take an array by name."""
        return self.arrays[name] if name in self.arrays else self.maps.column(int(name))

    def __iter__(self) -> Iterator[str]:
        """List the names."""
        yield from self.arrays
        yield from map(str, range(len(self.maps.columns)))

    def __len__(self) -> int:
        """Count the arrays."""
        return len(self.arrays) + len(self.maps.columns)


def _space_to_arrays(space: Space) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Turn a space into arrays and facts."""
    if isinstance(space, Volume):
        placed = {} if space.to_voxels is None else {"to_voxels": space.to_voxels}
        facts = {"kind": "volume", "reference": space.reference, "template": space.template}
        return {"mask": space.mask, "affine": space.affine, **placed}, facts
    if isinstance(space, Surface):
        return {"vertices": space.vertices}, {"kind": "surface", "template": space.template}
    return {}, {"kind": "unlocated"}


def _space_from_arrays(arrays: dict[str, NDArray[Any]], facts: dict[str, Any], n_voxels: int) -> Space:
    """Make a space from the arrays and facts that `_space_to_arrays` gives."""
    if facts["kind"] == "unlocated":
        return Unlocated(n_voxels)
    if facts["kind"] == "surface":
        return Surface(facts["template"], arrays["vertices"])
    if facts["kind"] != "volume":
        raise InputError(f"its voxels are of an unknown kind, {facts['kind']!r}")
    named = {name: facts[name] for name in ("reference", "template")}
    return Volume(arrays["mask"], arrays["affine"], **named, to_voxels=arrays.get("to_voxels"))
