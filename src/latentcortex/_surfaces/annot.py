"""Parcellations that FreeSurfer keeps beside a subject's surfaces: `label/lh.aparc.annot`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from latentcortex._arrays import BoolArray, IntArray
from latentcortex._surfaces import freesurfer
from latentcortex._surfaces.layouts import FreeSurferSubject
from latentcortex._surfaces.mesh import HEMISPHERES
from latentcortex._surfaces.templates import layout, n_vertices
from latentcortex.errors import AlignmentError, InputError

MAX_TABLE_BYTES: Final = 2**22
"""Of the names and colours of an annotation's regions."""
NO_REGION: Final = (
    "unknown",
    "???",
    "corpuscallosum",
    "medial_wall",
    "medial.wall",
    "freesurfer_defined_medial_wall",
    "background+freesurfer_defined_medial_wall",
)
"""What parcellations call vertices that are in none of their regions, in small letters."""


def parcellations(template: str) -> tuple[str, ...]:
    """Name the parcellations of a template: those of which a hemisphere is there; none but in FreeSurfer's layout."""
    try:
        folder_layout = layout(template) if template else None
    except InputError:  # its surfaces are not on this machine, and nothing beside them
        return ()
    if not isinstance(folder_layout, FreeSurferSubject):
        return ()
    return tuple(sorted({path.name[3:-6] for path in folder_layout.folder.glob("label/[lr]h.?*.annot")}))


def parcellation_files(name: str, template: str) -> tuple[Path, Path]:
    """Return where a parcellation of the left and the right hemisphere is, or would be."""
    folder_layout = layout(template)
    if not isinstance(folder_layout, FreeSurferSubject):
        raise InputError(f"{template} is no subject of FreeSurfer; it has no parcellation {name}.")
    left, right = (folder_layout.folder / "label" / f"{side[0]}h.{name}.annot" for side in HEMISPHERES)
    return left, right


def parcellation(name: str, template: str) -> tuple[IntArray, dict[int, str]]:
    """Read a parcellation of both hemispheres; regions of one name are one region.

    Parameters
    ----------
    name : str
        One of `parcellations`.
    template : str
        A subject of FreeSurfer, or a template in its layout.

    Returns
    -------
    tuple of (ndarray of int, shape (n_vertices,), dict)
        Region of each vertex, 0 for none, and label -> name, in the order of the files; of the regions with a vertex.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    AlignmentError
        If a file has another number of vertices than the surface.
    """
    numbers: dict[str, int] = {}
    sides = []
    for path, n in zip(parcellation_files(name, template), n_vertices(template), strict=True):
        of_side = np.zeros(n, dtype=np.intp)
        for region, members in _regions(path, n).items():
            of_side[members] = numbers.setdefault(region, len(numbers) + 1)
        sides.append(of_side)
    return np.concatenate(sides), {number: region for region, number in numbers.items()}


def _regions(path: Path, n: int) -> dict[str, BoolArray]:
    """Read the vertices of each region of one hemisphere; regions without a vertex are left out.

    They are told by their colour: nibabel gives a colour that the table lacks to the region of the next one.
    """
    data = freesurfer.content(path, max_bytes=8 * (n + 1) + MAX_TABLE_BYTES)
    of_vertex = _colours(data, path, n)
    regions: dict[str, BoolArray] = {}
    taken = np.zeros(n, dtype=bool)
    for region, colour in freesurfer.colours(data[8 * n + 4 :], path):
        members = of_vertex == colour
        if not colour or not members.any() or region.lower() in NO_REGION:
            continue
        if taken[members].any():
            raise InputError(f"{path} gives {region} the colour of another region; they cannot be told apart.")
        taken |= members
        regions[region] = regions.get(region, np.zeros(n, dtype=bool)) | members
    return regions


def _colours(known: bytes, path: Path, n: int) -> IntArray:
    """Read the colour of each vertex, (n_vertices,): all must be there, one after the other."""
    head = np.frombuffer(known[:4], dtype=">i4")
    if len(head) == 0 or head[0] < 0 or len(known) < 8 * (int(head[0]) + 1):
        raise InputError(f"{path} is not an annotation of FreeSurfer, or not a whole one.")
    if head[0] != n:
        raise AlignmentError(f"{path} has {head[0]} vertices; the surface has {n}. They are of different surfaces.")
    vertices, of_vertex = np.frombuffer(known, dtype=">i4", count=2 * n, offset=4).reshape(n, 2).T
    if not np.array_equal(vertices, np.arange(n)):
        raise InputError(f"{path} is not an annotation of FreeSurfer, or its vertices are not in their order.")
    return of_vertex.astype(np.int64)
