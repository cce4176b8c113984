"""What a gain at several numbers of fitted stimuli tends to: predictive gain apart from unique information."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, arrays, check_finite, tiles
from latentcortex.errors import InputError

MIN_SIZES: Final = 3
RANGE: Final = 8
"""How many times fewer than the most stimuli still count: below, a gain can rise before it falls."""
N_SHIFTS: Final = 33
EXPONENTS: Final = (0.5, 1.0, 2.0)
"""Of the forms that are extrapolated: curves as different as these fit five sizes about equally well."""
COMPATIBLE: Final = 0.1
"""Of the fall of the mean curve: the root mean squared residual up to which a form is not excluded."""


def asymptote(n: Sequence[int] | IntArray, gain: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    r"""Extrapolate each voxel's gain to unlimited fitted stimuli, with what other forms of the curve would give.

    .. math:: g(n) = a + b \, (n + n_0)^{-\gamma}

    by least squares, a and b for each voxel. The estimate has exponent 1 and the :math:`n_0` that leaves the smallest
    residual. Nobody knows the exponent: the ends are those of all forms with exponent 1/2, 1 or 2 and :math:`n_0` from
    0 to the most stimuli that come within a tenth of the fall of the mean curve.

    A band that is a function of another gains at every number of stimuli, and more and more at first, but its asymptote
    is 0. Its gain over the logarithm of n is a slope that steepens and then flattens; before it flattens, every limit
    from 0 to the last gain is possible, and what any one form says of it is wrong by up to .2. So there is a limit only
    where the mean curve falls over three sizes or more, from its largest gain on, and falls less at last than before.

    Parameters
    ----------
    n : sequence of int, length n_sizes
        Numbers of fitted stimuli, at least three different ones.
    gain : ndarray of shape (n_sizes, n_voxels)
        Such as unique shares on the same held-out stimuli.

    Returns
    -------
    a, low, high : ndarray of shape (n_voxels,)
        The asymptote in the gain's unit, which can be below 0 by noise, and the ends: the smallest and the largest of
        the compatible forms, and two standard errors of the estimate, from its residuals, beyond. They do not carry
        what is common to all sizes, the choice of held-out stimuli. nan where any gain is not finite, and for all where
        the mean curve tells nothing; see `why_no_limit`.

    Raises
    ------
    AlignmentError
        If there is not one row of gains per size.
    InputError
        If sizes are fewer than three different ones, or not all above 0.

    Examples
    --------
    >>> a, *_ = asymptote([100, 200, 400, 800], 0.1 + 20 / np.array([[100.0], [200.0], [400.0], [800.0]]))
    >>> a.round(6).tolist()
    [0.1]
    """
    sizes, values = _checked(n, gain)
    out = np.full((3, values.shape[1]), np.nan)
    defined = np.isfinite(values).all(0)
    if defined.any() and not why_no_limit(sizes, values):
        first = int(values[:, defined].mean(1).argmax())
        out[:, defined] = _fitted(sizes[first:], values[first:, defined])
    return out[0], out[1], out[2]


def why_no_limit(n: Sequence[int] | IntArray | FloatArray, gain: FloatArray) -> str:
    """Say why the mean curve of gains tells no asymptote, in a few words; empty where it does.

    Parameters and errors are those of `asymptote`.
    """
    sizes, values = _checked(n, gain)
    defined = np.isfinite(values).all(0)
    if not defined.any():
        return "no voxel has a gain at every size"
    mean = values[:, defined].mean(1)
    first = int(mean.argmax())
    if len(mean) - first < MIN_SIZES or not mean[-1] < mean[first]:
        return "the curve still rises, or has hardly begun to fall"
    falls = -np.diff(mean[first:]) / np.diff(np.log(sizes[first:]))
    return "" if falls[-1] < falls[:-1].max() else "the curve falls ever faster"


def _checked(n: Sequence[int] | IntArray | FloatArray, gain: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the sizes that count in ascending order, and their gains, in float64."""
    numbers_of_stimuli, gain = arrays(n=(n, "n_sizes"), gain=(gain, "n_sizes n_voxels"))
    check_finite("n", numbers_of_stimuli)
    sizes = numbers_of_stimuli.astype(np.float64)
    n_sizes = len(np.unique(sizes))
    if n_sizes < MIN_SIZES or not sizes.min() > 0:
        raise InputError(f"A learning curve needs {MIN_SIZES} different numbers of stimuli, above 0; got {n_sizes}.")
    used = sizes >= 0.99 * sizes.max() / RANGE  # sizes are whole numbers
    if len(np.unique(sizes[used])) < MIN_SIZES:
        used[:] = True
    # A size that is given twice counts as their mean.
    sizes, code = np.unique(sizes[used], return_inverse=True)
    values: FloatArray = np.zeros((len(sizes), gain.shape[1]))
    np.add.at(values, code, np.where(np.isfinite(gain).all(0), gain[used].astype(np.float64), np.nan))
    return sizes, values / np.bincount(code)[:, None]


def _fitted(sizes: FloatArray, values: FloatArray) -> FloatArray:
    """Fit all voxels by the forms that the mean curve does not exclude; asymptote and its ends, (3, n_voxels)."""
    mean = values.mean(1, keepdims=True)
    most = COMPATIBLE * float(np.ptp(mean))
    shifts = np.linspace(0, sizes.max(), N_SHIFTS)
    curves = [_curve(sizes, shift, exponent) for exponent in EXPONENTS for shift in shifts]
    apart = [float(np.sqrt(_residual(curve, mean)[0] / len(sizes))) for curve in curves]
    start = N_SHIFTS * EXPONENTS.index(1.0)
    best = start + int(np.argmin(apart[start : start + N_SHIFTS]))
    kept = [i for i in range(len(curves)) if i == best or apart[i] <= most]
    to_limits, curve = np.stack([np.linalg.pinv(curves[i])[0] for i in kept]), curves[best]
    out = np.empty((3, values.shape[1]))
    # Fits of all voxels by all forms would take more memory than anything else of a study.
    for tile in tiles(values.shape[1]):
        fits = to_limits @ values[:, tile]
        variance = _residual(curve, values[:, tile]) / (len(sizes) - 2)
        error = np.sqrt(variance * np.linalg.inv(curve.T @ curve)[0, 0])
        out[:, tile] = fits[kept.index(best)], fits.min(0) - 2 * error, fits.max(0) + 2 * error
    return out


def _curve(sizes: FloatArray, shift: float, exponent: float) -> FloatArray:
    """Build the two columns that are fitted, the second of size about 1."""
    return np.stack([np.ones(len(sizes)), ((sizes + shift) / (sizes.mean() + shift)) ** -exponent], axis=1)


def _residual(curve: FloatArray, values: FloatArray) -> FloatArray:
    rest = values - curve @ (np.linalg.pinv(curve) @ values)
    return np.asarray((rest * rest).sum(0))
