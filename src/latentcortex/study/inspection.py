"""What the linter says of each participant."""

from __future__ import annotations

from dataclasses import dataclass

from latentcortex import checking


@dataclass(frozen=True)
class Inspection:
    """What one rule says of one participant.

    Parameters
    ----------
    participant, rule : str
    looked : bool
        False if the rule needs features that are not extracted yet.
    found : tuple of str
    """

    participant: str
    rule: str
    looked: bool
    found: tuple[str, ...]


def inspected(design: checking.Design) -> list[Inspection]:
    """List what every rule says of a design."""
    against = checking.findings(design)
    return [
        Inspection(design.participant, rule, one.can(design), tuple(f.what for f in against if f.rule == rule))
        for rule, one in checking.RULES.items()
    ]
