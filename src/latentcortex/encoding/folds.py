"""Cross-validation folds of the responses of some voxels: models fitted to the other folds predict each of them.

A held-out test set is one fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np

from latentcortex import inference
from latentcortex._arrays import BoolArray, FloatArray, IntArray, listed, positions
from latentcortex.encoding.chunks import ReadByChunk, Sides, averaged
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.duplicates import duplicates
from latentcortex.encoding.fitted import FittedModel, PreparedModel
from latentcortex.encoding.map_columns import models_needed
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, VoxelCounts, logging_once
from latentcortex.features import Features, aligned
from latentcortex.inference.ties import TIE
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A model that is ready for the training stimuli of a fold, and for its held-out stimuli.

    Parameters
    ----------
    prepared : PreparedModel
    rows : mapping of str to ndarray
        Held-out stimuli, from `PreparedModel.new_rows`.
    sets : tuple of str
        Label of each held-out stimulus: those of one label have nearly equal features and count as one, see
        `encoding.duplicates`. Empty where there are no such.
    """

    prepared: PreparedModel
    rows: Mapping[str, FloatArray]
    sets: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FoldFit:
    """A model fitted to the training stimuli of a fold, which predicts the held-out ones tile by tile.

    Parameters
    ----------
    model : FittedModel
        Of some voxels.
    rows : mapping of str to ndarray
        Held-out stimuli; see `FoldModel`.
    y : ndarray of shape (n_held_out, n_voxels)
        Responses to them.
    mean : ndarray of shape (n_voxels,), optional
        What was taken off responses before the fit.
    """

    model: FittedModel
    rows: Mapping[str, FloatArray]
    y: FloatArray
    mean: FloatArray | None = None

    def predictor(self, shares: Sequence[str] = (), **about: Any) -> Callable[[slice], Prediction]:
        """Make what predicts a tile of voxels, with the nested models that these shares are computed from.

        Parameters
        ----------
        shares : sequence of str
        **about
            What else predictions are given: clusters, sets, in_time.
        """
        needed = models_needed(shares, self.model.bands)
        nested = self.model.nested(needed) if needed else {}

        def predict(tile: slice) -> Prediction:
            offset = self.model.estimator.offset_[tile]
            return Prediction(
                self.y[:, tile],
                self.model.parts_of(self.rows, voxels=tile),
                offset if self.mean is None else offset + self.mean[tile],
                nested={bands: model.joint_of(self.rows, voxels=tile) for bands, model in nested.items()},
                **about,
            )

        return predict


@dataclass(frozen=True, eq=False)
class Folds:
    """Averaged responses of some voxels in folds; a permutation only reassigns features to stimuli.

    Parameters
    ----------
    features : Features
    ids : tuple of str
        All stimuli that are held out.
    groups : tuple of str
        Label of each stimulus; those of one label change places together in a permutation.
    sides : list of (Responses, Responses)
        Averaged training and test responses of each fold.
    clusters : tuple of str
        Cluster of each stimulus (category, scene, ...), where the null flips the signs of whole clusters: folds hold
        whole ones out, most groups have no other of their size, or a test set comes in clusters; empty otherwise.
    in_time : bool
        Whether stimuli may be in the order of presentation, so that neighbours can be autocorrelated.
    """

    features: Features
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    sides: list[Sides]
    clusters: tuple[str, ...] = ()
    in_time: bool = True

    @classmethod
    def of(cls, features: Features, responses: Responses, splits: Splits, zscore: Within) -> Folds:
        """Z-score and average both sides of every fold."""
        by_chunk = ReadByChunk.of(responses, splits, zscore)
        return cls.joined(features, by_chunk.folds(slice(None)), splits, in_time=by_chunk.in_time)

    @classmethod
    def joined(cls, features: Features, folds: Sequence[Sides], splits: Splits, *, in_time: bool) -> Folds:
        """Take the sides of every fold, single trials or averages, of some voxels.

        Raises
        ------
        InputError
            If there are stimuli that no fold holds out: nothing predicts them.
        """
        aligned(features, splits.ids)
        never = [name for name, fold in zip(splits.ids, splits.fold, strict=True) if fold < 0]
        if never:
            raise InputError(
                f"{len(never)} stimuli are in no fold that holds them out: {listed(never)}. Predictions pooled over "
                "folds need every stimulus in one; give them a fold, or leave them out."
            )
        clusters = splits.groups if splits.unit != "stimulus" or _mostly_unexchangeable(splits.groups) else ()
        return cls(features, splits.ids, splits.groups, averaged(folds), clusters, in_time)

    @classmethod
    def test_set(cls, features: Features, sides: Sides, clusters: Mapping[str, str] | None = None) -> Folds:
        """Take averaged training and test responses; `clusters` name that of each test stimulus, if there are such."""
        ids = sides[1].ids
        alike = tuple(clusters[name] for name in ids) if clusters else ()
        return cls(features, ids, ids, [sides], alike, sides[1].in_time)

    @property
    def pooled(self) -> bool:
        """Whether predictions are pooled over several folds: then every permutation refits them all."""
        return len(self.sides) > 1

    def replaced(self, sides: Sequence[Sides]) -> Folds:
        """Take other voxels of the same folds."""
        return replace(self, sides=averaged(sides))

    def null_of(self, held_out: Prediction, criterion: Criterion, *, n_tests: int | None = None) -> Null:
        """Choose the null by predictions of a sample of voxels; `n_tests` counts the valid voxels of the map.

        See `Null.of`. Of pooled predictions every permutation refits all folds: it flips the signs of clusters if there
        are any, else exchanges stretches of a time series, else stimuli.

        Raises
        ------
        InputError
            If the closed form is asked for, which is not valid for pooled folds.
        """
        if not self.pooled:
            return Null.of(held_out, criterion, n_tests=n_tests)
        if criterion.null == "analytic":
            raise InputError("null = 'analytic' is not valid for predictions pooled over folds; use 'permutation'.")
        # Clusters of unequal size could not change places.
        asked = replace(criterion, null="auto") if self.clusters and criterion.null == "permutation" else criterion
        null = replace(Null.of(held_out, asked), refits=True)
        return replace(null, name="permutation", family=None) if null.name in ("analytic", "permutation") else null

    def orders(self, null: Null) -> IntArray:
        """Draw permutations that assign features to stimuli, (n_permutations, n_stimuli); groups move as a whole."""
        if null.name == "permutation":
            return inference.exchange(
                len(self.ids), n_permutations=null.n_permutations, seed=null.seed, groups=self.groups
            )
        return null.orders(len(self.ids))

    def null_draws(self, null: Null) -> FloatArray | IntArray:
        """Draw signs of clusters, or permutations that assign features to stimuli; (n_permutations, n_stimuli)."""
        # Training and held-out stimuli are flipped together: the fit varies, too, which is half of the variance of r.
        return null.signs(self.clusters) if null.name == "clusters" else self.orders(null)

    def models(self, estimator: Estimator, order: IntArray | None = None) -> list[FoldModel]:
        """Make every fold ready to be fitted, deciding by these voxels what must be the same for all.

        Parameters
        ----------
        estimator : Estimator
        order : ndarray of int, shape (n_stimuli,), optional
            Stimulus i has the features of stimulus order[i]; its own by default. Only where predictions are pooled.
        """
        owner = {} if order is None else dict(zip(self.ids, [self.ids[i] for i in order], strict=True))
        ready = []
        with logging_once():
            for train, test in self.sides:
                options: dict[str, Any] = {"weights": train.n_repeats, "sample": train.data}
                options["in_time"] = self.in_time if self.pooled else train.in_time
                train_ids, test_ids = ([owner.get(name, name) for name in side.ids] for side in (train, test))
                model = PreparedModel.of(estimator, self.features, train_ids, **options)
                # Those of pooled predictions change places together, and are predicted one by one.
                sets = () if self.pooled else duplicates(model, self.features, test_ids)
                ready.append(FoldModel(model, model.new_rows(self.features, test_ids), sets))
        return ready

    def fits(self, models: Sequence[FoldModel], signs: FloatArray | None = None) -> Iterator[FoldFit]:
        """Fit one fold after the other.

        Parameters
        ----------
        models : sequence of FoldModel
            From `models`, of these voxels or of voxels all over the map.
        signs : ndarray of shape (n_stimuli,), optional
            1 or -1, which the deviations of its responses from the mean of each fold's training stimuli are multiplied
            with; all 1 by default.
        """
        flips = np.ones(len(self.ids), dtype=np.float32) if signs is None and self.clusters and self.pooled else signs
        for (train, test), ready in zip(self.sides, models, strict=True):
            y_train, y_test, mean = train.data, test.data, None
            if flips is not None:
                # The training mean is subtracted before flipping and stays out of the fit, so that flipping all signs
                # changes no digit: added and taken off again, it would be rounded, and of two penalties that are nearly
                # as good the other one might be chosen.
                of_train, of_test = (
                    flips[positions(self.ids, side.ids, what="stimulus ids")] for side in (train, test)
                )
                centre = _centre(y_train)
                # Without an intercept the mean is put back: the estimator must not gain one.
                intercept = getattr(ready.prepared.estimator, "fit_intercept", True)
                mean = centre if intercept else np.zeros_like(centre)
                with np.errstate(invalid="ignore"):
                    y_train = of_train[:, None] * (y_train - centre) + (centre - mean)
                    y_test = centre + of_test[:, None] * (y_test - centre)
            yield FoldFit(ready.prepared.fit(y_train), ready.rows, y_test, mean)

    def fitted(self, models: Sequence[FoldModel]) -> FittedFolds:
        """Fit all folds, which then predict tile by tile."""
        return FittedFolds(self, tuple(self.fits(models)), models[0].sets)

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
            See `fits`.

        Raises
        ------
        InputError
            If no voxel is usable in every fold.
        """
        if not self.valid.any():
            raise InputError(f"0 of {len(self.valid)} voxels are usable in every fold.")
        held_out, counts = self.predicted(self.models(estimator, order), signs)
        counts.log_findings(estimator, self.features.bands)
        return held_out

    def predicted(self, models: Sequence[FoldModel], signs: FloatArray | None = None) -> tuple[Prediction, VoxelCounts]:
        """Predict every fold from the others, keeping no fit, and count voxels that the log tells of; see `fits`."""
        counts = VoxelCounts()

        def predictions() -> Iterator[Prediction]:
            nonlocal counts
            for fit in self.fits(models, signs):
                counts += VoxelCounts.count(fit.model.estimator)
                yield fit.predictor()(slice(None))

        return self.joint(predictions(), slice(None)), counts

    def joint(self, predictions: Iterable[Prediction], voxels: slice) -> Prediction:
        """Put the predictions of all folds at the places of their stimuli.

        Each fold's offset is divided equally between its bands, since folds have different ones; the result has none.

        Parameters
        ----------
        predictions : iterable of Prediction
            One for each fold.
        voxels : slice
            Those that are predicted.
        """
        valid = self.valid[voxels]
        y = np.empty((len(self.ids), len(valid)), dtype=np.float32)
        parts = np.empty((len(self.features.bands), *y.shape), dtype=np.float32)
        for rows, fold in zip(self._rows, predictions, strict=True):
            part = fold.yhat_bands + fold.offset / len(parts)
            y[rows], parts[:, rows] = fold.y, np.where(valid, part, np.nan)
        return Prediction(y, parts, np.zeros(len(valid)), clusters=self.clusters, in_time=self.in_time)

    @cached_property
    def valid(self) -> BoolArray:
        """Tell which voxels are usable in every fold, (n_voxels,)."""
        return np.asarray(np.logical_and.reduce([train.valid() for train, _ in self.sides]))

    @cached_property
    def _rows(self) -> list[IntArray]:
        """Where the stimuli of each fold are among all."""
        return [positions(self.ids, test.ids, what="stimulus ids") for _, test in self.sides]


@dataclass(frozen=True, eq=False)
class FittedFolds:
    """A model fitted to every fold, ready to predict what each of them holds out, tile by tile.

    Parameters
    ----------
    folds : Folds
    fits : tuple of FoldFit
    sets : tuple of str
        Of each held-out stimulus of a test set; see `FoldModel`.
    """

    folds: Folds
    fits: tuple[FoldFit, ...]
    sets: tuple[str, ...] = field(default=())

    @property
    def models(self) -> list[FittedModel]:
        """The fitted model of each fold."""
        return [fit.model for fit in self.fits]

    @property
    def counts(self) -> VoxelCounts:
        """The voxels of all fits that the log tells of: constant ones, alphas at the end of the grid."""
        return reduce(add, [VoxelCounts.count(model.estimator) for model in self.models])

    def predictor(self, shares: Sequence[str] = ()) -> Callable[[slice], Prediction]:
        """Make what predicts a tile of voxels, with the nested models that these shares are computed from."""
        folds = self.folds
        if not folds.pooled:
            return self.fits[0].predictor(shares, clusters=folds.clusters, sets=self.sets, in_time=folds.in_time)
        each = [fit.predictor() for fit in self.fits]
        return lambda tile: folds.joint((predict(tile) for predict in each), tile)


def _mostly_unexchangeable(groups: Sequence[str]) -> bool:
    """Tell whether most stimuli are in a group whose size no other has: only groups of one size are exchanged."""
    size = Counter(groups)
    alone = Counter(size.values())
    return sum(n for n in size.values() if alone[n] == 1) > len(groups) / 2


def _centre(values: FloatArray) -> FloatArray:
    """Average over rows; exactly 0 where it is so but for rounding, as of z-scores, so that flips leave no trace."""
    with np.errstate(invalid="ignore"):
        mean = values.mean(0)
        return np.asarray(np.where(np.abs(mean) <= TIE[4] * values.std(0), 0, mean), dtype=values.dtype)
