"""A figure that a report can have: what it is drawn from, and what it cannot be drawn without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from latentcortex.reporting.content import Content, Figure, models
from latentcortex.reporting.map_figures import Paint
from latentcortex.space import Space
from latentcortex.statistics import Statistic

Position = Literal["", "surface", "flat", "atlas", "place", "volume", "mni"]
"""What voxels must have: nothing, a cortex, one that is flat, regions, a position, a place in a volume or in MNI152."""
REASONS: Final = {
    "surface": "voxels have no place on a surface",
    "flat": "the cortex has no flat surface",
    "place": "voxels have no known position",
    "volume": "voxels are not those of a volume",
    "mni": "voxels are not those of a volume in MNI152",
    "atlas": "no atlas is named in [report]",
    "bands": "there are too few or too many bands",
    "maps": "no map that it draws was computed",
}
"""Why a figure is not drawn."""
POSITIONS: Final[dict[Position, Callable[[Space], bool]]] = {
    "": lambda space: True,
    "surface": lambda space: "inflated" in space.canvases,
    "flat": lambda space: "inflated" in space.canvases,
    "atlas": lambda space: bool(space.canvases),
    "place": lambda space: bool(space.canvases),
    "volume": lambda space: "slices" in space.canvases,
    "mni": lambda space: "glass" in space.canvases,
}
"""Whether a space has what a figure needs; what a cortex lacks is asked afterwards."""


@dataclass(frozen=True)
class ReportFigure:
    """A figure that a report can have; it stands below every analysis that names it.

    Another package offers one by an entry point of the group `latentcortex.figures`, `name = module:OBJECT`.

    Parameters
    ----------
    make : callable
        Content of the report, name of the analysis -> the pictures, one or several.
    statistic : Statistic
        That the maps of the analysis must hold.
    position : {"surface", "", "flat", "atlas", "place", "volume", "mni"}
        What voxels must have.
    default : bool
        Whether it is drawn unless [report] names others.
    n_models : (int, int)
        The least and the largest number of models that it can draw.
    beside : Statistic, optional
        Another one that the participant's maps must hold, of whichever analysis.
    instead_of_cortex : bool
        Whether it is drawn by default only where there is no cortex to draw on.
    along_axis : bool
        Whether the models of the analysis must differ along an entity of their bands; see `ReportSection.axis`.
    of_all_together : bool
        Whether one picture is of all analyses that name it, and stands below the first of them.
    below_any : bool
        Whether it stands below every analysis that has what it needs, also one that does not name it.
    viewer : callable, optional
        Content, name of the analysis -> `PaintedMaps`, which viewers show.
    prevalence : bool
        Whether the page of several participants maps how many people show what it draws.
    """

    make: Callable[[Content, str], Iterator[Figure]]
    statistic: Statistic
    position: Position = "surface"
    default: bool = True
    n_models: tuple[int, int] = (0, 10_000)
    beside: Statistic | None = None
    instead_of_cortex: bool = False
    along_axis: bool = False
    of_all_together: bool = False
    below_any: bool = False
    viewer: Paint | None = None
    prevalence: bool = False

    def lacks(self, content: Content, analysis: str) -> str:
        """Say what is missing to draw it below an analysis: a key of `REASONS`, or nothing."""
        if self._lacks_maps(content, analysis):
            return "maps"
        low, high = self.n_models
        if not low <= len(models(content.maps, analysis)) <= high:
            return "bands"
        if not POSITIONS[self.position](content.maps.space):
            return "surface" if self.position in ("flat", "atlas") else self.position
        if self.position == "flat" and "flat" not in content.maps.space.canvases:
            return "flat"
        if self.position == "atlas" and content.atlas is None:
            return "atlas"
        return ""

    def _lacks_maps(self, content: Content, analysis: str) -> bool:
        """Tell whether a statistic that it is drawn from was not computed, or the analysis names no axis."""
        return (
            self.statistic.name not in content.statistics_of(analysis)
            or (self.beside is not None and not (content.maps.columns["statistic"] == self.beside.name).any())
            or (self.along_axis and not content.section(analysis).axis)
        )
