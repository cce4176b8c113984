"""How far two estimators agree: R² against R², their differences, and alpha against alpha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.plotting._canvas import INK, Style, empty_figure, house_style, plain

MIN_COUNTED_VOXELS: Final = 500
"""Voxels from which on a picture shows how many lie where, and no longer each."""
STYLE: Final = Style(width_mm=356, text=12)


@house_style()
def estimator_agreement(
    table: pd.DataFrame, names: tuple[str, str], interval: tuple[float, float], *, style: Style = STYLE
) -> Figure:
    """Draw R² against R², a histogram of their differences, and alpha against alpha.

    Parameters
    ----------
    table : DataFrame of length n_voxels
        Columns `r2_<name>` and `alpha_<name>` of both estimators, and `r2_difference`, the first less the second;
        `estimators.compare` makes it. A voxel that is nan is not drawn.
    names : tuple of two str
        What the columns call the estimators.
    interval : tuple of float
        The 95 % interval of the mean difference of R².
    style : Style

    Returns
    -------
    Figure
        Three panels, and a colour bar from 500 voxels on. The titles count voxels that are undefined, and those far
        from all others, which are left outside.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from latentcortex import plotting
    >>> table = pd.DataFrame({"r2_a": [0.2, 0.1], "r2_b": [0.1, 0.1], "alpha_a": [1.0, 10.0], "alpha_b": [1.0, 100.0]})
    >>> table["r2_difference"] = table["r2_a"] - table["r2_b"]
    >>> figure = plotting.estimator_agreement(table, ("a", "b"), (0.0, 0.1))
    >>> figure.axes[0].get_title()
    '2 voxels'
    """
    figure = empty_figure(14.0, 5.4, style)
    figure.set_layout_engine("constrained")
    left, middle, right = axes = figure.subplots(1, 3)
    r2, alpha = ([table[f"{statistic}_{name}"].to_numpy() for name in names] for statistic in ("r2", "alpha"))
    with np.errstate(invalid="ignore", divide="ignore"):
        log_alpha = [np.asarray(np.log10(values)) for values in alpha]
    counts = [
        _one_against_other(left, *r2, names=names, quantity="R²"),
        _one_against_other(right, *log_alpha, names=names, quantity="log10 alpha"),
    ]
    _differences(middle, table["r2_difference"].to_numpy(), interval)
    middle.set_xlabel(f"R² of {names[0]} − R² of {names[1]}")
    for ax in axes:
        plain(ax, style)
        for label in (ax.title, ax.xaxis.label, ax.yaxis.label):
            label.set(fontsize=style.medium, color=INK)
    meshes = [mesh for mesh in counts if mesh is not None]
    if meshes:
        _share_colours(meshes)
        bar = figure.colorbar(meshes[0], ax=axes, shrink=0.75, pad=0.01, format="{x:,.0f}")
        bar.set_label("voxels", fontsize=style.medium, color=INK)
    return figure


def _limits(*values: FloatArray) -> tuple[float, float]:
    """Find where all values lie but for a few in a thousand that are far from the rest."""
    together = np.concatenate(values)
    if not len(together):
        return -0.5, 0.5
    low, high = np.quantile(together, [0.001, 0.999])
    low, high = max(together.min(), 2 * low - high), min(together.max(), 2 * high - low)
    room = 0.04 * (high - low) or 0.5
    return float(low - room), float(high + room)


def _one_against_other(
    ax: Axes, one: FloatArray, other: FloatArray, *, names: tuple[str, str], quantity: str
) -> QuadMesh | None:
    """Draw the first upwards against the second, each voxel or, where they are many, how many lie where."""
    is_defined = np.isfinite(one) & np.isfinite(other)
    low, high = _limits(one[is_defined], other[is_defined])
    inside = is_defined & (np.minimum(one, other) >= low) & (np.maximum(one, other) <= high)
    ax.plot([low, high], [low, high], color="#888888", linewidth=1.2, zorder=3)
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"{quantity} of {names[1]}")
    ax.set(ylabel=f"{quantity} of {names[0]}", title=_counted(len(one), is_defined, inside))
    ax.locator_params(nbins=6)
    x, y = other[inside], one[inside]
    if len(x) < MIN_COUNTED_VOXELS:
        ax.plot(x, y, "o", color="#0072B2", alpha=0.5, markersize=4, markeredgewidth=0)
        return None
    return ax.hist2d(x, y, bins=60, range=[[low, high], [low, high]], cmin=1, cmap="viridis")[3]


def _differences(ax: Axes, values: FloatArray, interval: tuple[float, float]) -> None:
    """Draw how differences are spread about 0, which is the middle of the middle bin, and where their mean lies."""
    is_defined = np.isfinite(values)
    reach = max(map(abs, _limits(values[is_defined])))
    inside = is_defined & (np.abs(values) <= reach)
    mean = values[is_defined].mean()
    n_bins = 61 if is_defined.sum() >= MIN_COUNTED_VOXELS else 31
    ax.hist(values[inside], np.linspace(-reach, reach, n_bins + 1).tolist(), color="#b8b8b8")
    ax.axvspan(*interval, color="#D55E00", alpha=0.25, linewidth=0)
    ax.axvline(mean, color="#D55E00", linewidth=1.6)
    ax.axvline(0, color="#222222", linewidth=1.2, linestyle=(0, (4, 2)))
    words = f"mean {mean:.3g}, 95 % from {interval[0]:.3g} to {interval[1]:.3g}".replace("-", "−")
    ax.set(xlim=(-reach, reach), ylabel="voxels", box_aspect=1, title=words + _outside(is_defined, inside))
    ax.locator_params(axis="x", nbins=6)


def _counted(n_voxels: int, is_defined: BoolArray, inside: BoolArray) -> str:
    n_undefined = n_voxels - int(is_defined.sum())
    words = f"{is_defined.sum():,} voxels" + (f"; {n_undefined:,} undefined" if n_undefined else "")
    return words + _outside(is_defined, inside)


def _outside(is_defined: BoolArray, inside: BoolArray) -> str:
    n_outside = int(is_defined.sum() - inside.sum())
    return f"\n{n_outside:,} outside the picture" if n_outside else ""


def _share_colours(counts: Sequence[QuadMesh]) -> None:
    """Give the same colours to the same number of voxels."""
    most = max(float(np.nanmax(np.asarray(one.get_array()))) for one in counts)
    for mesh in counts:
        mesh.set_norm(LogNorm(1, max(most, 2)))
