"""Intervals hold the truth where clusters are few, voxels silent or noise uneven; the naive ways do not.

What is simulated and measured, and each bound, is in `_battery_intervals.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import _battery_intervals as battery
import numpy as np
import pytest
from _rates import missed
from _rates import runs as runs_of

from latentcortex import Responses, analyses, scoring
from latentcortex.encoding import Cells, ReadByChunk
from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

runs = partial(runs_of, battery.BATTERY)


@runs("silent_voxels")
def test_a_perfect_model_has_1_relative_to_the_ceiling_whatever_part_of_the_voxels_is_silent(n: int) -> None:
    assert missed(battery.silent_voxels(n)) == []


@runs("few_clusters")
def test_intervals_over_few_clusters_hold_the_mean_r_and_percentiles_of_draws_do_not(n: int) -> None:
    assert missed(battery.few_clusters(n)) == []


@runs("learning_curves")
def test_limits_of_learning_curves_hold_the_truth_or_are_not_told(n: int) -> None:
    assert missed(battery.learning_curves(n)) == []


@runs("storey_of_shared_noise")
def test_storeys_procedure_does_not_hold_its_rate_where_voxels_share_noise(n: int) -> None:
    assert missed(battery.storey_of_shared_noise(n)) == []


@runs("smooth_maps")
def test_unrelated_maps_that_are_smooth_are_not_said_to_be_alike(n: int) -> None:
    assert missed(battery.smooth_maps(n)) == []


@runs("identifications")
def test_intervals_of_identification_hold_it_for_new_categories_few_images_and_pairs(n: int) -> None:
    assert missed(battery.identifications(n)) == []


@runs("uneven_repeats")
def test_ceilings_are_those_of_each_stimulus_own_noise(n: int) -> None:
    assert missed(battery.uneven_repeats(n)) == []


def test_scores_over_their_ceilings_are_sums_over_sums() -> None:
    ceiling, r2 = np.array([0.5, 0.25, -0.05, 0.1, np.nan]), np.array([0.2, 0.2, -0.1, np.nan, 0.7])
    assert scoring.normalised_mean(r2, ceiling) == pytest.approx(0.3 / 0.7)
    r = np.array([0.5, -0.2, 0.0, np.nan, 0.3])
    exact = [1 - (997 / 998) * (1 - x * x) * (1 + 2 * (1 - x * x) / 1000) for x in (0.5, -0.2)]
    assert scoring.normalised_mean(r, ceiling, n_stimuli=1000) == pytest.approx(
        ((exact[0] - exact[1]) / 0.7) ** 0.5, rel=1e-9
    )
    assert scoring.normalised_mean(-r, ceiling, n_stimuli=1000) < 0
    assert np.isnan(scoring.normalised_mean(r2, -np.abs(ceiling)))
    with pytest.raises(InputError, match="n_stimuli"):
        scoring.normalised_mean(r, ceiling, n_stimuli=3)


@pytest.mark.parametrize("uneven", [False, True])
def test_a_weighted_ceiling_is_that_of_the_stimuli_that_are_left(uneven: bool) -> None:
    rng = np.random.default_rng(0)
    repeats, counts = rng.standard_normal((3, 30, 20)) + 0.7 * rng.standard_normal((30, 20)), np.full(30, 3.0)
    if uneven:
        repeats[2, ::2], counts[::2] = np.nan, 2
    kept = np.concatenate([np.ones((1, 30)), 1 - np.eye(30)])
    found = scoring.weighted_ceiling(repeats, kept / kept.sum(1, keepdims=True))
    for row, own in zip(kept.astype(bool), found, strict=True):
        expected = scoring.noise_ceiling(repeats[:, row], n_averaged=counts[row])
        np.testing.assert_allclose(own, expected, rtol=1e-9)


def test_one_number_of_trials_for_all_is_that_number_for_each() -> None:
    repeats = np.random.default_rng(0).standard_normal((3, 20, 5))
    for function in (scoring.noise_ceiling, scoring.noise_ceiling_ci):
        np.testing.assert_array_equal(function(repeats, n_averaged=3), function(repeats, n_averaged=np.full(20, 3.0)))
    with pytest.raises(AlignmentError, match=r"n_averaged is \(19,\); expected \(20,\)"):
        scoring.noise_ceiling(repeats, n_averaged=np.full(19, 3.0))
    with pytest.raises(InputError, match="n_averaged must be above 0; got -1"):
        scoring.noise_ceiling(repeats, n_averaged=np.append(np.full(19, 3.0), -1))


def trials(rng: np.random.Generator, *, one_run: bool) -> tuple[Responses, np.ndarray]:
    """Show 80 stimuli three times, in three sessions or one; a sixth of the voxels has no signal."""
    planted = np.repeat([0.0, 0.2, 0.4, 0.5, 0.6, 0.7], 50)
    signal = np.sqrt(planted / (1 - planted) / 3) * rng.standard_normal((80, 300))
    data = np.concatenate([signal + rng.standard_normal((80, 300)) for _ in range(3)])
    sessions = ["1"] * 240 if one_run else [str(k) for k in range(3) for _ in range(80)]
    ids = [f"s{i:02d}" for i in range(80)] * 3
    return (
        Responses.single_trials(data, Unlocated(300), stimulus=ids, session=sessions, run=["1"] * 240),
        planted,
    )


@pytest.mark.parametrize("zscore", ["none", "session"])
def test_scores_across_folds_have_the_ceiling_of_what_is_scored(zscore: str) -> None:
    responses, planted = trials(np.random.default_rng(0), one_run=False)
    splits = Splits.k_fold(responses.ids, 5, seed=0)
    maps = analyses.ceiling_by_chunk(ReadByChunk.of(responses, splits, zscore), Cells())  # type: ignore[arg-type]
    assert maps is not None
    found = maps.values(statistic="ceiling").reshape(6, 50).mean(1)
    np.testing.assert_allclose(found, planted[::50], atol=0.04)
    facts = maps.find_columns(statistic="ceiling").columns.iloc[0]
    assert (facts["n_stimuli"], facts["n_averaged"], facts["n_single"], facts["n_within_run"]) == (80, 3, 0, 0)
    alone = responses.select_stimuli(responses.ids)
    once = Responses(alone.data[:80], alone.rows[:80], alone.space)
    assert analyses.ceiling_by_chunk(ReadByChunk.of(once, splits, "none"), Cells()) is None


def test_repeats_within_a_run_are_counted_beside_the_ceiling() -> None:
    responses, _ = trials(np.random.default_rng(1), one_run=True)
    maps = analyses.ceiling(responses)
    assert maps is not None
    assert set(maps.columns["n_within_run"]) == {80}
    assert responses.repeated_within_run() == responses.ids


def test_every_part_of_the_battery_is_run_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in text] == []
