"""Title, figures and grouping that an analysis declares for its section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReportSection:
    """What stands in the report below one analysis, as the analysis declares it.

    It is kept as JSON in the folder of results (`reporting.Content.write`), so that a report can be made again without
    the analyses.

    Parameters
    ----------
    title : str
        Heads the section; the name of the analysis does where it is empty.
    figures : tuple of str
        Names of registered figures (`figures.SHELF`), in the order in which they stand.
    parts : tuple of str
        Values of the column `analysis` of maps that belong to this section; the name of the analysis alone if empty.
    axis : str
        The entity of bands, such as `strength`, along which its models differ; empty where they differ otherwise.
    """

    title: str = ""
    figures: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    axis: str = ""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ReportSection:
        """Make a section from its JSON form, in which tuples are lists."""
        tuples = {name: tuple(plain[name]) for name in ("figures", "parts")}
        return cls(title=plain["title"], axis=plain["axis"], **tuples)
