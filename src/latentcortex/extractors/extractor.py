"""What extraction asks of an extractor, and what some can tell beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray


class Extractor(Protocol):
    """What extraction asks of an extractor."""

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that it gives unless others are asked for."""
        ...

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that the features depend on, `name` first; it enters the key of the store."""
        ...

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band that it cannot give, or not with these captions."""
        ...

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Compute the bands of a few stimuli; each row depends on its own stimulus only.

        Parameters
        ----------
        images : ndarray of uint8, shape (n_stimuli, height, width, 3)
        captions : sequence of tuple of str
        pixel_hashes : sequence of str
            For random draws that belong to an image.
        bands : sequence of str

        Returns
        -------
        dict of ndarray of shape (n_stimuli, ...)
        """
        ...


@runtime_checkable
class DescribedExtractor(Protocol):
    """An extractor that writes what it does in the sentences of a methods section; see `_methods`."""

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write how these bands, or all, were made, in whole sentences that cite by key."""
        ...


@runtime_checkable
class Sized(Protocol):
    """An extractor that knows how wide its bands will be."""

    def dims(self, bands: Sequence[str]) -> dict[str, int]:
        """Predict the number of dimensions of each band."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An extractor that knows how much work a stimulus is."""

    def n_rows(self, bands: Sequence[str]) -> int:
        """Count the images that pass through the U-Net for one stimulus."""
        ...


@runtime_checkable
class Windowed(Protocol):
    """An extractor that reads no more of a caption than fits into a window."""

    def cut(self, captions: Sequence[tuple[str, ...]]) -> str:
        """Say how many of these captions it cuts, in a sentence; empty if none."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """An extractor whose bands lie somewhere on a noise schedule."""

    def timestep(self, band: str) -> dict[str, float]:
        """Say where a band lies: `timestep` and `alpha_bar`; empty for a band that does not depend on noise."""
        ...
