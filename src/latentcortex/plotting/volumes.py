"""Maps of volumes on cuts through the brain, and seen through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from latentcortex._arrays import FloatArray, IntArray
from latentcortex._nifti import grid_of
from latentcortex.errors import AlignmentError, InputError
from latentcortex.plotting._canvas import INK, PAGE, Style, axes_in_inches, empty_figure, house_style
from latentcortex.plotting._cuts import SIDES, Backdrop, Cut, behind, cuts_of
from latentcortex.plotting._legends import (
    FOOT,
    GREY,
    SQUARE,
    Grid,
    colour_bar,
    grey_legend,
    share_colours,
    share_legend,
)
from latentcortex.plotting._panels import (
    EDGE,
    GREY_LINE,
    greyed_somewhere,
    mapped,
    none_infinite,
    scale_of,
    strongest_of,
)
from latentcortex.space import Volume

Background = Path | str | nib.Nifti1Image | None

NARROWEST: Final = 1.25
"""Inches of the layout below which a cut shows nothing, of its longer side: about 19 mm in print."""
WIDEST: Final = 2.4
MAX_LINES: Final = 4
GAP: Final = 0.07
HEAD: Final = 0.34
"""Above the cuts of a map, for its title."""
WHERE: Final = 0.24
"""Below a line of cuts, for where they are."""
EDGES: Final = "#8c8c8c"
"""Of the line round the voxels of the mask."""
GLASS: Final[dict[str, tuple[str, str] | str]] = {"l": "left", "y": ("L", "R"), "r": "right", "z": ("L", "R")}
"""Views from the left, behind, the right and above, and what stands on them or in their upper corners."""
GLASS_LINE: Final = 0.7
"""Of nilearn's lines, how much is left."""
GLASS_WIDE: Final = 9.0
"""Inches of the layout beyond which the views show no more."""
GLASS_TALL: Final = 0.27
"""Height of the four views, relative to their width."""


@dataclass(frozen=True, eq=False)
class VolumePanel:
    """One map of voxels of a volume.

    Parameters
    ----------
    title : str
    values : ndarray of shape (n_voxels,)
        nan where undefined or not significant.
    volume : Volume
    unsure : ndarray of shape (n_voxels,), optional
        1 where the map is drawn grey, since it cannot be told; nan elsewhere.

    Raises
    ------
    AlignmentError
        If there is not one value per voxel.
    InputError
        If a value is infinite.
    """

    title: str
    values: FloatArray
    volume: Volume
    unsure: FloatArray | None = None

    def __post_init__(self) -> None:
        for values in (self.values, self.unsure):
            _one_per_voxel(self.volume, values)

    @classmethod
    def of(cls, title: str, image: nib.Nifti1Image, *, reference: str) -> VolumePanel:
        """Make the panel of an image (x, y, z), whose voxels are those that are not nan.

        Parameters
        ----------
        title : str
        image : Nifti1Image
        reference : str
            The space of the voxels, such as MNI152NLin2009cAsym or T1w.
        """
        grid = grid_of(f"The image of {title}", image)
        values = np.asarray(grid.values, dtype=np.float32)
        volume = Volume(~np.isnan(values), grid.affine, reference)
        return cls(title, values[volume.mask], volume)


@dataclass(frozen=True, eq=False)
class VolumeSharePanel:
    """One map of two shares of explained variance in the voxels of a volume.

    Parameters
    ----------
    title : str
    first, second : ndarray of shape (n_voxels,)
        Share of each of the two bands; nan where undefined or not significant.
    volume : Volume
    unsure : ndarray of shape (n_voxels,), optional
        1 where the map is drawn grey, since the shares cannot be told apart; nan elsewhere.
    """

    title: str
    first: FloatArray
    second: FloatArray
    volume: Volume
    unsure: FloatArray | None = None

    def __post_init__(self) -> None:
        for values in (self.first, self.second, self.unsure):
            _one_per_voxel(self.volume, values)


def _one_per_voxel(volume: Volume, values: FloatArray | None) -> None:
    if values is None:
        return
    if values.shape != (volume.n_voxels,):
        raise AlignmentError(f"Got an array of shape {values.shape}; the volume has {volume.n_voxels} voxels.")
    none_infinite(values)


@house_style()
def slices(
    panels: Sequence[VolumePanel],
    *,
    background: Background = None,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    style: Style = PAGE,
) -> Figure:
    """Draw maps of volumes on axial cuts, a sagittal and a coronal one, a map below the other, with one colour bar.

    The cuts are the same for all maps, and chosen to cover the voxels; the left of the brain is on the left. A line
    runs round the voxels of the mask; within it, anatomy shows through where a map is nan.

    Parameters
    ----------
    panels : sequence of VolumePanel
    background : Path or Nifti1Image, optional
        Anatomy in the mm of the voxels; by default the template that comes with nilearn for references MNI152*, and
        none for others.
    cmap : str
        Name of a matplotlib colormap.
    limits : tuple of float, optional
        Ends of the colour scale, by default as for `flatmaps`.
    label : str
        What the colours mean, with unit.
    style : Style
        How wide the figure may be.
    """
    values = [panel.values for panel in panels]
    palette = ScalarMappable(scale_of(values, limits), cmap)
    grey = any(greyed_somewhere(panel.unsure) for panel in panels)
    drawn = [_Drawn(one.title, one.volume, _greyed(mapped(palette, one.values), one.unsure)) for one in panels]
    grid = _mosaic(drawn, background, foot=FOOT + GREY_LINE * grey, style=style)
    colour_bar(grid, palette, values, label)
    if grey:
        grey_legend(grid, FOOT)
    return grid.figure


@house_style()
def share_slices(
    panels: Sequence[VolumeSharePanel],
    *,
    names: tuple[str, str] = ("z", "z_c"),
    background: Background = None,
    limit: float | None = None,
    label: str = "share of variance",
    style: Style = PAGE,
) -> Figure:
    """Draw two shares of variance per voxel on cuts: the hue tells which band, the opacity how much.

    Parameters
    ----------
    panels : sequence of VolumeSharePanel
    names : tuple of str
        Of the first and the second band.
    background : Path or Nifti1Image, optional
        As for `slices`.
    limit : float, optional
        Share from which on the colour is opaque; by default the 99th percentile of all shares. Shares
        below 0 are drawn as 0.
    label : str
        What is shared.
    style : Style
    """
    shares = [values for panel in panels for values in (panel.first, panel.second)]
    top = limit or strongest_of(shares)
    grey = any(greyed_somewhere(panel.unsure) for panel in panels)
    drawn = [
        _Drawn(one.title, one.volume, _greyed(share_colours(one.first, one.second, limit=top), one.unsure))
        for one in panels
    ]
    grid = _mosaic(drawn, background, foot=SQUARE + GREY_LINE * grey, style=style)
    share_legend(grid, names, top, label)
    if grey:
        grey_legend(grid, SQUARE)
    return grid.figure


@house_style()
def glass_brain(
    panels: Sequence[VolumePanel],
    *,
    cmap: str = "inferno",
    limits: tuple[float, float] | None = None,
    label: str = "",
    style: Style = PAGE,
) -> Figure:
    """Draw maps of volumes as seen through the brain from the left, behind, the right and above.

    Each point has the value furthest from 0 along the line of sight; from the left and the right only that hemisphere
    is seen. nilearn draws the brain.

    Parameters
    ----------
    panels : sequence of VolumePanel
        In an MNI reference.
    cmap, limits, label, style
        As for `slices`.

    Raises
    ------
    InputError
        If a volume is in another reference.
    """
    for panel in panels:
        if not panel.volume.reference.startswith("MNI"):
            raise InputError(
                f"A glass brain is that of MNI; {panel.title} is in {panel.volume.reference}: use plotting.slices."
            )
    values = [panel.values for panel in panels]
    palette = ScalarMappable(scale_of(values, limits), cmap)
    wide = min(style.room - 2 * EDGE, GLASS_WIDE)
    tall = wide * GLASS_TALL
    figure, places, middle = _rows(len(panels), wide, tall, FOOT, style)
    for panel, place in zip(panels, places, strict=True):
        ax = axes_in_inches(figure, style, place)
        _title(ax, panel.title, _note(mapped(palette, panel.values)), style)
        _seen_through(ax, panel, palette, style)
    colour_bar(Grid(figure, list(figure.axes), (middle, 0.0), style), palette, values, label)
    return figure


def _rows(
    n_rows: int, wide: float, tall: float, foot: float, style: Style
) -> tuple[Figure, list[tuple[float, float, float, float]], float]:
    """Make a figure of rows with a title each: the figure, where the rows are, and its middle."""
    if not n_rows:
        raise InputError("There is no panel to draw.")
    width, height = wide + 2 * EDGE, n_rows * (tall + HEAD) + EDGE + foot
    figure = empty_figure(width, height, style)
    places = [(EDGE, height - (row + 1) * (tall + HEAD), wide, tall) for row in range(n_rows)]
    return figure, places, width / 2


def _seen_through(ax: Axes, panel: VolumePanel, palette: ScalarMappable, style: Style) -> None:
    """Draw one map into the brain that nilearn draws into axes of ours."""
    with rc_context():  # importing nilearn's plots sets the backend
        from nilearn import plotting as drawing

    view = drawing.plot_glass_brain(
        None, display_mode="".join(GLASS), figure=ax.figure, axes=ax, colorbar=False, annotate=False, plot_abs=False
    )
    for name, one in view.axes.items():
        for line in one.ax.patches:
            line.set_linewidth(GLASS_LINE * style.scale * line.get_linewidth())
        _sides(one.ax, GLASS[name], style)
    known = np.isfinite(panel.values)
    if not known.any():
        return
    low, high = palette.get_clim()
    values, opaque = (_cropped(panel.volume, np.nan_to_num(one)) for one in (panel.values, known.astype(np.float32)))
    view.add_overlay(
        values,
        threshold=None,
        colorbar=False,
        transparency=opaque,  # nilearn takes nan for 0; this says what is there
        transparency_range=[0.0, 1.0],
        resampling_interpolation="nearest",
        cmap=palette.cmap,
        vmin=low,
        vmax=high,
    )


def _cropped(volume: Volume, values: FloatArray) -> nib.Nifti1Image:
    """Make an image of no more than holds the voxels, 0 outside; nilearn makes room for all of it.

    There is an empty voxel on every side: nilearn refuses opacities that are the same everywhere.
    """
    low, high = volume.indices.min(axis=0) - 1, volume.indices.max(axis=0) + 1
    grid = np.zeros(high - low + 1, dtype=np.float32)
    grid[tuple((volume.indices - low).T)] = np.nan_to_num(values)
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ low
    return nib.Nifti1Image(grid, affine)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A map as it is drawn: title, where its voxels are, and their colours (n_voxels, 4)."""

    title: str
    volume: Volume
    colours: FloatArray


def _greyed(colours: FloatArray, unsure: FloatArray | None) -> FloatArray:
    """Lay grey over the voxels that cannot be told."""
    if unsure is not None:
        colours[np.isfinite(unsure)] = (*to_rgb(GREY), 1.0)
    return colours


def _mosaic(drawn: Sequence[_Drawn], background: Background, *, foot: float, style: Style) -> Grid:
    """Draw the cuts of all maps, each map below the other; the legend gets a foot of so many inches."""
    if not drawn:
        raise InputError("There is no panel to draw.")
    volumes = list({id(one.volume): one.volume for one in drawn}.values())
    references = list(dict.fromkeys(one.reference for one in volumes))
    if len(references) > 1:
        raise InputError(f"One figure shows maps in one space; got {', '.join(references)}.")
    backdrop = behind(volumes[0], background)
    cuts = cuts_of(volumes, backdrop)
    lines, inch = _lines(cuts, style)
    tall = [max(_size(cut)[1] for cut in line) * inch for line in lines]
    wide = max(sum(_size(cut)[0] * inch + GAP for cut in line) for line in lines)
    figure, places, middle = _rows(len(drawn), wide, sum(tall) + WHERE * len(lines), foot, style)
    width, whole = figure.get_size_inches() / style.scale
    look: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": style.small, "color": INK}
    planes = {id(volume): [cut.voxels(volume) for cut in cuts] for volume in volumes}
    crossed = {key: np.unique(np.concatenate([one.ravel() for one in each])) for key, each in planes.items()}
    scenes = {
        key: [_scene(cut, voxels, backdrop) for cut, voxels in zip(cuts, each, strict=True)]
        for key, each in planes.items()
    }
    for one, (left, bottom, _, height) in zip(drawn, places, strict=True):
        top, scene = bottom + height, iter(scenes[id(one.volume)])
        head = axes_in_inches(figure, style, (left, top, wide, 0.01))
        _title(head, one.title, _note(one.colours, crossed[id(one.volume)]), style)
        head.set_axis_off()
        for line, high in zip(lines, tall, strict=True):
            x, top = left, top - high
            for cut in line:
                across, up = (side * inch for side in _size(cut))
                ax = axes_in_inches(figure, style, (x, top, across, up))
                next(scene)(ax, one.colours, style)
                # Below the line, not the cut, so that all stand at one height.
                figure.text((x + across / 2) / width, (top - 0.03) / whole, cut.title, **look)
                x += across + GAP
            top -= WHERE
    return Grid(figure, list(figure.axes), (middle, 0.0), style)


def _size(cut: Cut) -> tuple[float, float]:
    """Width and height in mm of the brain."""
    left, right, bottom, top = cut.extent
    return right - left, top - bottom


def _lines(cuts: Sequence[Cut], style: Style) -> tuple[list[Sequence[Cut]], float]:
    """Break the cuts of a map into as few lines as let them be seen; return the lines, and inches per mm."""
    room = style.room - 2 * EDGE
    for n_lines in range(1, MAX_LINES + 1):
        each = -(-len(cuts) // n_lines)
        lines = [cuts[i : i + each] for i in range(0, len(cuts), each)]
        inch = min((room - GAP * len(line)) / sum(_size(cut)[0] for cut in line) for line in lines)
        narrow = min(max(_size(cut)) for cut in cuts)
        if inch * narrow >= NARROWEST:
            break
    return lines, min(inch, WIDEST / narrow)


Scene = Callable[[Axes, FloatArray, Style], None]


def _scene(cut: Cut, voxels: IntArray, backdrop: Backdrop | None) -> Scene:
    """Prepare a cut, so that every map of the same voxels is drawn on it in no time."""
    inside = voxels >= 0
    behind_it = np.ones((*voxels.shape, 4)) * (1, 1, 1, 0) if backdrop is None else backdrop.grey(cut.points())
    if backdrop is None:
        behind_it[inside] = (0.86, 0.86, 0.86, 1.0)
    paper = behind_it[..., :3] * behind_it[..., 3:] + 1 - behind_it[..., 3:]

    def draw(ax: Axes, colours: FloatArray, style: Style) -> None:
        own = np.concatenate([colours, np.zeros((1, 4))])[voxels]  # -1 is the last, transparent
        ax.imshow(
            own[..., 3:] * own[..., :3] + (1 - own[..., 3:]) * paper, extent=cut.extent, interpolation="antialiased"
        )
        if inside.any() and not inside.all():
            ax.contour(inside[::-1], levels=[0.5], colors=EDGES, linewidths=0.45 * style.scale, extent=cut.extent)
        ax.set_axis_off()
        _sides(ax, SIDES[cut.axis], style)

    return draw


def _sides(ax: Axes, names: tuple[str, str] | str, style: Style) -> None:
    """Say what is on the left and on the right, or below the forehead which side is seen."""
    halo = [withStroke(linewidth=2 * style.scale, foreground="white")]
    look: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "fontsize": style.small, "color": INK}
    look["path_effects"] = halo
    if isinstance(names, str):
        ax.text(0.08 if names == "left" else 0.92, 0.2, names, ha=names, **look)
        return
    for x, side, align in zip((0.01, 0.99), names, ("left", "right"), strict=True):
        ax.text(x, 0.99, side, ha=align, **look)


def _title(ax: Axes, title: str, note: str, style: Style) -> None:
    words = f"{title} ({note})" if note and title else title or note
    ax.set_title(words, fontsize=style.large, color=INK, pad=4 * style.scale, loc="left")


def _note(colours: FloatArray, crossed: IntArray | None = None) -> str:
    """Say what is odd about a map that is drawn all the same; empty if nothing is.

    Parameters
    ----------
    colours : ndarray of shape (n_voxels, 4)
    crossed : ndarray of int, optional
        The voxels that lie on any cut; -1 is none.
    """
    there = np.flatnonzero(colours[:, 3] > 0)
    if not len(there):
        return "no voxel is coloured"
    if crossed is not None and not np.isin(there, crossed).any():
        return f"{len(there):,} coloured voxel{'s' if len(there) > 1 else ''}, none on these cuts"
    return ""
