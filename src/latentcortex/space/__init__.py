"""Where the voxels are: in a volume, on a surface, or nowhere known; and the regions that they lie in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.space.atlas import Atlas, atlas_print
from latentcortex.space.bare import Bare
from latentcortex.space.surface import TEMPLATES, Surface
from latentcortex.space.volume import Volume

Space = Bare | Surface | Volume

__all__ = ["TEMPLATES", "Atlas", "Bare", "Space", "Surface", "Volume", "atlas_print", "kinds_on_mesh"]


def kinds_on_mesh(space: Space, kinds: NDArray[np.generic]) -> FloatArray:
    """Lay what has no mean, labels or yes and no, onto the mesh: of several voxels the most frequent.

    Parameters
    ----------
    space : Space
    kinds : ndarray of shape (n_voxels,)
        nan where undefined.

    Returns
    -------
    ndarray of shape (n_vertices,)
        nan where there is no voxel.
    """
    if isinstance(space, Volume):
        return space.labels_on_mesh(kinds)
    return space.on_mesh(np.asarray(kinds, dtype=np.float32))
