"""Means by region as a page and a paper show them: one table for each analysis, as HTML rows and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import statistics
from latentcortex.bands import Model
from latentcortex.reporting.titles import title_of
from latentcortex.statistics import R

HEADS: Final = {"normalised": "normalised", "significant": "significant", "bound": "truly active, at least"}
"""Attributes of `RegionRow` that stand beside the mean, and the heads of their columns."""
LATEX: Final = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}",
                  "^": r"\textasciicircum{}", "²": "$^2$"}  # fmt: skip
"""Signs that LaTeX would take for commands, and how they are written."""


@dataclass(frozen=True)
class RegionRow:
    """A statistic of one region.

    Parameters
    ----------
    roi, mean_of : str
        The region, and in words the statistic of which band or model.
    n_valid : int
        Voxels that the mean is over: all valid ones.
    mean, low, high : float
        The mean and its 95 % interval over test stimuli; nan where there is none.
    normalised : float
        The mean relative to the noise ceiling; see `scoring.normalised_mean`.
    significant, bound : float
        Fraction of the region's valid voxels that are significant, and that are truly active at least.
    """

    roi: str
    mean_of: str
    n_valid: int
    mean: float
    low: float
    high: float
    normalised: float
    significant: float
    bound: float


def region_tables(table: pd.DataFrame) -> dict[str, list[RegionRow]]:
    """Lay out what `roi_table` found, analysis by analysis: a row for each region and mean.

    Parameters
    ----------
    table : DataFrame
        Columns `roi`, `analysis`, `model`, `band`, `statistic`, `n_valid`, `mean`, `low`, `high`, `normalised` and
        `bound`.
    """
    return {
        str(analysis): [row for _, part in of_analysis.groupby("roi", sort=False) for row in _rows(part)]
        for analysis, of_analysis in table.groupby("analysis", sort=False)
        if any(statistics.named(str(name)).on_page for name in of_analysis["statistic"])
    }


def _rows(of_region: pd.DataFrame) -> Iterator[RegionRow]:
    """Make the rows of one region: the score of models of one band, and every band's shares of joint ones."""
    rows = of_region.fillna({"band": "", "model": ""}).to_dict("records")
    by_column = {(row["model"], row["band"], row["statistic"]): row for row in rows}
    for row in rows:
        statistic = statistics.named(str(row["statistic"]))
        if not statistic.on_page or (statistic is R and "+" in row["model"]):
            continue
        tested = "" if statistic.significance is None else statistic.significance.mask
        # The mask of a joint model has no band: a share that is not tested itself is not called significant.
        mask: dict[Any, Any] = by_column.get((row["model"], row["band"], tested), {})
        yield RegionRow(
            roi=str(row["roi"]),
            mean_of=_named(str(row["model"]), str(row["band"]), statistic.title),
            n_valid=int(row["n_valid"]),
            significant=float(mask.get("mean", np.nan)),
            bound=float(mask.get("bound", np.nan)),
            **{name: float(row[name]) for name in ("mean", "low", "high", "normalised")},
        )


def _named(model: str, band: str, title: str) -> str:
    """Name the statistic of this title with its band, and with the other band of a pair."""
    if not model:
        return title
    beside = [title_of(other) for other in Model.parse(model) if other != band]
    among = f" beside {beside[0]}" if len(beside) == 1 else ""
    return f"{title_of(band)}{among}: {title}"


def columns_beside(rows: Sequence[RegionRow]) -> dict[str, str]:
    """Name the columns beside the mean that any of the rows fills: attribute -> head of its column."""
    return {name: head for name, head in HEADS.items() if any(getattr(row, name) == getattr(row, name) for row in rows)}


def latex(tables: Mapping[str, Sequence[RegionRow]], participant: str) -> str:
    """Write the tables for a paper: `longtable` and `booktabs`, one for each analysis."""
    parts = ["% Needs \\usepackage{booktabs,longtable}. Means over all valid voxels of a region, with 95 % intervals",
             "% by jackknife over test stimuli. Made by latentcortex."]  # fmt: skip
    for analysis, rows in tables.items():
        beside = columns_beside(rows)
        heads = ["Region", "Mean of", "$n$", "Mean [95\\,\\%]", *(head.capitalize() for head in beside.values())]
        head = "\\toprule\n" + " & ".join(heads) + " \\\\\n\\midrule"
        parts.append(f"\\begin{{longtable}}{{ll{'r' * (len(heads) - 2)}}}")
        parts.append(f"\\caption{{{escaped(analysis)}, participant {escaped(participant)}.}} \\\\")
        parts += [head, "\\endfirsthead", head, "\\endhead"]
        before = ""
        for row in rows:
            cells = [row.roi if row.roi != before else "", row.mean_of, str(row.n_valid), interval(row)]
            cells += [decimals(getattr(row, name)) for name in beside]
            parts.append(" & ".join(escaped(cell) for cell in cells) + " \\\\")
            before = row.roi
        parts.append("\\bottomrule\n\\end{longtable}\n")
    return "\n".join(parts)


def escaped(text: str) -> str:
    r"""Write text so that LaTeX shows it as it is.

    Examples
    --------
    >>> print(escaped("z_c, 80 %"))
    z\_c, 80 \%
    """
    return "".join(LATEX.get(sign, sign) for sign in text)


def interval(row: RegionRow) -> str:
    """Write a mean with its interval, if it has one."""
    return decimals(row.mean) + (f" [{decimals(row.low)}, {decimals(row.high)}]" if row.low == row.low else "")


def decimals(value: float) -> str:
    """Write a number with three decimals, or n/a for nan.

    Examples
    --------
    >>> decimals(0.1234), decimals(float("nan"))
    ('0.123', 'n/a')
    """
    return f"{value:.3f}" if value == value else "n/a"
