"""Drawings as they are read: SVG without entities, its paths as polygons, and which points lie inside."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex.errors import InputError, MissingExtraError

SVG: Final = "http://www.w3.org/2000/svg"
INKSCAPE: Final = "http://www.inkscape.org/namespaces/inkscape"

PATH_DATA: Final = re.compile(r"\s*[Mm][MmZzLlHhVvCcSsQqTtAa0-9eE+\-.,\s]*")
TRANSFORMS: Final = re.compile(r"\s*((matrix|translate|scale|rotate|skewX|skewY)\s*\([0-9eE+\-.,\s]+\)[,\s]*)*")
LENGTH: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(px|pt|pc|mm|cm|in)?\s*")

MAX_BYTES: Final = 2**26
"""Of a drawing; those that hold pictures have a few million."""
MAX_DEPTH: Final = 10_000
"""Of elements within elements."""
MAX_LETTERS: Final = 2**20
"""Of one path."""
MAX_CROSSINGS: Final = 2 * 10**7
"""Of one line with the rows of all points; the border of a region crosses each row a few times."""

PIECES: Final = 32
"""Of so many straight pieces is each curve of a path; half a circle of 50 pixels is met to a sixteenth of a pixel."""


def tag(name: str) -> str:
    """Name an element of SVG as the parser does."""
    return f"{{{SVG}}}{name}"


def label(element: ElementTree.Element) -> str:
    """Read what Inkscape calls an element."""
    return element.get(f"{{{INKSCAPE}}}label", "")


def require() -> None:
    """Raise `MissingExtraError` if the library that reads paths is not installed; it is not imported."""
    if find_spec("svgelements") is None:
        raise MissingExtraError.of("pycortex", needed_for="Reading overlays.svg")


def _svgelements() -> Any:
    require()
    return importlib.import_module("svgelements")


class Drawing:
    """An SVG file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        If the file is missing, is not SVG or declares entities, which may grow without end or read other files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = _parsed(path)
        self._above = {child: parent for parent in self.root.iter() for child in parent}

    def box(self) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the sheet, in its own coordinates."""
        given = re.split(r"[,\s]+", self.root.get("viewBox", "").strip())
        sizes = given if len(given) == 4 else ["0", "0", self.root.get("width", ""), self.root.get("height", "")]
        left, top, width, height = (_pixels(size) for size in sizes)
        if not (width > 0 and height > 0 and np.isfinite([left, top, width, height]).all()):
            raise InputError(f"{self.path} has no size: expected `viewBox`, or `width` and `height` as lengths.")
        return left, top, width, height

    def inside(self, path: ElementTree.Element, points: FloatArray) -> BoolArray:
        """Tell which points (n_points, 2) of the sheet a path's fill would cover, (n_points,)."""
        around = list(self._lineage(path))
        try:
            turns = winding(self._polygons(path, around), points)
        except OverflowError as error:
            raise InputError(f"{self.path} has a path{_named(path)} that is no border of a region: {error}.") from None
        rule = next((rule for rule in map(_fill_rule, around) if rule), "nonzero")
        return np.asarray(turns % 2 == 1 if rule == "evenodd" else turns != 0, dtype=bool)

    def _lineage(self, element: ElementTree.Element) -> Iterator[ElementTree.Element]:
        """List an element and all that it lies in, outwards."""
        while element is not None:
            yield element
            element = cast(ElementTree.Element, self._above.get(element))

    def _polygons(self, path: ElementTree.Element, around: Sequence[ElementTree.Element]) -> list[FloatArray]:
        """Take a path apart into polygons (n_points, 2) in the coordinates of the sheet."""
        matrix = np.eye(3)
        for element in around:
            matrix = self._transform(element) @ matrix
        lines = [line for line in self._lines(path) if len(line) > 2]
        if not all(np.isfinite(part).all() for part in (matrix, *lines)):
            raise InputError(f"{self.path} has a path or transform{_named(path)} that is not finite.")
        return [line @ matrix[:2, :2].T + matrix[:2, 2] for line in lines]

    def _lines(self, path: ElementTree.Element) -> list[FloatArray]:
        """Follow the pen: a list of points for each stretch between two moves."""
        data, svg = path.get("d", ""), _svgelements()
        if not data.strip() or data.strip() == "none":
            return []
        if len(data) > MAX_LETTERS:
            raise InputError(
                f"{self.path} has a path{_named(path)} of {len(data):,} letters; expected at most {MAX_LETTERS:,}."
            )
        if PATH_DATA.fullmatch(data) is None:
            raise InputError(f"{self.path} has a path{_named(path)} that is none: {data.strip()[:40]!r}.")
        lines: list[list[FloatArray]] = []
        for step in self._understood(path, lambda: list(svg.Path(data))):
            if isinstance(step, (svg.Move, svg.Close)):  # what follows a closed line starts where it closed
                lines.append([_points(step.end)])
            elif isinstance(step, svg.Line):
                lines[-1].append(_points(step.end))
            else:
                lines[-1].append(np.asarray(step.npoint(np.linspace(0, 1, PIECES + 1)[1:]), dtype=np.float64))
        return [np.concatenate(line) for line in lines]

    def _transform(self, element: ElementTree.Element) -> FloatArray:
        """Read the matrix (3, 3) from an element's coordinates to those of what it lies in."""
        given = element.get("transform", "")
        if TRANSFORMS.fullmatch(given) is None:
            raise InputError(f"{self.path} has a transform{_named(element)} that is none: {given[:40]!r}.")
        matrix = self._understood(element, lambda: _svgelements().Matrix(given))
        return np.array([[matrix.a, matrix.c, matrix.e], [matrix.b, matrix.d, matrix.f], [0, 0, 1]], dtype=np.float64)

    def _understood(self, element: ElementTree.Element, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, IndexError, TypeError, ArithmeticError):
            raise InputError(f"{self.path} has a path or transform{_named(element)} that cannot be read.") from None


def winding(polygons: Sequence[FloatArray], points: FloatArray) -> IntArray:
    """Count how often polygons wind round each point (n_points, 2), (n_points,); an open one is closed.

    Of the sides that cross the horizontal ray to the right of a point, those that run upwards in y count 1, and those
    that run downwards -1; a side holds its lower end and not its upper one.

    Raises
    ------
    OverflowError
        If a polygon runs back and forth so often that counting would take all memory.
    """
    total = np.zeros(len(points), dtype=np.int64)
    order = np.argsort(points[:, 1])
    heights = points[order, 1]
    for polygon in polygons:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first, last = np.searchsorted(heights, low), np.searchsorted(heights, high)
        count = last - first
        if count.sum() > MAX_CROSSINGS:
            raise OverflowError(f"it runs back and forth across {count.sum():,} rows of points")
        side = np.repeat(np.arange(len(polygon)), count)
        point = order[np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[side]]
        (ax, ay), (bx, by) = start[side].T, end[side].T
        crossing = ax + (points[point, 1] - ay) * (bx - ax) / (by - ay)
        right = points[point, 0] < crossing
        total += np.bincount(point[right], np.sign(by - ay)[right], len(points)).astype(np.int64)
    return total


def _parsed(path: Path) -> ElementTree.Element:
    def refuse(*_: object) -> None:
        raise InputError(f"{path} declares entities, which are not read; save it as plain SVG.")

    depth = 0

    def deeper(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(f"{path} has more than {MAX_DEPTH} elements within each other; save it as plain SVG.")

    def back(*_: object) -> None:
        nonlocal depth
        depth -= 1

    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} cannot be read: No such file.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes; expected a drawing of at most {MAX_BYTES:,}.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    guard = expat.ParserCreate()
    guard.EntityDeclHandler = refuse
    guard.StartElementHandler, guard.EndElementHandler = deeper, back
    try:
        guard.Parse(content, True)
        root = ElementTree.fromstring(content)  # noqa: S314 (the guard has let no entity pass)
    except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not XML: {error}.") from None
    if root.tag != tag("svg"):
        raise InputError(f"{path} is not a drawing in SVG; its first element is {root.tag[:60]}.")
    return root


def _pixels(size: str) -> float:
    """Read a length; nan if it is none, or relative to something."""
    return float(_svgelements().Length(size).value(ppi=96)) if len(size) < 64 and LENGTH.fullmatch(size) else np.nan


def _fill_rule(element: ElementTree.Element) -> str:
    rule = re.search(r"(?:^|;)\s*fill-rule\s*:\s*(\w+)", element.get("style", ""))
    return rule[1] if rule else element.get("fill-rule", "")


def _points(point: Any) -> FloatArray:
    return np.array([[float(point.x), float(point.y)]])


def _named(element: ElementTree.Element) -> str:
    attributes: Mapping[str, str] = element.attrib
    return f" {attributes['id'][:40]!r}" if "id" in attributes else ""
