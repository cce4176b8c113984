"""Columns of numbers over voxels, each saying what it is; written as BIDS derivatives."""

from latentcortex.maps.maps import Maps
from latentcortex.maps.naming import KEYS, TEST_SET, is_of_study, label, short, stem_of

__all__ = ["KEYS", "TEST_SET", "Maps", "is_of_study", "label", "short", "stem_of"]
