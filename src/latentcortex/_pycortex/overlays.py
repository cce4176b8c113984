"""Outlines and names of regions as the drawing that pycortex lays over a flatmap, and back. No Inkscape is needed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np

from latentcortex import _surfaces
from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex._pycortex import subject
from latentcortex._pycortex.svg import INKSCAPE, SVG, Drawing, label, require, tag
from latentcortex._surfaces import Raster
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

HEIGHT: Final = 100.0
"""Of the drawing, in its own pixels. pycortex takes a name for that of every border of the region within 250 pixels,
and writes it anew at the others: in a small drawing it writes none but ours."""

TRACED: Final = 360
"""Height of the picture in which borders are traced, in pixels."""

STEP: Final = 2
"""Of so many points of a traced border one is kept: the browser draws long lists of short steps as dots."""

NAMELESS: Final = "\u00a0"

MAX_PATHS: Final = 2000
MAX_LETTERS: Final = 2**24
"""Of the regions of a drawing; a hundred of them need a few hundred thousand."""

OTHER_SHAPES: Final = ("rect", "circle", "ellipse", "line", "polyline", "polygon", "use")
"""What a drawing may have beside paths; pycortex reads none of it, either."""


def drawing(labels: IntArray, names: Mapping[int, str], template: str = "fsaverage5") -> bytes:
    """Draw regions as SVG in the layer `rois`.

    Parameters
    ----------
    labels : ndarray of int, shape (n_vertices,)
        Region of each vertex; 0 and less is none.
    names : dict
        Label -> name. A region without a name gets an outline only.
    template : str
        Whose vertices they are.
    """
    raster = _surfaces.flat_raster(TRACED, template)
    sheet = _Sheet(raster)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("inkscape", INKSCAPE)
    root = ElementTree.Element(tag("svg"), width=f"{sheet.width:.3f}", height=f"{HEIGHT:g}", version="1.1")
    _shadow(ElementTree.SubElement(root, tag("defs")))
    layer = _group(root, "rois", "rois")
    shapes, texts = _group(layer, "shapes", "rois_shapes"), _group(layer, "labels", "rois_labels")
    groups: dict[str, ElementTree.Element] = {}
    for outline in _surfaces.outlines(raster, labels, smoothing=TRACED / 180):
        name = printable(names.get(outline.label, "")) or NAMELESS
        if name not in groups:  # pycortex finds a region's paths by its name
            groups[name] = _group(shapes, name, f"region-{outline.label}")
        for column, row in outline.anchors:
            point = np.array([[column, row]])
            (x, y), vertex = sheet.places(point)[0], raster.closest[int(row), int(column)]
            same_side = [line for line in outline.lines if sheet.is_right(line) == sheet.is_right(point)]
            ElementTree.SubElement(groups[name], tag("path"), d=_path(sheet, same_side))
            place = {"x": f"{x:.3f}", "y": f"{y:.3f}", "data-ptidx": str(vertex)}
            ElementTree.SubElement(texts, tag("text"), place).text = name
    drawn: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return drawn


def regions(path: Path, template: str) -> dict[str, BoolArray]:
    """Read the layer `rois` of a drawing: which vertices lie inside each region.

    A vertex is inside where the fill of one of the region's paths would be, the open ones closed, if it is in the
    flat patch. Those beside a cut that flattening removed are in no region; pycortex adds them to each that they touch.

    Parameters
    ----------
    path : Path
        An `overlays.svg`.
    template : str
        The subject of pycortex on whose flat surfaces it lies.

    Returns
    -------
    dict
        Name -> bool (n_vertices,), in the order of the drawing; all false for a region without a path. Regions of one
        name are one; one without a name is called by its `id`.

    Raises
    ------
    InputError
        If the drawing is damaged, unsafe or has no such layer.
    MissingExtraError
        If the library that reads paths is not installed.
    """
    require()
    sheet = Drawing(path)
    groups: dict[str, list[ElementTree.Element]] = {}
    shapes = _layer(sheet, _layer(sheet, sheet.root, "rois"), "shapes")
    for number, group in enumerate(shapes.findall(tag("g")), start=1):
        name = printable(label(group)) or printable(group.get("id", "")) or f"region {number}"
        groups.setdefault(name, []).extend(group.iter(tag("path")))
    n_paths = sum(map(len, groups.values()))
    n_letters = sum(len(one.get("d", "")) for paths in groups.values() for one in paths)
    if n_paths > MAX_PATHS or n_letters > MAX_LETTERS:
        raise InputError(
            f"{path} has {n_paths:,} paths of {n_letters:,} letters in its regions; expected at most {MAX_PATHS:,} and "
            f"{MAX_LETTERS:,}."
        )
    n_other = len(shapes.findall(tag("path"))) + sum(len(list(shapes.iter(tag(name)))) for name in OTHER_SHAPES)
    if n_other:
        facts = {"file": str(path), "n_shapes": n_other}
        logger.info("%d shapes of %s are no paths of a region and are not read.", n_other, path, extra={"facts": facts})
    places, flat = _on_sheet(sheet.box(), template)
    regions = {name: np.zeros(len(flat), dtype=bool) for name in groups}
    for name, paths in groups.items():
        for one in paths:
            regions[name][flat] |= sheet.inside(one, places[flat])
    return regions


def _layer(sheet: Drawing, above: ElementTree.Element, name: str) -> ElementTree.Element:
    matching = [group for group in above.findall(tag("g")) if label(group) == name]
    if len(matching) != 1:
        raise InputError(
            f"{sheet.path} has {len(matching)} layers {name!r} where pycortex has one; expected rois, and in it shapes."
        )
    return matching[0]


def _on_sheet(box: tuple[float, float, float, float], template: str) -> tuple[FloatArray, BoolArray]:
    """Find where vertices are on the sheet, (n_vertices, 2), and which of them are in the flat patch.

    The sheet lies over the box round all vertices of both hemispheres, which touch; its y runs downwards.
    """
    left, right = _surfaces.surface("flat", template)
    touching = [left.coordinates[:, 0].max(), right.coordinates[:, 0].min()]
    moved = [mesh.coordinates[:, :2] - (x, 0.0) for mesh, x in zip((left, right), touching, strict=True)]
    points = np.concatenate(moved)
    low, high = points.min(axis=0), points.max(axis=0)
    share = (points - low) / (high - low)
    flat = np.zeros(len(points), dtype=bool)
    flat[left.triangles] = True
    flat[right.triangles + len(left.coordinates)] = True
    return np.stack([box[0] + share[:, 0] * box[2], box[1] + (1 - share[:, 1]) * box[3]], axis=1), flat


def printable(name: str) -> str:
    """Take out of a name what XML cannot hold and nobody can read, such as control characters."""
    return "".join(letter for letter in name if letter.isprintable()).strip()


class _Sheet:
    """Places of a picture's pixels in the drawing.

    pycortex lays the hemispheres side by side so that they touch, and the drawing over the box round both.
    """

    def __init__(self, raster: Raster) -> None:
        left, right = (mesh.coordinates[:, :2] for mesh in subject.flat(raster.template))
        inner = float(left[:, 0].max()), float(right[:, 0].min())
        low = min(left[:, 1].min(), right[:, 1].min())
        self.top = float(max(left[:, 1].max(), right[:, 1].max()))
        self.scale = HEIGHT / (self.top - float(low))
        self.start = float(left[:, 0].min()) - inner[0]
        self.width = (float(right[:, 0].max()) - inner[1] - self.start) * self.scale
        patch, n_left = _surfaces.flat_patch(raster.template).coordinates[:, 0], len(left)
        self.middle = float(np.nanmax(patch[:n_left]) + np.nanmin(patch[n_left:])) / 2
        self.inner, self.extent, self.pixel = inner, raster.extent, (raster.extent[3] - raster.extent[2]) / TRACED

    def places(self, pixels: FloatArray) -> FloatArray:
        """Turn columns and rows (n_points, 2) into x and y."""
        x = self.extent[0] + (pixels[:, 0] + 0.5) * self.pixel
        y = self.extent[3] - (pixels[:, 1] + 0.5) * self.pixel
        touching = x - self.inner[int(self.is_right(pixels))]
        return np.stack([(touching - self.start) * self.scale, (self.top - y) * self.scale], axis=1)

    def is_right(self, pixels: FloatArray) -> bool:
        """Tell whether the points lie on the right hemisphere."""
        x = self.extent[0] + (pixels[:, 0].mean() + 0.5) * self.pixel
        return bool(x > self.middle)


def _path(sheet: _Sheet, lines: Sequence[FloatArray]) -> str:
    """Write closed lines as one path, since pycortex writes the name at each; a few points of each are enough."""
    places = [sheet.places(line)[:: STEP if len(line) > 4 * STEP else 1] for line in lines]
    # The explicit L matters: pycortex takes an implicit one as relative.
    return " ".join("M " + " L ".join(f"{x:.3f},{y:.3f}" for x, y in place) + " Z" for place in places)


def _group(parent: ElementTree.Element, label: str, name: str) -> ElementTree.Element:
    facts = {"id": name, f"{{{INKSCAPE}}}label": label, f"{{{INKSCAPE}}}groupmode": "layer", "style": "display:inline"}
    return ElementTree.SubElement(parent, tag("g"), facts)


def _shadow(definitions: ElementTree.Element) -> None:
    """Define the shadow behind lines and letters to which pycortex's styles refer."""
    shadow = ElementTree.SubElement(definitions, tag("filter"), id="dropshadow")
    ElementTree.SubElement(shadow, tag("feGaussianBlur"), {"in": "SourceAlpha", "stdDeviation": "0.15"})
    merged = ElementTree.SubElement(shadow, tag("feMerge"))
    ElementTree.SubElement(merged, tag("feMergeNode"))
    ElementTree.SubElement(merged, tag("feMergeNode"), {"in": "SourceGraphic"})
