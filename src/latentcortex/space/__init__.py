"""Where the voxels are: in a volume, on a surface, or nowhere known; and the regions that they lie in."""

from __future__ import annotations

from latentcortex.space.atlas import Atlas, atlas_print
from latentcortex.space.bare import Bare
from latentcortex.space.surface import TEMPLATES, Surface
from latentcortex.space.volume import Volume

Space = Bare | Surface | Volume

__all__ = ["TEMPLATES", "Atlas", "Bare", "Space", "Surface", "Volume", "atlas_print"]
