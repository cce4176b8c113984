"""How scores fall from test stimuli like the fitted ones to test stimuli that are unlike them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for
from latentcortex._files import telling_of
from latentcortex.analyses.models import Analysis
from latentcortex.analyses.runs import ceiling, joined
from latentcortex.encoding import Column, Criterion, Encoder, Prediction
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.maps import Maps, short
from latentcortex.responses import Responses, Within
from latentcortex.splits import clusters_of, farthest, linked

N_DRAWS: Final = 200
FRACTION: Final = 5
"""One in so many stimuli is tested on."""
LEAST_CLUSTERS: Final = 5
"""Clusters that are held out: fewer cannot have their signs flipped."""

Side = tuple[list[str], list[str]]


def profile_sides(
    ids: Sequence[str], groups: Sequence[str], places: FloatArray, *, n_clusters: int, seed: int
) -> tuple[dict[str, Side], dict[str, str]]:
    """Choose three test sets, with as many training stimuli each.

    Parameters
    ----------
    ids : sequence of str
    groups : sequence of str
        Identical images are one group, and so are the clusters that hold them.
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
    n_test = -(-len(ids) // FRACTION)
    clusters = linked(len(ids), groups, clusters_of(places, n_clusters, seed=seed))
    tests = {
        "random": _whole(groups, n_test, seed=seed),
        "cluster": _whole(clusters, n_test, seed=seed),
        "far": farthest(places, groups, n_test),
    }
    n_train = len(ids) - max(len(test) for test in tests.values())
    n_held = len({clusters[i] for i in tests["cluster"]})
    if n_train < len(ids) / 2 or n_held < LEAST_CLUSTERS:
        raise InputError(
            f"The {len(ids)} stimuli make clusters too uneven for a profile of generalisation: {n_held} of them would "
            f"be held out, {n_train} stimuli fitted. Choose another n_clusters or embedding in [splits]."
        )
    sides = {}
    for kind, test in tests.items():
        left = np.setdiff1d(np.arange(len(ids)), test)
        train = np.sort(random_for(seed, "generalisation", kind).permutation(left)[:n_train])
        sides[kind] = ([ids[i] for i in train], [ids[i] for i in test])
    return sides, dict(zip(ids, clusters, strict=True))


def _whole(groups: Sequence[str], n_test: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Draw whole groups until so many stimuli are there; one that would overshoot by half is left out."""
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    sizes, chosen, total = np.bincount(code), [], 0
    for name in random_for(seed, "generalisation", "groups", len(names)).permutation(len(names)):
        if total < n_test and total + sizes[name] <= 1.5 * n_test:
            chosen.append(name)
            total += int(sizes[name])
    return np.flatnonzero(np.isin(code, chosen))


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
        # Stimuli of a cluster are alike: whatever null is asked for, one by one they would not be exchangeable.
        own = replace(criterion, shares=("product",), null="auto" if kind == "cluster" else criterion.null)
        limit = _mean(ceiling(test))
        for bands in analysis.models:
            chosen = features.only(bands)
            with telling_of(analysis=f"{analysis.name}-{kind}", model=short("+".join(bands))):
                encoder = Encoder(make_estimator(), analysis=f"{analysis.name}-{kind}").fit(chosen, train)
                alike = clusters if kind == "cluster" else None
                null = encoder.null_of(chosen, test, own, clusters=alike)
                pieces = list(encoder.walk(chosen, test, clusters=alike))
                facts = {**_mean_r(pieces, seed=criterion.seed), "n_train": len(train_ids)}
                facts["normalised"] = facts["mean"] / np.sqrt(limit) if limit > 0 else float("nan")
                found.append(_noted(encoder.maps_of(pieces, test.space, own, null=null), facts))
    return joined(found)


def _noted(maps: Maps, facts: Mapping[str, float]) -> Maps:
    """Note facts beside r."""
    columns: list[Column] = [(v, {**about, **facts} if about["statistic"] == "r" else about) for v, about in maps]
    return Maps.of(maps.space, columns)


def _mean_r(pieces: Sequence[Prediction], *, seed: int) -> dict[str, float]:
    """Average r over valid voxels, with an interval by bootstrap over test stimuli, or whole clusters of them."""
    alike = pieces[0].clusters or None
    weights = inference.bootstrap_weights(len(pieces[0].y), clusters=alike, n_draws=N_DRAWS, seed=seed)
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
