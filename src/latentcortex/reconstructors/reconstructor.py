"""What reconstruction asks of a reconstructor, and what some can do beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.extractors import Extractor
from latentcortex.features import Features
from latentcortex.splits import Splits
from latentcortex.stimuli import Stimuli


class Reconstructor(Protocol):
    """What reconstruction asks of a reconstructor."""

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """The ways to an image that it knows, and the bands that each needs; a reconstruction is named by its route."""
        ...

    @property
    def made_by(self) -> dict[str, Any]:
        """What the images depend on, beside the decoded features."""
        ...

    def fit(self, features: Features, stimuli: Stimuli, splits: Splits) -> Self:
        """Learn from the training stimuli of each fold what the reconstructions of its test stimuli need."""
        ...

    def n_samples(self, route: str) -> int:
        """How many images it makes of one stimulus: 1 where nothing is drawn at random."""
        ...

    def reconstruct(
        self, route: str, latents: Mapping[str, FloatArray], ids: Sequence[str], n_samples: int
    ) -> NDArray[np.uint8]:
        """Make images from decoded bands, each (n_stimuli, n_dims).

        Returns
        -------
        ndarray of uint8, shape (n_stimuli, n_samples, height, width, 3)
            Sample k of a stimulus depends on the seed, its id and k, and on no other stimulus.
        """
        ...


@runtime_checkable
class DescribedReconstructor(Protocol):
    """A reconstructor that writes what it does in the sentences of a methods section; see `_methods`."""

    def methods(self, routes: Sequence[str] = ()) -> str:
        """Write how images were made by these routes, or by all that it has."""
        ...


@runtime_checkable
class TitledReconstructor(Protocol):
    """A reconstructor that says what its routes are called in tables and figures; others are called by their names."""

    @property
    def titles(self) -> Mapping[str, str]:
        """Route -> what it is called."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A reconstructor that can tell before anything is extracted whether it will be able to use it."""

    def check(self, source: Extractor) -> None:
        """Raise `InputError` if what this extractor gives cannot be reconstructed from."""
        ...
