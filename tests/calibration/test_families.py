"""Families of tests hold their rates: BH is that of others, and pooling or choosing maps is paid for.

What is simulated and measured, and each bound, is in `_battery_families.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import _battery_families as battery
import numpy as np
from _rates import missed
from _rates import runs as runs_of

from latentcortex import inference

runs = partial(runs_of, battery.BATTERY)


@runs("bh_of_others")
def test_bh_is_that_of_the_paper_and_of_scipy_and_statsmodels_over_families_with_ties(n: int) -> None:
    assert missed(battery.bh_of_others(n)) == []


def test_a_single_discovery_at_the_first_voxel_is_found() -> None:
    p = np.ones(50)
    p[0] = 1e-6
    assert inference.fdr(p).rejected.tolist() == [True] + [False] * 49


@runs("empty_maps")
def test_maps_of_nothing_stay_empty_in_95_of_100(n: int) -> None:
    assert missed(battery.empty_maps(n)) == []


@runs("active_maps")
def test_false_discoveries_are_5_of_100_where_some_voxels_are_active(n: int) -> None:
    """On average: that single maps exceed it is bounded, too."""
    assert missed(battery.active_maps(n)) == []


@runs("pooled_maps")
def test_pooling_a_sparse_map_with_a_strong_one_breaks_the_rate_of_the_sparse_one(n: int) -> None:
    """Why BH is done per map."""
    assert missed(battery.pooled_maps(n)) == []


@runs("chosen_maps")
def test_voxels_within_chosen_maps_keep_their_rate_and_bh_at_q_after_choosing_does_not(n: int) -> None:
    assert missed(battery.chosen_maps(n)) == []


def test_every_part_of_the_battery_of_families_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in here] == []
