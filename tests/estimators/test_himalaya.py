"""Banded ridge of himalaya agrees with ours, and its backend is given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from _ridges import planted, scale_of
from sklearn.metrics import r2_score

from latentcortex import scoring
from latentcortex.estimators import make
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya


def test_himalaya_agrees_with_banded_ridge() -> None:
    x, y = planted(260, 60, n_voxels=40, noise=0.5)
    bands = {"z": x[:, :20], "c": x[:, 20:]}
    scaled = {b: a / np.sqrt(scale_of(a[:200])) for b, a in bands.items()}
    scaled = {b: a - a[:200].mean(0) for b, a in scaled.items()}
    inner = {b: a[:200] @ a[:200].T for b, a in scaled.items()}
    new = {b: a[200:] @ a[:200].T for b, a in scaled.items()}
    weights = np.random.default_rng(0).integers(1, 4, 200)
    ours = BandedRidge(selection="kfold").fit_gram(inner, y[:200], sample_weight=weights)
    theirs = make("himalaya").fit_gram(inner, y[:200], sample_weight=weights)
    predicted = [model.predict_gram(new).sum(0) + model.intercept_ for model in (ours, theirs)]
    assert (scoring.correlation(*predicted) > 0.99).all()
    assert abs(r2_score(y[200:], predicted[0]) - r2_score(y[200:], predicted[1])) < 0.01


def test_himalaya_gets_its_backend_back_even_after_an_exception() -> None:
    from himalaya.backend import get_backend, set_backend

    pytest.importorskip("torch")
    before = get_backend().name
    x, y = planted(20, 4)
    set_backend("torch")
    try:
        Himalaya().fit_gram({"z": x @ x.T}, y)
        assert get_backend().name == "torch"
        with pytest.raises(ValueError):  # noqa: PT011 - himalaya's own
            Himalaya(alphas=["none"]).fit_gram({"z": x @ x.T}, y)
        assert get_backend().name == "torch"
    finally:
        set_backend(before)


def test_threads_that_fit_with_himalayas_backends_wait_for_those_with_another() -> None:
    from himalaya.backend import get_backend

    pytest.importorskip("torch")
    x, y = planted(20, 4)
    before = get_backend().name

    def dual(backend: str) -> np.ndarray:
        return Himalaya(backend=backend).fit_gram({"z": x @ x.T}, y).dual()

    backends = ["torch", "torch", "numpy", "torch"] * 6
    with ThreadPoolExecutor(4) as pool:
        duals = list(pool.map(dual, backends))
    for backend, values in zip(backends, duals, strict=True):
        np.testing.assert_array_equal(values, duals[backends.index(backend)])
    assert get_backend().name == before
