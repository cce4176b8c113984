"""Parts of a result in a folder, each a file of arrays and facts that is whole or counts as not there.

A part is one file, so that one rename makes it and one unlink removes it. Its arrays lie uncompressed at multiples of
`ALIGNMENT_BYTES`, so that they can be mapped into memory, which members of an .npz archive cannot; the hash of each is
in the header, so that the arrays that are read are the only ones that are hashed:

    magic (8 bytes)   length of the header (8)   sha256 of the header (32)   header (JSON)   arrays
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, Final
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files, _filesystem
from latentcortex.errors import IncompleteError

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows, whose maps take no descriptors of which there are few
    resource = None

logger = logging.getLogger(__name__)

FORMAT: Final = "latentcortex-part 1"
MAGIC: Final = b"lcpart1\n"
PREFIX_BYTES: Final = 48
ALIGNMENT_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 2**26
CHUNK_BYTES: Final = 2**24
"""Hashed, written and read at once."""
MIN_MAPPED_BYTES: Final = 2**16
"""Of an array that is mapped into memory; smaller ones are read, which takes no more of it than a few pages."""
NO_MORE: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What an operating system says that maps not one file more: then arrays are read whole."""
SUFFIX: Final = ".arrays"
KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,159}")
DTYPE: Final = re.compile(r"\|b1|\|[iu]1|<[iu][248]|<f[248]")
"""Types of arrays: truth values, integers and floats of up to 8 bytes, the lowest byte first."""

_verified: set[tuple[object, ...]] = set()
"""Arrays of files that this process has compared with their hashes and that nobody has replaced since."""
_maps: WeakSet[mmap.mmap] = WeakSet()
"""Files that this process has mapped, as long as anybody holds an array of them."""
_swept: set[Path] = set()
"""Scratch stores in which this process has deleted what killed writers left."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part, as it was saved.

    Parameters
    ----------
    arrays : dict of str to ndarray
    facts : dict
        What JSON makes of what was saved: tuples are lists, what is not finite is None.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """Parts in one folder, each under a key that says everything that the part depends on.

    Writers of the same key in several threads or processes write the same bytes and replace each other's file whole, so
    they need no agreement. A part that is damaged or of another format is named in the log and counts as not there.

    Parameters
    ----------
    folder : Path
        It is made when the first part is saved.
    max_bytes : int, optional
        The room of a scratch store: the parts that were used longest ago make way for a new one, and a part that is
        larger than all of it is not kept. A process of the same machine that has mapped or opened a part that makes
        way keeps what it has; on network file systems it may not, so scratch belongs on a disk of the machine.
    """

    folder: Path
    max_bytes: int | None = None

    def path(self, key: str) -> Path:
        """Name the file of a part."""
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a store; expected a digest, or letters, digits, dots and dashes.")
        return self.folder / f"{key}{SUFFIX}"

    def keys(self) -> tuple[str, ...]:
        """List the keys of the parts that are there, whole or not, in alphabetical order."""
        names = (path.name.removesuffix(SUFFIX) for path in self._files())
        return tuple(sorted(name for name in names if KEY.fullmatch(name)))

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None = None) -> None:
        """Write a part, whole or not at all.

        Parameters
        ----------
        key : str
        arrays : mapping of str to ndarray
            bool, integers or floats of at most 8 bytes, of any shape. Each is asked for twice, to be hashed and to be
            written, and none is kept: a mapping that makes or reads them needs memory for one.
        facts : dict, optional
            What JSON can hold; see `Part`.

        Raises
        ------
        TypeError
            If an array is of another type.
        """
        path = self.path(key)
        header, n_bytes = _header(key, arrays, facts or {})
        if not self._make_room(path, PREFIX_BYTES + len(header) + n_bytes):
            return
        with _files.writing(path) as part, part.open("wb") as handle:
            handle.write(MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest() + header)
            for name, values in arrays.items():
                for chunk in _chunks(_plain(name, values)):
                    handle.write(chunk)

    def load(self, key: str, *, names: Iterable[str] | None = None, mmap: bool = False) -> Part | None:
        """Read a part, comparing what is read with its hash.

        Parameters
        ----------
        key : str
        names : iterable of str, optional
            The arrays that are read; all by default.
        mmap : bool
            Map the file into memory, once, and take its arrays from there, read-only, so that only what is indexed is
            read; they are compared with their hashes once per process, or again where the file was replaced. Small ones
            are read. A map takes a file descriptor until all its arrays are gone, and where maps have taken half of
            those that the process may have, arrays are read instead. Otherwise all are read and may be written to.

        Returns
        -------
        Part or None
            None where there is no such part, it is damaged (which the log tells), or it lacks one of the names.

        Raises
        ------
        OSError
            If the operating system does not let a file be read that may be whole.
        """
        return self._load(key, names, mmap, None)

    def _load(self, key: str, names: Iterable[str] | None, mmap: bool, rows: slice | None) -> Part | None:
        """Read a part, map it, or read some rows of its arrays; see `load` and `take`."""
        path = self.path(key)
        try:
            with _files.naming(path), path.open("rb") as handle:
                header, layout = _read_header(handle, key)
                wanted = tuple(layout if names is None else names)
                if not layout.keys() >= set(wanted):
                    return None
                read: _Reads = _read if rows is None else partial(_read_rows, rows)
                if mmap and rows is None:
                    read = _mapped(path, handle, [layout[name] for name in wanted])
                arrays = {name: read(handle, name, layout[name]) for name in wanted}
        except FileNotFoundError:
            return None
        except (IsADirectoryError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s is damaged (%s) and counts as not there.", path, str(error).rstrip("."))
            return None
        self._note_use(path)
        return Part(arrays, header["facts"])

    def take(self, key: str, name: str, *, mmap: bool = False, rows: slice | None = None) -> NDArray[Any]:
        """Read or map one array of a part that was there a while ago, or read some rows of it.

        Parameters
        ----------
        key, name : str
        mmap : bool
            See `load`.
        rows : slice, optional
            Consecutive entries of the first axis. No others are read, except once per process to compare all of them
            with their hash, and nothing is mapped: however many parts there are, one is open at a time.

        Raises
        ------
        IncompleteError
            If it was deleted or damaged since.
        """
        part = self._load(key, [name], mmap, rows)
        if part is None:
            path = self.path(key)
            raise IncompleteError(f"{path} was deleted or damaged while it was in use; run the same command again.")
        return part.arrays[name]

    def has(self, key: str) -> bool:
        """Tell whether a part is there and whole; it is compared with its hashes once per process."""
        return self.load(key, mmap=True) is not None

    def remove(self, keys: Iterable[str]) -> None:
        """Delete parts; those that are not there need none."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """List the files that are called as parts are."""
        return [path for path in self.folder.glob(f"*{SUFFIX}") if not path.name.startswith(".")]

    def _note_use(self, path: Path) -> None:
        """Set the time of last use of a part in a scratch store, and leave that of its content."""
        if self.max_bytes is not None:
            with suppress(OSError):  # a store that may only be read, or a part that has just made way
                stat = path.stat()
                os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))

    def _make_room(self, path: Path, n_bytes: int) -> bool:
        """Delete the parts that were used longest ago until a new one fits; tell whether it can."""
        if self.max_bytes is None:
            return True
        if n_bytes > self.max_bytes:
            said = "%s needs %.2f GB, and its store may take %.2f: it is not kept."
            logger.info(said, path.name, n_bytes / 1e9, self.max_bytes / 1e9)
            return False
        if self.folder not in _swept:
            _files.sweep(self.folder)
            _swept.add(self.folder)
        parts = []
        for other in self._files():
            with suppress(FileNotFoundError):  # another process made room meanwhile
                parts.append((other.stat(), other))
        taken = sum(stat.st_size for stat, other in parts if other != path)
        for stat, other in sorted(parts, key=lambda one: (one[0].st_atime_ns, one[1].name)):
            if taken + n_bytes <= self.max_bytes:
                break
            if other != path:
                other.unlink(missing_ok=True)
                taken -= stat.st_size
        return True


def _plain(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Lay an array out as a part holds it: the lowest byte first, the last axis contiguous."""
    array = np.asarray(values)
    dtype = array.dtype.newbyteorder("<")
    if not DTYPE.fullmatch(dtype.str):
        raise TypeError(f"Array {name!r} is of {array.dtype}; a part holds bool, integers and floats of up to 8 bytes.")
    return np.asarray(array, dtype=dtype, order="C")


def _padded(n_bytes: int) -> int:
    """Round up to a multiple of the alignment."""
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _chunks(values: NDArray[Any]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an array, and zeros up to the next multiple of the alignment."""
    flat = values.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES].data
    yield bytes(_padded(flat.size) - flat.size)


def _header(key: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> tuple[bytes, int]:
    """Describe a part, and count the bytes of its arrays; spaces put the first one at a multiple of the alignment."""
    described, n_bytes = {}, 0
    for name, given in arrays.items():
        values, content = _plain(name, given), hashlib.sha256()
        for chunk in _chunks(values):
            content.update(chunk)
        described[name] = {"dtype": values.dtype.str, "shape": values.shape, "sha256": content.hexdigest()}
        n_bytes += _padded(values.nbytes)
    header = {"format": FORMAT, "key": key, "facts": facts, "arrays": described}
    text = json.dumps(_files.plain(header), ensure_ascii=False, allow_nan=False).encode(errors="surrogatepass")
    return text.ljust(_padded(PREFIX_BYTES + len(text)) - PREFIX_BYTES), n_bytes


@dataclass(frozen=True)
class _Place:
    """Where an array lies in its file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    sha256: str

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(handle: BinaryIO, key: str) -> tuple[dict[str, Any], dict[str, _Place]]:
    """Read what a part holds; raise `ValueError`, `KeyError` or `TypeError` where it is not as it was written."""
    size = os.fstat(handle.fileno()).st_size
    prefix = handle.read(PREFIX_BYTES)
    n_header = int.from_bytes(prefix[8:16], "little")
    if prefix[:8] != MAGIC or n_header > min(MAX_HEADER_BYTES, size - PREFIX_BYTES):
        raise ValueError(f"it begins with {prefix[:8]!r} and has {size} bytes")
    text = handle.read(n_header)
    if hashlib.sha256(text).digest() != prefix[16:]:
        raise ValueError("its header does not match its hash")
    header = json.loads(text)
    if header["format"] != FORMAT or header["key"] != key or not isinstance(header["facts"], dict):
        raise ValueError(f"it is {header['format']!r} of key {header['key']!r}; expected {FORMAT!r} of {key!r}")
    layout: dict[str, _Place] = {}
    start = PREFIX_BYTES + n_header
    for name, described in header["arrays"].items():
        shape = tuple(described["shape"])
        if not DTYPE.fullmatch(described["dtype"]) or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
            raise ValueError(f"its array {name!r} is {described['dtype']!r} of shape {shape}")
        layout[name] = _Place(np.dtype(described["dtype"]), shape, start, described["sha256"])
        start += _padded(layout[name].n_bytes)
    if start != size:
        raise ValueError(f"it has {size} bytes; expected {start}")
    return header, layout


def _content(handle: BinaryIO, name: str, place: _Place) -> Iterator[bytes]:
    """Yield the bytes of an array; raise `ValueError` where they end early or do not match their hash."""
    handle.seek(place.start)
    n_left, content = _padded(place.n_bytes), hashlib.sha256()
    while n_left:
        chunk = handle.read(min(CHUNK_BYTES, n_left))
        if not chunk:
            raise ValueError(f"its array {name!r} ends {n_left} bytes early")
        if place.dtype.kind == "b" and max(chunk) > 1:
            raise ValueError(f"its array {name!r} has truth values that are neither 0 nor 1")
        content.update(chunk)
        n_left -= len(chunk)
        yield chunk
    if content.hexdigest() != place.sha256:
        raise ValueError(f"its array {name!r} does not match its hash")


def _read(handle: BinaryIO, name: str, place: _Place) -> NDArray[Any]:
    """Read an array whole."""
    raw, n_read = np.empty(_padded(place.n_bytes), dtype=np.uint8), 0
    for chunk in _content(handle, name, place):
        raw[n_read : n_read + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
        n_read += len(chunk)
    return _shaped(raw, place)


def _read_rows(rows: slice, handle: BinaryIO, name: str, place: _Place) -> NDArray[Any]:
    """Read consecutive entries of the first axis; all of them are compared with their hash once per process."""
    _verify(handle, name, place)
    start, stop, _ = rows.indices(place.shape[0])
    values = np.empty((stop - start, *place.shape[1:]), dtype=place.dtype)
    handle.seek(place.start + start * math.prod(place.shape[1:]) * place.dtype.itemsize)
    if handle.readinto(values.reshape(-1).view(np.uint8).data) < values.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"its array {name!r} ends early")
    return values


_Reads = Callable[[BinaryIO, str, _Place], NDArray[Any]]


def _mapped(path: Path, handle: BinaryIO, places: Sequence[_Place]) -> _Reads:
    """Map a file, if any of these arrays is worth it; give what takes arrays of it, read-only."""
    whole = None
    if any(place.n_bytes >= MIN_MAPPED_BYTES for place in places) and len(_maps) < _most_maps():
        try:
            whole = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            _maps.add(whole)
        except OSError as error:
            if error.errno in NO_MORE:
                logger.info("%s is read whole and not mapped: %s.", path, error.strerror)
            elif error.errno in (errno.ENODEV, *_filesystem.UNSUPPORTED):
                _filesystem.say_once(path.parent, "map files into memory: they are read whole, and take more of it")
            else:
                raise

    def take(handle: BinaryIO, name: str, place: _Place) -> NDArray[Any]:
        if whole is None or place.n_bytes < MIN_MAPPED_BYTES:
            values = _read(handle, name, place)
            values.flags.writeable = False
            return values
        _verify(handle, name, place)
        return np.ndarray(place.shape, place.dtype, buffer=whole, offset=place.start)

    return take


def _most_maps() -> float:
    """Count the maps that leave half of the file descriptors of this process for everything else; each takes one."""
    soft = -1 if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if soft < 0 else soft / 2


def _verify(handle: BinaryIO, name: str, place: _Place) -> None:
    """Read an array once before it is mapped, since a map of a disk that fails would end the process."""
    stat = os.fstat(handle.fileno())
    whole = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, place.start, place.sha256)
    if whole not in _verified:
        for _ in _content(handle, name, place):
            pass
        _verified.add(whole)


def let_go(values: NDArray[Any]) -> None:
    """Take what was read of the part of a mapped array out of the memory of this process; it is read again when asked.

    An array that is not mapped stays as it is, and so does one that the operating system knows no such request for.
    """
    base: Any = values
    while base is not None and not isinstance(base, mmap.mmap):
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is not None and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _shaped(raw: NDArray[np.uint8], place: _Place) -> NDArray[Any]:
    return raw[: place.n_bytes].view(place.dtype).reshape(place.shape)


@dataclass(frozen=True)
class Manifest:
    """A sealed list of files of one folder, which is written when all of them are there: they belong together.

    Parameters
    ----------
    path : Path
        Of the list, beside the files.
    kind : str
        Its format.
    files : dict of str to str
        Name -> sha256.
    facts : dict
        What the files are together.
    """

    path: Path
    kind: str
    files: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Write the list."""
        _files.write_sealed(self.path, {"format": self.kind, "files": self.files, "facts": self.facts})

    @classmethod
    def read(cls, path: Path, kind: str, *, what: str) -> Manifest:
        """Read a list.

        Parameters
        ----------
        path : Path
        kind : str
            The format that is expected.
        what : str
            What it is, and what mends it, for errors: "the manifest of a store; `latentcortex extract` makes it anew".

        Raises
        ------
        IncompleteError
            If it is missing, damaged or of another format.
        """
        sealed = _files.read_sealed(path, kind=kind)
        files, facts = sealed.get("files"), sealed.get("facts")
        if not (
            isinstance(files, dict)
            and isinstance(facts, dict)
            and all(isinstance(expected, str) and Path(name).name == name for name, expected in files.items())
        ):
            raise IncompleteError(f"{path} is not {what}.")
        return cls(path, kind, files, facts)

    def damaged(self) -> list[Path]:
        """List the files that are missing or not as they were written."""
        folder = self.path.parent
        return [
            folder / name for name, expected in self.files.items() if not _files.is_as_written(folder / name, expected)
        ]

    def hashes(self) -> dict[Path, str]:
        """Give the hash of each file, and of the list itself."""
        named = {self.path.parent / name: expected for name, expected in self.files.items()}
        return {**named, self.path: _files.sha256(self.path)}
