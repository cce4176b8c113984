"""Figures: maps on cortex and in volumes, profiles of regions, scores against their ceiling; and two viewers.

A figure of maps is a painting on a canvas. A `Panel` holds the values of voxels and where these are; a painting says
what the values of panels look like: `Scores`, `Differences`, `Shares`, `Preference`, `Winner` or `RedGreenBlue`; a
canvas lays them out: `Flat`, `Inflated`, `Slices` or `Glass`. `draw` puts any painting on any canvas.

Nothing here touches pyplot's global state; every function returns a `matplotlib.figure.Figure`.
"""

from latentcortex.plotting._canvas import FORMATS, PAGE, Style, png, save, smallest_text
from latentcortex.plotting._legends import layer_colours, rgb_colours, share_colours
from latentcortex.plotting._plotly_viewer import light, require_light
from latentcortex.plotting._pycortex_viewer import require_viewer, webgl
from latentcortex.plotting.agreement import estimator_agreement
from latentcortex.plotting.cortex import Flat, Inflated
from latentcortex.plotting.front import Canvas, draw, plot_flatmap
from latentcortex.plotting.glass import Glass
from latentcortex.plotting.images import image_grid, latent_weights
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.paintings import (
    Differences,
    Preference,
    RedGreenBlue,
    Scores,
    Shares,
    Winner,
    winners,
)
from latentcortex.plotting.panel import Panel
from latentcortex.plotting.regions import region_grids, roi_profiles
from latentcortex.plotting.scores import histogram, prediction_against_ceiling, score_intervals, similarity_matrices
from latentcortex.plotting.slices import Slices
from latentcortex.plotting.voxel import Voxel, voxel_page

__all__ = [
    "FORMATS",
    "PAGE",
    "Canvas",
    "Differences",
    "Flat",
    "Glass",
    "Inflated",
    "Painting",
    "Panel",
    "Preference",
    "RedGreenBlue",
    "Scores",
    "Shares",
    "Slices",
    "Style",
    "Voxel",
    "Winner",
    "draw",
    "estimator_agreement",
    "histogram",
    "image_grid",
    "latent_weights",
    "layer_colours",
    "light",
    "plot_flatmap",
    "png",
    "prediction_against_ceiling",
    "region_grids",
    "require_light",
    "require_viewer",
    "rgb_colours",
    "roi_profiles",
    "save",
    "score_intervals",
    "share_colours",
    "similarity_matrices",
    "smallest_text",
    "voxel_page",
    "webgl",
    "winners",
]
