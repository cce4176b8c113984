"""A plain folder: how somebody with arrays starts.

FOLDER/stimuli.tsv     stimulus_id, stim_file, caption (and caption_2, ...), split, ...
FOLDER/trials.tsv      stimulus_id, session, run, split; row i describes row i of responses.npy
FOLDER/responses.npy   (n_trials, n_voxels), float
FOLDER/stimuli/        the images
FOLDER/mask.nii.gz     if voxels are those of a volume: the columns of responses.npy in numpy's C order
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from latentcortex import _files
from latentcortex._arrays import digest, listed, unique_ids
from latentcortex._images import ImageFiles
from latentcortex._nifti import read_grid
from latentcortex._npy import Matrix
from latentcortex.datasets import labels, of_slice
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import Responses
from latentcortex.space import Bare, Space, Surface, Volume
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)


class Folder:
    """Stimuli and responses of one participant in a folder.

    Parameters
    ----------
    root : str
        The folder.
    participants : sequence of str
        The label of the one participant.
    template : str, optional
        Cortex whose vertices (left, then right hemisphere, all) are the columns of `responses.npy`: the name of a
        template or the folder of a subject, see `space.Surface`. With `mask`, the cortex that its voxels are drawn on.
        Without either the voxels have no known position.
    mask : str, optional
        NIfTI image of 0 and 1 in the folder, whose voxels, in numpy's C order as nilearn's maskers give them, are the
        columns of `responses.npy`.
    reference : str, optional
        With `mask`: the space that it is in, such as `MNI152NLin2009cAsym` or `T1w`.
    transform : str, optional
        With `mask` and `template`: where the template's surfaces are among the voxels, a folder as pycortex writes it
        (within this folder, or by its name among the template's `transforms`). By default they are in the mm of the
        reference; those of fsaverage are brought to MNI152.
    background : str, optional
        With `mask`: anatomical image in the folder, in the mm of the mask, drawn behind cuts; of MNI152 there is one.

    Raises
    ------
    InputError
        If the folder is missing, or `mask` and what belongs to it are not given together.
    """

    def __init__(
        self,
        root: str,
        participants: Sequence[str] = ("01",),
        template: str | None = None,
        *,
        mask: str | None = None,
        reference: str | None = None,
        transform: str | None = None,
        background: str | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"Dataset folder {self.root} is not there; check `root`.")
        self.participants = labels(participants)
        if len(self.participants) != 1:
            raise InputError(f"A folder holds one participant; got {len(self.participants)}.")
        self.template, self.mask, self.reference, self.transform = template, mask, reference, transform
        self._background = background
        alone = [name for name, value in self._of_mask.items() if value] if not mask else []
        if alone:
            raise InputError(f"`{alone[0]}` in [dataset] is about voxels of a volume; give `mask`, too.")
        if mask and not reference:
            raise InputError(
                "`mask` in [dataset] needs `reference`: the space that it is in, such as MNI152NLin2009cAsym or T1w."
            )

    @property
    def _of_mask(self) -> dict[str, str | None]:
        """What is said of the voxels of a mask."""
        return {"reference": self.reference, "transform": self.transform, "background": self._background}

    @cached_property
    def _volume(self) -> Volume | None:
        """The voxels of the mask, if there is one."""
        if self.mask is None or self.reference is None:
            return None
        return Volume.read(
            self.root / self.mask,
            reference=self.reference,
            template=self.template or "",
            transform=self._transform or "",
        )

    @property
    def _transform(self) -> str | None:
        """The transform within the folder, or by its name."""
        inside = self.root / (self.transform or "")
        return str(inside) if self.transform and inside.is_dir() else self.transform

    @cached_property
    def _place(self) -> Space:
        """Where the voxels are; there must be one for each column of the responses."""
        path, n_columns = self._matrix.path, self._matrix.shape[1]
        if self._volume is not None:
            if self._volume.n_voxels != n_columns:
                raise AlignmentError(
                    f"{path} has {n_columns} columns, {self.root / str(self.mask)} {self._volume.n_voxels} voxels; "
                    "expected one column per voxel of the mask, in numpy's C order (as nilearn's maskers give them)."
                )
            return self._volume
        space: Space = Surface(self.template) if self.template else Bare(n_columns)
        if space.n_voxels != n_columns:
            raise AlignmentError(
                f"{path} has {n_columns} columns, {self.template} has {space.n_voxels} vertices; expected all of them, "
                "left then right, with nan where nothing was measured, or no template."
            )
        return space

    @cached_property
    def _trials(self) -> pd.DataFrame:
        path = self.root / "trials.tsv"
        table = _files.read_tsv(path, needs=("stimulus_id", "session", "run"))
        strange = table["stimulus_id"][~table["stimulus_id"].isin(self._table["stimulus_id"])]
        if len(strange):
            unknown, known = sorted(set(strange)), listed(self._table["stimulus_id"], 3)
            raise AlignmentError(
                f"{path} names {len(unknown)} stimuli that stimuli.tsv does not have: {listed(unknown)}, the first in "
                f"row {strange.index[0]}, column stimulus_id (it has {known}); ids are compared as text: 1 is not 001."
            )
        return table

    @cached_property
    def _table(self) -> pd.DataFrame:
        path = self.root / "stimuli.tsv"
        table = _files.read_tsv(path, needs=("stimulus_id", "stim_file"))
        unique_ids(table["stimulus_id"], what=f"stimulus_id in {path}")
        missing = [name for name in table["stim_file"] if not self._image_path(name).is_file()]
        if missing:
            raise InputError(f"{path} names images that are not in {self.root / 'stimuli'}: {listed(missing)}.")
        self._note_unused(set(table["stim_file"]))
        return table

    def _note_unused(self, used: set[str]) -> None:
        """Say which files beside the stimuli are none."""
        base = self.root / "stimuli"
        files = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
        unused = sorted(set(files) - {Path(name).as_posix() for name in used})
        if unused:
            logger.info("%d files in stimuli/ belong to no stimulus and are ignored: %s.", len(unused), listed(unused))

    def _image_path(self, name: str) -> Path:
        base = (self.root / "stimuli").resolve()
        path = (base / name).resolve()
        if not path.is_relative_to(base):
            raise InputError(f"stim_file {name!r} escapes {self.root / 'stimuli'}; give a path inside it.")
        return path

    def stimuli(self) -> Stimuli:
        """Return the stimuli."""
        table = self._table.set_index("stimulus_id")
        spoken = [name for name in table.columns if name == "caption" or name.startswith("caption_")]
        table["captions"] = [tuple(t for t in row if t and t != "n/a") for row in table[spoken].to_numpy()]
        paths = {str(name): self._image_path(file) for name, file in table["stim_file"].items()}
        return Stimuli(table, ImageFiles(paths))

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials; row i of `trials.tsv` describes row i of `responses.npy`."""
        self._check(participant)
        table = self._trials
        rows = table[["stimulus_id", "session", "run"]].rename(columns={"stimulus_id": "stimulus"}).assign(n_repeats=1)
        if "split" not in table.columns:
            return rows
        sides = table.groupby("stimulus_id")["split"].agg(lambda values: listed(sorted(set(values))))
        mixed = sides[sides.str.contains(", ")]
        if len(mixed):
            both = listed(f"{name} ({values})" for name, values in mixed.items())
            raise InputError(
                f"{self.root / 'trials.tsv'} has stimuli in two splits: {both}; give all trials of one the same split."
            )
        return rows.assign(split=table["split"])

    def space(self, participant: str) -> Space:
        """Say where the voxels are: in the mask, on the template, or nowhere that is known."""
        self._check(participant)
        return self._place

    @cached_property
    def _matrix(self) -> Matrix:
        """The responses on the disk: one row per trial, one column per voxel."""
        matrix = open_matrix(self.root / "responses.npy")
        if len(matrix.shape) != 2 or matrix.shape[0] != len(self._trials):
            raise AlignmentError(
                f"{matrix.path} is {matrix.shape}, trials.tsv has {len(self._trials)} rows; "
                "expected one row per trial and one column per voxel."
            )
        return matrix

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of some voxels."""
        rows, space = self.rows(participant), self.space(participant)
        start, stop, _ = voxels.indices(space.n_voxels)
        data = self._matrix.columns(start, stop)
        return of_slice(np.asarray(data, dtype=np.float32), rows, space, voxels)

    def _check(self, participant: str) -> None:
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {self.participants[0]!r}.")

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return nothing: a folder holds no more than the responses."""
        return {}

    def probe(self) -> None:
        """Return nothing: no network is known to read these images."""

    def background(self, participant: str) -> Path | None:
        """Return the anatomical image to draw behind the voxels, if one is given."""
        return self._anatomy

    @cached_property
    def _anatomy(self) -> Path | None:
        if self._background is None:
            return None
        path = self.root / self._background
        if not (read_grid(path, expected="anatomy").values > 0).any():
            raise InputError(f"{path}, the `background`, is nowhere above 0; expected anatomy.")
        return path

    def fingerprint(self, participant: str) -> str:
        """Hash the tables, the responses, what is known of the voxels and every image."""
        names = ["stimuli.tsv", "trials.tsv", "responses.npy", *filter(None, (self.mask, self._background))]
        images = [self._image_path(name) for name in self._table["stim_file"]]
        placed, _ = None if self._volume is None else [self._volume.description, *self._volume.prints], self._anatomy
        found = [_files.sha256(path) for path in [self.root / name for name in names] + images]
        return digest(participant, self.template, found, *([placed] if placed else []))


def open_matrix(path: Path) -> Matrix:
    """Open an array of numbers; refuse pickled objects and anything truncated."""
    if not path.is_file():
        raise InputError(f"{path} is missing; expected an array (n_trials, n_voxels).")
    matrix = Matrix.open(path)
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {matrix.dtype}; expected floating-point numbers.")
    if matrix.dtype != np.float32:
        logger.info("Responses were cast from %s to float32.", matrix.dtype, extra={"facts": {"file": path.name}})
    return matrix
