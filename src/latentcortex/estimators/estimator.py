"""What encoding asks of an estimator, and what some can do beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from latentcortex._arrays import FloatArray


class Estimator(Protocol):
    """What encoding asks of an estimator: to fit and predict, band by band, from columns or Gram matrices.

    A voxel that is not valid is nan in everything that it says once it is fitted.
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
        weights: FloatArray | None = None,
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
        """What predictions by band, measured from the fitted features' mean, are short of; (n_voxels,)."""
        ...

    @property
    def alphas_(self) -> FloatArray:
        """The chosen penalty, (n_voxels,)."""
        ...

    @property
    def mixtures_(self) -> FloatArray:
        """The chosen mixture, (n_bands, n_voxels)."""
        ...

    @property
    def cv_scores_(self) -> FloatArray:
        """What the choice explained in cross-validation, (n_voxels,)."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """What made it, for the record."""
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
        """Refit; by default all non-empty subsets."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """An estimator that can tell before anything is extracted whether it will be able to fit."""

    def check(self, groups: Sequence[str], n_bands: Sequence[int] = ()) -> None:
        """Raise if it could not fit rows of these groups, or models of so many bands, or not on this machine."""
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


def quiet(estimator: Estimator) -> Estimator:
    """Copy an estimator, for fits of which nobody needs to be warned: to shuffled responses, or only to choose."""
    silent = copy.copy(estimator)
    if hasattr(silent, "warns"):
        silent.warns = False
    return silent
