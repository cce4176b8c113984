"""Panels of maps on cortex: what they hold, how they are laid out, and how one is drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any, Final, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.patheffects import withStroke

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._surfaces import HEMISPHERES, Outline, Raster, n_vertices, on_all_vertices
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, MIN_TEXT, MM, Style, axes_in_inches, empty_figure
from latentcortex.plotting._legends import CORTEX_GREY, GREY, Grid
from latentcortex.space import Atlas, Space, Volume

EDGE: Final = 0.15
TITLE: Final = 0.38
"""Of a figure's margins, in inches of the layout."""
NARROWEST: Final = 1.6
"""Inches of the layout below which a map shows nothing: about 24 mm in print."""
LEGEND: Final = 4.5
"""Room that a colour bar needs, in inches of the layout."""
MAX_NAMES: Final = 40
"""Regions beyond which numbers and their key would be all there is to see: outlines only."""
NAMED: Final = 0.153
"""Size in print of what is drawn, below which names would cover it and regions get numbers: 100 mm of flat cortex."""
KEY_LINE: Final = 0.21
"""Room for a line of the key to them, in inches of the layout."""
GREY_LINE: Final = 0.3
"""Room for a line that explains grey, in inches of the layout."""

FLAT_PIXELS: Final = 640
INFLATED_PIXELS: Final = 320
"""Of height: enough that a printed pixel is smaller than a triangle."""


FSAVERAGE5: Final = "fsaverage5"
"""The cortex that maps are on unless it is said otherwise."""


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
    template : str
        Whose vertices they are: see `space.Surface`.
    """

    title: str
    values: FloatArray
    unsure: FloatArray | None = None
    template: str = FSAVERAGE5

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        on_cortex(self.values, self.template)


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
    template : str
        Whose vertices they are: see `space.Surface`.
    """

    title: str
    first: FloatArray
    second: FloatArray
    unsure: FloatArray | None = None
    template: str = FSAVERAGE5

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        on_cortex(self.first, self.template)
        on_cortex(self.second, self.template)


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
    template : str
        Whose vertices they are: see `space.Surface`.
    """

    title: str
    preferred: FloatArray
    confidence: FloatArray | None = None
    unsure: FloatArray | None = None
    template: str = FSAVERAGE5

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        on_cortex(self.preferred, self.template)
        if self.confidence is not None:
            on_cortex(self.confidence, self.template)


@dataclass(frozen=True, eq=False)
class Rois:
    """Regions whose outlines and names are drawn.

    Parameters
    ----------
    labels : ndarray of int, shape (n_vertices,)
        Region of each vertex; 0 is none.
    names : dict
        Label -> name; a region without a name gets an outline only.
    template : str
        Whose vertices they are: see `space.Surface`.
    """

    labels: IntArray
    names: Mapping[int, str] = field(default_factory=dict)
    template: str = FSAVERAGE5

    def __post_init__(self) -> None:
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        on_all_vertices(self.labels, self.template)

    @classmethod
    def of(cls, atlas: Atlas, space: Space) -> Rois:
        """Make those of an atlas; labels of a volume are laid onto the cortex of its voxels."""
        if not isinstance(space, Volume):
            return cls(atlas.labels, atlas.names, space.template)
        if atlas.vertices is not None:
            return cls(atlas.vertices, atlas.names, space.template)
        laid = space.labels_on_mesh(space.take(atlas.labels))
        return cls(np.nan_to_num(laid).astype(np.intp), atlas.names, space.template)


def on_cortex(values: FloatArray, template: str) -> None:
    """Raise unless there is one value per vertex of both hemispheres, finite or nan.

    Raises
    ------
    AlignmentError
        If there are more or fewer; one hemisphere's are told how to become both's.
    InputError
        If a value is infinite.
    """
    on_all_vertices(values, template)
    none_infinite(values)


def none_infinite(values: FloatArray) -> None:
    """Raise `InputError` if a value of a map is infinite."""
    n_infinite = int(np.isinf(values).sum())
    if n_infinite:
        raise InputError(f"{n_infinite} values of a map are infinite; set them to nan where they are undefined.")


def cortex_of(panels: Sequence[Panel | SharePanel | PreferencePanel]) -> str:
    """Find out on which cortex panels are; raise `InputError` if they are on several, or there is none."""
    templates = list(dict.fromkeys(panel.template for panel in panels))
    if not templates:
        raise InputError("There is no panel to draw.")
    if len(templates) > 1:
        raise InputError(f"One figure shows maps of one cortex; got {', '.join(templates)}.")
    return templates[0]


def picture_of(template: str) -> Raster:
    """Rasterise the flat surfaces of a template; where it has none, the inflated ones."""
    if _surfaces.has("flat", template):
        return _surfaces.flat_raster(FLAT_PIXELS, template)
    return _surfaces.inflated_views(INFLATED_PIXELS, template)


def note_of(raster: Raster, *values: FloatArray) -> str:
    """Say what is odd about a map that is drawn all the same; empty if nothing is."""
    known = np.asarray(np.isfinite(np.stack(values)).any(axis=0))
    if not known.any():
        return "no vertex is coloured"
    n_left, notes = n_vertices(raster.template)[0], []
    for side, other, there in zip(HEMISPHERES, HEMISPHERES[::-1], (known[:n_left], known[n_left:]), strict=True):
        if not there.any():
            notes.append(f"nothing on the {side}, {other} hemisphere only")
    together = np.concatenate([one[np.isfinite(one)] for one in values])
    if len(together) > 1 and np.ptp(together) == 0:
        notes.append(f"{together[0]:.3g} wherever it is coloured")
    return "; ".join(notes)


def mapped(palette: ScalarMappable, picture: FloatArray) -> FloatArray:
    """Give each pixel its colour, transparent where it has no value."""
    colours = np.array(palette.to_rgba(np.nan_to_num(picture)))
    colours[..., 3] = np.isfinite(picture)
    return colours


def greyed(colours: FloatArray, raster: Raster, unsure: FloatArray | None) -> FloatArray:
    """Paint grey what cannot be told."""
    if unsure is not None:
        colours[raster.paint(np.nan_to_num(unsure)) > 0.5] = (*to_rgb(GREY), 1.0)
    return colours


def greyed_somewhere(unsure: FloatArray | None) -> bool:
    """Tell whether grey needs to be explained."""
    return unsure is not None and bool(np.isfinite(unsure).any())


def scale_of(values: Sequence[FloatArray], limits: tuple[float, float] | None) -> Normalize:
    """Choose one scale for all maps: from 0, or a little below, to almost the largest value."""
    low, high = limits or percentiles(values, 0.5, 99.5)
    low = low if limits else min(low, 0.0)
    return Normalize(low, high if high > low else low + 1.0)


def percentiles(values: Sequence[FloatArray], *percents: float) -> tuple[float, ...]:
    """Take percentiles of all finite values together; 1 if there is none, so that there is a scale."""
    together = np.concatenate([np.empty(0), *(v[np.isfinite(v)] for v in values)])
    if not together.size:
        return tuple(1.0 for _ in percents)
    return tuple(float(p) for p in np.percentile(together, percents))


def strongest_of(shares: Sequence[FloatArray]) -> float:
    """Choose the share that is opaque: the 99th percentile of all, or 1 if that is not above 0."""
    return max(percentiles(shares, 99.0)[0], 0.0) or 1.0


def grid_of(
    n_panels: int,
    raster: Raster,
    n_columns: int | None,
    *,
    foot: float,
    style: Style,
    rois: Rois | None = None,
    titled: bool = True,
) -> Grid:
    """Lay out the panels; the legend gets a free place of the grid, if it is wide enough, or else a foot.

    Parameters
    ----------
    n_panels : int
    raster : Raster
    n_columns : int, optional
        At most so many as fit.
    foot : float
        Height of the legend, inches of the layout.
    style : Style
    rois : Rois, optional
        If the maps are too narrow for names, the regions get numbers, and the figure a key to them.
    titled : bool
        Whether there is room for a title above each map.
    """
    wanted = n_columns or (1 if n_panels == 1 else 2 if n_panels <= 4 else 3)
    columns = min(wanted, style.beside(NARROWEST if n_columns else 3.8, wanted))
    rows = -(-n_panels // columns)
    wide = min({1: 8.4, 2: 6.0}.get(columns, 4.6), (style.room - EDGE) / columns - EDGE)
    tall = wide * raster.shape[0] / raster.shape[1]
    free = rows * columns - n_panels
    if free * (wide + EDGE) < LEGEND or tall < foot - 0.1:
        free = 0
    title = TITLE if titled else EDGE
    width = columns * (wide + EDGE) + EDGE
    key = _key(rois, width) if rois is not None and numbered(raster, wide * style.scale) else []
    lines = KEY_LINE * len(key) + (0.1 if key else 0.0)
    bottom = lines + (EDGE if free else foot)
    height = rows * (tall + title) + EDGE + bottom
    figure = empty_figure(width, height, style)
    axes = []
    for index in range(n_panels):
        row, column = divmod(index, columns)
        place = (EDGE + column * (wide + EDGE), height - (row + 1) * (tall + title), wide, tall)
        axes.append(axes_in_inches(figure, style, place))
    middle = width - (EDGE + free * (wide + EDGE)) / 2 if free else width / 2
    for i, line in enumerate(key):
        y = (lines - KEY_LINE * (i + 0.5)) / height
        figure.text(0.5, y, line, ha="center", va="center", fontsize=style.small, color=INK)
    return Grid(figure, axes, (middle, lines + (EDGE + (tall - foot) / 2 if free else 0.0)), style)


def numbered(raster: Raster, width: float) -> bool:
    """Tell whether a picture, so many inches wide in print, is too small for the names of regions."""
    left, right = raster.extent[:2]
    return width / MM < NAMED * (right - left)


def _key(rois: Rois, width: float) -> list[str]:
    """Write the numbers of regions and their names, in lines that fit into so many inches of the layout."""
    lines = [""]
    for label, name in rois.names.items():
        one = f"{label} {name}"
        if lines[-1] and len(lines[-1]) + len(one) + 3 > width / 0.088:
            lines.append(one)
        else:
            lines[-1] += ("   " if lines[-1] else "") + one
    return lines if 0 < len(rois.names) <= MAX_NAMES else []


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


def draw(
    ax: Axes, raster: Raster, colours: FloatArray, title: str, style: Style, note: str = "", *, letters: int = 0
) -> None:
    """Lay colours with opacity over the curvature, and light on both; the note stands in the lower left corner."""
    opacity = colours[..., 3:]
    mixed = opacity * colours[..., :3] + (1.0 - opacity) * _underlay(raster)[..., None]
    light = np.where(raster.inside, 0.5 + 0.5 * raster.shading, 1.0)
    ax.imshow(np.clip(mixed * light[..., None], 0.0, 1.0), interpolation="antialiased")
    # A title is as large as a narrow map allows; 0.6 of its size is more than the width of a letter.
    points = min(style.large, 72 * inches_of(ax) / (0.6 * max(len(title), letters, 1)))
    ax.set_title(title, fontsize=max(points, style.small), color=INK, pad=4 * style.scale)
    if note:
        words = textwrap.fill(note, 22)  # a lower corner is where no cortex is drawn
        ax.text(0.0, 0.0, words, transform=ax.transAxes, va="bottom", fontsize=style.small, color=INK)
    ax.set_axis_off()


def draw_all(grid: Grid, raster: Raster, rois: Rois | None, maps: Sequence[tuple[FloatArray, str, str]]) -> None:
    """Draw colours with title and note of each panel, outlines on all and names of regions on the first."""
    borders, longest = borders_of(raster, rois), max(len(title) for _, title, _ in maps)
    names = {} if rois is None else dict(rois.names)
    if numbered(raster, inches_of(grid.axes[0])):  # grid_of has written the key
        names = {label: str(label) for label in names} if len(names) <= MAX_NAMES else {}
    for (colours, title, note), ax in zip(maps, grid.axes, strict=True):
        draw(ax, raster, colours, title, grid.style, note, letters=longest)
        # Names on the other maps would cover what these are there to show.
        annotate(ax, borders, grid.style, names if ax is grid.axes[0] else {})


def borders_of(raster: Raster, rois: Rois | None) -> list[Outline]:
    """Trace the regions, if there are any."""
    if rois is None:
        return []
    on_all_vertices(rois.labels, raster.template)
    on_same_cortex(raster.template, rois)
    return _surfaces.outlines(raster, rois.labels, smoothing=raster.shape[0] / 180)


def on_same_cortex(template: str, rois: Rois | None) -> None:
    """Raise `InputError` if regions are on another cortex than maps: as many vertices need not be the same ones."""
    if rois is not None and rois.template != template:
        raise InputError(f"A picture shows one cortex; maps are on {template}, regions on {rois.template}.")


def annotate(ax: Axes, borders: Sequence[Outline], style: Style, names: Mapping[int, str]) -> None:
    """Draw outlines, and the names of those regions that have one."""
    halo = [withStroke(linewidth=2.6 * style.scale, foreground="#00000099")]
    lines = [line for outline in borders for line in outline.lines]
    ax.add_collection(
        LineCollection(lines, colors="white", linewidths=1.1 * style.scale, path_effects=halo), autolim=False
    )
    known = [(xy, names[o.label]) for o in borders for xy in o.anchors if o.label in names]
    if not known:
        return
    wide = inches_of(ax)
    points = style.name if wide > 5 * style.scale else max(MIN_TEXT, style.name - 1.5 * style.scale)
    pixel = (ax.get_xlim()[1] - ax.get_xlim()[0]) / (72 * wide)
    places = _parted(np.array([xy for xy, _ in known]), [name for _, name in known], points * pixel)
    halo = [withStroke(linewidth=2.2 * style.scale, foreground="#000000cc")]
    look: dict[str, Any] = {
        "color": "white",
        "ha": "center",
        "va": "center",
        "fontweight": "bold",
        "path_effects": halo,
    }
    for (x, y), (_, name) in zip(places, known, strict=True):
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
