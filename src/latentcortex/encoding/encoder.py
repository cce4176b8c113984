"""A joint encoding model: fitted on training stimuli, scored on others, its scores split between bands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, id_list, listed, tiles
from latentcortex.bands import Model
from latentcortex.encoding.cells import Cells
from latentcortex.encoding.chunks import ReadByChunk, Sample, sample_stretches, usable_voxels
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.duplicates import duplicates
from latentcortex.encoding.fitted import FittedModel, PreparedModel
from latentcortex.encoding.folds import FoldFit, Folds
from latentcortex.encoding.map_columns import about_model
from latentcortex.encoding.models import Judging, ModelPlan, check_shares, columns_of, scored, side_by_side
from latentcortex.encoding.permutations import Permutations
from latentcortex.encoding.pieces import Piece
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.roi_intervals import RegionMeans
from latentcortex.encoding.unique import RefitData, check_share_test
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, VoxelCounts
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses, Within, none_usable
from latentcortex.space import Space
from latentcortex.splits import Splits


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
        self._model: FittedModel | None = None
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
        options: dict[str, Any] = {"weights": averaged.n_repeats, "in_time": averaged.in_time}
        self._model = PreparedModel.of(self.estimator, features, averaged.ids, sample=averaged.data, **options).fit(
            averaged.data
        )
        VoxelCounts.count(self._model.estimator).log_findings(self.estimator, features.bands)
        self._train = averaged
        return self

    @property
    def model(self) -> FittedModel:
        """The fitted model: what it predicts, band by band, its weights and patterns."""
        if self._model is None:
            raise InputError("This encoder is not fitted yet: call fit, or Encoder.load.")
        return self._model

    @property
    def bands(self) -> Model:
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

    def predict_tiles(
        self,
        features: Features,
        test: Responses,
        *,
        shares: Sequence[str] = (),
        clusters: Mapping[str, str] | None = None,
    ) -> Iterator[Prediction]:
        """Predict as `predict_held_out` does, a tile of voxels after the other: memory does not grow with all of them.

        With the nested models that these shares are computed from, and the cluster of each stimulus, if there are such.
        """
        averaged = self._averaged(test)
        return map(self._predictor(features, averaged, shares, clusters), tiles(averaged.space.n_voxels))

    def _predictor(
        self,
        features: Features,
        test: Responses,
        shares: Sequence[str] = (),
        clusters: Mapping[str, str] | None = None,
    ) -> Callable[[slice], Prediction]:
        """Make what predicts a tile of averaged test responses."""
        fit = FoldFit(self.model, self.model.new_rows(features, test.ids), test.data)
        sets, cluster_of = duplicates(self.model, features, test.ids), clusters or {}
        clustered = tuple(cluster_of[name] for name in test.ids) if cluster_of else ()
        return fit.predictor(shares, sets=sets, clusters=clustered, in_time=test.in_time)

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
        """Compute weights in the units of the features, float64 (n_dims, n_voxels); see `FittedModel.coefficients`."""
        return self.model.coefficients(band, voxels)

    def intercept(self, voxels: slice = slice(None)) -> FloatArray:
        """Compute what is predicted where all features are 0, float64 (n_voxels,); see `FittedModel.intercept`."""
        return self.model.intercept(voxels)

    def patterns(self, band: str, voxels: slice = slice(None)) -> FloatArray:
        """Compute what covaries with predictions, float64 (n_dims, n_voxels); see `FittedModel.patterns`."""
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
        layout = shape or self.model.features.shape(band)
        if layout is None:
            raise InputError(f"The features do not say how {band} lies in the image: give its shape.")
        if int(np.prod(layout)) != len(weights):
            raise InputError(
                f"Band {band} has {len(weights)} dimensions; {' x '.join(map(str, layout))} are {np.prod(layout)}."
            )
        return np.ascontiguousarray(weights.T).reshape(-1, *layout)

    def save(self, path: Path | str) -> None:
        """Write the fitted model as one safetensors file; see `FittedModel.save`."""
        self.model.save(Path(path), about={"analysis": self.analysis})

    @classmethod
    def load(cls, path: Path | str, features: Features) -> Self:
        """Read a model that `save` wrote, and join it with the features it was fitted on; see `FittedModel.load`."""
        model, about = FittedModel.load(Path(path), features)
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
        judged_by, sides, averaged = Criterion(**criterion), self.sides(features, test), self._averaged(test)
        check_shares(judged_by.shares)
        if sides is not None:
            check_share_test(judged_by, sides.features, sides.train, test, scale=bool(self.model.estimator.scale))
        null = self.null_of(features, test, judged_by)
        predict, judging = self._predictor(features, averaged, judged_by.shares), Judging(judged_by, null)
        piece = scored(predict, tiles(averaged.space.n_voxels), [self.model], judging, sides=sides)
        return self._maps(piece, test.space, judging, n_stimuli=len(averaged.ids), can_refit=sides is not None)

    def sides(self, features: Features, test: Responses) -> RefitData | None:
        """Gather what this model was fitted to and is tested on, for tests that fit again; None if it was loaded."""
        if self._train is None:
            return None
        return RefitData(features.select_bands(self.bands), self._train, self._averaged(test), estimator=self.estimator)

    def null_of(
        self,
        features: Features,
        test: Responses,
        criterion: Criterion,
        *,
        clusters: Mapping[str, str] | None = None,
    ) -> Null:
        """Choose the null of a test set by predictions of voxels all over it; see `Criterion`."""
        averaged, valid = self._averaged(test), usable(test)
        predict = self._predictor(features, averaged, clusters=clusters)
        sampled = side_by_side([predict(voxels) for voxels in sample_stretches(valid)])
        return Null.of(sampled, criterion, n_tests=int(valid.sum()))

    def maps_of(
        self,
        held_out: Prediction | Iterable[Prediction],
        space: Space,
        criterion: Criterion | None = None,
        *,
        null: Null | None = None,
        regions: RegionMeans | None = None,
        sides: RefitData | None = None,
    ) -> Maps:
        """Score a prediction of held-out stimuli, or its pieces; see `score`.

        Without a null, from `null_of`, the first piece chooses it. Columns note the interval of the mean of each
        region, if there are such. Without `sides`, unique shares are tested for the fitted models only.
        """
        judged_by = criterion or Criterion()
        check_shares(judged_by.shares)
        pieces = [held_out] if isinstance(held_out, Prediction) else list(held_out)
        if not pieces:
            raise InputError("There is nothing to score: no prediction was given.")
        null = null or Null.of(pieces[0], judged_by)
        ends = np.cumsum([piece.y.shape[1] for piece in pieces]).tolist()
        stretches = [slice(end - piece.y.shape[1], end) for end, piece in zip(ends, pieces, strict=True)]
        at = {stretch.start: piece for stretch, piece in zip(stretches, pieces, strict=True)}
        judging = Judging(judged_by, null, regions)
        piece = scored(lambda stretch: at[stretch.start], stretches, [self.model], judging, sides=sides)
        return self._maps(piece, space, judging, n_stimuli=len(pieces[0].y), can_refit=sides is not None)

    def _maps(self, piece: Piece, space: Space, judging: Judging, *, n_stimuli: int, can_refit: bool) -> Maps:
        facts = about_model(self.analysis, self.bands, n_stimuli)
        return Maps.build(space, columns_of(facts, piece, self.model, judging, can_refit=can_refit))

    def cross_validate(
        self,
        features: Features,
        responses: Responses,
        splits: Splits,
        *,
        zscore: Within = "session",
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
        judged_by = Criterion(**criterion)
        by_chunk = ReadByChunk.of(responses, splits, zscore)
        folds = Folds.joined(features, by_chunk.folds(slice(None)), splits, in_time=by_chunk.in_time)
        sample = Sample.of(by_chunk, usable_voxels(folds.sides))
        plan = ModelPlan(self.estimator, folds.replaced(sample.folds), judged_by, sample.n_valid)
        null, fitted = plan.null(), folds.fitted(plan.ready())
        fitted.counts.log_findings(self.estimator, features.bands)
        piece = scored(fitted.predictor(), tiles(responses.space.n_voxels), fitted.models, Judging(judged_by, null))
        facts = about_model(self.analysis, features.bands, len(folds.ids))
        drawn = Permutations(plan, by_chunk, null, Cells(progress=self.progress), facts).drawn()
        options: dict[str, Any] = {"n_folds": len(splits), "drawn": drawn}
        return Maps.build(responses.space, columns_of(facts, piece, plan.model, Judging(judged_by, null), **options))


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
        raise none_usable(len(valid), np.asarray(np.isnan(responses.data).all(1)), responses.rows)
    return valid
