"""Fits and scores the models of analyses, on a test set or across folds, and their shuffled control."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from numpy.typing import NDArray

from latentcortex._arrays import BoolArray, listed
from latentcortex._files import telling_of
from latentcortex.analyses.control import (
    N_SHUFFLES,
    ExchangedStimuli,
    Shuffles,
    beside,
    orders_of,
    thresholds,
)
from latentcortex.analyses.groups import ModelGroup, batches
from latentcortex.analyses.joining import joined, sample_of, valid_voxels
from latentcortex.analyses.runs import Run
from latentcortex.bands import Model
from latentcortex.encoding import Cells, Criterion, Folds, Halves, Null, Prediction, ReadByChunk, RegionMeans, Sample
from latentcortex.encoding.chunks import SplitResponses
from latentcortex.encoding.map_columns import rejudged
from latentcortex.errors import InputError
from latentcortex.estimators import without_warnings
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses

if TYPE_CHECKING:
    from latentcortex.analyses.analysis import Analysis

FITS_AT_ONCE: Final = 8
"""Most fits (models times folds) that are ready at the same time; each takes memory that grows with the square of its
training stimuli. `batches` takes at least one model, however many folds there are."""


class Tally(Protocol):
    """Counts, or sums up, something in the predictions of a model, tile by tile, beside its scores."""

    def counter(self, model: Model, null: Null, test: Responses) -> Callable[[Prediction, slice], NDArray[Any]] | None:
        """Make what counts in the prediction of a tile, and is given also which voxels of the chunk it is of.

        Parameters
        ----------
        model : Model
        null : Null
        test : Responses
            Of the chunk, single trials where there are any.
        """
        ...


@dataclass(frozen=True, eq=False)
class Scorer:
    """Fit models to training stimuli, and score their predictions of those that are held out: a test set, or folds.

    A test set is one fold. Predictions of several are pooled, and tested by permutations that refit them all.

    Parameters
    ----------
    features : Features
    responses : SplitResponses
        Of one participant.
    make_estimator : callable
        Makes a fresh estimator for each model.
    criterion : Criterion
    cells : Cells
        How cells, a chunk of voxels of one or several models each, are computed, and where they are kept.
    twin : bool
        Whether a control with responses shuffled over stimuli is fitted as well, by which false discoveries are
        counted. Across folds permutations give that number, and it is ignored.
    regions : RegionMeans, optional
        Regions whose mean scores get confidence intervals; only with a test set.
    tally : Tally, optional
        What is counted in the predictions of every model beside its scores, such as a control's in further orders.
    clusters : mapping of str to str, optional
        Stimulus -> its cluster, where test stimuli come in clusters.
    valid : ndarray of bool, shape (n_voxels,), optional
        Voxels that are usable; they are looked for by default. A control has those of what it is a control of.
    compares : bool
        Whether models are compared with each other. Of a control only what each of them finds is counted.
    """

    features: Features
    responses: SplitResponses
    make_estimator: Callable[[], Any]
    criterion: Criterion
    cells: Cells = field(default_factory=Cells)
    twin: bool = False
    regions: RegionMeans | None = None
    tally: Tally | None = None
    clusters: Mapping[str, str] | None = None
    valid: BoolArray | None = None
    compares: bool = True

    @cached_property
    def _valid(self) -> BoolArray:
        """Tell which voxels are usable, (n_voxels,); looked for once."""
        if self.valid is not None:
            return self.valid
        return valid_voxels(self.responses, self.cells, getattr(self.responses, "zscore", "session"))

    @cached_property
    def sample(self) -> Sample:
        """Voxels all over the map, by which null, precision and how penalties are compared are chosen for all."""
        return sample_of(self.responses, self._valid)

    @property
    def pooled(self) -> bool:
        """Whether predictions are pooled over several folds."""
        return len(self.sample.folds) > 1

    @property
    def n_test(self) -> int:
        """How many stimuli the test set has, or the first fold holds out."""
        return len(self.sample.folds[0][1].ids)

    def folds(self, features: Features) -> Folds:
        """Put the sample's responses and the features of a model into folds."""
        responses, sides = self.responses, self.sample.folds
        if isinstance(responses, ReadByChunk) and self.pooled:
            return Folds.joined(features, sides, responses.splits, in_time=responses.in_time)
        (of_test_set,) = sides
        return Folds.test_set(features, of_test_set, self.clusters)

    def score(self, analysis: Analysis) -> Maps:
        """Fit, score and compare the models of an analysis, beside their shuffled control where `twin` asks for it."""
        maps, _ = self.fit_and_count(analysis)
        maps = rejudged(maps, self.criterion)
        limits = thresholds(maps)
        if not self.twin or self.pooled or not limits:
            return maps
        with telling_of(control="shuffled control"):
            control, counts = self.shuffled(analysis.name, limits).fit_and_count(analysis)
            return beside(maps, rejudged(control, self.criterion), limits, counts)

    def shuffled(self, analysis: str = "", limits: Mapping[tuple[str, ...], float] | None = None) -> Scorer:
        """Make the matched shuffled control: same voxels, stimuli and settings, responses to other stimuli.

        There must be a test set: across folds there is no such control.

        Parameters
        ----------
        analysis : str
        limits : dict, optional
            From `thresholds` of the participant's maps, at which voxels are counted.
        """
        ((train, test),), seed = self.sample.folds, self.criterion.seed
        (of_train,), (of_test,) = (orders_of(side, n_permutations=1, seed=seed) for side in (train, test))
        shuffles = None
        if limits:
            shuffles = Shuffles(analysis, limits, orders_of(test, n_permutations=N_SHUFFLES, seed=seed))
        return replace(
            self,
            responses=ExchangedStimuli(self.responses, (of_train, of_test)),
            make_estimator=partial(_quietly, self.make_estimator),
            twin=False,
            regions=None,
            # Only voxels that a model predicts are counted, so that the cheapest split of its score is enough.
            criterion=replace(self.criterion, identifiability=False, shares=("product",)),
            tally=shuffles,
            valid=self._valid,
            compares=False,
        )

    def fit_and_count(self, analysis: Analysis) -> tuple[Maps, dict[str, Any]]:
        """Fit and score all models, some of them at a time; return also what was counted of all voxels, by model."""
        groups, counts = self._groups(analysis), dict[str, Any]()
        maps = self._maps_of_interrupted_run(analysis.name, groups)
        compared_maps: list[Maps] = []
        for batch in batches([group for group in groups if group not in maps], FITS_AT_ONCE // len(self.sample.folds)):
            run = Run(self, analysis.name, batch)
            for group, pieces in run.pieces():
                with telling_of(analysis=analysis.name):
                    models, comparison = run.columns(group, pieces)
                maps[group] = run.put_aside(group, [column for columns in models for column in columns])
                run.forget_permutations(group)
                compared_maps += [run.put_aside(group, comparison, of="comparison")] if comparison else []
                for model in (model.name for model in group.models):
                    if "counts" in pieces[model].sums:
                        counts[model] = pieces[model].total("counts")
        return joined([*(maps[group] for group in groups), *compared_maps]), counts

    def _groups(self, analysis: Analysis) -> list[ModelGroup]:
        """Put the models together that are compared with each other; predictions that are pooled are not."""
        if self.pooled:
            return [ModelGroup((model,)) for model in analysis.models]
        groups = analysis.plan(self)
        planned = [model for group in groups for model in group.models]
        if sorted(planned) != sorted(analysis.models):
            plans, expected = (listed([model.name for model in models]) for models in (planned, analysis.models))
            raise InputError(
                f"Analysis {analysis.name!r} plans {plans}; expected each of its models once: {expected}. "
                "Mend its `plan`."
            )
        return groups

    def facts(self, analysis: str) -> dict[str, str]:
        """Return the facts that are kept with every cell of an analysis."""
        shuffled = isinstance(self.responses, ExchangedStimuli)
        return {"analysis": analysis} | ({"control": "shuffled"} if shuffled else {})

    def _maps_of_interrupted_run(self, analysis: str, groups: Sequence[ModelGroup]) -> dict[ModelGroup, Maps]:
        """Read the finished maps that an interrupted run put aside, where predictions are pooled over folds.

        Their permutations are deleted once a map is finished, so that they could not be made again from their cells.
        """
        if not self.pooled:
            return {}
        facts, n_voxels = self.facts(analysis), self.sample.n_voxels
        each = [(group, self.cells.aside({**facts, "models": group.name}, n_voxels=n_voxels)) for group in groups]
        return {group: maps for group, maps in each if maps is not None}

    def halves(self, models: Sequence[Model]) -> Halves:
        """Say how single-band models are fitted to halves of the training stimuli."""
        features, ((train, test),) = self.features.select_bands([band for (band,) in models]), self.sample.folds
        return Halves(features, train, test.ids, self.make_estimator, self.criterion.seed)


def _quietly(make: Callable[[], Any]) -> Any:
    """Make an estimator of whose fits nobody needs to be warned."""
    return without_warnings(make())
