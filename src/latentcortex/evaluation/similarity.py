"""Similarities of every original with every reconstruction. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from latentcortex._arrays import BoolArray, FloatArray, IntArray, arrays, check_axes, fingerprint, truths, whole_array
from latentcortex.errors import InputError
from latentcortex.executors import one_thread, share
from latentcortex.inference.ties import beaten

Images = NDArray[np.uint8]

AT_ONCE: Final = 100
"""Images whose pixels are floats at the same time."""
BORDER: Final = 5
"""Pixels from the middle of SSIM's window to its edge."""
LUMINANCE: Final = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
"""Weights of red, green and blue (ITU-R BT.709)."""


@one_thread()
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

    Raises
    ------
    AlignmentError, InputError
        If these are no images of one size in uint8.
    """
    _check_images(originals=originals, images=images)
    rows, of_original = _distinct(originals)
    columns, of_image = _distinct(images)
    out = np.empty((len(rows), len(columns)), dtype=np.float32)
    for i in _blocks(len(rows)):
        left = _unit(originals[rows[i]].reshape(len(rows[i]), -1))
        for j in _blocks(len(columns)):
            out[i, j] = left @ _unit(images[columns[j]].reshape(len(columns[j]), -1)).T
    return np.asarray(out[np.ix_(of_original, of_image)])


def check_size(image: Images) -> None:
    """Raise `InputError` if an image (height, width, 3) is too small for the window of SSIM."""
    if min(image.shape[:2]) <= 2 * BORDER:
        size = f"{image.shape[0]} x {image.shape[1]}"
        raise InputError(f"SSIM needs images of more than {2 * BORDER} pixels; got {size}.")


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

    Raises
    ------
    AlignmentError, InputError
        If these are no images of one size in uint8, or smaller than the window.

    References
    ----------
    Wang et al. (2004), doi:10.1109/TIP.2003.819861
    """
    _check_images(originals=originals, images=images)
    check_size(originals[0])
    pairs = truths("wanted", np.ones((len(originals), len(images)), dtype=bool) if wanted is None else wanted)
    check_axes("wanted", pairs.shape, "n m", {"n": len(originals), "m": len(images)})
    x = _grey(originals)
    mean_x, out = _smooth(x), np.full(pairs.shape, np.nan, dtype=np.float32)
    var_x = _smooth(x * x) - mean_x**2

    def block(columns: slice) -> None:
        y, of_columns = _grey(images[columns]), pairs[:, columns]
        mean_y = _smooth(y)
        var_y = _smooth(y * y) - mean_y**2
        for i, j in zip(*np.nonzero(of_columns), strict=True):
            both = _smooth(x[i] * y[j]) - mean_x[i] * mean_y[j]
            light = (2 * mean_x[i] * mean_y[j] + 0.01**2) / (mean_x[i] ** 2 + mean_y[j] ** 2 + 0.01**2)
            form = (2 * both + 0.03**2) / (var_x[i] + var_y[j] + 0.03**2)
            out[i, columns.start + j] = (light * form)[BORDER:-BORDER, BORDER:-BORDER].mean()

    share(block, list(_blocks(len(images))))
    return out


@one_thread()
def row_correlation(true: FloatArray, decoded: FloatArray, mean: FloatArray | None = None) -> FloatArray:
    """Correlate every row of `true` with every row of `decoded`, both less `mean` if it is given; (n, m).

    nan for a row that is constant or not finite. Raises `AlignmentError` unless all have the same columns.
    """
    true, decoded = arrays(true=(true, "n n_dims"), decoded=(decoded, "m n_dims"))
    centre: FloatArray = np.zeros(true.shape[1], dtype=np.float32)
    if mean is not None:
        centre = arrays(true=(true[:1], "one n_dims"), mean=(mean, "n_dims"))[1].astype(np.float32)
    rows, of_true = _distinct(true)
    columns, of_decoded = _distinct(decoded)
    cosines = _unit(true[rows] - centre) @ _unit(decoded[columns] - centre).T
    return np.asarray(cosines[np.ix_(of_true, of_decoded)])


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
        Fraction of the other words that are beaten, a tie counted half; .5 is chance. nan for an image of which a word
        was read as nan.

    Raises
    ------
    AlignmentError, InputError
        If these have other axes, or a word is not among those that were read.
    """
    (log_p,) = arrays(log_p=(log_p, "m n_words"))
    words = whole_array("words", words, least=0, most=log_p.shape[1] - 1)
    check_axes("words", words.shape, "n", {})
    true = log_p[:, words].T
    won = np.full(true.shape, -0.5)  # less its tie with itself
    for word in log_p.T:
        won += beaten(word, by=true)
    won[:, np.isnan(log_p).any(1)] = np.nan
    return np.asarray(won / (log_p.shape[1] - 1))


def _check_images(**given: object) -> None:
    """Raise unless all are images in uint8, (n, height, width, 3), of one size; others have another scale."""
    lengths = {"3": 3}
    for name, images in given.items():
        if not isinstance(images, np.ndarray) or isinstance(images, np.ma.MaskedArray) or images.dtype != np.uint8:
            kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(f"{name} must be an array of uint8, 0 to 255, with nothing masked; got {kind}.")
        check_axes(name, images.shape, f"n_{name} height width 3", lengths)


def _blocks(n: int) -> Iterator[slice]:
    """Cut n images into as many slices as keep few of them floats at the same time."""
    return (slice(i, min(i + AT_ONCE, n)) for i in range(0, n, AT_ONCE))


def _distinct(rows: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Find the first of each set of equal rows, and for every row the place of its like among these.

    A product may round equal rows differently, by where they stand; only what is computed once is a tie.
    """
    place: dict[str, int] = {}
    first: list[int] = []
    inverse = np.empty(len(rows), dtype=np.intp)
    for i, row in enumerate(rows):
        key = fingerprint(row)
        if key not in place:
            place[key] = len(first)
            first.append(i)
        inverse[i] = place[key]
    return np.array(first, dtype=np.intp), inverse


def _unit(rows: NDArray[Any]) -> FloatArray:
    """Centre rows (..., n) and bring them to length 1, float32; a row that is constant or not finite becomes nan."""
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = rows.astype(np.float32)
        wide -= wide.mean(-1, keepdims=True, dtype=np.float64)
        # A power of two scales without rounding; in it no square of float32 overflows or vanishes.
        wide = np.ldexp(wide, -np.frexp(np.abs(wide).max(-1, keepdims=True))[1])
        length = np.sqrt((wide * wide).sum(-1, keepdims=True))
        return np.asarray(np.where(length > 0, wide / length, np.nan))


def _grey(images: Images) -> FloatArray:
    """Weigh the channels by luminance, float32 in [0, 1], (n, height, width)."""
    return np.asarray((images.astype(np.float32) / 255) @ LUMINANCE)


def _smooth(images: FloatArray) -> FloatArray:
    """Average over SSIM's Gaussian window around every pixel."""
    return np.asarray(gaussian_filter(images, sigma=1.5, radius=BORDER, axes=(-2, -1)))
