"""Copies by voxel of recordings that are stored by volume, so that some voxels can be read without all others.

    SCRATCH/KEY/block-00000.npy   the first trials of all voxels, float32 (n_trials, n_voxels), a voxel's together
    SCRATCH/KEY/blocks.json       which blocks there are, with their hashes; written last

The key is a hash of the source and of which of its voxels are taken. The source is read once, in order, a volume at a
time; a copy that was interrupted goes on after the blocks that are there.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._npy import Matrix
from latentcortex.errors import IncompleteError, InputError

logger = logging.getLogger(__name__)

FORMAT: Final = "latentcortex voxel-major copy 1"
MANIFEST: Final = "blocks.json"
BLOCK_BYTES: Final = 2**26
"""Of trials that are held in memory and turned at once."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A recording in blocks of trials, of which some voxels are read at a time; see `Matrix`.

    Parameters
    ----------
    path : Path
        The file that it is a copy of.
    parts : tuple of Matrix
        In the order of trials.
    """

    path: Path
    parts: tuple[Matrix, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the copy: float32."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Trials and voxels."""
        return sum(part.shape[0] for part in self.parts), self.parts[0].shape[1]

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start)."""
        out = np.empty((self.shape[0], stop - start), dtype=self.dtype)
        done = 0
        for part in self.parts:
            out[done : done + part.shape[0]] = part.columns(start, stop)
            done += part.shape[0]
        return out if rows is None else out[rows]


def default_scratch() -> Path:
    """Name the folder of copies that can be made again: where the system keeps what programs may lose."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache else Path.home() / ".cache") / "latentcortex" / "by-voxel"


def check_room(n_bytes: int, scratch: Path, source: Path) -> None:
    """Refuse a copy that the disk has no room for.

    Raises
    ------
    InputError
        If fewer bytes are free.
    """
    there = next(folder for folder in (scratch, *scratch.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if n_bytes > free:
        raise InputError(
            f"{source} is not laid out by voxel, and a copy that is needs {n_bytes / 1e9:.1f} GB in {scratch}, where "
            f"{free / 1e9:.1f} GB are free: make room, or set `scratch` in [dataset] to a folder on another disk."
        )


def voxel_major(
    trials: Iterable[FloatArray], shape: tuple[int, int], *, source: Path, key: str, scratch: Path
) -> Blocks:
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
    folder, size = scratch / key, max(BLOCK_BYTES // (4 * n_voxels), 1)
    starts = range(0, n_trials, size)
    paths = [folder / f"block-{k:05d}.npy" for k in range(len(starts))]
    lengths = [min(size, n_trials - start) for start in starts]
    if not _is_whole(folder, paths):
        missing = [k for k, path in enumerate(paths) if not _is_block(path, (lengths[k], n_voxels))]
        n_bytes = 4 * n_voxels * sum(lengths[k] for k in missing)
        check_room(n_bytes, scratch, source)
        sentence = "%s is not laid out by voxel: a copy that is takes %.1f GB in %s, which may be deleted afterwards."
        logger.info(sentence, source.name, 4 * n_voxels * n_trials / 1e9, folder)
        for k, block in enumerate(_blocks(trials, lengths, n_voxels)):
            if k in missing:
                _write(block, paths[k])
        hashes = {path.name: _files.sha256(path) for path in paths}
        _files.write_sealed(folder / MANIFEST, {"format": FORMAT, "source": str(source), "blocks": hashes})
    return Blocks(source, tuple(Matrix.open(path) for path in paths))


def _blocks(trials: Iterable[FloatArray], lengths: list[int], n_voxels: int) -> Iterator[FloatArray]:
    """Gather trials into blocks (n_trials of the block, n_voxels); one buffer is used again and again."""
    walk, buffer = iter(trials), np.empty((max(lengths), n_voxels), dtype=np.float32)
    for length in lengths:
        for row in range(length):
            buffer[row] = next(walk)
        yield buffer[:length]
    next(walk, None)  # to the end, where a packed stream has its checksum


def _write(block: FloatArray, path: Path) -> None:
    """Write a block by voxel; a reader sees all of it or nothing."""
    with _files.writing(path) as part, part.open("wb") as handle:
        np.save(handle, np.asfortranarray(block), allow_pickle=False)


def _is_block(path: Path, shape: tuple[int, int]) -> bool:
    """Tell whether a block of this shape is there, as long as its header says."""
    try:
        matrix = Matrix.open(path)
    except InputError:
        return False
    return (matrix.shape, matrix.dtype, matrix.fortran or 1 in shape) == (shape, np.dtype(np.float32), True)


def _is_whole(folder: Path, paths: list[Path]) -> bool:
    """Tell whether a copy is finished and as it was written; blocks that are not are named and deleted."""
    try:
        known = _files.read_sealed(folder / MANIFEST, kind=FORMAT)["blocks"]
    except IncompleteError:
        return False
    damaged = [path for path in paths if not _files.is_as_written(path, known.get(path.name, ""))]
    for path in damaged:
        logger.warning("%s is not as it was written, and is made again.", path)
        path.unlink(missing_ok=True)
    return not damaged
