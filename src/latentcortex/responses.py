"""What a participant's voxels did, trial by trial."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from latentcortex._arrays import CONSTANT, BoolArray, FloatArray, listed, same_length, varying
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Space

logger = logging.getLogger(__name__)

COLUMNS: Final = ("stimulus", "session", "run", "n_repeats")
Within = Literal["session", "run", "none"]


@dataclass(frozen=True, eq=False)
class Responses:
    """Response amplitudes of one participant.

    Parameters
    ----------
    data : ndarray of float32, shape (n_rows, n_voxels)
        Response amplitude, in percent signal change or in units of z-scores. A voxel with a nan or without
        variance is *not valid*: it is kept, never fitted, and nan in every map.
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
    """

    data: FloatArray
    rows: pd.DataFrame
    space: Space
    chosen_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        same_length(data=self.data, rows=self.rows)
        missing = [name for name in COLUMNS if name not in self.rows.columns]
        if missing:
            raise InputError(f"The rows of responses lack {listed(missing)}.")
        if self.data.ndim != 2 or self.data.shape[1] != self.space.n_voxels:
            raise AlignmentError(f"Responses are {self.data.shape}; expected (n_rows, {self.space.n_voxels}).")

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

    @property
    def ids(self) -> tuple[str, ...]:
        """The stimuli that were shown, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.rows["stimulus"]))

    @property
    def n_repeats(self) -> FloatArray:
        """Trials that each row averages, (n_rows,)."""
        return self.rows["n_repeats"].to_numpy(dtype=np.float64)

    def valid(self) -> BoolArray:
        """Tell which voxels are finite and vary by more than rounding, (n_voxels,)."""
        return varying(self.data)

    def select(self, ids: Sequence[str]) -> Responses:
        """Take the rows of these stimuli, in their present order."""
        missing = sorted(set(ids) - set(self.rows["stimulus"]))
        if missing:
            raise AlignmentError(f"{len(missing)} of {len(ids)} stimuli have no response: {listed(missing)}.")
        kept = self.rows["stimulus"].isin(ids).to_numpy()
        return replace(self, data=self.data[kept], rows=self.rows[kept].reset_index(drop=True))

    def only(self, voxels: BoolArray, *, chosen_on: Sequence[str] = ()) -> Responses:
        """Take some voxels.

        Parameters
        ----------
        voxels : ndarray of bool, shape (n_voxels,)
        chosen_on : sequence of str
            Stimuli by whose responses they were chosen, if they were: a score on these would be flattered, and
            `latentcortex check` refuses it. None for voxels of an anatomical region.
        """
        same_length(voxels=voxels, space=range(self.space.n_voxels))
        kept = np.flatnonzero(voxels)
        chosen = tuple(dict.fromkeys([*self.chosen_on, *chosen_on]))
        return Responses(self.data[:, kept], self.rows, self.space.only(kept), chosen)

    def split(
        self, *, test_ids: Sequence[str], train_ids: Sequence[str] | None = None, zscore: Within = "session"
    ) -> tuple[Responses, Responses]:
        """Part the rows by stimulus, and z-score both sides with the statistics of the training rows.

        Parameters
        ----------
        test_ids : sequence of str
        train_ids : sequence of str, optional
            All others by default.
        zscore : {"session", "run", "none"}
            Within what each voxel's mean and standard deviation are taken, from training rows only.

        Returns
        -------
        train, test : Responses
        """
        train_ids = train_ids if train_ids is not None else sorted(set(self.ids) - set(test_ids))
        both = sorted(set(train_ids) & set(test_ids))
        if both:
            raise InputError(f"{len(both)} stimuli are both in train and test: {listed(both)}.")
        used = self.select([*train_ids, *test_ids])
        scored = used.zscored(fit=used.rows["stimulus"].isin(train_ids).to_numpy(), within=zscore)
        return scored.select(train_ids), scored.select(test_ids)

    def zscored(self, *, fit: BoolArray, within: Within = "session") -> Responses:
        """Subtract the mean of the rows `fit` and divide by their standard deviation, per session or run.

        A voxel that does not vary over the fitted rows of one session becomes nan there, hence not valid.
        """
        if within == "none":
            return self
        if within not in ("session", "run"):
            raise unknown("zscore", within, ("session", "run", "none"))
        keys = ["session"] if within == "session" else ["session", "run"]
        data = np.empty_like(self.data, dtype=np.float32)
        codes = self.rows.groupby(keys, sort=False).ngroup().to_numpy()
        for code in range(int(codes.max()) + 1):
            rows = np.flatnonzero(codes == code)
            own = rows[fit[rows]]
            if len(own) < 2:
                label = "-".join(self.rows.loc[self.rows.index[rows[0]], keys])
                raise InputError(
                    f"{within} {label} has {len(own)} training rows; z-scoring needs at least 2. "
                    "Use zscore='none', or another split."
                )
            data[rows] = _scored(self.data[rows], self.data[own])
            lost = int((np.isnan(data[rows]).any(0) & np.isfinite(self.data[rows]).all(0)).sum())
            if lost:
                facts = {within: "-".join(self.rows.loc[self.rows.index[rows[0]], keys])}
                sentence = "%d voxels do not vary over the training rows of a %s and are left out."
                logger.info(sentence, lost, within, extra={"facts": facts})
        return replace(self, data=data)

    def averaged(self) -> Responses:
        """Average the rows of each stimulus; `n_repeats` says over how many trials."""
        codes, first = pd.factorize(self.rows["stimulus"])
        if len(first) == len(codes):
            return self
        weights = self.n_repeats
        total = np.bincount(codes, weights=weights)
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(first)))
        weighted = self.data[order] * weights[order, None].astype(np.float32)
        data = np.add.reduceat(weighted, starts, axis=0) / total[:, None].astype(np.float32)
        rows = pd.DataFrame({"stimulus": np.asarray(first), "session": "", "run": "", "n_repeats": total})
        return replace(self, data=data.astype(np.float32), rows=rows)

    def repeats(self) -> FloatArray:
        """Lay out single trials by repeat, (n_repeats, n_stimuli, n_voxels); nan where there are fewer."""
        codes, first = pd.factorize(self.rows["stimulus"])
        turn = self.rows.groupby("stimulus", sort=False).cumcount().to_numpy()
        out = np.full((int(turn.max()) + 1, len(first), self.data.shape[1]), np.nan, dtype=np.float32)
        out[turn, codes] = self.data
        return out


def _scored(values: FloatArray, fitted: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = fitted.mean(0, dtype=np.float64)
        spread = fitted.std(0, dtype=np.float64)
        size = np.abs(fitted).max(0)
        spread = np.where(spread > CONSTANT[4] * size, spread, np.nan)
        return np.asarray(((values - mean) / spread).astype(np.float32))
