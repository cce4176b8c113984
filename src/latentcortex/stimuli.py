"""Stimuli: images and their captions, by stimulus id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import listed, positions, unique_ids
from latentcortex._copies import ImageView, views
from latentcortex.errors import InputError

Image = NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Stimuli:
    """Images with captions.

    Parameters
    ----------
    table : DataFrame of length n_stimuli
        Index: stimulus ids, strings, unique. Column `captions` holds a tuple of strings for each image
        (empty where there is none); further columns (`split`, `category`, ...) are kept as they are.
    load : callable
        Stimulus id -> image, uint8 RGB of shape (height, width, 3).

    Raises
    ------
    InputError
        If an id stands twice, or there is none.
    """

    table: pd.DataFrame
    load: Callable[[str], Image]

    def __post_init__(self) -> None:
        if len(self.table) == 0:
            raise InputError("There is no stimulus; expected at least one row.")
        unique_ids(self.table.index, what="Stimulus ids")

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        return (
            f"Stimuli({len(self.table)} images, {self.table.index[0]} to {self.table.index[-1]}; {listed(self.table)})"
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The stimulus ids, in the order of the table."""
        return tuple(self.table.index)

    def select_stimuli(self, ids: Sequence[str]) -> Stimuli:
        """Take these stimuli, in this order."""
        return Stimuli(self.table.iloc[positions(self.ids, ids, what="stimulus ids")], self.load)

    def captions(self, ids: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the captions of each of these stimuli."""
        rows = positions(self.ids, ids, what="stimulus ids")
        return [tuple(captions) for captions in self.table["captions"].iloc[rows]]

    def images(self, ids: Sequence[str]) -> NDArray[np.uint8]:
        """Load images of one common size.

        Returns
        -------
        ndarray of uint8, shape (n_stimuli, height, width, 3)

        Raises
        ------
        InputError
            If the images differ in size.
        """
        loaded = [self.load(name) for name in ids]
        _one_size(zip(ids, (image.shape for image in loaded), strict=True))
        return np.stack(loaded)

    def pixel_hashes(self) -> list[str]:
        """Hash the pixels of every image; equal images have equal hashes, whatever they are called.

        Raises
        ------
        InputError
            If the images differ in size.
        """
        return list(self._each(pixel_hash).values())

    def fingerprints(self) -> dict[str, ImageFingerprint]:
        """Load every image and return, by stimulus id, what identifies it and what its copies share with it.

        Raises
        ------
        InputError
            If the images differ in size.
        """
        return self._each(ImageFingerprint.from_image)

    def _each(self, function: Callable[[Image], T]) -> dict[str, T]:
        """Apply a function to every image, each loaded once; check that all have one size."""
        shapes, results = {}, {}
        for name in self.ids:
            image = self.load(name)
            shapes[name] = image.shape
            results[name] = function(image)
        _one_size(shapes.items())
        return results


@dataclass(frozen=True, eq=False)
class ImageFingerprint:
    """What identifies an image, and what its resized or framed copies share with it; see `_copies`.

    Parameters
    ----------
    hash : str
        SHA-256 of size and pixels: equal images have equal hashes, whatever they are called.
    views : tuple of ImageView
        The whole image and, if it has a frame, the picture inside it, as copies are searched for.
    """

    hash: str
    views: tuple[ImageView, ...]

    @classmethod
    def from_image(cls, image: Image) -> ImageFingerprint:
        """Make the fingerprint of one image, uint8 RGB of shape (height, width, 3)."""
        return cls(pixel_hash(image), views(image))


def _one_size(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    """Raise `InputError` unless all have one size; it names a stimulus of each size, the rarest size first."""
    names: dict[tuple[int, ...], list[str]] = {}
    for name, shape in shapes:
        names.setdefault(shape[:2], []).append(name)
    if len(names) > 1:
        rarest = sorted(names.items(), key=lambda size: len(size[1]))
        sizes = listed(f"{h} x {w} pixels as {of[0]}, {len(of)} in all" for (h, w), of in rarest)
        raise InputError(f"Stimuli differ in size ({sizes}); bring them to one size.")


def pixel_hash(image: Image) -> str:
    """Hash one image's size and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
