"""Datasets: where stimuli and responses come from. Add a file here and a line to the shelf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import pandas as pd

from latentcortex._shelf import Shelf
from latentcortex.errors import InputError
from latentcortex.responses import Responses
from latentcortex.stimuli import Stimuli

SHELF: Final = Shelf(
    "dataset",
    {
        "folder": "latentcortex.datasets.folder:Folder",
        "phantom": "latentcortex.datasets.phantom:Phantom",
    },
)


class Dataset(Protocol):
    """What a study asks of a dataset."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants, letters and digits."""
        ...

    def stimuli(self) -> Stimuli:
        """Return all stimuli; the table's `split` says which are for training and which for test."""
        ...

    def responses(self, participant: str) -> Responses:
        """Load the single trials of one participant."""
        ...

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return what else is known of the voxels, by name, to be kept beside the maps."""
        ...

    def fingerprint(self, participant: str) -> str:
        """Hash what the responses are made from, so that unchanged data are not computed on again."""
        ...


def labels(participants: Sequence[str]) -> tuple[str, ...]:
    """Check participants' labels: letters and digits, as BIDS asks."""
    for one in participants:
        if type(one) is not str or not (one.isascii() and one.isalnum()):
            raise InputError(f"Participant {one!r} must be a string of letters and digits, like '01'.")
    return tuple(participants)


def make(name: str, **arguments: Any) -> Any:
    """Make a dataset by name."""
    return SHELF.make(name, **arguments)
