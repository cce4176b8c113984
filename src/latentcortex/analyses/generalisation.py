"""How scores fall from test stimuli like the fitted ones to test stimuli that are unlike them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for
from latentcortex.analyses.models import Analysis
from latentcortex.analyses.runs import ceiling, joined
from latentcortex.encoding import Column, Criterion, Encoder, Prediction
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses, Within
from latentcortex.splits import clusters_of, farthest

N_DRAWS: Final = 200
FRACTION: Final = 5
"""One in so many stimuli is tested on."""

Side = tuple[list[str], list[str]]


def profile_sides(
    ids: Sequence[str], groups: Sequence[str], places: FloatArray, *, n_clusters: int, seed: int
) -> tuple[dict[str, Side], dict[str, str]]:
    """Choose three test sets, with as many training stimuli each.

    Parameters
    ----------
    ids : sequence of str
    groups : sequence of str
        Identical images are one group.
    places : ndarray of shape (n_stimuli, n_dims)
        From `splits.coordinates`.
    n_clusters : int
    seed : int

    Returns
    -------
    sides : dict of str to (train ids, test ids)
        `random`; `cluster`: whole clusters of stimuli; `far`: the stimuli farthest from all others.
    clusters : dict of str to str
        Stimulus -> its cluster.
    """
    n_test, clusters = -(-len(ids) // FRACTION), clusters_of(places, n_clusters, seed=seed)
    tests = {
        "random": _whole(groups, n_test, seed=seed),
        "cluster": _whole(clusters, n_test, seed=seed),
        "far": farthest(places, groups, n_test),
    }
    n_train = len(ids) - max(len(test) for test in tests.values())
    sides = {}
    for kind, test in tests.items():
        left = np.setdiff1d(np.arange(len(ids)), test)
        train = np.sort(random_for(seed, "generalisation", kind).permutation(left)[:n_train])
        sides[kind] = ([ids[i] for i in train], [ids[i] for i in test])
    return sides, dict(zip(ids, clusters, strict=True))


def _whole(groups: Sequence[str], n_test: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Draw whole groups until so many stimuli are there."""
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    order = random_for(seed, "generalisation", "groups", len(names)).permutation(len(names))
    enough = int(np.searchsorted(np.cumsum(np.bincount(code)[order]), n_test)) + 1
    return np.flatnonzero(np.isin(code, order[:enough]))


def generalisation(
    analysis: Analysis,
    features: Features,
    responses: Responses,
    sides: Mapping[str, Side],
    make_estimator: Callable[[], Any],
    *,
    zscore: Within,
    criterion: Criterion,
    clusters: Mapping[str, str],
) -> Maps:
    """Fit and score every model on each of several splits of all stimuli.

    Parameters
    ----------
    analysis : Analysis
    features : Features
    responses : Responses
        Single trials.
    sides, clusters
        From `profile_sides`.
    make_estimator : callable
    zscore : {"session", "run", "none"}
        With the statistics of each split's training rows.
    criterion : Criterion

    Returns
    -------
    Maps
        r, r2, p, q, mask of each model, where `analysis` ends in the kind of split. Columns of r also say the `mean`
        over valid voxels with its 95 % interval by bootstrap over test stimuli, the same divided by the square root of
        the mean noise ceiling of that test set (`normalised`), and n_train.
    """
    found = []
    for kind, (train_ids, test_ids) in sides.items():
        train, test = responses.split(train_ids=train_ids, test_ids=test_ids, zscore=zscore)
        own = replace(criterion, shares=("product",))
        limit = _mean(ceiling(test))
        for bands in analysis.models:
            chosen = features.only(bands)
            encoder = Encoder(make_estimator(), analysis=f"{analysis.name}-{kind}").fit(chosen, train)
            alike = clusters if kind == "cluster" else None
            pieces = list(encoder.walk(chosen, test, clusters=alike))
            facts = {**_mean_r(pieces, seed=criterion.seed), "n_train": len(train_ids)}
            facts["normalised"] = facts["mean"] / np.sqrt(limit) if limit > 0 else float("nan")
            found.append(_noted(encoder.maps_of(pieces, test.space, own), facts))
    return joined(found)


def _noted(maps: Maps, facts: Mapping[str, float]) -> Maps:
    """Note facts beside r."""
    columns: list[Column] = [(v, {**about, **facts} if about["statistic"] == "r" else about) for v, about in maps]
    return Maps.of(maps.space, columns)


def _mean_r(pieces: Sequence[Prediction], *, seed: int) -> dict[str, float]:
    """Average r over valid voxels, with an interval by bootstrap over test stimuli."""
    n = len(pieces[0].y)
    rows = inference.bootstrap_rows(n, n_draws=N_DRAWS, seed=seed)
    weights = np.stack([np.bincount(row, minlength=n) for row in rows]) / n
    total, known, observed = np.zeros(N_DRAWS), 0, 0.0
    for piece in pieces:
        valid = np.isfinite(piece.r)
        total += scoring.weighted_correlation(piece.y[:, valid], piece.varying[:, valid], weights).sum(1)
        known, observed = known + int(valid.sum()), observed + float(piece.r[valid].sum())
    low, high = np.quantile(total / max(known, 1), [0.025, 0.975])
    return {"mean": observed / max(known, 1), "low": float(low), "high": float(high)}


def _mean(ceilings: Maps | None) -> float:
    """Average the noise ceiling over voxels that have one; nan where nothing was repeated."""
    values = np.full(1, np.nan) if ceilings is None else ceilings.values(statistic="ceiling")
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
