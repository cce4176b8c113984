"""What all paintings have in common: maps with one meaning, one scale and one legend, coloured at points."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from matplotlib.colors import Normalize, to_rgb

from latentcortex._arrays import FloatArray, IntArray
from latentcortex.errors import AlignmentError
from latentcortex.plotting._legends import GREY, LegendPlace
from latentcortex.plotting.panel import Panel


class Points(Protocol):
    """Where the values of a panel's voxels are coloured: in the voxels, at vertices of cortex, or in pixels of it."""

    def lay(self, values: FloatArray) -> FloatArray:
        """Turn values (n_voxels,) into those of vertices: means of voxels, nan where there is none."""

    def lay_categories(self, labels: FloatArray) -> FloatArray:
        """Turn categories (n_voxels,) into those of vertices: the most frequent of voxels, nan where there is none."""

    def paint(self, values: FloatArray) -> FloatArray:
        """Give each point its value, (...); between vertices a mean, nan where there is none."""

    def nearest(self, labels: IntArray) -> IntArray:
        """Give each point the label, (...), of the vertex that it is nearest to; -1 where there is none."""


class Painting(ABC):
    """Maps with one meaning, one scale and one legend.

    Attributes
    ----------
    panels : sequence of Panel
    label : str
        What the colours mean, with unit.
    legend_height : float
        In inches of the layout.
    foremost : str
        Which of several voxels behind each other is seen, in words; see `prominence`.
    categories : str
        What values are numbers of, if they have no mean between vertices; empty for others.
    """

    panels: Sequence[Panel]
    label: str
    legend_height: ClassVar[float]
    foremost: ClassVar[str]
    categories: ClassVar[str] = ""

    @abstractmethod
    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Colour one of the maps: red, green, blue and opacity, 0..1, at each point, (..., 4)."""

    @abstractmethod
    def prominence(self, panel: Panel) -> FloatArray:
        """Tell which of several voxels behind each other is seen, (n_voxels,): the one with the highest number."""

    @abstractmethod
    def draw_legend(self, place: LegendPlace) -> None:
        """Explain the colours below a figure."""

    @abstractmethod
    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Explain the colours on a web page: `kind` (scale, square or layers), and what this kind shows."""

    def with_label(self, label: str) -> Self:
        """Give the colours another label."""
        painting = copy.copy(self)
        object.__setattr__(painting, "label", label)
        return painting

    def laid(self, panel: Panel, points: Points) -> FloatArray:
        """Turn what is drawn of a map into numbers of vertices, (n_bands, n_vertices)."""
        return np.stack([points.lay(values) for values in panel.bands])

    def paint(self, panel: Panel, points: Points) -> FloatArray:
        """Colour one of the maps, (..., 4), dark grey where it cannot be told."""
        colours = self.colours(panel, points)
        if panel.unsure is not None:
            is_unsure = points.lay_categories(panel.unsure) == 1
            colours[points.paint(is_unsure.astype(np.float64)) > 0.5] = (*to_rgb(GREY), 1.0)
        return colours

    @property
    def has_grey(self) -> bool:
        """Whether grey needs to be explained."""
        return any(panel.unsure is not None and bool((panel.unsure == 1).any()) for panel in self.panels)

    def _check_bands(self, n_bands: int) -> None:
        for panel in self.panels:
            if len(panel.bands) != n_bands:
                raise AlignmentError(
                    f"{type(self).__name__} needs {n_bands} values per voxel; {panel.title!r} has {len(panel.bands)}."
                )


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


def opaque_from(scores: Sequence[FloatArray]) -> float:
    """Choose the score from which on colours are opaque: the 99th percentile of all, or 1 if that is not above 0."""
    return max(percentiles(scores, 99.0)[0], 0.0) or 1.0
