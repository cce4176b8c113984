"""Rules about when stimuli were shown: what trials of one run share, and what runs that are held out do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex.checking.bands import effective
from latentcortex.checking.design import StudyDesign
from latentcortex.encoding import is_series
from latentcortex.encoding.criterion import MAX_SAMPLED_VOXELS
from latentcortex.responses import Responses

NEAR: Final = range(1, 4)
"""Distances of two trials that are neighbours."""
APART: Final = range(8, 17)
"""Distances of two trials of a run that neighbours are compared with: some blocks, or some seconds of drift, apart."""
CLEAR: Final = 4.0
"""Standard errors from which neighbours are more alike in their features than trials that lie apart."""
SOME_STIMULI: Final = 512
"""Stimuli, evenly spaced, whose kernels with all others say how alike stimuli are by chance."""
DRIFTING: Final = 0.9
"""Quantile over voxels that says how much responses drift."""
MIN_PLACES: Final = 12
"""Places with unlike neighbours that drift is told from: at fewer, responses to these are alike by chance."""
PAIRS_AT_ONCE: Final = 4096
"""Pairs of rows that are multiplied together."""
BY_CHANCE: Final = 1e-3
"""Probability of a shift as large in voxels that are all correlated, from which it is none by chance."""


def mini_blocks(design: StudyDesign) -> Iterator[str]:
    """Find test trials that drift together with fitted trials of like stimuli, their neighbours in one run.

    Two things together let a model predict the drift of a voxel, which a null that exchanges stimuli does not have:
    neighbours are more alike than trials that lie apart in their run, and responses drift. Both are differences
    between pairs of trials at most 3 and 8 to 16 apart: of the kernel of those that a split parts, relative to its
    diagonal, and of the correlation of responses to all unlike ones, where no signal makes any. Where trials have few
    unlike neighbours, as in a short table sorted by category, drift cannot be told, and is not taken for granted.
    """
    rows, ids = design.responses.rows, design.ids
    place = rows["stimulus"].map(pd.Series(range(len(ids)), index=ids)).fillna(-1).to_numpy(dtype=np.intp)
    near, apart = (_within_runs(rows, place, lags) for lags in (NEAR, APART))
    parted = [_parted(design, rows, pairs) for pairs in (near, apart)]
    if not parted[0].any():
        return
    kernel = np.zeros((len(ids), len(ids)))
    for band in design.bands:
        kernel += design.extracted.gram(band, ids, ids, fit_on=ids)
    every = [kernel[place[one], place[other]] for one, other in (near, apart)]
    alike = [values[split] for values, split in zip(every, parted, strict=True)]
    size, elsewhere = float(np.trace(kernel)) / len(ids), _off_diagonal(kernel)
    beyond = alike[1] if len(alike[1]) else elsewhere  # runs may be short
    # A trial has several neighbours, which makes their mean as sure as that of a few pairs per trial at most.
    error = float(elsewhere.std()) * np.sqrt(len(NEAR) / len(alike[0]) + len(APART) / len(beyond))
    likeness = float(alike[0].mean() - beyond.mean())
    if likeness < CLEAR * error:
        return
    middle = float(np.median(elsewhere))
    unlike = [(one[k <= middle], other[k <= middle]) for (one, other), k in zip((near, apart), every, strict=True)]
    drift = _drift(design, *unlike) if _n_places(unlike[0]) >= MIN_PLACES else 0.0
    if is_series(drift * likeness / size):
        yield (
            f"neighbouring trials have like stimuli (features correlate by {likeness / size:.2f} more than apart), "
            f"responses drift (those to unlike neighbours by {drift:.2f} more), and {len(alike[0])} neighbours are "
            "parted by a split: drift passes for prediction. Hold out whole runs: unit = 'run' in [splits]."
        )


def _off_diagonal(kernel: FloatArray) -> FloatArray:
    """Take the kernel of different stimuli, of some stimuli with all: all pairs would take as much memory again."""
    drawn = np.arange(0, len(kernel), -(-len(kernel) // SOME_STIMULI))
    different = np.ones((len(drawn), len(kernel)), dtype=bool)
    different[np.arange(len(drawn)), drawn] = False
    return np.asarray(kernel[drawn][different])


def _within_runs(rows: pd.DataFrame, place: IntArray, lags: range) -> tuple[IntArray, IntArray]:
    """List pairs of rows of one run, so far apart; `place` is that of their stimuli in the kernel, -1 for none."""
    run = rows.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    used = place >= 0
    first, second = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
    for lag in (lag for lag in lags if lag < len(rows)):
        start = np.flatnonzero(used[:-lag] & used[lag:] & (run[:-lag] == run[lag:]))
        first.append(start)
        second.append(start + lag)
    return np.concatenate(first), np.concatenate(second)


def _parted(design: StudyDesign, rows: pd.DataFrame, pairs: tuple[IntArray, IntArray]) -> BoolArray:
    """Tell of which pairs of rows one is fitted on where the other is tested, (n_pairs,)."""
    names, (one, other) = rows["stimulus"], pairs
    parted = np.zeros(len(one), dtype=bool)
    for fold in design.splits:
        train, test = (names.isin(ids).to_numpy() for ids in fold)
        parted |= (train[one] & test[other]) | (test[one] & train[other])
    return parted


def _n_places(pairs: tuple[IntArray, IntArray]) -> int:
    """Count the stretches of rows that pairs lie in: those at one border between categories share what is tested."""
    return int((np.diff(np.unique(pairs[0])) > 1).sum()) + 1 if len(pairs[0]) else 0


def _drift(design: StudyDesign, near: tuple[IntArray, IntArray], apart: tuple[IntArray, IntArray]) -> float:
    """Correlate responses of near pairs of rows, less those of pairs that lie apart and what chance gives.

    In the tenth of voxels that drift most; 0 where they drift by no more than chance.
    """
    y = _centred(design)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = _products(y, near) / (y * y).mean(0)
        if len(apart[0]):
            each -= _products(y, apart) / (y * y).mean(0)
    each = each[np.isfinite(each)]
    if not len(each):
        return 0.0
    chance = np.sqrt(1 / len(near[0]) + (1 / len(apart[0]) if len(apart[0]) else 0))
    normal = stats.norm.ppf(DRIFTING)
    # Three standard errors of the quantile of so many normal values.
    normal += 3 * np.sqrt(DRIFTING * (1 - DRIFTING) / len(each)) / stats.norm.pdf(normal)
    return max(float(np.quantile(each, DRIFTING) - normal * chance), 0.0)


def _products(y: FloatArray, pairs: tuple[IntArray, IntArray]) -> FloatArray:
    """Average the products of pairs of rows, (n_voxels,), a stretch of pairs at a time."""
    total = np.zeros(y.shape[1])
    for start in range(0, len(pairs[0]), PAIRS_AT_ONCE):
        one, other = (side[start : start + PAIRS_AT_ONCE] for side in pairs)
        total += np.einsum("ij,ij->j", y[one], y[other])
    return np.asarray(total / len(pairs[0]))


def _centred(design: StudyDesign) -> FloatArray:
    """Take some voxels' responses less the mean of the session or run that they are z-scored in."""
    given = design.responses
    data = given.data[:, :: -(-given.data.shape[1] // MAX_SAMPLED_VOXELS)].astype(np.float64)
    keys = {"session": ["session"], "run": ["session", "run"]}.get(design.zscore)
    code = given.rows.groupby(keys, sort=False).ngroup().to_numpy() if keys else np.zeros(len(data), dtype=int)
    for k in range(int(code.max(initial=0)) + 1):
        data[code == k] -= data[code == k].mean(0)
    return data


def shifted_baseline(design: StudyDesign) -> Iterator[str]:
    """Find held-out runs whose mean response is not that of the fitted ones.

    The squared difference of means, in units of its standard error, is 1 on average over voxels where means differ by
    chance, and follows a chi-squared distribution over runs even where all voxels are one. Each run is looked at by
    itself, since those that are held out together may lie on both sides of the others; and only where test trials lie
    in runs without training trials: a baseline belongs to a run or session.
    """
    shifts, features = [], []
    for train_ids, test_ids in design.splits:
        if not _in_runs_of_their_own(design, train_ids, test_ids):
            return
        train, test = design.responses.split(train_ids=train_ids, test_ids=test_ids, zscore=design.zscore)
        shifts += _shifts(train, test)
        if design.features is not None:
            features.append(_feature_shift(design, list(train_ids), list(test_ids)))
    n = len(shifts)
    observed = float(np.mean([ratio for ratio, _ in shifts])) if shifts else 0.0
    if not observed > stats.chi2.isf(BY_CHANCE, n) / n:
        return
    size = float(np.mean([size for _, size in shifts]))
    too = ", and so do features" if features and all(features) else ""
    yield (
        f"mean responses in runs that are held out differ from those to fitted ones by {size:.2f} standard "
        f"deviations in the median voxel, {observed:.0f} times what chance gives{too}: predictions have another offset "
        "than responses. Set zscore = 'run' (or 'session'): runs that are held out are z-scored with statistics of "
        "their own, which also takes away what stimuli of one run have in common, such as the category of its block."
    )


def _in_runs_of_their_own(design: StudyDesign, train_ids: Sequence[str], test_ids: Sequence[str]) -> bool:
    """Tell whether most test trials lie in runs without a training trial."""
    rows = design.responses.rows
    run = rows.groupby(["session", "run"], sort=False).ngroup()
    train, test = rows["stimulus"].isin(train_ids), rows["stimulus"].isin(test_ids)
    return bool((~run[test].isin(run[train])).mean() > 0.5)


def _shifts(train: Responses, test: Responses) -> list[tuple[float, float]]:
    """Compare the mean of each test run with that of the fitted rows, over voxels.

    Returns
    -------
    list of (float, float), of length n_test_runs
        The mean squared difference relative to what chance gives, and the median difference in standard deviations
        within runs.
    """
    fitted_runs = _of_runs(train)
    means, squares, counts = (np.concatenate(parts) for parts in zip(fitted_runs, _of_runs(test), strict=True))
    n_train = len(fitted_runs[2])
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = squares.sum(0) / max(int((counts - 1).sum()), 1)
        fitted = np.average(means[:n_train], axis=0, weights=counts[:n_train])
        apart = (means[n_train:] - fitted) ** 2 / variance
    apart = apart[:, np.isfinite(apart).all(0)]
    if not apart.size:
        return []
    chance = 1 / counts[n_train:] + 1 / counts[:n_train].sum()
    sizes = np.sqrt(np.median(apart, axis=1))
    return list(zip((apart.mean(1) / chance).tolist(), sizes.tolist(), strict=True))


def _of_runs(responses: Responses) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Average each run over its stimuli, each of these over its repeats there.

    Returns
    -------
    means : ndarray of shape (n_runs, n_voxels)
    squares : ndarray of shape (n_runs, n_voxels)
        Summed squared differences of stimuli from the mean of their run.
    counts : ndarray of shape (n_runs,)
        Stimuli of each run.
    """
    rows, step = responses.rows, -(-responses.data.shape[1] // MAX_SAMPLED_VOXELS)
    shown = rows.groupby(["session", "run", "stimulus"], sort=False).ngroup().to_numpy()
    _, first = np.unique(shown, return_index=True)
    run = rows.groupby(["session", "run"], sort=False).ngroup().to_numpy()[first]
    values = pd.DataFrame(responses.data[:, ::step].astype(np.float64)).groupby(shown).mean().groupby(run)
    counts: FloatArray = values.size().to_numpy().astype(np.float64)
    return values.mean().to_numpy(), values.var(ddof=0).to_numpy() * counts[:, None], counts


def _feature_shift(design: StudyDesign, train_ids: list[str], test_ids: list[str]) -> bool:
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
