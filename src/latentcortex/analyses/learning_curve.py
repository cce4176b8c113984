"""Unique shares against the number of fitted stimuli: gain that stays, and gain that only few stimuli give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for, tiles
from latentcortex._files import telling_of
from latentcortex.analyses.analysis import AllStimuli, Analysis, StimulusCounts
from latentcortex.analyses.joining import joined
from latentcortex.analyses.models import BandTable
from latentcortex.analyses.scorer import Scorer
from latentcortex.bands import Model
from latentcortex.encoding import Cell, Cells, Column, Folds, ModelPlan, Piece, Prediction, usable
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import SplitResponses, averaged
from latentcortex.encoding.map_columns import about_means
from latentcortex.errors import InputError
from latentcortex.estimators import VoxelCounts, without_warnings
from latentcortex.executors import share
from latentcortex.maps import Maps
from latentcortex.scoring.learning import why_no_limit
from latentcortex.statistics import UNIQUE_AT_N, UNIQUE_LIMIT, UNIQUE_LIMIT_HIGH, UNIQUE_LIMIT_LOW

N_SIZES: Final = 5
SMALLEST: Final = 8
"""How many times fewer stimuli than there are the shortest fit has."""


@dataclass(frozen=True)
class LearningCurve(Analysis):
    """Refits z with z_c to fewer and fewer training stimuli, and extrapolates each band's unique share to all."""

    title: ClassVar[str] = "Unique shares against the number of fitted stimuli"
    figures: ClassVar[tuple[str, ...]] = ("learning-curve",)
    needs: ClassVar[str] = "z and z_c, such as zc_strength-80_step-100"
    needs_test_set: ClassVar[bool] = True
    refits_nested: ClassVar[bool] = True

    @classmethod
    def choose(cls, bands: BandTable) -> Sequence[Model]:
        """Take z with z_c at the end of denoising from one strength."""
        return bands.with_z(bands.select("zc", strength=bands.strength("zc"), step=100))

    def check(self, counts: StimulusCounts) -> None:
        """Raise `InputError` if there are too few training stimuli for a curve."""
        if counts.n_train is not None:
            check_sizes(counts.n_train)

    def maps(self, scorer: Scorer, stimuli: AllStimuli | None = None) -> Maps:
        """Compute the curve of each joint model; each cell is a model, a number of stimuli and a chunk of voxels.

        Returns
        -------
        Maps
            `uniqueR2N` with the number of stimuli for each size, `uniqueR2Limit` and its ends; see
            `scoring.asymptote`. Each column says the `mean` over valid voxels, those of sizes its 95 % interval `low`,
            `high` by jackknife over test stimuli, and that of the limit those of the mean curve, or why there is none
            (`no_limit`). The criterion's seed draws which stimuli are left; smaller sets are parts of larger ones.

        Raises
        ------
        InputError
            If there are too few training stimuli for three sizes.
        """
        ((train, test),), seed, cells = scorer.sample.folds, scorer.criterion.seed, scorer.cells
        sizes = check_sizes(len(train.ids))
        order = random_for(seed, "learning curve").permutation(len(train.ids))
        maps = []
        for model in self.models:
            plans = {}
            for n in sizes:
                fitted = train.select_stimuli([train.ids[i] for i in sorted(order[:n])])
                usable(fitted)
                folds = Folds.test_set(scorer.features.select_bands(model), (fitted, test))
                estimator = without_warnings(scorer.make_estimator())
                plans[n] = ModelPlan(estimator, folds, scorer.criterion, scorer.sample.n_valid)
            curve = _Curve(self.name, model, scorer.responses, plans, seed)
            of_model = Maps.build(scorer.responses.space, list(curve.columns(cells)))
            maps.append(cells.put_aside(of_model, {"analysis": self.name, "models": model.name}))
        return joined(maps)


def check_sizes(n_train: int) -> list[int]:
    """List how many stimuli are fitted; raise `InputError` if there are too few for a curve."""
    if n_train < SMALLEST**2:
        raise InputError(f"A learning curve needs at least {SMALLEST**2} training stimuli; there are {n_train}.")
    return [int(n) for n in np.unique(np.geomspace(n_train / SMALLEST, n_train, N_SIZES).round())]


@dataclass(frozen=True, eq=False)
class _Curve:
    """One joint model, fitted to several numbers of stimuli.

    Parameters
    ----------
    analysis : str
    model : Model
    responses : SplitResponses
    plans : mapping of int to ModelPlan
        By the number of stimuli, ascending.
    seed : int
        For groups of test stimuli that are left out together.
    """

    analysis: str
    model: Model
    responses: SplitResponses
    plans: Mapping[int, ModelPlan]
    seed: int

    def columns(self, cells: Cells) -> Iterator[Column]:
        """Compute all cells, and make the columns of each size, and those of the limit of each band.

        They are in float32, as maps are: there are so many that in float64 they would take the most memory of all.
        """
        n_test, pieces = len(self.plans[max(self.plans)].folds.ids), self._pieces(cells)
        facts = {"analysis": self.analysis, "model": self.model.name, "n_stimuli": n_test}
        for n, piece in pieces.items():
            with self._telling_of(n):
                VoxelCounts(*piece.total("fits").tolist()).log_findings(self.plans[n].estimator, self.model)
            shares, (low, high) = piece.values["shares"], interval(piece, n_test, seed=self.seed)
            for b, band in enumerate(self.model):
                of_band = {**facts, "band": band, **UNIQUE_AT_N.numbered_facts(n)}
                mean = {"mean": _mean(shares[b]), "low": float(low[b]), "high": float(high[b])}
                yield shares[b].astype(np.float32), {**of_band, "n_fitted": n, **mean}
        for b, band in enumerate(self.model):
            gains = np.stack([piece.values["shares"][b] for piece in pieces.values()])
            yield from _limits({**facts, "band": band}, list(pieces), gains)

    def _pieces(self, cells: Cells) -> dict[int, Piece]:
        """Compute all cells; give the piece of each size, of all voxels."""
        chunks = cells.chunks(self.responses.space.n_voxels, self.plans[max(self.plans)].estimator)
        facts = {"analysis": self.analysis, "models": self.model.name}
        each = [
            Cell((n, chunk), {**facts, "n_fitted": n, "voxels": f"{chunk.start}-{chunk.stop}"})
            for n in self.plans
            for chunk in chunks
        ]
        results = iter(cells.map(self._cell, each, title=self.analysis))
        for plan in self.plans.values():
            plan.release()
        return {n: Piece.join([next(results)["gains"] for _ in chunks]) for n in self.plans}

    def _cell(self, item: tuple[int, slice]) -> Result:
        """Fit so many stimuli in a chunk of voxels, with and without each band."""
        n, chunk = item
        plan, ((train, test),) = self.plans[n], averaged(self.responses.folds(chunk))
        ((sampled, _),) = plan.folds.sides
        with self._telling_of(n):
            fitted = plan.fitted([(train.select_stimuli(sampled.ids), test)])
            predict = fitted.predictor(("unique",))

            def gained(tile: slice) -> Piece:
                return unique_gains(predict(tile), self.model, seed=self.seed)

            piece = Piece.join(share(gained, tiles(test.space.n_voxels)))
        counts = np.array([astuple(fitted.counts)])
        return {"gains": Piece({**piece.values}, {**piece.sums, "fits": counts})}

    def _telling_of(self, n: int) -> Any:
        """Mark in the log what is told of fits to so many stimuli."""
        control = f"fits to {n} training stimuli"
        return telling_of(analysis=self.analysis, model=self.model.short, control=control)


def _limits(facts: dict[str, Any], sizes: list[int], gains: FloatArray) -> Iterator[Column]:
    """Make the columns of the limit of a band, from its gains (n_sizes, n_voxels)."""
    reason = why_no_limit(sizes, gains)
    facts = {**facts, **({"no_limit": reason} if reason else {})}
    defined = np.isfinite(gains).all(0)
    means = gains[:, defined].mean(1, keepdims=True) if defined.any() else np.full((len(sizes), 1), np.nan)
    of_mean = dict(zip(("mean", "low", "high"), np.concatenate(scoring.asymptote(sizes, means)), strict=True))
    limits = (UNIQUE_LIMIT, UNIQUE_LIMIT_LOW, UNIQUE_LIMIT_HIGH)
    for statistic, values in zip(limits, scoring.asymptote(sizes, gains), strict=True):
        of_curve = {key: float(value) for key, value in of_mean.items()}
        noted = of_curve if statistic is UNIQUE_LIMIT else {"mean": _mean(values)}
        yield values.astype(np.float32), {**facts, **statistic.facts, **noted}


def unique_gains(held_out: Prediction, bands: Sequence[str], *, seed: int) -> Piece:
    """Compute unique shares in a tile of voxels, of R² about the means, as the maps of unique shares are.

    Parameters
    ----------
    held_out : Prediction
        With the models nested without each band.
    bands : sequence of str
    seed : int

    Returns
    -------
    Piece
        Values `shares` (n_bands, n_voxels); sums `changes` (1 + n_groups, n_bands): the number of voxels that have all
        shares, then what each band's changes by without each group of test stimuli.
    """
    weights, _ = inference.leave_out(len(held_out.y), seed=seed)
    without = [held_out.nested[tuple(other for other in bands if other != band)] for band in bands]
    joint = about_means(held_out.y, held_out.yhat)
    shares = np.stack([joint - about_means(held_out.y, yhat) for yhat in without])
    valid = np.isfinite(shares).all(0)
    predictions = (held_out.yhat, *without)
    drawn = [scoring.weighted_r2(held_out.y, yhat, weights, own_mean=False, offset=False) for yhat in predictions]
    gains = np.stack([drawn[0] - one for one in drawn[1:]], axis=-1).astype(np.float64)  # over draws and voxels
    change = gains[1:] - gains[0]
    changes = np.where(np.isfinite(change), change, 0)[:, valid].sum(1)
    n_valid = np.full((1, len(bands)), float(valid.sum()))
    return Piece({"shares": shares}, {"changes": np.concatenate([n_valid, changes])[None]})


def interval(piece: Piece, n_stimuli: int, *, seed: int) -> tuple[FloatArray, FloatArray]:
    """Find the ends of the interval of each band's mean over voxels, from `unique_gains` of all of them."""
    _, left_out = inference.leave_out(n_stimuli, seed=seed)
    (n_valid, *_), changes = piece.total("changes")[0], piece.total("changes")[1:]
    means = np.array([_mean(shares) for shares in piece.values["shares"]])
    return inference.jackknife_interval(means, changes / max(n_valid, 1), left_out)


def _mean(values: FloatArray) -> float:
    """Average what is finite; nan where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
