"""A glass brain as a canvas: the voxels of a volume in MNI152 as seen through the brain; nilearn draws the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import nibabel as nib
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import PAGE, Style, axes_in_inches, house_style
from latentcortex.plotting.cortex import EDGE
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.panel import Panel, volumes_of
from latentcortex.plotting.slices import Rows, Voxels, draw_sides, draw_title, note_of
from latentcortex.space import Volume

VIEWS: Final[dict[str, tuple[str, str] | str]] = {"l": "left", "y": ("L", "R"), "r": "right", "z": ("L", "R")}
"""Views from the left, behind, the right and above, and what stands on them or in their upper corners."""
LINE_WIDTH: Final = 0.7
"""Width of the brain's lines, relative to those that nilearn draws."""
MAX_WIDTH: Final = 9.0
"""Inches of the layout beyond which the views show no more."""
HEIGHT: Final = 0.27
"""Height of the four views, relative to their width."""


@dataclass(frozen=True, eq=False)
class Glass:
    """The brain of MNI152 as seen through from the left, behind, the right and above; one map below the other.

    Of several voxels behind each other one is seen: that with the value furthest from 0, the largest share, the
    surest preference, or the highest score; of equal ones that which is first in the mask. From the left and the
    right only that hemisphere is seen. Colours that are not opaque are laid over white, and grey is seen only where
    nothing else is. nilearn draws the brain.
    """

    @house_style()
    def draw(self, painting: Painting, style: Style = PAGE) -> Figure:
        """Draw a painting; see `plotting.draw`.

        Raises
        ------
        InputError
            If a volume is in another reference.
        """
        volumes = volumes_of(painting.panels)
        for panel in painting.panels:
            if "glass" not in panel.space.canvases:
                raise InputError(
                    f"A glass brain is that of MNI152; {panel.title} is in {volumes[0].reference}: use plotting.Slices."
                )
        wide = min(style.room - 2 * EDGE, MAX_WIDTH)
        rows = Rows.build(len(volumes), wide, wide * HEIGHT, painting, style)
        for panel, volume, place in zip(painting.panels, volumes, rows.places, strict=True):
            ax, colours = axes_in_inches(rows.figure, style, place), painting.paint(panel, Voxels())
            draw_title(ax, panel.title, note_of(colours), style)
            _draw_brain(ax, volume, colours, _ranks(painting, panel, colours), style)
        replace(rows, legend=replace(rows.legend, paper=1.0)).draw_legend(painting)
        return rows.figure

    def caption(self, painting: Painting) -> str:
        """Say in whole sentences what a reader must know of the canvas."""
        return (
            "Seen through the brain from the left, behind, the right and above: of all voxels along a line of sight "
            f"{painting.foremost} is drawn; from the left and the right only that hemisphere is seen."
        )


def _ranks(painting: Painting, panel: Panel, colours: FloatArray) -> FloatArray:
    """Rank the voxels from the one that all others hide, 1, to the one that hides all, (n_voxels,); nan: no colour."""
    prominence = np.nan_to_num(painting.prominence(panel), nan=-np.inf)
    if panel.unsure is not None:
        prominence[panel.unsure == 1] = -np.inf
    n_voxels = len(prominence)
    backwards = np.argsort(prominence[::-1], kind="stable")  # of equal ones the first in the mask comes last
    ranks = np.empty(n_voxels)
    ranks[n_voxels - 1 - backwards] = np.arange(1, n_voxels + 1)
    return np.where(colours[:, 3] > 0, ranks, np.nan)


def _draw_brain(ax: Axes, volume: Volume, colours: FloatArray, ranks: FloatArray, style: Style) -> None:
    """Draw one map into the brain that nilearn draws into axes of ours.

    nilearn shows the largest number along each line of sight. So it is given ranks, and the colours in their order.
    """
    with rc_context():  # importing nilearn's plots sets the backend
        from nilearn import plotting as nilearn_plotting

    view = nilearn_plotting.plot_glass_brain(
        None, display_mode="".join(VIEWS), figure=ax.figure, axes=ax, colorbar=False, annotate=False, plot_abs=False
    )
    for name, view_axes in view.axes.items():
        for line in view_axes.ax.patches:
            line.set_linewidth(LINE_WIDTH * style.scale * line.get_linewidth())
        draw_sides(view_axes.ax, VIEWS[name], style)
    is_coloured = np.isfinite(ranks)
    if not is_coloured.any():
        return
    opacity = colours[:, 3:]
    on_white = opacity * colours[:, :3] + (1.0 - opacity)
    n_voxels = len(ranks)
    in_order = np.ones((n_voxels + 1, 3))
    in_order[ranks[is_coloured].astype(np.intp)] = on_white[is_coloured]
    view.add_overlay(
        _image_of(volume, np.nan_to_num(ranks)),
        threshold=None,
        colorbar=False,
        transparency=_image_of(volume, is_coloured.astype(np.float32)),  # nilearn takes nan for 0
        transparency_range=[0.0, 1.0],
        resampling_interpolation="nearest",
        cmap=ListedColormap(in_order),
        vmin=-0.5,
        vmax=n_voxels + 0.5,
    )


def _image_of(volume: Volume, values: FloatArray) -> nib.Nifti1Image:
    """Make an image of no more than holds the voxels, 0 outside; nilearn makes room for all of it.

    There is an empty voxel on every side: nilearn refuses opacities that are the same everywhere.
    """
    low, high = volume.indices.min(axis=0) - 1, volume.indices.max(axis=0) + 1
    grid = np.zeros(high - low + 1, dtype=np.float32)
    grid[tuple((volume.indices - low).T)] = values
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ low
    return nib.Nifti1Image(grid, affine)
