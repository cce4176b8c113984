"""z with z_c jointly, at each denoising step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from latentcortex.analyses.analysis import Analysis
from latentcortex.analyses.models import BandTable
from latentcortex.bands import Model


@dataclass(frozen=True)
class DenoisingSteps(Analysis):
    """Splits what z and z_c explain together, from early to late denoising."""

    title: ClassVar[str] = "Shares of z and z_c, from early to late denoising"
    figures: ClassVar[tuple[str, ...]] = ("shares", "shares-slices", "share-profiles", "strength-by-step", "similarity")
    axis: ClassVar[str] = "step"
    needs: ClassVar[str] = "z and z_c at several steps, such as zc_strength-80_step-50"

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Model]:
        """Take z with z_c at each step, of one strength."""
        strength, steps = bands.strength("zc"), bands.values("zc", "step")
        return bands.with_z([name for k in steps for name in bands.select("zc", strength=strength, step=k)])
