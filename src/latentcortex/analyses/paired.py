"""Which of two latents predicts a voxel better, beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray
from latentcortex.encoding import Column, Criterion, Encoder, HalfFits, Null, significance
from latentcortex.encoding.columns import N_FLIPS, about_means, flips_in_words, flips_of
from latentcortex.encoding.halves import found_by_any, resampling
from latentcortex.encoding.prediction import by_tile
from latentcortex.maps import Maps

FIRST: Final = "at least Simes's p that either latent predicts the voxel, and 1 where that is not significant"
"""What p of a difference is beside its test, in words."""


def paired_differences(
    encoders: Mapping[str, Encoder],
    p: Mapping[str, FloatArray],
    halves: HalfFits,
    criterion: Criterion,
    null: Null,
) -> Maps:
    """Compare every two models of one band, voxel by voxel, on the same test stimuli.

    Two latents are compared where either is found: of a voxel that neither predicts, a difference is no discovery. Both
    must be rejected, that neither predicts it (Simes's p) and that both predict it equally well, so that p is the
    larger of the two, which is valid whichever null is true (Berger 1982, doi:10.1080/00401706.1982.10487790), and the
    family is all valid voxels. The correction rejects nothing beyond the voxels in which either is found, so that the
    others are not tested, and have p = 1.

    Parameters
    ----------
    encoders : mapping of str to Encoder
        Band -> its fitted model.
    p : mapping of str to ndarray of shape (n_voxels,)
        Band -> p of its r.
    halves : HalfFits
        Of these bands, with the features and the test stimuli.
    criterion : Criterion
        Of each pair's map, which is a family of its own.
    null : Null
        Stimuli that it keeps together are flipped together.

    Returns
    -------
    Maps
        Of each pair, with the one as `model` and the other as `band`: `differenceR2`, the difference of their R² about
        the means, and its two-sided p, q and mask, by the losses that it is made of and the variance of fitting; see
        `inference.better_p`. nan where either R² is.
    """
    pairs = list(combinations(encoders, 2))
    found = {pair: found_by_any(np.stack([p[band] for band in pair]), criterion) for pair in pairs}
    anywhere = np.unique(np.concatenate(list(found.values())))
    r2, y, yhat = _predicted(encoders, halves, anywhere)
    n_rows, names = len(halves.test.ids), list(encoders)
    how = resampling(halves, criterion, null.alike(n_rows), anywhere)
    n_refits, refits = (how.n_refits, how.refits) if how.refits else (0, None)
    how = replace(how, n_permutations=N_FLIPS, refits=refits and (lambda k, voxels: refits(k, anywhere[voxels])))
    numbers = [(names.index(one), names.index(other)) for one, other in pairs]
    tested = inference.better_p(y, yhat, numbers, two_sided=True, resampling=how, seed=criterion.seed)
    flips = flips_in_words("each test stimulus's difference of losses", null, n_rows)
    words = f"{flips}, with the variance of {n_refits} refits; {FIRST}"
    columns: list[Column] = []
    for (one, other), own in zip(pairs, tested, strict=True):
        about: dict[str, Any] = {"analysis": encoders[one].analysis, "model": one, "band": other, "n_stimuli": n_rows}
        difference = r2[one] - r2[other]
        columns.append((difference, {**about, "statistic": "differenceR2", "unit": "fraction of variance"}))
        either = inference.simes_p(np.stack([p[one], p[other]]))
        together = np.where(np.isfinite(difference) & np.isfinite(either), 1.0, np.nan)
        some = found[one, other]
        together[some] = np.maximum(own[np.searchsorted(anywhere, some)], either[some])
        facts, n_flips = {**about, "n_refits": n_refits}, flips_of(null, n_rows)
        columns += significance(facts, together, criterion, null=words, n_permutations=n_flips, of="difference")
    return Maps.of(halves.test.space, columns)


def _predicted(
    encoders: Mapping[str, Encoder], halves: HalfFits, voxels: IntArray
) -> tuple[dict[str, FloatArray], FloatArray, FloatArray]:
    """Find R² of every model in all voxels, and in these the responses and predictions of all models."""
    r2: dict[str, list[FloatArray]] = {band: [] for band in encoders}
    kept: dict[str, list[FloatArray]] = {band: [] for band in encoders}
    for band, encoder in encoders.items():
        start = 0
        for piece in encoder.walk(halves.features.only([band]), halves.test):
            explained = by_tile(about_means, piece.y, piece.yhat)
            r2[band].append(np.where(np.isfinite(piece.r), explained, np.nan))
            inside = voxels[(voxels >= start) & (voxels < start + piece.y.shape[1])]
            kept[band].append(piece.yhat[:, inside - start])
            start += piece.y.shape[1]
    y = halves.test.averaged().data[:, voxels]
    yhat = np.stack([np.concatenate(parts, axis=1) for parts in kept.values()])
    return {band: np.concatenate(parts) for band, parts in r2.items()}, y, yhat
