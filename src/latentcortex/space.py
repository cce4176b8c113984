"""Where the voxels are: on a surface, or nowhere known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from nibabel.gifti import gifti
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from latentcortex import _files, _surfaces
from latentcortex._arrays import FloatArray, digest, listed
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError

TEMPLATES: Final = {"fsaverage5": (10242, 10242)}
"""Vertices of the left and right hemisphere of the templates that are known."""
N_BLOCKS: Final = 162
"""Patches of a hemisphere over which maps are resampled: the vertices of an icosahedron that was split twice."""


@dataclass(frozen=True)
class Bare:
    """Voxels without a known position.

    Parameters
    ----------
    n_voxels : int
    """

    n_voxels: int

    def only(self, voxels: NDArray[np.intp]) -> Bare:
        """Take some voxels."""
        return Bare(len(voxels))

    @property
    def description(self) -> dict[str, object]:
        """What a sidecar says of it."""
        return {"SpatialReference": "unknown", "n_voxels": self.n_voxels}


@dataclass(frozen=True, eq=False)
class Surface:
    """Voxels that are vertices of a template's two hemispheres.

    Parameters
    ----------
    template : str
        For example `fsaverage5`.
    vertices : ndarray of int, shape (n_voxels,), optional
        Which vertices, counted through the left and then the right hemisphere, ascending. All by default.

    Raises
    ------
    InputError
        If the template is not known.
    AlignmentError
        If the vertices are not ascending or not on the mesh.
    """

    template: str
    vertices: NDArray[np.intp] = field(default_factory=lambda: np.arange(0, dtype=np.intp))

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InputError(f"Unknown surface template {self.template!r}. Known: {', '.join(TEMPLATES)}.")
        if len(self.vertices) == 0:
            object.__setattr__(self, "vertices", np.arange(self.n_vertices, dtype=np.intp))
        if np.any(np.diff(self.vertices) <= 0) or self.vertices[0] < 0 or self.vertices[-1] >= self.n_vertices:
            raise AlignmentError(f"Vertices must ascend within 0..{self.n_vertices - 1} of {self.template}.")

    @property
    def n_voxels(self) -> int:
        """Number of vertices that are voxels here."""
        return len(self.vertices)

    @property
    def n_vertices(self) -> int:
        """Number of vertices of both hemispheres."""
        return sum(TEMPLATES[self.template])

    @property
    def description(self) -> dict[str, object]:
        """What a sidecar says of it."""
        return {
            "SpatialReference": self.template,
            "n_voxels": self.n_voxels,
            "Density": "10242 vertices per hemisphere",
        }

    def only(self, voxels: NDArray[np.intp]) -> Surface:
        """Take some voxels, by number, ascending."""
        return Surface(self.template, self.vertices[voxels])

    def on_mesh(self, values: FloatArray) -> FloatArray:
        """Lay values (n_voxels,) onto all vertices (n_vertices,); nan where there is no voxel."""
        if len(values) != self.n_voxels:
            raise AlignmentError(f"Got {len(values)} values for {self.n_voxels} voxels of {self.template}.")
        full = np.full(self.n_vertices, np.nan, dtype=np.float32)
        full[self.vertices] = values
        return full

    def hemispheres(self, values: FloatArray) -> dict[str, FloatArray]:
        """Lay values (n_voxels,) onto the two hemispheres, `L` and `R`."""
        full, n_left = self.on_mesh(values), TEMPLATES[self.template][0]
        return {"L": full[:n_left], "R": full[n_left:]}

    def from_mesh(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Take the voxels' values out of an array over all vertices."""
        if len(values) != self.n_vertices:
            raise AlignmentError(f"Got {len(values)} vertices; {self.template} has {self.n_vertices}.")
        return values[self.vertices]

    def blocks(self) -> NDArray[np.intp]:
        """Tell which patch of cortex each voxel lies in, a number for each, (n_voxels,).

        There are 162 in each hemisphere, all of nearly the same size: each vertex belongs to the nearest of the first
        162 vertices of the template's sphere, which are those of its coarser icosahedron. On the sphere of
        FreeSurfer, of a radius of 100 mm, neighbouring centres are some 30 mm apart.
        """
        found, first = [], 0
        for mesh in _surfaces.surface("sphere", self.template):
            points = mesh.coordinates
            _, nearest = cKDTree(points[:N_BLOCKS]).query(points)
            found.append(nearest + first)
            first += N_BLOCKS
        return np.asarray(np.concatenate(found)[self.vertices], dtype=np.intp)


Space = Bare | Surface


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
    def find(cls, name: str, template: str) -> Atlas:
        """Read an atlas that comes with the package, or a folder of the same layout.

        Raises
        ------
        InputError
            If there is no such atlas, or it is not on this template.
        """
        folder = _atlas_folder(name)
        facts = _files.read_json(folder / "atlas.json")
        if facts["space"] != template:
            raise InputError(f"Atlas {name} is on {facts['space']}; the responses are on {template}.")
        sides = [gifti.GiftiImage.from_filename(_only(folder, f"*hemi-{h}*.label.gii")).agg_data() for h in "LR"]
        table = _files.read_tsv(_only(folder, "*_dseg.tsv"), needs=("index", "name"))
        names = dict(zip(table["index"].astype(int), table["name"], strict=True))
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        if twice:
            raise InputError(f"Atlas {name} has several labels named {listed(twice)}; give each a name of its own.")
        return cls(facts["name"], np.concatenate(sides).astype(np.intp), names)

    def voxels(self, space: Surface, regions: Sequence[str]) -> NDArray[np.intp]:
        """Find the voxels that lie in any of these regions, ascending.

        Raises
        ------
        InputError
            If there is no such region, or no voxel in one.
        """
        labels = {name: label for label, name in self.names.items()}
        of_voxel = space.from_mesh(self.labels)
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
    here = Path(__file__).parent
    for place in (here / "_atlases", here.parents[1] / "atlases"):
        if place.is_dir():
            return {path.parent.name: path.parent for path in place.glob("*/atlas.json")}
    return {}
