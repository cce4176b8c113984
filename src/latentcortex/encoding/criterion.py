"""How significance is found: which null fits the design, and what is done about many tests."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from scipy import stats

from latentcortex import inference, statistics
from latentcortex._arrays import FloatArray, IntArray, tiles, whole_number
from latentcortex._shelf import unknown
from latentcortex.encoding.prediction import Prediction
from latentcortex.errors import InputError
from latentcortex.executors import share
from latentcortex.inference.corrections import bh_level
from latentcortex.inference.halves import MIN_CLUSTERS
from latentcortex.inference.null import SLOWEST_QUANTILE
from latentcortex.inference.tails import (
    ENOUGH_EXCEEDANCES,
    DrawCorrelations,
    Family,
    draws_needed,
    finer_p,
    more_exchanges,
    tail_excess,
)
from latentcortex.scoring._centring import unit_columns
from latentcortex.splits import linked

logger = logging.getLogger(__name__)

BY_CHANCE: Final = 1e-3
"""Probability of a median as low, where voxels are all correlated and nothing is predicted."""
NULLS: Final = {
    "auto": "chosen from the design",
    "analytic": "independent Gaussian vectors",
    "permutation": "permutations of stimuli",
    "blocks": "permutations of stretches of rows",
    "shift": "circular shifts of rows",
    "clusters": "flips of signs of whole clusters",
}
"""The nulls that there are, and what each is made of."""
FAMILIES: Final = ("map", "hierarchical")
SHARE_TESTS: Final = ("gain", "freedman-lane")
MAX_TAIL_EXCESS: Final = 0.1
"""The closed form is not used where it would give a larger excess, as a fraction, of false discoveries."""
SKEWED: Final = "responses and predictions are skewed or have heavy tails"
MIN_DEPENDENCE: Final = 0.02
"""A test set is a time series if the autocorrelations of responses and predictions have a larger product."""
MAX_SAMPLED_VOXELS: Final = 2048
"""The null is chosen from at most so many voxels, evenly spaced."""


@dataclass(frozen=True)
class Criterion:
    """How predictions are judged.

    Parameters
    ----------
    shares : tuple of {"product", "unique", "shapley", "common"}
        How the joint score is split where there are several bands. All but `product` refit nested models; `unique`
        also tests each band, see `share`.
    q : float
        False discovery rate, over all valid voxels of one map.
    correction : {"bh", "by", "storey"}
        See `inference.fdr`; `storey` does not keep its rate where voxels share noise.
    family : {"map", "hierarchical"}
        Whether each map is corrected on its own, or the maps of an analysis are chosen first and their voxels corrected
        for that choice; see `inference.hierarchical_fdr`.
    null : {"auto", "analytic", "permutation", "blocks", "shift", "clusters"}
        `auto` takes `clusters` where test stimuli come in clusters, `blocks` where responses and predictions are both
        autocorrelated in the order of time, `permutation` where skewness or heavy tails of both responses and
        predictions bend the tail of the closed form, and otherwise the closed form of the null of independent Gaussian
        vectors; across folds, where that form is not valid, `permutation`, which refits every fold. Test stimuli with
        nearly equal features are averaged for `auto` and `permutation`, since one by one they are not exchangeable;
        `analytic`, where it is asked for, takes all stimuli one by one.
    n_permutations : int
        Of the nulls that permute, shift or flip, and of `freedman-lane`. Where `auto` permutes for skewness, voxels
        whose p may still be small get more, as many as the correction needs.
    share : {"gain", "freedman-lane"}
        How a unique share is tested. The null of `gain` is that the joint model predicts no better than the one without
        the band, whichever as many training stimuli both are fitted to: a redundant band that helps a penalised model
        has a gain. The null of `freedman-lane` is that the response is a linear function of the other bands plus noise:
        no function of theirs is unique. It finds weaker shares, and needs more training stimuli than all bands have
        columns; see `inference.better_p` and `inference.freedman_lane_p`.
    n_refits : int
        Fits to random halves of the training stimuli, which say how much a preferred layer, a difference between two
        models and the gain of a band would vary with other training stimuli; 0 for none, else at least 5. Without
        them, results hold for the fitted models only.
    identifiability : bool
        Whether the reliability of every voxel's product shares is predicted, which takes one to five times as long as
        the fit; see `inference.identifiability`.
    seed : int
        For the permutations, flips, halves of the training stimuli, and the voxels drawn for identifiability.
    """

    shares: tuple[str, ...] = ("product",)
    q: float = 0.05
    correction: str = "bh"
    family: str = "map"
    null: str = "auto"
    n_permutations: int = 1000
    share: str = "gain"
    n_refits: int = 20
    identifiability: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.null not in NULLS:
            raise unknown("null", self.null, NULLS)
        if self.family not in FAMILIES:
            raise unknown("family", self.family, FAMILIES)
        if self.share not in SHARE_TESTS:
            raise unknown("test of a unique share", self.share, SHARE_TESTS)
        whole_number("n_permutations", self.n_permutations, least=1)
        if whole_number("n_refits", self.n_refits, least=0):
            inference.Resampling(n_refits=self.n_refits)


@dataclass(frozen=True)
class Null:
    """A null that fits the design of one test set.

    Parameters
    ----------
    name : str
        One of `NULLS`, not `auto`.
    n_permutations : int
    seed : int
    block : int
        Rows of a stretch, or the least shift; 1 unless rows are a time series.
    clusters : tuple of str
        Of each test stimulus, where some are alike: those whose signs are flipped together, or sets of stimuli with
        nearly equal features, which count as one. Empty otherwise.
    family : Family, optional
        For which voxels of small p are drawn again more often, up to what it needs.
    refits : bool
        Whether every permutation refits all folds, over which predictions are pooled: pooled r is biased downwards, and
        so is that of such a permutation.
    """

    name: str
    n_permutations: int
    seed: int
    block: int = 1
    clusters: tuple[str, ...] = ()
    family: Family | None = None
    refits: bool = False

    @classmethod
    def of(cls, held_out: Prediction, criterion: Criterion, *, n_tests: int | None = None) -> Null:
        """Choose the null of a test set, or take the one that is asked for.

        Parameters
        ----------
        held_out : Prediction
            Of all voxels, or of some all over them.
        criterion : Criterion
        n_tests : int, optional
            Valid voxels of the map; by default those that are held out.

        Raises
        ------
        InputError
            If clusters are asked for and the test stimuli have none.
        """
        name, length = criterion.null, 1
        if name in ("auto", "blocks", "shift"):
            length = series_length(held_out)
        if name == "auto" and (held_out.clusters or length > 1):
            name = "clusters" if held_out.clusters else "blocks"
        if name == "clusters" and not held_out.clusters:
            raise InputError("null = 'clusters' needs test stimuli that come in clusters, as a split by cluster makes.")
        clusters: tuple[str, ...] = ()
        n_permutations = criterion.n_permutations
        if name == "clusters":
            clusters, n_permutations = held_out.clusters, inference.n_flips(len(set(held_out.clusters)), n_permutations)
        if name in ("auto", "permutation"):
            clusters = held_out.sets
        if name == "auto":
            n_tests = n_tests or max(int(np.isfinite(held_out.r).sum()), 1)
            family = Family(n_tests, bh_level(criterion.q, n_tests, criterion.correction))
            heavy = has_heavy_tails(held_out.averaged(clusters), family)
            if heavy:
                return cls("permutation", n_permutations, criterion.seed, clusters=clusters)._up_to(held_out, family)
            name = "analytic"
        if name == "shift":
            length = min(length, max(len(held_out.y) // 10, 1))  # longer ones would leave few shifts
            n_permutations = min(n_permutations, len(inference.shifts_of(len(held_out.y), length)))
        return cls(name, n_permutations, criterion.seed, length, clusters)

    @staticmethod
    def widest(nulls: Sequence[Null]) -> Null:
        """Take, of the nulls of several models of one test set, that which keeps most rows together.

        Stimuli that are alike for any of the models are kept together, unless too few sets would be left.
        """
        widest = max(nulls, key=lambda null: (bool(null.clusters), -len(set(null.clusters)), null.block, null.counted))
        joined = linked(len(widest.clusters), *(null.clusters for null in nulls if null.clusters))
        return replace(widest, clusters=tuple(joined)) if len(set(joined)) >= MIN_CLUSTERS else widest

    @property
    def counted(self) -> int:
        """Permutations that the smallest p is counted from; 0 for the closed form."""
        if self.name == "analytic":
            return 0
        return max(self.n_permutations, self.family.enough if self.family else 0)

    @property
    def facts(self) -> dict[str, Any]:
        """All that it is, as JSON keeps it; see `from_facts`."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Null:
        """Undo `facts`."""
        family = None if facts["family"] is None else Family(**facts["family"])
        return cls(**{**facts, "clusters": tuple(facts["clusters"]), "family": family})

    @property
    def sets(self) -> tuple[str, ...]:
        """The clusters of which averages are tested: stimuli with nearly equal features."""
        return () if self.name == "clusters" else self.clusters

    def __str__(self) -> str:
        """Say what it is, as sidecars and the report do."""
        words = NULLS[self.name]
        if self.name == "blocks":
            words = f"permutations of stretches of {self.block} rows from random starts"
        if self.name == "shift":
            words = f"circular shifts by at least {self.block} rows"
        if self.counted:
            words = f"{self.counted} {words}"
        if self.family is not None:
            words = f"{self.n_permutations} to {words}, the more the smaller p, since {SKEWED}"
        if self.sets:
            words += f" (stimuli with nearly equal features averaged, which leaves {len(set(self.sets))})"
        return f"{words}, each refitted in every fold" if self.refits else words

    def p(self, held_out: Prediction) -> FloatArray:
        """Test the correlation of every voxel, one-sided, (n_voxels,); nan where there is none."""
        if self.name == "clusters":
            options = {"n_permutations": self.n_permutations, "seed": self.seed}
            p = inference.cluster_p(held_out.y, held_out.varying, self.clusters, **options)
            return np.asarray(np.where(np.isfinite(held_out.r), p, np.nan))
        tested = held_out.averaged(self.sets)
        if self.name == "analytic":
            return tested.p
        p = _exchanged_p(tested, self.orders(len(tested.y)))
        return p if self.family is None else self._finer(tested, p, self.family)

    def _finer(self, held_out: Prediction, p: FloatArray, family: Family) -> FloatArray:
        """Exchange single stimuli more often for the voxels whose p may still be small."""
        small, draw, observed = self._open(held_out, p)
        p = p.copy()
        p[small] = finer_p(p[small], self.n_permutations, observed, draw, family, n_rows=len(held_out.y))
        return p

    def _up_to(self, held_out: Prediction, family: Family) -> Null:
        """Find by voxels all over the map how often stimuli are exchanged for those whose p may be small."""
        step = -(-held_out.y.shape[1] // MAX_SAMPLED_VOXELS)
        y, yhat_bands, offset = held_out.y[:, ::step], held_out.yhat_bands[..., ::step], held_out.offset[::step]
        sampled = replace(held_out, y=y, yhat_bands=yhat_bands, offset=offset, nested={}).averaged(self.sets)
        p = _exchanged_p(sampled, self.orders(len(sampled.y)))
        small, draw, observed = self._open(sampled, p)
        sizes = {"n_rows": len(sampled.y), "n_sampled": int(np.isfinite(p).sum())}
        n_draws = draws_needed(p[small], self.n_permutations, observed, draw, family, **sizes)
        return replace(self, family=replace(family, n_draws=n_draws))

    def _open(self, held_out: Prediction, p: FloatArray) -> tuple[IntArray, DrawCorrelations, FloatArray]:
        """Take the voxels whose p may still be small, what exchanges their stimuli, and their correlations."""
        small = np.flatnonzero(p <= ENOUGH_EXCEEDANCES / self.n_permutations)
        y, yhat = unit_columns(held_out.y[:, small]), unit_columns(held_out.varying[:, small])
        return small, more_exchanges(y, yhat, self.seed), np.einsum("ij,ij->j", y, yhat)

    def signs(self, clusters: Sequence[str]) -> FloatArray:
        """Draw the signs of whole clusters, (n_permutations, n_rows)."""
        names, code = np.unique(np.asarray(clusters), return_inverse=True)
        return inference.signs(len(names), self.n_permutations, self.seed)[:, code]

    def orders(self, n_rows: int) -> IntArray:
        """Draw the permutations, (n_permutations, n_rows)."""
        block = self.block if self.name in ("blocks", "shift") else None
        return inference.exchange(
            n_rows, n_permutations=self.n_permutations, seed=self.seed, block=block, shift=self.name == "shift"
        )

    def alike(self, n_rows: int) -> list[str] | None:
        """Name the cluster of each row whose signs are flipped together; None where each row is on its own."""
        if self.clusters:
            return list(self.clusters)
        length = self.together(n_rows)
        return [str(row // length) for row in range(n_rows)] if length > 1 else None

    def together(self, n_rows: int) -> int:
        """Count the neighbouring rows whose signs are flipped together, of which there must be ten such stretches."""
        return min(self.block, max(n_rows // 10, 1))


def has_heavy_tails(held_out: Prediction, family: Family) -> bool:
    """Tell whether the closed form's tail is wrong for responses and predictions like these, all voxels together."""
    step = -(-held_out.y.shape[1] // MAX_SAMPLED_VOXELS)
    return tail_excess(held_out.y[:, ::step], held_out.varying[:, ::step], family) > MAX_TAIL_EXCESS


def series_length(held_out: Prediction) -> int:
    """Tell how many neighbouring rows belong together: 1 unless responses and predictions are both autocorrelated.

    And unless their order is that of time: averages in the order of a table, by category say, are exchangeable.

    What widens the null of a correlation is the product of both autocorrelations: stimuli in random order are no time
    series, however slow the responses drift. The slowest voxels decide, the 99th percentile, and of each
    autocorrelation what chance gives is taken off.
    """
    if not held_out.in_time:
        return 1
    step = -(-held_out.y.shape[1] // MAX_SAMPLED_VOXELS)
    y, yhat = held_out.y[:, ::step], held_out.varying[:, ::step]
    chance = stats.norm.ppf(SLOWEST_QUANTILE) / np.sqrt(len(y))
    both = [np.maximum(inference.lag_one(side) - chance, 0) for side in (y, yhat)]
    dependence = both[0] * both[1]
    dependence = dependence[np.isfinite(dependence)]
    slowest = float(np.quantile(dependence, SLOWEST_QUANTILE)) if len(dependence) else 0.0
    return inference.block_length(y) if is_series(slowest) else 1


def is_series(product: float) -> bool:
    """Tell a time series by the product of the autocorrelations of its responses and of what is to predict them.

    Each less what chance gives in so short a series.
    """
    return product > MIN_DEPENDENCE


def warn_of_opposite_sign(r: FloatArray, facts: Mapping[str, Any], *, n_folds: int = 1) -> None:
    """Warn of a map whose median correlation is further below 0 than chance takes it.

    A model that predicts nothing has a median r of 0 on a test set. Pooled over folds it predicts the mean of the other
    folds, which lies below 0 where the held-out mean lies above it: r is minus the root of the variance between folds
    over all, of which the square has a beta distribution where folds differ by chance.

    Parameters
    ----------
    r : ndarray of shape (n_voxels,)
    facts : dict
        Names the `model`, and has `n_stimuli`.
    n_folds : int
        Over which predictions are pooled; 1 for a test set.
    """
    defined, n = r[np.isfinite(r)], int(facts["n_stimuli"])
    if not len(defined) or n <= max(n_folds, 3):
        return
    if n_folds > 1:
        least = -float(np.sqrt(stats.beta.isf(BY_CHANCE, (n_folds - 1) / 2, (n - n_folds) / 2)))
        reason = "means of held-out runs or sessions differ from those of fitted ones; set zscore to 'run' or 'session'"
    else:
        least = float(stats.norm.ppf(BY_CHANCE)) / np.sqrt(n)
        reason = "test responses go against training ones; look at their sign, and at which ids their rows have"
    median = float(np.median(defined))
    if median < least:
        text = "%s: the median r of %d voxels is %.2f, and chance alone gives no less than %.2f; the likely reason: %s."
        logger.warning(
            text, facts["model"], len(defined), median, least, reason, extra={"facts": {"statistic": statistics.R.name}}
        )


def _exchanged_p(held_out: Prediction, orders: IntArray) -> FloatArray:
    """Exchange test stimuli against fixed predictions; a voxel that is clearly not significant stops early."""

    def tested(tile: slice) -> FloatArray:
        y, yhat = unit_columns(held_out.y[:, tile]), unit_columns(held_out.varying[:, tile])

        def draw(start: int, stop: int, voxels: IntArray) -> FloatArray:
            measured, predicted = y[:, voxels], yhat[:, voxels]
            return np.stack([np.einsum("ij,ij->j", measured[order], predicted) for order in orders[start:stop]])

        observed = np.where(np.isfinite(held_out.r[tile]), np.einsum("ij,ij->j", y, yhat), np.nan)
        return inference.sequential_p(observed, draw, n_permutations=len(orders), size=1.0)[0]

    return np.concatenate(share(tested, tiles(held_out.y.shape[1])))
