"""Tests of unique shares: whether a band adds to what the others predict, in voxels that the joint model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray
from latentcortex.encoding.columns import N_FLIPS, Column, flips_in_words, flips_of, significance
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.fitted import Fitted
from latentcortex.encoding.halves import HalfFits, resampling
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.inference.family import TAIL
from latentcortex.inference.ties import at_most
from latentcortex.responses import Responses

LOSS: Final = "each test stimulus's loss with and without the band"
"""What is flipped, in words."""
FIRST: Final = "at least the p of the joint model, and 1 where that is not significant"
"""What p of a unique share is beside its test, in words."""


@dataclass(frozen=True, eq=False)
class Sides:
    """What models were fitted to and are tested on, for tests that fit again.

    Parameters
    ----------
    features : Features
        Of the bands of the model, of the test stimuli; Freedman and Lane's test needs those of training stimuli there.
    train, test : Responses
        Averaged.
    """

    features: Features
    train: Responses
    test: Responses


@dataclass(eq=False)
class UniqueShares:
    """Tests of the unique share of each band of one joint model; predictions come a stretch of voxels at a time.

    A band that adds where the joint model predicts nothing is no discovery. Of each voxel both must be rejected, so
    that its p is the larger of the joint model's and of the test's, which is valid whichever of both nulls is true
    (Berger 1982, doi:10.1080/00401706.1982.10487790); and since the correction rejects nothing beyond the voxels in
    which the joint model is significant, the others are not tested, and have p = 1.

    Parameters
    ----------
    bands : tuple of str
    criterion : Criterion
    null : Null
    sides : Sides, optional
        Without them nothing can be fitted again: gains are tested for the fitted models only.
    """

    bands: tuple[str, ...]
    criterion: Criterion
    null: Null
    sides: Sides | None = None
    _pieces: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    _candidates: list[IntArray] = field(default_factory=list)
    _start: int = 0

    @property
    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """The models without each band."""
        return tuple(tuple(other for other in self.bands if other != band) for band in self.bands)

    def add(self, piece: Prediction, p: FloatArray) -> None:
        """Keep what the next voxels' tests need, where the joint model may be significant; p is of that model."""
        # Storey's procedure may reject a p above q.
        some = np.flatnonzero(at_most(p, TAIL if self.criterion.correction == "storey" else self.criterion.q))
        models = [piece.yhat, *(piece.nested[bands] for bands in self.subsets)]
        self._pieces.append((piece.y[:, some], np.stack([model[:, some] for model in models])))
        self._candidates.append(some + self._start)
        self._start += len(p)

    def columns(self, about: dict[str, Any], p: FloatArray, model: Fitted) -> list[Column]:
        """Make uniqueP, uniqueQ and uniqueMask of each band; p is of the joint model, (n_voxels,)."""
        found = np.flatnonzero(inference.fdr(p, self.criterion.q, self.criterion.correction).rejected)
        tested, words, facts = self._tested(found, model)
        columns: list[Column] = []
        for band, own in zip(self.bands, tested, strict=True):
            together = np.where(np.isnan(p), np.nan, 1.0)
            together[found] = np.maximum(own, p[found])
            of_band = {**about, "band": band, **facts}
            columns += significance(
                of_band, together, self.criterion, null=words[0], n_permutations=words[1], of="unique"
            )
        return columns

    def _tested(self, found: IntArray, model: Fitted) -> tuple[FloatArray, tuple[str, int], dict[str, Any]]:
        """Test every band in the voxels found: p (n_bands, n_found), what it comes from, and facts of all columns."""
        if self.criterion.share == "freedman-lane":
            p = refitted_p(self.sides, model, found, self.criterion, self.null)
            words = (
                f"{self.criterion.n_permutations} permutations of the residuals of the other bands, refitted; {FIRST}"
            )
            return p, (words, self.criterion.n_permutations), {"share": self.criterion.share}
        among = np.isin(np.concatenate(self._candidates), found)
        y = np.concatenate([part for part, _ in self._pieces], axis=1)[:, among]
        yhat = np.concatenate([parts for _, parts in self._pieces], axis=2)[..., among]
        how = resampling(self._halves(model), self.criterion, self.null.alike(len(y)), found)
        n_refits, refits = (how.n_refits, how.refits) if how.refits else (0, None)
        how = replace(how, n_permutations=N_FLIPS, refits=refits and (lambda k, some: refits(k, found[some])))
        pairs = [(0, 1 + i) for i in range(len(self.bands))]
        p = inference.better_p(y, yhat, pairs, two_sided=False, resampling=how, seed=self.null.seed)
        words = f"{flips_in_words(LOSS, self.null, len(y))}, with the variance of {n_refits} refits; {FIRST}"
        return p, (words, flips_of(self.null, len(y))), {"share": self.criterion.share, "n_refits": n_refits}

    def _halves(self, model: Fitted) -> HalfFits | None:
        if self.sides is None:
            return None
        how: dict[str, Any] = {"subsets": self.subsets, "new": self.sides.features}
        sides = (self.sides.train, self.sides.test)
        return HalfFits(model.features, *sides, lambda: model.estimator, self.criterion.seed, **how)


def refitted_p(sides: Sides | None, model: Fitted, voxels: IntArray, criterion: Criterion, null: Null) -> FloatArray:
    """Test every band by permuting what the others leave of the responses, (n_bands, len(voxels)).

    See `inference.freedman_lane_p`. Responses and kernels of test stimuli are taken about their own means, as losses
    are: a baseline that differs between training and test is nobody's share. Test stimuli with nearly equal features
    are averaged, as for the joint model's p: what no band explains of them is the same, and would pass for a share.
    """
    if sides is None:
        raise InputError("share = 'freedman-lane' needs the training responses: fit this model again.")
    rows = refitting_rows(sides, scale=bool(model.estimator.scale), block=null.block, sets=null.sets)
    per_trial = float(model.weights[0])
    data = _averaging(len(sides.test.ids), null.sets) @ sides.test.data[:, voxels]
    y = np.concatenate([side - side.mean(0) for side in (sides.train.data[:, voxels], data)])
    p = np.full((len(model.bands), len(voxels)), np.nan)
    if not len(voxels):
        return p

    def chosen(fitted: Fitted) -> inference.Penalties:
        return inference.Penalties(fitted.estimator.mixtures_[:, voxels], fitted.estimator.alphas_[voxels] / per_trial)

    subsets = [tuple(other for other in model.bands if other != band) for band in model.bands]
    nested, draws = model.nested(subsets), criterion.n_permutations
    for number, (band, others) in enumerate(zip(model.bands, subsets, strict=True)):
        penalties = {"full": chosen(model), "reduced": chosen(nested[others])}
        p[number] = inference.freedman_lane_p(rows, y, band, **penalties, n_permutations=draws, seed=criterion.seed)[0]
    return p


def _averaging(n_rows: int, sets: Sequence[str]) -> csr_array:
    """Build what averages the rows of each set, float32 (n_sets, n_rows); without sets each row is its own."""
    code = np.unique(np.asarray(sets), return_inverse=True)[1] if sets else np.arange(n_rows)
    each = (1 / np.bincount(code)[code]).astype(np.float32)
    return csr_array((each, (code, np.arange(n_rows))), shape=(int(code.max()) + 1, n_rows))


def refitting_rows(sides: Sides, *, scale: bool, block: int = 1, sets: Sequence[str] = ()) -> inference.Rows:
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
    for band in sides.features.bands:
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
        refitting_rows(Sides(features, train.averaged(), test.averaged()), scale=scale)
