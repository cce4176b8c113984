"""The analyses of a study: which joint models each has, and how they are run."""

from latentcortex.analyses.ceiling import ceiling, ceiling_by_chunk
from latentcortex.analyses.generalisation import generalisation, profile_splits
from latentcortex.analyses.joining import joined
from latentcortex.analyses.layers import preferred
from latentcortex.analyses.learning import check_sizes, learning_curve
from latentcortex.analyses.models import ANALYSES, CANONICAL, Analysis, by_step, canonical
from latentcortex.analyses.scorer import Scorer
from latentcortex.encoding import HalfFits, Halves

__all__ = [
    "ANALYSES",
    "CANONICAL",
    "Analysis",
    "HalfFits",
    "Halves",
    "Scorer",
    "by_step",
    "canonical",
    "ceiling",
    "ceiling_by_chunk",
    "check_sizes",
    "generalisation",
    "joined",
    "learning_curve",
    "preferred",
    "profile_splits",
]
