"""Ridge and banded ridge as estimators of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from _ridges import planted
from sklearn.base import clone
from sklearn.linear_model import Ridge

from latentcortex.estimators.banded_ridge import BandedRidge


def test_it_follows_scikit_learns_conventions() -> None:
    x, y = planted(60, 10)
    model = BandedRidge(alphas=[1.0, 10.0], seed=3, scale=None)
    assert model.get_params()["seed"] == 3
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    np.testing.assert_array_equal(copy.fit(x, y).predict(x), model.fit(x, y).predict(x))
    assert model.set_params(seed=4).seed == 4


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("selection", ["gcv", "kfold", "loo"])
def test_without_scale_it_is_sklearns_ridge_with_or_without_intercept(fit_intercept: bool, selection: str) -> None:
    x, y = planted(50, 20)
    x = x + 2
    weights = np.random.default_rng(0).integers(1, 4, 50).astype(float)
    options = {"alphas": [5.0], "scale": None, "fit_intercept": fit_intercept, "selection": selection}
    model = BandedRidge(**options).fit(x, y, sample_weight=weights)
    theirs = Ridge(alpha=5.0, fit_intercept=fit_intercept).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(model.predict(x + 1), theirs.predict(x + 1), rtol=1e-9)
    np.testing.assert_allclose(model.coef_, theirs.coef_.T, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(model.intercept_, theirs.intercept_, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_leave_one_out_is_that_of_explicit_refits(fit_intercept: bool) -> None:
    x, y = planted(40, 60, n_voxels=12, noise=2)
    alphas = np.logspace(0, 4, 9)
    options = {"scale": None, "fit_intercept": fit_intercept, "refine": False}
    model = BandedRidge(alphas=alphas, selection="loo", **options).fit(x, y)
    errors = np.zeros((len(alphas), 12))
    nothing = np.zeros(12)
    for i in range(40):
        rest = np.arange(40) != i
        nothing += (y[i] - fit_intercept * y[rest].mean(0)) ** 2
        for a, alpha in enumerate(alphas):
            theirs = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(x[rest], y[rest])
            errors[a] += (y[i] - theirs.predict(x[i : i + 1])[0]) ** 2
    np.testing.assert_array_equal(model.alphas_, alphas[errors.argmin(0)])
    np.testing.assert_allclose(model.cv_scores_, 1 - errors.min(0) / nothing, atol=1e-9)


def test_split_predictions_are_what_each_band_contributes() -> None:
    x, y = planted(60, 30)
    bands = {"z": x[:, :10], "c": x[:, 10:]}
    model = BandedRidge().fit(bands, y)
    split = model.predict(bands, split=True)
    assert split.shape == (2, 60, 20)
    np.testing.assert_allclose(split.sum(0) + model.offset_, model.predict(bands), rtol=1e-6)
    alone = (bands["c"] - bands["c"].mean(0)) @ model.coef_["c"]
    np.testing.assert_allclose(split[1], alone, atol=1e-5)


def test_mixtures_sum_to_1_and_scores_say_how_much_was_explained() -> None:
    x, y = planted(400, 30, n_voxels=40, noise=0.3)
    y[:, 20:] = np.random.default_rng(1).standard_normal((400, 20))
    y[:, 39] = 7.0
    x_bands = {"z": x[:, :10], "c": x[:, 10:]}
    model = BandedRidge(selection="gcv").fit(x_bands, y)
    assert model.mixtures_.shape == (2, 40)
    np.testing.assert_allclose(model.mixtures_.sum(0)[:39], 1)
    assert model.cv_scores_[:20].min() > 0.8
    assert np.abs(model.cv_scores_[20:39]).max() < 0.1
    for undefined in (model.cv_scores_, model.alphas_, model.intercept_, *model.mixtures_, *model.predict(x_bands)):
        assert np.isnan(undefined[39])
