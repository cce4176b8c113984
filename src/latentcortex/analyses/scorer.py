"""How analyses are run: cells of a chunk of voxels and the models that are compared in it, then whole maps."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from latentcortex import scoring
from latentcortex._arrays import BoolArray, tiles
from latentcortex._files import telling_of
from latentcortex.analyses.control import (
    N_SHUFFLES,
    ExchangedStimuli,
    Shuffles,
    beside,
    orders_of,
    thresholds,
)
from latentcortex.analyses.joining import joined, sample_of, valid_voxels
from latentcortex.analyses.layers import contested, preferred
from latentcortex.analyses.learning import learning_curve
from latentcortex.analyses.models import Analysis, by_step
from latentcortex.analyses.paired import compared, differences
from latentcortex.encoding import (
    Cell,
    Cells,
    Column,
    Criterion,
    Folds,
    HalfFits,
    Halves,
    ModelPlan,
    Null,
    Piece,
    Prediction,
    ReadByChunk,
    Regions,
    Sample,
    check_share_test,
)
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import Sides, SplitResponses, averaged
from latentcortex.encoding.columns import about_model, rejudged
from latentcortex.encoding.halves import n_refits
from latentcortex.encoding.models import Judging, columns_of, reliability_of, scored, side_by_side
from latentcortex.encoding.permutations import Permutations
from latentcortex.estimators import VoxelCounts, quiet
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.maps import Maps, short
from latentcortex.responses import Responses

logger = logging.getLogger(__name__)

MIN_TEST_STIMULI: Final = 5
"""On which models are compared."""
MAX_PAIRED: Final = 4
"""Latents of which every two are compared."""
FITS_AT_ONCE: Final = 8
"""Models, times folds, that are ready at the same time; each takes memory of the square of its training stimuli."""
COMPARISON: Final = "comparison"
"""The piece of a cell that holds what comparing its models gives."""

RELIABILITY: Final = "reliability"
"""The piece that holds how reliable the shares of a joint model are."""

Bands = tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Models that one cell fits, since they are compared.

    Parameters
    ----------
    models : tuple of tuple of str
    kind : {"", "layers", "pairs"}
        How they are compared, if they are.
    step : str
        Of layers.
    """

    models: tuple[Bands, ...]
    kind: str = ""
    step: str = ""

    @property
    def name(self) -> str:
        """All its models."""
        return " ".join("+".join(bands) for bands in self.models)


class Tally(Protocol):
    """Counts, or sums up, something in the predictions of a model, tile by tile, beside its scores."""

    def counter(
        self, bands: Sequence[str], null: Null, test: Responses
    ) -> Callable[[Prediction, slice], NDArray[Any]] | None:
        """Make what counts in the prediction of a tile, and is given also which voxels of the chunk it is of.

        Parameters
        ----------
        bands : sequence of str
            Of the model.
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
        How cells are computed, and where they are kept.
    twin : bool
        Whether a shuffled control is fitted as well, which says how many discoveries are expected to be false. Across
        folds the permutations say it.
    regions : Regions, optional
        Whose means have intervals, on a test set.
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
    regions: Regions | None = None
    tally: Tally | None = None
    clusters: Mapping[str, str] | None = None
    valid: BoolArray | None = None
    compares: bool = True

    @cached_property
    def _valid(self) -> BoolArray:
        if self.valid is not None:
            return self.valid
        return valid_voxels(self.responses, self.cells, getattr(self.responses, "zscore", "session"))

    @cached_property
    def sample(self) -> Sample:
        """Voxels all over the map, by which is decided what must be the same for all."""
        return sample_of(self.responses, self._valid)

    @property
    def pooled(self) -> bool:
        """Whether predictions are pooled over several folds."""
        return len(self.sample.folds) > 1

    def folds(self, features: Features) -> Folds:
        """Put the sample's responses and the features of a model into folds."""
        responses, sides = self.responses, self.sample.folds
        if isinstance(responses, ReadByChunk) and self.pooled:
            return Folds.joined(features, sides, responses.splits, in_time=responses.in_time)
        (of_test_set,) = sides
        return Folds.test_set(features, of_test_set, self.clusters)

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model; single-layer models also give each voxel's preferred layer."""
        maps, _ = self.tallied(analysis)
        maps = rejudged(maps, self.criterion)
        limits = thresholds(maps)
        if not self.twin or self.pooled or not limits:
            return maps
        with telling_of(control="shuffled control"):
            control, counts = self.shuffled(analysis.name, limits).tallied(analysis)
            return beside(maps, rejudged(control, self.criterion), limits, counts)

    def shuffled(self, analysis: str = "", limits: Mapping[tuple[str, ...], float] | None = None) -> Scorer:
        """Make the matched shuffled control: same voxels, stimuli and settings, responses to other stimuli.

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
            # What a model predicts is counted, no split of it.
            criterion=replace(self.criterion, identifiability=False, shares=("product",)),
            tally=shuffles,
            valid=self._valid,
            compares=False,
        )

    def tallied(self, analysis: Analysis) -> tuple[Maps, dict[str, Any]]:
        """Fit and score all models, some of them at a time; return also what was counted of all voxels, by model."""
        if analysis.name == "learning-curve":
            how: dict[str, Any] = {"criterion": self.criterion, "sample": self.sample, "cells": self.cells}
            return learning_curve(analysis, self.features, self.responses, self.make_estimator, **how), {}
        groups, counts = self._groups(analysis), dict[str, Any]()
        maps = self._kept(analysis.name, groups)
        compared_maps: list[Maps] = []
        for batch in _batches([group for group in groups if group not in maps], FITS_AT_ONCE // len(self.sample.folds)):
            run = _Run(self, analysis.name, batch)
            for group, pieces in run.pieces():
                with telling_of(analysis=analysis.name):
                    models, comparison = run.columns(group, pieces)
                maps[group] = run.put_aside(group, [column for columns in models for column in columns])
                run.forget_permutations(group)
                compared_maps += [run.put_aside(group, comparison, of="comparison")] if comparison else []
                counts |= {"+".join(bands): pieces["+".join(bands)].total("counts") for bands in group.models
                           if "counts" in pieces["+".join(bands)].sums}  # fmt: skip
        return joined([*(maps[group] for group in groups), *compared_maps]), counts

    def facts(self, analysis: str) -> dict[str, str]:
        """Say what all cells of an analysis are of."""
        shuffled = isinstance(self.responses, ExchangedStimuli)
        return {"analysis": analysis} | ({"control": "shuffled"} if shuffled else {})

    def _kept(self, analysis: str, groups: Sequence[Group]) -> dict[Group, Maps]:
        """Take the maps that an interrupted run put aside across folds: their permutations are gone since."""
        if not self.pooled:
            return {}
        facts, n_voxels = self.facts(analysis), self.sample.n_voxels
        each = [(group, self.cells.aside({**facts, "models": group.name}, n_voxels=n_voxels)) for group in groups]
        return {group: maps for group, maps in each if maps is not None}

    def _groups(self, analysis: Analysis) -> list[Group]:
        """Put the models together that are compared with each other."""
        models, n_test = analysis.models, len(self.sample.folds[0][1].ids)
        if self.pooled:
            return [Group((bands,)) for bands in models]
        if analysis.name == "latents" and len(models) > 1 and self.compares:
            if len(models) <= MAX_PAIRED and n_test >= MIN_TEST_STIMULI:
                return [Group(models, "pairs")]
            logger.info("Latents are not compared: there are %d, and %d test stimuli.", len(models), n_test)
        if analysis.name == "unet-layers":
            return list(self._steps(analysis, n_test))
        return [Group((bands,)) for bands in models]

    def _steps(self, analysis: Analysis, n_test: int) -> Iterator[Group]:
        """Put the layers of each step together."""
        by_layer = by_step(analysis.models)
        for step, names in by_layer.items():
            enough = len(names) > 1 and n_test >= MIN_TEST_STIMULI
            if not enough:
                logger.info("Step %s: no layer is preferred among %d on %d stimuli.", step, len(names), n_test)
            yield Group(tuple((name,) for name in names), "layers" if enough else "", step)
        others = [bands for bands in analysis.models if not any(bands[0] in names for names in by_layer.values())]
        yield from (Group((bands,)) for bands in others)

    def halves(self, models: Sequence[Bands]) -> Halves:
        """Say how single-band models are fitted to halves of the training stimuli."""
        features, ((train, test),) = self.features.only([band for (band,) in models]), self.sample.folds
        return Halves(features, train, test.ids, self.make_estimator, self.criterion.seed)


@dataclass(frozen=True, eq=False)
class _Run:
    """Some groups of models of an analysis, from their plans to their columns.

    Parameters
    ----------
    scorer : Scorer
    analysis : str
    groups : sequence of Group
    """

    scorer: Scorer
    analysis: str
    groups: Sequence[Group]

    @cached_property
    def plans(self) -> dict[Bands, ModelPlan]:
        """What is decided once of every model."""
        return {bands: self._plan(bands) for bands in self._models}

    def _plan(self, bands: Bands) -> ModelPlan:
        scorer = self.scorer
        estimator, folds = scorer.make_estimator(), scorer.folds(scorer.features.only(bands))
        if not folds.pooled:
            ((train, test),) = folds.sides
            check_share_test(scorer.criterion, folds.features, train, test, scale=bool(estimator.scale))
        return ModelPlan(estimator, folds, scorer.criterion, scorer.sample.n_valid)

    @cached_property
    def halves(self) -> dict[Group, Halves]:
        """Models of each group that are fitted to halves of the training stimuli, as comparisons need."""
        return {group: self.scorer.halves(group.models) for group in self.groups if group.kind}

    @cached_property
    def nulls(self) -> dict[Bands, Null]:
        """The null of every model; models side by side, each on one thread: most of a fit is too small to share."""
        _ = self.plans  # before threads ask for them
        cells = [Cell(bands, {**self._facts, "plan": "+".join(bands)}) for bands in self._models]
        results = self.scorer.cells.map(self._planned, cells, title=f"{self.analysis}, plans")
        return {
            bands: Null.from_facts(json.loads(result["null"].values["json"].tobytes()))
            for bands, result in zip(self._models, results, strict=True)
        }

    @property
    def _models(self) -> list[Bands]:
        return [bands for group in self.groups for bands in group.models]

    @property
    def _facts(self) -> dict[str, str]:
        return self.scorer.facts(self.analysis)

    def _planned(self, bands: Bands) -> Result:
        with telling_of(analysis=self.analysis, model=short("+".join(bands))):
            text = json.dumps(self.plans[bands].null().facts).encode()
        return {"null": Piece({"json": np.frombuffer(text, dtype=np.uint8)})}

    def pieces(self) -> Iterator[tuple[Group, dict[str, Piece]]]:
        """Compute all cells of these groups; yield the pieces of each group, of all voxels."""
        scorer, _, _ = self.scorer, self.nulls, self.halves
        chunks = scorer.cells.chunks(scorer.sample.n_voxels, scorer.make_estimator())
        cells = [
            Cell((group, chunk), {**self._facts, "models": group.name, "voxels": f"{chunk.start}-{chunk.stop}"})
            for group in self.groups
            for chunk in chunks
        ]
        results = iter(scorer.cells.map(self._cell, cells, title=self.analysis))
        pieces = []
        for _ in self.groups:
            of_group = [next(results) for _ in chunks]
            pieces.append({name: Piece.join([result[name] for result in of_group]) for name in of_group[0]})
        self._release_halves()  # whole maps come next, and take memory that grows with voxels
        reliable = self._reliable(pieces)
        for group, of_models in zip(self.groups, pieces, strict=True):
            yield group, of_models | {f"{RELIABILITY} {name}": reliable[name] for name in of_models if name in reliable}

    def _release_halves(self) -> None:
        for halves in self.halves.values():
            halves.release_halves()
        for plan in self.plans.values():
            plan.release_halves()

    def _reliable(self, pieces: Sequence[Mapping[str, Piece]]) -> dict[str, Piece]:
        """Predict how reliable shares of joint models are, side by side: it may take longer than the fits."""
        criterion = self.scorer.criterion
        if self.scorer.pooled or not (criterion.identifiability and "product" in criterion.shares):
            return {}
        joint = [bands for bands in self._models if len(bands) > 1]
        of_model = {name: piece for group in pieces for name, piece in group.items()}
        cells = [
            Cell((bands, of_model["+".join(bands)]), {**self._facts, "identifiability": "+".join(bands)})
            for bands in joint
        ]
        results = self.scorer.cells.map(self._reliability, cells, title=f"{self.analysis}, identifiability")
        return {"+".join(bands): result[RELIABILITY] for bands, result in zip(joint, results, strict=True)}

    def _reliability(self, item: tuple[Bands, Piece]) -> Result:
        bands, piece = item
        with telling_of(analysis=self.analysis, model=short("+".join(bands))):
            return {RELIABILITY: reliability_of(piece, self.plans[bands].model, self._judging(bands))}

    def put_aside(self, group: Group, columns: Sequence[Column], of: str = "models") -> Maps:
        """Make maps of columns of a group, which stay in a part until they are read."""
        maps = Maps.of(self.scorer.responses.space, columns)
        return self.scorer.cells.put_aside(maps, {**self._facts, of: group.name})

    def _cell(self, item: tuple[Group, slice]) -> Result:
        """Fit, score and compare the models of a group in a chunk of voxels."""
        (group, chunk), scorer = item, self.scorer
        sides, tally = scorer.responses.folds(chunk), scorer.tally
        counters = [tally.counter(bands, self.nulls[bands], sides[0][1]) if tally else None for bands in group.models]
        sides = averaged(sides)
        pieces: dict[str, Piece] = {}
        predict: list[Callable[[slice], Prediction]] = []
        for bands, count in zip(group.models, counters, strict=True):
            plan = self.plans[bands]
            with telling_of(analysis=self.analysis, model=short("+".join(bands))):
                fitted = plan.fitted(sides)
                predict.append(fitted.predictor(scorer.criterion.shares))
                how: dict[str, Any] = {"start": chunk.start, "sides": plan.refit_data(sides), "count": count}
                stretches, judging = tiles(chunk.stop - chunk.start), self._judging(bands)
                piece = scored(predict[-1], stretches, fitted.models, judging, **how)
            pieces["+".join(bands)] = piece
        if group.kind and scorer.compares:
            with telling_of(analysis=self.analysis):
                pieces[COMPARISON] = self._compared(group, predict, pieces, sides)
        return pieces

    def _compared(
        self,
        group: Group,
        predict: Sequence[Callable[[slice], Prediction]],
        pieces: Mapping[str, Piece],
        sides: Sequence[Sides],
    ) -> Piece:
        """Compare the models of a group in a chunk of voxels."""
        ((train, test),) = sides
        p = np.stack([pieces["+".join(bands)].values["p"] for bands in group.models])
        predictions = [side_by_side(share(of_tile, tiles(test.space.n_voxels))) for of_tile in predict]
        halves, criterion = HalfFits(self.halves[group], train), self.scorer.criterion
        compare = contested if group.kind == "layers" else compared
        return Piece({group.kind: compare(predictions, p, criterion, self._widest(group), halves)})

    def _judging(self, bands: Bands) -> Judging:
        regions = None if self.scorer.pooled else self.scorer.regions
        return Judging(self.scorer.criterion, self.nulls[bands], regions)

    def _permutations(self, bands: Bands) -> Permutations:
        facts = {**self._facts, "model": "+".join(bands)}
        return Permutations(self.plans[bands], self.scorer.responses, self.nulls[bands], self.scorer.cells, facts)

    def forget_permutations(self, group: Group) -> None:
        """Delete the parts of permutations of a group, once its maps are kept."""
        for bands in group.models if self.scorer.pooled else ():
            self._permutations(bands).forget()

    def _widest(self, group: Group) -> Null:
        return Null.widest([self.nulls[bands] for bands in group.models])

    def columns(self, group: Group, pieces: Mapping[str, Piece]) -> tuple[list[list[Column]], list[Column]]:
        """Make the columns of each model of a group, and those of their comparison."""
        models = []
        for bands in group.models:
            plan, piece = self.plans[bands], pieces["+".join(bands)]
            about = about_model(self.analysis, bands, len(plan.folds.ids))
            with telling_of(model=short("+".join(bands))):
                VoxelCounts(*piece.total("fits").tolist()).tell(plan.estimator, bands)
                how: dict[str, Any] = {"reliability": pieces.get(f"{RELIABILITY} {'+'.join(bands)}")}
                if self.scorer.pooled:
                    how |= {"n_folds": len(plan.folds.sides), "drawn": self._permutations(bands).drawn()}
                models.append(columns_of(about, piece, plan.model, self._judging(bands), **how))
            plan.release()
        if not group.kind:
            return models, []
        return models, self._comparison(group, pieces)

    def _comparison(self, group: Group, pieces: Mapping[str, Piece]) -> list[Column]:
        criterion, ((train, test),) = self.scorer.criterion, self.scorer.sample.folds
        bands, singles = [band for (band,) in group.models], [pieces["+".join(bands)].values for bands in group.models]
        p = np.stack([single["p"] for single in singles])
        accuracy = np.stack([single["accuracy"] for single in singles])
        about: dict[str, Any] = {"analysis": self.analysis, "n_stimuli": len(test.ids)}
        how: dict[str, Any] = {"null": self._widest(group), "n_refits": n_refits(criterion, len(train.ids))}
        tested = np.full((3, p.shape[1]), np.nan)
        if COMPARISON in pieces:
            tested = np.asarray(pieces[COMPARISON].values[group.kind])
        if group.kind == "pairs":
            r2 = np.where(np.isfinite(accuracy[:, 0]), accuracy[:, 2], np.nan)
            return differences(bands, r2, p, tested, criterion, about=about, **how)
        about |= {"model": f"layers_step-{group.step}", "band": ""}
        features = self.scorer.features
        widths = (scoring.effective_dims(features.gram(band, train.ids, train.ids, fit_on=train.ids)) for band in bands)
        layers = dict(zip(bands, widths, strict=True))
        return list(preferred(layers, accuracy[:, 0], p, tested, criterion, about=about, **how))


def _quietly(make: Callable[[], Any]) -> Any:
    """Make an estimator of whose fits nobody needs to be warned."""
    return quiet(make())


def _batches(groups: Sequence[Group], n_models: int) -> Iterator[list[Group]]:
    """Take as many groups at a time as have few enough models to be ready together, and at least one."""
    batch: list[Group] = []
    for group in groups:
        if batch and sum(len(one.models) for one in (*batch, group)) > n_models:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
