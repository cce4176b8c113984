"""The analyses of a study: which joint models each has, and how they are run."""

from latentcortex.analyses.generalisation import generalisation, profile_splits
from latentcortex.analyses.layers import preferred
from latentcortex.analyses.learning import check_sizes, learning_curve
from latentcortex.analyses.models import ANALYSES, CANONICAL, Analysis, by_step, canonical
from latentcortex.analyses.runs import AcrossFolds, HeldOut, Scorer, ceiling, ceiling_across_folds, joined
from latentcortex.encoding import HalfFits

__all__ = [
    "ANALYSES",
    "CANONICAL",
    "AcrossFolds",
    "Analysis",
    "HalfFits",
    "HeldOut",
    "Scorer",
    "by_step",
    "canonical",
    "ceiling",
    "ceiling_across_folds",
    "check_sizes",
    "generalisation",
    "joined",
    "learning_curve",
    "preferred",
    "profile_splits",
]
