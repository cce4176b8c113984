"""One map of a figure: values of voxels, and where the voxels are. What it looks like is a painting's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np

from latentcortex._arrays import FloatArray
from latentcortex._nifti import grid_of
from latentcortex.errors import InputError
from latentcortex.space import Space, Surface, Volume


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a figure.

    Parameters
    ----------
    title : str
    values : array of shape (n_voxels,) or (n_bands, n_voxels)
        One number per voxel, or of several bands one each; nan where undefined or not significant.
    space : Space
        Where the voxels are; by default they are the vertices of both hemispheres of fsaverage5, left first.
    unsure : ndarray of shape (n_voxels,), optional
        1 where the map is drawn grey, since it cannot be told; 0 or nan elsewhere.
    opacity : ndarray of shape (n_voxels,), optional
        0..1, of a preferred layer; nan counts as 0. Opaque everywhere by default.
    categorical : bool
        Whether values are categories, such as those of a mask, which have no mean: a vertex that meets several voxels
        of a volume has the most frequent one.

    Raises
    ------
    AlignmentError
        If there is not one value per voxel; one hemisphere's are told how to become both's.
    InputError
        If a value is infinite.
    """

    title: str
    values: FloatArray | Sequence[FloatArray]
    space: Space = field(default_factory=lambda: Surface("fsaverage5"))
    unsure: FloatArray | None = None
    opacity: FloatArray | None = None
    categorical: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values))
        for values in (*self.bands, self.unsure, self.opacity):
            if values is not None:
                self.space.one_per_voxel(values)
                n_infinite = int(np.isinf(values).sum())
                if n_infinite:
                    raise InputError(
                        f"{n_infinite} values of a map are infinite; set them to nan where they are undefined."
                    )

    @property
    def bands(self) -> FloatArray:
        """The values of each band, (n_bands, n_voxels); of a map of single numbers (1, n_voxels)."""
        return np.atleast_2d(np.asarray(self.values))

    @classmethod
    def of_image(cls, title: str, image: nib.Nifti1Image, *, reference: str) -> Panel:
        """Make the panel of an image (x, y, z), whose voxels are those that are not nan.

        Parameters
        ----------
        title : str
        image : Nifti1Image
        reference : str
            The space of the voxels, such as MNI152NLin2009cAsym or T1w.
        """
        grid = grid_of(f"The image of {title}", image)
        values = np.asarray(grid.values, dtype=np.float32)
        volume = Volume(~np.isnan(values), grid.affine, reference)
        return cls(title, values[volume.mask], volume)


def cortex_of(panels: Sequence[Panel]) -> str:
    """Name the cortex that panels are drawn on.

    Raises
    ------
    InputError
        If there is no panel, panels are on several cortices, or voxels have no place on one.
    """
    templates = list(dict.fromkeys(panel.space.template for panel in panels))
    if not templates:
        raise InputError("There is no panel to draw.")
    if len(templates) > 1:
        raise InputError(f"One figure shows maps of one cortex; got {', '.join(templates)}.")
    if not templates[0]:
        panels[0].space.on_mesh(panels[0].bands[0])  # says why not
    return templates[0]


def volumes_of(panels: Sequence[Panel]) -> list[Volume]:
    """List the volumes that the voxels of panels are in, one for each panel.

    Raises
    ------
    InputError
        If there is no panel, panels are in several references, or one is not of a volume.
    """
    if not panels:
        raise InputError("There is no panel to draw.")
    volumes = [panel.space.volume for panel in panels]
    if None in volumes:
        title = panels[volumes.index(None)].title
        raise InputError(f"Slices and a glass brain show voxels of a volume, which those of {title!r} are not.")
    references = list(dict.fromkeys(volume.reference for volume in volumes if volume is not None))
    if len(references) > 1:
        raise InputError(f"One figure shows maps in one space; got {', '.join(references)}.")
    return [volume for volume in volumes if volume is not None]
