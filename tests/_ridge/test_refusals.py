"""What cannot be fitted is nan and counted, or an input error, and what is converted is logged."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest
from _engine import HALVES, relative, results, rows, two_bands

from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize(("dims", "n", "dtype"), [((8, 12), 60, float), ((60, 70), 60, float), ((9, 9), 540, "f4")])
def test_a_voxel_that_cannot_be_fitted_is_nan_everywhere_and_counted(
    dims: tuple[int, int], n: int, dtype: object, selection: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    bands, y = two_bands(n, dims)
    y = y.astype(dtype)
    y[4, 3], y[5, 7], y[6, 8], y[:, 11], y[:, 12], y[:, 13] = np.nan, np.inf, -np.inf, 1000.1, 0, np.nan
    lost = np.isin(np.arange(30), [3, 7, 8, 11, 12, 13])
    clean = BandedRidge(selection=selection).fit(bands, np.delete(y, np.flatnonzero(lost), axis=1))
    assert "not finite" not in caplog.text
    model = BandedRidge(selection=selection).fit(bands, y)
    assert "6 of 30 voxels are not finite or do not vary: they are nan." in caplog.text
    found = {**results(model), "split": model.predict(bands, split=True), "predicted": model.predict(bands)}
    found |= {f"coef {band}": weights for band, weights in model.coef_.items()}
    for name, value in found.items():
        np.testing.assert_array_equal(np.isnan(value), np.broadcast_to(lost, value.shape), err_msg=name)
    # Nor does it matter that they stand beside the others; a near tie may fall elsewhere.
    np.testing.assert_allclose(model.predict(bands)[:, ~lost], clean.predict(bands), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.0])
def test_no_usable_voxel_at_all_is_an_input_error(value: float) -> None:
    x, y = rows(40, 8)
    for selection in ("gcv", "kfold", "auto"):
        with pytest.raises(InputError, match="0 of 20 voxels are usable"):
            BandedRidge(selection=selection).fit(x, np.full_like(y, value))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_an_input_error_that_names_band_and_row(value: float) -> None:
    bands, y = two_bands(40)
    model = BandedRidge().fit(bands, y)
    bands["c"][[17, 30], 2] = value
    told = "Band c: 2 of 480 values are not finite, the first in row 17"
    with pytest.raises(InputError, match=told):
        BandedRidge().fit(bands, y)
    with pytest.raises(InputError, match=told):
        model.predict(bands)


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
@pytest.mark.parametrize("n_dims", [10, 90])
def test_constant_columns_are_counted_and_predict_nothing(
    n_dims: int, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    x, y = rows(57, n_dims)
    wider = np.hstack([x, np.full((57, 3), value)])
    model, alone = (BandedRidge(selection="gcv").fit(one, y[:57]) for one in (wider, x))
    assert f"3 of {n_dims + 3} columns of x are constant and predict nothing." in caplog.text
    new = np.hstack([x, np.full((57, 3), value + 10)])
    assert relative(model.predict(new), alone.predict(x)) <= 1e-9


@pytest.mark.parametrize("value", [0.1, 1e-3, 1000.1])
@pytest.mark.parametrize("n_dims", [2, 60])
def test_a_band_of_constant_columns_predicts_nothing_even_where_new_rows_vary(n_dims: int, value: float) -> None:
    x, y = rows(41, 10)
    bands = {"z": x, "c": np.full((41, n_dims), value)}
    model = BandedRidge(alphas=[0.01], mixtures=HALVES, selection="gcv").fit(bands, y)
    split = model.predict({"z": x, "c": bands["c"] + np.arange(41)[:, None]}, split=True)
    assert np.abs(split[1]).max() <= 1e-6


def test_a_band_without_columns_is_an_input_error() -> None:
    bands, y = two_bands(40)
    with pytest.raises(InputError, match=r"Band c is \(40, 0\); expected .* at least one column"):
        BandedRidge().fit(bands | {"c": np.empty((40, 0))}, y)
    with pytest.raises(InputError, match="There is no band"):
        BandedRidge().fit({}, y)


@pytest.mark.parametrize(("dtype", "wider"), [("int16", "float64"), ("float16", "float32"), ("bool", "float64")])
def test_features_of_other_types_are_converted_and_logged(
    dtype: str, wider: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    x, y = rows(40, 8)
    own = (10 * x).astype(dtype) if dtype != "bool" else x > 0
    model = BandedRidge().fit({"z": own}, y)
    assert f"Band z: {dtype} was converted to {wider}." in caplog.text
    np.testing.assert_array_equal(model.predict({"z": own}), model.predict({"z": own.astype(float)}))


def test_responses_of_other_types_are_converted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    x, y = rows(40, 8)
    whole = (10 * y).astype(np.int16)
    model = BandedRidge().fit(x, whole)
    assert "Responses: int16 was converted to float64." in caplog.text
    np.testing.assert_array_equal(model.predict(x), BandedRidge().fit(x, whole.astype(float)).predict(x))


@pytest.mark.parametrize("alphas", [[], [np.nan], [1.0, np.nan], [0.0, 1.0], [-1.0], [np.inf]])
def test_alphas_that_are_no_penalties_are_an_input_error(alphas: list[float]) -> None:
    with pytest.raises(InputError, match="alphas must be > 0 and finite; got"):
        BandedRidge(alphas=alphas)
    with pytest.raises(InputError, match="alphas must be > 0 and finite; got"):
        BandedRidge(alphas=np.array(alphas))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_fewer_rows_than_folds_are_an_input_error_that_says_how_many_are_needed(n: int) -> None:
    x, y = rows(n, 8)
    for selection in ("auto", "kfold"):
        with pytest.raises(InputError, match=f"{n} rows .* 5 folds need at least 5 different rows"):
            BandedRidge(selection=selection).fit(x, y)


def test_one_group_of_rows_is_an_input_error_that_says_how_many_are_needed() -> None:
    x, y = rows(30, 8)
    with pytest.raises(InputError, match="5 folds need at least 5 different rows"):
        BandedRidge(selection="kfold").fit(x, y, groups=["a"] * 30)


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
def test_an_alpha_at_the_edge_is_warned_of_with_its_share(selection: str, caplog: pytest.LogCaptureFixture) -> None:
    """10 of 40 voxels are without noise, and so want no penalty; a constant one does not count."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 10))
    signal = x @ rng.standard_normal((10, 41))
    y = signal / signal.std(0) + np.where(np.arange(41) < 10, 0, 3) * rng.standard_normal((200, 41))
    y[:, 40] = 1.0
    model = BandedRidge(alphas=np.logspace(-2, 7, 19), selection=selection).fit(x, y)
    share = np.mean(model.alphas_[:40] <= 0.01)
    assert share == 0.25
    assert "The smallest alpha (0.01) was the best for 25.0 % of what is predicted from x" in caplog.text
    assert "largest" not in caplog.text


def test_a_weight_of_exactly_0_among_the_mixtures_is_fine() -> None:
    bands, y = two_bands(60)
    mixtures = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    y[:, :5] = bands["z"] @ np.ones((8, 5)) + 0.01 * np.random.default_rng(0).standard_normal((60, 5))
    for selection in ("gcv", "loo", "kfold"):
        model = BandedRidge(mixtures=mixtures, selection=selection).fit(bands, y)
        assert np.isfinite(model.predict(bands)).all()
        assert (model.mixtures_[1, :5] == 0).all()
        assert not model.predict(bands, split=True)[1, :, :5].any()


def test_a_fit_that_fails_leaves_the_earlier_one() -> None:
    bands, y = two_bands(60)
    model = BandedRidge().fit(bands, y)
    before = model.predict(bands)
    with pytest.raises(InputError):
        model.fit({b: 100 * x + 7 for b, x in bands.items()}, np.full_like(y, np.nan))
    np.testing.assert_array_equal(model.predict(bands), before)


def test_a_fitted_model_can_be_copied_and_pickled() -> None:
    bands, y = two_bands(60)
    model = BandedRidge().fit(bands, y)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(bands), model.predict(bands))


def test_misuse_is_an_input_error() -> None:
    bands, y = two_bands(60)
    with pytest.raises(InputError, match="not fitted yet"):
        BandedRidge().predict(bands)
    model = BandedRidge().fit(bands, y)
    with pytest.raises(InputError, match="slice of neighbouring ones"):
        model.predict(bands, voxels=slice(0, 6, 2))
    with pytest.raises(AlignmentError, match="groups has 3"):
        BandedRidge(selection="gcv").fit(bands, y, groups=["a"] * 3)
    with pytest.raises(InputError, match="expected real numbers; got complex128"):
        BandedRidge().fit(bands, y + 1j)
    with pytest.raises(InputError, match="alphas must be > 0"):
        BandedRidge().set_params(alphas=[-1.0, 2.0]).fit(bands, y)
    for wrong in (["a"], None, 5.0, [[1.0]]):
        with pytest.raises(InputError, match="alphas must be > 0"):
            BandedRidge(alphas=wrong)
    with pytest.raises(InputError, match="cv must be a whole number"):
        BandedRidge(cv=2.5)
