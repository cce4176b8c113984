"""The metrics of the package: pixel correlation, structural similarity, and attributes that a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, IntArray, listed
from latentcortex.datasets import Probe
from latentcortex.errors import InputError
from latentcortex.evaluation.metric import Compared, Metric, Originals
from latentcortex.evaluation.similarity import Images, check_size, pixel_correlation, ssim, two_alternative


@dataclass(frozen=True)
class PixelCorrelation(Metric):
    """Pearson's correlation over all pixels and channels."""

    title: ClassVar[str] = "pixels"

    @property
    def measure(self) -> str:
        """What its score is called in the table of scores."""
        return f"correlation_space-{self.word}"

    def similarity(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> FloatArray:
        """Correlate; nan where an image is of one colour throughout."""
        return pixel_correlation(originals.images, images)


@dataclass(frozen=True)
class StructuralSimilarity(Metric):
    """Structural similarity of images in grey."""

    title: ClassVar[str] = "SSIM"
    of_few_pairs: ClassVar[bool] = True
    methods: ClassVar[str] = (
        "SSIM [@wang2004] looks at all pairs of images where they are few, and at as many drawn at random as make "
        "20,000 otherwise."
    )

    def check(self, originals: Originals) -> None:
        """Raise `InputError` if images are too small for its window."""
        check_size(originals.images[0])

    def similarity(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> FloatArray:
        """Compute it for the pairs that are looked at."""
        return ssim(originals.images, images, pairs)


@dataclass(frozen=True)
class Attributes(Metric):
    """What the dataset's network reads off an image, against what the table says of the original.

    Each attribute has a score, the fraction of other words that the original's word beats. Images are identified by the
    log-probability of all words of the original.

    Parameters
    ----------
    name : str
    probe : Probe
        Reads attributes.
    """

    probe: Probe

    title: ClassVar[str] = "attributes"
    compares: ClassVar[Literal["images", "embeddings", "attributes"]] = "attributes"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    limits: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    network: ClassVar[str] = "the probe of the dataset"
    methods: ClassVar[str] = (
        "Attributes were read off the images by the network that comes with the dataset; the score of one is the "
        "fraction of other words that are less probable than the word of the original, and images are identified by "
        "the probability of all words of the original."
    )

    @classmethod
    def of(cls, name: str, probe: Probe | None) -> Self | None:
        """Make it of the dataset's network; None where the dataset brings none."""
        return None if probe is None else cls(name, probe)

    def check(self, originals: Originals) -> None:
        """Raise `InputError` unless every attribute is a column with words that the network knows."""
        self._words(originals)

    def compare(self, originals: Originals, images: Images, pairs: BoolArray | None = None) -> Compared:
        """Compare what is read off every image with the words of every original."""
        log_p, words = self.probe.read(images), self._words(originals)
        scores = {f"attribute_name-{name}": two_alternative(log_p[name], each) for name, each in words.items()}
        return Compared(np.sum([log_p[name][:, each].T for name, each in words.items()], axis=0), scores)

    def _words(self, originals: Originals) -> dict[str, IntArray]:
        """Find the numbers that the network has for the words of the originals, attribute -> (n,)."""
        attributes = self.probe.attributes
        return {name: _numbered(name, list(originals.table[name]), words) for name, words in attributes.items()}


def _numbered(attribute: str, words: Sequence[str], vocabulary: Sequence[str]) -> IntArray:
    """Find the numbers of words in a vocabulary."""
    strange = sorted(set(words) - set(vocabulary))
    if strange:
        raise InputError(f"Column {attribute} has words that the probe does not know: {listed(strange)}.")
    return np.array([vocabulary.index(word) for word in words], dtype=np.intp)
