"""What maps look like, on whichever canvas they are: the colours of their values, their common scale and its legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Final

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_hex, to_rgb

from latentcortex._arrays import BoolArray, FloatArray, same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import SERIES
from latentcortex.plotting._legends import (
    COLOUR_BAR,
    LAYERS,
    RGB,
    SQUARE,
    SQUARES,
    TRIANGLE,
    LegendPlace,
    band_legend,
    colour_bar,
    data_url,
    layer_colours,
    layer_legend,
    on_grey,
    rgb_colours,
    share_colours,
    share_legend,
    triangle_legend,
)
from latentcortex.plotting.painting import Painting, Points, opaque_from, percentiles, scale_of
from latentcortex.plotting.panel import Panel
from latentcortex.statistics import DIVERGING

SQUARE_PIXELS: Final = 64
"""Width of the square that explains two shares on a web page."""


@dataclass(frozen=True, eq=False)
class Scores(Painting):
    """Numbers on one colour scale.

    Parameters
    ----------
    panels : sequence of Panel
    cmap : str
        Name of a matplotlib colormap.
    limits : tuple of float, optional
        Ends of the colour scale; by default from 0, or the 0.5th percentile if that is less, to the 99.5th of all
        voxels of all maps together. The colour bar ends in a point where values lie beyond.
    label : str
        What the colours mean, with unit.
    """

    panels: Sequence[Panel]
    cmap: str = "inferno"
    limits: tuple[float, float] | None = None
    label: str = ""
    legend_height: ClassVar[float] = COLOUR_BAR
    foremost: ClassVar[str] = "the value furthest from 0"

    def __post_init__(self) -> None:
        self._check_bands(1)

    @cached_property
    def palette(self) -> ScalarMappable:
        """The colours of the scale, and its ends."""
        return ScalarMappable(scale_of([panel.bands for panel in self.panels], self.limits), self.cmap)

    def laid(self, panel: Panel, points: Points) -> FloatArray:
        """Turn the numbers of a map into those of vertices, (1, n_vertices)."""
        (values,) = panel.bands
        return (points.lay_categories(values) if panel.categorical else points.lay(values))[None]

    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Give each point the colour of its number, transparent where it has none."""
        numbers = points.paint(self.laid(panel, points)[0])
        colours = np.array(self.palette.to_rgba(np.nan_to_num(numbers)))
        colours[..., 3] = np.isfinite(numbers)
        return colours

    def prominence(self, panel: Panel) -> FloatArray:
        """Show the voxel whose number is furthest from 0."""
        return np.asarray(np.abs(panel.bands[0]))

    def draw_legend(self, place: LegendPlace) -> None:
        """Draw a colour bar."""
        colour_bar(place, self.palette, [panel.bands for panel in self.panels], self.label)

    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Describe a colour bar; its ends say whether values of this map lie beyond."""
        (low, high), (values,) = self.palette.get_clim(), panel.bands
        return {
            "kind": "scale",
            "image": data_url(matplotlib.colormaps[self.cmap](np.arange(256) / 255)[None]),
            "low": ("≤ " if (values < low).any() else "") + f"{low:.3g}",
            "high": ("≥ " if (values > high).any() else "") + f"{high:.3g}",
        }


class Differences(Scores):
    """Differences between two models on one diverging scale that is symmetric about 0.

    Parameters
    ----------
    panels : sequence of Panel
        Values of the one model less those of the other.
    masks : sequence of ndarray of bool, shape (n_voxels,), or None
        Where a paired test, such as `inference.paired_difference_p`, found a difference: only there colours are
        drawn. None draws all values, and the colour bar says that they are not tested.
    limit : float, optional
        Both ends of the scale; by default the 99th percentile of all magnitudes.
    label : str
    """

    def __init__(
        self,
        panels: Sequence[Panel],
        masks: Sequence[BoolArray] | None,
        *,
        limit: float | None = None,
        label: str = "difference of r",
    ) -> None:
        if masks is not None:
            same_length(panels=panels, masks=masks)
            panels = [
                replace(panel, values=np.where(np.asarray(mask, dtype=bool), panel.values, np.nan))
                for panel, mask in zip(panels, masks, strict=True)
            ]
        top = limit or percentiles([np.abs(panel.bands) for panel in panels], 99.0)[0] or 1.0
        super().__init__(panels, DIVERGING, (-top, top), label if masks is not None else f"{label}, not tested")


@dataclass(frozen=True, eq=False)
class Shares(Painting):
    """Two shares of explained variance: the hue tells which band, the opacity how much.

    Parameters
    ----------
    panels : sequence of Panel
        Their values are (2, n_voxels): the share of each of the two bands. Shares below 0 are drawn as 0.
    names : tuple of str
        Of the first and the second band.
    limit : float, optional
        Share from which on the colour is opaque; by default the 99th percentile of all shares.
    label : str
        What is shared.
    """

    panels: Sequence[Panel]
    names: tuple[str, str] = ("z", "z_c")
    limit: float | None = None
    label: str = "share of variance"
    legend_height: ClassVar[float] = SQUARE
    foremost: ClassVar[str] = "the voxel with the largest share"

    def __post_init__(self) -> None:
        self._check_bands(2)

    @cached_property
    def top(self) -> float:
        """The share from which on colours are opaque."""
        return self.limit or opaque_from([panel.bands for panel in self.panels])

    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Mix the colours of both shares."""
        first, second = (points.paint(share) for share in self.laid(panel, points))
        return share_colours(first, second, limit=self.top)

    def prominence(self, panel: Panel) -> FloatArray:
        """Show the voxel with the largest share."""
        return np.where(np.isnan(panel.bands).any(0), np.nan, panel.bands.max(0))

    def draw_legend(self, place: LegendPlace) -> None:
        """Draw a square: the first band from left to right, the second upwards."""
        share_legend(place, self.names, self.top, self.label)

    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Describe a square of mixtures."""
        steps = np.linspace(0.0, self.top, SQUARE_PIXELS)
        square = on_grey(share_colours(*np.meshgrid(steps, steps[::-1]), limit=self.top))
        ends = {"low": "≤ 0", "high": f"≥ {self.top:.2g}"}
        return {"kind": "square", "image": data_url(square), "names": list(self.names), **ends}


@dataclass(frozen=True, eq=False)
class Preference(Painting):
    """The preferred layer of each voxel; the opacity tells how sure that is.

    Parameters
    ----------
    panels : sequence of Panel
        Their values are the numbers of layers, from 0; their opacity is that of the colours.
    layers : sequence of str
        Names in the order of the network.
    label : str
    opacities : dict of str to float, optional
        What the opacities mean that panels have, 0..1, the lowest first; by default all occur, from unsure to sure.

    Raises
    ------
    InputError
        If a panel prefers a layer that is not named.
    """

    panels: Sequence[Panel]
    layers: Sequence[str]
    label: str = "preferred layer"
    opacities: Mapping[str, float] | None = None
    legend_height: ClassVar[float] = LAYERS
    foremost: ClassVar[str] = "the voxel whose preference is surest"
    categories: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        self._check_bands(1)
        for panel in self.panels:
            numbers = panel.bands[np.isfinite(panel.bands)]
            if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self.layers)):
                raise InputError(
                    f"{panel.title}: preferred layers run from {numbers.min():g} to {numbers.max():g}, "
                    f"but {len(self.layers)} layers are named, counted from 0."
                )

    def laid(self, panel: Panel, points: Points) -> FloatArray:
        """Turn the numbers of layers into those of vertices, (1, n_vertices)."""
        return points.lay_categories(panel.bands[0])[None]

    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Give each point the colour of the nearest vertex's layer, and the opacity of the vertices round it."""
        (numbers,), (preferred,) = panel.bands, self.laid(panel, points)
        colours = _colours_of_labels(preferred, layer_colours(len(self.layers)), points)
        if panel.opacity is not None:
            laid = np.full(len(preferred), np.nan)
            for number in np.unique(preferred[np.isfinite(preferred)]):  # a mean of the voxels that prefer this layer
                has_number = preferred == number
                laid[has_number] = points.lay(np.where(numbers == number, panel.opacity, np.nan))[has_number]
            colours[..., 3] *= np.clip(np.nan_to_num(points.paint(np.nan_to_num(laid))), 0.0, 1.0)
        return colours

    def prominence(self, panel: Panel) -> FloatArray:
        """Show the voxel whose preference is surest."""
        opacity = np.ones(panel.space.n_voxels) if panel.opacity is None else np.nan_to_num(panel.opacity)
        return np.where(np.isfinite(panel.bands[0]), opacity, np.nan)

    def draw_legend(self, place: LegendPlace) -> None:
        """Draw a square per layer in every opacity."""
        is_graded = any(panel.opacity is not None for panel in self.panels)
        opacities = self.opacities if self.opacities or is_graded else {"": 1.0}
        layer_legend(place, self.layers, self.label, opacities)

    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Describe a square per layer."""
        palette = zip(layer_colours(len(self.layers)), self.layers, strict=True)
        return {"kind": "layers", "swatches": [(to_hex(colour), name) for colour, name in palette]}


@dataclass(frozen=True, eq=False)
class Winner(Painting):
    """Which of a few bands has the highest score in each voxel.

    Parameters
    ----------
    panels : sequence of Panel
        Their values are (n_bands, n_voxels): the score of each band, nan where undefined or not significant. A voxel
        where one band has a score belongs to the best of those that have one; a tie belongs to the first.
    names : sequence of str
        Of two to seven bands. Of one panel the legend counts the voxels of each.
    label : str
        Of the legend.

    Raises
    ------
    InputError
        If there are fewer than two bands or more than there are colours.
    AlignmentError
        If a panel has not one score per band.
    """

    panels: Sequence[Panel]
    names: Sequence[str]
    label: str = "predicts best"
    legend_height: ClassVar[float] = SQUARES
    foremost: ClassVar[str] = "the voxel with the highest score"
    categories: ClassVar[str] = "bands"

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= len(SERIES):
            raise InputError(f"A map of winners needs two to {len(SERIES)} bands; got {len(self.names)}.")
        self._check_bands(len(self.names))

    def laid(self, panel: Panel, points: Points) -> FloatArray:
        """Turn scores into those of vertices, (n_bands, n_vertices); an undefined one beside a defined one is 0."""
        return _zero_beside_defined(super().laid(panel, points))

    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Give each point the colour of the nearest vertex's best band."""
        best = points.lay_categories(winners(panel.bands))
        return _colours_of_labels(best, np.array([to_rgb(colour) for colour in SERIES]), points)

    def prominence(self, panel: Panel) -> FloatArray:
        """Show the voxel whose best score is the highest."""
        return highest(panel.bands)

    def draw_legend(self, place: LegendPlace) -> None:
        """Draw a square per band, with the number of its voxels."""
        band_legend(place, [(SERIES[i], words) for i, words in enumerate(self._counted())], self.label)

    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Describe a square per band."""
        return {"kind": "layers", "swatches": [(SERIES[i], words) for i, words in enumerate(self._counted())]}

    def _counted(self) -> list[str]:
        """Name each band, and of one map how many voxels it has."""
        if len(self.panels) > 1:
            return list(self.names)
        best = winners(self.panels[0].bands)
        return [f"{name} ({(best == i).sum():,})" for i, name in enumerate(self.names)]


@dataclass(frozen=True, eq=False)
class RedGreenBlue(Painting):
    """Three scores as red, green and blue light: the hue tells which bands, the opacity how much.

    Parameters
    ----------
    panels : sequence of Panel
        Their values are (3, n_voxels): the score of each band. nan where undefined or not significant: no light of
        that colour, and bare cortex or anatomy where all three are nan.
    names : sequence of str
        Of the three bands, in the order red, green, blue.
    limit : float, optional
        Score of the best band from which on the colour is opaque; by default the 99th percentile of all three. Less
        than 0 is no light.
    label : str

    Raises
    ------
    InputError
        If there are not three bands.
    AlignmentError
        If a panel has not three scores per voxel.
    """

    panels: Sequence[Panel]
    names: Sequence[str]
    limit: float | None = None
    label: str = "prediction accuracy r"
    legend_height: ClassVar[float] = TRIANGLE
    foremost: ClassVar[str] = "the voxel with the highest score"

    def __post_init__(self) -> None:
        if len(self.names) != 3:
            raise InputError(f"Red, green and blue are three bands; got {len(self.names)}.")
        self._check_bands(3)

    @cached_property
    def top(self) -> float:
        """The score from which on colours are opaque."""
        return self.limit or opaque_from([panel.bands for panel in self.panels])

    def laid(self, panel: Panel, points: Points) -> FloatArray:
        """Turn scores into those of vertices, (3, n_vertices); an undefined one beside a defined one is 0."""
        return _zero_beside_defined(super().laid(panel, points))

    def colours(self, panel: Panel, points: Points) -> FloatArray:
        """Mix three lights."""
        red, green, blue = (points.paint(score) for score in self.laid(panel, points))
        return rgb_colours(red, green, blue, limit=self.top)

    def prominence(self, panel: Panel) -> FloatArray:
        """Show the voxel whose best score is the highest."""
        return highest(panel.bands)

    def draw_legend(self, place: LegendPlace) -> None:
        """Draw a triangle of mixtures whose corners are the three bands, and how opaque a score is."""
        triangle_legend(place, self.names, self.top, self.label)

    def describe_legend(self, panel: Panel) -> dict[str, Any]:
        """Describe the light of each band."""
        lights = zip(RGB, self.names, strict=True)
        return {"kind": "layers", "swatches": [(to_hex(light), name) for light, name in lights]}


def winners(scores: FloatArray | Sequence[FloatArray]) -> FloatArray:
    """Find the highest of several scores in each voxel, its number from 0, (n_voxels,); nan where all are nan."""
    together = np.stack([np.asarray(score, dtype=np.float64) for score in scores])
    best = np.where(np.isnan(together), -np.inf, together).argmax(0)
    return np.where(np.isnan(together).all(0), np.nan, best)


def highest(scores: FloatArray) -> FloatArray:
    """Take the highest of several scores in each voxel, (n_voxels,); nan where all are nan."""
    best = np.where(np.isnan(scores), -np.inf, scores).max(0)
    return np.where(np.isfinite(best), best, np.nan)


def _zero_beside_defined(scores: FloatArray) -> FloatArray:
    """Replace undefined scores of a vertex, (n_bands, n_vertices), by 0 where another band has one."""
    return np.where(np.isfinite(scores).any(0), np.nan_to_num(scores), np.nan)


def _colours_of_labels(labels: FloatArray, palette: FloatArray, points: Points) -> FloatArray:
    """Give each point the colour of its label, a row of the palette, (..., 4); transparent where that is nan."""
    nearest = points.nearest(np.where(np.isfinite(labels), labels, -1).astype(np.intp))
    colours = np.ones((*nearest.shape, 4))
    colours[..., :3] = palette[np.maximum(nearest, 0)]
    colours[..., 3] = nearest >= 0
    return colours
