"""What datasets share: checks of participants' labels, and responses of consecutive voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from latentcortex._arrays import FloatArray
from latentcortex.datasets.dataset import Dataset
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import COLUMNS, Responses
from latentcortex.space import Space


def check_participants(participants: Sequence[str]) -> tuple[str, ...]:
    """Return participants' labels; raise `InputError` unless each is of letters and digits, as BIDS asks."""
    for label in participants:
        if type(label) is not str or not (label.isascii() and label.isalnum()):
            raise InputError(f"Participant {label!r} must be a string of letters and digits, like '01'.")
    return tuple(participants)


def responses_of_slice(data: FloatArray, rows: pd.DataFrame, space: Space, voxels: slice) -> Responses:
    """Make the `Responses` of consecutive voxels from their amplitudes, for a dataset's `responses`.

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
    is_whole = stop - start == space.n_voxels
    of_slice = space if is_whole else space.select_voxels(np.arange(start, stop, dtype=np.intp))
    return Responses(data, rows[list(COLUMNS)], of_slice)


def read_voxels(dataset: Dataset, participant: str, stimuli: pd.Series[str], n_voxels: int, voxels: slice) -> Responses:
    """Read consecutive voxels of a participant, and check that the dataset gives these voxels and trials.

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
        If the dataset gives responses of other voxels, or of other trials than its `rows` lists.
    """
    responses = dataset.responses(participant, voxels)
    expected, got = (len(stimuli), len(range(*voxels.indices(n_voxels)))), responses.data.shape
    if got != expected or not responses.rows["stimulus"].equals(stimuli):
        raise AlignmentError(
            f"The dataset gives responses {got} of participant {participant} for voxels {voxels.start} to "
            f"{voxels.stop}; expected {expected}, in the order of its `rows`."
        )
    return responses
