"""The maps of a report on cortex that can be turned, in a page of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from latentcortex import plotting
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.reporting.content import Content, models
from latentcortex.reporting.figures import named
from latentcortex.reporting.map_figures import accuracy
from latentcortex.space import Space

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
    paintings, title = dict(_paintings(content)), f"Participant {content.participant}"
    if viewer_of(content.settings["report"]["viewer"]) == "light":
        return plotting.light(paintings, path, atlas=content.atlas, title=title)
    return plotting.webgl(paintings, path, atlas=content.atlas, title=title)


def _paintings(content: Content) -> Iterator[tuple[str, plotting.Painting]]:
    """Yield the maps of every analysis that is shown, with what stands over their names.

    A viewer opens on the first, so what has no model is last.
    """
    for analysis in sorted(content.analyses, key=lambda name: not models(content.maps, name)):
        turned = [named(name) for name in content.section(analysis).figures if named(name).viewer]
        paints = [
            figure.viewer
            for figure in turned
            if figure.viewer is not None and figure.statistic.name in content.statistics_of(analysis)
        ]
        if turned and not paints and models(content.maps, analysis):
            paints = [accuracy]  # across folds there are no preferred layers; the accuracy of each is there
        for paint in paints:
            for maps in paint(content, analysis):
                label = maps.viewer_label or maps.painting.label
                yield content.title(analysis) + maps.viewer_heading, maps.painting.with_label(label)
