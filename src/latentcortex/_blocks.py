"""The files of a store of features: blocks of stimuli, and a manifest that has the hash of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latentcortex._store import SUFFIX, Manifest
from latentcortex.errors import IncompleteError

MANIFEST: Final = "manifest.json"
FORMAT: Final = "latentcortex-features 3"
BLOCK: Final = 50
"""Stimuli per part of a store."""
CHANGED: Final = "is missing or does not match its hash"
REMEDY: Final = "the command that made it (`latentcortex extract`, or `decode` for decoded features) makes it anew"
"""What mends a damaged store."""


def block_key(start: int) -> str:
    """Name the part of a store that begins with stimulus number `start`."""
    return f"block-{start // BLOCK:04d}"


def write_manifest(
    folder: Path,
    ids: Sequence[str],
    dims: Mapping[str, int],
    made_by: Mapping[str, Any],
    blocks: Mapping[str, str],
) -> None:
    """Finish a store: say what is in it, and the hash of each block."""
    facts = {"ids": list(ids), "dims": dict(dims), "made_by": dict(made_by)}
    Manifest(folder / MANIFEST, FORMAT, dict(blocks), facts).write()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store, whose names and sizes must be those of the blocks that lie beside it."""
    path = folder / MANIFEST
    kind = f"the manifest of a store; {REMEDY}"
    manifest = Manifest.read(path, FORMAT, what=kind)
    ids, dims, blocks = manifest.facts.get("ids"), manifest.facts.get("dims"), manifest.files
    if not (
        isinstance(ids, list)
        and isinstance(dims, dict)
        and isinstance(manifest.facts.get("made_by"), dict)
        and all(isinstance(name, str) for name in ids)
        and len(set(ids)) == len(ids)
        and all(type(width) is int and width > 0 for width in dims.values())
        and list(blocks) == [f"{block_key(start)}{SUFFIX}" for start in range(0, len(ids), BLOCK)]
    ):
        raise IncompleteError(f"{path} is not {kind}.")
    for k, name in enumerate(blocks):
        least = 4 * min(BLOCK, len(ids) - k * BLOCK) * sum(dims.values())
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size is None or size < least:
            state = "is missing" if size is None else f"has {size} bytes, and its bands take {least}"
            raise IncompleteError(f"{folder / name} {state}; {REMEDY}.")
    return manifest
