"""Regions of interest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.gifti import gifti
from numpy.typing import NDArray

from latentcortex import _files, _surfaces
from latentcortex._arrays import digest, listed
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import own
from latentcortex.space.bare import Bare
from latentcortex.space.surface import TEMPLATES, Surface


@dataclass(frozen=True, eq=False)
class Atlas:
    """Regions of interest on a template.

    Parameters
    ----------
    name : str
    labels : ndarray of int, shape (n_vertices,)
        The region of each vertex, left then right hemisphere; 0 is none.
    names : dict
        Label -> name.
    """

    name: str
    labels: NDArray[np.intp]
    names: dict[int, str]

    @classmethod
    def find(cls, name: str, on: str | Bare | Surface) -> Atlas:
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
            If there is no such atlas, or it is not on this template.
        AlignmentError
            If it has another number of vertices.
        MissingExtraError
            If regions were drawn, and the library that reads drawings is not installed.
        """
        template = on if isinstance(on, str) else on.template
        if _folder(name) is None and name in own.names(template):
            return cls(name, *own.read(name, template))
        folder = _atlas_folder(name, template)
        facts = _files.read_json(folder / "atlas.json")
        if facts["space"] not in (template, _subject(template)):
            raise InputError(f"Atlas {name} is on {facts['space']}; the responses are on {template}.")
        sides = [gifti.GiftiImage.from_filename(_only(folder, f"*hemi-{h}*.label.gii")).agg_data() for h in "LR"]
        table = _files.read_tsv(_only(folder, "*_dseg.tsv"), needs=("index", "name"))
        n_vertices = sum(map(len, sides))
        if n_vertices != sum(_surfaces.n_vertices(template)):
            expected = sum(_surfaces.n_vertices(template))
            raise AlignmentError(f"Atlas {name} has {n_vertices} vertices; {template} has {expected}.")
        names = dict(zip(table["index"].astype(int), table["name"], strict=True))
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        if twice:
            raise InputError(f"Atlas {name} has several labels named {listed(twice)}; give each a name of its own.")
        return cls(facts["name"], np.concatenate(sides).astype(np.intp), names)

    def voxels(self, space: Bare | Surface, regions: Sequence[str]) -> NDArray[np.intp]:
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


def atlas_print(name: str, spaces: Iterable[Bare | Surface]) -> str:
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
        return digest([_files.sha256(path) for path in sorted(folder.glob("*.*")) if path.is_file()])
    return digest([_own_print(name, space.template) for space in spaces])


def _own_print(name: str, template: str) -> list[str]:
    if name not in own.names(template):
        raise _unknown(name, template)
    paths = own.files(name, template)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"Atlas {name} of {template} needs {listed(missing)}, which is not there.")
    return [_files.sha256(path) for path in paths]


def _folder(name: str) -> Path | None:
    """Find an atlas that is a folder, if this is one."""
    folder = _atlas_folders().get(name, Path(name))
    return folder if (folder / "atlas.json").is_file() else None


def _atlas_folder(name: str, template: str) -> Path:
    folder = _folder(name)
    if folder is None:
        raise _unknown(name, template)
    return folder


def _unknown(name: str, template: str) -> InputError:
    return unknown("atlas", name, [*_atlas_folders(), *own.names(template)])


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
