"""Cortex that maps are laid on: templates by name, and subjects by their folder.

fsaverage5 is read from the files inside the nilearn wheel, without importing nilearn (seconds) and without a download.
The other densities of fsaverage are found where nilearn or FreeSurfer keep them. Vertices are counted through the left
and then the right hemisphere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex._shelf import unknown
from latentcortex._surfaces.layouts import FreeSurferSubject, NilearnFiles, PycortexSubject, SurfaceLayout, layout_in
from latentcortex._surfaces.mesh import HEMISPHERES, KINDS, Mesh, SurfaceKind, twice_area
from latentcortex.errors import AlignmentError, InputError

DENSITIES: Final = {
    "fsaverage3": (642, "642"),
    "fsaverage4": (2562, "3k"),
    "fsaverage5": (10242, "10k"),
    "fsaverage6": (40962, "41k"),
    "fsaverage": (163842, "164k"),
}
"""Vertices of each hemisphere of the templates that have a name, and what files call that."""

GAP_MM: Final = 12.0
"""Between the two flattened hemispheres."""

WALL_MM: Final = 1.0
"""No cortex is thinner than this. Thickness is a mean over people whose medial walls differ: only the core of
the wall is exactly 0, and a rim that was wall in most of them lies between 0 and 1."""

LONGEST_MM: Final = 12.0
"""Longest side of a triangle in the flat drawing (the median is 3 in fsaverage5): longer ones bridge a cut."""

LONGEST: Final = 3.6
"""The same of coarser templates, relative to the median of the triangles' longest sides."""

FACING: Final = 0.5
"""Of the triangles of a flat surface, how many must be drawn."""

SAME_MM: Final = 10.0
"""Distance beyond which two templates do not count their vertices alike."""

SMOOTHED: Final = 3
"""How often a curvature that is computed here is averaged over neighbouring vertices."""


def resolved(template: str) -> str:
    """Write a folder so that it means the same from everywhere; a name stays as it is, and nothing is nothing."""
    return template if template in DENSITIES or not template else os.path.abspath(template)


@lru_cache
def layout(template: str) -> SurfaceLayout:
    """Find the surfaces of a template.

    Parameters
    ----------
    template : str
        Name of a template, or path of a subject's folder: FreeSurfer's (which holds `surf`) or pycortex's (which holds
        `surfaces`).

    Raises
    ------
    InputError
        If there is no such template or folder, or its files are not on this machine.
    """
    if template == "fsaverage5":
        return NilearnFiles(_in_nilearn())
    if template in DENSITIES:
        places = list(_places(template))
        folder_layout = next((one for place in places if (one := layout_in(place)) is not None), None)
        if folder_layout is None:
            raise InputError(
                f"The surfaces of {template} are not on this machine. Fetch them, "
                f"nilearn.datasets.fetch_surf_fsaverage({template!r}), or set SUBJECTS_DIR to FreeSurfer's subjects."
            )
        return folder_layout
    folder_layout = layout_in(Path(template))
    if folder_layout is None and Path(template).is_dir():
        raise InputError(
            f"{template} holds no surfaces; expected a subject of FreeSurfer (surf/lh.white) or of pycortex "
            "(surfaces/flat_lh.gii)."
        )
    if folder_layout is None:
        # A study turns a name that is misspelt into a path.
        raise unknown(
            "surface template", Path(template).name, [*DENSITIES, f"or a subject's folder ({template} is none)"]
        )
    return folder_layout


def _in_nilearn() -> Path:
    folder = _files.inside("nilearn", "datasets", "data", "fsaverage5")
    if folder is None:
        raise InputError("The surfaces come with nilearn, which is not installed: pip install nilearn.")
    return folder


def _places(template: str) -> Iterator[Path]:
    """List where nilearn and FreeSurfer keep a template."""
    for name in ("NILEARN_SHARED_DATA", "NILEARN_DATA"):
        yield from (Path(place, template) for place in os.environ.get(name, "").split(os.pathsep) if place)
    yield Path.home() / "nilearn_data" / template
    if "SUBJECTS_DIR" in os.environ:
        yield Path(os.environ["SUBJECTS_DIR"], template)
    if "FREESURFER_HOME" in os.environ:
        yield Path(os.environ["FREESURFER_HOME"], "subjects", template)


def name_of(template: str) -> str:
    """Name a template as files do: `fsaverage`, `fsnative` for a subject of FreeSurfer, or a subject's own name."""
    if template in DENSITIES:
        return "fsaverage"
    return "fsnative" if isinstance(layout(template), FreeSurferSubject) else Path(template).resolve().name


def is_pycortex(template: str) -> bool:
    """Tell whether pycortex knows the template by itself: it is the folder of one of its subjects."""
    return template not in DENSITIES and isinstance(layout(template), PycortexSubject)


@lru_cache
def n_vertices(template: str = "fsaverage5") -> tuple[int, int]:
    """Count the vertices of the left and the right hemisphere.

    Raises
    ------
    InputError
        As `layout`; of a template that has a name no file is looked for.
    """
    if template in DENSITIES:
        return DENSITIES[template][0], DENSITIES[template][0]
    left, right = surface("white", template)
    return len(left.coordinates), len(right.coordinates)


def on_all_vertices(values: NDArray[np.generic], template: str = "fsaverage5") -> None:
    """Raise `AlignmentError` unless there is one value per vertex of both hemispheres."""
    left, right = n_vertices(template)
    if values.shape != (left + right,):
        if values.shape in ((left,), (right,)):
            raise AlignmentError(
                f"Got {len(values)} values, those of one hemisphere; {template} has {left + right} vertices, left "
                f"first. Fill the other with nan: np.concatenate([left, np.full({right}, np.nan)])."
            )
        raise AlignmentError(f"Got an array of shape {values.shape}; {template} has {left + right} vertices.")


def has(kind: SurfaceKind, template: str = "fsaverage5") -> bool:
    """Tell whether there is such a surface."""
    return layout(template).has(kind)


@lru_cache
def surface(kind: SurfaceKind, template: str = "fsaverage5") -> tuple[Mesh, Mesh]:
    """Load a surface of the left and the right hemisphere.

    Parameters
    ----------
    kind : {"white", "pial", "inflated", "sphere", "flat"}
        `flat` has triangles only in the flat patch; its vertices outside the patch lie anywhere.
    template : str
        See `layout`.

    Returns
    -------
    tuple of Mesh
        In mm.

    Raises
    ------
    InputError
        If the kind or the template is not known, or a file is missing or damaged.
    AlignmentError
        If a hemisphere has not as many vertices as its white surface.
    """
    if kind not in KINDS:
        raise unknown("surface", kind, KINDS)
    folder_layout = layout(template)
    left, right = (folder_layout.mesh(kind, side) for side in HEMISPHERES)
    if kind != "white" or template in DENSITIES:
        _same_vertices(template, kind, (left, right))
    if kind == "white" and template in DENSITIES and template != "fsaverage5":
        _same_order(template, (left, right))
    return left, right


def _same_vertices(template: str, kind: SurfaceKind, meshes: tuple[Mesh, Mesh]) -> None:
    for side, mesh, expected in zip(HEMISPHERES, meshes, n_vertices(template), strict=True):
        if len(mesh.coordinates) != expected:
            raise AlignmentError(
                f"The {side} {kind} surface of {template} has {len(mesh.coordinates)} vertices; expected {expected}."
            )


def _same_order(template: str, meshes: tuple[Mesh, Mesh]) -> None:
    """Raise unless vertices are counted as in fsaverage5: those of a coarser template are the first of a denser one.

    nilearn before 0.14.1 kept fsaverage3 and fsaverage4 in another order.
    """
    for mesh, known in zip(meshes, surface("white", "fsaverage5"), strict=True):
        n = min(len(mesh.coordinates), len(known.coordinates))
        apart = np.linalg.norm(mesh.coordinates[:n] - known.coordinates[:n], axis=1)
        if np.median(apart) > SAME_MM:
            raise AlignmentError(
                f"The vertices of {template} are in another order than FreeSurfer's: they lie "
                f"{np.median(apart):.0f} mm from those of fsaverage5 with the same number. Fetch it again with nilearn "
                "0.14.1 or later."
            )


def curvature(template: str = "fsaverage5") -> FloatArray:
    """Load the mean curvature (n_vertices,) in 1/mm, left then right; sulci are positive.

    Where it is not on the disk, it is computed from the white surface.
    """
    sides = zip(_of_each_side("curvature", template), surface("white", template), strict=True)
    return np.concatenate([computed_curvature(mesh) if values is None else values for values, mesh in sides])


def _of_each_side(name: str, template: str) -> list[FloatArray | None]:
    """Read a number for each vertex of the left and of the right hemisphere; None where there is no such file.

    Raises
    ------
    AlignmentError
        If a hemisphere has not as many numbers as vertices, also where both together have.
    """
    sides = [layout(template).values(name, side) for side in HEMISPHERES]
    for side, values, n in zip(HEMISPHERES, sides, n_vertices(template), strict=True):
        if values is not None and len(values) != n:
            raise AlignmentError(
                f"The {name} of the {side} hemisphere of {template} has {len(values)} values; its surface has {n} "
                "vertices."
            )
    return sides


def computed_curvature(mesh: Mesh) -> FloatArray:
    """Compute the mean curvature (n_vertices,) in 1/mm of a closed surface; where it is hollow it is positive.

    A vertex of a sphere of radius R lies e²/2R above the mean of neighbours at distance e; the heights are averaged
    over neighbouring vertices three times.
    """
    a, b = np.concatenate([mesh.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]).T
    degree = np.maximum(np.bincount(a, minlength=len(mesh.coordinates)), 1)

    def mean(values: FloatArray) -> FloatArray:
        """Average over the neighbours of each vertex; in a closed surface each side belongs to two triangles."""
        return cast(FloatArray, np.bincount(a, values[b], len(degree)) / degree)

    around = np.stack([mean(axis) for axis in mesh.coordinates.T], axis=1) - mesh.coordinates
    lengths = np.bincount(a, ((mesh.coordinates[a] - mesh.coordinates[b]) ** 2).sum(axis=1), len(degree)) / degree
    height = (around * mesh.normals()).sum(axis=1)
    bent = 2 * height / np.maximum(lengths, 1e-12)
    for _ in range(SMOOTHED):
        bent = (bent + mean(bent)) / 2
    return cast(FloatArray, bent)


def _per_vertex(name: str, template: str) -> FloatArray:
    sides = _of_each_side(name, template)
    if any(side is None for side in sides):
        raise InputError(f"{template} has no {name} of its vertices.")
    return np.concatenate(cast(list[FloatArray], sides))


def knows(name: str, template: str) -> bool:
    """Tell whether the curvature, depth or thickness of a template's vertices is on the disk."""
    return all(values is not None for values in _of_each_side(name, template))


def sulcal_depth(template: str = "fsaverage5") -> FloatArray:
    """Load the sulcal depth (n_vertices,) in FreeSurfer's units, left then right; sulci are positive."""
    return _per_vertex("depth", template)


def thickness(template: str = "fsaverage5") -> FloatArray:
    """Load the mean cortical thickness (n_vertices,) in mm, left then right; 0 inside the medial wall."""
    return _per_vertex("thickness", template)


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
        Of the vertices of both hemispheres; coordinates are nan outside the patch.

    Raises
    ------
    InputError
        If the template has no flat surface, or one that cannot be drawn.
    """
    left, right = (_tidy_patch(mesh, template) for mesh in surface("flat", template))
    shift = np.nanmax(left.coordinates[:, 0]) + GAP_MM - np.nanmin(right.coordinates[:, 0])
    moved = right.coordinates + np.array([shift, 0.0, 0.0])
    return Mesh(
        np.concatenate([left.coordinates, moved]),
        np.concatenate([left.triangles, right.triangles + len(left.coordinates)]),
    )


def longest_allowed(sides: FloatArray) -> float:
    """Say how long the longest side of a flat triangle may be, in mm, from those of all."""
    return max(LONGEST_MM, LONGEST * float(np.median(sides)))


def _tidy_patch(mesh: Mesh, template: str) -> Mesh:
    corners = mesh.coordinates[mesh.triangles]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    area = twice_area(corners)
    # A subject of pycortex may be flattened as seen from inside: it is drawn as pycortex draws it.
    facing = area > 0 if np.median(area) > 0 else area < 0
    triangles = mesh.triangles[(longest < longest_allowed(longest)) & facing]
    if len(triangles) < FACING * len(mesh.triangles):
        raise InputError(
            f"The flat surface of {template} is no patch of cortex: {len(triangles)} of its {len(mesh.triangles)} "
            "triangles can be drawn."
        )
    if np.median(area) < 0:
        triangles = triangles[:, ::-1]
    coordinates = np.full_like(mesh.coordinates, np.nan)
    used = np.unique(triangles)
    coordinates[used] = mesh.coordinates[used]
    return Mesh(coordinates, triangles)
