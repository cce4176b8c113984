"""A plain folder: how somebody with arrays starts.

FOLDER/stimuli.tsv       stimulus_id, stim_file, caption (and caption_2, ...), ...
FOLDER/stimuli/          the images
FOLDER/trials.tsv        stimulus_id, session, run, split; row i describes row i of the responses
FOLDER/responses.npy     (n_trials, n_voxels), float; some voxels are read at a time
FOLDER/mask.nii.gz       if voxels are those of a volume: the columns of responses.npy in numpy's C order
FOLDER/responses.nii.gz  with a mask, in place of responses.npy: one volume per trial
FOLDER/responses_hemi-L.func.gii and responses_hemi-R.func.gii, with a template: one array per trial in each

Of several participants, `trials.tsv`, `responses.npy` and what is their own lie in FOLDER/sub-01, FOLDER/sub-02, ...;
or one `trials.tsv` has a column `participant`, where all have the same voxels.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from latentcortex import _files
from latentcortex._arrays import digest, listed, unique_ids
from latentcortex._images import ImageFiles
from latentcortex._ranges import NoEffect, Participants
from latentcortex.datasets import check_participants, responses_of_slice
from latentcortex.datasets._recording import TRIALS, Placement, Recording
from latentcortex.datasets._voxel_major import default_scratch
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import Responses
from latentcortex.space import Space
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)


class Folder:
    """Stimuli and responses of one or more participants in a folder.

    Parameters
    ----------
    root : str
        The folder.
    participants : sequence of str
        Their labels. They may have seen different stimuli, and a stimulus may be in another split for each.
    template : str, optional
        Cortex whose vertices (left, then right hemisphere, all) are the columns of `responses.npy`: the name of a
        template or the folder of a subject, see `space.Surface`. With `mask`, the cortex that its voxels are drawn on.
        Without either the voxels have no known position.
    mask : str, optional
        NIfTI image of 0 and 1 in the folder, or in each participant's, whose voxels, in numpy's C order as nilearn's
        maskers give them, are the columns of `responses.npy`.
    reference : str, optional
        With `mask`: the space that it is in, such as `MNI152NLin2009cAsym` or `T1w`.
    transform : str, optional
        With `mask` and `template`: where the template's surfaces are among the voxels, a folder as pycortex writes it
        (within this folder, or by its name among the template's `transforms`). By default they are in the mm of the
        reference; those of fsaverage are brought to MNI152.
    background : str, optional
        With `mask`: anatomical image in the folder, or in each participant's, in the mm of the mask, drawn behind cuts;
        of MNI152 there is one.
    scratch : str, optional
        With `responses.nii.gz` or GIFTI: where a copy of it is kept that is laid out by voxel, 4 bytes for each trial
        and voxel; it may be deleted and is then made again. By default within the user's cache.

    Raises
    ------
    InputError
        If the folder is missing, or `mask` and what belongs to it are not given together.
    """

    def __init__(
        self,
        root: str,
        participants: Participants = ("01",),
        template: str | None = None,
        *,
        mask: str | None = None,
        reference: str | None = None,
        transform: str | None = None,
        background: str | None = None,
        scratch: Annotated[str, NoEffect] | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"Dataset folder {self.root} is not there; check `root`.")
        self.participants = check_participants(participants)
        self.placement = Placement(template, mask, reference, transform, background)
        self.scratch = Path(scratch) if scratch else default_scratch()
        self._recordings: dict[str, Recording] = {}
        if len(self.participants) > 1 and not self._has_subfolders and "participant" not in self._trials.columns:
            raise InputError(
                f"A folder without sub-{self.participants[0]} and its like holds one participant; got "
                f"{len(self.participants)}. Put each one's {TRIALS} and responses into a folder of its own, or name "
                f"them in a column participant of {self.root / TRIALS}."
            )

    @property
    def _has_subfolders(self) -> bool:
        """Whether any participant has a folder of its own."""
        return any((self.root / f"sub-{name}").is_dir() for name in self.participants)

    @cached_property
    def _trials(self) -> pd.DataFrame:
        """The trials in the folder itself."""
        return _read_trials(self.root)

    def _recording(self, participant: str) -> Recording:
        """Open the recording of a participant, all of whose stimuli must be in `stimuli.tsv`."""
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")
        if participant not in self._recordings:
            folder = self.root / f"sub-{participant}" if self._has_subfolders else self.root
            table = self._trials if folder == self.root else _read_trials(folder)
            of_participant = np.ones(len(table), dtype=bool)
            if "participant" in table.columns:
                of_participant = (table["participant"] == participant).to_numpy()
                if not of_participant.any():
                    present = listed(sorted(set(table["participant"])))
                    raise InputError(
                        f"{folder / TRIALS} has no trial of participant {participant!r}; its column participant has "
                        f"{present}."
                    )
            if not len(table):
                raise InputError(f"{folder / TRIALS} has no trial.")
            self._check_stimuli(folder / TRIALS, table[of_participant])
            self._recordings[participant] = Recording(
                self.root,
                folder,
                table[of_participant],
                np.flatnonzero(of_participant),
                len(table),
                self.placement,
                self.scratch,
            )
        return self._recordings[participant]

    def _check_stimuli(self, path: Path, table: pd.DataFrame) -> None:
        """Raise `AlignmentError` if trials name a stimulus that is not in `stimuli.tsv`."""
        unlisted = table["stimulus_id"][~table["stimulus_id"].isin(self._listed["stimulus_id"])]
        if len(unlisted):
            unknown, present = sorted(set(unlisted)), listed(self._listed["stimulus_id"], 3)
            raise AlignmentError(
                f"{path} names {len(unknown)} stimuli that stimuli.tsv does not have: {listed(unknown)}, the first in "
                f"row {unlisted.index[0]}, column stimulus_id (it has {present}); ids are compared as text: 1 is no "
                "001."
            )

    @cached_property
    def _listed(self) -> pd.DataFrame:
        """All stimuli of the table."""
        path = self.root / "stimuli.tsv"
        table = _files.read_tsv(path, needs=("stimulus_id", "stim_file"))
        unique_ids(table["stimulus_id"], what=f"stimulus_id in {path}")
        self._note_unused(set(table["stim_file"]))
        return table

    @cached_property
    def _table(self) -> pd.DataFrame:
        """The stimuli that any of the participants saw."""
        table, path = self._listed, self.root / "stimuli.tsv"
        seen = {name for participant in self.participants for name in self._recording(participant).ids}
        shown = table["stimulus_id"].isin(seen)
        if not shown.all():
            sentence = "%d of %d stimuli of stimuli.tsv were not shown and are left out."
            logger.info(sentence, int((~shown).sum()), len(table))
        table = table[shown]
        missing = [name for name in table["stim_file"] if not self._image_path(name).is_file()]
        if missing:
            raise InputError(f"{path} names images that are not in {self.root / 'stimuli'}: {listed(missing)}.")
        return table

    def _note_unused(self, used: set[str]) -> None:
        """Log which files in the folder of images belong to no stimulus."""
        base = self.root / "stimuli"
        files = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
        unused = sorted(set(files) - {Path(name).as_posix() for name in used})
        if unused:
            logger.info("%d files in stimuli/ belong to no stimulus and are ignored: %s.", len(unused), listed(unused))

    def _image_path(self, name: str) -> Path:
        """Return the path of a stimulus's image, which must lie inside the folder `stimuli`."""
        base = (self.root / "stimuli").resolve()
        path = (base / name).resolve()
        if not path.is_relative_to(base):
            raise InputError(f"stim_file {name!r} escapes {self.root / 'stimuli'}; give a path inside it.")
        return path

    def stimuli(self) -> Stimuli:
        """Return the stimuli that any of the participants saw, in the order of `stimuli.tsv`."""
        table = self._table.set_index("stimulus_id")
        caption_columns = [name for name in table.columns if name == "caption" or name.startswith("caption_")]
        table["captions"] = [tuple(t for t in row if t and t != "n/a") for row in table[caption_columns].to_numpy()]
        paths = {str(name): self._image_path(file) for name, file in table["stim_file"].items()}
        return Stimuli(table, ImageFiles(paths))

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials; row i of `trials.tsv` describes row i of `responses.npy`."""
        return self._recording(participant).rows

    def space(self, participant: str) -> Space:
        """Return where the voxels are: in the mask, on the template, or `Unlocated`."""
        return self._recording(participant).space

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of consecutive voxels; the rest of the file is neither read nor mapped."""
        recording = self._recording(participant)
        start, stop, _ = voxels.indices(recording.space.n_voxels)
        return responses_of_slice(recording.read(start, stop), recording.rows, recording.space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return no table: a folder holds no more about the voxels than their responses."""
        return {}

    def probe(self) -> None:
        """Return None: no network comes with a folder that reads attributes off its images."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        return (
            "Single-trial response amplitudes were used as they were given; how they were acquired and estimated is "
            "not recorded with them."
        )

    def background(self, participant: str) -> Path | None:
        """Return the anatomical image to draw behind the voxels, if one is given."""
        return self._recording(participant).background

    def fingerprint(self, participant: str) -> str:
        """Return a digest of the participant's trials, responses and voxels, and of the stimuli that were shown."""
        recording = self._recording(participant)
        table = self._table[self._table["stimulus_id"].isin(recording.ids)]
        images = [_files.sha256(self._image_path(name)) for name in table["stim_file"]]
        shown = table.columns.tolist(), table.to_numpy().tolist(), images
        return digest(participant, recording.fingerprint(), shown)


def _read_trials(folder: Path) -> pd.DataFrame:
    """Read the `trials.tsv` of a folder, which must name stimulus, session and run."""
    return _files.read_tsv(folder / TRIALS, needs=("stimulus_id", "session", "run"))
