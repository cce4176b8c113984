"""Which of two latents predicts a voxel better, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, chosen, on_grid
from latentcortex.analyses.groups import ComparedScores
from latentcortex.encoding import Column, Criterion, HalfFits, Null, Prediction, significance
from latentcortex.encoding.halves import candidates, resampling, significant_by_any
from latentcortex.encoding.map_columns import N_FLIPS, flips_in_words, flips_of
from latentcortex.statistics import DIFFERENCE, OF_DIFFERENCE

FIRST: Final = "at least Simes's p that either latent predicts the voxel, and 1 where that is not significant"
"""What p of a difference is beside its test, in words."""


@dataclass(frozen=True)
class Pairs:
    """Compares every two models of one band; see `compared` and `differences`."""

    def cell(
        self, predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
    ) -> FloatArray:
        """Test the difference of every two models in a chunk of voxels, (n_pairs, n_voxels)."""
        return compared(predictions, p, criterion, null, halves)

    def finish(self, scores: ComparedScores) -> list[Column]:
        """Make the columns of every pair; without tests its p is that of voxels that neither predicts."""
        r, r2 = scores.accuracy[:, 0], scores.accuracy[:, 2]
        n_pairs = len(scores.bands) * (len(scores.bands) - 1) // 2
        tested = np.full((n_pairs, r.shape[1]), np.nan) if scores.tested is None else scores.tested
        return differences(
            scores.bands,
            np.where(np.isfinite(r), r2, np.nan),
            scores.p,
            tested,
            scores.criterion,
            about=scores.about,
            null=scores.null,
            n_refits=scores.n_refits,
        )


def compared(
    predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
) -> FloatArray:
    """Test the difference of every two models in the voxels of a chunk that either may predict.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of each model.
    p : ndarray of shape (n_models, n_voxels)
        Of each model's r.
    criterion : Criterion
    null : Null
        Stimuli that it keeps together are flipped together.
    halves : HalfFits
        Of these models and voxels.

    Returns
    -------
    ndarray of shape (n_pairs, n_voxels)
        Two-sided p of each pair of `combinations`, see `inference.better_p`; nan where no pair needs it.
    """
    pairs, y = list(combinations(range(len(p)), 2)), predictions[0].y
    out = np.full((len(pairs), p.shape[1]), np.nan)
    either = [candidates(inference.simes_p(p[list(pair)]), criterion) for pair in pairs]
    voxels = np.unique(np.concatenate(either))
    if len(voxels):
        yhat = np.stack([chosen(prediction.yhat, voxels) for prediction in predictions])
        with on_grid(voxels):
            how = replace(
                resampling(halves.select_voxels(voxels), criterion, null.alike(len(y))), n_permutations=N_FLIPS
            )
            options: dict[str, Any] = {"two_sided": True, "resampling": how, "seed": criterion.seed}
            out[:, voxels] = inference.better_p(chosen(y, voxels), yhat, pairs, **options)
    return out


def differences(
    bands: Sequence[str],
    r2: FloatArray,
    p: FloatArray,
    compared: FloatArray,
    criterion: Criterion,
    *,
    about: dict[str, Any],
    null: Null,
    n_refits: int,
) -> list[Column]:
    """Compare every two models of one band, voxel by voxel, on the same test stimuli.

    Two latents are compared where either is found: of a voxel that neither predicts, a difference is no discovery. Both
    must be rejected, that neither predicts it (Simes's p) and that both predict it equally well, so that p is the
    larger of the two, which is valid whichever null is true (Berger 1982, doi:10.1080/00401706.1982.10487790), and the
    family is all valid voxels. The correction rejects nothing beyond the voxels in which either is found, so that the
    others are not tested, and have p = 1.

    Parameters
    ----------
    bands : sequence of str
        Of each model.
    r2 : ndarray of shape (n_models, n_voxels)
        R² about the means; nan where r is.
    p : ndarray of shape (n_models, n_voxels)
        Of each model's r.
    compared : ndarray of shape (n_pairs, n_voxels)
        From `compared`.
    criterion : Criterion
        Of each pair's map, which is a family of its own.
    about : dict
        `analysis` and `n_stimuli` of the columns.
    null : Null
        The widest of the models'.
    n_refits : int
        Half-fits that models were compared with.

    Returns
    -------
    list of (ndarray, dict)
        Of each pair, with the one as `model` and the other as `band`: `differenceR2`, the difference of their R² about
        the means, and its two-sided p, q and mask, by the losses that it is made of and the variance of fitting. nan
        where either R² is.
    """
    numbers = list(combinations(range(len(bands)), 2))
    significant = [significant_by_any(p[list(pair)], criterion) for pair in numbers]
    refits, n_rows = n_refits if any(map(len, significant)) else 0, int(about["n_stimuli"])
    flips = flips_in_words("each test stimulus's difference of losses", null, n_rows)
    words = f"{flips}, with the variance of {refits} refits; {FIRST}"
    columns: list[Column] = []
    for (one, other), voxels, tested in zip(numbers, significant, compared, strict=True):
        facts = {**about, "model": bands[one], "band": bands[other]}
        difference = r2[one] - r2[other]
        columns.append((difference, {**facts, **DIFFERENCE.facts}))
        either = inference.simes_p(p[[one, other]])
        together = np.where(np.isfinite(difference) & np.isfinite(either), 1.0, np.nan)
        together[voxels] = np.maximum(tested[voxels], either[voxels])
        noted, n_flips = {**facts, "n_refits": refits}, flips_of(null, n_rows)
        columns += significance(noted, together, criterion, null=words, n_permutations=n_flips, test=OF_DIFFERENCE)
    return columns
