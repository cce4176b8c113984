"""Similarities of every original with every reconstruction. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from latentcortex._arrays import BoolArray, FloatArray, IntArray, in_threads
from latentcortex.errors import InputError

Images = NDArray[np.uint8]

AT_ONCE: Final = 100
"""Images whose pixels are floats at the same time."""
LUMINANCE: Final = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""


def pixel_correlation(originals: Images, images: Images) -> FloatArray:
    """Correlate every original with every image over all pixels and channels.

    Parameters
    ----------
    originals : ndarray of uint8, shape (n, height, width, 3)
    images : ndarray of uint8, shape (m, height, width, 3)

    Returns
    -------
    ndarray of float32, shape (n, m)
        nan where an image is of one colour throughout.
    """
    out = np.empty((len(originals), len(images)), dtype=np.float32)
    for rows in _blocks(len(originals)):
        left = _unit(originals[rows].reshape(len(originals[rows]), -1))
        for columns in _blocks(len(images)):
            out[rows, columns] = left @ _unit(images[columns].reshape(len(images[columns]), -1)).T
    return out


def ssim(originals: Images, images: Images, wanted: BoolArray | None = None) -> FloatArray:
    """Compute the structural similarity of originals and images in grey.

    Gaussian windows with a standard deviation of 1.5 pixels, cut at 5; population covariance; K1 = .01,
    K2 = .03; the border of 5 pixels is left out of the mean.

    Parameters
    ----------
    originals : ndarray of uint8, shape (n, height, width, 3)
    images : ndarray of uint8, shape (m, height, width, 3)
    wanted : ndarray of bool, shape (n, m), optional
        Which pairs; all by default.

    Returns
    -------
    ndarray of float32, shape (n, m)
        In [-1, 1]; nan where not wanted.

    References
    ----------
    Wang et al. (2004), doi:10.1109/TIP.2003.819861
    """
    if min(originals.shape[1:3]) <= 10:
        raise InputError(f"SSIM needs images of more than 10 pixels; got {originals.shape[1]} x {originals.shape[2]}.")
    x, y = _grey(originals), _grey(images)
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    out = np.full((len(x), len(y)), np.nan, dtype=np.float32)

    def row(i: int) -> None:
        for columns in _blocks(len(y)):
            own = np.arange(len(y))[columns]
            own = own if wanted is None else own[wanted[i, own]]
            both = _smooth(x[i] * y[own]) - mean_x[i] * mean_y[own]
            light = (2 * mean_x[i] * mean_y[own] + 0.01**2) / (mean_x[i] ** 2 + mean_y[own] ** 2 + 0.01**2)
            form = (2 * both + 0.03**2) / (var_x[i] + var_y[own] + 0.03**2)
            out[i, own] = (light * form)[:, 5:-5, 5:-5].mean((1, 2))

    in_threads(row, range(len(x)))
    return out


def row_correlation(true: FloatArray, decoded: FloatArray, mean: FloatArray | None = None) -> FloatArray:
    """Correlate every row of `true` with every row of `decoded`, both less `mean` if it is given; (n, m)."""
    centre = 0.0 if mean is None else mean
    return np.asarray(_unit(true - centre) @ _unit(decoded - centre).T)


def two_alternative(log_p: FloatArray, words: IntArray) -> FloatArray:
    """Find how often the word of each original beats another word in what is read off each image.

    Parameters
    ----------
    log_p : ndarray of shape (m, n_words)
        What was read off each image.
    words : ndarray of int, shape (n,)
        The true word of each original.

    Returns
    -------
    ndarray of shape (n, m)
        Fraction of the other words that are beaten, a tie counted half; .5 is chance.
    """
    own = log_p[:, words].T[:, :, None]
    beaten = (own > log_p).sum(2) + 0.5 * ((own == log_p).sum(2) - 1)
    return np.asarray(beaten / (log_p.shape[1] - 1))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(i, i + AT_ONCE) for i in range(0, n, AT_ONCE))


def _unit(rows: NDArray[Any]) -> FloatArray:
    """Centre rows (..., n) and bring them to length 1, float32; a constant row becomes nan."""
    wide = rows.astype(np.float32)
    wide -= wide.mean(-1, keepdims=True, dtype=np.float64)
    length = np.sqrt((wide * wide).sum(-1, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length > 0, wide / length, np.nan))


def _grey(images: Images) -> FloatArray:
    return np.asarray((images.astype(np.float32) / 255) @ LUMINANCE)


def _smooth(images: FloatArray) -> FloatArray:
    return np.asarray(gaussian_filter(images, sigma=1.5, radius=5, axes=(-2, -1)))
