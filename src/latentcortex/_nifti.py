"""Images of volumes: read, checked, and written with the same bytes every time."""

from __future__ import annotations

import gzip
import logging
import zlib
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

UNREADABLE: Final = (nib.filebasedimages.ImageFileError, OSError, ValueError, EOFError, zlib.error)
"""What reading a damaged image may raise."""


def load_image(path: Path) -> Any:
    """Open an image and read all of it; a fourth axis of one volume is left out, and noted in the log.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a NIfTI image.")
    try:
        image: Any = nib.load(path)
        np.asanyarray(image.dataobj)
    except UNREADABLE as error:
        raise InputError(f"{path} is not a NIfTI image, or damaged: {str(error).splitlines()[0]}") from None
    if len(image.shape) == 4 and image.shape[3] == 1:
        logger.info("%s has a fourth axis of one volume, which is left out.", path.name)
        image = nib.Nifti1Image(np.asanyarray(image.dataobj)[..., 0], image.affine)
    return image


def label_image(path: Path) -> tuple[NDArray[np.intp], FloatArray]:
    """Read an image of labels and its affine.

    Raises
    ------
    InputError
        If it is not of three dimensions, or its numbers are not whole.
    """
    image = load_image(path)
    values = np.asanyarray(image.dataobj)
    if values.ndim != 3 or not np.array_equal(values, np.rint(values)):
        raise InputError(f"{path} is {values.shape} of {values.dtype}; expected labels, whole numbers (x, y, z).")
    return values.astype(np.intp), np.asarray(image.affine, dtype=np.float64)


def binary(values: NDArray[np.generic]) -> BoolArray | None:
    """Turn an image of 0 and 1 into true and false; None if there is anything else in it."""
    known = np.isin(values, (0, 1))
    return np.asarray(values == 1) if known.all() else None


def packed(image: nib.Nifti1Image) -> bytes:
    """Write an image as the bytes of a .nii.gz; the same image gives the same bytes."""
    return gzip.compress(image.to_bytes(), mtime=0)


def as_nifti(path: Path) -> bytes:
    """Write an image of any format that `load_image` reads as the bytes of a .nii.gz."""
    image = load_image(path)
    return packed(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine))
