"""Statistics of held-out predictions as columns of maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.encoding.prediction import Prediction, by_tile

logger = logging.getLogger(__name__)

LEAST: Final = float(np.finfo(np.float32).tiny)  # maps are float32, and no p may become 0

Column = tuple[FloatArray | BoolArray, dict[str, Any]]


def significance(
    about: dict[str, Any], p: FloatArray, *, q: float, correction: str, n_permutations: int = 0
) -> list[Column]:
    """Make the columns p, q and mask of one map, whose valid voxels are one family."""
    found = inference.fdr(p, q=q, method=correction)
    if n_permutations:
        needed = inference.permutations_needed(found.n_tests, max(int((p < q).sum()), 1), q)
        if needed > n_permutations:
            logger.warning("%d permutations are too few to reject at q = %g; needs %d.", n_permutations, q, needed)
    name = f"{about['analysis']}: all {found.n_tests} valid voxels of {about['model']}"
    null = f"{n_permutations} permutations of stimuli" if n_permutations else "independent Gaussian vectors"
    family = {"correction": correction, "q": q, "family": name, "n_tests": found.n_tests, "null": null}
    mask = np.where(np.isnan(p), np.nan, found.rejected)
    return [
        (np.maximum(p, LEAST), {**about, "statistic": "p", "unit": "probability", "null": null}),
        (np.maximum(found.q_values, LEAST), {**about, "statistic": "q", "unit": "rate", **family}),
        (mask, {**about, "statistic": "mask", "unit": "0 or 1", **family, "threshold": found.threshold}),
    ]


def scores(about: dict[str, Any], held_out: Prediction, r: FloatArray) -> list[Column]:
    """Make the columns r and r2."""
    explained = by_tile(scoring.r2, held_out.y, held_out.yhat)
    return [
        (r, {**about, "statistic": "r", "unit": "correlation"}),
        (explained, {**about, "statistic": "r2", "unit": "fraction of variance"}),
    ]


def product_shares(about: dict[str, Any], held_out: Prediction, bands: Sequence[str]) -> list[Column]:
    """Make one column per band for the split of R², and for that of r."""
    columns: list[Column] = []
    kinds: tuple[tuple[Literal["r2", "r"], str, str], ...]
    kinds = (("r2", "shareR2", "fraction of variance"), ("r", "shareR", "correlation"))
    for of, statistic, unit in kinds:
        split = by_tile(partial(scoring.product_shares, of=of), held_out.y, held_out.yhat_bands)
        columns += [
            (share, {**about, "band": band, "statistic": statistic, "unit": unit})
            for share, band in zip(split, bands, strict=True)
        ]
    return columns


def side_by_side(pieces: Sequence[list[Column]]) -> list[Column]:
    """Join the same columns of one stretch of voxels after the other."""
    whole = zip(*pieces, strict=True)
    return [(np.concatenate([values for values, _ in column]), column[0][1]) for column in whole]


SHARES: Final[dict[str, Callable[[dict[str, Any], Prediction, Sequence[str]], list[Column]]]] = {
    "product": product_shares
}
