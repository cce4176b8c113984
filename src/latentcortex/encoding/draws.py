"""r of all voxels in every permutation that refits the folds, and what it says of the model's own r."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import TILE, FloatArray, IntArray, tiles
from latentcortex._store import let_go
from latentcortex.encoding.pieces import Piece
from latentcortex.inference.control import ExpectedFalse, expected_false, tally_draws

AT_ONCE: Final = 8 * TILE
"""r of so many voxels, in all permutations, is in memory at a time."""


@dataclass(frozen=True, eq=False)
class Draws(Iterable[FloatArray]):
    """r of all voxels in some permutations after others, (n_permutations, n_voxels), taken from one cell at a time.

    Parameters
    ----------
    pieces : sequence of Piece
    """

    pieces: Sequence[Piece]

    def __iter__(self) -> Iterator[FloatArray]:
        """Take those of each cell."""
        return (piece.values["r"] for piece in self.pieces)

    def __len__(self) -> int:
        """Count the permutations."""
        return sum(len(part) for part in self)

    def at(self, voxels: slice) -> FloatArray:
        """Take r of some voxels in all permutations, (n_permutations, n_voxels)."""
        return np.concatenate([np.array(part[:, voxels]) for part in self])

    def p(self, r: FloatArray) -> FloatArray:
        """Test r of every voxel by its own permutations, one-sided, (n_voxels,)."""
        return np.concatenate(
            [inference.permutation_p(r[voxels], self.at(voxels)) for voxels in tiles(len(r), AT_ONCE)]
        )

    def expected_false(self, p: FloatArray, threshold: float) -> ExpectedFalse:
        """Tell how many voxels are expected below a threshold by chance: each permutation, judged by the others."""
        stretches = tiles(len(p), AT_ONCE)
        tallied = np.sum([tally_draws(self.at(voxels), threshold) for voxels in stretches], axis=0)
        return expected_false(p, threshold, tallied)


def median(parts: Iterable[FloatArray]) -> float:
    """Find the median of all defined numbers of arrays of float32, without putting them side by side.

    Ordered as whole numbers, they are counted by their upper halves; what shares that of the median is then looked at.
    The arrays are gone through twice.
    """
    counts = np.zeros(2**16, dtype=np.int64)
    for part in parts:
        counts += np.bincount(_ordered(part) >> 16, minlength=2**16)
        let_go(part)
    n, ends = int(counts.sum()), np.cumsum(counts)
    if not n:
        return float("nan")
    middle = [(n - 1) // 2, n // 2]
    first, last = (int(np.searchsorted(ends, rank, side="right")) for rank in middle)
    among = []
    for part in parts:
        ordered = _ordered(part)
        among.append(ordered[(ordered >> 16 >= first) & (ordered >> 16 <= last)])
        let_go(part)
    codes = np.sort(np.concatenate(among))
    before = int(ends[first] - counts[first])
    return float(np.mean([_number(int(codes[rank - before])) for rank in middle]))


def _ordered(values: FloatArray) -> IntArray:
    """Turn defined numbers into whole ones of the same order, from 0 to 2**32."""
    bits = np.asarray(values, dtype=np.float32)
    bits = bits[np.isfinite(bits)].view(np.uint32).astype(np.int64)
    return np.where(bits < 2**31, bits + 2**31, 2**32 - 1 - bits)


def _number(code: int) -> float:
    bits = code - 2**31 if code >= 2**31 else 2**32 - 1 - code
    return float(np.uint32(bits).view(np.float32))
