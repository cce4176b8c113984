"""Which band predicts a voxel best: rates where bands are tied, power where one is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from latentcortex import inference, scoring
from latentcortex.errors import AlignmentError, InputError
from latentcortex.inference import Resampling
from latentcortex.inference.preferences import Preference, preference

N_TIED = 800


@dataclass(frozen=True)
class World:
    """Bands of independent columns, which explain set fractions of every voxel; each is fitted alone by ridge."""

    columns: list[np.ndarray]
    y: np.ndarray
    n: int
    alpha: float

    @classmethod
    def of(cls, fractions: list[float], rng: np.random.Generator, *, n: int, held_out: int, n_dims: int) -> World:
        columns = [rng.standard_normal((n + held_out, n_dims)) for _ in fractions]
        y = np.sqrt(1 - sum(fractions)) * rng.standard_normal((n + held_out, 100))
        for band, fraction in zip(columns, fractions, strict=True):
            weights = rng.standard_normal((n_dims, 100))
            y += band @ (weights * np.sqrt(fraction) / np.linalg.norm(weights, axis=0))
        return cls(columns, y, n, alpha=n_dims * (1 / max(fractions) - 1))

    def predicted(self, rows: np.ndarray, voxels: np.ndarray | slice) -> np.ndarray:
        y, predictions = self.y[rows][:, voxels], []
        for band in self.columns:
            x = band[rows] - band[rows].mean(0)
            weights = x.T @ np.linalg.solve(x @ x.T + self.alpha * np.eye(len(x)), y - y.mean(0))
            predictions.append(band[self.n :] @ weights)
        return np.stack(predictions)

    def half(self, k: int, voxels: np.ndarray) -> np.ndarray:
        return self.predicted(np.random.default_rng([7, k]).permutation(self.n)[: self.n // 2], voxels)

    def judged(self, *, refits: bool, seed: int) -> Preference:
        y, yhat = self.y[self.n :], self.predicted(np.arange(self.n), slice(None))
        p = np.stack([inference.correlation_p(scoring.correlation(y, band), len(y)) for band in yhat])
        half = self.half if refits else None
        how = Resampling(n_draws=300, n_permutations=499, refits=half, n_refits=12)
        return preference(y, yhat, p, resampling=how, seed=seed)


def rates(fractions: list[float], n_worlds: int, *, refits: bool, **sizes: int) -> dict[str, float]:
    """Pool the voxels found in several worlds, since the voxels of one share its columns."""
    pooled: dict[str, list[np.ndarray]] = {field.name: [] for field in fields(Preference)}
    for world in range(n_worlds):
        rng = np.random.default_rng([world, len(fractions)])
        found = World.of(fractions, rng, **sizes).judged(refits=refits, seed=world)
        for name in pooled:
            value = getattr(found, name)
            pooled[name].append(value[found.found] if isinstance(value, np.ndarray) else np.empty(0))
    got = {name: np.concatenate(values) for name, values in pooled.items()}
    return {
        "n": len(got["p"]),
        "sure": float(np.mean(got["confidence"] >= 0.975)),
        "flat": float(np.mean(got["flat_p"] <= 0.05)),
        "runner_up": float(np.mean(got["runner_up_p"] <= 0.05)),
        "identifiable": float(np.mean(got["identifiable"])),
        "first": float(np.mean(got["preferred"] == 0)),
        "wrong": float(np.mean((got["preferred"] != 0) & (got["identifiable"] == 1))),
    }


def at_most(n: float, rate: float = 0.05) -> float:
    return rate + 3 * np.sqrt(rate * (1 - rate) / n)


def noisy(fraction: float, n_bands: int, n_stimuli: int, n_voxels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make predictions that need no fit: one signal, and errors of their own; of a fraction of voxels, none at all."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((n_stimuli, n_voxels)) * (np.arange(n_voxels) < fraction * n_voxels)
    y = 0.7 * signal + rng.standard_normal((n_stimuli, n_voxels))
    return y, signal + rng.standard_normal((n_bands, n_stimuli, n_voxels))


def judge(y: np.ndarray, yhat: np.ndarray, p: np.ndarray | None = None, **how: Any) -> Preference:
    """Compare bands with few draws; all voxels are found unless p says otherwise."""
    p = np.full((len(yhat), y.shape[1]), 1e-6) if p is None else p
    return preference(y, yhat, p, resampling=Resampling(n_draws=200, n_permutations=499, **how), seed=0)


@pytest.mark.parametrize("n_bands", [2, 5])
def test_tied_bands_are_not_told_apart(n_bands: int) -> None:
    got = rates([0.3 / n_bands] * n_bands, 8, refits=True, n=200, held_out=200, n_dims=60)
    assert got["n"] > 400
    assert got["identifiable"] <= 0.01
    assert max(got["flat"], got["runner_up"]) <= at_most(got["n"])
    assert got["sure"] <= at_most(got["n"])


def test_what_fitting_adds_is_carried_by_refits_only() -> None:
    sizes = {"n": 200, "held_out": 800, "n_dims": 60}
    with_refits, without = (rates([0.2, 0.2], 8, refits=refits, **sizes) for refits in (True, False))
    for name in ("sure", "flat", "runner_up"):
        assert without[name] > 0.09
        assert with_refits[name] <= at_most(with_refits["n"])


def test_a_better_band_is_found_and_told() -> None:
    got = rates([0.5, 0.1, 0.1], 3, refits=True, n=300, held_out=300, n_dims=60)
    assert got["n"] == 300
    assert min(got["identifiable"], got["first"], got["sure"]) > 0.95
    assert got["wrong"] == 0


@pytest.mark.nightly
@pytest.mark.parametrize("n_bands", [2, 5])
@pytest.mark.parametrize(
    "sizes",
    [
        {"n": 300, "held_out": 1000, "n_dims": 100},
        {"n": 300, "held_out": 200, "n_dims": 300},
        {"n": 300, "held_out": 200, "n_dims": 20},
        {"n": 1000, "held_out": 400, "n_dims": 100},
    ],
)
def test_tied_bands_are_not_told_apart_at_any_size(n_bands: int, sizes: dict[str, int]) -> None:
    got = rates([0.4 / n_bands] * n_bands, 30, refits=True, **sizes)
    assert got["identifiable"] <= 0.01
    # The voxels of a world share its columns: fewer count than there are.
    assert max(got["flat"], got["runner_up"], got["sure"]) <= at_most(got["n"] / 4)


def test_the_false_discovery_rate_holds_where_the_best_bands_p_would_not() -> None:
    proportions: dict[str, list[float]] = {"naive": [], "ours": []}
    for seed in range(40):
        y, yhat = noisy(0.2, 5, 120, 300, seed)
        p = np.stack([inference.correlation_p(scoring.correlation(y, band), len(y)) for band in yhat])
        null = np.arange(300) >= 60
        together = inference.fdr(inference.simes_p(p)).rejected
        for name, found in (("naive", inference.fdr(p.min(0)).rejected), ("ours", together)):
            proportions[name].append(float(np.sum(found & null) / max(found.sum(), 1)))
        if seed == 0:
            assert np.array_equal(judge(y, yhat, p).found, together)
    ours, spread = np.mean(proportions["ours"]), np.std(proportions["ours"]) / np.sqrt(40)
    assert ours <= 0.05 + 3 * spread
    assert np.mean(proportions["naive"]) > 0.13


def test_the_flatness_test_holds_where_bands_resemble_each_other() -> None:
    # Four of five nearly alike: exchanged labels would take them for independent.
    rejected = []
    for seed in range(3):
        y, yhat = noisy(1, 5, 200, 300, seed)
        yhat[1:4] = 0.97 * (yhat[0] - y / 2) + 0.2 * (yhat[1:4] - y / 2) + y / 2
        rejected.append(judge(y, yhat).flat_p <= 0.05)
    rate = float(np.mean(rejected))
    assert rate <= at_most(900)
    assert rate > 0.02


def test_bands_that_are_the_same_share_the_wins() -> None:
    y, yhat = noisy(1, 1, 60, 6, 0)
    found = judge(y, np.concatenate([yhat, yhat]))
    assert found.found.all()
    np.testing.assert_array_equal(found.confidence, 0.5)
    np.testing.assert_array_equal(found.runner_up_p, 1)
    np.testing.assert_array_equal(found.flat_p, 1)
    np.testing.assert_array_equal(found.identifiable, 0)


def test_refits_that_do_not_vary_add_nothing() -> None:
    y, yhat = noisy(1, 3, 80, 10, 1)
    plain, refitted = judge(y, yhat), judge(y, yhat, refits=lambda k, voxels: yhat[:, :, voxels])
    np.testing.assert_array_equal(plain.confidence, refitted.confidence)
    np.testing.assert_array_equal(plain.flat_p, refitted.flat_p)
    assert (refitted.runner_up_p >= plain.runner_up_p).all()
    np.testing.assert_allclose(refitted.runner_up_p, plain.runner_up_p, atol=0.06)


def test_the_whole_of_a_cluster_is_drawn() -> None:
    y, yhat = noisy(1, 2, 40, 20, 2)
    twice, names = (np.repeat(values, 2, axis=-2) for values in (y, yhat)), np.repeat(np.arange(40), 2).astype(str)
    y2, yhat2 = twice
    once, clustered, ignorant = judge(y, yhat), judge(y2, yhat2, clusters=list(names)), judge(y2, yhat2)
    # As many clusters as there were stimuli, though numbered in another order.
    np.testing.assert_allclose(clustered.runner_up_p, once.runner_up_p, atol=0.1)
    assert np.mean(ignorant.runner_up_p) < np.mean(clustered.runner_up_p) - 0.05
    assert np.mean(ignorant.confidence) > np.mean(clustered.confidence)


def test_what_is_not_valid_or_not_found_is_nan() -> None:
    y, yhat = noisy(1, 3, 80, 8, 3)
    y[:, 0], yhat[1, 0, 1] = 1.0, np.nan
    p = np.full((3, 8), 1e-6)
    p[:, 4:] = 0.9
    found = judge(y, yhat, p)
    assert np.isnan(found.preferred[:2]).all()
    assert np.isnan(found.p[:2]).all()
    assert found.n_tests == 6
    assert found.found.tolist() == [False, False, True, True, False, False, False, False]
    assert np.isfinite(found.preferred[4:]).all()
    for name in ("confidence", "flat_p", "runner_up_p", "identifiable"):
        np.testing.assert_array_equal(np.isfinite(getattr(found, name)), found.found)


def test_nothing_found_is_nothing_told() -> None:
    y, yhat = noisy(1, 2, 30, 3, 4)
    found = preference(y, yhat, np.full((2, 3), 0.8), seed=0)
    assert found.threshold == 0
    assert np.isnan(found.identifiable).all()


def test_a_refit_that_is_not_defined_leaves_the_voxel_untold() -> None:
    y, yhat = noisy(1, 2, 60, 3, 5)

    def refits(k: int, voxels: np.ndarray) -> np.ndarray:
        again = yhat[:, :, voxels] + 0.1 * np.random.default_rng(k).standard_normal(yhat[:, :, voxels].shape)
        again[0, :, voxels == 1] = 0
        return again

    found = judge(y, yhat, refits=refits)
    assert np.isnan(found.identifiable).tolist() == [False, True, False]
    assert np.isnan(found.confidence).tolist() == [False, True, False]


def test_a_result_depends_on_the_seed_only() -> None:
    y, yhat = noisy(1, 3, 60, 5, 6)
    first, again = judge(y, yhat), judge(y, yhat)
    for field in fields(Preference):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda y, yhat, p: preference(y, yhat[:1], p[:1]), InputError, "only one"),
        (lambda y, yhat, p: preference(y, yhat, p[:, :1]), AlignmentError, r"p is \(2, 1\); expected \(2, 3\)"),
        (lambda y, yhat, p: preference(y[:4], yhat[:, :4], p), InputError, "too few"),
        (lambda y, yhat, p: preference(y, yhat, p, q=5), InputError, "q must lie"),
        (
            lambda y, yhat, p: preference(y, yhat, p, resampling=Resampling(refits=lambda k, v: yhat[:1])),
            AlignmentError,
            "Refit 0",
        ),
        (lambda y, yhat, p: Resampling(n_refits=4), InputError, "n_refits"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[..., object], error: type[Exception], message: str) -> None:
    y, yhat = noisy(1, 2, 30, 3, 7)
    with pytest.raises(error, match=message):
        call(y, yhat, np.full((2, 3), 1e-6))
