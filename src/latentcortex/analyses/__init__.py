"""The analyses of a study: which joint models each has, and how they are run."""

from latentcortex.analyses.layers import HalfFits, preferred
from latentcortex.analyses.models import ANALYSES, Analysis, by_step, canonical
from latentcortex.analyses.runs import AcrossFolds, HeldOut, Scorer, ceiling, joined

__all__ = [
    "ANALYSES",
    "AcrossFolds",
    "Analysis",
    "HalfFits",
    "HeldOut",
    "Scorer",
    "by_step",
    "canonical",
    "ceiling",
    "joined",
    "preferred",
]
