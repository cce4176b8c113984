"""Every public function of `scoring` and `inference`: what arrays it takes, and that no unit changes what it says.

A new public function must be declared, in `CASES` or in `NO_ARRAYS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _numbers import TYPES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import issparse

from latentcortex import inference, scoring
from latentcortex.errors import AlignmentError, InputError

N_PERMUTATIONS = 199
PAIR, BY_BAND, REPEATS = "n_stimuli n_voxels", "n_bands n_stimuli n_voxels", "n_repeats n_stimuli n_voxels"
Factors = Mapping[str, float]


@dataclass(frozen=True)
class Array:
    """An argument: its axes (none where any will do), in which unit it is, and what may be added to it."""

    values: np.ndarray
    axes: str = ""
    unit: str = ""
    level: str = ""
    gated: bool = True


@dataclass(frozen=True)
class Case:
    call: Callable[..., Any]
    arrays: dict[str, Array]
    options: dict[str, Any] = field(default_factory=dict)
    scales: Callable[[Factors], float] = lambda factors: 1.0
    """By what the result is multiplied where units are."""
    rtol: float = 1e-5
    atol: float = 1e-6

    def run(self, **changed: Any) -> list[np.ndarray]:
        given = {name: array.values for name, array in self.arrays.items()}
        return list(flat(self.call(**(given | changed), **self.options)))

    def moved(self, factors: Factors, levels: Factors) -> Case:
        """Take other units, and add levels, in standard deviations of the first array that they are added to."""
        sizes: dict[str, float] = {}
        arrays = {}
        for name, array in self.arrays.items():
            by = sizes.setdefault(array.level, float(array.values.std())) * levels.get(array.level, 0.0)
            values = (array.values.astype(np.float64) + by) * factors.get(array.unit, 1.0)
            arrays[name] = replace(array, values=values.astype(array.values.dtype) if array.unit else array.values)
        return replace(self, arrays=arrays)


def flat(result: Any) -> Iterator[np.ndarray]:
    if is_dataclass(result):
        result = [getattr(result, one.name) for one in fields(result)]
    if isinstance(result, Mapping):
        result = list(result.values())
    if issparse(result):
        result = result.toarray()
    if isinstance(result, (tuple, list)):
        for part in result:
            yield from flat(part)
        return
    yield np.asarray(result, dtype=np.float64)


def made() -> dict[str, Case]:
    rng = np.random.default_rng(0)
    n, v = 30, 6
    bands = rng.standard_normal((3, n, v)) * np.array([1, 0.6, 0.3])[:, None, None]
    y = bands.sum(0) + rng.standard_normal((n, v))
    yhat, other = bands.sum(0) + 0.1, 0.8 * bands[0]
    weights = rng.dirichlet(np.ones(n), size=4)
    repeats = rng.standard_normal((1, n, v)) + rng.standard_normal((3, n, v))
    x = rng.standard_normal((n, 5))
    gram = (x - x.mean(0)) @ (x - x.mean(0)).T
    size = np.trace(gram) / n
    shown = rng.standard_normal((12, 5)) @ x.T
    observed, null = rng.standard_normal(v) + 1.5, rng.standard_normal((N_PERMUTATIONS, v))
    p = rng.uniform(size=(3, v)) ** 2
    alike = [f"c{i // 3}" for i in range(n)]
    by_two = {"a": gram / size, "b": np.diag(rng.uniform(0.5, 1.5, n))}
    rows, chosen = refitted(rng)
    flips = {"n_permutations": N_PERMUTATIONS, "seed": 0}
    r2 = {("a",): 0.2 * rng.uniform(size=v), ("b",): 0.2 * rng.uniform(size=v), ("a", "b"): 0.5 * rng.uniform(size=v)}

    def own(values: np.ndarray = y, axes: str = PAIR, unit: str = "y", level: str = "y") -> Array:
        return Array(values, axes, unit, level)

    def of_subsets(function: Callable[..., Any]) -> Case:
        def call(a: Any, b: Any, both: Any) -> Any:
            return function({("a",): a, ("b",): b, ("a", "b"): both})

        return Case(call, {name: Array(r2[key], "n_voxels") for name, key in zip(("a", "b", "both"), r2, strict=True)})

    def of_draws(values: Any) -> Any:
        draws = inference.bootstrap_rows(n, n_draws=50, seed=0)
        return inference.bootstrap_ci(lambda rows: values[rows].mean(0), list(draws))

    def in_sequence(observed: Any, null: Any) -> Any:
        return inference.sequential_p(observed, lambda i, j, some: null[i:j][:, some], n_permutations=N_PERMUTATIONS)

    def of_grams(one: Any, other: Any, mixtures: Any, alphas: Any) -> Any:
        return inference.identifiability({"a": one, "b": other}, mixtures, alphas, n_draws=20)

    def of_maps(one: Any, other: Any) -> Any:
        return inference.hierarchical_fdr({"one": one, "other": other})

    def refitting(function: Callable[..., Any]) -> Case:
        given = {"rows": rows, "band": "b", "full": chosen[0], "reduced": chosen[1]} | flips | {"n_permutations": 40}
        signal = x_of(rows, "b")[:, :1] * rng.uniform(0, 1, v) + rng.standard_normal((len(rows.fitted), v))
        return Case(function, {"y": own(signal, "n_rows n_voxels")}, given)

    losses = {"y": own(), "yhat_full": own(yhat), "yhat_reduced": own(other)}
    paired = {"y": own(), "yhat_one": own(yhat), "yhat_other": own(other)}
    both = {"y": own(), "yhat": own(yhat, unit="yhat", level="yhat")}
    drawn = {"weights": Array(weights, "n_draws n_stimuli")}
    split = {"y": own(), "yhat_bands": own(bands, BY_BAND, level="bands")}
    compared = {"observed": own(observed, "n_voxels"), "null": own(null, "n_permutations n_voxels")}
    path = inference.mesh_adjacency(np.array([[i, i + 1, i + 2] for i in range(v - 2)]), v)
    kernel = Array(gram, "n_fitted n_fitted", "gram")
    return {
        "alignment": Case(
            scoring.alignment,
            {"y": own(axes="n_fitted n_voxels"), "gram": kernel},
            scales=lambda factor: factor["y"] ** 2 / factor["gram"],
        ),
        "asymptote": Case(
            scoring.asymptote,
            {
                "n": Array(np.array([50, 100, 200, 400]), "n_sizes"),
                "gain": own(
                    0.1 + 20 / np.array([[50.0], [100], [200], [400]]) * rng.uniform(1, 2, v),
                    "n_sizes n_voxels",
                    level="",
                ),
            },
            scales=lambda factor: factor["y"],
        ),
        "commonality": of_subsets(scoring.commonality),
        "shapley_shares": of_subsets(scoring.shapley_shares),
        "unique_shares": of_subsets(scoring.unique_shares),
        "corrected_r2": Case(
            scoring.corrected_r2,
            {
                "score": Array(rng.uniform(size=v), "n_voxels"),
                "gram": kernel,
                "across": Array(shown, "n_stimuli n_fitted", "gram"),
                "alpha": Array(10 ** rng.uniform(0, 2, v), "n_voxels", "gram"),
            },
        ),
        "correlation": Case(scoring.correlation, both),
        "effective_dims": Case(scoring.effective_dims, {"gram": replace(kernel, axes="n_stimuli n_stimuli")}),
        "leading": Case(lambda gram: np.abs(scoring.leading(gram)), {"gram": replace(kernel, axes="n n")}),
        "ncsnr": Case(scoring.ncsnr, {"repeats": Array(repeats / 2**0.5, REPEATS)}),
        "noise_ceiling": Case(scoring.noise_ceiling, {"repeats": own(repeats, REPEATS)}),
        "noise_ceiling_ci": Case(scoring.noise_ceiling_ci, {"repeats": own(repeats, REPEATS)}, {"n_averaged": 3}),
        "normalised_score": Case(
            scoring.normalised_score, {"score": Array(p[0], "n_voxels"), "ceiling": Array(p[1], "n_voxels")}
        ),
        "normalised_mean": Case(
            scoring.normalised_mean,
            {"score": Array(p[0], "n_voxels"), "ceiling": Array(p[1], "n_voxels")},
            {"n_stimuli": 50},
        ),
        "weighted_ceiling": Case(
            scoring.weighted_ceiling,
            {"repeats": own(repeats, REPEATS), "weights": Array(weights, "n_draws n_stimuli")},
        ),
        "overlap": Case(
            scoring.overlap,
            {
                "one": Array(np.linalg.qr(x)[0], "n_stimuli n_components"),
                "other": Array(np.linalg.qr(y)[0], "n_stimuli n_others"),
            },
        ),
        "product_shares": Case(
            lambda y, yhat_bands: [scoring.product_shares(y, yhat_bands, of=of) for of in ("r2", "r")], split
        ),
        "r2": Case(scoring.r2, {"y": own(), "yhat": own(yhat)}),
        "split_half": Case(scoring.split_half, {"repeats": own(repeats, REPEATS)}, {"seed": 0, "n_splits": 3}),
        "weighted_correlation": Case(scoring.weighted_correlation, both | drawn, rtol=1e-4, atol=1e-5),
        "weighted_product_shares": Case(scoring.weighted_product_shares, split | drawn, rtol=1e-4, atol=1e-5),
        "weighted_r2": Case(
            lambda y, yhat, weights: [scoring.weighted_r2(y, yhat, weights, own_mean=own) for own in (True, False)],
            {"y": own(), "yhat": own(yhat)} | drawn,
            rtol=1e-4,
            atol=1e-5,
        ),
        "band_residual_p": refitting(inference.band_residual_p),
        "freedman_lane_p": refitting(inference.freedman_lane_p),
        "block_length": Case(inference.block_length, {"y": own(np.cumsum(y, axis=0))}),
        "lag_one": Case(inference.lag_one, {"y": own(np.cumsum(y, axis=0))}),
        "bootstrap_ci": Case(
            of_draws, {"values": replace(own(level=""), gated=False)}, scales=lambda factor: factor["y"]
        ),
        "cluster_p": Case(inference.cluster_p, both, {"clusters": alike} | flips),
        "correlation_p": Case(inference.correlation_p, {"r": Array(p[0])}, {"n": 50}),
        "fdr": Case(inference.fdr, {"p": Array(p)}),
        "hierarchical_fdr": Case(of_maps, {"one": Array(p[0]), "other": Array(p[1])}),
        "identifiability": Case(
            of_grams,
            {
                "one": Array(by_two["a"], "n_rows n_rows", "gram"),
                "other": Array(by_two["b"], "n_rows n_rows", "gram"),
                "mixtures": Array(np.array([[0.3] * 3 + [0.6] * 3, [0.7] * 3 + [0.4] * 3]), "n_bands n_voxels"),
                "alphas": Array(np.full(v, 1.0), "n_voxels", "gram"),
            },
        ),
        "jackknife_interval": Case(
            inference.jackknife_interval,
            {"whole": own(observed, "n_voxels", level=""), "change": own(null[:4], "n_groups n_voxels", level="")},
            {"left_out": np.array([0.1, 0.2, 0.3, 0.4])},
            scales=lambda factor: factor["y"],
        ),
        "map_similarity": Case(
            inference.map_similarity,
            {
                "values": Array(rng.standard_normal((3, 40)), "n_maps n_voxels", "y", "y"),
                "places": Array(rng.standard_normal((40, 3)), "n_voxels n_dims"),
            },
            {"seed": 0},
        ),
        "max_t": Case(inference.max_t, compared),
        "permutation_p": Case(inference.permutation_p, compared),
        "sequential_p": Case(in_sequence, compared | {"null": replace(compared["null"], gated=False)}),
        "tail_p": Case(inference.tail_p, compared),
        "paired_difference_p": Case(inference.paired_difference_p, paired, flips),
        "share_p": Case(inference.share_p, losses, {"clusters": alike} | flips),
        "better_p": Case(
            inference.better_p,
            {"y": own(), "yhat": own(np.stack([yhat, other]), BY_BAND)},
            {"pairs": [(0, 1)], "two_sided": True, "seed": 0}
            | {"resampling": inference.Resampling(n_permutations=N_PERMUTATIONS)},
        ),
        "preference": Case(
            inference.preference,
            {
                "y": own(),
                "yhat": own(bands, BY_BAND, "yhat", "yhat"),
                "p": Array(np.full((3, v), 1e-6), "n_bands n_voxels"),
            },
            {"resampling": inference.Resampling(n_draws=50, n_permutations=N_PERMUTATIONS)},
        ),
        "prevalence": Case(
            inference.prevalence, {"n_significant": Array(np.array([0.0, 3, 8]), "n_voxels")}, {"n_participants": 8}
        ),
        "simes_p": Case(inference.simes_p, {"p": Array(p, "n_bands n_voxels")}),
        "tfce": Case(
            inference.tfce,
            {"stat": own(observed, "n_voxels", level="")},
            {"adjacency": path},
            scales=lambda factor: factor["y"] ** 3,
        ),
        "true_discovery_bound": Case(
            inference.true_discovery_bound, {"p": Array(p[0] ** 3, "n_voxels")}, {"roi": np.arange(v) < 4}
        ),
    }


def refitted(rng: np.random.Generator) -> tuple[inference.Rows, tuple[inference.Penalties, inference.Penalties]]:
    """Make two bands of 2 columns over 40 rows, of which 12 are held out, for tests that refit."""
    columns = {name: rng.standard_normal((40, 2)) for name in "ab"}
    fitted = np.arange(40) < 28
    grams = {name: (x - x[fitted].mean(0)) @ (x - x[fitted].mean(0)).T for name, x in columns.items()}
    full = inference.Penalties(np.full((2, 6), 0.5), np.full(6, 2.0))
    return inference.Rows(grams, fitted), (full, inference.Penalties(np.ones((1, 6)), np.full(6, 2.0)))


def x_of(rows: inference.Rows, band: str) -> np.ndarray:
    return rows.columns[band]


CASES = cache(made)
NO_ARRAYS = {
    "bootstrap_rows",
    "bootstrap_weights",
    "exchange",
    "grid_adjacency",
    "leave_out",
    "mesh_adjacency",
    "n_flips",
    "permutations_needed",
    "shifts_of",
    "signs",
}
"""Functions of counts, labels, faces and masks."""
PUBLIC = {
    name
    for module in (scoring, inference)
    for name in module.__all__
    if callable(getattr(module, name)) and not isinstance(getattr(module, name), type)
}


def test_every_public_function_says_what_arrays_it_takes_and_in_which_units() -> None:
    assert set(CASES()) | NO_ARRAYS == PUBLIC
    assert not set(CASES()) & NO_ARRAYS


def in_other_units(name: str, factors: Factors, levels: Factors, **tolerance: float) -> None:
    case = CASES()[name]
    expected = [values * case.scales(factors) for values in case.run()]
    moved = case.moved(factors, levels).run()
    size = max(abs(case.scales(factors)), 0.0)
    for found, wanted in zip(moved, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance["rtol"], atol=tolerance["atol"] * size)


def factor(low: float = -15, high: float = 15) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


LEVEL = st.floats(-1e5, 1e5)
WITH_UNITS = sorted(name for name, case in made().items() if any(array.unit for array in case.arrays.values()))


@pytest.mark.parametrize("name", WITH_UNITS)
@settings(max_examples=6, deadline=None, derandomize=True)
@example({"y": 1e-15, "yhat": 1e15, "gram": 1e-15}, {"y": 1e5, "yhat": -1e5, "bands": 1e5})
@example({"y": 1e15, "yhat": 1e-15, "gram": 1e15}, {"y": -1e5, "yhat": 1e5, "bands": -1e5})
@given(
    factors=st.fixed_dictionaries(
        {"y": factor(), "yhat": factor(), "gram": st.integers(-15, 15).map(lambda k: 10.0**k)}
    ),
    levels=st.fixed_dictionaries({"y": LEVEL, "yhat": LEVEL, "bands": LEVEL}),
)
def test_no_scale_and_no_level_changes_what_is_said(name: str, factors: Factors, levels: Factors) -> None:
    in_other_units(name, factors, levels, rtol=CASES()[name].rtol, atol=CASES()[name].atol)


@pytest.mark.parametrize("factor", [1e-15, 1e-12, 1e12, 1e15])
@pytest.mark.parametrize("name", WITH_UNITS)
def test_no_scale_changes_what_is_said_of_float32(name: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES()[name]
    measured = {"y", "yhat"}
    narrow = {
        key: replace(one, values=one.values.astype(np.float32)) if one.unit in measured else one
        for key, one in case.arrays.items()
    }
    monkeypatch.setitem(CASES(), name, replace(case, arrays=narrow))
    # Of permutations one more or less may reach what lies within rounding of it.
    counted = {"rtol": 1e-3, "atol": 1.5 / N_PERMUTATIONS} if name.endswith("_p") else {"rtol": 2e-4, "atol": 2e-4}
    in_other_units(name, dict.fromkeys(("y", "yhat"), factor) | {"gram": 1.0}, {}, **counted)


GATED = [(name, key) for name, case in made().items() for key, array in case.arrays.items() if array.gated]


def outcome(case: Case, **changed: Any) -> list[np.ndarray] | str:
    try:
        return case.run(**changed)
    except InputError as error:
        return type(error).__name__


def agree(one: list[np.ndarray] | str, other: list[np.ndarray] | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    pairs = zip(one, other, strict=True)
    return all(np.allclose(a, b, rtol=1e-3, atol=2e-2, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize(("name", "key"), GATED)
def test_numbers_of_any_type_give_what_float64_gives(name: str, key: str) -> None:
    case = CASES()[name]
    for kind, convert in TYPES.items():
        other = convert(case.arrays[key].values)
        expected = outcome(case, **{key: np.asarray(other, dtype=np.float64)})
        assert agree(outcome(case, **{key: other}), expected), kind


@pytest.mark.parametrize(("name", "key"), GATED)
def test_what_a_masked_array_hides_is_nan(name: str, key: str) -> None:
    case = CASES()[name]
    values = case.arrays[key].values.astype(np.float64)
    hidden = np.zeros(values.shape, dtype=bool)
    hidden.flat[1] = True
    expected = outcome(case, **{key: np.where(hidden, np.nan, values)})
    assert agree(outcome(case, **{key: np.ma.array(values, mask=hidden)}), expected)


@pytest.mark.parametrize(("name", "key"), GATED)
def test_what_is_no_array_of_real_numbers_is_refused_in_one_line(name: str, key: str) -> None:
    case = CASES()[name]
    values = case.arrays[key].values
    refused = [None, "abc", values > 0, values * 1j, values.astype(str), values.astype(object), object(), {1: 2}]
    refused += [pd.DataFrame(values)] if values.ndim == 2 else [pd.Series(values)] if values.ndim == 1 else []
    refused += [[[1.0, 2.0], [1.0]], [1.0, None]]
    for other in refused:
        with pytest.raises(InputError) as error:
            case.run(**{key: other})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "key"), GATED)
def test_another_shape_is_refused_and_never_broadcast(name: str, key: str) -> None:
    case = CASES()[name]
    array = case.arrays[key]
    if not array.axes:
        return
    others = " ".join(one.axes for other, one in case.arrays.items() if other != key and one.gated).split()
    wrong = [array.values[..., None], array.values[..., 0]]
    for axis, word in enumerate(array.axes.split()):
        if word in others and array.values.shape[axis] > 1:
            wrong += [
                array.values.take([0], axis=axis),
                array.values.take(range(array.values.shape[axis] - 1), axis=axis),
            ]
    for other in wrong:
        with pytest.raises(AlignmentError) as error:
            case.run(**{key: other})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: inference.hierarchical_fdr([np.ones(3)]), "p must be given by band, as a dict; got list"),
        (lambda: inference.hierarchical_fdr({"a": ["x"]}), "p of a: expected real numbers"),
        (lambda: inference.tfce(np.ones(3), None), r"The adjacency is NoneType; expected \(3, 3\)"),
        (lambda: scoring.noise_ceiling_ci(np.ones((2, 3, 1)), n_averaged=0), "n_averaged must be above 0; got 0"),
        (
            lambda: inference.sequential_p(np.ones(3), lambda *_: np.ones((9, 3)), n_permutations=9, size=np.ones(2)),
            r"size is \(2,\); expected \(3,\)",
        ),
    ],
)
def test_what_stands_beside_an_array_is_refused_in_one_line(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((AlignmentError, InputError), match=says):
        call()


def test_lists_of_p_are_corrected_as_arrays_are() -> None:
    p = {"a": [0.001, 0.2, 0.03], "b": [0.5, 0.6, 0.7]}
    expected = inference.hierarchical_fdr({name: np.array(values) for name, values in p.items()})
    for name, found in inference.hierarchical_fdr(p).items():
        np.testing.assert_array_equal(found.q_values, expected[name].q_values)
