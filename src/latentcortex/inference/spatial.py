"""How alike maps are over voxels whose neighbours are alike."""

from __future__ import annotations

from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, arrays, labels, random_for, refuse_beyond_memory, whole_number
from latentcortex.errors import InputError
from latentcortex.scoring._centring import standard

N_DRAWS: Final = 2000
ROUNDING: Final = 1e-12
"""Of mean squares: a draw that varies by less is constant."""
LEAST_BLOCKS: Final = 5
"""Blocks below which an interval over them means nothing."""


def map_similarity(
    values: FloatArray, blocks: IntArray, *, n_draws: int = N_DRAWS, level: float = 0.95, seed: int
) -> FloatArray:
    """Correlate maps with each other over voxels, with intervals that draw whole blocks of neighbours.

    Neighbouring voxels share blood, noise and signal, and count for less than as many independent ones: a bootstrap
    of single voxels would give intervals that are too narrow. Blocks are drawn with replacement, as many as there are,
    and the voxels of a block come together; ends are percentiles.

    Parameters
    ----------
    values : ndarray of shape (n_maps, n_voxels)
        A voxel where any map is nan is left out.
    blocks : ndarray of int, shape (n_voxels,)
        The block of each voxel, such as `Surface.blocks`.
    n_draws : int
    level : float
        Of the interval, between 0 and 1.
    seed : int
        Draw i depends on (seed, i) only.

    Returns
    -------
    ndarray of shape (3, n_maps, n_maps)
        Pearson's r, and the lower and upper end of its interval. nan for a map that is constant; ends are nan with
        fewer than 5 blocks.

    Raises
    ------
    AlignmentError
        If there is not one block per voxel.
    InputError
        If a number is out of its range.

    References
    ----------
    Lahiri (2003), Resampling Methods for Dependent Data, doi:10.1007/978-1-4757-3803-2
    """
    (values,) = arrays(values=(values, "n_maps n_voxels"))
    of_voxel = labels("blocks", blocks, values.shape[1])
    whole_number("n_draws", n_draws, least=1)
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level:g}.")
    known = np.isfinite(values).all(0)
    if not known.any():
        return np.full((3, len(values), len(values)), np.nan)
    kept = standard(values[:, known].T)[0].T
    _, code = np.unique(of_voxel[known], return_inverse=True)
    sums: FloatArray = np.stack([np.bincount(code, one).astype(float) for one in kept], axis=1)  # (n_blocks, n_maps)
    products: FloatArray = np.stack(
        [np.stack([np.bincount(code, a * b).astype(float) for b in kept], axis=1) for a in kept], axis=1
    )
    sizes = np.bincount(code).astype(np.float64)
    n_blocks = len(sizes)
    whole = _correlation(np.ones((1, n_blocks)), sizes, sums, products)[0]
    if n_blocks < LEAST_BLOCKS:
        return np.stack([whole, *np.full((2, *whole.shape), np.nan)])
    refuse_beyond_memory("n_draws", n_draws, 24 * n_blocks + 40 * len(values) ** 2)
    times = np.stack(
        [
            np.bincount(random_for(seed, "blocks", i).integers(n_blocks, size=n_blocks), minlength=n_blocks)
            for i in range(n_draws)
        ]
    )
    drawn = _correlation(times.astype(np.float64), sizes, sums, products)
    tail = 50 * (1 - level)
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return np.stack([whole, low, high])


def _correlation(times: FloatArray, sizes: FloatArray, sums: FloatArray, products: FloatArray) -> FloatArray:
    """Correlate over blocks of which each counts so many times, (n_draws, n_maps, n_maps)."""
    n = (times @ sizes)[:, None]
    mean = times @ sums / n
    covariance = np.tensordot(times, products, axes=1) / n[..., None] - mean[:, :, None] * mean[:, None, :]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    squares = variance + mean * mean
    scale = np.sqrt(np.where(variance > ROUNDING * squares, variance, np.nan))
    return np.asarray(np.clip(covariance / (scale[:, :, None] * scale[:, None, :]), -1.0, 1.0))
