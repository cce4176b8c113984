"""How far a split of explained variance between bands may be trusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from latentcortex import inference, scoring, statistics
from latentcortex._arrays import FloatArray
from latentcortex.encoding.fitted import FittedModel, Hyperparameters, PreparedModel
from latentcortex.encoding.map_columns import Column, about_means
from latentcortex.encoding.prediction import Prediction, by_tile
from latentcortex.executors import share

logger = logging.getLogger(__name__)


def shares_of_halves(held_out: Prediction) -> FloatArray:
    """Split the joint R² on every second test stimulus and on the others, (2, n_bands, n_voxels)."""
    sides = [held_out.y[i::2] for i in (0, 1)], [held_out.yhat_bands[:, i::2] for i in (0, 1)]
    return np.stack([by_tile(scoring.product_shares, y, parts) for y, parts in zip(*sides, strict=True)])


def with_stability(columns: Sequence[Column], halves: FloatArray, significant: FloatArray) -> list[Column]:
    """Note beside product shares how alike their maps are on two halves of the test stimuli, where the model is found.

    `stability` is the correlation over these voxels; it shares the fit, and so says nothing of other training stimuli.

    Parameters
    ----------
    columns : sequence of (ndarray, dict)
    halves : ndarray of shape (2 * n_bands, n_voxels)
        Shares of every band on the first half, then on the other.
    significant : ndarray of shape (n_voxels,)
        1 where the model is found.
    """
    voxels, noted = np.flatnonzero(significant == 1), []
    each = zip(*np.split(halves[:, voxels], 2), strict=True)
    for values, facts in columns:
        if facts["statistic"] == statistics.PRODUCT_SHARE.name:
            pair = next(each)
            r = scoring.correlation(pair[0][:, None], pair[1][:, None])[0] if len(voxels) > 2 else np.nan
            facts = {**facts, "stability": round(float(r), 4)}
        noted.append((values, facts))
    return noted


def excess(held_out: Prediction, bands: Sequence[str]) -> FloatArray:
    """Compute what the joint model explains beyond the sum of its bands alone, (1, n_voxels); above 0 is suppression.

    Without models of every single band it is not known: (0, n_voxels).
    """
    singles = [held_out.nested[band,] for band in bands if (band,) in held_out.nested]
    if len(singles) < len(bands):
        return np.empty((0, held_out.y.shape[1]))
    joint, *alone = (by_tile(about_means, held_out.y, yhat) for yhat in (held_out.yhat, *singles))
    return np.asarray(joint - np.sum(alone, axis=0))[None]


def identifiable(
    model: PreparedModel | FittedModel, chosen: Hyperparameters, significant: FloatArray, *, seed: int
) -> FloatArray:
    """Predict the reliability that each band's share should have, (n_bands, n_voxels).

    Where the model is found; elsewhere there is nothing to split, and it is nan. Without bands, (0, n_voxels), where
    there are too few stimuli.

    Parameters
    ----------
    model : PreparedModel or FittedModel
    chosen : Hyperparameters
        What the fit chose for every voxel.
    significant : ndarray of shape (n_voxels,)
        1 where the model is found.
    seed : int
    """
    if len(model.ids) < inference.MIN_ROWS:
        text = "Identifiability is not known: %d fitted stimuli are too few to predict how reliable shares are."
        logger.warning(text, len(model.ids), extra={"facts": {"statistic": "identifiability"}})
        return np.empty((0, len(significant)))
    # The penalty is relative to the weight of a trial; the noise is that of stimuli.
    noise = chosen.alphas / model.weights.mean()
    voxels, values = np.flatnonzero(significant == 1), np.full(chosen.mixtures.shape, np.nan)
    if len(voxels):
        mixtures = chosen.mixtures[:, voxels]
        values[:, voxels] = inference.identifiability(_grams(model), mixtures, noise[voxels], seed=seed)
    return values


def _grams(model: PreparedModel | FittedModel) -> dict[str, FloatArray]:
    """Compute the kernel of each band between the fitted stimuli."""
    ids, scale = model.ids, bool(model.estimator.scale)
    options: dict[str, Any] = {"fit_on": ids, "weights": model.weights, "scale": scale}
    return {band: model.features.gram(band, ids, ids, **options) for band in model.bands}


def overlaps_of(model: PreparedModel | FittedModel) -> FloatArray:
    """Find how much each band overlaps with any other, (n_bands,); see `overlaps`."""
    return np.array(list(overlaps(_grams(model)).values()))


def overlaps(grams: Mapping[str, FloatArray]) -> dict[str, float]:
    """Find each band's largest overlap with another; see `scoring.overlap`."""
    leading = dict(zip(grams, share(scoring.leading, list(grams.values())), strict=True))
    by_pair = {pair: scoring.overlap(leading[pair[0]], leading[pair[1]]) for pair in combinations(grams, 2)}
    return {band: max(value for pair, value in by_pair.items() if band in pair) for band in grams}
