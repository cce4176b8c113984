"""Where the voxels are: on a surface, or nowhere known; and the regions that they lie in."""

from __future__ import annotations

from latentcortex.space.atlas import Atlas, atlas_print
from latentcortex.space.bare import Bare
from latentcortex.space.surface import TEMPLATES, Surface

Space = Bare | Surface

__all__ = ["TEMPLATES", "Atlas", "Bare", "Space", "Surface", "atlas_print"]
