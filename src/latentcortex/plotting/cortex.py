"""Cortex as a canvas, flattened or inflated: curvature below the colours, outlines and names of regions above them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Final, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._surfaces import HEMISPHERES, Outline, Raster, n_vertices
from latentcortex.plotting._canvas import INK, MIN_TEXT, MM, PAGE, Style, axes_in_inches, empty_figure, house_style
from latentcortex.plotting._legends import CORTEX_GREY, GREY_LINE, LegendPlace, grey_legend
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.panel import Panel, cortex_of
from latentcortex.space import Atlas, Space

EDGE: Final = 0.15
TITLE: Final = 0.38
"""Margins of a figure, in inches of the layout."""
MIN_MAP_WIDTH: Final = 1.6
"""Inches of the layout below which a map shows nothing: about 24 mm in print."""
LEGEND_WIDTH: Final = 4.5
"""Room that a legend needs beside the maps, in inches of the layout."""
MAX_NAMES: Final = 40
"""Regions beyond which numbers and their key would be all there is to see: outlines only."""
MIN_NAMED_SCALE: Final = 0.153
"""Size in print of what is drawn, below which names would cover it and regions get numbers: 100 mm of flat cortex."""
KEY_LINE: Final = 0.21
"""Height of a line of the key to them, in inches of the layout."""

FLAT_PIXELS: Final = 640
INFLATED_PIXELS: Final = 320
"""Height of a picture: enough that a printed pixel is smaller than a triangle."""


@dataclass(frozen=True)
class Vertices:
    """The vertices of the cortex that voxels are drawn on, as points of a painting."""

    space: Space

    def lay(self, values: FloatArray) -> FloatArray:
        """Take the mean of the voxels that a vertex meets."""
        return self.space.on_mesh(values)

    def lay_categories(self, labels: FloatArray) -> FloatArray:
        """Take the most frequent category of the voxels that a vertex meets."""
        return self.space.labels_on_mesh(labels)

    def paint(self, values: FloatArray) -> FloatArray:
        """Colour the vertices themselves."""
        return values

    def nearest(self, labels: IntArray) -> IntArray:
        """Colour the vertices themselves."""
        return labels


@dataclass(frozen=True)
class Pixels(Vertices):
    """The pixels of a picture of that cortex, as points of a painting."""

    raster: Raster

    def paint(self, values: FloatArray) -> FloatArray:
        """Interpolate between the vertices round a pixel."""
        return self.raster.paint(values)

    def nearest(self, labels: IntArray) -> IntArray:
        """Take the label of the vertex closest to a pixel."""
        return self.raster.nearest(labels)


@dataclass(frozen=True, eq=False)
class Flat:
    """Flattened cortex, one map beside the other; a cortex without a flat surface is inflated.

    Parameters
    ----------
    atlas : Atlas, optional
        Whose regions are outlined on all maps and named on the first.
    n_columns : int, optional
        At most two by default, or three for more than four maps; fewer where the figure is narrow.
    """

    atlas: Atlas | None = None
    n_columns: int | None = None

    @house_style()
    def draw(self, painting: Painting, style: Style = PAGE) -> Figure:
        """Draw a painting; see `plotting.draw`."""
        return _draw(painting, flat_picture(cortex_of(painting.panels)), self.atlas, self.n_columns, style)

    def caption(self, painting: Painting) -> str:
        """Say in whole sentences what a reader must know of the canvas."""
        return _how_laid(painting)


@dataclass(frozen=True, eq=False)
class Inflated:
    """Inflated cortex, one map below the other.

    Each map is seen eight times: left lateral, left medial, right medial, right lateral; left ventral, left and right
    posterior, right ventral.

    Parameters
    ----------
    atlas : Atlas, optional
        Whose regions are outlined on all maps and named on the first.
    """

    atlas: Atlas | None = None

    @house_style()
    def draw(self, painting: Painting, style: Style = PAGE) -> Figure:
        """Draw a painting; see `plotting.draw`."""
        raster = _surfaces.inflated_views(INFLATED_PIXELS, cortex_of(painting.panels))
        return _draw(painting, raster, self.atlas, 1, style)

    def caption(self, painting: Painting) -> str:
        """Say in whole sentences what a reader must know of the canvas."""
        return f"Drawn on inflated cortex. {_how_laid(painting)}".rstrip()


def _how_laid(painting: Painting) -> str:
    """Say how voxels of a volume came onto cortex."""
    if all(panel.space.volume is None for panel in painting.panels):
        return ""
    return (
        "On cortex, a vertex has the mean of the coloured voxels between white and pial surface, or of categories the "
        "most frequent."
    )


def _draw(painting: Painting, raster: Raster, atlas: Atlas | None, n_columns: int | None, style: Style) -> Figure:
    """Lay out the maps, draw each, and explain their colours and the numbers of regions."""
    panels = painting.panels
    regions = None if atlas is None else atlas.on_cortex(panels[0].space)
    legend_height = painting.legend_height + GREY_LINE * painting.has_grey
    layout = lay_out(panels, raster, n_columns, legend_height=legend_height, style=style, regions=regions)
    borders, longest = borders_of(raster, regions), max(len(panel.title) for panel in panels)
    for panel, ax in zip(panels, layout.axes, strict=True):
        draw_map(ax, raster, painting, panel, style, n_letters=longest)
        # Names on the other maps would cover what these are there to show.
        annotate(ax, borders, style, layout.names if ax is layout.axes[0] else {})
    painting.draw_legend(layout.legend)
    if painting.has_grey:
        grey_legend(layout.legend, painting.legend_height)
    return layout.legend.figure


def flat_picture(template: str) -> Raster:
    """Rasterise the flat surfaces of a template; where it has none, the inflated ones."""
    if _surfaces.has("flat", template):
        return _surfaces.flat_raster(FLAT_PIXELS, template)
    return _surfaces.inflated_views(INFLATED_PIXELS, template)


def note_of(raster: Raster, values: FloatArray) -> str:
    """Say what is odd about a map, (n_bands, n_vertices), that is drawn all the same; empty if nothing is."""
    is_defined = np.asarray(np.isfinite(values).any(axis=0))
    if not is_defined.any():
        return "no vertex is coloured"
    n_left, notes = n_vertices(raster.template)[0], []
    hemispheres = zip(HEMISPHERES, HEMISPHERES[::-1], (is_defined[:n_left], is_defined[n_left:]), strict=True)
    for side, other, on_side in hemispheres:
        if not on_side.any():
            notes.append(f"nothing on the {side}, {other} hemisphere only")
    finite = values[np.isfinite(values)]
    if len(finite) > 1 and np.ptp(finite) == 0:
        notes.append(f"{finite[0]:.3g} wherever it is coloured")
    return "; ".join(notes)


@dataclass(frozen=True, eq=False)
class Layout:
    """A figure that is laid out: the axes of its maps, what regions are called on the first, and its legend's place."""

    axes: list[Axes]
    names: Mapping[int, str]
    legend: LegendPlace


def lay_out(
    panels: Sequence[Panel],
    raster: Raster,
    n_columns: int | None,
    *,
    legend_height: float,
    style: Style,
    regions: Atlas | None = None,
) -> Layout:
    """Lay out the maps; the legend gets a free place among them, if it is wide enough, or else stands below.

    Where the maps are too narrow for the names of regions, the regions get numbers, and the figure a key to them.
    """
    n_panels = len(panels)
    wanted = n_columns or (1 if n_panels == 1 else 2 if n_panels <= 4 else 3)
    columns = min(wanted, style.beside(MIN_MAP_WIDTH if n_columns else 3.8, wanted))
    rows = -(-n_panels // columns)
    wide = min({1: 8.4, 2: 6.0}.get(columns, 4.6), (style.room - EDGE) / columns - EDGE)
    tall = wide * raster.shape[0] / raster.shape[1]
    n_free = rows * columns - n_panels
    if n_free * (wide + EDGE) < LEGEND_WIDTH or tall < legend_height - 0.1:
        n_free = 0
    title = TITLE if any(panel.title for panel in panels) else EDGE
    width = columns * (wide + EDGE) + EDGE
    names = {} if regions is None else regions.names
    left, right = raster.extent[:2]
    is_numbered = wide * style.scale / MM < MIN_NAMED_SCALE * (right - left)
    key = _key(names, width) if is_numbered else []
    key_height = KEY_LINE * len(key) + (0.1 if key else 0.0)
    below = key_height + (EDGE if n_free else legend_height)
    height = rows * (tall + title) + EDGE + below
    figure = empty_figure(width, height, style)
    axes = []
    for index in range(n_panels):
        row, column = divmod(index, columns)
        place = (EDGE + column * (wide + EDGE), height - (row + 1) * (tall + title), wide, tall)
        axes.append(axes_in_inches(figure, style, place))
    for i, line in enumerate(key):
        y = (key_height - KEY_LINE * (i + 0.5)) / height
        figure.text(0.5, y, line, ha="center", va="center", fontsize=style.small, color=INK)
    if is_numbered:
        names = {label: str(label) for label in names} if key else {}
    middle = width - (EDGE + n_free * (wide + EDGE)) / 2 if n_free else width / 2
    bottom = key_height + (EDGE + (tall - legend_height) / 2 if n_free else 0.0)
    return Layout(axes, names, LegendPlace(figure, middle, bottom, style))


def _key(names: Mapping[int, str], width: float) -> list[str]:
    """Write the numbers of regions and their names, in lines that fit into so many inches of the layout."""
    if not 0 < len(names) <= MAX_NAMES:
        return []
    lines = [""]
    for label, name in names.items():
        entry = f"{label} {name}"
        if lines[-1] and len(lines[-1]) + len(entry) + 3 > width / 0.088:
            lines.append(entry)
        else:
            lines[-1] += ("   " if lines[-1] else "") + entry
    return lines


def inches_of(ax: Axes) -> float:
    """Measure how wide axes are, in inches in print."""
    return float(ax.get_position().width * ax.get_figure(root=True).get_figwidth())  # type: ignore[union-attr]


@lru_cache(maxsize=4)
def _underlay(raster: Raster) -> FloatArray:
    """Grey levels (height, width): gyri light, sulci darker, white outside."""
    sulci = np.nan_to_num(raster.paint(_surfaces.curvature(raster.template)))
    return np.where(raster.inside, relief(sulci), 1.0)


def relief(curvature: FloatArray) -> FloatArray:
    """Choose the grey levels, 0..1, in which cortex shows: gyri light, sulci darker."""
    return cast(FloatArray, CORTEX_GREY - 0.12 * np.tanh(12.0 * curvature))


def draw_map(ax: Axes, raster: Raster, painting: Painting, panel: Panel, style: Style, *, n_letters: int = 0) -> None:
    """Lay the colours of a map over the curvature, light on both, and what is odd into the lower left corner."""
    points = Pixels(panel.space, raster)
    colours = painting.paint(panel, points)
    opacity = colours[..., 3:]
    mixed = opacity * colours[..., :3] + (1.0 - opacity) * _underlay(raster)[..., None]
    light = np.where(raster.inside, 0.5 + 0.5 * raster.shading, 1.0)
    ax.imshow(np.clip(mixed * light[..., None], 0.0, 1.0), interpolation="antialiased")
    # A title is as large as a narrow map allows; 0.6 of its size is more than the width of a letter.
    points_of_letters = min(style.large, 72 * inches_of(ax) / (0.6 * max(len(panel.title), n_letters, 1)))
    ax.set_title(panel.title, fontsize=max(points_of_letters, style.small), color=INK, pad=4 * style.scale)
    note = note_of(raster, painting.laid(panel, points))
    if note:
        words = textwrap.fill(note, 22)  # a lower corner is where no cortex is drawn
        ax.text(0.0, 0.0, words, transform=ax.transAxes, va="bottom", fontsize=style.small, color=INK)
    ax.set_axis_off()


def borders_of(raster: Raster, regions: Atlas | None) -> list[Outline]:
    """Trace the regions, if there are any."""
    if regions is None:
        return []
    return _surfaces.outlines(raster, regions.labels, smoothing=raster.shape[0] / 180)


def annotate(ax: Axes, borders: Sequence[Outline], style: Style, names: Mapping[int, str]) -> None:
    """Draw outlines, and the names of those regions that have one."""
    halo = [withStroke(linewidth=2.6 * style.scale, foreground="#00000099")]
    lines = [line for outline in borders for line in outline.lines]
    ax.add_collection(
        LineCollection(lines, colors="white", linewidths=1.1 * style.scale, path_effects=halo), autolim=False
    )
    named = [(xy, names[o.label]) for o in borders for xy in o.anchors if o.label in names]
    if not named:
        return
    wide = inches_of(ax)
    points = style.name if wide > 5 * style.scale else max(MIN_TEXT, style.name - 1.5 * style.scale)
    pixel = (ax.get_xlim()[1] - ax.get_xlim()[0]) / (72 * wide)
    places = _parted(np.array([xy for xy, _ in named]), [name for _, name in named], points * pixel)
    halo = [withStroke(linewidth=2.2 * style.scale, foreground="#000000cc")]
    look: dict[str, Any] = {
        "color": "white",
        "ha": "center",
        "va": "center",
        "fontweight": "bold",
        "path_effects": halo,
    }
    for (x, y), (_, name) in zip(places, named, strict=True):
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
