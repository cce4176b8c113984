"""Where the voxels are: in a volume, on a surface, or nowhere known; and the regions that they lie in."""

from __future__ import annotations

from latentcortex.space.atlas import LISTED_REGIONS, Atlas, atlas_digest
from latentcortex.space.surface import TEMPLATES, Surface
from latentcortex.space.unlocated import Unlocated
from latentcortex.space.volume import Volume

Space = Unlocated | Surface | Volume

__all__ = ["LISTED_REGIONS", "TEMPLATES", "Atlas", "Space", "Surface", "Unlocated", "Volume", "atlas_digest"]
