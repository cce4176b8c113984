"""The recording of one participant in a folder: trials, responses on the disk, and where the voxels are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from latentcortex import _files, _gifti
from latentcortex._arrays import FloatArray, IntArray, digest, fingerprint, listed
from latentcortex._nifti import read_grid, read_series_header, volumes
from latentcortex._npy import Matrix
from latentcortex.datasets._voxel_major import TrialBlocks, voxel_major
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Space, Surface, Unlocated, Volume

logger = logging.getLogger(__name__)

RESPONSES: Final = "responses.npy"
SERIES: Final = ("responses.nii.gz", "responses.nii")
"""NIfTI series in place of an array: one volume per trial."""
SURFACES: Final = {"left": "responses_hemi-L.func.gii", "right": "responses_hemi-R.func.gii"}
"""GIFTI files of vertices in place of an array: one data array per trial in each."""
TRIALS: Final = "trials.tsv"


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


@dataclass(frozen=True, eq=False)
class Recording:
    """Trials, responses and voxels of one participant in a folder.

    Parameters
    ----------
    root : Path
        The dataset's folder.
    folder : Path
        Where trials and responses of the participant lie: a folder below, or the dataset's own.
    table : DataFrame
        The participant's rows of `trials.tsv`; the index numbers the rows of the file, where the header is the first.
    trial_rows : ndarray of int, shape (n_trials,)
        The rows of the responses that are the participant's, from 0.
    n_rows : int
        Rows of the responses in all: those of `trials.tsv`.
    placement : Placement
    scratch : Path
        Where a copy by voxel of a series of volumes is kept.
    """

    root: Path
    folder: Path
    table: pd.DataFrame
    trial_rows: IntArray
    n_rows: int
    placement: Placement
    scratch: Path

    @property
    def ids(self) -> tuple[str, ...]:
        """The stimuli that were shown, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.table["stimulus_id"]))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The trials as a dataset describes them; see `Dataset.rows`."""
        names = {"stimulus_id": "stimulus", "session": "session", "run": "run"}
        rows = self.table[list(names)].rename(columns=names).reset_index(drop=True).assign(n_repeats=1)
        if "split" not in self.table.columns:
            return rows
        splits = self.table.groupby("stimulus_id")["split"].agg(lambda values: listed(sorted(set(values))))
        mixed = splits[splits.str.contains(", ")]
        if len(mixed):
            both = listed(f"{name} ({values})" for name, values in mixed.items())
            raise InputError(
                f"{self.folder / TRIALS} has stimuli in two splits: {both}; give all trials of one the same split."
            )
        return rows.assign(split=self.table["split"].to_numpy())

    @cached_property
    def path(self) -> Path:
        """The file of the responses."""
        present = [name for name in (RESPONSES, *SERIES, SURFACES["left"]) if (self.folder / name).is_file()]
        if len(present) > 1:
            raise InputError(f"{self.folder} has {' and '.join(present)}; keep one of them.")
        if not present:
            raise InputError(
                f"{self.folder / RESPONSES} is missing; expected an array (n_trials, n_voxels), or with `mask` a "
                f"series of volumes {SERIES[0]}, or with `template` {' and '.join(SURFACES.values())}."
            )
        return self.folder / present[0]

    @cached_property
    def matrix(self) -> Matrix | TrialBlocks:
        """The responses on the disk: one row per trial, one column per voxel."""
        if self.path.name == RESPONSES:
            return self._array
        return self._copy_of_surfaces if self.path.name == SURFACES["left"] else self._copy_of_volumes

    @property
    def _array(self) -> Matrix:
        """The array of the file, one row per row of the trials; a cast to float32 is logged."""
        path = self.path
        matrix = Matrix.open(path)
        if matrix.dtype.kind not in "fiu":
            raise InputError(f"{path} holds {matrix.dtype}; expected floating-point numbers.")
        if len(matrix.shape) != 2 or matrix.shape[0] != self.n_rows:
            raise AlignmentError(
                f"{path} is {matrix.shape}, {TRIALS} has {self.n_rows} rows; "
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
                f"{path} has {header.shape[3]} volumes, {TRIALS} {self.n_rows} rows; expected one volume per trial."
            )
        if header.shape[:3] != volume.shape or not np.allclose(header.affine, volume.affine, atol=1e-4):
            raise AlignmentError(
                f"{path} is on another grid than {self._mask}: {header.shape[:3]} and {volume.shape} voxels, affines "
                f"{header.affine.tolist()} and {volume.affine.tolist()}; resample one of them."
            )
        shape = self.n_rows, volume.n_voxels
        key = digest("by voxel", self._hash(path), fingerprint(volume.mask))[:32]
        trials = (amplitudes[volume.mask] for amplitudes in volumes(path, header))
        return voxel_major(trials, shape, source=path, key=key, scratch=self.scratch)

    @property
    def _copy_of_surfaces(self) -> TrialBlocks:
        """All vertices of both hemispheres, left then right, from a copy by voxel."""
        paths = {side: self.folder / name for side, name in SURFACES.items()}
        shapes = {side: _gifti.series_shape(path) for side, path in paths.items()}
        for side, (n_arrays, _) in shapes.items():
            if n_arrays != self.n_rows:
                raise AlignmentError(
                    f"{paths[side]} has {n_arrays} arrays, {TRIALS} {self.n_rows} rows; expected one array per trial."
                )
        key = digest("by voxel", [self._hash(path) for path in paths.values()])[:32]
        both = zip(*(_gifti.series(path, side=side) for side, path in paths.items()), strict=True)
        shape = self.n_rows, sum(n_vertices for _, n_vertices in shapes.values())
        trials = (np.concatenate(pair) for pair in both)
        return voxel_major(trials, shape, source=paths["left"], key=key, scratch=self.scratch)

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

    def _find_file(self, name: str) -> Path:
        """Return the participant's file of this name if there is one, else that of all participants."""
        path = self.folder / name
        return path if path.exists() else self.root / name

    @property
    def _mask(self) -> Path | None:
        return self._find_file(self.placement.mask) if self.placement.mask else None

    @cached_property
    def _volume(self) -> Volume | None:
        """The voxels of the mask, if there is one."""
        placement, mask = self.placement, self._mask
        if mask is None or placement.reference is None:
            return None
        transform = placement.transform or ""
        if transform and self._find_file(transform).is_dir():
            transform = str(self._find_file(transform))
        return Volume.read(mask, reference=placement.reference, template=placement.template or "", transform=transform)

    @cached_property
    def background(self) -> Path | None:
        """The anatomical image to draw behind the voxels, if one is given."""
        if self.placement.background is None:
            return None
        path = self._find_file(self.placement.background)
        if not (read_grid(path, expected="anatomy").values > 0).any():
            raise InputError(f"{path}, the `background`, is nowhere above 0; expected anatomy.")
        return path

    def fingerprint(self) -> str:
        """Return a digest of the trials, the responses and the files that say where the voxels are."""
        background, volume = self.background, self._volume
        right = [self.folder / SURFACES["right"]] if self.path.name == SURFACES["left"] else []
        paths = [self.path, *right, *filter(None, (self._mask, background))]
        placed = [] if volume is None else [volume.description, *volume.digests]
        trials = [self.table.columns.tolist(), self.table.to_numpy().tolist(), self.trial_rows.tolist(), self.n_rows]
        return digest(self.placement.template, trials, [self._hash(path) for path in paths], placed)
