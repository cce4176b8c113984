"""How analyses are run across folds: every stimulus is predicted from a fit to the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from latentcortex._files import telling_of
from latentcortex.analyses.joining import joined, usable_sample
from latentcortex.analyses.models import Analysis
from latentcortex.encoding import Cells, Criterion, ReadByChunk, Sample
from latentcortex.encoding.columns import rejudged
from latentcortex.encoding.cross_validation import CrossValidation
from latentcortex.features import Features
from latentcortex.maps import Maps, short


@dataclass(frozen=True, eq=False)
class AcrossFolds:
    """Predict every stimulus from a fit on the other folds; significance by permutations that refit.

    Parameters
    ----------
    features : Features
    responses : ReadByChunk
    make_estimator : callable
    criterion : Criterion
        With permutations.
    cells : Cells
        How cells are computed, and where they are kept.
    """

    features: Features
    responses: ReadByChunk
    make_estimator: Callable[[], Any]
    criterion: Criterion
    cells: Cells = field(default_factory=Cells)

    @cached_property
    def sample(self) -> Sample:
        """Voxels all over the map, by which is decided what must be the same for all."""
        return usable_sample(self.responses, self.cells, self.responses.zscore)

    def score(self, analysis: Analysis) -> Maps:
        """Cross-validate every model of the analysis."""
        maps = []
        for bands in analysis.models:
            facts = {"analysis": analysis.name, "models": "+".join(bands)}
            judged = self.cells.aside(facts, n_voxels=self.responses.space.n_voxels)
            if judged is None:
                fixed = (self.responses, self.sample, self.make_estimator(), self.criterion, analysis.name, self.cells)
                model = CrossValidation(self.features.only(bands), *fixed)
                with telling_of(analysis=analysis.name, model=short("+".join(bands))):
                    judged = self.cells.put_aside(model.maps(), facts)
                model.forget_permutations()
            maps.append(judged)
        return rejudged(joined(maps), self.criterion)
