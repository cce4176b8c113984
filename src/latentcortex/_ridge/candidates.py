"""The penalties and the mixtures of bands that are tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, random_for
from latentcortex._ridge.search import ModelCandidates
from latentcortex.errors import AlignmentError, InputError

TWO_BAND_WEIGHTS: Final = (0.5, 0.25, 0.75, 0.05, 0.95, 0.0, 1.0)
"""The weight of the first of two bands in each mixture that is tried, in the order in which they are tried."""
TRY_AFTER: Final = (-1, -1, 0, 1, 2, 3, 4)
"""For each weight, the position of the one that must be a voxel's best so far for it to be tried, or -1 for always: the
search goes on outwards on the side that was better."""
N_DRAWN: Final = 4


def alphas_of(given: Sequence[float]) -> FloatArray:
    """Return penalties ascending, each once; raise `InputError` unless all are above 0 and finite."""
    try:
        grid = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() <= 0:
        raise InputError(f"alphas must be > 0 and finite; got {given!r}.")
    return np.unique(grid)


def mixtures_for(mixtures: FloatArray | str | None, n_bands: int, *, seed: int) -> FloatArray:
    """Return the mixtures to try, (n_mixtures, n_bands); check those that were given.

    Raises
    ------
    AlignmentError
        If they are not for this number of bands.
    InputError
        If one is negative or does not sum to 1, or a word is not "equal".
    """
    if mixtures is None:
        return default_mixtures(n_bands, seed=seed)
    if isinstance(mixtures, str):
        if mixtures != "equal":
            raise InputError(f"mixtures must be 'equal' or (n_mixtures, {n_bands}) numbers; got {mixtures!r}.")
        return np.full((1, n_bands), 1 / n_bands)
    gamma = np.asarray(mixtures, dtype=np.float64)
    if gamma.ndim != 2 or len(gamma) == 0 or gamma.shape[1] != n_bands:
        raise AlignmentError(f"mixtures are {gamma.shape}; expected (n_mixtures, {n_bands}), one column per band.")
    if not (gamma.min() >= 0 and np.allclose(gamma.sum(1), 1)):
        raise InputError("mixtures must be at least 0 and each sum to 1.")
    return gamma


def default_mixtures(n_bands: int, *, seed: int) -> FloatArray:
    """List the mixtures tried by default.

    One band: itself. Two: seven from the one alone to the other alone, of which the next is tried only where the
    last step in its direction was the best so far. More: equal parts, each band with half of the weight, seeded
    draws from a flat Dirichlet distribution, and each band alone. Equal parts come first: they win where nothing
    distinguishes the mixtures, and the others are tried only where they find anything.

    Returns
    -------
    ndarray of shape (n_mixtures, n_bands)
        Rows sum to 1.
    """
    if n_bands == 1:
        return np.ones((1, 1))
    if n_bands == 2:
        return np.stack([np.array(TWO_BAND_WEIGHTS), 1 - np.array(TWO_BAND_WEIGHTS)], axis=1)
    alone = np.eye(n_bands)
    equal = np.full((1, n_bands), 1 / n_bands)
    half = 0.5 * alone + 0.5 * (1 - alone) / (n_bands - 1)
    drawn = random_for(seed, "mixtures", n_bands).dirichlet(np.ones(n_bands), size=N_DRAWN)
    return np.concatenate([equal, half, drawn, alone])


def within(mixtures: FloatArray | str | None, subset: Sequence[int], n_bands: int, *, seed: int) -> FloatArray:
    """List the mixtures for the model of a subset of bands, (n_mixtures, n_bands), 0 for the others.

    Those that were given are restricted to the subset; by default they are the defaults of so many bands.
    """
    bands_of_model = list(subset)
    if mixtures is None or isinstance(mixtures, str):
        inner = mixtures_for(mixtures, len(bands_of_model), seed=seed)
    else:
        inner = mixtures_for(mixtures, n_bands, seed=seed)[:, bands_of_model]
        inner = inner[inner.sum(1) > 0]
        rows = dict.fromkeys(map(tuple, (inner / inner.sum(1, keepdims=True)).tolist()))  # each once, in their order
        inner = np.array(list(rows)) if rows else np.eye(len(bands_of_model))
    out = np.zeros((len(inner), n_bands))
    out[:, bands_of_model] = inner
    return out


def faces_of(
    mixtures: FloatArray | str | None, subsets: Sequence[Sequence[int]], n_bands: int, *, seed: int
) -> tuple[FloatArray, tuple[ModelCandidates, ...]]:
    """List the mixtures of all subsets, each once, and which of them every subset has.

    Returns
    -------
    mixtures : ndarray of shape (n_mixtures, n_bands)
        A band alone, which many subsets share, comes last.
    faces : tuple of ModelCandidates
        One per subset.
    """
    by_subset = [[tuple(row) for row in within(mixtures, subset, n_bands, seed=seed).tolist()] for subset in subsets]
    distinct = list(dict.fromkeys(row for rows in by_subset for row in rows))
    if mixtures is None:
        distinct.sort(key=lambda row: max(row) == 1.0)  # stable: otherwise as they came
    number = {row: k for k, row in enumerate(distinct)}
    faces = []
    for subset, rows in zip(subsets, by_subset, strict=True):
        order = np.array([number[row] for row in rows])
        adaptive = mixtures is None and len(subset) == 2
        after = np.array([-1 if k < 0 else order[k] for k in TRY_AFTER]) if adaptive else np.full(len(order), -1)
        ranked = np.argsort(order)
        both = tuple(order[ranked].tolist()), tuple(after[ranked].tolist())
        faces.append(ModelCandidates(tuple(subset), *both, gated=mixtures is None))
    return np.array(distinct), tuple(faces)
