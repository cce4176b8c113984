"""What rounding must not decide: whether a null reaches an observation, a p its limit, and two predictions differ.

A statistic in float64 beside its permutations in float32, one sum in two orders, a fraction of counts: each comes out a
few units in the last place higher or lower. Where equality is possible, as between the observation and a permutation
that changes nothing, that would be a coin that is tossed for every voxel. What differs by less than `TIE` is equal.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentcortex._arrays import BoolArray, FloatArray, tiles
from latentcortex.executors import share

TIE: Final = {2: 2e-3, 4: 1e-5, 8: 1e-10}
"""By the bytes of the coarser of two numbers: what differs by no more than this fraction of their size is equal."""

SOLUTION_ERROR: Final = 1e-4
"""Of what varies in a prediction: solutions of a ridge in float32 are no more accurate."""

SUM_ERROR_ULPS: Final = 4
"""Rounding errors of a sum, in units of the last place of what is added."""


def tie(*values: Any) -> float:
    """Find the tolerance of the coarsest of some arrays; integers are exact."""
    sizes = [array.dtype.itemsize for array in map(np.asarray, values) if array.dtype.kind == "f"]
    return TIE.get(min(sizes, default=8), TIE[8])


def lowest(observed: ArrayLike, null: FloatArray, *, size: ArrayLike | None = None) -> FloatArray:
    """Find the smallest null value that has reached an observation.

    Parameters
    ----------
    observed : ndarray of shape (n_voxels,)
    null : ndarray of shape (n_permutations, n_voxels)
    size : ndarray of shape (n_voxels,), or float, optional
        What rounding is relative to, such as 1 for a correlation. By default the observation or the mean magnitude of
        the null, whichever is larger: a statistic near 0 is a difference of larger numbers.

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        nan where the observation is.
    """
    values = np.asarray(observed, dtype=np.float64)
    if size is None:
        total = np.zeros(values.shape)
        for row in null:  # one by one: of the magnitudes of all there would be a second null in memory
            total += np.abs(row)
        size = np.maximum(np.abs(values), total / max(len(null), 1))
    with np.errstate(invalid="ignore"):
        return np.asarray(values - tie(observed, null) * np.asarray(size))


def reaches(null: FloatArray, observed: ArrayLike, *, size: ArrayLike | None = None) -> BoolArray:
    """Tell where null values are at least what was observed, or equal to it up to rounding; see `lowest`."""
    return np.asarray(null >= lowest(observed, null, size=size))


def settled(values: FloatArray, limit: float, *, of: float = TIE[8]) -> FloatArray:
    """Make values that equal a limit up to rounding exactly the limit, so that comparing them is safe.

    Parameters
    ----------
    values : ndarray
    limit : float
    of : float
        The tolerance, as a fraction of the limit; from `tie`.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.abs(values - limit) <= of * abs(limit), limit, values))


def at_most(values: FloatArray, limit: float) -> BoolArray:
    """Tell which values are no larger than a limit, or equal to it up to rounding; nan is not.

    Examples
    --------
    >>> bool(at_most(np.array(0.1) * 3, 0.3))
    True
    """
    return np.asarray(settled(np.asarray(values, dtype=np.float64), limit, of=tie(values)) <= limit)


def beaten(other: FloatArray, by: FloatArray) -> FloatArray:
    """Say how far numbers beat others: 1 where they are larger, .5 where equal up to rounding, else 0, also for nan."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(by), np.abs(other))
        # Infinities, such as the logarithm of a probability of 0, equal themselves and nothing else.
        equal = (by == other) | ((np.abs(by - other) <= tie(other, by) * size) & np.isfinite(size))
    return np.where(equal, 0.5, by > other)


def same_predictions(one: FloatArray, other: FloatArray) -> BoolArray:
    """Tell where two predictions are one, but for what solving and rounding add.

    A joint model with an exact multiple of a band, and the model without it, predict the same; their difference is
    noise that can be tested, and 1 voxel in 20 would pass.

    Parameters
    ----------
    one, other : ndarray of shape (n_stimuli, n_voxels)

    Returns
    -------
    ndarray of bool, shape (n_voxels,)
        False where anything is not finite.
    """
    one, other = np.asarray(one), np.asarray(other)
    eps = max(float(np.finfo(side.dtype).eps) if side.dtype.kind == "f" else 0.0 for side in (one, other))

    def same(tile: slice) -> BoolArray:
        sides: list[NDArray[Any]] = [side[:, tile] for side in (one, other)]
        with np.errstate(invalid="ignore"):
            apart = np.abs(sides[0] - sides[1]).max(0)
            varying = np.max([side.std(0, dtype=np.float64) for side in sides], axis=0)
            size = np.max([np.abs(side).max(0) for side in sides], axis=0)
            return np.asarray(apart <= SOLUTION_ERROR * varying + SUM_ERROR_ULPS * eps * size)

    parts = share(same, tiles(one.shape[1]))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)
