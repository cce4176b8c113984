"""himalaya's multiple-kernel ridge, the field's reference, behind the same face."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np

from latentcortex._arrays import TILE, BoolArray, FloatArray, by_band, labels, listed, varying, whole_number
from latentcortex._methods import software
from latentcortex._ranges import Alphas, Count, FoldCount, OneOf, PositiveCount
from latentcortex._ridge import Kernels
from latentcortex._ridge.candidates import alphas_of, mixtures_for
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators import _methods
from latentcortex.estimators._folds import folds_of, near_duplicates
from latentcortex.estimators._rows import Bands, FittedRows, check_finite, checked_weights, responses
from latentcortex.estimators.banded_ridge import ALPHAS
from latentcortex.executors import one_thread

logger = logging.getLogger(__name__)

BATCHES: Final = {"n_targets_batch": 1000, "n_alphas_batch": 5, "n_targets_batch_refit": 200}
"""What bounds its memory, as its documentation recommends."""
TILES_AT_ONCE: Final = 16
"""Of voxels, where these come piece by piece: each fit begins from nothing."""
BACKENDS: Final = ("numpy", "torch", "torch_cuda", "torch_mps", "cupy")
"""What himalaya computes with."""
MIN_WEIGHT: Final = 1e-6
"""A mixture's weight of exactly 0 becomes this: after a 0, himalaya's search returns nan."""


_turn = threading.Condition()
_users: list[tuple[str, Any]] = []
"""The backend that is in use, and the one before it, once for each thread that uses it."""


@contextmanager
def _backend(name: str) -> Iterator[Any]:
    """Set himalaya's backend, and put the old one back whatever happens.

    The backend is the process's. Threads that want the same one share it, the first sets it and the last puts the old
    one back; whoever wants another waits until then.
    """
    from himalaya.backend import get_backend, set_backend

    with _turn:
        _turn.wait_for(lambda: all(user == name for user, _ in _users))
        before = _users[0][1] if _users else get_backend()
        try:
            backend = set_backend(name)
        except (ImportError, RuntimeError, ValueError) as error:
            raise InputError(f"himalaya's backend {name!r} cannot be used here: {error}") from None
        _users.append((name, before))
    try:
        yield backend
    finally:
        with _turn:
            _users.pop()
            if not _users:
                set_backend(before)
                _turn.notify_all()


@dataclass
class Himalaya:
    """Multiple-kernel ridge by himalaya's random search over mixtures, in float32.

    Each fit decomposes anew, so that voxels are best fitted many at once: `voxels_at_once` of them, where they come
    piece by piece.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    mixtures : ndarray of shape (n_mixtures, n_bands), "equal" or "dirichlet", optional
        As in `BandedRidge`; "dirichlet" draws them as himalaya does by default, `n_iter` of them.
    n_iter : int
        Draws of "dirichlet".
    scale : {"trace", None}
        As in `BandedRidge`.
    cv : int
        Folds, grouped.
    backend : str
        himalaya's backend.
    seed : int
        For the folds and the draws of mixtures.

    Attributes
    ----------
    alphas_, mixtures_, cv_scores_, coef_, intercept_, offset_
        As in `BandedRidge`.

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728
    """

    alphas: Alphas = ALPHAS
    mixtures: FloatArray | Literal["equal", "dirichlet"] | None = None
    n_iter: PositiveCount = 20
    scale: Literal["trace"] | None = "trace"
    cv: FoldCount = 5
    backend: Annotated[str, OneOf(BACKENDS)] = "numpy"
    seed: Count = field(default=0, kw_only=True)
    voxels_at_once: ClassVar[int] = TILES_AT_ONCE * TILE
    bands: tuple[str, ...] = field(default=(), init=False)
    _rows: FittedRows | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        """Check parameters, which may be set at any time."""
        alphas_of(self.alphas)
        if self.scale not in ("trace", None):
            raise InputError(f"scale must be 'trace' or None; got {self.scale!r}.")
        whole_number("cv", self.cv, least=2)
        whole_number("n_iter", self.n_iter, least=1)

    def check(self, groups: Sequence[str], n_bands: Sequence[int] = ()) -> None:
        """Raise unless the backend is here, rows of these groups fill the folds, and mixtures have so many bands."""
        self._check()
        for n in n_bands:
            self._candidates(n)
        with _backend(self.backend):
            folds_of(groups, self.cv, seed=self.seed)

    @one_thread()
    def fit(
        self,
        bands: Bands,
        y: FloatArray,
        *,
        groups: Sequence[str] | None = None,
        sample_weight: FloatArray | None = None,
    ) -> Self:
        """Fit from feature arrays, through their kernels; arguments as in `BandedRidge.fit`."""
        y = responses(y)
        w = checked_weights(sample_weight, len(y))
        rows = FittedRows.fit(bands, y, weights=w, centre=True, scale=self.scale is not None)
        self.fit_gram(rows.kernels, y, groups=groups, sample_weight=w)
        self._rows = rows
        return self

    @one_thread()
    def predict(self, bands: Bands, *, split: bool = False, voxels: slice = slice(None)) -> FloatArray:
        """Predict from feature arrays, as `BandedRidge.predict` does."""
        parts = self.predict_gram(self._fitted_rows.kernels_with(bands), voxels=voxels)
        return parts if split else np.asarray(parts.sum(0) + self.offset_[voxels])

    @property
    def coef_(self) -> dict[str, FloatArray] | FloatArray:
        """Weights in the units of the features that were given: float64 (n_dims, n_voxels), by band if bands were."""
        return self._fitted_rows.coefficients(self.dual(), self.mixtures_)

    @property
    def intercept_(self) -> FloatArray:
        """What is predicted where all features, or after `fit_gram` all kernels, are 0; float64 (n_voxels,)."""
        return self.offset_ if self._rows is None else self._rows.intercept(self.offset_, self.dual, self.mixtures_)

    @property
    def _fitted_rows(self) -> FittedRows:
        if self._rows is None:
            raise InputError("This was not fitted on feature arrays: Gram matrices do not tell single features.")
        return self._rows

    @one_thread()
    def fit_gram(
        self,
        grams: Mapping[str, FloatArray],
        y: FloatArray,
        *,
        sample_weight: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Self:
        """Fit from one Gram matrix per band; rows are weighted by scaling them."""
        from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

        y, grams = responses(y), by_band("The Gram matrix", grams)
        if any(gram.shape != (len(y), len(y)) for gram in grams.values()):
            shapes = listed(f"{b} {g.shape}" for b, g in grams.items())
            raise AlignmentError(f"Gram matrices must be ({len(y)}, {len(y)}) as the responses are; got {shapes}.")
        check_finite(grams)
        if groups is not None:
            groups = labels("groups", groups, len(y)).tolist()
        self.bands, self._rows = tuple(grams), None
        self._check()
        valid = self._valid_of(y)
        w = checked_weights(sample_weight, len(y))
        self._root = np.sqrt(w)
        valid_responses = y[:, valid]
        self.offset_ = self._everywhere(w @ valid_responses / w.sum())
        names = near_duplicates(Kernels(list(grams.values())), groups, n_splits=self.cv)
        fold = folds_of(names, self.cv, seed=self.seed)
        centred = (valid_responses - self.offset_[valid]) * self._root[:, None]
        # A power of two scales without rounding; in it no square of float32 overflows or vanishes.
        unit = np.ldexp(1.0, np.frexp(np.abs(centred).max(0))[1])
        centred /= unit
        folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
        with _backend(self.backend) as backend:
            log_weights, dual, scores, alphas = solve_multiple_kernel_ridge_random_search(
                backend.asarray(np.stack([self._weighted(gram) for gram in grams.values()]), dtype="float32"),
                backend.asarray(centred, dtype="float32"),
                n_iter=self._candidates(len(grams)),
                alphas=backend.asarray(np.asarray(self.alphas), dtype="float32"),
                cv=folds,
                return_weights="dual",
                return_alphas=True,
                progress_bar=False,
                random_state=self.seed,
                **BATCHES,
            )
            self._gamma = np.exp(backend.to_numpy(log_weights)).astype(np.float64)
            self._dual = backend.to_numpy(dual) * self._root[:, None] * unit
            loss = -backend.to_numpy(scores).max(0).astype(np.float64)
            self.alphas_ = self._everywhere(backend.to_numpy(alphas).astype(np.float64))
        self.mixtures_ = self._everywhere(self._gamma / self._gamma.sum(0))
        loss_of_intercept = np.mean([(centred[test] ** 2).mean(0) for _, test in folds], axis=0)
        self.cv_scores_ = self._everywhere(1 - loss / loss_of_intercept)
        return self

    @one_thread()
    def predict_gram(self, grams: Mapping[str, FloatArray], *, voxels: slice = slice(None)) -> FloatArray:
        """Predict from each band, (n_bands, n_new, n_voxels), without `offset_`."""
        grams = by_band("The Gram matrix", grams)
        if tuple(grams) != self.bands:
            raise AlignmentError(f"Fitted on {listed(self.bands)}; asked to predict from {listed(grams)}.")
        parts = [(gram @ self._dual) * self._gamma[b] for b, gram in enumerate(grams.values())]
        return np.stack([self._everywhere(part)[:, voxels] for part in parts]).astype(np.float32)

    def dual(self, voxels: slice = slice(None)) -> FloatArray:
        """Return the dual weights, (n_rows, n_voxels): band b predicts mixture_b K_b(new, fitted) @ dual."""
        return self._everywhere(self._dual.astype(np.float64) * self._gamma.sum(0))[:, voxels]

    @property
    def parameters(self) -> dict[str, Any]:
        """What made it, for the record."""
        return {"name": "himalaya", "cv": self.cv, "backend": self.backend, "seed": self.seed}

    def methods(self, *, joint: bool) -> str:
        """Write what it does for a methods section; `joint` tells whether any model has several bands."""
        by = f"{self.cv} folds of stimuli"
        choice = _methods.choice(self.alphas, self.mixtures, joint=joint, refine=False, by=by)
        model = _methods.model(self.mixtures, joint=joint)
        return _methods.fitted(self.scale, model, choice, by=f"himalaya's random search, called from {software()}")

    def _candidates(self, n_bands: int) -> FloatArray | int:
        if isinstance(self.mixtures, str) and self.mixtures == "dirichlet":
            return self.n_iter
        return np.maximum(mixtures_for(self.mixtures, n_bands, seed=self.seed), MIN_WEIGHT)

    def _weighted(self, gram: FloatArray) -> FloatArray:
        return np.asarray(gram * np.outer(self._root, self._root))

    def _valid_of(self, y: FloatArray) -> BoolArray:
        self._valid = varying(y)
        n_lost = int((~self._valid).sum())
        if n_lost == y.shape[1]:
            raise InputError(f"0 of {n_lost} voxels are usable: each has a value that is not finite, or is constant.")
        if n_lost:
            logger.debug("%d of %d voxels are not finite or do not vary: they are nan.", n_lost, y.shape[1])
        return self._valid

    def _everywhere(self, values: FloatArray) -> FloatArray:
        """Put values of valid voxels (..., n_valid) in their places among all; nan elsewhere."""
        out = np.full((*values.shape[:-1], len(self._valid)), np.nan)
        out[..., self._valid] = values
        return out
