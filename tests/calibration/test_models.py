"""Comparisons of models hold their rates: differences of latents, the winner, unique shares, preferred layers.

What is simulated and measured, and each bound, is in `_battery_models.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import _battery_models as battery
import numpy as np
import pytest
from _battery import quiet, recording
from _rates import missed
from _rates import runs as runs_of

from latentcortex import BandedRidge, Encoder, Features, Responses, inference, scoring
from latentcortex.analyses import Analysis, Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Criterion, HeldOutSides
from latentcortex.errors import AlignmentError, InputError

runs = partial(runs_of, battery.BATTERY)


@runs("tied_latents")
def test_latents_that_explain_as_much_do_not_differ_whatever_the_number_of_test_stimuli(n: int) -> None:
    assert missed(battery.tied_latents(n)) == []


@runs("differing_latents")
def test_differences_are_found_where_a_latent_predicts_and_not_where_neither_does(n: int) -> None:
    assert missed(battery.differing_latents(n)) == []


@runs("winner_maps")
def test_voxels_of_the_winner_map_are_one_family_and_the_union_of_masks_is_not(n: int) -> None:
    assert missed(battery.winner_maps(n)) == []


@runs("empty_shares")
def test_a_band_without_a_unique_share_has_none_on_thousands_of_test_stimuli(n: int) -> None:
    assert missed(battery.empty_shares(n)) == []


@runs("undriven_shares")
def test_no_band_has_a_unique_share_of_what_the_joint_model_does_not_predict(n: int) -> None:
    assert missed(battery.undriven_shares(n)) == []


@runs("small_shares")
def test_freedman_and_lanes_test_finds_small_shares_that_gains_do_not(n: int) -> None:
    assert missed(battery.small_shares(n)) == []


@runs("told_layers")
def test_a_layer_is_told_by_how_far_it_is_ahead_and_tied_ones_are_not(n: int) -> None:
    assert missed(battery.told_layers(n)) == []


@runs("padded_layers")
def test_a_layer_with_more_that_holds_nothing_loses_and_its_dimensions_stand_beside_the_map(n: int) -> None:
    assert missed(battery.padded_layers(n)) == []


def test_every_part_of_the_battery_of_models_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [part for part in battery.BATTERY if f'@runs("{part}")' not in here] == []


# The tests as functions


def predicted(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of two models that need no fit: one signal, and errors of their own."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n, 8))
    return signal + rng.standard_normal((n, 8)), 0.5 * (signal + rng.standard_normal((2, n, 8)))


def test_without_half_fits_better_p_is_that_of_flips() -> None:
    y, yhat = predicted(80)
    how = inference.Resampling(n_permutations=499)
    p = inference.better_p(y, yhat, [(0, 1), (1, 0)], two_sided=False, resampling=how, seed=3)
    for own, (one, other) in zip(p, ((0, 1), (1, 0)), strict=True):
        np.testing.assert_array_equal(own, inference.share_p(y, yhat[one], yhat[other], n_permutations=499, seed=3))
    both = inference.better_p(y, yhat, [(0, 1)], two_sided=True, resampling=how, seed=3)[0]
    expected = inference.paired_difference_p(y, *yhat, n_permutations=499, seed=3)
    np.testing.assert_array_equal(both, expected)


def test_half_fits_that_vary_make_a_difference_less_sure_and_those_that_do_not_do_not() -> None:
    y, yhat = predicted(200)
    yhat[0] += 0.3 * y
    steady = inference.Resampling(n_permutations=999, refits=lambda k, voxels: yhat[..., voxels])

    def varying(k: int, voxels: np.ndarray) -> np.ndarray:
        return yhat[..., voxels] * np.random.default_rng(k).uniform(0, 2, (2, 1, 1))

    unsteady = inference.Resampling(n_permutations=999, refits=varying)
    p = [inference.better_p(y, yhat, [(0, 1)], two_sided=True, resampling=how, seed=0)[0] for how in (steady, unsteady)]
    assert (p[0] <= 0.01).all()
    assert (p[1] > p[0] + 0.01).all()


def test_the_same_predictions_do_not_differ_and_what_is_not_finite_is_nan() -> None:
    y, yhat = predicted(60)
    yhat[1, :, 0], yhat[0, 3, 1] = yhat[0, :, 0], np.nan
    how = inference.Resampling(n_permutations=99, n_refits=5, refits=lambda k, voxels: yhat[..., voxels])
    p = inference.better_p(y, yhat, [(0, 1)], two_sided=True, resampling=how, seed=0)[0]
    assert p[0] == 1
    np.testing.assert_array_equal(np.isnan(p), np.arange(8) == 1)


def test_half_fits_of_another_shape_are_refused() -> None:
    y, yhat = predicted(60)
    how = inference.Resampling(refits=lambda k, voxels: yhat[:1, :, voxels])
    with pytest.raises(AlignmentError, match=r"Refit 0 predicts \(1, 60, 8\); expected \(2, 60, 8\)"):
        inference.better_p(y, yhat, [(0, 1)], two_sided=True, resampling=how, seed=0)
    with pytest.raises(InputError, match="too few; needs at least 5"):
        inference.better_p(y[:4], yhat[:, :4], [(0, 1)], two_sided=True, seed=0)


def test_effective_dimensions_are_those_of_equal_columns_and_fewer_of_unequal_ones() -> None:
    x = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 8)))[0]
    x = x - x.mean(0)
    x = np.linalg.svd(x, full_matrices=False)[0]
    assert scoring.effective_dims(x @ x.T) == pytest.approx(8)
    assert scoring.effective_dims(x[:, :1] @ x[:, :1].T) == pytest.approx(1)
    unequal = x * np.array([2.0] + [1.0] * 7)
    assert scoring.effective_dims(unequal @ unequal.T) == pytest.approx((4 + 7) ** 2 / (16 + 7))
    with pytest.raises(InputError, match="nothing but 0"):
        scoring.effective_dims(np.zeros((5, 5)))


# What a study is told


def shares(
    n_fit: int = 120, n_dims: int = 10, noise: float = 3, **criterion: Any
) -> tuple[Features, Responses, Responses, Criterion]:
    rng = np.random.default_rng(1)
    bands = {name: rng.standard_normal((n_fit + 60, n_dims)) for name in "ab"}
    y = sum(x @ rng.standard_normal((n_dims, 12)) for x in bands.values()) + noise * rng.standard_normal(
        (n_fit + 60, 12)
    )
    responses = recording(y)
    train, test = responses.split(test_ids=responses.ids[n_fit:], zscore="none")
    how = Criterion(shares=("unique",), identifiability=False, n_permutations=99, **criterion)
    return Features.from_arrays(responses.ids, bands), train, test, how


@pytest.mark.parametrize(("test", "words"), [("gain", "with the variance of 20 refits"), ("freedman-lane", "refitted")])
def test_sidecars_say_how_unique_shares_are_tested(test: str, words: str) -> None:
    features, train, new, how = shares(share=test)
    with quiet():
        maps = Encoder(BandedRidge()).fit(features, train).score(features, new, **vars(how))
    facts = maps.find_columns(statistic="uniqueP", band="a").columns.iloc[0]
    assert facts["share"] == test
    assert words in facts["null"]
    assert "at least the p of the joint model, and 1 where that is not significant" in facts["null"]
    p, joint = maps.values(statistic="uniqueP", band="a"), maps.values(statistic="p")
    assert (p >= joint * (1 - 1e-6)).all()
    np.testing.assert_array_equal(p[maps.values(statistic="mask") == 0], 1)


def test_freedman_and_lanes_test_is_refused_before_a_fit_to_few_stimuli_or_unequal_repeats() -> None:
    analysis = Analysis("shares", (("a", "b"),))
    features, train, new, how = shares(n_fit=40, n_dims=30, share="freedman-lane")
    with pytest.raises(InputError, match=r"40 fitted rows are too few for the columns of all bands"):
        Scorer(features, HeldOutSides(train, new), Unfitted, how).score(analysis)
    features, train, new, how = shares(share="freedman-lane")
    unequal = replace(train, rows=train.rows.assign(n_repeats=1 + np.arange(len(train.rows)) % 2))
    with pytest.raises(InputError, match=r"as many repeats each; found 1 to 2. Use share = 'gain'"):
        Scorer(features, HeldOutSides(unequal, new), Unfitted, how).score(analysis)


def test_features_of_new_stimuli_need_not_hold_the_training_stimuli() -> None:
    features, train, new, how = shares()
    other = Features.from_arrays(new.ids, {band: features.array(band, new.ids) for band in features.bands})
    with quiet():
        encoder = Encoder(BandedRidge()).fit(features, train)
        same, apart = (encoder.score(some, new, **vars(how)) for some in (features, other))
    np.testing.assert_allclose(
        apart.values(statistic="uniqueP", band="a"), same.values(statistic="uniqueP", band="a"), atol=1e-3
    )


def test_freedman_and_lanes_p_does_not_depend_on_how_many_repeats_all_stimuli_have() -> None:
    features, train, new, how = shares(n_fit=300, noise=9, share="freedman-lane")
    p = []
    for n_repeats in (1, 4):
        repeated = replace(train, rows=train.rows.assign(n_repeats=n_repeats))
        with quiet():
            maps = Encoder(BandedRidge(selection="gcv", alphas=np.logspace(-3, 5, 33))).fit(features, repeated)
            p.append(maps.score(features, new, **vars(how)).values(statistic="uniqueP", band="b"))
    assert len(np.unique(p[0])) > 3
    np.testing.assert_allclose(p[0], p[1], atol=0.06)


def test_freedman_and_lanes_test_takes_near_duplicates_of_a_test_stimulus_for_one() -> None:
    """What no band explains of 40 test images is the same in the ten copies of each, and is no share of any band."""
    rng = np.random.default_rng(0)
    code = np.r_[np.arange(300), 300 + rng.permutation(np.repeat(np.arange(40), 10))]
    a, b = (rng.standard_normal((340, 20))[code] + 0.01 * rng.standard_normal((700, 20)) for _ in range(2))
    y = 3 * a @ rng.standard_normal((20, 100)) / 20**0.5 + rng.standard_normal((340, 100))[code]
    responses = recording(y + 0.5 * rng.standard_normal(y.shape))
    train, test = responses.split(test_ids=responses.ids[300:], zscore="none")
    features = Features.from_arrays(responses.ids, {"a": a, "b": b})
    how: dict[str, Any] = {"shares": ("unique",), "identifiability": False, "n_permutations": 99}
    with quiet():
        encoder = Encoder(BandedRidge(mixtures="equal")).fit(features, train)
        maps = encoder.score(features, test, share="freedman-lane", **how)
    assert maps.values(statistic="mask").all()
    assert (maps.values(statistic="uniqueP", band="b") <= 0.05).mean() < 0.12
    assert maps.values(statistic="uniqueMask", band="b").sum() == 0


class Unfitted(BandedRidge):
    """An estimator that must not be fitted."""

    def fit(self, *_: object, **__: object) -> None:
        """Fail."""
        pytest.fail("was fitted")

    fit_gram = fit


def test_few_training_stimuli_leave_differences_to_flips_and_the_sidecar_says_so() -> None:
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((90, 4)) for name in ("z", "c")}
    y = x["z"] @ rng.standard_normal((4, 10)) + 0.5 * rng.standard_normal((90, 10))
    with quiet():
        maps = battery.held_out(x, y, 39).score(Latents("latents", (("z",), ("c",))))
    facts = maps.find_columns(statistic="differenceP").columns.iloc[0]
    assert facts["n_refits"] == 0
    assert "with the variance of 0 refits" in facts["null"]
    assert (maps.values(statistic="differenceMask") == 1).mean() > 0.5


@pytest.mark.parametrize(
    ("criterion", "words"),
    [({"share": "gian"}, "Did you mean 'gain'"), ({"n_refits": 3}, "n_refits"), ({"n_refits": -1}, "n_refits")],
)
def test_a_criterion_that_is_none_is_refused(criterion: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Criterion(**criterion)
