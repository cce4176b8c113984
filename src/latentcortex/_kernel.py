"""Products of all pairs of rows of a matrix that is too wide to hold, read panel by panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.executors import share

COLUMNS_AT_ONCE: Final = 2048
PANEL: Final = 250
"""Rows that are multiplied with others at once; whole blocks of a store."""
HELD_BYTES: Final = 2**30
"""Memory for features while their products are computed; one panel more is read beside."""

KernelPanel = tuple[slice, FloatArray]
"""Which rows, and their values."""


def products(read: Callable[[slice], FloatArray], n_rows: int) -> tuple[FloatArray, BoolArray]:
    """Compute the products of all pairs of rows, less one common offset, reading panels of rows as they are needed.

    Also tell which columns vary over rows.

    The offset is the mean of the first panel, so that a large common one does not reach the products. Panels are the
    same whatever is held in memory, and so are the bits.
    """
    panels = [slice(start, min(start + PANEL, n_rows)) for start in range(0, n_rows, PANEL)]
    offset, n_held, row = _first_look(read(panels[0]))
    gram, varies = np.empty((n_rows, n_rows)), np.zeros(len(row), dtype=bool)
    for start in range(0, len(panels), n_held):
        held = [(rows, read(rows)) for rows in panels[start : start + n_held]]
        for _, values in held:
            varies |= (values != row).any(axis=0)
        for k in range(len(held)):
            _fill(gram, held[: k + 1], held[k], offset)
        for rows in panels[start + n_held :]:
            _fill(gram, held, (rows, read(rows)), offset)
        del held, values  # before the next are read
    return gram, varies


def _first_look(panel: FloatArray) -> tuple[FloatArray, int, FloatArray]:
    """Find an offset that all rows may share, how many panels to hold in memory, and the first row."""
    return panel.mean(0, dtype=np.float64), max(1, HELD_BYTES // panel.nbytes), panel[0].copy()


def _fill(gram: FloatArray, held: Sequence[KernelPanel], other: KernelPanel, offset: FloatArray) -> None:
    """Write the products of some panels with another one, on both sides of the diagonal."""
    columns, their_columns = other
    tiles = share(lambda panel: _tile(panel[1], their_columns, offset), held)
    for (rows, _), tile in zip(held, tiles, strict=True):
        gram[rows, columns] = tile
        gram[columns, rows] = tile.T


def _tile(one: FloatArray, other: FloatArray, offset: FloatArray) -> FloatArray:
    """Multiply two panels of rows, some columns at a time."""
    tile = np.zeros((len(one), len(other)))
    for start in range(0, one.shape[1], COLUMNS_AT_ONCE):
        columns = slice(start, start + COLUMNS_AT_ONCE)
        centred = one[:, columns] - offset[columns]
        there = centred if one is other else other[:, columns] - offset[columns]
        tile += centred @ there.T
    return tile
