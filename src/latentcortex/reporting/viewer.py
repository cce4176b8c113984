"""The maps of a report on cortex that can be turned, in a page of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latentcortex import plotting
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.plotting import Group
from latentcortex.reporting import cortex
from latentcortex.reporting.content import Content, models
from latentcortex.reporting.figures import named
from latentcortex.space import Space
from latentcortex.statistics import MASK, PRODUCT_SHARE, UNIQUE_MASK, UNIQUE_SHARE

VIEWERS: Final = {"webgl": "sub-{}_viewer.html", "light": "sub-{}_light.html"}
"""What `viewer` in [report] may name, functions of `plotting`, and the page of each; `true` means the first."""


def viewer_of(asked: Any) -> str:
    """Say which viewer `viewer` in [report] asks for; empty for none.

    Raises
    ------
    InputError
        Unless it is true, false or a name of `VIEWERS`.
    """
    if isinstance(asked, bool):
        return "webgl" if asked else ""
    if not isinstance(asked, str):
        raise InputError(f"`viewer` in [report] must be true, false or a name ({', '.join(VIEWERS)}); got {asked!r}.")
    if asked not in VIEWERS:
        raise unknown("viewer in [report]:", asked, VIEWERS)
    return asked


def viewer_page(participant: str, asked: Any) -> str:
    """Name the file of a participant's viewer; empty for none. Each viewer has a name of its own."""
    kind = viewer_of(asked)
    return VIEWERS[kind].format(participant) if kind else ""


def check_viewer(asked: Any, figures: Mapping[str, Sequence[str]], space: Space | None = None) -> None:
    """Raise unless the report of these analyses can have its viewer, so that nothing is computed in vain.

    Parameters
    ----------
    asked : bool or str
        `viewer` in [report]; nothing is checked if it is false.
    figures : mapping of str to sequence of str
        Analysis -> the figures that it names.
    space : Space, optional
        Of the responses, once it is known.

    Raises
    ------
    MissingExtraError
        If what the viewer needs, pycortex or plotly, is not installed.
    InputError
        If there is no such viewer, no analysis is shown in it, voxels have no place on cortex, or their cortex lacks a
        surface that it shows: WebGL needs a flat one.
    """
    kind = viewer_of(asked)
    if not kind:
        return
    require = plotting.require_light if kind == "light" else plotting.require_viewer
    require()
    if not any(named(name).viewer for names in figures.values() for name in names):
        raise InputError(
            f"`viewer` in [report] shows none of the analyses {', '.join(figures)}: none of their figures is a map "
            "that it can turn. Leave it out, or run others."
        )
    if space is not None and not space.template:
        raise InputError("`viewer` in [report] needs voxels with a place on cortex: give `template` in [dataset].")
    if space is not None:
        require(space.template)


def write_viewer(path: Path, content: Content) -> Path:
    """Write the viewer that the settings ask for, with the maps as the report draws them."""
    groups, title = list(_groups(content)), f"Participant {content.participant}"
    if viewer_of(content.settings["report"]["viewer"]) == "light":
        return plotting.light(groups, path, rois=content.rois, title=title)
    return plotting.webgl(groups, path, rois=content.rois, title=title)


def _groups(content: Content) -> Iterator[Group]:
    """Yield the maps of every analysis that is shown; a viewer opens on the first, so what has no model is last."""
    for analysis in sorted(content.analyses, key=lambda name: not models(content.maps, name)):
        turned = [named(name) for name in content.section(analysis).figures if named(name).viewer]
        drawn = [figure for figure in turned if figure.statistic.name in content.statistics_of(analysis)]
        for figure in drawn:
            if figure.viewer is not None:
                yield from figure.viewer(content, analysis)
        # Across folds there are no preferred layers; the accuracy of each is there.
        if turned and not drawn and models(content.maps, analysis):
            yield from accuracy(content, analysis)


def ceiling(content: Content, analysis: str) -> Iterator[Group]:
    """Show the noise ceiling."""
    panel = cortex.ceiling_panel(content)
    yield Group([panel], content.title(analysis), "explainable variance", limits=(0.0, 1.0))


def accuracy(content: Content, analysis: str) -> Iterator[Group]:
    """Show where each model predicts, and how well."""
    q = content.maps.find_columns(analysis=analysis, statistic=MASK.name).columns["q"].iloc[0]
    label = f"prediction accuracy r, where q < {q:g}"
    yield Group(cortex.accuracy_panels(content, analysis), content.title(analysis), label)


def shares(content: Content, analysis: str) -> Iterator[Group]:
    """Show product shares of z and z_c, and unique ones where they were computed."""
    unique = len(content.maps.find_columns(analysis=analysis, statistic=UNIQUE_SHARE.name).columns) > 0
    mask = UNIQUE_MASK.name if unique and content.settings["report"]["mask"] == "own" else MASK.name
    product = cortex.share_panels(content, analysis, PRODUCT_SHARE.name, mask)
    yield Group(product, content.title(analysis), "product share of variance (R²)")
    if unique:
        panels = cortex.share_panels(content, analysis, UNIQUE_SHARE.name, UNIQUE_MASK.name)
        yield Group(panels, f"{content.title(analysis)}: unique shares", "unique share of variance (R²)")


def preferences(content: Content, analysis: str) -> Iterator[Group]:
    """Show the preferred layer at every step."""
    panels, layers = cortex.preference_panels(content, analysis)
    yield Group(panels, content.title(analysis), "preferred layer; pale where it is no clear winner", names=layers)


def partition(content: Content, analysis: str) -> Iterator[Group]:
    """Show the share of every layer."""
    yield Group(cortex.partition_panels(content, analysis), content.title(analysis), "product share of variance (R²)")
