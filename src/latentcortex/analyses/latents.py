"""Each latent alone: which band explains which part of cortex."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from latentcortex.analyses.analysis import Analysis
from latentcortex.analyses.groups import MIN_TEST_STIMULI, ModelGroup
from latentcortex.analyses.models import BandTable
from latentcortex.analyses.paired import Pairs
from latentcortex.analyses.scorer import Scorer

logger = logging.getLogger(__name__)

MAX_PAIRED: Final = 4
"""Latents of which every two are compared."""


@dataclass(frozen=True)
class Latents(Analysis):
    """Fits z, c and z_c alone (z_c at 80 percent strength, or the nearest), and compares every two of them."""

    title: ClassVar[str] = "Which band explains which part of cortex"
    figures: ClassVar[tuple[str, ...]] = (
        "accuracy-flat",
        "accuracy-inflated",
        "accuracy-slices",
        "accuracy-glass",
        "prediction-against-ceiling",
        "winner",
        "rgb",
        "differences",
    )

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Sequence[str]]:
        """Take each latent alone, or each band where there are no latents."""
        return [(band,) for band in bands.latents()]

    def plan(self, scorer: Scorer) -> list[ModelGroup]:
        """Put all latents together, unless there are too many of them, or too few test stimuli."""
        if len(self.models) < 2 or not scorer.compares:
            return super().plan(scorer)
        if len(self.models) <= MAX_PAIRED and scorer.n_test >= MIN_TEST_STIMULI:
            return [ModelGroup(self.models, Pairs())]
        logger.info("Latents are not compared: there are %d, and %d test stimuli.", len(self.models), scorer.n_test)
        return super().plan(scorer)
