"""The linter of designs: what would flatter a result or break its p-values, found before anything is computed."""

from latentcortex.checking.alike import Alike, of_copies, of_equal_pixels, of_near_features
from latentcortex.checking.design import StudyDesign
from latentcortex.checking.rules import RULES, Finding, Rule, findings, known_rules, refuse, tell

__all__ = [
    "RULES",
    "Alike",
    "Finding",
    "Rule",
    "StudyDesign",
    "findings",
    "known_rules",
    "of_copies",
    "of_equal_pixels",
    "of_near_features",
    "refuse",
    "tell",
]
