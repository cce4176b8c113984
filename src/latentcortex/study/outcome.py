"""What a run of a study leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Parameters
    ----------
    out : Path
    pages : dict
        Participant -> the pages that were asked for: the report, that of the reconstructions, or none.
    computed : bool
        False if everything had been done before.
    kept : tuple of str
        A sentence for each file that was in the way and was kept, since no run had written it.
    """

    out: Path
    pages: dict[str, list[Path]]
    computed: bool
    kept: tuple[str, ...] = ()
