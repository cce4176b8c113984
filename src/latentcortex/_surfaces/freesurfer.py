"""Binary files of FreeSurfer: surfaces, numbers of vertices, flat patches, colours of regions.

Everything is big-endian. What a header claims is compared with the file before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, IntArray
from latentcortex.errors import InputError

TRIANGULAR: Final = b"\xff\xff\xfe"
"""How a surface of triangles begins."""
PER_VERTEX: Final = b"\xff\xff\xff"
"""How a file of one number per vertex begins."""
FOOTS: Final = (b"\0\0\0\x14", b"\0\0\0\2\0\0\0\0\0\0\0\x14")
"""How lines begin about the volume in which a surface was found."""
MAX_TAG: Final = 999
"""Numbers by which FreeSurfer tells what follows in a file are smaller."""
MAX_BYTES: Final = 2**27
"""Of a file: a million vertices and their triangles are a quarter of it."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A surface.

    Parameters
    ----------
    points : ndarray of shape (n_vertices, 3)
        In mm about the middle of the volume.
    triangles : ndarray of int, shape (n_triangles, 3)
    about : dict
        What the file says of its volume: key -> value, as they are written.
    """

    points: FloatArray
    triangles: IntArray
    about: dict[str, str] = field(default_factory=dict)


def content(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file of FreeSurfer of at most so many bytes.

    Raises
    ------
    InputError
        If it is missing, cannot be read or is larger.
    """
    if not path.is_file():  # a pipe would be waited for
        raise unreadable(path, "No such file")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise unreadable(path, f"it has {size:,} bytes; expected at most {max_bytes:,}")
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None


def doubles(values: NDArray[Any]) -> FloatArray:
    """Convert numbers of a file to float64; a damaged one may hold a nan of a kind at which numpy warns."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def unreadable(path: Path, why: str) -> InputError:
    """Make the error for a file that is none of FreeSurfer, or of no surface."""
    return InputError(f"{path} is missing or cannot be read: {why}.")


def geometry(path: Path) -> Geometry:
    """Read a surface of triangles.

    The file: three bytes, two lines of text, the numbers of vertices and of triangles, coordinates, triangles, and
    lines about the volume.

    Raises
    ------
    InputError
        If it is missing, no surface of triangles, or not a whole one.
    """
    data = content(path)
    first = data.find(b"\n", 0, 4096)
    start = data.find(b"\n", first + 1, 8192) + 1
    if not data.startswith(TRIANGULAR) or first < 0 or start == 0 or len(data) < start + 8:
        raise unreadable(path, "it does not begin as a surface of triangles does")
    n_points, n_triangles = (int(n) for n in np.frombuffer(data, ">i4", 2, start))
    end = start + 8 + 12 * (n_points + n_triangles)
    if n_points < 1 or n_triangles < 1 or len(data) < end:
        raise unreadable(path, f"it says {n_points} vertices and {n_triangles} triangles, and has {len(data)} bytes")
    if len(data) > end and not 0 < int.from_bytes(data[end : end + 4], "big") <= MAX_TAG:
        raise unreadable(path, "what follows its triangles is none of FreeSurfer's, so that their number is not right")
    points = np.frombuffer(data, ">f4", 3 * n_points, start + 8).reshape(-1, 3)
    triangles = np.frombuffer(data, ">i4", 3 * n_triangles, start + 8 + 12 * n_points).reshape(-1, 3)
    return Geometry(doubles(points), triangles.astype(np.int64), _about(data[end:]))


def _about(foot: bytes) -> dict[str, str]:
    """Read the lines about the volume; none where the foot begins otherwise."""
    begin = next((one for one in FOOTS if foot.startswith(one)), None)
    if begin is None:
        return {}
    lines = foot[len(begin) :].decode("utf-8", "replace").splitlines()
    return {key.strip(): value.strip() for key, equal, value in (line.partition("=") for line in lines) if equal}


def world(path: Path) -> FloatArray:
    """Return the matrix from mm about the middle of FreeSurfer's volume to those in the scanner.

    The surfaces are as if that volume lay straight; the file of a surface says how it lay. Usually that is a shift by
    `c_ras`.

    Raises
    ------
    InputError
        If the file does not say that, or is no surface.
    """
    about = geometry(path).about
    rows = [about.get(name, "").split() for name in ("xras", "yras", "zras", "cras")]
    try:
        x, y, z, middle = np.array(rows, dtype=np.float64).reshape(4, 3)
    except ValueError:
        about = {}
    if not about.get("valid", "").startswith("1"):
        raise InputError(f"{path} does not say where its volume was in the scanner (c_ras); make it again.")
    straight = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, y, z], axis=1) @ straight.T
    matrix[:3, 3] = middle
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 4:
        raise InputError(f"{path} says that its volume lay in the scanner as no volume can: {matrix.tolist()}.")
    return matrix


def numbers(path: Path) -> FloatArray:
    """Read one number for each vertex, (n_vertices,).

    The file: three bytes, the numbers of vertices, of triangles and of values for each vertex, and the values.

    Raises
    ------
    InputError
        If it is missing, no such file, or not a whole one.
    """
    data = content(path)
    if not data.startswith(PER_VERTEX) or len(data) < 15:
        raise unreadable(path, "it does not begin as numbers of vertices do")
    n_vertices, _, each = (int(n) for n in np.frombuffer(data, ">i4", 3, 3))
    if n_vertices < 1 or each != 1 or len(data) != 15 + 4 * n_vertices:
        raise unreadable(path, f"it says {each} values for each of {n_vertices} vertices, and has {len(data)} bytes")
    return doubles(np.frombuffer(data, ">f4", n_vertices, 15))


def patch(path: Path) -> tuple[IntArray, FloatArray]:
    """Read a patch: its vertices, and their coordinates (n, 3).

    The file: -1, the number of vertices, and for each its number and three coordinates. Numbers count from 1, and those
    of vertices at the border are negative.

    Raises
    ------
    InputError
        If it is missing, no patch, not a whole one, or names a vertex twice.
    """
    kind = np.dtype([("vertex", ">i4"), ("at", ">f4", (3,))])
    data = content(path)
    head = np.frombuffer(data[:8], dtype=">i4")
    if len(head) < 2 or head[0] != -1 or len(data) != 8 + int(head[1]) * kind.itemsize:
        raise InputError(f"{path} is not a patch of FreeSurfer, or not a whole one.")
    rows = np.frombuffer(data, dtype=kind, offset=8)
    vertices = np.abs(rows["vertex"].astype(np.int64)) - 1
    if len(vertices) and (vertices.min() < 0 or len(np.unique(vertices)) < len(vertices)):
        raise InputError(f"{path} is not a patch of FreeSurfer, or damaged: it has a vertex 0, or one twice.")
    if not np.isfinite(rows["at"]).all():
        raise InputError(f"{path} is not a patch of FreeSurfer, or damaged: a coordinate is not finite.")
    return vertices, doubles(rows["at"])


def colours(known: bytes, path: Path) -> list[tuple[str, int]]:
    """Read the colour table of an annotation: name and colour of each region, in the order of the file.

    Parameters
    ----------
    known : bytes
        From the table on: 1; then either -2, a number, a text, the number of entries and each with a number before it,
        or the number of entries, a text and each; an entry is its name, red, green, blue and 255 minus its opacity.
    path : Path
        What errors call it.

    Raises
    ------
    InputError
        If there is no such table, or not a whole one.
    """
    table = _Table(known, path)
    if table.number() != 1:
        raise table.damaged("it has none")
    count = table.number()
    if count not in (-2, max(count, 0)):
        raise table.damaged(f"it is of the version {-count}")
    numbered = count == -2
    if numbered:
        table.number()
    table.text()
    entries = []
    for _ in range(table.number() if numbered else count):
        if numbered:
            table.number()
        name = table.text()
        red, green, blue, _ = (table.number() for _ in range(4))
        entries.append((name, red + (green << 8) + (blue << 16)))
    return entries


@dataclass
class _Table:
    """A colour table that is read from its start on."""

    known: bytes
    path: Path
    at: int = 0

    def number(self) -> int:
        """Read the next number."""
        return int.from_bytes(self._next(4), "big", signed=True)

    def text(self) -> str:
        """Read the next text, which ends at its first zero."""
        return self._next(self.number()).split(b"\0")[0].decode("utf-8", "replace").strip()

    def damaged(self, why: str) -> InputError:
        """Make the error of this table."""
        return InputError(f"{self.path} has no colour table that is known, or a damaged colour table: {why}.")

    def _next(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= len(self.known) - self.at:
            raise self.damaged("it ends before all of its entries")
        self.at += n_bytes
        return self.known[self.at - n_bytes : self.at]
