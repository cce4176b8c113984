"""Where cortex lies among the voxels of a volume, and the values that its vertices get from them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from latentcortex import _files, _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._nifti import read_grid
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

DEPTHS: Final = tuple(np.linspace(0.1, 0.9, 8).tolist())
"""Depths between white (0) and pial surface (1) at which a vertex takes the nearest voxel.

Cortex is 1 to 4.5 mm thick, so that neighbouring points are at most half a millimetre apart, and no voxel of a usual
size is jumped over. The outermost tenths are left out: voxels there are as much white matter, or fluid and vessels of
the surface, as cortex.
"""
MNI305_TO_MNI152: Final = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""FreeSurfer's matrix: its average subject is in the coordinates of MNI305.

It moves cortex by 1.5 to 2.8 mm. nilearn's `vol_to_surf` takes the two for the same.
"""
AVERAGE: Final = "fsaverage"
"""Beginning of the names of templates that are FreeSurfer's average subject."""
OF_AVERAGE: Final = ("MNI305", AVERAGE)
"""References that have the coordinates of that subject."""
OF_OTHERS: Final = ("MNI", AVERAGE)
"""Beginnings of references that are not a participant's own space."""

Votes: TypeAlias = Any
"""A sparse array (n_vertices, n_voxels)."""


def from_mm(affine: FloatArray, reference: str, template: str) -> FloatArray:
    """Make the matrix from mm of a template's surfaces to the indices of voxels.

    Parameters
    ----------
    affine : ndarray of shape (4, 4)
        From indices of voxels to mm of the reference.
    reference : str
        The space of the voxels.
    template : str
        Cortex, by the name of a template or the folder of a participant, whose surfaces FreeSurfer keeps in mm about
        the middle of a volume, and says where that was in the scanner.

    Raises
    ------
    InputError
        If nothing is known of where this template is in this reference.
    """
    inverse = np.linalg.inv(affine)
    if not is_average(template) and reference.startswith(OF_OTHERS):
        raise InputError(
            f"Voxels in {reference} are not in the participant's own space, as the surfaces of {template} are: give "
            "fsaverage5 as `template`, or a `transform`."
        )
    if not is_average(template):
        return np.asarray(inverse @ _surfaces.layout(template).to_world())
    if reference.startswith("MNI152"):
        return np.asarray(inverse @ MNI305_TO_MNI152)
    if reference in OF_AVERAGE:
        return np.asarray(inverse)
    raise InputError(
        f"Voxels in {reference} have no known place on {template}, which is in MNI305: give the participant's own "
        "surfaces as `template`, a `transform`, or no template."
    )


def is_average(template: str) -> bool:
    """Tell whether a template is FreeSurfer's average subject, by its name or that of its folder."""
    return Path(template).absolute().name.startswith(AVERAGE)


def read_pycortex_transform(folder: Path, shape: tuple[int, ...], affine: FloatArray) -> FloatArray:
    """Read the matrix from mm of surfaces to indices of voxels out of a transform of pycortex.

    Parameters
    ----------
    folder : Path
        It holds `matrices.xfm`, whose `coord` is the matrix, and `reference.nii.gz`.
    shape, affine
        Of the mask, which must have the grid of the reference.

    Raises
    ------
    InputError
        If a file is missing, is not what it must be, or belongs to another grid.
    """
    path = folder / "matrices.xfm"
    try:
        content: Any = _files.read_json(path)
    except InputError as error:
        raise InputError(f"{error} It is no transform of pycortex, as it writes them.") from None
    if not isinstance(content, dict) or "coord" not in content:
        raise InputError(
            f"{path} is no transform of pycortex; expected JSON with a matrix `coord`, as pycortex writes it."
        )
    to_voxels = matrix(f"`coord` of {path}", content["coord"])
    image = read_grid(folder / "reference.nii.gz", expected="the image that the transform is to")
    if image.values.shape != shape:
        raise InputError(
            f"{folder / 'reference.nii.gz'} is {image.values.shape}, the mask {shape}: the transform is to another "
            "grid; give a mask on the grid of the reference."
        )
    theirs, ours = ("".join(nib.orientations.aff2axcodes(to_mm)) for to_mm in (image.affine, affine))
    if theirs != ours:
        raise InputError(
            f"{folder / 'reference.nii.gz'} counts its voxels towards {theirs}, the mask towards {ours}: one of them "
            "is flipped; give a mask on the grid of the reference."
        )
    if not np.allclose(image.affine, affine, atol=1e-3):
        logger.info("The mask's affine is not that of the transform's reference; voxels are matched by their indices.")
    return to_voxels


def count_crossings(template: str, to_voxels: FloatArray, numbers: IntArray) -> Votes:
    """Count how often each vertex meets each voxel on its way from white to pial surface.

    Parameters
    ----------
    template : str
    to_voxels : ndarray of shape (4, 4)
        From mm of the surfaces to indices of voxels.
    numbers : ndarray of int, shape (x, y, z)
        Number of each voxel; -1 outside the mask.

    Returns
    -------
    sparse array of shape (n_vertices, n_voxels)
        Of the points at `DEPTHS`, those whose nearest voxel it is.

    Raises
    ------
    InputError
        If no voxel of the mask is on any vertex's way.
    """
    white, pial = (
        np.concatenate([mesh.coordinates for mesh in _surfaces.surface(kind, template)]) for kind in ("white", "pial")
    )
    n_vertices, n_voxels = len(white), int(numbers.max()) + 1
    vertices, voxels = [], []
    for depth in DEPTHS:
        points = (1 - depth) * white + depth * pial
        nearest = np.rint(points @ to_voxels[:3, :3].T + to_voxels[:3, 3]).astype(np.int64)
        inside = np.flatnonzero(((nearest >= 0) & (nearest < numbers.shape)).all(axis=1))
        of_nearest = numbers[tuple(nearest[inside].T)]
        vertices.append(inside[of_nearest >= 0])
        voxels.append(of_nearest[of_nearest >= 0])
    rows, columns = np.concatenate(vertices), np.concatenate(voxels)
    if not len(rows):
        raise InputError(
            f"No voxel of the mask lies in the cortex of {template}: check `reference`, `transform` and the mask's "
            "affine, or give no template."
        )
    votes = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_vertices, n_voxels))
    votes.sum_duplicates()
    return votes


def means(votes: Votes, values: NDArray[np.generic]) -> FloatArray:
    """Average the values (n_voxels,) that each vertex meets, (n_vertices,) float32; nan where all are nan, or none."""
    numbers = np.asarray(values, dtype=np.float64)
    measured = ~np.isnan(numbers)
    n_known = votes @ measured.astype(np.float64)
    total = votes @ np.where(measured, numbers, 0.0)
    return np.asarray(np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan), dtype=np.float32)


def majorities(votes: Votes, labels: NDArray[np.generic]) -> FloatArray:
    """Find the label (n_voxels,) that each vertex meets most often, (n_vertices,) float64; nan where all are, or none.

    Of labels that are met equally often it is the lowest that is not 0.
    """
    numbers = np.asarray(labels, dtype=np.float64)
    labelled = np.flatnonzero(~np.isnan(numbers))
    distinct = np.unique(numbers[labelled])
    order = distinct[np.argsort(distinct == 0, kind="stable")]  # 0 last
    column = np.argsort(order)[np.searchsorted(distinct, numbers[labelled])]
    chosen = sparse.csr_array((np.ones(len(labelled)), (labelled, column)), shape=(len(numbers), max(len(order), 1)))
    counts = (votes @ chosen).tocsr()
    counts.sort_indices()
    most_frequent = np.full(votes.shape[0], np.nan)
    met = np.flatnonzero(np.diff(counts.indptr))
    best = np.asarray(counts.argmax(axis=1)).ravel()[met] if len(met) else np.empty(0, dtype=np.intp)
    most_frequent[met] = order[best]
    return most_frequent


def matrix(name: str, value: Any) -> FloatArray:
    """Return a matrix that maps points to points; raise `InputError` for anything else."""
    try:
        transform = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a matrix of 4 x 4 numbers; got {value!r:.60}.") from None
    if transform.shape != (4, 4) or not np.isfinite(transform).all() or not np.array_equal(transform[3], [0, 0, 0, 1]):
        rows = transform.tolist()
        raise InputError(f"{name} must be a finite matrix of 4 x 4 whose last row is 0 0 0 1; got {rows}.")
    if np.linalg.matrix_rank(transform[:3, :3]) < 3:
        raise InputError(f"{name} cannot be inverted, so that voxels have no place: {transform.tolist()}.")
    return transform
