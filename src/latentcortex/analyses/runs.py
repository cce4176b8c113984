"""How analyses are run: on a test set or across folds, and the shuffled control beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from latentcortex import inference, scoring
from latentcortex._arrays import IntArray
from latentcortex._files import telling_of
from latentcortex.analyses.control import N_SHUFFLES, Shuffles, beside, thresholds
from latentcortex.analyses.layers import preferred
from latentcortex.analyses.learning import learning_curve
from latentcortex.analyses.models import Analysis, by_step
from latentcortex.analyses.paired import paired_differences
from latentcortex.encoding import (
    Column,
    Criterion,
    Draws,
    Encoder,
    HalfFits,
    Null,
    Prediction,
    Regions,
    check_share_test,
)
from latentcortex.encoding.columns import rejudged
from latentcortex.encoding.criterion import MOST_VOXELS
from latentcortex.errors import InputError
from latentcortex.estimators import quiet
from latentcortex.executors import share
from latentcortex.features import Features
from latentcortex.maps import Maps, short
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits

logger = logging.getLogger(__name__)

LEAST_TEST: Final = 5
"""Stimuli that models are compared on."""
MOST_PAIRED: Final = 4
"""Latents of which every two are compared."""


class Scorer(Protocol):
    """What runs an analysis."""

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model of the analysis."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Fit on training stimuli, score on averaged responses to test stimuli.

    Parameters
    ----------
    features : Features
    train, test : Responses
    make_estimator : callable
        Makes a fresh estimator for each model.
    criterion : Criterion
    progress : bool
    twin : bool
        Whether a shuffled control is fitted as well, which says how many discoveries are expected to be false.
    regions : Regions, optional
        Whose means have intervals.
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    criterion: Criterion
    progress: bool = False
    twin: bool = False
    regions: Regions | None = None
    shuffles: Shuffles | None = None
    """Of a control, what counts in further orders of its test stimuli."""

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model; single-layer models also give each voxel's preferred layer."""
        maps = rejudged(self._scored(analysis), self.criterion)
        limits = thresholds(maps)
        if not self.twin or not limits:
            return maps
        orders = _orders(self.test, n_permutations=N_SHUFFLES, seed=self.criterion.seed)
        shuffles = Shuffles(analysis.name, limits, orders)
        with telling_of(control="shuffled control"):
            return beside(maps, replace(self.shuffled(), shuffles=shuffles).score(analysis), shuffles)

    def shuffled(self) -> HeldOut:
        """Make the matched shuffled control: same voxels, stimuli and settings, responses to other stimuli."""
        sides = [_exchanged(side, seed=self.criterion.seed) for side in (self.train, self.test)]
        return replace(
            self,
            train=sides[0],
            test=sides[1],
            make_estimator=lambda: quiet(self.make_estimator()),
            twin=False,
            regions=None,
            # What a model predicts is counted, no split of it.
            criterion=replace(self.criterion, identifiability=False, shares=("product",)),
        )

    def _scored(self, analysis: Analysis) -> Maps:
        if analysis.name == "learning-curve":
            own = (analysis, self.features, self.train, self.test, self.make_estimator)
            return learning_curve(*own, seed=self.criterion.seed)
        keeps = analysis.name == "unet-layers"
        with tqdm(total=len(analysis.models), desc=analysis.name, unit="model", disable=not self.progress) as bar:

            def fitted(bands: tuple[str, ...]) -> tuple[Maps, Prediction | None, Encoder, Null]:
                encoder, chosen = Encoder(self.make_estimator(), analysis=analysis.name), self.features.only(bands)
                scale, model = bool(encoder.estimator.scale), "+".join(bands)
                check_share_test(self.criterion, chosen, self.train, self.test, scale=scale)
                with telling_of(analysis=analysis.name, model=short(model)):
                    encoder.fit(chosen, self.train)
                    held_out = encoder.predict_held_out(chosen, self.test) if keeps else None
                    shares = self.criterion.shares
                    pieces = encoder.walk(chosen, self.test, shares=shares) if held_out is None else iter([held_out])
                    null = encoder.null_of(chosen, self.test, self.criterion)
                    pieces = pieces if self.shuffles is None else self.shuffles.of(model, pieces, null)
                    how: dict[str, Any] = {"null": null, "regions": self.regions}
                    how["sides"] = encoder.sides(chosen, self.test)
                    maps = encoder.maps_of(pieces, self.test.space, self.criterion, **how)
                bar.update()
                return maps, held_out, encoder, null

            # Models side by side, each on one thread: most of a fit is too small to share.
            done = share(fitted, analysis.models)
        found = [maps for maps, *_ in done]
        if analysis.name == "latents" and len(done) > 1 and not self._pairs(len(done)):
            logger.info("Latents are not compared: there are %d, and %d test stimuli.", len(done), len(self.test.ids))
        if analysis.name == "latents" and self._pairs(len(done)):
            encoders = {bands[0]: one[2] for bands, one in zip(analysis.models, done, strict=True)}
            null = Null.widest([one[3] for one in done])
            names = list(encoders)
            p = {band: one[0].values(band=band, statistic="p") for band, one in zip(names, done, strict=True)}
            halves = self._halves(names)
            found.append(paired_differences(encoders, p, halves, self.criterion, null))
        if keeps:
            singles = zip(analysis.models, (one for _, one, *_ in done), strict=True)
            there = {bands[0]: one for bands, one in singles if one is not None}
            among = self._preferred(analysis, there, joined(found))
            found += [] if among is None else [among]
        return joined(found)

    def _halves(self, bands: list[str]) -> HalfFits:
        """Prepare fits of each of these bands to halves of the training stimuli."""
        own, seed = self.features.only(bands), self.criterion.seed
        return HalfFits(own, self.train, self.test, self.make_estimator, seed)

    def _effective_dims(self, bands: list[str]) -> list[float]:
        """Count over how many dimensions each band's variance over the training stimuli is spread."""
        ids = self.train.ids
        return [scoring.effective_dims(self.features.gram(band, ids, ids, fit_on=ids)) for band in bands]

    def _pairs(self, n_latents: int) -> bool:
        """Tell whether every two latents can be compared."""
        return 1 < n_latents <= MOST_PAIRED and len(self.test.ids) >= LEAST_TEST

    def _preferred(self, analysis: Analysis, predictions: dict[str, Prediction], singles: Maps) -> Maps | None:
        columns: list[Column] = []
        for step, names in by_step(analysis.models).items():
            here = {name: predictions[name] for name in names}
            p = np.stack([singles.values(band=name, statistic="p") for name in names])
            if len(names) < 2 or len(self.test.ids) < LEAST_TEST:
                logger.info(
                    "Step %s: no layer is preferred among %d on %d stimuli.", step, len(names), len(self.test.ids)
                )
                continue
            how: dict[str, Any] = {"refits": self._halves(names), "effective_dims": self._effective_dims(names)}
            columns += preferred(here, p, self.criterion, about=(analysis.name, step), **how)
        return Maps.of(self.test.space, columns) if columns else None


@dataclass(frozen=True, eq=False)
class AcrossFolds:
    """Predict every stimulus from a fit on the other folds; significance by permutations that refit.

    Parameters
    ----------
    features : Features
    responses : Responses
    splits : Splits
    zscore : {"session", "run", "none"}
    make_estimator : callable
    criterion : Criterion
        With permutations.
    progress : bool
    draws : callable, optional
        Says, by the name of an analysis, where finished permutations are kept.
    """

    features: Features
    responses: Responses
    splits: Splits
    zscore: Within
    make_estimator: Callable[[], Any]
    criterion: Criterion
    progress: bool = False
    draws: Callable[[str], Draws] | None = None

    def score(self, analysis: Analysis) -> Maps:
        """Cross-validate every model of the analysis."""
        found = []
        for bands in analysis.models:
            encoder = Encoder(self.make_estimator(), analysis=analysis.name, progress=self.progress)
            chosen = self.features.only(bands)
            how: dict[str, Any] = {**vars(self.criterion), "zscore": self.zscore}
            how["draws"] = None if self.draws is None else self.draws(analysis.name)
            with telling_of(analysis=analysis.name, model=short("+".join(bands))):
                found.append(encoder.cross_validate(chosen, self.responses, self.splits, **how))
        return rejudged(joined(found), self.criterion)


def _exchanged(responses: Responses, *, seed: int) -> Responses:
    """Exchange the stimuli of averaged responses."""
    (order,) = _orders(responses, n_permutations=1, seed=seed)
    names = responses.rows["stimulus"].to_numpy()
    return replace(responses, rows=responses.rows.assign(stimulus=names[order]))


def _orders(responses: Responses, *, n_permutations: int, seed: int) -> IntArray:
    """Draw orders of averaged responses; neighbours stay together where rows are a time series."""
    length = inference.block_length(responses.data[:, :: -(-responses.data.shape[1] // MOST_VOXELS)])
    block = length if responses.in_time and 1 < length <= len(responses.rows) // 4 else None
    return inference.exchange(len(responses.rows), n_permutations=n_permutations, seed=seed, block=block)


def joined(found: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not found:
        raise InputError("There is nothing to join: no model was run.")
    maps = found[0]
    for more in found[1:]:
        maps = maps.join(more)
    return maps


def ceiling(test: Responses) -> Maps | None:
    """Estimate the noise ceiling of the averaged test responses; None where nothing was repeated.

    Columns say of how many stimuli it is (`n_stimuli`), the harmonic mean of their trials (`n_averaged`), and how many
    were shown once (`n_single`) or have two trials in one run (`n_within_run`): noise that these share is not told from
    signal, and the ceiling is too high by it.
    """
    if len(test.rows) == len(test.ids):
        return None
    counts = np.asarray(test.rows.groupby("stimulus", sort=False).size(), dtype=np.float64)
    repeats = test.repeats()
    values = scoring.noise_ceiling(repeats, n_averaged=counts)
    ends = scoring.noise_ceiling_ci(repeats, n_averaged=counts)
    about: dict[str, Any] = {"analysis": "ceiling", "model": "", "band": "", "unit": "fraction of variance"}
    about |= {"n_stimuli": len(counts), "n_averaged": round(1 / float(np.mean(1 / counts)), 3)}
    about |= {"n_single": int((counts == 1).sum()), "n_within_run": len(test.repeated_within_run())}
    columns = zip(("ceiling", "ceilingLow", "ceilingHigh"), (values, *ends), strict=True)
    valid = test.valid()
    return Maps.of(
        test.space, [(np.where(valid, column, np.nan), {**about, "statistic": name}) for name, column in columns]
    )


def ceiling_across_folds(responses: Responses, splits: Splits, zscore: Within) -> Maps | None:
    """Estimate the noise ceiling of what is scored across folds: each trial z-scored as in the fold that holds it out.

    See `ceiling`; None where nothing was repeated.
    """
    if len(responses.rows) == len(responses.ids):
        return None
    held_out = [responses.split(test_ids=test, train_ids=train, zscore=zscore)[1] for train, test in splits]
    data, rows = (np.concatenate([one.data for one in held_out]), pd.concat([one.rows for one in held_out]))
    return ceiling(replace(responses, data=data, rows=rows.reset_index(drop=True)))
