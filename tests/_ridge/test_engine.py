"""The ridge engine against closed forms and other people's code, its bits, its refusals and its memory."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg
from sklearn.linear_model import Ridge, RidgeCV

from latentcortex import _ridge, scoring
from latentcortex._arrays import TILE
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.executors import _sharing, share

HALVES = np.array([[0.5, 0.5]])
THREE = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]])
ALPHAS = np.logspace(-2, 4, 13)


def rows(n: int, p: int, *, n_voxels: int = 20, noise: float = 1.0, condition: float = 1.0, seed: int = 0):
    """Features of a condition number, whose kernel has about 1 on its diagonal, and responses driven by them."""
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.standard_normal((n, p)), full_matrices=False)
    spectrum = np.geomspace(1, 1 / condition, min(n, p))
    x = u * (spectrum * np.sqrt(n / (spectrum**2).sum())) @ v if condition > 1 else rng.standard_normal((n, p))
    signal = x @ rng.standard_normal((p, n_voxels))
    return x, signal / signal.std(0) + noise * rng.standard_normal((n, n_voxels)) + 3


def two_bands(n: int, dims: tuple[int, int] = (8, 12), *, n_voxels: int = 30, seed: int = 0):
    """Two bands, and voxels from one to the other and from noise to signal."""
    rng = np.random.default_rng(seed)
    bands = {"z": rng.standard_normal((n, dims[0])) + 1, "c": 3 * rng.standard_normal((n, dims[1]))}
    parts = [x @ rng.standard_normal((x.shape[1], n_voxels)) for x in bands.values()]
    first, second = (part / part.std(0) for part in parts)
    share, strength = rng.random(n_voxels), np.linspace(0.1, 2, n_voxels)
    signal = strength * (share * first + (1 - share) * second)
    return bands, signal + rng.standard_normal((n, n_voxels)) + 3


def centred(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return x - np.average(x, axis=0, weights=weights)


def size(x: np.ndarray) -> float:
    return float((centred(x) ** 2).sum(1).mean())


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error of a voxel, relative to its size."""
    return float(np.max(np.linalg.norm(found - expected, axis=-2) / np.linalg.norm(expected, axis=-2)))


def worked_in(model: BandedRidge) -> np.dtype:
    return model._fit.prepared.dtype


def sha(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def results(model: BandedRidge) -> dict[str, np.ndarray]:
    names = ("alphas_", "mixtures_", "cv_scores_", "intercept_")
    return {name: getattr(model, name) for name in names}


# F: numerical accuracy


def closed_form(x: np.ndarray, y: np.ndarray, new: np.ndarray, alpha: float, w: np.ndarray | None) -> np.ndarray:
    """(K + alpha W^-1) by Cholesky, all in float64."""
    weights = np.ones(len(x)) if w is None else w
    mean, intercept = np.average(x, axis=0, weights=weights), np.average(y, axis=0, weights=weights)
    kernel = (x - mean) @ (x - mean).T + alpha * np.diag(1 / weights)
    dual = linalg.cho_solve(linalg.cho_factor(kernel), y - intercept)
    return (new - mean) @ (x - mean).T @ dual + intercept


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
@pytest.mark.parametrize(("p", "route"), [(30, _ridge.Columns), (200, _ridge.Kernels)])
def test_float64_is_the_closed_form_by_cholesky(p: int, route: type, condition: float, weighted: bool) -> None:
    x, y = rows(100, p, condition=condition)
    w = np.random.default_rng(1).integers(1, 5, 80).astype(float) if weighted else None
    for alpha in np.logspace(-3, 3, 7):
        model = BandedRidge(alphas=[alpha], scale=None, selection="gcv").fit(x[:80], y[:80], sample_weight=w)
        assert isinstance(model._fit.design, route)
        assert worked_in(model) == np.float64
        assert relative(model.predict(x), closed_form(x[:80], y[:80], x, alpha, w)) <= 1e-10


def rational(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Solve by elimination, without any rounding."""
    n = len(right)
    table = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if table[i][k] != 0)
        table[k], table[pivot] = table[pivot], table[k]
        table[k] = [value / table[k][k] for value in table[k]]
        for i in range(n):
            if i != k:
                table[i] = [a - table[i][k] * b for a, b in zip(table[i], table[k], strict=True)]
    return [row[-1] for row in table]


@pytest.mark.parametrize("alpha", ["1/1000", "1/3", "1000"])
@pytest.mark.parametrize("p", [3, 7])
def test_five_rows_are_what_exact_fractions_give(p: int, alpha: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-9, 9, (5, p)), rng.integers(-9, 9, 5)
    exact = [[Fraction(int(value)) for value in row] for row in x]
    mean = [sum(column, Fraction(0)) / 5 for column in zip(*exact, strict=True)]
    rows_ = [[a - b for a, b in zip(row, mean, strict=True)] for row in exact]
    intercept = Fraction(int(y.sum()), 5)
    penalty = Fraction(float(Fraction(alpha)))  # the float that the engine sees, exactly
    gram = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows_] for one in rows_]
    ridge = [[value + penalty * (i == j) for j, value in enumerate(row)] for i, row in enumerate(gram)]
    dual = rational(ridge, [Fraction(int(value)) - intercept for value in y])
    expected = [float(sum(k * d for k, d in zip(row, dual, strict=True)) + intercept) for row in gram]
    model = BandedRidge(alphas=[float(penalty)], scale=None, selection="gcv").fit(x.astype(float), y[:, None] * 1.0)
    np.testing.assert_allclose(model.predict(x.astype(float))[:, 0], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize(("p", "route"), [(250, _ridge.Columns), (900, _ridge.Kernels)])
def test_float32_of_good_condition_is_float64(p: int, route: type, alpha: float) -> None:
    x, y = rows(800, p, n_voxels=60)
    y32 = y.astype(np.float32)
    model = BandedRidge(alphas=[alpha], selection="gcv").fit(x[:600], y32[:600])
    assert worked_in(model) == np.float32
    assert isinstance(model._fit.design, route)
    wide = BandedRidge(alphas=[alpha], selection="gcv").fit(x[:600], y32[:600].astype(np.float64))
    found, expected = model.predict(x[600:]), wide.predict(x[600:])
    assert relative(found, expected) <= 1e-5
    assert np.abs(scoring.correlation(y[600:], found) - scoring.correlation(y[600:], expected)).max() <= 1e-5


@pytest.mark.parametrize("p", [250, 900])
def test_float32_with_a_condition_of_10000_keeps_correlations(p: int) -> None:
    x, y = rows(800, p, n_voxels=60, condition=1e4, noise=0.3)
    x /= np.sqrt(size(x[:600]))
    y32 = y.astype(np.float32)
    for alpha in (3e-3, 1e-1, 10.0):
        model = BandedRidge(alphas=[alpha], selection="gcv").fit(x[:600], y32[:600])
        assert worked_in(model) == np.float32
        found, expected = model.predict(x[600:]), closed_form(x[:600], y32[:600], x[600:], alpha, None)
        assert np.abs(scoring.correlation(y[600:], found) - scoring.correlation(y[600:], expected)).max() <= 1e-4


def test_an_alpha_that_float32_cannot_resolve_is_worked_out_in_float64() -> None:
    x, y = rows(600, 900, condition=1e4)
    x /= np.sqrt(size(x))
    model = BandedRidge(alphas=[1e-4], selection="gcv").fit(x, y.astype(np.float32))
    assert worked_in(model) == np.float64
    assert relative(model.predict(x), closed_form(x, y.astype(np.float32), x, 1e-4, None)) <= 1e-6


@pytest.mark.parametrize("p", [250, 900])
def test_an_offset_of_1000_in_float32_keeps_correlations(p: int) -> None:
    """The reference sees the same rounded numbers, in float64."""
    x, y = rows(800, p, n_voxels=60)
    far, high = (x + 1000).astype(np.float32), (y + 1000).astype(np.float32)
    model = BandedRidge(alphas=[1.0], selection="gcv").fit(far[:600], high[:600])
    assert worked_in(model) == np.float32
    x64 = far.astype(np.float64)
    expected = closed_form(x64[:600], high[:600].astype(float), x64[600:], size(x64[:600]), None)
    for truth in (y[600:], expected):
        ours, theirs = scoring.correlation(truth, model.predict(far[600:])), scoring.correlation(truth, expected)
        assert np.abs(ours - theirs).max() <= 1e-4


@pytest.mark.parametrize("n_dims", [12, 90])
def test_one_band_is_sklearns_ridge_to_8_digits(n_dims: int) -> None:
    x, y = rows(60, n_dims)
    for alpha in (0.1, 10.0):
        model = BandedRidge(alphas=[alpha], selection="gcv").fit({"z": x[:50]}, y[:50])
        theirs = Ridge(alpha=alpha * size(x[:50])).fit(x[:50], y[:50])
        assert relative(model.predict({"z": x}), theirs.predict(x)) <= 1e-8


@pytest.mark.parametrize("dims", [(8, 12), (60, 70)])
def test_equal_parts_are_sklearns_ridge_on_the_concatenation(dims: tuple[int, int]) -> None:
    bands, y = two_bands(60, dims)
    joint = np.hstack([x / np.sqrt(size(x[:50])) for x in bands.values()])
    inner = {band: x[:50] for band, x in bands.items()}
    for alpha in (0.1, 10.0):
        model = BandedRidge(alphas=[alpha], mixtures="equal", selection="gcv").fit(inner, y[:50])
        theirs = Ridge(alpha=2 * alpha).fit(joint[:50], y[:50])  # gamma of 1/2 doubles the penalty
        assert relative(model.predict(bands), theirs.predict(joint)) <= 1e-8


@pytest.mark.parametrize("weight", [0.0, 1e-12])
@pytest.mark.parametrize("dims", [(8, 12), (60, 70)])
def test_a_weight_that_goes_to_0_removes_the_band(dims: tuple[int, int], weight: float) -> None:
    bands, y = two_bands(60, dims)
    mixtures = np.array([[1 - weight, weight]])
    model = BandedRidge(alphas=[1.0], mixtures=mixtures, selection="gcv").fit(bands, y)
    alone = BandedRidge(alphas=[1.0], selection="gcv").fit({"z": bands["z"]}, y)
    assert relative(model.predict(bands), alone.predict({"z": bands["z"]})) <= 1e-8
    if weight == 0:
        assert not model.predict(bands, split=True)[1].any()
        assert not model.mixtures_[1].any()


ROUTES = {"n > d": (50, 20), "n = d": (40, 40), "duplicated column": (50, 20), "rank 1": (50, 20)}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize("case", ROUTES)
def test_kernels_give_what_columns_give(case: str, selection: str, fit_intercept: bool, weighted: bool) -> None:
    n, p = ROUTES[case]
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n + 10, p)) + 0.5
    if case == "duplicated column":
        x[:, 1] = x[:, 0]
    if case == "rank 1":
        x = np.outer(x[:, 0], np.arange(1, p + 1)) / p
    y = x[:n] @ rng.standard_normal((p, 15)) / np.sqrt(p) + np.linspace(0.3, 3, 15) * rng.standard_normal((n, 15)) + 1
    w = rng.integers(1, 4, n).astype(float) if weighted else np.ones(n)
    x -= (w @ x[:n] / w.sum()) * fit_intercept
    fitted, new = np.split(x, [n])
    halves = [slice(0, p // 2), slice(p // 2, p)]
    ways = {
        _ridge.Columns: ([fitted[:, half] for half in halves], [new[:, half] for half in halves]),
        _ridge.Kernels: (
            [fitted[:, half] @ fitted[:, half].T for half in halves],
            [new[:, half] @ fitted[:, half].T for half in halves],
        ),
    }
    options = {"scale": None, "alphas": ALPHAS, "selection": selection, "fit_intercept": fit_intercept}
    found = []
    for kind, (known, ahead) in ways.items():
        prepared = BandedRidge(**options)._prepared(kind(known), ("z", "c"), y, weights=w, groups=None)
        model = prepared.fit(y)
        found.append({"predicted": model._fit.predict(ahead).sum(0) + model.intercept_, **results(model)})
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-8, atol=1e-8, err_msg=name)


def test_leave_one_out_chooses_the_alphas_of_sklearn() -> None:
    """50 seeds, kernels and columns; voxels whose best two alphas differ by less than 1e-5 are ties."""
    same, n_clear = 0, 0
    for seed in range(50):
        x, y = rows(40, (15, 70)[seed % 2], n_voxels=60, noise=1 + seed % 3, seed=seed)
        theirs = RidgeCV(alphas=ALPHAS, alpha_per_target=True, scoring=None, store_cv_results=True).fit(x, y)
        errors = np.sort(theirs.cv_results_.sum(0), axis=1)
        clear = errors[:, 1] > errors[:, 0] * (1 + 1e-5)
        ours = BandedRidge(alphas=ALPHAS, scale=None, selection="loo", refine=False).fit(x, y)
        same += int((ours.alphas_ == theirs.alpha_)[clear].sum())
        n_clear += int(clear.sum())
    assert n_clear > 2800
    assert same >= 0.999 * n_clear


def test_kfold_chooses_the_alphas_of_himalaya() -> None:
    """Folds of equal size, so that the mean of their losses, which himalaya takes, is the loss of all rows."""
    from himalaya.ridge import RidgeCV as TheirRidgeCV
    from himalaya.scoring import l2_neg_loss
    from sklearn.model_selection import PredefinedSplit

    same, n_clear = 0, 0
    for seed in range(10):
        x, y = rows(60, (15, 90)[seed % 2], n_voxels=60, noise=1 + seed % 3, seed=seed)
        ours = BandedRidge(alphas=ALPHAS, scale=None, selection="kfold", refine=False).fit(x, y)
        folds = ours._ready.search.folds
        assert np.bincount(folds).tolist() == [12] * 5
        how = {"score_func": l2_neg_loss, "local_alpha": True, "warn": False}
        split = PredefinedSplit(folds)
        theirs = TheirRidgeCV(alphas=ALPHAS, fit_intercept=True, cv=split, solver_params=how).fit(x, y)
        errors = np.zeros((len(ALPHAS), y.shape[1]))
        for a, alpha in enumerate(ALPHAS):
            for k in range(5):
                out = folds == k
                errors[a] += ((y[out] - Ridge(alpha=alpha).fit(x[~out], y[~out]).predict(x[out])) ** 2).sum(0)
        best = np.sort(errors, axis=0)
        clear = best[1] > best[0] * (1 + 1e-5)
        same += int(np.isclose(ours.alphas_, theirs.best_alphas_)[clear].sum())
        n_clear += int(clear.sum())
    assert n_clear > 550
    assert same >= 0.999 * n_clear


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize("dims", [(8, 12), (60, 70)])
def test_nothing_depends_on_the_order_units_or_axes_of_the_data(dims: tuple[int, int], selection: str) -> None:
    rng = np.random.default_rng(5)
    bands, y = two_bands(70, dims)
    fitted, new = ({band: x[part] for band, x in bands.items()} for part in (slice(0, 60), slice(60, 70)))
    y = y[:60]
    voxels, order = rng.permutation(y.shape[1]), rng.permutation(60)
    columns = {band: rng.permutation(x.shape[1]) for band, x in bands.items()}
    turned = {band: np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0] for band, x in bands.items()}

    def fit(known: dict, responses: np.ndarray, ahead: dict) -> tuple[BandedRidge, np.ndarray]:
        model = BandedRidge(selection=selection, alphas=ALPHAS).fit(known, responses)
        return model, model.predict(ahead)

    model, expected = fit(fitted, y, new)
    same = np.arange(y.shape[1])
    cases = {
        "voxels": (fit(fitted, y[:, voxels], new), voxels, 1, 0),
        "features": (
            fit({b: x[:, columns[b]] for b, x in fitted.items()}, y, {b: x[:, columns[b]] for b, x in new.items()}),
            same,
            1,
            0,
        ),
        "rotation": (
            fit({b: x @ turned[b] for b, x in fitted.items()}, y, {b: x @ turned[b] for b, x in new.items()}),
            same,
            1,
            0,
        ),
        "scale": (fit({b: 7 * x for b, x in fitted.items()}, y, {b: 7 * x for b, x in new.items()}), same, 1, 0),
        "units": (fit(fitted, 0.02 * y - 5, new), same, 0.02, -5),
    }
    if selection != "kfold":  # which folds are drawn depends on the order of rows
        cases["rows"] = (fit({b: x[order] for b, x in fitted.items()}, y[order], new), same, 1, 0)
    for name, ((other, found), where, factor, offset) in cases.items():
        assert relative(found, factor * expected[:, where] + offset) <= 1e-10, name
        np.testing.assert_array_equal(other.mixtures_, model.mixtures_[:, where], err_msg=name)
        np.testing.assert_allclose(other.alphas_, model.alphas_[where], rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(other.cv_scores_, model.cv_scores_[where], atol=1e-10, err_msg=name)


def test_a_voxel_that_varies_in_one_fold_only_scores_the_same_at_any_offset() -> None:
    x, y = rows(60, 20, n_voxels=3)
    folds = BandedRidge(selection="kfold").fit(x, y)._ready.search.folds
    y = np.where((folds == 2)[:, None], y, 0)
    known = [BandedRidge(selection="kfold", alphas=[0.1, 1.0]).fit(x, y + offset) for offset in (0, 1000)]
    np.testing.assert_allclose(known[1].cv_scores_, known[0].cv_scores_, rtol=1e-6)


def test_an_alpha_given_twice_counts_once() -> None:
    x, y = rows(60, 20)
    once, twice = (BandedRidge(alphas=alphas, selection="gcv").fit(x, y) for alphas in ([1, 10, 99], [1, 10, 10, 99]))
    np.testing.assert_array_equal(once.alphas_, twice.alphas_)


# Backends


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


# G: determinism

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


# C: bad inputs


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


# Nested models


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


# D: memory

PEAK = """
import json, os, re, sys, threading, time
from pathlib import Path
n_voxels, cores, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [0] if cores == "one" else range(os.cpu_count()))
import numpy as np
from latentcortex.estimators.banded_ridge import BandedRidge

def anonymous():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.before = self.peak = anonymous()
        self.over = threading.Event()
    def run(self):
        while not self.over.is_set():
            self.peak = max(self.peak, anonymous())
            time.sleep(0.002)

grams = {path.stem: np.load(path) for path in sorted(folder.glob("band*.npy"))}
y = np.load(folder / "y.npy", mmap_mode="r")[:, :n_voxels]
small = {band: gram[:60, :60].copy() for band, gram in grams.items()}
BandedRidge(selection="gcv").fit_gram(small, np.array(y[:60, :3000]))  # libraries and threads take what they keep
watch = Peak()
watch.start()
model = BandedRidge(selection="gcv").fit_gram(grams, y)
watch.over.set()
watch.join()
predicted = BandedRidge().memory(len(y), len(grams), n_voxels)
print(json.dumps({"grown": watch.peak - watch.before, "predicted": predicted, "dtype": str(model._fit.prepared.dtype)}))
"""


def on_disk(n: int, n_voxels: int, n_bands: int, folder: Path) -> Path:
    """Kernels, and responses that are driven by every band, so that mixtures are tried."""
    rng = np.random.default_rng(0)
    y = np.lib.format.open_memmap(folder / "y.npy", mode="w+", dtype=np.float32, shape=(n, n_voxels))
    y[:] = 3 + rng.standard_normal((n, n_voxels), dtype=np.float32)
    for band in range(n_bands):
        x = rng.standard_normal((n, 2 * n), dtype=np.float32)
        x[:, :20] *= 10
        x -= x.mean(0)
        np.save(folder / f"band{band}.npy", (x @ x.T / (x * x).sum(1).mean()).astype(np.float64))
        some = rng.random(n_voxels, dtype=np.float32)
        y[:] += some * (x[:, :20] / 40 @ rng.standard_normal((20, n_voxels), dtype=np.float32))
    y.flush()
    return folder


def grown(n_voxels: int, folder: Path, *, cores: str) -> dict:
    command = [sys.executable, "-c", PEAK, str(n_voxels), cores, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells of no memory")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("n_bands", [1, 2])
def test_memory_does_not_grow_with_voxels_that_lie_on_disk(n_bands: int, tmp_path: Path) -> None:
    folder = on_disk(300, 200_000, n_bands, tmp_path)
    few, many = (grown(n_voxels, folder, cores="all")["grown"] for n_voxels in (20_000, 200_000))
    print(f"{few / 1e6:.1f} and {many / 1e6:.1f} MB")
    assert many - few <= max(0.05 * few, 20e6)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("cores", ["one", "all"])
@pytest.mark.parametrize("n_bands", [1, 2])
def test_memory_is_predicted_within_a_fifth(n_bands: int, cores: str, tmp_path: Path) -> None:
    found = grown(20_000, on_disk(1500, 20_000, n_bands, tmp_path), cores=cores)
    print(found)
    assert found["dtype"] == "float32"
    assert found["predicted"] == pytest.approx(found["grown"], rel=0.2)


# What a reviewer found


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize("first", [0, 1])
def test_every_given_mixture_is_tried_whatever_the_first_one_finds(selection: str, first: int) -> None:
    bands, _ = two_bands(400, (10, 10))
    rng = np.random.default_rng(0)
    y = bands["z" if first else "c"] @ rng.standard_normal((10, 30)) + 0.3 * rng.standard_normal((400, 30))
    given = np.eye(2)[[first, 1 - first]]
    model = BandedRidge(mixtures=given, selection=selection).fit(bands, y)
    assert model.cv_scores_.min() > 0.9
    assert (model.mixtures_[0 if first else 1] == 1).all()


@pytest.mark.parametrize("selection", ["gcv", "kfold"])
def test_refinement_never_promises_more_than_everything(selection: str) -> None:
    """Alphas one decade apart and little noise: a parabola through the errors themselves dips below 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((260, 50))
    y = x @ rng.standard_normal((50, 40)) + 0.1 * rng.standard_normal((260, 40))
    r2 = {}
    for refine in (True, False):
        model = BandedRidge(alphas=np.logspace(-8, 7, 6), selection=selection, refine=refine).fit(x[:60], y[:60])
        assert model.cv_scores_.max() <= 1
        r2[refine] = scoring.r2(y[60:], model.predict(x[60:])).mean()
    assert r2[True] > r2[False] - 0.02


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


def test_a_nested_model_has_nested_models() -> None:
    bands, y = two_bands(60)
    bands["b"] = np.random.default_rng(5).standard_normal((60, 7))
    model = BandedRidge().fit(bands, y)
    twice = model.nested([["c", "b"]])["c", "b"].nested([["b"]])[("b",)]
    once = model.nested([["b"]])[("b",)]
    np.testing.assert_array_equal(twice.predict({"b": bands["b"]}), once.predict({"b": bands["b"]}))


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
