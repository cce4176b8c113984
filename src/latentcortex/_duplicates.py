"""Which stimuli's features are so alike that they are as good as one stimulus.

Three things look like duplicates in features and are none. Features that take few values (categories, counts, yes and
no) are equal for many different stimuli; their distances then are tied, as those of measured features never are. So
are features of few kinds, such as one caption for all images of a category: few different rows, each many times.
Features of few dimensions are crowded: pairs are near by chance, or there are several a little further apart for every
one that is near. And neighbours can link neighbours into one long chain, of which most members are unlike each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy import stats
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
BY_CHANCE: Final = 0.05
"""Near pairs that Gaussian features of as many effective dimensions would have, per near pair, from which rows are
crowded."""
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


def duplicates(
    kernel: Kernel, size: FloatArray, *, most: float | None = None, kinds: bool = False
) -> tuple[IntArray, float]:
    """List the pairs of rows that are near duplicates, over all bands together.

    Parameters
    ----------
    kernel : callable
        Slice of rows -> their kernel with all rows, summed over bands.
    size : ndarray of shape (n_rows,)
        The kernel's diagonal.
    most : float, optional
        Rows from which a group of near ones may be a chain; a fifth of all by default.
    kinds : bool
        Whether equal rows are pairs where features take few values: they say that two stimuli are of one kind, not
        that they are one.

    Returns
    -------
    pairs : ndarray of int, shape (n_pairs, 2)
        The smaller number first, ascending. Only equal rows where features are crowded, chained or take few values.
    agreement : float
        That pairs have at least, see `agree`: `NEAR`, or `EQUAL` where only equal rows are pairs.
    """
    n = len(size)
    few = n >= 2 and takes_few_values(kernel, size)
    if n < 2 or (few and not kinds):
        return np.empty((0, 2), dtype=np.intp), EQUAL
    near, equal, sums, n_shell, squares = [], [], [], 0, 0.0
    for start in range(0, n, AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, n))
        inner = kernel(rows)
        sums.append(inner.sum(1))
        squares += float((inner * inner).sum())
        distance = _distance(inner, size[rows], size)
        first, second = np.nonzero(distance <= SHELL * (1 - NEAR))
        after = second > first + start
        first, second = first[after], second[after]
        distance = distance[first, second]
        n_shell += int((distance > 1 - NEAR).sum())
        near.append(np.stack([first + start, second], axis=1)[distance <= 1 - NEAR])
        equal.append(distance[distance <= 1 - NEAR] <= 1 - EQUAL)
    pairs, same = np.concatenate(near), np.concatenate(equal)
    n_near = int((~same).sum())
    crowded = n_shell > CROWDED * n_near or _near_by_chance(size, np.concatenate(sums), squares) > BY_CHANCE * n_near
    if few or crowded or _chained(pairs, n, n / 5 if most is None else most):
        return pairs[same], EQUAL
    return pairs, NEAR


def agree(kernel: FloatArray, size: FloatArray, other: FloatArray, agreement: float) -> BoolArray:
    """Tell which rows and columns of a kernel agree so far, by the squared norms of both; (n_rows, n_columns).

    Agreement is 1 less the squared distance over the sum of the squared norms.
    """
    return np.asarray(_distance(kernel, size, other) <= 1 - agreement)


def _distance(kernel: FloatArray, size: FloatArray, other: FloatArray) -> FloatArray:
    """Compute squared distances over the sums of squared norms, less rounding; 0 where both norms are."""
    mean = (size[:, None] + other) / 2
    floor = np.finfo(np.float64).eps * max(kernel.shape) * max(float(size.max()), float(other.max()))
    return np.asarray(np.divide(mean - kernel - floor, mean, out=np.zeros_like(mean), where=mean > 0))


def _near_by_chance(size: FloatArray, sums: FloatArray, squares: float) -> float:
    """Expect how many pairs are near by chance: those of Gaussian features of as many effective dimensions.

    Dimensions are counted by the participation ratio of the eigenvalues of the kernel, centred on its rows.

    Parameters
    ----------
    size, sums : ndarray of shape (n_rows,)
        The kernel's diagonal, and its sums over columns.
    squares : float
        Sum of its squared entries.
    """
    n, whole = len(size), float(sums.sum())
    trace = float(size.sum()) - whole / n
    centred = squares - 2 * float((sums * sums).sum()) / n + (whole / n) ** 2
    if not centred > 0:
        return 0.0
    n_dims = trace**2 / centred
    return n * (n - 1) / 2 * float(stats.chi2.cdf((1 - NEAR) * n_dims, n_dims))


def takes_few_values(kernel: Kernel, size: FloatArray) -> bool:
    """Tell categories, counts and the like from measured features: distances between unlike rows are mostly tied.

    Few different rows, each of them many times, are kinds whatever their distances; two alone are a yes and a no.
    """
    n = len(size)
    drawn = np.sort(random_for(0, "few values", n).permutation(n)[:N_DRAWN])
    inner = np.stack([kernel(slice(int(row), int(row) + 1))[0, drawn] for row in drawn])
    sizes = size[drawn]
    distance = sizes[:, None] + sizes - 2 * inner
    scale, n_drawn = float(sizes.mean()), len(drawn)
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
