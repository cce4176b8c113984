"""A model across folds: predictions pooled over folds, and permutations that refit every fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from latentcortex import _ridge, inference
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._files import telling_of
from latentcortex._store import let_go
from latentcortex.encoding import partition
from latentcortex.encoding.cells import Cell, Cells, Result
from latentcortex.encoding.chunks import ReadByChunk, Sample
from latentcortex.encoding.columns import SHARES, about_model, accuracy, scores, significance
from latentcortex.encoding.criterion import Criterion, Null, tell_of_opposite
from latentcortex.encoding.folds import FoldModel, Folds
from latentcortex.encoding.pieces import Piece
from latentcortex.errors import InputError
from latentcortex.estimators import Estimator, VoxelCounts, quiet
from latentcortex.features import Features
from latentcortex.inference.control import expected_false, tally_draws
from latentcortex.maps import Maps

DRAWS_AT_ONCE: Final = 10
"""Permutations of one cell: what a kill costs, and about what has the size of a chunk's predictions."""

READY_BYTES: Final = 1_000_000_000
"""Memory for models of permutations that are ready together."""
MATRICES: Final = 8
"""Of rows by rows (or columns), about so many are kept of a mixture: kernels, decompositions, and those of folds."""
MIXTURES: Final = 10
"""About so many are tried of several bands."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """One model, fitted to all folds but one in turn.

    Pooled r is biased downwards and its parametric p is not valid; each permutation refits every fold and so carries
    the same bias, and the permutation p is valid. Eigenvectors of a permutation are the same for all voxels, and are
    most of its work: cells are stretches of permutations, each over all voxels, which are read chunk by chunk.

    Parameters
    ----------
    features : Features
        Of the bands of the model.
    responses : ReadByChunk
    sample : Sample
    estimator : Estimator
    criterion : Criterion
        Of product shares only.
    analysis : str
    cells : Cells

    Raises
    ------
    InputError
        If the closed form is asked for, which is not valid for pooled folds, or other shares.
    """

    features: Features
    responses: ReadByChunk
    sample: Sample
    estimator: Estimator
    criterion: Criterion
    analysis: str
    cells: Cells

    def __post_init__(self) -> None:
        if self.criterion.shares != ("product",):
            raise InputError("Across folds only product shares are computed: ask for shares=('product',).")

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the model."""
        return self.features.bands

    def maps(self) -> Maps:
        """Predict, permute and judge; see `Encoder.cross_validate`."""
        null = self._null
        chunks = self.cells.chunks(self.sample.n_voxels, self.estimator)
        pooled = [Cell(voxels, {**self._facts, "voxels": f"{voxels.start}-{voxels.stop}"}) for voxels in chunks]
        pieces = [result["folds"] for result in self.cells.map(self._pooled, pooled, title=f"{self.analysis}, folds")]
        if len(chunks) == 1:
            _ = self._whole  # before threads ask for it
        with telling_of(control="permutations that refit"):
            drawn = self.cells.map(self._permuted, self._permutations, title=f"{self.analysis}, permutations")
        return self._judged(Piece.join(pieces), Draws([result["draws"] for result in drawn]), chunks, null)

    def forget_permutations(self) -> None:
        """Delete the parts of permutations, as many numbers per voxel as there are, once maps are kept."""
        self.cells.remove(self._permutations)

    @property
    def _facts(self) -> dict[str, str]:
        return {"analysis": self.analysis, "model": "+".join(self.bands)}

    @cached_property
    def _permutations(self) -> list[Cell[FloatArray | IntArray]]:
        draws = self._folds.draws(self._null)
        return [
            Cell(draws[some], {**self._facts, "draws": f"{some.start}-{some.stop}"})
            for some in _stretches(len(draws), DRAWS_AT_ONCE)
        ]

    @cached_property
    def _folds(self) -> Folds:
        """The folds of the sample."""
        return self._of(self.sample.folds)

    def _of(self, sides: Any) -> Folds:
        responses = self.responses
        return Folds.joined(self.features, sides, responses.splits, in_time=responses.in_time)

    @cached_property
    def _whole(self) -> Folds:
        """The folds of all voxels, where they are one chunk."""
        return self._of(self.responses.folds(slice(None)))

    @cached_property
    def _models(self) -> list[FoldModel]:
        return self._folds.models(self.estimator)

    @cached_property
    def _null(self) -> Null:
        return self._folds.null_of(self._folds.predicted(self.estimator, self._models)[0], self.criterion)

    def _pooled(self, voxels: slice) -> Result:
        """Score the pooled predictions of a chunk."""
        folds = self._of(self.responses.folds(voxels))
        held_out, counts = folds.predicted(self.estimator, self._models)
        values = {"accuracy": accuracy(held_out)}
        if len(self.bands) > 1:
            values["shares"] = SHARES["product"].values(held_out, self.bands)
            values["halves"] = np.concatenate(partition.shares_of_halves(held_out))
        return {"folds": Piece(values, {"fits": np.array([astuple(counts)])})}

    def _permuted(self, draws: FloatArray | IntArray) -> Result:
        """Score the pooled predictions of all voxels in each of some permutations."""
        silent, r = quiet(self.estimator), np.empty((len(draws), self.sample.n_voxels), np.float32)
        if self._null.name == "clusters":
            models = self._folds.models(silent)
            self._refit(silent, [(models, signs) for signs in draws], r)
            return {"draws": Piece({"r": r})}
        with _ridge.keeping_none():  # another order has kernels of its own, which are used once
            for some in _stretches(len(draws), self._at_once):
                self._refit(silent, [(self._folds.models(silent, order), None) for order in draws[some]], r[some])
        return {"draws": Piece({"r": r})}

    def _refit(
        self, silent: Estimator, each: Sequence[tuple[list[FoldModel], FloatArray | None]], out: FloatArray
    ) -> None:
        """Fill in r of models, with these signs, of all voxels; every chunk is read and parted once for all of them."""
        chunks = self.cells.chunks(self.sample.n_voxels, silent)
        for voxels in chunks:
            folds = self._whole if len(chunks) == 1 else self._of(self.responses.folds(voxels))
            for row, (models, signs) in enumerate(each):
                out[row, voxels] = folds.predicted(silent, models, signs=signs)[0].r

    @property
    def _at_once(self) -> int:
        """Count the orders whose models are ready together while a chunk is read once: those that memory holds."""
        n_columns = sum(self.features.dims.values())
        sizes = [len(train.ids) * min(len(train.ids), n_columns) for train, _ in self._folds.sides]
        n_bytes = 8 * MATRICES * (1 if len(self.bands) == 1 else MIXTURES) * sum(sizes)
        return int(np.clip(READY_BYTES // n_bytes, 1, DRAWS_AT_ONCE))

    def _judged(self, piece: Piece, drawn: Draws, chunks: Sequence[slice], null: Null) -> Maps:
        """Make the map once every voxel and every permutation is there."""
        n_drawn = sum(len(part) for part in drawn)
        null = replace(null, n_permutations=n_drawn)  # few groups have fewer orders
        at = drawn.at
        r = piece.values["accuracy"][0]
        p = np.concatenate([inference.permutation_p(r[voxels], at(voxels)) for voxels in chunks])
        about = about_model(self.analysis, self.bands, len(self._folds.ids))
        VoxelCounts(*piece.total("fits").tolist()).tell(self.estimator, self.bands)
        columns = scores(about, np.asarray(piece.values["accuracy"]))
        columns[0][1]["null_median"] = median(drawn)
        tell_of_opposite(r, about, n_folds=len(self.sample.folds))
        words = f"{null}, each refitted in every fold"
        columns += significance(about, p, self.criterion, null=words, n_permutations=null.counted)
        # Each permutation, judged by the others, is a shuffled control.
        threshold = columns[-1][1]["threshold"]
        tallied = np.sum([tally_draws(at(voxels), threshold) for voxels in chunks], axis=0)
        columns[-1][1].update(expected_false(p, threshold, tallied).facts)
        if len(self.bands) > 1:
            facts = [{**about, **of_share} for of_share in SHARES["product"].facts(self.bands)]
            shares = list(zip(piece.values["shares"], facts, strict=True))
            mask = np.asarray(columns[-1][0], dtype=np.float64)
            columns += partition.with_stability(shares, piece.values["halves"], mask)
        return Maps.of(self.responses.space, columns)


def _stretches(n_draws: int, size: int) -> list[slice]:
    """Cut permutations into stretches."""
    return [slice(start, min(start + size, n_draws)) for start in range(0, n_draws, size)]


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

    def at(self, voxels: slice) -> FloatArray:
        """Take r of some voxels in all permutations, (n_permutations, n_voxels)."""
        return np.concatenate([np.array(part[:, voxels]) for part in self])


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
