"""Low-level features: pixels, contrast, Gabor energy and colour, the baselines that a model of vision must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final

import numpy as np
from annotated_types import Interval, Len
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from latentcortex._arrays import FloatArray, whole_number, words
from latentcortex._ranges import Distinct, OneOf, PositiveCount
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

SIDE: Final = 128
"""Height and width, in pixels, at which contrast, Gabor energy and colour are measured, whatever the image's size."""
FINEST_CYCLES: Final = 32
"""Cycles per image of the first scale: a quarter of a cycle per pixel, so that its filters stay below Nyquist's."""
MAX_SCALES: Final = 6
"""The sixth scale has one cycle per image."""
ENVELOPE_WAVELENGTHS: Final = 3 * np.sqrt(np.log(2) / 2) / np.pi
"""Standard deviation of a Gabor's envelope in its own wavelengths: half its response at one octave's width."""
BANDS: Final = ("pixels", "contrast", "gabor", "colour")
DEFAULTS: Final = {"n_scales": 4, "n_orientations": 8, "grid": 8}


class Pixels:
    """Luminance, local contrast, Gabor energy and colour of an image.

    Bands, with the number of dimensions that the defaults give for images of any size (320 pixels, too):

    - `pixels` (784): luminance of the image at `size` x `size` pixels, 0 to 1.
    - `contrast` (64): standard deviation of luminance in each cell of the grid, 0 to 0.5 (RMS contrast [1]_).
    - `gabor` (2048): energy of quadrature pairs of Gabor filters [2]_, the root of its mean in each cell: a GIST
      descriptor [3]_; `grid` 4 gives the usual 512 dimensions. A grating of a filter's own frequency and
      orientation gives its amplitude, whatever its phase; twice the contrast gives twice the value.
    - `colour` (128): mean of R - G, then of (R + G) / 2 - B, in each cell, -1 to 1; a grey image has 0.

    Luminance is ITU-R 601 luma of the RGB values as they are, without undoing their gamma.

    Parameters
    ----------
    size : int
        Height and width of the band `pixels`, in pixels.
    bands : sequence of str, optional
        Some of the above; `pixels` alone by default.
    n_scales : int
        Spatial frequencies of the filters, an octave apart: 32, 16, 8, ... cycles per image; at most 6.
    n_orientations : int
        Orientations of the filters, in equal steps over 180 degrees.
    grid : int
        Rows and columns of cells over which contrast, energy and colour are pooled; at most 128. Cells differ by a
        pixel of 128 where these cannot be divided evenly.

    Raises
    ------
    InputError
        If a number or a band is not possible.

    References
    ----------
    .. [1] Peli, E. (1990). Contrast in complex images. Journal of the Optical Society of America A.
       doi:10.1364/JOSAA.7.002032
    .. [2] Adelson, E. H., & Bergen, J. R. (1985). Spatiotemporal energy models for the perception of motion. Journal
       of the Optical Society of America A. doi:10.1364/JOSAA.2.000284
    .. [3] Oliva, A., & Torralba, A. (2001). Modeling the shape of the scene: a holistic representation of the spatial
       envelope. International Journal of Computer Vision. doi:10.1023/A:1011139631724
    """

    def __init__(
        self,
        *,
        size: PositiveCount = 28,
        bands: Annotated[Sequence[Annotated[str, OneOf(BANDS, "band of pixels")]], Len(1), Distinct()] | None = None,
        n_scales: Annotated[int, Interval(ge=1, le=MAX_SCALES)] = DEFAULTS["n_scales"],
        n_orientations: PositiveCount = DEFAULTS["n_orientations"],
        grid: Annotated[int, Interval(ge=1, le=SIDE)] = DEFAULTS["grid"],
    ) -> None:
        if size < 1:
            raise InputError(f"size must be at least 1 pixel; got {size}.")
        self.size = size
        self.n_scales = whole_number("n_scales", n_scales, least=1)
        self.n_orientations = whole_number("n_orientations", n_orientations, least=1)
        self.grid = whole_number("grid", grid, least=1)
        for name, most in (("n_scales", MAX_SCALES), ("grid", SIDE)):
            if getattr(self, name) > most:
                raise InputError(f"{name} must be at most {most}; got {getattr(self, name)}.")
        self._bands = words("bands", bands) if bands is not None else ("pixels",)
        self.check(self._bands)

    @property
    def bands(self) -> tuple[str, ...]:
        """`pixels`, or those that were asked for."""
        return self._bands

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on.

        Settings of the other bands are left out where only `pixels` is asked for and they have their defaults, which
        belong to the version: stores from before there were other bands keep their keys.
        """
        options = {"n_scales": self.n_scales, "n_orientations": self.n_orientations, "grid": self.grid}
        recorded = {} if self.bands == ("pixels",) and options == DEFAULTS else options
        return {"name": "pixels", "version": 1, "size": self.size, **recorded}

    @property
    def _makers(self) -> dict[str, Callable[[NDArray[np.uint8]], FloatArray]]:
        return {"pixels": self._pixels, "contrast": self._contrast, "gabor": self._gabor, "colour": self._colour}

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write for a methods section how these bands, or all, were made."""
        scales = f"{self.n_scales} scales an octave apart from {FINEST_CYCLES} cycles per image down"
        cells = f"each of {self.grid} x {self.grid} cells"
        words = {
            "pixels": f"The band pixels is the luminance of an image at {self.size} x {self.size} pixels.",
            "contrast": f"The band contrast is the standard deviation of luminance in {cells} [@peli1990].",
            "gabor": f"The band gabor is the energy of quadrature pairs of Gabor filters [@adelson1985] of {scales}, "
            f"{self.n_orientations} orientations, averaged within {cells} [@oliva2001].",
            "colour": f"The band colour is the mean of R - G and of (R + G) / 2 - B in {cells}.",
        }
        described = [words[band] for band in bands or self.bands]
        return " ".join(["Features were computed from the images alone.", *described])

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for another band."""
        for band in bands:
            if band not in self._makers:
                raise unknown("band of pixels", band, self._makers)

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands image by image; each (n_stimuli, n_dims), float32.

        Dimensions of `pixels` and `contrast` are in the order (row, column), those of `colour` (channel, row, column),
        those of `gabor` (scale, orientation, row, column): from the finest scale on, and from vertical stripes on,
        clockwise.
        """
        self.check(bands)
        return {band: np.stack([self._makers[band](image) for image in images]) for band in bands}

    def _pixels(self, image: NDArray[np.uint8]) -> FloatArray:
        """Compute the luminance of an image, (size * size,), 0 to 1."""
        return _luminance(image, self.size).astype(np.float32).ravel() / 255

    def _contrast(self, image: NDArray[np.uint8]) -> FloatArray:
        """Compute the standard deviation of luminance in each cell, (grid * grid,), 0 to 0.5."""
        # Sums of whole numbers are exact in float64, so that a flat cell has 0 and not what rounding leaves.
        values = _luminance(image, SIDE).astype(np.float64)
        n = _summed(np.ones_like(values), self.grid)
        varies = n * _summed(values**2, self.grid) - _summed(values, self.grid) ** 2
        return (np.sqrt(varies) / n / 255).astype(np.float32).ravel()

    def _gabor(self, image: NDArray[np.uint8]) -> FloatArray:
        """Compute the root of mean Gabor energy, (n_scales * n_orientations * grid * grid,)."""
        values = _luminance(image, SIDE).astype(np.float32) / 255
        # Mirrored at its edges, the image is one period of a pattern without edges.
        waves = fft.fft2(np.pad(values, (0, SIDE), mode="symmetric"))
        pooled = [self._energy(waves, scale) for scale in range(self.n_scales)]
        return np.sqrt(np.stack(pooled)).astype(np.float32).ravel()

    def _energy(self, waves: NDArray[np.complexfloating[Any, Any]], scale: int) -> FloatArray:
        """Pool the energy of one scale's filters, (n_orientations, grid, grid)."""
        pairs = fft.ifft2(waves * _gabors(scale, self.n_orientations), overwrite_x=True)[:, :SIDE, :SIDE]
        return _averaged(pairs.real**2 + pairs.imag**2, self.grid)

    def _colour(self, image: NDArray[np.uint8]) -> FloatArray:
        """Compute the mean of each colour difference in each cell, (2 * grid * grid,), -1 to 1."""
        small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        red, green, blue = np.moveaxis(np.asarray(small, dtype=np.float64), -1, 0)
        channels = np.stack([red - green, (red + green) / 2 - blue])
        return (_averaged(channels, self.grid) / 255).astype(np.float32).ravel()


def _luminance(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Reduce an image to its luminance at a small size, 0 to 255, (size, size)."""
    return np.asarray(Image.fromarray(image).convert("L").resize((size, size), Image.Resampling.BICUBIC))


def _summed(values: FloatArray, grid: int) -> FloatArray:
    """Sum (..., SIDE, SIDE) over the cells of a grid that covers it, (..., grid, grid)."""
    edges = np.arange(grid) * SIDE // grid
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges, axis=-2), edges, axis=-1))


def _averaged(values: FloatArray, grid: int) -> FloatArray:
    """Average (..., SIDE, SIDE) over the cells of a grid that covers it, (..., grid, grid)."""
    return _summed(values, grid) / _summed(np.ones((SIDE, SIDE)), grid)


@lru_cache(maxsize=MAX_SCALES)
def _gabors(scale: int, n_orientations: int) -> FloatArray:
    """Make the transfer functions of one scale's complex Gabor filters, whose real and imaginary part are the pair.

    A filter's envelope is round; at half its response it spans one octave and about 40 degrees. Its gain is 2 at its
    frequency, for it sees one of the two halves of a real grating's spectrum, and 0 at frequency 0: it does not see
    mean luminance.

    Parameters
    ----------
    scale : int
        0 is the finest, 32 cycles per image.
    n_orientations : int

    Returns
    -------
    ndarray of shape (n_orientations, 2 * SIDE, 2 * SIDE)
        For the Fourier transform of the mirrored image; float32.
    """
    frequency = FINEST_CYCLES / 2**scale
    spread = frequency / (2 * np.pi * ENVELOPE_WAVELENGTHS)
    cycles = np.fft.fftfreq(2 * SIDE, 1 / SIDE)
    angles = np.pi * np.arange(n_orientations)[:, None, None] / n_orientations
    across, down = (
        cycles[None, None, :] - frequency * np.cos(angles),
        cycles[None, :, None] - frequency * np.sin(angles),
    )
    filters = 2 * np.exp(-(across**2 + down**2) / (2 * spread**2))
    filters[:, 0, 0] = 0
    return np.asarray(filters, dtype=np.float32)
