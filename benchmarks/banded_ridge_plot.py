"""Draw how the seconds of `banded_ridge.py` grow: one panel per file, a line per solver, its exponent in the legend.

    python benchmarks/banded_ridge_plot.py --from rows.json voxels.json --plot docs/banded_ridge.png

Each file is from one run with `--growth`. A mark is the median of its runs, of fit and prediction together; both axes
are logarithmic. The exponent is the slope of log2 seconds per doubling. "Gram matrices" is what making them takes for
the solvers that start from them, which is not part of these solvers' seconds.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

WIDTH_MM = 180
PANEL_MM = 58
STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "latentcortex": ("latentcortex", {"color": "black", "marker": "o", "linewidth": 2}),
    "latentcortex-arrays": ("latentcortex,\nfrom arrays", {"color": "black", "marker": "o", "linestyle": "--"}),
    "himalaya-numpy": ("himalaya, numpy", {"color": "#0072b2", "marker": "s"}),
    "himalaya-torch": ("himalaya, torch", {"color": "#56b4e9", "marker": "^"}),
    "himalaya-group": ("himalaya, group", {"color": "#cc79a7", "marker": "D"}),
    "sklearn": ("scikit-learn,\none penalty", {"color": "#d55e00", "marker": "v"}),
    "gram": ("Gram matrices", {"color": "0.6", "marker": ".", "linestyle": ":"}),
}
"""By name in the files: the words of the legend, and how the line looks."""
AXES = {"rows": "rows", "dims": "dimensions of each band", "voxels": "voxels", "bands": "bands"}


def medians(found: dict[str, Any]) -> dict[str, float]:
    return {name: median(values) for name, values in found["seconds"].items()} | {"gram": found["gram_seconds"]}


def panel(axes: Axes, growth: dict[str, Any]) -> None:
    """Draw one file's growth."""
    axis, found = growth["axis"], growth["measured"]
    sizes = [one[axis] for one in found]
    seconds = [medians(one) for one in found]
    for name in sorted(growth["exponents"], key=seconds[-1].__getitem__, reverse=True):  # as the lines end
        words, style = STYLES[name]
        exponent = f"{growth['exponents'][name]:.1f}".replace("-", "\N{MINUS SIGN}")
        values = [one[name] for one in seconds]
        axes.plot(sizes, values, label=f"{exponent}  {words}", **{"linewidth": 1, "markersize": 4, **style})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    label_seconds(axes)
    axes.set_xlabel(AXES[axis])
    axes.set_title(fixed(found[0], axis), fontsize=7, loc="left")
    axes.grid(which="major", color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="exponent", alignment="left")


def label_seconds(axes: Axes) -> None:
    """Write seconds as plain numbers; between powers of ten only where these are few."""
    low, high = axes.get_ylim()
    between = (1, 2, 5) if high < 150 * low else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def fixed(size: dict[str, Any], axis: str) -> str:
    """Say what the sizes are that do not grow."""
    words = {"rows": "rows", "bands": "bands", "dims": "dimensions each", "voxels": "voxels"}
    return ", ".join(f"{size[name]:,} {word}" for name, word in words.items() if name != axis)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="files", type=Path, nargs="+", required=True, metavar="JSON")
    parser.add_argument("--plot", type=Path, required=True, metavar="PNG")
    given = parser.parse_args()
    growths = [json.loads(path.read_text())["growth"] for path in given.files]
    n_columns = min(2, len(growths))
    n_rows = math.ceil(len(growths) / n_columns)
    plt.rcParams.update({"font.size": 7, "legend.fontsize": 6.5, "legend.title_fontsize": 6.5})
    size = (WIDTH_MM / 25.4, n_rows * PANEL_MM / 25.4)
    figure, grid = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    for axes, growth in zip(grid.flat, growths, strict=False):
        panel(axes, growth)
        axes.set_ylabel("seconds")
    for axes in grid.flat[len(growths) :]:
        axes.remove()
    figure.savefig(given.plot, dpi=200)


if __name__ == "__main__":
    main()
