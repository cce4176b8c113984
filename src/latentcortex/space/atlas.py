"""Regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from nibabel.gifti import gifti
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import digest, listed
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.space import projection
from latentcortex.space.bare import Bare
from latentcortex.space.surface import Surface
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
    """

    name: str
    labels: NDArray[np.intp]
    names: dict[int, str]

    @classmethod
    def find(cls, name: str, on: str | Bare | Surface | Volume) -> Atlas:
        """Read an atlas that comes with the package, or a folder of the same layout.

        Parameters
        ----------
        name : str
            Of one that comes with the package, or path of a folder.
        on : str or Space
            The surface template, or where the responses are.

        Raises
        ------
        InputError
            If there is no such atlas, or it is not on this template, or on another grid than the voxels.
        """
        place = on if isinstance(on, str) else on.reference if isinstance(on, Volume) else on.template
        folder = _atlas_folder(name)
        facts = _files.read_json(folder / "atlas.json")
        if facts["space"] != place:
            raise InputError(f"Atlas {name} is on {facts['space']}; the responses are on {place}.")
        labels = _of_volume(folder, on) if isinstance(on, Volume) else _of_surface(folder)
        table = _files.read_tsv(_only(folder, "*_dseg.tsv"), needs=("index", "name"))
        names = dict(zip(table["index"].astype(int), table["name"], strict=True))
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        if twice:
            raise InputError(f"Atlas {name} has several labels named {listed(twice)}; give each a name of its own.")
        return cls(facts["name"], labels, names)

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


def atlas_print(name: str) -> str:
    """Hash the files of an atlas; empty for no name."""
    folder = _atlas_folder(name) if name else Path()
    return digest([_files.sha256(path) for path in sorted(folder.glob("*.*")) if path.is_file()]) if name else ""


def _of_surface(folder: Path) -> NDArray[np.intp]:
    """Read the labels of both hemispheres, (n_vertices,)."""
    sides = [gifti.GiftiImage.from_filename(_only(folder, f"*hemi-{h}*.label.gii")).agg_data() for h in "LR"]
    return np.concatenate(sides).astype(np.intp)


def _of_volume(folder: Path, space: Volume) -> NDArray[np.intp]:
    """Read the labels of a grid, (x * y * z,), which must be that of the voxels."""
    path = _only(folder, "*_dseg.nii*")
    labels, affine = projection.label_image(path)
    if labels.shape != space.shape or not np.allclose(affine, space.affine, rtol=0, atol=LEAST_MM):
        raise InputError(
            f"{path} has a grid of {labels.shape}, and the mask {space.shape} or another affine: resample it, with "
            'nilearn.image.resample_to_img(atlas, mask, interpolation="nearest").'
        )
    return labels.ravel()


def _atlas_folder(name: str) -> Path:
    known = _atlas_folders()
    folder = known.get(name, Path(name))
    if not (folder / "atlas.json").is_file():
        raise unknown("atlas", name, known)
    return folder


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
