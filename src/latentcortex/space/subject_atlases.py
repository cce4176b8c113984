"""Regions that come with a subject's own cortex: drawn in pycortex's overlays.svg, parcellated by FreeSurfer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _surfaces
from latentcortex._arrays import BoolArray, listed
from latentcortex._pycortex import overlays
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

OVERLAYS: Final = "overlays"
"""Name of the atlas of regions that are drawn in a pycortex subject's overlays.svg."""


def names(template: str) -> tuple[str, ...]:
    """Name the atlases that come with a template or subject.

    `overlays` of a subject of pycortex; the `.annot` files of one of FreeSurfer; else none.
    """
    try:
        drawn = bool(template) and _surfaces.is_pycortex(template)
    except InputError:  # there is no such template
        return ()
    return (OVERLAYS,) if drawn else _surfaces.parcellations(template)


def files(name: str, template: str) -> list[Path]:
    """List the files on which such an atlas depends."""
    if name in _surfaces.parcellations(template):
        return list(_surfaces.parcellation_files(name, template))
    folder = Path(template)
    return [folder / "overlays.svg", *(folder / "surfaces" / f"flat_{side}.gii" for side in ("lh", "rh"))]


def read(name: str, template: str) -> tuple[NDArray[np.intp], dict[int, str]]:
    """Read such an atlas: the region of each vertex (n_vertices,), 0 for none, and label -> name.

    Raises
    ------
    InputError
        If a file is missing or is not what it must be, or it has no region.
    MissingExtraError
        If a drawing is to be read and the library for that is not installed.
    """
    if name in _surfaces.parcellations(template):
        labels, names = _surfaces.parcellation(name, template)
        missing = int((labels == 0).sum())
        facts = {"template": template, "n_vertices": missing}
        logger.info("%d vertices of %s are in no region of %s.", missing, template, name, extra={"facts": facts})
    else:
        labels, names = exclusive(overlays.regions(files(name, template)[0], template), f"{name} of {template}")
    if not names:
        raise InputError(f"Atlas {name} of {template} has no region with a vertex.")
    return labels.astype(np.intp), names


def exclusive(regions: dict[str, BoolArray], title: str) -> tuple[NDArray[np.intp], dict[int, str]]:
    """Give each vertex to the smallest of its regions, and leave out those without a vertex.

    Parameters
    ----------
    regions : dict
        Name -> bool (n_vertices,).
    title : str
        Name of the atlas and of its subject, for the log.

    Returns
    -------
    tuple of (ndarray of int, shape (n_vertices,), dict)
        Region of each vertex, 0 for none, and label -> name in the order of `regions`.
    """
    sizes = {name: int(members.sum()) for name, members in regions.items()}
    numbers = {name: number for number, name in enumerate((name for name in regions if sizes[name]), start=1)}
    labels = np.zeros(len(next(iter(regions.values()), ())), dtype=np.intp)
    claims = np.zeros(len(labels), dtype=np.intp)
    for name in sorted(numbers, key=lambda name: -sizes[name]):
        labels[regions[name]] = numbers[name]
        claims += regions[name]
    visible = {number: name for name, number in numbers.items() if (labels == number).any()}
    _log_left_out(
        "%d regions of %s have no path or no vertex and are left out: %s.", title, set(regions) - set(numbers)
    )
    _log_left_out(
        "%d regions of %s are covered by smaller ones and are left out: %s.",
        title,
        set(numbers) - set(visible.values()),
    )
    n_shared = int((claims > 1).sum())
    if n_shared:
        several = [name for name in numbers if (regions[name] & (claims > 1)).any()]
        sentence = "%d vertices lie in several regions of %s, and count for the smallest of them: %s."
        facts = {"atlas": title, "n_vertices": n_shared, "regions": several}
        logger.info(sentence, n_shared, title, listed(several), extra={"facts": facts})
    return labels, visible


def _log_left_out(sentence: str, title: str, regions: set[str]) -> None:
    """Log how many regions are left out and which, if there are any."""
    if regions:
        facts = {"atlas": title, "regions": sorted(regions)}
        logger.info(sentence, len(regions), title, listed(sorted(regions)), extra={"facts": facts})
