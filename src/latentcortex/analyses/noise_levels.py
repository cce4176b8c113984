"""z with z_c jointly, at each noise strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from latentcortex.analyses.analysis import Analysis
from latentcortex.analyses.models import BandTable
from latentcortex.bands import Model


@dataclass(frozen=True)
class NoiseLevels(Analysis):
    """Splits what z and z_c explain together, from low to high noise."""

    title: ClassVar[str] = "Shares of z and z_c, from low to high noise"
    figures: ClassVar[tuple[str, ...]] = ("shares", "shares-slices", "share-profiles", "strength-by-step", "similarity")
    axis: ClassVar[str] = "strength"
    needs: ClassVar[str] = "z and z_c at several strengths, such as zc_strength-80_step-100"

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Model]:
        """Take z with z_c at the end of denoising from each strength."""
        strengths = bands.values("zc", "strength")
        return bands.with_z([name for s in strengths for name in bands.select("zc", strength=s, step=100)])
