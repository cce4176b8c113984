"""Slices as a canvas: planes through the voxels of a volume, anatomy behind them, a line round the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from latentcortex._arrays import FloatArray, IntArray
from latentcortex.plotting._canvas import INK, PAGE, Style, axes_in_inches, empty_figure, house_style
from latentcortex.plotting._legends import GREY_LINE, LegendPlace, grey_legend
from latentcortex.plotting._planes import SIDES, Backdrop, Slice, behind, slices_of
from latentcortex.plotting.cortex import EDGE
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.panel import volumes_of

MIN_SLICE_WIDTH: Final = 1.25
"""Inches of the layout below which a slice shows nothing, of its longer side: about 19 mm in print."""
MAX_SLICE_WIDTH: Final = 2.4
MAX_LINES: Final = 4
GAP: Final = 0.07
HEAD: Final = 0.34
"""Room above the slices of a map for its title, in inches of the layout."""
PLACE_LINE: Final = 0.24
"""Room below a line of slices for where they are, in inches of the layout."""
MASK_BORDER: Final = "#8c8c8c"
"""Colour of the line round the voxels of the mask."""


class Voxels:
    """The voxels themselves, as points of a painting."""

    def lay(self, values: FloatArray) -> FloatArray:
        """Keep values of voxels."""
        return values

    def lay_categories(self, labels: FloatArray) -> FloatArray:
        """Keep categories of voxels."""
        return labels

    def paint(self, values: FloatArray) -> FloatArray:
        """Colour the voxels themselves."""
        return values

    def nearest(self, labels: IntArray) -> IntArray:
        """Colour the voxels themselves."""
        return labels


@dataclass(frozen=True, eq=False)
class Slices:
    """Axial slices through a volume, a sagittal and a coronal one; one map below the other.

    The slices are the same for all maps, and chosen to cover the voxels; the left of the brain is on the left. A line
    runs round the voxels of the mask; within it, anatomy shows through where a map is nan.

    Parameters
    ----------
    background : Path or Nifti1Image, optional
        Anatomy in the mm of the voxels; by default the template that comes with nilearn for references MNI152*, and
        none for others.
    """

    background: Path | str | nib.Nifti1Image | None = None

    @house_style()
    def draw(self, painting: Painting, style: Style = PAGE) -> Figure:
        """Draw a painting; see `plotting.draw`."""
        panels, volumes = painting.panels, volumes_of(painting.panels)
        different = list({id(volume): volume for volume in volumes}.values())
        backdrop = behind(different[0], self.background)
        slices = slices_of(different, backdrop)
        lines, inch = _lines(slices, style)
        tall = [max(_size(one)[1] for one in line) * inch for line in lines]
        wide = max(sum(_size(one)[0] * inch + GAP for one in line) for line in lines)
        rows = Rows.build(len(panels), wide, sum(tall) + PLACE_LINE * len(lines), painting, style)
        planes = {id(volume): [one.voxels(volume) for one in slices] for volume in different}
        scenes = {
            key: [_scene(one, voxels, backdrop) for one, voxels in zip(slices, each, strict=True)]
            for key, each in planes.items()
        }
        width, whole = rows.figure.get_size_inches() / style.scale
        letters: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": style.small, "color": INK}
        for panel, volume, (left, bottom, _, height) in zip(panels, volumes, rows.places, strict=True):
            colours, scene = painting.paint(panel, Voxels()), iter(scenes[id(volume)])
            top = bottom + height
            head = axes_in_inches(rows.figure, style, (left, top, wide, 0.01))
            draw_title(head, panel.title, note_of(colours, planes[id(volume)]), style)
            head.set_axis_off()
            for line, high in zip(lines, tall, strict=True):
                x, top = left, top - high
                for one in line:
                    across, up = (side * inch for side in _size(one))
                    next(scene)(axes_in_inches(rows.figure, style, (x, top, across, up)), colours, style)
                    # Below the line, not the slice, so that all stand at one height.
                    rows.figure.text((x + across / 2) / width, (top - 0.03) / whole, one.title, **letters)
                    x += across + GAP
                top -= PLACE_LINE
        rows.draw_legend(painting)
        return rows.figure

    def caption(self, painting: Painting) -> str:
        """Say in whole sentences what a reader must know of the canvas."""
        reference = volumes_of(painting.panels)[0].reference
        sentences = (
            "On axial slices, each of which stands for as many voxels, and on the sagittal and the coronal one that "
            f"have most voxels; the left of the brain is on the left, places are in mm of {reference}. A line runs "
            "round the voxels of the mask."
        )
        if self.background is not None:
            return f"{sentences} The anatomy is the image that was given."
        if reference.startswith("MNI152"):
            return f"{sentences} The anatomy is the average of 152 brains, symmetric, of 2009 (ICBM 2009a)."
        return sentences


@dataclass(frozen=True, eq=False)
class Rows:
    """A figure of maps below each other: where each is (left, bottom, width, height), and the place of the legend."""

    figure: Figure
    places: list[tuple[float, float, float, float]]
    legend: LegendPlace

    @classmethod
    def build(cls, n_rows: int, wide: float, tall: float, painting: Painting, style: Style) -> Rows:
        """Make the figure, of rows so many inches of the layout wide and tall, with a title each."""
        legend_height = painting.legend_height + GREY_LINE * painting.has_grey
        width, height = wide + 2 * EDGE, n_rows * (tall + HEAD) + EDGE + legend_height
        figure = empty_figure(width, height, style)
        places = [(EDGE, height - (row + 1) * (tall + HEAD), wide, tall) for row in range(n_rows)]
        return cls(figure, places, LegendPlace(figure, width / 2, 0.0, style))

    def draw_legend(self, painting: Painting) -> None:
        """Explain the colours of a painting, and grey where there is any."""
        painting.draw_legend(self.legend)
        if painting.has_grey:
            grey_legend(self.legend, painting.legend_height)


def _size(one: Slice) -> tuple[float, float]:
    """Width and height in mm of the brain."""
    left, right, bottom, top = one.extent
    return right - left, top - bottom


def _lines(slices: Sequence[Slice], style: Style) -> tuple[list[Sequence[Slice]], float]:
    """Break the slices of a map into as few lines as let them be seen; return the lines, and inches per mm."""
    room = style.room - 2 * EDGE
    for n_lines in range(1, MAX_LINES + 1):
        each = -(-len(slices) // n_lines)
        lines = [slices[i : i + each] for i in range(0, len(slices), each)]
        inch = min((room - GAP * len(line)) / sum(_size(one)[0] for one in line) for line in lines)
        narrow = min(max(_size(one)) for one in slices)
        if inch * narrow >= MIN_SLICE_WIDTH:
            break
    return lines, min(inch, MAX_SLICE_WIDTH / narrow)


Scene = Callable[[Axes, FloatArray, Style], None]


def _scene(one: Slice, voxels: IntArray, backdrop: Backdrop | None) -> Scene:
    """Prepare a slice, so that every map of the same voxels is drawn on it in no time."""
    inside = voxels >= 0
    anatomy = np.ones((*voxels.shape, 4)) * (1, 1, 1, 0) if backdrop is None else backdrop.grey(one.points())
    if backdrop is None:
        anatomy[inside] = (0.86, 0.86, 0.86, 1.0)
    paper = anatomy[..., :3] * anatomy[..., 3:] + 1 - anatomy[..., 3:]

    def draw(ax: Axes, colours: FloatArray, style: Style) -> None:
        pixels = np.concatenate([colours, np.zeros((1, 4))])[voxels]  # -1 is the last, transparent
        mixed = pixels[..., 3:] * pixels[..., :3] + (1 - pixels[..., 3:]) * paper
        ax.imshow(mixed, extent=one.extent, interpolation="antialiased")
        if inside.any() and not inside.all():
            ax.contour(inside[::-1], levels=[0.5], colors=MASK_BORDER, linewidths=0.45 * style.scale, extent=one.extent)
        ax.set_axis_off()
        draw_sides(ax, SIDES[one.axis], style)

    return draw


def draw_sides(ax: Axes, names: tuple[str, str] | str, style: Style) -> None:
    """Say what is on the left and on the right, or below the forehead which side is seen."""
    halo = [withStroke(linewidth=2 * style.scale, foreground="white")]
    letters: dict[str, Any] = {"transform": ax.transAxes, "va": "top", "fontsize": style.small, "color": INK}
    letters["path_effects"] = halo
    if isinstance(names, str):
        ax.text(0.08 if names == "left" else 0.92, 0.2, names, ha=names, **letters)
        return
    for x, side, align in zip((0.01, 0.99), names, ("left", "right"), strict=True):
        ax.text(x, 0.99, side, ha=align, **letters)


def draw_title(ax: Axes, title: str, note: str, style: Style) -> None:
    """Write the title of a map above its left end, and behind it what is odd about the map."""
    words = f"{title} ({note})" if note and title else title or note
    ax.set_title(words, fontsize=style.large, color=INK, pad=4 * style.scale, loc="left")


def note_of(colours: FloatArray, planes: Sequence[IntArray] = ()) -> str:
    """Say what is odd about a map that is drawn all the same; empty if nothing is.

    Parameters
    ----------
    colours : ndarray of shape (n_voxels, 4)
    planes : sequence of ndarray of int
        The voxels that lie on each slice, if slices are drawn; -1 is none.
    """
    coloured = np.flatnonzero(colours[:, 3] > 0)
    if not len(coloured):
        return "no voxel is coloured"
    if len(planes) and not any(np.isin(coloured, voxels).any() for voxels in planes):
        return f"{len(coloured):,} coloured voxel{'s' if len(coloured) > 1 else ''}, none on these slices"
    return ""
