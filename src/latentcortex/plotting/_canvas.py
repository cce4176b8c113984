"""What all figures have in common: a canvas of its own, a style for print, inks, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from latentcortex._arrays import finite_number
from latentcortex._files import writing
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

DPI: Final = 300
MM: Final = 1 / 25.4
"""In inches."""
SERIES: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
"""Okabe and Ito's colours, which people with any kind of colour vision tell apart."""

INK: Final = "#222222"
DRAWN: Final = 12.0
"""Points of a label at the size at which figures are laid out; print shrinks all lengths alike."""
MIN_TEXT: Final = 5.0
"""Points below which nobody reads letters in print."""
FORMATS: Final[dict[str, dict[str, Any]]] = {
    "png": {"metadata": {"Software": None}},
    "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}
"""What a figure may be written as; no date and no software, so that the same figure gives the same bytes."""
SETTINGS: Final = {
    **{name: value for name, value in rcParamsDefault.items() if name != "backend"},
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "latentcortex",
}
"""What matplotlib comes with, but letters stay text, and ids of an SVG come from its content instead of at random."""


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with `SETTINGS`, whatever a `matplotlibrc`, the environment or a style says; also decorates functions."""
    settings: Any = SETTINGS
    with rc_context(settings):
        yield


@dataclass(frozen=True)
class Style:
    """How wide a figure may become in print, and how large its letters are.

    Figures are laid out for the width of a column, 85 mm, or of a page, 180 mm: panels move below each other where
    there is no room beside each other, and letters keep their size. A figure that needs less stays narrower.

    Parameters
    ----------
    width_mm : float
        At least 60, at most 600.
    text : float
        Of labels, in points, at least 6. Titles are a sixth larger, ticks a sixth smaller; nothing is below 5.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    width_mm: float = 180.0
    text: float = 7.0

    def __post_init__(self) -> None:
        if not 60 <= finite_number("width_mm", self.width_mm) <= 600:
            raise InputError(f"width_mm must be 60 to 600; got {self.width_mm:g}. A column has 85, a page 180.")
        if not 6 <= finite_number("text", self.text) <= 24:
            raise InputError(f"text must be 6 to 24 points; got {self.text:g}.")

    @property
    def scale(self) -> float:
        """Inches in print per inch of the layout."""
        return self.text / DRAWN

    @property
    def room(self) -> float:
        """Width of the layout, inches."""
        return self.width_mm * MM / self.scale

    @property
    def name(self) -> float:
        """Points of names on a map."""
        return max(MIN_TEXT, 8 * self.scale)

    @property
    def small(self) -> float:
        """Points of ticks and notes."""
        return max(MIN_TEXT, 10 * self.scale)

    @property
    def medium(self) -> float:
        """Points of labels."""
        return self.text

    @property
    def large(self) -> float:
        """Points of titles."""
        return 14 * self.scale

    def beside(self, wide: float, most: int) -> int:
        """Count the panels of so many inches that fit beside each other, at least one and at most so many."""
        return max(1, min(most, int((self.room + 1e-6) / wide)))

    def letters(self, wide: float, points: float) -> int:
        """Count the letters of so many points that fit into so many inches of the layout."""
        return max(int(wide * self.scale * 72 / (0.58 * points)), 6)


PAGE: Final = Style()
"""As wide as the page of a journal."""


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure in the format that the name of the file ends in: png, pdf or svg.

    Pictures have 300 dots per inch, and letters in PDF and SVG stay text. The same figure gives the same bytes.

    Raises
    ------
    InputError
        If the format is another one.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise unknown("format of a figure:", kind, FORMATS)
    with writing(path) as part, part.open("wb") as handle:
        _write(figure, handle, kind)


def png(figure: Figure) -> bytes:
    """Draw a figure as the bytes of a PNG file."""
    stream = BytesIO()
    _write(figure, stream, "png")
    return stream.getvalue()


@house_style()
def _write(figure: Figure, stream: Any, kind: str) -> None:
    figure.savefig(stream, format=kind, dpi=DPI, facecolor="white", **FORMATS[kind])


def smallest_text(figure: Figure) -> float:
    """Find the smallest letters that a figure shows, in points in print."""
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return min((float(text.get_fontsize()) for text in shown), default=float("inf"))


def empty_figure(width: float, height: float, style: Style = PAGE) -> Figure:
    """Make a figure of so many inches of the layout that pyplot knows nothing of."""
    figure = Figure(figsize=(width * style.scale, height * style.scale), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_in_inches(figure: Figure, style: Style, place: tuple[float, float, float, float]) -> Axes:
    """Add axes at a place in inches of the layout: left, bottom, width, height."""
    whole, tall = figure.get_size_inches() / style.scale
    x, y, width, height = place
    return figure.add_axes((x / whole, y / tall, width / whole, height / tall))


def plain(ax: Axes, style: Style = PAGE) -> None:
    """Take away the box; keep two axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_linewidth(0.9 * style.scale)
    ticks(ax, style)


def ticks(ax: Axes, style: Style, length: float = 3.5) -> None:
    """Give ticks the ink and the size of the style."""
    size: dict[str, Any] = {"length": length * style.scale, "width": 0.9 * style.scale, "pad": 3.5 * style.scale}
    ax.tick_params(which="both", labelsize=style.small, color=INK, labelcolor=INK, **size)
