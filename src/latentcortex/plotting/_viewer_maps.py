"""Maps as both interactive pages show them: values or colours at the vertices of a cortex, legend and note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import matplotlib
import numpy as np

from latentcortex._arrays import FloatArray
from latentcortex._pycortex import View
from latentcortex.errors import InputError
from latentcortex.plotting._legends import CANNOT_BE_TOLD, as_bytes
from latentcortex.plotting.cortex import Vertices
from latentcortex.plotting.painting import Painting
from latentcortex.plotting.paintings import Preference, Scores
from latentcortex.plotting.panel import Panel, cortex_of
from latentcortex.space import Atlas, Space
from latentcortex.statistics import PREFERRED, named


@runtime_checkable
class MapColumns(Protocol):
    """Columns of numbers over voxels, each with what it is: what `Maps` are."""

    @property
    def space(self) -> Space:
        """Where the voxels are."""

    def __iter__(self) -> Iterator[tuple[FloatArray, dict[str, Any]]]:
        """Yield each column's values and what it is."""


ViewerMaps = MapColumns | Painting | Mapping[str, Painting]
"""What a viewer shows: all columns of `Maps`, those of the same statistic on one scale; or paintings by heading."""


def viewer_maps(maps: ViewerMaps, atlas: Atlas | None) -> tuple[str, Atlas | None, list[tuple[View, dict[str, Any]]]]:
    """Turn maps into what is drawn, and what is said of each.

    Returns
    -------
    str
        On whose cortex they are.
    Atlas or None
        The regions of its vertices.
    list of (View, dict)
        The dict has title, heading, note, coloured (whether there are no values to point at) and legend.

    Raises
    ------
    InputError
        If there is no map, the voxels have no known position, maps or regions are on another cortex than others, or a
        preferred layer has no name.
    """
    if isinstance(maps, Painting):
        paintings: Mapping[str, Painting] = {"": maps}
    else:
        paintings = maps if isinstance(maps, Mapping) else paintings_of(maps)
    panels = [panel for painting in paintings.values() for panel in painting.panels]
    if not panels:
        raise InputError("There is no map to show.")
    template = cortex_of(panels)
    regions = None if atlas is None else atlas.on_cortex(panels[0].space)
    shown = [_shown(heading, painting, panel) for heading, painting in paintings.items() for panel in painting.panels]
    return template, regions, shown


def paintings_of(maps: MapColumns) -> dict[str, Painting]:
    """Paint columns of maps, those of one statistic on one scale; what counts layers gets their names."""
    if not maps.space.template:
        raise InputError("Maps of voxels without a known position on cortex cannot be drawn there; give `template`.")
    panels: dict[tuple[str, str], list[Panel]] = {}
    for values, facts in maps:
        statistic, layers = str(facts["statistic"]), str(facts.get("layers", ""))
        parts = dict.fromkeys(str(facts[key]) for key in ("analysis", "model", "band") if facts[key])
        is_categorical = named(statistic).kind != "number"
        panel = Panel(", ".join(parts), values, maps.space, categorical=is_categorical)
        panels.setdefault((statistic, layers if statistic == PREFERRED.name else ""), []).append(panel)
    paintings: dict[str, Painting] = {}
    for (statistic, layers), of_statistic in panels.items():
        heading = f"{statistic} of {layers}" if statistic in paintings else statistic
        paintings[heading] = (
            Preference(of_statistic, layers.split("+"), statistic) if layers else Scores(of_statistic, label=statistic)
        )
    return paintings


def _shown(heading: str, painting: Painting, panel: Panel) -> tuple[View, dict[str, Any]]:
    """Draw a map at the vertices, and say what the page says of it."""
    points = Vertices(panel.space)
    has_grey = panel.unsure is not None and bool((panel.unsure == 1).any())
    legend = painting.describe_legend(panel) | {"label": painting.label}
    if has_grey:
        legend["swatches"] = [*legend.get("swatches", ()), CANNOT_BE_TOLD]
    values = painting.laid(panel, points)
    if isinstance(painting, Scores) and not has_grey:
        low, high = painting.palette.get_clim()
        colours = matplotlib.colormaps[painting.cmap](np.arange(256) / 255)[:, :3]
        view = View(values[0], (float(low), float(high)), as_bytes(colours))
    else:
        view = View(as_bytes(painting.paint(panel, points)))
    note = _note(values)
    if painting.categories:
        note += f" Between vertices of different {painting.categories} their colours mix."
    return view, {
        "title": panel.title,
        "heading": heading,
        "note": note,
        "coloured": view.values.ndim == 2,
        "legend": legend,
    }


def _note(values: FloatArray) -> str:
    """Say how much of a map, (n_bands, n_vertices), is drawn, and what is special about it."""
    is_defined = np.asarray(np.isfinite(values).all(axis=0))
    n_defined, n_vertices = is_defined.sum(), len(is_defined)
    if not n_defined:
        return "No vertex has a value; the curvature shows everywhere."
    note = f"{n_defined:,} of {n_vertices:,} vertices have a value; the others show the curvature."
    if n_defined == n_vertices:
        note = f"All {n_vertices:,} vertices have a value."
    if all(np.ptp(band[is_defined]) == 0 for band in values):
        note += f" All have the same, {' and '.join(f'{band[is_defined][0]:.4g}' for band in values)}."
    return note
