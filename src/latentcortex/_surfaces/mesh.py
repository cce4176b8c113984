"""Triangulated surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from latentcortex._arrays import FloatArray, IntArray

SurfaceKind = Literal["white", "pial", "inflated", "sphere", "flat"]
Hemisphere = Literal["left", "right"]

KINDS: Final[tuple[SurfaceKind, ...]] = ("white", "pial", "inflated", "sphere", "flat")
HEMISPHERES: Final[tuple[Hemisphere, Hemisphere]] = ("left", "right")


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


def twice_area(corners: FloatArray) -> FloatArray:
    """Compute twice the area of triangles (n_triangles, 3, 2 or more) in the plane of the first two coordinates.

    It is positive where the corners run anticlockwise.
    """
    (ax, ay), (bx, by), (cx, cy) = np.moveaxis(corners[..., :2], 0, 2)
    return cast(FloatArray, (bx - ax) * (cy - ay) - (cx - ax) * (by - ay))
