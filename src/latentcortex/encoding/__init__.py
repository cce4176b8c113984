"""Features and responses -> maps: fit on training stimuli, score on others, split between bands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from tqdm import tqdm

from latentcortex import inference
from latentcortex._arrays import TILE, BoolArray, FloatArray, digest, id_list, listed
from latentcortex._files import telling_of
from latentcortex._shelf import unknown
from latentcortex.encoding import partition
from latentcortex.encoding.columns import (
    SHARES,
    Column,
    accuracy,
    models_needed,
    product_shares,
    rejudged,
    scores,
    side_by_side,
    significance,
)
from latentcortex.encoding.criterion import MOST_VOXELS, Criterion, Null, is_series, tell_of_opposite
from latentcortex.encoding.duplicates import duplicates
from latentcortex.encoding.fitted import Fitted
from latentcortex.encoding.folds import Draws, Folds
from latentcortex.encoding.halves import HalfFits
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.regions import RegionMeans, Regions
from latentcortex.encoding.unique import Sides, UniqueShares, check_share_test
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, quiet
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.inference.control import expected_false, tally_draws
from latentcortex.maps import Maps
from latentcortex.responses import Responses, Within
from latentcortex.space import Space
from latentcortex.splits import Splits

AT_ONCE: Final = 16 * TILE
"""Voxels that are predicted and scored together."""
N_STRETCHES: Final = 16
"""Stretches of voxels, all over the valid ones, whose predictions choose a null."""

__all__ = [
    "SHARES",
    "Column",
    "Criterion",
    "Draws",
    "Encoder",
    "Fitted",
    "Folds",
    "HalfFits",
    "Null",
    "Prediction",
    "Regions",
    "Sides",
    "check_share_test",
    "is_series",
    "rejudged",
    "significance",
    "usable",
]


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
        self._model: Fitted | None = None
        self._train: Responses | None = None

    def __repr__(self) -> str:
        """Say what it is, in one line."""
        model = self._model
        fitted = "not fitted" if model is None else f"{listed(model.bands, 6)} fitted on {len(model.ids)} stimuli"
        return f"Encoder({type(self.estimator).__name__}, {fitted})"

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
        _check_nouns(features, train)
        averaged = train.averaged()
        usable(averaged)
        how: dict[str, Any] = {"weights": averaged.n_repeats, "in_time": averaged.in_time}
        self._model = Fitted.of(self.estimator, features, averaged.ids, averaged.data, **how)
        self._train = averaged
        return self

    @property
    def model(self) -> Fitted:
        """The fitted model: what it predicts, band by band, its weights and patterns."""
        if self._model is None:
            raise InputError("This encoder is not fitted yet: call fit, or Encoder.load.")
        return self._model

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the fitted model."""
        return self.model.bands

    def predict(self, features: Features, ids: Sequence[str] | None = None) -> FloatArray:
        """Predict responses to stimuli; (n_stimuli, n_voxels), nan where a voxel is not valid.

        Parameters
        ----------
        features : Features
            Those of the fit, or those of new images, which need not hold the fitted stimuli.
        ids : sequence of str, optional
            All of them by default.

        Raises
        ------
        AlignmentError
            If a band or a stimulus is not there, or a band has another number of dimensions.
        """
        _check_nouns(features)
        return self.model.predict(features, features.ids if ids is None else id_list("ids", ids))

    def predict_held_out(self, features: Features, test: Responses, *, voxels: slice = slice(None)) -> Prediction:
        """Predict the averaged responses of stimuli that were not fitted on, band by band; of some voxels, or all.

        Raises
        ------
        InputError
            If a test stimulus was fitted on.
        """
        averaged = self._averaged(test)
        predicted = self._predicted(averaged, self.model.new_rows(features, averaged.ids), voxels)
        return replace(predicted, sets=duplicates(self.model, features, averaged.ids))

    def walk(
        self,
        features: Features,
        test: Responses,
        *,
        shares: Sequence[str] = (),
        clusters: Mapping[str, str] | None = None,
    ) -> Iterator[Prediction]:
        """Predict as `predict_held_out` does, some voxels at a time, so that memory does not grow with all of them.

        With the nested models that these shares are computed from, and the cluster of each stimulus, if there are such.
        """
        averaged = self._averaged(test)
        rows = self.model.new_rows(features, averaged.ids)
        needed = models_needed(shares, self.bands)
        nested = self.model.nested(needed) if needed else {}
        alike = tuple(clusters[name] for name in averaged.ids) if clusters else ()
        for start in range(0, averaged.space.n_voxels, AT_ONCE):
            voxels = slice(start, start + AT_ONCE)
            inner = {bands: model.joint_of(rows, voxels=voxels) for bands, model in nested.items()}
            yield replace(self._predicted(averaged, rows, voxels), nested=inner, clusters=alike)

    def _averaged(self, test: Responses) -> Responses:
        averaged = test.averaged()
        fitted = sorted(set(averaged.ids) & set(self.model.ids))
        if fitted:
            raise InputError(f"{len(fitted)} test stimuli were fitted on, for example {fitted[0]}.")
        return averaged

    def _predicted(self, test: Responses, rows: Mapping[str, FloatArray], voxels: slice) -> Prediction:
        parts = self.model.parts_of(rows, voxels=voxels)
        return Prediction(test.data[:, voxels], parts, self.model.estimator.offset_[voxels], in_time=test.in_time)

    def weights(self, band: str, voxels: slice = slice(None)) -> FloatArray:
        """Compute weights in the units of the features, float64 (n_dims, n_voxels); see `Fitted.coefficients`."""
        return self.model.coefficients(band, voxels)

    def intercept(self, voxels: slice = slice(None)) -> FloatArray:
        """Compute what is predicted where all features are 0, float64 (n_voxels,); see `Fitted.intercept`."""
        return self.model.intercept(voxels)

    def patterns(self, band: str, voxels: slice = slice(None)) -> FloatArray:
        """Compute what covaries with predictions, float64 (n_dims, n_voxels); see `Fitted.patterns`."""
        return self.model.patterns(band, voxels)

    def spatial(
        self, band: str, voxels: slice = slice(None), *, shape: tuple[int, int, int] | None = None
    ) -> FloatArray:
        """Lay the weights of a latent out as it lies in the image, float64 (n_voxels, n_channels, height, width).

        Parameters
        ----------
        band : str
        voxels : slice
        shape : (n_channels, height, width), optional
            Of the latent; needed only if the features do not know it, as those of a latent diffusion model do.

        Raises
        ------
        InputError
            If the shape is not known or does not have as many entries as the band.
        """
        weights = self.weights(band, voxels)
        own = shape or self.model.features.shape(band)
        if own is None:
            raise InputError(f"The features do not say how {band} lies in the image: give its shape.")
        if int(np.prod(own)) != len(weights):
            raise InputError(
                f"Band {band} has {len(weights)} dimensions; {' x '.join(map(str, own))} are {np.prod(own)}."
            )
        return np.ascontiguousarray(weights.T).reshape(-1, *own)

    def save(self, path: Path | str) -> None:
        """Write the fitted model as one safetensors file; see `Fitted.save`."""
        self.model.save(Path(path), about={"analysis": self.analysis})

    @classmethod
    def load(cls, path: Path | str, features: Features) -> Self:
        """Read a model that `save` wrote, and join it with the features that it was fitted on; see `Fitted.load`."""
        model, about = Fitted.load(Path(path), features)
        encoder = cls(model.estimator, analysis=about.get("analysis", ""))
        encoder._model = model
        return encoder

    def score(self, features: Features, test: Responses, **criterion: Any) -> Maps:
        """Score predictions of averaged test responses, with shares and significance.

        Parameters
        ----------
        features : Features
        test : Responses
            None of its stimuli may have been fitted on.
        **criterion
            What differs from the defaults of `Criterion`, for example shares=("product", "unique"), q=0.05,
            correction="bh", null="auto", n_permutations=1000, seed=0.

        Returns
        -------
        Maps
            r, r2, p, q, mask; with several bands also the shares of each.
        """
        _check_nouns(features, test)
        how, sides = Criterion(**criterion), self.sides(features, test)
        if sides is not None:
            check_share_test(how, sides.features, sides.train, test, scale=bool(self.model.estimator.scale))
        pieces = self.walk(features, test, shares=how.shares)
        return self.maps_of(pieces, test.space, how, null=self.null_of(features, test, how), sides=sides)

    def sides(self, features: Features, test: Responses) -> Sides | None:
        """Gather what this model was fitted to and is tested on, for tests that fit again; None if it was loaded."""
        if self._train is None:
            return None
        return Sides(features.only(self.bands), self._train, self._averaged(test))

    def null_of(
        self,
        features: Features,
        test: Responses,
        criterion: Criterion,
        *,
        clusters: Mapping[str, str] | None = None,
    ) -> Null:
        """Choose the null of a test set by predictions of voxels all over it; see `Criterion`."""
        averaged, valid = self._averaged(test), np.flatnonzero(usable(test))
        rows = self.model.new_rows(features, averaged.ids)
        starts = valid[:: -(-len(valid) // N_STRETCHES)]
        stretches = [slice(int(i), int(i) + MOST_VOXELS // N_STRETCHES) for i in starts]
        parts = [self._predicted(averaged, rows, some) for some in stretches]
        alike = tuple(clusters[name] for name in averaged.ids) if clusters else ()
        return Null.of(
            Prediction(
                np.concatenate([part.y for part in parts], axis=1),
                np.concatenate([part.yhat_bands for part in parts], axis=2),
                np.concatenate([part.offset for part in parts]),
                clusters=alike,
                sets=duplicates(self.model, features, averaged.ids),
                in_time=averaged.in_time,
            ),
            criterion,
            n_tests=len(valid),
        )

    def maps_of(
        self,
        held_out: Prediction | Iterable[Prediction],
        space: Space,
        criterion: Criterion | None = None,
        *,
        null: Null | None = None,
        regions: Regions | None = None,
        sides: Sides | None = None,
    ) -> Maps:
        """Score a prediction of held-out stimuli, or its pieces; see `score`.

        Without a null, from `null_of`, the first piece chooses it. Columns note the interval of the mean of each
        region, if there are such. Without `sides`, unique shares are tested for the fitted models only.
        """
        how = criterion or Criterion()
        for name in how.shares:
            if name not in SHARES:
                raise unknown("share", name, SHARES)
        several = how.shares if len(self.bands) > 1 else ()
        about: dict[str, Any] = {}
        p, scored, split, halves = [], [], [], []
        means = RegionMeans(regions, several) if regions is not None else None
        tests: UniqueShares | None = None
        for piece in [held_out] if isinstance(held_out, Prediction) else held_out:
            about, null = self._about(self.bands, len(piece.y)), null or Null.of(piece, how)
            p.append(null.p(piece))
            scored.append(accuracy(piece))
            split.append([column for share in several for column in SHARES[share](about, piece, self.bands, null)])
            if several:
                split[-1] += partition.excess(about, piece, self.bands)
            if "product" in several:
                halves.append(partition.shares_of_halves(piece))
            if "unique" in several:
                tests = tests or UniqueShares(self.bands, how, null, sides)
                tests.add(piece, p[-1])
            if means is not None:
                means.add(piece, self.bands, null)
        if null is None:
            raise InputError("There is nothing to score: no prediction was given.")
        each = np.concatenate(scored, axis=1)
        tell_of_opposite(each[0], about)
        found = significance(about, np.concatenate(p), how, null=str(null), n_permutations=null.counted)
        mask = np.asarray(found[-1][0], dtype=np.float64)
        shares = side_by_side(split)
        if halves:
            shares = partition.with_stability(shares, np.concatenate(halves, axis=-1), mask)
        if halves and how.identifiability:
            shares += partition.identifiable(about, self.model, mask, seed=how.seed)
        if tests is not None:
            shares += tests.columns(about, np.concatenate(p), self.model)
        columns = [*scores(about, each), *found, *shares]
        return Maps.of(space, columns if means is None else means.noted(columns))

    def cross_validate(
        self,
        features: Features,
        responses: Responses,
        splits: Splits,
        *,
        zscore: Within = "session",
        draws: Draws | None = None,
        **criterion: Any,
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
        draws : Draws, optional
            Where finished permutations are kept, so that an interrupted run goes on after them.
        **criterion
            As in `score`; shares are the product shares only.

        Returns
        -------
        Maps
            r, r2, p, q, mask; with several bands also the product shares of each. The column r notes `null_median`,
            the median of pooled r over permutations and voxels: where it lies without signal.

        Raises
        ------
        InputError
            If the closed form is asked for, which is not valid for pooled folds.
        """
        _check_nouns(features, responses)
        how = Criterion(**criterion)
        if how.shares != ("product",):
            raise InputError("Across folds only product shares are computed: ask for shares=('product',).")
        folds = Folds.of(features, responses, splits, zscore)
        held_out = folds.predict(self.estimator)
        null = folds.null_of(held_out, how)
        drawn = self.null(folds, null, draws)
        null = replace(null, n_permutations=len(drawn))  # few groups have fewer orders
        p, words = inference.permutation_p(held_out.r, drawn), f"{null}, each refitted in every fold"
        about = self._about(features.bands, len(held_out.y))
        columns = scores(about, accuracy(held_out))
        columns[0][1]["null_median"] = _median(drawn)
        tell_of_opposite(held_out.r, about, n_folds=splits.n_splits)
        columns += significance(about, p, how, null=words, n_permutations=null.counted)
        # Each permutation, judged by the others, is a shuffled control.
        threshold = columns[-1][1]["threshold"]
        columns[-1][1].update(expected_false(p, threshold, tally_draws(drawn, threshold)).facts)
        if len(features.bands) > 1:
            shares = product_shares(about, held_out, features.bands, null)
            halves, found = partition.shares_of_halves(held_out), np.asarray(columns[-1][0], dtype=np.float64)
            columns += partition.with_stability(shares, halves, found)
        return Maps.of(responses.space, columns)

    def null(self, folds: Folds, null: Null, kept: Draws | None = None) -> FloatArray:
        """Refit and score after exchanging stimuli, or flipping clusters; r of shape (n_permutations, n_voxels)."""
        estimator, flips = quiet(self.estimator), null.name == "clusters"
        # A fold is predicted from the others, so that flips of its own part alone would leave out half of the variance.
        draws = null.signs(folds.clusters) if flips else folds.orders(null)

        def exchanged(draw: Any) -> FloatArray:
            given = {"signs": draw} if flips else {"order": draw}
            name = digest("+".join(folds.features.bands), *given, draw.tolist())[:16]
            r = None if kept is None else kept.load(name)
            if r is None:
                r = folds.predict(estimator, **given).r.astype(np.float32)
                if kept is not None:
                    kept.save(name, r)
            return r

        chunks = [draws[i : i + 10] for i in range(0, len(draws), 10)]
        watched = tqdm(chunks, desc="permuting", unit="x10", disable=not self.progress)
        with telling_of(control="permutations that refit"):
            return np.stack([r for chunk in watched for r in share(exchanged, list(chunk))])

    def _about(self, bands: Sequence[str], n_stimuli: int) -> dict[str, Any]:
        band = bands[0] if len(bands) == 1 else ""
        return {"analysis": self.analysis, "model": "+".join(bands), "band": band, "n_stimuli": n_stimuli}


def _median(drawn: FloatArray) -> float:
    """Find the median of what is defined."""
    known = drawn[np.isfinite(drawn)]
    return float(np.median(known)) if len(known) else float("nan")


def _check_nouns(features: object, *responses: object) -> None:
    """Raise `InputError` where something else is given in place of what carries ids."""
    for value, kind in ((features, Features), *((one, Responses) for one in responses)):
        if not isinstance(value, kind):
            name, given = kind.__name__, type(value).__name__
            raise InputError(f"Expected {name}, whose rows have ids; got {given}. Arrays alone go into BandedRidge.")


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
