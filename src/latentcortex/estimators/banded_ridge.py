"""Banded ridge: one penalty per band and voxel, all from Gram matrices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import numpy as np
from scipy.sparse import csgraph, csr_array
from sklearn.base import BaseEstimator

from latentcortex import _ridge
from latentcortex._arrays import BoolArray, FloatArray, IntArray, listed, one_thread, random_for, same_length
from latentcortex.errors import AlignmentError, InputError
from latentcortex.splits import Splits

logger = logging.getLogger(__name__)

FEW_ROWS: Final = 300
"""Below this many rows generalised cross-validation is not trusted to choose alpha."""
NEAR_DUPLICATE: Final = 0.995
"""Rows whose kernels agree above this are as good as repeats; they must not straddle folds."""
EQUAL: Final = 1 - 1e-9
"""Rows whose kernels agree above this are repeats."""

AFTER: Final = (-1, -1, -1, 1, 2, 3, 4)
"""Of the default mixtures of two bands, which must be the best so far before one further out is tried."""
ALPHAS: Final = tuple(np.logspace(-2, 7, 19))


@dataclass(eq=False)
class BandedRidge(BaseEstimator):  # type: ignore[misc]
    """Ridge regression with a mixture of bands and a penalty chosen for each voxel.

    With one band it is ridge with a penalty for each voxel. It follows scikit-learn's conventions: `get_params`,
    `clone`, and attributes that end in `_` once it is fitted.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, all above 0.
    mixtures : ndarray of shape (n_mixtures, n_bands), optional
        Non-negative, rows summing to 1. By default `default_mixtures`.
    scale : {"trace", None}
        Whether `fit` divides the kernel of each band by its mean diagonal, so that alpha means the same for all
        (`Features.gram` does it, too), or takes bands as they are.
    selection : {"auto", "gcv", "loo", "kfold"}
        How alpha and mixture are chosen. `auto` is generalised cross-validation, and k-fold with groups
        where rows are fewer than 300 or nearly repeat each other.
    cv : int
        Folds of `kfold`.
    refine : bool
        Choose alpha between the given ones, where their scores say it is best.
    fit_intercept : bool
    seed : int
        For the folds and the default mixtures.

    Attributes
    ----------
    alphas_ : ndarray of shape (n_voxels,)
        The chosen penalties.
    mixtures_ : ndarray of shape (n_bands, n_voxels)
        The chosen mixtures; each voxel's sums to 1.
    cv_scores_ : ndarray of shape (n_voxels,)
        Fraction of the intercept's error that is gone in the cross-validation that chose; nan without variance.
    intercept_ : ndarray of shape (n_voxels,)
    bands : tuple of str

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728
    """

    alphas: Sequence[float] = ALPHAS
    mixtures: FloatArray | None = None
    scale: Literal["trace"] | None = "trace"
    selection: Literal["auto", "gcv", "loo", "kfold"] = "auto"
    cv: int = 5
    refine: bool = True
    fit_intercept: bool = True
    seed: int = field(default=0, kw_only=True)
    bands: tuple[str, ...] = field(default=(), init=False)
    warns: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        grid = np.asarray(self.alphas, dtype=np.float64)
        if grid.size == 0 or not np.isfinite(grid).all() or grid.min() <= 0:
            raise InputError(f"alphas must be > 0 and finite; got {listed(self.alphas)}.")
        if self.selection not in ("auto", "gcv", "loo", "kfold"):
            raise InputError(f"selection must be auto, gcv, loo or kfold; got {self.selection!r}.")
        if self.scale not in ("trace", None):
            raise InputError(f"scale must be 'trace' or None; got {self.scale!r}.")
        if self.cv < 2:
            raise InputError(f"cv must be at least 2 folds; got {self.cv}.")

    # From arrays

    @one_thread()
    def fit(
        self,
        bands: Mapping[str, FloatArray] | FloatArray,
        y: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> Self:
        """Fit from feature arrays.

        Parameters
        ----------
        bands : ndarray of shape (n_rows, n_dims), or dict of such by band
        y : ndarray of shape (n_rows, n_voxels)
            Not necessarily centred.
        groups : sequence of str, optional
            Rows of one group share a fold.
        sample_weight : ndarray of shape (n_rows,), optional
            Trials behind each row; 1 by default.

        Raises
        ------
        AlignmentError
            If there is not one row of every band, weight and group per row of `y`.
        InputError
            If a value is not finite or a weight not above 0.
        """
        arrays = _banded(bands)
        same_length(responses=y, **arrays)
        w = checked_weights(sample_weight, len(y))
        self._means = {b: w @ a.astype(np.float64) / w.sum() * self.fit_intercept for b, a in arrays.items()}
        centred = {b: a - self._means[b] for b, a in arrays.items()}
        self._scales = {b: _size(a) if self.scale else 1.0 for b, a in centred.items()}
        self._rows = centred
        grams = {b: a @ a.T / self._scales[b] for b, a in centred.items()}
        return self.fit_gram(grams, y, weights=w, groups=groups)

    @one_thread()
    def predict(self, bands: Mapping[str, FloatArray] | FloatArray, *, split: bool = False) -> FloatArray:
        """Predict responses from feature arrays, the bands in any order.

        Returns
        -------
        ndarray of shape (n_new, n_voxels)
            With `split`, of shape (n_bands, n_new, n_voxels): what each band contributes, in the order of the fit;
            together they are the prediction less its intercept.

        Raises
        ------
        AlignmentError
            If the bands are not those that were fitted.
        """
        arrays = _banded(bands)
        if set(arrays) != set(self.bands):
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(arrays)}.")
        grams = {b: (arrays[b] - self._means[b]) @ self._rows[b].T / self._scales[b] for b in self.bands}
        parts = self.predict_gram(grams)
        return parts if split else np.asarray(parts.sum(0) + self.intercept_)

    @property
    def coef_(self) -> dict[str, FloatArray]:
        """Weights in the units of the features that were given, by band: (n_dims, n_voxels), float64."""
        dual = self._solution.dual
        return {
            b: self._rows[b].T @ dual * (gamma / self._scales[b])
            for b, gamma in zip(self.bands, self.mixtures_, strict=True)
        }

    # From Gram matrices

    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        weights: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one Gram matrix per band, centred on the weighted mean of the rows if there is an intercept.

        Parameters
        ----------
        grams : dict of ndarray of shape (n_rows, n_rows)
        y : ndarray of shape (n_rows, n_voxels)
            Finite.
        weights : ndarray of shape (n_rows,), optional
        groups : sequence of str, optional

        Raises
        ------
        AlignmentError
            If the Gram matrices, weights or groups do not match the rows of `y`, or the mixtures the bands.
        InputError
            If there is no voxel, a value is not finite, or a weight is not above 0.
        """
        n_rows = len(y)
        if any(gram.shape != (n_rows, n_rows) for gram in grams.values()):
            shapes = listed(f"{b} {g.shape}" for b, g in grams.items())
            raise AlignmentError(f"Gram matrices must be ({n_rows}, {n_rows}) as the responses are; got {shapes}.")
        check_finite(y, grams)
        y = np.asarray(y, dtype=np.float32 if y.dtype == np.float32 else np.float64)
        w = checked_weights(weights, n_rows)
        self.bands = tuple(grams)
        self._gamma = mixtures_for(self.mixtures, len(grams), seed=self.seed)
        selection, folds = self._chosen_by(list(grams.values()), groups)
        criterion = _ridge.Criterion(
            mixtures=np.asarray(self._gamma, dtype=np.float64),
            alphas=np.sort(np.asarray(self.alphas, dtype=np.float64)),
            after=AFTER if self.mixtures is None and len(grams) == 2 else (),
            selection=selection,
            folds=folds,
            refine=self.refine,
            fit_intercept=self.fit_intercept,
        )
        self._solution = _ridge.solve(list(grams.values()), y, weights=w, criterion=criterion)
        self._warn_at_edge()
        return self

    def predict_gram(self, grams: Mapping[str, FloatArray]) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels), without the intercept."""
        if tuple(grams) != self.bands:
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(grams)}.")
        return _ridge.predict_bands(list(grams.values()), self._solution, np.asarray(self._gamma))

    @property
    def intercept_(self) -> FloatArray:
        """The intercept of each voxel, (n_voxels,)."""
        return self._solution.intercept

    @property
    def alphas_(self) -> FloatArray:
        """The chosen penalty of each voxel, (n_voxels,)."""
        return self._solution.alpha

    @property
    def mixtures_(self) -> FloatArray:
        """The chosen mixture of each voxel, (n_bands, n_voxels)."""
        return np.asarray(self._gamma)[self._solution.mixture].T

    @property
    def cv_scores_(self) -> FloatArray:
        """How much of the intercept's error the chosen candidate removed in cross-validation, (n_voxels,)."""
        return self._solution.score

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
            "seed": self.seed,
        }

    def _chosen_by(self, grams: Sequence[FloatArray], groups: Sequence[str] | None) -> tuple[str, IntArray | None]:
        """Say how candidates are compared, and in which folds: near-duplicate rows share one."""
        if self.selection in ("gcv", "loo"):
            return self.selection, None
        names = near_duplicates(grams, list(groups) if groups is not None else None, n_splits=self.cv)
        repeated = len(set(names)) < 0.95 * len(names)
        if self.selection == "auto" and len(names) >= FEW_ROWS and not repeated:
            return "gcv", None
        return "kfold", folds_of(names, self.cv, seed=self.seed)

    def _warn_at_edge(self) -> None:
        if self.warns and np.mean(self._solution.alpha <= min(self.alphas)) > 0.01:
            text = "The smallest alpha (%g) was the best for over 1 %% of what is predicted from %s: add smaller ones."
            logger.warning(text, min(self.alphas), listed(self.bands, 2))


def _banded(x: Mapping[str, FloatArray] | FloatArray) -> dict[str, FloatArray]:
    return dict(x) if isinstance(x, Mapping) else {"x": x}


def _size(centred: FloatArray) -> float:
    """Mean squared norm of rows; 1 where there is nothing."""
    return float((centred * centred).sum() / len(centred)) or 1.0


def check_finite(y: FloatArray, grams: Mapping[str, FloatArray]) -> None:
    """Raise `InputError` unless there is a voxel and every value is finite."""
    if y.ndim != 2 or y.shape[1] == 0:
        raise InputError(f"Responses are {y.shape}; expected (n_rows, n_voxels) with at least one voxel.")
    for name, values in {"y": y, **grams}.items():
        if not np.isfinite(values).all():
            found = f"{int((~np.isfinite(values)).sum())} of {values.size} values of {name} are not finite"
            raise InputError(f"{found}; leave out voxels that are not valid before fitting.")


def checked_weights(weights: FloatArray | None, n_rows: int) -> FloatArray:
    """Return weights (n_rows,) in float64, 1 by default; raise `InputError` unless all are above 0."""
    if weights is None:
        return np.ones(n_rows)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n_rows,):
        raise AlignmentError(f"weights are {w.shape}; expected ({n_rows},), one per row.")
    if not (np.isfinite(w).all() and w.min() > 0):
        raise InputError(f"weights must be > 0 and finite; found {w.min():g} to {w.max():g}.")
    return w


def near_duplicates(grams: Sequence[FloatArray], groups: Sequence[str] | None, *, n_splits: int = 5) -> list[str]:
    """Name the group of each row: rows that nearly repeat each other, or share a group, go together.

    Two rows nearly repeat each other if their squared distance is below 0.5 % of the sum of their squared
    norms, over all bands together. Where bands have few dimensions, chains of neighbours can link
    everything; a group larger than a fold is such a chain, and then only equal rows count.

    Parameters
    ----------
    grams : sequence of ndarray of shape (n_rows, n_rows)
    groups : sequence of str, optional
    n_splits : int

    Returns
    -------
    list of str
    """
    joint = np.sum(grams, axis=0)
    if groups is not None:
        same_length(rows=joint, groups=groups)
    size = np.diag(joint)
    mean = (size[:, None] + size) / 2
    floor = np.finfo(np.float64).eps * len(joint) * size.max()
    codes = _linked(mean - joint <= (1 - NEAR_DUPLICATE) * mean + floor, groups)
    if np.bincount(codes).max() > len(joint) / n_splits:
        codes = _linked(mean - joint <= (1 - EQUAL) * mean + floor, groups)
    return [str(code) for code in codes]


def _linked(alike: BoolArray, groups: Sequence[str] | None) -> IntArray:
    """Give rows that are linked, by being alike or by sharing a group, one number, (n_rows,)."""
    rows, columns = np.nonzero(np.triu(alike, 1))
    if groups is not None:
        _, first, code = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        rows = np.concatenate([rows, np.arange(len(code))])
        columns = np.concatenate([columns, first[code]])
    links = csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=alike.shape)
    codes: IntArray = csgraph.connected_components(links, directed=False)[1]
    return codes


def folds_of(groups: Sequence[str], n_splits: int, *, seed: int) -> IntArray:
    """Deal grouped rows into at most `n_splits` folds, (n_rows,).

    Raises
    ------
    InputError
        If all rows are one group.
    """
    n_groups = len(set(groups))
    if n_groups < 2:
        raise InputError(f"All {len(groups)} rows repeat each other: nothing can be held out to choose alpha.")
    ids = [str(i) for i in range(len(groups))]
    return Splits.k_fold(ids, min(n_splits, n_groups), groups=groups, seed=seed).fold


def mixtures_for(mixtures: FloatArray | None, n_bands: int, *, seed: int) -> FloatArray:
    """Return the mixtures to try, (n_mixtures, n_bands); check those that were given.

    Raises
    ------
    AlignmentError
        If they are not for this number of bands.
    InputError
        If one is negative or does not sum to 1.
    """
    if mixtures is None:
        return default_mixtures(n_bands, seed=seed)
    gamma = np.asarray(mixtures, dtype=np.float64)
    if gamma.ndim != 2 or gamma.shape[1] != n_bands:
        raise AlignmentError(f"mixtures are {gamma.shape}; expected (n_mixtures, {n_bands}), one column per band.")
    if not (gamma.min() >= 0 and np.allclose(gamma.sum(1), 1)):
        raise InputError("mixtures must be at least 0 and each sum to 1.")
    return gamma


def default_mixtures(n_bands: int, *, seed: int, n_random: int = 4) -> FloatArray:
    """List the mixtures tried by default.

    One band: itself. Two: seven from the one alone to the other alone, of which an outer one is tried only where
    the next inner one is the best so far. More: equal parts, each band alone, each band with half of the weight,
    and seeded draws from a flat Dirichlet distribution. Equal parts come first: they win where nothing
    distinguishes the mixtures, and the others are tried only where they find anything.

    Returns
    -------
    ndarray of shape (n_mixtures, n_bands)
        Rows sum to 1.
    """
    if n_bands == 1:
        return np.ones((1, 1))
    if n_bands == 2:
        first = np.array([0.5, 0.25, 0.75, 0.05, 0.95, 0.0, 1.0])
        return np.stack([first, 1 - first], axis=1)
    alone = np.eye(n_bands)
    equal = np.full((1, n_bands), 1 / n_bands)
    half = 0.5 * alone + 0.5 * (1 - alone) / (n_bands - 1)
    drawn = random_for(seed, "mixtures", n_bands).dirichlet(np.ones(n_bands), size=n_random)
    return np.concatenate([equal, alone, half, drawn])
