"""Stimuli: images and their captions, by stimulus id."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import listed, positions, unique_ids
from latentcortex._copies import ImageView, views
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

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
    any_size : bool
        Whether images may differ in size. What compares or averages pixels needs one size, whatever this says.
    has_images : bool
        False where there are only ids and captions, see `without_images`.

    Raises
    ------
    InputError
        If an id stands twice, or there is none.
    """

    table: pd.DataFrame
    load: Callable[[str], Image]
    any_size: bool = False
    has_images: bool = True

    def __post_init__(self) -> None:
        if len(self.table) == 0:
            raise InputError("There is no stimulus; expected at least one row.")
        unique_ids(self.table.index, what="Stimulus ids")

    @classmethod
    def without_images(cls, table: pd.DataFrame) -> Stimuli:
        """Make stimuli of which only ids, captions and further columns are there.

        Bands that are read from a file, or from captions, can be extracted; two of them are the same stimulus only if
        they have one id.
        """
        return cls(table, _no_image, has_images=False)

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        kind = "images" if self.has_images else "stimuli without images"
        return (
            f"Stimuli({len(self.table)} {kind}, {self.table.index[0]} to {self.table.index[-1]}; {listed(self.table)})"
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The stimulus ids, in the order of the table."""
        return tuple(self.table.index)

    def select_stimuli(self, ids: Sequence[str]) -> Stimuli:
        """Take these stimuli, in this order."""
        return replace(self, table=self.table.iloc[positions(self.ids, ids, what="stimulus ids")])

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

        Without images it is the id that is hashed.

        Raises
        ------
        InputError
            If the images differ in size, and may not.
        """
        if not self.has_images:
            return [id_hash(name) for name in self.ids]
        return list(self._each(pixel_hash).values())

    def fingerprints(self) -> dict[str, ImageFingerprint]:
        """Load every image and return, by stimulus id, what identifies it and what its copies share with it.

        Raises
        ------
        InputError
            If the images differ in size, and may not.
        """
        if not self.has_images:
            return {name: ImageFingerprint(id_hash(name), ()) for name in self.ids}
        return self._each(ImageFingerprint.from_image)

    def _each(self, function: Callable[[Image], T]) -> dict[str, T]:
        """Apply a function to every image, each loaded once; check that all have one size, if they must."""
        shapes, results = {}, {}
        for name in self.ids:
            image = self.load(name)
            shapes[name] = image.shape
            results[name] = function(image)
        if not self.any_size:
            _one_size(shapes.items())
        elif len(sizes := {shape[:2] for shape in shapes.values()}) > 1:
            sentence = "Images differ in size (%s pixels): each is brought to the extractor's size, whatever its shape."
            logger.info(sentence, listed(f"{height} x {width}" for height, width in sorted(sizes)))
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
        raise InputError(
            f"Stimuli differ in size ({sizes}); bring them to one size, or, where the extractor resizes each and "
            "nothing compares pixels, set any_size = true in [dataset]."
        )


def _no_image(name: str) -> Image:
    """Raise `InputError`: there is none."""
    raise InputError(
        f"Stimulus {name} has no image, only an id and captions; what is asked for needs images: give them, or an "
        "extractor that needs none (precomputed, categories)."
    )


def id_hash(name: str) -> str:
    """Hash the id of a stimulus without an image, in place of its pixels."""
    return hashlib.sha256(f"no image: {name}".encode()).hexdigest()


def pixel_hash(image: Image) -> str:
    """Hash one image's size and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()
