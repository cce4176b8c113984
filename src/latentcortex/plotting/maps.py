"""Maps on flattened and inflated cortex: one number per vertex.

Maps are arrays over all vertices of a template or a subject, left hemisphere first; nan means undefined or not
significant, and there the curvature shows through. One figure has one scale. A subject without a flat surface is drawn
inflated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from latentcortex import _surfaces
from latentcortex._arrays import BoolArray, FloatArray, same_length
from latentcortex._surfaces import Raster
from latentcortex.plotting import _panels
from latentcortex.plotting._canvas import PAGE, Style, house_style
from latentcortex.plotting._legends import FOOT, colour_bar, extended, grey_legend, labelled
from latentcortex.plotting._panels import (
    GREY_LINE,
    Panel,
    Rois,
    annotate,
    borders_of,
    cortex_of,
    draw,
    draw_all,
    greyed,
    greyed_somewhere,
    grid_of,
    mapped,
    note_of,
    percentiles,
    picture_of,
    scale_of,
)
from latentcortex.statistics import DIVERGING


@house_style()
def flatmaps(
    panels: Sequence[Panel],
    *,
    rois: Rois | None = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    n_columns: int | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw maps on flattened cortex, in a grid with one colour bar.

    Parameters
    ----------
    panels : sequence of Panel
    rois : Rois, optional
    cmap : str
        Name of a matplotlib colormap.
    limits : tuple of float, optional
        Ends of the colour scale; by default from 0, or the 0.5th percentile if that is less, to the 99.5th of
        all maps together. The colour bar ends in a point where values lie beyond.
    label : str
        What the colours mean, with unit.
    n_columns : int, optional
        At most two by default, or three for more than four maps; fewer where the figure is narrow.
    style : Style
        How wide the figure may be.

    Returns
    -------
    Figure
    """
    raster = picture_of(cortex_of(panels))
    how: dict[str, Any] = {"rois": rois, "cmap": cmap, "limits": limits, "label": label, "style": style}
    return _maps(panels, raster, **how, n_columns=n_columns)


@house_style()
def inflated(
    panels: Sequence[Panel],
    *,
    rois: Rois | None = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    style: Style = PAGE,
) -> Figure:
    """Draw maps on inflated cortex, one below the other; the arguments are those of `flatmaps`.

    Each map is seen eight times: left lateral, left medial, right medial, right lateral; left ventral, left
    and right posterior, right ventral.
    """
    raster = _surfaces.inflated_views(_panels.INFLATED_PIXELS, cortex_of(panels))
    how: dict[str, Any] = {"rois": rois, "cmap": cmap, "limits": limits, "label": label, "style": style}
    return _maps(panels, raster, **how, n_columns=1)


@house_style()
def difference_maps(
    panels: Sequence[Panel],
    masks: Sequence[BoolArray] | None,
    *,
    rois: Rois | None = None,
    limit: float | None = None,
    label: str = "difference of r",
    n_columns: int | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw differences between two models on one diverging scale that is symmetric about 0.

    Parameters
    ----------
    panels : sequence of Panel
        Values of the one model less those of the other.
    masks : sequence of ndarray of bool, shape (n_vertices,), or None
        Where a paired test, such as `inference.paired_difference_p`, found a difference: only there colours are
        drawn. None draws all values, and the colour bar says that they are not tested.
    rois : Rois, optional
    limit : float, optional
        Both ends of the scale; by default the 99th percentile of all magnitudes.
    label : str
    n_columns : int, optional
    style : Style
    """
    if masks is not None:
        same_length(panels=panels, masks=masks)
        panels = [
            replace(one, values=np.where(np.asarray(mask, dtype=bool), one.values, np.nan))
            for one, mask in zip(panels, masks, strict=True)
        ]
    top = limit or percentiles([np.abs(panel.values) for panel in panels], 99.0)[0] or 1.0
    words = label if masks is not None else f"{label}, not tested"
    how: dict[str, Any] = {"rois": rois, "cmap": DIVERGING, "n_columns": n_columns, "style": style}
    return flatmaps(panels, limits=(-top, top), label=words, **how)


def plot_flatmap(
    values: FloatArray | Panel,
    *,
    ax: Axes | None = None,
    rois: Rois | None = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    title: str = "",
    style: Style = PAGE,
) -> Figure:
    """Draw one map on flattened cortex, in axes of yours or in a figure of its own.

    Parameters
    ----------
    values : ndarray of shape (n_vertices,), or Panel
        Over both hemispheres of fsaverage5, left first; nan where undefined. A panel says on which other cortex, and
        has a title of its own.
    ax : Axes, optional
        Drawn into, with a colour bar below; its axis is switched off.
    rois, cmap, limits, label : optional
        As in `flatmaps`.
    title : str
    style : Style

    Returns
    -------
    Figure
        The one that `ax` lies in, or a new one that pyplot knows nothing of; it shows itself in a notebook.

    Raises
    ------
    AlignmentError
        If there is not one value per vertex.
    InputError
        If a value is infinite.
    """
    panel = values if isinstance(values, Panel) else Panel(title, np.asarray(values))
    if ax is None:
        return flatmaps([panel], rois=rois, cmap=cmap, limits=limits, label=label, style=style)
    raster = picture_of(cortex_of([panel]))
    palette = ScalarMappable(scale_of([panel.values], limits), cmap)
    draw(ax, raster, mapped(palette, raster.paint(panel.values)), panel.title, style, note_of(raster, panel.values))
    annotate(ax, borders_of(raster, rois), style, {} if rois is None else rois.names)
    figure = cast(Figure, ax.get_figure(root=True))
    place = ax.inset_axes((0.25, -0.07, 0.5, 0.035))
    bar = figure.colorbar(palette, cax=place, orientation="horizontal", extend=extended(palette, [panel.values]))
    labelled(bar, label, style)
    return figure


def _maps(
    panels: Sequence[Panel],
    raster: Raster,
    *,
    rois: Rois | None,
    cmap: str,
    limits: tuple[float, float] | None,
    label: str,
    n_columns: int | None,
    style: Style,
) -> Figure:
    values = [panel.values for panel in panels]
    palette = ScalarMappable(scale_of(values, limits), cmap)
    grey = any(greyed_somewhere(panel.unsure) for panel in panels)
    grid = grid_of(len(panels), raster, n_columns, foot=FOOT + GREY_LINE * grey, style=style, rois=rois)
    painted = [greyed(mapped(palette, raster.paint(one.values)), raster, one.unsure) for one in panels]
    drawn = zip(painted, panels, strict=True)
    draw_all(grid, raster, rois, [(colours, one.title, note_of(raster, one.values)) for colours, one in drawn])
    colour_bar(grid, palette, values, label)
    if grey:
        grey_legend(grid, FOOT)
    return grid.figure
