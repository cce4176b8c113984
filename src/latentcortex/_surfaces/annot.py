"""Parcellations that FreeSurfer keeps beside a subject's surfaces: `label/lh.aparc.annot`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from nibabel.freesurfer import io as freesurfer

from latentcortex._arrays import BoolArray, IntArray
from latentcortex._surfaces.layouts import FreeSurferSubject
from latentcortex._surfaces.mesh import HEMISPHERES
from latentcortex._surfaces.templates import layout, n_vertices
from latentcortex.errors import AlignmentError, InputError

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
        found = layout(template) if template else None
    except InputError:  # its surfaces are not on this machine, and nothing beside them
        return ()
    if not isinstance(found, FreeSurferSubject):
        return ()
    return tuple(sorted({path.name[3:-6] for path in found.folder.glob("label/[lr]h.?*.annot")}))


def parcellation_files(name: str, template: str) -> tuple[Path, Path]:
    """Return where a parcellation of the left and the right hemisphere is, or would be."""
    found = layout(template)
    if not isinstance(found, FreeSurferSubject):
        raise InputError(f"{template} is no subject of FreeSurfer; it has no parcellation {name}.")
    left, right = (found.folder / "label" / f"{side[0]}h.{name}.annot" for side in HEMISPHERES)
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
        own = np.zeros(n, dtype=np.intp)
        for region, members in _regions(path, n).items():
            own[members] = numbers.setdefault(region, len(numbers) + 1)
        sides.append(own)
    return np.concatenate(sides), {number: region for region, number in numbers.items()}


def _regions(path: Path, n: int) -> dict[str, BoolArray]:
    """Read the vertices of each region of one hemisphere; regions without a vertex are left out."""
    _check(path, n)
    try:
        # By colour: nibabel would give a colour that the table lacks to the region of the next one.
        colours, table, names = freesurfer.read_annot(path, orig_ids=True)
    except (OSError, ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise InputError(f"{path} has a damaged colour table: {str(error).splitlines()[:1]}.") from None
    if len(names) != len(table):
        raise InputError(f"{path} has {len(names)} names for {len(table)} colours; expected one for each.")
    found: dict[str, BoolArray] = {}
    taken = np.zeros(n, dtype=bool)
    for (*_, colour), said in zip(table.tolist(), names, strict=True):
        region, members = said.decode("utf-8", "replace").strip(), colours == colour
        if not colour or not members.any() or region.lower() in NO_REGION:
            continue
        if taken[members].any():
            raise InputError(f"{path} gives {region} the colour of another region; they cannot be told apart.")
        taken |= members
        found[region] = found.get(region, np.zeros(n, dtype=bool)) | members
    return found


def _check(path: Path, n: int) -> None:
    """Check what nibabel does not: that all vertices are there, one after the other, and a colour table."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    head = np.frombuffer(content[:4], dtype=">i4")
    if len(head) == 0 or head[0] < 0 or len(content) < 8 * (head[0] + 1):
        raise InputError(f"{path} is not an annotation of FreeSurfer, or not a whole one.")
    if head[0] != n:
        raise AlignmentError(f"{path} has {head[0]} vertices; the surface has {n}. They are of different surfaces.")
    vertices = np.frombuffer(content, dtype=">i4", count=2 * n, offset=4)[::2]
    rest = np.frombuffer(content[4 + 8 * n :][:8], dtype=">i4")
    if not np.array_equal(vertices, np.arange(n)) or len(rest) < 2 or rest[0] == 0 or (rest[1] < 0 and rest[1] != -2):
        raise InputError(f"{path} has no colour table that is known, or its vertices are not in their order.")
