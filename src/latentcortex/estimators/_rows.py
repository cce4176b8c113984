"""Feature arrays of the rows of a fit, centred and scaled on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from latentcortex._arrays import TILE, FloatArray, listed, numbers, same_length, tiles
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import share

logger = logging.getLogger(__name__)

VOXELS_AT_ONCE: Final = 16 * TILE

Bands = Mapping[str, FloatArray] | FloatArray
"""Feature arrays by band; one array alone is the band `x`."""


@dataclass(frozen=True, eq=False)
class FittedRows:
    """The features of the fitted rows, each band less its mean and divided by the root mean squared norm of its rows.

    Parameters
    ----------
    means : dict of ndarray of shape (n_dims,)
        0 without an intercept.
    scales : dict of float
        1 without scaling.
    values : dict of ndarray of float64, shape (n_rows, n_dims)
    alone : bool
        Whether they were given as one array without a band's name.
    """

    means: dict[str, FloatArray]
    scales: dict[str, float]
    values: dict[str, FloatArray]
    alone: bool = False

    @classmethod
    def fit(cls, bands: Bands, y: FloatArray, *, weights: FloatArray, centre: bool, scale: bool) -> Self:
        """Centre in float64 on the weighted mean, and divide by the root of the mean squared norm of rows.

        Raises
        ------
        AlignmentError
            If a band does not have one row per response.
        InputError
            If a value is not finite or a band has no columns.
        """
        arrays = checked(bands)
        same_length(**{"responses": y, **{f"band {band}": values for band, values in arrays.items()}})
        w = weights / weights.sum() * float(centre)
        means = {band: w @ values.astype(np.float64) for band, values in arrays.items()}
        centred = {band: _centred(band, values, means[band]) for band, values in arrays.items()}
        scales = {band: _size(values) if scale else 1.0 for band, values in centred.items()}
        scaled = {band: values / scales[band] for band, values in centred.items()}
        return cls(means, scales, scaled, alone=not isinstance(bands, Mapping))

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands."""
        return tuple(self.values)

    @property
    def n_dims(self) -> int:
        """Count the columns of all bands."""
        return sum(values.shape[1] for values in self.values.values())

    @property
    def kernels(self) -> dict[str, FloatArray]:
        """One Gram matrix per band."""
        return {band: values @ values.T for band, values in self.values.items()}

    def select_bands(self, bands: Sequence[str]) -> FittedRows:
        """Take these bands."""
        return replace(self, values={band: self.values[band] for band in bands})

    def coefficients(self, dual: FloatArray, mixtures: FloatArray) -> dict[str, FloatArray] | FloatArray:
        """Turn dual weights (n_rows, n_voxels) into weights in the units of the features, float64 (n_dims, n_voxels).

        A dict by band, or one array where the features were one.
        """
        weights = {
            band: _product(values.T, dual) * (gamma / self.scales[band])
            for (band, values), gamma in zip(self.values.items(), mixtures, strict=True)
        }
        return next(iter(weights.values())) if self.alone else weights

    def intercept(self, offset: FloatArray, dual: Callable[[slice], FloatArray], mixtures: FloatArray) -> FloatArray:
        """Predict from features that are all 0: the offset less the prediction from the features' means.

        Dual weights are asked for some voxels at a time, so that memory does not grow with all of them.
        """
        intercept_ = np.array(offset, dtype=np.float64)
        means = {band: (values @ self.means[band])[None] / self.scales[band] for band, values in self.values.items()}
        for voxels in (slice(i, i + VOXELS_AT_ONCE) for i in range(0, len(intercept_), VOXELS_AT_ONCE)):
            weights = dual(voxels)
            for mean, gamma in zip(means.values(), mixtures, strict=True):
                intercept_[voxels] -= _product(mean, weights)[0] * gamma[voxels]
        return intercept_

    def standardize(self, bands: Bands) -> dict[str, FloatArray]:
        """Centre and scale new rows as the fitted ones were; bands come in the order of the fit.

        Raises
        ------
        AlignmentError
            If the bands, or their columns, are not those that were fitted.
        InputError
            If a value is not finite.
        """
        arrays = checked(bands)
        if set(arrays) != set(self.bands):
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(arrays)}.")
        for band, fitted in self.values.items():
            if arrays[band].shape[1:] != fitted.shape[1:]:
                got, expected = arrays[band].shape[1:], fitted.shape[1:]
                raise AlignmentError(f"Rows of band {band} are {got}; those that were fitted are {expected}.")
        return {band: (arrays[band] - self.means[band]) / self.scales[band] for band in self.bands}

    def kernels_with(self, bands: Bands) -> dict[str, FloatArray]:
        """Compute the kernels of new rows with the fitted ones, by band: (n_new, n_rows)."""
        return {band: rows @ self.values[band].T for band, rows in self.standardize(bands).items()}


def checked(bands: Bands) -> dict[str, FloatArray]:
    """Return feature arrays by band in float32 or float64; raise `InputError` for what no model can be fitted to."""
    named = dict(bands) if isinstance(bands, Mapping) else {"x": bands}
    arrays = {band: floating(f"Band {band}", values, truths=True) for band, values in named.items()}
    for band, values in arrays.items():
        if values.ndim != 2 or values.shape[1] == 0:
            raise InputError(f"Band {band} is {values.shape}; expected (n_rows, n_dims) with at least one column.")
    check_finite(arrays)
    return arrays


def floating(name: str, values: object, *, truths: bool = False) -> FloatArray:
    """Return real numbers in float32 or float64 as `numbers` does, perhaps truth values too, and log a conversion."""
    dtype = values.dtype if isinstance(values, np.ndarray) else None
    is_bool = truths and dtype == np.bool_ and not isinstance(values, np.ma.MaskedArray)
    converted = numbers(name, np.asarray(values, dtype=np.float64) if is_bool else values)
    if dtype is not None and converted.dtype != dtype:
        logger.info("%s: %s was converted to %s.", name, dtype, converted.dtype)
    return converted


def responses(values: object) -> FloatArray:
    """Return responses (n_rows, n_voxels) in float32 or float64.

    Raises
    ------
    AlignmentError
        If they have other axes, or no voxel.
    InputError
        If they are no real numbers.
    """
    y = floating("Responses", values)
    hint = " One voxel is y.reshape(-1, 1)." if y.ndim == 1 else ""
    if y.ndim != 2 or y.size == 0:
        raise AlignmentError(f"Responses are {y.shape}; expected (n_rows, n_voxels) with at least one voxel.{hint}")
    return y


def check_finite(bands: Mapping[str, FloatArray]) -> None:
    """Raise `InputError` unless there is a band and every value of all of them is finite."""
    if not bands:
        raise InputError("There is no band to fit.")
    for name, values in bands.items():
        odd = ~np.isfinite(values)
        if odd.any():
            row = int(np.flatnonzero(odd.reshape(len(values), -1).any(1))[0])
            raise InputError(f"Band {name}: {odd.sum()} of {odd.size} values are not finite, the first in row {row}.")


def checked_weights(weights: FloatArray | None, n_rows: int) -> FloatArray:
    """Return weights (n_rows,) in float64, 1 by default; raise `InputError` unless all are above 0."""
    if weights is None:
        return np.ones(n_rows)
    w = numbers("weights", weights).astype(np.float64)
    if w.shape != (n_rows,):
        raise AlignmentError(f"weights are {w.shape}; expected ({n_rows},), one per row.")
    if not (np.isfinite(w).all() and w.min() > 0):
        raise InputError(f"weights must be > 0 and finite; found {w.min():g} to {w.max():g}.")
    return w


def _centred(band: str, values: FloatArray, mean: FloatArray) -> FloatArray:
    """Take the mean off; a column that is constant becomes exactly 0, whatever rounding leaves of it."""
    centred = np.asarray(values - mean)
    constant = np.ptp(values, axis=0) == 0
    if constant.any() and mean.any():
        logger.info("%d of %d columns of %s are constant and predict nothing.", constant.sum(), len(constant), band)
        centred[:, constant] = 0
    return centred


def _product(left: FloatArray, right: FloatArray) -> FloatArray:
    """Multiply (n, k) with (k, n_voxels), tile by tile of the canonical grid of voxels."""
    return np.concatenate(share(lambda tile: left @ right[:, tile], tiles(right.shape[1])), axis=1)


def _size(centred: FloatArray) -> float:
    """Compute the root mean squared norm of rows; 1 where all are 0."""
    return float(np.sqrt((centred * centred).sum() / len(centred))) or 1.0
