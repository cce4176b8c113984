"""Intervals of what few stimuli, or few clusters of them, tell: by leaving out one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import stats

from latentcortex._arrays import FloatArray, IntArray, arrays, labels, random_for, whole_number
from latentcortex.errors import InputError

MAX_GROUPS: Final = 100
"""Of single rows: more rows are left out in so many random groups, whose Student's t has nearly the normal's width."""


def leave_out(
    n_rows: int, *, clusters: Sequence[str] | IntArray | None = None, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Weigh rows alike, first all of them, then all but those of each group in turn.

    Parameters
    ----------
    n_rows : int
    clusters : sequence of length n_rows, optional
        Rows that are left out together; without them a group is one row, or one of 100 random groups of many.
    seed : int
        For random groups.

    Returns
    -------
    weights : ndarray of shape (1 + n_groups, n_rows)
        Each row sums to 1.
    left_out : ndarray of shape (n_groups,)
        The fraction of rows that each group is.
    """
    whole_number("n_rows", n_rows, least=1)
    n_groups = min(n_rows, MAX_GROUPS)
    drawn = random_for(seed, "jackknife", n_rows).permutation(n_rows) % n_groups
    code = np.unique(drawn if clusters is None else labels("clusters", clusters, n_rows), return_inverse=True)[1]
    if code.max() == 0:
        return np.full((1, n_rows), 1 / n_rows), np.empty(0)
    kept = np.arange(code.max() + 1)[:, None] != code
    weights = np.concatenate([np.ones((1, n_rows)), kept])
    return weights / weights.sum(1, keepdims=True), 1 - kept.mean(1)


def jackknife_interval(
    whole: FloatArray, change: FloatArray, left_out: FloatArray, *, unbiased: bool = False, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    r"""Find the interval of a statistic from what leaving out each group of stimuli changes in it.

    .. math:: \hat\theta_J = \hat\theta - \sum_g (1 - f_g) \Delta_g, \qquad
        \hat v = \frac{1}{G} \sum_g \frac{(\tau_g - \hat\theta_J)^2}{1 / f_g - 1}, \qquad
        \tau_g = \hat\theta - (1 / f_g - 1) \Delta_g

    with :math:`f_g` the fraction of stimuli that group g is; the ends are Student's t with G - 1 degrees of freedom
    around :math:`\hat\theta_J`, which carries no bias of the order of 1 / G. A percentile interval of bootstrap draws
    has neither: draws of 10 clusters hold 6 or 7 different ones, and their quantiles are those of a normal.

    Parameters
    ----------
    whole : ndarray of shape (n_means,)
        The statistic of all stimuli.
    change : ndarray of shape (n_groups, n_means)
        The statistic without group g, less that of all.
    left_out : ndarray of shape (n_groups,)
        From `leave_out`.
    unbiased : bool
        Whether the statistic has no such bias: the interval then lies around it, and does not carry the noise of a
        correction.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    low, high : ndarray of shape (n_means,)
        nan with fewer than two groups, and where anything is not finite.

    Raises
    ------
    AlignmentError
        If there is not one change for each group and mean.
    InputError
        If the level is out of range.

    References
    ----------
    Busing, Meijer and van der Leeden (1999), doi:10.1023/A:1008800423698
    """
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1; got {level:g}.")
    (whole,) = arrays(whole=(whole, "n_means"))
    if len(left_out) < 2:
        return np.full(len(whole), np.nan), np.full(len(whole), np.nan)
    theta, delta, fraction = (
        values.astype(np.float64)
        for values in arrays(
            whole=(whole, "n_means"), change=(change, "n_groups n_means"), left_out=(left_out, "n_groups")
        )
    )
    f = fraction[:, None]
    centre = theta - ((1 - f) * delta).sum(0)
    apart = theta - (1 / f - 1) * delta - centre
    variance = (apart**2 / (1 / f - 1)).mean(0)
    reach = stats.t.ppf((1 + level) / 2, len(f) - 1) * np.sqrt(variance)
    middle = theta if unbiased else centre
    return middle - reach, middle + reach
