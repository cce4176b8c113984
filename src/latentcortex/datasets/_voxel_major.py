"""Copies by voxel of recordings that are stored by volume, so that some voxels can be read without all others.

    SCRATCH/KEY/trials-000000-000063.arrays   part of a `Store`: these trials, float32 (n_voxels, n_trials)

The key is a hash of the source and of which of its voxels are taken. The source is read once, in order, a volume at a
time; a copy that was interrupted goes on after the parts that are there. The last part is written when the source has
ended, where a packed one has its checksum: what is copied of a damaged source is never whole.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._store import Store
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

BLOCK_BYTES: Final = 2**26
"""Bytes of the trials that are held in memory and transposed together."""
RESPONSES: Final = "responses"
"""Name of the array in each part of the store."""


@dataclass(frozen=True, eq=False)
class TrialBlocks:
    """A recording in blocks of trials, of which some voxels are read at a time; see `Matrix`.

    Parameters
    ----------
    path : Path
        The file that it is a copy of.
    store : Store
        Holds one part for each block.
    blocks : tuple of slice
        The trials of each, in order.
    shape : (n_trials, n_voxels)
    """

    path: Path
    store: Store
    blocks: tuple[slice, ...]
    shape: tuple[int, int]

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start).

        Raises
        ------
        IncompleteError
            If a block was deleted or damaged since the copy was opened.
        """
        amplitudes = np.empty((self.shape[0], stop - start), dtype=np.float32)
        for block in self.blocks:
            amplitudes[block] = self.store.take(_key(block), RESPONSES, rows=slice(start, stop)).T
        return amplitudes if rows is None else amplitudes[rows]


def default_scratch() -> Path:
    """Return the folder for copies in the user's cache, since each can be made again."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "latentcortex" / "by-voxel"


def check_room(n_bytes: int, scratch: Path, source: Path) -> None:
    """Refuse a copy that the disk has no room for.

    Raises
    ------
    InputError
        If fewer bytes are free.
    """
    existing = next(folder for folder in (scratch, *scratch.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if n_bytes > free:
        raise InputError(
            f"{source} is not laid out by voxel, and a copy that is needs {n_bytes / 1e9:.1f} GB in {scratch}, where "
            f"{free / 1e9:.1f} GB are free: make room, or set `scratch` in [dataset] to a folder on another disk."
        )


def voxel_major(
    trials: Iterable[FloatArray], shape: tuple[int, int], *, source: Path, key: str, scratch: Path
) -> TrialBlocks:
    """Open the copy of a recording, or make it.

    Parameters
    ----------
    trials : iterable of ndarray of shape (n_voxels,)
        One after the other; it is walked through only if a block is missing, and then to its end.
    shape : (n_trials, n_voxels)
    source : Path
        What is copied, for messages.
    key : str
        A hash of all that the trials depend on; it names the copy.
    scratch : Path
        Where copies lie, each in a folder of its own.

    Raises
    ------
    InputError
        If the disk has no room for it.
    """
    n_trials, n_voxels = shape
    store, size = Store(scratch / key), max(BLOCK_BYTES // (4 * n_voxels), 1)
    blocks = tuple(slice(start, min(start + size, n_trials)) for start in range(0, n_trials, size))
    missing = [block for block in blocks if not store.has(_key(block))]
    if missing:
        _files.sweep(store.folder)  # the block that a killed copy was writing
        check_room(4 * n_voxels * sum(block.stop - block.start for block in missing), scratch, source)
        sentence = "%s is not laid out by voxel: a copy that is takes %.1f GB in %s, which may be deleted afterwards."
        logger.info(sentence, source.name, 4 * n_voxels * n_trials / 1e9, store.folder)
        for block, amplitudes in _gathered(trials, blocks, n_voxels):
            if block in missing:
                store.save(_key(block), {RESPONSES: np.ascontiguousarray(amplitudes.T)})
    return TrialBlocks(source, store, blocks, shape)


def _key(block: slice) -> str:
    """Name the part of a block: its first trial, and the one after its last."""
    return f"trials-{block.start:06d}-{block.stop:06d}"


def _gathered(
    trials: Iterable[FloatArray], blocks: Sequence[slice], n_voxels: int
) -> Iterator[tuple[slice, FloatArray]]:
    """Gather trials into blocks (n_trials of the block, n_voxels); one buffer is used again and again."""
    next_trials = iter(trials)
    buffer = np.empty((max(block.stop - block.start for block in blocks), n_voxels), dtype=np.float32)
    for block in blocks:
        amplitudes = buffer[: block.stop - block.start]
        for row in amplitudes:
            row[:] = next(next_trials)
        if block == blocks[-1]:
            next(next_trials, None)  # to the end, where a packed stream has its checksum
        yield block, amplitudes
