"""Which figures a report has: those that were asked for and can be drawn, and why others are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from latentcortex import _surfaces
from latentcortex._arrays import listed
from latentcortex._shelf import unknown
from latentcortex.reporting import cortex, cuts, profiles
from latentcortex.reporting.content import Content, Figure, models
from latentcortex.space import Space, Unlocated, Volume
from latentcortex.statistics import CEILING, PREFERRED, PRODUCT_SHARE, UNIQUE_LIMIT

logger = logging.getLogger(__name__)

SETS: Final = ("default", "all")
"""Words that stand for several figures."""
WITHOUT: Final = {
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


@dataclass(frozen=True)
class Kind:
    """A figure that a report can have.

    Parameters
    ----------
    make : callable
        Makes it, or several, of one analysis.
    analyses : tuple of str
        Below which it stands; empty for every one.
    statistic : str
        That the analysis must hold.
    needs : {"", "surface", "flat", "atlas", "place", "volume", "mni"}
        What it cannot be drawn without: a cortex, one that is flat, regions, any position, a volume, one in MNI152.
    default : bool
        Whether it is there unless others are named.
    n_models : (int, int)
        The least and the largest number of models that it can draw.
    beside : str
        Another analysis that must be there.
    instead : bool
        Whether it is there by default only where there is no cortex to draw on.
    """

    make: Callable[[Content, str], Iterator[Figure]]
    analyses: tuple[str, ...]
    statistic: str
    needs: str = "surface"
    default: bool = True
    n_models: tuple[int, int] = (0, 10_000)
    beside: str = ""
    instead: bool = False

    def lacks(self, content: Content, analysis: str) -> str:
        """Say what is missing to draw it below an analysis: a word of `WITHOUT`, or nothing."""
        own = content.maps.columns
        there = own[own["analysis"].str.startswith(analysis)]
        if not (there["statistic"] == self.statistic).any() or (
            self.beside and not (own["analysis"] == self.beside).any()
        ):
            return "maps"
        low, high = self.n_models
        if not low <= len(models(content.maps, analysis)) <= high:
            return "bands"
        if self.needs and not POSITIONS[self.needs](content.maps.space):
            return "surface" if self.needs in ("flat", "atlas") else self.needs
        if self.needs == "flat" and not _surfaces.has("flat", content.template):
            return "flat"
        if self.needs == "atlas" and content.atlas is None:
            return "atlas"
        return ""


POSITIONS: Final[dict[str, Callable[[Space], bool]]] = {
    "surface": lambda space: bool(space.template),
    "flat": lambda space: bool(space.template),
    "atlas": lambda space: not isinstance(space, Unlocated),
    "place": lambda space: not isinstance(space, Unlocated),
    "volume": lambda space: isinstance(space, Volume),
    "mni": lambda space: isinstance(space, Volume) and space.reference.startswith("MNI152"),
}
"""Whether a space has what a figure needs."""
LAID: Final = (
    " On cortex, a vertex has the mean of the coloured voxels between white and pial surface, or of kinds the most "
    "frequent."
)
"""Said in captions of maps on cortex whose voxels are those of a volume."""
SPLIT: Final = ("noise-levels", "denoising-steps")
FIGURES: Final[dict[str, Kind]] = {
    "ceiling": Kind(cortex.ceiling, ("ceiling",), CEILING.name),
    "ceiling-slices": Kind(cuts.ceiling, ("ceiling",), CEILING.name, "volume", instead=True),
    "prediction-against-ceiling": Kind(cortex.against_ceiling, ("ceiling",), CEILING.name, "place", beside="latents"),
    "latents-flat": Kind(cortex.accuracy_flat, ("latents",), "r", "flat"),
    "latents-inflated": Kind(cortex.accuracy_inflated, ("latents",), "r"),
    "latents-slices": Kind(cuts.accuracy, ("latents",), "r", "volume"),
    "latents-glass": Kind(cuts.glass, ("latents",), "r", "mni", default=False),
    "winner": Kind(cortex.winner, ("latents",), "r", n_models=(2, 7)),
    "rgb": Kind(cortex.rgb, ("latents",), "r", n_models=(3, 3)),
    "differences": Kind(cortex.differences, ("latents",), "r", default=False, n_models=(2, 4)),
    "shares": Kind(cortex.shares, SPLIT, PRODUCT_SHARE.name),
    "shares-slices": Kind(cuts.shares, SPLIT, PRODUCT_SHARE.name, "volume", instead=True),
    "share-profiles": Kind(profiles.share_profiles, SPLIT, PRODUCT_SHARE.name, "atlas"),
    "strength-by-step": Kind(profiles.surfaces, SPLIT, PRODUCT_SHARE.name, "atlas", default=False),
    "similarity": Kind(profiles.similarity, SPLIT, PRODUCT_SHARE.name, "place", default=False, n_models=(2, 12)),
    "unet-layers": Kind(cortex.preferences, ("unet-layers",), PREFERRED.name),
    "unet-partition": Kind(cortex.partition, ("unet-partition",), PRODUCT_SHARE.name),
    "learning-curve": Kind(profiles.learning_curve, ("learning-curve",), UNIQUE_LIMIT.name, ""),
    "generalisation": Kind(profiles.generalisation, ("generalisation",), "r", ""),
    "histograms": Kind(profiles.histograms, (), "r", "", default=False),
}
"""Every figure by the name that `figures` in [report] takes."""
INSTEAD: Final = "histograms"
"""Drawn by default where nothing else shows the scores of an analysis."""


def check_cortex(space: Space) -> None:
    """Raise `InputError` unless the surfaces that figures are drawn on can be read, before anything is computed.

    A cortex without a flat surface is drawn inflated, which is noted in the log.
    """
    if not space.template:
        return
    _surfaces.surface("inflated", space.template)
    _surfaces.curvature(space.template)
    if _surfaces.has("flat", space.template):
        _surfaces.flat_patch(space.template)
    else:
        logger.info("%s has no flat surface: maps are drawn on inflated cortex.", space.template)


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """List the figures that names stand for, in the order of the report.

    Parameters
    ----------
    names : sequence of str
        Of figures, or `default` or `all`.

    Raises
    ------
    InputError
        If a name is not known; it names the nearest.
    """
    for name in names:
        if name not in (*SETS, *FIGURES):
            raise unknown("figure in [report]:", name, (*SETS, *FIGURES))
    wanted = [
        name
        for name, kind in FIGURES.items()
        if name in names or "all" in names or ("default" in names and kind.default)
    ]
    return tuple(wanted)


def figures(content: Content) -> Iterator[tuple[str, Figure]]:
    """Yield the figures that the settings ask for, with the name of the analysis below which each stands.

    One that was asked for and cannot be drawn is a warning in the log, one of the default set a note.
    """
    names = tuple(content.settings["report"]["figures"])
    wanted = [name for name in chosen(names) if not _needless(name, names, content.maps.space)]
    drawn: set[str] = set()
    missing: dict[str, str] = {}
    for analysis in _sections(content):
        shown = False
        for name in wanted:
            kind = FIGURES[name]
            # Strengths and steps together are one picture, below the first of them.
            if (analysis not in kind.analyses and kind.analyses) or (name == "strength-by-step" and name in drawn):
                continue
            lack = kind.lacks(content, analysis)
            if lack:
                missing.setdefault(name, lack)
                continue
            shown = True
            drawn.add(name)
            for figure in kind.make(content, analysis):
                yield analysis, _said(figure, kind, content.maps.space)
        if not shown and "default" in names and not FIGURES[INSTEAD].lacks(content, analysis):
            for figure in profiles.histograms(content, analysis):
                yield analysis, figure
    _tell(names, {name: missing.get(name, "maps") for name in wanted if name not in drawn})


def _needless(name: str, names: Sequence[str], space: Space) -> bool:
    """Tell whether a figure is there by default only in place of one on cortex, which is there."""
    asked = name in names or "all" in names
    return FIGURES[name].instead and bool(space.template) and not asked


def _said(figure: Figure, kind: Kind, space: Space) -> Figure:
    """Say in the caption of a map on cortex how voxels of a volume came there."""
    laid = kind.needs in ("surface", "flat") and isinstance(space, Volume)
    return replace(figure, caption=figure.caption + LAID) if laid else figure


def _sections(content: Content) -> list[str]:
    """List the analyses that the maps hold; the parts of a profile of generalisation are one."""
    there = dict.fromkeys(content.maps.columns["analysis"])
    profile = [name for name in there if name.startswith("generalisation-")]
    return [*(name for name in there if name not in profile), *(["generalisation"] if profile else [])]


def _tell(names: Sequence[str], missing: dict[str, str]) -> None:
    """Say which figures are not there, and why."""
    for why in dict.fromkeys(missing.values()):
        named = [name for name, lack in missing.items() if lack == why and name in names]
        if named:
            logger.warning("Figures that were asked for are not drawn, since %s: %s.", WITHOUT[why], listed(named))
        other = [name for name, lack in missing.items() if lack == why and name not in names]
        # What was not computed is not missed by those who did not ask for it.
        if other and why in ("surface", "flat", "atlas", "place"):
            logger.info("Figures are not drawn, since %s: %s.", WITHOUT[why], listed(other))
