"""What the fits of a model have to be told of, counted piece by piece, so that it is told once for all voxels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from latentcortex._arrays import listed

if TYPE_CHECKING:
    from latentcortex.estimators import Estimator

logger = logging.getLogger(__name__)

ROUNDING: Final = 1e-6
"""Of an alpha in float32."""
SOMETHING: Final = 0.01
"""Fraction of the intercept's error above which a voxel is predicted at all."""


@dataclass(frozen=True)
class VoxelCounts:
    """Counts of voxels that were fitted; those of pieces of a model add up to those of the model.

    Parameters
    ----------
    voxels : int
    lost : int
        Not finite, or without variance: everything of them is nan.
    at_smallest, at_largest : int
        Valid ones for which the smallest penalty was the best; of the largest, those that are predicted at all.

    Examples
    --------
    >>> sum([VoxelCounts(1024, 3, 2), VoxelCounts(100)], VoxelCounts())
    VoxelCounts(voxels=1124, lost=3, at_smallest=2, at_largest=0)
    """

    voxels: int = 0
    lost: int = 0
    at_smallest: int = 0
    at_largest: int = 0

    @classmethod
    def of(cls, model: Estimator) -> Self:
        """Count the voxels of a fitted model; penalties at an end only if it says from which `alphas` it chose."""
        valid = ~np.isnan(model.alphas_)
        alpha, score = model.alphas_[valid], model.cv_scores_[valid]
        low, high = _ends(model)
        at_smallest = alpha <= low * (1 + ROUNDING)
        at_largest = (alpha >= high * (1 - ROUNDING)) & (score > SOMETHING)
        return cls(len(valid), int((~valid).sum()), int(at_smallest.sum()), int(at_largest.sum()))

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        """Count both."""
        return VoxelCounts(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))

    def tell(self, estimator: Estimator, bands: Sequence[str]) -> None:
        """Say what is odd about the fits of a model: voxels that are lost, and penalties at an end of `alphas`.

        Of an end an estimator is warned of once, and then it is only logged; nothing is said for one whose `warns` is
        False, or that does not choose among `alphas`.

        Parameters
        ----------
        estimator : Estimator
            Fitted or not.
        bands : sequence of str
            Of the model.
        """
        if self.lost:
            logger.debug("%d of %d voxels are not finite or do not vary: they are nan.", self.lost, self.voxels)
        warned: set[str] = getattr(estimator, "warned", set())
        low, high = _ends(estimator)
        for edge, word, n in ((low, "smallest", self.at_smallest), (high, "largest", self.at_largest)):
            fraction = n / max(self.voxels - self.lost, 1)
            if getattr(estimator, "warns", False) and fraction > 0.01 and low < high:
                text = "The %s alpha (%g) was the best for %.1f %% of what is predicted from %s: widen `alphas`%s."
                more = "" if word in warned else f" of the estimator, which reach from {low:g} to {high:g}"
                level = logging.INFO if word in warned else logging.WARNING
                logger.log(level, text, word, edge, 100 * fraction, listed(bands, 2), more)
                warned.add(word)


def _ends(estimator: object) -> tuple[float, float]:
    """Return the smallest and the largest penalty that an estimator chooses among; 0 and infinity by default."""
    grid = getattr(estimator, "alphas", None)
    return (0.0, float("inf")) if grid is None else (min(grid), max(grid))
