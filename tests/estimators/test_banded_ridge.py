"""Banded ridge against closed forms, sklearn and direct computations; its settings and what it warns of."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from _ridges import noise, planted, scale_of
from sklearn.linear_model import Ridge, RidgeCV

from latentcortex import _ridge, scoring
from latentcortex._arrays import TILE
from latentcortex._ridge.candidates import default_mixtures
from latentcortex._ridge.search import held_out_errors
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya

ONE = np.ones((1, 1))


def fixed(alpha: float, mixtures: np.ndarray | None = None) -> BandedRidge:
    return BandedRidge(alphas=[alpha], mixtures=mixtures, selection="gcv")


def one_hot_trials(n_repeats: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(n_repeats)), n_repeats)


@pytest.mark.parametrize("selection", ["gcv", "kfold"])
@pytest.mark.parametrize(("n", "p"), [(40, 15), (40, 90)])
def test_the_weighted_fit_of_averages_is_sklearns_fit_of_trials(n: int, p: int, selection: str) -> None:
    rng = np.random.default_rng(1)
    x, _ = planted(n, p)
    n_repeats = rng.integers(1, 5, n)
    shown = one_hot_trials(n_repeats)
    y = (x @ rng.standard_normal((p, 6)))[shown] + rng.standard_normal((len(shown), 6)) + 2
    averaged = np.stack([y[shown == i].mean(0) for i in range(n)])
    alpha = 3.0
    model = BandedRidge(alphas=[alpha], selection=selection).fit(x, averaged, sample_weight=n_repeats)
    theirs = Ridge(alpha=alpha * scale_of(x, n_repeats)).fit(x[shown], y)
    new = rng.standard_normal((7, p))
    np.testing.assert_allclose(model.predict(new), theirs.predict(new), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["n < p", "n = p", "n > p", "duplicated column", "rank 1"])
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e3])
def test_the_dual_solution_is_the_primal_one(case: str, alpha: float) -> None:
    n, p = {"n < p": (30, 80), "n = p": (30, 30)}.get(case, (60, 20))
    x, y = planted(n, p)
    if case == "duplicated column":
        x[:, 1] = x[:, 0]
    if case == "rank 1":
        x = np.outer(x[:, 0], np.arange(1, p + 1))
    centred = x - x.mean(0)
    penalty = alpha * scale_of(x) * np.eye(p)
    weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (y - y.mean(0)))
    expected = centred @ weights + y.mean(0)
    found = fixed(alpha).fit(x, y).predict(x)
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)


def test_one_band_is_ridge() -> None:
    x, y = planted(50, 20)
    both = fixed(2.0).fit({"z": x}, y).predict({"z": x}), Ridge(alpha=2 * scale_of(x)).fit(x, y).predict(x)
    np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-6)


def test_equal_mixtures_are_ridge_on_the_concatenation() -> None:
    x, y = planted(50, 30)
    bands = {"z": x[:, :10], "c": 5 * x[:, 10:]}
    joint = np.hstack([band / np.sqrt(scale_of(band)) for band in bands.values()])
    found = fixed(2.0, np.array([[0.5, 0.5]])).fit(bands, y).predict(bands)
    theirs = Ridge(alpha=4.0).fit(joint, y).predict(joint)  # gamma of 1/2 doubles the penalty
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)


def test_a_mixture_weight_of_0_removes_the_band() -> None:
    x, y = planted(50, 30)
    bands = {"z": x[:, :10], "c": x[:, 10:]}
    model = fixed(2.0, np.array([[1.0, 0.0]])).fit(bands, y)
    alone = fixed(2.0).fit({"z": x[:, :10]}, y)
    np.testing.assert_allclose(model.predict(bands), alone.predict({"z": x[:, :10]}), rtol=1e-5, atol=1e-6)
    assert not model.predict(bands, split=True)[1].any()


def test_bands_may_be_predicted_from_in_any_order() -> None:
    x, y = planted(40, 12)
    model = BandedRidge().fit({"z": x[:, :5], "c": x[:, 5:]}, y)
    np.testing.assert_array_equal(
        model.predict({"z": x[:, :5], "c": x[:, 5:]}), model.predict({"c": x[:, 5:], "z": x[:, :5]})
    )
    with pytest.raises(AlignmentError, match="Fitted on z, c; asked to predict from z"):
        model.predict({"z": x[:, :5]})


@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_an_offset_of_1000_in_float32_does_not_matter(alpha: float) -> None:
    x, y = planted(60, 30)
    far = (x + 1000).astype(np.float32)
    exact = fixed(alpha).fit(far.astype(np.float64), y).predict(far.astype(np.float64))
    np.testing.assert_allclose(fixed(alpha).fit(far, y).predict(far), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "p"), [(120, 40), (60, 100)])
def test_gcv_chooses_the_alpha_of_a_direct_computation(n: int, p: int, seed: int) -> None:
    """GCV written out with the hat matrix of ridge with an intercept."""
    x, y = planted(n, p, n_voxels=50, noise=1.5, seed=seed)
    alphas = np.logspace(-2, 4, 13)
    model = BandedRidge(alphas=alphas, selection="gcv", refine=False).fit(x, y)
    centred = x - x.mean(0)
    kernel = centred @ centred.T / scale_of(x)
    scores = []
    for alpha in alphas:
        hat = kernel @ np.linalg.inv(kernel + alpha * np.eye(n)) + 1 / n
        scores.append(((y - hat @ y) ** 2).sum(0) / (n - np.trace(hat)) ** 2)
    best = np.argmin(scores, axis=0)
    ties = np.sort(scores, axis=0)[1] / np.min(scores, axis=0) < 1 + 2 * _ridge.RELATIVE_TIE
    assert ties.mean() < 0.1
    np.testing.assert_array_equal(model.alphas_[~ties], alphas[best][~ties])


@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_alpha_is_near_that_of_sklearns_leave_one_out(seed: int) -> None:
    x, y = planted(200, 40, n_voxels=50, seed=seed)
    alphas = np.logspace(-2, 4, 13)
    ours = BandedRidge(alphas=alphas, selection="gcv", refine=False).fit(x, y).alphas_
    theirs = RidgeCV(alphas=alphas * scale_of(x), alpha_per_target=True).fit(x, y).alpha_ / scale_of(x)
    assert np.abs(np.log10(ours / theirs)).max() < 0.51
    assert (np.abs(np.log10(ours / theirs)) < 0.1).mean() > 0.9


@pytest.mark.parametrize("selection", ["gcv", "kfold", "auto"])
def test_gcv_with_a_centred_kernel_and_fewer_rows_than_columns_does_not_overfit(selection: str) -> None:
    """A null direction left in the centred kernel makes GCV choose the smallest alpha, and R2 negative."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 2000)) / np.sqrt(1 + np.arange(2000))  # a spectrum as images have it
    y = x @ rng.standard_normal((2000, 200)) + 2 * rng.standard_normal((500, 200)) + 3
    model = BandedRidge(selection=selection, alphas=np.logspace(-8, 7, 31)).fit(x[:350], y[:350])
    assert np.mean(model.alphas_ < 1e-3) < 0.02
    assert np.mean(scoring.r2(y[350:], model.predict(x[350:])) > 0) > 0.95


def test_the_trap_is_real_a_null_direction_in_a_centred_kernel_fools_gcv() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((350, 2000)) / np.sqrt(1 + np.arange(2000))
    y = x @ rng.standard_normal((2000, 50)) + 2 * rng.standard_normal((350, 50))
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T / scale_of(x))
    z = vectors.T @ (y - y.mean(0))
    alphas = np.logspace(-8, 7, 31)
    shrink = alphas[:, None] / (np.maximum(values, 0) + alphas[:, None])
    naive = alphas[(shrink**2 @ z**2 / shrink.sum(1)[:, None] ** 2).argmin(0)]
    assert np.mean(naive < 1e-3) > 0.9
    assert np.mean(BandedRidge(selection="gcv", alphas=alphas).fit(x, y).alphas_ < 1e-3) < 0.1


def test_pure_noise_is_shrunk_away() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 600)), rng.standard_normal((300, 300))
    model = BandedRidge(selection="gcv").fit(x[:200], y[:200])
    assert np.median(scoring.r2(y[200:], model.predict(x[200:]))) > -0.05


@pytest.mark.parametrize("kind", ["kernels", "columns"])
def test_kfold_errors_are_those_of_sklearn_refitted_on_each_fold(kind: str) -> None:
    """With weights: the held-out error of trials is that of averages plus what no model can change."""
    rng = np.random.default_rng(2)
    x, y = planted(50, 20, n_voxels=4, noise=2)
    weights = rng.integers(1, 4, 50).astype(float)
    folds = np.arange(50) % 5
    alphas = np.logspace(-1, 3, 9)
    centred = x - np.average(x, axis=0, weights=weights)
    design = _ridge.Kernels([centred @ centred.T]) if kind == "kernels" else _ridge.Columns([centred])
    criterion = _ridge.SearchSpace(ONE, alphas, (_ridge.ModelCandidates((0,), (0,)),), folds=folds)
    place = {"dtype": np.float64, "backend": _ridge.backend("numpy")}
    made = _ridge.PreparedFit.of(design, criterion, weights=weights, **place).folds
    errors = sum(held_out_errors(fold, y, criterion) for fold in made)
    expected = np.zeros((len(alphas), 4))
    for a, alpha in enumerate(alphas):
        for k in range(5):
            out = folds == k
            theirs = Ridge(alpha=alpha).fit(x[~out], y[~out], sample_weight=weights[~out])
            expected[a] += weights[out] @ (y[out] - theirs.predict(x[out])) ** 2
    np.testing.assert_allclose(errors[0], expected, rtol=1e-9)


def test_a_strong_band_gets_the_weight_and_a_useless_one_loses_it() -> None:
    rng = np.random.default_rng(0)
    x, y = planted(300, 30, n_voxels=50)
    useless = rng.standard_normal((400, 30))[100:]
    model = BandedRidge(selection="kfold").fit({"z": x, "c": useless}, y)
    assert (model.mixtures_[0] >= 0.75).all()


def test_ties_go_to_the_largest_alpha_and_to_equal_parts() -> None:
    x, y = planted(30, 10)
    orthogonal = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]  # every alpha and mixture leaves all of it
    x -= x.mean(0)
    orthogonal = orthogonal - x @ np.linalg.lstsq(x, orthogonal, rcond=None)[0]
    model = BandedRidge(selection="kfold").fit({"z": x, "c": x}, orthogonal)
    assert (model.alphas_ == 1e7).all()
    assert (model.mixtures_ == 0.5).all()
    np.testing.assert_allclose(model.predict({"z": x, "c": x}), np.tile(orthogonal.mean(0), (30, 1)), atol=1e-4)


def test_band_predictions_sum_to_the_joint_one() -> None:
    x, y = planted(60, 30)
    bands = {"z": x[:, :10], "c": x[:, 10:]}
    grams = {b: (a - a.mean(0)) @ (a - a.mean(0)).T / scale_of(a) for b, a in bands.items()}
    model, same = BandedRidge().fit(bands, y), BandedRidge().fit_gram(grams, y)
    np.testing.assert_allclose(same.predict_gram(grams).sum(0) + same.intercept_, model.predict(bands), rtol=1e-6)


@pytest.mark.parametrize("selection", ["gcv", "kfold"])
def test_predictions_do_not_depend_on_where_a_voxel_stands(selection: str) -> None:
    rng = np.random.default_rng(0)
    x, few = planted(40, 60, n_voxels=300)
    y = np.tile(few, (1, 2 * TILE // 300 + 1)) + rng.standard_normal((40, 1))
    order = rng.permutation(y.shape[1])[: TILE + 100]
    everyone = BandedRidge(selection=selection).fit(x, y).predict(x)
    some = BandedRidge(selection=selection).fit(x, y[:, order]).predict(x)
    np.testing.assert_allclose(some, everyone[:, order], rtol=0, atol=1e-6 * np.abs(everyone).max())


BITS = """
import hashlib, numpy as np
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features
rng = np.random.default_rng(0)
ids = [f"i{k}" for k in range(700)]
x = Features.from_arrays(ids, {"z": rng.standard_normal((700, 300)), "c": rng.standard_normal((700, 900))})
grams = {b: x.gram(b, ids[:500], ids[:500], fit_on=ids[:500]) for b in x.bands}
new = {b: x.gram(b, ids[500:], ids[:500], fit_on=ids[:500]) for b in x.bands}
y = rng.standard_normal((500, 300)).astype(np.float32)
for selection in ("gcv", "kfold"):
    model = BandedRidge(selection=selection, mixtures=np.array([[0.5, 0.5], [1, 0]]), cv=2).fit_gram(grams, y)
    print(hashlib.sha256((model.predict_gram(new).sum(0) + model.intercept_).tobytes()).hexdigest())
"""


def bits(threads: str) -> str:
    limits = {f"{library}_NUM_THREADS": threads for library in ("OMP", "OPENBLAS", "MKL")}
    command = [sys.executable, "-c", BITS]
    return subprocess.run(command, env=os.environ | limits, capture_output=True, text=True, check=True).stdout


def test_results_have_the_same_bits_whatever_number_of_threads() -> None:
    assert bits("1") == bits("4") != ""


@pytest.mark.parametrize("n_bands", [1, 2, 3, 5])
def test_default_mixtures_sum_to_1_and_try_each_band_alone(n_bands: int) -> None:
    mixtures = default_mixtures(n_bands, seed=0)
    np.testing.assert_allclose(mixtures.sum(1), 1)
    assert {tuple(row) for row in np.eye(n_bands)} <= {tuple(row) for row in mixtures}
    np.testing.assert_allclose(mixtures[0], 1 / n_bands)
    np.testing.assert_array_equal(mixtures, default_mixtures(n_bands, seed=0))


@pytest.mark.parametrize("alphas", [[0.0], [-1.0], [], [np.nan], [np.inf, 1]])
def test_an_alpha_that_is_not_above_0_is_an_input_error(alphas: list[float]) -> None:
    with pytest.raises(InputError, match="alphas must be > 0"):
        BandedRidge(alphas=alphas)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"selection": "lo"}, "selection must be auto, gcv, loo or kfold"),
        ({"scale": "max"}, "scale must be 'trace' or None"),
        ({"cv": 1}, "cv must be a whole number of at least 2"),
        ({"mixtures": np.array([[1.0]])}, "expected \\(n_mixtures, 2\\)"),
        ({"mixtures": np.array([[1.5, -0.5]])}, "at least 0 and each sum to 1"),
    ],
)
def test_an_impossible_setting_is_an_input_error(arguments: dict, says: str) -> None:
    x, y = planted(20, 4)
    with pytest.raises(InputError, match=says):
        BandedRidge(**arguments).fit({"z": x[:, :2], "c": x[:, 2:]}, y)


@pytest.mark.parametrize("kind", [BandedRidge, Himalaya])
def test_values_that_cannot_be_fitted_are_errors(kind: type) -> None:
    x, y = planted(20, 4)
    gram = {"z": x @ x.T}
    with pytest.raises(InputError, match="Band z: 1 of 400 values are not finite, the first in row 2"):
        kind().fit_gram({"z": np.where(np.arange(400).reshape(20, 20) == 43, np.nan, x @ x.T)}, y)
    with pytest.raises(InputError, match="0 of 20 voxels are usable"):
        kind().fit_gram(gram, np.full_like(y, np.inf))
    with pytest.raises(InputError, match="weights must be > 0"):
        kind().fit_gram(gram, y, sample_weight=np.zeros(20))
    with pytest.raises(AlignmentError, match="expected \\(20,\\)"):
        kind().fit_gram(gram, y, sample_weight=np.ones(19))
    with pytest.raises(InputError, match="at least one voxel"):
        kind().fit_gram(gram, y[:, :0])
    with pytest.raises(AlignmentError, match="Fitted on z; asked to predict from c"):
        kind().fit_gram(gram, y).predict_gram({"c": x @ x.T})


def test_rows_that_do_not_match_are_an_alignment_error() -> None:
    x, y = planted(20, 4)
    with pytest.raises(AlignmentError):
        BandedRidge().fit(x[:19], y)
    with pytest.raises(AlignmentError, match="must be \\(20, 20\\)"):
        BandedRidge().fit_gram({"z": np.eye(19)}, y)


def test_features_that_do_not_vary_give_the_intercept() -> None:
    _, y = planted(20, 4)
    model = BandedRidge(selection="gcv").fit(np.ones((20, 3)), y)
    np.testing.assert_allclose(model.predict(np.ones((5, 3))), np.tile(y.mean(0), (5, 1)), rtol=1e-5)


def test_the_smallest_alpha_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    x, y = planted(60, 5, noise=0.01)
    BandedRidge(alphas=[10.0, 100.0], selection="gcv").fit(x, y)
    assert "The smallest alpha (10) was the best for 100.0 % of what is predicted from x" in caplog.text
    BandedRidge(alphas=[0.001, 0.01], selection="gcv").fit(x, y + 5 * noise(60))
    assert "The largest alpha (0.01) was the best for" in caplog.text


def test_the_end_of_alphas_is_warned_of_once_by_name_and_then_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Copies of an estimator, one for each model, share what was told."""
    x, y = planted(60, 5, noise=0.01)
    first = BandedRidge(alphas=[10.0, 100.0], selection="gcv")
    with caplog.at_level("INFO"):
        for model in (first, copy.copy(first), copy.copy(first)):
            model.fit(x, y)
    said = [one for one in caplog.records if "was the best for" in one.getMessage()]
    assert [one.levelname for one in said] == ["WARNING", "INFO", "INFO"]
    assert "widen `alphas` of the estimator, which reach from 10 to 100." in said[0].getMessage()


@pytest.mark.parametrize("spectrum", [0.0, 1.0, 2.0])
def test_float32_gives_what_float64_gives(spectrum: float) -> None:
    """Well above 512 rows; the flattest and a steep spectrum, whose largest eigenvalue is most of the trace."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((900, 1200)) / (1 + np.arange(1200)) ** spectrum
    y = (x @ rng.standard_normal((1200, 60))) + rng.standard_normal((900, 60)) * np.linspace(0.01, 30, 60)
    bands = {"z": x[:700, :400], "c": x[:700, 400:]}
    new = {"z": x[700:, :400], "c": x[700:, 400:]}
    y32 = y.astype(np.float32)
    narrow = BandedRidge(selection="gcv").fit(bands, y32[:700])
    wide = BandedRidge(selection="gcv").fit(bands, y32[:700].astype(np.float64))
    assert np.mean(np.abs(np.log(narrow.alphas_ / wide.alphas_)) < 0.05) > 0.95
    r = [scoring.correlation(y[700:], model.predict(new)) for model in (narrow, wide)]
    assert np.abs(r[0] - r[1]).max() < 1e-3
    same = (narrow.mixtures_ == wide.mixtures_).all(0)
    fixed = {"mixtures": np.array([[0.5, 0.5]]), "selection": "gcv", "refine": False}
    for alpha in (0.1, 1.0, 100.0):
        ours = BandedRidge(alphas=[alpha], **fixed).fit(bands, y32[:700]).predict(new)
        exact = BandedRidge(alphas=[alpha], **fixed).fit(bands, y32[:700].astype(np.float64)).predict(new)
        assert np.abs(ours - exact).max() < 1e-4 * np.abs(exact).max()
    assert same.mean() > 0.95
