"""What predictions of a run of voxels come to: vectors over the voxels, and sums that whole maps need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, IntArray
from latentcortex.encoding import share_reliability
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.map_columns import SHARES, accuracy
from latentcortex.encoding.prediction import Prediction
from latentcortex.encoding.roi_intervals import RegionMeans

Vectors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Piece:
    """Numbers of neighbouring voxels, by name.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (..., n_voxels)
        One number or several per voxel.
    sums : mapping of str to ndarray of shape (n_sums, ...)
        Sums over the voxels of a tile, or of each region in it. They are added up once all tiles are there, in their
        order: a sum of sums of chunks would depend, in its last bits, on the size of chunks.
    """

    values: Vectors = field(default_factory=dict)
    sums: Vectors = field(default_factory=dict)

    @classmethod
    def join(cls, pieces: Sequence[Piece]) -> Self:
        """Put the voxels, and the tiles, of one piece after those of the other, whenever they are asked for."""
        values, sums = ([getattr(piece, kind) for piece in pieces] for kind in ("values", "sums"))
        return cls(_Joined(values, axis=-1), _Joined(sums, axis=0))

    def each(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield one sum after the other, tile by tile, without putting them into one array."""
        for part in self.sums.parts if isinstance(self.sums, _Joined) else [self.sums]:
            yield from np.array(part[name])

    def total(self, name: str) -> FloatArray:
        """Add up the sums of all tiles."""
        return np.asarray(reduce(np.add, self.each(name)))


class _Joined(Mapping[str, NDArray[Any]]):
    """Numbers of neighbouring voxels, joined whenever they are asked for, so that no more is in memory."""

    def __init__(self, parts: Sequence[Vectors], *, axis: int) -> None:
        self.parts, self.axis = parts, axis

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Join the numbers of this name along the axis of voxels, or of tiles, copied from one part after the other."""
        return np.concatenate([np.array(part[name]) for part in self.parts], axis=self.axis)

    def __iter__(self) -> Iterator[str]:
        """List the names."""
        return iter(self.parts[0])

    def __len__(self) -> int:
        """Count them."""
        return len(self.parts[0])


def score(
    held_out: Prediction,
    bands: Sequence[str],
    criterion: Criterion,
    null: Null,
    *,
    regions: RegionMeans | None = None,
    labels: IntArray | None = None,
) -> Piece:
    """Score the prediction of one tile of voxels.

    Parameters
    ----------
    held_out : Prediction
    bands : sequence of str
        Of the model.
    criterion : Criterion
    null : Null
        From which p comes.
    regions : RegionMeans, optional
        Whose means have intervals.
    labels : ndarray of int, shape (n_voxels,), optional
        The region of each of these voxels.

    Returns
    -------
    Piece
        Values `p` (n_voxels,), unless each permutation refits, and `accuracy` (3, n_voxels), see
        `map_columns.accuracy`; of a model of several bands `shares` (n_columns, n_voxels), in the order of the
        criterion's shares and their facts, `excess` (0 or 1, n_voxels) and, with product shares, those on either half
        of the test stimuli, `halves` (2 n_bands, n_voxels). Sums `region_numbers` and `regions`, see
        `RegionMeans.sums`.
    """
    values: dict[str, NDArray[Any]] = {} if null.refits else {"p": null.p(held_out)}
    values["accuracy"] = accuracy(held_out)
    shares = criterion.shares if len(bands) > 1 else ()
    if shares:
        values["shares"] = np.concatenate([SHARES[share].values(held_out, bands) for share in shares])
        values["excess"] = share_reliability.excess(held_out, bands)
    if "product" in shares:
        values["halves"] = np.concatenate(share_reliability.shares_of_halves(held_out))
    sums: dict[str, NDArray[Any]] = {}
    if regions is not None and labels is not None:
        sums["region_numbers"], sums["regions"] = regions.sums(held_out, bands, shares, null, labels)
    return Piece(values, sums)
