"""Estimators whose rows are ready, so that voxels can be fitted piece by piece."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, runtime_checkable

import numpy as np

from latentcortex import _ridge
from latentcortex._arrays import TILE, FloatArray, same_length, tiles, varying
from latentcortex.errors import InputError
from latentcortex.estimators._rows import FittedRows, responses

if TYPE_CHECKING:
    from latentcortex.estimators import Estimator
    from latentcortex.estimators.banded_ridge import BandedRidge

WAYS: Final = ("columns", "gram")


class Prepared(Protocol):
    """A model of rows that are known, ready for the responses of any voxels; many threads may fit at once."""

    @property
    def voxels_at_once(self) -> int:
        """Count the voxels that one fit should have: whole tiles, more where each fit begins from nothing."""
        ...

    def fit(self, y: FloatArray) -> Estimator:
        """Fit to responses (n_rows, n_voxels); of a voxel that is not valid everything is nan, perhaps of all."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """An estimator that can do apart from a fit what does not depend on the voxels at hand."""

    def prepare(
        self,
        bands: Mapping[str, FloatArray],
        sample: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> Prepared:
        """Prepare `fit`: `sample`, (n_rows, n_sample_voxels), are responses of voxels that speak for all."""
        ...

    def prepare_gram(
        self,
        grams: Mapping[str, FloatArray],
        sample: FloatArray,
        *,
        weights: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Prepared:
        """Prepare `fit_gram`."""
        ...


def prepare(
    estimator: Estimator,
    rows: Mapping[str, FloatArray],
    *,
    sample: FloatArray,
    weights: FloatArray | None = None,
    groups: Sequence[str] | None = None,
    by: Literal["columns", "gram"] = "columns",
) -> Prepared:
    """Do all of a fit that does not depend on the voxels at hand, so that these can come piece by piece.

    What looks at responses (whether rows are autocorrelated, and with it how penalties are compared and in which folds)
    is decided from the sample. Mixtures are decomposed when the first voxels come, once for all that follow and for
    nested models. An estimator that cannot prepare is fitted anew to each stretch of `voxels_at_once` voxels.

    Parameters
    ----------
    estimator : Estimator
        It stays as it is.
    rows : dict of ndarray
        Feature arrays (n_rows, n_dims) by band, or Gram matrices (n_rows, n_rows).
    sample : ndarray of shape (n_rows, n_sample_voxels)
        Responses of voxels that speak for all, in their precision.
    weights : ndarray of shape (n_rows,), optional
        Trials behind each row; 1 by default.
    groups : sequence of str, optional
        Rows of one group share a fold.
    by : {"columns", "gram"}
        What `rows` are.

    Raises
    ------
    AlignmentError
        If rows, sample, weights and groups do not match.
    InputError
        If a value is not finite, or rows are given in another way.

    Examples
    --------
    >>> from latentcortex import estimators
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 5000))
    >>> prepared = estimators.prepare(estimators.make("ridge"), {"x": x}, sample=y[:, ::50])
    >>> prepared.fit(y[:, :1024]).alphas_.shape
    (1024,)
    """
    if by not in WAYS:
        raise InputError(f"by must be 'columns' or 'gram'; got {by!r}.")
    if not isinstance(estimator, Preparing):
        return FittedAnew(copy.deepcopy(estimator), rows, weights, groups, by)
    if by == "columns":
        return estimator.prepare(rows, sample, groups=groups, sample_weight=weights)
    return estimator.prepare_gram(rows, sample, weights=weights, groups=groups)


@dataclass(frozen=True, eq=False)
class PreparedRidge:
    """Banded ridge whose rows are ready: fits to any voxels share decisions, kernels and decompositions.

    Many threads may fit at once. What it holds does not grow with voxels.

    Parameters
    ----------
    estimator : BandedRidge
    ready : PreparedFit
    bands : tuple of str
    dtype : dtype
        Of responses.
    rows : FittedRows, optional
        Where feature arrays were given.
    """

    estimator: BandedRidge
    ready: _ridge.PreparedFit
    bands: tuple[str, ...]
    dtype: np.dtype[Any]
    rows: FittedRows | None = None
    voxels_at_once: int = TILE

    def fit(self, y: FloatArray, *, walked: Callable[[int], object] = bool) -> BandedRidge:
        """Fit to the responses of some voxels, (n_rows, n_voxels): of those that are not valid everything is nan.

        A voxel's numbers are the same bits whether its tile of the canonical grid is fitted alone or with others.
        `walked` is told how many voxels each finished tile has. Nothing is said of what is odd: `VoxelCounts` is for
        that.

        Raises
        ------
        AlignmentError
            If there are other rows than those that were prepared.
        InputError
            If the precision is another.
        """
        y = responses(y)
        same_length(responses=y, prepared=range(self.ready.prepared.design.n_rows))
        if y.dtype != self.dtype:
            raise InputError(f"Responses are {y.dtype}; the fit was prepared with a sample of {self.dtype}.")
        (fit,) = self.ready.fit(y, walked=walked)
        return copy.copy(self.estimator).fitted_as(self, fit)


@dataclass(frozen=True, eq=False)
class FittedAnew:
    """An estimator that does not prepare: each stretch of voxels is a fit from the beginning, by a copy.

    Stretches are those of the canonical grid, so that none depends on how many voxels there are. Copies share nothing:
    with a generator of random numbers in common, each fit would depend on those before it.

    Parameters
    ----------
    estimator : Estimator
    rows : dict of ndarray
    weights : ndarray of shape (n_rows,), optional
    groups : sequence of str, optional
    by : {"columns", "gram"}
    """

    estimator: Estimator
    rows: Mapping[str, FloatArray]
    weights: FloatArray | None
    groups: Sequence[str] | None
    by: str

    @property
    def voxels_at_once(self) -> int:
        """Return what the estimator says, or one tile."""
        return int(getattr(self.estimator, "voxels_at_once", TILE))

    def fit(self, y: FloatArray) -> Estimator:
        """Fit a copy of the estimator to each stretch."""
        y = responses(y)
        models = [self._fitted(y[:, stretch]) for stretch in tiles(y.shape[1], self.voxels_at_once)]
        if len(models) == 1:
            return models[0]
        nests = all(hasattr(model, "nested") for model in models)
        return (NestingStretches if nests else Stretches)(tuple(models))

    def _fitted(self, y: FloatArray) -> Estimator:
        y, model = np.ascontiguousarray(y), copy.deepcopy(self.estimator)
        if not varying(y).any():
            undefined = UndefinedNesting if hasattr(model, "nested") else Undefined
            return undefined(tuple(self.rows), model.scale, model.parameters, *y.shape)
        if self.by == "columns":
            return model.fit(self.rows, y, groups=self.groups, sample_weight=self.weights)
        return model.fit_gram(self.rows, y, weights=self.weights, groups=self.groups)


@dataclass(frozen=True, eq=False)
class Stretches:
    """Fits of one estimator to neighbouring stretches of voxels, as one.

    Parameters
    ----------
    parts : tuple of Estimator
        Fitted; at least one.
    """

    parts: tuple[Any, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands, in the order of the fit."""
        return tuple(self.parts[0].bands)

    @property
    def scale(self) -> str | None:
        """As each part's."""
        scale: str | None = self.parts[0].scale
        return scale

    @property
    def parameters(self) -> dict[str, Any]:
        """What made each part."""
        return dict(self.parts[0].parameters)

    @property
    def alphas(self) -> Any:
        """Penalties that a part chose from; None where none says it."""
        return next((part.alphas for part in self.parts if hasattr(part, "alphas")), None)

    @property
    def offset_(self) -> FloatArray:
        """Those of all parts, (n_voxels,)."""
        return np.concatenate([part.offset_ for part in self.parts])

    @property
    def alphas_(self) -> FloatArray:
        """Those of all parts, (n_voxels,)."""
        return np.concatenate([part.alphas_ for part in self.parts])

    @property
    def mixtures_(self) -> FloatArray:
        """Those of all parts, (n_bands, n_voxels)."""
        return np.concatenate([part.mixtures_ for part in self.parts], axis=1)

    @property
    def cv_scores_(self) -> FloatArray:
        """Those of all parts, (n_voxels,)."""
        return np.concatenate([part.cv_scores_ for part in self.parts])

    def fit(self, *_: Any, **__: Any) -> Self:
        """Refuse: it stands for fits that are done."""
        raise InputError("This was fitted some voxels at a time; fit another copy of the estimator.")

    fit_gram = fit

    def dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Take dual weights of the parts that these voxels are in, (n_rows, n_voxels)."""
        return self._beside(lambda part, own: part.dual(own), voxels)

    def predict(
        self, bands: Mapping[str, FloatArray], *, split: bool = False, voxels: slice = slice(None)
    ) -> FloatArray:
        """Predict by the parts that these voxels are in; (n_new, n_voxels), or with `split` by band."""
        return self._beside(lambda part, own: part.predict(bands, split=split, voxels=own), voxels)

    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict by the parts that these voxels are in, (n_bands, n_new, n_voxels)."""
        return self._beside(lambda part, own: part.predict_gram(grams, voxels=own), voxels)

    def _beside(self, ask: Callable[[Any, slice], FloatArray], voxels: slice) -> FloatArray:
        """Put side by side what the parts say of voxels, each asked for its own."""
        ends = np.cumsum([len(part.alphas_) for part in self.parts]).tolist()
        start, stop, step = voxels.indices(ends[-1])
        if step != 1:
            return self._beside(ask, slice(None))[..., voxels]
        values = [
            ask(part, slice(max(start - before, 0), min(stop, end) - before))
            for part, before, end in zip(self.parts, [0, *ends], ends, strict=False)
            if max(start, before) < min(stop, end)
        ]
        return np.concatenate(values or [ask(self.parts[0], slice(0, 0))], axis=-1)


class NestingStretches(Stretches):
    """Such fits of an estimator that refits models of subsets of its bands."""

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], Stretches]:
        """Refit in each part; by default all non-empty subsets."""
        nested = [part.nested(subsets) for part in self.parts]
        return {bands: Stretches(tuple(models[bands] for models in nested)) for bands in nested[0]}


@dataclass(frozen=True)
class Undefined:
    """A fit to voxels none of which is valid, which an estimator would refuse: everything is nan.

    Parameters
    ----------
    bands : tuple of str
    scale : {"trace", None}
    parameters : dict
    n_rows, n_voxels : int
    """

    bands: tuple[str, ...]
    scale: str | None
    parameters: dict[str, Any]
    n_rows: int
    n_voxels: int

    @property
    def offset_(self) -> FloatArray:
        """nan, (n_voxels,)."""
        return np.full(self.n_voxels, np.nan)

    alphas_ = cv_scores_ = offset_

    @property
    def mixtures_(self) -> FloatArray:
        """nan, (n_bands, n_voxels)."""
        return np.full((len(self.bands), self.n_voxels), np.nan)

    def fit(self, *_: Any, **__: Any) -> Self:
        """Refuse: it stands for one fit only."""
        raise InputError("0 voxels are usable in what was fitted; fit another copy of the estimator.")

    fit_gram = fit

    def dual(self, voxels: slice = slice(None)) -> FloatArray:
        """nan, (n_rows, n_voxels)."""
        return np.full((self.n_rows, self.n_voxels), np.nan)[:, voxels]

    def predict(
        self, bands: Mapping[str, FloatArray], *, split: bool = False, voxels: slice = slice(None)
    ) -> FloatArray:
        """nan, (n_new, n_voxels), or with `split` (n_bands, n_new, n_voxels)."""
        parts = self.predict_gram(bands, voxels=voxels)
        return parts if split else parts[0]

    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """nan, (n_bands, n_new, n_voxels)."""
        n_new = len(next(iter(grams.values())))
        return np.full((len(self.bands), n_new, self.n_voxels), np.nan, dtype=np.float32)[:, :, voxels]


class UndefinedNesting(Undefined):
    """Such a fit of an estimator that refits models of subsets of its bands."""

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], Undefined]:
        """Name the models of subsets, by default of all non-empty ones; of them everything is nan, too."""
        if subsets is None:
            subsets = [some for k in range(1, len(self.bands) + 1) for some in combinations(self.bands, k)]
        own = [tuple(band for band in self.bands if band in subset) for subset in subsets]
        return {bands: replace(self, bands=bands) for bands in own}
