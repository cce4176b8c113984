"""Rates that must hold on nulls of every kind; where the naive way must fail, it does, or these tests see nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, signal, stats

from latentcortex import inference, scoring

EDGE = 12
N_VOXELS = EDGE**3


def at_most(rate: float, n: int) -> float:
    """Add three standard errors of a rate that is estimated n times."""
    return rate + 3 * np.sqrt(rate * (1 - rate) / n)


def smoothed(rng: np.random.Generator, n_maps: int, sigma: float) -> np.ndarray:
    """Draw standard normal maps that are smooth over a cube of voxels."""
    maps = rng.standard_normal((n_maps, EDGE, EDGE, EDGE))
    if sigma:
        maps = ndimage.gaussian_filter(maps, (0, sigma, sigma, sigma), mode="wrap")
        maps /= maps.std(axis=0, keepdims=True)
    return maps.reshape(n_maps, -1)


def autocorrelated(rng: np.random.Generator, n: int, n_columns: int, ar: float) -> np.ndarray:
    return signal.lfilter([1], [1, -ar], rng.standard_normal((n + 100, n_columns)), axis=0)[100:]


def bh(p: np.ndarray, q: float) -> np.ndarray:
    """Benjamini and Hochberg's procedure as they wrote it."""
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), dtype=bool)
    if len(below):
        rejected = p <= p[order][below[-1]]
    return rejected


def test_bh_is_that_of_the_paper_and_of_scipy_over_families_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        m = int(rng.integers(1, 400))
        p = np.round(rng.random(m) ** rng.integers(1, 4), int(rng.integers(2, 6)))
        found = inference.fdr(p)
        np.testing.assert_array_equal(found.rejected, bh(p, 0.05))
        np.testing.assert_allclose(found.q_values, stats.false_discovery_control(p), atol=1e-12)


def test_a_single_discovery_at_the_first_voxel_is_found() -> None:
    p = np.ones(50)
    p[0] = 1e-6
    assert inference.fdr(p).rejected.tolist() == [True] + [False] * 49


@pytest.mark.parametrize("sigma", [0, 1, 2, 4])
def test_maps_of_nothing_stay_empty_in_95_of_100(sigma: float) -> None:
    p = stats.norm.sf(smoothed(np.random.default_rng(1), 400, sigma))
    assert np.mean([inference.fdr(one).rejected.any() for one in p]) <= at_most(0.05, 400)
    assert np.mean([inference.fdr(one, method="by").rejected.any() for one in p]) <= 0.02
    if sigma == 0:
        assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.002)
        assert np.mean([(one <= 0.05).any() for one in p]) == 1.0  # uncorrected, every map finds something


@pytest.mark.parametrize("sigma", [0, 1, 2, 4])
def test_false_discoveries_are_5_of_100_where_some_voxels_are_active(sigma: float) -> None:
    rng = np.random.default_rng(2)
    active = np.arange(N_VOXELS) < 0.07 * N_VOXELS
    p = stats.norm.sf(smoothed(rng, 400, sigma) + 3 * active)
    fdp, power = [], []
    for one in p:
        found = inference.fdr(one).rejected
        fdp.append((found & ~active).sum() / max(found.sum(), 1))
        power.append(found[active].mean())
    assert np.mean(fdp) <= 0.05 + 3 * stats.sem(fdp)
    assert np.mean(power) > 0.5


def test_pooling_a_sparse_map_with_a_strong_one_breaks_the_rate_of_the_sparse_one() -> None:
    """Why BH is done per map."""
    rng = np.random.default_rng(3)
    fdp: dict[str, list[float]] = {"own": [], "pooled": []}
    for _ in range(200):
        sparse_active = np.arange(1000) < 10
        sparse = stats.norm.sf(rng.standard_normal(1000) + 3.5 * sparse_active)
        strong = stats.norm.sf(rng.standard_normal(1000) + 3.5 * (np.arange(1000) < 800))
        ways = {
            "own": inference.fdr(sparse).rejected,
            "pooled": inference.fdr(np.concatenate([sparse, strong])).rejected[:1000],
        }
        for name, found in ways.items():
            fdp[name].append((found & ~sparse_active).sum() / max(found.sum(), 1))
    assert np.mean(fdp["own"]) <= 0.05 + 3 * stats.sem(fdp["own"])
    assert np.mean(fdp["pooled"]) > 0.4


@pytest.mark.parametrize("ar", [0.0, 0.3, 0.56, 0.8])
def test_stretches_hold_the_rate_of_a_time_series_and_single_rows_do_not(ar: float) -> None:
    """1,000 rows, predictions as slow as responses; the length of a stretch comes from the responses."""
    rng = np.random.default_rng(4)
    y, yhat = autocorrelated(rng, 1000, 400, ar), autocorrelated(rng, 1000, 400, ar)
    r = scoring.correlation(y, yhat)
    length = inference.block_length(y)
    rates = {}
    for name, options in {"blocks": {"block": length}, "shift": {"shift": True, "block": length}, "rows": {}}.items():
        orders = inference.exchange(1000, n_permutations=99, seed=0, **options)
        null = np.stack([scoring.correlation(y[order], yhat) for order in orders])
        rates[name] = float((inference.permutation_p(r, null) <= 0.05).mean())
    assert rates["blocks"] <= at_most(0.05, 400)
    assert rates["shift"] <= at_most(0.05, 400)
    if ar >= 0.56:
        assert rates["rows"] > at_most(0.05, 400)


def test_permutation_p_is_never_0_and_uniform_under_the_null() -> None:
    rng = np.random.default_rng(5)
    p = inference.permutation_p(rng.standard_normal(4000), rng.standard_normal((199, 4000)))
    assert p.min() == 1 / 200
    assert stats.kstest(p - rng.random(4000) / 200, "uniform").pvalue > 0.001
    naive = (p * 200 - 1) / 199  # without the +1 some are 0, and significant at any level
    assert (naive == 0).any()


@pytest.mark.parametrize("widths", [(40, 40), (20, 200)])
def test_a_share_holds_its_rate_for_redundant_and_useless_bands(widths: tuple[int, int]) -> None:
    """Refitted with and without the second band, whose true gain is at most 0; lesioned, it would seem to explain."""
    from latentcortex import BandedRidge

    rng = np.random.default_rng(6)
    first = rng.standard_normal((600, widths[0]))
    redundant = first @ rng.standard_normal((widths[0], widths[1])) / widths[0] ** 0.5
    redundant = redundant + 0.1 * rng.standard_normal(redundant.shape)
    y = first @ rng.standard_normal((widths[0], 400)) / widths[0] ** 0.5 + 1.5 * rng.standard_normal((600, 400))
    for second in (redundant, rng.standard_normal((600, widths[1]))):
        bands = {"a": first, "b": second}
        model = BandedRidge(selection="gcv").fit({b: x[:400] for b, x in bands.items()}, y[:400])
        new = {b: x[400:] for b, x in bands.items()}
        without = model.nested([["a"]])[("a",)].predict({"a": new["a"]})
        full = model.predict(new)
        p = inference.share_p(y[400:], full, without, n_permutations=999, seed=0)
        assert (p <= 0.05).mean() <= at_most(0.05, 400)
    bands = {"a": first, "b": redundant}
    model = BandedRidge(selection="gcv").fit({b: x[:400] for b, x in bands.items()}, y[:400])
    split = model.predict({b: x[400:] for b, x in bands.items()}, split=True)
    lesioned = inference.share_p(y[400:], split.sum(0) + model.intercept_, split[0] + model.intercept_, seed=0)
    assert (lesioned <= 0.05).mean() > 0.12


def test_the_noise_ceiling_is_unbiased_before_it_is_clipped() -> None:
    rng = np.random.default_rng(7)
    for r in (0.0, 0.2, 0.5, 0.8):
        signal_part = r * rng.standard_normal((100, 1000))
        repeats = signal_part + np.sqrt(1 - r**2) * rng.standard_normal((3, 100, 1000))
        planted = r**2 / (r**2 + (1 - r**2) / 3)
        estimate = scoring.noise_ceiling(repeats, n_averaged=3)
        assert estimate.mean() == pytest.approx(planted, abs=0.01)
        if r == 0:
            assert np.maximum(estimate, 0).mean() > 0.04
