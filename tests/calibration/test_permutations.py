"""Permutations hold their rates, of single rows, of time series and over the whole pipeline.

What is simulated and measured, and each bound, is in `_battery_permutations.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import _battery_permutations as battery
from _rates import missed
from _rates import runs as runs_of

runs = partial(runs_of, battery.BATTERY)


@runs("stretches")
def test_stretches_hold_the_rate_of_a_time_series_and_single_rows_do_not(n: int) -> None:
    assert missed(battery.stretches(n)) == []


@runs("permutation_p")
def test_permutation_p_is_never_0_and_uniform_under_the_null(n: int) -> None:
    assert missed(battery.permutation_p(n)) == []


@runs("whole_pipeline")
def test_the_whole_pipeline_finds_40_of_400_voxels_at_its_rate_given_enough_permutations(n: int) -> None:
    assert missed(battery.whole_pipeline(n)) == []


@runs("too_few_permutations")
def test_too_few_permutations_find_nothing_and_a_warning_says_so(n: int) -> None:
    assert missed(battery.too_few_permutations(n)) == []


@runs("enough_permutations")
def test_as_many_permutations_as_the_warning_names_are_enough(n: int) -> None:
    assert missed(battery.enough_permutations(n)) == []


def test_every_part_of_the_battery_of_permutations_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in here] == []
