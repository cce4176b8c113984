"""The noise ceiling of what is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd

from latentcortex import scoring
from latentcortex.analyses.analysis import AllStimuli, Analysis
from latentcortex.analyses.scorer import Scorer
from latentcortex.bands import Model
from latentcortex.encoding import Cell, Cells, Piece
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import SplitResponses
from latentcortex.maps import Maps
from latentcortex.responses import Responses, counting_lost
from latentcortex.statistics import CEILING, CEILING_HIGH, CEILING_LOW

STATISTICS: Final = (CEILING, CEILING_LOW, CEILING_HIGH)


@dataclass(frozen=True)
class NoiseCeiling(Analysis):
    """How much of the scored responses any model could explain: it has no model, and stands before all others."""

    name: str = "ceiling"
    models: tuple[Model, ...] = ()

    title: ClassVar[str] = "How much any model could explain"
    figures: ClassVar[tuple[str, ...]] = ("ceiling", "ceiling-slices")

    def maps(self, scorer: Scorer, stimuli: AllStimuli | None = None) -> Maps | None:
        """Estimate the ceiling; None where no stimulus was repeated."""
        return ceiling_by_chunk(scorer.responses, scorer.cells)


def ceiling(test: Responses) -> Maps | None:
    """Estimate the noise ceiling of the averaged test responses; None where nothing was repeated.

    Columns say of how many stimuli it is (`n_stimuli`), the harmonic mean of their trials (`n_averaged`), and how many
    were shown once (`n_single`) or have two trials in one run (`n_within_run`): noise that these share is not told from
    signal, and the ceiling is too high by it.
    """
    if len(test.rows) == len(test.ids):
        return None
    counts = np.asarray(test.rows.groupby("stimulus", sort=False).size(), dtype=np.float64)
    repeats = test.repeats()
    values = scoring.noise_ceiling(repeats, n_averaged=counts)
    ends = scoring.noise_ceiling_ci(repeats, n_averaged=counts)
    facts: dict[str, Any] = {"analysis": "ceiling", "model": "", "band": "", "unit": CEILING.unit}
    facts |= {"n_stimuli": len(counts), "n_averaged": round(1 / float(np.mean(1 / counts)), 3)}
    facts |= {"n_single": int((counts == 1).sum()), "n_within_run": len(test.repeated_within_run())}
    columns = zip(STATISTICS, (values, *ends), strict=True)
    valid = test.valid()
    return Maps.build(
        test.space,
        [(np.where(valid, column, np.nan), {**facts, "statistic": statistic.name}) for statistic, column in columns],
    )


def ceiling_by_chunk(responses: SplitResponses, cells: Cells) -> Maps | None:
    """Estimate the noise ceiling of what is scored: the test set's, or that of every fold's held-out stimuli.

    Each trial is z-scored as in the fold that holds it out. See `ceiling`; None where nothing was repeated.
    """
    with counting_lost():
        first = ceiling(_held_out(responses, slice(0, 1)))
    if first is None:
        return None

    chunks = cells.chunks(responses.space.n_voxels)
    each = [Cell(voxels, {"ceiling": f"{voxels.start}-{voxels.stop}"}) for voxels in chunks]
    results = cells.map(partial(_estimated, responses), each, title="noise ceiling")
    values = np.concatenate([result["ceiling"].values["ceiling"] for result in results], axis=-1)
    return Maps.build(responses.space, list(zip(values, first.columns.to_dict("records"), strict=True)))  # type: ignore[arg-type]


def _estimated(responses: SplitResponses, voxels: slice) -> Result:
    """Estimate the noise ceiling of some voxels."""
    maps = ceiling(_held_out(responses, voxels))
    return {} if maps is None else {"ceiling": Piece({"ceiling": maps.data.T})}


def _held_out(responses: SplitResponses, voxels: slice) -> Responses:
    """Read the trials of all stimuli that are tested, of some voxels."""
    tested = [test for _, test in responses.folds(voxels)]
    data, rows = np.concatenate([one.data for one in tested]), pd.concat([one.rows for one in tested])
    return replace(tested[0], data=data, rows=rows.reset_index(drop=True))
