"""Unique shares against the number of fitted stimuli: gain that stays, and gain that only few stimuli give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, random_for
from latentcortex._files import telling_of
from latentcortex.analyses.models import Analysis
from latentcortex.encoding import Column, Encoder
from latentcortex.encoding.columns import about_means
from latentcortex.errors import InputError
from latentcortex.estimators import quiet
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses
from latentcortex.scoring.learning import why_no_limit

N_SIZES: Final = 5
SMALLEST: Final = 8
"""How many times fewer stimuli than there are the shortest fit has."""

Ends = tuple[FloatArray, FloatArray]


def learning_curve(
    analysis: Analysis,
    features: Features,
    train: Responses,
    test: Responses,
    make_estimator: Callable[[], Any],
    *,
    seed: int,
) -> Maps:
    """Refit joint models to fewer and fewer training stimuli, and extrapolate each band's unique share to all.

    Parameters
    ----------
    analysis : Analysis
        Models of several bands.
    features : Features
    train, test : Responses
        Averaged.
    make_estimator : callable
    seed : int
        Which stimuli are left; smaller sets are parts of larger ones.

    Returns
    -------
    Maps
        `uniqueR2N` with the number of stimuli for each size, `uniqueR2Limit` and its ends; see `scoring.asymptote`.
        Each column says the `mean` over valid voxels, those of sizes its 95 % interval `low`, `high` by jackknife over
        test stimuli, and that of the limit those of the mean curve, or why there is none (`no_limit`).

    Raises
    ------
    InputError
        If there are too few training stimuli for three sizes.
    """
    sizes = check_sizes(len(train.ids))
    order = random_for(seed, "learning curve").permutation(len(train.ids))
    columns: list[Column] = []
    for bands in analysis.models:
        own, gains = features.only(bands), []
        facts = {"analysis": analysis.name, "model": "+".join(bands), "n_stimuli": len(test.ids)}
        for n in sizes:
            some = train.select([train.ids[i] for i in sorted(order[:n])])
            with telling_of(control=f"fits to {n} training stimuli"):
                encoder = Encoder(quiet(make_estimator())).fit(own, some)
                shares, (low, high) = _unique(encoder, own, test, seed=seed)
            gains.append(shares)
            for b, band in enumerate(bands):
                about = {**facts, "band": band, "statistic": f"uniqueR2N{n}", "unit": "fraction of variance"}
                mean = {"mean": _mean(shares[b]), "low": float(low[b]), "high": float(high[b])}
                columns.append((shares[b], {**about, "n_fitted": n, **mean}))
        columns += list(_limits(facts, bands, sizes, np.stack(gains)))
    return Maps.of(test.space, columns)


def check_sizes(n_train: int) -> list[int]:
    """List how many stimuli are fitted; raise `InputError` if there are too few for a curve."""
    if n_train < SMALLEST**2:
        raise InputError(f"A learning curve needs at least {SMALLEST**2} training stimuli; there are {n_train}.")
    return [int(n) for n in np.unique(np.geomspace(n_train / SMALLEST, n_train, N_SIZES).round())]


def _limits(facts: dict[str, Any], bands: tuple[str, ...], sizes: list[int], gains: FloatArray) -> Iterator[Column]:
    for b, band in enumerate(bands):
        reason = why_no_limit(sizes, gains[:, b])
        about = {**facts, "band": band, "unit": "fraction of variance"} | ({"no_limit": reason} if reason else {})
        defined = np.isfinite(gains[:, b]).all(0)
        means = gains[:, b, defined].mean(1, keepdims=True) if defined.any() else np.full((len(sizes), 1), np.nan)
        of_mean = dict(zip(("mean", "low", "high"), np.concatenate(scoring.asymptote(sizes, means)), strict=True))
        for name, values in zip(("", "Low", "High"), scoring.asymptote(sizes, gains[:, b]), strict=True):
            noted = {key: float(value) for key, value in of_mean.items()} if not name else {"mean": _mean(values)}
            yield values, {**about, "statistic": f"uniqueR2Limit{name}", **noted}


def _unique(encoder: Encoder, features: Features, test: Responses, *, seed: int) -> tuple[FloatArray, Ends]:
    """Compute unique shares, (n_bands, n_voxels), and the ends of the interval of each band's mean over voxels.

    Of R² about the means, as the maps of unique shares are.
    """
    weights, left_out = inference.leave_out(len(test.ids), seed=seed)
    bands, shares = encoder.bands, []
    changes, n_valid = np.zeros((len(left_out), len(bands))), 0
    for piece in encoder.walk(features, test, shares=("unique",)):
        without = [piece.nested[tuple(other for other in bands if other != band)] for band in bands]
        joint = about_means(piece.y, piece.yhat)
        shares.append(np.stack([joint - about_means(piece.y, yhat) for yhat in without]))
        valid = np.isfinite(shares[-1]).all(0)
        how: dict[str, bool] = {"own_mean": False, "offset": False}
        drawn = [scoring.weighted_r2(piece.y, yhat, weights, **how) for yhat in (piece.yhat, *without)]
        gains = np.stack([drawn[0] - one for one in drawn[1:]], axis=-1).astype(np.float64)  # over draws and voxels
        change = gains[1:] - gains[0]
        changes += np.where(np.isfinite(change), change, 0)[:, valid].sum(1)
        n_valid += int(valid.sum())
    found = np.concatenate(shares, axis=1)
    means = np.array([_mean(one) for one in found])
    return found, inference.jackknife_interval(means, changes / max(n_valid, 1), left_out)


def _mean(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
