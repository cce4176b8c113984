"""Profiles of regions, scores against their ceiling, and how scores are spread."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray, same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, MEDIUM, SERIES, SMALL, empty_figure, plain


def roi_profiles(
    table: pd.DataFrame, *, x_label: str = "", y_label: str = "", n_columns: int | None = None, log_x: bool = False
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
        At most four by default.
    log_x : bool
        Whether equal distances along x are equal ratios.

    Raises
    ------
    InputError
        If a column is missing or there is no row.
    """
    missing = [name for name in ("roi", "x", "y", "low", "high", "series") if name not in table]
    if missing or table.empty:
        raise InputError(f"A profile needs rows with roi, x, y, low, high, series; lacks {missing or 'rows'}.")
    regions = list(dict.fromkeys(table["roi"]))
    columns = n_columns or min(len(regions), 4)
    rows = -(-len(regions) // columns)
    figure = empty_figure(2.9 * max(columns, 1.5) + 0.4, 2.4 * rows + 0.9)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    draw = _lines if pd.api.types.is_numeric_dtype(table["x"]) else _bars
    for region, ax in zip(regions, axes[: len(regions)], strict=True):
        if log_x:
            ax.set_xscale("log", base=2)
        draw(ax, table[table["roi"] == region], table)
        if log_x:
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
        ax.set_title(region, fontsize=MEDIUM, color=INK)
        plain(ax)
    for index, ax in enumerate(axes[len(regions) :], start=len(regions)):
        ax.set_axis_off()
        axes[index - columns].tick_params(labelbottom=True)
    handles, names = axes[0].get_legend_handles_labels()
    if len(names) > 1:
        figure.legend(handles, names, fontsize=MEDIUM, frameon=False, loc="outside upper center", ncols=len(names))
    figure.supxlabel(x_label, fontsize=MEDIUM, color=INK)
    figure.supylabel(y_label, fontsize=MEDIUM, color=INK)
    return figure


def prediction_against_ceiling(
    score: FloatArray,
    ceiling: FloatArray,
    *,
    label: str = "correlation r",
    ceiling_label: str = "noise ceiling",
) -> Figure:
    """Draw each voxel's score against its ceiling as counts, with the line where they are equal.

    Parameters
    ----------
    score, ceiling : ndarray of shape (n_voxels,)
        In the same unit; a voxel where one is nan is not drawn.
    label, ceiling_label : str
    """
    same_length(score=score, ceiling=ceiling)
    known = np.isfinite(score) & np.isfinite(ceiling)
    figure = empty_figure(5.4, 4.6)
    ax = figure.add_axes((0.14, 0.14, 0.64, 0.75))
    low, high = _span([score[known], ceiling[known]])
    ax.plot([low, high], [low, high], color="#888888", linewidth=1.2, zorder=3)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    if known.any():
        counts = ax.hexbin(
            ceiling[known],
            score[known],
            gridsize=45,
            mincnt=1,
            cmap="viridis",
            norm=LogNorm(),
            extent=(low, high, low, high),
            linewidths=0.1,
        )
        bar = figure.colorbar(counts, cax=figure.add_axes((0.82, 0.14, 0.03, 0.75)), format="{x:,.0f}")
        bar.set_label("voxels", fontsize=MEDIUM, color=INK)
    ax.set_xlabel(ceiling_label, fontsize=MEDIUM, color=INK)
    ax.set_ylabel(label, fontsize=MEDIUM, color=INK)
    ax.set_title(f"{known.sum():,} voxels", fontsize=MEDIUM, color=INK)
    plain(ax)
    return figure


def histogram(score: FloatArray, threshold: float | None = None, *, label: str = "correlation r") -> Figure:
    """Draw how scores are spread, and how many lie above a threshold.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        nan is counted in the title, not drawn.
    threshold : float, optional
    label : str
    """
    known = score[np.isfinite(score)]
    figure = empty_figure(5.6, 3.8)
    ax = figure.add_axes((0.15, 0.17, 0.81, 0.7))
    limit = np.inf if threshold is None or not np.isfinite(threshold) else threshold
    above = known >= limit
    edges = _edges(known, limit)
    ax.hist([known[~above], known[above]], edges, stacked=True, color=["#b8b8b8", SERIES[0]])  # type: ignore[arg-type]
    title = f"{len(known):,} voxels"
    if np.isfinite(limit):
        ax.axvline(limit, color=INK, linewidth=1.2, linestyle=(0, (4, 2)))
        title += f", {above.sum():,} from {limit:.3g} on"
    undefined = len(score) - len(known)
    ax.set_title(title + (f"; {undefined:,} undefined" if undefined else ""), fontsize=MEDIUM, color=INK)
    ax.set_xlabel(label, fontsize=MEDIUM, color=INK)
    ax.set_ylabel("voxels", fontsize=MEDIUM, color=INK)
    plain(ax)
    return figure


def score_intervals(table: pd.DataFrame, *, n_columns: int = 3) -> Figure:
    """Draw scores with their intervals, each beside what chance gives and beside its control.

    Parameters
    ----------
    table : DataFrame
        Columns `panel`, `measure`, `series`, `value`, `low`, `high`, `chance` and `control` (nan for none), in the
        order in which they are drawn. Series are told apart by colour; the control is a hollow mark, chance a bar.
    n_columns : int
        Panels beside each other.

    Raises
    ------
    InputError
        If there is no row.
    """
    if table.empty:
        raise InputError("There is no score to draw.")
    panels, series = list(dict.fromkeys(table["panel"])), list(dict.fromkeys(table["series"]))
    columns = min(n_columns, len(panels))
    rows = -(-len(panels) // columns)
    lengths = [table[table["panel"] == panel]["measure"].nunique() for panel in panels]
    heights = [0.6 * max(lengths[i : i + columns]) + 0.7 for i in range(0, len(panels), columns)]
    figure = empty_figure(4.8 * columns, sum(heights) + 0.5)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for panel, ax in zip(panels, axes[: len(panels)], strict=True):
        _intervals(ax, table[table["panel"] == panel], series)
        ax.set_title(textwrap.fill(panel, 24), fontsize=MEDIUM, color=INK, loc="left")
        plain(ax)
    handles, names = axes[0].get_legend_handles_labels()
    known = dict(zip(names, handles, strict=True))
    figure.legend(known.values(), known.keys(), fontsize=SMALL, frameon=False, loc="outside lower center", ncols=6)
    return figure


def _intervals(ax: Axes, rows: pd.DataFrame, series: Sequence[str]) -> None:
    """Draw one panel: measures from top to bottom, the series of each a little apart."""
    measures = list(dict.fromkeys(rows["measure"]))
    step = 0.7 / len(series)
    for i, name in enumerate(series):
        part, colour = rows[rows["series"] == name], SERIES[i % len(SERIES)]
        y = part["measure"].map(measures.index).to_numpy(float) + (i - (len(series) - 1) / 2) * step
        value = part["value"].to_numpy(float)
        ax.hlines(y, part["low"].to_numpy(float), part["high"].to_numpy(float), color=colour, linewidth=1.4)
        ax.plot(value, y, "o", color=colour, markersize=5, label=name)
        names = ("shuffled", "chance") if i == 0 else ("_shuffled", "_chance")  # `_` keeps one out of the legend
        control, chance = part["control"].to_numpy(float), part["chance"].to_numpy(float)
        ax.plot(control, y, "o", color=colour, markerfacecolor="none", markersize=5, label=names[0])
        ax.plot(chance, y, "|", color="#888888", markersize=9, label=names[1])
    ax.set_yticks(range(len(measures)), measures)
    ax.set_ylim(len(measures) - 0.5, -0.5)
    ax.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)


def _span(values: Sequence[FloatArray]) -> tuple[float, float]:
    together = np.concatenate([*values, np.array([0.0])])
    low, high = float(together.min()), float(together.max())
    room = 0.03 * (high - low) or 0.5
    return low - (room if low < 0 else 0.0), high + room


def _edges(known: FloatArray, limit: float) -> FloatArray:
    """Cut the range into some 60 bins, one of which begins at the limit."""
    low, high = _span([known])
    step = (high - low) / 60
    start = low if not np.isfinite(limit) else limit - np.ceil((limit - low) / step) * step
    return cast(FloatArray, start + step * np.arange(63))


def _lines(ax: Axes, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    for colour, series in zip(_cycled(table), dict.fromkeys(table["series"]), strict=True):
        part = rows[rows["series"] == series].sort_values("x")
        x = part["x"].to_numpy(float)
        ax.fill_between(
            x, part["low"].to_numpy(float), part["high"].to_numpy(float), color=colour, alpha=0.2, linewidth=0
        )
        ax.plot(
            x,
            part["y"].to_numpy(float),
            color=colour,
            linewidth=2,
            marker="o",
            markersize=4,
            label=str(series),
        )
    places = np.unique(table["x"].to_numpy(float))
    if len(places) <= 6:
        ax.set_xticks(places)


def _bars(ax: Axes, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    words, names = list(dict.fromkeys(table["x"])), list(dict.fromkeys(table["series"]))
    width = 0.8 / len(names)
    for index, (colour, series) in enumerate(zip(_cycled(table), names, strict=True)):
        part = rows[rows["series"] == series]
        x = part["x"].map(words.index).to_numpy(float) + (index - (len(names) - 1) / 2) * width
        y = part["y"].to_numpy(float)
        reach = np.abs(np.stack([y - part["low"].to_numpy(float), part["high"].to_numpy(float) - y]))
        ax.bar(x, y, width * 0.92, color=colour, label=str(series))
        ax.errorbar(x, y, reach, fmt="none", ecolor=INK, elinewidth=1.2)
    ax.set_xticks(range(len(words)), words)


def _cycled(table: pd.DataFrame) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(table["series"].nunique())]
