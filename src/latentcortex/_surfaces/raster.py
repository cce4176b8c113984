"""How the vertices of cortex fall on the pixels of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex._surfaces.mesh import HEMISPHERES, Hemisphere, Mesh, twice_area
from latentcortex._surfaces.templates import flat_patch, n_vertices, on_all_vertices, surface
from latentcortex.errors import InputError

ViewDirection = Literal["lateral", "medial", "ventral", "posterior"]

MARGIN_MM: Final = 4.0
"""White space round a surface in its picture."""

SPAN_MM: Final = 147.0
"""Height of the inflated hemispheres of fsaverage5 seen from the side; it fixes the scale of all views."""


@dataclass(frozen=True, eq=False)
class Raster:
    """Which vertices colour each pixel of a picture of a surface.

    Parameters
    ----------
    vertices : ndarray of int, shape (height, width, 3)
        Corners of the triangle under the pixel's centre; row 0 is the top.
    weights : ndarray of shape (height, width, 3)
        Barycentric weights of the corners, which sum to 1 inside.
    inside : ndarray of bool, shape (height, width)
        Whether there is a surface under the pixel.
    shading : ndarray of shape (height, width)
        How much light the surface returns, 0..1; 1 outside.
    extent : tuple of float
        Left, right, bottom and top of the picture in mm.
    template : str
        Whose vertices they are.
    """

    vertices: IntArray
    weights: FloatArray
    inside: BoolArray
    shading: FloatArray
    extent: tuple[float, float, float, float]
    template: str = "fsaverage5"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.inside.shape
        return height, width

    @property
    def closest(self) -> IntArray:
        """The vertex closest to each pixel, (height, width); meaningless outside."""
        most = self.weights.argmax(axis=2)[..., None]
        return np.take_along_axis(self.vertices, most, axis=2)[..., 0]

    def paint(self, values: FloatArray) -> FloatArray:
        """Interpolate values over the triangles.

        A pixel whose closest vertex is undefined stays undefined, and undefined corners have no part in the
        mean of the others: the border of a nan region runs half-way between vertices, wherever it lies.

        Parameters
        ----------
        values : ndarray of shape (n_vertices,)

        Returns
        -------
        ndarray of shape (height, width)
            nan outside and where the values are undefined.
        """
        on_all_vertices(values, self.template)
        corners = values[self.vertices[self.inside]].astype(np.float64)
        weights = self.weights[self.inside]
        finite = np.isfinite(corners)
        known = np.where(finite, weights, 0.0)
        defined = np.take_along_axis(finite, weights.argmax(axis=1)[:, None], axis=1)[:, 0]
        mean = (known * np.where(finite, corners, 0.0)).sum(axis=1) / np.where(defined, known.sum(axis=1), np.nan)
        picture = np.full(self.shape, np.nan)
        picture[self.inside] = mean
        return picture

    def nearest(self, labels: IntArray, *, outside: int = -1) -> IntArray:
        """Give each pixel (height, width) its closest vertex's label; `outside` where there is no surface."""
        on_all_vertices(labels, self.template)
        return cast(IntArray, np.where(self.inside, labels[self.closest], outside))


@lru_cache(maxsize=8)
def flat_raster(height: int, template: str = "fsaverage5") -> Raster:
    """Rasterise the flat patches of both hemispheres, see `flat_patch`, at so many pixels of height."""
    mesh = flat_patch(template)
    low, high = (
        np.nanmin(mesh.coordinates, axis=0) - MARGIN_MM,
        np.nanmax(mesh.coordinates, axis=0) + MARGIN_MM,
    )
    pixel = float(high[1] - low[1]) / height
    return replace(_rasterise(mesh, (low[0], high[0], low[1], high[1]), pixel), template=template)


@lru_cache(maxsize=32)
def inflated_raster(hemisphere: Hemisphere, view: ViewDirection, height: int, template: str = "fsaverage5") -> Raster:
    """Rasterise one inflated hemisphere, seen from far away.

    Parameters
    ----------
    hemisphere : {"left", "right"}
    view : {"lateral", "medial", "ventral", "posterior"}
        In the ventral view lateral is up, and anterior lies on the side where the lateral view has it.
    height : int
        Pixels of a lateral view, within two; the other views have as many per mm.
    template : str

    Raises
    ------
    InputError
        If the hemisphere or the view is not known.
    """
    if (hemisphere, view) not in AXES:
        raise InputError(f"Unknown view {hemisphere!r}, {view!r}. Known: {', '.join(map(str, AXES))}.")
    mesh = surface("inflated", template)[HEMISPHERES.index(hemisphere)]
    turn = np.array(AXES[hemisphere, view], dtype=np.float64)
    light = (mesh.normals() @ turn.T) @ (LIGHT / np.linalg.norm(LIGHT))
    seen = Mesh(mesh.coordinates @ turn.T, mesh.triangles)
    low, high = seen.coordinates.min(axis=0) - MARGIN_MM, seen.coordinates.max(axis=0) + MARGIN_MM
    pixel = (SPAN_MM + 2 * MARGIN_MM) / height
    raster = _rasterise(seen, (low[0], high[0], low[1], high[1]), pixel, brightness=np.clip(light, 0.0, 1.0))
    first = HEMISPHERES.index(hemisphere) * n_vertices(template)[0]
    return replace(raster, vertices=raster.vertices + first, template=template)


_X, _Y, _Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
_LEFT, _BACK, _DOWN = (-1, 0, 0), (0, -1, 0), (0, 0, -1)

AXES: Final = {
    ("left", "lateral"): (_BACK, _Z, _LEFT),
    ("left", "medial"): (_Y, _Z, _X),
    ("left", "ventral"): (_BACK, _LEFT, _DOWN),
    ("left", "posterior"): (_X, _Z, _BACK),
    ("right", "lateral"): (_Y, _Z, _X),
    ("right", "medial"): (_BACK, _Z, _LEFT),
    ("right", "ventral"): (_Y, _X, _DOWN),
    ("right", "posterior"): (_X, _Z, _BACK),
}
"""What points right, up and towards the viewer."""

LIGHT: Final = np.array([-0.25, 0.45, 1.0])
"""Where the light comes from: over the viewer's left shoulder."""


@lru_cache(maxsize=4)
def inflated_views(height: int, template: str = "fsaverage5") -> Raster:
    """Join the views of both inflated hemispheres to one picture.

    Above: left lateral, left medial, right medial, right lateral; below: the ventral views of the left and
    the right hemisphere with the posterior views between them.

    Parameters
    ----------
    height : int
        Pixels of a lateral view.
    template : str
    """

    def see(side: Hemisphere, view: ViewDirection) -> Raster:
        return inflated_raster(side, view, height, template)

    above = [see("left", "lateral"), see("left", "medial"), see("right", "medial"), see("right", "lateral")]
    below = [
        see("left", "ventral"),
        see("left", "posterior"),
        see("right", "posterior"),
        see("right", "ventral"),
    ]
    return _joined([_joined(above, axis=1), _joined(below, axis=1)], axis=0)


def _joined(rasters: Sequence[Raster], axis: int) -> Raster:
    size = max(raster.shape[1 - axis] for raster in rasters)

    def join(arrays: Iterable[NDArray[Any]], fill: float = 0.0) -> NDArray[Any]:
        return np.concatenate([_padded(array, size, 1 - axis, fill) for array in arrays], axis)

    left, right = rasters[0].extent[:2]
    pixel = (right - left) / rasters[0].shape[1]
    inside = join(raster.inside for raster in rasters)
    return Raster(
        join(raster.vertices for raster in rasters),
        join(raster.weights for raster in rasters),
        inside,
        join((raster.shading for raster in rasters), fill=1.0),
        (0.0, inside.shape[1] * pixel, 0.0, inside.shape[0] * pixel),
        rasters[0].template,
    )


def _padded(array: NDArray[Any], size: int, axis: int, fill: float) -> NDArray[Any]:
    """Centre an array in a longer axis."""
    missing = size - array.shape[axis]
    widths = [(0, 0)] * array.ndim
    widths[axis] = (missing // 2, missing - missing // 2)
    return np.pad(array, widths, constant_values=fill)


def _rasterise(
    mesh: Mesh, extent: tuple[float, float, float, float], pixel: float, brightness: FloatArray | None = None
) -> Raster:
    """Find the triangle under each pixel's centre; the third coordinate points to the viewer."""
    left, right, bottom, top = map(float, extent)
    shape = (round((top - bottom) / pixel), round((right - left) / pixel))
    extent = (left, left + shape[1] * pixel, top - shape[0] * pixel, top)  # of whole pixels
    x, y, depth = mesh.coordinates.T
    points = np.stack([(x - left) / pixel - 0.5, (top - y) / pixel - 0.5, depth], axis=1)
    # Rows count downwards, so a triangle that faces the viewer has a negative area in pixels.
    facing = mesh.triangles[twice_area(points[mesh.triangles]) < 0]
    pixels, owners, weights = _covered(points[facing], shape)
    order = np.argsort((weights * points[facing[owners], 2]).sum(axis=1), kind="stable")
    winner = np.full(shape[0] * shape[1], -1)
    winner[pixels[order]] = order  # of repeated indices the last counts: the one closest to the viewer
    inside = winner >= 0
    vertices, mixed = np.zeros((len(winner), 3), dtype=np.int64), np.zeros((len(winner), 3))
    vertices[inside], mixed[inside] = facing[owners[winner[inside]]], weights[winner[inside]]
    shading = np.ones(len(winner))
    if brightness is not None:
        shading[inside] = (brightness[vertices[inside]] * mixed[inside]).sum(axis=1)
    return Raster(
        vertices.reshape(*shape, 3),
        mixed.reshape(*shape, 3),
        inside.reshape(shape),
        shading.reshape(shape),
        extent,
    )


def _covered(corners: FloatArray, shape: tuple[int, int]) -> tuple[IntArray, IntArray, FloatArray]:
    """List the pixels in each triangle: index of the pixel, of the triangle, and barycentric weights."""
    limits = np.array(shape[::-1]) - 1
    low = np.clip(np.ceil(corners[..., :2].min(axis=1)), 0, limits).astype(int)
    high = np.clip(np.floor(corners[..., :2].max(axis=1)), -1, limits).astype(int)
    width, height = np.maximum(high - low + 1, 0).T
    count = width * height
    owners = np.repeat(np.arange(len(corners)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    column = low[owners, 0] + place % width[owners]
    row = low[owners, 1] + place // width[owners]
    weights = _barycentric(corners, owners, np.stack([column, row], axis=1).astype(np.float64))
    hit = (weights >= -1e-9).all(axis=1)
    return (row * shape[1] + column)[hit], owners[hit], weights[hit]


def _barycentric(corners: FloatArray, owners: IntArray, points: FloatArray) -> FloatArray:
    a, b, c = np.moveaxis(corners[..., :2], 1, 0)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    scale = ux * vy - uy * vx
    dx, dy = (points - a[owners]).T
    second = (dx * vy[owners] - dy * vx[owners]) / scale[owners]
    third = (dy * ux[owners] - dx * uy[owners]) / scale[owners]
    return np.stack([1 - second - third, second, third], axis=1)
