"""Cortex as meshes and as pictures: templates and subjects, rasters, outlines."""

from __future__ import annotations

from latentcortex._surfaces.annot import parcellation, parcellation_files, parcellations
from latentcortex._surfaces.mesh import HEMISPHERES, Hemisphere, Mesh, SurfaceKind
from latentcortex._surfaces.outlines import Outline, outlines
from latentcortex._surfaces.raster import AXES, Raster, ViewDirection, flat_raster, inflated_raster, inflated_views
from latentcortex._surfaces.templates import (
    DENSITIES,
    GAP_MM,
    LONGEST_MM,
    cortex,
    curvature,
    flat_patch,
    has,
    is_pycortex,
    knows,
    layout,
    longest_allowed,
    n_vertices,
    name_of,
    on_all_vertices,
    resolved,
    sulcal_depth,
    surface,
    thickness,
)

__all__ = [
    "AXES",
    "DENSITIES",
    "GAP_MM",
    "HEMISPHERES",
    "LONGEST_MM",
    "Hemisphere",
    "Mesh",
    "Outline",
    "Raster",
    "SurfaceKind",
    "ViewDirection",
    "cortex",
    "curvature",
    "flat_patch",
    "flat_raster",
    "has",
    "inflated_raster",
    "inflated_views",
    "is_pycortex",
    "knows",
    "layout",
    "longest_allowed",
    "n_vertices",
    "name_of",
    "on_all_vertices",
    "outlines",
    "parcellation",
    "parcellation_files",
    "parcellations",
    "resolved",
    "sulcal_depth",
    "surface",
    "thickness",
]
