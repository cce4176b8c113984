"""What a gain at several numbers of fitted stimuli tends to: predictive gain apart from unique information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, arrays, check_finite
from latentcortex.errors import InputError

LEAST_SIZES: Final = 3
RANGE: Final = 8
"""How many times fewer than the most stimuli still count: below, a gain can rise before it falls."""
N_SHIFTS: Final = 65
MOST_SHIFT: Final = 0.5
"""Of the most stimuli; a larger shift would make a straight line of the curve, which tends to nothing."""


def asymptote(n: Sequence[int] | IntArray, gain: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Extrapolate each voxel's gain to unlimited fitted stimuli.

    .. math:: g(n) = a + \frac{b}{n + n_0}

    by least squares, a and b for each voxel, :math:`n_0` for all voxels together: the one in [0, max(n) / 2] that
    leaves the smallest squared residual over all voxels, and 0 for one voxel at three sizes, where nothing tells. Sizes
    below an eighth of the largest are left out while three others remain.

    A band that is a function of another gains at every number of stimuli, but its asymptote is 0. With 400 columns,
    and a band of 20 linear functions of them that gains .2 at n = 400, the asymptote from n = 200 to 3200 is within
    .02 of 0 on average, where :math:`a + b / n` would leave .10. It is an extrapolation: the largest n should be
    several times the number of columns, and a curve that has not begun to fall tells nothing.

    Parameters
    ----------
    n : sequence of int, length n_sizes
        Numbers of fitted stimuli, at least three different ones.
    gain : ndarray of shape (n_sizes, n_voxels)
        Such as unique shares on the same held-out stimuli.

    Returns
    -------
    a, error : ndarray of shape (n_voxels,)
        The asymptote, in the gain's unit, and its standard error, from the residuals. It carries neither what is common
        to all sizes, such as the choice of held-out stimuli, nor the choice of :math:`n_0`. nan where any gain is not
        finite.

    Raises
    ------
    AlignmentError
        If there is not one row of gains per size.
    InputError
        If sizes are fewer than three different ones, or not all above 0.

    Examples
    --------
    >>> a, _ = asymptote([100, 200, 400, 800], 0.1 + 20 / np.array([[100.0], [200.0], [400.0], [800.0]]))
    >>> a.round(6).tolist()
    [0.1]
    """
    numbers_of_stimuli, gain = arrays(n=(n, "n_sizes"), gain=(gain, "n_sizes n_voxels"))
    check_finite("n", numbers_of_stimuli)
    sizes = numbers_of_stimuli.astype(np.float64)
    n_sizes = len(np.unique(sizes))
    if n_sizes < LEAST_SIZES or not sizes.min() > 0:
        raise InputError(f"A learning curve needs {LEAST_SIZES} different numbers of stimuli, above 0; got {n_sizes}.")
    used = sizes >= 0.99 * sizes.max() / RANGE  # sizes are whole numbers
    if len(np.unique(sizes[used])) < LEAST_SIZES:
        used[:] = True
    sizes, values = sizes[used], np.asarray(gain, dtype=np.float64)[used]
    defined = np.isfinite(gain).all(0)
    out = np.full((2, gain.shape[1]), np.nan)
    out[:, defined] = _fitted(sizes, values[:, defined])
    return out[0], out[1]


def _fitted(sizes: FloatArray, values: FloatArray) -> FloatArray:
    """Fit all voxels with one shift; asymptote and its standard error, (2, n_voxels)."""
    told = values.shape[1] > 1 or len(sizes) > LEAST_SIZES
    shifts = np.linspace(0, MOST_SHIFT * sizes.max(), N_SHIFTS) if told else np.zeros(1)
    shift = min(shifts, key=lambda one: _residual(_curve(sizes, one), values).sum())
    curve = _curve(sizes, shift)
    variance = _residual(curve, values) / (len(sizes) - 2)
    return np.stack([(np.linalg.pinv(curve) @ values)[0], np.sqrt(variance * np.linalg.inv(curve.T @ curve)[0, 0])])


def _curve(sizes: FloatArray, shift: float) -> FloatArray:
    """Build the two columns that are fitted, the second of size about 1."""
    return np.stack([np.ones(len(sizes)), sizes.mean() / (sizes + shift)], axis=1)


def _residual(curve: FloatArray, values: FloatArray) -> FloatArray:
    rest = values - curve @ (np.linalg.pinv(curve) @ values)
    return np.asarray((rest * rest).sum(0))
