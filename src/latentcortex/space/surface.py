"""Voxels that are vertices of cortex."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray
from latentcortex.errors import AlignmentError
from latentcortex.space.projection import is_average

TEMPLATES: Final = tuple(_surfaces.DENSITIES)
"""Templates that have a name."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Voxels that are vertices of two hemispheres.

    Parameters
    ----------
    template : str
        `fsaverage5`, which is always there; `fsaverage`, `fsaverage6`, `fsaverage4` or `fsaverage3`, whose surfaces
        are looked for where nilearn and FreeSurfer keep them; or the path of a subject's folder, FreeSurfer's or
        pycortex's.
    vertices : ndarray of int, shape (n_voxels,), optional
        Which vertices, counted through the left and then the right hemisphere, ascending. All by default.

    Raises
    ------
    InputError
        If the template is not known, or the folder holds no surfaces.
    AlignmentError
        If the vertices are not ascending or not on the mesh.
    """

    template: str
    vertices: NDArray[np.intp] = field(default_factory=lambda: np.arange(0, dtype=np.intp))

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        if len(self.vertices) == 0:
            object.__setattr__(self, "vertices", np.arange(self.n_vertices, dtype=np.intp))
        if np.any(np.diff(self.vertices) <= 0) or self.vertices[0] < 0 or self.vertices[-1] >= self.n_vertices:
            raise AlignmentError(f"Vertices must ascend within 0..{self.n_vertices - 1} of {self.template}.")

    def __repr__(self) -> str:
        """Say what it is, in one line."""
        return f"Surface({self.n_voxels} of the {self.n_vertices} vertices of {self.template})"

    @property
    def n_voxels(self) -> int:
        """Number of vertices that are voxels here."""
        return len(self.vertices)

    @property
    def n_vertices(self) -> int:
        """Number of vertices of both hemispheres."""
        return sum(_surfaces.n_vertices(self.template))

    @property
    def canvases(self) -> tuple[str, ...]:
        """Name the canvases of `plotting` that they can be drawn on."""
        return ("flat", "inflated") if _surfaces.has("flat", self.template) else ("inflated",)

    @property
    def volume(self) -> None:
        """The volume whose voxels they are: none, they are vertices."""
        return

    @property
    def description(self) -> dict[str, object]:
        """What a sidecar says of it."""
        left, right = _surfaces.n_vertices(self.template)
        each = (
            f"{left} vertices per hemisphere" if left == right else f"{left} vertices on the left, {right} on the right"
        )
        return {"SpatialReference": self.template, "n_voxels": self.n_voxels, "Density": each}

    @property
    def entities(self) -> str:
        """What the names of files say of it."""
        label = "".join(letter for letter in _surfaces.name_of(self.template) if letter.isascii() and letter.isalnum())
        n_density = _surfaces.DENSITIES.get(self.template)
        label = label or "native"
        return f"space-{label}_den-{n_density[1]}" if n_density else f"space-{label}"

    def methods(self) -> str:
        """Write where the voxels are for a methods section."""
        sizes = " and ".join(f"{n:,}" for n in _surfaces.n_vertices(self.template))
        average = is_average(self.template)
        of = Path(self.template).name if average else "the participant's own cortical surface"
        return f"Voxels are vertices of {of} ({sizes} on the left and right)."

    def select_voxels(self, voxels: NDArray[np.intp]) -> Surface:
        """Take some voxels, by number, ascending; at least one."""
        if len(voxels) == 0:
            raise AlignmentError(f"No voxel of {self.template} is left.")
        return Surface(self.template, self.vertices[voxels])

    def one_per_voxel(self, values: NDArray[np.generic]) -> None:
        """Raise `AlignmentError` unless values are (n_voxels,); one hemisphere's say how to become both's."""
        if values.shape == (self.n_voxels,):
            return
        if self.n_voxels == self.n_vertices and len(values) in _surfaces.n_vertices(self.template):
            _surfaces.on_all_vertices(values, self.template)
        raise AlignmentError(
            f"Got {len(values)} values for {self.n_voxels} voxels of {self.template}, "
            f"which has {self.n_vertices} vertices."
        )

    def on_mesh(self, values: FloatArray) -> FloatArray:
        """Lay values (n_voxels,) onto all vertices (n_vertices,); nan where there is no voxel."""
        self.one_per_voxel(values)
        full = np.full(self.n_vertices, np.nan, dtype=np.float32)
        full[self.vertices] = values
        return full

    def labels_on_mesh(self, labels: NDArray[np.generic]) -> FloatArray:
        """Lay labels (n_voxels,), or other kinds, onto all vertices, as `on_mesh` does."""
        return self.on_mesh(np.asarray(labels, dtype=np.float32))

    def hemispheres(self, values: FloatArray) -> dict[str, FloatArray]:
        """Lay values (n_voxels,) onto the two hemispheres, `L` and `R`."""
        full, n_left = self.on_mesh(values), _surfaces.n_vertices(self.template)[0]
        return {"L": full[:n_left], "R": full[n_left:]}

    def take(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Take the voxels' values out of an array over all vertices."""
        if len(values) != self.n_vertices:
            raise AlignmentError(f"Got {len(values)} vertices; {self.template} has {self.n_vertices}.")
        return values[self.vertices]

    @property
    def rows(self) -> pd.Index[Any]:
        """Hemisphere (L, R) of each voxel, and its vertex, counted from 0 in each: the rows of a table."""
        n_left = _surfaces.n_vertices(self.template)[0]
        right = self.vertices >= n_left
        places = [np.where(right, "R", "L"), np.where(right, self.vertices - n_left, self.vertices)]
        return pd.MultiIndex.from_arrays(places, names=["hemisphere", "vertex"])

    def where(self, voxel: int) -> str:
        """Say where a voxel is, to follow its number."""
        n_left, vertex = _surfaces.n_vertices(self.template)[0], int(self.vertices[voxel])
        side, number = ("left", vertex) if vertex < n_left else ("right", vertex - n_left)
        return f": vertex {number} of the {side} hemisphere"

    def places(self) -> FloatArray:
        """Return where each voxel is on the sphere, or inflated where there is none, in mm, (n_voxels, 3).

        Hemispheres are a metre apart, so that none of their voxels are near each other.
        """
        kind: _surfaces.SurfaceKind = "sphere" if _surfaces.has("sphere", self.template) else "inflated"
        meshes = _surfaces.surface(kind, self.template)
        coordinates = [mesh.coordinates + 1000.0 * i * np.eye(3)[0] for i, mesh in enumerate(meshes)]
        return np.asarray(np.concatenate(coordinates)[self.vertices])
