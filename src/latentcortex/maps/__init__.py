"""Columns of numbers over voxels, each saying what it is; written as BIDS derivatives."""

from latentcortex.maps.maps import Maps
from latentcortex.maps.naming import KEYS, label, short, stem_of

__all__ = ["KEYS", "Maps", "label", "short", "stem_of"]
