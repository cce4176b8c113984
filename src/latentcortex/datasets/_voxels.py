"""Responses of consecutive voxels: put together by a dataset, and read from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from latentcortex._arrays import FloatArray
from latentcortex.datasets.dataset import Dataset
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import COLUMNS, Responses
from latentcortex.space import Space


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
