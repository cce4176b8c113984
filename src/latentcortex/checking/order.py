"""Rules about when stimuli were shown: what trials of one run share, and what runs that are held out do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from latentcortex._arrays import FloatArray, IntArray
from latentcortex.checking.bands import effective
from latentcortex.checking.design import Design
from latentcortex.encoding import is_series
from latentcortex.encoding.criterion import MOST_VOXELS
from latentcortex.inference.null import SLOWEST

LAGS: Final = 3
"""Trials that lie at most so far apart are neighbours."""
CLEAR: Final = 4.0
"""Standard errors above chance from which neighbours are alike in their features."""
SOME_STIMULI: Final = 512
"""Stimuli, evenly spaced, whose kernels with all others say how alike stimuli are by chance."""
LEAST_UNLIKE: Final = 12
"""Neighbours with unlike features below which drift cannot be told from responses to like stimuli."""
BY_CHANCE: Final = 1e-3
"""Probability of a shift as large in voxels that are all correlated, from which it is none by chance."""


def mini_blocks(design: Design) -> Iterator[str]:
    """Find test trials that drift together with fitted trials of like stimuli, their neighbours in one run.

    Two things together let a model predict the drift of a voxel, which a null that exchanges stimuli does not have:
    stimuli follow each other that are more alike than others, and responses drift. How alike neighbours are is their
    mean kernel relative to its diagonal, over pairs of trials at most three apart in one run of which a split parts
    the stimuli; drift is the correlation of responses of such pairs that are unlike, where no signal makes any. Rows
    are taken to be in the order of presentation within each run.
    """
    rows, ids = design.responses.rows, design.ids
    one, other = _parted_neighbours(design, rows)
    if not len(one):
        return
    kernel = np.zeros((len(ids), len(ids)))
    for band in design.bands:
        kernel += design.extracted.gram(band, ids, ids, fit_on=ids)
    place = rows["stimulus"].map(pd.Series(range(len(ids)), index=ids))
    pairs = kernel[place.iloc[one].astype(int), place.iloc[other].astype(int)]
    size, elsewhere = float(np.trace(kernel)) / len(ids), _off_diagonal(kernel)
    # A trial has several neighbours, which makes their mean as sure as that of a few pairs per trial at most.
    error = float(elsewhere.std()) / np.sqrt(len(pairs) / LAGS)
    likeness = float(pairs.mean() - elsewhere.mean())
    if likeness < CLEAR * error:
        return
    unlike = pairs <= np.median(elsewhere)
    drift = 1.0 if unlike.sum() < LEAST_UNLIKE else _drift(design, one[unlike], other[unlike])
    if is_series(drift * likeness / size):
        yield (
            f"neighbouring trials have like stimuli (features correlate by {likeness / size:.2f}), responses "
            f"drift (those to unlike neighbours correlate by {drift:.2f}), and {len(pairs)} such pairs are parted by a "
            "split: drift passes for prediction. Hold out whole runs: unit = 'run' in [splits], or `split` by runs."
        )


def _off_diagonal(kernel: FloatArray) -> FloatArray:
    """Take the kernel of different stimuli, of some stimuli with all: all pairs would take as much memory again."""
    drawn = np.arange(0, len(kernel), -(-len(kernel) // SOME_STIMULI))
    different = np.ones((len(drawn), len(kernel)), dtype=bool)
    different[np.arange(len(drawn)), drawn] = False
    return np.asarray(kernel[drawn][different])


def _parted_neighbours(design: Design, rows: pd.DataFrame) -> tuple[IntArray, IntArray]:
    """List pairs of rows, near in one run, of which one is fitted on where the other is tested."""
    names, run = rows["stimulus"], rows.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    sides = [tuple(names.isin(ids).to_numpy() for ids in side) for side in design.sides]
    first, second = [], []
    for lag in range(1, LAGS + 1):
        parted = np.zeros(max(len(rows) - lag, 0), dtype=bool)
        for train, test in sides:
            parted |= (train[:-lag] & test[lag:]) | (test[:-lag] & train[lag:])
        start = np.flatnonzero(parted & (run[:-lag] == run[lag:]))
        first.append(start)
        second.append(start + lag)
    return np.concatenate(first), np.concatenate(second)


def _drift(design: Design, one: IntArray, other: IntArray) -> float:
    """Correlate responses of pairs of rows, in the slowest voxels, less what chance gives."""
    y = _centred(design)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = (y[one] * y[other]).mean(0) / (y * y).mean(0)
    each = each[np.isfinite(each)]
    if not len(each):
        return 0.0
    return max(float(np.quantile(each, SLOWEST) - stats.norm.ppf(SLOWEST) / np.sqrt(len(one))), 0.0)


def _centred(design: Design) -> FloatArray:
    """Take some voxels' responses less the mean of the session or run that they are z-scored in."""
    given = design.responses
    data = given.data[:, :: -(-given.data.shape[1] // MOST_VOXELS)].astype(np.float64)
    keys = {"session": ["session"], "run": ["session", "run"]}.get(design.zscore)
    code = given.rows.groupby(keys, sort=False).ngroup().to_numpy() if keys else np.zeros(len(data), dtype=int)
    for k in range(int(code.max(initial=0)) + 1):
        data[code == k] -= data[code == k].mean(0)
    return data


def shifted_baseline(design: Design) -> Iterator[str]:
    """Find held-out runs whose mean response is not that of the fitted ones.

    The squared difference of means, in units of its standard error, is 1 on average over voxels where means differ by
    chance, and follows a chi-squared distribution over sides even where all voxels are one. Looked at where test
    trials lie in runs without training trials: a baseline belongs to a run or session.
    """
    shifts, features = [], []
    for train_ids, test_ids in design.sides:
        if not _in_runs_of_their_own(design, train_ids, test_ids):
            return
        train, test = design.responses.split(train_ids=train_ids, test_ids=test_ids, zscore=design.zscore)
        shifts.append(_shift(train.averaged().data, test.averaged().data))
        if design.features is not None:
            features.append(_feature_shift(design, list(train_ids), list(test_ids)))
    n = len(shifts)
    observed = float(np.mean([each["ratio"] for each in shifts])) if shifts else 0.0
    if not observed > stats.chi2.isf(BY_CHANCE, n) / n:
        return
    size = float(np.mean([each["size"] for each in shifts]))
    too = ", and so do features" if features and all(features) else ""
    held_out = "test stimuli" if n == 1 else "held-out stimuli of a fold"
    yield (
        f"mean responses to {held_out} differ from those to fitted ones by {size:.2f} standard deviations in the "
        f"median voxel, {observed:.0f} times what chance gives{too}: predictions have another offset than responses. "
        "Set zscore = 'run' (or 'session'): runs that are held out are z-scored with statistics of their own."
    )


def _in_runs_of_their_own(design: Design, train_ids: Sequence[str], test_ids: Sequence[str]) -> bool:
    """Tell whether most test trials lie in runs without a training trial."""
    rows = design.responses.rows
    run = rows.groupby(["session", "run"], sort=False).ngroup()
    train, test = rows["stimulus"].isin(train_ids), rows["stimulus"].isin(test_ids)
    return bool((~run[test].isin(run[train])).mean() > 0.5)


def _shift(train: FloatArray, test: FloatArray) -> dict[str, float]:
    """Compare the means of two samples over voxels: squared, relative to chance, and in standard deviations."""
    step = -(-train.shape[1] // MOST_VOXELS)
    one, other = train[:, ::step].astype(np.float64), test[:, ::step].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (one.var(0) * len(one) + other.var(0) * len(other)) / max(len(one) + len(other) - 2, 1)
        squared = (one.mean(0) - other.mean(0)) ** 2 / variance
    squared = squared[np.isfinite(squared)]
    if not len(squared):
        return {"ratio": 0.0, "size": 0.0}
    return {
        "ratio": float(squared.mean() / (1 / len(one) + 1 / len(other))),
        "size": float(np.sqrt(np.median(squared))),
    }


def _feature_shift(design: Design, train_ids: list[str], test_ids: list[str]) -> bool:
    """Tell whether the mean of the features differs between both sides by more than chance, in any band."""
    ids = [*train_ids, *test_ids]
    weight = np.r_[np.full(len(train_ids), -1 / len(train_ids)), np.full(len(test_ids), 1 / len(test_ids))]
    for band in design.bands:
        kernel = design.extracted.gram(band, ids, ids, fit_on=ids)
        chance = float(np.trace(kernel)) / len(ids) * (1 / len(train_ids) + 1 / len(test_ids))
        n_dims = effective(kernel)
        if weight @ kernel @ weight > chance * stats.chi2.isf(BY_CHANCE, n_dims) / n_dims:
            return True
    return False
