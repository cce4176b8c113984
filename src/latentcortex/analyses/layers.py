"""Which layer predicts each voxel best, and whether that can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentcortex import inference, scoring, statistics
from latentcortex._arrays import FloatArray, chosen, on_grid
from latentcortex.analyses.groups import ComparedScores
from latentcortex.bands import Band
from latentcortex.encoding import Column, Criterion, HalfFits, Null, Prediction, significance
from latentcortex.encoding.halves import candidates, resampling
from latentcortex.inference.preferences import contest, decided


@dataclass(frozen=True)
class Layers:
    """Compares the layers of one denoising step; see `contested` and `preferred`.

    Parameters
    ----------
    step : str
    """

    step: str

    def cell(
        self, predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
    ) -> FloatArray:
        """Compare the layers in a chunk of voxels, (3, n_voxels)."""
        return contested(predictions, p, criterion, null, halves)

    def finish(self, scores: ComparedScores) -> list[Column]:
        """Make the columns of each voxel's preferred layer."""
        features, ids = scores.features, scores.train_ids
        widths = {band: scoring.effective_dims(features.gram(band, ids, ids, fit_on=ids)) for band in scores.bands}
        r = scores.accuracy[:, 0]
        columns = preferred(
            widths,
            r,
            scores.p,
            np.full((3, r.shape[1]), np.nan) if scores.tested is None else scores.tested,
            scores.criterion,
            about={**scores.about, "model": f"layers_step-{self.step}", "band": ""},
            null=scores.null,
            n_refits=scores.n_refits,
        )
        return list(columns)


def contested(
    predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, refits: HalfFits | None
) -> FloatArray:
    """Compare the layers in the voxels of a chunk that any of them may predict.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of each layer's model.
    p : ndarray of shape (n_layers, n_voxels)
        Of each layer's r.
    criterion : Criterion
    null : Null
        Stimuli that it keeps together are drawn together.
    refits : HalfFits, optional
        Of these layers and voxels. Without them nothing says how much the fit would change with other training stimuli.

    Returns
    -------
    ndarray of shape (3, n_voxels)
        From `inference.preferences.contest`; nan where no layer may be found.
    """
    out, y = np.full((3, p.shape[1]), np.nan), predictions[0].y
    voxels = candidates(inference.simes_p(p), criterion)
    if len(voxels):
        yhat = np.stack([chosen(prediction.varying, voxels) for prediction in predictions])
        halves = None if refits is None else refits.select_voxels(voxels)
        with on_grid(voxels):
            how = resampling(halves, criterion, null.alike(len(y)))
            out[:, voxels] = contest(chosen(y, voxels), yhat, resampling=how, seed=criterion.seed)
    return out


def preferred(
    layers: Mapping[str, float],
    r: FloatArray,
    p: FloatArray,
    contested: FloatArray,
    criterion: Criterion,
    *,
    about: dict[str, Any],
    null: Null,
    n_refits: int,
) -> Iterator[Column]:
    """Find each voxel's preferred layer at one step, how sure it is, and whether it can be told from the others.

    Parameters
    ----------
    layers : mapping of str to float
        Band of each layer -> over how many dimensions its variance is spread, see `scoring.effective_dims`; nan where
        that is not known. The preference is not corrected for it: of two layers that hold as much of a voxel, the one
        with fewer predicts better.
    r, p : ndarray of shape (n_layers, n_voxels)
        Of each layer's model.
    contested : ndarray of shape (3, n_voxels)
        From `contested`.
    criterion : Criterion
    about : dict
        `analysis`, `model`, `band` and `n_stimuli` of the columns.
    null : Null
        The widest of the models'.
    n_refits : int
        Half-fits that layers were compared with.

    Yields
    ------
    columns
        preferred (number of the layer, nan where not valid); confidence, flatP, runnerUpP and identifiable (nan where
        nothing is found); p, q, mask. See `inference.preference`.
    """
    judged = decided(r, p, contested, q=criterion.q, correction=criterion.correction)
    named = {"layers": "+".join(Band(name).entities["layer"] for name in layers)}
    if np.isfinite(list(layers.values())).all():
        named["effective_dims"] = "+".join(f"{width:.1f}" for width in layers.values())
    yield judged.preferred, {**about, **statistics.PREFERRED.facts, **named}
    n_significant = int(judged.found.sum())
    drawn: dict[str, Any] = {"n_refits": n_refits if n_significant else 0, "n_draws": inference.Resampling.n_draws}
    flips = f"{inference.Resampling.n_permutations} flips of signs of test stimuli"
    drawn["null"] = f"{flips}, with the variance of {drawn['n_refits']} refits"
    yield judged.confidence, {**about, **statistics.CONFIDENCE.facts, **drawn}
    yield judged.flat_p, {**about, **statistics.FLAT_P.facts, **drawn}
    yield judged.runner_up_p, {**about, **statistics.RUNNER_UP_P.facts, **drawn}
    family = f"{about['analysis']}: the {n_significant} voxels of {about['model']} in which a layer is found"
    corrected = {"q": criterion.q, "correction": criterion.correction, "family": family, "n_tests": n_significant}
    yield judged.identifiable, {**about, **statistics.IDENTIFIABLE.facts, **corrected, **drawn}
    yield from significance(about, judged.p, criterion, null=f"Simes over layers; {null}", n_permutations=null.counted)
