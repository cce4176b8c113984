"""Backends and devices agree with numpy, and one that is not there is an input error."""

from __future__ import annotations

import numpy as np
import pytest
from _engine import relative, rows, two_bands, worked_in

from latentcortex import _ridge, scoring
from latentcortex.errors import InputError
from latentcortex.estimators.banded_ridge import BandedRidge


def agree(name: str) -> None:
    """Fit with a backend and with numpy, in both precisions and by each criterion."""
    n_same, n_voxels = 0, 0
    for n, dtype, selection, dims in (
        (560, np.float32, "gcv", (20, 60)),
        (560, np.float32, "gcv", (60, 550)),
        (560, np.float32, "loo", (20, 60)),
        (780, np.float32, "kfold", (20, 60)),
        (120, np.float64, "gcv", (60, 90)),
        (120, np.float64, "loo", (8, 12)),
        (120, np.float64, "kfold", (60, 90)),
    ):
        bands, y = two_bands(n + 100, dims, n_voxels=200)
        fitted = {band: x[:n] for band, x in bands.items()}
        new = {band: x[n:] for band, x in bands.items()}
        options = {"selection": selection, "alphas": np.logspace(-1, 5, 7), "refine": False, "cv": 3}
        models = [
            BandedRidge(backend=backend, **options).fit(fitted, y[:n].astype(dtype)) for backend in (name, "numpy")
        ]
        assert [model._fit.prepared.backend.name for model in models] == [name, "numpy"]
        assert worked_in(models[0]) == worked_in(models[1]) == dtype
        same = models[0].alphas_ == models[1].alphas_
        n_same, n_voxels = n_same + int(same.sum()), n_voxels + len(same)
        # Where a near tie fell to another candidate, predictions differ as candidates do.
        same &= (models[0].mixtures_ == models[1].mixtures_).all(0)
        assert same.mean() >= 0.99
        found, expected = (model.predict(new)[:, same] for model in models)
        assert relative(found, expected) <= (1e-5 if dtype == np.float32 else 1e-10)
        r = [scoring.correlation(y[n:, same], one) for one in (found, expected)]
        assert np.abs(r[0] - r[1]).max() <= 1e-5
        alone = [model.nested([["c"]])[("c",)].predict({"c": new["c"]}) for model in models]
        assert np.median(np.linalg.norm(alone[0] - alone[1], axis=0) / np.linalg.norm(alone[1], axis=0)) <= 1e-5
    assert n_same >= 0.999 * n_voxels


def test_torch_on_the_processor_agrees_with_numpy() -> None:
    pytest.importorskip("torch")
    agree("torch")


@pytest.mark.gpu
def test_a_cuda_device_agrees_with_numpy() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    agree("cuda")


def test_the_automatic_backend_is_numpy_where_there_is_no_cuda_device() -> None:
    torch = pytest.importorskip("torch")
    x, y = rows(40, 8)
    model = BandedRidge().fit(x, y)
    assert model._fit.prepared.backend.name == ("cuda" if torch.cuda.is_available() else "numpy")


def test_a_backend_that_is_not_known_is_an_input_error_that_lists_those_that_are() -> None:
    with pytest.raises(InputError, match="auto, numpy, torch, cuda, mps") as told:
        BandedRidge(backend="tpu")
    assert "tpu" in str(told.value)
    with pytest.raises(InputError, match=r"Unknown backend 'tpu'.*Known: auto, cuda, mps, numpy, torch"):
        _ridge.backend("tpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_this_machine_lacks_is_an_input_error_that_says_what_to_use(name: str) -> None:
    torch = pytest.importorskip("torch")
    if {"cuda": torch.cuda, "mps": torch.backends.mps}[name].is_available():
        pytest.skip("it is there")
    x, y = rows(40, 8)
    with pytest.raises(InputError, match=f"Backend '{name}' is not on this machine; use 'auto' or 'numpy'"):
        BandedRidge(backend=name).fit(x, y)
