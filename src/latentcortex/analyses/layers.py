"""Which layer predicts each voxel best, and whether that can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring, statistics
from latentcortex._arrays import FloatArray, chosen, on_grid
from latentcortex.analyses.groups import ComparedScores
from latentcortex.bands import Band
from latentcortex.encoding import Column, Criterion, HalfFits, Null, Prediction, significance
from latentcortex.encoding.halves import candidates, resampling
from latentcortex.inference.preferences import contest, decided

N_CONTEST_ROWS: Final = 3
"""Rows of `inference.preferences.contest`."""


@dataclass(frozen=True)
class Layers:
    """Finds the preferred layer of each voxel at one denoising step, and how sure that is.

    The preference is not corrected for the widths of the layers: of two that hold as much of a voxel, the one with
    fewer dimensions predicts better. Its columns name them (`effective_dims`).

    Parameters
    ----------
    step : str
    """

    step: str

    def cell(
        self, predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
    ) -> FloatArray:
        """Compare the layers in the voxels of a chunk that any of them may predict.

        See `Comparison.cell`. The rows are those of `inference.preferences.contest`; nan where no layer may be found.
        """
        tested, y = np.full((N_CONTEST_ROWS, p.shape[1]), np.nan), predictions[0].y
        voxels = candidates(inference.simes_p(p), criterion)
        if len(voxels):
            yhat = np.stack([chosen(prediction.varying, voxels) for prediction in predictions])
            with on_grid(voxels):
                draws = resampling(halves.select_voxels(voxels), criterion, null.alike(len(y)))
                tested[:, voxels] = contest(chosen(y, voxels), yhat, resampling=draws, seed=criterion.seed)
        return tested

    def finish(self, scores: ComparedScores) -> list[Column]:
        """Make the columns of the preferred layer, all of them of the model `layers_step-...`.

        They are preferred (number of the layer, nan where not valid); confidence, flatP, runnerUpP and identifiable
        (nan where nothing is found); p, q, mask. See `inference.preference`.
        """
        criterion, facts = scores.criterion, {**scores.facts, "model": f"layers_step-{self.step}", "band": ""}
        contested = scores.tested_rows(N_CONTEST_ROWS)
        judged = decided(scores.accuracy[:, 0], scores.p, contested, q=criterion.q, correction=criterion.correction)
        n_significant = int(judged.found.sum())
        n_refits = scores.n_refits if n_significant else 0
        flips = f"{inference.Resampling.n_permutations} flips of signs of test stimuli"
        drawn: dict[str, Any] = {"n_refits": n_refits, "n_draws": inference.Resampling.n_draws}
        drawn["null"] = f"{flips}, with the variance of {n_refits} refits"
        family = f"{facts['analysis']}: the {n_significant} voxels of {facts['model']} in which a layer is found"
        corrected = {"q": criterion.q, "correction": criterion.correction, "family": family, "n_tests": n_significant}
        return [
            (judged.preferred, {**facts, **statistics.PREFERRED.facts, **_layer_facts(scores)}),
            (judged.confidence, {**facts, **statistics.CONFIDENCE.facts, **drawn}),
            (judged.flat_p, {**facts, **statistics.FLAT_P.facts, **drawn}),
            (judged.runner_up_p, {**facts, **statistics.RUNNER_UP_P.facts, **drawn}),
            (judged.identifiable, {**facts, **statistics.IDENTIFIABLE.facts, **corrected, **drawn}),
            *significance(
                facts,
                judged.p,
                criterion,
                null=f"Simes over layers; {scores.null}",
                n_permutations=scores.null.counted,
            ),
        ]


def _layer_facts(scores: ComparedScores) -> dict[str, str]:
    """Name the layers, and over how many dimensions each is spread, where that is known of all."""
    features, ids = scores.features, scores.train_ids
    widths = [scoring.effective_dims(features.gram(band, ids, ids, fit_on=ids)) for band in scores.bands]
    facts = {"layers": "+".join(Band(band).entities["layer"] for band in scores.bands)}
    if np.isfinite(widths).all():
        facts["effective_dims"] = "+".join(f"{width:.1f}" for width in widths)
    return facts
