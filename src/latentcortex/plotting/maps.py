"""Maps on flattened and inflated cortex.

Maps are arrays over all vertices of fsaverage5, left hemisphere first; nan means undefined or not
significant, and there the curvature shows through. One figure has one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._surfaces import N_VERTICES, Outline, Raster, on_all_vertices
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, LARGE, NAME, axes_in_inches, empty_figure
from latentcortex.plotting._legends import (
    FOOT,
    GREY,
    Grid,
    colour_bar,
    grey_legend,
    layer_colours,
    layer_legend,
    share_colours,
    share_legend,
)

EDGE: Final = 0.15
TITLE: Final = 0.38
"""Of a figure's margins, in inches."""

FLAT_PIXELS: Final = 640
INFLATED_PIXELS: Final = 320
"""Of height: enough that a printed pixel is smaller than a triangle."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a figure.

    Parameters
    ----------
    title : str
    values : ndarray of shape (n_vertices,)
        nan where undefined or not significant.
    unsure : ndarray of shape (n_vertices,), optional
        1 where the map is drawn grey, since it cannot be told; nan elsewhere.
    """

    title: str
    values: FloatArray
    unsure: FloatArray | None = None

    def __post_init__(self) -> None:
        on_all_vertices(self.values)


@dataclass(frozen=True, eq=False)
class SharePanel:
    """One map of two shares of explained variance.

    Parameters
    ----------
    title : str
    first, second : ndarray of shape (n_vertices,)
        Share of each of the two bands; nan where undefined or not significant.
    unsure : ndarray of shape (n_vertices,), optional
        1 where the map is drawn grey, since the shares cannot be told apart; nan elsewhere.
    """

    title: str
    first: FloatArray
    second: FloatArray
    unsure: FloatArray | None = None

    def __post_init__(self) -> None:
        on_all_vertices(self.first)
        on_all_vertices(self.second)


@dataclass(frozen=True, eq=False)
class PreferencePanel:
    """One map of preferred layers.

    Parameters
    ----------
    title : str
    preferred : ndarray of shape (n_vertices,)
        Number of the layer, from 0; nan where undefined or not significant.
    confidence : ndarray of shape (n_vertices,), optional
        0..1, drawn as opacity; nan counts as 0. Opaque everywhere by default.
    unsure : ndarray of shape (n_vertices,), optional
        1 where the map is drawn grey, since the layers cannot be told apart; nan elsewhere.
    """

    title: str
    preferred: FloatArray
    confidence: FloatArray | None = None
    unsure: FloatArray | None = None

    def __post_init__(self) -> None:
        on_all_vertices(self.preferred)
        if self.confidence is not None:
            on_all_vertices(self.confidence)


@dataclass(frozen=True, eq=False)
class Rois:
    """Regions whose outlines and names are drawn.

    Parameters
    ----------
    labels : ndarray of int, shape (n_vertices,)
        Region of each vertex; 0 is none.
    names : dict
        Label -> name; a region without a name gets an outline only.
    """

    labels: IntArray
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        on_all_vertices(self.labels)


def flatmaps(
    panels: Sequence[Panel],
    *,
    rois: Rois | None = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    n_columns: int | None = None,
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
        At most two by default, or three for more than four maps.

    Returns
    -------
    Figure
    """
    raster = _surfaces.flat_raster(FLAT_PIXELS)
    return _maps(panels, raster, rois=rois, cmap=cmap, limits=limits, label=label, n_columns=n_columns)


def inflated(
    panels: Sequence[Panel],
    *,
    rois: Rois | None = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
) -> Figure:
    """Draw maps on inflated cortex, one below the other; the arguments are those of `flatmaps`.

    Each map is seen eight times: left lateral, left medial, right medial, right lateral; left ventral, left
    and right posterior, right ventral.
    """
    raster = _surfaces.inflated_views(INFLATED_PIXELS)
    return _maps(panels, raster, rois=rois, cmap=cmap, limits=limits, label=label, n_columns=1)


def share_maps(
    panels: Sequence[SharePanel],
    *,
    names: tuple[str, str] = ("z", "z_c"),
    rois: Rois | None = None,
    limit: float | None = None,
    label: str = "share of variance",
    n_columns: int | None = None,
) -> Figure:
    """Draw two shares of variance per vertex: the hue tells which band, the brightness how much.

    Parameters
    ----------
    panels : sequence of SharePanel
    names : tuple of str
        Of the first and the second band.
    rois : Rois, optional
    limit : float, optional
        Share that is drawn brightest; by default the 99th percentile of all shares. Shares below 0 are drawn
        as 0.
    label : str
        What is shared.
    n_columns : int, optional

    Returns
    -------
    Figure
        With a square legend: the first band from left to right, the second upwards.
    """
    raster = _surfaces.flat_raster(FLAT_PIXELS)
    top = limit or brightest(panels)
    grid = _grid(len(panels), raster, n_columns, foot=2.25)
    borders = _borders(raster, rois)
    for panel, ax in zip(panels, grid.axes, strict=True):
        colours = share_colours(raster.paint(panel.first), raster.paint(panel.second), limit=top)
        _draw(ax, raster, _greyed(colours, raster, panel.unsure), panel.title)
        _annotate(ax, borders, rois, named=ax is grid.axes[0])
    share_legend(grid, names, top, label)
    if any(_greyed_somewhere(panel.unsure) for panel in panels):
        grey_legend(grid, 0.85)
    return grid.figure


def preference_maps(
    panels: Sequence[PreferencePanel],
    layers: Sequence[str],
    *,
    rois: Rois | None = None,
    label: str = "preferred layer",
    n_columns: int | None = None,
) -> Figure:
    """Draw the preferred layer of each vertex; opacity tells how sure that is.

    Parameters
    ----------
    panels : sequence of PreferencePanel
    layers : sequence of str
        Names in the order of the network.
    rois : Rois, optional
    label : str
    n_columns : int, optional

    Raises
    ------
    InputError
        If a panel prefers a layer that is not named.
    """
    check_layers(panels, layers)
    raster = _surfaces.flat_raster(FLAT_PIXELS)
    grid = _grid(len(panels), raster, n_columns, foot=1.1)
    borders = _borders(raster, rois)
    for panel, ax in zip(panels, grid.axes, strict=True):
        colours = _preference_colours(raster, panel, len(layers))
        _draw(ax, raster, _greyed(colours, raster, panel.unsure), panel.title)
        _annotate(ax, borders, rois, named=ax is grid.axes[0])
    graded = any(panel.confidence is not None for panel in panels)
    layer_legend(grid, layers, label, graded=graded)
    if any(_greyed_somewhere(panel.unsure) for panel in panels):
        grey_legend(grid, 0.375 * len(layers) + 0.25)
    return grid.figure


def _maps(
    panels: Sequence[Panel],
    raster: Raster,
    *,
    rois: Rois | None,
    cmap: str,
    limits: tuple[float, float] | None,
    label: str,
    n_columns: int | None,
) -> Figure:
    values = [panel.values for panel in panels]
    scale = scale_of(values, limits)
    palette = ScalarMappable(scale, cmap)
    grid = _grid(len(panels), raster, n_columns, foot=FOOT)
    borders = _borders(raster, rois)
    for panel, ax in zip(panels, grid.axes, strict=True):
        colours = _mapped(palette, raster.paint(panel.values))
        _draw(ax, raster, _greyed(colours, raster, panel.unsure), panel.title)
        _annotate(ax, borders, rois, named=ax is grid.axes[0])
    colour_bar(grid, palette, values, label)
    if any(_greyed_somewhere(panel.unsure) for panel in panels):
        grey_legend(grid, 2.15)
    return grid.figure


def _mapped(palette: ScalarMappable, picture: FloatArray) -> FloatArray:
    colours = np.array(palette.to_rgba(np.nan_to_num(picture)))
    colours[..., 3] = np.isfinite(picture)
    return colours


def _greyed(colours: FloatArray, raster: Raster, unsure: FloatArray | None) -> FloatArray:
    """Paint grey what cannot be told."""
    if unsure is not None:
        colours[raster.paint(np.nan_to_num(unsure)) > 0.5] = (*to_rgb(GREY), 1.0)
    return colours


def _greyed_somewhere(unsure: FloatArray | None) -> bool:
    return unsure is not None and bool(np.isfinite(unsure).any())


def scale_of(values: Sequence[FloatArray], limits: tuple[float, float] | None) -> Normalize:
    """Choose the scale that maps share, unless its ends are given: see `flatmaps`."""
    low, high = limits or percentiles(values, 0.5, 99.5)
    low = low if limits else min(low, 0.0)
    return Normalize(low, high if high > low else low + 1.0)


def brightest(panels: Sequence[SharePanel]) -> float:
    """Choose the share that is drawn brightest: see `share_maps`."""
    shares = [values for panel in panels for values in (panel.first, panel.second)]
    return max(percentiles(shares, 99.0)[0], 0.0) or 1.0


def percentiles(values: Sequence[FloatArray], *percents: float) -> tuple[float, ...]:
    """Take percentiles of all finite values together; 1 if there is none, so that there is a scale."""
    together = np.concatenate([np.empty(0), *(v[np.isfinite(v)] for v in values)])
    if not together.size:
        return tuple(1.0 for _ in percents)
    return tuple(float(p) for p in np.percentile(together, percents))


def _grid(n_panels: int, raster: Raster, n_columns: int | None, *, foot: float) -> Grid:
    """Lay out the panels; the legend gets a free place of the grid, or else a foot of so many inches."""
    if not n_panels:
        raise InputError("There is no panel to draw.")
    columns = n_columns or (1 if n_panels == 1 else 2 if n_panels <= 4 else 3)
    rows = -(-n_panels // columns)
    free = rows * columns - n_panels
    wide = {1: 8.4, 2: 6.0}.get(columns, 4.6)
    tall = wide * raster.shape[0] / raster.shape[1]
    bottom = EDGE if free else foot
    width, height = columns * (wide + EDGE) + EDGE, rows * (tall + TITLE) + EDGE + bottom
    figure = empty_figure(width, height)
    axes = []
    for index in range(n_panels):
        row, column = divmod(index, columns)
        place = (EDGE + column * (wide + EDGE), height - (row + 1) * (tall + TITLE), wide, tall)
        axes.append(axes_in_inches(figure, *place))
    middle = width - (EDGE + free * (wide + EDGE)) / 2 if free else width / 2
    return Grid(figure, axes, (middle, EDGE + (tall - foot) / 2 if free else 0.0))


@lru_cache(maxsize=4)
def _underlay(raster: Raster) -> FloatArray:
    """Grey levels (height, width): gyri light, sulci darker, white outside."""
    sulci = np.nan_to_num(raster.paint(_surfaces.curvature()))
    grey = 0.74 - 0.12 * np.tanh(12.0 * sulci)
    return np.where(raster.inside, grey, 1.0)


def _draw(ax: Axes, raster: Raster, colours: FloatArray, title: str) -> None:
    """Lay colours with opacity over the curvature, and light on both."""
    opacity = colours[..., 3:]
    mixed = opacity * colours[..., :3] + (1.0 - opacity) * _underlay(raster)[..., None]
    light = np.where(raster.inside, 0.5 + 0.5 * raster.shading, 1.0)
    ax.imshow(np.clip(mixed * light[..., None], 0.0, 1.0), interpolation="antialiased")
    ax.set_title(title, fontsize=LARGE, color=INK, pad=4)
    ax.set_axis_off()


def _borders(raster: Raster, rois: Rois | None) -> list[Outline]:
    return [] if rois is None else _surfaces.outlines(raster, rois.labels, smoothing=raster.shape[0] / 180)


def _annotate(ax: Axes, borders: Sequence[Outline], rois: Rois | None, *, named: bool) -> None:
    """Draw outlines, and names on the first map only: they would cover what the others are there to show."""
    halo = [withStroke(linewidth=2.6, foreground="#00000099")]
    lines = [line for outline in borders for line in outline.lines]
    ax.add_collection(LineCollection(lines, colors="white", linewidths=1.1, path_effects=halo), autolim=False)
    if rois is None or not named:
        return
    names = [(xy, rois.names[o.label]) for o in borders for xy in o.anchors if o.label in rois.names]
    wide = ax.get_position().width * ax.get_figure(root=True).get_figwidth()  # type: ignore[union-attr]
    points = NAME if wide > 5 else NAME - 1.5
    pixel = (ax.get_xlim()[1] - ax.get_xlim()[0]) / (72 * wide)
    places = _parted(np.array([xy for xy, _ in names]), [name for _, name in names], points * pixel)
    halo = [withStroke(linewidth=2.2, foreground="#000000cc")]
    look: dict[str, Any] = {
        "color": "white",
        "ha": "center",
        "va": "center",
        "fontweight": "bold",
        "path_effects": halo,
    }
    for (x, y), (_, name) in zip(places, names, strict=True):
        ax.text(x, y, name, fontsize=points, **look)


def _parted(places: FloatArray, names: Sequence[str], size: float) -> FloatArray:
    """Move names (n, 2) up or down until none covers another, or nearly; a letter is `size` pixels high."""
    moved = places.astype(np.float64)
    half = np.array([0.34 * size * len(name) for name in names])
    for _ in range(40):
        for i, j in combinations(range(len(names)), 2):
            apart = moved[j] - moved[i]
            overlap = 1.25 * size - abs(apart[1])
            if overlap > 0 and abs(apart[0]) < half[i] + half[j]:
                push = 0.5 * overlap if apart[1] >= 0 else -0.5 * overlap
                moved[i, 1] -= push
                moved[j, 1] += push
    return moved


def check_layers(panels: Sequence[PreferencePanel], layers: Sequence[str]) -> None:
    """Raise `InputError` if a panel prefers a layer that has no name."""
    for panel in panels:
        known = panel.preferred[np.isfinite(panel.preferred)]
        if known.size and (known.min() < 0 or known.max() >= len(layers)):
            raise InputError(
                f"{panel.title}: preferred layers run from {known.min():g} to {known.max():g}, "
                f"but {len(layers)} layers are named, counted from 0."
            )


def _preference_colours(raster: Raster, panel: PreferencePanel, n_layers: int) -> FloatArray:
    number = np.where(np.isfinite(panel.preferred), panel.preferred, -1).astype(int)
    nearest = raster.nearest(number)
    colours = np.ones((*raster.shape, 4))
    colours[..., :3] = layer_colours(n_layers)[np.maximum(nearest, 0)]
    sure = np.ones(N_VERTICES) if panel.confidence is None else np.nan_to_num(panel.confidence)
    colours[..., 3] = np.where(nearest >= 0, np.clip(np.nan_to_num(raster.paint(sure)), 0.0, 1.0), 0.0)
    return colours
