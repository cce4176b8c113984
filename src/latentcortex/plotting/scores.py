"""Scores against their ceiling and their chance, and how they are spread."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray, same_length
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, PAGE, SERIES, Style, empty_figure, house_style, plain, ticks
from latentcortex.plotting._legends import labelled

MARGIN: Final = 0.03
"""Of the span of values, beyond their ends: room for a whole hexagon round the highest value."""


@house_style()
def prediction_against_ceiling(
    score: FloatArray,
    ceiling: FloatArray,
    *,
    label: str = "correlation r",
    ceiling_label: str = "noise ceiling",
    style: Style = PAGE,
) -> Figure:
    """Draw each voxel's score against its ceiling as counts, with the line where they are equal.

    Axes go from the 0.5th percentile, since scores have no lower end, to the highest value, and a little further at
    both ends, so that no mark is cut; the title says how many voxels lie below.

    Parameters
    ----------
    score, ceiling : ndarray of shape (n_voxels,)
        In the same unit; a voxel where one is nan is not drawn.
    label, ceiling_label : str
    style : Style
    """
    same_length(score=score, ceiling=ceiling)
    is_defined = np.isfinite(score) & np.isfinite(ceiling)
    figure = empty_figure(min(5.6, style.room), 4.6, style)
    ax = figure.add_axes((0.14, 0.14, 0.6, 0.75))
    ends = np.concatenate(
        [np.zeros(1), *(np.percentile(one[is_defined], [0.5, 100]) for one in (score, ceiling) if is_defined.any())]
    )
    margin = MARGIN * np.ptp(ends) or 0.5
    lowest = ends.min() - margin
    within = is_defined & (score >= lowest) & (ceiling >= lowest)
    low, high = lowest - margin, ends.max() + margin
    ax.plot([low, high], [low, high], color="#888888", linewidth=1.2 * style.scale, zorder=3)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    if is_defined.any():
        counts = ax.hexbin(
            ceiling[within],
            score[within],
            gridsize=45,
            mincnt=1,
            cmap="viridis",
            norm=LogNorm(),
            extent=(low, high, low, high),
            linewidths=0.1 * style.scale,
        )
        bar = figure.colorbar(counts, cax=figure.add_axes((0.77, 0.14, 0.03, 0.75)), format="{x:,.0f}")
        bar.set_label("voxels", fontsize=style.medium, color=INK)
        ticks(bar.ax, style)
    ax.set_xlabel(ceiling_label, fontsize=style.medium, color=INK)
    ax.set_ylabel(label, fontsize=style.medium, color=INK)
    beyond = int(is_defined.sum() - within.sum())
    said = f", {beyond:,} below the axes" if beyond else ""
    ax.set_title(f"{is_defined.sum():,} voxels{said}", fontsize=style.medium, color=INK)
    plain(ax, style)
    return figure


@house_style()
def histogram(
    score: FloatArray, threshold: float | None = None, *, label: str = "correlation r", style: Style = PAGE
) -> Figure:
    """Draw how scores are spread, and how many lie above a threshold.

    Parameters
    ----------
    score : ndarray of shape (n_voxels,)
        nan is counted in the title, not drawn.
    threshold : float, optional
    label : str
    style : Style
    """
    finite = score[np.isfinite(score)]
    figure = empty_figure(min(5.6, style.room), 3.8, style)
    ax = figure.add_axes((0.15, 0.17, 0.81, 0.7))
    limit = np.inf if threshold is None or not np.isfinite(threshold) else threshold
    above = finite >= limit
    edges = _edges(finite, limit)
    ax.hist([finite[~above], finite[above]], edges, stacked=True, color=["#b8b8b8", SERIES[0]])  # type: ignore[arg-type]
    title = f"{len(finite):,} voxels"
    if np.isfinite(limit):
        ax.axvline(limit, color=INK, linewidth=1.2 * style.scale, linestyle=(0, (4, 2)))
        title += f", {above.sum():,} from {limit:.3g} on"
    undefined = len(score) - len(finite)
    ax.set_title(title + (f"; {undefined:,} undefined" if undefined else ""), fontsize=style.medium, color=INK)
    ax.set_xlabel(label, fontsize=style.medium, color=INK)
    ax.set_ylabel("voxels", fontsize=style.medium, color=INK)
    plain(ax, style)
    return figure


@house_style()
def score_intervals(table: pd.DataFrame, *, n_columns: int = 3, style: Style = PAGE) -> Figure:
    """Draw scores with their intervals, each beside what chance gives and beside its control.

    Parameters
    ----------
    table : DataFrame
        Columns `panel`, `measure`, `series`, `value`, `low`, `high`, `chance` and `control` (nan for none), in the
        order in which they are drawn. Series are told apart by colour; the control is a hollow mark, chance a bar.
    n_columns : int
        Panels beside each other, as far as there is room.
    style : Style

    Raises
    ------
    InputError
        If there is no row.
    """
    if table.empty:
        raise InputError("There is no score to draw.")
    panels, series = list(dict.fromkeys(table["panel"])), list(dict.fromkeys(table["series"]))
    columns = style.beside(4.8, min(n_columns, len(panels)))
    rows = -(-len(panels) // columns)
    lengths = [table[table["panel"] == panel]["measure"].nunique() for panel in panels]
    heights = [0.6 * max(lengths[i : i + columns]) + 0.7 for i in range(0, len(panels), columns)]
    figure = empty_figure(4.8 * columns, sum(heights) + 0.5, style)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for panel, ax in zip(panels, axes[: len(panels)], strict=True):
        _intervals(ax, table[table["panel"] == panel], series, style)
        ax.set_title(textwrap.fill(panel, 24), fontsize=style.medium, color=INK, loc="left")
        plain(ax, style)
    handles, names = axes[0].get_legend_handles_labels()
    handle_of = dict(zip(names, handles, strict=True))
    text: dict[str, Any] = {"fontsize": style.small, "frameon": False, "ncols": style.beside(1.6, 6)}
    figure.legend(handle_of.values(), handle_of.keys(), loc="outside lower center", **text)
    return figure


@house_style()
def similarity_matrices(
    tables: Mapping[str, FloatArray], names: Sequence[str], *, label: str = "", style: Style = PAGE
) -> Figure:
    """Draw how alike maps are: correlations as colours and numbers, with their intervals.

    Parameters
    ----------
    tables : dict of str to ndarray of shape (3, n_maps, n_maps)
        Title -> r, lower and upper end of its interval, such as `inference.map_similarity`; nan for unknown.
    names : sequence of str
        Of the maps.
    label : str
        What the names are.
    style : Style

    Raises
    ------
    InputError
        If there is no table.
    AlignmentError
        If a table has not one row per name.
    """
    if not tables:
        raise InputError("There is no similarity to draw.")
    for table in tables.values():
        same_length(names=names, rows=table[0])
    side = max(0.85 * len(names), 1.8)
    columns = style.beside(side + 0.6, len(tables))
    rows = -(-len(tables) // columns)
    figure = empty_figure(min(columns * (side + 0.7) + 1.2, style.room), rows * (side + 0.8) + 0.5, style)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    apart = ~np.eye(len(names), dtype=bool)
    off = np.concatenate([table[0][apart] for table in tables.values()])
    low = np.floor(10 * min(off[np.isfinite(off)].min(initial=1.0), 0.9)) / 10  # the diagonal says nothing
    palette = ScalarMappable(Normalize(low, 1.0), "cividis")
    for (title, table), ax in zip(tables.items(), axes, strict=False):
        colours = palette.to_rgba(np.nan_to_num(table[0]))
        colours[~apart | ~np.isfinite(table[0])] = to_rgba("#e8e8e8")
        ax.imshow(colours, interpolation="nearest")
        for i, j in np.argwhere(np.isfinite(table[0]) & apart):
            _similarity(ax, (i, j), table[:, i, j], bright=table[0, i, j] > (1 + low) / 2, style=style)
        ax.set_xticks(range(len(names)), names)
        ax.set_yticks(range(len(names)), names)
        ax.set_title(title, fontsize=style.medium, color=INK)
        ax.spines[:].set_visible(False)
        ticks(ax, style, 0)
    for ax in axes[len(tables) :]:
        ax.set_axis_off()
    bar = figure.colorbar(palette, ax=list(axes), shrink=0.8, aspect=22, pad=0.02)
    labelled(bar, "correlation of maps", style)
    figure.supxlabel(label, fontsize=style.medium, color=INK)
    return figure


def _similarity(ax: Axes, cell: tuple[int, int], r_and_interval: FloatArray, *, bright: bool, style: Style) -> None:
    """Write r and its interval into a cell."""
    r, low, high = r_and_interval
    words = f"{r:.2f}"
    if np.isfinite(low):
        words += f"\n[{low:.2f}, {high:.2f}]".replace("0.", ".")
    ink = INK if bright else "white"
    ax.text(cell[1], cell[0], words, ha="center", va="center", fontsize=style.name, color=ink, linespacing=1.4)


def _intervals(ax: Axes, rows: pd.DataFrame, series: Sequence[str], style: Style) -> None:
    """Draw one panel: measures from top to bottom, the series of each a little apart."""
    measures = list(dict.fromkeys(rows["measure"]))
    step = 0.7 / len(series)
    for i, name in enumerate(series):
        part, colour = rows[rows["series"] == name], SERIES[i % len(SERIES)]
        y = part["measure"].map(measures.index).to_numpy(float) + (i - (len(series) - 1) / 2) * step
        value = part["value"].to_numpy(float)
        ax.hlines(
            y, part["low"].to_numpy(float), part["high"].to_numpy(float), color=colour, linewidth=1.4 * style.scale
        )
        ax.plot(value, y, "o", color=colour, markersize=5 * style.scale, label=name)
        names = ("shuffled", "chance") if i == 0 else ("_shuffled", "_chance")  # `_` keeps one out of the legend
        control, chance = part["control"].to_numpy(float), part["chance"].to_numpy(float)
        ax.plot(control, y, "o", color=colour, markerfacecolor="none", markersize=5 * style.scale, label=names[0])
        ax.plot(chance, y, "|", color="#888888", markersize=9 * style.scale, label=names[1])
    ax.set_yticks(range(len(measures)), measures)
    ax.set_ylim(len(measures) - 0.5, -0.5)
    ax.grid(axis="x", color="#e5e5e5", linewidth=0.8 * style.scale)
    ax.set_axisbelow(True)


def _span(values: Sequence[FloatArray]) -> tuple[float, float]:
    together = np.concatenate([*values, np.array([0.0])])
    low, high = float(together.min()), float(together.max())
    room = 0.03 * (high - low) or 0.5
    return low - (room if low < 0 else 0.0), high + room


def _edges(finite: FloatArray, limit: float) -> FloatArray:
    """Cut the range into some 60 bins, one of which begins at the limit."""
    low, high = _span([finite])
    step = (high - low) / 60
    start = low if not np.isfinite(limit) else limit - np.ceil((limit - low) / step) * step
    return cast(FloatArray, start + step * np.arange(63))
