"""Which layer predicts each voxel best, and whether that can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray
from latentcortex.encoding import Column, Criterion, HalfFits, Null, Prediction, significance
from latentcortex.encoding.halves import found_by_any, resampling
from latentcortex.features import Band


def preferred(
    predictions: Mapping[str, Prediction],
    p: FloatArray,
    criterion: Criterion,
    *,
    about: tuple[str, str],
    refits: HalfFits | None = None,
    effective_dims: Sequence[float] = (),
) -> Iterator[Column]:
    """Find each voxel's preferred layer at one step, how sure it is, and whether it can be told from the others.

    Parameters
    ----------
    predictions : mapping of str to Prediction
        Band of each layer -> what its model predicts.
    p : ndarray of shape (n_layers, n_voxels)
        Of each layer's r.
    criterion : Criterion
    about : (str, str)
        Name of the analysis, and the step.
    refits : HalfFits, optional
        As many as the criterion says. Without them nothing says how much the fit would change with other training
        stimuli.
    effective_dims : sequence of float, optional
        Of each layer: over how many dimensions its variance is spread, see `scoring.effective_dims`. The preference is
        not corrected for it: of two layers that hold as much of a voxel, the one with fewer predicts better.

    Yields
    ------
    columns
        preferred (number of the layer, nan where not valid); confidence, flatP, runnerUpP and identifiable (nan where
        nothing is found); p, q, mask. See `inference.preference`.
    """
    first = next(iter(predictions.values()))
    null = Null.widest([Null.of(one, criterion) for one in predictions.values()])
    how = resampling(refits, criterion, null.alike(len(first.y)), found_by_any(p, criterion))
    yhat = np.stack([one.varying for one in predictions.values()])
    tests: dict[str, Any] = {"q": criterion.q, "correction": criterion.correction, "seed": criterion.seed}
    found = inference.preference(first.y, yhat, p, resampling=how, **tests)
    analysis, step = about
    facts = {"analysis": analysis, "model": f"layers_step-{step}", "band": "", "n_stimuli": len(first.y)}
    layers = "+".join(Band.parse(name).entities["layer"] for name in predictions)
    widths = "+".join(f"{width:.1f}" for width in effective_dims)
    named = {"layers": layers, "effective_dims": widths} if widths else {"layers": layers}
    yield found.preferred, {**facts, "statistic": "preferred", "unit": "layer number", **named}
    drawn: dict[str, Any] = {"n_refits": how.n_refits if how.refits else 0, "n_draws": how.n_draws}
    drawn["null"] = (
        f"{how.n_permutations} flips of signs of test stimuli, with the variance of {drawn['n_refits']} refits"
    )
    yield found.confidence, {**facts, "statistic": "confidence", "unit": "fraction of draws", **drawn}
    yield found.flat_p, {**facts, "statistic": "flatP", "unit": "probability", **drawn}
    yield found.runner_up_p, {**facts, "statistic": "runnerUpP", "unit": "probability", **drawn}
    told = f"{analysis}: the {int(found.found.sum())} voxels of {facts['model']} in which a layer is found"
    judged = {"q": criterion.q, "correction": criterion.correction, "family": told, "n_tests": int(found.found.sum())}
    yield found.identifiable, {**facts, "statistic": "identifiable", "unit": "0 or 1", **judged, **drawn}
    yield from significance(facts, found.p, criterion, null=f"Simes over layers; {null}", n_permutations=null.counted)
