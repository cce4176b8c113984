"""The layers of one denoising step jointly: how they share what they explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from latentcortex.analyses.analysis import Analysis
from latentcortex.analyses.models import BandTable
from latentcortex.bands import Model


@dataclass(frozen=True)
class UNetPartition(Analysis):
    """Splits what all layers of a step explain together, of a U-Net or of a transformer in its place."""

    title: ClassVar[str] = "Shares of the layers, fitted jointly"
    figures: ClassVar[tuple[str, ...]] = ("layer-shares",)
    needs: ClassVar[str] = "layers, such as unet_layer-mid_strength-80_step-50"

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Model]:
        """Take the layers of each step as one model, of one strength."""
        return bands.layers()
