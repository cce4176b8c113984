"""The front of figures of maps: any painting on any canvas."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray
from latentcortex.plotting._canvas import PAGE, Style, house_style
from latentcortex.plotting._legends import extended, labelled
from latentcortex.plotting.cortex import Flat, annotate, borders_of, draw_map, flat_picture
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.paintings import Scores
from latentcortex.plotting.panel import Panel, cortex_of
from latentcortex.space import Atlas


class Canvas(Protocol):
    """What maps are drawn on: `Flat`, `Inflated`, `Slices` or `Glass`."""

    def draw(self, painting: Painting, style: Style = PAGE) -> Figure:
        """Lay out the maps of a painting, draw each, and its legend."""

    def caption(self, painting: Painting) -> str:
        """Say in whole sentences what a reader must know of the canvas; empty if that is nothing."""


def draw(painting: Painting, canvas: Canvas | None = None, *, style: Style = PAGE) -> Figure:
    """Draw maps on cortex, on slices through a volume, or as seen through the brain.

    Parameters
    ----------
    painting : Painting
        The maps, and what their values look like: `Scores`, `Differences`, `Shares`, `Preference`, `Winner` or
        `RedGreenBlue`.
    canvas : Canvas, optional
        What they are drawn on: `Flat` (by default), `Inflated`, `Slices` or `Glass`. Voxels of a volume are laid onto
        the cortex of their space: a vertex has the mean of those that it meets, or their most frequent category.
    style : Style
        How wide the figure may be, and how large its letters are.

    Returns
    -------
    Figure
        One that pyplot knows nothing of; it shows itself in a notebook.

    Raises
    ------
    InputError
        If there is no map, the canvas cannot show where its voxels are, or maps or regions are on another cortex or
        in another space than the first.

    Examples
    --------
    >>> import numpy as np
    >>> from latentcortex import plotting
    >>> scores = plotting.Panel("z", np.linspace(0, 0.5, 20484))
    >>> figure = plotting.draw(plotting.Scores([scores], label="prediction accuracy r"), plotting.Inflated())
    >>> [ax.get_title() for ax in figure.axes]
    ['z', '']
    """
    return (canvas or Flat()).draw(painting, style)


@house_style()
def plot_flatmap(
    values: FloatArray | Panel,
    *,
    ax: Axes | None = None,
    atlas: Atlas | None = None,
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
        Over both hemispheres of fsaverage5, left first; nan where undefined. A panel says where else its voxels are,
        and has a title of its own.
    ax : Axes, optional
        Drawn into, with a colour bar below; its axis is switched off.
    atlas : Atlas, optional
        Whose regions are outlined and named.
    cmap, limits, label : optional
        As of `Scores`.
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
    painting = Scores([panel], cmap, limits, label)
    if ax is None:
        return draw(painting, Flat(atlas), style=style)
    raster = flat_picture(cortex_of([panel]))
    regions = None if atlas is None else atlas.on_cortex(panel.space)
    draw_map(ax, raster, painting, panel, style)
    annotate(ax, borders_of(raster, regions), style, {} if regions is None else regions.names)
    figure = cast(Figure, ax.get_figure(root=True))
    place = ax.inset_axes((0.25, -0.07, 0.5, 0.035))
    extend = extended(painting.palette, [panel.bands])
    labelled(figure.colorbar(painting.palette, cax=place, orientation="horizontal", extend=extend), label, style)
    return figure
