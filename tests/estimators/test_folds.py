"""Repeats and near-duplicates stay in one fold, and the criterion follows from rows."""

from __future__ import annotations

import numpy as np
import pytest
from _ridges import noise, planted
from sklearn.linear_model import LinearRegression

from latentcortex import _ridge, scoring
from latentcortex.estimators._folds import near_duplicates
from latentcortex.estimators.banded_ridge import BandedRidge


def test_near_duplicates_never_straddle_folds() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 200))
    twins = np.vstack([x, x + 0.01 * rng.standard_normal(x.shape)])
    centred = twins - twins.mean(0)
    model = BandedRidge(selection="kfold")
    _, folds = model._selection_and_folds(_ridge.Kernels([centred @ centred.T]), noise(120), None)
    np.testing.assert_array_equal(folds[:60], folds[60:])
    assert len(np.unique(folds)) == 5


def test_groups_and_duplicates_are_joined() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 200))
    x[7] = x[2]
    names = near_duplicates(_ridge.Kernels([x @ x.T]), [f"g{i}" if i not in (2, 3) else "same" for i in range(20)])
    assert names[2] == names[3] == names[7]
    assert len(set(names)) == 18


@pytest.mark.parametrize("p", [1, 2, 3])
def test_rows_that_are_near_by_chance_in_few_dimensions_are_no_duplicates(p: int) -> None:
    """A twin is seen in 40 dimensions; in few of them some rows are as near without one."""
    rng = np.random.default_rng(p)

    def n_alike(n_dims: int) -> int:
        x = rng.standard_normal((50, n_dims))
        x[1] = x[0] + 0.04 * rng.standard_normal(n_dims)
        x -= x.mean(0)
        return 50 - len(set(near_duplicates(_ridge.Kernels([x @ x.T]), None)))

    assert [n_alike(40) for _ in range(20)] == [1] * 20
    assert sum(n_alike(p) > 0 for _ in range(20)) <= 1


@pytest.mark.parametrize("p", [1, 2, 3])
def test_bands_of_few_dimensions_are_not_one_chain_of_near_duplicates(p: int) -> None:
    x, y = planted(200, p, noise=0.1)
    model = BandedRidge(selection="kfold").fit(x, y)
    theirs = LinearRegression().fit(x, y)
    np.testing.assert_allclose(model.predict(x), theirs.predict(x), atol=0.1)


def test_few_distinct_rows_are_never_divided_between_folds() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal((3, 50)), 10, axis=0)
    centred = x - x.mean(0)
    _, folds = BandedRidge(selection="kfold", cv=3)._selection_and_folds(
        _ridge.Kernels([centred @ centred.T]), noise(30), None
    )
    assert [len(np.unique(folds[i : i + 10])) for i in (0, 10, 20)] == [1, 1, 1]


@pytest.mark.parametrize("n_kinds", [4, 8])
def test_one_caption_for_all_images_of_a_category_is_no_repeat(n_kinds: int) -> None:
    """300 images of 4 or 8 captions: kept together, 4 would not fill 5 folds, and 8 take R² from .48 to .31."""
    rng = np.random.default_rng(0)
    captions, weights = rng.standard_normal((n_kinds, 64)), rng.standard_normal((64, 20))
    signal = captions @ weights / (captions @ weights).std(0)
    shown, new = rng.integers(0, n_kinds, 300), rng.integers(0, n_kinds, 200)
    y, held_out = (signal[kind] + rng.standard_normal((len(kind), 20)) for kind in (shown, new))
    r2 = {
        selection: scoring.r2(
            held_out, BandedRidge(selection=selection).fit({"c": captions[shown]}, y).predict({"c": captions[new]})
        ).mean()
        for selection in ("auto", "gcv")
    }
    assert r2["auto"] >= r2["gcv"] - 0.01


def test_auto_is_kfold_for_few_repeated_or_autocorrelated_rows_and_gcv_otherwise() -> None:
    rng = np.random.default_rng(0)
    many, few = rng.standard_normal((320, 400)), rng.standard_normal((50, 400))
    twins = np.vstack([many[:160], many[:160]])
    slow = np.cumsum(rng.standard_normal((320, 400)), axis=0)
    designs = {"many": many, "few": few, "twins": twins, "slow": slow}
    designs = {name: _ridge.Columns([x - x.mean(0)]) for name, x in designs.items()}
    y = noise(320)
    assert BandedRidge()._selection_and_folds(designs["many"], y, None) == ("gcv", None)
    assert BandedRidge()._selection_and_folds(designs["few"], y[:50], None)[0] == "kfold"
    assert BandedRidge()._selection_and_folds(designs["twins"], y, None)[0] == "kfold"
    # Only where responses are slow, too, do neighbouring rows tell of each other.
    assert BandedRidge()._selection_and_folds(designs["slow"], y, None) == ("gcv", None)
    how, folds = BandedRidge()._selection_and_folds(designs["slow"], np.cumsum(y, axis=0), None)
    assert how == "kfold"
    assert (np.diff(folds) != 0).sum() == 4  # five stretches
