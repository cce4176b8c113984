"""Means over regions of interest, with intervals over test stimuli."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import BoolArray, FloatArray, IntArray, in_threads, tiles
from latentcortex.encoding.columns import Column
from latentcortex.encoding.criterion import Null
from latentcortex.encoding.prediction import Prediction

Key = tuple[str, str]
"""A statistic and a band, as columns name them; the band is empty for the score of a model of several."""


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions whose means are wanted with intervals.

    Parameters
    ----------
    labels : ndarray of int, shape (n_voxels,)
        The region of each voxel.
    names : dict
        Label -> name; other labels are no region.
    n_draws : int
        Bootstrap draws of test stimuli.
    seed : int
    """

    labels: IntArray
    names: Mapping[int, str]
    n_draws: int = 500
    seed: int = 0


class RegionMeans:
    """Adds up draws of scores and shares over the valid voxels of each region, piece by piece.

    Parameters
    ----------
    regions : Regions
    shares : sequence of str
        Those of `product` and `unique` have intervals.
    """

    def __init__(self, regions: Regions, shares: Sequence[str]) -> None:
        self.regions, self.shares = regions, shares
        self.n_voxels = 0
        self._weights: FloatArray | None = None
        self._sums: dict[Key, dict[str, FloatArray]] = {}

    def add(self, piece: Prediction, bands: Sequence[str], null: Null) -> None:
        """Add the next voxels; stimuli that the null keeps together are drawn together."""
        if self._weights is None:
            n_rows, given = len(piece.y), {"n_draws": self.regions.n_draws, "seed": self.regions.seed}
            self._weights = inference.bootstrap_weights(n_rows, clusters=null.alike(n_rows), **given)
        here = self.regions.labels[self.n_voxels : self.n_voxels + piece.y.shape[1]]
        self.n_voxels += piece.y.shape[1]
        for label, name in self.regions.names.items():
            voxels = np.flatnonzero((here == label) & np.isfinite(piece.r))
            if len(voxels):
                self._add(name, piece, bands, voxels, self._weights)

    def _add(self, name: str, piece: Prediction, bands: Sequence[str], voxels: IntArray, weights: FloatArray) -> None:
        draw = partial(_draws, piece, bands, self.shares, weights)
        for part in in_threads(draw, [voxels[tile] for tile in tiles(len(voxels))]):
            for key, values in part.items():
                known = self._sums.setdefault(key, {})
                known[name] = known.get(name, 0.0) + values

    def _mean(self, values: FloatArray | BoolArray, name: str) -> float:
        """Average a column over the voxels of a region."""
        label = next(label for label, known in self.regions.names.items() if known == name)
        own = np.asarray(values, dtype=np.float64)[self.regions.labels == label]
        return float(own[np.isfinite(own)].mean()) if np.isfinite(own).any() else np.nan

    def noted(self, columns: Sequence[Column]) -> list[Column]:
        """Note the interval of each region's mean beside the columns that have one: `intervals`, name -> ends."""
        noted = []
        for values, facts in columns:
            own = self._sums.get((facts["statistic"], facts["band"]), {})
            ends = {name: _ends(sums[0], sums[1], self._mean(values, name)) for name, sums in own.items()}
            noted.append((values, {**facts, "intervals": ends} if ends else facts))
        return noted


def _draws(
    piece: Prediction, bands: Sequence[str], shares: Sequence[str], weights: FloatArray, voxels: IntArray
) -> dict[Key, FloatArray]:
    """Sum each statistic over the voxels that have it in a draw, and count these; (2, n_draws)."""
    y, yhat = piece.y[:, voxels], piece.yhat[:, voxels]
    whole = "" if len(bands) > 1 else bands[0]
    r2 = scoring.weighted_r2(y, yhat, weights, own_mean=False)
    found = {("r", whole): scoring.weighted_correlation(y, piece.varying[:, voxels], weights), ("r2", whole): r2}
    found |= dict(_shared(piece, bands, shares, weights, voxels)) if len(bands) > 1 else {}
    return {
        key: np.stack([np.nansum(values, axis=1, dtype=np.float64), np.isfinite(values).sum(axis=1)])
        for key, values in found.items()
    }


def _shared(
    piece: Prediction,
    bands: Sequence[str],
    shares: Sequence[str],
    weights: FloatArray,
    voxels: IntArray,
) -> Iterator[tuple[Key, FloatArray]]:
    y = piece.y[:, voxels]
    if "product" in shares:
        split = scoring.weighted_product_shares(y, piece.yhat_bands[..., voxels], weights)
        yield from ((("shareR2", band), share) for band, share in zip(bands, split, strict=True))
    if "unique" in shares:
        how: dict[str, bool] = {"own_mean": False, "offset": False}
        joint = scoring.weighted_r2(y, piece.yhat[:, voxels], weights, **how)
        for band in bands:
            without = piece.nested[tuple(other for other in bands if other != band)][:, voxels]
            yield ("uniqueR2", band), joint - scoring.weighted_r2(y, without, weights, **how)


def _ends(sums: FloatArray, counts: FloatArray, mean: float) -> list[float]:
    """Find the 95 % interval of the mean over voxels that test sets of this size would give; nan where no draw has one.

    Draws are moved to lie about the mean of all stimuli: their own is a little lower where a score is a ratio, and the
    interval of a large region narrow.
    """
    means = sums[counts > 0] / counts[counts > 0]
    if not len(means):
        return [np.nan, np.nan]
    return [round(float(end), 6) for end in np.quantile(means, [0.025, 0.975]) - means.mean() + mean]
