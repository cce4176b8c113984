"""A cortex as a pycortex subject: surfaces, curvature and depth, laid out as pycortex's filestore wants them.

Nothing of pycortex is needed to write it, and nothing is downloaded. A subject that is pycortex's already is linked to,
so that pycortex writes beside the links whatever it computes.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

import nibabel as nib
import numpy as np
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage

from latentcortex import _files, _surfaces
from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex._surfaces import Mesh, SurfaceKind
from latentcortex.errors import InputError

SURFACES: Final[dict[str, SurfaceKind]] = {"wm": "white", "pia": "pial", "inflated": "inflated"}
"""What pycortex calls them -> what they are called here; `flat` is made."""
SIDES: Final = {"lh": 0, "rh": 1}
FORMAT: Final = "latentcortex-subject-2"
MARK: Final = "latentcortex.json"
"""Says that the subject is ours; another one of this name may have its flatmap elsewhere, or other vertices."""
EMPTY: Final = ("transforms", "views", "anatomicals", "cache")
"""Folders that pycortex would make, and cannot where it may not write."""


def name_of(template: str) -> str:
    """Name the subject of a template: as its folder is called, in letters that pycortex takes."""
    return re.sub(
        r"[^A-Za-z0-9_-]+", "_", template if template in _surfaces.DENSITIES else Path(template).resolve().name
    )


def build(filestore: Path, template: str = "fsaverage5") -> Path:
    """Write the subject into a filestore, or find it there; return its folder.

    It is written under a unique temporary name and renamed, so that others who build it at the same time, or read
    it, see it whole or not at all. An existing subject is never touched, and may be read-only.

    Parameters
    ----------
    filestore : Path
        Made if it is not there.
    template : str
        See `_surfaces.layout`.

    Raises
    ------
    InputError
        If the filestore holds another subject of this name, or cannot be written.
    """
    place = filestore / name_of(template)
    facts = {
        "format": FORMAT,
        "template": template if template in _surfaces.DENSITIES else str(Path(template).resolve()),
    }
    try:
        if not place.is_dir():
            _put(place, template, facts)
    except OSError as error:
        raise InputError(f"The pycortex subject cannot be written into {filestore}: {error.strerror}.") from None
    mark = place / MARK
    if not mark.is_file() or _files.read_json(mark) != facts:
        raise InputError(f"{place} is not the subject that this version writes; give another filestore.")
    return place


def _put(place: Path, template: str, own: Mapping[str, str]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        for name in ("surfaces", "surface-info", *EMPTY):
            (part / name).mkdir()
        _link(part, Path(template)) if _surfaces.is_pycortex(template) else _write(part, template)
        _files.write_json(part / MARK, own)
        part.chmod(0o755)
        os.rename(part, place)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not place.is_dir():  # otherwise somebody else was faster
            raise


def _link(folder: Path, subject: Path) -> None:
    """Link to the surfaces of a subject and to what is known of its vertices."""
    for name in ("surfaces", "surface-info"):
        for path in sorted((subject / name).glob("*")):
            (folder / name / path.name).symlink_to(path.resolve())


def _write(folder: Path, template: str) -> None:
    for name, kind in SURFACES.items():
        _save(folder, name, _surfaces.surface(kind, template))
    # pycortex moves what is deep in the medial wall to 0, and looks for the nearest vertex to a region's name: so 0
    # is put at the lower end of the flatmap, where no names are.
    low = np.array([0.0, min(mesh.coordinates[:, 1].min() for mesh in flat(template)), 0.0])
    left, right = (Mesh(mesh.coordinates - low, mesh.triangles) for mesh in flat(template))
    _save(folder, "flat", (left, right))
    # FreeSurfer counts sulci as positive, and pycortex gyri.
    _save_values(folder, "curvature", -_surfaces.curvature(template), template)
    for name, load, sign in (("sulcaldepth", _surfaces.sulcal_depth, -1), ("thickness", _surfaces.thickness, 1)):
        if _surfaces.knows({"sulcaldepth": "depth"}.get(name, name), template):
            _save_values(folder, name, sign * load(template), template)
    # pycortex would compute these when a viewer is made, and store them here: the relief of the bumpy flatmap,
    # which this one has not, and the areas of vertices by which it looks for depths between the surfaces.
    left_bump, right_bump = (np.zeros((n, 3), dtype=np.float32) for n in _surfaces.n_vertices(template))
    np.savez(folder / "surface-info" / "bumpy_flatmap.npz", bump_left=left_bump, bump_right=right_bump)
    areas: dict[str, Any] = {
        f"{name}_{side}": _vertex_areas(mesh)
        for name in ("wm", "pia")
        for side, mesh in zip(_surfaces.HEMISPHERES, _surfaces.surface(SURFACES[name], template), strict=True)
    }
    np.savez(folder / "surface-info" / "equivolume_areas.npz", **areas)


def _save(folder: Path, name: str, meshes: tuple[Mesh, Mesh]) -> None:
    for side, mesh in zip(SIDES, meshes, strict=True):
        points = GiftiDataArray(mesh.coordinates.astype(np.float32), intent="NIFTI_INTENT_POINTSET")
        triangles = GiftiDataArray(mesh.triangles.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE")
        nib.save(GiftiImage(darrays=[points, triangles]), folder / "surfaces" / f"{name}_{side}.gii")


def _save_values(folder: Path, name: str, values: FloatArray, template: str) -> None:
    left, right = np.split(values, [_surfaces.n_vertices(template)[0]])
    np.savez(folder / "surface-info" / f"{name}.npz", left=left, right=right)


def _vertex_areas(mesh: Mesh) -> FloatArray:
    """Compute a third of the area of the triangles round each vertex, in mm²."""
    a, b, c = np.moveaxis(mesh.coordinates[mesh.triangles], 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return cast(FloatArray, np.bincount(mesh.triangles.ravel(), np.repeat(areas, 3), len(mesh.coordinates)))


@lru_cache
def flat(template: str = "fsaverage5") -> tuple[Mesh, Mesh]:
    """Make the flat surface of both hemispheres, each with all its vertices, in the coordinates of `flat_patch`.

    That of a subject of pycortex is its own.

    pycortex takes the box round all vertices for the flatmap, and its viewer draws every triangle of the folded
    surface whose corners are all in the patch. So vertices outside the patch are moved to its centroid, and some
    at its border are taken out of it: those of triangles that bridge a cut, an effect of decimating fsaverage.
    """
    patch, sizes = _surfaces.flat_patch(template), _surfaces.n_vertices(template)
    if _surfaces.is_pycortex(template):
        left, right = _surfaces.surface("flat", template)
        shift = np.nanmedian(patch.coordinates[sizes[0] :] - right.coordinates, axis=0)
        return left, Mesh(right.coordinates + shift, right.triangles)
    meshes = []
    for first, size, mesh in zip((0, sizes[0]), sizes, _surfaces.surface("white", template), strict=True):
        inside = (patch.triangles >= first).all(axis=1) & (patch.triangles < first + size).all(axis=1)
        coordinates = patch.coordinates[first : first + size]
        meshes.append(_unbridged(coordinates, patch.triangles[inside] - first, mesh.triangles))
    return meshes[0], meshes[1]


def _unbridged(coordinates: FloatArray, patch: IntArray, whole: IntArray) -> Mesh:
    """Drop vertices until no long triangle of the whole surface has all its corners in the patch."""
    long = whole[_longest(coordinates[whole]) >= _surfaces.longest_allowed(_longest(coordinates[patch]))]
    out = np.zeros(len(coordinates), dtype=bool)
    while len(left := _within(long, patch, out)):
        out[np.bincount(left.ravel()).argmax()] = True
    kept = patch[~out[patch].any(axis=1)]
    used = np.unique(kept)
    flat = np.tile(np.append(coordinates[used, :2].mean(axis=0), 0.0), (len(coordinates), 1))
    flat[used, :2] = coordinates[used, :2]
    return Mesh(flat, kept)


def _longest(corners: FloatArray) -> FloatArray:
    """Longest side of triangles; of those with an undefined corner nothing, 0."""
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    return cast(FloatArray, np.nan_to_num(sides.max(axis=1)))


def _within(triangles: IntArray, patch: IntArray, out: BoolArray) -> IntArray:
    used = np.zeros(len(out), dtype=bool)
    used[patch[~out[patch].any(axis=1)]] = True
    return triangles[used[triangles].all(axis=1)]
