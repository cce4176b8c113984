"""Responses some voxels at a time, parted into what is fitted and what is tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Final, Protocol

import numpy as np

from latentcortex._arrays import TILE, BoolArray
from latentcortex.errors import InputError
from latentcortex.responses import N_STRETCHES, STRETCH, Responses, Within
from latentcortex.space import Space, Unlocated
from latentcortex.splits import Splits

MAX_STRETCH: Final = 16 * STRETCH
"""A stretch has at most so many voxels, valid or not."""

Sides = tuple[Responses, Responses]
"""Responses to the stimuli that are fitted, and to those that are tested; single trials, or averages."""


class SplitResponses(Protocol):
    """Responses of one participant, read some voxels at a time."""

    @property
    def space(self) -> Space:
        """Where all voxels are."""
        ...

    def folds(self, voxels: slice) -> list[Sides]:
        """Read some voxels, and part them: one pair for each fold, one in all for a held-out test set."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOutSides:
    """Two sides that are in memory: to fit on, and to test on.

    Parameters
    ----------
    train, test : Responses
        z-scored, single trials or averages.
    """

    train: Responses
    test: Responses

    @property
    def space(self) -> Space:
        """Where all voxels are."""
        return self.train.space

    def folds(self, voxels: slice) -> list[Sides]:
        """Take some voxels of both sides."""
        return [(_taken(self.train, voxels), _taken(self.test, voxels))]


@dataclass(frozen=True, eq=False)
class ReadByChunk:
    """Responses that are read, z-scored and parted chunk by chunk.

    Parameters
    ----------
    read : callable
        Voxels, a slice -> their single trials.
    space : Space
        Of all voxels.
    splits : Splits
    zscore : {"session", "run", "none"}
        With the statistics of each fold's training rows.
    """

    read: Callable[[slice], Responses]
    space: Space
    splits: Splits
    zscore: Within

    @classmethod
    def of(cls, responses: Responses, splits: Splits, zscore: Within) -> ReadByChunk:
        """Take chunks of responses that are in memory."""
        return cls(partial(_taken, responses), responses.space, splits, zscore)

    @cached_property
    def in_time(self) -> bool:
        """Whether the order of stimuli may be that of time; see `Responses.in_time`."""
        return self.read(slice(0, 1)).select_stimuli(self.splits.ids).in_time

    def folds(self, voxels: slice) -> list[Sides]:
        """Read some voxels once, and part them anew for each fold."""
        responses = self.read(voxels)
        return [responses.split(test_ids=test, train_ids=train, zscore=self.zscore) for train, test in self.splits]


def _taken(responses: Responses, voxels: slice) -> Responses:
    """Take some voxels, whose place nobody asks for."""
    data = responses.data[:, voxels]
    return replace(responses, data=data, space=Unlocated(data.shape[1]))


def chunks_of(n_voxels: int, chunk_voxels: int) -> list[slice]:
    """Cut voxels into chunks of whole tiles; all are one where a chunk may have 0 voxels."""
    size = chunk_voxels or max(n_voxels, 1)
    if chunk_voxels % TILE:
        raise InputError(f"A chunk must have a multiple of {TILE} voxels, or 0 for all; got {chunk_voxels}.")
    return [slice(start, min(start + size, n_voxels)) for start in range(0, n_voxels, size)]


def averaged(folds: Sequence[Sides]) -> list[Sides]:
    """Average the trials of each stimulus on both sides of every fold."""
    return [(train.averaged(), test.averaged()) for train, test in folds]


@dataclass(frozen=True, eq=False)
class Sample:
    """Voxels all over the map, by which what must be the same for all voxels is decided, once.

    Parameters
    ----------
    folds : list of (Responses, Responses)
        Averaged responses of these voxels.
    n_valid : int
        Voxels of the whole map whose test responses are finite and vary, in every fold.
    n_voxels : int
        Of the whole map.
    """

    folds: list[Sides]
    n_valid: int
    n_voxels: int

    @classmethod
    def of(cls, responses: SplitResponses, valid: BoolArray) -> Sample:
        """Read up to 16 stretches of 128 voxels, evenly spread over the valid ones.

        Raises
        ------
        InputError
            If no voxel is valid.
        """
        n_folds = len(responses.folds(slice(0, 1)))
        if not valid.any():
            where = " in every fold" if n_folds > 1 else ""
            raise InputError(f"0 of {len(valid)} voxels are usable{where}: each has a nan or does not vary.")
        stretches = [responses.folds(stretch) for stretch in sample_stretches(valid)]
        folds = [
            (_side_by_side([sides[fold][0] for sides in stretches]), _side_by_side([s[fold][1] for s in stretches]))
            for fold in range(n_folds)
        ]
        return cls(averaged(folds), int(valid.sum()), len(valid))


def usable_voxels(folds: Sequence[Sides]) -> BoolArray:
    """Tell which voxels are finite and vary over the stimuli that are fitted, and over those of a held-out test set.

    Parameters
    ----------
    folds : sequence of (Responses, Responses)
        Averaged.

    Returns
    -------
    ndarray of bool, shape (n_voxels,)
    """
    sides = [train for train, _ in folds] + ([folds[0][1]] if len(folds) == 1 else [])
    return np.asarray(np.logical_and.reduce([side.valid() for side in sides]))


def sample_stretches(valid: BoolArray) -> list[slice]:
    """Spread up to 16 stretches of 128 voxels evenly over the valid ones; those that meet are one.

    Each is read and parted anew for every fold, so their number and length are bounded, and voxels within that are not
    valid come along: a stretch goes on until it has 128 valid ones, or is 16 times as long. `sample_valid_voxels` of
    `responses` is for whoever can take each voxel where it lies.
    """
    numbers = np.flatnonzero(valid)
    merged: list[slice] = []
    for first in range(0, len(numbers), -(-len(numbers) // N_STRETCHES)):
        start, last = int(numbers[first]), int(numbers[first : first + STRETCH][-1])
        stop = min(last + 1, start + MAX_STRETCH)
        if merged and start <= merged[-1].stop:
            merged[-1] = slice(merged[-1].start, max(stop, merged[-1].stop))
        else:
            merged.append(slice(start, stop))
    return merged


def _side_by_side(parts: Sequence[Responses]) -> Responses:
    """Put the voxels of the same rows beside each other."""
    data = np.concatenate([part.data for part in parts], axis=1)
    return replace(parts[0], data=data, space=Unlocated(data.shape[1]))
