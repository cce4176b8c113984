"""FreeSurfer's .mgh and .mgz: values of vertices, of one frame or of many."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _gzip
from latentcortex.errors import InputError

HEADER_BYTES: Final = 284
TYPES: Final = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}
"""Code of a type -> what numpy calls it."""


@dataclass(frozen=True)
class Header:
    """What a file says of its values.

    Parameters
    ----------
    n_vertices, n_frames : int
    dtype : dtype
    """

    n_vertices: int
    n_frames: int
    dtype: np.dtype[Any]


def read_header(path: Path, *, expected: str) -> Header:
    """Read what a file says of its values, and see whether it can hold them.

    Raises
    ------
    InputError
        If it is missing, is not of this format or of an unknown type, or is too short.
    """
    with _gzip.opened(path, expected=expected) as handle:
        block = handle.read(HEADER_BYTES)
    version, *axes, n_frames, code = (int(n) for n in np.frombuffer(block[:24].ljust(24, b"\0"), dtype=">i4"))
    if len(block) < HEADER_BYTES or version != 1 or min(*axes, n_frames) < 1 or code not in TYPES:
        raise InputError(f"{path} is not {expected} in FreeSurfer's .mgh or .mgz, or damaged: download it again.")
    header = Header(math.prod(axes), n_frames, np.dtype(TYPES[code]))
    size, possible = HEADER_BYTES + header.n_vertices * n_frames * header.dtype.itemsize, _gzip.max_unpacked_bytes(path)
    if size > possible:
        raise InputError(f"{path} is cut off: it says that it has {size:,} bytes, and has {possible:,} at most.")
    return header


def frames(path: Path, header: Header, first: int, last: int) -> Iterator[NDArray[Any]]:
    """Read the vertices from `first` to before `last` of every frame, one frame after the other.

    Yields
    ------
    ndarray of shape (last - first,)

    Raises
    ------
    InputError
        If the file is damaged or cut off.
    """
    size, width = header.dtype.itemsize, last - first
    with _gzip.opened(path, expected="values of vertices") as handle:
        for k in range(header.n_frames):
            handle.seek(HEADER_BYTES + (k * header.n_vertices + first) * size)
            block = handle.read(width * size)
            if len(block) < width * size:
                raise InputError(f"{path} is cut off: it ends within frame {k + 1} of {header.n_frames}.")
            yield np.frombuffer(block, dtype=header.dtype)
        while handle.read(_gzip.CHUNK_BYTES):  # to the end, where a packed file has its checksum
            pass


def values(path: Path, n_vertices: int, *, expected: str) -> NDArray[Any]:
    """Read the only frame of a file, (n_vertices,), in the byte order of the machine.

    Raises
    ------
    InputError
        As `read_header`, and if it has another number of vertices or frames.
    """
    header = read_header(path, expected=expected)
    if (header.n_vertices, header.n_frames) != (n_vertices, 1):
        raise InputError(
            f"{path} has {header.n_frames} frames of {header.n_vertices} vertices; expected one of {n_vertices}."
        )
    (frame,) = frames(path, header, 0, n_vertices)
    return frame.astype(header.dtype.newbyteorder("="))
