"""Datasets: where stimuli and responses come from. Add a file here and a line to the shelf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex._shelf import Shelf
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import COLUMNS, Responses
from latentcortex.space import Space
from latentcortex.stimuli import Stimuli

SHELF: Final = Shelf(
    "dataset",
    {
        "folder": "latentcortex.datasets.folder:Folder",
        "phantom": "latentcortex.datasets.phantom:Phantom",
    },
)


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
class Described(Protocol):
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


def labels(participants: Sequence[str]) -> tuple[str, ...]:
    """Check participants' labels: letters and digits, as BIDS asks."""
    for one in participants:
        if type(one) is not str or not (one.isascii() and one.isalnum()):
            raise InputError(f"Participant {one!r} must be a string of letters and digits, like '01'.")
    return tuple(participants)


def of_slice(data: FloatArray, rows: pd.DataFrame, space: Space, voxels: slice) -> Responses:
    """Put together the responses of consecutive voxels.

    Parameters
    ----------
    data : ndarray of shape (n_trials, n_voxels of the slice)
    rows : DataFrame
        From a dataset's `rows`.
    space : Space
        Of all voxels.
    voxels : slice
    """
    start, stop, _ = voxels.indices(space.n_voxels)
    part = space if stop - start == space.n_voxels else space.select_voxels(np.arange(start, stop, dtype=np.intp))
    return Responses(data, rows[list(COLUMNS)], part)


def read(dataset: Dataset, participant: str, stimuli: pd.Series[str], n_voxels: int, voxels: slice) -> Responses:
    """Read some voxels of a participant, and see that they are what was asked for.

    Parameters
    ----------
    dataset : Dataset
    participant : str
    stimuli : Series of str
        Those of the dataset's `rows`.
    n_voxels : int
        Of the dataset's `space`.
    voxels : slice

    Raises
    ------
    AlignmentError
        If the dataset gives others than those that were asked for, or other trials.
    """
    responses = dataset.responses(participant, voxels)
    expected, got = (len(stimuli), len(range(*voxels.indices(n_voxels)))), responses.data.shape
    if got != expected or not responses.rows["stimulus"].equals(stimuli):
        raise AlignmentError(
            f"The dataset gives responses {got} of participant {participant} for voxels {voxels.start} to "
            f"{voxels.stop}; expected {expected}, in the order of its `rows`."
        )
    return responses


@SHELF.documented
def make(name: str, **arguments: Any) -> Any:
    """Make a dataset by name."""
    return SHELF.make(name, **arguments)


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name; it is imported only then."""
    return SHELF.named(name)
