"""Corrections over families of tests against statsmodels, scipy and definitions, and the rates that they hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from latentcortex import inference
from latentcortex.errors import InputError
from latentcortex.inference.corrections import PROCEDURES
from latentcortex.reporting.titles import CORRECTIONS


@pytest.mark.parametrize(("method", "name"), [("bh", "fdr_bh"), ("by", "fdr_by")])
def test_fdr_is_statsmodels_over_random_families_with_ties(method: str, name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        p = rng.random(rng.integers(1, 400)) ** rng.integers(1, 6)
        p = np.round(p, rng.integers(1, 5))
        found = inference.fdr(p, 0.05, method)
        rejected, q_values = multipletests(p, 0.05, name)[:2]
        np.testing.assert_array_equal(found.rejected, rejected)
        np.testing.assert_allclose(found.q_values, q_values, rtol=1e-12)
        assert found.n_tests == len(p)
        assert found.threshold == (p[rejected].max() if rejected.any() else 0)


def test_fdr_is_scipys() -> None:
    p = np.random.default_rng(1).random(200) ** 3
    np.testing.assert_allclose(inference.fdr(p).q_values, stats.false_discovery_control(p), rtol=1e-12)


def test_nan_is_outside_the_family_and_counted() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.5]])
    found = inference.fdr(p, 0.05)
    assert found.n_tests == 3
    assert found.rejected.tolist() == [[True, False], [False, False]]
    assert np.isnan(found.q_values[0, 1])


def test_one_rejection_at_the_first_place_is_found_and_an_empty_family_rejects_nothing() -> None:
    assert inference.fdr(np.array([1e-6, 0.9, 0.8])).rejected.tolist() == [True, False, False]
    nothing = inference.fdr(np.full(4, np.nan))
    assert (nothing.n_tests, nothing.threshold, nothing.rejected.any()) == (0, 0.0, False)


def test_float16_p_values_lose_nothing() -> None:
    p = np.r_[np.full(10, 1e-6), np.full(90, 0.9)].astype(np.float16)
    assert inference.fdr(p).rejected.sum() == 10


@pytest.mark.parametrize(
    ("q", "says"), [(5, "Did you mean 0.05"), (0, "between 0 and 1"), (1, "between"), (-0.1, "between")]
)
def test_an_impossible_q_is_an_error_with_a_hint(q: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        inference.fdr(np.array([0.1]), q)


def test_impossible_p_values_and_methods_are_errors() -> None:
    with pytest.raises(InputError, match="must lie in"):
        inference.fdr(np.array([0.1, -0.1]))
    with pytest.raises(InputError, match="Did you mean 'bh'"):
        inference.fdr(np.array([0.1]), method="bhh")


def test_bh_holds_its_rate_and_finds_what_is_planted() -> None:
    rng = np.random.default_rng(0)
    proportions, power = [], []
    for _ in range(200):
        z = rng.standard_normal(1000)
        z[:100] += 3.5
        rejected = inference.fdr(stats.norm.sf(z)).rejected
        proportions.append(rejected[100:].sum() / max(rejected.sum(), 1))
        power.append(rejected[:100].mean())
    assert np.mean(proportions) <= 0.05 + 3 * np.std(proportions) / np.sqrt(200)
    assert np.mean(power) > 0.7


def test_simes_is_the_smallest_bh_adjusted_p_and_valid_under_the_null() -> None:
    p = np.random.default_rng(0).random((5, 20_000))
    found = inference.simes_p(p)
    np.testing.assert_allclose(
        found[:50], [stats.false_discovery_control(p[:, v]).min() for v in range(50)], rtol=1e-12
    )
    assert abs(np.mean(found < 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 20_000)
    p[2, 0] = np.nan
    assert np.isnan(inference.simes_p(p)[0])


def test_storeys_procedure_never_rejects_what_it_counts_as_null() -> None:
    found = inference.fdr(np.r_[np.full(99, 1e-6), 0.9], method="storey")
    assert found.rejected.tolist() == [True] * 99 + [False]


def test_max_t_holds_the_family_wise_rate_under_dependence() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        draws = 0.7 * rng.standard_normal((200, 1)) + 0.7 * rng.standard_normal((200, 40))
        hits += (inference.max_t(draws[0], draws[1:]) <= 0.05).any()
    assert hits / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert hits / 300 >= 0.02


def test_max_t_leaves_undefined_voxels_out() -> None:
    null = np.random.default_rng(0).standard_normal((99, 3))
    null[4, 1] = np.nan
    p = inference.max_t(np.array([9.0, 9.0, -9.0]), null)
    np.testing.assert_allclose(p[[0, 2]], [0.01, 1.0])
    assert np.isnan(p[1])


def test_storeys_procedure_rejects_more_where_many_are_true_and_holds_its_rate() -> None:
    rng = np.random.default_rng(0)
    fdp, more = [], []
    for _ in range(200):
        true = np.arange(400) < 160
        p = stats.norm.sf(rng.standard_normal(400) + 2.5 * true)
        storey, bh = (inference.fdr(p, method=name).rejected for name in ("storey", "bh"))
        fdp.append((storey & ~true).sum() / max(storey.sum(), 1))
        more.append(storey.sum() - bh.sum())
    assert np.mean(fdp) <= 0.05 + 3 * stats.sem(fdp)
    assert np.mean(more) > 5


def closed_testing(p: np.ndarray, roi: np.ndarray, alpha: float) -> float:
    """Every intersection tested by Simes, over all subsets: the definition itself."""
    m = len(p)
    simes = {}
    for bits in range(1, 2**m):
        own = np.sort(p[[i for i in range(m) if bits >> i & 1]])
        simes[bits] = (own * len(own) / np.arange(1, len(own) + 1)).min() <= alpha
    rejected = {b: all(simes[c] for c in simes if c & b == b) for b in simes}
    inside = sum(1 << i for i in np.flatnonzero(roi))
    kept = [bin(b).count("1") for b in rejected if b & inside == b and not rejected[b]]
    return (roi.sum() - max(kept, default=0)) / roi.sum()


@pytest.mark.parametrize("seed", range(12))
def test_true_discoveries_are_bounded_as_closed_testing_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = stats.norm.sf(rng.standard_normal(8) + 3 * (rng.random(8) < 0.5))
    roi = rng.random(8) < 0.6
    roi[0] = True
    assert inference.true_discovery_bound(p, roi) == pytest.approx(closed_testing(p, roi, 0.05))


def test_the_bound_holds_for_regions_chosen_afterwards() -> None:
    rng = np.random.default_rng(0)
    wrong, bounds = 0, []
    for _ in range(300):
        true = np.arange(500) < 100
        p = stats.norm.sf(rng.standard_normal(500) + 3 * true)
        best = p <= np.sort(p)[80]
        for roi in (best, true, ~true):
            wrong += inference.true_discovery_bound(p, roi) > true[roi].mean()
        bounds.append(inference.true_discovery_bound(p, best))
    assert wrong / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(bounds) > 0.5
    assert np.isnan(inference.true_discovery_bound(np.array([0.1, np.nan]), np.array([False, True])))


def test_tfce_is_the_sum_over_heights_and_joins_neighbours() -> None:
    mask = np.zeros((4, 3, 3), dtype=bool)
    mask[:, 1, 1], mask[0, 0, 0] = True, True
    adjacency = inference.grid_adjacency(mask)
    assert adjacency.shape == (5, 5)
    assert adjacency.nnz == 6
    order = [tuple(where) for where in np.argwhere(mask)]
    stat = np.array([{(0, 0, 0): 2.0, (3, 1, 1): -1.0}.get(where, 1.0) for where in order])
    found = inference.tfce(stat, adjacency, n_steps=400)
    h = np.linspace(0, 2, 401)[1:]
    expected = {(0, 0, 0): (h**2).sum() * 0.005, (3, 1, 1): 0.0}
    three = (3**0.5 * h[h <= 1] ** 2).sum() * 0.005
    np.testing.assert_allclose(found, [expected.get(where, three) for where in order], rtol=1e-9)


def test_a_mesh_joins_vertices_of_a_triangle() -> None:
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    dense = inference.mesh_adjacency(faces, 5).toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert np.argwhere(np.triu(dense)).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    assert set(np.unique(dense)) == {0, 1}


def test_tfce_leaves_undefined_voxels_undefined_and_nothing_where_nothing_is_above_0() -> None:
    adjacency = inference.mesh_adjacency(np.array([[0, 1, 2]]), 3)
    np.testing.assert_array_equal(inference.tfce(np.array([-1.0, -2, np.nan]), adjacency), [0, 0, np.nan])


def test_every_correction_has_a_name_in_the_methods_text() -> None:
    assert set(CORRECTIONS) == set(PROCEDURES)


def simulated(rng: np.random.Generator, n_maps: int, n_active: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw p of many maps of 500 voxels, of which a few maps have 25 active ones."""
    active = np.zeros((n_maps, 500), dtype=bool)
    active[:n_active, :25] = True
    p = stats.norm.sf(rng.standard_normal((n_maps, 500)) + 3.5 * active)
    return {str(i): one for i, one in enumerate(p)}, active


def test_choosing_maps_first_is_paid_for() -> None:
    """2 of 60 maps have signal: voxels of maps that were chosen for having some would be false too often."""
    rng = np.random.default_rng(11)
    rates: dict[str, list[float]] = {"hierarchical": [], "naive": []}
    for _ in range(200):
        p, active = simulated(rng, 60, 2)
        found = {name: one.rejected for name, one in inference.hierarchical_fdr(p).items()}
        naive = {name: inference.fdr(one).rejected for name, one in p.items()}
        for kind, maps in (("hierarchical", found), ("naive", naive)):
            chosen = [name for name, one in maps.items() if one.any()]
            fdp = [(maps[name] & ~active[int(name)]).sum() / maps[name].sum() for name in chosen]
            rates[kind].append(float(np.mean(fdp)) if fdp else 0.0)
    assert np.mean(rates["hierarchical"]) <= 0.05 + 3 * stats.sem(rates["hierarchical"])
    assert np.mean(rates["naive"]) > 0.2


def test_one_map_alone_is_corrected_as_ever() -> None:
    p = np.append(np.random.default_rng(12).random(300) ** 3, np.nan)
    (one,) = inference.hierarchical_fdr({"only": p}).values()
    same = inference.fdr(p)
    np.testing.assert_array_equal(one.rejected, same.rejected)
    np.testing.assert_allclose(one.q_values, same.q_values)
    assert (one.threshold, one.n_tests) == (same.threshold, 300)
    nothing = inference.hierarchical_fdr({"a": np.full(5, np.nan), "b": np.ones(5)})
    assert not any(found.rejected.any() for found in nothing.values())


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_an_infinite_value_does_not_take_the_enhancement_of_all_others(infinite: float) -> None:
    stat = np.random.default_rng(0).standard_normal(125)
    stat[7] = infinite
    with pytest.raises(InputError, match="infinite in 1 voxels"):
        inference.tfce(stat, inference.grid_adjacency(np.ones((5, 5, 5), dtype=bool)))


def test_a_map_without_a_test_changes_nothing_of_the_others() -> None:
    rng = np.random.default_rng(0)
    p = {"one": rng.uniform(size=200) ** 6, "other": rng.uniform(size=200)}
    expected = inference.hierarchical_fdr(p)
    corrected = inference.hierarchical_fdr(p | {"empty": np.full(200, np.nan)})
    for name, wanted in expected.items():
        np.testing.assert_array_equal(corrected[name].q_values, wanted.q_values)
    assert corrected["empty"].n_tests == 0
    assert np.isnan(corrected["empty"].q_values).all()
    assert not corrected["empty"].rejected.any()
