"""Voxels that are vertices of cortex."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray
from latentcortex.errors import AlignmentError, InputError

TEMPLATES: Final = {"fsaverage5": (10242, 10242)}
"""Vertices of the left and right hemisphere of the templates that are known."""
N_BLOCKS: Final = 162
"""Patches of a hemisphere over which maps are resampled: the vertices of an icosahedron that was split twice."""


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

    @property
    def entities(self) -> str:
        """What the names of files say of it."""
        return f"space-{'fsaverage' if self.template.startswith('fsaverage') else self.template}_den-10k"

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

    def take(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Take the voxels' values out of an array over all vertices."""
        if len(values) != self.n_vertices:
            raise AlignmentError(f"Got {len(values)} vertices; {self.template} has {self.n_vertices}.")
        return values[self.vertices]

    def where(self, voxel: int) -> str:
        """Say where a voxel is, to follow its number."""
        n_left, vertex = TEMPLATES[self.template][0], int(self.vertices[voxel])
        side, own = ("left", vertex) if vertex < n_left else ("right", vertex - n_left)
        return f": vertex {own} of the {side} hemisphere"

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
