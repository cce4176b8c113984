"""The files of a store of features: blocks of stimuli, and a manifest that has the hash of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from latentcortex import _files, _npy
from latentcortex._arrays import FloatArray
from latentcortex.errors import IncompleteError, InputError

MANIFEST: Final = "manifest.json"
FORMAT: Final = "latentcortex-features 2"
BLOCK: Final = 50
"""Stimuli per file of a store."""
CHANGED: Final = "is missing or does not match its hash"
REMEDY: Final = "the command that made it (`latentcortex extract`, or `decode` for decoded features) makes it anew"
"""What mends a damaged store."""


def block_path(folder: Path, start: int) -> Path:
    """Name the file of a store that begins with stimulus number `start`."""
    return folder / f"block-{start // BLOCK:04d}.npz"


def write_manifest(
    folder: Path,
    ids: Sequence[str],
    dims: Mapping[str, int],
    made_by: Mapping[str, Any],
    blocks: Mapping[str, str],
) -> None:
    """Finish a store: say what is in it, and the hash of each block."""
    content = {"format": FORMAT, "ids": list(ids), "dims": dict(dims), "made_by": dict(made_by), "blocks": dict(blocks)}
    _files.write_sealed(folder / MANIFEST, content)


def write_block(path: Path, bands: Mapping[str, FloatArray]) -> str:
    """Write one block of stimuli whole; return its sha256."""
    with _files.writing(path) as part, part.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **bands)
    return _files.sha256(path)


def read_block(path: Path, band: str) -> FloatArray:
    """Read one band of one block; raise `IncompleteError` if the file is missing or damaged."""
    try:
        # Blocks are not compressed: nothing in one can be larger than its file.
        (values,) = _npy.read_npz(path, band, max_bytes=path.stat().st_size)
    except (InputError, OSError) as error:
        if _files.is_refused(error):
            raise
        raise IncompleteError(f"{path} is damaged ({str(error).rstrip('.')}); {REMEDY}.") from None
    return values


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store, whose names and sizes must be those of the blocks that lie beside it."""
    path = folder / MANIFEST
    manifest = _files.read_sealed(path, kind=FORMAT)
    ids, dims, blocks = manifest.get("ids"), manifest.get("dims"), manifest.get("blocks")
    if not (
        isinstance(ids, list)
        and isinstance(dims, dict)
        and isinstance(blocks, dict)
        and isinstance(manifest.get("made_by"), dict)
        and all(isinstance(name, str) for name in (*ids, *blocks.values()))
        and len(set(ids)) == len(ids)
        and all(type(width) is int and width > 0 for width in dims.values())
        and list(blocks) == [block_path(folder, start).name for start in range(0, len(ids), BLOCK)]
    ):
        raise IncompleteError(f"{path} is not the manifest of a store; {REMEDY}.")
    for k, name in enumerate(blocks):
        least = 4 * min(BLOCK, len(ids) - k * BLOCK) * sum(dims.values())
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size is None or size < least:
            state = "is missing" if size is None else f"has {size} bytes, and its bands take {least}"
            raise IncompleteError(f"{folder / name} {state}; {REMEDY}.")
    return manifest
