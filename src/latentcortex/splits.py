"""Which stimuli models are fitted to and tested on: ids in folds, with groups that may not straddle folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import eigsh

from latentcortex._arrays import (
    FloatArray,
    IntArray,
    digest,
    listed,
    random_for,
    same_length,
    unique_ids,
    whole_array,
)
from latentcortex._duplicates import labelled
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import one_thread

UNITS: Final = ("stimulus", "session", "run", "cluster")
"""What folds can hold out."""
N_DIMS: Final = 50
"""Number of principal dimensions of a band in which distances between stimuli are measured."""


class Fold(NamedTuple):
    """The ids to fit on and the ids to test on."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Splits:
    """Stimuli of one participant in folds; a held-out test set is one fold.

    Iterating yields a `Fold` for each number in `fold` but -1, ascending: its test ids, and all others to fit on.

    Parameters
    ----------
    ids : tuple of str
        Stimulus ids, unique.
    fold : ndarray of int, shape (n_stimuli,)
        The fold in which each stimulus is tested; -1 for one that is never tested, only fitted on.
    groups : tuple of str
        Stimuli of one group are always in one fold (repeats, duplicates, clusters).
    unit : {"stimulus", "session", "run", "cluster"}
        What is held out. Groups of stimuli are repeats of each other; sessions, runs and clusters are merely alike.
    participant : str
        Whose stimuli they are; participants may have seen different stimuli, or the same on different sides.
    name : str
        Name that tells several splits of one participant apart.
    embedding : str
        The band by whose features stimuli are near or far, of a split by cluster or of the farthest stimuli.

    Raises
    ------
    AlignmentError
        If a group straddles two folds.
    InputError
        If an id stands twice, a number of a fold is below -1, or a fold has nothing to fit on or to test on.
    """

    ids: tuple[str, ...]
    fold: NDArray[np.intp]
    groups: tuple[str, ...]
    unit: str = "stimulus"
    participant: str = ""
    name: str = ""
    embedding: str = ""

    def __post_init__(self) -> None:
        same_length(ids=self.ids, fold=self.fold, groups=self.groups)
        unique_ids(self.ids, what="Stimulus ids")
        object.__setattr__(self, "fold", whole_array("fold", self.fold, least=-1, most=2**31 - 1))
        of_group: dict[str, int] = {}
        for group, fold in zip(self.groups, self.fold, strict=True):
            if of_group.setdefault(group, int(fold)) != fold:
                raise AlignmentError(f"Group {group!r} straddles folds {of_group[group]} and {fold}.")
        n_tested = int((self.fold >= 0).sum())
        if n_tested == 0 or len(np.unique(self.fold)) < 2:
            n_train = len(self.ids) - n_tested
            raise InputError(f"`fold` gives {n_train} train and {n_tested} test stimuli; both are needed.")

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        prefix = f"sub-{self.participant}, " if self.participant else ""
        if len(self) == 1:
            (fold,) = self.folds
            return f"Splits({prefix}{len(self.ids)} stimuli: {len(fold.train)} to fit on, {len(fold.test)} held out)"
        n_groups = len(set(self.groups))
        counted = f"{len(self.ids)} stimuli in {n_groups} groups, {len(self)} folds"
        units = "stimuli" if self.unit == "stimulus" else f"whole {self.unit}s"
        return f"Splits({prefix}{counted} that hold out {units})"

    @classmethod
    def k_fold(
        cls,
        ids: Sequence[str],
        n_splits: int,
        *,
        groups: Sequence[str] | None = None,
        unit: str = "stimulus",
        seed: int,
        participant: str = "",
    ) -> Splits:
        """Deal whole groups of stimuli into folds of nearly equal size.

        Parameters
        ----------
        ids : sequence of str
        n_splits : int
            At least 2, at most the number of groups.
        groups : sequence of str, optional
            One per stimulus; each stimulus is its own group by default.
        unit : {"stimulus", "session", "run", "cluster"}
            What groups are.
        seed : int
        participant : str
        """
        names = tuple(groups) if groups is not None else tuple(ids)
        distinct = list(dict.fromkeys(names))
        if not 2 <= n_splits <= len(distinct):
            dealt = f"{unit}s that share no stimulus"
            if unit == "stimulus":
                dealt = "stimuli" if groups is None else "groups of stimuli"
            raise InputError(
                f"{n_splits} folds cannot be made: expected at least 2, and at most as many as there are {dealt} "
                f"({len(distinct)}); set cross_validation to a number from 2 to {len(distinct)}."
            )
        order = [distinct[g] for g in random_for(seed, "folds").permutation(len(distinct))]
        size, filled = Counter(names), [0] * n_splits
        of_group = {}
        for name in sorted(order, key=lambda name: -size[name]):  # the largest first, each into the emptiest fold
            of_group[name] = int(np.argmin(filled))
            filled[of_group[name]] += size[name]
        fold = np.array([of_group[name] for name in names], dtype=np.intp)
        return cls(tuple(ids), fold, names, unit, participant, f"{n_splits} folds")

    @classmethod
    def held_out(
        cls,
        train: Sequence[str],
        test: Sequence[str],
        *,
        groups: Mapping[str, str] | None = None,
        participant: str = "",
        name: str = "held out",
    ) -> Splits:
        """Hold one test set out: one fold, and training stimuli that are never tested.

        Parameters
        ----------
        train, test : sequence of str
            Ids, kept in this order.
        groups : dict of str to str, optional
            Stimulus -> group that may not straddle; each stimulus is its own by default.
        participant, name : str

        Raises
        ------
        InputError
            If a stimulus is in both, or one of them is empty.

        Examples
        --------
        >>> [fold] = Splits.held_out(["a", "b"], ["c"])
        >>> fold.test
        ('c',)
        """
        both = sorted(set(train) & set(test))
        if both:
            raise InputError(f"{len(both)} stimuli are both in train and test: {listed(both)}.")
        if not len(train) or not len(test):
            raise InputError(f"A split has {len(train)} train and {len(test)} test stimuli; both are needed.")
        ids, fold = (*train, *test), np.repeat(np.array([-1, 0], dtype=np.intp), [len(train), len(test)])
        return cls(ids, fold, tuple(groups[i] for i in ids) if groups else ids, "stimulus", participant, name)

    @classmethod
    def labelled(cls, stimulus: Sequence[str], split: Sequence[str], *, participant: str = "") -> Splits:
        """Read a held-out test set from a `split` column, one `train` or `test` for each trial.

        Raises
        ------
        InputError
            If a value is neither `train` nor `test`, one of them is missing, or trials of one stimulus differ.
        """
        same_length(stimulus=stimulus, split=split)
        wrong = sorted(set(split) - {"train", "test"})
        if wrong:
            raise InputError(f"`split` must be train or test; found {listed(wrong)}.")
        side = dict(zip(stimulus, split, strict=True))
        mixed = sorted({name for name, label in zip(stimulus, split, strict=True) if label != side[name]})
        if mixed:
            raise InputError(f"{len(mixed)} stimuli are both in train and test: {listed(mixed)}.")
        train = [name for name, label in side.items() if label == "train"]
        test = [name for name, label in side.items() if label == "test"]
        if not train or not test:
            raise InputError(f"`split` gives {len(train)} train and {len(test)} test stimuli; both are needed.")
        return cls.held_out(train, test, participant=participant)

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The folds in the order of their numbers; ids in the order of `ids`."""
        numbers = np.unique(self.fold)
        names = np.array(self.ids, dtype=object)
        return tuple(
            Fold(tuple(names[self.fold != k].tolist()), tuple(names[self.fold == k].tolist()))
            for k in numbers[numbers >= 0]
        )

    @property
    def tested(self) -> tuple[str, ...]:
        """All stimuli that are tested in some fold, each once, fold by fold."""
        return tuple(name for fold in self.folds for name in fold.test)

    @cached_property
    def key(self) -> str:
        """Digest of participant, ids, folds and groups: equal keys, equal folds of the same participant."""
        return digest(self.participant, self.name, self.ids, self.fold.tolist(), self.groups, self.unit)

    def methods(self) -> str:
        """Write for a methods section which stimuli were fitted to and tested on."""
        if len(self) == 1:
            (fold,) = self.folds
            far = f", those farthest from all others in the features of {self.embedding}" if self.embedding else ""
            return (
                f"Models were fitted on {len(fold.train)} stimuli and predicted responses to {len(fold.test)} "
                f"held-out stimuli{far}."
            )
        n_groups = len(set(self.groups))
        dealt = {
            "stimulus": "keep together images that are equal or look alike, and stimuli with nearly equal features",
            "session": "hold out whole sessions",
            "run": "hold out whole runs",
            "cluster": f"hold out whole clusters of stimuli ({n_groups}, by k-means of the features of "
            f"{self.embedding or 'a band'}; clusters that share an image were joined)",
        }[self.unit]
        return (
            f"The {len(self.ids)} stimuli were dealt into {len(self)} folds that {dealt}. Responses to the stimuli of "
            "each fold were predicted by models that were fitted on all other folds, and predictions were pooled over "
            "folds."
        )

    def __len__(self) -> int:
        """Count the folds."""
        return len(self.folds)

    def __iter__(self) -> Iterator[Fold]:
        """Yield the ids to fit on and the ids to test on, fold by fold."""
        return iter(self.folds)


def linked(n_rows: int, *labellings: Sequence[str], pairs: ArrayLike = ()) -> list[str]:
    """Name the group of each row, where rows that any of these labellings calls the same, or a pair links, go together.

    Examples
    --------
    >>> linked(4, ["a", "a", "b", "c"], ["x", "y", "y", "z"])
    ['0', '0', '0', '1']
    >>> linked(4, pairs=[(0, 2)])
    ['0', '1', '0', '2']
    """
    links = [np.asarray(pairs, dtype=np.intp).reshape(-1, 2)]
    for labels in labellings:
        same_length(rows=range(n_rows), labels=labels)
        _, first, code = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
        links.append(np.stack([np.arange(n_rows), first[code]], axis=1))
    return [str(code) for code in labelled(n_rows, np.concatenate(links))]


def sessions_of(stimulus: Sequence[str], session: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Name the group of sessions, or of runs, of each stimulus; those that share a stimulus are one group.

    Parameters
    ----------
    stimulus, session : sequence of str, one per trial
    ids : sequence of str
        The stimuli, each once.
    """
    same_length(stimulus=stimulus, session=session)
    group = dict(zip(stimulus, linked(len(stimulus), stimulus, session), strict=True))
    return [group[name] for name in ids]


@one_thread()
def coordinates(gram: FloatArray, n_dims: int = N_DIMS) -> FloatArray:
    """Compute principal coordinates (n_stimuli, n_dims) of stimuli from a centred kernel (n_stimuli, n_stimuli)."""
    kernel = np.asarray(gram, dtype=np.float64)
    if len(kernel) < 4:
        raise InputError(f"{len(kernel)} stimuli are too few to lay out by their features; needs at least 4.")
    start = random_for(0, "coordinates", len(kernel)).standard_normal(len(kernel))
    values, vectors = eigsh(kernel, k=min(n_dims, len(kernel) - 2), v0=start)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


@one_thread()
def clusters_of(positions: FloatArray, n_clusters: int, *, seed: int) -> list[str]:
    """Name the cluster of each stimulus, by k-means.

    Parameters
    ----------
    positions : ndarray of shape (n_stimuli, n_dims)
        From `coordinates`.
    n_clusters : int
        At least 2, fewer than stimuli.
    seed : int
    """
    if not 2 <= n_clusters < len(positions):
        raise InputError(f"{len(positions)} stimuli make 2 to {len(positions) - 1} clusters; got {n_clusters}.")
    from sklearn.cluster import KMeans  # a second to import, for those who need it

    seed_of_kmeans = int(random_for(seed, "clusters", n_clusters).integers(2**31))
    codes = KMeans(n_clusters, n_init=4, random_state=seed_of_kmeans).fit_predict(positions)
    return [str(code) for code in codes]


def farthest(positions: FloatArray, groups: Sequence[str], n_test: int) -> IntArray:
    """Choose the stimuli that are farthest from all others, whole groups of repeats together.

    Parameters
    ----------
    positions : ndarray of shape (n_stimuli, n_dims)
    groups : sequence of str
        Repeats of one image are one group, and do not count as neighbours.
    n_test : int
        At least so many are chosen.

    Returns
    -------
    ndarray of int
        Row numbers, ascending.

    References
    ----------
    Shirakawa et al. (2024), arXiv:2405.10078, for what near neighbours of test images do to scores
    """
    same_length(positions=positions, groups=groups)
    if not 1 <= n_test < len(positions):
        raise InputError(f"n_test must lie between 1 and {len(positions) - 1}; got {n_test}.")
    _, code = np.unique(np.asarray(groups), return_inverse=True)
    nearest, size = np.empty(len(positions)), (positions**2).sum(1)
    for rows in (slice(i, i + 512) for i in range(0, len(positions), 512)):
        squares = size[rows, None] + size - 2 * positions[rows] @ positions.T
        squares[code[rows, None] == code] = np.inf
        nearest[rows] = squares.min(1)
    of_group = np.full(code.max() + 1, np.inf)
    np.minimum.at(of_group, code, nearest)
    order = np.argsort(-of_group, kind="stable")
    n_groups = int(np.searchsorted(np.cumsum(np.bincount(code)[order]), n_test)) + 1
    return np.flatnonzero(np.isin(code, order[:n_groups]))
