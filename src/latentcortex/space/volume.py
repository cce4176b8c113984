"""Voxels of a volume, in the brain of a template or of the participant."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex import _surfaces
from latentcortex._arrays import BoolArray, FloatArray, IntArray, digest, listed
from latentcortex._nifti import binary, read_grid
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import projection
from latentcortex.space.surface import Surface

logger = logging.getLogger(__name__)

MIN_CORTEX_FRACTION: Final = 0.1
"""Fraction of a mask's voxels in cortex below which an affine is probably wrong: of a whole brain it is a third."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of a volume: those of a mask, in numpy's C order, as nilearn's maskers count them.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Where there are voxels.
    affine : ndarray of shape (4, 4)
        From indices of voxels to mm of the reference: right, anterior, superior.
    reference : str
        The space of the voxels, letters and digits as in the names of files: `MNI152NLin2009cAsym`, `T1w`.
    template : str
        Cortex that they can be drawn on; empty for none.
    to_voxels : ndarray of shape (4, 4), optional
        From mm of the template's surfaces to indices of voxels. By default the surfaces are in the reference; those of
        fsaverage are brought from MNI305 to MNI152 by FreeSurfer's matrix.

    Raises
    ------
    InputError
        If the mask is not a volume or empty, a matrix cannot be inverted, the reference is not a label, or nothing is
        known of where the template is in the reference.
    """

    mask: BoolArray
    affine: FloatArray
    reference: str
    template: str = ""
    to_voxels: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.dtype != bool:
            raise InputError(f"A mask is bool of shape (x, y, z); got {self.mask.dtype} of shape {self.mask.shape}.")
        if not self.mask.any():
            raise InputError("The mask has no voxel; expected at least one.")
        if self.reference.upper().startswith("MNI") and not self.reference.startswith("MNI"):
            raise InputError(f"`reference` {self.reference!r}: did you mean {self.reference.upper()[:6]}, in capitals?")
        if not (self.reference.isascii() and self.reference.isalnum()):
            raise InputError(
                f"`reference` names the space of the voxels in letters and digits, such as MNI152NLin2009cAsym or T1w; "
                f"got {self.reference!r}."
            )
        object.__setattr__(self, "affine", projection.matrix("affine", self.affine))
        object.__setattr__(self, "template", _surfaces.resolved(self.template))
        if not self.template:
            if self.to_voxels is not None:
                raise InputError("A transform says where a cortex is; give `template`, too.")
            return
        to_voxels = self.to_voxels
        if to_voxels is None:
            to_voxels = projection.from_mm(self.affine, self.reference, self.template)
        object.__setattr__(self, "to_voxels", projection.matrix("to_voxels", to_voxels))

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        reference: str,
        template: str = "",
        transform: str = "",
    ) -> Volume:
        """Read a mask, and find out where cortex is among its voxels.

        Parameters
        ----------
        path : Path
            A NIfTI image of 0 and 1.
        reference, template : str
            As above.
        transform : str
            Where the template's surfaces are: the name of a transform of pycortex among the `transforms` of the
            template's folder, or another folder that holds one.

        Raises
        ------
        InputError
            If a file is missing or not what it must be, or no voxel lies in cortex.
        """
        grid = read_grid(Path(path), expected="a mask")
        mask = binary(grid.values)
        if mask is None:
            held = listed(np.unique(grid.values), 4)
            raise InputError(f"{path} holds {held}; expected a mask (x, y, z) of 0 and 1: threshold it.")
        try:
            affine = projection.matrix("its affine", grid.affine)
            to_voxels = _read_transform(mask.shape, affine, template, transform)
            if template and to_voxels is None:
                to_voxels = projection.from_mm(affine, reference, template)
            volume = cls(mask, affine, reference, template, to_voxels)
            if template and volume.n_on_mesh < MIN_CORTEX_FRACTION * volume.n_voxels:
                sentence = (
                    "Only %d of the %d voxels of %s are met by the cortex of %s: are its affine and `reference` right?"
                )
                logger.warning(sentence, volume.n_on_mesh, volume.n_voxels, Path(path).name, template)
        except InputError as error:
            raise type(error)(f"Mask {path}: {error}") from None
        return volume

    def __repr__(self) -> str:
        """Say what it is, without all of the mask."""
        on = f" on {self.template}" if self.template else ""
        return f"Volume({self.n_voxels} voxels in {self.reference}{on})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of positions of the grid along x, y and z."""
        x, y, z = self.mask.shape
        return x, y, z

    @cached_property
    def indices(self) -> IntArray:
        """Position of each voxel on the grid, (n_voxels, 3)."""
        return np.argwhere(self.mask)

    @cached_property
    def coordinates(self) -> FloatArray:
        """Centre of each voxel in mm of the reference, (n_voxels, 3)."""
        return np.asarray(self.indices @ self.affine[:3, :3].T + self.affine[:3, 3])

    @cached_property
    def numbers(self) -> IntArray:
        """Number of the voxel at each position of the grid, (x, y, z); -1 where there is none."""
        numbers = np.full(self.shape, -1, dtype=np.intp)
        numbers[self.mask] = np.arange(self.n_voxels)
        return numbers

    @cached_property
    def n_voxels(self) -> int:
        """Number of voxels of the mask."""
        return int(self.mask.sum())

    @property
    def canvases(self) -> tuple[str, ...]:
        """Name the canvases of `plotting` that they can be drawn on; on cortex only with a `template`."""
        cortex = Surface(self.template).canvases if self.template else ()
        return ("slices", *(("glass",) if self.reference.startswith("MNI152") else ()), *cortex)

    @property
    def volume(self) -> Volume:
        """The volume whose voxels they are: this one."""
        return self

    @property
    def description(self) -> dict[str, object]:
        """What a sidecar says of it."""
        size = " x ".join(f"{edge:.3g}" for edge in nib.affines.voxel_sizes(self.affine))
        registration = {"Cortex": self.template, "CortexToVoxels": np.asarray(self.to_voxels).tolist()}
        return {
            "SpatialReference": self.reference,
            "n_voxels": self.n_voxels,
            "Resolution": f"{size} mm",
            "Grid": list(self.shape),
            "Affine": self.affine.tolist(),
            **(registration if self.template else {}),
        }

    @property
    def entities(self) -> str:
        """What the names of files say of it."""
        return f"space-{self.reference}"

    def methods(self) -> str:
        """Write where the voxels are for a methods section."""
        voxels = f"Voxels are those of a mask in {self.reference} ({self.description['Resolution']})."
        if not self.template:
            return voxels
        return (
            f"{voxels} For figures on cortex their maps were laid onto {Path(self.template).name}: {self._way}, "
            "leaving out those outside the mask or without a value, or of labels the most frequent; "
            f"{self._brought}{self.n_on_mesh:,} of the {self.n_voxels:,} voxels are met by a vertex. Statistics and "
            "counts are of voxels."
        )

    @property
    def _way(self) -> str:
        """How a vertex gets its value from voxels, in words."""
        white, pial = (_surfaces.surface(kind, self.template) for kind in ("white", "pial"))
        if all(np.array_equal(a.coordinates, b.coordinates) for a, b in zip(white, pial, strict=True)):
            return "each vertex has the voxel that it lies in"
        low, high = projection.DEPTHS[0], projection.DEPTHS[-1]
        return (
            f"each vertex looks at {len(projection.DEPTHS)} points between {low:.0%} and {high:.0%} of the way from "
            "the white to the pial surface, and has the mean of the voxels that these lie in"
        )

    @property
    def _brought(self) -> str:
        """How mm of the cortex became those of the voxels, if that is known."""
        if not (projection.is_average(self.template) and self.reference.startswith("MNI152")):
            return ""
        usual = projection.from_mm(self.affine, self.reference, self.template)
        same = self.to_voxels is not None and np.allclose(usual, self.to_voxels)
        return "its coordinates in MNI305 became those of MNI152 by FreeSurfer's matrix; " if same else ""

    def select_voxels(self, voxels: NDArray[np.intp]) -> Volume:
        """Take some voxels, by number, ascending."""
        chosen = np.asarray(voxels)
        if np.any(np.diff(chosen) <= 0):
            raise AlignmentError("Voxels of a volume must ascend: their order is that of the grid.")
        mask = np.zeros_like(self.mask)
        mask[tuple(self.indices[chosen].T)] = True
        return Volume(mask, self.affine, self.reference, self.template, self.to_voxels)

    def take(self, whole: NDArray[np.generic]) -> NDArray[np.generic]:
        """Take the voxels' values out of an array over the grid, (x, y, z) or flattened."""
        if whole.shape not in (self.shape, (self.mask.size,)):
            raise AlignmentError(f"Got an array of shape {whole.shape}; the grid of the mask is {self.shape}.")
        return whole.reshape(self.shape)[self.mask]

    def to_image(self, values: NDArray[np.generic]) -> nib.Nifti1Image:
        """Lay values (n_voxels,) onto the grid, as an image of float32; nan outside the mask."""
        self.one_per_voxel(values)
        grid = np.full(self.shape, np.nan, dtype=np.float32)
        grid[self.mask] = values
        image = nib.Nifti1Image(grid, self.affine)
        image.set_sform(self.affine, code="mni" if self.reference.startswith("MNI") else "aligned")
        image.header.set_xyzt_units("mm")
        return image

    @property
    def rows(self) -> pd.Index[Any]:
        """Place of each voxel on the grid: the rows of a table."""
        return pd.MultiIndex.from_arrays(list(self.indices.T), names=["i", "j", "k"])

    def where(self, voxel: int) -> str:
        """Say where a voxel is, to follow its number."""
        at = ", ".join(str(i) for i in self.indices[voxel])
        return f": {at}; {', '.join(f'{mm:.4g}' for mm in np.round(self.coordinates[voxel], 1) + 0.0)} mm"

    def places(self) -> FloatArray:
        """Return where each voxel is, in mm, (n_voxels, 3)."""
        return self.coordinates

    @cached_property
    def votes(self) -> Any:
        """How often each vertex meets each voxel, sparse (n_vertices, n_voxels); see `projection.count_crossings`."""
        if self.to_voxels is None:
            raise InputError(
                "Voxels of a volume without `template` cannot be drawn on cortex; plotting.Slices and Maps.to_image "
                "show where they are."
            )
        return projection.count_crossings(self.template, self.to_voxels, self.numbers)

    @property
    def digests(self) -> list[str]:
        """Digest of which vertex meets which voxels, by which regions on cortex become those of voxels."""
        if not self.template:
            return []
        arrays = (self.votes.indptr, self.votes.indices, self.votes.data)
        return [digest([hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays])]

    @property
    def n_on_mesh(self) -> int:
        """Number of voxels that any vertex meets."""
        return len(np.unique(self.votes.indices))

    def one_per_voxel(self, values: NDArray[np.generic]) -> None:
        """Raise `AlignmentError` unless values are (n_voxels,)."""
        if values.shape != (self.n_voxels,):
            raise AlignmentError(f"Got values of shape {values.shape} for {self.n_voxels} voxels of a volume.")

    def on_mesh(self, values: NDArray[np.generic]) -> FloatArray:
        """Lay values (n_voxels,) onto the template's vertices, (n_vertices,).

        A vertex has the mean of the voxels between white and pial surface that are not nan, each as often as it is the
        nearest to one of eight points; nan where there is none.
        """
        self.one_per_voxel(values)
        return projection.means(self.votes, values)

    def labels_on_mesh(self, labels: NDArray[np.generic]) -> FloatArray:
        """Lay labels (n_voxels,), or other kinds, onto the template's vertices: the most frequent one of each.

        Returns
        -------
        ndarray of shape (n_vertices,)
            nan where there is no voxel, or all are nan.
        """
        self.one_per_voxel(labels)
        return projection.majorities(self.votes, labels)

    def on_grid(self, labels: NDArray[np.generic]) -> NDArray[np.intp]:
        """Give each voxel the label (n_vertices,) that most vertices have which meet it, (x * y * z,).

        0 where no vertex meets a voxel, and outside the mask.
        """
        nearest = np.zeros(self.shape, dtype=np.intp)
        nearest[self.mask] = np.nan_to_num(projection.majorities(self.votes.T.tocsr(), labels))
        return nearest.ravel()


def _read_transform(shape: tuple[int, ...], affine: FloatArray, template: str, transform: str) -> FloatArray | None:
    """Read the matrix of a transform, if one is named; raise `InputError` if template or transform is not there."""
    if template:
        _surfaces.surface("white", template)
    if not transform:
        return None
    if not template:
        raise InputError("`transform` says where a cortex is; give `template`, too.")
    places = (Path(template) / "transforms" / transform, Path(transform))
    folder = next((place for place in places if (place / "matrices.xfm").is_file()), None)
    if folder is None:
        transforms = sorted(path.parent.name for path in (Path(template) / "transforms").glob("*/matrices.xfm"))
        raise InputError(
            f"`transform` {transform!r} is none: neither {places[0]} nor {places[1]} holds a file matrices.xfm. Known: "
            f"{listed(transforms) if transforms else 'none'}."
        )
    return projection.read_pycortex_transform(folder, shape, affine)
