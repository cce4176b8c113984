"""Files that may be packed by gzip: unpacked as far as is expected, and read to the end, where the checksum is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from latentcortex import _files
from latentcortex.errors import InputError

MAGIC: Final = b"\x1f\x8b"
MAX_DEFLATION: Final = 1032
"""Bytes that deflate can make of one byte."""
CHUNK_BYTES: Final = 2**20
"""Unpacked at once."""


@contextmanager
def opened(path: Path, *, expected: str) -> Iterator[BinaryIO]:
    """Open a file, and unpack it if it begins as gzip does, whatever its name is.

    A checksum is compared where a packed stream ends: whoever reads the file reads all of it.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for errors: `a NIfTI image`.

    Raises
    ------
    InputError
        If it is missing, empty, only stands for another file, or turns out to be damaged while it is read.
    OSError
        If the operating system refuses to read it, so that nothing is known of what is in it.
    """
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is missing; expected {expected}.")
    _files.refuse_pointer(path)
    try:
        with _files.naming(path), path.open("rb") as handle:
            first = handle.read(len(MAGIC))
            handle.seek(0)
            if not first:
                raise InputError(f"{path} is empty; expected {expected}: was it fetched?")
            if first == MAGIC:
                with gzip.GzipFile(fileobj=handle) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield handle
    except (OSError, EOFError, zlib.error) as error:
        if _files.is_refused(error):
            raise
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error).rstrip(".")
        raise InputError(f"{path} is not {expected}, or damaged: {said}.") from None


def max_unpacked_bytes(path: Path) -> int:
    """Bound from the size of a file how many bytes `opened` can give of it."""
    with path.open("rb") as handle:
        packed = handle.read(len(MAGIC)) == MAGIC
    return path.stat().st_size * (MAX_DEFLATION if packed else 1)


def fill(handle: BinaryIO, buffer: memoryview) -> int:
    """Read until a buffer of bytes is full or the file ends; return how many bytes there were."""
    done = 0
    while done < len(buffer):
        chunk = handle.read(min(CHUNK_BYTES, len(buffer) - done))
        if not chunk:
            break
        buffer[done : done + len(chunk)] = chunk
        done += len(chunk)
    return done
