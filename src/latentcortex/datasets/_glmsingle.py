"""What GLMsingle writes of one participant: betas by voxel, and what it found out about each voxel.

Python's file has `betasmd` (x, y, z, trials), or (voxels, 1, 1, trials); MATLAB's has `modelmd`, whose axes HDF5 shows
in the opposite order, (trials, z, y, x). In both a voxel is counted here in numpy's C order of (x, y, z).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, IntArray, digest, fingerprint, listed
from latentcortex.datasets import _hdf5
from latentcortex.datasets._sampling import sampled_print
from latentcortex.datasets._voxel_major import TrialBlocks, voxel_major
from latentcortex.errors import AlignmentError, InputError

logger = logging.getLogger(__name__)

Kind = Literal["B", "C", "D"]
STEMS: Final = {"B": "TYPEB_FITHRF", "C": "TYPEC_FITHRF_GLMDENOISE", "D": "TYPED_FITHRF_GLMDENOISE_RR"}
SUFFIXES: Final = (".hdf5", ".h5", ".mat")
DESIGN: Final = ("DESIGNINFO.mat", "DESIGNINFO.hdf5", "DESIGNINFO.h5")
BETAS: Final = ("betasmd", "modelmd")
OF_VOXELS: Final = ("R2", "HRFindex", "FRACvalue", "meanvol")
"""What is kept beside the maps: percent of variance, number of the HRF, fraction of ridge regression, mean signal."""
BATCH_BYTES: Final = 2**27
"""Of trials that are read at once where the file is copied."""
EXPECTED: Final = "GLMsingle's output as HDF5"


def found(folder: Path, kind: Kind) -> Path:
    """Find the file of one type of model in a folder.

    Returns
    -------
    Path
        The HDF5 file, or the pickled one where there is no other.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not there; expected the folder of GLMsingle's outputs: check `outputs`.")
    paths = [folder / f"{STEMS[kind]}{suffix}" for suffix in SUFFIXES]
    present = [path for path in paths if path.is_file() or path.is_symlink()]
    pickled = folder / f"{STEMS[kind]}.npy"
    if len(present) > 1:
        raise InputError(f"{folder} has {listed(path.name for path in present)}; keep one of them.")
    if present or pickled.is_file():
        return present[0] if present else pickled
    others = sorted(path.name for path in folder.glob("TYPE*") if path.suffix in (*SUFFIXES, ".npy"))
    there = f"it has {listed(others)}: `betas` in [dataset] names the type" if others else "it has none of its kind"
    raise InputError(f"{folder} has no {STEMS[kind]}.hdf5 or .mat; {there}.")


@dataclass(frozen=True, eq=False)
class Betas:
    """The amplitudes of all voxels and trials in one file.

    Parameters
    ----------
    path : Path
    key : str
        Of the array.
    is_reversed : bool
        Whether axes are in MATLAB's order.
    grid : tuple of int
        x, y, z; of voxels without a grid (n_voxels, 1, 1).
    n_trials : int
    by_line : bool
        Whether the trials of a voxel lie together, so that the file can be read by voxel as it is.
    """

    path: Path
    key: str
    is_reversed: bool
    grid: tuple[int, int, int]
    n_trials: int
    by_line: bool

    @classmethod
    def open(cls, path: Path) -> Betas:
        """Find the array in a file, and its axes; no value is read.

        Raises
        ------
        InputError
            If it has no such array, or one of other axes.
        """
        with _hdf5.opened(path, expected=EXPECTED) as file:
            keys = [key for key in BETAS if key in file]
            if len(keys) != 1:
                raise InputError(
                    f"{path} has {' and '.join(keys) or 'neither betasmd nor modelmd'}; expected one of betasmd (from "
                    f"Python) and modelmd (from MATLAB) among {listed(sorted(file))}."
                )
            dataset = _hdf5.array(file, keys[0], path)
            is_reversed = _hdf5.by_matlab(dataset) or keys[0] == "modelmd"
            shape = tuple(reversed(dataset.shape)) if is_reversed else tuple(dataset.shape)
            if dataset.ndim not in (2, 4) or 0 in shape or dataset.dtype.kind not in "fiu":
                raise InputError(
                    f"{keys[0]} in {path} is {dataset.dtype}, {dataset.shape}; expected amplitudes (x, y, z, trials) "
                    "or (voxels, 1, 1, trials), from MATLAB in the opposite order."
                )
            grid = (shape[0], 1, 1) if len(shape) == 2 else (shape[0], shape[1], shape[2])
            by_line = not is_reversed and dataset.chunks is None
            return cls(path, keys[0], is_reversed, grid, shape[-1], by_line)

    @property
    def is_flat(self) -> bool:
        """Whether voxels stand in a row, so that the file does not say where they are."""
        return self.grid[1:] == (1, 1)

    @property
    def n_voxels(self) -> int:
        """Of the whole grid."""
        return math.prod(self.grid)

    def check_trials(self, n_rows: int, table: Path) -> None:
        """Raise `AlignmentError` unless there is one row of the table for each trial."""
        if self.n_trials == n_rows:
            return
        turned = ""
        if n_rows == self.grid[0]:
            turned = " Its first axis is as long: it may have been written with its axes in the opposite order."
        raise AlignmentError(
            f"{self.path} has {self.n_trials} trials ({self.key}, {'x '.join(f'{n} ' for n in self.grid)}voxels), "
            f"{table} {n_rows} rows; expected one row per trial, blanks left out.{turned}"
        )

    def of_voxels(self, voxels: IntArray, scratch: Path) -> Lines | TrialBlocks:
        """Make what reads the amplitudes of these voxels of the grid, a few voxels at a time.

        A file in which the trials of a voxel lie far apart is copied once, see `voxel_major`.
        """
        if self.by_line:
            return Lines(self, voxels)
        key = digest("GLMsingle by voxel", sampled_print(self.path), self.key, fingerprint(voxels))[:32]
        shape = self.n_trials, len(voxels)
        return voxel_major(self._trials(voxels), shape, source=self.path, key=key, scratch=scratch)

    def _trials(self, voxels: IntArray) -> Iterator[FloatArray]:
        """Read trial after trial, a few at once; each (n_voxels,)."""
        with _hdf5.opened(self.path, expected=EXPECTED) as file:
            dataset = _hdf5.array(file, self.key, self.path)
            chunk = (dataset.chunks or dataset.shape)[0 if self.is_reversed else -1]
            fitting = max(BATCH_BYTES // (self.n_voxels * dataset.dtype.itemsize), 1)
            step = max(min(chunk, fitting), fitting - fitting % chunk, 1)
            for start in range(0, self.n_trials, step):
                part = slice(start, start + step)
                values = dataset[part].T if self.is_reversed else dataset[..., part]
                flat = np.ascontiguousarray(values).reshape(self.n_voxels, -1)
                yield from np.asarray(flat[voxels], dtype=np.float32).T

    def values(self, key: str, voxels: IntArray) -> FloatArray | None:
        """Read what the file says of each voxel; None where it has no such array of one number for each.

        Returns
        -------
        ndarray of shape (n_voxels,)
        """
        with _hdf5.opened(self.path, expected=EXPECTED) as file:
            if key not in file:
                return None
            dataset = _hdf5.array(file, key, self.path)
            if dataset.size != self.n_voxels:
                return None
            whole = np.asarray(dataset[()], dtype=np.float64)
            whole = whole.T if self.is_reversed else whole
            return np.asarray(np.ascontiguousarray(whole).reshape(-1)[voxels])

    def table(self, voxels: IntArray) -> pd.DataFrame:
        """Gather what the file says of each voxel; `HRFindex` counts from 0, whoever wrote it."""
        table = pd.DataFrame({"voxel": np.arange(len(voxels))})
        for key in OF_VOXELS:
            values = self.values(key, voxels)
            if values is not None:
                table[key] = values - self._first_hrf(values) if key == "HRFindex" else values
        return table

    def _first_hrf(self, values: FloatArray) -> int:
        """Tell whether HRFs are counted from 0, as Python does, or from 1, as MATLAB does and Python's text says."""
        finite = values[np.isfinite(values)]
        least = int(finite.min(initial=0 if not finite.size else np.inf))
        expected = 1 if self.is_reversed else 0
        if least < 0 or (expected == 1 and least == 0):
            whose = "MATLAB" if self.is_reversed else "Python"
            raise InputError(
                f"HRFindex in {self.path} has {least}; expected numbers that count from {expected}, as {whose} writes."
            )
        first = 1 if finite.size and finite.max() == N_HRFS else expected
        if first != expected:
            logger.warning("HRFindex in %s reaches %d: it was taken to count from 1.", self.path.name, N_HRFS)
        return first


N_HRFS: Final = 20
"""HRFs in GLMsingle's library."""


@dataclass(frozen=True, eq=False)
class Lines:
    """Amplitudes in a file in which the trials of each voxel lie together; see `Matrix`.

    Parameters
    ----------
    betas : Betas
    voxels : ndarray of int
        Numbers in the grid, of each column.
    """

    betas: Betas
    voxels: IntArray

    @property
    def path(self) -> Path:
        """The file."""
        return self.betas.path

    @property
    def shape(self) -> tuple[int, int]:
        """Trials and voxels."""
        return self.betas.n_trials, len(self.voxels)

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start)."""
        wanted = self.voxels[start:stop]
        out = np.empty((len(wanted), self.betas.n_trials), dtype=np.float32)
        with _hdf5.opened(self.path, expected=EXPECTED) as file:
            dataset = _hdf5.array(file, self.betas.key, self.path)
            width = self.betas.n_voxels if self.betas.is_flat else self.betas.grid[2]
            order = np.argsort(wanted, kind="stable")
            for at in np.split(order, np.flatnonzero(np.diff(wanted[order] // width)) + 1 if len(order) else []):
                if len(at):
                    out[at] = self._line(dataset, wanted[at], width)
        return out.T if rows is None else out.T[rows]

    def _line(self, dataset: h5py.Dataset, voxels: IntArray, width: int) -> FloatArray:
        """Read voxels of one line of the grid, (n_voxels, n_trials), a stretch without large holes at a time."""
        line, places = int(voxels[0]) // width, voxels % width
        out = np.empty((len(voxels), self.betas.n_trials), dtype=np.float32)
        for at in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) > MAX_HOLE) + 1):
            low, high = int(places[at[0]]), int(places[at[-1]]) + 1
            if self.betas.is_flat:
                stretch = dataset[low:high].reshape(high - low, -1)
            else:
                stretch = dataset[line // self.betas.grid[1], line % self.betas.grid[1], low:high]
            out[at] = stretch[places[at] - low]
        return out


MAX_HOLE: Final = 16
"""Voxels that are read although nobody wants them, rather than reading twice."""


def check_design(folder: Path, table: pd.DataFrame, path: Path) -> bool:
    """Compare the trials with the order of conditions that GLMsingle noted, if that file can be read.

    Returns
    -------
    bool
        Whether there is such a file.

    Raises
    ------
    AlignmentError
        If one condition is of two stimuli, or one stimulus of two conditions.
    """
    design = next((folder / name for name in DESIGN if (folder / name).is_file()), None)
    if design is None or not h5py.is_hdf5(design):
        return False
    with _hdf5.opened(design, expected="GLMsingle's DESIGNINFO") as file:
        if "stimorder" not in file:
            return False
        order = np.asarray(_hdf5.array(file, "stimorder", design)[()]).reshape(-1)
    if len(order) != len(table):
        raise AlignmentError(
            f"{design} has the conditions of {len(order)} trials, {path} {len(table)} rows; expected one row per trial."
        )
    conditions = pd.Series(order, index=table.index)
    for one, other, kind in (
        (conditions, table["stimulus_id"], "condition"),
        (table["stimulus_id"], conditions, "stimulus"),
    ):
        first = other.groupby(one.to_numpy()).transform("first")
        odd = np.flatnonzero((first != other).to_numpy())
        if len(odd):
            at = int(odd[0])
            raise AlignmentError(
                f"{path} does not go with {design}: trial {at + 1} (row {table.index[at]}) is {kind} {one.iloc[at]}, "
                f"of which an earlier trial is {first.iloc[at]}, and this one {other.iloc[at]}; give the trials in the "
                "order in which GLMsingle was given them."
            )
    return True
