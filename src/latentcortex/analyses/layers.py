"""Which layer predicts each voxel best, and whether that can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, in_threads, random_for
from latentcortex._files import telling_of
from latentcortex.encoding import Column, Criterion, Fitted, Null, Prediction, significance
from latentcortex.estimators import quiet
from latentcortex.features import Band, Features
from latentcortex.responses import Responses

N_REFITS: Final = 20
"""Fits to random halves of the training stimuli."""


def preferred(
    predictions: Mapping[str, Prediction],
    p: FloatArray,
    criterion: Criterion,
    *,
    about: tuple[str, str],
    refits: HalfFits | None = None,
    n_refits: int = N_REFITS,
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
        Without them nothing says how much the fit would change with other training stimuli.
    n_refits : int

    Yields
    ------
    columns
        preferred (number of the layer, nan where not valid); confidence, flatP, runnerUpP and identifiable (nan where
        nothing is found); p, q, mask. See `inference.preference`.
    """
    first = next(iter(predictions.values()))
    null = Null.widest([Null.of(one, criterion) for one in predictions.values()])
    halves = None if refits is None else refits.of(_found(p, criterion))
    how = inference.Resampling(clusters=null.alike(len(first.y)), refits=halves, n_refits=n_refits or N_REFITS)
    yhat = np.stack([one.varying for one in predictions.values()])
    tests: dict[str, Any] = {"q": criterion.q, "correction": criterion.correction, "seed": criterion.seed}
    found = inference.preference(first.y, yhat, p, resampling=how, **tests)
    analysis, step = about
    facts = {"analysis": analysis, "model": f"layers_step-{step}", "band": "", "n_stimuli": len(first.y)}
    layers = "+".join(Band.parse(name).entities["layer"] for name in predictions)
    yield found.preferred, {**facts, "statistic": "preferred", "unit": "layer number", "layers": layers}
    drawn: dict[str, Any] = {"n_refits": n_refits if refits else 0, "n_draws": how.n_draws}
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


def _found(p: FloatArray, criterion: Criterion) -> IntArray:
    """List the voxels in which some layer is found: those that `inference.preference` asks half-fits for."""
    return np.flatnonzero(inference.fdr(inference.simes_p(p), criterion.q, criterion.correction).rejected)


@dataclass(eq=False)
class HalfFits:
    """Models of single bands, fitted to random halves of the training stimuli, as `inference.preference` asks for them.

    Parameters
    ----------
    features : Features
        A model for each of their bands.
    train, test : Responses
        Single trials or averaged.
    make_estimator : callable
    seed : int
        Half k depends on (seed, k) only.
    voxels : ndarray of int, optional
        Those that are fitted; all by default.
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    seed: int
    voxels: IntArray | None = None
    _kept: dict[int, list[tuple[Fitted, Mapping[str, FloatArray]]]] = field(default_factory=dict)

    def __call__(self, k: int, voxels: IntArray) -> FloatArray:
        """Predict the test stimuli from half k, (n_bands, n_stimuli, len(voxels))."""
        if k not in self._kept:
            self._kept = {k: self._fitted(k)}
        columns = voxels if self.voxels is None else np.searchsorted(self.voxels, voxels)
        reach = slice(int(columns.min()), int(columns.max()) + 1)
        inside = columns - reach.start
        return np.stack([model.parts_of(rows, voxels=reach)[0][:, inside] for model, rows in self._kept[k]])

    def of(self, voxels: IntArray) -> HalfFits:
        """Fit these voxels only, ascending; the others cannot be asked for."""
        some = np.isin(np.arange(self.train.space.n_voxels), voxels)
        return replace(self, train=self.train.only(some), voxels=voxels, _kept={})

    def _fitted(self, k: int) -> list[tuple[Fitted, Mapping[str, FloatArray]]]:
        ids = self.train.ids
        some = random_for(self.seed, "half of the training stimuli", k).permutation(len(ids))[: len(ids) // 2]
        half = self.train.select([ids[i] for i in np.sort(some)]).averaged()

        def fitted(band: str) -> tuple[Fitted, Mapping[str, FloatArray]]:
            own, estimator = self.features.only([band]), quiet(self.make_estimator())
            model = Fitted.of(estimator, own, half.ids, half.data, weights=half.n_repeats)
            return model, model.new_rows(own, self.test.ids)

        with telling_of(control="fits to halves of the training stimuli"):
            return in_threads(fitted, self.features.bands)
