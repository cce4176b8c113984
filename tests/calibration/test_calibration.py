"""Rates that must hold for repeats and shares; where the naive way must fail, it does, or these tests see nothing.

What is simulated and measured, and each bound, is in `_battery.py`; `benchmarks/calibration.py` writes it down. By
default every part has few runs; the nightly form has ten times as many.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import _battery as battery
import numpy as np
import pytest
from _rates import missed
from _rates import runs as runs_of

runs = partial(runs_of, battery.BATTERY)


# The measurement itself


def test_a_finding_out_of_bounds_is_missed() -> None:
    for values, bounds, passes in (
        (np.zeros(100, dtype=bool), battery.HELD, True),
        (np.arange(100) < 11, battery.HELD, True),
        (np.arange(100) < 12, battery.HELD, False),
        (np.arange(100) < 11, battery.BROKEN, False),
        (np.arange(100) < 12, battery.BROKEN, True),
        (np.array([0.1, 0.3]), {"most": 0.1, "slack": 1.0}, True),
        (np.array([0.1, 0.3]), {"most": 0.09, "slack": 1.0}, False),
        (np.array([0.1, 0.3]), {"least": 0.2, "most": 0.2}, True),
        (np.array([np.nan]), {"most": 1.0}, False),
    ):
        assert battery.found("", "", "", values, **bounds).passed == passes


# Repeats


@runs("repeats")
def test_repeats_leak_nothing_by_default_and_do_where_they_straddle_folds(n: int) -> None:
    assert missed(battery.repeats(n)) == []


# Shares


@runs("noise_band")
def test_a_band_of_noise_has_a_unique_share_at_its_rate_whatever_its_scale(n: int) -> None:
    assert missed(battery.noise_band(n)) == []


def settings() -> list:
    """List the fixtures with either number of runs; known misses must be missed, so that nobody forgets them."""
    reason = "the test sees the luck of test stimuli alone, and bands that change nothing differ by that of the fit"
    known = pytest.mark.xfail(strict=True, reason=reason)
    forms = dict(zip(("fast", "full"), battery.BATTERY["null_shares"][1:], strict=True))
    out = []
    for setting in battery.NULLS:
        seen = battery.MISSED.get(setting, "")
        for form, n in forms.items():
            marks = [pytest.mark.nightly] * (form == "full") + [known] * bool(seen and seen <= form)
            out.append(pytest.param(setting, n, id=f"{battery.described(setting)}, {form}", marks=marks))
    return out


@pytest.mark.parametrize(("setting", "n"), settings())
def test_a_band_that_is_expected_to_add_nothing_has_a_share_at_its_rate(setting: tuple, n: int) -> None:
    """Each time refitted with and without it."""
    assert missed(battery.null_share(setting, n)) == []


@pytest.mark.parametrize("setting", battery.MISSED, ids=battery.described)
def test_a_band_that_changes_nothing_has_a_share_at_its_rate_where_the_tested_fits_gain_nothing(setting: tuple) -> None:
    """What the known misses keep."""
    gain, _, of_null = battery.null_share(setting, battery.BATTERY["null_shares"][1])
    assert missed([gain, of_null]) == []


@runs("gaining_shares")
def test_a_band_that_adds_to_predictions_is_found(n: int) -> None:
    """Also where nothing of it is unique, since stimuli are few: the test is of predictive gain."""
    assert missed(battery.gaining_shares(n)) == []


@runs("lesioned_share")
def test_a_redundant_band_seems_to_add_where_the_model_is_not_refitted(n: int) -> None:
    assert missed(battery.lesioned_share(n)) == []


def test_every_part_of_the_battery_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in here] == ["null_shares"]
