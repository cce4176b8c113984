"""Weights and intercepts give the predictions of their model."""

from __future__ import annotations

import numpy as np
import pytest
from _ridges import planted

from latentcortex.errors import InputError
from latentcortex.estimators import make
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya

MODELS = {
    "banded": {"seed": 1},
    "one alpha": {"alphas": [3.0]},
    "no intercept": {"fit_intercept": False},
    "unscaled": {"scale": None, "selection": "kfold"},
    "unscaled, no intercept": {"scale": None, "fit_intercept": False, "selection": "gcv"},
    "equal": {"name": "ridge", "refine": False},
    "released": {"name": "takagi2023-released"},
    "himalaya": {"name": "himalaya"},
    "himalaya, unscaled": {"name": "himalaya", "scale": None},
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("n", [60, 15])
@pytest.mark.parametrize("by_band", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_times_weights_plus_the_intercept_are_the_prediction(
    model: str, n: int, by_band: bool, dtype: type
) -> None:
    """Features far from 0 and of unequal size, rows of unequal weight, a constant voxel; from columns and kernels."""
    x, y = planted(n + 30, 20, n_voxels=9, noise=0.5)
    x, y = x * np.linspace(0.5, 3, 20) + 10, y.astype(dtype)
    y[:, 4] = 2.0
    given = {b: x[:, some] for b, some in {"z": slice(0, 8), "c": slice(8, 20)}.items()} if by_band else x
    own = {"alphas": [0.1, 3.0, 100.0], **MODELS[model]}
    if own.get("name") == "takagi2023-released":
        del own["alphas"]
    fitted = make(own.pop("name", "banded_ridge"), **own)
    weights = np.random.default_rng(0).integers(1, 4, n).astype(float)

    def rows(some: slice):
        return {b: values[some] for b, values in given.items()} if by_band else given[some]

    fitted.fit(rows(slice(n)), y[:n], sample_weight=weights)
    new, coef = rows(slice(n, None)), fitted.coef_
    expected = fitted.predict(new)
    found = sum(new[b] @ coef[b] for b in new) if by_band else new @ coef
    exact = dtype == np.float64 and "himalaya" not in model
    np.testing.assert_allclose(found + fitted.intercept_, expected, rtol=0, atol=1e-9 if exact else 2e-4)
    assert np.isnan(fitted.intercept_).tolist() == np.isnan(expected[0]).tolist() == [i == 4 for i in range(9)]
    # Parts are measured from the features' mean, and the offset belongs to them.
    np.testing.assert_allclose(fitted.predict(new, split=True).sum(0) + fitted.offset_, expected, atol=2e-5)


def test_a_nested_model_has_weights_and_an_intercept_of_its_own() -> None:
    x, y = planted(60, 20, n_voxels=6)
    bands = {"z": x[:, :8] + 10, "c": x[:, 8:] - 5}
    for own in BandedRidge().fit(bands, y).nested().values():
        some = {band: bands[band] for band in own.bands}
        found = sum(some[band] @ own.coef_[band] for band in own.bands)
        np.testing.assert_allclose(found + own.intercept_, own.predict(some), atol=1e-9)


@pytest.mark.parametrize("model", [BandedRidge(), Himalaya()])
def test_gram_matrices_tell_an_intercept_and_no_weights(model: object) -> None:
    x, y = planted(40, 10, n_voxels=5)
    x = x - x.mean(0)
    model.fit_gram({"x": x @ x.T}, y)
    np.testing.assert_allclose(model.intercept_, y.mean(0), atol=1e-6)
    with pytest.raises(InputError, match="Gram matrices"):
        _ = model.coef_
