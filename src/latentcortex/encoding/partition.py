"""How far a split of explained variance between bands may be trusted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray
from latentcortex.encoding.columns import Column, about_means
from latentcortex.encoding.fitted import Fitted
from latentcortex.encoding.prediction import Prediction, by_tile
from latentcortex.executors import share

logger = logging.getLogger(__name__)

LEAST_RELIABILITY: Final = 1 / 3
"""Expected reliability between halves below which a share cannot be told: by Spearman and Brown's formula, less than
half of what distinguishes voxels alike would be found again on as many other stimuli."""


def shares_of_halves(held_out: Prediction) -> FloatArray:
    """Split the joint R² on every second test stimulus and on the others, (2, n_bands, n_voxels)."""
    sides = [held_out.y[i::2] for i in (0, 1)], [held_out.yhat_bands[:, i::2] for i in (0, 1)]
    return np.stack([by_tile(scoring.product_shares, y, parts) for y, parts in zip(*sides, strict=True)])


def with_stability(columns: Sequence[Column], halves: FloatArray, found: FloatArray) -> list[Column]:
    """Note beside product shares how alike their maps are on two halves of the test stimuli, where the model is found.

    `stability` is the correlation over these voxels; it shares the fit, and so says nothing of other training stimuli.
    """
    some, out = np.flatnonzero(found == 1), []
    each = iter(halves.swapaxes(0, 1)[..., some])
    for values, facts in columns:
        if facts["statistic"] == "shareR2":
            r = scoring.correlation(*next(each)[..., None])[0] if len(some) > 2 else np.nan
            facts = {**facts, "stability": round(float(r), 4)}
        out.append((values, facts))
    return out


def excess(about: dict[str, Any], held_out: Prediction, bands: Sequence[str]) -> list[Column]:
    """Make the column of what the joint model explains beyond the sum of its bands alone; above 0 is suppression."""
    singles = [held_out.nested[band,] for band in bands if (band,) in held_out.nested]
    if len(singles) < len(bands):
        return []
    joint, *alone = (by_tile(about_means, held_out.y, yhat) for yhat in (held_out.yhat, *singles))
    return [(joint - np.sum(alone, axis=0), {**about, "statistic": "excessR2", "unit": "fraction of variance"})]


def identifiable(about: dict[str, Any], model: Fitted, found: FloatArray, *, seed: int) -> list[Column]:
    """Make a column per band: the reliability that its share should have, and how much it overlaps with the others.

    Where the model is found; elsewhere there is nothing to split, and it is nan.
    """
    ids, estimator = model.ids, model.estimator
    if len(ids) < inference.LEAST_ROWS:
        logger.warning("%d fitted stimuli are too few to predict how reliable shares are.", len(ids))
        return []
    options: dict[str, Any] = {"fit_on": ids, "weights": model.weights, "scale": bool(estimator.scale)}
    grams = {band: model.features.gram(band, ids, ids, **options) for band in model.bands}
    # The penalty is relative to the weight of a trial; the noise is that of stimuli.
    noise = estimator.alphas_ / model.weights.mean()
    some, values = np.flatnonzero(found == 1), np.full(estimator.mixtures_.shape, np.nan)
    if len(some):
        values[:, some] = inference.identifiability(grams, estimator.mixtures_[:, some], noise[some], seed=seed)
    common = overlaps(grams)
    facts = {"statistic": "identifiability", "unit": "correlation"}
    return [
        (own, {**about, "band": band, **facts, "overlap": round(common[band], 4)})
        for own, band in zip(values, model.bands, strict=True)
    ]


def overlaps(grams: Mapping[str, FloatArray]) -> dict[str, float]:
    """Find each band's largest overlap with another; see `scoring.overlap`."""
    leading = dict(zip(grams, share(scoring.leading, list(grams.values())), strict=True))
    found = {pair: scoring.overlap(leading[pair[0]], leading[pair[1]]) for pair in combinations(grams, 2)}
    return {band: max(value for pair, value in found.items() if band in pair) for band in grams}
