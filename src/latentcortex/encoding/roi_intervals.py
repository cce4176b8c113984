"""Means of scores and shares over regions, with the interval that other test stimuli would give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latentcortex import inference, scoring
from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex.encoding.criterion import Null
from latentcortex.encoding.map_columns import SHARES, Column, Share
from latentcortex.encoding.prediction import Prediction
from latentcortex.statistics import R2, R

ColumnKey = tuple[str, str]
"""A statistic and a band, as columns name them; the band is empty for the score of a model of several."""


@dataclass(frozen=True, eq=False)
class RegionMeans:
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

    def sums(
        self, held_out: Prediction, bands: Sequence[str], shares: Sequence[str], null: Null, labels: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """Sum over valid voxels, by region, how each statistic changes without each group of test stimuli.

        Stimuli that the null keeps together are left out together. A voxel that varies over the stimuli of one group
        only has no statistic without these, and changes nothing there.

        Parameters
        ----------
        held_out : Prediction
            Of some voxels.
        bands, shares : sequence of str
        null : Null
        labels : ndarray of int, shape (n_voxels,)
            The region of each of these voxels.

        Returns
        -------
        numbers : ndarray of int, shape (n_present,)
            Of the regions that have valid voxels, in the order of `names`: a tile has some of them.
        sums : ndarray of shape (n_present, n_statistics, 1 + n_groups)
            Statistics in the order of `keys`; the number of voxels that have it, then what it changes by.
        """
        weights = self._groups(len(held_out.y), null)[0]
        inside = [np.flatnonzero((labels == label) & np.isfinite(held_out.r)) for label in self.names]
        numbers = np.array([number for number, voxels in enumerate(inside) if len(voxels)], dtype=np.intp)
        sums = np.zeros((len(numbers), len(keys(bands, shares)), len(weights)))
        for number, out in zip(numbers, sums, strict=True):
            for row, values in enumerate(_without_groups(held_out, bands, shares, weights, inside[number])):
                change = values[1:].astype(np.float64) - values[0]
                out[row, 0] = np.isfinite(values[0]).sum()
                out[row, 1:] = np.where(np.isfinite(change), change, 0).sum(1)
        return numbers, sums

    def noted(
        self,
        columns: Sequence[Column],
        sums: Iterable[tuple[int, FloatArray]],
        bands: Sequence[str],
        shares: Sequence[str],
        null: Null,
    ) -> list[Column]:
        """Note the interval of each region's mean beside the columns that have one: `intervals`, name -> ends.

        Parameters
        ----------
        columns : sequence of (ndarray, dict)
            Of all voxels.
        sums : iterable of (int, ndarray of shape (n_statistics, 1 + n_groups))
            Numbers and sums of `sums`, of all tiles one after the other: they are added up in this order.
        bands, shares, null
            As for `sums`.
        """
        n_stimuli = int(columns[0][1]["n_stimuli"])
        weights, left_out = self._groups(n_stimuli, null)
        rows, noted = {key: row for row, key in enumerate(keys(bands, shares))}, []
        total = np.zeros((len(rows), len(self.names), len(weights)))
        for number, of_tile in sums:
            total[:, number] += of_tile
        for values, facts in columns:
            row = rows.get((facts["statistic"], facts["band"]))
            ends = {} if row is None else self._ends(values, total[row], left_out)
            noted.append((values, {**facts, "intervals": ends} if ends else facts))
        return noted

    def _groups(self, n_stimuli: int, null: Null) -> tuple[FloatArray, FloatArray]:
        return inference.leave_out(n_stimuli, clusters=null.alike(n_stimuli), seed=self.seed)

    def _ends(self, values: FloatArray | BoolArray, total: FloatArray, left_out: FloatArray) -> dict[str, list[float]]:
        """Find the 95 % interval of each region's mean over voxels that test sets of this size would give."""
        column, ends = np.asarray(values, dtype=np.float64), {}
        for (label, name), sums in zip(self.names.items(), total, strict=True):
            inside = column[self.labels == label]
            defined = inside[np.isfinite(inside)]
            if not sums[0] > 0 or not len(defined):
                continue
            change = (sums[1:] / sums[0])[:, None]
            both = inference.jackknife_interval(np.array([defined.mean()]), change, left_out)
            ends[name] = [round(float(end[0]), 6) for end in both]
        return ends


def keys(bands: Sequence[str], shares: Sequence[str]) -> list[ColumnKey]:
    """List the statistics whose means have intervals: r, R², and of several bands those shares that can be weighted."""
    whole = "" if len(bands) > 1 else bands[0]
    split = [(share.statistics[0].name, model.name) for share in _weighted(shares) for model in share.subsets(bands)]
    return [(R.name, whole), (R2.name, whole), *split]


def _weighted(shares: Sequence[str]) -> list[Share]:
    """Take the shares that can be computed with weights of test stimuli, in the order of their registry."""
    return [share for name, share in SHARES.items() if name in shares and share.weighted is not None]


def _without_groups(
    held_out: Prediction, bands: Sequence[str], shares: Sequence[str], weights: FloatArray, voxels: IntArray
) -> Iterator[FloatArray]:
    """Compute each statistic of `keys` of all test stimuli and without each group, (1 + n_groups, n_voxels)."""
    y, yhat = held_out.y[:, voxels], held_out.yhat[:, voxels]
    yield scoring.weighted_correlation(y, held_out.varying[:, voxels], weights)
    yield scoring.weighted_r2(y, yhat, weights, own_mean=False)
    for share in _weighted(shares):
        if share.weighted is not None:
            yield from share.weighted(held_out, bands, weights, voxels)
