"""The analyses of a study: which models each has, what they are compared by, and how their maps are computed.

Add a file with a class of `Analysis` here, and a line to the shelf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from latentcortex._shelf import Shelf
from latentcortex.analyses.analysis import AllStimuli, Analysis, StimulusCounts
from latentcortex.analyses.ceiling import NoiseCeiling, ceiling, ceiling_by_chunk
from latentcortex.analyses.generalisation import profile, profile_splits
from latentcortex.analyses.groups import ComparedScores, Comparison, ModelGroup
from latentcortex.analyses.joining import joined
from latentcortex.analyses.models import BandTable, by_step
from latentcortex.analyses.scorer import Scorer
from latentcortex.encoding import HalfFits, Halves

__all__ = [
    "CANONICAL",
    "SHELF",
    "AllStimuli",
    "Analysis",
    "BandTable",
    "ComparedScores",
    "Comparison",
    "HalfFits",
    "Halves",
    "ModelGroup",
    "NoiseCeiling",
    "Scorer",
    "StimulusCounts",
    "by_step",
    "ceiling",
    "ceiling_by_chunk",
    "joined",
    "make",
    "profile",
    "profile_splits",
]

SHELF: Final = Shelf(
    "analysis",
    {
        "latents": "latentcortex.analyses.latents:Latents",
        "noise-levels": "latentcortex.analyses.noise_levels:NoiseLevels",
        "denoising-steps": "latentcortex.analyses.denoising_steps:DenoisingSteps",
        "unet-layers": "latentcortex.analyses.unet_layers:UNetLayers",
        "unet-partition": "latentcortex.analyses.unet_partition:UNetPartition",
        "learning-curve": "latentcortex.analyses.learning_curve:LearningCurve",
        "generalisation": "latentcortex.analyses.generalisation:Generalisation",
    },
    plural="analyses",
)
"""Every analysis that `run` in [analyses] takes."""
CANONICAL: Final = ("latents", "noise-levels", "denoising-steps", "unet-layers", "unet-partition")
"""Those that a study runs unless it names others."""


def make(name: str, bands: Sequence[str]) -> Analysis:
    """Make an analysis of this name, with its models chosen among the bands that there are.

    Raises
    ------
    InputError
        If the name is not known, or no band is there that the analysis needs.
    """
    kind: type[Analysis] = SHELF.find(name)
    return kind.of(name, bands)
