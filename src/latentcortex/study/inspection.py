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
    examined : bool
        False if the rule needs features that are not extracted yet.
    findings : tuple of str
        A sentence for each way in which the design breaks the rule.
    """

    participant: str
    rule: str
    examined: bool
    findings: tuple[str, ...]


def inspect_design(design: checking.StudyDesign) -> list[Inspection]:
    """Hold a design against every rule."""
    findings = checking.findings(design)
    return [
        Inspection(design.participant, name, rule.can(design), tuple(f.what for f in findings if f.rule == name))
        for name, rule in checking.RULES.items()
    ]
