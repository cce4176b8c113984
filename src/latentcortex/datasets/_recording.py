"""The recording of one participant in a folder: trials, responses on the disk, and where the voxels are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files, _gifti
from latentcortex._arrays import FloatArray, IntArray, digest, fingerprint, listed
from latentcortex._nifti import read_grid, read_series_header, volumes
from latentcortex._npy import Matrix
from latentcortex.datasets._response_files import CIFTI, HDF5, CiftiMatrix, HDF5Matrix, ResponseMatrix, Rows
from latentcortex.datasets._trials import described, note_scale
from latentcortex.datasets._voxel_major import TrialBlocks, voxel_major
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Atlas, Space, Surface, Unlocated, Volume

logger = logging.getLogger(__name__)

RESPONSES: Final = "responses.npy"
SERIES: Final = ("responses.nii.gz", "responses.nii")
"""NIfTI series in place of an array: one volume per trial."""
SURFACES: Final = {"left": "responses_hemi-L.func.gii", "right": "responses_hemi-R.func.gii"}
"""GIFTI files of vertices in place of an array: one data array per trial in each."""
TRIALS: Final = "trials.tsv"
VOXELS: Final = "voxels.tsv"
HEMISPHERE: Final = "{hemi}"
LETTERS: Final = {"left": "L", "right": "R"}
SAMPLED: Final = 16
"""Voxels by which the unit of the amplitudes is judged."""


@dataclass(frozen=True)
class Placement:
    """The keys of [dataset] that say where voxels are; see `Folder`.

    Parameters
    ----------
    template, mask, reference, transform, background : str, optional
    """

    template: str | None = None
    mask: str | None = None
    reference: str | None = None
    transform: str | None = None
    background: str | None = None

    def __post_init__(self) -> None:
        of_mask = {"reference": self.reference, "transform": self.transform, "background": self.background}
        alone = [name for name, value in of_mask.items() if value] if not self.mask else []
        if alone:
            raise InputError(f"`{alone[0]}` in [dataset] is about voxels of a volume; give `mask`, too.")
        if self.mask and not self.reference:
            raise InputError(
                "`mask` in [dataset] needs `reference`: the space that it is in, such as MNI152NLin2009cAsym or T1w."
            )


def taken(dataset: object, key: str) -> Any:
    """Take a key of [dataset] out of a dataset whose method, for one participant, has the same name."""
    return vars(dataset).pop(key)


@dataclass(frozen=True)
class Files:
    """Where the files of one participant are.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    folder : Path
        Where trials and responses of the participant lie: a folder below, or the dataset's own.
    trials : Path
        The table of trials.
    responses : str
        The file of the responses as the study names it; empty for one of the usual names.
    scratch : Path
        Where a copy by voxel of a series of volumes is kept.
    """

    root: Path
    folder: Path
    trials: Path
    responses: str
    scratch: Path

    def find(self, name: str) -> Path:
        """Return the participant's file of this name if there is one, else that of all participants."""
        path = self.folder / name
        return path if path.exists() else self.root / name


@dataclass(frozen=True, eq=False)
class Recording:
    """Trials, responses and voxels of one participant in a folder.

    Parameters
    ----------
    files : Files
    table : DataFrame
        The participant's rows of the table of trials, in the order of the responses; the index numbers the rows of the
        file, where the header is the first.
    trial_rows : ndarray of int, shape (n_trials,)
        The rows of the responses that are the participant's, from 0.
    n_rows : int
        Rows of the responses in all: those of the table of trials.
    placement : Placement
    """

    files: Files
    table: pd.DataFrame
    trial_rows: IntArray
    n_rows: int
    placement: Placement

    @property
    def ids(self) -> tuple[str, ...]:
        """The stimuli that were shown, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.table["stimulus_id"]))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The trials as a dataset describes them; see `Dataset.rows`."""
        return described(self.table, self.files.trials)

    @cached_property
    def path(self) -> Path:
        """The file of the responses."""
        if self.files.responses:
            return self.files.find(self.files.responses.partition(":")[0].replace(HEMISPHERE, "L"))
        folder = self.files.folder
        present = [name for name in (RESPONSES, *SERIES, SURFACES["left"]) if (folder / name).is_file()]
        if len(present) > 1:
            raise InputError(f"{folder} has {' and '.join(present)}; keep one of them.")
        if not present:
            raise InputError(
                f"{folder / RESPONSES} is missing; expected an array (n_trials, n_voxels), or with `mask` a series of "
                f"volumes {SERIES[0]}, or with `template` {' and '.join(SURFACES.values())}, or another file that "
                "`responses` in [dataset] names."
            )
        return folder / present[0]

    @cached_property
    def matrix(self) -> ResponseMatrix:
        """The responses on the disk: one row per trial, one column per voxel."""
        matrix = self._opened()
        note_scale(matrix.columns(0, min(SAMPLED, matrix.shape[1])), self.path.name)
        return matrix

    def _opened(self) -> ResponseMatrix:
        """Open the file by its kind."""
        path, rows = self.path, Rows(self.n_rows, self.files.trials)
        if path.name.endswith(".npy"):
            return self._array
        if path.name.endswith(HDF5):
            return HDF5Matrix.open(path, self.files.responses.partition(":")[2], rows)
        if path.name.endswith(CIFTI):
            return CiftiMatrix.open(path, rows, on_cortex=bool(self.placement.template))
        if path.name.endswith((".nii", ".nii.gz")):
            return self._copy_of_volumes
        if path.name.endswith(".gii"):
            return self._copy_of_surfaces
        kinds = listed((".npy", ".nii", ".nii.gz", ".gii", *CIFTI, *HDF5))
        raise InputError(f"{path} is of no kind that is read as responses ({kinds}); convert it.")

    @property
    def _array(self) -> Matrix:
        """The array of the file, one row per row of the trials; a cast to float32 is logged."""
        path = self.path
        matrix = Matrix.open(path)
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"{path} holds {matrix.dtype}; expected floating-point numbers.")
        if len(matrix.shape) != 2 or matrix.shape[0] != self.n_rows:
            raise AlignmentError(
                f"{path} is {matrix.shape}, {self.files.trials.name} has {self.n_rows} rows; "
                "expected one row per trial and one column per voxel."
            )
        if matrix.dtype != np.float32:
            logger.info("Responses were cast from %s to float32.", matrix.dtype, extra={"facts": {"file": path.name}})
        return matrix

    @property
    def _copy_of_volumes(self) -> TrialBlocks:
        """The voxels of the mask in a series of volumes, from a copy by voxel."""
        path, volume = self.path, self._volume
        if volume is None:
            raise InputError(f"{path} needs `mask` in [dataset], which says which of its voxels are used.")
        header = read_series_header(path)
        if header.shape[3] != self.n_rows:
            raise AlignmentError(
                f"{path} has {header.shape[3]} volumes, {self.files.trials.name} {self.n_rows} rows; "
                "expected one volume per trial."
            )
        if header.shape[:3] != volume.shape or not np.allclose(header.affine, volume.affine, atol=1e-4):
            raise AlignmentError(
                f"{path} is on another grid than {self._mask}: {header.shape[:3]} and {volume.shape} voxels, affines "
                f"{header.affine.tolist()} and {volume.affine.tolist()}; resample one of them."
            )
        shape = self.n_rows, volume.n_voxels
        key = digest("by voxel", self._hash(path), fingerprint(volume.mask))[:32]
        trials = (amplitudes[volume.mask] for amplitudes in volumes(path, header))
        return voxel_major(trials, shape, source=path, key=key, scratch=self.files.scratch)

    @property
    def _hemispheres(self) -> dict[str, Path]:
        """The files of both hemispheres."""
        name = self.files.responses
        if not name:
            return {side: self.files.folder / file for side, file in SURFACES.items()}
        if HEMISPHERE not in name:
            raise InputError(
                f"`responses` in [dataset], {name!r}, is one file of vertices; write {HEMISPHERE} where "
                "the files of both hemispheres have L and R."
            )
        return {side: self.files.find(name.replace(HEMISPHERE, letter)) for side, letter in LETTERS.items()}

    @property
    def _copy_of_surfaces(self) -> TrialBlocks:
        """All vertices of both hemispheres, left then right, from a copy by voxel."""
        paths = self._hemispheres
        shapes = {side: _gifti.series_shape(path) for side, path in paths.items()}
        for side, (n_arrays, _) in shapes.items():
            if n_arrays != self.n_rows:
                raise AlignmentError(
                    f"{paths[side]} has {n_arrays} arrays, {self.files.trials.name} {self.n_rows} "
                    "rows; expected one array per trial."
                )
        key = digest("by voxel", [self._hash(path) for path in paths.values()])[:32]
        both = zip(*(_gifti.series(path, side=side) for side, path in paths.items()), strict=True)
        shape = self.n_rows, sum(n_vertices for _, n_vertices in shapes.values())
        trials = (np.concatenate(pair) for pair in both)
        return voxel_major(trials, shape, source=paths["left"], key=key, scratch=self.files.scratch)

    def _hash(self, path: Path) -> str:
        """Return the SHA-256 of a file, which is read once in a run."""
        if path not in self._hashes:
            self._hashes[path] = _files.sha256(path)
        return self._hashes[path]

    @cached_property
    def _hashes(self) -> dict[Path, str]:
        return {}

    def read(self, start: int, stop: int) -> FloatArray:
        """Read the responses of consecutive voxels, float32 (n_trials, n_voxels).

        Raises
        ------
        InputError
            If a number is larger than float32 can hold: it names the first one.
        """
        matrix = self.matrix
        values = matrix.columns(start, stop, self.trial_rows if len(self.trial_rows) < self.n_rows else None)
        if values.dtype == np.float32:
            return values
        with np.errstate(over="ignore", under="ignore"):
            amplitudes = np.asarray(values, dtype=np.float32)
        too_large = np.isinf(amplitudes)
        if too_large.any() and (too_large := too_large & np.isfinite(values)).any():
            trial, column = (int(i[0]) for i in np.nonzero(too_large))
            raise InputError(
                f"{matrix.path} holds {values[trial, column]:.3g} in row {self.trial_rows[trial]}, column "
                f"{start + column} (counted from 0), of stimulus "
                f"{self.table['stimulus_id'].iloc[trial]}: larger than float32 can hold "
                f"({np.finfo(np.float32).max:.3g}); divide responses by their size."
            )
        return amplitudes

    @cached_property
    def space(self) -> Space:
        """Where the voxels are; there must be one for each column of the responses."""
        path, n_columns = self.matrix.path, self.matrix.shape[1]
        if self._volume is not None:
            if self._volume.n_voxels != n_columns:
                raise AlignmentError(
                    f"{path} has {n_columns} columns, {self._mask} {self._volume.n_voxels} voxels; "
                    "expected one column per voxel of the mask, in numpy's C order (as nilearn's maskers give them)."
                )
            return self._volume
        template = self.placement.template
        space: Space = Surface(template) if template else Unlocated(n_columns)
        if space.n_voxels != n_columns:
            raise AlignmentError(
                f"{path} has {n_columns} columns, {template} has {space.n_voxels} vertices; expected all of them, "
                "left then right, with nan where nothing was measured, or no template."
            )
        return space

    @property
    def _mask(self) -> Path | None:
        return self.files.find(self.placement.mask) if self.placement.mask else None

    @cached_property
    def _volume(self) -> Volume | None:
        """The voxels of the mask, if there is one."""
        placement, mask = self.placement, self._mask
        if mask is None or placement.reference is None:
            return None
        transform = placement.transform or ""
        if transform and self.files.find(transform).is_dir():
            transform = str(self.files.find(transform))
        return Volume.read(mask, reference=placement.reference, template=placement.template or "", transform=transform)

    @cached_property
    def voxels(self) -> pd.DataFrame | None:
        """What `voxels.tsv` says of each voxel, if there is such a file; its rows are the columns of the responses."""
        path = self.files.find(VOXELS)
        if not path.is_file():
            return None
        table = _files.read_tsv(path, needs=())
        if len(table) != self.space.n_voxels:
            raise AlignmentError(
                f"{path} has {len(table)} rows, {self.path} {self.space.n_voxels} voxels; expected one row per voxel."
            )
        return table

    @cached_property
    def regions(self) -> Atlas | None:
        """The regions that `voxels.tsv` lists; see `Atlas.listed`."""
        return None if self.voxels is None else Atlas.listed(self.voxels, self.files.find(VOXELS))

    @cached_property
    def background(self) -> Path | None:
        """The anatomical image to draw behind the voxels, if one is given."""
        if self.placement.background is None:
            return None
        path = self.files.find(self.placement.background)
        if not (read_grid(path, expected="anatomy").values > 0).any():
            raise InputError(f"{path}, the `background`, is nowhere above 0; expected anatomy.")
        return path

    def fingerprint(self) -> str:
        """Return a digest of the trials, the responses and the files that say where the voxels are."""
        background, volume = self.background, self._volume
        right = [self._hemispheres["right"]] if self.path.name.endswith(".gii") else []
        more = [self.files.find(VOXELS)] if self.voxels is not None else []
        paths = [self.path, *right, *more, *filter(None, (self._mask, background))]
        placed = [] if volume is None else [volume.description, *volume.digests]
        trials = [self.table.columns.tolist(), self.table.to_numpy().tolist(), self.trial_rows.tolist(), self.n_rows]
        return digest(self.placement.template, trials, [self._hash(path) for path in paths], placed)
