"""Surfaces and values of vertices as GIFTI, read without entities and files from elsewhere, each array by its intent.

nibabel opens whatever file an array names, unpacks whatever it claims, and leaves to its caller which array is which.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from latentcortex import _gzip
from latentcortex.errors import InputError, first_line

POINTS: Final = "NIFTI_INTENT_POINTSET"
TRIANGLES: Final = "NIFTI_INTENT_TRIANGLE"
LABELS: Final = "NIFTI_INTENT_LABEL"
TYPES: Final = {
    "NIFTI_TYPE_UINT8": "u1",
    "NIFTI_TYPE_INT8": "i1",
    "NIFTI_TYPE_INT16": "i2",
    "NIFTI_TYPE_UINT16": "u2",
    "NIFTI_TYPE_INT32": "i4",
    "NIFTI_TYPE_UINT32": "u4",
    "NIFTI_TYPE_INT64": "i8",
    "NIFTI_TYPE_UINT64": "u8",
    "NIFTI_TYPE_FLOAT32": "f4",
    "NIFTI_TYPE_FLOAT64": "f8",
}
ORDERS: Final[dict[str, Literal["C", "F"]]] = {"RowMajorOrder": "C", "ColumnMajorOrder": "F"}
ENDS: Final = {"LittleEndian": "<", "BigEndian": ">"}
STRUCTURE: Final = "AnatomicalStructurePrimary"
"""Under this name a file says of which hemisphere it is."""
SIDES: Final = {"CortexLeft": "left", "CortexRight": "right"}

NO_BLANKS: Final = dict.fromkeys(map(ord, " \t\r\n"))

MAX_ARRAYS: Final = 1000
MAX_BYTES: Final = 2**27
"""Of all arrays of a file: a million vertices, their triangles and a few values are a third of it."""
MAX_ASCII_VALUES: Final = 2**23
"""Of an array that is written out: each is a string before it is a number."""
MAX_XML_BYTES: Final = 2**28
"""Of a file, unpacked."""
MAX_DEPTH: Final = 16
"""Of elements within elements; six are in use."""


@dataclass(frozen=True, eq=False)
class Array:
    """An array of a file.

    Parameters
    ----------
    intent : str
        What it holds, such as NIFTI_INTENT_POINTSET.
    values : ndarray
    """

    intent: str
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Gifti:
    """What a file holds.

    Parameters
    ----------
    path : Path
    arrays : tuple of Array
    """

    path: Path
    arrays: tuple[Array, ...]

    def only(self, *intents: str) -> NDArray[Any]:
        """Return the values of the one array with one of these intents; with none of them all but meshes count.

        Raises
        ------
        InputError
            If there is no such array, or several.
        """
        mesh = (POINTS, TRIANGLES)
        chosen = [one for one in self.arrays if (one.intent in intents if intents else one.intent not in mesh)]
        if len(chosen) != 1:
            wanted = " or ".join(intents) or "values of vertices"
            there = ", ".join(one.intent for one in self.arrays) or "none"
            raise InputError(f"{self.path} has {len(chosen)} arrays of {wanted}; expected one. Its arrays: {there}.")
        return chosen[0].values


def read(path: Path, *, side: str = "") -> Gifti:
    """Read a GIFTI file, packed by gzip or not, to its end.

    Parameters
    ----------
    path : Path
    side : {"left", "right", ""}
        The hemisphere that it should be of, if the file says that.

    Raises
    ------
    InputError
        If it is missing, damaged, of the other hemisphere or larger than a surface can be, if it declares entities, or
        if its values are in another file.
    """
    with _gzip.opened(path, expected="a GIFTI file") as handle:
        reader = _Reader(path)
        arrays = tuple(reader.walk(handle))
    reader.check_side(side)
    return Gifti(path, arrays)


def series_shape(path: Path) -> tuple[int, int]:
    """Read from the beginning of a file how many arrays it says to have, and of how many vertices the first one is.

    Returns
    -------
    n_arrays, n_vertices : int

    Raises
    ------
    InputError
        If it is missing, is no GIFTI file, or has no array.
    """
    with _gzip.opened(path, expected="a GIFTI file") as handle:
        reader = _Reader(path, is_series=True)
        for _ in reader.pieces(handle):
            if reader.arrays:
                return reader.n_announced, len(vertices(reader.arrays[0].values, path))
    raise InputError(f"{path} has no array; expected one for each trial.")


def series(path: Path, *, side: str = "") -> Iterator[NDArray[Any]]:
    """Read the arrays of a file one after the other, each the values of all vertices at one time.

    Parameters
    ----------
    path : Path
    side : {"left", "right", ""}
        The hemisphere that it should be of, if the file says that.

    Yields
    ------
    ndarray of shape (n_vertices,)

    Raises
    ------
    InputError
        As `read`, but the file may be as long as it likes, no array larger than those of a surface; if arrays
        differ in length, and if there are more or fewer than it says.
    """
    with _gzip.opened(path, expected="a GIFTI file") as handle:
        reader, n_vertices = _Reader(path, is_series=True), 0
        for array in reader.walk(handle):
            values = vertices(array.values, path)
            n_vertices = n_vertices or len(values)
            if len(values) != n_vertices:
                raise InputError(
                    f"{path} has arrays of {n_vertices} and of {len(values)} vertices; expected one number."
                )
            yield values
    reader.check_side(side)
    if reader.n_arrays != reader.n_announced:
        raise InputError(f"{path} has {reader.n_arrays} arrays, and says that it has {reader.n_announced}.")


@dataclass
class _Reader:
    """The state of the parser: where it is, and the text that it is in.

    Parameters
    ----------
    path : Path
    is_series : bool
        Whether arrays are taken away one after the other, so that only the size of each is bounded.
    """

    path: Path
    is_series: bool = False
    arrays: list[Array] = field(default_factory=list)
    n_arrays: int = 0
    n_announced: int = 0
    structures: list[str] = field(default_factory=list)
    within: list[str] = field(default_factory=list)
    about: Mapping[str, str] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    name: str = ""
    n_letters: int = 0
    max_letters: int = 0
    left_bytes: int = MAX_BYTES
    n_values: int = 0

    def walk(self, handle: BinaryIO) -> Iterator[Array]:
        """Parse an open file, and hand over its arrays as they are complete."""
        for _ in self.pieces(handle):
            done, self.arrays = self.arrays, []
            if self.is_series:
                self.left_bytes += sum(one.values.nbytes for one in done)
            yield from done

    def check_side(self, side: str) -> None:
        """Raise `InputError` if the file says that it is of another hemisphere."""
        sides = {SIDES[said] for said in self.structures if said in SIDES}
        if len(sides) > 1 or (side and sides and sides != {side}):
            said = " and the ".join(sorted(sides))
            raise InputError(
                f"{self.path} says that it is of the {said} hemisphere; expected the {side or 'left or the right'}."
            )

    def pieces(self, handle: BinaryIO) -> Iterator[None]:
        """Parse an open file piece by piece; after each, what is complete lies in `arrays`."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = parser.SkippedEntityHandler = self._entity
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._letters
        n_bytes = 0
        try:
            while chunk := handle.read(_gzip.CHUNK_BYTES):
                n_bytes += len(chunk)
                if n_bytes > MAX_XML_BYTES and not self.is_series:
                    raise InputError(f"{self.path} has more than {MAX_XML_BYTES:,} bytes; no surface needs as many.")
                parser.Parse(chunk, False)
                yield
            parser.Parse(b"", True)
            yield
        except expat.ExpatError as error:
            raise self._none(f"{error}") from None
        except (UnicodeDecodeError, LookupError) as error:
            raise self._none(f"its text cannot be read, {first_line(error)}") from None

    def _none(self, why: str) -> InputError:
        return InputError(f"{self.path} is not a GIFTI file, or damaged: {why[:200]}.")

    def _doctype(self, name: str, system: str | None, public: str | None, internal: int) -> None:
        if internal:
            raise InputError(
                f"{self.path} declares elements or entities of its own, which are not read; save it again."
            )

    def _entity(self, *_: object) -> None:
        raise InputError(f"{self.path} uses entities, which are not read; save it again.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.within.append(name)
        if self.within[0] != "GIFTI" or len(self.within) > MAX_DEPTH:
            raise self._none(f"its elements are {' > '.join(self.within[:4])}")
        self.text, self.n_letters, self.max_letters = [], 0, 2**16
        if name == "DataArray":
            self.n_arrays += 1
            if self.n_arrays > MAX_ARRAYS and not self.is_series:
                raise InputError(f"{self.path} has more than {MAX_ARRAYS} arrays; no surface needs as many.")
            self.about, self.n_values = attributes, -1
        elif name == "GIFTI":
            said = attributes.get("NumberOfDataArrays", "")
            self.n_announced = int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else 0
        elif name == "Data" and self.within == ["GIFTI", "DataArray", "Data"]:
            self.max_letters = self._claim()

    def _letters(self, letters: str) -> None:
        if not self.within or self.within[-1] not in ("Data", "Name", "Value"):
            return
        self.n_letters += len(letters)
        if self.n_letters > self.max_letters:
            raise self._none(f"a {self.within[-1]} has more letters than it can need")
        self.text.append(letters)

    def _end(self, name: str) -> None:
        parents = self.within[:-1]
        self.within.pop()
        if name == "Name":
            self.name = "".join(self.text)
        elif name == "Value":
            if self.name == STRUCTURE:
                self.structures.append("".join(self.text).strip())
            self.name = ""
        elif name == "Data" and parents == ["GIFTI", "DataArray"]:
            intent = self.about.get("Intent", "")
            named = intent if intent.isidentifier() and len(intent) < 64 else "an unknown intent"
            self.arrays.append(Array(named, self._values("".join(self.text))))
            self.text = []
        elif name == "DataArray" and self.n_values < 0:
            raise self._none("an array has no values")

    def _claim(self) -> int:
        """Check what an array claims before its values come; return how many letters they may have."""
        if self.n_values >= 0:
            raise self._none("an array has values twice")
        if self.about.get("ExternalFileName") or self.about.get("Encoding") == "ExternalFileBinary":
            raise InputError(
                f"{self.path} keeps the values of an array in another file, which is not read; save it with the values "
                "in it."
            )
        self.n_values = math.prod(self._shape())
        n_bytes = self.n_values * self._dtype().itemsize
        self.left_bytes -= n_bytes
        if self.left_bytes < 0 or (self.about.get("Encoding") == "ASCII" and self.n_values > MAX_ASCII_VALUES):
            raise InputError(
                f"{self.path} claims arrays of {MAX_BYTES - self.left_bytes:,} bytes; no surface needs as many."
            )
        return 64 * self.n_values + 2 * n_bytes + 4096

    def _shape(self) -> tuple[int, ...]:
        n_axes = self.about.get("Dimensionality", "")
        axes = [self.about.get(f"Dim{i}", "") for i in range(int(n_axes))] if n_axes in ("1", "2", "3") else []
        if not axes or not all(one.isascii() and one.isdecimal() and len(one) < 12 for one in axes):
            raise self._none(f"an array has the axes {axes} and the dimensionality {n_axes[:20]!r}")
        return tuple(int(one) for one in axes)

    def _dtype(self) -> np.dtype[Any]:
        kind, end = self.about.get("DataType", ""), self.about.get("Endian", "LittleEndian")
        if kind not in TYPES or end not in ENDS:
            raise self._none(f"an array has the type {kind[:40]!r} of {end[:40]!r}")
        return np.dtype(ENDS[end] + TYPES[kind])

    def _values(self, text: str) -> NDArray[Any]:
        """Decode the values of an array."""
        dtype, shape, encoding = self._dtype(), self._shape(), self.about.get("Encoding", "")
        order = ORDERS.get(self.about.get("ArrayIndexingOrder", ""))
        if encoding not in ("ASCII", "Base64Binary", "GZipBase64Binary") or order is None:
            raise self._none(
                f"an array is encoded as {encoding[:40]!r} in the order {self.about.get('ArrayIndexingOrder')!r:.40}"
            )
        try:
            if encoding == "ASCII":
                flat = np.array(text.split(None, self.n_values), dtype=dtype.newbyteorder("="))
            else:
                content = base64.b64decode(text.translate(NO_BLANKS), validate=True)
                if encoding == "GZipBase64Binary":
                    content = self._unpacked(content, self.n_values * dtype.itemsize)
                flat = np.frombuffer(bytearray(content), dtype=dtype)
        except (ValueError, OverflowError, binascii.Error, zlib.error) as error:
            if isinstance(error, InputError):
                raise
            raise self._none(f"the values of an array cannot be decoded, {first_line(error)}") from None
        if len(flat) != self.n_values:
            raise self._none(
                f"an array has {len(flat)} values; expected {self.n_values}, {' x '.join(map(str, shape))}"
            )
        return flat.reshape(shape, order=order).astype(dtype.newbyteorder("="), copy=False)

    def _unpacked(self, content: bytes, n_bytes: int) -> bytes:
        """Unpack values to the end, where the checksum is, and no further than they can be."""
        packed = zlib.decompressobj()
        values = packed.decompress(content, n_bytes + 1)
        if len(values) > n_bytes or not packed.eof or packed.unused_data:
            raise self._none(f"the packed values of an array are no {n_bytes} bytes")
        return values


def vertices(values: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return one number per vertex, (n_vertices,); an axis of 1 beside it is left out."""
    if values.ndim == 2 and 1 in values.shape:
        values = values.ravel()
    if values.ndim != 1:
        raise InputError(f"{path} has values of shape {values.shape}; expected one for each vertex.")
    return values
