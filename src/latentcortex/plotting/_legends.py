"""What explains a figure of maps: colour bar, square of two shares, layers, and what grey means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray
from latentcortex.plotting._canvas import INK, MEDIUM, SMALL, axes_in_inches

SHARE_COLOURS: Final = ("#0d6bff", "#ff5500")
"""Of the two bands of a share map. Their mixtures are purple, not grey, which would look like bare cortex."""

GREY: Final = "#4d4d4d"
"""Of what cannot be told: darker than any curvature, and without a hue."""

FOOT: Final = 0.95
"""Of a figure's margin for a colour bar, in inches."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A figure, its panels' axes, and where its legend begins: the middle and the lower end, in inches."""

    figure: Figure
    axes: list[Axes]
    legend: tuple[float, float]

    def legend_axes(self, bottom: float, width: float, height: float) -> Axes:
        """Add axes for the legend, so many inches above its lower end."""
        middle, low = self.legend
        return axes_in_inches(self.figure, middle - width / 2, low + bottom, width, height)


def colour_bar(grid: Grid, palette: ScalarMappable, values: Sequence[FloatArray], label: str) -> None:
    low, high = palette.get_clim()
    together = np.concatenate([v[np.isfinite(v)] for v in values])
    under, over = bool((together < low).any()), bool((together > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}[under, over]
    ax = grid.legend_axes(FOOT - 0.32, 3.8, 0.17)
    bar = grid.figure.colorbar(palette, cax=ax, orientation="horizontal", extend=extend)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=MEDIUM, color=INK)
    bar.ax.tick_params(labelsize=SMALL, color=INK, labelcolor=INK, length=3)


def share_legend(grid: Grid, names: tuple[str, str], top: float, label: str) -> None:
    ax = grid.legend_axes(0.62, 1.2, 1.2)
    steps = np.linspace(0.0, top, 128)
    ax.imshow(share_colours(*np.meshgrid(steps, steps), limit=top), origin="lower", extent=(0, top, 0, top))
    ax.set(xticks=(0, top), yticks=(0, top), xticklabels=("≤0", f"≥{top:.2g}"), yticklabels=("≤0", f"≥{top:.2g}"))
    ax.tick_params(labelsize=SMALL, color=INK, labelcolor=INK, length=3)
    ax.set_title(label, fontsize=MEDIUM, color=INK)
    ax.set_xlabel(names[0], fontsize=MEDIUM, color=INK, labelpad=0)
    ax.set_ylabel(names[1], fontsize=MEDIUM, color=INK, labelpad=0)


def layer_legend(grid: Grid, layers: Sequence[str], label: str, *, graded: bool) -> None:
    """Draw a square per layer; with confidence, from the bare underlay below to the full colour above."""
    ax = grid.legend_axes(0.55, 0.75 * len(layers), 0.4)
    opacity = np.linspace(0.0, 1.0, 64)[:, None, None] if graded else np.ones((1, 1, 1))
    ax.imshow(
        opacity * layer_colours(len(layers)) + (1 - opacity) * 0.74,
        origin="lower",
        aspect="auto",
        extent=(-0.5, len(layers) - 0.5, 0, 1),
        interpolation="nearest",
    )
    ax.set(
        xticks=range(len(layers)),
        xticklabels=layers,
        yticks=(0, 1) if graded else (),
        yticklabels=("unsure", "sure") if graded else (),
    )
    ax.tick_params(labelsize=SMALL, color=INK, labelcolor=INK, length=0)
    ax.set_xlabel(label, fontsize=MEDIUM, color=INK)
    for boundary in np.arange(len(layers) - 1) + 0.5:
        ax.axvline(boundary, color="white", linewidth=2)
    ax.spines[:].set_visible(False)


def grey_legend(grid: Grid, aside: float) -> None:
    """Explain grey, so many inches to the right of the legend's middle."""
    middle, low = grid.legend
    ax = axes_in_inches(grid.figure, middle + aside, low + 0.62, 0.17, 0.17)
    ax.set(xticks=(), yticks=(), facecolor=GREY)
    ax.spines[:].set_visible(False)
    ax.text(1.4, 0.5, "cannot be told", transform=ax.transAxes, va="center", fontsize=SMALL, color=INK)


def share_colours(first: FloatArray, second: FloatArray, *, limit: float) -> FloatArray:
    """Mix the colour of two shares.

    Parameters
    ----------
    first, second : ndarray of the same shape
    limit : float
        Share at which a band's colour is brightest; shares are clipped to 0..limit.

    Returns
    -------
    ndarray of shape (..., 4)
        Red, green, blue and opacity, 0..1; transparent where a share is nan. Light adds up: black where both
        are 0, almost white where both are at the limit.
    """
    amounts = [np.clip(np.nan_to_num(share) / limit, 0.0, 1.0)[..., None] for share in (first, second)]
    light = sum(amount * np.array(to_rgb(c)) for amount, c in zip(amounts, SHARE_COLOURS, strict=True))
    defined = np.isfinite(first) & np.isfinite(second)
    return np.concatenate([np.clip(light, 0.0, 1.0), defined[..., None].astype(float)], axis=-1)


def layer_colours(n_layers: int) -> FloatArray:
    """Choose a colour per layer, (n_layers, 3): dark to light in the network's order."""
    return np.asarray(matplotlib.colormaps["plasma"](np.linspace(0.02, 0.95, n_layers)))[:, :3]
