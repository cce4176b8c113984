"""What all scores do first."""

from __future__ import annotations

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray


def less_mean(values: FloatArray) -> FloatArray:
    """Take the mean over stimuli off, in float64."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(wide - wide.mean(0))


def varies(values: FloatArray, centred: FloatArray) -> BoolArray:
    """Tell where a column is finite and not constant up to rounding."""
    size = np.abs(np.asarray(values, dtype=np.float64)).max(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(size) & (np.abs(centred).max(0) > 1e-7 * size), dtype=bool)
