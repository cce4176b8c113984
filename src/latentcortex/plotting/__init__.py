"""Figures: maps on cortex and on cuts through volumes, profiles of regions, scores against their ceiling; a viewer.

Nothing here touches pyplot's global state; every function returns a `matplotlib.figure.Figure`.
"""

from latentcortex.plotting._canvas import FORMATS, PAGE, Style, png, save, smallest_text
from latentcortex.plotting._groups import Group
from latentcortex.plotting._legends import layer_colours, rgb_colours, share_colours
from latentcortex.plotting._light import light, require_light
from latentcortex.plotting._panels import Panel, PreferencePanel, Rois, SharePanel
from latentcortex.plotting.images import image_grid, latent_weights
from latentcortex.plotting.maps import difference_maps, flatmaps, inflated, plot_flatmap
from latentcortex.plotting.mixed import preference_maps, rgb_map, share_maps, winner_map, winners
from latentcortex.plotting.regions import region_grids, roi_profiles
from latentcortex.plotting.scores import histogram, prediction_against_ceiling, score_intervals, similarity_matrices
from latentcortex.plotting.viewer import require_viewer, webgl
from latentcortex.plotting.volumes import VolumePanel, VolumeSharePanel, glass_brain, share_slices, slices
from latentcortex.plotting.voxel import Voxel, voxel_page

__all__ = [
    "FORMATS",
    "PAGE",
    "Group",
    "Panel",
    "PreferencePanel",
    "Rois",
    "SharePanel",
    "Style",
    "VolumePanel",
    "VolumeSharePanel",
    "Voxel",
    "difference_maps",
    "flatmaps",
    "glass_brain",
    "histogram",
    "image_grid",
    "inflated",
    "latent_weights",
    "layer_colours",
    "light",
    "plot_flatmap",
    "png",
    "prediction_against_ceiling",
    "preference_maps",
    "region_grids",
    "require_light",
    "require_viewer",
    "rgb_colours",
    "rgb_map",
    "roi_profiles",
    "save",
    "score_intervals",
    "share_colours",
    "share_maps",
    "share_slices",
    "similarity_matrices",
    "slices",
    "smallest_text",
    "voxel_page",
    "webgl",
    "winner_map",
    "winners",
]
