"""Atlases: regions of interest on cortex or in a volume."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _files, _gifti, _surfaces
from latentcortex._arrays import digest, listed
from latentcortex._nifti import MAX_LABEL, label_image, read_header, whole_numbers
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import subject_atlases
from latentcortex.space.surface import TEMPLATES, Surface
from latentcortex.space.unlocated import Unlocated
from latentcortex.space.volume import Volume

logger = logging.getLogger(__name__)

LISTED_REGIONS: Final = "voxels"
"""Name of an atlas that a table lists voxel by voxel, for voxels without a known position."""
REGION: Final = "region"
"""The column of such a table that names a voxel's region."""
NO_REGION: Final = ("", "0", "n/a", "none")

MAX_AFFINE_DIFFERENCE_MM: Final = 1e-3
"""Largest difference between two affines, in mm, at which they still count as the same grid."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of interest on a template, or in a volume.

    Parameters
    ----------
    name : str
    labels : ndarray of int, shape (n_vertices,) or (x * y * z,)
        The region of each vertex, left then right hemisphere, or of each place of the grid; 0 is none.
    names : dict
        Label -> name. A region without a name gets an outline only.
    template : str
        The cortex whose vertices have the regions; empty where only places of a grid have them.
    vertices : ndarray of int, shape (n_vertices,), optional
        Of a volume whose regions were given on its cortex: the region of each vertex.
    """

    name: str
    labels: NDArray[np.intp]
    names: Mapping[int, str]
    template: str = ""
    vertices: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        return f"Atlas({self.name}, {len(self.names)} regions: {listed(list(self.names.values()), 4)})"

    @classmethod
    def find(cls, name: str, on: str | Unlocated | Surface | Volume) -> Atlas:
        """Read an atlas that comes with the package, a folder of the same layout, or one of the subject's own.

        Parameters
        ----------
        name : str
            Of one that comes with the package, or path of a folder. Of a subject of pycortex also `overlays`, the
            regions that are drawn in its overlays.svg (of regions that overlap a vertex is in the smallest); of one
            of FreeSurfer also the name of an annotation, such as `aparc` or `aparc.a2009s`.
        on : str or Space
            The surface template, or where the responses are.

        Raises
        ------
        InputError
            If there is no such atlas, or it is not on this template, or on another grid than the voxels.
        AlignmentError
            If it has another number of vertices.
        MissingExtraError
            If regions were drawn, and the library that reads drawings is not installed.
        """
        places, folder = _places(on), _folder(name)
        if folder is None:
            cortex = places[-1] if places else ""
            if name not in subject_atlases.names(cortex):
                raise _unknown(name, cortex)
            labels, names = subject_atlases.read(name, cortex)
        else:
            title, atlas_space = _described(folder)
            # A subject's folder is also named by the subject alone.
            subjects = {place: Path(place).resolve().name for place in places if place not in TEMPLATES}
            place = next((place for place in places if atlas_space in (place, subjects.get(place))), None)
            if place is None:
                raise InputError(f"Atlas {name} is on {atlas_space}; the responses are on {' and '.join(places)}.")
            name, names = title, _names(_only(folder, "*_dseg.tsv"), name)
            if isinstance(on, Volume) and place == on.reference:
                return cls(name, _log_nameless(_of_volume(folder, on), names, name), names)
            labels = _log_nameless(_of_surface(folder, name, place), names, name)
        if isinstance(on, Volume):
            return cls(name, on.on_grid(labels), names, on.template, labels)
        return cls(name, labels, names, on if isinstance(on, str) else on.template)

    def on_cortex(self, space: Unlocated | Surface | Volume) -> Atlas:
        """Give the regions of each vertex of the cortex that a space is drawn on.

        Where only places of a grid have regions, a vertex has the most frequent one of the voxels that it meets.

        Returns
        -------
        Atlas
            With `labels` of shape (n_vertices,), on the template of the space.

        Raises
        ------
        AlignmentError
            If there is not one label per vertex, or the regions are on another cortex, or on a grid and the space is
            not a volume: as many vertices need not be the same ones.
        """
        if not self.template and space.volume is not None:
            laid = space.labels_on_mesh(space.take(self.labels))
            return Atlas(self.name, np.nan_to_num(laid).astype(np.intp), self.names, space.template)
        if self.template != space.template:
            raise AlignmentError(
                f"A picture shows one cortex; maps are on {space.template}, which has "
                f"{sum(_surfaces.n_vertices(space.template))} vertices, regions on {self.template or 'no cortex'}."
            )
        labels = self.labels if self.vertices is None else self.vertices
        _surfaces.on_all_vertices(labels, self.template)
        return Atlas(self.name, labels, self.names, self.template)

    @classmethod
    def listed(cls, table: pd.DataFrame, path: Path) -> Atlas:
        """Make an atlas of a table with a row for each voxel.

        Parameters
        ----------
        table : DataFrame of strings
            A column `region` names the region of each voxel, or columns of 0 and 1 are a region each.
        path : Path
            Where it is from, for errors.

        Raises
        ------
        InputError
            If it names no region, or a voxel lies in two.
        """
        if REGION in table.columns:
            of_voxel = ["" if name in NO_REGION else name for name in table[REGION]]
        else:
            masks = [name for name in table.columns if set(table[name]) <= {"0", "1"} and "1" in set(table[name])]
            inside = (table[masks] == "1").to_numpy()
            twice = np.flatnonzero(inside.sum(axis=1) > 1)
            if len(twice):
                both = listed(np.array(masks)[inside[twice[0]]])
                raise InputError(
                    f"{path} row {table.index[twice[0]]} is in {both}; expected each voxel in one region: keep some of "
                    "the columns of 0 and 1, or give a column region."
                )
            of_voxel = [masks[int(row.argmax())] if row.any() else "" for row in inside]
        names = [name for name in dict.fromkeys(of_voxel) if name]
        if not names:
            raise InputError(f"{path} names no region; expected a column region, or columns of 0 and 1.")
        numbers = {"": 0, **{name: number for number, name in enumerate(names, start=1)}}
        labels = np.array([numbers[name] for name in of_voxel], dtype=np.intp)
        return cls(LISTED_REGIONS, labels, dict(enumerate(names, start=1)))

    def voxels(self, space: Unlocated | Surface | Volume, regions: Sequence[str]) -> NDArray[np.intp]:
        """Find the voxels that lie in any of these regions, ascending.

        Raises
        ------
        InputError
            If there is no such region, or no voxel in one.
        """
        labels = {name: label for label, name in self.names.items()}
        of_voxel = space.take(self.labels)
        for region in regions:
            if region not in labels:
                raise unknown(f"region of atlas {self.name!r}:", region, labels)
            if not np.any(of_voxel == labels[region]):
                raise InputError(f"Region {region} of atlas {self.name} has no voxel among these responses.")
        return np.flatnonzero(np.isin(of_voxel, [labels[region] for region in regions]))


def atlas_digest(name: str, spaces: Iterable[Unlocated | Surface | Volume]) -> str:
    """Return a digest of the files of an atlas; empty for no name.

    Parameters
    ----------
    name : str
        As `Atlas.find` takes it.
    spaces : iterable of Space
        Where the responses are; asked only for an atlas that is the subjects' own.

    Raises
    ------
    InputError
        If there is no such atlas, or one of its files is missing.
    """
    if name in ("", LISTED_REGIONS):  # a dataset's digest has the regions that it lists
        return ""
    folder = _folder(name)
    if folder is not None:
        files = [path for path in sorted(folder.glob("*.*")) if path.is_file()]
        return digest([_files.sha256(path) for path in files if not _files.is_incidental(path)])
    return digest([_subject_hashes(name, space.template) for space in spaces])


def _subject_hashes(name: str, cortex: str) -> list[str]:
    """Hash the files of an atlas that comes with a subject's own cortex."""
    if name not in subject_atlases.names(cortex):
        raise _unknown(name, cortex)
    paths = subject_atlases.files(name, cortex)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"Atlas {name} of {cortex} needs {listed(missing)}, which is not there.")
    return [_files.sha256(path) for path in paths]


def _places(on: str | Unlocated | Surface | Volume) -> tuple[str, ...]:
    """Name the spaces that regions may be in: the template of a surface; the reference of a volume, and its cortex."""
    if isinstance(on, str):
        return (on,)
    named = (on.reference, on.template) if isinstance(on, Volume) else (on.template,)
    return tuple(place for place in named if place)


def _described(folder: Path) -> tuple[str, str]:
    """Read the name of an atlas and the space that it is on; its files must be those that are described, if they are.

    Raises
    ------
    InputError
        If `atlas.json` does not say both, or a file has not the hash that is given there.
    """
    path = folder / "atlas.json"
    facts = _files.read_json(path)
    for key in ("name", "space"):
        if not isinstance(facts, dict) or not isinstance(facts.get(key), str) or not facts[key]:
            raise InputError(
                f"{path} has no text `{key}`; expected the `name` of the atlas, and as `space` the template, the "
                "reference of a mask or the subject that it is on."
            )
    files = facts.get("files", {})
    for name, entry in files.items() if isinstance(files, dict) else ():
        expected, file = entry.get("sha256") if isinstance(entry, dict) else None, folder / Path(name).name
        if expected is not None and file.is_file() and _files.sha256(file) != expected:
            raise InputError(f"{file} is not the file of which {path} gives the hash; restore it, or correct the hash.")
    return facts["name"], facts["space"]


def _names(path: Path, atlas: str) -> dict[int, str]:
    """Read the names of labels; a row of the label 0, which is no region, is left out."""
    table = _files.read_tsv(path, needs=("index", "name"))
    names: dict[int, str] = {}
    for row, index, region in zip(table.index, table["index"], table["name"], strict=True):
        if not (index.isascii() and index.isdecimal() and len(index) < 12 and int(index) <= MAX_LABEL):
            raise InputError(
                f"{path} row {row}, column index: {index[:40]!r} is no label; expected a whole number from 0 (none) on."
            )
        if region in ("", "n/a"):
            raise InputError(f"{path} row {row}, column name: label {index} has no name; expected one.")
        if int(index) in names:
            raise InputError(f"{path} row {row}, column index: label {int(index)} is {names[int(index)]} already.")
        names[int(index)] = region
    twice = sorted(name for name, times in Counter(names.values()).items() if times > 1)
    if twice:
        raise InputError(f"Atlas {atlas} has several labels named {listed(twice)}; give each a name of its own.")
    if 0 in names:
        logger.info("Label 0 of atlas %s, %s, is no region.", atlas, names.pop(0))
    return names


def _log_nameless(labels: NDArray[np.intp], names: dict[int, str], atlas: str) -> NDArray[np.intp]:
    """Return labels as they are; log those that the table does not name, which belong to no region."""
    nameless = (labels != 0) & ~np.isin(labels, list(names))
    if nameless.any():
        unnamed = np.unique(labels[nameless]).tolist()
        facts = {"atlas": atlas, "n_places": int(nameless.sum()), "labels": unnamed[:100]}
        sentence = "%d places of atlas %s have labels without a name and are in no region: %s."
        logger.info(sentence, nameless.sum(), atlas, listed(unnamed), extra={"facts": facts})
    return labels


def _of_surface(folder: Path, name: str, template: str) -> NDArray[np.intp]:
    """Read the labels of both hemispheres, (n_vertices,)."""
    sides = []
    for side, n in zip(_surfaces.HEMISPHERES, _surfaces.n_vertices(template), strict=True):
        path = _only(folder, f"*hemi-{side[0].upper()}*.label.gii")
        values = _gifti.vertices(_gifti.read(path, side=side).only(_gifti.LABELS), path)
        labels = whole_numbers(values)
        if labels is None:
            raise InputError(
                f"{path} holds {values.dtype}, not all whole; expected labels, whole numbers up to 2^31 - 1."
            )
        if len(labels) != n:
            raise AlignmentError(
                f"Atlas {name} has {len(labels)} vertices on the {side}; that hemisphere of {template} has {n}."
            )
        sides.append(labels)
    return np.concatenate(sides)


def _of_volume(folder: Path, space: Volume) -> NDArray[np.intp]:
    """Read the labels of a grid, (x * y * z,), which must be that of the voxels."""
    path = _only(folder, "*_dseg.nii*")
    header = read_header(path, expected="labels")
    if header.shape != space.shape or not np.allclose(
        header.affine, space.affine, rtol=0, atol=MAX_AFFINE_DIFFERENCE_MM
    ):
        raise InputError(
            f"{path} has a grid of {header.shape}, and the mask {space.shape} or another affine: resample it, with "
            'nilearn.image.resample_to_img(atlas, mask, interpolation="nearest").'
        )
    return label_image(path)[0].ravel()


def _folder(name: str) -> Path | None:
    """Find an atlas that is a folder, if this is one."""
    folder = _atlas_folders().get(name, Path(name))
    return folder if (folder / "atlas.json").is_file() else None


def _unknown(name: str, cortex: str) -> InputError:
    """Make the error for an atlas that is not there, which names those that are."""
    is_available = not cortex or cortex in TEMPLATES or Path(cortex).is_dir()
    if not is_available:
        return InputError(f"Atlas {name} was looked for in {cortex}, which is not there; was the subject moved?")
    return unknown("atlas", name, [*_atlas_folders(), *subject_atlases.names(cortex)])


def _only(folder: Path, pattern: str) -> Path:
    """Return the one file of an atlas folder that matches a pattern; raise `InputError` unless there is one."""
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise InputError(f"Atlas folder {folder} has {len(paths)} files {pattern}; expected one.")
    return paths[0]


def _atlas_folders() -> dict[str, Path]:
    """List the atlases in the wheel, or beside the checkout that is run."""
    package = Path(__file__).parents[1]
    for place in (package / "_atlases", package.parents[1] / "atlases"):
        if place.is_dir():
            return {path.parent.name: path.parent for path in place.glob("*/atlas.json")}
    return {}
