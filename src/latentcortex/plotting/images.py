"""Images, and what lies as an image does, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, PAGE, Style, axes_in_inches, empty_figure, house_style

SIDE: Final = 0.95
"""Width of one image, inches of the layout; less where there is no room."""
LABEL: Final = 1.35
"""Room for the names of rows, inches of the layout."""
GAP: Final = 0.06


@house_style()
def image_grid(rows: Mapping[str, NDArray[np.uint8]], names: Sequence[str], *, style: Style = PAGE) -> Figure:
    """Draw rows of images, one column per stimulus.

    Parameters
    ----------
    rows : dict
        Name of the row -> images, uint8 (n_stimuli, height, width, 3); sizes may differ between rows.
    names : sequence of str
        Of the stimuli.
    style : Style

    Raises
    ------
    InputError
        If there is no row.
    AlignmentError
        If a row has not one image per name.
    """
    if not rows:
        raise InputError("A grid of images needs at least one row.")
    for images in rows.values():
        same_length(names=names, images=images)
    height, width = next(iter(rows.values())).shape[1:3]
    side = min(SIDE, (style.room - LABEL) / len(names) - GAP)
    step, tall = side + GAP, side * height / width + GAP
    words = [textwrap.fill(name, style.letters(step, style.small)) for name in names]
    head = 0.1 + 0.2 * max(one.count("\n") + 1 for one in words)
    figure = empty_figure(LABEL + step * len(names), tall * len(rows) + head, style)
    for r, (name, images) in enumerate(rows.items()):
        low = tall * (len(rows) - 1 - r)
        _name(figure, name, low + tall / 2, style)
        for c, image in enumerate(images):
            ax = axes_in_inches(figure, style, (LABEL + c * step, low, side, tall - GAP))
            ax.imshow(image, aspect="auto", interpolation="nearest")
            ax.set_axis_off()
            if r == 0:
                ax.set_title(words[c], fontsize=style.small, color=INK, pad=4 * style.scale)
    return figure


@house_style()
def latent_weights(maps: FloatArray, names: Sequence[str], *, style: Style = PAGE) -> Figure:
    """Draw where in the image, and in which channel of a latent, the weights of voxels lie.

    One row per voxel: its channels on one symmetric scale, which differs between voxels, and the root of the
    channels' summed squares. A voxel that is not valid stays empty.

    Parameters
    ----------
    maps : ndarray of shape (n_voxels, n_channels, height, width)
        From `Encoder.spatial`.
    names : sequence of str
        Of the voxels.
    style : Style

    Raises
    ------
    AlignmentError
        If there is not one map per name.
    """
    same_length(maps=maps, names=names)
    n_channels, (height, width) = maps.shape[1], maps.shape[2:]
    titles = [*(f"channel {k + 1}" for k in range(n_channels)), "all"]
    bar = 0.62
    side = min(SIDE, (style.room - LABEL - 2 * bar) / len(titles) - GAP)
    tall = side * height / width + GAP
    figure = empty_figure(LABEL + (side + GAP) * len(titles) + 2 * bar, tall * len(names) + 0.3, style)
    for r, (name, one) in enumerate(zip(names, maps, strict=True)):
        low = tall * (len(names) - 1 - r)
        _name(figure, name, low + tall / 2, style)
        size = np.sqrt((one * one).sum(0))
        limit = float(np.abs(one).max()) if np.isfinite(one).all() else 1.0
        for c, image in enumerate([*one, size]):
            last = c == n_channels
            x = LABEL + c * (side + GAP) + bar * last
            ax = axes_in_inches(figure, style, (x, low, side, tall - GAP))
            scale: dict[str, Any] = (
                {"cmap": "cividis", "vmin": 0} if last else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            )
            drawn = ax.imshow(image, interpolation="nearest", aspect="auto", **scale)
            ax.set_axis_off()
            if r == 0:
                ax.set_title(titles[c], fontsize=style.small, color=INK, pad=4 * style.scale)
            if c >= n_channels - 1:
                colours = axes_in_inches(figure, style, (x + side + 0.05, low + 0.06, 0.07, tall - 0.18))
                figure.colorbar(drawn, cax=colours).ax.tick_params(labelsize=style.name, length=2 * style.scale, pad=1)
    return figure


def _name(figure: Figure, name: str, middle: float, style: Style) -> None:
    """Write the name of a row to its left, at a height in inches."""
    width, height = figure.get_size_inches() / style.scale
    where = (LABEL - 0.12) / width, middle / height
    words = "\n".join(textwrap.fill(line, 12) for line in name.splitlines())
    figure.text(*where, words, ha="right", va="center", fontsize=style.medium, color=INK)
