"""What is known of the rows of a fit: the kernel of each band, or, where there are more rows, its columns.

A *basis* is what the search works in. It spans the rows without the intercept: rows are weighted and rotated into the
complement of the weights' square roots, so that no null direction is left on which generalised cross-validation could
choose the smallest alpha. Where columns are fewer than rows, it spans no more than the columns reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import numpy as np
from scipy import linalg

from latentcortex._arrays import BoolArray, FloatArray, digest, fingerprint
from latentcortex.executors import share

AT_ONCE: Final = 64
"""So many columns are rotated together, since a processor's cache holds them."""


class Basis(Protocol):
    """An orthonormal basis of weighted rows: m vectors."""

    @property
    def grams(self) -> Sequence[FloatArray]:
        """The kernel of each band in this basis, float64 (m, m)."""
        ...

    @property
    def n_free(self) -> int:
        """Count the rows that are free to vary, at least m: all, or all but one with an intercept."""
        ...

    def outward(self, vectors: FloatArray) -> FloatArray:
        """Bring vectors of the basis (m, k) back to the rows, times the weights' square roots; (n_rows, k)."""
        ...


class Design(Protocol):
    """The rows of a fit."""

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        ...

    @property
    def size(self) -> int:
        """Bound the dimensions that the rows span: as many as there are rows or columns."""
        ...

    @property
    def key(self) -> str:
        """Hash the kernels or columns, by band."""
        ...

    def basis(self, weights: FloatArray, *, intercept: bool) -> Basis:
        """Find the basis of the rows at these weights."""
        ...

    def parted(self, train: BoolArray, weights: FloatArray, *, intercept: bool) -> tuple[Design, list[FloatArray]]:
        """Take the training rows, and the others as new rows."""
        ...

    def applied(self, band: int, dual: FloatArray) -> FloatArray:
        """Make what new rows of a band are multiplied by to be predicted: dual weights, or weights of columns."""
        ...

    def times(self, mixture: FloatArray, dual: FloatArray) -> FloatArray:
        """Multiply the kernel of a mixture with dual weights, (n_rows, k), in float64."""
        ...

    def joint(self, rows: slice) -> FloatArray:
        """Sum the kernels of all bands between some rows and all, (k, n_rows)."""
        ...

    def diagonal(self, offset: int = 0) -> FloatArray:
        """Sum the kernels of all bands between each row and the one `offset` after it, (n_rows - offset,)."""
        ...


# From kernels


@dataclass(frozen=True, eq=False)
class Kernels:
    """Rows known by one Gram matrix per band.

    Parameters
    ----------
    grams : list of n_bands ndarrays of float64, shape (n_rows, n_rows)
        Centred on the weighted mean of the rows, if there is an intercept.
    """

    grams: list[FloatArray]

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return len(self.grams[0])

    @property
    def size(self) -> int:
        """Count the rows."""
        return self.n_rows

    @cached_property
    def key(self) -> str:
        """Hash the kernels."""
        return digest(*share(fingerprint, self.grams))

    def basis(self, weights: FloatArray, *, intercept: bool) -> Basis:
        """Rotate the kernels."""
        root = np.sqrt(weights)
        if not intercept:
            return Weighted([gram * np.outer(root, root) for gram in self.grams], len(root), root)
        rotation = Rotated([], len(root) - 1, root)
        return Rotated(share(rotation.gram, self.grams), len(root) - 1, root)

    def parted(self, train: BoolArray, weights: FloatArray, *, intercept: bool) -> tuple[Kernels, list[FloatArray]]:
        """Take the training rows; new rows are measured from the training rows' mean."""
        inner = [gram[np.ix_(train, train)] for gram in self.grams]
        new = [gram[np.ix_(~train, train)] for gram in self.grams]
        if intercept:
            # Dual weights sum to zero, so only the term that varies with the training row is left to subtract.
            w = weights[train] / weights[train].sum()
            new = [rows - w @ gram for rows, gram in zip(new, inner, strict=True)]
        return Kernels(inner), new

    def applied(self, band: int, dual: FloatArray) -> FloatArray:
        """Return the dual weights: new rows are kernels with the fitted ones."""
        del band
        return dual

    def times(self, mixture: FloatArray, dual: FloatArray) -> FloatArray:
        """Multiply the kernel of a mixture with dual weights."""
        return np.asarray(weighted_sum(mixture, self.grams) @ dual)

    def joint(self, rows: slice) -> FloatArray:
        """Sum the kernels of all bands."""
        return np.asarray(np.sum([gram[rows] for gram in self.grams], axis=0))

    def diagonal(self, offset: int = 0) -> FloatArray:
        """Sum the diagonals of all bands."""
        return np.asarray(np.sum([np.diagonal(gram, offset) for gram in self.grams], axis=0))


@dataclass(frozen=True, eq=False)
class Weighted:
    """The rows themselves, weighted: nothing is to be removed without an intercept."""

    grams: Sequence[FloatArray]
    n_free: int
    root: FloatArray

    def outward(self, vectors: FloatArray) -> FloatArray:
        """Weight once more."""
        return np.asarray(vectors * self.root.astype(vectors.dtype)[:, None])


@dataclass(frozen=True, eq=False)
class Rotated:
    """The complement of the weights' square roots, reached by a Householder reflection."""

    grams: Sequence[FloatArray]
    n_free: int
    root: FloatArray

    @cached_property
    def _normal(self) -> FloatArray:
        normal = self.root / np.linalg.norm(self.root)
        normal[0] += 1.0
        return np.asarray(normal / np.linalg.norm(normal))

    def gram(self, gram: FloatArray) -> FloatArray:
        """Weight and rotate a Gram matrix (n, n) on both sides; (n - 1, n - 1)."""
        return self._inward(self._inward(gram).T)

    def _inward(self, rows: FloatArray) -> FloatArray:
        out = np.empty((len(rows) - 1, rows.shape[1]))
        for some in blocks(rows.shape[1]):
            weighted = rows[:, some] * self.root[:, None]
            weighted -= np.outer(2 * self._normal, self._normal @ weighted)
            out[:, some] = weighted[1:]
        return out

    def outward(self, vectors: FloatArray) -> FloatArray:
        """Rotate back; each column, times the weights, then sums to 0."""
        normal, root = self._normal.astype(vectors.dtype), self.root.astype(vectors.dtype)
        out = np.zeros((vectors.shape[1], len(root)), dtype=vectors.dtype)
        for some in blocks(len(out)):
            part = out[some]
            part[:, 1:] = vectors.T[some]
            part -= np.outer(part @ normal, 2 * normal)
            part *= root
        return out.T


# From columns


@dataclass(frozen=True, eq=False)
class Columns:
    """Rows known by the columns of each band, fewer in all than there are rows.

    Parameters
    ----------
    columns : list of n_bands ndarrays of float64, shape (n_rows, n_dims)
        Centred on the weighted mean of the rows, if there is an intercept.
    """

    columns: list[FloatArray]

    @property
    def n_rows(self) -> int:
        """Count the rows."""
        return len(self.columns[0])

    @property
    def size(self) -> int:
        """Count the columns."""
        return sum(band.shape[1] for band in self.columns)

    @cached_property
    def key(self) -> str:
        """Hash the columns."""
        return digest(*share(fingerprint, self.columns))

    def basis(self, weights: FloatArray, *, intercept: bool) -> Basis:
        """Find an orthonormal basis of what the columns reach, by QR with pivoting."""
        root = np.sqrt(weights)
        joint = np.hstack(self.columns) * root[:, None]
        q, r, order = linalg.qr(joint, mode="economic", pivoting=True, check_finite=False)
        size = np.abs(np.diag(r))
        rank = int((size > size.max(initial=0) * len(root) * np.finfo(np.float64).eps).sum())
        unpivoted = np.empty((rank, joint.shape[1]))
        unpivoted[:, order] = r[:rank]
        ends = np.cumsum([band.shape[1] for band in self.columns])[:-1]
        grams = [np.asarray(band @ band.T) for band in np.split(unpivoted, ends, axis=1)]
        return Reached(grams, len(root) - int(intercept), root, q[:, :rank])

    def parted(self, train: BoolArray, weights: FloatArray, *, intercept: bool) -> tuple[Columns, list[FloatArray]]:
        """Take the training rows; both sides are measured from the training rows' mean."""
        w = weights[train] / weights[train].sum() * float(intercept)
        means = [w @ band[train] for band in self.columns]
        inner = [band[train] - mean for band, mean in zip(self.columns, means, strict=True)]
        return Columns(inner), [band[~train] - mean for band, mean in zip(self.columns, means, strict=True)]

    def applied(self, band: int, dual: FloatArray) -> FloatArray:
        """Make weights of the columns, (n_dims, k)."""
        return np.asarray(self.columns[band].T.astype(dual.dtype, copy=False) @ dual)

    def times(self, mixture: FloatArray, dual: FloatArray) -> FloatArray:
        """Multiply the kernel of a mixture with dual weights, through the columns."""
        out = np.zeros_like(dual)
        for weight, band in zip(mixture, self.columns, strict=True):
            if weight:
                out += weight * (band @ (band.T @ dual))
        return out

    def joint(self, rows: slice) -> FloatArray:
        """Sum the kernels of all bands."""
        return np.asarray(np.sum([band[rows] @ band.T for band in self.columns], axis=0))

    def diagonal(self, offset: int = 0) -> FloatArray:
        """Sum the products of rows with later ones."""
        pairs = [np.einsum("ij,ij->i", band[: len(band) - offset], band[offset:]) for band in self.columns]
        return np.asarray(np.sum(pairs, axis=0))


@dataclass(frozen=True, eq=False)
class Reached:
    """An orthonormal basis of the columns."""

    grams: Sequence[FloatArray]
    n_free: int
    root: FloatArray
    vectors: FloatArray

    def outward(self, vectors: FloatArray) -> FloatArray:
        """Leave the basis and weight once more."""
        weighted = (self.vectors * self.root[:, None]).astype(vectors.dtype)
        return np.asfortranarray(weighted @ vectors)


def blocks(n: int) -> Iterator[slice]:
    """Cut columns into blocks that a processor's cache holds."""
    return (slice(i, i + AT_ONCE) for i in range(0, n, AT_ONCE))


def weighted_sum(mixture: FloatArray, grams: Sequence[FloatArray]) -> FloatArray:
    """Sum the kernels of the bands that a mixture has."""
    total = np.zeros_like(grams[0])
    for weight, gram in zip(mixture, grams, strict=True):
        if weight:
            total += weight * gram
    return total
