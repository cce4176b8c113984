"""Fits in two steps: all that depends on the rows alone is prepared once, then voxels are fitted chunk by chunk."""

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

ROW_KINDS: Final = ("columns", "gram")


class Prepared(Protocol):
    """A model prepared for given rows, to be fitted to the responses of any voxels, in many threads at once."""

    @property
    def voxels_at_once(self) -> int:
        """Count the voxels that one fit should have: whole tiles, more where each fit begins from nothing."""
        ...

    def fit(self, y: FloatArray) -> Estimator:
        """Fit to responses (n_rows, n_voxels); all results of a voxel that is not valid are nan."""
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
        """Prepare `fit`, deciding from `sample`: responses (n_rows, n_sample_voxels) of voxels that stand for all."""
        ...

    def prepare_gram(
        self,
        grams: Mapping[str, FloatArray],
        sample: FloatArray,
        *,
        sample_weight: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Prepared:
        """Prepare `fit_gram`, deciding from `sample` as `prepare` does."""
        ...


def prepare(
    estimator: Estimator,
    rows: Mapping[str, FloatArray],
    *,
    sample: FloatArray,
    sample_weight: FloatArray | None = None,
    groups: Sequence[str] | None = None,
    by: Literal["columns", "gram"] = "columns",
) -> Prepared:
    """Do all of a fit that does not depend on the voxels that are fitted, so that these can come in chunks.

    Whether rows are autocorrelated, and with it how penalties are compared and in which folds, is decided from the
    responses of the sample. Mixtures are decomposed when the first voxels come, once for all that follow and for
    nested models. An estimator that cannot prepare is fitted anew to each stretch of `voxels_at_once` voxels.

    Parameters
    ----------
    estimator : Estimator
        It stays as it is.
    rows : dict of ndarray
        Feature arrays (n_rows, n_dims) by band, or Gram matrices (n_rows, n_rows).
    sample : ndarray of shape (n_rows, n_sample_voxels)
        Responses of voxels that stand for all, in their precision.
    sample_weight : ndarray of shape (n_rows,), optional
        Trials behind each row; 1 by default.
    groups : sequence of str, optional
        Rows of one group share a fold.
    by : {"columns", "gram"}
        What `rows` are.

    Raises
    ------
    AlignmentError
        If rows, sample, sample_weight and groups do not match.
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
    if by not in ROW_KINDS:
        raise InputError(f"by must be 'columns' or 'gram'; got {by!r}.")
    if not isinstance(estimator, Preparing):
        return UnpreparedEstimator(copy.deepcopy(estimator), rows, sample_weight, groups, by)
    if by == "columns":
        return estimator.prepare(rows, sample, groups=groups, sample_weight=sample_weight)
    return estimator.prepare_gram(rows, sample, groups=groups, sample_weight=sample_weight)


@dataclass(frozen=True, eq=False)
class PreparedRidge:
    """Banded ridge prepared for given rows: fits to any voxels share decisions, kernels and decompositions.

    Many threads may fit at once. What it holds does not grow with voxels.

    Parameters
    ----------
    estimator : BandedRidge
    ready : PreparedFit
    bands : tuple of str
    dtype : dtype
        Precision of the responses.
    rows : FittedRows, optional
        Where feature arrays were given.
    """

    estimator: BandedRidge
    ready: _ridge.PreparedFit
    bands: tuple[str, ...]
    dtype: np.dtype[Any]
    rows: FittedRows | None = None
    voxels_at_once: int = TILE

    def fit(self, y: FloatArray, *, on_tile: Callable[[int], object] = bool) -> BandedRidge:
        """Fit to the responses of some voxels, (n_rows, n_voxels): of those that are not valid everything is nan.

        A voxel's numbers are the same bits whether its tile of the canonical grid is fitted alone or with others.
        `on_tile` is called with the number of voxels of each finished tile. Nothing is logged: `VoxelCounts` does that.

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
        (fit,) = self.ready.fit(y, walked=on_tile)
        return copy.copy(self.estimator).fitted_as(self, fit)


@dataclass(frozen=True, eq=False)
class UnpreparedEstimator:
    """An estimator that cannot prepare: a copy is fitted from the beginning to each stretch of voxels.

    Stretches are those of the canonical grid, so that none depends on how many voxels there are. Copies share nothing:
    with a generator of random numbers in common, each fit would depend on those before it.

    Parameters
    ----------
    estimator : Estimator
    rows : dict of ndarray
    sample_weight : ndarray of shape (n_rows,), optional
    groups : sequence of str, optional
    by : {"columns", "gram"}
    """

    estimator: Estimator
    rows: Mapping[str, FloatArray]
    sample_weight: FloatArray | None
    groups: Sequence[str] | None
    by: str

    @property
    def voxels_at_once(self) -> int:
        """Return how many voxels the estimator asks for, or one tile."""
        return int(getattr(self.estimator, "voxels_at_once", TILE))

    def fit(self, y: FloatArray) -> Estimator:
        """Fit a copy of the estimator to each stretch of voxels."""
        y = responses(y)
        models = [self._fitted(y[:, stretch]) for stretch in tiles(y.shape[1], self.voxels_at_once)]
        if len(models) == 1:
            return models[0]
        nests = all(hasattr(model, "nested") for model in models)
        return (NestingFitsByStretch if nests else FitsByStretch)(tuple(models))

    def _fitted(self, y: FloatArray) -> Estimator:
        y, model = np.ascontiguousarray(y), copy.deepcopy(self.estimator)
        if not varying(y).any():
            undefined = NestingUndefinedFit if hasattr(model, "nested") else UndefinedFit
            return undefined(tuple(self.rows), model.scale, model.parameters, *y.shape)
        if self.by == "columns":
            return model.fit(self.rows, y, groups=self.groups, sample_weight=self.sample_weight)
        return model.fit_gram(self.rows, y, groups=self.groups, sample_weight=self.sample_weight)


@dataclass(frozen=True, eq=False)
class FitsByStretch:
    """Fits of one estimator to neighbouring stretches of voxels, which together behave as one fit.

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
        """The scale of each part, which all share."""
        scale: str | None = self.parts[0].scale
        return scale

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of each part, which all share."""
        return dict(self.parts[0].parameters)

    @property
    def alphas(self) -> Any:
        """The penalties that parts chose from; None where no part has `alphas`."""
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
        return self._concatenate(lambda part, voxels: part.dual(voxels), voxels)

    def predict(
        self, bands: Mapping[str, FloatArray], *, split: bool = False, voxels: slice = slice(None)
    ) -> FloatArray:
        """Predict by the parts that these voxels are in; (n_new, n_voxels), or with `split` by band."""
        return self._concatenate(lambda part, voxels: part.predict(bands, split=split, voxels=voxels), voxels)

    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict by the parts that these voxels are in, (n_bands, n_new, n_voxels)."""
        return self._concatenate(lambda part, voxels: part.predict_gram(grams, voxels=voxels), voxels)

    def _concatenate(self, ask: Callable[[Any, slice], FloatArray], voxels: slice) -> FloatArray:
        """Ask each part for those of the voxels that it was fitted to; join the answers along voxels."""
        ends = np.cumsum([len(part.alphas_) for part in self.parts]).tolist()
        start, stop, step = voxels.indices(ends[-1])
        if step != 1:
            return self._concatenate(ask, slice(None))[..., voxels]
        values = [
            ask(part, slice(max(start - before, 0), min(stop, end) - before))
            for part, before, end in zip(self.parts, [0, *ends], ends, strict=False)
            if max(start, before) < min(stop, end)
        ]
        return np.concatenate(values or [ask(self.parts[0], slice(0, 0))], axis=-1)


class NestingFitsByStretch(FitsByStretch):
    """Such fits of an estimator that refits models of subsets of its bands."""

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], FitsByStretch]:
        """Refit in each part; by default all non-empty subsets."""
        nested = [part.nested(subsets) for part in self.parts]
        return {bands: FitsByStretch(tuple(models[bands] for models in nested)) for bands in nested[0]}


@dataclass(frozen=True)
class UndefinedFit:
    """A fit to voxels none of which is valid, which an estimator would refuse: all its results are nan.

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


class NestingUndefinedFit(UndefinedFit):
    """Such a fit of an estimator that refits models of subsets of its bands."""

    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], UndefinedFit]:
        """Name the models of subsets, by default of all non-empty ones; of them everything is nan, too."""
        if subsets is None:
            subsets = [subset for k in range(1, len(self.bands) + 1) for subset in combinations(self.bands, k)]
        in_order = [tuple(band for band in self.bands if band in subset) for subset in subsets]
        return {bands: replace(self, bands=bands) for bands in in_order}
