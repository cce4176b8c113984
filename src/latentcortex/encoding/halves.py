"""Models fitted to random halves of the training stimuli: how much predictions hang on what was fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, random_for
from latentcortex._files import telling_of
from latentcortex.encoding.criterion import Criterion
from latentcortex.encoding.fitted import Fitted
from latentcortex.estimators import quiet
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.responses import Responses

LEAST_TRAIN: Final = 40
"""Training stimuli that half-fits are halves of."""


@dataclass(eq=False)
class HalfFits:
    """Models fitted to random halves of the training stimuli, as tests between models ask for them.

    Parameters
    ----------
    features : Features
        A model for each of their bands, or the joint one of all.
    train, test : Responses
        Single trials or averaged.
    make_estimator : callable
    seed : int
        Half k depends on (seed, k) only.
    voxels : ndarray of int, optional
        Those that are fitted; all by default.
    subsets : sequence of tuple of str
        If there are any, models are the joint one of all bands and, nested in it, one of each of these subsets, with
        penalties of its own.
    new : Features, optional
        Of the test stimuli, where the features of the training stimuli do not hold them.
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    seed: int
    voxels: IntArray | None = None
    subsets: Sequence[tuple[str, ...]] = ()
    new: Features | None = None
    _kept: dict[int, list[tuple[Fitted, Mapping[str, FloatArray]]]] = field(default_factory=dict)

    def __call__(self, k: int, voxels: IntArray) -> FloatArray:
        """Predict the test stimuli from half k, without offsets, (n_models, n_stimuli, len(voxels))."""
        if k not in self._kept:
            self._kept = {k: self._fitted(k)}
        columns = voxels if self.voxels is None else np.searchsorted(self.voxels, voxels)
        reach = slice(int(columns.min()), int(columns.max()) + 1)
        inside = columns - reach.start
        return np.stack([model.parts_of(rows, voxels=reach).sum(0)[:, inside] for model, rows in self._kept[k]])

    def of(self, voxels: IntArray) -> HalfFits:
        """Fit these voxels only, ascending; the others cannot be asked for."""
        some = np.isin(np.arange(self.train.space.n_voxels), voxels)
        return replace(self, train=self.train.only(some), voxels=voxels, _kept={})

    def _fitted(self, k: int) -> list[tuple[Fitted, Mapping[str, FloatArray]]]:
        ids = self.train.ids
        some = random_for(self.seed, "half of the training stimuli", k).permutation(len(ids))[: len(ids) // 2]
        half = self.train.select([ids[i] for i in np.sort(some)]).averaged()

        def fitted(bands: tuple[str, ...]) -> tuple[Fitted, Mapping[str, FloatArray]]:
            own, estimator = self.features.only(bands), quiet(self.make_estimator())
            model = Fitted.of(estimator, own, half.ids, half.data, weights=half.n_repeats, in_time=half.in_time)
            return model, model.new_rows((self.new or own).only(bands), self.test.ids)

        with telling_of(control="fits to halves of the training stimuli"):
            if not self.subsets:
                return share(fitted, [(band,) for band in self.features.bands])
            joint, rows = fitted(self.features.bands)
            nested = joint.nested(self.subsets)
            return [(joint, rows), *((nested[bands], rows) for bands in self.subsets)]


def found_by_any(p: FloatArray, criterion: Criterion) -> IntArray:
    """List the voxels that any of several models predicts, by the correction of Simes's p over the models' p.

    Only there they are compared: p is of shape (n_models, n_voxels).
    """
    return np.flatnonzero(inference.fdr(inference.simes_p(p), criterion.q, criterion.correction).rejected)


def resampling(
    refits: HalfFits | None, criterion: Criterion, clusters: Sequence[str] | None, voxels: IntArray
) -> inference.Resampling:
    """Say what comparisons of models in these voxels draw again: with half-fits, if there are enough stimuli.

    The half-fits are asked for voxels by their numbers among all.
    """
    fits = bool(refits and criterion.n_refits and len(refits.train.ids) >= LEAST_TRAIN and len(voxels))
    if refits is None or not fits:
        return inference.Resampling(clusters=clusters)
    return inference.Resampling(clusters=clusters, refits=refits.of(voxels), n_refits=criterion.n_refits)
