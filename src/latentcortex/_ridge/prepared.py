"""What is known of rows before any responses are: the decomposition of each mixture of their kernels, made once.

Whoever fits these rows, to whichever voxels, shares them: other tiles, other threads, and nested models, whose
mixtures are more of the same rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Generic, TypeVar

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, varying
from latentcortex._ridge.backend import Backend, NumPy
from latentcortex._ridge.decompositions import DecomposedMixture, bound, decomposition, key_of
from latentcortex._ridge.design import Basis, Design, weighted_sum

MAX_ROWS_IN_FLOAT64: Final = 512
"""A fit of at most so many rows is computed in float64, since that takes no longer."""
MIN_ALPHA_FRACTION: Final = 4e-6
"""A fit is computed in float64 if its smallest alpha is below this fraction of the largest eigenvalue: float32's
rounding would be larger than alpha."""

_T = TypeVar("_T")
Mixture = tuple[float, ...]


class Once(Generic[_T]):
    """A value that is made when it is first asked for, by whichever thread asks first; others wait."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[_T] = []

    def __call__(self) -> _T:
        """Return the value."""
        with self._lock:
            return self._value()

    def begin(self) -> None:
        """Make the value, unless another thread has made it or is making it."""
        if self._lock.acquire(blocking=False):
            try:
                self._value()
            finally:
                self._lock.release()

    def _value(self) -> _T:
        if not self._made:
            self._made.append(self._make())
            del self._make  # what it was made from may go
        return self._made[0]

    def __getstate__(self) -> list[_T]:
        """Copy and pickle what was made: a lock cannot be."""
        return [self()]

    def __setstate__(self, made: list[_T]) -> None:
        """Take what was made."""
        self._lock, self._made = threading.Lock(), made


@dataclass(frozen=True, eq=False)
class RowSelection:
    """Which rows are fitted.

    Parameters
    ----------
    design : Design
        All rows.
    weights : ndarray of shape (n_rows,)
    intercept : bool
        Whether an intercept is fitted.
    train : ndarray of bool, shape (n_rows,), optional
        Those that are fitted, the others being held out; by default all are.
    """

    design: Design
    weights: FloatArray
    intercept: bool
    train: BoolArray | None = None

    @property
    def fitted_weights(self) -> FloatArray:
        """The weights of the rows that are fitted."""
        return self.weights if self.train is None else self.weights[self.train]

    @property
    def size(self) -> int:
        """Bound the rows and columns of what is decomposed."""
        return min(self.design.size, len(self.fitted_weights))

    @cached_property
    def key(self) -> str:
        """Hash everything that a decomposition depends on, but the mixture."""
        train = "all" if self.train is None else self.train
        return key_of(type(self.design).__name__, self.design.key, self.weights, self.intercept, train)

    def parted(self) -> Parted:
        """Part the rows, and find the basis of those that are fitted."""
        inner, new = self.design, list[FloatArray]()
        if self.train is not None:
            inner, new = self.design.parted(self.train, self.weights, intercept=self.intercept)
        return Parted(inner, inner.basis(self.fitted_weights, intercept=self.intercept), new)


@dataclass(frozen=True, eq=False)
class Parted:
    """What decompositions are made from.

    Parameters
    ----------
    design : Design
        Of the rows that are fitted.
    basis : Basis
    new : list of ndarrays
        By band the rows that are held out, measured from the mean of the others; empty where none are.
    """

    design: Design
    basis: Basis
    new: list[FloatArray]

    @property
    def largest(self) -> float:
        """Bound the largest eigenvalue of any band."""
        grams = [gram for gram in self.basis.grams if len(gram)]
        return max((min(float(np.abs(g).sum(0).max()), float(np.trace(g))) for g in grams), default=0.0)

    def decomposed(self, mixture: FloatArray, dtype: Any, backend: Backend) -> DecomposedMixture:
        """Decompose a mixture."""
        values, vectors = backend.eigh(weighted_sum(mixture, self.basis.grams), dtype)
        directions = backend.put(self.basis.outward(vectors), dtype)
        ahead = self._ahead(mixture, backend.get(directions)) if self.new else None
        return DecomposedMixture(
            np.maximum(values.astype(np.float64), 0), directions, None if ahead is None else backend.put(ahead, dtype)
        )

    def _ahead(self, mixture: FloatArray, directions: FloatArray) -> FloatArray:
        exact = directions.astype(np.float64)
        parts = [
            weight * (rows @ self.design.applied(band, exact))
            for band, (weight, rows) in enumerate(zip(mixture, self.new, strict=True))
            if weight
        ]
        return np.asarray(np.sum(parts, axis=0))


@dataclass(frozen=True, eq=False)
class CentredResponses:
    """The responses of a tile of voxels, less their mean.

    Parameters
    ----------
    rows : array of the backend, shape (n_rows, n_voxels)
        0 where a voxel is not valid.
    intercept : ndarray of shape (n_voxels,)
    valid : ndarray of bool, shape (n_voxels,)
        Finite, and not constant.
    """

    rows: Any
    intercept: FloatArray
    valid: BoolArray


class PreparedRows:
    """One set of rows, ready for any responses of one precision; many threads may ask at once.

    Parameters
    ----------
    rows : RowSelection
    mixtures : ndarray of shape (n_mixtures, n_bands)
        Those that will be asked for first: they are made from one basis, which then goes.
    alphas : ndarray of shape (n_alphas,)
    dtype : dtype
        That of the responses.
    backend : Backend

    Attributes
    ----------
    weights : ndarray of shape (n_fitted,)
    intercept : bool
    n_free : int
        Fitted rows less the intercept.
    """

    def __init__(
        self, rows: RowSelection, mixtures: FloatArray, alphas: FloatArray, *, dtype: Any, backend: Backend
    ) -> None:
        self.rows, self.weights, self.intercept = rows, rows.fitted_weights, rows.intercept
        self.n_free = len(self.weights) - int(rows.intercept)
        self._known: dict[Mixture, Once[DecomposedMixture]] = {}
        self._lock = threading.Lock()
        parted = Once(rows.parted)
        self._dtype = Once(partial(_precision, rows, parted, dtype, alphas))
        self._alphas, self._of_responses, self._backend = alphas, dtype, backend
        self._add(parted, list(map(tuple, mixtures.tolist())))

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle all but the lock."""
        with self._lock:
            return {**vars(self), "_known": dict(self._known), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it, with another lock."""
        vars(self).update(state, _lock=threading.Lock())

    @property
    def dtype(self) -> np.dtype[Any]:
        """What is worked in."""
        return self._dtype()

    @property
    def backend(self) -> Backend:
        """Where it is worked."""
        return self._backend if self._backend.has_float64 or self.dtype == np.float32 else NumPy()

    def holding_out(self, train: BoolArray, mixtures: FloatArray) -> PreparedRows:
        """Prepare some of the rows in the same way, the others being held out."""
        rows = replace(self.rows, train=train)
        return PreparedRows(rows, mixtures, self._alphas, dtype=self._of_responses, backend=self._backend)

    def ready(self, mixtures: FloatArray) -> list[Once[DecomposedMixture]]:
        """Return the decompositions of these mixtures, which are made when they are called."""
        wanted: list[Mixture] = list(map(tuple, mixtures.tolist()))
        with self._lock:
            missing = [mixture for mixture in wanted if mixture not in self._known]
            if missing:
                self._add(Once(self.rows.parted), missing)
            return [self._known[mixture] for mixture in wanted]

    def _add(self, parted: Once[Parted], mixtures: Sequence[Mixture]) -> None:
        for mixture in mixtures:
            self._known[mixture] = Once(partial(self._decomposed, parted, mixture))

    def _decomposed(self, parted: Once[Parted], mixture: Mixture) -> DecomposedMixture:
        dtype, backend = self.dtype, self.backend
        make = partial(self._made, parted, mixture)
        return decomposition(self.rows, mixture, dtype=dtype, backend=backend, make=make)

    def _made(self, parted: Once[Parted], mixture: Mixture) -> DecomposedMixture:
        return parted().decomposed(np.asarray(mixture), self.dtype, self.backend)

    def of_mixture(self, mixture: FloatArray) -> DecomposedMixture:
        """Return the decomposition of a mixture."""
        return self.ready(mixture[None])[0]()

    def targets(self, y: FloatArray) -> CentredResponses:
        """Read the responses (n_rows, n_voxels) of a tile, and take their mean off in float64."""
        valid = varying(y)
        # What is constant here, in one fold perhaps, has a mean like any other.
        finite = y if valid.all() else np.where(np.isfinite(y).all(0), y, 0)
        mean = self.weights @ finite / self.weights.sum() if self.intercept else np.zeros(y.shape[1])
        return CentredResponses(self.centred(finite, mean), mean, valid)

    def centred(self, y: FloatArray, intercept: FloatArray) -> Any:
        """Take the intercept off in float64, and only then round."""
        rows = np.empty(y.shape, dtype=self.dtype)
        np.subtract(y, intercept, out=rows, casting="same_kind")
        return self.backend.put(rows, self.dtype)

    def total(self, rows: Any) -> FloatArray:
        """Compute the weighted sum of squares of each voxel, (n_voxels,)."""
        return self.backend.get(self.backend.put(self.weights, self.dtype) @ (rows * rows)).astype(np.float64)


def _precision(rows: RowSelection, parted: Once[Parted], dtype: Any, alphas: FloatArray) -> np.dtype[Any]:
    """Choose what to work in: float32 where responses are, rows are many and alphas not tiny."""
    if dtype == np.float64 or len(rows.fitted_weights) <= MAX_ROWS_IN_FLOAT64:
        return np.dtype(np.float64)
    largest = bound(rows, lambda: parted().largest)
    return np.dtype(np.float64 if alphas.min() < MIN_ALPHA_FRACTION * largest else np.float32)
