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

SIMES_FIRST: Final = "at least Simes's p that either latent predicts the voxel, and 1 where that is not significant"
"""What p of a difference is beside its test, in words."""


@dataclass(frozen=True)
class Pairs:
    """Compares every two models of one band, voxel by voxel, on the same test stimuli.

    Two latents are compared where either is found: of a voxel that neither predicts, a difference is no discovery. Both
    must be rejected, that neither predicts it (Simes's p) and that both predict it equally well, so that p is the
    larger of the two, which is valid whichever null is true (Berger 1982, doi:10.1080/00401706.1982.10487790), and the
    family of each pair is all valid voxels. The correction rejects nothing beyond the voxels in which either is found,
    so that the others are not tested, and have p = 1.
    """

    def cell(
        self, predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
    ) -> FloatArray:
        """Test the difference of every two models in the voxels of a chunk that either may predict.

        See `Comparison.cell`. A row is the two-sided p of a pair of `combinations`, see `inference.better_p`; nan where
        no pair needs it.
        """
        pairs, y = list(combinations(range(len(p)), 2)), predictions[0].y
        tested = np.full((len(pairs), p.shape[1]), np.nan)
        either = [candidates(inference.simes_p(p[list(pair)]), criterion) for pair in pairs]
        voxels = np.unique(np.concatenate(either))
        if len(voxels):
            yhat = np.stack([chosen(prediction.yhat, voxels) for prediction in predictions])
            with on_grid(voxels):
                draws = resampling(halves.select_voxels(voxels), criterion, null.alike(len(y)))
                options: dict[str, Any] = {"two_sided": True, "seed": criterion.seed}
                options["resampling"] = replace(draws, n_permutations=N_FLIPS)
                tested[:, voxels] = inference.better_p(chosen(y, voxels), yhat, pairs, **options)
        return tested

    def finish(self, scores: ComparedScores) -> list[Column]:
        """Make the columns of every pair, with the one as `model` and the other as `band`.

        They are `differenceR2`, the difference of their R² about the means, and its two-sided p, q and mask, by the
        losses that it is made of and the variance of fitting; nan where either R² is.
        """
        pairs = list(combinations(range(len(scores.bands)), 2))
        r2 = np.where(np.isfinite(scores.accuracy[:, 0]), scores.accuracy[:, 2], np.nan)
        significant = [significant_by_any(scores.p[list(pair)], scores.criterion) for pair in pairs]
        n_refits, n_rows = scores.n_refits if any(map(len, significant)) else 0, int(scores.facts["n_stimuli"])
        flips = flips_in_words("each test stimulus's difference of losses", scores.null, n_rows)
        counted: dict[str, Any] = {
            "null": f"{flips}, with the variance of {n_refits} refits; {SIMES_FIRST}",
            "n_permutations": flips_of(scores.null, n_rows),
        }
        columns: list[Column] = []
        for (one, other), voxels, tested in zip(pairs, significant, scores.tested_rows(len(pairs)), strict=True):
            facts = {**scores.facts, "model": scores.bands[one], "band": scores.bands[other]}
            difference, either = r2[one] - r2[other], inference.simes_p(scores.p[[one, other]])
            columns.append((difference, {**facts, **DIFFERENCE.facts}))
            p = np.where(np.isfinite(difference) & np.isfinite(either), 1.0, np.nan)
            p[voxels] = np.maximum(tested[voxels], either[voxels])
            columns += significance({**facts, "n_refits": n_refits}, p, scores.criterion, test=OF_DIFFERENCE, **counted)
        return columns
