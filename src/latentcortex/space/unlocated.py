"""Voxels of which nothing is known but their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.errors import AlignmentError, InputError


@dataclass(frozen=True)
class Unlocated:
    """Voxels without a known position.

    Parameters
    ----------
    n_voxels : int
    """

    n_voxels: int

    def __repr__(self) -> str:
        """Say what it is, in one line."""
        return f"Unlocated({self.n_voxels} voxels without a known position)"

    @property
    def template(self) -> str:
        """The cortex that they can be drawn on: none."""
        return ""

    @property
    def canvases(self) -> tuple[str, ...]:
        """Name the canvases of `plotting` that they can be drawn on: none."""
        return ()

    @property
    def volume(self) -> None:
        """The volume whose voxels they are: none."""
        return

    def one_per_voxel(self, values: NDArray[np.generic]) -> None:
        """Raise `AlignmentError` unless values are (n_voxels,)."""
        if values.shape != (self.n_voxels,):
            raise AlignmentError(f"Got an array of shape {values.shape} for {self.n_voxels} voxels.")

    def on_mesh(self, values: FloatArray) -> FloatArray:
        """Raise `InputError`: nothing is known of where these voxels are on cortex."""
        raise InputError("Voxels without a known position cannot be drawn on cortex; use Maps.to_dataframe.")

    def labels_on_mesh(self, labels: NDArray[np.generic]) -> FloatArray:
        """Raise `InputError`, as `on_mesh` does."""
        return self.on_mesh(np.asarray(labels, dtype=np.float32))

    def take(self, whole: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return what is given of each voxel; raise `InputError` for anything else, since no position is known."""
        if whole.shape != (self.n_voxels,):
            raise InputError("Voxels without a known position are in no region but those that are given for each.")
        return whole

    def select_voxels(self, voxels: NDArray[np.intp]) -> Unlocated:
        """Take some voxels."""
        return Unlocated(len(voxels))

    def methods(self) -> str:
        """Write where the voxels are for a methods section: nothing, since it is not known."""
        return ""

    @property
    def rows(self) -> pd.Index[Any]:
        """Number of each voxel: the rows of a table."""
        return pd.RangeIndex(self.n_voxels, name="voxel")

    def where(self, voxel: int) -> str:
        """Say nothing of where a voxel is."""
        return ""

    def places(self) -> FloatArray:
        """Raise `InputError`: which voxels are neighbours is not known."""
        raise InputError("Voxels without a known position have no neighbours.")

    @property
    def description(self) -> dict[str, object]:
        """What a sidecar says of it."""
        return {"SpatialReference": "unknown", "n_voxels": self.n_voxels}
