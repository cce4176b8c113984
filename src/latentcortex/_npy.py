"""Arrays of numbers as numpy keeps them (.npy, .npz), read without evaluating what a header says.

numpy hands the header to Python's parser, and allocates whatever shape it claims. Here the header is matched against
the few forms that plain arrays have, and its shape is compared with the bytes that follow before anything is allocated.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import IntArray
from latentcortex.errors import InputError, first_line

MAGIC: Final = b"\x93NUMPY"
LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
"""Version of the format -> bytes of the header's length."""
MAX_HEADER_BYTES: Final = 4096
"""A plain array needs 128; even 64 axes of 18 digits fit."""
MAX_AXES: Final = 64
CHUNK_BYTES: Final = 2**24
"""Read at once."""
MAX_DEFLATION: Final = 1032
"""Bytes that deflate can make of one byte: a longer claim in the directory of an archive is false."""

_KEY = rb"""\s*['"](\w+)['"]\s*:\s*"""
_VALUE = rb"""('[^']*'|"[^"]*"|True|False|\([0-9L,\s]*\))\s*"""
HEADER: Final = re.compile(rb"\{" + rb",".join([_KEY + _VALUE] * 3) + rb"(?:,\s*)?\} *\n?")
"""A dict of three keys, in any order, of a text, a truth value and a tuple of numbers."""
DTYPE: Final = re.compile(rb"""['"]([<>|=]?)(b1|[iu][1248]|f[248])['"]""")
SHAPE: Final = re.compile(rb"\(\s*(?:(?:0|[1-9][0-9]{0,17})L?\s*(?:,\s*(?:0|[1-9][0-9]{0,17})L?\s*)*,?\s*)?\)")

DAMAGE: Final = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What an archive may raise that is damaged, encrypted or of a kind that Python does not read."""


def read_npy(handle: BinaryIO, *, size: int, source: str) -> NDArray[Any]:
    """Read a plain array of numbers from where an open file stands, to its end.

    Parameters
    ----------
    handle : binary file
        It need not be seekable.
    size : int
        Bytes from there to its end, header included.
    source : str
        What errors call it.

    Returns
    -------
    ndarray
        bool, integers or floats of up to 8 bytes, in the byte order of the file.

    Raises
    ------
    InputError
        If it is no .npy file, does not hold plain numbers, or is shorter or longer than its header says.
    """
    try:
        dtype, fortran, shape, left = _header(handle, size, source)
        values = _numbers(handle, dtype, math.prod(shape), left, source)
    except DAMAGE as error:
        if isinstance(error, InputError) or _files.is_refused(error):
            raise
        raise InputError(f"{source} cannot be read: {first_line(error)}; is it damaged?") from None
    try:
        return values.reshape(shape, order="F" if fortran else "C")
    except ValueError:  # an axis of 0 beside others that no memory could hold
        raise InputError(f"{source} has the impossible shape {shape}; save the array again.") from None


def _header(handle: BinaryIO, size: int, source: str) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Read the type, the order, the shape and how many bytes must follow."""
    first = handle.read(8)
    n_length = LENGTH_BYTES.get((first[6], first[7])) if len(first) == 8 and first[:6] == MAGIC else None
    if n_length is None:
        raise InputError(
            f"{source} is not a plain .npy array of numbers: it starts with {first!r}; save it with numpy.save."
        )
    n_header = int.from_bytes(handle.read(n_length), "little")
    if n_header > min(MAX_HEADER_BYTES, size):
        raise InputError(
            f"{source} is not a plain .npy array of numbers: its header has {n_header} bytes; expected at most 4096."
        )
    text = handle.read(n_header)
    facts = _literal(text)
    typed, shape = DTYPE.fullmatch(facts.get(b"descr", b"")), _shape(facts.get(b"shape", b""))
    order = facts.get(b"fortran_order")
    if typed is None or shape is None or order not in (b"True", b"False"):
        raise InputError(
            f"{source} is not a plain .npy array of numbers: its header is {_shown(text)}; expected bool, integers or "
            "floats of at most 8 bytes: convert the array and save it with numpy.save."
        )
    dtype = np.dtype((typed[1] + typed[2]).decode())
    left, n_values = size - 8 - n_length - n_header, math.prod(shape)
    if n_values * dtype.itemsize != left:
        raise InputError(
            f"{source} says that it is {dtype} of shape {shape}, {n_values * dtype.itemsize} bytes, and {left} follow; "
            "it is truncated or damaged: save it again."
        )
    return dtype, order == b"True", shape, left


def _literal(text: bytes) -> dict[bytes, bytes]:
    """Take the header's dict apart; empty where it is none, or a key stands twice."""
    match = HEADER.fullmatch(text)
    if match is None:
        return {}
    return dict(zip(match.groups()[::2], match.groups()[1::2], strict=True))


def _shape(text: bytes) -> tuple[int, ...] | None:
    """Read a tuple of whole numbers; None where it is none, as `(3)` is not."""
    digits = re.findall(rb"[0-9]+", text)
    if SHAPE.fullmatch(text) is None or len(digits) > MAX_AXES or (len(digits) == 1 and b"," not in text):
        return None
    return tuple(int(one) for one in digits)


def _numbers(handle: BinaryIO, dtype: np.dtype[Any], n_values: int, n_bytes: int, source: str) -> NDArray[Any]:
    """Read so many values, and see that nothing follows: at the end of an archive's member its checksum is compared."""
    values = np.empty(n_values, dtype=dtype)
    raw, done = values.view(np.uint8), 0
    while done < n_bytes:
        chunk = handle.read(min(CHUNK_BYTES, n_bytes - done))
        if not chunk:
            raise InputError(f"{source} ends after {done} of {n_bytes} bytes of values; it is truncated.")
        raw[done : done + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
        done += len(chunk)
    if handle.read(1):
        raise InputError(f"{source} is longer than its header says; it is damaged: save it again.")
    if dtype.kind == "b" and raw.size and raw.max() > 1:
        raise InputError(f"{source} holds truth values that are neither 0 nor 1; it is damaged: save it again.")
    return values


@dataclass(frozen=True)
class Matrix:
    """A two-dimensional .npy file of which some columns are read at a time; it is never mapped nor held in memory.

    Parameters
    ----------
    path : Path
    dtype : dtype
        Of the file: bool, integers or floats of up to 8 bytes, in its byte order.
    shape : tuple of int
    fortran : bool
        Whether a column lies together on the disk; otherwise a row does.
    start : int
        Where the values begin, in bytes.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @classmethod
    def open(cls, path: Path) -> Matrix:
        """Read the header of a file, and compare it with the file's size.

        Raises
        ------
        InputError
            If it is no .npy file, does not hold plain numbers, or is shorter or longer than its header says.
        """
        try:
            with path.open("rb") as handle:
                size = path.stat().st_size
                dtype, fortran, shape, left = _header(handle, size, str(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from None
        return cls(path, dtype, shape, fortran, size - left)

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive columns, of all rows or of some.

        Returns
        -------
        ndarray of shape (n_rows, stop - start)
            In the type of the file, contiguous by rows.

        Raises
        ------
        InputError
            If the file ends early: it has changed since it was opened.
        """
        n_rows, n_columns = self.shape
        width, n_wanted = self.dtype.itemsize, stop - start
        if self.fortran or (n_wanted == n_columns and rows is None):
            whole = np.empty((n_wanted, n_rows) if self.fortran else (n_rows, n_wanted), dtype=self.dtype)
            with self._opened() as handle:
                self._fill(handle, self.start + start * n_rows * width * self.fortran, whole.reshape(-1))
            out = whole.T if self.fortran else whole
            return np.ascontiguousarray(out if rows is None else out[rows])
        wanted = np.arange(n_rows) if rows is None else rows
        out = np.empty((len(wanted), n_wanted), dtype=self.dtype)
        with self._opened() as handle:
            for place, row in enumerate(wanted.tolist()):
                self._fill(handle, self.start + (row * n_columns + start) * width, out[place])
        return out

    @contextmanager
    def _opened(self) -> Iterator[RawIOBase]:
        """Open the file for reading here and there."""
        try:
            with self.path.open("rb", buffering=0) as handle:
                yield handle
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.") from None

    def _fill(self, handle: RawIOBase, offset: int, values: NDArray[Any]) -> None:
        """Read values from one place of the file."""
        raw, done = values.view(np.uint8).data, 0
        handle.seek(offset)
        while done < len(raw):
            n = handle.readinto(raw[done:])
            if not n:
                raise InputError(f"{self.path} ends early: it has changed while it was read; start again.")
            done += n


def read_member(archive: zipfile.ZipFile, name: str, *, source: str, max_bytes: int) -> NDArray[Any]:
    """Read one array of an open .npz archive; its checksum is compared.

    Parameters
    ----------
    archive : ZipFile
    name : str
        Of the array, without `.npy`.
    source : str
        What errors call the archive.
    max_bytes : int
        The most that the array may take, header included.

    Raises
    ------
    InputError
        If there is no such array, it is damaged, no plain numbers, or larger.
    """
    said = f"{name!r} in {source}"
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise InputError(f"{source} has no array {name!r}.") from None
    if member.file_size > min(max_bytes, MAX_DEFLATION * member.compress_size):
        raise InputError(f"{said} claims {member.file_size} bytes; expected at most {max_bytes}.")
    try:
        with archive.open(member) as handle:
            return read_npy(handle, size=member.file_size, source=said)  # type: ignore[arg-type]
    except DAMAGE as error:
        if isinstance(error, InputError) or _files.is_refused(error):
            raise
        raise InputError(f"{said} cannot be read: {first_line(error)}; is it damaged?") from None


def read_npz(path: Path, *names: str, max_bytes: int) -> tuple[NDArray[Any], ...]:
    """Read arrays of a .npz file by name, each of at most so many bytes; see `read_member`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(read_member(archive, name, source=str(path), max_bytes=max_bytes) for name in names)
    except DAMAGE as error:
        if isinstance(error, InputError) or _files.is_refused(error):
            raise
        raise InputError(f"{path} is missing or no .npz archive: {first_line(error)}.") from None


def _shown(text: bytes) -> str:
    return repr(text.strip()[:120].decode("latin-1"))
