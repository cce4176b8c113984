"""Whether shares would come out alike again: the predicted reliability against two fits, and the learning curve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from latentcortex import BandedRidge, scoring
from latentcortex.errors import AlignmentError, InputError
from latentcortex.inference.identifiability import _Basis, _Solution, identifiability
from latentcortex.scoring.learning import asymptote, why_no_limit

Bands = dict[str, np.ndarray]

SIGNALS = [
    (200, 10, 0.5, 0.5),
    (400, 40, 0.5, 0.5),
    (800, 40, 2.0, 0.5),
    (400, (10, 100), 0.1, 0.3),
]
"""Stimuli, columns of each band, and each band's signal variance where noise has 1."""
COLLINEARITY = (0.0, 0.5, 0.9, 0.99)
CONDITIONS = [(*signal, r) for signal in SIGNALS for r in COLLINEARITY]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Do not write that noise takes the largest penalty."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def simulated(
    n: int, widths: int | tuple[int, int], first: float, second: float, r: float, *, n_voxels: int, seed: int
) -> tuple[Bands, np.ndarray]:
    """Draw two bands whose columns correlate by r in pairs, and voxels that are all alike but for their weights."""
    rng = np.random.default_rng(seed)
    n_a, n_b = (widths, widths) if isinstance(widths, int) else widths
    a, b = rng.standard_normal((n, n_a)), rng.standard_normal((n, n_b))
    paired = min(n_a, n_b)
    b[:, :paired] = r * a[:, :paired] + np.sqrt(1 - r**2) * b[:, :paired]
    y = rng.standard_normal((n, n_voxels))
    y += a @ rng.standard_normal((n_a, n_voxels)) * np.sqrt(first / n_a)
    y += b @ rng.standard_normal((n_b, n_voxels)) * np.sqrt(second / n_b)
    return {"a": a, "b": b}, y


def gram(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(0)
    kernel = centred @ centred.T
    return np.asarray(kernel / np.diag(kernel).mean())


def cross_fitted(bands: Bands, y: np.ndarray, rows: np.ndarray, n_folds: int = 5) -> np.ndarray:
    """Compute the shares of a half, each fold predicted by a fit to the others."""
    parts = np.empty((2, len(rows), y.shape[1]))
    for fold in range(n_folds):
        out = np.arange(len(rows)) % n_folds == fold
        model = BandedRidge(selection="gcv").fit({name: x[rows[~out]] for name, x in bands.items()}, y[rows[~out]])
        parts[:, out] = model.predict({name: x[rows[out]] for name, x in bands.items()}, split=True)
    return scoring.product_shares(y[rows], parts)


def measured(bands: Bands, y: np.ndarray, *, n_splits: int) -> np.ndarray:
    """Correlate over voxels the shares of two disjoint halves, (n_bands,)."""
    found = []
    for split in range(n_splits):
        order = np.random.default_rng(split).permutation(len(y))
        one, other = (cross_fitted(bands, y, rows) for rows in np.array_split(order, 2))
        found.append([np.corrcoef(*pair)[0, 1] for pair in zip(one, other, strict=True)])
    return np.mean(found, axis=0)


def predicted(bands: Bands, y: np.ndarray, *, n_draws: int) -> np.ndarray:
    model = BandedRidge(selection="gcv").fit(bands, y)
    grams = {name: gram(x) for name, x in bands.items()}
    found = identifiability(grams, model.mixtures_, model.alphas_, n_draws=n_draws, seed=0)
    return np.asarray(np.nanmean(found, axis=1))


def compared(conditions: list[Any], *, n_voxels: int, n_splits: int, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Measure and predict in every condition, two of shape (n_conditions, n_bands)."""
    both = []
    for seed, condition in enumerate(conditions):
        bands, y = simulated(*condition, n_voxels=n_voxels, seed=seed)
        both.append((measured(bands, y, n_splits=n_splits), predicted(bands, y, n_draws=n_draws)))
    truth, guess = np.moveaxis(np.array(both), 1, 0)
    return truth, guess


def test_the_prediction_follows_the_measured_split_half_reliability() -> None:
    truth, guess = compared(CONDITIONS, n_voxels=300, n_splits=1, n_draws=100)
    assert np.corrcoef(truth.mean(1), guess.mean(1))[0, 1] >= 0.8
    assert np.corrcoef(truth.ravel(), guess.ravel())[0, 1] >= 0.8
    slope, _ = np.polyfit(guess.ravel(), truth.ravel(), 1)
    assert 0.7 < slope < 1.2
    assert abs(np.mean(guess - truth)) < 0.12


@pytest.mark.nightly
def test_the_prediction_follows_the_measured_reliability_over_many_conditions() -> None:
    more = [(300, 20, 0.2, 0.2), (600, 20, 1.0, 0.1), (600, (20, 200), 0.5, 0.5), (800, 10, 0.1, 0.1)]
    conditions = CONDITIONS + [(*signal, r) for signal in more for r in COLLINEARITY]
    truth, guess = compared(conditions, n_voxels=300, n_splits=5, n_draws=400)
    assert np.corrcoef(truth.mean(1), guess.mean(1))[0, 1] >= 0.9
    assert np.corrcoef(truth.ravel(), guess.ravel())[0, 1] >= 0.85
    assert abs(np.mean(guess - truth)) < 0.1


def test_collinear_bands_are_less_identifiable_than_others() -> None:
    found = []
    for r in (0.0, 0.99):
        bands, _ = simulated(200, 8, 1, 1, r, n_voxels=1, seed=0)
        grams = {name: gram(x) for name, x in bands.items()}
        mixtures = np.array([[0.5, 0.25, 0.75, 0.05, 0.95], [0.5, 0.75, 0.25, 0.95, 0.05]])
        found.append(identifiability(grams, mixtures, np.full(5, 0.3), n_draws=200, seed=0)[:, 0])
    assert (found[0] > 0.6).all()
    assert (found[1] < 0.4).all()


def test_leaving_each_stimulus_out_is_what_refits_without_it_find() -> None:
    bands, y = simulated(40, 6, 1, 1, 0.5, n_voxels=4, seed=1)
    mixture, alpha = np.array([0.3, 0.7]), 0.8
    kernels = [gram(x) for x in bands.values()]
    basis = _Basis.of(kernels, mixture, np.array([0.1, alpha]))
    y = y - y.mean(0)
    found = _Solution.of(basis, kernels).left_out(basis.vectors.T @ y, np.ones(4, dtype=int))
    for i in range(40):
        others = np.arange(40) != i
        inner = [kernel[np.ix_(others, others)] for kernel in kernels]
        centre = np.eye(39) - 1 / 39
        joint = sum(weight * centre @ kernel @ centre for weight, kernel in zip(mixture, inner, strict=True))
        dual = np.linalg.solve(joint + alpha * np.eye(39), centre @ y[others])
        for band, (weight, kernel) in enumerate(zip(mixture, kernels, strict=True)):
            np.testing.assert_allclose(found[band, i], weight * kernel[i, others] @ dual, atol=1e-10)


def test_what_the_model_gives_no_share_is_nan() -> None:
    bands, _ = simulated(60, 5, 1, 1, 0.3, n_voxels=1, seed=2)
    grams = {name: gram(x) for name, x in bands.items()}
    mixtures = np.array([[0.5, 1.0, 0.5, np.nan], [0.5, 0.0, 0.5, np.nan]])
    found = identifiability(grams, mixtures, np.array([1.0, 1.0, np.nan, 1.0]), n_draws=50, seed=0)
    assert np.isnan(found).tolist() == [[False, False, True, True], [False, True, True, True]]
    assert np.abs(found[np.isfinite(found)]).max() <= 1
    nothing = identifiability(grams, mixtures, np.full(4, np.nan), n_draws=50, seed=0)
    assert np.isnan(nothing).all()


def test_voxels_alike_are_alike_and_a_row_may_stand_anywhere() -> None:
    bands, _ = simulated(120, 8, 1, 0.5, 0.3, n_voxels=1, seed=3)
    mixtures, alphas = np.array([[0.75, 0.25, 0.75], [0.25, 0.75, 0.25]]), np.array([1.0, 1.0, 1.05])
    grams = {name: gram(x) for name, x in bands.items()}
    found = identifiability(grams, mixtures, alphas, n_draws=400, seed=0)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])
    np.testing.assert_array_equal(found, identifiability(grams, mixtures, alphas, n_draws=400, seed=0))
    order = np.random.default_rng(0).permutation(120)
    moved = {name: kernel[np.ix_(order, order)] for name, kernel in grams.items()}
    # Another split and other draws, as another seed would give.
    np.testing.assert_allclose(identifiability(moved, mixtures, alphas, n_draws=400, seed=0), found, atol=0.2)


def test_many_mixtures_count_as_the_nearest_of_a_few() -> None:
    rng = np.random.default_rng(4)
    grams = {name: gram(rng.standard_normal((40, 6))) for name in "abc"}
    mixtures = rng.dirichlet(np.ones(3), size=300).T
    found = identifiability(grams, mixtures, np.ones(300), n_draws=20, seed=0)
    assert np.isfinite(found).all()
    assert len(np.unique(found[0])) <= 32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"grams": {"a": np.eye(30), "b": np.eye(31)}}, AlignmentError, "square shape"),
        ({"grams": {}}, AlignmentError, "square shape"),
        ({"mixtures": np.full((3, 2), 1 / 3)}, AlignmentError, "mixtures are"),
        ({"mixtures": np.full((2, 2), 0.6)}, InputError, "of sum 1"),
        ({"alphas": np.zeros(2)}, InputError, "above 0"),
        ({"grams": {"a": np.eye(10), "b": np.eye(10)}}, InputError, "halved"),
        ({"grams": {"a": np.eye(30), "b": np.full((30, 30), np.nan)}}, InputError, "not finite"),
        ({"n_draws": 5}, InputError, "n_draws"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"grams": {"a": np.eye(30), "b": np.eye(30)}, "mixtures": np.full((2, 2), 0.5), "alphas": np.ones(2)}
    with pytest.raises(error, match=message):
        identifiability(**{"n_draws": 20, "seed": 0, **given, **change})


# The learning curve


def gains(sizes: list[int], *, own: float, seed: int) -> np.ndarray:
    """Measure what a band adds that is 20 linear functions of 400 columns, and 20 columns of its own if `own` is not 0.

    Of a voxel's variance, where noise has 1, the functions have .5 and its own columns `own`.
    """
    rng = np.random.default_rng(seed)
    n, n_voxels = max(sizes) + 1000, 60
    wide, alone = rng.standard_normal((n, 400)), rng.standard_normal((n, 20))
    functions = wide @ rng.standard_normal((400, 20)) / 20
    weights = rng.standard_normal((2, 20, n_voxels)) / np.sqrt(20)
    y = np.sqrt(0.5) * functions @ weights[0] + np.sqrt(own) * alone @ weights[1] + rng.standard_normal((n, n_voxels))
    second = np.concatenate([functions, alone], axis=1) if own else functions
    found = []
    for size in sizes:
        scores = []
        for bands in ({"wide": wide, "second": second}, {"wide": wide}):
            model = BandedRidge(selection="gcv").fit({name: x[:size] for name, x in bands.items()}, y[:size])
            scores.append(scoring.r2(y[-1000:], model.predict({name: x[-1000:] for name, x in bands.items()})))
        found.append(scores[0] - scores[1])
    return np.stack(found)


SIZES = [200, 400, 800, 1600, 3200]


def test_the_gain_of_a_band_that_is_a_function_of_another_tends_to_nothing() -> None:
    gain = gains(SIZES, own=0.0, seed=0)
    assert gain[1].mean() > 0.18
    assert gain[-1].mean() > 0.05
    assert (np.diff(gain.mean(1)[1:]) < 0).all()
    found, low, high = asymptote(SIZES, gain)
    assert abs(found.mean()) < 0.05
    assert ((low < found) & (found < high)).all()
    assert np.mean((low < 0) & (high > 0)) > 0.9
    # With 1 / n alone it would not.
    plain = np.linalg.lstsq(np.stack([np.ones(5), 1 / np.array(SIZES)], axis=1), gain, rcond=None)[0][0]
    assert plain.mean() > 0.08


def test_the_gain_of_a_band_with_something_of_its_own_tends_to_that() -> None:
    gain = gains(SIZES, own=0.3, seed=1)
    found, low, high = (float(one[0]) for one in asymptote(SIZES, gain.mean(1, keepdims=True)))
    assert abs(found - 0.3 / 1.8) < 0.06
    assert low < 0.3 / 1.8 < high


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        ([0.15, 0.21, 0.23, 0.22, 0.19], "the curve falls ever faster"),
        ([0.25, 0.26, 0.255, 0.23, 0.19], "the curve falls ever faster"),
        ([0.19, 0.26, 0.31, 0.32, 0.32], "the curve still rises, or has hardly begun to fall"),
        ([0.1, 0.1, 0.1, 0.1, 0.1], "the curve still rises, or has hardly begun to fall"),
        ([0.1, np.nan, 0.1, 0.1, 0.1], "no voxel has a gain at every size"),
        ([0.2, 0.15, 0.11, 0.08, 0.06], ""),
    ],
)
def test_a_curve_that_has_not_levelled_off_tells_no_limit(curve: list[float], reason: str) -> None:
    """Of the first, with 600 stimuli and 400 columns, .02 was said to be the limit, of such curves up to .23."""
    gain = np.array(curve)[:, None]
    assert why_no_limit([75, 126, 212, 357, 600], gain) == reason
    assert np.isnan(asymptote([75, 126, 212, 357, 600], gain)).all() == bool(reason)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_a_curve_of_this_form_is_recovered(shift: float) -> None:
    n, a, b = np.array([100, 200, 400, 800]), np.array([0.0, 0.1, -0.05]), np.array([20.0, 0.0, 5.0])
    found, low, high = asymptote(n, a + b / (n[:, None] + shift))
    np.testing.assert_allclose(found, a, atol=1e-8)
    assert ((low <= a + 1e-8) & (a <= high + 1e-8)).all()
    np.testing.assert_array_equal(asymptote(n[::-1], (a + b / (n[:, None] + shift))[::-1]), (found, low, high))


def test_the_ends_are_at_least_two_standard_errors_of_the_noise_apart() -> None:
    n = np.array([500, 1000, 2000, 4000])
    noise = 0.01 * np.random.default_rng(0).standard_normal((4, 4000))
    found, low, high = asymptote(n, 0.1 + 100 / n[:, None] + noise)
    assert abs(found.mean() - 0.1) < 0.002
    assert np.mean((low < 0.1) & (high > 0.1)) > 0.9


def test_a_voxel_with_nan_is_nan() -> None:
    gain = np.repeat([[0.4], [0.2], [0.13], [0.1]], 2, axis=1)
    gain[3, 1] = np.nan
    found, low, high = asymptote([100, 200, 300, 400], gain)
    assert np.isnan(found).tolist() == np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: asymptote([100, 200], np.zeros((2, 3))), InputError),
        (lambda: asymptote([100, 100, 200], np.zeros((3, 3))), InputError),
        (lambda: asymptote([0, 100, 200], np.zeros((3, 3))), InputError),
        (lambda: asymptote([100, 200, 300], np.zeros((2, 3))), AlignmentError),
    ],
)
def test_a_learning_curve_that_is_none_is_refused(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call()
