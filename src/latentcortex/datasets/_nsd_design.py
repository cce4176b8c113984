"""Who saw which image when in the Natural Scenes Dataset: read once, and compared with everything that says it again.

Ids of images are counted from 1 in `nsd_expdesign.mat` and `responses.tsv`, and from 0 in `nsd_stim_info_merged.csv`
and in the array of the images; here always from 0.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import IntArray
from latentcortex.datasets._nsd_release import TRIALS, Release, Session
from latentcortex.errors import AlignmentError, InputError, first_line

logger = logging.getLogger(__name__)

N_IMAGES: Final = 73_000
N_EACH: Final = 10_000
"""Images that a participant would see in 40 sessions."""
N_SHARED: Final = 1_000
"""The first of these, which all participants would see."""
N_RUNS: Final = 12
DESIGN: Final = "nsd_expdesign.mat"
NEEDED: Final = {
    "masterordering": (1, 40 * TRIALS),
    "subjectim": (8, N_EACH),
    "sharedix": (1, N_SHARED),
}
"""Arrays of the design, and their shapes."""
PATTERN: Final = "stimpattern"
PATTERN_SHAPE: Final = (40, N_RUNS, 75)
"""Which of the 75 slots of each run had an image; asked for only where `responses.tsv` is not there."""
INFO: Final = "nsd_stim_info_merged.csv"


def stimulus_id(image: int) -> str:
    """Name an image by its row of imgBrick, counted from 0: its `nsdId`."""
    return f"nsd-{image:05d}"


@dataclass(frozen=True, eq=False)
class Design:
    """The design of the experiment.

    Parameters
    ----------
    release : Release
    """

    release: Release

    @property
    def path(self) -> Path:
        """The file of the design."""
        return self.release.experiment / DESIGN

    @cached_property
    def _arrays(self) -> dict[str, NDArray[np.intp]]:
        """The arrays of the design, whole numbers of the shapes that are documented."""
        arrays = {name: self._array(name, shape) for name, shape in NEEDED.items()}
        for name, most in (("masterordering", N_EACH), ("subjectim", N_IMAGES), ("sharedix", N_IMAGES)):
            low, high = int(arrays[name].min()), int(arrays[name].max())
            if low < 1 or high > most:
                raise InputError(f"{self.path}: {name} runs from {low} to {high}; expected ids from 1 to {most}.")
        if not (arrays["subjectim"][:, :N_SHARED] == arrays["sharedix"]).all():
            raise AlignmentError(
                f"{self.path}: the first {N_SHARED} images of subjectim are not those of sharedix, which all "
                "participants see; download it again."
            )
        return arrays

    @cached_property
    def _content(self) -> dict[str, Any]:
        return _read_mat(self.path)

    def _array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.intp]:
        """Take whole numbers of a shape out of the file."""
        values = np.asarray(self._content[name]) if name in self._content else np.empty(0)
        if shape[0] == 1 and values.shape == shape[::-1]:  # a vector that stands
            values = values.T
        if values.shape != shape or values.dtype.kind not in "iuf" or not np.array_equal(values, np.rint(values)):
            got = f"{values.dtype} {values.shape}" if name in self._content else "nothing"
            raise InputError(f"{self.path}: {name} should be whole numbers {shape}; got {got}. Download it again.")
        return values.astype(np.intp)

    def places(self, sessions: Sequence[Session]) -> IntArray:
        """Count out the trials of some sessions among all 30,000, from 0."""
        within = np.arange(TRIALS)
        return np.concatenate([(one.number - 1) * TRIALS + within for one in sessions])

    def of_ten_thousand(self, places: IntArray) -> IntArray:
        """Say which of a participant's 10,000 images was shown in each trial, from 0; the first thousand are shared."""
        return np.asarray(self._arrays["masterordering"][0, places] - 1)

    def images(self, participant: str, places: IntArray) -> IntArray:
        """Say which of the 73,000 images a participant saw in each trial, from 0."""
        return np.asarray(self._arrays["subjectim"][int(participant) - 1, self.of_ten_thousand(places)] - 1)

    def _runs_by_pattern(self, places: IntArray) -> IntArray:
        """Say in which run of its session each trial was, from 1, by the pattern of the slots with an image."""
        shown = self._array(PATTERN, PATTERN_SHAPE).sum(axis=2)
        of_session = places // TRIALS
        odd = np.intersect1d(np.flatnonzero(shown.sum(axis=1) != TRIALS), of_session)
        if len(odd):
            n_trials = shown[odd[0]].sum()
            raise InputError(
                f"{self.path}: {PATTERN} has {n_trials} trials in session {odd[0] + 1}; expected {TRIALS}."
            )
        ends = shown.cumsum(axis=1)[of_session]
        return np.asarray((places[:, None] % TRIALS >= ends).sum(axis=1) + 1)

    def rows(self, participant: str, sessions: Sequence[Session]) -> pd.DataFrame:
        """Describe the trials of some sessions.

        Returns
        -------
        DataFrame of length n_trials
            `stimulus`, `session`, `run` and `n_repeats`; `image` from 0, and `shared`.

        Raises
        ------
        AlignmentError
            If another file of the release says that another image was shown.
        """
        places = self.places(sessions)
        images = self.images(participant, places)
        runs = self._runs(participant, sessions, images)
        self._compare_with_info(participant, places, images)
        return pd.DataFrame(
            {
                "stimulus": [stimulus_id(image) for image in images.tolist()],
                "session": [f"{session:02d}" for session in (places // TRIALS + 1).tolist()],
                "run": [f"{run:02d}" for run in runs.tolist()],
                "n_repeats": 1,
                "image": images,
                "shared": self.of_ten_thousand(places) < N_SHARED,
            }
        )

    def behaviour(self, participant: str) -> Path:
        """Return where it is written what a participant answered."""
        return self.release.about(participant) / "behav" / "responses.tsv"

    def _runs(self, participant: str, sessions: Sequence[Session], images: IntArray) -> IntArray:
        """Say in which run of its session each trial was, by `responses.tsv`, which must name the same images."""
        path = self.behaviour(participant)
        if not path.is_file():
            name_missing(path, f"runs, and which image was shown when, are as {DESIGN} says")
            return self._runs_by_pattern(self.places(sessions))
        table, runs = _files.read_tsv(path, needs=("SESSION", "RUN", "73KID")), np.zeros(len(images), dtype=np.intp)
        numbers = table[["SESSION", "RUN", "73KID"]].apply(pd.to_numeric, errors="coerce").fillna(-1).astype(np.intp)
        for k, session in enumerate(sessions):
            mine, rows = slice(k * TRIALS, (k + 1) * TRIALS), numbers[numbers["SESSION"] == session.number]
            if len(rows) != TRIALS:
                raise AlignmentError(
                    f"{path} has {len(rows)} rows of session {session.number}; expected {TRIALS}, one per trial: "
                    "download it again, or leave the session out with n_sessions."
                )
            differing = np.flatnonzero(rows["73KID"].to_numpy() != images[mine] + 1)
            if len(differing):
                at = int(differing[0])
                raise AlignmentError(
                    f"{path} row {rows.index[at]}: 73KID is {rows['73KID'].iloc[at]}, and {self.path} says "
                    f"{images[mine][at] + 1} for trial {at + 1} of session {session.number}; download both again."
                )
            runs[mine] = rows["RUN"]
        return runs

    @cached_property
    def info(self) -> pd.DataFrame | None:
        """What is known of each image, (73000 rows); None if it was not downloaded."""
        path = self.release.experiment / INFO
        if not path.is_file():
            return None
        _files.refuse_pointer(path)
        named = ["nsdId", "cocoId", "cocoSplit", "flagged"]
        shown = [f"subject{s + 1}_rep{k}" for s in range(8) for k in range(3)]
        try:
            with _files.naming(path):
                table = pd.read_csv(path, usecols=[*named, *shown], dtype={"cocoSplit": str, "flagged": str})
        except ValueError as error:  # a column that is not there, a number that is none, or bytes that are no text
            raise InputError(
                f"{path} is not the table of the images: {first_line(error)}. Download it again."
            ) from None
        if len(table) != N_IMAGES or not np.array_equal(table["nsdId"], np.arange(N_IMAGES)):
            raise InputError(f"{path} has {len(table)} rows; expected {N_IMAGES}, whose nsdId runs from 0.")
        return table

    def _compare_with_info(self, participant: str, places: IntArray, images: IntArray) -> None:
        """See that the table of the images names the same trials, which it counts from 1; 0 is never shown."""
        if self.info is None:
            return
        shown = np.full(40 * TRIALS + 1, -1, dtype=np.intp)
        for k in range(3):
            trial = self.info[f"subject{int(participant)}_rep{k}"].to_numpy()
            shown[trial.clip(0, 40 * TRIALS)] = np.arange(N_IMAGES)
        differing = np.flatnonzero(shown[places + 1] != images)
        if len(differing):
            at = int(differing[0])
            place, said = int(places[at]), int(shown[places[at] + 1])
            raise AlignmentError(
                f"{self.release.experiment / INFO} says that subj{participant} saw nsdId {said} in trial "
                f"{place + 1}, and {self.path} {images[at]}; they differ in {len(differing)} trials: download "
                "both again."
            )


def _read_mat(path: Path) -> dict[str, Any]:
    """Read the arrays of a MATLAB 5 file.

    Raises
    ------
    InputError
        If it is missing, of another version, or damaged.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"{path} is missing; expected the design of the experiment: download it.")
    _files.refuse_pointer(path)
    try:
        return dict(loadmat(path, variable_names=[*NEEDED, PATTERN]))
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError, EOFError, zlib.error) as error:
        if _files.is_refused(error):
            raise
        raise InputError(
            f"{path} is not a MATLAB 5 file, or damaged: {first_line(error)}. Download it again."
        ) from None


def name_missing(path: Path, what: str) -> None:
    """Say in the log what a study goes without because a file was not downloaded."""
    logger.info("%s is not there: %s.", path, what, extra={"facts": {"file": path.name}})
