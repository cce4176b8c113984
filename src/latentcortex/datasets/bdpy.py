"""Recordings of Kamitani's laboratory as bdpy keeps them: Deep Image Reconstruction, Generic Object Decoding, ...

ROOT/stimuli.tsv, ROOT/stimuli/      as in a folder, see `Folder`; images come on request, and may be absent
ROOT/sub-01_training.h5              BData with the samples that are fitted on
ROOT/sub-01_test.h5                  and those that are tested on, of the same voxels
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from latentcortex._arrays import BoolArray, digest, listed
from latentcortex._ranges import AnyNames, Participants
from latentcortex.datasets import check_participants, responses_of_slice
from latentcortex.datasets._bdata import BData
from latentcortex.datasets._sampling import sampled_print
from latentcortex.datasets._stimulus_table import StimulusTable
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Space, Unlocated
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

PARTICIPANT: Final = "{participant}"
PLACES: Final = {"session": "Session", "run": "Run"}
"""What a trial is described by -> the key of its column."""
INDEX: Final = "image_index"


@dataclass(eq=False)
class BdPyKeys:
    """What a study file may say of files of bdpy; see `BdPy`."""

    root: str
    participants: Participants = ("01",)
    _: KW_ONLY
    training: str = "sub-{participant}_training.h5"
    test: str = "sub-{participant}_test.h5"
    stimulus: str = "stimulus_name"
    voxels: str = "VoxelData"
    rois: AnyNames = ()
    any_size: bool = False

    def __post_init__(self) -> None:
        """Make of the keys what the dataset needs."""


class BdPy(BdPyKeys):
    """Samples of BData files, which bdpy writes, of one or more participants.

    Parameters
    ----------
    root : str
        The folder of `stimuli.tsv`, from which files are looked for.
    participants : sequence of str
        Their labels.
    training : str
        The file that is fitted on; `{participant}` stands for the label.
    test : str
        The file that is tested on; empty for none.
    stimulus : str
        The key of the column that says what was shown, `stimulus_name` or `image_index`: labels where the file maps
        numbers to these, and otherwise numbers as text. They are the ids of `stimuli.tsv`.
    voxels : str
        The key of the columns that are used.
    rois : sequence of str
        Keys of regions that do not overlap, such as ROI_V1 and ROI_V2: the atlas `voxels` of the report.
    any_size : bool
        Whether images may differ in size; each is resized by the extractor.

    Raises
    ------
    InputError
        If the folder is missing.
    """

    def __post_init__(self) -> None:
        self._root = Path(self.root)
        if not self._root.is_dir():
            raise InputError(f"Dataset folder {self._root} is not there; check `root`.")
        self.participants = check_participants(self.participants)
        self._stimuli = StimulusTable(self._root, self.any_size)
        self._samples: dict[str, Mapping[str, BData]] = {}
        self._trials: dict[str, tuple[pd.DataFrame, dict[str, BoolArray]]] = {}

    def _files(self, participant: str) -> Mapping[str, BData]:
        """Open the files of a participant, split -> file; all must have the same voxels."""
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")
        if participant not in self._samples:
            names = {"train": self.training, "test": self.test}
            files = {
                split: BData.open(self._root / name.replace(PARTICIPANT, participant))
                for split, name in names.items()
                if name
            }
            numbers = {split: len(file.columns_of(self.voxels)) for split, file in files.items()}
            if len(set(numbers.values())) > 1:
                paths = " and ".join(f"{file.path} has {numbers[split]}" for split, file in files.items())
                raise AlignmentError(f"{paths} columns of {self.voxels}; expected the same voxels in both.")
            self._samples[participant] = files
        return self._samples[participant]

    def _of(self, participant: str) -> tuple[pd.DataFrame, dict[str, BoolArray]]:
        """Describe the trials, and tell by split which samples show a stimulus."""
        if participant not in self._trials:
            tables, kept = [], {}
            for split, file in self._files(participant).items():
                shown = file.words(self.stimulus)
                places = {
                    name: [f"{split}{one}" if name == "session" else one for one in file.words(key)]
                    if key in file.values
                    else ["n/a"] * len(shown)
                    for name, key in PLACES.items()
                }
                table = pd.DataFrame({"stimulus": shown, **places, "n_repeats": 1, "split": split})
                kept[split] = (table["stimulus"] != "").to_numpy()
                if not kept[split].all():
                    n_blank = int((~kept[split]).sum())
                    logger.info("%d of %d samples of %s show no stimulus.", n_blank, len(table), file.path.name)
                table = table[kept[split]]
                self._stimuli.check_known(file.path, table.rename(columns={"stimulus": "stimulus_id"}), self.stimulus)
                tables.append(table)
            rows = pd.concat(tables, ignore_index=True)
            both = sorted(
                set(rows["stimulus"][rows["split"] == "train"]) & set(rows["stimulus"][rows["split"] == "test"])
            )
            if both:
                raise InputError(
                    f"{len(both)} stimuli are in the training and in the test file: {listed(both)}; numbers that count "
                    "each file's own images need a `stimulus` whose labels differ."
                )
            if self.stimulus == INDEX:
                logger.warning(
                    "%s of Generic Object Decoding was wrong in versions of its record before the fifth: check yours.",
                    INDEX,
                )
            self._trials[participant] = rows, kept
        return self._trials[participant]

    @cached_property
    def _shown(self) -> pd.DataFrame:
        return self._stimuli.shown({name for one in self.participants for name in self._of(one)[0]["stimulus"]})

    def stimuli(self) -> Stimuli:
        """Return the stimuli that any of the participants saw, in the order of `stimuli.tsv`."""
        return self._stimuli.stimuli(self._shown)

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials: those of the training file, then those of the test file."""
        rows = self._of(participant)[0]
        return rows if self.test else rows.drop(columns="split")

    def space(self, participant: str) -> Space:
        """Return how many voxels there are: their positions are not used."""
        return Unlocated(len(next(iter(self._files(participant).values())).columns_of(self.voxels)))

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of consecutive voxels, from both files."""
        (rows, kept), space = self._of(participant), self.space(participant)
        start, stop, _ = voxels.indices(space.n_voxels)
        parts = [
            file.read(file.columns_of(self.voxels)[start:stop])[kept[split]]
            for split, file in self._files(participant).items()
        ]
        return responses_of_slice(np.concatenate(parts).astype(np.float32), rows, space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return what the file says of each voxel, by key; with `rois` also the region of each."""
        file = next(iter(self._files(participant).values()))
        columns = file.columns_of(self.voxels)
        table = pd.DataFrame({key: values[columns] for key, values in file.values.items() if key != self.voxels})
        table = table.loc[:, table.notna().any() & (table != 0).any()]
        if self.rois:
            atlas = self._atlas(file)
            table.insert(0, "region", [atlas.names.get(label, "n/a") for label in atlas.labels.tolist()])
        return {"voxels": table}

    def _atlas(self, file: BData) -> Atlas:
        """Make an atlas of the regions that are asked for."""
        columns = file.columns_of(self.voxels)
        masks = {roi: np.isin(columns, file.columns_of(roi)) for roi in self.rois}
        table = pd.DataFrame({roi: np.where(mask, "1", "0") for roi, mask in masks.items()}, index=columns)
        return Atlas.listed(table, file.path)

    def regions(self, participant: str) -> Atlas | None:
        """Return the regions that `rois` names: `atlas = "voxels"` in [report] uses them."""
        return self._atlas(next(iter(self._files(participant).values()))) if self.rois else None

    def probe(self) -> None:
        """Return None: no network comes with these files that reads attributes off images."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        return (
            f"Responses are the samples of BData files as they were given, columns {self.voxels}; how they were "
            "acquired and averaged is not recorded with them."
        )

    def fingerprint(self, participant: str) -> str:
        """Return a digest of the trials, samples of the files, and the stimuli that were shown."""
        rows = self._of(participant)[0]
        files = [sampled_print(file.path) for file in self._files(participant).values()]
        shown = self._stimuli.content(self._shown, rows["stimulus"])
        return digest(participant, self.voxels, self.rois, files, rows.to_numpy().tolist(), shown)
