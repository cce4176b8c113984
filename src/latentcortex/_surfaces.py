"""Template surfaces, and how their vertices fall on the pixels of a picture.

The meshes are read from the files inside the nilearn wheel, without importing nilearn (seconds) and without
a download. Vertices are counted through the left and then the right hemisphere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, cast

import nibabel as nib
import numpy as np
from contourpy import contour_generator
from nibabel.gifti.gifti import GiftiImage
from numpy.typing import NDArray
from scipy import ndimage

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex.errors import AlignmentError, InputError

Kind = Literal["white", "pial", "inflated", "sphere", "flat"]
Hemisphere = Literal["left", "right"]
View = Literal["lateral", "medial", "ventral", "posterior"]

HEMISPHERES: Final[tuple[Hemisphere, Hemisphere]] = ("left", "right")
FILES: Final = {"white": "white", "pial": "pial", "inflated": "infl", "sphere": "sphere", "flat": "flat"}
N_VERTICES: Final = 20484

GAP_MM: Final = 12.0
"""Between the two flattened hemispheres."""

MARGIN_MM: Final = 4.0
"""White space round a surface in its picture."""

SPAN_MM: Final = 147.0
"""Height of the inflated hemispheres seen from the side; it fixes the scale of all views."""

WALL_MM: Final = 1.0
"""No cortex is thinner than this. Thickness is a mean over people whose medial walls differ: only the core of
the wall is exactly 0, and a rim that was wall in most of them lies between 0 and 1."""

LONGEST_MM: Final = 12.0
"""Longest side of a triangle in the flat drawing (the median is 3): longer ones bridge a cut."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangulated surface.

    Parameters
    ----------
    coordinates : ndarray of shape (n_vertices, 3)
        Right, anterior, superior, in mm; on the flat surface right, up, 0.
    triangles : ndarray of int, shape (n_triangles, 3)
        Vertices of each triangle, anticlockwise seen from outside.
    """

    coordinates: FloatArray
    triangles: IntArray

    def normals(self) -> FloatArray:
        """Compute the outward unit normal at each vertex, (n_vertices, 3), from its triangles by area."""
        a, b, c = np.moveaxis(self.coordinates[self.triangles], 1, 0)
        faces = np.cross(b - a, c - a)
        sums = [np.bincount(self.triangles.ravel(), np.repeat(f, 3), len(self.coordinates)) for f in faces.T]
        total = np.stack(sums, axis=1)
        return cast(FloatArray, total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


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
    """

    vertices: IntArray
    weights: FloatArray
    inside: BoolArray
    shading: FloatArray
    extent: tuple[float, float, float, float]

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
        on_all_vertices(values)
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
        on_all_vertices(labels)
        return cast(IntArray, np.where(self.inside, labels[self.closest], outside))


@dataclass(frozen=True, eq=False)
class Outline:
    """The border of one region in a picture.

    Parameters
    ----------
    label : int
        Which region.
    lines : tuple of ndarray, each of shape (n_points, 2)
        Closed polygons: column and row in pixels.
    anchors : tuple of (float, float)
        Column and row of the point furthest from the border, one per hemisphere that shows the region.
    """

    label: int
    lines: tuple[FloatArray, ...]
    anchors: tuple[tuple[float, float], ...]


def on_all_vertices(values: NDArray[np.generic]) -> None:
    """Raise `AlignmentError` unless there is one value per vertex of both hemispheres."""
    if values.shape != (N_VERTICES,):
        raise AlignmentError(f"Got an array of shape {values.shape}; fsaverage5 has {N_VERTICES} vertices.")


@lru_cache
def _arrays(name: str, hemisphere: Hemisphere, template: str) -> tuple[NDArray[np.generic], ...]:
    if template != "fsaverage5":
        raise InputError(f"Unknown surface template {template!r}. Known: fsaverage5.")
    found = importlib.util.find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise InputError("The surfaces come with nilearn, which is not installed: pip install nilearn.")
    folder = Path(found.submodule_search_locations[0], "datasets", "data", template)
    image = cast(GiftiImage, nib.load(folder / f"{name}_{hemisphere}.gii.gz"))
    return tuple(np.asarray(array.data) for array in image.darrays)


def _per_vertex(name: str, template: str) -> FloatArray:
    return np.concatenate([cast(FloatArray, _arrays(name, side, template)[0]) for side in HEMISPHERES])


@lru_cache
def surface(kind: Kind, template: str = "fsaverage5") -> tuple[Mesh, Mesh]:
    """Load a surface of the left and the right hemisphere.

    Parameters
    ----------
    kind : {"white", "pial", "inflated", "sphere", "flat"}
        `flat` has triangles only in the flat patch; its vertices outside the patch lie anywhere.
    template : str
        Only `fsaverage5` is known.

    Returns
    -------
    tuple of Mesh
        Of 10242 vertices each, in mm.

    Raises
    ------
    InputError
        If the kind or the template is not known.
    """
    if kind not in FILES:
        raise InputError(f"Unknown surface {kind!r}. Known: {', '.join(FILES)}.")
    arrays = [_arrays(FILES[kind], side, template) for side in HEMISPHERES]
    left, right = (Mesh(cast(FloatArray, xyz.astype(np.float64)), cast(IntArray, abc)) for xyz, abc in arrays)
    return left, right


def curvature(template: str = "fsaverage5") -> FloatArray:
    """Load the mean curvature (n_vertices,) in 1/mm, left then right; sulci are positive."""
    return _per_vertex("curv", template)


def sulcal_depth(template: str = "fsaverage5") -> FloatArray:
    """Load the sulcal depth (n_vertices,) in FreeSurfer's units, left then right; sulci are positive."""
    return _per_vertex("sulc", template)


def thickness(template: str = "fsaverage5") -> FloatArray:
    """Load the mean cortical thickness (n_vertices,) in mm, left then right; 0 inside the medial wall."""
    return _per_vertex("thick", template)


def cortex(template: str = "fsaverage5") -> BoolArray:
    """Tell cortex from the medial wall: bool (n_vertices,), true where thickness is at least 1 mm."""
    return thickness(template) >= WALL_MM


@lru_cache
def flat_patch(template: str = "fsaverage5") -> Mesh:
    """Lay both flattened hemispheres side by side.

    The left one lies on the left; the posterior ends face the middle and dorsal is up. Triangles that the
    decimation of fsaverage left bridging a cut, or turned over, are removed.

    Returns
    -------
    Mesh
        Of 20484 vertices; coordinates are nan outside the patch.
    """
    left, right = (_tidy_patch(mesh) for mesh in surface("flat", template))
    shift = np.nanmax(left.coordinates[:, 0]) + GAP_MM - np.nanmin(right.coordinates[:, 0])
    moved = right.coordinates + np.array([shift, 0.0, 0.0])
    return Mesh(
        np.concatenate([left.coordinates, moved]),
        np.concatenate([left.triangles, right.triangles + len(left.coordinates)]),
    )


def _tidy_patch(mesh: Mesh) -> Mesh:
    corners = mesh.coordinates[mesh.triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    triangles = mesh.triangles[(longest < LONGEST_MM) & (_twice_area(corners) > 0)]
    coordinates = np.full_like(mesh.coordinates, np.nan)
    used = np.unique(triangles)
    coordinates[used] = mesh.coordinates[used]
    return Mesh(coordinates, triangles)


def _twice_area(corners: FloatArray) -> FloatArray:
    """Signed, of triangles (n_triangles, 3, 2 or more) in the plane of the first two coordinates."""
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners[..., :2], 0, 2)
    return cast(FloatArray, (bx - ax) * (cy - ay) - (cx - ax) * (by - ay))


@lru_cache(maxsize=8)
def flat_raster(height: int, template: str = "fsaverage5") -> Raster:
    """Rasterise the flat patches of both hemispheres, see `flat_patch`, at so many pixels of height."""
    mesh = flat_patch(template)
    low, high = (
        np.nanmin(mesh.coordinates, axis=0) - MARGIN_MM,
        np.nanmax(mesh.coordinates, axis=0) + MARGIN_MM,
    )
    pixel = float(high[1] - low[1]) / height
    return _rasterise(mesh, (low[0], high[0], low[1], high[1]), pixel)


@lru_cache(maxsize=32)
def inflated_raster(hemisphere: Hemisphere, view: View, height: int, template: str = "fsaverage5") -> Raster:
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
    first = HEMISPHERES.index(hemisphere) * len(mesh.coordinates)
    return Raster(raster.vertices + first, raster.weights, raster.inside, raster.shading, raster.extent)


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

    def see(side: Hemisphere, view: View) -> Raster:
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
    facing = mesh.triangles[_twice_area(points[mesh.triangles]) < 0]
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


def outlines(raster: Raster, labels: IntArray, *, smoothing: float = 2.0) -> list[Outline]:
    """Trace the borders of regions in a picture.

    Parameters
    ----------
    raster : Raster
    labels : ndarray of int, shape (n_vertices,)
        Region of each vertex; 0 and less is none.
    smoothing : float
        Width of the Gaussian that rounds the borders, in pixels.

    Returns
    -------
    list of Outline
        Of the regions that the picture shows, by ascending label.
    """
    on_all_vertices(labels)
    known = np.unique(labels[labels > 0])
    traced = (_outline(raster, labels == label, int(label), smoothing) for label in known)
    return [outline for outline in traced if outline.lines]


def _outline(raster: Raster, member: BoolArray, label: int, smoothing: float) -> Outline:
    amount = np.nan_to_num(raster.paint(member.astype(np.float64)))
    window, corner = _window(amount > 0, margin=int(4 * smoothing) + 2)
    smooth = ndimage.gaussian_filter(np.pad(amount[window], 1), smoothing)
    offset = np.array(corner) - 1.0
    lines = [np.asarray(line) + offset for line in contour_generator(z=smooth).lines(0.5)]
    n_left = N_VERTICES // 2
    sides = (raster.closest[window] < n_left, raster.closest[window] >= n_left)
    anchors = [_anchor((smooth[1:-1, 1:-1] > 0.5) & side, corner) for side in sides]
    return Outline(label, tuple(lines), tuple(anchor for anchor in anchors if anchor))


def _window(mask: BoolArray, margin: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Frame the mask: two slices, and the frame's first column and row."""
    found = ndimage.find_objects(mask.astype(np.int8))
    if not found:
        return (slice(0, 2), slice(0, 2)), (0, 0)
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in cast(Iterable[slice], found[0]))
    return (rows, columns), (columns.start, rows.start)


def _anchor(mask: BoolArray, corner: tuple[int, int]) -> tuple[float, float] | None:
    """Find the pole of inaccessibility: the pixel furthest from the mask's border."""
    if not mask.any():
        return None
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(distance)), mask.shape)
    return float(column + corner[0]), float(row + corner[1])
