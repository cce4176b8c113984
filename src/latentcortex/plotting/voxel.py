"""One voxel on one page: what was predicted, what was measured, and what its model is."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, PAGE, SERIES, Style, axes_in_inches, empty_figure, house_style, plain


@dataclass(frozen=True, eq=False)
class Voxel:
    """What is known of one voxel.

    Parameters
    ----------
    title : str
        Which one.
    ids : sequence of str
        Of the test stimuli.
    measured, predicted : ndarray of shape (n_stimuli,)
        Averaged responses, and what the model says.
    facts : dict of str to str
        Name -> value: score, ceiling, penalty, ...
    bands : sequence of str
    mixtures, shares : ndarray of shape (n_bands,)
        Weight of each band in the mixture of kernels, and its share of the explained variance.
    images : dict of str to ndarray of uint8, shape (height, width, 3)
        Of the stimuli with the highest and lowest responses; empty for none.

    Raises
    ------
    AlignmentError
        If lengths differ.
    InputError
        If the responses or the predictions are not finite.
    """

    title: str
    ids: Sequence[str]
    measured: FloatArray
    predicted: FloatArray
    facts: Mapping[str, str]
    bands: Sequence[str]
    mixtures: FloatArray
    shares: FloatArray
    images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        same_length(ids=self.ids, measured=self.measured, predicted=self.predicted)
        same_length(bands=self.bands, mixtures=self.mixtures, shares=self.shares)
        if not (np.isfinite(self.measured).all() and np.isfinite(self.predicted).all()):
            raise InputError(f"{self.title} is not valid: its responses or its predictions are not finite.")

    def ends(self, n_images: int) -> tuple[list[int], list[int]]:
        """Find the stimuli with the highest responses, highest first, and with the lowest, lowest first."""
        order = np.argsort(self.measured, kind="stable")
        most = min(n_images, len(order) // 2)
        return order[::-1][:most].tolist(), order[:most].tolist()


@house_style()
def voxel_page(voxel: Voxel, *, n_images: int = 5, style: Style = PAGE) -> Figure:
    """Draw one voxel: prediction against response, facts, bands, and the stimuli at both ends.

    Parameters
    ----------
    voxel : Voxel
    n_images : int
        Stimuli at each end.
    style : Style

    Returns
    -------
    Figure
    """
    narrow = style.room < 9
    width, side = min(10.2, style.room), 3.2
    ends, words = voxel.ends(n_images), _words(voxel)
    listing = 1.15 + (width - 0.3) / max(len(ends[0]), 1) * 0.8 if voxel.images else 0.3 + 0.2 * len(ends[0])
    rows = 2 * listing if voxel.images else listing
    tall = (0.21 * len(words), 0.36 * len(voxel.bands) + 0.2)  # of the facts, of the bars
    right = sum(tall) + 0.95
    top = (side + right + 0.8) if narrow else max(side, right)
    heading = textwrap.fill(voxel.title, style.letters(width - 0.3, style.large))
    head = 0.25 + 0.28 * len(heading.splitlines())
    height = head + top + 0.65 + rows + 0.2
    figure = empty_figure(width, height, style)
    figure.text(0.5, 1 - 0.08 / height, heading, ha="center", va="top", fontsize=style.large, color=INK)
    _scatter(axes_in_inches(figure, style, (0.8, height - head - side, side, side)), voxel, ends, style)
    x, y = (0.3, height - head - side - 0.8) if narrow else (side + 1.3, height - head)
    _facts(figure, words, (x, y - tall[0], 2.2, tall[0]), style)
    _bars(figure, voxel, (x, y - tall[0] - 0.5 - tall[1], width - x - 0.25, tall[1]), style)
    for number, (name, stimuli) in enumerate(zip(("highest", "lowest"), ends, strict=True)):
        if voxel.images:
            _pictures(figure, voxel, (stimuli, name), rows + 0.1 - number * listing, style)
        else:
            _names(figure, voxel, (stimuli, name), (0.3 + number * (width / 2 - 0.1), rows + 0.1), style)
    return figure


def _words(voxel: Voxel) -> list[str]:
    return [f"{name}: {value}" for name, value in voxel.facts.items()]


def _scatter(ax: Axes, voxel: Voxel, ends: tuple[list[int], list[int]], style: Style) -> None:
    ax.plot(voxel.predicted, voxel.measured, "o", color="#9a9a9a", markersize=3 * style.scale, markeredgewidth=0)
    for stimuli, colour in zip(ends, (SERIES[1], SERIES[0]), strict=True):
        ax.plot(
            voxel.predicted[stimuli],
            voxel.measured[stimuli],
            "o",
            color=colour,
            markersize=5.5 * style.scale,
            markeredgewidth=0,
        )
    ax.axline((0, float(voxel.measured.mean() - voxel.predicted.mean())), slope=1, color="#888888", linewidth=0.6)
    ax.set_xlabel("predicted response", fontsize=style.medium, color=INK)
    ax.set_ylabel("measured response", fontsize=style.medium, color=INK)
    plain(ax, style)


def _facts(figure: Figure, words: Sequence[str], place: tuple[float, float, float, float], style: Style) -> None:
    ax = axes_in_inches(figure, style, place)
    ax.set_axis_off()
    for i, line in enumerate(words):
        y = 1 - (i + 0.5) / len(words)
        ax.text(0, y, line, transform=ax.transAxes, va="center", fontsize=style.small, color=INK)


def _bars(figure: Figure, voxel: Voxel, place: tuple[float, float, float, float], style: Style) -> None:
    """Draw each band's share of the variance and its weight in the mixture, one above the other."""
    x, y, width, height = place
    names = 1.1
    each = (width - names - 0.3) / 2
    y_places = np.arange(len(voxel.bands))[::-1]
    kinds = (("share of variance (R²)", voxel.shares, SERIES[2]), ("weight in mixture", voxel.mixtures, SERIES[6]))
    for i, (label, values, colour) in enumerate(kinds):
        ax = axes_in_inches(figure, style, (x + names + i * (each + 0.3), y, each, height))
        ax.barh(y_places, np.nan_to_num(values), height=0.6, color=colour)
        ax.axvline(0, color=INK, linewidth=0.9 * style.scale)
        ax.set_yticks(y_places, voxel.bands if i == 0 else [""] * len(voxel.bands))
        ax.locator_params(axis="x", nbins=3)
        ax.set_title(label, fontsize=style.small, color=INK)
        plain(ax, style)


Ends = tuple[Sequence[int], str]


def _pictures(figure: Figure, voxel: Voxel, ends: Ends, top: float, style: Style) -> None:
    """Draw the images of one end in a row below a height in inches of the layout."""
    stimuli, name = ends
    width, height = figure.get_size_inches() / style.scale
    step = (width - 0.3) / max(len(stimuli), 1)
    figure.text(0.2 / width, (top - 0.2) / height, f"{name} responses", fontsize=style.medium, color=INK)
    for i, number in enumerate(stimuli):
        image = voxel.images[voxel.ids[number]]
        tall = min(step * 0.8, (step - 0.12) * image.shape[0] / image.shape[1])
        ax = axes_in_inches(figure, style, (0.2 + i * step, top - 0.3 - tall, step - 0.12, tall))
        ax.imshow(image, interpolation="nearest")
        ax.set_axis_off()
        text: dict[str, Any] = {"transform": ax.transAxes, "ha": "center", "fontsize": style.small, "color": INK}
        name = textwrap.fill(voxel.ids[number], style.letters(step - 0.1, style.small))
        words = f"{name}\n{voxel.measured[number]:.2f} ({voxel.predicted[number]:.2f})"
        ax.text(0.5, -0.06, words, va="top", linespacing=1.3, **text)


def _names(figure: Figure, voxel: Voxel, ends: Ends, place: tuple[float, float], style: Style) -> None:
    """List the stimuli of one end, with the measured and in brackets the predicted response."""
    stimuli, name = ends
    width, height = figure.get_size_inches() / style.scale
    x, top = place
    lines = [f"{voxel.ids[i]}  {voxel.measured[i]:.2f} ({voxel.predicted[i]:.2f})" for i in stimuli]
    figure.text(x / width, (top - 0.2) / height, f"{name} responses", fontsize=style.medium, color=INK)
    for i, line in enumerate(lines):
        figure.text(x / width, (top - 0.42 - 0.2 * i) / height, line, fontsize=style.small, color=INK)
