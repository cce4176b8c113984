"""Ceilings and corrected R² are unbiased whatever the width of a band, and their intervals cover.

What is simulated and measured, and each bound, is in `_battery_accuracy.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import _battery_accuracy as battery
from _rates import missed
from _rates import runs as runs_of

runs = partial(runs_of, battery.BATTERY)


@runs("ceilings")
def test_ceilings_are_unbiased_before_they_are_clipped_and_their_intervals_cover(n: int) -> None:
    assert missed(battery.ceilings(n)) == []


@runs("widths")
def test_bands_of_50_to_2000_columns_that_explain_as_much_have_equal_corrected_r2(n: int) -> None:
    assert missed(battery.widths(n)) == []


@runs("misaligned")
def test_alignment_tells_where_the_corrected_r2_is_wrong(n: int) -> None:
    assert missed(battery.misaligned(n)) == []


def test_every_part_of_the_battery_of_accuracy_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in here] == []
