"""Subjects as FreeSurfer, pycortex and nilearn leave them, made from fsaverage5; the right hemisphere is coarser."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.freesurfer import io as freesurfer
from scipy.spatial import ConvexHull

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._surfaces import Mesh, SurfaceKind

COARSE = 2562
"""The first vertices of fsaverage5 are those of fsaverage4."""
FOLDED: tuple[SurfaceKind, ...] = ("white", "pial", "inflated", "sphere")
CRAS = np.array([3.0, -20.0, 11.0])
"""Where the middle of the volume of the subject of FreeSurfer was in the scanner."""


@lru_cache
def coarse_triangles(side: int) -> IntArray:
    """Triangulate the first vertices of the sphere, anticlockwise seen from outside."""
    points = _surfaces.surface("sphere")[side].coordinates[:COARSE]
    triangles = ConvexHull(points).simplices.astype(np.int64)
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    inwards = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]
    return triangles


def mesh(kind: SurfaceKind, side: int, *, coarse: bool) -> Mesh:
    """Take a surface of fsaverage5, or its first vertices."""
    whole = _surfaces.surface(kind)[side]
    return Mesh(whole.coordinates[:COARSE], coarse_triangles(side)) if coarse else whole


def in_patch(side: int, *, coarse: bool) -> IntArray:
    """List the vertices in the flat patch."""
    used = np.unique(_surfaces.surface("flat")[side].triangles)
    return used[used < COARSE] if coarse else used


def rotated(points: FloatArray, degrees: float, *, mirrored: bool) -> FloatArray:
    """Turn points in the plane, and mirror them."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points * ((-1.0 if mirrored else 1.0), 1.0)) @ turn.T


def write_patch(path: Path, vertices: IntArray, points: FloatArray) -> None:
    """Write a patch of FreeSurfer, of which every tenth vertex is at the border."""
    rows = np.zeros(len(vertices), dtype=[("vertex", ">i4"), ("at", ">f4", (3,))])
    rows["vertex"] = np.where(np.arange(len(vertices)) % 10 == 0, -(vertices + 1), vertices + 1)
    rows["at"][:, :2] = points
    path.write_bytes(np.array([-1, len(vertices)], dtype=">i4").tobytes() + rows.tobytes())


def freesurfer_subject(folder: Path, *, flat: bool = True, curvature: bool = True) -> Path:
    """Write a subject of FreeSurfer; its flat patches lie anyhow, the right one seen from inside."""
    (folder / "surf").mkdir(parents=True)
    about = {"head": [2, 0, 20], "valid": "1  # volume info valid", "filename": "x", "volume": np.array([256] * 3)}
    about |= {"voxelsize": np.ones(3), "xras": np.array([-1.0, 0, 0]), "yras": np.array([0, 0, -1.0])}
    about |= {"zras": np.array([0, 1.0, 0]), "cras": CRAS}
    for side, name in enumerate(("lh", "rh")):
        coarse = side == 1
        for kind in FOLDED:
            one = mesh(kind, side, coarse=coarse)
            path = folder / "surf" / f"{name}.{kind}"
            freesurfer.write_geometry(path, one.coordinates, one.triangles, volume_info=about)
        n = len(mesh("white", side, coarse=coarse).coordinates)
        if curvature:
            freesurfer.write_morph_data(folder / "surf" / f"{name}.curv", _surfaces.curvature()[side * 10242 :][:n])
        if flat:
            used = in_patch(side, coarse=coarse)
            points = rotated(_surfaces.surface("flat")[side].coordinates[used, :2], 130.0 + 70 * side, mirrored=coarse)
            write_patch(folder / "surf" / f"{name}.full.flat.patch.3d", used, points)
    return folder


def density(folder: Path) -> Path:
    """Write fsaverage4 as nilearn keeps it."""
    folder.mkdir(parents=True)
    names: dict[SurfaceKind, str] = {"white": "white", "pial": "pial", "inflated": "infl", "sphere": "sphere"}
    for side, name in enumerate(("left", "right")):
        for kind, file in names.items():
            one = mesh(kind, side, coarse=True)
            save_gifti(folder / f"{file}_{name}.gii.gz", one.coordinates, one.triangles)
        flat, used = mesh("flat", side, coarse=True), in_patch(side, coarse=True)
        kept = flat.triangles[np.isin(flat.triangles, used).all(axis=1)]
        save_gifti(folder / f"flat_{name}.gii.gz", flat.coordinates, kept)
        values = _surfaces.curvature()[side * 10242 :][:COARSE].astype(np.float32)
        nib.save(nib.gifti.GiftiImage(darrays=[nib.gifti.GiftiDataArray(values)]), folder / f"curv_{name}.gii.gz")
    return folder


def save_gifti(path: Path, points: FloatArray, triangles: IntArray) -> None:
    """Write a surface as GIFTI."""
    arrays = [
        nib.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(triangles.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nib.save(nib.gifti.GiftiImage(darrays=arrays), path)
