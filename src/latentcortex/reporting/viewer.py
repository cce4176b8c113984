"""The maps of a report on cortex that can be turned, in a page of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from latentcortex import plotting
from latentcortex.errors import InputError
from latentcortex.plotting import Group
from latentcortex.reporting import cortex
from latentcortex.reporting.content import Content
from latentcortex.reporting.text import TITLES
from latentcortex.space import Space


def check_viewer(analyses: Sequence[str], space: Space | None = None) -> None:
    """Raise unless the report of these analyses can have a viewer, so that nothing is computed in vain.

    Parameters
    ----------
    analyses : sequence of str
    space : Space, optional
        Of the responses, once it is known.

    Raises
    ------
    MissingExtraError
        If pycortex is not installed.
    InputError
        If no analysis is shown in the viewer, or voxels have no place on cortex.
    """
    plotting.require_viewer()
    known = [name for name in _GROUPS if name != "ceiling"]
    if not set(analyses) & set(known):
        raise InputError(f"`viewer` in [report] shows none of these analyses; it shows {', '.join(known)}.")
    if space is not None and not space.template:
        raise InputError("`viewer` in [report] needs voxels with a place on cortex: give `template` in [dataset].")


def write_viewer(path: Path, content: Content) -> Path:
    """Write the viewer of a participant's maps, as the report draws them; see `plotting.webgl`."""
    return plotting.webgl(list(_groups(content)), path, rois=content.rois, title=f"Participant {content.participant}")


def _groups(content: Content) -> Iterator[Group]:
    for analysis in dict.fromkeys(content.maps.columns["analysis"]):
        if analysis in _GROUPS:
            make, needed = _GROUPS[analysis]
            there = set(content.maps.find(analysis=analysis).columns["statistic"])
            # Across folds there are no preferred layers; the accuracy of each is there.
            yield from (make if needed in there else _accuracy)(content, analysis)


def _ceiling(content: Content, analysis: str) -> Iterator[Group]:
    panel = cortex.ceiling_panel(content)
    yield Group([panel], TITLES[analysis], "explainable variance", limits=(0.0, 1.0))


def _accuracy(content: Content, analysis: str) -> Iterator[Group]:
    q = content.maps.find(analysis=analysis, statistic="mask").columns["q"].iloc[0]
    label = f"prediction accuracy r, where q < {q:g}"
    yield Group(cortex.accuracy_panels(content, analysis), TITLES[analysis], label)


def _shares(content: Content, analysis: str) -> Iterator[Group]:
    unique = len(content.maps.find(analysis=analysis, statistic="uniqueR2").columns) > 0
    mask = "uniqueMask" if unique and content.settings["report"]["mask"] == "own" else "mask"
    product = cortex.share_panels(content, analysis, "shareR2", mask)
    yield Group(product, TITLES[analysis], "product share of variance (R²)")
    if unique:
        panels = cortex.share_panels(content, analysis, "uniqueR2", "uniqueMask")
        yield Group(panels, f"{TITLES[analysis]}: unique shares", "unique share of variance (R²)")


def _preferences(content: Content, analysis: str) -> Iterator[Group]:
    panels, layers = cortex.preference_panels(content, analysis)
    yield Group(panels, TITLES[analysis], "preferred layer; the surer, the more opaque", names=layers)


def _partition(content: Content, analysis: str) -> Iterator[Group]:
    yield Group(cortex.partition_panels(content, analysis), TITLES[analysis], "product share of variance (R²)")


_GROUPS: Final[dict[str, tuple[Callable[[Content, str], Iterator[Group]], str]]] = {
    "ceiling": (_ceiling, "ceiling"),
    "latents": (_accuracy, "r"),
    "noise-levels": (_shares, "shareR2"),
    "denoising-steps": (_shares, "shareR2"),
    "unet-layers": (_preferences, "preferred"),
    "unet-partition": (_partition, "shareR2"),
}
"""How each analysis is shown, and the statistic that this needs."""
