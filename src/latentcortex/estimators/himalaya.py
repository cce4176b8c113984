"""himalaya's multiple-kernel ridge, the field's reference, behind the same face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from latentcortex._arrays import FloatArray, listed, one_thread
from latentcortex.errors import AlignmentError
from latentcortex.estimators.banded_ridge import (
    ALPHAS,
    check_finite,
    checked_weights,
    folds_of,
    mixtures_for,
    near_duplicates,
)


@contextmanager
def _backend(name: str) -> Iterator[Any]:
    """Set himalaya's global backend, and put the old one back whatever happens."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend()
    try:
        yield set_backend(name)
    finally:
        set_backend(before)


@dataclass
class Himalaya:
    """Multiple-kernel ridge by himalaya's random search over mixtures.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    mixtures : ndarray of shape (n_mixtures, n_bands), optional
        Tried as given; `default_mixtures` otherwise (a weight of exactly 0 becomes 1e-6, on which the
        search depends).
    cv : int
        Folds, grouped.
    backend : str
        himalaya's backend.
    seed : int

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728
    """

    alphas: Sequence[float] = ALPHAS
    mixtures: FloatArray | None = None
    cv: int = 5
    backend: str = "numpy"
    seed: int = field(default=0, kw_only=True)
    bands: tuple[str, ...] = field(default=(), init=False)

    @one_thread()
    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        weights: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one Gram matrix per band; rows are weighted by scaling them."""
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

        self.bands = tuple(grams)
        check_finite(y, grams)
        w = checked_weights(weights, len(y))
        self._root = np.sqrt(w)
        self._intercept = w @ y / w.sum()
        fold = folds_of(near_duplicates(list(grams.values()), groups, n_splits=self.cv), self.cv, seed=self.seed)
        mixtures = mixtures_for(self.mixtures, len(grams), seed=self.seed)
        with _backend(self.backend) as backend:
            log_weights, dual, _ = solve_multiple_kernel_ridge_random_search(
                np.stack([self._weighted(gram) for gram in grams.values()]).astype(np.float32),
                ((y - self._intercept) * self._root[:, None]).astype(np.float32),
                n_iter=np.maximum(mixtures, 1e-6),
                alphas=np.asarray(self.alphas),
                cv=[(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)],
                return_weights="dual",
                progress_bar=False,
                random_state=self.seed,
            )
            self._gamma = np.exp(backend.to_numpy(log_weights)).astype(np.float64)
            self._dual = backend.to_numpy(dual) * self._root[:, None]
        return self

    @one_thread()
    def predict_gram(self, grams: Mapping[str, FloatArray]) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels), without the intercept."""
        if tuple(grams) != self.bands:
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(grams)}.")
        parts = [(gram @ self._dual) * self._gamma[b] for b, gram in enumerate(grams.values())]
        return np.stack(parts).astype(np.float32)

    @property
    def intercept_(self) -> FloatArray:
        """The intercept of each voxel, (n_voxels,)."""
        return np.asarray(self._intercept)

    @property
    def parameters(self) -> dict[str, Any]:
        """What made it, for the record."""
        return {"name": "himalaya", "cv": self.cv, "backend": self.backend, "seed": self.seed}

    def _weighted(self, gram: FloatArray) -> FloatArray:
        return np.asarray(gram * np.outer(self._root, self._root))
