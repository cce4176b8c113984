"""Rules about p-values: which null is valid, and whether it can reject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy import stats

from latentcortex import inference
from latentcortex.checking.alike import Alike
from latentcortex.checking.bands import effective
from latentcortex.checking.design import StudyDesign
from latentcortex.encoding import is_series
from latentcortex.encoding.criterion import MAX_SAMPLED_VOXELS
from latentcortex.inference.corrections import bh_level

LARGEST_R: Final = 0.7
"""A correlation that even a small test set should find."""
RARE: Final = {"test": 0.01, "permutations": 0.05}
"""Fraction of voxels taken to be active: with so few, the strictest p must still be within reach."""


def one_by_one(design: StudyDesign) -> bool:
    """Tell whether the closed form is asked for where only features tell whether it is wrong."""
    return design.criterion.null == "analytic" and len(design.splits) == 1 and design.unit == "stimulus"


def parametric_null(design: StudyDesign) -> Iterator[str]:
    """Find a closed form where rows are not exchangeable."""
    if design.criterion.null != "analytic":
        return
    if len(design.splits) > 1:
        yield "the closed form is not valid for predictions pooled over folds; use null = 'permutation'."
    elif design.unit != "stimulus":
        yield f"the closed form takes stimuli one by one, and whole {design.unit}s are held out; use null = 'clusters'."
    elif _is_series(design):
        yield "responses and features are autocorrelated: test rows are a time series; use null = 'blocks'."
    else:
        tested = design.splits.tested
        n_different = len(set(Alike([], [], design.likeness.near).groups(tested)))
        if n_different < len(tested):
            yield (
                f"of {len(tested)} test stimuli, {n_different} have different features, and the closed form takes all "
                "as independent; use null = 'auto', which averages those of nearly equal features."
            )


def _is_series(design: StudyDesign) -> bool:
    """Tell whether test stimuli follow each other as a time series: features and responses are both slow."""
    if design.features is None:
        return False
    train_ids, test_ids = design.splits.folds[0]
    test = design.responses.split(train_ids=train_ids, test_ids=test_ids, zscore=design.zscore)[1].averaged()
    slow = inference.lag_one(test.data[:, :: -(-test.data.shape[1] // MAX_SAMPLED_VOXELS)])
    if not test.in_time or not np.isfinite(slow).any():
        return False
    features = []
    for band in design.bands:
        kernel = design.extracted.gram(band, test.ids, test.ids, fit_on=test.ids)
        chance = 3 / np.sqrt(len(test.ids) * effective(kernel))
        features.append(np.diag(kernel, 1).sum() / np.trace(kernel) - chance)
    return is_series((float(np.nanmedian(slow)) - 3 / np.sqrt(len(test.ids))) * max(features))


def few_permutations(design: StudyDesign) -> Iterator[str]:
    """Find permutations of which none could reject."""
    how, n_voxels = design.criterion, design.n_voxels
    counted = how.null in ("permutation", "blocks", "shift", "clusters") or len(design.splits) > 1
    level = bh_level(how.q, n_voxels, how.correction)
    needed = inference.permutations_needed(n_voxels, round(n_voxels * RARE["permutations"]), level)
    n_clusters = len(set(design.clusters))
    # Across folds, responses that are all flipped are fitted and tested as they were: half of the ways are the others.
    n_flips = 2 ** min(n_clusters - (len(design.splits) > 1), 60)
    if design.clusters and n_flips <= needed:
        yield (
            f"{n_clusters} {design.unit}s can be flipped in {n_flips} ways, which cannot reject a voxel "
            f"at q = {how.q:g}; hold out smaller clusters, or single stimuli."
        )
    elif counted and how.n_permutations < needed:
        least = 1 / (level * (how.n_permutations + 1))
        unless = f" unless {least:.0%} of {n_voxels} voxels are active" if least < 1 else ""
        single = inference.permutations_needed(n_voxels, 1, level)
        yield (
            f"{how.n_permutations} permutations cannot reject a voxel at q = {how.q:g}{unless}; set n_permutations "
            f"to at least {needed}, which is enough where {RARE['permutations']:.0%} are, or {single} for a single one."
        )


def small_test_set(design: StudyDesign) -> Iterator[str]:
    """Find test sets in which only the largest correlations are significant."""
    n, level = design.n_test, design.criterion.q * RARE["test"]
    if n < 3:
        smallest = 1.0
    else:
        t = float(stats.t.isf(level, n - 2))
        smallest = t / np.sqrt(n - 2 + t * t)
    if smallest > LARGEST_R:
        yield (
            f"{n} test stimuli find r above {smallest:.2f} only, where one voxel in {1 / RARE['test']:.0f} is active; "
            "test on more stimuli, or in folds."
        )
