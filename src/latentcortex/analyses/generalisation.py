"""How scores fall from test stimuli like the fitted ones to test stimuli that are unlike them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for
from latentcortex._files import telling_of
from latentcortex.analyses.joining import joined
from latentcortex.analyses.models import Analysis
from latentcortex.encoding import Column, Criterion, Encoder, Prediction
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.maps import Maps, short
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits, clusters_of, farthest, linked

FRACTION: Final = 5
"""One in so many stimuli is tested on."""
LEAST_CLUSTERS: Final = 5
"""Clusters that are held out: fewer cannot have their signs flipped."""


def profile_splits(
    ids: Sequence[str],
    groups: Sequence[str],
    places: FloatArray,
    *,
    n_clusters: int,
    seed: int,
    participant: str = "",
) -> tuple[dict[str, Splits], dict[str, str]]:
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
    participant : str

    Returns
    -------
    splits : dict of str to Splits
        One fold each, with as many training stimuli; the others are left out. `random`; `cluster`: whole clusters of
        stimuli; `far`: the stimuli farthest from all others.
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
    splits = {}
    for kind, test in tests.items():
        left = np.setdiff1d(np.arange(len(ids)), test)
        train = np.sort(random_for(seed, "generalisation", kind).permutation(left)[:n_train])
        parts = ([ids[i] for i in train], [ids[i] for i in test])
        splits[kind] = Splits.held_out(*parts, participant=participant, name=kind)
    return splits, dict(zip(ids, clusters, strict=True))


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
    splits: Mapping[str, Splits],
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
    splits, clusters
        From `profile_splits`.
    make_estimator : callable
    zscore : {"session", "run", "none"}
        With the statistics of each split's training rows.
    criterion : Criterion

    Returns
    -------
    Maps
        r, r2, p, q, mask of each model, where `analysis` ends in the kind of split. Columns of r also say the `mean`
        over valid voxels with its 95 % interval (`low`, `high`), `normalised`, r relative to the noise ceiling
        (`scoring.normalised_mean`), with `normalised_low` and `normalised_high`, and n_train. Intervals are
        those of `inference.jackknife_interval` over test stimuli, or whole clusters of them.
    """
    found = []
    for kind, ((train_ids, test_ids),) in splits.items():
        train, test = responses.split(train_ids=train_ids, test_ids=test_ids, zscore=zscore)
        # Stimuli of a cluster are alike: whatever null is asked for, one by one they would not be exchangeable.
        own = replace(criterion, shares=("product",), null="auto" if kind == "cluster" else criterion.null)
        repeats = test.repeats() if len(test.rows) > len(test.ids) else None
        for bands in analysis.models:
            chosen = features.only(bands)
            with telling_of(analysis=f"{analysis.name}-{kind}", model=short("+".join(bands))):
                encoder = Encoder(make_estimator(), analysis=f"{analysis.name}-{kind}").fit(chosen, train)
                alike = clusters if kind == "cluster" else None
                null = encoder.null_of(chosen, test, own, clusters=alike)
                pieces = list(encoder.walk(chosen, test, clusters=alike))
                facts = {**mean_scores(pieces, repeats, seed=criterion.seed), "n_train": len(train_ids)}
                found.append(_noted(encoder.maps_of(pieces, test.space, own, null=null), facts))
    return joined(found)


def _noted(maps: Maps, facts: Mapping[str, float]) -> Maps:
    """Note facts beside r."""
    columns: list[Column] = [(v, {**about, **facts} if about["statistic"] == "r" else about) for v, about in maps]
    return Maps.of(maps.space, columns)


def mean_scores(pieces: Sequence[Prediction], repeats: FloatArray | None, *, seed: int) -> dict[str, float]:
    """Average r over valid voxels, and relate it to the ceiling, with intervals over test stimuli or clusters.

    Parameters
    ----------
    pieces : sequence of Prediction
        Of all voxels, in order.
    repeats : ndarray of shape (n_repeats, n_stimuli, n_voxels), optional
        Single trials of the same stimuli, in the same order; None where nothing was repeated.
    seed : int

    Returns
    -------
    dict of str to float
        `mean`, `low`, `high`, `normalised`, `normalised_low`, `normalised_high`; nan where not known.
    """
    alike, n_rows = pieces[0].clusters or None, len(pieces[0].y)
    weights, left_out = inference.leave_out(n_rows, clusters=alike, seed=seed)
    scores = np.concatenate([scoring.weighted_correlation(one.y, one.varying, weights) for one in pieces], axis=1)
    # A voxel that varies over the left out stimuli only has no r without them.
    scores = np.where(np.isfinite(scores), scores, scores[0]).astype(np.float64)
    valid = np.isfinite(np.concatenate([one.r for one in pieces]))
    facts = _with_ends("mean", scores[:, valid].mean(1) if valid.any() else np.full(len(weights), np.nan), left_out)
    relative = np.full(len(weights), np.nan)
    if repeats is not None:
        ceilings = scoring.weighted_ceiling(repeats, weights)
        n_left = [n_rows, *np.rint(n_rows * (1 - left_out)).astype(int)]
        kept = zip(scores, ceilings, n_left, strict=True)
        relative = np.array([scoring.normalised_mean(r, limit, n_stimuli=int(n)) for r, limit, n in kept])
    return facts | _with_ends("normalised", relative, left_out)


def _with_ends(name: str, means: FloatArray, left_out: FloatArray) -> dict[str, float]:
    """Take the mean of all stimuli, and its interval from those without some of them."""
    change = (means[1:] - means[0])[:, None]
    low, high = inference.jackknife_interval(means[:1], change, left_out, unbiased=name == "normalised")
    start = "" if name == "mean" else f"{name}_"
    return {name: float(means[0]), f"{start}low": float(low[0]), f"{start}high": float(high[0])}
