"""Which stimuli's features are so alike that they are as good as one stimulus.

Three things look like duplicates in features and are none. Features that take few values (categories, counts, yes and
no) are equal for many different stimuli; their distances then are tied, as those of measured features never are. So
are features of few kinds, such as one caption for all images of a category: few different rows, each many times.
Features of few dimensions are crowded: for every pair that is near there are several a little further apart. And
neighbours can link neighbours into one long chain, of which most members are unlike each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.sparse import csgraph, csr_array

from latentcortex._arrays import BoolArray, FloatArray, IntArray, random_for

NEAR: Final = 0.995
"""Agreement of two rows' kernels from which they are as good as repeats: their squared distance is below 0.5 % of the
sum of their squared norms."""
EQUAL: Final = 1 - 1e-9
"""Agreement from which rows are repeats."""
SHELL: Final = 4
"""Ratio of squared distances up to which pairs are counted that are not quite near: twice the distance."""
CROWDED: Final = 3
"""Such pairs per near pair from which rows are crowded; p dimensions have 2 ** p - 1 by chance, duplicates none."""
N_DRAWN: Final = 200
"""Rows whose distances tell whether features take few values."""
TIED: Final = 1e-7
"""Relative difference below which two distances are one; kernels of float32 features are computed in float64."""
FEW_KINDS: Final = 20
"""Different rows fewer than which may be kinds of stimuli."""
MANY_OF_A_KIND: Final = 12
"""Rows per different row, on average, from which so few are kinds: more than the repeats that a stimulus often has."""
AT_ONCE: Final = 512
"""Rows that are compared with all others together."""

Kernel = Callable[[slice], FloatArray]
"""Some rows -> their kernel with all rows, (k, n_rows)."""


def duplicates(kernel: Kernel, size: FloatArray, *, most: float | None = None) -> IntArray:
    """List the pairs of rows that are near duplicates, over all bands together.

    Parameters
    ----------
    kernel : callable
        Slice of rows -> their kernel with all rows, summed over bands.
    size : ndarray of shape (n_rows,)
        The kernel's diagonal.
    most : float, optional
        Rows from which a group of near ones may be a chain; a fifth of all by default.

    Returns
    -------
    ndarray of int, shape (n_pairs, 2)
        The smaller number first, ascending. Empty where the features take few values: equal ones then say that two
        stimuli are of one kind, not that they are one. Only equal rows where features are crowded or chained.
    """
    n = len(size)
    if n < 2 or takes_few_values(kernel, size):
        return np.empty((0, 2), dtype=np.intp)
    near, equal, n_shell = [], [], 0
    floor = np.finfo(np.float64).eps * n * float(size.max())
    for rows in (slice(i, min(i + AT_ONCE, n)) for i in range(0, n, AT_ONCE)):
        mean = (size[rows, None] + size) / 2
        gap = mean - kernel(rows) - floor
        first, second = np.nonzero(gap <= SHELL * (1 - NEAR) * mean)
        after = second > first + rows.start
        first, second = first[after], second[after]
        ratio = gap[first, second] / np.maximum(mean[first, second], np.finfo(np.float64).tiny)
        inner = ratio <= 1 - NEAR
        n_shell += int((~inner).sum())
        near.append(np.stack([first + rows.start, second], axis=1)[inner])
        equal.append(ratio[inner] <= 1 - EQUAL)
    pairs, same = np.concatenate(near), np.concatenate(equal)
    crowded = n_shell > CROWDED * int((~same).sum())
    if crowded or _chained(pairs, n, n / 5 if most is None else most):
        return pairs[same]
    return pairs


def takes_few_values(kernel: Kernel, size: FloatArray) -> bool:
    """Tell categories, counts and the like from measured features: distances between unlike rows are mostly tied.

    Few different rows, each of them many times, are kinds whatever their distances; two alone are a yes and a no.
    """
    n = len(size)
    drawn = np.sort(random_for(0, "few values", n).permutation(n)[:N_DRAWN])
    inner = np.stack([kernel(slice(int(row), int(row) + 1))[0, drawn] for row in drawn])
    own = size[drawn]
    distance = own[:, None] + own - 2 * inner
    scale, n_drawn = float(own.mean()), len(drawn)
    if not scale > 0:
        return False
    _, first = np.unique((distance <= TIED * scale).argmax(1), return_index=True)
    each = np.sort(distance[np.ix_(first, first)][np.triu_indices(len(first), 1)])
    n_values = int((np.diff(each) > TIED * scale).sum()) + 1
    kinds = len(first) < FEW_KINDS and MANY_OF_A_KIND * len(first) <= n_drawn
    return kinds or len(first) == 2 or 2 * n_values <= len(each)


def _chained(pairs: IntArray, n: int, most: float) -> bool:
    """Tell whether a group of more than so many rows hangs together by some of its pairs only."""
    codes = labelled(n, pairs)
    sizes = np.bincount(codes)
    inside = np.bincount(codes[pairs[:, 0]], minlength=len(sizes))
    large = sizes > most
    return bool((inside[large] < sizes[large] * (sizes[large] - 1) / 4).any())


def labelled(n_rows: int, pairs: IntArray) -> IntArray:
    """Give rows that pairs link one number, (n_rows,)."""
    linked: BoolArray = np.ones(len(pairs), dtype=bool)
    links = csr_array((linked, (pairs[:, 0], pairs[:, 1])), shape=(n_rows, n_rows))
    codes: IntArray = csgraph.connected_components(links, directed=False)[1]
    return codes
