"""Response amplitudes of a participant's voxels, trial by trial, and how they are z-scored, averaged and split."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import (
    CONSTANT,
    BoolArray,
    FloatArray,
    IntArray,
    check_axes,
    id_list,
    listed,
    numbers,
    same_length,
    truths,
    varying,
)
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Space, Unlocated

logger = logging.getLogger(__name__)

COLUMNS: Final = ("stimulus", "session", "run", "n_repeats")
Within = Literal["session", "run", "none"]
MIN_TRAIN_ROWS: Final = 8
"""Training rows of a session or run below which it is not z-scored: where all have 8 that costs a quarter of R², where
all have 5 nearly half, and where all have 2 everything: their standard deviation is the distance of two numbers."""

MAX_MISSING: Final = 0.1
"""Of the stimuli, how many may have no trial of a voxel that was not measured in some sessions: their mean is then that
of its other stimuli, which a regression takes for no deviation at all."""
N_STRETCHES: Final = 16
"""Stretches of voxels, all over the valid ones, from which decisions are made that hold for all voxels."""
STRETCH: Final = 128
"""Voxels of one stretch."""


@dataclass(frozen=True, eq=False)
class Responses:
    """Response amplitudes of one participant.

    Parameters
    ----------
    data : ndarray of shape (n_rows, n_voxels)
        Response amplitude, in percent signal change or in units of z-scores; kept in float32. A voxel with a nan or
        without variance is *not valid*: it is kept, never fitted, and nan in every map. What a masked array hides is
        nan. Only where stimuli are repeated, a voxel that is nan throughout some sessions, since it was not measured
        there, is valid by its other sessions; see `averaged`.
    rows : DataFrame of length n_rows
        Columns `stimulus`, `session`, `run` (strings) and `n_repeats` (trials that the row averages).
    space : Space
        Where the voxels are.
    chosen_on : tuple of str
        Stimuli by whose responses these voxels were chosen among others; they may not be tested on.

    Raises
    ------
    AlignmentError
        If `data` and `rows` do not have one entry per row, or `space` not one per voxel.
    InputError
        If `data` are no real numbers or beyond float32, a column is missing, an id is not a string, or a number of
        repeats not above 0.
    """

    data: FloatArray
    rows: pd.DataFrame
    space: Space
    chosen_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _as_float32(numbers("Responses", self.data)))
        check_axes("Responses", self.data.shape, "n_rows n_voxels", {"n_voxels": self.space.n_voxels})
        _check_rows(self.rows)
        same_length(data=self.data, rows=self.rows)

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        n_rows, sessions = len(self.rows), self.rows["session"].nunique()
        return f"Responses({n_rows} rows of {len(self.ids)} stimuli in {sessions} sessions, {self.space!r})"

    @classmethod
    def single_trials(
        cls,
        data: FloatArray,
        space: Space,
        *,
        stimulus: Sequence[str],
        session: Sequence[str],
        run: Sequence[str],
    ) -> Responses:
        """Make responses with one row per trial."""
        same_length(data=data, stimulus=stimulus, session=session, run=run)
        rows = pd.DataFrame({"stimulus": stimulus, "session": session, "run": run, "n_repeats": 1})
        return cls(data, rows, space)

    @classmethod
    def without_voxels(cls, rows: pd.DataFrame) -> Responses:
        """Make responses without voxels, for all that depends on rows alone: repeats, sessions, order, splits."""
        return cls(np.empty((len(rows), 0), dtype=np.float32), rows, Unlocated(0))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The stimuli that were shown, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.rows["stimulus"]))

    @property
    def n_repeats(self) -> FloatArray:
        """Trials that each row averages, (n_rows,)."""
        return self.rows["n_repeats"].to_numpy(dtype=np.float64)

    @property
    def in_time(self) -> bool:
        """Whether stimuli, in order of first appearance, follow each other in time: only then can they be a series.

        Most must have been shown once, in a run that has a name, and rows of a run must lie together: averages over
        trials come from several times, and a table that is sorted by anything else takes runs apart.
        """
        rows = self.rows
        trials = rows.groupby("stimulus", sort=False)["n_repeats"].transform("sum")
        once = rows[(trials == 1) & ~rows["run"].isin(["", "n/a"])]
        if len(once) <= len(self.ids) / 2:
            return False
        runs = once.groupby(["session", "run"], sort=False).ngroup().to_numpy()
        return bool((np.diff(runs) != 0).sum() == runs.max())

    def valid(self) -> BoolArray:
        """Tell which voxels are finite and vary by more than rounding, (n_voxels,).

        Of a voxel that was not measured in some sessions that is asked of its means over trials; see `averaged`.
        """
        valid = varying(self.data)
        partly, measured = self._partly_measured()
        if len(partly):
            valid[partly] = varying(self._means(partly, measured))
        return valid

    def select_stimuli(self, ids: Sequence[str]) -> Responses:
        """Take the rows of these stimuli, in their present order."""
        ids = id_list("Stimuli", ids)
        missing = sorted(set(ids) - set(self.rows["stimulus"]))
        if missing:
            raise AlignmentError(f"{len(missing)} of {len(ids)} stimuli have no response: {listed(missing)}.")
        kept = self.rows["stimulus"].isin(ids).to_numpy()
        return replace(self, data=self.data[kept], rows=self.rows[kept].reset_index(drop=True))

    def select_voxels(self, voxels: BoolArray, *, chosen_on: Sequence[str] = ()) -> Responses:
        """Take some voxels.

        Parameters
        ----------
        voxels : ndarray of bool, shape (n_voxels,)
        chosen_on : sequence of str
            Stimuli by whose responses they were chosen, if they were: a score on these would be flattered, and
            `latentcortex check` refuses it. None for voxels of an anatomical region.
        """
        kept = np.flatnonzero(truths("voxels", voxels, self.space.n_voxels))
        chosen = tuple(dict.fromkeys([*self.chosen_on, *chosen_on]))
        return Responses(self.data[:, kept], self.rows, self.space.select_voxels(kept), chosen)

    def split(
        self, *, test_ids: Sequence[str], train_ids: Sequence[str] | None = None, zscore: Within = "session"
    ) -> tuple[Responses, Responses]:
        """Part the rows by stimulus, and z-score both sides with the statistics of the training rows.

        A session or run that is wholly held out has none, and is z-scored with its own statistics: mean and standard
        deviation over all its rows, which know nothing of the stimuli. What differs between the means of such sessions
        is then removed, and not tested.

        Parameters
        ----------
        test_ids : sequence of str
        train_ids : sequence of str, optional
            All others by default.
        zscore : {"session", "run", "none"}
            Within what each voxel's mean and standard deviation are taken, from training rows where there are any.

        Returns
        -------
        train, test : Responses
        """
        test_ids = id_list("test_ids", test_ids)
        rest = sorted(set(self.ids) - set(test_ids))
        train_ids = id_list("train_ids", rest if train_ids is None else train_ids)
        both = sorted(set(train_ids) & set(test_ids))
        if both:
            raise InputError(f"{len(both)} stimuli are both in train and test: {listed(both)}.")
        used = self.select_stimuli([*train_ids, *test_ids])
        scored = used.zscored(fit=used.rows["stimulus"].isin(train_ids).to_numpy(), within=zscore)
        return scored.select_stimuli(train_ids), scored.select_stimuli(test_ids)

    def zscored(self, *, fit: BoolArray, within: Within = "session") -> Responses:
        """Subtract the mean of the rows `fit` and divide by their standard deviation, per session or run.

        A session or run without any such row is z-scored with the statistics of all its rows, see `scored_with`. A
        voxel that does not vary over the fitted rows of one session becomes nan in all rows, hence not valid.

        Raises
        ------
        InputError
            If a session or run has fewer than `MIN_TRAIN_ROWS` rows to fit: what it is divided by would be noise.
        """
        fit = truths("fit", fit, len(self.rows))
        if within == "none":
            return self
        training, fit = self.training_rows(fit, within), self.scored_with(fit, within)
        few = {label: n for label, n in self.training_rows(fit, within).items() if n < MIN_TRAIN_ROWS}
        if few:
            label, least = min(few.items(), key=lambda item: item[1])
            kind = "training" if training[label] else "held-out"
            more = f", and {len(few) - 1} more {within}s have too few" if len(few) > 1 else ""
            wider = "zscore='session', " if within == "run" else ""
            raise InputError(
                f"{within} {label} has {least} {kind} rows{more}; z-scoring needs at least {MIN_TRAIN_ROWS}. "
                f"Use {wider}zscore='none', another split, or leave such a {within} out."
            )
        data, lost = np.empty_like(self.data, dtype=np.float32), {}
        is_lost = np.zeros(self.data.shape[1], dtype=bool)
        codes = self._codes(within)
        for code in range(int(codes.max()) + 1):
            rows = np.flatnonzero(codes == code)
            fitted = rows[fit[rows]]
            data[rows] = _scored(self.data[rows], self.data[fitted])
            label = "-".join(self.rows.loc[self.rows.index[rows[0]], _keys(within)])
            is_undefined, is_given = np.isnan(data[rows]).any(0), np.isfinite(self.data[rows]).all(0)
            lost[label] = int((is_undefined & is_given).sum())
            is_lost |= is_undefined & ~np.isnan(self.data[rows]).all(0)
        data[:, is_lost] = np.nan  # in all rows: nan in one session alone would mean that it was not measured there
        counted = _lost.get()
        if counted is None:
            log_lost(lost, within)
        else:
            counted.append(lost)
        return replace(self, data=data)

    def scored_with(self, fit: BoolArray, within: Within) -> BoolArray:
        """Tell from which rows means and standard deviations are taken: `fit`, or all of a session or run without any.

        Returns
        -------
        ndarray of bool, shape (n_rows,)
        """
        codes = self._codes(within)
        held_out = np.bincount(codes[np.asarray(fit, dtype=bool)], minlength=int(codes.max()) + 1) == 0
        return np.asarray(fit | held_out[codes])

    def training_rows(self, fit: BoolArray, within: Within) -> dict[str, int]:
        """Count the rows `fit` of each session or run, by its name, in order of first appearance."""
        keys, codes = _keys(within), self._codes(within)
        first = np.unique(codes, return_index=True)[1]
        names = ["-".join(map(str, row)) for row in self.rows[keys].to_numpy()[first]]
        counts = np.bincount(codes[np.asarray(fit, dtype=bool)], minlength=len(first))
        return dict(zip(names, counts.tolist(), strict=True))

    def _codes(self, within: Within) -> IntArray:
        """Give each row the number of its session or run, in order of first appearance."""
        return np.asarray(self.rows.groupby(_keys(within), sort=False).ngroup())

    def averaged(self) -> Responses:
        """Average the rows of each stimulus; `n_repeats` says over how many trials.

        Session and run are empty, but of a stimulus that has one row. A voxel that is nan in all rows of some sessions
        has the mean of the other trials; where a stimulus has none, that of the voxel's other stimuli, unless these are
        more than a tenth (`MAX_MISSING`): then it stays nan.
        """
        codes, first = pd.factorize(self.rows["stimulus"])
        if len(first) == len(codes):
            return self
        weights = self.n_repeats
        total = np.bincount(codes, weights=weights)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(first)))
        weighted = self.data[order] * weights[order, None].astype(np.float32)
        data = np.add.reduceat(weighted, starts, axis=0) / total[:, None].astype(np.float32)
        partly, measured = self._partly_measured()
        if len(partly):
            data[:, partly] = self._means(partly, measured)
        once = np.bincount(codes) == 1
        places = {key: np.where(once, self.rows[key].to_numpy()[order[starts]], "") for key in ("session", "run")}
        rows = pd.DataFrame({"stimulus": np.asarray(first), **places, "n_repeats": total})
        return replace(self, data=data.astype(np.float32), rows=rows)

    def partly_measured(self) -> IntArray:
        """List the voxels that were not measured in some sessions and are valid by the others; see `averaged`."""
        return self._partly_measured()[0]

    def _partly_measured(self) -> tuple[IntArray, BoolArray]:
        """Find the voxels that are nan in all rows of some sessions, and nowhere else; none if no stimulus is repeated.

        Returns
        -------
        voxels : ndarray of int, shape (n_partly,)
        measured : ndarray of bool, shape (n_rows, n_partly)
            In which rows each is not nan.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            suspects = np.flatnonzero(np.isnan(self.data.sum(axis=0)))
        if not len(suspects) or len(self.ids) == len(self.rows):
            return suspects[:0], np.empty((len(self.rows), 0), dtype=bool)
        codes, missing = self._codes("session"), np.isnan(self.data[:, suspects])
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(int(codes.max()) + 1))
        n_missing = np.add.reduceat(missing[order], starts, axis=0, dtype=np.intp)
        whole = n_missing == np.bincount(codes)[:, None]
        partly = ((n_missing == 0) | whole).all(axis=0) & ~whole.all(axis=0)
        return suspects[partly], ~missing[:, partly]

    def _means(self, voxels: IntArray, measured: BoolArray) -> FloatArray:
        """Average the measured rows of each stimulus, (n_stimuli, n_voxels), as `averaged` says it of such voxels."""
        codes = pd.factorize(self.rows["stimulus"])[0]
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(int(codes.max()) + 1))
        weights = np.where(measured, self.n_repeats[:, None], 0).astype(np.float32)
        summed = np.where(measured, self.data[:, voxels], 0) * weights
        totals, total_weights = (np.add.reduceat(one[order], starts, axis=0) for one in (summed, weights))
        present = total_weights > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            means = totals / total_weights
            others = np.where(present, means, 0).sum(axis=0) / present.sum(axis=0)
        fill = (~present).mean(axis=0) <= MAX_MISSING
        return np.asarray(np.where(~present & fill, others, means).astype(np.float32))

    def repeated_within_run(self) -> tuple[str, ...]:
        """List the stimuli of which two trials lie in one run, and share its noise; in order of first appearance."""
        again = self.rows.duplicated(["stimulus", "session", "run"])
        return tuple(dict.fromkeys(self.rows["stimulus"][again]))

    def repeats(self) -> FloatArray:
        """Lay out single trials by repeat, (n_repeats, n_stimuli, n_voxels); nan where there are fewer."""
        codes, first = pd.factorize(self.rows["stimulus"])
        repeat = self.rows.groupby("stimulus", sort=False).cumcount().to_numpy()
        by_repeat = np.full((int(repeat.max()) + 1, len(first), self.data.shape[1]), np.nan, dtype=np.float32)
        by_repeat[repeat, codes] = self.data
        return by_repeat


Lost = dict[str, int]
"""Session or run -> voxels that do not vary over its training rows."""
_lost: ContextVar[list[Lost] | None] = ContextVar("lost", default=None)


@contextmanager
def counting_lost() -> Iterator[list[Lost]]:
    """Count the voxels that z-scoring loses in the block, one entry for each time, instead of logging them.

    Counts of all chunks of voxels are added up and logged once.
    """
    counted: list[Lost] = []
    token = _lost.set(counted)
    try:
        yield counted
    finally:
        _lost.reset(token)


def log_lost(lost: Mapping[str, int], within: str) -> None:
    """Log how many voxels a session or run loses by z-scoring."""
    for label, n_voxels in lost.items():
        if n_voxels:
            sentence = "%d voxels do not vary over the training rows of a %s and are left out."
            logger.info(sentence, n_voxels, within, extra={"facts": {within: label}})


def sample_valid_voxels(valid: BoolArray) -> NDArray[np.intp]:
    """Choose valid voxels in stretches all over the map, in full number however far apart they lie.

    This is for a sample that is kept in memory and examined voxel by voxel. Where a sample is read and fitted like a
    chunk, by slices, `encoding.chunks.sample_stretches` bounds what is read, and takes what is valid of it. If all
    voxels are valid, both choose the same. Neighbours stay together, since they are alike as those of a region are.

    Parameters
    ----------
    valid : ndarray of bool, shape (n_voxels,)

    Returns
    -------
    ndarray of int
        At most `N_STRETCHES` stretches of `STRETCH` valid voxels, by number, ascending; all valid ones if there are no
        more. They depend on which voxels are valid and on nothing else.

    Examples
    --------
    >>> sample_valid_voxels(np.array([True, False, True])).tolist()
    [0, 2]
    """
    usable = np.flatnonzero(valid)
    step = max(-(-len(usable) // N_STRETCHES), 1)
    within = np.arange(len(usable)) % step < STRETCH
    return usable[within]


def none_usable(n_voxels: int, empty_rows: BoolArray, rows: pd.DataFrame) -> InputError:
    """Make the error for responses of which no voxel is valid.

    Parameters
    ----------
    n_voxels : int
    empty_rows : ndarray of bool, shape (n_rows,)
        Rows that are nan in all voxels.
    rows : DataFrame
    """
    empty = np.flatnonzero(empty_rows)
    reason = "each has a nan or does not vary"
    if len(empty):
        stimulus = rows["stimulus"].iloc[empty[0]]
        reason = (
            f"{len(empty)} rows are nan in all of them (the first is of stimulus {stimulus}); leave such trials out"
        )
    return InputError(f"0 of {n_voxels} voxels are usable: {reason}.")


def _as_float32(values: FloatArray) -> FloatArray:
    """Cast responses to float32; refuse those beyond its range, and warn of voxels that no longer vary."""
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore", under="ignore"):
        narrowed = np.asarray(values, dtype=np.float32)
    n_too_large = int((np.isinf(narrowed) & np.isfinite(values)).sum())
    if n_too_large:
        largest = np.finfo(np.float32).max
        raise InputError(
            f"{n_too_large} responses are larger than float32 can hold ({largest:.3g}); divide them by their size."
        )
    n_constant = int((varying(values) & ~varying(narrowed)).sum()) if values.ndim == 2 and len(values) else 0
    if n_constant:
        logger.warning(
            "%d voxels vary by less than float32 can tell (beside their mean, or from 0) and are left out: take the "
            "mean off, or scale them.",
            n_constant,
        )
    return narrowed


def _check_rows(rows: pd.DataFrame) -> None:
    """Raise `InputError` unless every row has ids that are strings, and a number of repeats."""
    if not isinstance(rows, pd.DataFrame):
        raise InputError(f"The rows of responses must be a DataFrame; got {type(rows).__name__}.")
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing:
        raise InputError(f"The rows of responses lack {listed(missing)}.")
    for name in ("stimulus", "session", "run"):
        not_text = [value for value in rows[name].unique() if not isinstance(value, str)]
        if not_text:
            got = f"{not_text[0]!r}, of type {type(not_text[0]).__name__}"
            raise InputError(f"{name} must be strings in every row of responses; found {got}.")
    n_repeats = numbers("n_repeats", rows["n_repeats"].to_numpy())
    if not (np.isfinite(n_repeats).all() and n_repeats.min(initial=1) > 0):
        raise InputError("n_repeats must be above 0 and finite in every row of responses.")


def _keys(within: Within) -> list[str]:
    """Name the columns by which rows belong to one session, or one run of a session."""
    if within not in ("session", "run"):
        raise unknown("zscore", within, ("session", "run", "none"))
    return ["session"] if within == "session" else ["session", "run"]


def _scored(values: FloatArray, fitted: FloatArray) -> FloatArray:
    """Z-score rows by the mean and standard deviation of fitted rows; nan where a voxel does not vary over these."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = fitted.mean(0, dtype=np.float64)
        spread = fitted.std(0, dtype=np.float64)
        size = np.abs(fitted).max(0)
        spread = np.where(spread > CONSTANT[4] * size, spread, np.nan)
        return np.asarray(((values - mean) / spread).astype(np.float32))
