"""Features and responses -> maps: fit on training stimuli, score on others, split between bands."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Literal, Self

import numpy as np
from tqdm import tqdm

from latentcortex import inference, scoring
from latentcortex._arrays import BoolArray, FloatArray, in_threads, tiles
from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, quiet
from latentcortex.features import Features, aligned
from latentcortex.maps import Maps
from latentcortex.responses import Responses, Within
from latentcortex.space import Space
from latentcortex.splits import Splits

logger = logging.getLogger(__name__)

LEAST: Final = float(np.finfo(np.float32).tiny)  # maps are float32, and no p may become 0


@dataclass(frozen=True, eq=False)
class Prediction:
    """Measured and predicted responses of held-out stimuli.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
    yhat_bands : ndarray of shape (n_bands, n_stimuli, n_voxels)
        What each band contributes; nan where a voxel is not valid.
    intercept : ndarray of shape (n_voxels,)
    """

    y: FloatArray
    yhat_bands: FloatArray
    intercept: FloatArray

    @cached_property
    def yhat(self) -> FloatArray:
        """The joint prediction, (n_stimuli, n_voxels)."""
        return np.asarray(self.yhat_bands.sum(0) + self.intercept.astype(np.float32))

    @cached_property
    def r(self) -> FloatArray:
        """The correlation of each voxel, (n_voxels,)."""
        return _by_tile(scoring.correlation, self.y, self.yhat)


class Encoder:
    """A joint encoding model of all bands of the features it is given.

    Parameters
    ----------
    estimator : Estimator
        From `estimators.make`.
    analysis : str
        Name of the analysis, for the columns of the maps.
    progress : bool
        Draw a progress bar over permutations.
    """

    def __init__(self, estimator: Estimator, *, analysis: str = "", progress: bool = False) -> None:
        self.estimator, self.analysis, self.progress = estimator, analysis, progress
        self.bands: tuple[str, ...] = ()

    def fit(self, features: Features, train: Responses) -> Self:
        """Fit on the stimuli of the training responses, repeats averaged and weighted by their number.

        Parameters
        ----------
        features : Features
            All its bands are fitted jointly.
        train : Responses

        Raises
        ------
        AlignmentError
            If a stimulus has no features.
        InputError
            If no voxel is valid.
        """
        averaged = train.averaged()
        aligned(features, averaged.ids)
        self._valid = usable(averaged)
        self.bands, self._ids, self._weights = features.bands, averaged.ids, averaged.n_repeats
        # A copy: another encoder with the same estimator must not change what this one predicts.
        self.estimator = copy.copy(self.estimator).fit_gram(
            self._grams(features, self._ids), averaged.data[:, self._valid], weights=self._weights
        )
        return self

    def predict(self, features: Features, ids: Sequence[str]) -> FloatArray:
        """Predict responses; (n_stimuli, n_voxels), nan where a voxel is not valid."""
        parts = self.estimator.predict_gram(self._grams(features, ids))
        out = np.full((len(ids), len(self._valid)), np.nan, dtype=np.float32)
        out[:, self._valid] = parts.sum(0) + self.estimator.intercept_
        return out

    def predict_held_out(self, features: Features, test: Responses) -> Prediction:
        """Predict the averaged responses of stimuli that were not fitted on, band by band.

        Raises
        ------
        InputError
            If a test stimulus was fitted on.
        """
        averaged = test.averaged()
        fitted = sorted(set(averaged.ids) & set(self._ids))
        if fitted:
            raise InputError(f"{len(fitted)} test stimuli were fitted on, for example {fitted[0]}.")
        aligned(features, averaged.ids)
        shape = (len(self.bands), *averaged.data.shape)
        parts, intercept = np.full(shape, np.nan, dtype=np.float32), np.full(shape[2], np.nan)
        parts[:, :, self._valid] = self.estimator.predict_gram(self._grams(features, averaged.ids))
        intercept[self._valid] = self.estimator.intercept_
        return Prediction(averaged.data, parts, intercept)

    def score(
        self,
        features: Features,
        test: Responses,
        *,
        shares: Sequence[str] = ("product",),
        q: float = 0.05,
        correction: str = "bh",
        n_permutations: int = 0,
        seed: int = 0,
    ) -> Maps:
        """Score predictions of averaged test responses, with shares and significance.

        Parameters
        ----------
        features : Features
        test : Responses
            None of its stimuli may have been fitted on.
        shares : sequence of {"product"}
            How the joint score is split where there are several bands.
        q : float
            False discovery rate over all valid voxels of this map.
        correction : {"bh", "by"}
        n_permutations : int
            0: the closed form of the null of independent Gaussian vectors. Otherwise test stimuli are
            exchanged against the fixed predictions; at least 1 across folds.
        seed : int
            For the permutations.

        Returns
        -------
        Maps
            r, r2, p, q, mask; with several bands also the shares of each.
        """
        held_out = self.predict_held_out(features, test)
        tests: dict[str, Any] = {"q": q, "correction": correction, "n_permutations": n_permutations}
        return self.maps_of(held_out, test.space, shares=shares, seed=seed, **tests)

    def maps_of(
        self,
        held_out: Prediction,
        space: Space,
        *,
        shares: Sequence[str] = ("product",),
        q: float = 0.05,
        correction: str = "bh",
        n_permutations: int = 0,
        seed: int = 0,
    ) -> Maps:
        """Score a prediction of held-out stimuli; arguments and columns are those of `score`."""
        for share in shares:
            if share not in _SHARES:
                raise unknown("share", share, _SHARES)
        r = held_out.r
        if n_permutations:
            p = _exchanged_p(held_out, r, n_permutations, seed)
        else:
            p = inference.correlation_p(r, len(held_out.y))
        about = self._about(len(held_out.y))
        columns = _scores(about, held_out, r)
        columns += significance(about, p, q=q, correction=correction, n_permutations=n_permutations)
        for share in shares if len(self.bands) > 1 else ():
            columns += _SHARES[share](about, held_out, self.bands)
        return Maps.of(space, columns)

    def cross_validate(
        self,
        features: Features,
        responses: Responses,
        splits: Splits,
        *,
        zscore: Within = "session",
        q: float = 0.05,
        correction: str = "bh",
        n_permutations: int = 1000,
        seed: int = 0,
    ) -> Maps:
        """Score predictions pooled over folds, against a null that refits after exchanging stimuli.

        Pooled r is biased downwards and its parametric p is not valid; each permutation refits every fold
        and so carries the same bias, and the permutation p is valid.

        Parameters
        ----------
        features : Features
        responses : Responses
        splits : Splits
        zscore : {"session", "run", "none"}
            With the statistics of each fold's training rows.
        q, correction, n_permutations, seed
            As in `score`.

        Returns
        -------
        Maps
            r, r2, p, q, mask; with several bands also the product shares of each.
        """
        folds = Folds.of(features, responses, splits, zscore)
        held_out = folds.predict(self.estimator, np.arange(len(splits.ids)))
        r = scoring.correlation(held_out.y, held_out.yhat)
        null = self.null(folds, n_permutations=n_permutations, seed=seed)
        p = inference.permutation_p(r, null)
        self.bands = features.bands
        about = self._about(len(held_out.y))
        columns = _scores(about, held_out, r)
        columns += significance(about, p, q=q, correction=correction, n_permutations=n_permutations)
        if len(self.bands) > 1:
            columns += _product_shares(about, held_out, self.bands)
        return Maps.of(responses.space, columns)

    def null(self, folds: Folds, *, n_permutations: int, seed: int) -> FloatArray:
        """Refit and score after exchanging stimuli; r of shape (n_permutations, n_voxels)."""
        estimator = quiet(self.estimator)
        orders = inference.exchange(len(folds.ids), n_permutations=n_permutations, seed=seed, groups=folds.groups)

        def exchanged(order: Any) -> FloatArray:
            held_out = folds.predict(estimator, order)
            return scoring.correlation(held_out.y, held_out.yhat).astype(np.float32)

        chunks = [orders[i : i + 10] for i in range(0, len(orders), 10)]
        watched = tqdm(chunks, desc="permuting", unit="x10", disable=not self.progress)
        return np.stack([r for chunk in watched for r in in_threads(exchanged, list(chunk))])

    def _grams(self, features: Features, ids: Sequence[str]) -> dict[str, FloatArray]:
        fit_on: dict[str, Any] = {"fit_on": self._ids, "weights": self._weights}
        return {band: features.gram(band, ids, self._ids, **fit_on) for band in self.bands}

    def _about(self, n_stimuli: int) -> dict[str, Any]:
        model = "+".join(self.bands)
        band = self.bands[0] if len(self.bands) == 1 else ""
        return {"analysis": self.analysis, "model": model, "band": band, "n_stimuli": n_stimuli}


def usable(responses: Responses) -> BoolArray:
    """Tell which voxels are valid, (n_voxels,); raise `InputError` if none is."""
    valid = responses.valid()
    if not valid.any():
        empty = np.flatnonzero(np.isnan(responses.data).all(1))
        if len(empty):
            row = responses.rows["stimulus"].iloc[empty[0]]
            what = f"{len(empty)} rows are nan in all of them (the first is of stimulus {row}); leave such trials out"
        else:
            what = "each has a nan or does not vary"
        raise InputError(f"0 of {len(valid)} voxels are usable: {what}.")
    return valid


@dataclass(frozen=True, eq=False)
class Folds:
    """Cross-validation folds, made ready once; a permutation only changes whose features are whose."""

    features: Features
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    sides: list[tuple[Responses, Responses]]

    @classmethod
    def of(cls, features: Features, responses: Responses, splits: Splits, zscore: Within) -> Folds:
        """Z-score and average both sides of every fold."""
        aligned(features, splits.ids)
        sides = []
        for train_ids, test_ids in splits:
            train, test = responses.split(test_ids=test_ids, train_ids=train_ids, zscore=zscore)
            sides.append((train.averaged(), test.averaged()))
        return cls(features, splits.ids, splits.groups, sides)

    def predict(self, estimator: Estimator, order: Any) -> Prediction:
        """Predict every fold from the others, where stimulus i has the features of stimulus order[i]."""
        has = {name: self.ids[i] for name, i in zip(self.ids, order, strict=True)}
        valid = np.logical_and.reduce([train.valid() for train, _ in self.sides])
        if not valid.any():
            raise InputError(f"0 of {len(valid)} voxels are usable in every fold.")
        y, parts = [], []
        for train, test in self.sides:
            fitted, new = [has[name] for name in train.ids], [has[name] for name in test.ids]
            fit_on: dict[str, Any] = {"fit_on": fitted, "weights": train.n_repeats}
            bands = self.features.bands
            inner = {b: self.features.gram(b, fitted, fitted, **fit_on) for b in bands}
            across = {b: self.features.gram(b, new, fitted, **fit_on) for b in bands}
            model = copy.copy(estimator).fit_gram(inner, train.data[:, valid], weights=train.n_repeats)
            part = np.full((len(bands), *test.data.shape), np.nan, dtype=np.float32)
            part[:, :, valid] = model.predict_gram(across) + model.intercept_ / len(bands)
            y.append(test.data)
            parts.append(part)
        return Prediction(np.concatenate(y), np.concatenate(parts, axis=1), np.zeros(len(valid)))


# Columns of maps

Column = tuple[FloatArray | BoolArray, dict[str, Any]]


def significance(
    about: dict[str, Any], p: FloatArray, *, q: float, correction: str, n_permutations: int = 0
) -> list[Column]:
    """Make the columns p, q and mask of one map, whose valid voxels are one family."""
    found = inference.fdr(p, q=q, method=correction)
    if n_permutations:
        needed = inference.permutations_needed(found.n_tests, max(int((p < q).sum()), 1), q)
        if needed > n_permutations:
            logger.warning("%d permutations are too few to reject at q = %g; needs %d.", n_permutations, q, needed)
    name = f"{about['analysis']}: all {found.n_tests} valid voxels of {about['model']}"
    null = f"{n_permutations} permutations of stimuli" if n_permutations else "independent Gaussian vectors"
    family = {"correction": correction, "q": q, "family": name, "n_tests": found.n_tests, "null": null}
    mask = np.where(np.isnan(p), np.nan, found.rejected)
    return [
        (np.maximum(p, LEAST), {**about, "statistic": "p", "unit": "probability", "null": null}),
        (np.maximum(found.q_values, LEAST), {**about, "statistic": "q", "unit": "rate", **family}),
        (mask, {**about, "statistic": "mask", "unit": "0 or 1", **family, "threshold": found.threshold}),
    ]


def _scores(about: dict[str, Any], held_out: Prediction, r: FloatArray) -> list[Column]:
    explained = _by_tile(scoring.r2, held_out.y, held_out.yhat)
    return [
        (r, {**about, "statistic": "r", "unit": "correlation"}),
        (explained, {**about, "statistic": "r2", "unit": "fraction of variance"}),
    ]


def _product_shares(about: dict[str, Any], held_out: Prediction, bands: Sequence[str]) -> list[Column]:
    columns: list[Column] = []
    kinds: tuple[tuple[Literal["r2", "r"], str, str], ...]
    kinds = (("r2", "shareR2", "fraction of variance"), ("r", "shareR", "correlation"))
    for of, statistic, unit in kinds:
        split = _by_tile(partial(scoring.product_shares, of=of), held_out.y, held_out.yhat_bands)
        columns += [
            (share, {**about, "band": band, "statistic": statistic, "unit": unit})
            for share, band in zip(split, bands, strict=True)
        ]
    return columns


def _by_tile(score: Callable[[FloatArray, FloatArray], FloatArray], y: FloatArray, yhat: FloatArray) -> FloatArray:
    """Score all voxels, a block of them per thread; voxels are the last axis of all three arrays."""

    def block(tile: slice) -> FloatArray:
        return score(y[:, tile], yhat[..., tile])

    return np.concatenate(in_threads(block, tiles(y.shape[1])), axis=-1)


_SHARES: Final[dict[str, Callable[[dict[str, Any], Prediction, Sequence[str]], list[Column]]]] = {
    "product": _product_shares
}


def _exchanged_p(held_out: Prediction, r: FloatArray, n_permutations: int, seed: int) -> FloatArray:
    """Exchange test stimuli against fixed predictions; counts are kept, not the whole null."""
    reached = np.zeros(r.shape)
    for order in inference.exchange(len(held_out.y), n_permutations=n_permutations, seed=seed):
        reached += scoring.correlation(held_out.y[order], held_out.yhat) >= r
    return np.asarray(np.where(np.isnan(r), np.nan, (reached + 1) / (n_permutations + 1)))
