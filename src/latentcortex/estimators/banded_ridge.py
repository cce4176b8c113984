"""Banded ridge: one penalty per band and voxel, all from Gram matrices."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from tqdm import tqdm

from latentcortex import _ridge
from latentcortex._arrays import FloatArray, IntArray, by_band, labels, listed, whole_number
from latentcortex._methods import software
from latentcortex._ranges import Alphas, Count, FoldCount, NoEffect
from latentcortex._ridge.candidates import alphas_of, candidates_of, mixtures_for
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators import _methods
from latentcortex.estimators._counts import VoxelCounts
from latentcortex.estimators._folds import folds_of, groups_of
from latentcortex.estimators._prepared import PreparedRidge
from latentcortex.estimators._rows import Bands, FittedRows, check_finite, checked_weights, responses
from latentcortex.executors import one_thread

logger = logging.getLogger(__name__)

MIN_ROWS_FOR_GCV: Final = 300
"""Below this many rows generalised cross-validation is not trusted to choose alpha."""
ALPHAS: Final = tuple(np.logspace(-2, 7, 19))


@dataclass(eq=False, repr=False)
class BandedRidge(BaseEstimator):  # type: ignore[misc]
    """Ridge regression with a mixture of bands and a penalty chosen for each voxel.

    With one band it is ridge with a penalty for each voxel. It follows scikit-learn's conventions: `get_params`,
    `clone`, and attributes that end in `_` once it is fitted.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, all above 0.
    mixtures : ndarray of shape (n_mixtures, n_bands), or "equal", optional
        Non-negative, rows summing to 1. "equal" gives all bands one penalty: ridge on their concatenation. By
        default seven mixtures of two bands, and equal parts, halves, draws and each band alone of more.
    scale : {"trace", None}
        Whether `fit` divides the kernel of each band by its mean diagonal, so that alpha means the same for all
        (`Features.gram` does it, too), or takes bands as they are.
    selection : {"auto", "gcv", "loo", "kfold"}
        How alpha and mixture are chosen. `auto` is generalised cross-validation, and k-fold with groups
        where rows are fewer than 300, nearly repeat each other, or are autocorrelated.
    cv : int
        Folds of `kfold`.
    refine : bool
        Choose alpha between the given ones, where their scores say it is best.
    fit_intercept : bool
        Whether the mean of the responses is predicted, too.
    backend : {"auto", "numpy", "torch", "cuda", "mps"}
        What multiplies matrices. `auto` is a CUDA device where there is one, and numpy elsewhere: the same bits
        whatever the number of threads. The others agree with it to rounding.
    seed : int
        For the folds and the default mixtures.
    progress : bool
        Draw a progress bar over voxels.

    Attributes
    ----------
    alphas_ : ndarray of shape (n_voxels,)
        The chosen penalties, in the responses' precision, as scores are.
    mixtures_ : ndarray of shape (n_bands, n_voxels)
        The chosen mixtures; each voxel's sums to 1.
    cv_scores_ : ndarray of shape (n_voxels,)
        Fraction of the intercept's error that is gone in the cross-validation that chose; nan without variance.
    coef_ : ndarray of shape (n_dims, n_voxels), or dict of such by band
        Weights in the units of the features that were given: `x @ coef_ + intercept_` is the prediction, where bands
        were given the sum over them. Not known after `fit_gram`.
    intercept_ : ndarray of shape (n_voxels,)
        What is predicted where all features are 0; after `fit_gram`, where the kernels with all fitted rows are.
    offset_ : ndarray of shape (n_voxels,)
        What is added to predictions split by band: these are measured from the mean of the fitted features, so that it
        is the weighted mean of the fitted responses, and 0 without an intercept.
    bands : tuple of str

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728
    """

    alphas: Alphas = ALPHAS
    mixtures: FloatArray | Literal["equal"] | None = None
    scale: Literal["trace"] | None = "trace"
    selection: Literal["auto", "gcv", "loo", "kfold"] = "auto"
    cv: FoldCount = 5
    refine: bool = True
    fit_intercept: bool = True
    backend: Literal["auto", "numpy", "torch", "cuda", "mps"] = "auto"
    seed: Count = field(default=0, kw_only=True)
    progress: Annotated[bool, NoEffect] = field(default=False, kw_only=True)
    bands: tuple[str, ...] = field(default=(), init=False)
    warns: bool = field(default=True, init=False)
    warned: set[str] = field(default_factory=set, init=False, repr=False)
    """Ends of `alphas` that were warned of already; copies share it, and other estimators may be given the same set."""
    remark: str = field(default="", init=False, repr=False)
    """A sentence that the methods text adds, such as which published settings these are."""
    _rows: FittedRows | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        """Check parameters, which may be set at any time."""
        alphas_of(self.alphas)
        if self.selection not in ("auto", "gcv", "loo", "kfold"):
            raise InputError(f"selection must be auto, gcv, loo or kfold; got {self.selection!r}.")
        if self.scale not in ("trace", None):
            raise InputError(f"scale must be 'trace' or None; got {self.scale!r}.")
        if self.backend not in _ridge.NAMES:
            raise InputError(f"backend must be one of {', '.join(_ridge.NAMES)}; got {self.backend!r}.")
        whole_number("cv", self.cv, least=2)

    def check(self, groups: Sequence[str], n_bands: Sequence[int] = ()) -> None:
        """Raise unless the backend is here, rows of these groups fill the folds, and mixtures have so many bands."""
        self._check()
        for n in n_bands:
            mixtures_for(self.mixtures, n, seed=self.seed)
        _ridge.backend(self.backend)
        if self.selection == "kfold" or (self.selection == "auto" and len(groups) < MIN_ROWS_FOR_GCV):
            folds_of(groups, self.cv, seed=self.seed)

    # From arrays

    @one_thread()
    def fit(
        self,
        bands: Bands,
        y: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> Self:
        """Fit from feature arrays: from their columns where these are fewer than rows, else from their kernels.

        Parameters
        ----------
        bands : ndarray of shape (n_rows, n_dims), or dict of such by band
        y : ndarray of shape (n_rows, n_voxels)
            Not necessarily centred, perhaps on disk. It is kept, not copied. A voxel that is not finite or does not
            vary is nan in every result.
        groups : sequence of str, optional
            Rows of one group share a fold. Where all groups differ, rows are taken as independent although they may
            be autocorrelated; without groups, the order of rows may be that of time.
        sample_weight : ndarray of shape (n_rows,), optional
            Trials behind each row; 1 by default.

        Raises
        ------
        AlignmentError
            If there is not one row of every band, weight and group per row of `y`.
        InputError
            If a feature is not finite, a weight not above 0, a band has no columns, or no voxel is valid.
        """
        y = responses(y)
        return self._take(self.prepare(bands, y, groups=groups, sample_weight=sample_weight), y)

    @one_thread()
    def prepare(
        self,
        bands: Bands,
        sample: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> PreparedRidge:
        """Do for `fit` all that does not depend on the voxels that are fitted.

        Parameters
        ----------
        bands, groups, sample_weight
            As in `fit`.
        sample : ndarray of shape (n_rows, n_sample_voxels)
            Responses of voxels that stand for all: from them is decided whether rows are autocorrelated, and with it
            how candidates are compared; their precision is that of the fit.
        """
        sample = responses(sample)
        w = checked_weights(sample_weight, len(sample))
        rows = FittedRows.fit(bands, sample, weights=w, centre=self.fit_intercept, scale=self.scale is not None)
        primal = rows.n_dims < len(sample)
        solved_from = "columns" if primal else "kernels"
        logger.debug("%d columns of %d rows: solved from %s.", rows.n_dims, len(sample), solved_from)
        design: _ridge.Design = _ridge.Columns(list(rows.values.values())) if primal else _kernels(rows.kernels)
        return self._prepared(design, rows.bands, sample, weights=w, groups=groups, rows=rows)

    @one_thread()
    def predict(self, bands: Bands, *, split: bool = False, voxels: slice = slice(None)) -> FloatArray:
        """Predict responses from feature arrays, the bands in any order.

        Parameters
        ----------
        bands : ndarray of shape (n_new, n_dims), or dict of such by band
        split : bool
            Return what each band contributes.
        voxels : slice
            Which voxels are predicted, so that many can be predicted chunk by chunk.

        Returns
        -------
        ndarray of shape (n_new, n_voxels)
            With `split`, of shape (n_bands, n_new, n_voxels), the bands in the order of the fit, each measured from
            its features' mean; together they are the prediction less `offset_`.

        Raises
        ------
        AlignmentError
            If the bands, or their columns, are not those that were fitted.
        InputError
            If a feature is not finite, or the fit was from Gram matrices.
        """
        self._must_be_fitted()
        if self._rows is None:
            raise InputError("This was fitted on Gram matrices; predict with predict_gram.")
        primal = isinstance(self._fit.design, _ridge.Columns)
        new = list((self._rows.standardize(bands) if primal else self._rows.kernels_with(bands)).values())
        parts = self._fit.predict(new, voxels=voxels)
        return parts if split else np.asarray(parts.sum(0) + self.offset_[voxels])

    @property
    def coef_(self) -> dict[str, FloatArray] | FloatArray:
        """Weights in the units of the features that were given: float64 (n_dims, n_voxels), by band if bands were."""
        self._must_be_fitted()
        if self._rows is None:
            raise InputError("This was fitted on Gram matrices, which do not tell the weights of single features.")
        return self._rows.coefficients(self.dual(), self.mixtures_)

    # From Gram matrices

    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        sample_weight: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one Gram matrix per band, centred on the weighted mean of the rows if there is an intercept.

        Parameters
        ----------
        grams : dict of ndarray of shape (n_rows, n_rows)
        y : ndarray of shape (n_rows, n_voxels)
            As in `fit`.
        sample_weight : ndarray of shape (n_rows,), optional
        groups : sequence of str, optional

        Raises
        ------
        AlignmentError
            If the Gram matrices, weights or groups do not match the rows of `y`, or the mixtures the bands.
        InputError
            If a kernel is not finite, a weight not above 0, or no voxel is valid.
        """
        y = responses(y)
        return self._take(self.prepare_gram(grams, y, groups=groups, sample_weight=sample_weight), y)

    def prepare_gram(
        self,
        grams: Mapping[str, FloatArray],
        sample: FloatArray,
        *,
        sample_weight: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> PreparedRidge:
        """Do for `fit_gram` all that does not depend on the voxels that are fitted; `sample` as in `prepare`."""
        sample, grams = responses(sample), by_band("The Gram matrix", grams)
        n_rows = len(sample)
        if any(gram.shape != (n_rows, n_rows) for gram in grams.values()):
            shapes = listed(f"{b} {g.shape}" for b, g in grams.items())
            raise AlignmentError(f"Gram matrices must be ({n_rows}, {n_rows}) as the responses are; got {shapes}.")
        check_finite(grams)
        w = checked_weights(sample_weight, n_rows)
        return self._prepared(_kernels(grams), tuple(grams), sample, weights=w, groups=groups)

    @one_thread()
    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from kernels with the fitted rows.

        Parameters
        ----------
        grams : dict of ndarray of shape (n_new, n_rows)
            Centred as the fitted ones are.
        voxels : slice
            Which voxels are predicted, so that many can be predicted chunk by chunk.

        Returns
        -------
        ndarray of shape (n_bands, n_new, n_voxels)
            From each band, without `offset_`.
        """
        self._must_be_fitted()
        grams = by_band("The Gram matrix", grams)
        if tuple(grams) != self.bands:
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(grams)}.")
        if isinstance(self._fit.design, _ridge.Columns):
            raise InputError("This was fitted on columns; predict from feature arrays with predict.")
        for band, gram in grams.items():
            if gram.ndim != 2 or gram.shape[1] != self._fit.design.n_rows:
                expected = f"(n_new, {self._fit.design.n_rows})"
                raise AlignmentError(f"The Gram matrix of {band} is {gram.shape}; expected {expected}.")
        check_finite(grams)
        return self._fit.predict(list(grams.values()), voxels=voxels)

    # Nested models

    @one_thread()
    def nested(self, subsets: Sequence[Sequence[str]] | None = None) -> dict[tuple[str, ...], BandedRidge]:
        """Refit the models of subsets of the bands, each with a choice of alpha and mixture of its own.

        They share kernels, decompositions and rotated responses with each other and with this fit, so that all of
        them cost much less than as many fits.

        Parameters
        ----------
        subsets : sequence of sequence of str, optional
            By default all non-empty ones, 2 ** n_bands - 1.

        Returns
        -------
        dict
            Bands of a model, in the order of the fit -> the model.

        Raises
        ------
        InputError
            If a subset is empty or names a band that was not fitted.
        """
        self._must_be_fitted()
        n_bands = self._fit.mixtures.shape[1]  # of the design, of which a nested model has some
        if subsets is None:
            subsets = [subset for k in range(1, n_bands + 1) for subset in combinations(self.bands, k)]
        models = [tuple(sorted(map(self._number, dict.fromkeys(subset)))) for subset in subsets]
        if any(not model for model in models):
            raise InputError("A nested model needs at least one band.")
        refitted = [model for model in models if model != self._fit.bands]  # the model of all its bands is this one
        fits = {self._fit.bands: self._fit}
        if refitted:
            candidates = candidates_of(self.mixtures, refitted, n_bands, seed=self.seed)
            fits |= dict(zip(refitted, self._ready.among(*candidates).fit(self._fit.y), strict=True))
        return {nested.bands: nested for nested in (self._nested_as(model, fits[model]) for model in models)}

    def _nested_as(self, numbers: tuple[int, ...], fit: _ridge.RidgeFit) -> BandedRidge:
        """Copy this estimator as the fit of a model of some of its bands, by their numbers in the design."""
        estimator = copy.copy(self)
        estimator.bands, estimator._fit = tuple(self.bands[self._fit.bands.index(i)] for i in numbers), fit
        estimator._rows = None if self._rows is None else self._rows.select_bands(estimator.bands)
        return estimator

    def _number(self, band: str) -> int:
        """Return the number of a band of this model among those of the design."""
        if band not in self.bands:
            raise unknown("band", band, self.bands)
        return self._fit.bands[self.bands.index(band)]

    def _must_be_fitted(self) -> None:
        if not self.bands:
            raise InputError("This BandedRidge is not fitted yet: call fit or fit_gram.")

    # Fitted

    def dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Solve for the dual weights, (n_rows, n_voxels): band b predicts gamma_b K_b(new, fitted) @ dual."""
        return self._fit.every_dual(voxels)

    @property
    def offset_(self) -> FloatArray:
        """What is added to predictions split by band, (n_voxels,)."""
        return self._fit.intercept

    @property
    def intercept_(self) -> FloatArray:
        """What is predicted where all features, or after `fit_gram` all kernels, are 0; float64 (n_voxels,)."""
        if self._rows is None or not self.fit_intercept:
            return self.offset_
        return self._rows.intercept(self.offset_, self.dual, self.mixtures_)

    @property
    def alphas_(self) -> FloatArray:
        """The chosen penalty of each voxel, (n_voxels,)."""
        return self._fit.alpha

    @property
    def mixtures_(self) -> FloatArray:
        """The chosen mixture of each voxel, (n_bands, n_voxels)."""
        return self._fit.gamma

    @property
    def cv_scores_(self) -> FloatArray:
        """How much of the intercept's error the chosen candidate removed in cross-validation, (n_voxels,)."""
        return self._fit.score

    @property
    def parameters(self) -> dict[str, Any]:
        """What made it, for the record."""
        grid = np.asarray(self.alphas)
        return {
            "name": "banded_ridge",
            "alphas": f"{len(grid)} from {grid.min():g} to {grid.max():g}",
            "mixtures": "default" if self.mixtures is None else np.asarray(self.mixtures).tolist(),
            "scale": self.scale,
            "selection": self.selection,
            "cv": self.cv,
            "refine": self.refine,
            "fit_intercept": self.fit_intercept,
            "backend": self.backend,
            "seed": self.seed,
        }

    def methods(self, *, joint: bool) -> str:
        """Write what it does for a methods section; `joint` tells whether any model has several bands."""
        by = _methods.selection(self.selection, self.cv)
        model = _methods.model(self.mixtures, joint=joint, intercept=self.fit_intercept)
        choice = _methods.choice(self.alphas, self.mixtures, joint=joint, refine=self.refine, by=by)
        return _methods.fitted(self.scale, model, choice, by=software(), remark=self.remark)

    def memory(self, n_rows: int, n_bands: int, n_voxels: int, *, itemsize: int = 4) -> int:
        """Predict the bytes that a fit from kernels takes at its peak, besides the kernels and the responses.

        Parameters
        ----------
        n_rows, n_bands, n_voxels : int
        itemsize : int
            Bytes of a response: 4 or 8.
        """
        n_mixtures = len(mixtures_for(self.mixtures, n_bands, seed=self.seed))
        return _ridge.memory(n_rows, n_bands, n_mixtures, n_voxels=n_voxels, itemsize=itemsize)

    def _prepared(
        self,
        design: _ridge.Design,
        bands: tuple[str, ...],
        sample: FloatArray,
        *,
        weights: FloatArray,
        groups: Sequence[str] | None,
        rows: FittedRows | None = None,
    ) -> PreparedRidge:
        self._check()
        if groups is not None:
            groups = labels("groups", groups, design.n_rows).tolist()
        mixtures, models = candidates_of(self.mixtures, [range(len(bands))], len(bands), seed=self.seed)
        selection, folds = self._selection_and_folds(design, sample, groups)
        criterion = _ridge.SearchSpace(
            mixtures=mixtures,
            alphas=alphas_of(self.alphas),
            models=models,
            selection=selection,
            folds=folds,
            refine=self.refine,
            fit_intercept=self.fit_intercept,
        )
        backend = _ridge.backend(self.backend)
        ready = _ridge.PreparedFit.of(design, criterion, weights=weights, dtype=sample.dtype, backend=backend)
        return PreparedRidge(copy.copy(self), ready, bands, sample.dtype, rows)

    def fitted_as(self, prepared: PreparedRidge, fit: _ridge.RidgeFit) -> Self:
        """Take over a fit of a prepared model; return self."""
        self.bands, self._rows = prepared.bands, prepared.rows
        self._ready, self._fit = prepared.ready, fit
        return self

    def _take(self, prepared: PreparedRidge, y: FloatArray) -> Self:
        """Fit to these responses, and log how many are lost or have a penalty at an end of `alphas`; return self."""
        with tqdm(total=y.shape[1], desc="fitting", unit="voxel", disable=not self.progress) as bar:
            model = prepared.fit(y, on_tile=bar.update)
        if not model._fit.valid.any():
            raise InputError(
                f"0 of {y.shape[1]} voxels are usable: each has a value that is not finite, or is constant."
            )
        self.fitted_as(prepared, model._fit)
        self._ready = prepared.ready.without_folds()
        VoxelCounts.count(self).log_findings(self, self.bands)
        return self

    def _selection_and_folds(
        self, design: _ridge.Design, y: FloatArray, groups: Sequence[str] | None
    ) -> tuple[str, IntArray | None]:
        """Decide how candidates are compared, and in which folds, (n_rows,): near-duplicate rows share one."""
        if self.selection in ("gcv", "loo"):
            return self.selection, None
        names, dependent = groups_of(design, y, groups, n_splits=self.cv, logs=self.warns)
        if self.selection == "auto" and len(names) >= MIN_ROWS_FOR_GCV and not dependent:
            return "gcv", None
        return "kfold", folds_of(names, self.cv, seed=self.seed)


def _kernels(grams: Mapping[str, FloatArray]) -> _ridge.Kernels:
    return _ridge.Kernels([_ridge.mapped(np.asarray(gram, dtype=np.float64)) for gram in grams.values()])
