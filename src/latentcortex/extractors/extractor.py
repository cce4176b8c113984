"""What extraction asks of an extractor, and what some can tell beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray


class Extractor(Protocol):
    """What turns the images and captions of stimuli into bands of features.

    Features of a stimulus depend on its own image and captions alone, whichever stimuli come with it.
    """

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that are extracted."""
        ...

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that the features depend on, `name` first; the store's key is a digest of it."""
        ...

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band that it cannot compute, or not from these captions."""
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
            Digest of each image, from which random draws for that image follow.
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
    """An extractor that knows the width of its bands before it computes them."""

    def dims(self, bands: Sequence[str]) -> dict[str, int]:
        """Predict the number of dimensions of each band."""
        ...


@runtime_checkable
class Counting(Protocol):
    """An extractor that knows how much it has to compute for a stimulus."""

    def n_rows(self, bands: Sequence[str]) -> int:
        """Count the images that pass through the U-Net for one stimulus."""
        ...


@runtime_checkable
class Windowed(Protocol):
    """An extractor that reads no more of a caption than fits into a window."""

    def cut(self, captions: Sequence[tuple[str, ...]]) -> str:
        """Write a sentence with the number of captions that are cut at the window; empty if none is."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """An extractor whose bands are taken at timesteps of a noise schedule."""

    def timestep(self, band: str) -> dict[str, float]:
        """Return the `timestep` and `alpha_bar` of a band; empty for a band that does not depend on noise."""
        ...


@runtime_checkable
class ById(Protocol):
    """An extractor that reads features of stimuli by their ids, and looks at no image."""

    def extract_by_id(self, ids: Sequence[str], bands: Sequence[str]) -> dict[str, FloatArray]:
        """Read the bands of a few stimuli; as `Extractor.extract` returns them."""
        ...


@runtime_checkable
class Wordy(Protocol):
    """An extractor that reads captions only, so that stimuli need no images; `words` are what it looks for."""

    @property
    def words(self) -> Sequence[str]:
        """The words."""
        ...
