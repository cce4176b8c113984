"""The maps of a report on cortex that can be turned, in a page of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from latentcortex import plotting
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.plotting import Group
from latentcortex.reporting import cortex
from latentcortex.reporting.content import Content
from latentcortex.space import Space
from latentcortex.statistics import CEILING, PREFERRED, PRODUCT_SHARE, UNIQUE_MASK, UNIQUE_SHARE

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
    named = viewer_of(asked)
    return VIEWERS[named].format(participant) if named else ""


def check_viewer(asked: Any, analyses: Sequence[str], space: Space | None = None) -> None:
    """Raise unless the report of these analyses can have its viewer, so that nothing is computed in vain.

    Parameters
    ----------
    asked : bool or str
        `viewer` in [report]; nothing is checked if it is false.
    analyses : sequence of str
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
    named = viewer_of(asked)
    if not named:
        return
    require = plotting.require_light if named == "light" else plotting.require_viewer
    require()
    known = [name for name in _GROUPS if name != "ceiling"]
    if not set(analyses) & set(known):
        raise InputError(f"`viewer` in [report] shows none of these analyses; it shows {', '.join(known)}.")
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
    """Yield the maps of every analysis that is shown; a viewer opens on the first, so the noise ceiling is the last."""
    analyses = [name for name in dict.fromkeys(content.maps.columns["analysis"]) if name in _GROUPS]
    for analysis in sorted(analyses, key="ceiling".__eq__):
        make, needed = _GROUPS[analysis]
        statistics = set(content.maps.find_columns(analysis=analysis).columns["statistic"])
        # Across folds there are no preferred layers; the accuracy of each is there.
        yield from (make if needed in statistics else _accuracy)(content, analysis)


def _title(content: Content, analysis: str) -> str:
    return content.titles.get(analysis, analysis)


def _ceiling(content: Content, analysis: str) -> Iterator[Group]:
    panel = cortex.ceiling_panel(content)
    yield Group([panel], _title(content, analysis), "explainable variance", limits=(0.0, 1.0))


def _accuracy(content: Content, analysis: str) -> Iterator[Group]:
    q = content.maps.find_columns(analysis=analysis, statistic="mask").columns["q"].iloc[0]
    label = f"prediction accuracy r, where q < {q:g}"
    yield Group(cortex.accuracy_panels(content, analysis), _title(content, analysis), label)


def _shares(content: Content, analysis: str) -> Iterator[Group]:
    unique = len(content.maps.find_columns(analysis=analysis, statistic=UNIQUE_SHARE.name).columns) > 0
    mask = UNIQUE_MASK.name if unique and content.settings["report"]["mask"] == "own" else "mask"
    product = cortex.share_panels(content, analysis, PRODUCT_SHARE.name, mask)
    yield Group(product, _title(content, analysis), "product share of variance (R²)")
    if unique:
        panels = cortex.share_panels(content, analysis, UNIQUE_SHARE.name, UNIQUE_MASK.name)
        yield Group(panels, f"{_title(content, analysis)}: unique shares", "unique share of variance (R²)")


def _preferences(content: Content, analysis: str) -> Iterator[Group]:
    panels, layers = cortex.preference_panels(content, analysis)
    yield Group(panels, _title(content, analysis), "preferred layer; pale where it is no clear winner", names=layers)


def _partition(content: Content, analysis: str) -> Iterator[Group]:
    yield Group(cortex.partition_panels(content, analysis), _title(content, analysis), "product share of variance (R²)")


_GROUPS: Final[dict[str, tuple[Callable[[Content, str], Iterator[Group]], str]]] = {
    "ceiling": (_ceiling, CEILING.name),
    "latents": (_accuracy, "r"),
    "noise-levels": (_shares, PRODUCT_SHARE.name),
    "denoising-steps": (_shares, PRODUCT_SHARE.name),
    "unet-layers": (_preferences, PREFERRED.name),
    "unet-partition": (_partition, PRODUCT_SHARE.name),
}
"""How each analysis is shown, and the statistic that this needs."""
