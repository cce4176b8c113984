"""The stimuli of a folder: a table, and images where there are any.

FOLDER/stimuli.tsv       stimulus_id, stim_file, caption (and caption_2, ...), ...
FOLDER/stimuli/          the images; without a column stim_file there are none
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from latentcortex import _files
from latentcortex._arrays import listed, unique_ids
from latentcortex._images import ImageFiles
from latentcortex.errors import AlignmentError, InputError
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

TABLE: Final = "stimuli.tsv"


@dataclass(frozen=True, eq=False)
class StimulusTable:
    """What a folder says of its stimuli.

    Parameters
    ----------
    root : Path
        The folder.
    any_size : bool
        Whether images may differ in size.
    """

    root: Path
    any_size: bool = False

    @property
    def path(self) -> Path:
        """The table."""
        return self.root / TABLE

    @cached_property
    def listed(self) -> pd.DataFrame:
        """All stimuli of the table."""
        table = _files.read_tsv(self.path, needs=("stimulus_id",))
        unique_ids(table["stimulus_id"], what=f"stimulus_id in {self.path}")
        if "stim_file" in table.columns:
            self._note_unused(set(table["stim_file"]))
        elif (self.root / "stimuli").is_dir():
            raise InputError(
                f"{self.path} has no column stim_file, and there is {self.root / 'stimuli'}; name each image in the "
                f"table, or take the folder away (found {', '.join(table.columns)})."
            )
        else:
            logger.info("%s names no images (no column stim_file): stimuli are ids and captions.", self.path)
        return table

    @property
    def has_images(self) -> bool:
        """Whether the table names images."""
        return "stim_file" in self.listed.columns

    def check_known(self, path: Path, trials: pd.DataFrame, column: str = "stimulus_id") -> None:
        """Raise `AlignmentError` for trials of a stimulus that the table does not have."""
        strange = trials["stimulus_id"][~trials["stimulus_id"].isin(self.listed["stimulus_id"])]
        if len(strange):
            names, present = sorted(set(strange)), listed(self.listed["stimulus_id"], 3)
            raise AlignmentError(
                f"{path} names {len(names)} stimuli that {TABLE} does not have: {listed(names)}, the first in row "
                f"{strange.index[0]}, column {column} (it has {present}); ids are compared as text: 1 is no 001."
            )

    def shown(self, seen: Collection[str]) -> pd.DataFrame:
        """Take the stimuli that were seen; all of their images must be there."""
        shown = self.listed["stimulus_id"].isin(seen)
        if not shown.all():
            sentence = "%d of %d stimuli of stimuli.tsv were not shown and are left out."
            logger.info(sentence, int((~shown).sum()), len(self.listed))
        table = self.listed[shown]
        missing = [name for name in table.get("stim_file", ()) if not self.image_path(name).is_file()]
        if missing:
            raise InputError(f"{self.path} names images that are not in {self.root / 'stimuli'}: {listed(missing)}.")
        return table

    def image_path(self, name: str) -> Path:
        """Find an image; raise `InputError` for a name that leads out of the folder."""
        base = (self.root / "stimuli").resolve()
        path = (base / name).resolve()
        if not path.is_relative_to(base):
            raise InputError(f"stim_file {name!r} escapes {self.root / 'stimuli'}; give a path inside it.")
        return path

    def stimuli(self, shown: pd.DataFrame) -> Stimuli:
        """Make stimuli of rows of the table."""
        table = shown.set_index("stimulus_id")
        spoken = [name for name in table.columns if name == "caption" or name.startswith("caption_")]
        table["captions"] = [tuple(t for t in row if t and t != "n/a") for row in table[spoken].to_numpy()]
        if not self.has_images:
            return Stimuli.without_images(table)
        paths = {str(name): self.image_path(file) for name, file in table["stim_file"].items()}
        return Stimuli(table, ImageFiles(paths), any_size=self.any_size)

    def content(self, shown: pd.DataFrame, ids: Iterable[str]) -> tuple[Any, ...]:
        """Say all that these stimuli consist of, to be hashed."""
        table = shown[shown["stimulus_id"].isin(set(ids))]
        images = [_files.sha256(self.image_path(name)) for name in table.get("stim_file", ())]
        return table.columns.tolist(), table.to_numpy().tolist(), images

    def _note_unused(self, used: set[str]) -> None:
        """Say which files beside the stimuli are none."""
        base = self.root / "stimuli"
        files = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
        unused = sorted(set(files) - {Path(name).as_posix() for name in used})
        if unused:
            logger.info("%d files in stimuli/ belong to no stimulus and are ignored: %s.", len(unused), listed(unused))
