"""The shuffled control beside a map: what it would find at the map's own threshold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray
from latentcortex.encoding import Null, Prediction
from latentcortex.executors import share
from latentcortex.inference.control import expected_false, tally
from latentcortex.maps import KEYS, Maps
from latentcortex.scoring._centring import unit_columns

N_SHUFFLES: Final = 99
"""Further orders of the control's test stimuli, against predictions that stay as they are."""

Key = tuple[str, ...]
"""Analysis, model, band and statistic of a mask."""


def thresholds(maps: Maps) -> dict[Key, float]:
    """Find the largest significant p of every model's mask, as the maps hold it; 0 where nothing is significant.

    Shares and differences are tested where a model predicts something, which in a control is nowhere: it says nothing
    about them.
    """
    found = {}
    for i in np.flatnonzero(maps.columns["statistic"] == "mask"):
        facts = maps.columns.iloc[i].to_dict()
        p = _p_of(maps, facts)
        found[_key(facts)] = float(p[maps.data[:, i] == 1].max(initial=0))
    return found


def _key(facts: Mapping[Any, Any]) -> Key:
    return tuple(str(facts[name]) for name in KEYS)


def _p_of(maps: Maps, facts: Mapping[Any, Any]) -> FloatArray:
    """Take the p that a mask was made of."""
    own = {name: str(facts[name]) for name in KEYS} | {"statistic": "p"}
    return maps.values(**own)


@dataclass(frozen=True, eq=False)
class Shuffles:
    """Counts of the control's voxels over many orders of its test stimuli, with predictions that stay as they are.

    Parameters
    ----------
    analysis : str
    limits : dict
        From `thresholds`, of the participant's own maps.
    orders : ndarray of int, shape (n_shuffles, n_stimuli)
        Those in which the control's responses are exchanged, too: neighbours together where rows are a time series.
    """

    analysis: str
    limits: Mapping[Key, float]
    orders: IntArray
    counts: dict[str, IntArray] = field(default_factory=dict)
    """Model -> (n_shuffles, 2), see `inference.control.tally`; none where p is counted from permutations."""

    def of(self, model: str, pieces: Iterable[Prediction], null: Null) -> Iterator[Prediction]:
        """Count in every piece of a model's predictions while it passes.

        Only the closed form gives p at once; by permutations each order would need as many again.
        """
        threshold = self.limits.get((self.analysis, model, model if "+" not in model else "", "mask"), 0.0)
        for piece in pieces:
            if threshold > 0 and null.name == "analytic":
                found = self._counted(piece, threshold)
                self.counts[model] = self.counts.get(model, np.zeros_like(found)) + found
            yield piece

    def _counted(self, piece: Prediction, threshold: float) -> IntArray:
        """Count in each order, (n_shuffles, 2)."""
        n_rows = len(piece.y)
        valid = np.isfinite(piece.r)
        y, yhat = (unit_columns(side[:, valid]) for side in (piece.y, piece.varying))

        def counted(order: IntArray) -> tuple[int, int]:
            return tally(inference.correlation_p(np.einsum("ij,ij->j", y[order], yhat), n_rows), threshold)

        return np.array(share(counted, list(self.orders)), dtype=np.intp)


def beside(maps: Maps, control: Maps, shuffles: Shuffles) -> Maps:
    """Note, with every mask, how many of its voxels are expected to be significant by chance alone.

    Parameters
    ----------
    maps, control : Maps
        Of the participant, and of the shuffled control.
    shuffles : Shuffles
        Further orders of the control; without any, one draw gives no interval.

    Returns
    -------
    Maps
        Masks with the facts of `inference.control.ExpectedFalse`.
    """
    judged = {_key(facts) for facts in control.columns.to_dict("records")}
    noted: list[dict[str, Any]] = []
    for facts in maps.columns.to_dict("records"):
        about = {str(name): value for name, value in facts.items()}
        noted.append({})
        if about["statistic"] != "mask" or _key(about) not in judged:
            continue
        threshold = shuffles.limits[_key(about)]
        drawn = np.array([tally(_p_of(control, about), threshold)], dtype=np.intp)
        more = shuffles.counts.get(str(about["model"]))
        drawn = drawn if more is None else np.concatenate([drawn, more])
        noted[-1] = expected_false(_p_of(maps, about), threshold, drawn).facts
    names = list(dict.fromkeys(name for facts in noted for name in facts))
    empty: dict[str, Any] = {"n_false_is": ""}
    return Maps(
        maps.data,
        maps.columns.assign(**{name: [facts.get(name, empty.get(name, np.nan)) for facts in noted] for name in names}),
        maps.space,
    )
