"""One run of some models of an analysis: what is decided once, cells of a chunk of voxels, then whole maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latentcortex._arrays import tiles
from latentcortex._files import telling_of
from latentcortex.analyses.groups import ComparedScores, Comparison, ModelGroup
from latentcortex.bands import Model
from latentcortex.encoding import (
    Cell,
    Column,
    HalfFits,
    Halves,
    ModelPlan,
    Null,
    Piece,
    Prediction,
    check_share_test,
)
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import Sides, averaged
from latentcortex.encoding.halves import n_refits
from latentcortex.encoding.map_columns import about_model
from latentcortex.encoding.models import Judging, columns_of, reliability_of, scored, side_by_side
from latentcortex.encoding.permutations import Permutations
from latentcortex.estimators import VoxelCounts
from latentcortex.executors import share
from latentcortex.maps import Maps

if TYPE_CHECKING:
    from latentcortex.analyses.scorer import Scorer

COMPARISON: Final = "comparison"
"""The piece of a cell that holds what comparing its models gives."""
RELIABILITY: Final = "reliability"
"""The piece that holds how reliable the shares of a joint model are."""


@dataclass(frozen=True, eq=False)
class Run:
    """Some groups of models of an analysis, in the order of the methods: plans, nulls, cells, pieces, columns.

    Parameters
    ----------
    scorer : Scorer
    analysis : str
    groups : sequence of ModelGroup
    """

    scorer: Scorer
    analysis: str
    groups: Sequence[ModelGroup]

    @cached_property
    def plans(self) -> dict[Model, ModelPlan]:
        """What is decided once of every model."""
        return {model: self._plan(model) for model in self._models}

    def _plan(self, model: Model) -> ModelPlan:
        """Decide of a model, from the sample of voxels, what must be the same in every chunk."""
        scorer = self.scorer
        estimator, folds = scorer.make_estimator(), scorer.folds(scorer.features.select_bands(model))
        if not folds.pooled:
            ((train, test),) = folds.sides
            check_share_test(scorer.criterion, folds.features, train, test, scale=bool(estimator.scale))
        return ModelPlan(estimator, folds, scorer.criterion, scorer.sample.n_valid)

    @cached_property
    def halves(self) -> dict[ModelGroup, Halves]:
        """Models of each group that are fitted to halves of the training stimuli, as comparisons need."""
        return {group: self.scorer.halves(group.models) for group in self.groups if group.comparison}

    @cached_property
    def nulls(self) -> dict[Model, Null]:
        """The null of every model; models side by side, each on one thread: most of a fit is too small to share."""
        _ = self.plans  # before threads ask for them
        cells = [Cell(model, {**self._facts, "plan": model.name}) for model in self._models]
        results = self.scorer.cells.map(self._planned, cells, title=f"{self.analysis}, plans")
        return {
            model: Null.from_facts(json.loads(result["null"].values["json"].tobytes()))
            for model, result in zip(self._models, results, strict=True)
        }

    @property
    def _models(self) -> list[Model]:
        """List the models of all groups."""
        return [model for group in self.groups for model in group.models]

    @property
    def _facts(self) -> dict[str, str]:
        """Say what all cells of the analysis are of."""
        return self.scorer.facts(self.analysis)

    def _planned(self, model: Model) -> Result:
        """Choose the null of one model; a cell, whose piece is that in JSON."""
        with telling_of(analysis=self.analysis, model=model.short):
            text = json.dumps(self.plans[model].null().facts).encode()
        return {"null": Piece({"json": np.frombuffer(text, dtype=np.uint8)})}

    def pieces(self) -> Iterator[tuple[ModelGroup, dict[str, Piece]]]:
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
        """Free what fits to halves were prepared with."""
        for halves in self.halves.values():
            halves.release_halves()
        for plan in self.plans.values():
            plan.release_halves()

    def _reliable(self, pieces: Sequence[Mapping[str, Piece]]) -> dict[str, Piece]:
        """Predict how reliable shares of joint models are, side by side: it may take longer than the fits."""
        criterion = self.scorer.criterion
        if self.scorer.pooled or not (criterion.identifiability and "product" in criterion.shares):
            return {}
        joint = [model for model in self._models if len(model) > 1]
        of_model = {name: piece for group in pieces for name, piece in group.items()}
        cells = [Cell((model, of_model[model.name]), {**self._facts, "identifiability": model.name}) for model in joint]
        results = self.scorer.cells.map(self._reliability, cells, title=f"{self.analysis}, identifiability")
        return {model.name: result[RELIABILITY] for model, result in zip(joint, results, strict=True)}

    def _reliability(self, item: tuple[Model, Piece]) -> Result:
        """Predict how reliable the shares of one joint model are; a cell."""
        model, piece = item
        with telling_of(analysis=self.analysis, model=model.short):
            return {RELIABILITY: reliability_of(piece, self.plans[model].model, self._judging(model))}

    def put_aside(self, group: ModelGroup, columns: Sequence[Column], of: str = "models") -> Maps:
        """Make maps of columns of a group, which stay in a part until they are read."""
        maps = Maps.build(self.scorer.responses.space, columns)
        return self.scorer.cells.put_aside(maps, {**self._facts, of: group.name})

    def _cell(self, item: tuple[ModelGroup, slice]) -> Result:
        """Fit, score and compare the models of a group in a chunk of voxels."""
        (group, chunk), scorer = item, self.scorer
        sides, tally = scorer.responses.folds(chunk), scorer.tally
        counters = [tally.counter(model, self.nulls[model], sides[0][1]) if tally else None for model in group.models]
        sides = averaged(sides)
        pieces: dict[str, Piece] = {}
        predict: list[Callable[[slice], Prediction]] = []
        for model, count in zip(group.models, counters, strict=True):
            plan = self.plans[model]
            with telling_of(analysis=self.analysis, model=model.short):
                fitted = plan.fitted(sides)
                predict.append(fitted.predictor(scorer.criterion.shares))
                tests: dict[str, Any] = {"start": chunk.start, "sides": plan.refit_data(sides), "count": count}
                stretches, judging = tiles(chunk.stop - chunk.start), self._judging(model)
                piece = scored(predict[-1], stretches, fitted.models, judging, **tests)
            pieces[model.name] = piece
        if group.comparison and scorer.compares:
            with telling_of(analysis=self.analysis):
                pieces[COMPARISON] = self._compared(group, group.comparison, predict, pieces, sides)
        return pieces

    def _compared(
        self,
        group: ModelGroup,
        comparison: Comparison,
        predict: Sequence[Callable[[slice], Prediction]],
        pieces: Mapping[str, Piece],
        sides: Sequence[Sides],
    ) -> Piece:
        """Compare the models of a group in a chunk of voxels."""
        ((train, test),) = sides
        p = np.stack([pieces[model.name].values["p"] for model in group.models])
        predictions = [side_by_side(share(of_tile, tiles(test.space.n_voxels))) for of_tile in predict]
        halves, criterion = HalfFits(self.halves[group], train), self.scorer.criterion
        return Piece({"tested": comparison.cell(predictions, p, criterion, self._widest(group), halves)})

    def _judging(self, model: Model) -> Judging:
        """Put together by what the predictions of a model are tested; regions have intervals on a test set only."""
        regions = None if self.scorer.pooled else self.scorer.regions
        return Judging(self.scorer.criterion, self.nulls[model], regions)

    def _permutations(self, model: Model) -> Permutations:
        """Make what permutes and refits a model whose predictions are pooled over folds."""
        facts = {**self._facts, "model": model.name}
        return Permutations(self.plans[model], self.scorer.responses, self.nulls[model], self.scorer.cells, facts)

    def forget_permutations(self, group: ModelGroup) -> None:
        """Delete the parts of permutations of a group, once its maps are kept."""
        for model in group.models if self.scorer.pooled else ():
            self._permutations(model).forget()

    def _widest(self, group: ModelGroup) -> Null:
        """Take the null of a group that keeps most stimuli together, for all of its comparisons."""
        return Null.widest([self.nulls[model] for model in group.models])

    def columns(self, group: ModelGroup, pieces: Mapping[str, Piece]) -> tuple[list[list[Column]], list[Column]]:
        """Make the columns of each model of a group, and those of their comparison."""
        models = []
        for model in group.models:
            plan, piece = self.plans[model], pieces[model.name]
            facts = about_model(self.analysis, model, len(plan.folds.ids))
            with telling_of(model=model.short):
                VoxelCounts(*piece.total("fits").tolist()).log_findings(plan.estimator, model)
                beside: dict[str, Any] = {"reliability": pieces.get(f"{RELIABILITY} {model.name}")}
                if self.scorer.pooled:
                    beside |= {"n_folds": len(plan.folds.sides), "drawn": self._permutations(model).drawn()}
                models.append(columns_of(facts, piece, plan.model, self._judging(model), **beside))
            plan.release()
        if group.comparison is None:
            return models, []
        return models, group.comparison.finish(self._scores(group, pieces))

    def _scores(self, group: ModelGroup, pieces: Mapping[str, Piece]) -> ComparedScores:
        """Put together what a comparison is finished from."""
        criterion, ((train, test),) = self.scorer.criterion, self.scorer.sample.folds
        singles = [pieces[model.name].values for model in group.models]
        return ComparedScores(
            bands=tuple(band for (band,) in group.models),
            accuracy=np.stack([single["accuracy"] for single in singles]),
            p=np.stack([single["p"] for single in singles]),
            tested=np.asarray(pieces[COMPARISON].values["tested"]) if COMPARISON in pieces else None,
            features=self.scorer.features,
            train_ids=train.ids,
            criterion=criterion,
            null=self._widest(group),
            n_refits=n_refits(criterion, len(train.ids)),
            facts={"analysis": self.analysis, "n_stimuli": len(test.ids)},
        )
