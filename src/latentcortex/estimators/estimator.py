"""What encoding asks of an estimator, and what some can do beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from latentcortex._arrays import FloatArray


class Estimator(Protocol):
    """A model that is fitted and predicts band by band, from feature columns or Gram matrices.

    All fitted results of a voxel that is not valid (not finite, or constant) are nan.
    """

    def fit(
        self,
        bands: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> Self:
        """Fit from feature arrays (n_rows, n_dims) to responses (n_rows, n_voxels)."""
        ...

    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        sample_weight: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one (n_rows, n_rows) Gram matrix per band."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands, in the order of the fit."""
        ...

    @property
    def scale(self) -> str | None:
        """`trace` if kernels are divided by their mean diagonal over the fitted rows, else None."""
        ...

    @property
    def offset_(self) -> FloatArray:
        """What is added to predictions that are split by band, (n_voxels,)."""
        ...

    @property
    def alphas_(self) -> FloatArray:
        """The chosen penalty of each voxel, (n_voxels,)."""
        ...

    @property
    def mixtures_(self) -> FloatArray:
        """The chosen mixture of each voxel, (n_bands, n_voxels)."""
        ...

    @property
    def cv_scores_(self) -> FloatArray:
        """Fraction of the intercept's error that the choice explained in cross-validation, (n_voxels,)."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments that it was made with, and its name, as files keep them."""
        ...

    def dual(self, voxels: slice = ...) -> FloatArray:
        """Dual weights, float64 (n_rows, n_voxels): band b predicts mixture_b K_b(new, fitted) @ dual."""
        ...

    def predict(self, bands: Any, *, split: bool = False, voxels: slice = ...) -> FloatArray:
        """Predict from feature arrays by band; with `split` as `predict_gram` does."""
        ...

    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = ...) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels), without `offset_`."""
        ...


@runtime_checkable
class Nesting(Protocol):
    """A fitted model that can refit the models of subsets of its bands."""

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> Mapping[tuple[str, ...], Estimator]:
        """Refit the models of subsets of the bands, by default of all non-empty ones."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """An estimator that can tell, before anything is extracted, whether it will be able to fit."""

    def check(self, groups: Sequence[str], n_bands: Sequence[int] = ()) -> None:
        """Raise `InputError` if it cannot fit rows of these groups, models of so many bands, or on this machine."""
        ...


@runtime_checkable
class DescribedEstimator(Protocol):
    """An estimator that writes what it does in the sentences of a methods section; see `_methods`."""

    def methods(self, *, joint: bool) -> str:
        """Write whole sentences that name the software and cite by key.

        Parameters
        ----------
        joint : bool
            Whether any model has several bands.
        """
        ...


def without_warnings(estimator: Estimator) -> Estimator:
    """Copy an estimator for fits that warn of nothing: those to shuffled responses, or that only choose penalties."""
    copied = copy.copy(estimator)
    if hasattr(copied, "warns"):
        copied.warns = False
    return copied
