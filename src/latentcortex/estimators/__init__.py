"""Estimators: what maps features to responses. Add a file here and a line to the shelf."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, Self

from latentcortex._arrays import FloatArray
from latentcortex._shelf import Shelf

SHELF: Final = Shelf(
    "estimator",
    {
        "banded_ridge": "latentcortex.estimators.banded_ridge:BandedRidge",
        "himalaya": "latentcortex.estimators.himalaya:Himalaya",
    },
)


class Estimator(Protocol):
    """What encoding asks of an estimator: fit and predict from Gram matrices, band by band."""

    bands: tuple[str, ...]

    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        weights: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one (n_rows, n_rows) Gram matrix per band to responses (n_rows, n_voxels)."""
        ...

    def predict_gram(self, grams: Mapping[str, FloatArray]) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels), without the intercept."""
        ...

    @property
    def intercept_(self) -> FloatArray:
        """The intercept, (n_voxels,)."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """What made it, for the record."""
        ...


def quiet(estimator: Estimator) -> Estimator:
    """Copy an estimator, for fits of which nobody needs to be warned: to shuffled responses, or only to choose."""
    silent = copy.copy(estimator)
    if hasattr(silent, "warns"):
        silent.warns = False
    return silent


def make(name: str, **arguments: Any) -> Any:
    """Make an estimator by name."""
    return SHELF.make(name, **arguments)
