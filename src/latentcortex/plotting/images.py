"""Images side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from latentcortex._arrays import same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, MEDIUM, SMALL, axes_in_inches, empty_figure

SIDE = 0.95
"""Width of one image, inches."""
LABEL = 1.35
"""Room for the names of rows, inches."""


def image_grid(rows: Mapping[str, NDArray[np.uint8]], names: Sequence[str]) -> Figure:
    """Draw rows of images, one column per stimulus.

    Parameters
    ----------
    rows : dict
        Name of the row -> images, uint8 (n_stimuli, height, width, 3); sizes may differ between rows.
    names : sequence of str
        Of the stimuli.

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
    step, tall = SIDE + 0.06, SIDE * height / width + 0.06
    figure = empty_figure(LABEL + step * len(names), tall * len(rows) + 0.3)
    for r, (name, images) in enumerate(rows.items()):
        low = tall * (len(rows) - 1 - r)
        figure.text(
            (LABEL - 0.12) / figure.get_figwidth(),
            (low + tall / 2) / figure.get_figheight(),
            textwrap.fill(name, 12),
            ha="right",
            va="center",
            fontsize=MEDIUM,
            color=INK,
        )
        for c, image in enumerate(images):
            ax = axes_in_inches(figure, LABEL + c * step, low, SIDE, tall - 0.06)
            ax.imshow(image, aspect="auto", interpolation="nearest")
            ax.set_axis_off()
            if r == 0:
                ax.set_title(names[c], fontsize=SMALL, color=INK, pad=4)
    return figure
