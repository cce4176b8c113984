"""Which figures a report has: those that were asked for and can be drawn, and why others are missing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from latentcortex import _surfaces
from latentcortex._arrays import listed
from latentcortex._shelf import Shelf, unknown
from latentcortex.errors import InputError
from latentcortex.reporting.content import Content, Figure
from latentcortex.reporting.report_figure import REASONS, ReportFigure
from latentcortex.space import Space

logger = logging.getLogger(__name__)

SETS: Final = ("default", "all")
"""Words that stand for several figures."""
SHELF: Final = Shelf(
    "figure",
    {
        "ceiling": "latentcortex.reporting.catalogue:CEILING_MAP",
        "ceiling-slices": "latentcortex.reporting.catalogue:CEILING_SLICES",
        "accuracy-flat": "latentcortex.reporting.catalogue:ACCURACY_FLAT",
        "accuracy-inflated": "latentcortex.reporting.catalogue:ACCURACY_INFLATED",
        "accuracy-slices": "latentcortex.reporting.catalogue:ACCURACY_SLICES",
        "accuracy-glass": "latentcortex.reporting.catalogue:ACCURACY_GLASS",
        "prediction-against-ceiling": "latentcortex.reporting.catalogue:PREDICTION_AGAINST_CEILING",
        "winner": "latentcortex.reporting.catalogue:WINNER",
        "rgb": "latentcortex.reporting.catalogue:RGB",
        "differences": "latentcortex.reporting.catalogue:DIFFERENCES",
        "shares": "latentcortex.reporting.catalogue:SHARES",
        "shares-slices": "latentcortex.reporting.catalogue:SHARES_SLICES",
        "share-profiles": "latentcortex.reporting.catalogue:SHARE_PROFILES",
        "strength-by-step": "latentcortex.reporting.catalogue:STRENGTH_BY_STEP",
        "similarity": "latentcortex.reporting.catalogue:SIMILARITY",
        "preferred-layers": "latentcortex.reporting.catalogue:PREFERRED_LAYERS",
        "layer-shares": "latentcortex.reporting.catalogue:LAYER_SHARES",
        "learning-curve": "latentcortex.reporting.catalogue:LEARNING_CURVE",
        "accuracy-by-test-set": "latentcortex.reporting.catalogue:ACCURACY_BY_TEST_SET",
        "histograms": "latentcortex.reporting.catalogue:HISTOGRAMS",
    },
)
"""Every figure by the name that `figures` in [report] takes, and by which analyses name those that stand below them."""


class Choices(Collection[str]):
    """What `figures` in [report] takes: the sets, and whatever is on the shelf when it is asked."""

    def __contains__(self, name: object) -> bool:
        return name in SETS or name in SHELF

    def __iter__(self) -> Iterator[str]:
        return iter((*SETS, *SHELF))

    def __len__(self) -> int:
        return len(SETS) + len(SHELF)


FALLBACK: Final = "histograms"
"""Drawn by default where nothing else shows the scores of an analysis."""


def named(name: str) -> ReportFigure:
    """Find a figure on the shelf.

    Raises
    ------
    InputError
        If there is none of this name, or what a package offers as it is no `ReportFigure`.
    """
    figure: object = SHELF.find(name)
    if not isinstance(figure, ReportFigure):
        raise InputError(
            f"Figure {name!r} is {SHELF.where[name]}, a {type(figure).__name__}; expected a `ReportFigure` of "
            "latentcortex.reporting."
        )
    return figure


def check_figures(by_analysis: Mapping[str, Sequence[str]]) -> None:
    """Raise `InputError` unless every figure that an analysis names is on the shelf."""
    for analysis, names in by_analysis.items():
        for name in names:
            if name not in SHELF:
                raise unknown(f"figure of the analysis {analysis!r}:", name, SHELF)
            named(name)


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


def chosen(names: Sequence[str], of_analyses: Sequence[str] = ()) -> tuple[str, ...]:
    """List the figures that names stand for, in the order of the shelf.

    Those of other packages are among them where they are named: a package that is broken harms those who use it.

    Parameters
    ----------
    names : sequence of str
        Of figures, or `default` or `all`.
    of_analyses : sequence of str
        Figures that analyses name.

    Raises
    ------
    InputError
        If a name is not known; it names the nearest.
    """
    choices = Choices()
    for name in names:
        if name not in choices:
            raise unknown("figure in [report]:", name, choices)
    asked = [name for name in names if name not in SETS]
    candidates = SHELF if "all" in names else dict.fromkeys([*SHELF.where, *of_analyses, *asked])
    return tuple(
        name for name in candidates if name in names or "all" in names or ("default" in names and named(name).default)
    )


def figures(content: Content) -> Iterator[tuple[str, Figure]]:
    """Yield the figures that the settings ask for, with the name of the analysis below which each stands.

    Below an analysis stand the figures that it names, in its order, and then those that stand below any. One that was
    asked for and cannot be drawn is a warning in the log, one of the default set a note.
    """
    asked = tuple(content.settings["report"]["figures"])
    of_analyses = [name for analysis in content.analyses for name in content.section(analysis).figures]
    wanted = [name for name in chosen(asked, of_analyses) if not _is_replaced(name, asked, content.maps.space)]
    below_any = [name for name in wanted if named(name).below_any]
    drawn: set[str] = set()
    missing: dict[str, str] = {}
    for analysis in content.analyses:
        shown = False
        for name in dict.fromkeys([*content.section(analysis).figures, *below_any]):
            figure = named(name)
            if name not in wanted or (figure.of_all_together and name in drawn):
                continue
            lack = figure.lacks(content, analysis)
            if lack:
                missing.setdefault(name, lack)
                continue
            shown = True
            drawn.add(name)
            for picture in figure.make(content, analysis):
                yield analysis, picture
        if not shown and "default" in asked and not named(FALLBACK).lacks(content, analysis):
            for picture in named(FALLBACK).make(content, analysis):
                yield analysis, picture
    _log_missing(asked, {name: missing.get(name, "maps") for name in wanted if name not in drawn})


def _is_replaced(name: str, asked: Sequence[str], space: Space) -> bool:
    """Tell whether a figure is there by default only in place of one on cortex, which is there."""
    return named(name).instead_of_cortex and bool(space.template) and name not in asked and "all" not in asked


def _log_missing(asked: Sequence[str], missing: Mapping[str, str]) -> None:
    """Write into the log which figures are not there, and why."""
    for lack in dict.fromkeys(missing.values()):
        named_ones = [name for name, reason in missing.items() if reason == lack and name in asked]
        if named_ones:
            logger.warning(
                "Figures that were asked for are not drawn, since %s: %s.", REASONS[lack], listed(named_ones)
            )
        others = [name for name, reason in missing.items() if reason == lack and name not in asked]
        # What was not computed is not missed by those who did not ask for it.
        if others and lack in ("surface", "flat", "atlas", "place"):
            logger.info("Figures are not drawn, since %s: %s.", REASONS[lack], listed(others))
