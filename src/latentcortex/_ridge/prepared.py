"""The part of a ridge fit that needs no responses: the decomposition of each mixture of the bands' kernels.

Rows are stimuli, or trials; a mixture is a weight for the kernel of each band.

All fits to these rows share the decompositions, whichever voxels they are of: other tiles, other threads, and nested
models, whose mixtures are further ones of the same rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Generic, TypeVar

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray, varying
from latentcortex._ridge.backend import Backend, NumPy
from latentcortex._ridge.candidates import SearchSpace
from latentcortex._ridge.decompositions import DecomposedMixture, bound, decomposition, key_of
from latentcortex._ridge.design import Basis, Design, weighted_sum

MAX_ROWS_IN_FLOAT64: Final = 512
"""A fit of at most this many rows is computed in float64, since that takes no longer."""
MIN_ALPHA_FRACTION: Final = 4e-6
"""A fit is computed in float64 if its smallest alpha is below this fraction of the largest eigenvalue: float32's
rounding would be larger than alpha."""

_T = TypeVar("_T")
Mixture = tuple[float, ...]
"""One weight gamma per band."""


class Once(Generic[_T]):
    """A value that is made by whichever thread first asks for it, while other threads wait."""

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
            del self._make  # frees what the value was made from
        return self._made[0]

    def __getstate__(self) -> list[_T]:
        """Copy and pickle what was made: a lock cannot be."""
        return [self()]

    def __setstate__(self, made: list[_T]) -> None:
        """Take what was made."""
        self._lock, self._made = threading.Lock(), made


@dataclass(frozen=True, eq=False)
class SplitRows:
    """The rows of a fit, split into fitted and held-out ones, and the basis that the fitted ones are decomposed in.

    Parameters
    ----------
    design : Design
        Of the fitted rows.
    basis : Basis
        Of the fitted rows, each scaled by the square root of its weight.
    held_out : list of ndarrays
        By band the rows that are held out, less the weighted mean of the fitted rows; empty where none are.
    """

    design: Design
    basis: Basis
    held_out: list[FloatArray]


@dataclass(frozen=True, eq=False)
class CentredResponses:
    """The responses of a tile of voxels, less their mean.

    Parameters
    ----------
    rows : array of the backend, shape (n_rows, n_voxels)
        0 where a voxel is not valid.
    intercept : ndarray of shape (n_voxels,)
    valid : ndarray of bool, shape (n_voxels,)
        Whether a voxel's responses are finite, and not constant.
    """

    rows: Any
    intercept: FloatArray
    valid: BoolArray


class PreparedRows:
    """Rows with the decompositions of their mixtures, ready for any responses; many threads may ask at once.

    Parameters
    ----------
    design : Design
        All rows.
    weights : ndarray of shape (n_rows,)
        How many trials each row averages.
    search : SearchSpace
        All its mixtures share one basis, whose memory is freed when the last is made; any other mixture that is asked
        for later computes the basis again.
    train : ndarray of bool, shape (n_rows,), optional
        Rows that are fitted, the others being held out; by default all are fitted.
    dtype : dtype
        Precision of the responses.
    backend : Backend

    Attributes
    ----------
    weights : ndarray of shape (n_fitted,)
    held_out_weights : ndarray of shape (n_held_out,)
    intercept : bool
        Whether an intercept is fitted.
    n_free : int
        Fitted rows, less one for the intercept.
    """

    def __init__(
        self,
        design: Design,
        weights: FloatArray,
        search: SearchSpace,
        *,
        train: BoolArray | None = None,
        dtype: Any,
        backend: Backend,
    ) -> None:
        self.design, self.train = design, np.ones(len(weights), dtype=bool) if train is None else train
        self.weights, self.held_out_weights = weights if train is None else weights[train], weights[~self.train]
        self.intercept = search.fit_intercept
        self.n_free = len(self.weights) - int(self.intercept)
        self._all_weights, self._response_dtype, self._backend = weights, np.dtype(dtype), backend
        self._decompositions: dict[Mixture, Once[DecomposedMixture]] = {}
        self._lock = threading.Lock()
        split = Once(self._split)
        self._dtype = Once(partial(self._chosen_dtype, split, search.alphas))
        self._add(split, list(map(tuple, search.mixtures.tolist())))

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle all but the lock, which cannot be."""
        with self._lock:
            return {**vars(self), "_decompositions": dict(self._decompositions), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled, with a new lock."""
        vars(self).update(state, _lock=threading.Lock())

    @cached_property
    def key(self) -> str:
        """Hash everything that a decomposition depends on, but the mixture and the precision."""
        train = "all" if self.train.all() else self.train
        return key_of(type(self.design).__name__, self.design.key, self._all_weights, self.intercept, train)

    @property
    def size(self) -> int:
        """Bound the rows and columns of the matrices that are decomposed."""
        return min(self.design.size, len(self.weights))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of products and decompositions: float32 where responses are, rows are many, alphas not tiny."""
        return self._dtype()

    @property
    def backend(self) -> Backend:
        """Where products are computed: numpy if the backend lacks the precision."""
        return self._backend if self._backend.has_float64 or self.dtype == np.float32 else NumPy()

    def holding_out(self, train: BoolArray, search: SearchSpace) -> PreparedRows:
        """Prepare the training rows of a fold in the same way, the others being held out."""
        options: dict[str, Any] = {"dtype": self._response_dtype, "backend": self._backend}
        return PreparedRows(self.design, self._all_weights, search, train=train, **options)

    def ready(self, mixtures: FloatArray) -> list[Once[DecomposedMixture]]:
        """Return the decompositions of mixtures (n_mixtures, n_bands), each of which is made when it is called."""
        wanted: list[Mixture] = list(map(tuple, mixtures.tolist()))
        with self._lock:
            missing = [mixture for mixture in wanted if mixture not in self._decompositions]
            if missing:
                self._add(Once(self._split), missing)
            return [self._decompositions[mixture] for mixture in wanted]

    def of_mixture(self, mixture: FloatArray) -> DecomposedMixture:
        """Return the decomposition of one mixture (n_bands,)."""
        return self.ready(mixture[None])[0]()

    def _add(self, split: Once[SplitRows], mixtures: Sequence[Mixture]) -> None:
        for mixture in mixtures:
            self._decompositions[mixture] = Once(partial(self._decomposed, split, mixture))

    def _split(self) -> SplitRows:
        """Split the rows, and find the basis of those that are fitted."""
        design, held_out = self.design, list[FloatArray]()
        if not self.train.all():
            design, held_out = self.design.parted(self.train, self._all_weights, intercept=self.intercept)
        return SplitRows(design, design.basis(self.weights, intercept=self.intercept), held_out)

    def _chosen_dtype(self, split: Once[SplitRows], alphas: FloatArray) -> np.dtype[Any]:
        if self._response_dtype == np.float64 or len(self.weights) <= MAX_ROWS_IN_FLOAT64:
            return np.dtype(np.float64)

        def largest_eigenvalue() -> float:
            """Bound it for all mixtures, whose weights sum to 1, by the band whose row sums or trace are largest."""
            grams = [gram for gram in split().basis.grams if len(gram)]  # each (m, m)
            return max((min(float(np.abs(g).sum(0).max()), float(np.trace(g))) for g in grams), default=0.0)

        largest = bound(self.key, self.size, largest_eigenvalue)
        return np.dtype(np.float64 if alphas.min() < MIN_ALPHA_FRACTION * largest else np.float32)

    def _decomposed(self, split: Once[SplitRows], mixture: Mixture) -> DecomposedMixture:
        """Decompose sum_b gamma_b K_b = V diag(values) V' in the basis B of weighted rows, or read what was kept.

        directions = sqrt(W) B V, and ahead = sum_b gamma_b K_b(held out, fitted) directions.
        """
        dtype, backend = self.dtype, self.backend

        def make() -> DecomposedMixture:
            rows, gamma = split(), np.asarray(mixture)  # gamma: (n_bands,)
            values, vectors = backend.eigh(weighted_sum(gamma, rows.basis.grams), dtype)  # (m,), (m, m)
            values = np.maximum(values.astype(np.float64), 0)
            directions = backend.put(rows.basis.outward(vectors), dtype)  # (n_fitted, m)
            if not rows.held_out:
                return DecomposedMixture(values, directions)
            directions64 = backend.get(directions).astype(np.float64)
            ahead = np.sum(
                [
                    gamma_b * (new @ rows.design.applied(band, directions64))  # (n_held_out, m)
                    for band, (gamma_b, new) in enumerate(zip(gamma, rows.held_out, strict=True))
                    if gamma_b
                ],
                axis=0,
            )
            return DecomposedMixture(values, directions, backend.put(ahead, dtype))

        return decomposition(self.key, self.size, mixture, dtype=dtype, backend=backend, make=make)

    def targets(self, y: FloatArray) -> CentredResponses:
        """Take the weighted mean off the responses (n_fitted, n_voxels) of a tile, in float64."""
        valid = varying(y)  # (n_voxels,)
        # A voxel that is constant in these rows only, those of one fold perhaps, is not valid here, but needs its mean.
        finite = y if valid.all() else np.where(np.isfinite(y).all(0), y, 0)
        mean = self.weights @ finite / self.weights.sum() if self.intercept else np.zeros(y.shape[1])
        return CentredResponses(self.centred(finite, mean), mean, valid)

    def centred(self, y: FloatArray, intercept: FloatArray) -> Any:
        """Subtract the intercept in float64, and round to the working precision only then."""
        rows = np.empty(y.shape, dtype=self.dtype)
        np.subtract(y, intercept, out=rows, casting="same_kind")
        return self.backend.put(rows, self.dtype)

    def total(self, rows: Any) -> FloatArray:
        """Compute the weighted sum of squares of each voxel, (n_voxels,)."""
        return self.backend.get(self.backend.put(self.weights, self.dtype) @ (rows * rows)).astype(np.float64)
