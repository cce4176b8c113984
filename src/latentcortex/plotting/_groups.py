"""Maps in groups that share a scale, as both interactive views show them: values or colours, legend and note."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import matplotlib
import numpy as np
from matplotlib.colors import Normalize, to_hex, to_rgb
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex._pycortex import View
from latentcortex.errors import InputError
from latentcortex.plotting._legends import GREY, layer_colours, on_cortex_grey, share_colours
from latentcortex.plotting._panels import Panel, PreferencePanel, SharePanel, cortex_of, scale_of
from latentcortex.plotting.mixed import check_layers, strongest
from latentcortex.space import Space
from latentcortex.statistics import PREFERRED

SQUARE: Final = 64
"""Pixels of the square that explains two shares."""

UNSURE: Final = (GREY, "cannot be told")
"""What grey means, and its colour."""

AnyPanel = Panel | SharePanel | PreferencePanel


@runtime_checkable
class Columns(Protocol):
    """Columns of numbers over voxels, each with what it is: what `Maps` are."""

    @property
    def space(self) -> Space:
        """Where the voxels are."""

    def __iter__(self) -> Iterator[tuple[FloatArray, dict[str, Any]]]:
        """Yield each column's values and what it is."""

    def on_mesh(self, values: FloatArray, about: Mapping[Any, Any]) -> FloatArray:
        """Lay a column onto the cortex of its voxels."""


@dataclass(frozen=True, eq=False)
class Group:
    """Maps of one kind, which share one scale.

    Parameters
    ----------
    panels : sequence of Panel, of SharePanel or of PreferencePanel
    heading : str
        Over their names.
    label : str
        What the colours mean, with unit.
    names : sequence of str
        Of the two bands of shares, z and z_c by default; or of the layers that may be preferred.
    cmap : str
        Name of a matplotlib colormap, for numbers.
    limits : tuple of float, optional
        Ends of the scale of numbers, or of the shares that are drawn palest and strongest; by default those that
        `flatmaps` and `share_maps` choose.
    """

    panels: Sequence[AnyPanel]
    heading: str = ""
    label: str = ""
    names: Sequence[str] = ()
    cmap: str = "inferno"
    limits: tuple[float, float] | None = None


def shown(maps: Columns | Sequence[Group | AnyPanel]) -> tuple[str, list[tuple[View, dict[str, Any]]]]:
    """Turn maps into what is drawn, and what is said of each.

    Parameters
    ----------
    maps : Maps, or sequence of Group, Panel, SharePanel or PreferencePanel
        Columns of `Maps` share a scale with those of the same statistic; panels that are given without a group
        share one scale.

    Returns
    -------
    str
        On whose cortex they are.
    list of (View, dict)
        The dict has title, heading, note, coloured (whether there are no values to point at) and legend.

    Raises
    ------
    InputError
        If there is no map, the voxels have no known position, maps are on several cortices, or a preferred layer has
        no name.
    """
    groups = _groups(maps)
    panels = [panel for group in groups for panel in group.panels]
    if not panels:
        raise InputError("There is no map to show.")
    return cortex_of(panels), [one for group in groups for one in _shown(group)]


def _groups(maps: Columns | Sequence[Group | AnyPanel]) -> list[Group]:
    if isinstance(maps, Columns):
        return _of_columns(maps)
    by_kind: dict[type, list[AnyPanel]] = {}
    for panel in maps:
        if not isinstance(panel, Group):
            by_kind.setdefault(type(panel), []).append(panel)
    return [*(one for one in maps if isinstance(one, Group)), *map(Group, by_kind.values())]


def _of_columns(maps: Columns) -> list[Group]:
    """Group columns by their statistic; what counts layers gets their names."""
    if not maps.space.template:
        raise InputError("Maps of voxels without a known position on cortex cannot be drawn there; give `template`.")
    panels: dict[tuple[str, str], list[AnyPanel]] = {}
    for values, facts in maps:
        statistic, layers = str(facts["statistic"]), str(facts.get("layers", ""))
        named = layers if statistic == PREFERRED.name else ""
        parts = dict.fromkeys(str(facts[key]) for key in ("analysis", "model", "band") if facts[key])
        laid = maps.on_mesh(values, facts)
        title = ", ".join(parts)
        kind = PreferencePanel if named else Panel
        panel = kind(title, laid, template=maps.space.template)
        panels.setdefault((statistic, named), []).append(panel)
    return [
        Group(some, heading=statistic, label=statistic, names=named.split("+") if named else ())
        for (statistic, named), some in panels.items()
    ]


def _shown(group: Group) -> Iterator[tuple[View, dict[str, Any]]]:
    """Yield each map as it is drawn, and what the page says of it."""
    scale = scale_of([p.values for p in group.panels if isinstance(p, Panel)], group.limits)
    shares = [p for p in group.panels if isinstance(p, SharePanel)]
    top = group.limits[1] if group.limits else strongest(shares)
    for panel in group.panels:
        if isinstance(panel, Panel):
            view, legend = _numbers(panel, group.cmap, scale)
        elif isinstance(panel, SharePanel):
            view, legend = _shares(panel, tuple(group.names) or ("z", "z_c"), top)
        else:
            view, legend = _layers(panel, group.names)
        about = {
            "title": panel.title,
            "heading": group.heading,
            "note": _note(panel),
            "coloured": view.values.ndim == 2,
        }
        yield view, about | {"legend": legend | {"label": group.label}}


def _numbers(panel: Panel, cmap: str, scale: Normalize) -> tuple[View, dict[str, Any]]:
    palette = matplotlib.colormaps[cmap](np.arange(256) / 255)
    values, limits = panel.values, (float(scale.vmin or 0.0), float(scale.vmax or 0.0))
    legend = {
        "kind": "scale",
        "image": _picture(palette[None]),
        "low": ("≤ " if (values < limits[0]).any() else "") + f"{limits[0]:.3g}",
        "high": ("≥ " if (values > limits[1]).any() else "") + f"{limits[1]:.3g}",
    }
    if not _grey(panel).any():
        return View(values, limits, _bytes(palette[:, :3])), legend
    colours = np.array(matplotlib.colormaps[cmap](scale(np.nan_to_num(values))))
    colours[:, 3] = np.isfinite(values)
    return _painted(panel, colours), legend | {"swatches": [UNSURE]}


def _shares(panel: SharePanel, names: Sequence[str], top: float) -> tuple[View, dict[str, Any]]:
    steps = np.linspace(0.0, top, SQUARE)
    square = on_cortex_grey(share_colours(*np.meshgrid(steps, steps[::-1]), limit=top))
    legend = {"kind": "square", "image": _picture(square), "names": list(names), "low": "≤ 0", "high": f"≥ {top:.2g}"}
    colours = share_colours(panel.first, panel.second, limit=top)
    return _painted(panel, colours), legend | {"swatches": [UNSURE] if _grey(panel).any() else []}


def _layers(panel: PreferencePanel, names: Sequence[str]) -> tuple[View, dict[str, Any]]:
    known = panel.preferred
    names = names or [f"layer {i}" for i in range(int(np.nanmax(known, initial=0.0)) + 1)]
    check_layers([panel], names)
    palette = layer_colours(len(names))
    colours = np.ones((len(known), 4))
    colours[:, :3] = palette[np.nan_to_num(known).astype(int)]
    sure = 1.0 if panel.confidence is None else np.clip(np.nan_to_num(panel.confidence), 0.0, 1.0)
    colours[:, 3] = np.where(np.isfinite(known), sure, 0.0)
    swatches = [(to_hex(colour), name) for colour, name in zip(palette, names, strict=True)]
    legend = {"kind": "layers", "swatches": swatches + ([UNSURE] if _grey(panel).any() else [])}
    return _painted(panel, colours), legend


def _grey(panel: AnyPanel) -> BoolArray:
    """Where it cannot be told, (n_vertices,)."""
    if panel.unsure is None:
        return np.zeros(len(_arrays(panel)[0]), dtype=bool)
    return np.nan_to_num(panel.unsure) > 0.5


def _painted(panel: AnyPanel, colours: FloatArray) -> View:
    """Turn colours and opacity 0..1, (n_vertices, 4), into a view, grey where it cannot be told."""
    colours[_grey(panel)] = (*to_rgb(GREY), 1.0)
    return View(_bytes(colours))


def _bytes(colours: FloatArray) -> NDArray[np.uint8]:
    return np.round(np.clip(colours, 0.0, 1.0) * 255).astype(np.uint8)


def _picture(colours: FloatArray) -> str:
    """Write an image, (height, width, 3 or 4) of 0..1, as a data URL."""
    file = io.BytesIO()
    Image.fromarray(_bytes(colours)).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _arrays(panel: AnyPanel) -> list[FloatArray]:
    """List what is drawn of a panel, each (n_vertices,)."""
    return [getattr(panel, name) for name in ("values", "first", "second", "preferred") if hasattr(panel, name)]


def _note(panel: AnyPanel) -> str:
    """Say how much of a map is drawn, and what is special about it."""
    arrays = _arrays(panel)
    defined = np.all([np.isfinite(one) for one in arrays], axis=0)
    said = f"{defined.sum():,} of {len(defined):,} vertices have a value; the others show the curvature."
    if defined.all():
        said = f"All {len(defined):,} vertices have a value."
    if not defined.any():
        said = "No vertex has a value; the curvature shows everywhere."
    elif all(np.ptp(one[defined]) == 0 for one in arrays):
        said += f" All have the same, {' and '.join(f'{one[defined][0]:.4g}' for one in arrays)}."
    if isinstance(panel, PreferencePanel):
        said += " Between vertices of different layers their colours mix."
    return said
