"""Voxels that are lost, or whose penalty is at an end of the grid: counted by chunk, logged once for all voxels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from operator import add
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from latentcortex._arrays import listed

if TYPE_CHECKING:
    from latentcortex.estimators import Estimator

logger = logging.getLogger(__name__)

ROUNDING: Final = 1e-6
"""Largest relative difference between equal penalties in float32."""
MIN_CV_SCORE: Final = 0.01
"""Fraction of the intercept's error that must be explained in cross-validation for a voxel to count as predicted."""


@dataclass(frozen=True)
class VoxelCounts:
    """Counts of voxels that were fitted; those of pieces of a model add up to those of the model.

    Parameters
    ----------
    voxels : int
    lost : int
        Those that are not finite or do not vary: all their results are nan.
    at_smallest, at_largest : int
        Valid voxels for which the smallest or the largest penalty was the best; the largest only if the voxel is
        predicted at all, see `MIN_CV_SCORE`.

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
    def count(cls, model: Estimator) -> Self:
        """Count the voxels of a fitted model; penalties at an end only if it says from which `alphas` it chose."""
        valid = ~np.isnan(model.alphas_)
        alpha, score = model.alphas_[valid], model.cv_scores_[valid]
        low, high = _ends(model)
        at_smallest = alpha <= low * (1 + ROUNDING)
        at_largest = (alpha >= high * (1 - ROUNDING)) & (score > MIN_CV_SCORE)
        return cls(len(valid), int((~valid).sum()), int(at_smallest.sum()), int(at_largest.sum()))

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        """Add up the counts of two pieces of a model."""
        return VoxelCounts(*map(add, astuple(self), astuple(other)))

    def log_findings(self, estimator: Estimator, bands: Sequence[str]) -> None:
        """Log how many voxels of a model are lost, and warn of penalties at an end of `alphas`.

        Each end is warned of once for an estimator, and only logged afterwards; not at all if its `warns` is False, or
        if it does not choose among `alphas`.

        Parameters
        ----------
        estimator : Estimator
            Fitted or not.
        bands : sequence of str
            Bands of the model.
        """
        if self.lost:
            logger.debug("%d of %d voxels are not finite or do not vary: they are nan.", self.lost, self.voxels)
        warned: set[str] = getattr(estimator, "warned", set())
        low, high = _ends(estimator)
        for end, word, n in ((low, "smallest", self.at_smallest), (high, "largest", self.at_largest)):
            fraction = n / max(self.voxels - self.lost, 1)
            if getattr(estimator, "warns", False) and fraction > 0.01 and low < high:
                text = "The %s alpha (%g) was the best for %.1f %% of what is predicted from %s: widen `alphas`%s."
                more = "" if word in warned else f" of the estimator, which reach from {low:g} to {high:g}"
                level = logging.INFO if word in warned else logging.WARNING
                logger.log(level, text, word, end, 100 * fraction, listed(bands, 2), more)
                warned.add(word)


def _ends(estimator: object) -> tuple[float, float]:
    """Return the smallest and the largest penalty that an estimator chooses among; 0 and infinity by default."""
    grid = getattr(estimator, "alphas", None)
    return (0.0, float("inf")) if grid is None else (min(grid), max(grid))
