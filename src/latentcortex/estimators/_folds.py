"""Which rows of a fit must share a fold when alpha and mixture are chosen."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, same_length
from latentcortex._duplicates import duplicates
from latentcortex._ridge import Design
from latentcortex.errors import InputError
from latentcortex.splits import Splits, linked

logger = logging.getLogger(__name__)

MIN_AUTOCORRELATION: Final = 0.2
"""Mean correlation of neighbouring rows, of features and of responses, above which their order is time."""
MAX_VOXELS: Final = 512
"""Number of evenly spaced voxels in which autocorrelation of rows is measured, at most."""


_logged: ContextVar[set[str] | None] = ContextVar("_logged", default=None)
"""Sentences that were logged within `logging_once`."""


@contextmanager
def logging_once() -> Iterator[None]:
    """Log each finding about rows once for all fits of the block: those of one model to several folds."""
    token = _logged.set(set())
    try:
        yield
    finally:
        _logged.reset(token)


def _log_once(level: int, sentence: str) -> None:
    """Log a sentence unless it was logged within the same `logging_once`."""
    logged = _logged.get()
    if logged is None or sentence not in logged:
        logger.log(level, sentence)
    if logged is not None:
        logged.add(sentence)


def groups_of(
    design: Design, y: FloatArray, groups: Sequence[str] | None, *, n_splits: int, logs: bool = True
) -> tuple[list[str], bool]:
    """Name the group of each row that may not straddle folds.

    Rows that nearly repeat each other, or share a group, go together; so do stretches of neighbouring rows where
    both features and responses are autocorrelated, unless repeats link them all, or all groups differ: then rows are
    said to be independent, and a table that is sorted by category is as autocorrelated as a time series.

    Parameters
    ----------
    design : Design
    y : ndarray of shape (n_rows, n_voxels)
    groups : sequence of str, optional
    n_splits : int
    logs : bool
        Whether it is logged that rows are autocorrelated.

    Returns
    -------
    names : list of str
        One per row.
    dependent : bool
        Whether rows are repeated or autocorrelated.
    """
    names = near_duplicates(design, groups, n_splits=n_splits)
    repeated = len(set(names)) < 0.95 * len(names)
    independent = groups is not None and len(set(groups)) == len(groups)
    diagonal = float(design.diagonal().sum())
    of_features = float(design.diagonal(1).sum()) / diagonal if diagonal > 0 else 0.0
    if independent or min(of_features, _lag_one_of_responses(y)) < MIN_AUTOCORRELATION:
        return names, repeated
    stretches = np.arange(len(names)) * n_splits // len(names)
    if repeated:
        if logs:
            _log_once(
                logging.WARNING,
                "Rows are autocorrelated, and repeats link distant ones: folds for penalties only group repeats.",
            )
        return names, True
    if logs:
        _log_once(logging.INFO, "Neighbouring rows are correlated: folds for penalties are stretches of rows.")
    return [str(k) for k in stretches], True


def _lag_one_of_responses(y: FloatArray) -> float:
    """Average the correlation of neighbouring rows over voxels that vary."""
    step = -(-y.shape[1] // MAX_VOXELS)
    centred = np.asarray(y[:, ::step], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = centred - centred.mean(0)
        correlations = (centred[1:] * centred[:-1]).sum(0) / (centred * centred).sum(0)
    return float(np.mean(correlations[np.isfinite(correlations)])) if np.isfinite(correlations).any() else 0.0


def near_duplicates(design: Design, groups: Sequence[str] | None, *, n_splits: int = 5) -> list[str]:
    """Name the group of each row: rows that nearly repeat each other, or share a group, go together.

    Two rows nearly repeat each other if their squared distance is below 0.5 % of the sum of their squared norms, over
    all bands together. Equal rows of features that take few values (categories, counts) or are of few kinds (captions
    of categories) do not: they are different stimuli of one kind. Where bands have few dimensions, rows are crowded or
    chains of neighbours link everything, and then only equal rows count; see `_duplicates`.

    Parameters
    ----------
    design : Design
    groups : sequence of str, optional
    n_splits : int

    Returns
    -------
    list of str
    """
    if groups is not None:
        same_length(rows=range(design.n_rows), groups=groups)
    pairs, _ = duplicates(design.joint, design.diagonal(), most=design.n_rows / n_splits)
    return linked(design.n_rows, *([] if groups is None else [groups]), pairs=pairs)


def folds_of(groups: Sequence[str], n_splits: int, *, seed: int) -> IntArray:
    """Deal grouped rows into folds, (n_rows,).

    Raises
    ------
    InputError
        If there are fewer groups than folds.
    """
    n_groups = len(set(groups))
    if n_groups < n_splits:
        problem = "all repeat each other" if n_groups == 1 else f"are {n_groups} groups of repeats"
        raise InputError(
            f"{len(groups)} rows {problem}; {n_splits} folds need at least {n_splits} different rows to choose alpha. "
            "Fit on more stimuli, set a smaller cv, or selection = 'gcv' where they are different stimuli."
        )
    ids = [str(i) for i in range(len(groups))]
    return Splits.k_fold(ids, n_splits, groups=groups, seed=seed).fold
