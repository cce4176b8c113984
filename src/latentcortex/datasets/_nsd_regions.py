"""Regions of the Natural Scenes Dataset: volumes of labels, and labels of vertices, with the names of their tables.

A label of -1 is outside cortex (of that hemisphere), 0 cortex that is in no region, 1 and more a region. Regions that
were drawn on the participants' own surfaces (prf, floc) are brought to fsaverage by `white-to-fsaverage.mgz`, which
has, for each vertex of fsaverage, the number of a vertex of the participant, counted from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import BoolArray, FloatArray, IntArray, listed
from latentcortex._nifti import binary, read_grid, whole_numbers
from latentcortex._shelf import unknown
from latentcortex.datasets import _mgh
from latentcortex.datasets._nsd_release import SIDES, Release
from latentcortex.errors import AlignmentError, InputError

ALL: Final = "all"
"""All voxels of the brain mask, or all vertices."""
UNNAMED: Final = {"nsdgeneral": {1: "nsdgeneral"}}
"""Names of labels that need no table."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Labels and their names.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z) or (n_vertices,)
        0 is no region.
    names : dict
        Label -> name, of those that some voxel has.
    affine : ndarray of shape (4, 4), optional
        Of a volume.
    """

    labels: NDArray[np.intp]
    names: dict[int, str]
    affine: FloatArray | None = None

    def inside(self, name: str, region: str) -> BoolArray:
        """Tell which voxels lie in a region, or in any.

        Raises
        ------
        InputError
            If there is no such region, or no voxel in any.
        """
        numbers = {one: label for label, one in self.names.items()}
        if region and region not in numbers:
            raise unknown(f"region of {name!r}:", region, numbers)
        inside = self.labels == numbers[region] if region else self.labels > 0
        if not inside.any():
            raise InputError(f"ROI {name} of NSD has no voxel; expected at least one label above 0.")
        return np.asarray(inside)


def in_volume(release: Release, participant: str, roi: str) -> tuple[BoolArray, FloatArray]:
    """Tell which voxels of the grid lie in an ROI (`streams`, `streams/ventral`, `all`), and where the grid is."""
    if roi == ALL:
        return brain(release, participant)
    name, _, region = roi.partition("/")
    found = of_volume(release, participant, name)
    return found.inside(name, region), np.asarray(found.affine)


def on_surface(release: Release, participant: str, roi: str, n_vertices: tuple[int, int]) -> BoolArray:
    """Tell which vertices of both hemispheres lie in an ROI (`streams`, `streams/ventral`, `all`)."""
    if roi == ALL:
        return np.ones(sum(n_vertices), dtype=bool)
    name, _, region = roi.partition("/")
    return of_vertices(release, participant, name, n_vertices).inside(name, region)


def has(release: Release, participant: str, name: str) -> bool:
    """Tell whether an ROI was downloaded."""
    if release.is_volume:
        folder = release.about(participant) / release.space / "roi"
        return any((folder / f"{side}{name}.nii.gz").is_file() for side in ("", "lh."))
    places = {participant, *(("fsaverage",) if release.space == "fsaverage" else ())}
    return any((release.freesurfer(one) / "label" / f"lh.{name}.mgz").is_file() for one in places)


def brain(release: Release, participant: str) -> tuple[BoolArray, FloatArray]:
    """Read the brain mask of a volume, and where its voxels are."""
    path = release.about(participant) / release.space / "brainmask.nii.gz"
    grid = read_grid(path, expected="a mask")
    mask = binary(grid.values)
    if mask is None:
        raise InputError(f"{path} holds {listed(np.unique(grid.values), 4)}; expected 0 and 1. Download it again.")
    return mask, grid.affine


def of_volume(release: Release, participant: str, name: str) -> Regions:
    """Read the labels of a volume: those of the left hemisphere where it has any, else those of the right.

    Raises
    ------
    InputError
        If there is no such file, it holds no labels, or their names are not known.
    """
    folder = release.about(participant) / release.space / "roi"
    whole = folder / f"{name}.nii.gz"
    if not whole.is_file() and not (folder / f"lh.{name}.nii.gz").is_file():
        named = {path.name.removesuffix(".nii.gz").removeprefix("lh.").removeprefix("rh.") for path in folder.glob("*")}
        raise unknown(f"ROI of NSD in {folder}:", name, sorted(named))
    if whole.is_file():
        both, affine = _labels_of_volume(whole)
    else:
        (left, affine), (right, other) = (_labels_of_volume(folder / f"{side}.{name}.nii.gz") for side in SIDES)
        if left.shape != right.shape or not np.allclose(affine, other):
            raise AlignmentError(f"{folder}: lh.{name}.nii.gz and rh.{name}.nii.gz are on different grids.")
        both = np.where(left >= 0, left, right)
    return Regions(both.clip(0), _names(release, participant, name, both), affine)


def of_vertices(release: Release, participant: str, name: str, n_vertices: tuple[int, int]) -> Regions:
    """Read the labels of both hemispheres, of fsaverage or of the participant's own surfaces.

    Raises
    ------
    InputError
        If there is no such file, it holds no labels, or their names are not known.
    """
    place = "fsaverage" if release.space == "fsaverage" else participant
    folder, sides = release.freesurfer(place) / "label", []
    for side, n in zip(SIDES, n_vertices, strict=True):
        path = folder / f"{side}.{name}.mgz"
        if path.is_file():
            sides.append(_labels_of_side(path, n))
        elif place == "fsaverage":
            sides.append(_brought_to_fsaverage(release, participant, f"{side}.{name}.mgz", n))
        else:
            raise unknown(f"ROI of NSD in {folder}:", name, _named_in(folder))
    labels = np.concatenate(sides)
    return Regions(labels.clip(0), _names(release, participant, name, labels), None)


def template(release: Release, participant: str) -> str:
    """Name the surfaces: fsaverage, or the folder of the participant's own."""
    return "fsaverage" if release.space == "fsaverage" else str(release.freesurfer(participant))


def _brought_to_fsaverage(release: Release, participant: str, file: str, n: int) -> IntArray:
    """Bring labels of the participant's own surface to fsaverage: each vertex has that of its nearest one."""
    own = release.freesurfer(participant) / "label" / file
    if not own.is_file():
        names = {*_named_in(release.freesurfer("fsaverage") / "label"), *_named_in(own.parent)}
        raise unknown("ROI of NSD on fsaverage:", file.removesuffix(".mgz")[3:], sorted(names))
    path = release.about(participant) / "transforms" / f"{file[:2]}.white-to-fsaverage.mgz"
    if not path.is_file():
        raise InputError(
            f"{path} is missing: {own.name} was drawn on the participant's own surface, and this says which of its "
            "vertices each one of fsaverage is; download it."
        )
    header = _mgh.read_header(own, expected="labels")
    labels = _labels_of_side(own, header.n_vertices)
    nearest = whole_numbers(_mgh.values(path, n, expected="numbers of vertices"))
    if nearest is None or nearest.min() < 1 or nearest.max() > len(labels):
        raise AlignmentError(f"{path} should number the {len(labels)} vertices of {own}, from 1; download both again.")
    return np.asarray(labels[nearest - 1])


def _labels_of_volume(path: Path) -> tuple[IntArray, FloatArray]:
    grid = read_grid(path, expected="labels")
    return _whole(grid.values, path), grid.affine


def _labels_of_side(path: Path, n: int) -> IntArray:
    return _whole(_mgh.values(path, n, expected="labels"), path)


def _whole(values: NDArray[np.generic], path: Path) -> IntArray:
    labels = whole_numbers(values)
    if labels is None or labels.min() < -1:
        raise InputError(f"{path} holds {values.dtype}; expected labels: -1 outside cortex, 0 no region, 1 and more.")
    return labels


def _named_in(folder: Path) -> list[str]:
    return sorted({path.name[3:].removesuffix(".mgz") for path in folder.glob("[lr]h.*.mgz")})


def _names(release: Release, participant: str, name: str, labels: IntArray) -> dict[int, str]:
    """Read the names of the labels that there are, from the table of the participant or of fsaverage."""
    held = np.unique(labels[labels > 0]).tolist()
    places = [release.freesurfer(one) / "label" for one in (participant, "fsaverage")]
    files = [folder / f"{side}{name}.mgz.ctab" for folder in places for side in ("", "lh.")]
    path = next((one for one in files if one.is_file()), None)
    if path is None:
        if name in UNNAMED:
            return UNNAMED[name]
        raise InputError(f"{files[0]} is missing: it names the regions of {name}; download it.")
    names = _read_ctab(path)
    nameless = sorted(set(held) - set(names))
    if nameless:
        raise AlignmentError(f"{path} has no name for the labels {listed(nameless)} of {name}; download both again.")
    return {label: names[label] for label in held}


def _read_ctab(path: Path) -> dict[int, str]:
    """Read `index name` line by line; what may follow, such as a colour, is left out."""
    names: dict[int, str] = {}
    for number, line in enumerate(_files.read_text(path, expected="a table of labels").splitlines(), start=1):
        cells = line.split()
        if not cells or cells[0].startswith("#"):
            continue
        if len(cells) < 2 or not cells[0].isdecimal():
            raise InputError(f"{path} line {number} is {line[:40]!r}; expected the number of a label and its name.")
        names[int(cells[0])] = cells[1]
    return names
