"""p-values far out in a null's tail: when a closed form is wrong there, and enough permutations where one is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from scipy import stats

from latentcortex._arrays import FloatArray, IntArray, arrays, random_for, tiles
from latentcortex.executors import share
from latentcortex.inference.null import permutations_needed
from latentcortex.inference.ties import reaches
from latentcortex.scoring._centring import PAIR, standard

ENOUGH_EXCEEDANCES: Final = 20
"""Draws that have reached an observation, after which its p is known well enough and not small."""
ROWS_PER_LOOK: Final = 4_000_000
"""Rows, of all draws together, that are drawn between two looks."""
MIN_WORK_PER_LOOK: Final = 1_000_000_000
"""Rows times voxels that are drawn between two looks even where fewer would do: p is then known better."""

DrawCorrelations = Callable[[int, int, IntArray], FloatArray]
"""First draw, one after the last, voxels -> null values (n_draws, n_these_voxels)."""


@dataclass(frozen=True)
class Family:
    """The tests that are corrected together, which say how small a p must be able to become.

    Parameters
    ----------
    n_tests : int
        Valid voxels of the map.
    q : float
        False discovery rate, in (0, 1).
    n_draws : int, optional
        From `draws_needed`: those of a voxel that few of them reach, whatever else is tested with it; by default what
        a single active voxel needs.
    """

    n_tests: int
    q: float
    n_draws: int | None = None

    def draws(self, n_open: int) -> int:
        """Count the draws after which so many voxels, none of whose draws has reached it, are rejected by BH, twice."""
        return 2 * permutations_needed(self.n_tests, min(n_open, self.n_tests), self.q)

    @property
    def n_most(self) -> int:
        """The draws that a single active voxel of the map needs."""
        return self.draws(1)

    @property
    def enough(self) -> int:
        """The draws of a voxel that few of them reach."""
        return self.n_most if self.n_draws is None else self.n_draws


@dataclass(eq=False)
class _Drawing:
    """Voxels whose p may still be small, and how many draws have reached them.

    Parameters
    ----------
    p : ndarray of shape (n_voxels,)
        From the first draws.
    n_drawn : int
    observed : ndarray of shape (n_voxels,)
    draw : callable
    """

    p: FloatArray
    n_drawn: int
    observed: FloatArray
    draw: DrawCorrelations

    def __post_init__(self) -> None:
        first = self.p * (self.n_drawn + 1) - 1
        self.reached = np.round(np.where(np.isfinite(self.p), first, ENOUGH_EXCEEDANCES)).astype(np.intp)
        self.left = np.flatnonzero(self.reached < ENOUGH_EXCEEDANCES)

    def until(self, stop: int) -> None:
        """Draw, and let go of the voxels that 20 draws have reached."""
        for tile in tiles(len(self.left)):  # all of them times all draws would not fit into memory
            voxels = self.left[tile]
            reached = reaches(self.draw(self.n_drawn, stop, voxels), self.observed[voxels], size=1.0)
            self.reached[voxels] += reached.sum(0)
        self.n_drawn = stop
        self.p[self.left] = (self.reached[self.left] + 1) / (stop + 1)
        self.left = self.left[self.reached[self.left] < ENOUGH_EXCEEDANCES]


def finer_p(
    p: FloatArray, n_drawn: int, observed: FloatArray, draw: DrawCorrelations, family: Family, *, n_rows: int
) -> FloatArray:
    """Go on drawing for the voxels whose p may still be small, up to what their family needs.

    A voxel is done when 20 draws have reached it. How many are drawn for it depends on its own draws and on the family
    only, so that its p is the same whichever voxels are tested with it.

    Parameters
    ----------
    p : ndarray of shape (n_voxels,)
        From the first draws, with the +1 rule or stopped early.
    n_drawn : int
    observed : ndarray of shape (n_voxels,)
        Of unit size, such as a correlation.
    draw : callable
    family : Family
    n_rows : int
        Of a draw.

    Returns
    -------
    ndarray of shape (n_voxels,)
        With the +1 rule.

    References
    ----------
    Sandve, Ferkingstad and Nygård (2011), doi:10.1093/bioinformatics/btr568
    """
    drawing = _Drawing(p.copy(), n_drawn, observed, draw)
    while len(drawing.left) and drawing.n_drawn < family.enough:
        drawing.until(min(drawing.n_drawn + _at_once(n_rows), family.enough))
    return drawing.p


def draws_needed(
    p: FloatArray,
    n_drawn: int,
    observed: FloatArray,
    draw: DrawCorrelations,
    family: Family,
    *,
    n_rows: int,
    n_sampled: int,
) -> int:
    """Count the draws from which BH could reject as many voxels as no draw has reached, by a sample of them.

    The fewer such voxels a map has, the smaller their p must be able to become, so that the work is the same whether
    few or many are active. Of a map that is larger than the sample, a number is taken that it hardly falls short of:
    two standard errors below what the sample gives, or, where that is few, the geometric mean of the voxels of the
    sample (at least 1) and of those that they stand for.

    Parameters
    ----------
    p, n_drawn, observed, draw, family, n_rows
        As in `finer_p`; of those voxels of the sample whose p may still be small.
    n_sampled : int
        Valid voxels of the whole sample.
    """
    drawing, each = _Drawing(p.copy(), n_drawn, observed, draw), max(family.n_tests / max(n_sampled, 1), 1)
    while True:
        left = drawing.left
        # No draw has reached the smallest p, whose number says how small they must be able to become.
        n_open = int((drawing.reached[left] == 0).sum()) or max(len(left), 1)
        needed = family.draws(round(max((n_open - 2 * np.sqrt(n_open)) * each, n_open * np.sqrt(each))))
        if drawing.n_drawn >= needed or not len(left):
            return min(max(drawing.n_drawn, needed), family.n_most)
        cheap = min(_at_once(n_rows), int(MIN_WORK_PER_LOOK / (n_rows * len(left) * each)))
        stop = min(drawing.n_drawn + _at_once(n_rows), max(needed, drawing.n_drawn + cheap), family.n_most)
        drawing.until(stop)


def _at_once(n_rows: int) -> int:
    """Count the draws between two looks."""
    return max(ROWS_PER_LOOK // n_rows, 100)


def more_exchanges(y: FloatArray, yhat: FloatArray, seed: int) -> DrawCorrelations:
    """Draw correlations after exchanging all rows; draws of one start depend on (seed, start) only.

    Parameters
    ----------
    y, yhat : ndarray of shape (n_rows, n_voxels)
        Columns of mean 0 and length 1.
    seed : int
    """
    n_rows = len(y)

    def draw(start: int, stop: int, voxels: IntArray) -> FloatArray:
        orders = _orders(n_rows, seed, start, stop)

        def one(voxel: int) -> FloatArray:
            return np.asarray(np.ascontiguousarray(y[:, voxel])[orders] @ np.ascontiguousarray(yhat[:, voxel]))

        return np.stack(share(one, voxels.tolist()), axis=1)

    return draw


@lru_cache(maxsize=8)
def _orders(n_rows: int, seed: int, start: int, stop: int) -> IntArray:
    """Draw orders of all rows, (stop - start, n_rows); those that every tile of a map begins with are drawn once."""
    rng = random_for(seed, "more exchanges", start)
    orders = rng.permuted(np.tile(np.arange(n_rows, dtype=np.int32), (stop - start, 1)), axis=1)
    orders.flags.writeable = False
    return np.asarray(orders)


def tail_excess(y: FloatArray, yhat: FloatArray, family: Family) -> float:
    r"""Predict by how much the closed form of r's null is exceeded where the smallest p must be right.

    The null is that of exchanged stimuli, whose skewness is :math:`s = \gamma_y \gamma_{\hat y} / \sqrt n` and excess
    kurtosis :math:`k = \kappa_y \kappa_{\hat y} / n` to first order (Pitman). At the z of a single rejection among all
    tests, Edgeworth's expansion gives the excess of the tail's probability as a fraction of the Gaussian one,

    .. math:: \frac{\varphi(z)}{1 - \Phi(z)} \Bigl[ \frac{s}{6} (z^2 - 1) + \frac{k}{24} (z^3 - 3 z) +
              \frac{s^2}{72} (z^5 - 10 z^3 + 15 z) \Bigr]

    which is averaged over voxels: that many more than should pass if nothing is there. Where it is large it is no
    more than a sign of being large.

    Parameters
    ----------
    y, yhat : ndarray of shape (n_stimuli, n_voxels)
        Held-out responses and their predictions.
    family : Family

    Returns
    -------
    float
        Less three standard errors of what Gaussian responses and predictions give by chance; nan where there are fewer
        than 4 stimuli or no voxel is defined.

    References
    ----------
    Pitman (1937), doi:10.2307/2983647
    """
    sides = [standard(side)[0] for side in arrays(y=(y, PAIR), yhat=(yhat, PAIR))]
    valid = np.isfinite(sides[0]).all(0) & np.isfinite(sides[1]).all(0)
    n = len(y)
    if n < 4 or not valid.any():
        return float("nan")
    skewness, kurtosis = np.ones(int(valid.sum())) / np.sqrt(n), np.ones(int(valid.sum())) / n
    for side in sides:
        skewness = skewness * stats.skew(side[:, valid], bias=False)
        kurtosis = kurtosis * stats.kurtosis(side[:, valid], bias=False)
    t = float(stats.t.isf(family.q / family.n_tests, n - 2))
    z = t * np.sqrt((n - 1) / (n - 2 + t * t))
    slope = float(stats.norm.pdf(z) / stats.norm.sf(z))
    third, fourth, sixth = (z**2 - 1) / 6, (z**3 - 3 * z) / 24, (z**5 - 10 * z**3 + 15 * z) / 72
    excess = slope * (third * skewness + fourth * kurtosis + sixth * skewness**2)
    # Products of two skewnesses of Gaussian samples have the standard deviation 6 / n, of two kurtoses 24 / n.
    chance = 3 * slope * (third * 6 / n**1.5 + fourth * 24 / n**2 + sixth * 36 / n**3)
    return float(excess.mean() - chance)
