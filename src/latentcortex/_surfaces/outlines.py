"""Borders of regions in a picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
from contourpy import contour_generator
from scipy import ndimage

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex._surfaces.raster import Raster
from latentcortex._surfaces.templates import n_vertices, on_all_vertices


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
    on_all_vertices(labels, raster.template)
    present = np.unique(labels[labels > 0])
    traced = (_outline(raster, labels == label, int(label), smoothing) for label in present)
    return [outline for outline in traced if outline.lines]


def _outline(raster: Raster, member: BoolArray, label: int, smoothing: float) -> Outline:
    amount = np.nan_to_num(raster.paint(member.astype(np.float64)))
    window, corner = _window(amount > 0, margin=int(4 * smoothing) + 2)
    smooth = ndimage.gaussian_filter(np.pad(amount[window], 1), smoothing)
    offset = np.array(corner) - 1.0
    lines = [np.asarray(line) + offset for line in contour_generator(z=smooth).lines(0.5)]
    n_left = n_vertices(raster.template)[0]
    sides = (raster.closest[window] < n_left, raster.closest[window] >= n_left)
    anchors = [_anchor((smooth[1:-1, 1:-1] > 0.5) & side, corner) for side in sides]
    return Outline(label, tuple(lines), tuple(anchor for anchor in anchors if anchor))


def _window(mask: BoolArray, margin: int) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """Frame the mask: two slices, and the frame's first column and row."""
    boxes = ndimage.find_objects(mask.astype(np.int8))
    if not boxes:
        return (slice(0, 2), slice(0, 2)), (0, 0)
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in cast(Iterable[slice], boxes[0]))
    return (rows, columns), (columns.start, rows.start)


def _anchor(mask: BoolArray, corner: tuple[int, int]) -> tuple[float, float] | None:
    """Find the pole of inaccessibility: the pixel furthest from the mask's border."""
    if not mask.any():
        return None
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(distance)), mask.shape)
    return float(column + corner[0]), float(row + corner[1])
