"""What all figures have in common: a canvas of its own, inks, sizes, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from latentcortex._files import writing

DPI: Final = 160
SERIES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
"""Okabe and Ito's colours, which people with any kind of colour vision tell apart."""

INK: Final = "#222222"
NAME, SMALL, MEDIUM, LARGE = 8.0, 10.0, 12.0, 14.0
"""Of letters, in points."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes, without date or software."""
    with writing(path) as part:
        figure.savefig(part, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})


def empty_figure(width: float, height: float) -> Figure:
    """Make a figure of so many inches that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_in_inches(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the lower left."""
    whole, tall = figure.get_size_inches()
    return figure.add_axes((x / whole, y / tall, width / whole, height / tall))


def plain(ax: Axes) -> None:
    """Take away the box; keep two axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=SMALL, color=INK, labelcolor=INK)
