"""What a metric is: how alike an original and a reconstruction are, and what is made of that number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pandas as pd

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.datasets import Probe
from latentcortex.errors import InputError
from latentcortex.evaluation.similarity import Images, row_correlation


class Originals(NamedTuple):
    """The stimuli that were seen.

    Parameters
    ----------
    images : ndarray of uint8, shape (n, height, width, 3)
    table : DataFrame of length n
        What the table of stimuli says of them.
    """

    images: Images
    table: pd.DataFrame


class Compared(NamedTuple):
    """Every original beside every image.

    Parameters
    ----------
    identifying : ndarray of shape (n, m)
        By which the right one of two is identified.
    scores : dict of str to ndarray of shape (n, m)
        Measure -> what the score of an original and its own image is; the others are its chance.
    """

    identifying: FloatArray
    scores: dict[str, FloatArray]


@dataclass(frozen=True)
class Metric:
    """How alike every original and every image are.

    A metric is a class of this, on the shelf in `evaluation`, with a `similarity`; another package offers one by an
    entry point of the group `latentcortex.metrics`. It is scored, and identified by, on all routes.

    Parameters
    ----------
    name : str
        On the shelf.
    """

    name: str

    title: ClassVar[str] = ""
    """What tables and figures call it; its name where this is empty."""
    compares: ClassVar[Literal["images", "embeddings", "attributes"]] = "images"
    """What of original and reconstruction is compared."""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """Between what each of its numbers lies; another one is refused."""
    limits: ClassVar[tuple[float, float] | None] = None
    """What an image that was not seen may have, for intervals; None for the worst and the best of those that were."""
    chance: ClassVar[float | None] = None
    """What it gives where nothing is reconstructed; None for what it gives of reconstructions of other images."""
    higher_is_better: ClassVar[bool] = True
    """Whether it is a likeness, and no distance."""
    of_few_pairs: ClassVar[bool] = False
    """Whether it is so slow that it looks at few pairs of different images, drawn at random, where there are many."""
    network: ClassVar[str] = ""
    """The network that it needs and where this comes from, in words; empty for none."""
    version: ClassVar[int] = 1
    """To be raised where its numbers change, so that studies score again."""
    methods: ClassVar[str] = ""
    """Sentences of the methods text on how it compares; a class may have `references`, BibTeX of what they cite."""

    @classmethod
    def of(cls, name: str, probe: Probe | None) -> Self | None:
        """Make it, with what the dataset has to read attributes; None where something is missing that it needs."""
        return cls(name)

    @property
    def measure(self) -> str:
        """What its score is called in the table of scores."""
        return self.word

    @property
    def word(self) -> str:
        """Its name without the signs that have a meaning in the names of measures."""
        return word_of(self.name)

    @property
    def made_by(self) -> dict[str, Any]:
        """What its numbers depend on."""
        return {"version": self.version, **({"network": self.network} if self.network else {})}

    def check(self, originals: Originals) -> None:
        """Raise `InputError` if these originals cannot be compared, before anything is computed; one is enough."""

    def similarity(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> FloatArray:
        """Compare every original with every image, of one size.

        Parameters
        ----------
        originals : Originals
            Of n stimuli.
        images : ndarray of uint8, shape (m, height, width, 3)
        pairs : ndarray of bool, shape (n, m), optional
            Those that are looked at, where it is a metric `of_few_pairs`; all by default.

        Returns
        -------
        ndarray of shape (n, m)
            nan where undefined, or not looked at.
        """
        raise NotImplementedError

    def compare(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> Compared:
        """Compare every original with every image for identification and for scores; see `similarity`.

        Raises
        ------
        InputError
            If the metric gives another shape, or a number out of its range.
        """
        similarity = np.asarray(self.similarity(originals, images, pairs))
        expected = (len(originals.images), len(images))
        if similarity.shape != expected:
            raise InputError(
                f"Metric {self.name!r} gave an array {similarity.shape}; expected (n_originals, n_images) = {expected}."
            )
        low, high = self.range
        outside = similarity[np.isfinite(similarity) & ((similarity < low - 1e-4) | (similarity > high + 1e-4))]
        if len(outside):
            raise InputError(f"Metric {self.name!r} gave {outside[0]:.6g}; its `range` is {low:g} to {high:g}.")
        identifying = similarity if self.higher_is_better else -similarity
        return Compared(identifying, {self.measure: similarity})


@dataclass(frozen=True)
class EmbeddingMetric(Metric):
    """How alike what a network makes of every original and every image is: Pearson's correlation of embeddings.

    A class of it has an `embed`, and says in `network` which network that is and where it comes from.
    """

    compares: ClassVar[Literal["images", "embeddings", "attributes"]] = "embeddings"

    @property
    def measure(self) -> str:
        """What its score is called in the table of scores."""
        return f"correlation_space-{self.word}"

    def embed(self, images: Images) -> FloatArray:
        """Bring images (n, height, width, 3) into the space in which they are compared, (n, n_dims)."""
        raise NotImplementedError

    def similarity(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> FloatArray:
        """Correlate the embeddings of every original with those of every image, (n, m)."""
        return row_correlation(self.embed(originals.images), self.embed(images))


def word_of(name: str) -> str:
    """Make a name fit into the name of a measure, where `_` and `-` have a meaning.

    Examples
    --------
    >>> word_of("clip_layer-4")
    'cliplayer4'
    """
    return "".join(letter for letter in name if letter.isalnum())
