"""Whether a voxel's shares would come out alike on other stimuli, from Gram matrices alone. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, arrays, by_band, random_for, refuse_beyond_memory, whole_number
from latentcortex.errors import AlignmentError, InputError
from latentcortex.executors import one_thread, share
from latentcortex.scoring import product_shares

MAX_MIXTURES: Final = 32
"""Mixtures that halves choose from; each costs a decomposition in each half."""

ALPHAS_PER_DECADE: Final = 4
"""Penalties that are told apart."""

MIXTURES_AT_ONCE: Final = 4
"""So many mixtures are tried at a time."""

MIN_ROWS: Final = 20
MIN_DRAWS: Final = 10


@one_thread()
def identifiability(
    grams: Mapping[str, FloatArray], mixtures: FloatArray, alphas: FloatArray, *, n_draws: int = 200, seed: int = 0
) -> FloatArray:
    r"""Predict the split-half reliability of each voxel's product shares.

    Banded ridge with mixture :math:`\gamma` and penalty :math:`\alpha` is the best guess of a Gaussian process, from
    which voxels like this one can be drawn:

    .. math:: y = \sum_b \sqrt{\gamma_b} f_b + \sqrt\alpha \varepsilon, \qquad f_b \sim N(0, K_b)

    Each drawn voxel is analysed twice, on two disjoint halves of the stimuli. In each half mixture and penalty are
    chosen by generalised cross-validation among those that the model has chosen for any voxel, every stimulus is
    predicted from all others of its half, and product shares of R² are computed. The result is the correlation over
    draws of the shares of the two halves.

    Choosing again matters: with a fixed mixture the shares of two collinear bands would be as reliable as their sum.
    Where the model had one mixture for all voxels, there is nothing to choose.

    What is predicted is the reliability within a population of voxels that have the same mixture and penalty. Over
    voxels that differ, shares correlate more. It is low where bands are collinear or noise is strong, and also where
    bands are so wide that voxels of one mixture have hardly different shares. On simulated data it is about .05 above
    what two halves give, since a fit's own choice of mixture is taken for the truth.

    Parameters
    ----------
    grams : mapping of str to ndarray of shape (n_rows, n_rows)
        Kernel of each band between the fitted stimuli, centred, of mean diagonal 1.
    mixtures : ndarray of shape (n_bands, n_voxels)
        Of the fitted model, in the order of `grams`; each voxel's sums to 1. More than 32 different ones count as the
        nearest of the 32 most frequent after rounding to .05.
    alphas : ndarray of shape (n_voxels,)
        Above 0, rounded to quarters of a decade; nan where the voxel is not fitted.
    n_draws : int
        At least 10. The standard error of a reliability is at most 1 / sqrt(n_draws).
    seed : int
        For the draws and the halves.

    Returns
    -------
    ndarray of shape (n_bands, n_voxels)
        In [-1, 1]; nan where the voxel is not fitted, and where the band's mixture is 0: the model gives it no share.

    Raises
    ------
    AlignmentError
        If shapes do not fit together.
    InputError
        If there are fewer than 20 stimuli or 10 draws, a Gram matrix is not finite, or a mixture or alpha is out of
        range.

    References
    ----------
    Dupré la Tour et al. (2022), doi:10.1016/j.neuroimage.2022.119728, for the model and its shares.
    """
    whole_number("n_draws", n_draws, least=MIN_DRAWS)
    kernels = [np.asarray(gram, dtype=np.float64) for gram in by_band("The Gram matrix", grams).values()]
    mixtures, alphas = arrays(mixtures=(mixtures, "n_bands n_voxels"), alphas=(alphas, "n_voxels"))
    fitted = _checked(kernels, mixtures, alphas)
    refuse_beyond_memory("n_draws", n_draws, 32 * len(kernels[0]) * (len(kernels) + 1))
    out = np.full(mixtures.shape, np.nan)
    if not fitted.size:
        return out
    candidates, nearest = _candidates(np.asarray(mixtures, dtype=np.float64)[:, fitted].T)
    step = np.round(ALPHAS_PER_DECADE * np.log10(alphas[fitted])).astype(int)
    kinds, kind = np.unique(np.stack([nearest, step], axis=1), axis=0, return_inverse=True)
    penalties = 10.0 ** (np.arange(step.min(), step.max() + 1) / ALPHAS_PER_DECADE)
    drawn = _Drawn.of(kernels, candidates[kinds[:, 0]], 10.0 ** (kinds[:, 1] / ALPHAS_PER_DECADE), n_draws, seed)
    order = random_for(seed, "halves").permutation(len(kernels[0]))
    halves = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    one, other = (_shares_of_half(kernels, rows, drawn, candidates, penalties) for rows in halves)
    out[:, fitted] = _correlated(one, other)[:, kind.reshape(-1)]
    return np.where(mixtures == 0, np.nan, out)


def _checked(kernels: Sequence[FloatArray], mixtures: FloatArray, alphas: FloatArray) -> IntArray:
    """Find which voxels are fitted."""
    shapes = {kernel.shape for kernel in kernels}
    if len(shapes) != 1 or any(len(shape) != 2 or shape[0] != shape[1] for shape in shapes):
        raise AlignmentError(f"Gram matrices must have one square shape; found {', '.join(map(str, sorted(shapes)))}.")
    if mixtures.shape != (len(kernels), len(alphas)):
        raise AlignmentError(f"mixtures are {mixtures.shape}; expected ({len(kernels)}, {len(alphas)}).")
    if len(kernels[0]) < MIN_ROWS:
        raise InputError(f"{len(kernels[0])} stimuli cannot be halved; needs at least {MIN_ROWS}.")
    if not all(np.isfinite(kernel).all() for kernel in kernels):
        raise InputError("A Gram matrix is not finite.")
    fitted = np.flatnonzero(np.isfinite(alphas) & np.isfinite(mixtures).all(0))
    chosen = mixtures[:, fitted]
    if not ((alphas[fitted] > 0).all() and (chosen >= 0).all() and np.allclose(chosen.sum(0), 1, atol=1e-4)):
        raise InputError("alphas must be above 0, and mixtures at least 0 and of sum 1.")
    return fitted


def _candidates(mixtures: FloatArray) -> tuple[FloatArray, IntArray]:
    """List the mixtures of the model, (n_mixtures, n_bands), the most frequent first, and which is each voxel's."""
    distinct, number, count = np.unique(mixtures, axis=0, return_inverse=True, return_counts=True)
    if len(distinct) > MAX_MIXTURES:
        rounded = np.round(mixtures * 20)
        distinct, number, count = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
        total = distinct.sum(1, keepdims=True)
        # Of very many bands all weights can round to 0.
        distinct = np.where(total > 0, distinct / np.maximum(total, 1), 1 / distinct.shape[1])
    order = np.argsort(-count, kind="stable")
    if len(distinct) <= MAX_MIXTURES:
        return distinct[order], np.argsort(order)[number.reshape(-1)]
    kept = distinct[order[:MAX_MIXTURES]]
    apart = ((distinct[:, None] - kept) ** 2).sum(2)
    return kept, apart.argmin(1)[number.reshape(-1)]


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Voxels drawn from the model: parts that all kinds of voxels share, and how a kind is mixed of them.

    Parameters
    ----------
    parts : ndarray of shape (n_bands + 1, n_rows, n_draws)
        The signal of each band, and noise, each of variance 1.
    mixing : ndarray of shape (n_kinds, n_bands + 1)
    """

    parts: FloatArray
    mixing: FloatArray

    @classmethod
    def of(
        cls, kernels: Sequence[FloatArray], mixtures: FloatArray, alphas: FloatArray, n_draws: int, seed: int
    ) -> _Drawn:
        """Draw signals with the covariance of each kernel, and noise, for voxels of these mixtures and noise levels."""

        def signal(band: int) -> FloatArray:
            values, vectors = np.linalg.eigh(kernels[band])
            normal = random_for(seed, "signal", band).standard_normal((len(values), n_draws))
            return np.asarray(vectors @ (np.sqrt(np.maximum(values, 0))[:, None] * normal))

        noise = random_for(seed, "noise").standard_normal((len(kernels[0]), n_draws))
        parts = np.stack([*share(signal, range(len(kernels))), noise])
        return cls(parts, np.sqrt(np.concatenate([mixtures, alphas[:, None]], axis=1)))


def _shares_of_half(
    kernels: Sequence[FloatArray], rows: IntArray, drawn: _Drawn, candidates: FloatArray, penalties: FloatArray
) -> FloatArray:
    """Analyse one half: product shares of each band, kind of voxel and draw, (n_bands, n_kinds, n_draws)."""
    parts = drawn.parts[:, rows] - drawn.parts[:, rows].mean(1, keepdims=True)
    of_half = [_centred(kernel[np.ix_(rows, rows)]) for kernel in kernels]
    bases = [_Basis.of(of_half, mixture, penalties) for mixture in candidates]

    def turned(basis: _Basis) -> FloatArray:
        return np.stack([basis.vectors.T @ part for part in parts])

    chosen, penalty = _chosen(bases, turned, drawn.mixing)
    shares = np.full((len(of_half), *chosen.shape), np.nan)
    for number, basis in enumerate(bases):
        solution, z = _Solution.of(basis, of_half), turned(basis)

        def split(kind: int, number: int = number, solution: _Solution = solution, z: FloatArray = z) -> None:
            draws = np.flatnonzero(chosen[kind] == number)
            if draws.size:
                mixed, y = (np.tensordot(drawn.mixing[kind], values[..., draws], axes=1) for values in (z, parts))
                shares[:, kind, draws] = product_shares(y, solution.left_out(mixed, penalty[kind, draws]))

        share(split, range(len(chosen)))
    return shares


def _chosen(
    bases: Sequence[_Basis], turned: Callable[[_Basis], FloatArray], mixing: FloatArray
) -> tuple[IntArray, IntArray]:
    """Choose the mixture and the penalty of each kind of voxel and draw, two of shape (n_kinds, n_draws).

    Few mixtures are tried at a time, and only the best so far is kept: errors of all of them, for every kind of voxel
    that a large map has, would take more memory than its models.
    """

    def errors(basis: _Basis) -> tuple[FloatArray, IntArray]:
        z = turned(basis)
        each = [basis.errors(np.tensordot(mix, z, axes=1)) for mix in mixing]
        return np.stack([error.min(0) for error in each]), np.stack([error.argmin(0) for error in each])

    ((least, penalty),) = share(errors, bases[:1])
    chosen = np.zeros(least.shape, dtype=np.intp)
    for start in range(1, len(bases), MIXTURES_AT_ONCE):
        tried = share(errors, bases[start : start + MIXTURES_AT_ONCE])
        for number, (error, of_mixture) in enumerate(tried, start):
            better = error < least  # of equal ones the first
            least[better], penalty[better], chosen[better] = error[better], of_mixture[better], number
    return chosen, penalty


@dataclass(frozen=True, eq=False)
class _Basis:
    """The eigenvectors of a mixture's kernel.

    Parameters
    ----------
    mixture : ndarray of shape (n_bands,)
    vectors : ndarray of shape (n, n)
    inverse : ndarray of shape (n, n_penalties)
        1 / (eigenvalue + penalty).
    penalties : ndarray of shape (n_penalties,)
    """

    mixture: FloatArray
    vectors: FloatArray
    inverse: FloatArray
    penalties: FloatArray

    @classmethod
    def of(cls, kernels: Sequence[FloatArray], mixture: FloatArray, penalties: FloatArray) -> _Basis:
        """Decompose the kernel of a mixture, and invert it with every penalty added."""
        weighted = [weight * kernel for weight, kernel in zip(mixture, kernels, strict=True)]
        values, vectors = np.linalg.eigh(np.sum(weighted, axis=0))
        return cls(mixture, vectors, 1 / (np.maximum(values, 0)[:, None] + penalties), penalties)

    def errors(self, z: FloatArray) -> FloatArray:
        """Score every penalty by generalised cross-validation, (n_penalties, n_draws); z are turned responses."""
        left = self.inverse * self.penalties
        # The intercept takes a degree of freedom.
        return np.asarray((left.T**2 @ (z * z)) / ((left.sum(0) - 1) ** 2)[:, None])


@dataclass(frozen=True, eq=False)
class _Solution:
    """Ridge with one mixture and every penalty.

    Parameters
    ----------
    basis : _Basis
    bands : ndarray of shape (n_bands, n, n)
        Each band's kernel, weighted, times the eigenvectors.
    diagonal : ndarray of shape (n, n_penalties)
        Of the inverse, without the direction of the intercept.
    own : ndarray of shape (n_bands, n, n_penalties)
        The diagonal of each band's kernel, weighted, times the inverse.
    """

    basis: _Basis
    bands: FloatArray
    diagonal: FloatArray
    own: FloatArray

    @classmethod
    def of(cls, basis: _Basis, kernels: Sequence[FloatArray]) -> _Solution:
        """Compute what predictions without each stimulus need of every band, for all penalties."""
        u, inverse = basis.vectors, basis.inverse
        bands = np.stack([weight * (kernel @ u) for weight, kernel in zip(basis.mixture, kernels, strict=True)])
        diagonal = u**2 @ inverse - 1 / (len(u) * basis.penalties)
        return cls(basis, bands, diagonal, (bands * u) @ inverse)

    def left_out(self, z: FloatArray, penalty: IntArray) -> FloatArray:
        """Predict each stimulus by each band from all other stimuli, (n_bands, n, n_draws).

        Without stimulus i dual weights c are less by column i of the inverse, times c_i over the inverse's diagonal.
        """
        solved = z * self.basis.inverse[:, penalty]
        residual = (self.basis.vectors @ solved) / self.diagonal[:, penalty]
        return np.asarray(self.bands @ solved - self.own[:, :, penalty] * residual)


def _centred(kernel: FloatArray) -> FloatArray:
    return np.asarray(kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean())


def _correlated(one: FloatArray, other: FloatArray) -> FloatArray:
    """Correlate over the last axis; nan where nothing varies."""
    a, b = (values - values.mean(-1, keepdims=True) for values in (one, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.asarray(np.clip(r, -1, 1))
