r"""The penalties and the mixtures of bands that are tried, and which of them belong to which model.

A mixture is a point of a simplex: one weight gamma_b of at least 0 per band, and the weights sum to 1. With two bands
the simplex is a line, and the search walks outwards from its middle, towards the side that was better:

    gamma of the first band    0      .05      .25      .5      .75      .95      1
                               o-------o--------o-------o--------o--------o-------o
    tried as number            5 <---- 3 <----- 1 <---- 0 -----> 2 -----> 4 ----> 6

Number 1 is tried in all voxels, number 2 where 0 is still the best, and each further one only where its neighbour on
the way is the best so far: most voxels need three of the seven. With three bands the simplex is a triangle:

                 first alone
                     o                     o   a band alone: a corner
                    / \                    h   a band has half of the weight
                   /   \                   e   equal parts, tried first
                  /  h  \                  x   drawn from a flat Dirichlet distribution
                 /x      \
                /    e   x\
               /  h     h  \
      second  o-------------o  third

A nested model, of some of the bands, searches a face of this simplex: on the edge between second and third the first
band weighs 0. Faces share their corners, so that a corner is decomposed once for all models that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, random_for
from latentcortex.errors import AlignmentError, InputError

TWO_BAND_WEIGHTS: Final = (0.5, 0.25, 0.75, 0.05, 0.95, 0.0, 1.0)
"""The weight of the first of two bands in each mixture, in the order in which mixtures are tried."""
TRY_AFTER: Final = (-1, -1, 0, 1, 2, 3, 4)
"""For each of these weights the position of the one that must be a voxel's best so far for it to be tried, or -1 where
it is always tried."""
N_DRAWN: Final = 4
"""Mixtures of three or more bands that are drawn at random, since a grid over the simplex would have too many."""


@dataclass(frozen=True)
class ModelCandidates:
    """The mixtures that one model may choose from: points on one face of the simplex.

    Parameters
    ----------
    bands : tuple of int
        Bands of the design that the model has.
    mixtures : tuple of int
        Rows of `SearchSpace.mixtures`, ascending; the first is tried in all voxels.
    after : tuple of int
        For each of them the row that must be a voxel's best so far for it to be tried, or -1 where none must. Empty
        where none must for any.
    gated : bool
        Whether a voxel in which the first mixture predicts next to nothing is tried no further. It may be so only where
        the first mixture has all bands of the model.
    """

    bands: tuple[int, ...]
    mixtures: tuple[int, ...]
    after: tuple[int, ...] = ()
    gated: bool = True


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """The candidates of a search, and how they are compared.

    Parameters
    ----------
    mixtures : ndarray of shape (n_mixtures, n_bands)
        Of all models together, each once.
    alphas : ndarray of shape (n_alphas,)
        Penalties, ascending.
    models : tuple of ModelCandidates
        One per model that is fitted.
    selection : {"gcv", "loo"}
        Whether candidates are compared by generalised cross-validation, or by leaving out one row at a time in closed
        form.
    folds : ndarray of int, shape (n_rows,), optional
        The fold of each row. With it candidates are compared by k-fold cross-validation instead.
    refine : bool
        Whether an alpha between two given ones may be chosen.
    fit_intercept : bool
    """

    mixtures: FloatArray
    alphas: FloatArray
    models: tuple[ModelCandidates, ...]
    selection: str = "gcv"
    folds: IntArray | None = None
    refine: bool = True
    fit_intercept: bool = True


def alphas_of(given: Sequence[float]) -> FloatArray:
    """Sort penalties ascending, each once; raise `InputError` unless all are above 0 and finite."""
    try:
        grid = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or grid.min() <= 0:
        raise InputError(f"alphas must be > 0 and finite; got {given!r}.")
    return np.unique(grid)


def mixtures_for(mixtures: FloatArray | str | None, n_bands: int, *, seed: int) -> FloatArray:
    """List the mixtures to try for a model of all bands, (n_mixtures, n_bands), and check those that were given.

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
    """List the mixtures that are tried by default; the drawing at the head of this module shows them.

    One band has one mixture. Two bands have seven, from one band alone to the other alone. Three or more have equal
    parts, each band with half of the weight, seeded draws from a flat Dirichlet distribution, and each band alone.
    Equal parts come first, so that they win where nothing distinguishes the mixtures; the others are tried only in
    voxels that equal parts predict.

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


def _mixtures_of_subset(
    mixtures: FloatArray | str | None, subset: Sequence[int], n_bands: int, *, seed: int
) -> FloatArray:
    """List the mixtures for the model of a subset of bands, (n_mixtures, n_bands); the other bands weigh 0.

    Mixtures that were given are restricted to the subset and scaled to sum to 1 again. By default they are the default
    mixtures for as many bands as the subset has.
    """
    columns = list(subset)
    if mixtures is None or isinstance(mixtures, str):
        gamma = mixtures_for(mixtures, len(columns), seed=seed)
    else:
        gamma = mixtures_for(mixtures, n_bands, seed=seed)[:, columns]
        gamma = gamma[gamma.sum(1) > 0]
        distinct = dict.fromkeys(map(tuple, (gamma / gamma.sum(1, keepdims=True)).tolist()))  # in the given order
        gamma = np.array(list(distinct)) if distinct else np.eye(len(columns))
    out = np.zeros((len(gamma), n_bands))
    out[:, columns] = gamma
    return out


def candidates_of(
    mixtures: FloatArray | str | None, subsets: Sequence[Sequence[int]], n_bands: int, *, seed: int
) -> tuple[FloatArray, tuple[ModelCandidates, ...]]:
    """List the mixtures of the models of several subsets of bands, each mixture once, and which of them each model has.

    Returns
    -------
    mixtures : ndarray of shape (n_mixtures, n_bands)
        A band alone, which many subsets share, comes last.
    models : tuple of ModelCandidates
        One per subset.
    """
    by_subset = [
        [tuple(row) for row in _mixtures_of_subset(mixtures, subset, n_bands, seed=seed).tolist()] for subset in subsets
    ]
    distinct = list(dict.fromkeys(row for rows in by_subset for row in rows))
    if mixtures is None:
        distinct.sort(key=lambda row: max(row) == 1.0)  # the sort is stable: the others keep their order
    number = {row: k for k, row in enumerate(distinct)}
    models = []
    for subset, rows in zip(subsets, by_subset, strict=True):
        order = np.array([number[row] for row in rows])
        walks_outwards = mixtures is None and len(subset) == 2
        after = np.array([-1 if k < 0 else order[k] for k in TRY_AFTER]) if walks_outwards else np.full(len(order), -1)
        ranked = np.argsort(order)
        ascending = tuple(order[ranked].tolist()), tuple(after[ranked].tolist())
        models.append(ModelCandidates(tuple(subset), *ascending, gated=mixtures is None))
    return np.array(distinct), tuple(models)
