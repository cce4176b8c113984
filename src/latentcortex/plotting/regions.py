"""Regions side by side: how a statistic goes along one axis, or over two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentcortex._arrays import FloatArray
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, PAGE, SERIES, Style, empty_figure, house_style, plain, ticks
from latentcortex.plotting._legends import extended, labelled


@house_style()
def roi_profiles(
    table: pd.DataFrame,
    *,
    x_label: str = "",
    y_label: str = "",
    n_columns: int | None = None,
    log_x: bool = False,
    style: Style = PAGE,
) -> Figure:
    """Draw how a statistic goes along some axis, one small picture per region, all with the same scale.

    Parameters
    ----------
    table : DataFrame
        Columns `roi`, `x`, `y`, `low`, `high` (ends of the interval; nan for none) and `series`. Numbers in
        `x` make lines, words make bars. Regions, words and series keep their order in the table.
    x_label, y_label : str
        With unit.
    n_columns : int, optional
        At most four by default, and so many as fit.
    log_x : bool
        Whether equal distances along x are equal ratios.
    style : Style

    Raises
    ------
    InputError
        If a column is missing or there is no row.
    """
    missing = [name for name in ("roi", "x", "y", "low", "high", "series") if name not in table]
    if missing or table.empty:
        raise InputError(f"A profile needs rows with roi, x, y, low, high, series; lacks {missing or 'rows'}.")
    regions = list(dict.fromkeys(table["roi"]))
    columns = style.beside(2.6, n_columns or min(len(regions), 4))
    rows = -(-len(regions) // columns)
    wide = min(2.9 * max(columns, 1.5) + 0.4, style.room)
    figure = empty_figure(wide, (2.4 if columns > 1 else 2.9) * rows + 0.9, style)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    draw = _lines if pd.api.types.is_numeric_dtype(table["x"]) else _bars
    for region, ax in zip(regions, axes[: len(regions)], strict=True):
        if log_x:
            ax.set_xscale("log", base=2)
        draw(ax, table[table["roi"] == region], table, style)
        if log_x:
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
        ax.set_title(region, fontsize=style.medium, color=INK)
        plain(ax, style)
    for index, ax in enumerate(axes[len(regions) :], start=len(regions)):
        ax.set_axis_off()
        axes[index - columns].tick_params(labelbottom=True)
    handles, names = axes[0].get_legend_handles_labels()
    if len(names) > 1:
        n_beside = style.beside(0.6 + 0.1 * max(map(len, names)), len(names))
        text = {"fontsize": style.medium, "frameon": False, "handlelength": 1.6}
        figure.legend(handles, names, loc="outside upper center", ncols=n_beside, **text)
    figure.supxlabel(x_label, fontsize=style.medium, color=INK)
    figure.supylabel(y_label, fontsize=style.medium, color=INK)
    return figure


@house_style()
def region_grids(
    table: pd.DataFrame,
    *,
    x_label: str = "",
    y_label: str = "",
    label: str = "",
    limits: tuple[float, float] | None = None,
    n_columns: int | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw a statistic over two axes, one small heat map per region, all with one scale; empty cells are hatched.

    Parameters
    ----------
    table : DataFrame
        Columns `roi`, `x`, `y` (numbers; each different one is a column or a row, ascending) and `value`; nan, or no
        row, for what was not computed. Regions keep their order.
    x_label, y_label, label : str
        Of the axes and of the colours, with unit.
    limits : tuple of float, optional
        Of the colour scale; by default from 0, or the least value if that is less, to the largest.
    n_columns : int, optional
        At most four by default, and so many as fit.
    style : Style

    Raises
    ------
    InputError
        If a column is missing or there is no row, or a cell stands there twice.
    """
    missing = [name for name in ("roi", "x", "y", "value") if name not in table]
    if missing or table.empty:
        raise InputError(f"Heat maps need rows with roi, x, y, value; lack {missing or 'rows'}.")
    if table.duplicated(subset=["roi", "x", "y"]).any():
        raise InputError("A cell of a heat map stands in the table twice.")
    regions = list(dict.fromkeys(table["roi"]))
    xs, ys = (np.unique(table[name].to_numpy(float)) for name in ("x", "y"))
    columns = style.beside(2.6, n_columns or min(len(regions), 4))
    rows = -(-len(regions) // columns)
    figure = empty_figure(min(2.9 * max(columns, 1.5) + 1.2, style.room), (0.45 * len(ys) + 0.9) * rows + 0.6, style)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    finite = table["value"].to_numpy(float)
    finite = finite[np.isfinite(finite)]
    low, high = limits or (min(0.0, finite.min(initial=0.0)), finite.max(initial=0.0))
    palette = ScalarMappable(Normalize(low, high if high > low else low + 1.0), "cividis")
    for region, ax in zip(regions, axes[: len(regions)], strict=True):
        cells = (
            table[table["roi"] == region].pivot(index="y", columns="x", values="value").reindex(index=ys, columns=xs)
        )
        _cells(ax, cells.to_numpy(float), palette, style)
        ax.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        ax.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
        ax.set_title(region, fontsize=style.medium, color=INK)
        ticks(ax, style, 0)
    for index, ax in enumerate(axes[len(regions) :], start=len(regions)):
        ax.set_axis_off()
        axes[index - columns].tick_params(labelbottom=True)
    extend = extended(palette, [finite])
    bar = figure.colorbar(palette, ax=list(axes), shrink=0.9, aspect=25 * rows, pad=0.02, extend=extend)
    labelled(bar, label, style)
    figure.supxlabel(x_label, fontsize=style.medium, color=INK)
    figure.supylabel(y_label, fontsize=style.medium, color=INK)
    return figure


def _cells(ax: Axes, values: FloatArray, palette: ScalarMappable, style: Style) -> None:
    """Colour the cells of one heat map, the first row below; hatch those that are nan."""
    height, width = values.shape
    ax.imshow(palette.to_rgba(np.nan_to_num(values)), origin="lower", aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(~np.isfinite(values)):
        hatching: dict[str, Any] = {"facecolor": "white", "edgecolor": "#999999", "hatch": "////", "linewidth": 0.0}
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **hatching))
    for edge in np.arange(1, width) - 0.5:
        ax.axvline(edge, color="white", linewidth=1.2 * style.scale)
    for edge in np.arange(1, height) - 0.5:
        ax.axhline(edge, color="white", linewidth=1.2 * style.scale)
    ax.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))
    ax.spines[:].set_visible(False)


def _lines(ax: Axes, rows: pd.DataFrame, table: pd.DataFrame, style: Style) -> None:
    for colour, series in zip(_cycled(table), dict.fromkeys(table["series"]), strict=True):
        part = rows[rows["series"] == series].sort_values("x")
        x = part["x"].to_numpy(float)
        ends = part["low"].to_numpy(float), part["high"].to_numpy(float)
        ax.fill_between(x, *ends, color=colour, alpha=0.2, linewidth=0)
        ax.vlines(x, *ends, color=colour, linewidth=1.2 * style.scale)  # an interval without neighbours has no area
        ax.plot(
            x,
            part["y"].to_numpy(float),
            color=colour,
            linewidth=2 * style.scale,
            marker="o",
            markersize=4 * style.scale,
            label=str(series),
        )
    places = np.unique(table["x"].to_numpy(float))
    if len(places) <= 6:
        ax.set_xticks(places)


def _bars(ax: Axes, rows: pd.DataFrame, table: pd.DataFrame, style: Style) -> None:
    words, names = list(dict.fromkeys(table["x"])), list(dict.fromkeys(table["series"]))
    width = 0.8 / len(names)
    for index, (colour, series) in enumerate(zip(_cycled(table), names, strict=True)):
        part = rows[rows["series"] == series]
        x = part["x"].map(words.index).to_numpy(float) + (index - (len(names) - 1) / 2) * width
        y = part["y"].to_numpy(float)
        reach = np.abs(np.stack([y - part["low"].to_numpy(float), part["high"].to_numpy(float) - y]))
        ax.bar(x, y, width * 0.92, color=colour, label=str(series))
        ax.errorbar(x, y, reach, fmt="none", ecolor=INK, elinewidth=1.2 * style.scale)
    ax.set_xticks(range(len(words)), words)


def _cycled(table: pd.DataFrame) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(table["series"].nunique())]
