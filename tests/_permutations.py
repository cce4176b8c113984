"""r of every voxel in permutations that refit all folds, as a study draws them."""

from __future__ import annotations

from latentcortex._arrays import FloatArray
from latentcortex.encoding import Cells, Criterion, Folds, ModelPlan, Null, ReadByChunk
from latentcortex.encoding.permutations import Permutations
from latentcortex.estimators import Estimator
from latentcortex.features import Features
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits


def permuted_r(
    estimator: Estimator, features: Features, responses: Responses, splits: Splits, zscore: Within, null: Null
) -> FloatArray:
    """Refit after each exchange of stimuli, or flip of clusters; (n_permutations, n_voxels)."""
    by_chunk = ReadByChunk.of(responses, splits, zscore)
    folds = Folds.of(features, responses, splits, zscore)
    plan = ModelPlan(estimator, folds, Criterion(), responses.space.n_voxels)
    facts = {"analysis": "", "model": ""}
    return Permutations(plan, by_chunk, null, Cells(), facts).drawn().at(slice(None))
