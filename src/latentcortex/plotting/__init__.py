"""Figures: maps on flattened and inflated cortex, profiles of regions, scores against their ceiling; and a viewer.

Nothing here touches pyplot's global state; every function returns a `matplotlib.figure.Figure`.
"""

from latentcortex.plotting._canvas import save
from latentcortex.plotting._legends import layer_colours, share_colours
from latentcortex.plotting.images import image_grid, latent_weights
from latentcortex.plotting.maps import (
    Panel,
    PreferencePanel,
    Rois,
    SharePanel,
    flatmaps,
    inflated,
    preference_maps,
    share_maps,
)
from latentcortex.plotting.scores import histogram, prediction_against_ceiling, roi_profiles, score_intervals
from latentcortex.plotting.viewer import Group, require_viewer, webgl

__all__ = [
    "Group",
    "Panel",
    "PreferencePanel",
    "Rois",
    "SharePanel",
    "flatmaps",
    "histogram",
    "image_grid",
    "inflated",
    "latent_weights",
    "layer_colours",
    "prediction_against_ceiling",
    "preference_maps",
    "require_viewer",
    "roi_profiles",
    "save",
    "score_intervals",
    "share_colours",
    "share_maps",
    "webgl",
]
