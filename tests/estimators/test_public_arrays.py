"""Estimators take numbers of any type, and refuse in one line what they cannot be fitted to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _numbers import TYPES

from latentcortex import estimators
from latentcortex.encoding import Encoder
from latentcortex.errors import AlignmentError, InputError
from latentcortex.features import Features


def rows() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    bands = {"a": rng.standard_normal((40, 3)), "b": rng.standard_normal((40, 4))}
    return bands, 10 * (bands["a"][:, :2] + rng.standard_normal((40, 2)))


ESTIMATORS = {"banded_ridge": {"mixtures": "equal"}, "himalaya": {"mixtures": "equal"}}


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Any:
    return estimators.make(request.param, **ESTIMATORS[request.param])


def test_an_estimator_takes_numbers_of_any_type(estimator: Any) -> None:
    bands, y = rows()
    for convert in TYPES.values():
        other = convert(y)
        expected = copy.copy(estimator).fit(bands, np.asarray(other, dtype=np.float64)).predict(bands)
        np.testing.assert_allclose(
            copy.copy(estimator).fit(bands, other).predict(bands), expected, rtol=1e-3, atol=1e-2
        )
        own = {"a": convert(bands["a"]), "b": bands["b"]}
        wide = {band: np.asarray(values, dtype=np.float64) for band, values in own.items()}
        expected = copy.copy(estimator).fit(wide, y).predict(wide)
        np.testing.assert_allclose(copy.copy(estimator).fit(own, y).predict(own), expected, rtol=1e-3, atol=1e-2)


def test_a_voxel_with_a_masked_response_is_nan_and_masked_features_are_refused(estimator: Any) -> None:
    """It was fitted as the value that the mask hides: r of .007 in place of none."""
    bands, y = rows()
    hidden = np.zeros(y.shape, dtype=bool)
    hidden[3, 1] = True
    yhat = estimator.fit(bands, np.ma.array(y, mask=hidden)).predict(bands)
    assert np.isnan(yhat).all(0).tolist() == [False, True]
    masked = {"a": np.ma.array(bands["a"], mask=bands["a"] > 2), "b": bands["b"]}
    for call in (lambda: estimator.fit(masked, y), lambda: estimator.predict(masked)):
        with pytest.raises(InputError, match=r"Band a: .* not finite"):
            call()


def test_what_an_estimator_cannot_be_fitted_to_is_refused_in_one_line(estimator: Any) -> None:
    bands, y = rows()
    grams = {band: values @ values.T for band, values in bands.items()}
    refused = [None, "abc", y > 0, y * 1j, y.astype(str), y.astype(object), pd.DataFrame(y), [[1.0], [1.0, 2.0]]]
    calls: list[Callable[[], Any]] = [lambda other=other: estimator.fit(bands, other) for other in refused]
    calls += [lambda other=other: estimator.fit_gram(grams, other) for other in refused]
    calls += [lambda other=other: estimator.fit({"a": other}, y) for other in refused if other is not refused[2]]
    calls += [lambda other=other: estimator.fit_gram({"a": other}, y) for other in refused]
    calls += [lambda: estimator.fit_gram([grams["a"]], y), lambda: estimator.fit(5.0, y)]
    calls += [lambda given=given: estimator.fit(bands, y, groups=given) for given in (["a", None] * 20, "ab", ["a"])]
    for call in calls:
        with pytest.raises(InputError) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(AlignmentError, match=r"Responses are \(40,\); .* y\.reshape\(-1, 1\)"):
        estimator.fit(bands, y[:, 0])
    fitted = estimator.fit(bands, y)
    for other in refused:
        with pytest.raises(InputError):
            fitted.predict({"a": other, "b": bands["b"]} if other is not refused[2] else {"b": bands["b"]})


def test_an_encoder_refuses_arrays_where_ids_are_needed() -> None:
    bands, y = rows()
    features = Features.from_arrays([f"s{i}" for i in range(40)], bands)
    encoder = Encoder(estimators.make("banded_ridge"))
    for nouns in ((bands, y), (features, y), (features, None)):
        for call in (encoder.fit, encoder.score):
            with pytest.raises(InputError, match="whose rows have ids"):
                call(*nouns)
