"""Predictions of every stimulus from a fit to the other folds, as they are, exchanged or with signs flipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, positions
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.fitted import Fitted
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator
from latentcortex.features import Features, aligned
from latentcortex.inference.ties import TIE
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits


class Draws(Protocol):
    """Where r of finished permutations is kept, by a name that stands for the model and the permutation."""

    def load(self, name: str) -> FloatArray | None:
        """Return r, float32 (n_voxels,), as it was saved; None if it was not."""
        ...

    def save(self, name: str, r: FloatArray) -> None:
        """Keep r of one permutation; several threads may do so at once."""
        ...


@dataclass(frozen=True, eq=False)
class Folds:
    """Cross-validation folds, made ready once; a permutation only changes whose features are whose."""

    features: Features
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    sides: list[tuple[Responses, Responses]]
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

    @classmethod
    def of(cls, features: Features, responses: Responses, splits: Splits, zscore: Within) -> Folds:
        """Z-score and average both sides of every fold."""
        aligned(features, splits.ids)
        sides = []
        for train_ids, test_ids in splits:
            train, test = responses.split(test_ids=test_ids, train_ids=train_ids, zscore=zscore)
            sides.append((train.averaged(), test.averaged()))
        clusters = splits.groups if splits.unit != "stimulus" or _stay(splits.groups) else ()
        return cls(features, splits.ids, splits.groups, sides, clusters, responses.select(splits.ids).in_time)

    def predict(
        self, estimator: Estimator, order: IntArray | None = None, *, signs: FloatArray | None = None
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
        """
        has = {name: self.ids[i] for name, i in zip(self.ids, order, strict=True)} if order is not None else None
        flips = np.ones(len(self.ids), dtype=np.float32) if signs is None and self.clusters else signs
        valid = np.logical_and.reduce([train.valid() for train, _ in self.sides])
        if not valid.any():
            raise InputError(f"0 of {len(valid)} voxels are usable in every fold.")
        y = np.empty((len(self.ids), len(valid)), dtype=np.float32)
        parts = np.empty((len(self.features.bands), *y.shape), dtype=np.float32)
        for train, test in self.sides:
            fitted, new = ([has[name] if has else name for name in side.ids] for side in (train, test))
            rows = positions(self.ids, test.ids, what="stimulus ids")
            known, held, mean = train.data, test.data, np.zeros(len(valid), dtype=np.float32)
            if flips is not None:
                # Fitted without their mean, so that flipping everything changes no digit: were it added and taken off
                # again, rounding would choose another penalty where two are nearly as good.
                centre, own = _centre(known), flips[positions(self.ids, train.ids, what="stimulus ids")]
                # An estimator without an intercept must not get one by the way.
                mean = centre if getattr(estimator, "fit_intercept", True) else mean
                with np.errstate(invalid="ignore"):
                    known = own[:, None] * (known - centre) + (centre - mean)
                    held = centre + flips[rows, None] * (held - centre)
            model = Fitted.of(estimator, self.features, fitted, known, weights=train.n_repeats, in_time=self.in_time)
            part = model.parts(self.features, new) + (model.estimator.offset_ + mean) / len(model.bands)
            y[rows], parts[:, rows] = held, np.where(valid, part, np.nan)
        return Prediction(y, parts, np.zeros(len(valid)), clusters=self.clusters, in_time=self.in_time)


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
