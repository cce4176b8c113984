"""Models fitted to random halves of the training stimuli: how much predictions hang on what was fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, chosen, random_for
from latentcortex._files import telling_of
from latentcortex.encoding.criterion import Criterion
from latentcortex.encoding.fitted import Fitted, Prepared
from latentcortex.estimators import quiet
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.inference.family import TAIL
from latentcortex.inference.ties import at_most
from latentcortex.responses import Responses
from latentcortex.space import Bare

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
    subsets : sequence of tuple of str
        If there are any, models are the joint one of all bands and, nested in it, one of each of these subsets, with
        penalties of its own.
    new : Features, optional
        Of the test stimuli, where the features of the training stimuli do not hold them.
    sample : ndarray of shape (n_train_stimuli, n_voxels), optional
        Averaged training responses of voxels all over the map, by which estimators decide what must be the same for all
        voxels; those that are fitted by default.
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    seed: int
    subsets: Sequence[tuple[str, ...]] = ()
    new: Features | None = None
    sample: FloatArray | None = None
    _kept: dict[int, list[tuple[Fitted, Mapping[str, FloatArray]]]] = field(default_factory=dict)

    def __call__(self, k: int, voxels: IntArray) -> FloatArray:
        """Predict the test stimuli from half k, without offsets, (n_models, n_stimuli, len(voxels))."""
        if k not in self._kept:
            self._kept = {k: self._fitted(k)}
        reach = slice(int(voxels.min()), int(voxels.max()) + 1)
        inside = voxels - reach.start
        return np.stack([chosen(model.parts_of(rows, voxels=reach).sum(0), inside) for model, rows in self._kept[k]])

    def of(self, voxels: IntArray) -> HalfFits:
        """Fit these voxels only, ascending; they are asked for by their numbers among themselves."""
        train = replace(self.train, data=chosen(self.train.data, voxels), space=Bare(len(voxels)))
        return replace(self, train=train, _kept={})

    def _fitted(self, k: int) -> list[tuple[Fitted, Mapping[str, FloatArray]]]:
        averaged, n_train = self.train.averaged(), len(self.train.ids)
        rows = np.sort(random_for(self.seed, "half of the training stimuli", k).permutation(n_train)[: n_train // 2])
        half = averaged.select([averaged.ids[i] for i in rows])
        sample = half.data if self.sample is None else self.sample[rows]

        def fitted(bands: tuple[str, ...]) -> tuple[Fitted, Mapping[str, FloatArray]]:
            features, estimator = self.features.only(bands), quiet(self.make_estimator())
            how: dict[str, Any] = {"sample": sample, "weights": half.n_repeats, "in_time": half.in_time}
            model = Prepared.of(estimator, features, half.ids, **how).fit(half.data)
            return model, model.new_rows((self.new or features).only(bands), self.test.ids)

        with telling_of(control="fits to halves of the training stimuli"):
            if not self.subsets:
                return share(fitted, [(band,) for band in self.features.bands])
            joint, kernels = fitted(self.features.bands)
            nested = joint.nested(self.subsets)
            return [(joint, kernels), *((nested[bands], kernels) for bands in self.subsets)]


def significant_by_any(p: FloatArray, criterion: Criterion) -> IntArray:
    """List the voxels that any of several models predicts, by the correction of Simes's p over the models' p.

    Only there they are compared: p is of shape (n_models, n_voxels).
    """
    return np.flatnonzero(inference.fdr(inference.simes_p(p), criterion.q, criterion.correction).rejected)


def candidates(p: FloatArray, criterion: Criterion) -> IntArray:
    """List the voxels that may be significant once all are there: no correction rejects a larger p."""
    # Storey's procedure may reject a p above q, up to the one that it counts true nulls from.
    return np.flatnonzero(at_most(p, max(TAIL, criterion.q) if criterion.correction == "storey" else criterion.q))


def n_refits(criterion: Criterion, n_train: int) -> int:
    """Count the half-fits that comparisons draw on; none where there are too few training stimuli."""
    return criterion.n_refits if n_train >= LEAST_TRAIN else 0


def resampling(refits: HalfFits | None, criterion: Criterion, clusters: Sequence[str] | None) -> inference.Resampling:
    """Say what comparisons of models draw again: with half-fits, if there are enough stimuli."""
    if refits is None or not n_refits(criterion, len(refits.train.ids)):
        return inference.Resampling(clusters=clusters)
    return inference.Resampling(clusters=clusters, refits=refits, n_refits=criterion.n_refits)
