"""A test set gets the null that fits it: rates where the design is not the textbook's.

What is simulated and measured, and each bound, is in `_battery_designs.py`.
"""

from __future__ import annotations

import logging
from functools import partial

import _battery_designs as battery
import numpy as np
import pytest
from _rates import missed
from _rates import runs as runs_of

from latentcortex import inference, scoring

runs = partial(runs_of, battery.BATTERY)


# A baseline that differs


@runs("baseline")
def test_a_shifted_baseline_of_the_test_set_is_no_unique_share(n: int) -> None:
    assert missed(battery.baseline(n)) == []


def test_what_a_shift_of_the_mean_takes_from_r2_is_said(caplog: pytest.LogCaptureFixture) -> None:
    encoder, features, test = battery.shifted(0, 0.5)
    with caplog.at_level(logging.WARNING):
        encoder.score(features, test, identifiability=False)
    (said,) = (one.getMessage() for one in caplog.records if "baselines of the test set" in one.getMessage())
    assert ", a+b: the mean of the test responses is not the predicted one, which takes 0." in said
    caplog.clear()
    encoder, features, test = battery.shifted(0, 0.0)
    encoder.score(features, test, identifiability=False)
    assert "baselines" not in caplog.text


def test_adding_a_number_to_predictions_or_responses_changes_no_p_and_no_r2_about_the_means() -> None:
    rng = np.random.default_rng(0)
    y, one, other = rng.standard_normal((3, 60, 20))
    weights = inference.bootstrap_weights(60, n_draws=5, seed=0)

    def all_of(y: np.ndarray, one: np.ndarray) -> list[np.ndarray]:
        drawn = [scoring.weighted_r2(y, one, weights, own_mean=own, offset=False) for own in (False, True)]
        tested = (inference.share_p, inference.paired_difference_p)
        p = [test(y, one, other, n_permutations=199, seed=0) for test in tested]
        return [scoring.r2(y, one, offset=False), *drawn, *p]

    for plain, moved in zip(all_of(y, one), all_of(y + 3, one - 2), strict=True):
        np.testing.assert_allclose(moved, plain, atol=1e-4)
    level = one - one.mean(0) + y.mean(0)
    np.testing.assert_allclose(scoring.r2(y, level), scoring.r2(y, one, offset=False), rtol=1e-12)
    rows = np.repeat(np.arange(60), np.round(60 * weights[0]).astype(int))
    expected = scoring.r2(y[rows], one[rows], offset=False)
    np.testing.assert_allclose(scoring.weighted_r2(y, one, weights, offset=False)[0], expected, atol=1e-5)


# Clusters


@runs("uneven_clusters")
def test_one_cluster_with_half_of_the_stimuli_bends_no_rate(n: int) -> None:
    assert missed(battery.uneven_clusters(n)) == []
