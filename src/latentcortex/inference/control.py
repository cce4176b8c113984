"""How many of a map's discoveries are expected to be false, by a control whose responses are those to other stimuli."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from latentcortex._arrays import FloatArray, IntArray, arrays, tiles
from latentcortex.inference.corrections import STOREY_TAIL
from latentcortex.inference.ties import at_most

MIN_SHUFFLES: Final = 39
"""Shuffles from which 2.5 % on either side can be told: fewer give no interval."""
SAID: Final = (
    "expected number of voxels that are significant without any relation of stimuli and responses: voxels of the "
    "shuffled control with p at most the threshold of this map (n_control, mean of n_shuffles), times the estimated "
    "fraction of voxels without a relation (null_fraction)"
)
"""What `n_false` is, for a sidecar."""


@dataclass(frozen=True)
class ExpectedFalse:
    """How many discoveries of one map are expected to be false.

    Parameters
    ----------
    n_control : float
        Voxels of the control whose p is at most the map's threshold, mean over shuffles.
    null_fraction : float
        Estimated fraction of voxels without any relation of stimuli and responses, in [0, 1].
    n_false : float
        Voxels; 0 where nothing was found.
    low, high : float
        The 95 % interval of the number in this very map, whole voxels; nan of fewer than 39 shuffles.
    n_shuffles : int
    """

    n_control: float
    null_fraction: float
    n_false: float
    low: float
    high: float
    n_shuffles: int

    @property
    def facts(self) -> dict[str, Any]:
        """Say it beside a map's mask."""
        ends = {"n_false_low": self.low, "n_false_high": self.high}
        counts = {"n_control": self.n_control, "n_shuffles": self.n_shuffles, "null_fraction": self.null_fraction}
        return {"n_false": self.n_false, **ends, **counts, "n_false_is": SAID}


def tally(p: FloatArray, threshold: float) -> tuple[int, int]:
    """Count the p of a map that are at most a threshold, and those above one half; nan is neither."""
    return int(at_most(p, threshold).sum()), int((p > STOREY_TAIL).sum())


def expected_false(p: FloatArray, threshold: float, shuffles: IntArray) -> ExpectedFalse:
    r"""Estimate how many discoveries of a map are false, from a control in which all are.

    A voxel without any relation of stimuli and responses is found as often as a voxel of the control, whose responses
    are those to other stimuli. How many such voxels the map has is told by large p, where hardly any others are
    (Storey): with C voxels of the control at most the threshold, and W, W_c voxels of the map and of the control above
    one half,

    .. math:: V = C \min\left(1, \frac{W + 1}{W_c + 1}\right)

    It is averaged over shuffles; their spread, which the correlation of neighbouring voxels makes wider than that of
    independent ones, gives the interval. Voxels that respond to something else than the features, by which these are
    correlated with it, are not counted: their prediction is true, and only its attribution may be false.

    Parameters
    ----------
    p : ndarray of shape (n_voxels,)
        Of the map; nan is outside.
    threshold : float
        Its largest rejected p; 0 if none is.
    shuffles : ndarray of int, shape (n_shuffles, 2)
        From `tally`, at the same threshold, of each shuffled control.

    Returns
    -------
    ExpectedFalse
        Never more than the map has discoveries.

    References
    ----------
    Storey (2002), doi:10.1111/1467-9868.00346; Efron (2007), doi:10.1198/016214506000001211
    """
    n_found, n_large = tally(p, threshold)
    below, above = np.asarray(shuffles, dtype=np.float64).T
    fractions = np.minimum(1, (n_large + 1) / (above + 1))
    each = np.minimum(below * fractions, n_found) if threshold > 0 else np.zeros(len(below))
    told = len(each) >= MIN_SHUFFLES and threshold > 0
    mean, fraction = float(each.mean()), float(fractions.mean())
    low, high = _ends(each, fraction, n_found) if told else (float("nan"), float("nan"))
    n_control = float(below.mean()) if threshold > 0 else 0.0
    return ExpectedFalse(n_control, fraction, mean, low, high, len(each))


def _ends(each: FloatArray, fraction: float, n_found: int) -> tuple[float, float]:
    """Find between which whole numbers of voxels the false ones of a map lie.

    The control has voxels without a relation everywhere, the map only in a fraction of them: of so many fewer the
    number varies more for its size.
    """
    spread = np.sqrt(max(fraction, 1 / max(n_found, 1)))
    low, high = each.mean() + (np.quantile(each, [0.025, 0.975]) - each.mean()) / spread
    return float(max(np.floor(low), 0)), float(min(np.ceil(max(high, each.mean())), n_found))


def tally_draws(drawn: FloatArray, threshold: float) -> IntArray:
    """Count, for every draw of a null, what `tally` would of its voxels, were it the observation among the others.

    Parameters
    ----------
    drawn : ndarray of shape (n_draws, n_voxels)
        The statistic, larger against the null; a voxel with any nan is left out.
    threshold : float
        Of a p that was counted from these draws.

    Returns
    -------
    ndarray of int, shape (n_draws, 2)
    """
    (drawn,) = arrays(drawn=(drawn, "n_draws n_voxels"))
    counts = np.zeros((len(drawn), 2), dtype=np.intp)
    for tile in tiles(drawn.shape[1]):
        part = np.asarray(drawn[:, tile], dtype=np.float64)
        ordered = np.sort(part[:, np.isfinite(part).all(0)], axis=0)
        kept = part[:, np.isfinite(part).all(0)]
        for column, values in zip(kept.T, ordered.T, strict=True):
            # How many draws reach each, itself among them: the p of an observation has one draw more.
            reached = len(values) - np.searchsorted(values, column, side="left")
            p = reached / (len(values) + 1)
            counts[:, 0] += at_most(p, threshold)
            counts[:, 1] += p > STOREY_TAIL
    return counts
