"""A plain folder: how somebody with arrays starts.

FOLDER/stimuli.tsv       stimulus_id, stim_file, caption (and caption_2, ...), ...
FOLDER/stimuli/          the images; without a column stim_file there are none
FOLDER/trials.tsv        stimulus_id, session, run, split; row i describes row i of the responses
FOLDER/responses.npy     (n_trials, n_voxels), float; some voxels are read at a time
FOLDER/mask.nii.gz       if voxels are those of a volume: the columns of responses.npy in numpy's C order
FOLDER/responses.nii.gz  with a mask, in place of responses.npy: one volume per trial
FOLDER/responses_hemi-L.func.gii and responses_hemi-R.func.gii, with a template: one array per trial in each
FOLDER/voxels.tsv        one row per voxel; a column region, or columns of 0 and 1, name regions

`responses` names another file: also HDF5, or CIFTI. Of several participants, `trials.tsv`, `responses.npy` and what is
their own lie in FOLDER/sub-01, FOLDER/sub-02, ...; or one `trials.tsv` has a column `participant`, where all have the
same voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from latentcortex._arrays import digest, listed
from latentcortex._ranges import NoEffect, Participants
from latentcortex.datasets import check_participants, responses_of_slice
from latentcortex.datasets._recording import TRIALS, Files, Placement, Recording, taken
from latentcortex.datasets._stimulus_table import StimulusTable
from latentcortex.datasets._trials import check_columns, read_trials, response_rows
from latentcortex.datasets._voxel_major import default_scratch
from latentcortex.errors import InputError
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Space
from latentcortex.stimuli import Stimuli


@dataclass(eq=False)
class FolderKeys:
    """What a study file may say of a folder; see `Folder`."""

    root: str
    participants: Participants = ("01",)
    template: str | None = None
    _: KW_ONLY
    mask: str | None = None
    reference: str | None = None
    transform: str | None = None
    background: str | None = None
    responses: str | None = None
    trials: str = TRIALS
    columns: Mapping[str, str] | None = None
    any_size: bool = False
    scratch: Annotated[str, NoEffect] | None = None

    def __post_init__(self) -> None:
        """Make of the keys what the dataset needs."""


class Folder(FolderKeys):
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
    responses : str, optional
        The file of the responses, in the folder or in each participant's, if it is none of those above: .npy, .nii.gz,
        .func.gii with `{hemi}` for L and R, .h5 (`betas.h5:group/betas` names the array, rows are trials), or
        .dtseries.nii and .dscalar.nii, with a template for the cortex alone.
    trials : str
        The table of trials, .tsv or .csv, in the folder or in each participant's.
    columns : mapping of str to str, optional
        What that table calls its columns stimulus, session, run, split, participant and row, if not stimulus_id,
        session, run, split, participant, row. A column row numbers the rows of the responses, from 0; without one,
        trials are in their order.
    any_size : bool
        Whether images may differ in size: the extractor resizes each, whatever its shape. What compares pixels, as
        `retrieval` and some metrics do, refuses them.
    scratch : str, optional
        With `responses.nii.gz` or GIFTI: where a copy of it is kept that is laid out by voxel, 4 bytes for each trial
        and voxel; it may be deleted and is then made again. By default within the user's cache.

    Raises
    ------
    InputError
        If the folder is missing, or `mask` and what belongs to it are not given together.
    """

    def __post_init__(self) -> None:
        self._root = Path(self.root)
        if not self._root.is_dir():
            raise InputError(f"Dataset folder {self._root} is not there; check `root`.")
        self.participants = check_participants(self.participants)
        background, responses = taken(self, "background"), taken(self, "responses")
        self.placement = Placement(self.template, self.mask, self.reference, self.transform, background)
        self._scratch = Path(self.scratch) if self.scratch else default_scratch()
        self._response_file, self._columns = responses or "", dict(self.columns or {})
        check_columns(self._columns)
        self._stimuli = StimulusTable(self._root, self.any_size)
        self._recordings: dict[str, Recording] = {}
        if len(self.participants) > 1 and not self._has_subfolders and "participant" not in self._trials.columns:
            raise InputError(
                f"A folder without sub-{self.participants[0]} and its like holds one participant; got "
                f"{len(self.participants)}. Put each one's {self.trials} and responses into a folder of its own, or "
                f"name them in a column participant of {self._root / self.trials}."
            )

    @property
    def _has_subfolders(self) -> bool:
        """Whether any participant has a folder of its own."""
        return any((self._root / f"sub-{name}").is_dir() for name in self.participants)

    @cached_property
    def _trials(self) -> pd.DataFrame:
        """The trials in the folder itself."""
        return read_trials(self._root / self.trials, self._columns)

    def _recording(self, participant: str) -> Recording:
        """Open the recording of a participant, all of whose stimuli must be in `stimuli.tsv`."""
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")
        if participant not in self._recordings:
            folder = self._root / f"sub-{participant}" if self._has_subfolders else self._root
            path = folder / self.trials
            table = self._trials if folder == self._root else read_trials(path, self._columns)
            of_participant = np.ones(len(table), dtype=bool)
            if "participant" in table.columns:
                of_participant = (table["participant"] == participant).to_numpy()
                if not of_participant.any():
                    present = listed(sorted(set(table["participant"])))
                    raise InputError(
                        f"{path} has no trial of participant {participant!r}; its column participant has {present}."
                    )
            if not len(table):
                raise InputError(f"{path} has no trial.")
            rows = response_rows(table, path)
            order = np.flatnonzero(of_participant)[np.argsort(rows[of_participant])]
            mine = table.iloc[order]
            self._stimuli.check_known(path, mine, self._columns.get("stimulus", "stimulus_id"))
            files = Files(self._root, folder, path, self._response_file, self._scratch)
            self._recordings[participant] = Recording(files, mine, rows[order], len(table), self.placement)
        return self._recordings[participant]

    @cached_property
    def _shown(self) -> pd.DataFrame:
        """The stimuli that any of the participants saw."""
        return self._stimuli.shown(
            {name for participant in self.participants for name in self._recording(participant).ids}
        )

    def stimuli(self) -> Stimuli:
        """Return the stimuli that any of the participants saw, in the order of `stimuli.tsv`."""
        return self._stimuli.stimuli(self._shown)

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials, in the order of the rows of the responses."""
        return self._recording(participant).rows

    def space(self, participant: str) -> Space:
        """Return where the voxels are: in the mask, on the template, or `Unlocated`."""
        return self._recording(participant).space

    def responses(  # type: ignore[override] # `taken` removes the key
        self, participant: str, voxels: slice = slice(None)
    ) -> Responses:
        """Read the trials of consecutive voxels; the rest of the file is neither read nor mapped."""
        recording = self._recording(participant)
        start, stop, _ = voxels.indices(recording.space.n_voxels)
        return responses_of_slice(recording.read(start, stop), recording.rows, recording.space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return `voxels.tsv`, if there is one."""
        table = self._recording(participant).voxels
        return {} if table is None else {"voxels": table}

    def regions(self, participant: str) -> Atlas | None:
        """Return the regions that `voxels.tsv` lists, if it does: `atlas = "voxels"` in [report] uses them."""
        return self._recording(participant).regions

    def probe(self) -> None:
        """Return None: no network comes with a folder that reads attributes off its images."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        return (
            "Single-trial response amplitudes were used as they were given; how they were acquired and estimated is "
            "not recorded with them."
        )

    def background(  # type: ignore[override] # `taken` removes the key
        self, participant: str
    ) -> Path | None:
        """Return the anatomical image to draw behind the voxels, if one is given."""
        return self._recording(participant).background

    def fingerprint(self, participant: str) -> str:
        """Return a digest of the participant's trials, responses and voxels, and of the stimuli that were shown."""
        recording = self._recording(participant)
        return digest(participant, recording.fingerprint(), self._stimuli.content(self._shown, recording.ids))
