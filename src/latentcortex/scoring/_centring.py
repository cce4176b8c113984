"""What all scores do first."""

from __future__ import annotations

from typing import Final

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray

PAIR: Final = "n_stimuli n_voxels"
BY_BAND: Final = "n_bands n_stimuli n_voxels"


def less_mean(values: FloatArray) -> FloatArray:
    """Take the mean over stimuli off, in float64."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(wide - wide.mean(0))


def varies(values: FloatArray, centred: FloatArray) -> BoolArray:
    """Tell where a column is finite and not constant up to rounding."""
    size = np.abs(np.asarray(values, dtype=np.float64)).max(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(size) & (np.abs(centred).max(0) > 1e-7 * size), dtype=bool)


def standard(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre columns and divide each by its unit, so that their squares neither overflow nor vanish in float32.

    Returns
    -------
    centred : ndarray of float64, shape (n_stimuli, n_voxels)
        At most 1 in size; nan where a column is not finite or constant up to rounding.
    unit : ndarray of shape (n_voxels,)
        A power of two, which scales without rounding; nan there, too.
    """
    centred = less_mean(values)
    _, exponent = np.frexp(np.abs(centred).max(0))
    unit = np.where(varies(values, centred), np.ldexp(1.0, exponent), np.nan)
    return np.asarray(centred / unit), unit


def unit_columns(values: FloatArray) -> FloatArray:
    """Centre columns (n_stimuli, n_voxels) and bring them to length 1, in float32; nan where a column is constant."""
    centred = values - values.mean(0, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((centred / np.sqrt((centred * centred).sum(0))).astype(np.float32))
