"""The shuffled control beside a map: what it would find at the map's own threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from latentcortex import inference
from latentcortex._arrays import FloatArray, IntArray
from latentcortex.bands import Model
from latentcortex.encoding import Null, Prediction
from latentcortex.encoding.chunks import Sides, SplitResponses, averaged
from latentcortex.executors import share
from latentcortex.inference.control import expected_false, tally
from latentcortex.maps import KEYS, Maps
from latentcortex.responses import Responses
from latentcortex.scoring._centring import unit_columns
from latentcortex.space import Space
from latentcortex.statistics import MASK, P

N_SHUFFLES: Final = 99
"""Further orders of the control's test stimuli, against predictions that stay as they are."""

Key = tuple[str, ...]
"""Analysis, model, band and statistic of a mask."""


def thresholds(maps: Maps) -> dict[Key, float]:
    """Find the largest significant p of every model's mask, as the maps hold it; 0 where nothing is significant.

    Shares and differences are tested where a model predicts something, which in a control is nowhere: it says nothing
    about them.
    """
    limits = {}
    for i in np.flatnonzero(maps.columns["statistic"] == MASK.name):
        facts = maps.columns.iloc[i].to_dict()
        p = _p_of(maps, facts)
        limits[_key(facts)] = float(p[maps.column(int(i)) == 1].max(initial=0))
    return limits


def _key(facts: Mapping[Any, Any]) -> Key:
    """Name the column by which a mask of the participant and one of the control are the same."""
    return tuple(str(facts[name]) for name in KEYS)


def _p_of(maps: Maps, facts: Mapping[Any, Any]) -> FloatArray:
    """Take the p that a mask was made of."""
    return maps.values(**{name: str(facts[name]) for name in KEYS} | {"statistic": P.name})


@dataclass(frozen=True, eq=False)
class Shuffles:
    """Counts the control's voxels over many orders of its test stimuli, with predictions that stay as they are.

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

    def counter(self, model: Model, null: Null, test: Responses) -> Callable[[Prediction, slice], IntArray] | None:
        """Make what counts voxels of a prediction in each order, (n_shuffles, 2), see `inference.control.tally`.

        Only the closed form gives p at once; by permutations each order would need as many again, and then, and where
        nothing is significant, there is no counter.
        """
        band = model.name if len(model) == 1 else ""
        threshold = self.limits.get((self.analysis, model.name, band, MASK.name), 0.0)
        return partial(self._counted, threshold) if threshold > 0 and null.name == "analytic" else None

    def _counted(self, threshold: float, held_out: Prediction, _: slice) -> IntArray:
        """Count a control's voxels at a threshold in every order of its test stimuli, (n_shuffles, 2)."""
        n_rows, valid = len(held_out.y), np.isfinite(held_out.r)
        y, yhat = (unit_columns(side[:, valid]) for side in (held_out.y, held_out.varying))

        def counted(order: IntArray) -> tuple[int, int]:
            return tally(inference.correlation_p(np.einsum("ij,ij->j", y[order], yhat), n_rows), threshold)

        return np.array(share(counted, list(self.orders)), dtype=np.intp)


@dataclass(frozen=True, eq=False)
class ExchangedStimuli:
    """The matched shuffled control: same voxels and stimuli, responses to other stimuli.

    Parameters
    ----------
    responses : SplitResponses
    orders : tuple of ndarray of int
        Of the training and of the test stimuli: response i is given to stimulus order[i].
    """

    responses: SplitResponses
    orders: tuple[IntArray, IntArray]

    @property
    def space(self) -> Space:
        """Where all voxels are."""
        return self.responses.space

    def folds(self, voxels: slice) -> list[Sides]:
        """Read some voxels, average them and exchange their stimuli."""
        ((train, test),) = averaged(self.responses.folds(voxels))
        return [(_exchanged(train, self.orders[0]), _exchanged(test, self.orders[1]))]


def _exchanged(responses: Responses, order: IntArray) -> Responses:
    """Exchange the stimuli of averaged responses."""
    names = responses.rows["stimulus"].to_numpy()
    return replace(responses, rows=responses.rows.assign(stimulus=names[order]))


def orders_of(responses: Responses, *, n_permutations: int, seed: int) -> IntArray:
    """Draw orders of averaged responses; neighbours stay together where rows are a time series."""
    length = inference.block_length(responses.data)
    block = length if responses.in_time and 1 < length <= len(responses.rows) // 4 else None
    return inference.exchange(len(responses.rows), n_permutations=n_permutations, seed=seed, block=block)


def beside(maps: Maps, control: Maps, limits: Mapping[Key, float], counts: Mapping[str, IntArray]) -> Maps:
    """Note, with every mask, how many of its voxels are expected to be significant by chance alone.

    Parameters
    ----------
    maps, control : Maps
        Of the participant, and of the shuffled control.
    limits : dict
        From `thresholds`, of the participant's own maps.
    counts : mapping of str to ndarray of int, shape (n_shuffles, 2)
        Model -> counts of further orders of the control; without any, one draw gives no interval.

    Returns
    -------
    Maps
        Masks with the facts of `inference.control.ExpectedFalse`.
    """
    judged = {_key(facts) for facts in control.columns.to_dict("records")}
    noted: list[dict[str, Any]] = []
    for facts in maps.columns.to_dict("records"):
        noted.append({})
        if facts["statistic"] != MASK.name or _key(facts) not in judged:
            continue
        threshold = limits[_key(facts)]
        drawn = np.array([tally(_p_of(control, facts), threshold)], dtype=np.intp)
        more = counts.get(str(facts["model"]))
        drawn = drawn if more is None else np.concatenate([drawn, more])
        noted[-1] = expected_false(_p_of(maps, facts), threshold, drawn).facts
    names = list(dict.fromkeys(name for facts in noted for name in facts))
    empty: dict[str, Any] = {"n_false_is": ""}
    counted = {name: [facts.get(name, empty.get(name, np.nan)) for facts in noted] for name in names}
    return maps.replace_columns(maps.columns.assign(**counted))
