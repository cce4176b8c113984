"""Means over regions of interest, with intervals over test stimuli."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import BoolArray, FloatArray, IntArray, tiles
from latentcortex.encoding.columns import Column
from latentcortex.encoding.criterion import Null
from latentcortex.encoding.prediction import Prediction
from latentcortex.executors import share

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
    seed : int
        For groups of test stimuli that are left out together.
    """

    labels: IntArray
    names: Mapping[int, str]
    seed: int = 0


class RegionMeans:
    """Adds up, piece by piece, how the scores and shares of each region's valid voxels change without some stimuli.

    Parameters
    ----------
    regions : Regions
    shares : sequence of str
        Those of `product` and `unique` have intervals.
    """

    def __init__(self, regions: Regions, shares: Sequence[str]) -> None:
        self.regions, self.shares = regions, shares
        self.n_voxels = 0
        self._left_out: tuple[FloatArray, FloatArray] | None = None
        self._changes: dict[Key, dict[str, FloatArray]] = {}

    def add(self, piece: Prediction, bands: Sequence[str], null: Null) -> None:
        """Add the next voxels; stimuli that the null keeps together are left out together."""
        if self._left_out is None:
            n_rows = len(piece.y)
            self._left_out = inference.leave_out(n_rows, clusters=null.alike(n_rows), seed=self.regions.seed)
        here = self.regions.labels[self.n_voxels : self.n_voxels + piece.y.shape[1]]
        self.n_voxels += piece.y.shape[1]
        for label, name in self.regions.names.items():
            voxels = np.flatnonzero((here == label) & np.isfinite(piece.r))
            if len(voxels):
                self._add(name, piece, bands, voxels, self._left_out[0])

    def _add(self, name: str, piece: Prediction, bands: Sequence[str], voxels: IntArray, weights: FloatArray) -> None:
        change = partial(_changes, piece, bands, self.shares, weights)
        for part in share(change, [voxels[tile] for tile in tiles(len(voxels))]):
            for key, values in part.items():
                known = self._changes.setdefault(key, {})
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
            own = self._changes.get((facts["statistic"], facts["band"]), {})
            ends = {name: self._ends(sums, self._mean(values, name)) for name, sums in own.items()}
            noted.append((values, {**facts, "intervals": ends} if ends else facts))
        return noted

    def _ends(self, sums: FloatArray, mean: float) -> list[float]:
        """Find the 95 % interval of the mean over voxels that test sets of this size would give; nan for no voxel."""
        if self._left_out is None or not sums[0] > 0:
            return [np.nan, np.nan]
        change = (sums[1:] / sums[0])[:, None]
        ends = inference.jackknife_interval(np.array([mean]), change, self._left_out[1])
        return [round(float(end[0]), 6) for end in ends]


def _changes(
    piece: Prediction, bands: Sequence[str], shares: Sequence[str], weights: FloatArray, voxels: IntArray
) -> dict[Key, FloatArray]:
    """Count the voxels that have each statistic, then sum over them what it changes by without each group of stimuli.

    A voxel that varies over the stimuli of one group only has no statistic without these, and changes nothing there.

    Returns
    -------
    dict of (str, str) to ndarray of shape (1 + n_groups,)
    """
    y, yhat = piece.y[:, voxels], piece.yhat[:, voxels]
    whole = "" if len(bands) > 1 else bands[0]
    r2 = scoring.weighted_r2(y, yhat, weights, own_mean=False)
    found = {("r", whole): scoring.weighted_correlation(y, piece.varying[:, voxels], weights), ("r2", whole): r2}
    found |= dict(_shared(piece, bands, shares, weights, voxels)) if len(bands) > 1 else {}
    summed = {}
    for key, values in found.items():
        change = values[1:].astype(np.float64) - values[0]
        summed[key] = np.append(np.isfinite(values[0]).sum(), np.where(np.isfinite(change), change, 0).sum(1))
    return summed


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
