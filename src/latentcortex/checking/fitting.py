"""Rules about what is fitted on what: features, voxels, means and standard deviations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from latentcortex._arrays import listed
from latentcortex.checking.design import StudyDesign
from latentcortex.responses import MIN_TRAIN_ROWS, Responses, Within

ENOUGH_TRAIN_ROWS: Final = 20
"""Training rows of a session or run with which z-scoring by it gains as much as it costs, where sessions differ by .3
standard deviations in mean and 10 % in scale."""
COST: Final = 1.75
"""Of z-scoring by sessions of n training rows: R² falls by this over n, measured for 8 to 32."""


def fitted_on_test(design: StudyDesign) -> Iterator[str]:
    """Find bands that were reduced on test stimuli."""
    for band, ids in design.extracted.fitted_on.items():
        leaking = sorted(set(ids) & set(design.splits.tested))
        if leaking:
            yield f"band {band} was reduced on {len(leaking)} test stimuli ({listed(leaking)}); fit on training ones."


def voxel_selection(design: StudyDesign) -> Iterator[str]:
    """Find test stimuli by whose responses voxels were chosen."""
    leaking = sorted(set(design.responses.chosen_on) & set(design.splits.tested))
    if leaking:
        yield (
            f"voxels were chosen by their responses to {len(leaking)} stimuli that are tested on ({listed(leaking)}); "
            "choose them within the training stimuli of each fold."
        )


def few_training_rows(design: StudyDesign) -> Iterator[str]:
    """Look at every side: a session that is mostly held out has few rows left to be z-scored with."""
    if design.zscore == "none":
        return
    within, rows = design.zscore, Responses.without_voxels(design.responses.rows)
    fewest: dict[str, int] = {}
    for train_ids, test_ids in design.splits:
        used = rows.select_stimuli([*train_ids, *test_ids])
        fitted = used.rows["stimulus"].isin(train_ids).to_numpy()
        counts = used.training_rows(used.scored_with(fitted, within), within)
        fewest.update({name: min(n, fewest.get(name, n)) for name, n in counts.items()})
    few = {name: n for name, n in fewest.items() if n < ENOUGH_TRAIN_ROWS}
    if not few:
        return
    name, least = min(few.items(), key=lambda one: one[1])
    cost = f"where all have so few, z-scoring costs {COST / max(least, 1):.0%} of R²"
    if least < MIN_TRAIN_ROWS:
        cost = f"z-scoring needs at least {MIN_TRAIN_ROWS}"
    yield (
        f"{len(few)} of {len(fewest)} {within}s have fewer than {ENOUGH_TRAIN_ROWS} training rows, the fewest {least} "
        f"({within} {name}): {cost}; set zscore = {_wider(within)}, or hold out fewer stimuli of each {within}."
    )


def repeats_within_run(design: StudyDesign) -> Iterator[str]:
    """Find test stimuli whose repeats share the noise of a run."""
    tested = set(design.splits.tested)
    repeated = [name for name in design.responses.repeated_within_run() if name in tested]
    if repeated:
        yield (
            f"{len(repeated)} test stimuli have two trials or more in one run ({listed(repeated)}); noise that these "
            "share counts as signal in the noise ceiling, a tenth of it as .25. Show repeats in different runs, or do "
            "not rely on the ceiling."
        )


def _wider(within: Within) -> str:
    return "'session' or 'none'" if within == "run" else "'none'"
