"""Models fitted to random halves of the training stimuli: how much predictions hang on what was fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, chosen, random_for
from latentcortex._files import telling_of
from latentcortex._ridge.prepared import Once
from latentcortex.encoding.criterion import Criterion
from latentcortex.encoding.fitted import FittedModel, PreparedModel, ready_bytes
from latentcortex.estimators import without_warnings
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.inference.corrections import STOREY_TAIL
from latentcortex.inference.ties import at_most
from latentcortex.responses import Responses
from latentcortex.space import Unlocated

MIN_TRAIN_STIMULI: Final = 40
"""Half-fits need so many training stimuli; with fewer, comparisons hold for the fitted models only."""
READY_BYTES: Final = 500_000_000
"""Halves stay ready up to so many bytes."""


@dataclass(frozen=True, eq=False)
class Half:
    """Models that are ready for one random half of the training stimuli.

    Parameters
    ----------
    ids : tuple of str
        The stimuli of the half, in the order of the fit.
    models : list of (PreparedModel, mapping of str to ndarray)
        Each with the test stimuli that it predicts, from `PreparedModel.new_rows`.
    """

    ids: tuple[str, ...]
    models: list[tuple[PreparedModel, Mapping[str, FloatArray]]]


@dataclass(eq=False)
class Halves:
    """Models made ready for random halves of the training stimuli, once for the voxels of all chunks.

    As many halves as memory holds stay ready, the first ones, since every chunk asks for them in the same order.

    Parameters
    ----------
    features : Features
        A model for each of their bands, or the joint one of all.
    train : Responses
        Averaged; of voxels all over the map, by which estimators decide what must be the same for all voxels.
    test_ids : tuple of str
        Stimuli that are predicted.
    make_estimator : callable
    seed : int
        Half k depends on (seed, k) only.
    joint : bool
        Whether there is one model, of all bands.
    new : Features, optional
        Of the test stimuli, where the features of the training stimuli do not hold them.
    """

    features: Features
    train: Responses
    test_ids: tuple[str, ...]
    make_estimator: Callable[[], Any]
    seed: int
    joint: bool = False
    new: Features | None = None
    _ready: dict[int, Once[Half]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is ready: it is made again, with the same bits, where it is sent."""
        return {**vars(self), "_ready": {}}

    def __call__(self, k: int) -> Half:
        """Make half k ready, unless it is; of threads that ask at the same time one makes it."""
        if k >= self._n_kept:
            return self._made(k)
        return self._ready.setdefault(k, Once(partial(self._made, k)))()

    def release_halves(self) -> None:
        """Let go of what is ready."""
        self._ready.clear()

    @property
    def models(self) -> list[tuple[str, ...]]:
        """The bands of each model."""
        return [self.features.bands] if self.joint else [(band,) for band in self.features.bands]

    @property
    def _n_kept(self) -> int:
        n_rows = len(self.train.ids) // 2
        return READY_BYTES // sum(ready_bytes(n_rows, self.features.select_bands(bands)) for bands in self.models)

    def _made(self, k: int) -> Half:
        n_train = len(self.train.ids)
        order = random_for(self.seed, "half of the training stimuli", k).permutation(n_train)
        half = self.train.select_stimuli([self.train.ids[row] for row in np.sort(order[: n_train // 2])])
        options: dict[str, Any] = {"sample": half.data, "weights": half.n_repeats, "in_time": half.in_time}

        def ready(bands: tuple[str, ...]) -> tuple[PreparedModel, Mapping[str, FloatArray]]:
            model = PreparedModel.of(
                without_warnings(self.make_estimator()), self.features.select_bands(bands), half.ids, **options
            )
            return model, model.new_rows((self.new or self.features).select_bands(bands), self.test_ids)

        return Half(half.ids, share(ready, self.models))


@dataclass(eq=False)
class HalfFits:
    """Models fitted to random halves of the training stimuli, as tests between models ask for them.

    Parameters
    ----------
    halves : Halves
    train : Responses
        Averaged, of the voxels that are fitted.
    subsets : sequence of tuple of str
        Of a joint model: the models of these bands, nested in it, follow it, with penalties of their own.
    """

    halves: Halves
    train: Responses
    subsets: Sequence[tuple[str, ...]] = ()
    _kept: dict[int, list[tuple[FittedModel, Mapping[str, FloatArray]]]] = field(default_factory=dict)

    def __call__(self, k: int, voxels: IntArray) -> FloatArray:
        """Predict the test stimuli from half k, without offsets, (n_models, n_stimuli, len(voxels))."""
        if k not in self._kept:
            self._kept = {k: self._fitted(k)}
        reach = slice(int(voxels.min()), int(voxels.max()) + 1)
        inside = voxels - reach.start
        return np.stack([chosen(model.parts_of(rows, voxels=reach).sum(0), inside) for model, rows in self._kept[k]])

    def select_voxels(self, voxels: IntArray) -> HalfFits:
        """Fit these voxels only, ascending; they are asked for by their numbers among themselves."""
        train = replace(self.train, data=chosen(self.train.data, voxels), space=Unlocated(len(voxels)))
        return replace(self, train=train, _kept={})

    def _fitted(self, k: int) -> list[tuple[FittedModel, Mapping[str, FloatArray]]]:
        with telling_of(control="fits to halves of the training stimuli"):
            half = self.halves(k)
            y = self.train.select_stimuli(half.ids).data
            fitted = share(lambda one: (one[0].fit(y), one[1]), half.models)
            if not self.subsets:
                return fitted
            ((joint, kernels),) = fitted
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
    return np.flatnonzero(
        at_most(p, max(STOREY_TAIL, criterion.q) if criterion.correction == "storey" else criterion.q)
    )


def n_refits(criterion: Criterion, n_train: int) -> int:
    """Count the half-fits that comparisons draw on; none where there are too few training stimuli."""
    return criterion.n_refits if n_train >= MIN_TRAIN_STIMULI else 0


def resampling(refits: HalfFits | None, criterion: Criterion, clusters: Sequence[str] | None) -> inference.Resampling:
    """Say what comparisons of models draw again: with half-fits, if there are enough stimuli."""
    if refits is None or not n_refits(criterion, len(refits.train.ids)):
        return inference.Resampling(clusters=clusters)
    return inference.Resampling(clusters=clusters, refits=refits, n_refits=criterion.n_refits)
