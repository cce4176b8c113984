"""One model of a study: what is decided of it once, and what it comes to in a chunk of voxels and in a whole map."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentcortex import inference, statistics
from latentcortex._arrays import tiles
from latentcortex._shelf import unknown
from latentcortex.bands import Model
from latentcortex.encoding import share_reliability
from latentcortex.encoding.chunks import Sides
from latentcortex.encoding.criterion import Criterion, Null, warn_of_opposite_sign
from latentcortex.encoding.draws import Draws, median
from latentcortex.encoding.fitted import FittedModel, Hyperparameters, PreparedModel
from latentcortex.encoding.folds import FittedFolds, FoldModel, Folds
from latentcortex.encoding.halves import Halves, n_refits
from latentcortex.encoding.map_columns import SHARES, Column, scores, significance
from latentcortex.encoding.pieces import Piece, score
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.roi_intervals import RegionMeans
from latentcortex.encoding.unique import Candidates, RefitData, UniqueTests, unique_columns
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, VoxelCounts
from latentcortex.executors import share


@dataclass(frozen=True, eq=False)
class Judging:
    """How the predictions of a model are judged.

    Parameters
    ----------
    criterion : Criterion
    null : Null
        From which p comes.
    regions : RegionMeans, optional
        Whose means have intervals.
    """

    criterion: Criterion
    null: Null
    regions: RegionMeans | None = None


def scored(
    predict: Callable[[slice], Prediction],
    stretches: Sequence[slice],
    models: Sequence[FittedModel],
    judging: Judging,
    *,
    start: int = 0,
    sides: RefitData | None = None,
    count: Callable[[Prediction, slice], NDArray[Any]] | None = None,
) -> Piece:
    """Score predictions of neighbouring voxels, tile by tile, and test unique shares where that is asked for.

    Parameters
    ----------
    predict : callable
        One of the stretches -> its prediction.
    stretches : sequence of slice
        Tiles of the voxels of the model.
    models : sequence of FittedModel
        The model as it was fitted for each fold, to these voxels.
    judging : Judging
    start : int
        Number of the first voxel in the map, and so among the labels of regions.
    sides : RefitData, optional
        Of these voxels, for tests that fit again.
    count : callable, optional
        The prediction of a stretch, and the stretch -> what is counted, or summed up, in it.

    Returns
    -------
    Piece
        Those of `pieces.score`; sums `counts`, if they are counted, and `fits`, the numbers of `VoxelCounts`; of a test
        set also values `alphas` (n_voxels,) and `mixtures` (n_bands, n_voxels), which the fit chose, and `unique`
        (n_bands, n_voxels), see `UniqueTests.tested`.
    """
    criterion, null, regions, tests = judging.criterion, judging.null, judging.regions, None
    bands = models[0].bands
    if "unique" in criterion.shares and len(bands) > 1:
        tests = UniqueTests(bands, criterion, null, sides)

    def of_stretch(stretch: slice) -> tuple[Piece, Candidates | None]:
        held_out = predict(stretch)
        labels = None if regions is None else regions.labels[start + stretch.start : start + stretch.stop]
        piece = score(held_out, bands, criterion, null, regions=regions, labels=labels)
        if count is not None:
            piece = replace(piece, sums={**piece.sums, "counts": count(held_out, stretch)[None]})
        return piece, None if tests is None else tests.candidates(held_out, piece.values["p"], stretch.start)

    parts = share(of_stretch, stretches)
    together, more = Piece.join([piece for piece, _ in parts]), dict[str, NDArray[Any]]()
    if len(models) == 1:
        chosen = Hyperparameters.of(models[0].estimator)
        more |= {"alphas": chosen.alphas, "mixtures": chosen.mixtures}
    if tests is not None:
        candidates = [one for _, one in parts if one is not None]
        more["unique"] = tests.tested(models[0], candidates, n_voxels=stretches[-1].stop)
    counts = np.array([astuple(VoxelCounts.count(model.estimator)) for model in models])
    return Piece({**together.values, **more}, {**together.sums, "fits": counts})


def columns_of(
    facts: dict[str, Any],
    piece: Piece,
    model: PreparedModel | FittedModel,
    judging: Judging,
    *,
    n_folds: int = 1,
    can_refit: bool = True,
    reliability: Piece | None = None,
    drawn: Draws | None = None,
) -> list[Column]:
    """Make the columns of a model's map, once its scores are there for all voxels.

    Parameters
    ----------
    facts : dict
        Of the model: `analysis`, `model`, `band` and `n_stimuli`.
    piece : Piece
        From `scored`, of all voxels.
    model : PreparedModel or FittedModel
    judging : Judging
    n_folds : int
        Over which predictions are pooled; 1 for a test set.
    can_refit : bool
        Whether tests of unique shares could fit halves of the training stimuli.
    reliability : Piece, optional
        From `reliability_of`, if it is there already.
    drawn : Draws, optional
        r in every permutation, where each refits the folds.
    """
    criterion, null, regions = judging.criterion, judging.null, judging.regions
    bands, r = model.bands, np.asarray(piece.values["accuracy"][0])
    p = np.asarray(piece.values["p"]) if drawn is None else drawn.p(r)
    if drawn is not None:
        null = replace(null, n_permutations=len(drawn))  # few groups have fewer orders
    warn_of_opposite_sign(r, facts, n_folds=n_folds)
    judged = significance(facts, p, criterion, null=str(null), n_permutations=null.counted)
    mask = np.asarray(judged[-1][0], dtype=np.float64)
    shares: list[Column] = []
    if len(bands) > 1:
        of_shares = [{**facts, **of_share} for share in criterion.shares for of_share in SHARES[share].facts(bands)]
        shares = list(zip(piece.values["shares"], of_shares, strict=True))
        suppression = {**facts, **statistics.EXCESS.facts}
        shares += [(values, suppression) for values in piece.values["excess"]]
    if "halves" in piece.values:
        shares = share_reliability.with_stability(shares, piece.values["halves"], mask)
        if criterion.identifiability and n_folds == 1:
            shares += _identifiability(facts, bands, reliability or reliability_of(piece, model, judging))
    if "unique" in piece.values:
        refits = n_refits(criterion, len(model.ids)) if can_refit else 0
        shares += unique_columns(facts, bands, p, piece.values["unique"], criterion, null, refits=refits)
    scored = scores(facts, np.asarray(piece.values["accuracy"]))
    if drawn is not None:
        scored[0][1]["null_median"] = median(drawn)
        judged[-1][1].update(drawn.expected_false(p, judged[-1][1]["threshold"]).facts)
    columns = [*scored, *judged, *shares]
    if regions is None:
        return columns
    several = criterion.shares if len(bands) > 1 else ()
    sums = zip(map(int, piece.each("region_numbers")), piece.each("regions"), strict=True)
    return regions.noted(columns, sums, bands, several, null)


def reliability_of(piece: Piece, model: PreparedModel | FittedModel, judging: Judging) -> Piece:
    """Predict how reliable the shares of a joint model are, once its scores are there for all voxels.

    Returns
    -------
    Piece
        Values `identifiability`, see `share_reliability.identifiable`; sums `overlap` (1, n_bands).
    """
    criterion, p = judging.criterion, np.asarray(piece.values["p"])
    significant = np.asarray(inference.fdr(p, criterion.q, criterion.correction).rejected, dtype=np.float64)
    chosen = Hyperparameters(piece.values["alphas"], piece.values["mixtures"])
    values = share_reliability.identifiable(model, chosen, significant, seed=criterion.seed)
    return Piece({"identifiability": values}, {"overlap": share_reliability.overlaps_of(model)[None]})


def _identifiability(facts: dict[str, Any], bands: Sequence[str], reliability: Piece) -> list[Column]:
    """Make a column per band, if there are enough stimuli."""
    # Without enough stimuli there are no values, and no column.
    each = zip(bands, reliability.values["identifiability"], reliability.total("overlap").tolist(), strict=False)
    return [
        (values, {**facts, "band": band, **statistics.IDENTIFIABILITY.facts, "overlap": round(overlap, 4)})
        for band, values, overlap in each
    ]


@dataclass(eq=False)
class ModelPlan:
    """What is decided once of a model, from voxels all over the map, and made ready once for all of them.

    Parameters
    ----------
    estimator : Estimator
    folds : Folds
        Of a sample of voxels, and of the bands of the model.
    criterion : Criterion
    n_valid : int
        Valid voxels of the whole map.

    Raises
    ------
    InputError
        If predictions are pooled over folds, and other shares than the product shares are asked for.
    """

    estimator: Estimator
    folds: Folds
    criterion: Criterion
    n_valid: int
    _lock: Any = field(default_factory=threading.Lock, repr=False)
    _ready: list[FoldModel] = field(default_factory=list, repr=False)
    _halves: Halves | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.folds.pooled and self.criterion.shares != ("product",):
            raise InputError("Across folds only product shares are computed: ask for shares=('product',).")
        if not self.folds.pooled:
            ((train, test),), make = self.folds.sides, partial(copy.copy, self.estimator)
            self._halves = Halves(self.folds.features, train, test.ids, make, self.criterion.seed, joint=True)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is ready: it is made again, with the same bits, where it is sent."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing ready."""
        vars(self).update(state, _lock=threading.Lock(), _ready=[])

    @property
    def bands(self) -> Model:
        """The bands of the model."""
        return Model(self.folds.features.bands)

    @property
    def model(self) -> PreparedModel:
        """The model that is ready for the first fold, which is the only one of a test set."""
        return self.ready()[0].prepared

    def ready(self) -> list[FoldModel]:
        """Make the model and the held-out stimuli of every fold ready, unless they are."""
        with self._lock:
            if not self._ready:
                self._ready = self.folds.models(self.estimator)
            return self._ready

    def release(self) -> None:
        """Let go of what is ready, which takes as much memory as there are training stimuli squared."""
        with self._lock:
            self._ready = []
        self.release_halves()

    def release_halves(self) -> None:
        """Let go of the halves of the training stimuli that are ready."""
        if self._halves is not None:
            self._halves.release_halves()

    def fitted(self, sides: Sequence[Sides]) -> FittedFolds:
        """Fit the training responses of every fold, of some voxels."""
        return self.folds.replaced(sides).fitted(self.ready())

    def null(self) -> Null:
        """Choose the null by predictions of the sample."""
        fitted = self.folds.fitted(self.ready())
        parts = share(fitted.predictor(), tiles(len(self.folds.valid)))
        return self.folds.null_of(side_by_side(parts), self.criterion, n_tests=self.n_valid)

    def refit_data(self, sides: Sequence[Sides]) -> RefitData | None:
        """Gather what tests that fit halves of the training stimuli need, of some voxels; None across folds."""
        if self.folds.pooled:
            return None
        ((train, test),) = sides
        return RefitData(self.folds.features, train, test, self.estimator, self._halves)


def side_by_side(parts: Sequence[Prediction]) -> Prediction:
    """Put the predictions of neighbouring stretches of voxels side by side, without nested models."""
    y, yhat_bands, offset = (
        np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("y", "yhat_bands", "offset")
    )
    return replace(parts[0], y=y, yhat_bands=yhat_bands, offset=offset, nested={})


def check_shares(shares: Sequence[str]) -> None:
    """Raise `InputError`, with the nearest name, if there is no such way to split a score."""
    for name in shares:
        if name not in SHARES:
            raise unknown("share", name, SHARES)
