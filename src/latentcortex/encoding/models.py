"""One model of a study: what is decided of it once, and what it comes to in a chunk of voxels and in a whole map."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentcortex import inference
from latentcortex._arrays import FloatArray, tiles
from latentcortex._shelf import unknown
from latentcortex.encoding import partition
from latentcortex.encoding.columns import SHARES, Column, models_needed, scores, significance
from latentcortex.encoding.criterion import Criterion, Null, tell_of_opposite
from latentcortex.encoding.duplicates import duplicates
from latentcortex.encoding.fitted import Chosen, Fitted, Prepared
from latentcortex.encoding.halves import n_refits
from latentcortex.encoding.pieces import Piece, score
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.regions import Regions
from latentcortex.encoding.unique import Candidates, RefitData, UniqueTests, unique_columns
from latentcortex.estimators import Estimator, VoxelCounts
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.responses import Responses


@dataclass(frozen=True, eq=False)
class Tested:
    """A fitted model, ready to predict held-out stimuli tile by tile.

    Parameters
    ----------
    model : Fitted
        Of some voxels.
    features : Features
        They hold the held-out stimuli.
    rows : mapping of str to ndarray
        Held-out stimuli, from `Fitted.new_rows`.
    sets, clusters : tuple of str
        Of each held-out stimulus; see `Prediction`.
    """

    model: Fitted
    rows: Mapping[str, FloatArray]
    sets: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()

    def predictor(self, test: Responses, shares: Sequence[str] = ()) -> Callable[[slice], Prediction]:
        """Make what predicts a tile of voxels, with the nested models that these shares are computed from.

        Parameters
        ----------
        test : Responses
            Averaged, of the voxels of the model.
        shares : sequence of str
        """
        needed = models_needed(shares, self.model.bands)
        nested = self.model.nested(needed) if needed else {}

        def predict(tile: slice) -> Prediction:
            return Prediction(
                test.data[:, tile],
                self.model.parts_of(self.rows, voxels=tile),
                self.model.estimator.offset_[tile],
                nested={bands: model.joint_of(self.rows, voxels=tile) for bands, model in nested.items()},
                clusters=self.clusters,
                sets=self.sets,
                in_time=test.in_time,
            )

        return predict


@dataclass(frozen=True, eq=False)
class Judging:
    """How the predictions of a model are judged.

    Parameters
    ----------
    criterion : Criterion
    null : Null
        From which p comes.
    regions : Regions, optional
        Whose means have intervals.
    """

    criterion: Criterion
    null: Null
    regions: Regions | None = None


def scored(
    predict: Callable[[slice], Prediction],
    stretches: Sequence[slice],
    model: Fitted,
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
    model : Fitted
        Of these voxels.
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
        Those of `pieces.score`; sums `counts`, if they are counted, and `fits`, the numbers of `VoxelCounts`; values
        `alphas` (n_voxels,) and `mixtures` (n_bands, n_voxels), which the fit chose, and `unique` (n_bands, n_voxels),
        see `UniqueTests.tested`.
    """
    criterion, null, regions, tests = judging.criterion, judging.null, judging.regions, None
    if "unique" in criterion.shares and len(model.bands) > 1:
        tests = UniqueTests(model.bands, criterion, null, sides)

    def of_stretch(stretch: slice) -> tuple[Piece, Candidates | None]:
        held_out = predict(stretch)
        labels = None if regions is None else regions.labels[start + stretch.start : start + stretch.stop]
        piece = score(held_out, model.bands, criterion, null, regions=regions, labels=labels)
        if count is not None:
            piece = replace(piece, sums={**piece.sums, "counts": count(held_out, stretch)[None]})
        return piece, None if tests is None else tests.candidates(held_out, piece.values["p"], stretch.start)

    parts = share(of_stretch, stretches)
    together, chosen = Piece.join([piece for piece, _ in parts]), Chosen.of(model.estimator)
    more = {"alphas": chosen.alphas, "mixtures": chosen.mixtures}
    counts = np.array([astuple(VoxelCounts.of(model.estimator))])
    if tests is not None:
        candidates = [one for _, one in parts if one is not None]
        more["unique"] = tests.tested(model, candidates, n_voxels=len(chosen.alphas))
    return Piece({**together.values, **more}, {**together.sums, "fits": counts})


def columns_of(
    about: dict[str, Any],
    piece: Piece,
    model: Prepared | Fitted,
    judging: Judging,
    *,
    can_refit: bool = True,
    reliability: Piece | None = None,
) -> list[Column]:
    """Make the columns of a model's map, once its scores are there for all voxels.

    Parameters
    ----------
    about : dict
        Facts of the model: analysis, model, band, n_stimuli.
    piece : Piece
        From `scored`, of all voxels.
    model : Prepared or Fitted
    judging : Judging
    can_refit : bool
        Whether tests of unique shares could fit halves of the training stimuli.
    reliability : Piece, optional
        From `reliability_of`, if it is there already.
    """
    criterion, null, regions = judging.criterion, judging.null, judging.regions
    bands, p = model.bands, np.asarray(piece.values["p"])
    tell_of_opposite(piece.values["accuracy"][0], about)
    judged = significance(about, p, criterion, null=str(null), n_permutations=null.counted)
    mask = np.asarray(judged[-1][0], dtype=np.float64)
    shares: list[Column] = []
    if len(bands) > 1:
        facts = [{**about, **of_share} for share in criterion.shares for of_share in SHARES[share].facts(bands)]
        shares = list(zip(piece.values["shares"], facts, strict=True))
        suppression = {**about, "statistic": "excessR2", "unit": "fraction of variance"}
        shares += [(values, suppression) for values in piece.values["excess"]]
    if "halves" in piece.values:
        shares = partition.with_stability(shares, piece.values["halves"], mask)
        if criterion.identifiability:
            shares += _identifiability(about, bands, reliability or reliability_of(piece, model, judging))
    if "unique" in piece.values:
        refits = n_refits(criterion, len(model.ids)) if can_refit else 0
        shares += unique_columns(about, bands, p, piece.values["unique"], criterion, null, refits=refits)
    columns = [*scores(about, piece.values["accuracy"]), *judged, *shares]
    if regions is None:
        return columns
    several = criterion.shares if len(bands) > 1 else ()
    sums = zip(map(int, piece.each("region_numbers")), piece.each("regions"), strict=True)
    return regions.noted(columns, sums, bands, several, null)


def reliability_of(piece: Piece, model: Prepared | Fitted, judging: Judging) -> Piece:
    """Predict how reliable the shares of a joint model are, once its scores are there for all voxels.

    Returns
    -------
    Piece
        Values `identifiability`, see `partition.identifiable`; sums `overlap` (1, n_bands).
    """
    criterion, p = judging.criterion, np.asarray(piece.values["p"])
    significant = np.asarray(inference.fdr(p, criterion.q, criterion.correction).rejected, dtype=np.float64)
    chosen = Chosen(piece.values["alphas"], piece.values["mixtures"])
    values = partition.identifiable(model, chosen, significant, seed=criterion.seed)
    return Piece({"identifiability": values}, {"overlap": partition.overlaps_of(model)[None]})


def _identifiability(about: dict[str, Any], bands: Sequence[str], reliability: Piece) -> list[Column]:
    """Make a column per band, if there are enough stimuli."""
    facts = {"statistic": "identifiability", "unit": "correlation"}
    each = zip(bands, reliability.values["identifiability"], reliability.total("overlap").tolist(), strict=False)
    return [(values, {**about, "band": band, **facts, "overlap": round(overlap, 4)}) for band, values, overlap in each]


@dataclass(eq=False)
class ModelPlan:
    """What is decided once of a model, from voxels all over the map, and made ready once for all of them.

    Parameters
    ----------
    estimator : Estimator
    features : Features
        Of the bands of the model.
    train, test : Responses
        Averaged responses of a sample of voxels.
    criterion : Criterion
    n_valid : int
        Valid voxels of the whole map.
    clusters : mapping of str to str, optional
        Stimulus -> its cluster, where test stimuli come in clusters.
    """

    estimator: Estimator
    features: Features
    train: Responses
    test: Responses
    criterion: Criterion
    n_valid: int
    clusters: Mapping[str, str] | None = None
    _lock: Any = field(default_factory=threading.Lock, repr=False)
    _ready: tuple[Prepared, dict[str, FloatArray], tuple[str, ...]] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is ready: it is made again, with the same bits, where it is sent."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_ready")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing ready."""
        vars(self).update(state, _lock=threading.Lock(), _ready=None)

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the model."""
        return self.features.bands

    def ready(self) -> tuple[Prepared, dict[str, FloatArray], tuple[str, ...]]:
        """Make the model, the held-out stimuli and their sets ready, unless they are."""
        with self._lock:
            if self._ready is None:
                train, ids = self.train, self.test.ids
                how: dict[str, Any] = {"weights": train.n_repeats, "in_time": train.in_time}
                model = Prepared.of(self.estimator, self.features, train.ids, sample=train.data, **how)
                self._ready = model, model.new_rows(self.features, ids), duplicates(model, self.features, ids)
            return self._ready

    def release(self) -> None:
        """Let go of what is ready, which takes as much memory as there are training stimuli squared."""
        with self._lock:
            self._ready = None

    def tested(self, train: Responses) -> Tested:
        """Fit the averaged training responses of some voxels."""
        model, rows, sets = self.ready()
        alike = tuple(self.clusters[name] for name in self.test.ids) if self.clusters else ()
        return Tested(model.fit(train.data), rows, sets, alike)

    def null(self) -> Null:
        """Choose the null by predictions of the sample."""
        predict = self.tested(self.train).predictor(self.test)
        parts = share(predict, tiles(self.test.space.n_voxels))
        return null_of_sample(parts, self.criterion, n_tests=self.n_valid)

    def sides(self, train: Responses, test: Responses) -> RefitData:
        """Gather what tests that fit again need, of some voxels."""
        return RefitData(self.features, train, test, self.train.data, self.estimator)


def null_of_sample(parts: Sequence[Prediction], criterion: Criterion, *, n_tests: int) -> Null:
    """Choose the null by predictions of stretches of voxels all over a map with so many valid ones."""
    whole = Prediction(
        np.concatenate([part.y for part in parts], axis=1),
        np.concatenate([part.yhat_bands for part in parts], axis=2),
        np.concatenate([part.offset for part in parts]),
        clusters=parts[0].clusters,
        sets=parts[0].sets,
        in_time=parts[0].in_time,
    )
    return Null.of(whole, criterion, n_tests=n_tests)


def check_shares(shares: Sequence[str]) -> None:
    """Raise `InputError`, with the nearest name, if there is no such way to split a score."""
    for name in shares:
        if name not in SHARES:
            raise unknown("share", name, SHARES)
