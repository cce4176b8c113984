"""Responses in HDF5 and CIFTI, of which some voxels are read at a time, as `_npy.Matrix` reads those of .npy."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import h5py
import nibabel as nib
import numpy as np
from nibabel.cifti2.cifti2_axes import BrainModelAxis
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import IntArray, listed
from latentcortex.datasets import _hdf5
from latentcortex.errors import AlignmentError, InputError, first_line

logger = logging.getLogger(__name__)

HDF5: Final = (".h5", ".hdf5", ".mat")
CIFTI: Final = (".dtseries.nii", ".dscalar.nii")
CORTEX: Final = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")


class Rows(NamedTuple):
    """How many rows of responses there must be.

    Parameters
    ----------
    n : int
    table : Path
        The table that says so.
    """

    n: int
    table: Path

    def check(self, path: Path, shape: tuple[int, ...], kind: str) -> None:
        """Raise `AlignmentError` unless an array has two axes and one row per trial."""
        if len(shape) == 2 and shape[0] == self.n:
            return
        turned = " It may be transposed." if len(shape) == 2 and shape[1] == self.n else ""
        raise AlignmentError(
            f"{path} is {shape}, {self.table.name} has {self.n} rows; expected one row per trial and one column per "
            f"{kind}.{turned}"
        )


class ResponseMatrix(Protocol):
    """Responses on the disk, one row per trial, of which some columns are read at a time."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Trials and voxels."""
        ...

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start)."""
        ...


@dataclass(frozen=True)
class HDF5Matrix:
    """A two-dimensional array in an HDF5 file.

    Parameters
    ----------
    path : Path
    key : str
    shape : (n_trials, n_voxels)
    """

    path: Path
    key: str
    shape: tuple[int, int]

    @classmethod
    def open(cls, path: Path, key: str, rows: Rows) -> HDF5Matrix:
        """Find the array, without reading a value; `key` may be empty where there is one array.

        Raises
        ------
        InputError
            If there is no such array, or several and none is named.
        AlignmentError
            If it has not one row per trial.
        """
        with _hdf5.opened(path, expected="responses as HDF5") as file:
            if not key:
                keys = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
                if len(keys) != 1:
                    raise InputError(
                        f"{path} has {listed(keys) or 'no array'}; name the array of responses as "
                        f"{path.name}:NAME in `responses` in [dataset]."
                    )
                key = keys[0]
            dataset = _hdf5.array(file, key, path)
            if _hdf5.by_matlab(dataset):
                logger.warning("%s is from MATLAB: its axes are in the opposite order here.", path.name)
            rows.check(path, tuple(dataset.shape), "voxel")
            return cls(path, key, (dataset.shape[0], dataset.shape[1]))

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start)."""
        with _hdf5.opened(self.path, expected="responses as HDF5") as file:
            values = np.asarray(_hdf5.array(file, self.key, self.path)[:, start:stop])
        return values if rows is None else values[rows]


@dataclass(frozen=True, eq=False)
class CiftiMatrix:
    """Grayordinates of a CIFTI file; on cortex all vertices, left then right, nan where there is none.

    Parameters
    ----------
    path : Path
    shape : (n_trials, n_voxels)
    places : ndarray of int, shape (n_voxels,), optional
        Of each vertex the grayordinate, -1 for none; without it grayordinates are taken as they are.
    """

    path: Path
    shape: tuple[int, int]
    places: IntArray | None

    @classmethod
    def open(cls, path: Path, rows: Rows, *, on_cortex: bool) -> CiftiMatrix:
        """Read the header of a file.

        Raises
        ------
        InputError
            If it is missing, damaged, or has no axis of grayordinates.
        AlignmentError
            If it has not one row per trial.
        """
        image = _cifti(path)
        rows.check(path, tuple(image.shape), "grayordinate")
        axis = image.header.get_axis(1)
        if not isinstance(axis, BrainModelAxis):
            raise InputError(f"{path} has no axis of grayordinates but {type(axis).__name__}; expected a dense file.")
        if not on_cortex:
            logger.info("Positions of the grayordinates of %s are not used; name a template for cortex.", path.name)
            return cls(path, (image.shape[0], image.shape[1]), None)
        missing = [name for name in CORTEX if name not in axis.nvertices]
        if missing:
            raise InputError(f"{path} has no {listed(missing)}; expected both hemispheres, or no template.")
        places = []
        for name in CORTEX:
            of_side = np.full(axis.nvertices[name], -1, dtype=np.intp)
            here = np.flatnonzero(axis.name == name)
            of_side[axis.vertex[here]] = here
            places.append(of_side)
        n_left_out = image.shape[1] - sum(int((one >= 0).sum()) for one in places)
        if n_left_out:
            logger.info("%d of %d grayordinates are not on cortex and are left out.", n_left_out, image.shape[1])
        whole = np.concatenate(places)
        return cls(path, (image.shape[0], len(whole)), whole)

    def columns(self, start: int, stop: int, rows: IntArray | None = None) -> NDArray[Any]:
        """Read consecutive voxels, of all trials or of some, (n_rows, stop - start)."""
        stored = _cifti(self.path).dataobj
        if self.places is None:
            values = np.asarray(stored[:, start:stop])
        else:
            wanted = self.places[start:stop]
            values, present = np.full((self.shape[0], len(wanted)), np.nan, dtype=np.float32), wanted >= 0
            if present.any():
                low, high = int(wanted[present].min()), int(wanted[present].max()) + 1
                values[:, present] = np.asarray(stored[:, low:high])[:, wanted[present] - low]
        return values if rows is None else values[rows]


def _cifti(path: Path) -> Any:
    """Open a CIFTI file; its values are read when they are asked for."""
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a CIFTI file.")
    _files.refuse_pointer(path)
    try:
        image = nib.load(path)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, ValueError) as error:
        if _files.is_refused(error):
            raise
        raise InputError(f"{path} is not a CIFTI file, or damaged: {first_line(error)}.") from None
    if not isinstance(image, nib.Cifti2Image):
        raise InputError(f"{path} is {type(image).__name__}; expected a CIFTI file.")
    return image
