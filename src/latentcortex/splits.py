"""Who is fitted on what: stimulus ids in folds, with groups that may not straddle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import listed, random_for, same_length, unique_ids
from latentcortex.errors import AlignmentError, InputError


@dataclass(frozen=True, eq=False)
class Splits:
    """Stimuli in folds.

    Parameters
    ----------
    ids : tuple of str
        Stimulus ids, unique.
    fold : ndarray of int, shape (n_stimuli,)
        The fold in which each stimulus is tested.
    groups : tuple of str
        Stimuli of one group are always in one fold (repeats, duplicates, clusters).
    unit : {"stimulus", "session", "cluster"}
        What is held out. Groups of stimuli are repeats of each other; sessions and clusters are merely alike.

    Raises
    ------
    AlignmentError
        If a group straddles two folds.
    """

    ids: tuple[str, ...]
    fold: NDArray[np.intp]
    groups: tuple[str, ...]
    unit: str = "stimulus"

    def __post_init__(self) -> None:
        same_length(ids=self.ids, fold=self.fold, groups=self.groups)
        unique_ids(self.ids, what="Stimulus ids")
        of_group: dict[str, int] = {}
        for group, fold in zip(self.groups, self.fold, strict=True):
            if of_group.setdefault(group, int(fold)) != fold:
                raise AlignmentError(f"Group {group!r} straddles folds {of_group[group]} and {fold}.")

    @classmethod
    def k_fold(cls, ids: Sequence[str], n_splits: int, *, groups: Sequence[str] | None = None, seed: int) -> Splits:
        """Deal whole groups of stimuli into folds of nearly equal size.

        Parameters
        ----------
        ids : sequence of str
        n_splits : int
            At least 2, at most the number of groups.
        groups : sequence of str, optional
            One per stimulus; each stimulus is its own group by default.
        seed : int
        """
        names = tuple(groups) if groups is not None else tuple(ids)
        distinct = list(dict.fromkeys(names))
        if not 2 <= n_splits <= len(distinct):
            raise InputError(
                f"{n_splits} folds need at least 2 and at most as many as there are groups ({len(distinct)})."
            )
        order = random_for(seed, "folds").permutation(len(distinct))
        of_group = {distinct[g]: i % n_splits for i, g in enumerate(order)}
        return cls(tuple(ids), np.array([of_group[name] for name in names], dtype=np.intp), names)

    @property
    def n_splits(self) -> int:
        """Number of folds."""
        return len(np.unique(self.fold))

    def __iter__(self) -> Iterator[tuple[list[str], list[str]]]:
        """Yield the ids to fit on and the ids to test on, fold by fold."""
        for k in np.unique(self.fold):
            test = [name for name, fold in zip(self.ids, self.fold, strict=True) if fold == k]
            train = [name for name, fold in zip(self.ids, self.fold, strict=True) if fold != k]
            yield train, test


def held_out(ids: Sequence[str], split: Sequence[str]) -> tuple[list[str], list[str]]:
    """Read train and test ids from a `split` column.

    Raises
    ------
    InputError
        If a value is neither `train` nor `test`, or one of them is empty.
    """
    wrong = sorted(set(split) - {"train", "test"})
    if wrong:
        raise InputError(f"`split` must be train or test; found {listed(wrong)}.")
    train = [name for name, side in zip(ids, split, strict=True) if side == "train"]
    test = [name for name, side in zip(ids, split, strict=True) if side == "test"]
    if not train or not test:
        raise InputError(f"`split` gives {len(train)} train and {len(test)} test stimuli; both are needed.")
    return train, test
