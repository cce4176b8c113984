"""What a study asks of a dataset, and what some can do beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.responses import Responses
from latentcortex.space import Space
from latentcortex.stimuli import Stimuli


class Probe(Protocol):
    """What reads attributes off images."""

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """Attribute -> its words, in the order of the log-probabilities."""
        ...

    def read(self, images: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Read images (n_images, height, width, 3): attribute -> log-probabilities (n_images, n_words)."""
        ...


class Dataset(Protocol):
    """What a study asks of a dataset."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants, letters and digits."""
        ...

    def stimuli(self) -> Stimuli:
        """Return the stimuli; those that no participant saw are left out by a study."""
        ...

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the single trials of one participant, without reading a response.

        Returns
        -------
        DataFrame of length n_trials
            `stimulus`, `session`, `run` (strings) and `n_repeats` (1), in the order of the rows of `responses`; if
            there is a test set also `split`, `train` or `test`, the same for all trials of a stimulus.
        """
        ...

    def space(self, participant: str) -> Space:
        """Say where all voxels of one participant are, without reading a response."""
        ...

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the single trials of one participant for some voxels only.

        Parameters
        ----------
        participant : str
        voxels : slice
            Of consecutive voxels, counted in `space`; all by default.

        Returns
        -------
        Responses
            Its space is that slice of `space`.
        """
        ...

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return what else is known of the voxels, by name, to be kept beside the maps."""
        ...

    def probe(self) -> Probe | None:
        """Return what reads attributes off images, if there is such a network.

        Its attributes are columns of the stimuli's table.
        """
        ...

    def fingerprint(self, participant: str) -> str:
        """Hash what the responses are made from, so that unchanged data are not computed on again."""
        ...


@runtime_checkable
class DescribedDataset(Protocol):
    """A dataset that writes what it holds in the sentences of a methods section; see `_methods`."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from, in whole sentences that cite by key."""
        ...


@runtime_checkable
class Anatomical(Protocol):
    """A dataset that has anatomy to draw behind the voxels of a volume."""

    def background(self, participant: str) -> Path | None:
        """Return the image, in the mm of the voxels, if there is one."""
        ...
