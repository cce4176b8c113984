"""Regions of interest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from nibabel.gifti import gifti
from numpy.typing import NDArray

from latentcortex import _files, _surfaces
from latentcortex._arrays import digest, listed
from latentcortex._nifti import label_image
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import own
from latentcortex.space.bare import Bare
from latentcortex.space.surface import TEMPLATES, Surface
from latentcortex.space.volume import Volume

LEAST_MM: Final = 1e-3
"""Of a difference between two affines that are not the same."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of interest on a template, or in a volume.

    Parameters
    ----------
    name : str
    labels : ndarray of int, shape (n_vertices,) or (x * y * z,)
        The region of each vertex, left then right hemisphere, or of each place of the grid; 0 is none.
    names : dict
        Label -> name.
    vertices : ndarray of int, shape (n_vertices,), optional
        Of a volume whose regions were given on its cortex: the region of each vertex.
    """

    name: str
    labels: NDArray[np.intp]
    names: dict[int, str]
    vertices: NDArray[np.intp] | None = None

    @classmethod
    def find(cls, name: str, on: str | Bare | Surface | Volume) -> Atlas:
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
            if name not in own.names(cortex):
                raise _unknown(name, cortex)
            labels, names = own.read(name, cortex)
        else:
            facts, names = _files.read_json(folder / "atlas.json"), _names(folder, name)
            place = next((place for place in places if facts["space"] in (place, _subject(place))), None)
            if place is None:
                raise InputError(f"Atlas {name} is on {facts['space']}; the responses are on {' and '.join(places)}.")
            name = facts["name"]
            if isinstance(on, Volume) and place == on.reference:
                return cls(name, _of_volume(folder, on), names)
            labels = _of_surface(folder, name, place)
        if isinstance(on, Volume):
            return cls(name, on.on_grid(labels), names, labels)
        return cls(name, labels, names)

    def voxels(self, space: Bare | Surface | Volume, regions: Sequence[str]) -> NDArray[np.intp]:
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


def atlas_print(name: str, spaces: Iterable[Bare | Surface | Volume]) -> str:
    """Hash the files of an atlas; empty for no name.

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
    if not name:
        return ""
    folder = _folder(name)
    if folder is not None:
        files = [path for path in sorted(folder.glob("*.*")) if path.is_file()]
        return digest([_files.sha256(path) for path in files if not _files.is_incidental(path)])
    return digest([_own_print(name, space.template) for space in spaces])


def _own_print(name: str, cortex: str) -> list[str]:
    if name not in own.names(cortex):
        raise _unknown(name, cortex)
    paths = own.files(name, cortex)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"Atlas {name} of {cortex} needs {listed(missing)}, which is not there.")
    return [_files.sha256(path) for path in paths]


def _places(on: str | Bare | Surface | Volume) -> tuple[str, ...]:
    """Name what regions may be on: the template of a surface; the space of a volume, and the cortex that is in it."""
    if isinstance(on, str):
        return (on,)
    named = (on.reference, on.template) if isinstance(on, Volume) else (on.template,)
    return tuple(place for place in named if place)


def _names(folder: Path, name: str) -> dict[int, str]:
    """Read the names of labels."""
    table = _files.read_tsv(_only(folder, "*_dseg.tsv"), needs=("index", "name"))
    names = dict(zip(table["index"].astype(int), table["name"], strict=True))
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise InputError(f"Atlas {name} has several labels named {listed(twice)}; give each a name of its own.")
    return names


def _of_surface(folder: Path, name: str, template: str) -> NDArray[np.intp]:
    """Read the labels of both hemispheres, (n_vertices,)."""
    sides = [gifti.GiftiImage.from_filename(_only(folder, f"*hemi-{h}*.label.gii")).agg_data() for h in "LR"]
    n_vertices, expected = sum(map(len, sides)), sum(_surfaces.n_vertices(template))
    if n_vertices != expected:
        raise AlignmentError(f"Atlas {name} has {n_vertices} vertices; {template} has {expected}.")
    return np.concatenate(sides).astype(np.intp)


def _of_volume(folder: Path, space: Volume) -> NDArray[np.intp]:
    """Read the labels of a grid, (x * y * z,), which must be that of the voxels."""
    path = _only(folder, "*_dseg.nii*")
    labels, affine = label_image(path)
    if labels.shape != space.shape or not np.allclose(affine, space.affine, rtol=0, atol=LEAST_MM):
        raise InputError(
            f"{path} has a grid of {labels.shape}, and the mask {space.shape} or another affine: resample it, with "
            'nilearn.image.resample_to_img(atlas, mask, interpolation="nearest").'
        )
    return labels.ravel()


def _folder(name: str) -> Path | None:
    """Find an atlas that is a folder, if this is one."""
    folder = _atlas_folders().get(name, Path(name))
    return folder if (folder / "atlas.json").is_file() else None


def _unknown(name: str, cortex: str) -> InputError:
    there = not cortex or cortex in TEMPLATES or Path(cortex).is_dir()
    if not there:
        return InputError(f"Atlas {name} was looked for in {cortex}, which is not there; was the subject moved?")
    return unknown("atlas", name, [*_atlas_folders(), *own.names(cortex)])


def _subject(template: str) -> str:
    """Name the subject whose folder a template is; empty if it has a name of its own."""
    return "" if template in TEMPLATES or not template else Path(template).resolve().name


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(f"Atlas folder {folder} has {len(found)} files {pattern}; expected one.")
    return found[0]


def _atlas_folders() -> dict[str, Path]:
    """List the atlases in the wheel, or beside the checkout that is run."""
    here = Path(__file__).parents[1]
    for place in (here / "_atlases", here.parents[1] / "atlases"):
        if place.is_dir():
            return {path.parent.name: path.parent for path in place.glob("*/atlas.json")}
    return {}
