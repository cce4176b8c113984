"""A nested model is a fit of its bands alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from _engine import relative, two_bands

from latentcortex import _ridge
from latentcortex.errors import InputError
from latentcortex.estimators.banded_ridge import BandedRidge


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize("route", ["columns", "kernels"])
@pytest.mark.parametrize("n_bands", [2, 3])
def test_a_nested_model_is_a_fit_of_its_bands_alone(n_bands: int, route: str, selection: str) -> None:
    rng = np.random.default_rng(n_bands)
    dims = [6, 9, 12] if route == "columns" else [90, 100, 110]
    bands = {name: rng.standard_normal((100, p)) * p + 2 for name, p in zip("zce"[:n_bands], dims, strict=False)}
    y = sum(x @ rng.standard_normal((x.shape[1], 40)) / np.linalg.norm(x) for x in bands.values())
    y = y / y.std(0) + np.linspace(0.3, 3, 40) * rng.standard_normal((100, 40))
    fitted, new = ({band: x[part] for band, x in bands.items()} for part in (slice(0, 80), slice(80, 100)))
    model = BandedRidge(selection=selection, seed=2).fit(fitted, y[:80])
    assert isinstance(model._fit.design, _ridge.Columns if route == "columns" else _ridge.Kernels)
    nested = model.nested()
    assert list(nested) == [some for k in range(1, n_bands + 1) for some in combinations(bands, k)]
    for own, found in nested.items():
        alone = BandedRidge(selection=selection, seed=2).fit({band: fitted[band] for band in own}, y[:80])
        ahead = {band: new[band] for band in own}
        assert found.bands == own
        np.testing.assert_allclose(found.alphas_, alone.alphas_, rtol=1e-6)
        np.testing.assert_array_equal(found.mixtures_, alone.mixtures_)
        np.testing.assert_allclose(found.cv_scores_, alone.cv_scores_, atol=1e-8)
        assert relative(found.predict(ahead), alone.predict(ahead)) <= 1e-6
    full = nested[tuple(bands)]
    np.testing.assert_allclose(full.alphas_, model.alphas_, rtol=1e-8)
    assert relative(full.predict(new), model.predict(new)) <= 1e-10


def test_a_nested_model_takes_the_mixtures_that_were_given() -> None:
    bands, y = two_bands(60)
    mixtures = np.array([[0.2, 0.8], [0.6, 0.4]])
    model = BandedRidge(mixtures=mixtures, selection="gcv").fit(bands, y)
    nested = model.nested([["c"], ["c", "z"]])
    assert list(nested) == [("c",), ("z", "c")]
    assert (nested[("c",)].mixtures_ == 1).all()
    np.testing.assert_array_equal(nested[("z", "c")].mixtures_, model.mixtures_)


def test_a_nested_model_of_an_unknown_band_or_of_none_is_an_input_error() -> None:
    bands, y = two_bands(60)
    model = BandedRidge().fit(bands, y)
    with pytest.raises(InputError, match=r"Unknown band 'zz'. Did you mean 'z'\? Known: c, z"):
        model.nested([["z"], ["c", "zz"]])
    with pytest.raises(InputError, match="at least one band"):
        model.nested([["z"], []])


def test_a_nested_model_has_nested_models() -> None:
    bands, y = two_bands(60)
    bands["b"] = np.random.default_rng(5).standard_normal((60, 7))
    model = BandedRidge().fit(bands, y)
    twice = model.nested([["c", "b"]])["c", "b"].nested([["b"]])[("b",)]
    once = model.nested([["b"]])[("b",)]
    np.testing.assert_array_equal(twice.predict({"b": bands["b"]}), once.predict({"b": bands["b"]}))
