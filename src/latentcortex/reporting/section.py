"""What an analysis says of its section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReportSection:
    """What stands in the report below one analysis, as the analysis says it.

    A report is made again from its folder alone, so this is kept there and no analysis is asked again.

    Parameters
    ----------
    title : str
        Heads the section; the name of the analysis does where it is empty.
    figures : tuple of str
        Names on `figures.SHELF`, in the order in which the figures stand.
    parts : tuple of str
        Names that the maps of the analysis have in the column `analysis`, where these are several; its own by default.
    axis : str
        The entity of bands, such as `strength`, along which its models differ; empty where they differ otherwise.
    """

    title: str = ""
    figures: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    axis: str = ""

    @classmethod
    def from_plain(cls, kept: Mapping[str, Any]) -> ReportSection:
        """Make a section of what JSON keeps of it, whose tuples are lists there."""
        listed = {name: tuple(kept[name]) for name in ("figures", "parts")}
        return cls(title=kept["title"], axis=kept["axis"], **listed)
