"""Tests of unique shares: whether a band adds to what the others predict, in voxels that the joint model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray, chosen, on_grid
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.fitted import FittedModel, Hyperparameters
from latentcortex.encoding.halves import HalfFits, Halves, candidates, resampling
from latentcortex.encoding.map_columns import N_FLIPS, Column, flips_in_words, flips_of, significance
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator
from latentcortex.features import Features
from latentcortex.responses import Responses
from latentcortex.statistics import OF_UNIQUE_SHARE

FLIPPED_LOSS: Final = "each test stimulus's loss with and without the band"
"""The sidecar says with these words whose signs are flipped."""
JOINT_MODEL_TEST: Final = "at least the p of the joint model, and 1 where that is not significant"
"""The sidecar says with these words what p of a unique share is at least."""


@dataclass(frozen=True, eq=False)
class RefitData:
    """What models were fitted to and are tested on, for tests that fit again.

    Parameters
    ----------
    features : Features
        Of the bands of the model, of the test stimuli; Freedman and Lane's test needs those of training stimuli there.
    train, test : Responses
        Averaged.
    estimator : Estimator, optional
        To be fitted to halves; what was fitted, by default, which may stand for several fits.
    halves : Halves, optional
        Of the joint model, where they are made ready for other voxels, too.
    """

    features: Features
    train: Responses
    test: Responses
    estimator: Estimator | None = None
    halves: Halves | None = None

    def halves_of(self, model: FittedModel, seed: int) -> Halves:
        """Take the halves, or make those of a fitted model of these voxels."""
        if self.halves is not None:
            return self.halves
        estimator = self.estimator or model.estimator
        options: dict[str, Any] = {"joint": True, "new": self.features}
        return Halves(model.features, self.train, self.test.ids, lambda: estimator, seed, **options)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Voxels of one tile in which a joint model may be significant.

    Parameters
    ----------
    voxels : ndarray of int, shape (n_candidates,)
        Their numbers.
    y : ndarray of shape (n_stimuli, n_candidates)
        Test responses.
    yhat : ndarray of shape (1 + n_bands, n_stimuli, n_candidates)
        Predictions of the joint model, then of those without each band.
    """

    voxels: IntArray
    y: FloatArray
    yhat: FloatArray


@dataclass(frozen=True, eq=False)
class UniqueTests:
    """Tests of the unique share of each band of one joint model.

    A band that adds where the joint model predicts nothing is no discovery. Of each voxel both must be rejected, so
    that its p is the larger of the joint model's and of the test's, which is valid whichever of both nulls is true
    (Berger 1982, doi:10.1080/00401706.1982.10487790); and since the correction rejects nothing beyond the voxels in
    which the joint model is significant, the others are not tested, and have p = 1.

    Parameters
    ----------
    bands : tuple of str
    criterion : Criterion
    null : Null
    sides : RefitData, optional
        Without them nothing can be fitted again: gains are tested for the fitted models only.
    """

    bands: tuple[str, ...]
    criterion: Criterion
    null: Null
    sides: RefitData | None = None

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """The models without each band."""
        return tuple(tuple(other for other in self.bands if other != band) for band in self.bands)

    def candidates(self, held_out: Prediction, p: FloatArray, start: int) -> Candidates:
        """Keep what tests need of the voxels of a tile in which the joint model may be significant.

        Parameters
        ----------
        held_out : Prediction
        p : ndarray of shape (n_voxels,)
            Of the joint model.
        start : int
            Number of the first voxel of the tile.
        """
        voxels = candidates(p, self.criterion)
        models = [held_out.yhat, *(held_out.nested[bands] for bands in self.subsets)]
        return Candidates(
            voxels + start, chosen(held_out.y, voxels), np.stack([chosen(model, voxels) for model in models])
        )

    def tested(self, model: FittedModel, tiles: Sequence[Candidates], *, n_voxels: int) -> FloatArray:
        """Test every band where the joint model may be significant, (n_bands, n_voxels); nan elsewhere."""
        voxels = np.concatenate([tile.voxels for tile in tiles])
        p = np.full((len(self.bands), n_voxels), np.nan)
        if self.criterion.share == "freedman-lane":
            stretches = [tile.voxels for tile in tiles if len(tile.voxels)]
            p[:, voxels] = refitted_p(self.sides, model, stretches, self.criterion, self.null)
        elif len(voxels):
            y, yhat = (np.concatenate(parts, axis=-1) for parts in zip(*((t.y, t.yhat) for t in tiles), strict=True))
            with on_grid(voxels):
                p[:, voxels] = self._tested(model, voxels, y, yhat)
        return p

    def _tested(self, model: FittedModel, voxels: IntArray, y: FloatArray, yhat: FloatArray) -> FloatArray:
        """Test the gain by every band in these voxels, (n_bands, len(voxels))."""
        refits = resampling(self._halves(model, voxels), self.criterion, self.null.alike(len(y)))
        pairs = [(0, 1 + i) for i in range(len(self.bands))]
        options: dict[str, Any] = {"resampling": replace(refits, n_permutations=N_FLIPS), "seed": self.null.seed}
        return inference.better_p(y, yhat, pairs, two_sided=False, **options)

    def _halves(self, model: FittedModel, voxels: IntArray) -> HalfFits | None:
        if self.sides is None:
            return None
        halves = self.sides.halves_of(model, self.criterion.seed)
        return HalfFits(halves, self.sides.train, self.subsets).select_voxels(voxels)


def unique_columns(
    facts: dict[str, Any],
    bands: Sequence[str],
    p: FloatArray,
    tested: FloatArray,
    criterion: Criterion,
    null: Null,
    *,
    refits: int,
) -> list[Column]:
    """Make uniqueP, uniqueQ and uniqueMask of each band.

    Parameters
    ----------
    facts : dict
        Of the model: `analysis`, `model`, `n_stimuli`.
    bands : sequence of str
    p : ndarray of shape (n_voxels,)
        Of the joint model.
    tested : ndarray of shape (n_bands, n_voxels)
        From `UniqueTests.tested`.
    criterion : Criterion
    null : Null
    refits : int
        Half-fits that the tests drew on.
    """
    significant = np.flatnonzero(inference.fdr(p, criterion.q, criterion.correction).rejected)
    n_rows = int(facts["n_stimuli"])
    test_facts: dict[str, Any] = {"share": criterion.share}
    if criterion.share == "freedman-lane":
        n_drawn = criterion.n_permutations
        words = f"{n_drawn} permutations of the residuals of the other bands, refitted; {JOINT_MODEL_TEST}"
    else:
        n_drawn, test_facts["n_refits"] = flips_of(null, n_rows), refits if len(significant) else 0
        flips = flips_in_words(FLIPPED_LOSS, null, n_rows)
        words = f"{flips}, with the variance of {test_facts['n_refits']} refits; {JOINT_MODEL_TEST}"
    columns: list[Column] = []
    for band, of_band in zip(bands, tested, strict=True):
        together = np.where(np.isnan(p), np.nan, 1.0)
        together[significant] = np.maximum(of_band[significant], p[significant])
        of_band_facts = {**facts, "band": band, **test_facts}
        columns += significance(
            of_band_facts, together, criterion, null=words, n_permutations=n_drawn, test=OF_UNIQUE_SHARE
        )
    return columns


def refitted_p(
    sides: RefitData | None, model: FittedModel, stretches: Sequence[IntArray], criterion: Criterion, null: Null
) -> FloatArray:
    """Test every band by permuting what the others leave of the responses, (n_bands, n_voxels) of all stretches.

    See `inference.freedman_lane_p`. Responses and kernels of test stimuli are taken about their own means, as losses
    are: a baseline that differs between training and test is nobody's share. Test stimuli with nearly equal features
    are averaged, as for the joint model's p: what no band explains of them is the same, and would pass for a share.

    Parameters
    ----------
    sides : RefitData, optional
    model : FittedModel
    stretches : sequence of ndarray of int
        Voxels of one tile each. Every tile is tested by itself: precision and the last bits of a voxel's gain depend on
        those it is tested with.
    criterion : Criterion
    null : Null

    Raises
    ------
    InputError
        Without sides, and as `refitting_rows`.
    """
    if sides is None:
        raise InputError("share = 'freedman-lane' needs the training responses: fit this model again.")
    rows = refitting_rows(sides, scale=bool(model.estimator.scale), block=null.block, sets=null.sets)
    if not stretches:
        return np.empty((len(model.bands), 0))
    per_trial, averaging = float(model.weights[0]), _averaging(len(sides.test.ids), null.sets)
    subsets = [tuple(other for other in model.bands if other != band) for band in model.bands]
    models = model.nested(subsets) | {model.bands: model}
    fits = {bands: Hyperparameters.of(fitted.estimator) for bands, fitted in models.items()}
    options: dict[str, Any] = {"n_permutations": criterion.n_permutations, "seed": criterion.seed}

    def tested(voxels: IntArray) -> FloatArray:
        data = chosen(sides.train.data, voxels), averaging @ chosen(sides.test.data, voxels)
        y = np.concatenate([side - side.mean(0) for side in data])
        penalties = {
            bands: inference.Penalties(fit.mixtures[:, voxels], fit.alphas[voxels] / per_trial)
            for bands, fit in fits.items()
        }
        full = penalties[model.bands]
        return np.stack(
            [
                inference.freedman_lane_p(rows, y, band, full=full, reduced=penalties[others], **options)[0]
                for band, others in zip(model.bands, subsets, strict=True)
            ]
        )

    return np.concatenate([tested(voxels) for voxels in stretches], axis=1)


def _averaging(n_rows: int, sets: Sequence[str]) -> csr_array:
    """Build what averages the rows of each set, float32 (n_sets, n_rows); without sets each row is its own."""
    code = np.unique(np.asarray(sets), return_inverse=True)[1] if sets else np.arange(n_rows)
    each = (1 / np.bincount(code)[code]).astype(np.float32)
    return csr_array((each, (code, np.arange(n_rows))), shape=(int(code.max()) + 1, n_rows))


def refitting_rows(sides: RefitData, *, scale: bool, block: int = 1, sets: Sequence[str] = ()) -> inference.Rows:
    """Prepare the rows of a test that refits; raise `InputError` where it cannot be done, before anything is fitted.

    Kernels are scaled as the estimator scales them; of a time series, stretches of so many rows stay together. Of test
    stimuli in sets, a set is one row.

    Raises
    ------
    InputError
        If training stimuli have unequal numbers of repeats, or are too few for the columns of all bands.
    """
    counts, ids = sides.train.n_repeats, (*sides.train.ids, *sides.test.ids)
    if counts.min() < counts.max():
        raise InputError(
            f"share = 'freedman-lane' needs training stimuli with as many repeats each; found {counts.min():g} to "
            f"{counts.max():g}. Use share = 'gain'."
        )
    n_fitted = len(sides.train.ids)
    merged = sparse.block_diag([_averaging(n_fitted, ()), _averaging(len(ids) - n_fitted, sets)], format="csr")
    fitted = np.arange(merged.shape[0]) < n_fitted
    grams = {}
    for band in sides.features.dims:
        gram = sides.features.gram(band, ids, ids, fit_on=sides.train.ids, weights=counts, scale=scale)
        gram = np.array(gram, dtype=np.float64)
        gram = merged @ (merged @ gram).T if sets else gram
        for side in (fitted, ~fitted):
            gram[side] -= gram[side].mean(0)
            gram[:, side] -= gram[:, side].mean(1, keepdims=True)
        grams[band] = gram
    groups = [f"{'fitted' if one else 'held out'} {i // block}" for i, one in enumerate(fitted)]
    rows = inference.Rows(grams, fitted, groups if block > 1 else None)
    rows.refuse_wide()
    return rows


def check_share_test(
    criterion: Criterion, features: Features, train: Responses, test: Responses, *, scale: bool
) -> None:
    """Raise `InputError` if the test of unique shares that is asked for cannot be done with these stimuli."""
    if criterion.share == "freedman-lane" and "unique" in criterion.shares and len(features.bands) > 1:
        refitting_rows(RefitData(features, train.averaged(), test.averaged()), scale=scale)
