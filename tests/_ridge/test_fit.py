"""The ridge engine against closed forms, exact fractions and other people's code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from _engine import relative, results, rows, size, two_bands, worked_in
from scipy import linalg
from sklearn.linear_model import Ridge, RidgeCV

from latentcortex import _ridge, scoring
from latentcortex.estimators.banded_ridge import BandedRidge

ALPHAS = np.logspace(-2, 4, 13)


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
