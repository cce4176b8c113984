"""The penalties of a fitted model, as tests that refit it take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latentcortex._arrays import FloatArray, arrays
from latentcortex.errors import InputError


@dataclass(frozen=True, eq=False)
class Penalties:
    """What a banded ridge chose for each voxel.

    Parameters
    ----------
    mixtures : ndarray of shape (n_bands, n_voxels)
        At least 0; the bands in the order of the Gram matrices. nan where a voxel was not fitted.
    alphas : ndarray of shape (n_voxels,)
        Above 0; nan where a voxel was not fitted.

    Raises
    ------
    AlignmentError, InputError
        If they are not of the same voxels; if a mixture is negative or an alpha not above 0.
    """

    mixtures: FloatArray
    alphas: FloatArray

    def __post_init__(self) -> None:
        mixtures, alphas = arrays(mixtures=(self.mixtures, "n_bands n_voxels"), alphas=(self.alphas, "n_voxels"))
        object.__setattr__(self, "mixtures", mixtures)
        object.__setattr__(self, "alphas", alphas)
        if (self.mixtures < 0).any():
            raise InputError(f"Mixtures must not be negative; found {np.nanmin(self.mixtures):.4g}.")
        if (self.alphas <= 0).any():
            raise InputError(f"Alphas must be above 0; found {np.nanmin(self.alphas):.4g}.")
