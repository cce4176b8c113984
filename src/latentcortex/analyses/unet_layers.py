"""Each layer alone, at each denoising step: which one a voxel prefers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from latentcortex.analyses.analysis import Analysis
from latentcortex.analyses.groups import MIN_TEST_STIMULI, ModelGroup
from latentcortex.analyses.layers import Layers
from latentcortex.analyses.models import BandTable, by_step
from latentcortex.analyses.scorer import Scorer
from latentcortex.bands import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UNetLayers(Analysis):
    """Fits each layer alone, of a U-Net or of a transformer in its place, and finds each voxel's preferred layer."""

    title: ClassVar[str] = "Preferred layer, step by step"
    figures: ClassVar[tuple[str, ...]] = ("preferred-layers",)
    needs: ClassVar[str] = "layers, such as unet_layer-mid_strength-80_step-50"

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Sequence[str]]:
        """Take each layer alone, step by step, of one strength."""
        return [(name,) for layers in bands.layers() for name in layers]

    def plan(self, scorer: Scorer) -> list[ModelGroup]:
        """Put the layers of each step together; they are compared where there are enough test stimuli."""
        layers_of_step, groups = by_step(self.models), []
        for step, names in layers_of_step.items():
            enough = len(names) > 1 and scorer.n_test >= MIN_TEST_STIMULI
            if not enough:
                text = "Step %s: no layer is preferred among %d on %d stimuli."
                logger.info(text, step, len(names), scorer.n_test)
            groups.append(ModelGroup(tuple(Model([name]) for name in names), Layers(step) if enough else None))
        layers = {name for names in layers_of_step.values() for name in names}
        return groups + [ModelGroup((bands,)) for bands in self.models if bands[0] not in layers]
