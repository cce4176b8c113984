"""Images of volumes: NIfTI in one file, its header checked first, and written with the same bytes every time."""

from __future__ import annotations

import gzip
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from latentcortex import _gzip
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.errors import InputError, first_line

logger = logging.getLogger(__name__)

STARTS: Final[dict[bytes, tuple[int, str, Any, bytes]]] = {
    b"\x5c\x01\0\0": (348, "<", nib.Nifti1Header, b"n+1"),
    b"\0\0\x01\x5c": (348, ">", nib.Nifti1Header, b"n+1"),
    b"\x1c\x02\0\0": (540, "<", nib.Nifti2Header, b"n+2"),
    b"\0\0\x02\x1c": (540, ">", nib.Nifti2Header, b"n+2"),
}
"""How a file begins -> bytes of its header, their order, what reads it, and how it says that values follow in it."""
TYPES: Final = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""Code of a type of plain numbers -> what numpy calls it."""
OTHER_TYPES: Final = {
    1: "bits",
    32: "complex",
    128: "RGB",
    1536: "float128",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
MAX_VOXELS: Final = 512**3
"""A head at .5 mm has 512 voxels along each axis, and a mask at the resolution of recordings far fewer."""
MAX_START_BYTES: Final = 2**24
"""Of what programs write between header and values."""
MAX_LABEL: Final = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Grid:
    """An image of a volume.

    Parameters
    ----------
    values : ndarray of shape (x, y, z)
        Integers or floats.
    affine : ndarray of shape (4, 4)
        From indices of voxels to mm: right, anterior, superior.
    """

    values: NDArray[Any]
    affine: FloatArray


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a file says of its image.

    Parameters
    ----------
    shape : tuple of int
        Without axes of 1 behind the third.
    affine : ndarray of shape (4, 4)
    dtype : dtype
        Of the values as they are stored.
    start : int
        Bytes before them.
    scaling : tuple of float, optional
        Slope and intercept by which stored values become those that are meant.
    """

    shape: tuple[int, ...]
    affine: FloatArray
    dtype: np.dtype[Any]
    start: int
    scaling: tuple[float, float] | None

    @property
    def n_bytes(self) -> int:
        """Of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path, *, expected: str = "an image") -> NiftiHeader:
    """Read what a file says of its image, and see whether it can be so.

    Parameters
    ----------
    path : Path
    expected : str
        What it should be, for errors: `a mask`.

    Raises
    ------
    InputError
        If it is missing, is not NIfTI, says nothing of where left and right are or contradicts itself, holds no plain
        numbers or more axes than three, or claims more values than its file can hold, or any study needs.
    """
    header = _possible(path, expected)
    if len(header.shape) != 3:
        raise InputError(f"{path} is {header.shape}; expected {expected} (x, y, z): take one of its volumes.")
    return header


def read_series_header(path: Path) -> NiftiHeader:
    """Read what a file says of its volumes, one behind the other; of a single one, too.

    Returns
    -------
    NiftiHeader
        Its shape has four axes.

    Raises
    ------
    InputError
        As `read_header`, but for the number of axes.
    """
    header = _possible(path, "a series of volumes")
    if len(header.shape) not in (3, 4):
        raise InputError(f"{path} is {header.shape}; expected a series of volumes (x, y, z, trials).")
    return replace(header, shape=(*header.shape, 1)[:4])


def volumes(path: Path, header: NiftiHeader) -> Iterator[NDArray[Any]]:
    """Read the volumes of a series one after the other, in one pass that ends where the file does.

    Parameters
    ----------
    path : Path
    header : NiftiHeader
        From `read_series_header`.

    Yields
    ------
    ndarray of shape (x, y, z)
        Scaled; valid until the next one is asked for.

    Raises
    ------
    InputError
        If the file is damaged, or is shorter or longer than its header says.
    """
    n_volumes = header.shape[3]
    stored = np.empty(header.n_bytes // n_volumes, dtype=np.uint8)
    with _gzip.opened(path, expected="a NIfTI image") as handle:
        handle.read(header.start)
        for k in range(n_volumes):
            if _gzip.fill(handle, stored.data) < len(stored):
                raise InputError(
                    f"{path} is not a NIfTI image, or damaged: its header says that there are {n_volumes} volumes, and "
                    f"it ends within number {k + 1}."
                )
            yield _meant(np.ndarray(header.shape[:3], header.dtype, stored.data, order="F"), header)
        if handle.read(1):
            raise InputError(
                f"{path} is not a NIfTI image, or damaged: its header says that there are {n_volumes} volumes, and "
                "more follow."
            )


def _possible(path: Path, expected: str) -> NiftiHeader:
    """Read a header, and see whether the file can hold what it says."""
    with _gzip.opened(path, expected="a NIfTI image") as handle:
        header = _header(handle, path)
    if math.prod(header.shape[:3]) > MAX_VOXELS:
        raise InputError(f"{path} is {header.shape}; expected {expected} of at most {MAX_VOXELS:,} voxels.")
    size, possible = header.start + header.n_bytes, _gzip.max_unpacked_bytes(path)
    if size > possible:
        raise InputError(
            f"{path} is not a NIfTI image, or damaged: its header says {header.shape} of {header.dtype.name}, {size} "
            f"bytes, and the file has {possible} at most."
        )
    return header


def read_grid(path: Path, *, expected: str = "an image") -> Grid:
    """Read an image and all of its file, so that a checksum is compared.

    Raises
    ------
    InputError
        As `read_header`, and if the file is damaged, or is shorter or longer than its header says.
    """
    header = read_header(path, expected=expected)
    with _gzip.opened(path, expected="a NIfTI image") as handle:
        handle.read(header.start)
        stored = np.empty(header.n_bytes, dtype=np.uint8)
        done = _gzip.fill(handle, stored.data)
        if done < header.n_bytes or handle.read(1):
            follow = f"{done} follow" if done < header.n_bytes else "more follow"
            raise InputError(
                f"{path} is not a NIfTI image, or damaged: its header says that {header.n_bytes} bytes of values "
                f"follow, and {follow}."
            )
    return Grid(_meant(np.ndarray(header.shape, header.dtype, stored.data, order="F"), header), header.affine)


def _meant(stored: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """Turn stored values into those that are meant, in the byte order of the machine."""
    values = stored.astype(header.dtype.newbyteorder("="), copy=False)
    if header.scaling is None:
        return values
    scaled: NDArray[Any] = nib.volumeutils.apply_read_scaling(values, *header.scaling)
    return scaled


def grid_of(name: str, image: Any) -> Grid:
    """Take values and affine out of an image of nibabel.

    Raises
    ------
    InputError
        If it has not three axes, its values are no plain numbers, or its header says nothing of left and right.
    """
    values = np.asanyarray(image.dataobj)
    if values.ndim != 3 or values.dtype.kind not in "biuf":
        raise InputError(f"{name} is {values.shape} of {values.dtype}; expected an image of plain numbers (x, y, z).")
    header = getattr(image, "header", {})
    if isinstance(header, nib.Nifti1Header) and header["sform_code"] <= 0 and header["qform_code"] <= 0:
        raise InputError(
            f"{name} does not say where left and right are; give it an affine: image.set_sform(affine, 1)."
        )
    return Grid(values, np.asarray(image.affine, dtype=np.float64))


def _header(handle: BinaryIO, path: Path) -> NiftiHeader:
    """Read the header of an open file."""
    first = handle.read(4)
    if first not in STARTS:
        raise InputError(f"{path} is not a NIfTI image, or damaged: it starts with {first!r}.")
    size, order, kind, magic = STARTS[first]
    block = first + handle.read(size - 4)
    if len(block) < size:
        raise InputError(f"{path} is not a NIfTI image, or damaged: it ends within its header.")
    raw = kind(block, endianness=order, check=False)
    if not raw["magic"].item().startswith(magic):
        raise InputError(
            f"{path} is not a NIfTI image in one file (.nii or .nii.gz), which says where left and right are: convert "
            "it."
        )
    code, start = int(raw["datatype"]), float(raw["vox_offset"])
    if code not in TYPES:
        raise InputError(
            f"{path} holds values of the type {OTHER_TYPES.get(code, f'number {code}')}; expected plain numbers, one "
            "for each voxel: convert it."
        )
    if not (size + 4 <= start <= MAX_START_BYTES and start.is_integer()):
        raise InputError(f"{path} is not a NIfTI image, or damaged: its values start at byte {start:g}.")
    dtype = np.dtype(order + TYPES[code])
    return NiftiHeader(_shape(raw, path), _affine(raw, path), dtype, int(start), _scaling(raw, path))


def _shape(raw: Any, path: Path) -> tuple[int, ...]:
    """Read the axes; those of 1 behind the third are left out, and noted in the log."""
    n_axes, *axes = (int(n) for n in raw["dim"])
    shape = axes[: max(n_axes, 0)]
    if not 1 <= n_axes <= 7 or min(shape) < 1:
        raise InputError(f"{path} is not a NIfTI image, or damaged: its axes are {[n_axes, *axes]}.")
    if len(shape) > 3 and set(shape[3:]) == {1}:
        logger.info("%s has a fourth axis of one volume, which is left out.", path.name)
        shape = shape[:3]
    return tuple(shape)


def _affine(raw: Any, path: Path) -> FloatArray:
    """Read where voxels are; without a code nothing is known of that, and readers disagree about left and right."""
    if raw["sform_code"] <= 0 and raw["qform_code"] <= 0:
        raise InputError(
            f"{path} does not say where left and right are (its sform_code and qform_code are 0): set them with the "
            "tool that made it, or give the image that it was made from."
        )
    try:
        affine = np.asarray(raw.get_best_affine(), dtype=np.float64)
        other = (
            np.asarray(raw.get_qform(), dtype=np.float64) if min(raw["sform_code"], raw["qform_code"]) > 0 else affine
        )
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        raise InputError(f"{path} does not say where its voxels are: {first_line(error)}.") from None
    sides = [_sides(one) for one in (affine, other)]
    if sides[0] is None:
        raise InputError(
            f"{path}: its affine must be a finite matrix that can be inverted, so that voxels have a place; got "
            f"{affine.tolist()}."
        )
    if sides[1] not in (None, sides[0]):
        raise InputError(
            f"{path} contradicts itself: its axes run towards {sides[0]} by its sform and {sides[1]} by its qform; "
            "make them agree."
        )
    return affine


def _sides(affine: FloatArray) -> str | None:
    """Tell towards where axes run, such as RAS; None for a matrix that says nothing of it."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        return None
    return "".join(nib.orientations.aff2axcodes(affine))


def _scaling(raw: Any, path: Path) -> tuple[float, float] | None:
    """Read slope and intercept; None where there are none."""
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return None
    if not np.isfinite(intercept):
        raise InputError(
            f"{path} is not a NIfTI image, or damaged: its scl_slope is {slope:g}, its scl_inter {intercept}."
        )
    return None if (slope, intercept) == (1, 0) else (slope, intercept)


def label_image(path: Path) -> tuple[NDArray[np.intp], FloatArray]:
    """Read an image of labels and its affine.

    Raises
    ------
    InputError
        As `read_grid`, and if its numbers are not whole.
    """
    grid = read_grid(path, expected="labels")
    labels = whole_numbers(grid.values)
    if labels is None:
        raise InputError(
            f"{path} is {grid.values.shape} of {grid.values.dtype}; expected labels, whole numbers (x, y, z)."
        )
    return labels, grid.affine


def whole_numbers(values: NDArray[Any]) -> NDArray[np.intp] | None:
    """Turn numbers of any type into labels; None if one is not finite, not whole or larger than 2^31 - 1."""
    if values.dtype.kind not in "biuf" or not values.size:
        return None
    if not (float(values.min()) >= -MAX_LABEL and float(values.max()) <= MAX_LABEL):  # nan is not, either
        return None
    labels = values.astype(np.intp)
    return labels if np.array_equal(labels, values) else None


def binary(values: NDArray[np.generic]) -> BoolArray | None:
    """Turn an image of 0 and 1 into true and false; None if there is anything else in it."""
    inside: BoolArray = values == 1
    return inside if np.all(inside | (values == 0)) else None


def packed(image: nib.Nifti1Image) -> bytes:
    """Write an image as the bytes of a .nii.gz; the same image gives the same bytes."""
    return gzip.compress(image.to_bytes(), mtime=0)


def as_nifti(path: Path) -> bytes:
    """Write an image that `read_grid` reads as the bytes of a .nii.gz."""
    grid = read_grid(path)
    # Few programs read integers of 8 bytes.
    values = grid.values if grid.values.dtype.name not in ("int64", "uint64") else grid.values.astype(np.float64)
    return packed(nib.Nifti1Image(values, grid.affine))
