"""Slices through volumes: which show most, what lies on each, and the anatomy behind.

A slice asks for every one of its pixels which voxel it lies in. So values are never resampled, a voxel that is
undefined stays so, and any affine will do: nilearn's slicers draw nan as 0, resample oblique images, and where a slice
lies before an image's first voxel they show its last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from scipy import ndimage

from latentcortex import _files
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._nifti import grid_of, read_grid
from latentcortex.errors import InputError
from latentcortex.space import Volume

PIXEL_MM: Final = 0.6
"""A printed pixel of 300 to the inch in a slice of 25 mm."""
MARGIN_MM: Final = 4.0
CONTEXT_MM: Final = 20.0
"""How much of a participant's own anatomy is shown round the voxels."""
N_AXIAL: Final = 6
AXES: Final = "xyz"
ACROSS: Final = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}
"""Axes of mm that run rightwards and upwards on a slice across each axis."""
SIDES: Final = {"x": ("P", "A"), "y": ("L", "R"), "z": ("L", "R")}
"""What is on the left and on the right of a slice across each axis."""
AIR: Final = 0.06
"""Brightness of an image, relative to its brightest tissue, below which it is taken for what surrounds the head."""
DARKEST: Final = 0.45
"""Grey of the darkest tissue: anatomy is pale, so that dark colours are seen on it."""


@dataclass(frozen=True, eq=False)
class Backdrop:
    """Anatomy behind a map.

    Parameters
    ----------
    values : ndarray of shape (x, y, z)
        0 outside, 1 the brightest tissue.
    affine : ndarray of shape (4, 4)
        From indices to mm.
    brain_only : bool
        Whether it holds a brain and nothing else, so that all of it is shown.
    """

    values: FloatArray
    affine: FloatArray
    brain_only: bool = False

    @property
    def extent(self) -> FloatArray:
        """Least and largest x, y, z in mm of what is not air, (2, 3)."""
        ends = [np.flatnonzero((self.values > AIR).any(axis=tuple({0, 1, 2} - {k})))[[0, -1]] for k in range(3)]
        corners = np.array([[x, y, z] for x in ends[0] for y in ends[1] for z in ends[2]])
        places = corners @ self.affine[:3, :3].T + self.affine[:3, 3]
        return np.stack([places.min(0), places.max(0)])

    def grey(self, points: FloatArray) -> FloatArray:
        """Paint points in mm, (..., 3), in red, green, blue and opacity; transparent where there is air."""
        inverse = np.linalg.inv(self.affine)
        places = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
        amount = ndimage.map_coordinates(self.values, places, order=1, mode="constant", cval=0.0)
        tone = DARKEST + (0.97 - DARKEST) * np.clip(amount, 0, 1)
        return np.stack([tone, tone, tone, (amount > AIR).astype(np.float64)], axis=-1)


@dataclass(frozen=True, eq=False)
class Slice:
    """A plane through the brain, perpendicular to one axis.

    Parameters
    ----------
    axis : {"x", "y", "z"}
        That it is perpendicular to.
    mm : float
        Where on it.
    frame : ndarray of shape (2, 3)
        Least and largest x, y, z of what is drawn, in mm.
    """

    axis: str
    mm: float
    frame: FloatArray

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top in mm."""
        (left, bottom), (right, top) = self.frame[:, list(ACROSS[self.axis])].tolist()
        return left, right, bottom, top

    @property
    def title(self) -> str:
        """Say where it is."""
        return f"{self.axis} = {self.mm + 0.0:.4g} mm".replace("-", "−")

    def points(self) -> FloatArray:
        """Return where the pixels' centres are in mm, (height, width, 3), the upper row first."""
        left, right, bottom, top = self.extent
        across, up = (max(round((b - a) / PIXEL_MM), 1) for a, b in ((left, right), (bottom, top)))
        points = np.full((up, across, 3), self.mm)
        rightwards, upwards = ACROSS[self.axis]
        points[..., rightwards] = left + (np.arange(across) + 0.5) * (right - left) / across
        points[..., upwards] = (top - (np.arange(up) + 0.5) * (top - bottom) / up)[:, None]
        return points

    def voxels(self, volume: Volume) -> IntArray:
        """Find the voxel that each pixel lies in, (height, width); -1 where there is none."""
        inverse = np.linalg.inv(volume.affine)
        nearest = np.rint(self.points() @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < volume.shape)).all(axis=-1)
        numbers = np.full(inside.shape, -1, dtype=np.intp)
        numbers[inside] = volume.numbers[tuple(nearest[inside].T)]
        return numbers


def slices_of(volumes: Sequence[Volume], backdrop: Backdrop | None) -> list[Slice]:
    """Choose slices that cover the voxels of all volumes.

    Axial ones each stand for as many voxels; a sagittal and a coronal one lie where most voxels are.
    """
    places = np.concatenate([one.coordinates for one in volumes])
    frame = frame_of(places, backdrop)
    step = float(max(nib.affines.voxel_sizes(volumes[0].affine).min(), 0.1))
    levels = np.quantile(places[:, 2], (np.arange(N_AXIAL) + 0.5) / N_AXIAL, method="nearest")
    axial = np.unique(np.round(levels, 1))
    chosen = [("z", float(mm)) for mm in axial] + [(axis, _fullest(places[:, AXES.index(axis)], step)) for axis in "xy"]
    return [Slice(axis, mm, frame) for axis, mm in chosen]


def frame_of(places: FloatArray, backdrop: Backdrop | None) -> FloatArray:
    """Frame all of a brain without its head, or what is near to the voxels: least and largest x, y, z in mm."""
    voxels = np.stack([places.min(0), places.max(0)])
    margin = np.array([[-MARGIN_MM], [MARGIN_MM]])
    if backdrop is None:
        return np.asarray(voxels + margin)
    head = backdrop.extent
    if not backdrop.brain_only:  # of the rest of the head and the neck as much as tells where the voxels are
        near = np.array([[-CONTEXT_MM], [CONTEXT_MM]]) + voxels
        head = np.stack([np.maximum(head[0], near[0]), np.minimum(head[1], near[1])])
    return np.asarray(np.stack([np.minimum(voxels[0], head[0]), np.maximum(voxels[1], head[1])]) + margin)


def _fullest(mm: FloatArray, step: float) -> float:
    """Find the place on an axis with the most voxels."""
    bins = np.floor((mm - mm.min()) / step + 0.5).astype(np.int64)
    numbers, counts = np.unique(bins, return_counts=True)
    fullest = np.sort(mm[bins == numbers[counts.argmax()]])
    return float(np.round(fullest[len(fullest) // 2], 1))  # where a voxel is, not between two


def behind(volume: Volume, background: Path | str | nib.Nifti1Image | None) -> Backdrop | None:
    """Find the anatomy behind a volume: what is given, or the template of an MNI152 reference; None for others.

    Raises
    ------
    InputError
        If the image that is given is not one.
    """
    if background is None:
        return _mni152() if volume.reference.startswith("MNI152") else None
    if isinstance(background, (str, Path)):
        grid = read_grid(Path(background), expected="anatomy")
    else:
        grid = grid_of("The background", background)
    values = np.nan_to_num(np.asarray(grid.values, dtype=np.float32))
    if not (values > 0).any():
        raise InputError("The background is nowhere above 0; expected an anatomical image (x, y, z).")
    brightest = float(np.percentile(values[values > 0], 99))
    return Backdrop(np.clip(values / brightest, 0, 1), grid.affine)


@lru_cache(maxsize=1)
def _mni152() -> Backdrop | None:
    """Read the brain that comes with nilearn, without importing nilearn, which takes seconds."""
    path = _files.inside("nilearn", "datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    if path is None or not path.is_file():
        return None
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    return Backdrop(values / values.max(), np.asarray(image.affine, dtype=np.float64), brain_only=True)
