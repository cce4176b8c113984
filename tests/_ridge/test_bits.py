"""Results have the same bits whatever the chunks, workers, threads and places of the data."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _engine import HALVES, results, size, two_bands, worked_in

from latentcortex import _ridge
from latentcortex._arrays import TILE
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.executors import _sharing, share

THREE = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]])


def sha(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


PRECISIONS = {"float32": (780, np.float32), "float64": (150, np.float64)}
"""Rows of each precision; more than 512 are left to two of three folds."""


def kernels(
    n: int, n_voxels: int, *, dtype: type, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Kernels of 2 bands between n rows and with 40 new ones, and responses over more than one tile."""
    bands, y = two_bands(n + 40, (40, n + 100), n_voxels=n_voxels, seed=seed)
    scaled = {band: (x - x[:n].mean(0)) / np.sqrt(size(x[:n])) for band, x in bands.items()}
    inner = {band: x[:n] @ x[:n].T for band, x in scaled.items()}
    return inner, {band: x[n:] @ x[:n].T for band, x in scaled.items()}, y[:n].astype(dtype)


def fit_of(selection: str, known: dict[str, np.ndarray], y: np.ndarray, **options: object) -> BandedRidge:
    few = {"alphas": np.logspace(-1, 5, 7), "cv": 3, "mixtures": THREE if selection == "kfold" else None}
    return BandedRidge(selection=selection, **few | options).fit_gram(known, y)


@pytest.fixture(scope="module", params=[(name, how) for name in PRECISIONS for how in ("gcv", "kfold")], ids="-".join)
def fitted(request: pytest.FixtureRequest) -> tuple[str, dict, dict, np.ndarray, BandedRidge, np.ndarray]:
    """One fit by kernels, and its predictions for all voxels together."""
    precision, selection = request.param
    n, dtype = PRECISIONS[precision]
    known, new, y = kernels(n, TILE + 100, dtype=dtype)
    model = fit_of(selection, known, y)
    assert worked_in(model) == dtype
    return selection, known, new, y, model, model.predict_gram(new)


@pytest.mark.parametrize("chunk", [97, 333, 1000])
def test_voxels_asked_for_in_chunks_have_the_bits_of_all_together(fitted: tuple, chunk: int) -> None:
    _, _, new, y, model, together = fitted
    parts = [model.predict_gram(new, voxels=slice(i, i + chunk)) for i in range(0, y.shape[1], chunk)]
    assert sha(np.concatenate(parts, axis=2)) == sha(together)


SIZES = [(one, alphas) for one in PRECISIONS for alphas in ((0.01, 1.0), (1e3, 1e4))]


@pytest.fixture(scope="module", params=SIZES, ids=str)
def sized(request: pytest.FixtureRequest) -> tuple[dict, BandedRidge]:
    """Small alphas, whose solutions are refined in float32, and large ones, whose are not."""
    precision, alphas = request.param
    n, dtype = {"float32": 560, "float64": 150}[precision], PRECISIONS[precision][1]
    known, new, y = kernels(n, TILE + 100, dtype=dtype)
    model = fit_of("gcv", known, y, alphas=alphas, mixtures=HALVES)
    assert worked_in(model) == dtype
    return new, model


@pytest.mark.parametrize("chunk", [1, 97, 333, 1000])
def test_chunks_have_the_bits_of_all_together_at_any_size_of_alpha(sized: tuple, chunk: int) -> None:
    new, model = sized
    together, dual = model.predict_gram(new), model.dual()
    for first in range(0, TILE + 100, max(chunk, 251)):
        some = slice(first, first + chunk)
        assert sha(model.dual(some)) == sha(dual[:, some])
        assert sha(model.predict_gram(new, voxels=some)) == sha(together[:, :, some])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_chunks_of_a_fit_of_columns_have_the_bits_of_all_together(precision: str) -> None:
    n, dtype = PRECISIONS[precision]
    bands, y = two_bands(n, n_voxels=150)
    model = BandedRidge(alphas=[1e3, 1e4], mixtures=HALVES, selection="gcv").fit(bands, y.astype(dtype))
    assert isinstance(model._fit.design, _ridge.Columns)
    together = model.predict(bands)
    for chunk in (1, 17, 97):
        parts = [model.predict(bands, voxels=slice(i, i + chunk)) for i in range(0, 150, chunk)]
        assert sha(np.concatenate(parts, axis=1)) == sha(together)


@pytest.mark.parametrize("n_workers", [1, 8])
def test_results_have_the_same_bits_whatever_the_number_of_workers(
    fitted: tuple, n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection, known, new, y, model, together = fitted
    monkeypatch.setattr(_sharing, "n_cores", lambda: n_workers)
    again = fit_of(selection, known, y)
    assert sha(*results(again).values(), again.predict_gram(new)) == sha(*results(model).values(), together)


@pytest.mark.parametrize("order", ["F", "every other voxel", "on disk, C", "on disk, F"])
def test_results_have_the_same_bits_wherever_responses_lie(fitted: tuple, order: str, tmp_path: Path) -> None:
    selection, known, new, y, model, together = fitted
    lying = np.repeat(y, 2, axis=1)[:, ::2] if order == "every other voxel" else np.asarray(y, order=order[-1])
    if order.startswith("on disk"):
        np.save(tmp_path / "y.npy", lying)
        lying = np.load(tmp_path / "y.npy", mmap_mode="r")
    again = fit_of(selection, known, lying)
    for name, value in results(again).items():
        assert sha(value) == sha(results(model)[name]), name
    assert sha(again.predict_gram(new)) == sha(together)


BITS = """
import json, os, sys
if sys.argv[1] != "all" and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [0])
elif hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, range(os.cpu_count()))
import copy
import hashlib
import numpy as np
from latentcortex.executors import n_cores, share
from latentcortex.estimators.banded_ridge import BandedRidge

def sha(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

def fit(n, dtype, selection, dims):
    rng = np.random.default_rng(n)
    bands = {"z": rng.standard_normal((n, dims)), "c": rng.standard_normal((n, 2 * dims))}
    y = (np.linspace(0, 2, 1100) * (bands["z"][:, :3] @ rng.standard_normal((3, 1100)))).astype(dtype)
    y += rng.standard_normal(y.shape).astype(dtype)
    model = BandedRidge(selection=selection, cv=2, alphas=np.logspace(-1, 5, 7)).fit(bands, y)
    out = {
        "chosen": sha(model.alphas_, model.mixtures_, model.cv_scores_, model.intercept_),
        "predicted": sha(model.predict(bands)),
        "nested": sha(*[one.predict({b: bands[b] for b in one.bands}) for one in model.nested().values()]),
        "coef": sha(*model.coef_.values()),
    }
    return out

jobs = [
    (n, dtype, selection, dims)
    for n, dtype in ((560, np.float32), (120, np.float64))
    for selection in ("gcv", "kfold")
    for dims in (30, 200)
    if (n, selection, dims) != (560, "kfold", 200)
]
alone = [fit(*job) for job in jobs]
within = share(lambda job: fit(*job), jobs[3:])
print(json.dumps({"cores": n_cores(), "alone": alone, "within": within}))
"""


@pytest.fixture(scope="module")
def by_threads() -> tuple[dict, dict]:
    """The same fits on one core with one BLAS thread, and on all cores with two."""
    runs = []
    for cores, threads in (("one", "1"), ("all", "2")):
        limits = {f"{library}_NUM_THREADS": threads for library in ("OMP", "OPENBLAS", "MKL")}
        command = [sys.executable, "-c", BITS, cores]
        done = subprocess.run(command, env=os.environ | limits, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return runs[0], runs[1]


@pytest.mark.parametrize("what", ["chosen", "predicted", "nested", "coef"])
def test_results_have_the_same_bits_on_one_core_and_on_all(by_threads: tuple[dict, dict], what: str) -> None:
    one, several = by_threads
    if several["cores"] < 2:
        pytest.skip("one core")
    assert [run[what] for run in one["alone"]] == [run[what] for run in several["alone"]]


def test_results_have_the_same_bits_inside_a_worker(by_threads: tuple[dict, dict]) -> None:
    for run in by_threads:
        for what in ("chosen", "predicted", "nested"):
            assert [one[what] for one in run["within"]] == [one[what] for one in run["alone"][3:]]


def test_a_fit_inside_a_worker_has_the_bits_of_one_outside() -> None:
    known, new, y = kernels(150, 200, dtype=np.float64)
    outside = sha(fit_of("gcv", known, y).predict_gram(new))
    assert share(lambda _: sha(fit_of("gcv", known, y).predict_gram(new)), [0, 1]) == [outside] * 2


LOST = {"one": slice(1000, 1001), "the last": slice(-1, None), "every 7th": slice(None, None, 7)}


@pytest.mark.parametrize("lost", LOST)
def test_a_nan_voxel_changes_the_others_by_no_more_than_rounding(fitted: tuple, lost: str) -> None:
    """A product's last bits depend on how many voxels it has; a near tie between mixtures may fall elsewhere."""
    _, known, new, y, model, _ = fitted
    spoilt, others = y.copy(), np.ones(y.shape[1], dtype=bool)
    spoilt[3, LOST[lost]], others[LOST[lost]] = np.nan, False
    again = BandedRidge(**model.get_params()).fit_gram(known, spoilt)
    one, other = model.predict_gram(new), again.predict_gram(new)
    assert np.isnan(other[..., ~others]).all()
    same = others & (model.mixtures_ == again.mixtures_).all(0)
    assert same.sum() >= 0.99 * others.sum()
    exact = y.dtype == np.float64
    size = np.abs(one[..., same]).max()
    np.testing.assert_allclose(other[..., same], one[..., same], rtol=0, atol=(1e-9 if exact else 1e-4) * size)
    np.testing.assert_allclose(again.alphas_[same], model.alphas_[same], rtol=1e-6 if exact else 1e-2)


@pytest.mark.parametrize("lost", [3, -1])
def test_a_nan_voxel_leaves_the_bits_of_other_tiles_and_of_every_intercept(fitted: tuple, lost: int) -> None:
    _, known, new, y, model, together = fitted
    spoilt = y.copy()
    spoilt[3, lost] = np.nan
    again = BandedRidge(**model.get_params()).fit_gram(known, spoilt)
    elsewhere = slice(0, TILE) if lost < 0 else slice(TILE, None)
    for name, value in results(again).items():
        assert sha(value[..., elsewhere]) == sha(results(model)[name][..., elsewhere]), name
    assert sha(again.predict_gram(new)[..., elsewhere]) == sha(together[..., elsewhere])
    assert sha(np.delete(again.intercept_, lost)) == sha(np.delete(model.intercept_, lost))
