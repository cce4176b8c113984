"""Predictions of every stimulus from a fit to the other folds, as they are, exchanged or with signs flipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, positions
from latentcortex.encoding.chunks import ReadByChunk, Sides, averaged
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.fitted import Prepared
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, VoxelCounts, telling_once
from latentcortex.features import Features, aligned
from latentcortex.inference.ties import TIE
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits

FoldModel = tuple[Prepared, dict[str, FloatArray]]
"""A model that is ready for the training stimuli of a fold, and its held-out stimuli."""


@dataclass(frozen=True, eq=False)
class Folds:
    """Cross-validation folds of some voxels; a permutation only changes whose features are whose.

    Parameters
    ----------
    features : Features
    ids : tuple of str
        All stimuli.
    groups : tuple of str
        Of each: stimuli that change places together.
    sides : list of (Responses, Responses)
        Averaged training and test responses of each fold.
    clusters : tuple of str
        Of each stimulus, where folds hold out whole clusters; empty otherwise.
    in_time : bool
        Whether the order of stimuli may be that of time.
    """

    features: Features
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    sides: list[Sides]
    clusters: tuple[str, ...] = ()
    in_time: bool = True

    def null_of(self, held_out: Prediction, criterion: Criterion) -> Null:
        """Choose the null of pooled predictions: clusters where folds hold such out, stretches of a series, or stimuli.

        Raises
        ------
        InputError
            If the closed form is asked for, which is not valid for pooled folds.
        """
        if criterion.null == "analytic":
            raise InputError("null = 'analytic' is not valid for predictions pooled over folds; use 'permutation'.")
        # Clusters of unequal size could not change places.
        asked = replace(criterion, null="auto") if self.clusters and criterion.null == "permutation" else criterion
        null = Null.of(held_out, asked)
        return replace(null, name="permutation", family=None) if null.name in ("analytic", "permutation") else null

    def orders(self, null: Null) -> IntArray:
        """Draw whose features are whose, (n_permutations, n_stimuli); identical stimuli change places together."""
        if null.name == "permutation":
            return inference.exchange(
                len(self.ids), n_permutations=null.n_permutations, seed=null.seed, groups=self.groups
            )
        return null.orders(len(self.ids))

    def draws(self, null: Null) -> FloatArray | IntArray:
        """Draw the signs of clusters, or whose features are whose; (n_permutations, n_stimuli)."""
        # A fold is predicted from the others, so that flips of its own part alone would leave out half of the variance.
        return null.signs(self.clusters) if null.name == "clusters" else self.orders(null)

    @classmethod
    def of(cls, features: Features, responses: Responses, splits: Splits, zscore: Within) -> Folds:
        """Z-score and average both sides of every fold."""
        by_chunk = ReadByChunk.of(responses, splits, zscore)
        return cls.joined(features, by_chunk.folds(slice(None)), splits, in_time=by_chunk.in_time)

    @classmethod
    def joined(cls, features: Features, folds: Sequence[Sides], splits: Splits, *, in_time: bool) -> Folds:
        """Take the sides of every fold, single trials or averages, of some voxels."""
        aligned(features, splits.ids)
        clusters = splits.groups if splits.unit != "stimulus" or _stay(splits.groups) else ()
        return cls(features, splits.ids, splits.groups, averaged(folds), clusters, in_time)

    def models(self, estimator: Estimator, order: IntArray | None = None) -> list[FoldModel]:
        """Make every fold ready to be fitted, deciding by these voxels what must be the same for all.

        Parameters
        ----------
        estimator : Estimator
        order : ndarray of int, shape (n_stimuli,), optional
            Stimulus i has the features of stimulus order[i]; its own by default.
        """
        owner = dict(zip(self.ids, self.ids if order is None else [self.ids[i] for i in order], strict=True))
        ready = []
        with telling_once():
            for train, test in self.sides:
                how: dict[str, Any] = {"weights": train.n_repeats, "in_time": self.in_time, "sample": train.data}
                model = Prepared.of(estimator, self.features, [owner[name] for name in train.ids], **how)
                ready.append((model, model.new_rows(self.features, [owner[name] for name in test.ids])))
        return ready

    def predict(
        self,
        estimator: Estimator,
        order: IntArray | None = None,
        *,
        signs: FloatArray | None = None,
    ) -> Prediction:
        """Predict every fold from the others.

        Parameters
        ----------
        estimator : Estimator
        order : ndarray of int, shape (n_stimuli,), optional
            Stimulus i has the features of stimulus order[i]; its own by default.
        signs : ndarray of shape (n_stimuli,), optional
            1 or -1, which the deviations of its responses from the mean of each fold's training stimuli are multiplied
            with; all 1 by default.

        Raises
        ------
        InputError
            If no voxel is usable in every fold.
        """
        valid = np.logical_and.reduce([train.valid() for train, _ in self.sides])
        if not valid.any():
            raise InputError(f"0 of {len(valid)} voxels are usable in every fold.")
        held_out, counts = self.predicted(estimator, self.models(estimator, order), signs=signs)
        counts.tell(estimator, self.features.bands)
        return held_out

    def predicted(
        self, estimator: Estimator, models: Sequence[FoldModel], *, signs: FloatArray | None = None
    ) -> tuple[Prediction, VoxelCounts]:
        """Predict every fold from the others, and count what fits have to be told of; see `predict`.

        Parameters
        ----------
        estimator : Estimator
        models : sequence
            From `models` of the same estimator, by voxels all over the map.
        signs : ndarray of shape (n_stimuli,), optional
        """
        flips = np.ones(len(self.ids), dtype=np.float32) if signs is None and self.clusters else signs
        valid = np.logical_and.reduce([train.valid() for train, _ in self.sides])
        y = np.empty((len(self.ids), len(valid)), dtype=np.float32)
        parts = np.empty((len(self.features.bands), *y.shape), dtype=np.float32)
        counts = VoxelCounts()
        for (train, test), (model, kernels) in zip(self.sides, models, strict=True):
            rows = positions(self.ids, test.ids, what="stimulus ids")
            fitted, held, mean = train.data, test.data, np.zeros(len(valid), dtype=np.float32)
            if flips is not None:
                # Fitted without their mean, so that flipping everything changes no digit: were it added and taken off
                # again, rounding would choose another penalty where two are nearly as good.
                centre, of_train = _centre(fitted), flips[positions(self.ids, train.ids, what="stimulus ids")]
                # An estimator without an intercept must not get one by the way.
                mean = centre if getattr(estimator, "fit_intercept", True) else mean
                with np.errstate(invalid="ignore"):
                    fitted = of_train[:, None] * (fitted - centre) + (centre - mean)
                    held = centre + flips[rows, None] * (held - centre)
            fit = model.fit(fitted)
            counts += VoxelCounts.of(fit.estimator)
            part = fit.parts_of(kernels) + (fit.estimator.offset_ + mean) / len(fit.bands)
            y[rows], parts[:, rows] = held, np.where(valid, part, np.nan)
        held_out = Prediction(y, parts, np.zeros(len(valid)), clusters=self.clusters, in_time=self.in_time)
        return held_out, counts


def _stay(groups: Sequence[str]) -> bool:
    """Tell whether most rows are in groups of a size of their own, which no exchange would move."""
    size = Counter(groups)
    alone = Counter(size.values())
    return sum(n for n in size.values() if alone[n] == 1) > len(groups) / 2


def _centre(values: FloatArray) -> FloatArray:
    """Average over rows; exactly 0 where it is so but for rounding, as of z-scores, so that flips leave no trace."""
    with np.errstate(invalid="ignore"):
        mean = values.mean(0)
        return np.asarray(np.where(np.abs(mean) <= TIE[4] * values.std(0), 0, mean), dtype=values.dtype)
