"""What explains a figure of maps: colour bar, square of two shares, layers, and what grey means."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray
from latentcortex.plotting._canvas import INK, PAGE, Style, axes_in_inches, ticks

SHARE_COLOURS: Final = ("#0d6bff", "#ff5500")
"""Of the two bands of a share map. Their mixtures are purple, not grey, which would look like bare cortex."""

GREY: Final = "#4d4d4d"
"""Of what cannot be told: darker than any curvature, and without a hue."""

COLOUR_BAR: Final = 0.95
SQUARE: Final = 2.25
LAYERS: Final = 1.1
TRIANGLE: Final = 1.95
SQUARES: Final = 0.75
"""Heights of legends, in inches of the layout."""
GREY_LINE: Final = 0.3
"""Height of the line that explains grey, in inches of the layout."""
CANNOT_BE_TOLD: Final = (GREY, "cannot be told")
"""The grey of maps, and what it means."""
RGB: Final = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
CORTEX_GREY: Final = 0.74
"""Grey level, 0..1, of cortex that is neither gyrus nor sulcus."""


@dataclass(frozen=True, eq=False)
class LegendPlace:
    """Where a figure has its legend.

    Parameters
    ----------
    figure : Figure
    middle, bottom : float
        The legend's middle and lower end, in inches of the layout.
    style : Style
    paper : float
        Grey level, 0..1, that colours which are not opaque are laid over, as they are on the maps.
    """

    figure: Figure
    middle: float
    bottom: float
    style: Style = PAGE
    paper: float = CORTEX_GREY

    def axes(self, above: float, width: float, height: float, aside: float = 0.0) -> Axes:
        """Add axes, so many inches above the legend's lower end and to the right of its middle."""
        left, low = self.middle + aside - width / 2, self.bottom + above
        return axes_in_inches(self.figure, self.style, (left, low, width, height))


def extended(palette: ScalarMappable, values: Sequence[FloatArray]) -> str:
    """Tell at which ends of a scale values lie beyond it."""
    low, high = palette.get_clim()
    together = np.concatenate([v[np.isfinite(v)] for v in values])
    under, over = bool((together < low).any()), bool((together > high).any())
    return {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}[under, over]


def labelled(bar: Colorbar, label: str, style: Style) -> None:
    """Give a colour bar its label and the ink of the style."""
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=style.medium, color=INK)
    ticks(bar.ax, style, 3)


def colour_bar(place: LegendPlace, palette: ScalarMappable, values: Sequence[FloatArray], label: str) -> None:
    """Draw the scale of numbers in the legend's place."""
    ax = place.axes(COLOUR_BAR - 0.32, 3.8, 0.17)
    bar = place.figure.colorbar(palette, cax=ax, orientation="horizontal", extend=extended(palette, values))
    labelled(bar, label, place.style)


def share_legend(place: LegendPlace, names: tuple[str, str], top: float, label: str) -> None:
    """Draw the square of two shares, the first rightwards and the second upwards."""
    ax = place.axes(0.62, 1.2, 1.2)
    steps = np.linspace(0.0, top, 128)
    square = on_grey(share_colours(*np.meshgrid(steps, steps), limit=top), place.paper)
    ax.imshow(square, origin="lower", extent=(0, top, 0, top))
    ax.set(xticks=(0, top), yticks=(0, top), xticklabels=("≤0", f"≥{top:.2g}"), yticklabels=("≤0", f"≥{top:.2g}"))
    ticks(ax, place.style, 3)
    ax.set_title(label, fontsize=place.style.medium, color=INK)
    ax.set_xlabel(names[0], fontsize=place.style.medium, color=INK, labelpad=0)
    ax.set_ylabel(names[1], fontsize=place.style.medium, color=INK, labelpad=1, rotation=0, ha="right", va="center")


def layer_legend(place: LegendPlace, layers: Sequence[str], label: str, opacities: Mapping[str, float] | None) -> None:
    """Draw a square per layer in each of the named opacities, the lowest below; without such, in all from 0 to 1."""
    rows = np.linspace(0.0, 1.0, 64) if opacities is None else np.array(list(opacities.values()))
    names = ("unsure", "sure") if opacities is None else tuple(opacities)
    # To the right, so that squares and the names before them are in the middle together.
    ax = place.axes(0.55, 0.75 * len(layers), 0.4, aside=0.04 * max(map(len, names)))
    colours = np.broadcast_to(layer_colours(len(layers)), (len(rows), len(layers), 3))
    opacity = np.broadcast_to(rows[:, None, None], (*colours.shape[:2], 1))
    ax.imshow(
        on_grey(np.concatenate([colours, opacity], axis=-1), place.paper),
        origin="lower",
        aspect="auto",
        extent=(-0.5, len(layers) - 0.5, 0, 1),
        interpolation="nearest",
    )
    places = (0, 1) if opacities is None else (np.arange(len(names)) + 0.5) / len(names)
    ax.set(xticks=range(len(layers)), xticklabels=layers)
    ax.set(yticks=places if any(names) else (), yticklabels=names if any(names) else ())
    ticks(ax, place.style, 0)
    ax.set_xlabel(label, fontsize=place.style.medium, color=INK)
    for boundary in np.arange(len(layers) - 1) + 0.5:
        ax.axvline(boundary, color="white", linewidth=2 * place.style.scale)
    ax.spines[:].set_visible(False)


def grey_legend(place: LegendPlace, above: float) -> None:
    """Explain grey on a line of its own, so many inches above the legend's lower end."""
    square_legend(place, above, [CANNOT_BE_TOLD])


def square_legend(place: LegendPlace, above: float, entries: Sequence[tuple[Any, str]]) -> None:
    """Explain colours, a square and a word each, on one line."""
    wide = [0.3 + 0.078 * len(word) for _, word in entries]
    left = -sum(wide) / 2 - 0.15 * (len(wide) - 1)
    for (colour, word), width in zip(entries, wide, strict=True):
        ax = place.axes(above, 0.17, 0.17, aside=left + 0.085)
        ax.set(xticks=(), yticks=(), facecolor=colour)
        ax.spines[:].set_visible(False)
        ax.text(1.5, 0.46, word, transform=ax.transAxes, va="center", fontsize=place.style.small, color=INK)
        left += width + 0.3


def band_legend(place: LegendPlace, entries: Sequence[tuple[Any, str]], label: str) -> None:
    """Explain the colours of bands, a square and a word each, below what they mean."""
    square_legend(place, 0.12, entries)
    head = place.axes(0.42, 0.1, 0.1)
    head.text(0.5, 0.5, label, ha="center", va="center", fontsize=place.style.medium, color=INK)
    head.set_axis_off()


def triangle_legend(place: LegendPlace, names: Sequence[str], top: float, label: str) -> None:
    """Draw the mixtures of three lights, each at its corner, and how opaque a score is."""
    high = np.sqrt(3) / 2
    ax = place.axes(0.42, 1.25, 1.25 * high, aside=-1.0)
    x, y = np.meshgrid(np.linspace(0, 1, 240), np.linspace(0, high, 240))
    amounts = np.stack([1 - x - 0.5 * y / high, y / high, x - 0.5 * y / high])  # at the left, above, at the right
    inside = (amounts >= 0).all(0)
    picture = np.ones((*x.shape, 4))
    picture[..., :3] = np.moveaxis(amounts / amounts.max(0), 0, -1).clip(0, 1)
    picture[..., 3] = inside
    ax.imshow(picture, origin="lower", extent=(0, 1, 0, high), interpolation="bilinear")
    ax.set_axis_off()
    look: dict[str, Any] = {"fontsize": place.style.medium, "color": INK}
    ax.text(0, -0.06, names[0], ha="center", va="top", **look)
    ax.text(0.5, high + 0.05, names[1], ha="center", va="bottom", **look)
    ax.text(1, -0.06, names[2], ha="center", va="top", **look)
    bar = place.axes(0.85, 1.6, 0.17, aside=1.05)
    scores = np.eye(3)[:, None] * np.linspace(0, top, 64)[:, None]
    ramps = on_grey(rgb_colours(*np.moveaxis(scores, -1, 0), limit=top), place.paper)
    bar.imshow(ramps, aspect="auto", extent=(0, top, 0, 1))
    bar.set(yticks=(), xticks=(0, top), xticklabels=("≤0", f"≥{top:.2g}"))
    bar.spines[:].set_visible(False)
    bar.set_xlabel(label, **look)
    ticks(bar, place.style, 3)


def rgb_colours(first: FloatArray, second: FloatArray, third: FloatArray, *, limit: float) -> FloatArray:
    """Mix red, green and blue light of three scores: the hue tells in which proportion, the opacity how high they are.

    Parameters
    ----------
    first, second, third : ndarray of the same shape
        One that is nan gives no light.
    limit : float
        Score of the highest of the three from which on the colour is opaque; a score below 0 gives no light.

    Returns
    -------
    ndarray of shape (..., 4)
        Red, green, blue and opacity, 0..1; transparent where no score is above 0 or all are nan.
    """
    return _mixture((first, second, third), RGB, limit)


def share_colours(first: FloatArray, second: FloatArray, *, limit: float) -> FloatArray:
    """Mix the colour of two shares: the hue tells in which proportion, the opacity how large they are.

    Parameters
    ----------
    first, second : ndarray of the same shape
    limit : float
        Share of the larger of the two from which on the colour is opaque; shares are clipped to 0..limit.

    Returns
    -------
    ndarray of shape (..., 4)
        Red, green, blue and opacity, 0..1; transparent where a share is nan, or both are 0. Light adds up: where both
        are alike the colour is almost white.
    """
    colours = _mixture((first, second), [to_rgb(colour) for colour in SHARE_COLOURS], limit)
    colours[np.isnan(first) | np.isnan(second), 3] = 0.0
    return colours


def _mixture(scores: Sequence[FloatArray], lights: Sequence[tuple[float, ...]], limit: float) -> FloatArray:
    """Add up one light for each score, (..., 4).

    Opacity is the highest score relative to the limit, and the lights are relative to the highest: a mixture that
    grew dark instead would be black where scores are low, like a mark on the cortex.
    """
    amounts = np.clip(np.nan_to_num(np.stack(scores, axis=-1)) / limit, 0.0, 1.0)
    highest = amounts.max(axis=-1, keepdims=True)
    colours = np.clip(amounts / np.where(highest > 0, highest, 1.0) @ np.array(lights), 0.0, 1.0)
    return np.concatenate([colours, highest], axis=-1)


def on_grey(colours: FloatArray, paper: float = CORTEX_GREY) -> FloatArray:
    """Lay colours with opacity, (..., 4), over a grey level, by default the middle one of cortex, (..., 3)."""
    opacity = colours[..., 3:]
    return np.asarray(opacity * colours[..., :3] + (1.0 - opacity) * paper)


def layer_colours(n_layers: int) -> FloatArray:
    """Choose a colour per layer, (n_layers, 3): dark to light in the network's order."""
    return np.asarray(matplotlib.colormaps["plasma"](np.linspace(0.02, 0.95, n_layers)))[:, :3]


def as_bytes(colours: FloatArray) -> NDArray[np.uint8]:
    """Turn colours 0..1 into 0..255."""
    return np.round(np.clip(colours, 0.0, 1.0) * 255).astype(np.uint8)


def data_url(colours: FloatArray) -> str:
    """Write an image, (height, width, 3 or 4) of 0..1, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(as_bytes(colours)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
