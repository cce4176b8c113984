"""Which of two latents predicts a voxel better, beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray
from latentcortex.encoding import Column, Criterion, Encoder, Null, significance
from latentcortex.encoding.columns import N_FLIPS, about_means, flips_in_words, flips_of
from latentcortex.encoding.prediction import by_tile
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses


def paired_differences(
    encoders: Mapping[str, Encoder], features: Features, test: Responses, criterion: Criterion, null: Null
) -> Maps:
    """Compare every two models of one band, voxel by voxel, on the same test stimuli.

    Parameters
    ----------
    encoders : mapping of str to Encoder
        Band -> its fitted model.
    features : Features
    test : Responses
    criterion : Criterion
        Of each pair's map, which is a family of its own.
    null : Null
        Stimuli that it keeps together are flipped together.

    Returns
    -------
    Maps
        Of each pair, with the one as `model` and the other as `band`: `differenceR2`, the difference of their R² about
        the means, and its two-sided p, q and mask, by the losses that it is made of; see
        `inference.paired_difference_p`. nan where either R² is.
    """
    pairs = list(combinations(encoders, 2))
    p: dict[tuple[str, str], list[FloatArray]] = {pair: [] for pair in pairs}
    r2: dict[str, list[FloatArray]] = {band: [] for band in encoders}
    walks = [encoder.walk(features.only([band]), test) for band, encoder in encoders.items()]
    n_rows = len(test.ids)
    how: dict[str, Any] = {"clusters": null.alike(n_rows), "n_permutations": N_FLIPS, "seed": criterion.seed}
    for pieces in zip(*walks, strict=True):
        here = dict(zip(encoders, pieces, strict=True))
        for band, piece in here.items():
            explained = by_tile(about_means, piece.y, piece.yhat)
            r2[band].append(np.where(np.isfinite(piece.r), explained, np.nan))
        for one, other in pairs:
            yhat = (here[one].yhat, here[other].yhat)
            p[one, other].append(inference.paired_difference_p(here[one].y, *yhat, **how))
    columns: list[Column] = []
    words, n_flips = flips_in_words("each test stimulus's difference of losses", null, n_rows), flips_of(null, n_rows)
    for one, other in pairs:
        about = {"analysis": encoders[one].analysis, "model": one, "band": other, "n_stimuli": n_rows}
        difference = np.concatenate(r2[one]) - np.concatenate(r2[other])
        columns.append((difference, {**about, "statistic": "differenceR2", "unit": "fraction of variance"}))
        tested = np.where(np.isfinite(difference), np.concatenate(p[one, other]), np.nan)
        columns += significance(about, tested, criterion, null=words, n_permutations=n_flips, of="difference")
    return Maps.of(test.space, columns)
