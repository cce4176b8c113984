"""Means by region as a page and a paper show them: one table for each analysis, as HTML rows and as LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex.reporting.text import title_of

MEANS: Final = {"ceiling": "noise ceiling", "r": "r", "shareR2": "share of R²", "uniqueR2": "unique R²"}
"""Statistics whose means are shown, and how they are called."""
HEADS: Final = {"normalised": "normalised", "significant": "significant", "bound": "truly active, at least"}
"""What rows may have beside the mean, and how that is called."""
SPECIAL: Final = {"\\": r"\textbackslash{}", **{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}",
                  "^": r"\textasciicircum{}", "²": "$^2$"}  # fmt: skip
"""What LaTeX does not take as it is."""


@dataclass(frozen=True)
class RegionRow:
    """A statistic of one region.

    Parameters
    ----------
    roi, what : str
        The region, and the statistic of which band or model.
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
    what: str
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
        str(analysis): [row for _, part in own.groupby("roi", sort=False) for row in _rows(part)]
        for analysis, own in table.groupby("analysis", sort=False)
        if own["statistic"].isin(MEANS).any()
    }


def _rows(own: pd.DataFrame) -> Iterator[RegionRow]:
    """Make the rows of one region: the score of models of one band, and every band's shares of joint ones."""
    found = own.fillna({"band": "", "model": ""}).to_dict("records")
    masks = {(row["model"], row["band"], row["statistic"]): row for row in found}
    for row in found:
        if row["statistic"] not in MEANS or (row["statistic"] == "r" and "+" in row["model"]):
            continue
        tested = {"r": "mask", "uniqueR2": "uniqueMask"}.get(row["statistic"], "")
        mask: dict[Any, Any] = masks.get((row["model"], row["band"], tested), {})
        yield RegionRow(
            roi=str(row["roi"]),
            what=_named(str(row["model"]), str(row["band"]), str(row["statistic"])),
            n_valid=int(row["n_valid"]),
            significant=float(mask.get("mean", np.nan)),
            bound=float(mask.get("bound", np.nan)),
            **{name: float(row[name]) for name in ("mean", "low", "high", "normalised")},
        )


def _named(model: str, band: str, statistic: str) -> str:
    """Say which statistic of which band it is."""
    if not model:
        return MEANS[statistic]
    beside = [title_of(other) for other in model.split("+") if other != band]
    among = f" beside {beside[0]}" if len(beside) == 1 else ""
    return f"{title_of(band)}{among}: {MEANS[statistic]}"


def known(rows: Sequence[RegionRow]) -> dict[str, str]:
    """Name what any of the rows has beside the mean: attribute -> head of its column."""
    return {name: head for name, head in HEADS.items() if any(getattr(row, name) == getattr(row, name) for row in rows)}


def latex(tables: Mapping[str, Sequence[RegionRow]], participant: str) -> str:
    """Write the tables for a paper: `longtable` and `booktabs`, one for each analysis."""
    parts = ["% Needs \\usepackage{booktabs,longtable}. Means over all valid voxels of a region, with 95 % intervals",
             "% by jackknife over test stimuli. Made by latentcortex."]  # fmt: skip
    for analysis, rows in tables.items():
        heads = ["Region", "Mean of", "$n$", "Mean [95\\,\\%]", *(head.capitalize() for head in known(rows).values())]
        head = "\\toprule\n" + " & ".join(heads) + " \\\\\n\\midrule"
        parts.append(f"\\begin{{longtable}}{{ll{'r' * (len(heads) - 2)}}}")
        parts.append(f"\\caption{{{escaped(analysis)}, participant {escaped(participant)}.}} \\\\")
        parts += [head, "\\endfirsthead", head, "\\endhead"]
        before = ""
        for row in rows:
            cells = [row.roi if row.roi != before else "", row.what, str(row.n_valid), interval(row)]
            cells += [decimals(getattr(row, name)) for name in known(rows)]
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
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def interval(row: RegionRow) -> str:
    """Write a mean with its interval, if it has one."""
    return decimals(row.mean) + (f" [{decimals(row.low)}, {decimals(row.high)}]" if row.low == row.low else "")


def decimals(value: float) -> str:
    """Write a number that may not be known.

    Examples
    --------
    >>> decimals(0.1234), decimals(float("nan"))
    ('0.123', 'n/a')
    """
    return f"{value:.3f}" if value == value else "n/a"
