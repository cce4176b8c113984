"""Pixels: the baseline that every model of vision must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray
from latentcortex._shelf import unknown
from latentcortex.errors import InputError


class Pixels:
    """Luminance of the image at a small size, as one band `pixels`.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    """

    def __init__(self, size: int = 28) -> None:
        if size < 1:
            raise InputError(f"size must be at least 1 pixel; got {size}.")
        self.size = size

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return ("pixels",)

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on."""
        return {"name": "pixels", "version": 1, "size": self.size}

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for another band."""
        for band in bands:
            if band not in self.bands:
                raise unknown("band of pixels", band, self.bands)

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Resize and convert to luminance, 0 to 1; (n_stimuli, size * size)."""
        shape = (self.size, self.size)
        small = [Image.fromarray(image).convert("L").resize(shape, Image.Resampling.BICUBIC) for image in images]
        return {"pixels": np.stack([np.asarray(one, dtype=np.float32).ravel() / 255 for one in small])}
