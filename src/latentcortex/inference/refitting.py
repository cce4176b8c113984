"""Permutation tests of a band's unique share that refit the models with and without it. Arrays in, arrays out.

Mixtures and alphas are held fixed; weights are refitted. The statistic of a voxel is by how much the band lowers the
squared error of the held-out rows.

Nothing is permuted but what the other bands cannot explain. With Q an orthonormal basis of vectors that are orthogonal
to the intercept and to every column of the other bands over all rows, and P = I - QQ', what is permuted is Q'y, or Q'X
of the band: y* = Py + Q perm(Q'y), or X* = PX + Q perm(Q'X). Where the noise of y, or the residual of X, is Gaussian,
these coordinates are exchangeable whatever penalties do to the models: but for the choice of the penalties the test is
exact. Residuals that are scattered over rows reach into the span of the other bands again, and are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from scipy import linalg

from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    arrays,
    by_band,
    check_axes,
    labels,
    random_for,
    tiles,
    truths,
    varying,
)
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import one_thread, share
from latentcortex.inference.null import exchange, sequential_p
from latentcortex.inference.penalties import Penalties

DrawGains = Callable[[int, int, IntArray], FloatArray]
_Dtype = np.dtype[np.floating[Any]]

PERMUTATIONS_PER_LOOK: Final = 50
"""Permutations between two looks at which voxels are done."""
PERMUTATIONS_PER_WORKER: Final = 10
"""Permutations that one worker takes together."""
MIN_COLUMN_FRACTION: Final = 1e-5
"""A column that adds less than this fraction of the largest to those before it is rounding, or a function of them."""
MIN_LEFT_OUT_FRACTION: Final = 1e-3
"""Of every direction of the other bands, the rows that are left out must hold at least this much."""
MIN_ALPHA_FRACTION: Final = 1e-4
"""Where an alpha is smaller than this fraction of the largest eigenvalue, float32 is not enough."""
GROUPS_PER_COLUMN: Final = 3
"""Fewer fitted groups than so many times the columns, and permuting responses would reject too often."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that models are fitted to, and held-out ones that they predict.

    Parameters
    ----------
    grams : mapping of str to ndarray of shape (n_rows, n_rows)
        Band -> Gram matrix over all rows, centred on the fitted ones and scaled as the estimator scaled it.
    fitted : ndarray of bool, shape (n_rows,)
        Which rows the models are fitted to; the others are held out.
    groups : sequence of str, optional
        The group of each row, such as a cluster of stimuli: whole groups change places, of fitted rows among
        themselves and of held-out rows among themselves. Each row is its own by default.

    Raises
    ------
    AlignmentError
        If these are not of the same rows.
    InputError
        If a kernel is not finite or nothing but 0, a side has fewer than two rows, or a group has rows of both sides.
    """

    grams: Mapping[str, FloatArray]
    fitted: BoolArray
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fitted", truths("fitted", self.fitted))
        check_axes("fitted", self.fitted.shape, "n_rows", {})
        n_rows = len(self.fitted)
        object.__setattr__(self, "grams", by_band("The Gram matrix", self.grams))
        for band, gram in self.grams.items():
            if gram.shape != (n_rows, n_rows):
                raise AlignmentError(f"The Gram matrix of {band} is {gram.shape}; expected {(n_rows, n_rows)}.")
            if not (np.isfinite(gram).all() and gram.trace() > 0):
                raise InputError(f"The Gram matrix of {band} is not finite, or nothing but 0; leave the band out.")
        if min(self.fitted.sum(), (~self.fitted).sum()) < 2:
            raise InputError("fitted must be true for at least two rows and false for at least two that are held out.")
        if self.groups is not None:
            object.__setattr__(self, "groups", labels("groups", self.groups, n_rows).tolist())
        both = set(self._groups(self.fitted)) & set(self._groups(~self.fitted))
        if both:
            raise InputError(f"{len(both)} groups, {min(both)} first, have fitted and held-out rows; split by group.")

    def _groups(self, side: BoolArray) -> list[str]:
        return [] if self.groups is None else np.asarray(self.groups)[side].tolist()

    @cached_property
    def columns(self) -> dict[str, FloatArray]:
        """Columns that the Gram matrices are products of, by band: (n_rows, rank)."""
        names = list(self.grams)
        return dict(zip(names, share(lambda band: _factor(self.grams[band]), names), strict=True))

    def refuse_wide(self, groups_per_column: int = 1) -> None:
        """Raise `InputError` where the columns leave too little of the fitted rows, or of their groups."""
        inner = [gram[np.ix_(self.fitted, self.fitted)] for gram in self.grams.values()]
        rank, n_fitted = _factor(np.sum(inner, axis=0)).shape[1], int(self.fitted.sum())
        count, least = f"{n_fitted} fitted rows", "more rows than"
        wide = rank >= n_fitted - 1
        if self.groups is not None and not wide:
            n_groups = len(set(self._groups(self.fitted)))
            count, least = f"{n_groups} fitted groups", f"more than {groups_per_column} groups for each of the"
            wide = groups_per_column * rank >= n_groups - 1
        if wide:
            raise InputError(
                f"{count} are too few for the columns of all bands together (rank {rank}): tests that refit need "
                f"{least} columns; use share_p (share = 'gain'), which tests predictive gain."
            )


@one_thread()
def freedman_lane_p(
    rows: Rows, y: FloatArray, band: str, *, full: Penalties, reduced: Penalties, n_permutations: int = 999, seed: int
) -> tuple[FloatArray, IntArray]:
    r"""Test whether a band adds to held-out prediction, by permuting what the other bands leave of the responses.

    .. math:: y^* = Py + Q\,\pi(Q'y), \qquad Q'Q = I, \; QQ' = I - P

    where P projects onto the intercept and the columns of the other bands over all rows, without a penalty (and onto
    a few vectors more, where Q needs fewer). Both models are refitted to y*, with the penalties that were chosen for y.

    The null is that y is a linear function of the other bands plus noise that is exchangeable, over rows or groups of
    them. With independent Gaussian noise of one variance the test is exact but for the penalties, which were chosen
    with y. A redundant band that helps penalised models at this number of rows is not unique, and does not count.

    Parameters
    ----------
    rows : Rows
    y : ndarray of shape (n_rows, n_voxels)
        Responses of all rows. In float32 it is computed in float32 where alphas allow.
    band : str
    full, reduced : Penalties
        Of the models with and without the band.
    n_permutations : int
        At most so many: a voxel is done when its null has reached the observation 20 times.
    seed : int
        Permutation i depends on (seed, i) only.

    Returns
    -------
    p : ndarray of shape (n_voxels,)
        One-sided, in [1 / (n_permutations + 1), 1], with the +1 rule; nan where a response or a penalty is not finite
        or the fitted responses do not vary.
    n_used : ndarray of int, shape (n_voxels,)
        Permutations behind each p; 0 where it is nan.

    Raises
    ------
    AlignmentError
        If responses, penalties and rows do not match.
    InputError
        If the fitted rows are not more than the columns of all bands, told by the rank of their kernel, or fitted
        groups not more than three times these: noise that groups share would pass for signal. Use `share_p` there.
        If the band is not known, or nothing is left to exchange.

    References
    ----------
    Freedman and Lane (1983), doi:10.1080/07350015.1983.10509354; Winkler et al. (2014),
    doi:10.1016/j.neuroimage.2014.01.060; Winkler et al. (2020), doi:10.1016/j.neuroimage.2020.117065, for Q
    """
    rows.refuse_wide(GROUPS_PER_COLUMN)
    test = _Test.of(rows, y, band, full=full, reduced=reduced)
    space = _Space.of(rows, test.others)
    orders = space.orders(rows, n_permutations, seed)
    columns = np.hstack([test.others, test.own])
    operator = _operator(columns, rows.fitted)
    inner = space.into(operator).astype(test.dtype)
    z, products = test.by_voxel(space.into), test.by_voxel(lambda y: operator.T @ y)
    with_band, without = test.full.fits(columns), test.reduced.fits(test.others)

    def gain(products: FloatArray, voxels: IntArray) -> FloatArray:
        return test.full.lowered(with_band, products, voxels) - test.reduced.lowered(without, products, voxels)

    def draw(start: int, stop: int, voxels: IntArray) -> FloatArray:
        out = np.empty((stop - start, len(voxels)), dtype=test.dtype)

        def fill(item: tuple[slice, int]) -> None:
            tile, first = item
            in_tile = voxels[tile]
            mine = z[in_tile]
            fixed = products[in_tile] - mine @ inner
            for i in range(first, min(first + PERMUTATIONS_PER_WORKER, stop)):
                # Rows of the small operator change places instead of those of all responses.
                out[i - start, tile] = gain(fixed + mine @ inner[np.argsort(orders[i])], in_tile)

        share(fill, [(tile, i) for i in range(start, stop, PERMUTATIONS_PER_WORKER) for tile in tiles(len(voxels))])
        return out

    observed = np.concatenate(share(lambda voxels: gain(products[voxels], voxels), test.tiles()))
    return test.p(observed, draw, n_permutations)


@one_thread()
def band_residual_p(
    rows: Rows, y: FloatArray, band: str, *, full: Penalties, reduced: Penalties, n_permutations: int = 999, seed: int
) -> tuple[FloatArray, IntArray]:
    r"""Test whether a band adds to held-out prediction, by permuting what the other bands leave of its features.

    .. math:: X^* = PX + Q\,\pi(Q'X), \qquad Q'Q = I, \; QQ' = I - P

    with P and Q as in `freedman_lane_p`, whose parameters and results these are. The model with the band is refitted to
    y from X*, with the penalties that were chosen for X; that without it stays. Each permutation takes one
    eigendecomposition for each distinct mixture of the voxels that are not done.

    The null is that y is independent of the band given the others, and that the band is a linear function of these and
    a residual that is exchangeable, over rows or groups of them. With a Gaussian residual the test is exact but for the
    penalties, whatever the noise of y. A band that is exactly a linear function of the others has p = 1.

    Raises
    ------
    InputError
        As there, but groups need only be more than the columns.

    References
    ----------
    Winkler et al. (2014), doi:10.1016/j.neuroimage.2014.01.060; Winkler et al. (2020),
    doi:10.1016/j.neuroimage.2020.117065, for Q
    """
    rows.refuse_wide()
    test = _Test.of(rows, y, band, full=full, reduced=reduced)
    space = _Space.of(rows, test.others)
    orders = space.orders(rows, n_permutations, seed)
    inner = space.into(test.own)
    fixed = test.own - space.out_of(inner)
    lean = test.by_voxel(np.asarray)
    reduced_fits = test.reduced.fits(test.others)
    theirs = test.by_voxel(lambda y: _operator(test.others, rows.fitted).T @ y)
    without = np.concatenate(share(lambda at: test.reduced.lowered(reduced_fits, theirs[at], at), test.tiles()))

    def gain(band: FloatArray, voxels: IntArray) -> FloatArray:
        fits = test.full.fits(np.hstack([test.others, band]), only=voxels)
        operator = _operator(band, rows.fitted).astype(test.dtype)
        out = np.empty(len(voxels), dtype=test.dtype)
        for tile in tiles(len(voxels)):
            in_tile = voxels[tile]
            parts = (np.hsplit(products, 2) for products in (theirs[in_tile], lean[in_tile] @ operator))
            products = np.hstack([half for both in zip(*parts, strict=True) for half in both])
            out[tile] = test.full.lowered(fits, products, in_tile) - without[in_tile]
        return out

    def draw(start: int, stop: int, voxels: IntArray) -> FloatArray:
        null = share(lambda order: gain(fixed + space.out_of(inner[order]), voxels), list(orders[start:stop]))
        return np.stack(null)

    observed = gain(test.own, np.arange(test.y.shape[1]))
    return test.p(observed, draw, n_permutations)


def _factor(gram: FloatArray) -> FloatArray:
    """Find columns that a kernel is the product of, (n_rows, rank), by Cholesky's decomposition with pivots."""
    wide = np.array(gram, dtype=np.float64, order="F")
    fraction = max(MIN_COLUMN_FRACTION**2, len(wide) * float(np.finfo(gram.dtype).eps))
    lower, pivots, rank, _ = linalg.lapack.dpstrf(wide, tol=fraction * float(wide.diagonal().max(initial=0)), lower=1)
    columns = np.zeros((len(wide), rank))
    columns[pivots - 1] = np.tril(lower[:, :rank])
    return columns


def _operator(columns: FloatArray, fitted: BoolArray) -> FloatArray:
    """Make what takes responses, less their fitted mean, to products with fitted and with held-out columns."""
    side = fitted[:, None]
    inner = np.where(side, columns - columns[fitted].mean(0), 0)
    outer = np.where(side, -columns[~fitted].sum(0) / fitted.sum(), columns)
    return np.hstack([inner, outer])


def _basis(columns: FloatArray) -> FloatArray:
    """Find an orthonormal basis of the intercept and some columns, (n_rows, rank)."""
    centred = columns - columns.mean(0)
    q, r, _ = linalg.qr(centred, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    rank = int((size > MIN_COLUMN_FRACTION * size.max(initial=0)).sum())
    return np.hstack([np.full((len(columns), 1), len(columns) ** -0.5), q[:, :rank]])


@dataclass(frozen=True, eq=False)
class _Space:
    """The vectors that are orthogonal to a basis (n_rows, rank), in coordinates Q that each stand for one kept row.

    As many rows are left out as the basis has vectors, or some more. Of all orthonormal coordinates these are nearest
    to the kept rows (Theil 1965), so that groups stay groups. They are residuals, stretched along some `directions`.
    """

    basis: FloatArray
    kept: IntArray
    directions: FloatArray
    stretch: FloatArray

    @classmethod
    def of(cls, rows: Rows, others: FloatArray) -> _Space:
        basis = _basis(others)
        kept = _kept(basis, rows.groups)
        u, s, _ = linalg.svd(basis[kept], full_matrices=False)
        return cls(basis, kept, u, 1 / np.sqrt(1 - s**2) - 1)

    def _stretched(self, values: FloatArray) -> FloatArray:
        return np.asarray(values + self.directions @ (self.stretch[:, None] * (self.directions.T @ values)))

    def into(self, values: FloatArray) -> FloatArray:
        """Return Q' values, (n_kept, n_columns)."""
        return self._stretched((values - self.basis @ (self.basis.T @ values))[self.kept])

    def out_of(self, inner: FloatArray) -> FloatArray:
        """Return Q inner, (n_rows, n_columns)."""
        values = np.zeros((len(self.basis), inner.shape[1]))
        values[self.kept] = self._stretched(inner)
        return np.asarray(values - self.basis @ (self.basis.T @ values))

    def orders(self, rows: Rows, n_permutations: int, seed: int) -> IntArray:
        """Draw permutations of the kept rows, fitted and held-out ones apart; (n_permutations, n_kept)."""
        drawn = []  # each refuses more than there is memory for, before there is a place for all
        for side, name in ((rows.fitted, "fitted rows"), (~rows.fitted, "held-out rows")):
            on_side = np.flatnonzero(side[self.kept])
            groups = None if rows.groups is None else [rows.groups[row] for row in self.kept[on_side]]
            key = int(random_for(seed, name).integers(2**62))
            orders = exchange(len(on_side), n_permutations=n_permutations, seed=key, groups=groups)
            if len(orders) < n_permutations:  # all that there are: any, or none, beside the other side's
                every = np.vstack([np.arange(len(on_side)), orders])
                orders = every[random_for(key, "beside").integers(len(every), size=n_permutations)]
            drawn.append((on_side, on_side[orders]))
        out = np.empty((n_permutations, len(self.kept)), dtype=np.intp)
        for on_side, orders in drawn:
            out[:, on_side] = orders
        return out


def _kept(basis: FloatArray, groups: Sequence[str] | None) -> IntArray:
    """Choose the rows that stand for themselves; the others, whole groups, must hold every vector of the basis."""
    n_rows, rank = basis.shape
    code = np.arange(n_rows) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    # Rows in the order in which each adds most to those before it; a row that alone has a column comes early.
    pivots = linalg.qr(basis.T, mode="r", pivoting=True)[1]
    _, first = np.unique(code[pivots], return_index=True)
    place = np.argsort(np.argsort(first))[code]
    for n_left_out in range(1, int(place.max()) + 1):
        left_out = place < n_left_out
        rest = basis[left_out]
        if len(rest) >= rank and np.linalg.eigvalsh(rest.T @ rest)[0] >= MIN_LEFT_OUT_FRACTION:
            return np.flatnonzero(~left_out)
    raise InputError(
        f"The other bands and the intercept have {rank} columns over {n_rows} rows; too few rows or groups are left to "
        "exchange. Use share_p, which tests predictive gain."
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """A model with one mixture, in directions that ridge shrinks one by one; `outer` are held-out products of these."""

    directions: FloatArray
    values: FloatArray
    outer: FloatArray

    @classmethod
    def of(cls, inner: FloatArray, outer: FloatArray, weights: FloatArray, dtype: _Dtype) -> _Fit:
        """Fit from the products of fitted columns and those of held-out columns, each column with its weight."""
        root = np.sqrt(weights)
        values, vectors = np.linalg.eigh(root[:, None] * inner * root)
        directions = root[:, None] * vectors
        outer = directions.T @ outer @ directions
        return cls(directions.astype(dtype), np.maximum(values, 0).astype(dtype), outer.astype(dtype))

    def lowered(self, inner: FloatArray, outer: FloatArray, alphas: FloatArray) -> FloatArray:
        """Compute by how much the model lowers the held-out squared error, voxel by voxel."""
        weights = (inner @ self.directions) / (self.values + alphas[:, None])
        return np.asarray(((2 * (outer @ self.directions) - weights @ self.outer) * weights).sum(1))


@dataclass(frozen=True, eq=False)
class _Model:
    """A banded ridge with fixed penalties; `weights` (n_mixtures, n_columns) has a band's for each of its columns."""

    fitted: BoolArray
    weights: FloatArray
    mixture: IntArray
    alphas: FloatArray

    @classmethod
    def of(cls, rows: Rows, chosen: Penalties, widths: Sequence[int], valid: BoolArray, dtype: _Dtype) -> _Model:
        """Take penalties of bands with so many columns each; voxels that are not valid get any."""
        distinct, mixture = np.unique(np.where(valid, chosen.mixtures, 1.0), axis=1, return_inverse=True)
        weights = np.repeat(distinct.T, widths, axis=1)
        return cls(rows.fitted, weights, mixture.reshape(-1), np.where(valid, chosen.alphas, 1).astype(dtype))

    def fits(self, columns: FloatArray, *, only: IntArray | None = None) -> dict[int, _Fit]:
        """Fit every mixture, or those of some voxels only."""
        inner, outer = (side.T @ side for side in (columns[self.fitted], columns[~self.fitted]))
        wanted = np.unique(self.mixture if only is None else self.mixture[only]).tolist()
        return {m: _Fit.of(inner, outer, self.weights[m], self.alphas.dtype) for m in wanted}

    def lowered(self, fits: Mapping[int, _Fit], products: FloatArray, voxels: IntArray) -> FloatArray:
        """Compute by how much the model lowers the held-out squared error of the voxels of these numbers, (n,).

        Products (n, 2 * n_columns) are responses times the fitted rows of all columns, then the held-out rows.
        """
        half, n_columns = products.shape[1] // 2, self.weights.shape[1]
        inner, outer = products[:, :n_columns], products[:, half : half + n_columns]
        mixture, out = self.mixture[voxels], np.empty(len(voxels), dtype=products.dtype)
        for m in np.unique(mixture).tolist():
            of_mixture = np.flatnonzero(mixture == m)
            out[of_mixture] = fits[m].lowered(inner[of_mixture], outer[of_mixture], self.alphas[voxels[of_mixture]])
        return out


@dataclass(frozen=True, eq=False)
class _Test:
    """What both tests know: columns of the other bands and of the band, held-out sums of squares, models."""

    others: FloatArray
    own: FloatArray
    y: FloatArray
    centre: FloatArray
    unit: FloatArray
    valid: BoolArray
    size: FloatArray
    full: _Model
    reduced: _Model
    dtype: _Dtype

    @classmethod
    def of(cls, rows: Rows, y: FloatArray, band: str, *, full: Penalties, reduced: Penalties) -> _Test:
        """Check everything; in both models the band comes last."""
        (y,) = arrays(y=(y, "n_rows n_voxels"))
        _check(rows, y, band, full, reduced)
        names = [name for name in rows.grams if name != band]
        order = [list(rows.grams).index(name) for name in (*names, band)]
        full = Penalties(full.mixtures[order], full.alphas)
        columns = [rows.columns[name] for name in (*names, band)]
        valid = np.isfinite(y).all(0) & varying(y[rows.fitted])
        for chosen in (full, reduced):
            valid &= np.isfinite(chosen.mixtures).all(0) & np.isfinite(chosen.alphas)
        dtype = _precision(rows, y.dtype, np.minimum(full.alphas, reduced.alphas)[valid])
        widths = [block.shape[1] for block in columns]
        with_band = _Model.of(rows, full, widths, valid, dtype)
        without = _Model.of(rows, reduced, widths[:-1], valid, dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            centre = y[rows.fitted].mean(0, dtype=np.float64)
            # A power of two scales without rounding; in it no square of float32 overflows or vanishes.
            unit = np.ldexp(1.0, np.frexp(np.abs(y[rows.fitted] - centre).max(0))[1])
            size = (((y[~rows.fitted] - centre) / unit) ** 2).sum(0)
        return cls(np.hstack(columns[:-1]), columns[-1], y, centre, unit, valid, size, with_band, without, dtype)

    def tiles(self) -> list[IntArray]:
        """List the voxels of each tile."""
        voxels = np.arange(self.y.shape[1])
        return [voxels[tile] for tile in tiles(max(len(voxels), 1))]

    def by_voxel(self, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Apply a function of columns to all responses, tile by tile: (n_voxels, n_values)."""

        def applied(voxels: IntArray) -> FloatArray:
            with np.errstate(invalid="ignore", over="ignore"):
                clean = np.where(self.valid[voxels], (self.y[:, voxels] - self.centre[voxels]) / self.unit[voxels], 0)
            return np.ascontiguousarray(function(clean).T, dtype=self.dtype)

        return np.concatenate(share(applied, self.tiles()))

    def p(self, observed: FloatArray, draw: DrawGains, n_permutations: int) -> tuple[FloatArray, IntArray]:
        """Count until it is clear; gains are measured by the held-out sum of squares."""
        defined = np.where(self.valid, observed, np.nan)
        return sequential_p(defined, draw, n_permutations=n_permutations, size=self.size, at_once=PERMUTATIONS_PER_LOOK)


def _check(rows: Rows, y: FloatArray, band: str, full: Penalties, reduced: Penalties) -> None:
    if band not in rows.grams:
        raise unknown("band", band, rows.grams)
    n_bands, shape = len(rows.grams), (len(rows.fitted), len(full.alphas))
    if n_bands < 2:
        raise InputError(f"{band} is the only band; a unique share needs at least one other.")
    if y.shape != shape or len(reduced.alphas) != shape[1]:
        given = f"responses {y.shape}, {shape[0]} rows, penalties of {shape[1]} and {len(reduced.alphas)} voxels"
        raise AlignmentError(f"Responses (n_rows, n_voxels) must match rows and penalties; got {given}.")
    for name, chosen, wanted in (("full", full, n_bands), ("reduced", reduced, n_bands - 1)):
        if len(chosen.mixtures) != wanted:
            raise AlignmentError(f"The {name} model has {wanted} bands; its mixtures have {len(chosen.mixtures)}.")


def _precision(rows: Rows, given: _Dtype, alphas: FloatArray) -> _Dtype:
    """Choose float32 where responses are, unless an alpha is so small that products would cancel."""
    largest = [np.linalg.norm(fitted.T @ fitted, 2) for fitted in (x[rows.fitted] for x in rows.columns.values())]
    fine = given == np.float32 and alphas.min(initial=np.inf) > MIN_ALPHA_FRACTION * max(largest)
    return np.dtype(np.float32 if fine else np.float64)
