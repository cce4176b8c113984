from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from latentcortex import _files
from latentcortex._kernel import COLUMNS_AT_ONCE, HELD_BYTES, PANEL
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.executors import n_cores
from latentcortex.features import (
    MANIFEST,
    Features,
    aligned,
)

IDS = [f"s{i:03d}" for i in range(120)]


def arrays(offset: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"z": rng.standard_normal((120, 30)) + offset, "zc_strength-80_step-100": rng.random((120, 2500))}


def direct(values: np.ndarray, rows, columns, fitted, weights) -> np.ndarray:
    """Centre the columns, multiply, scale: what `gram` gets from one globally centred kernel."""
    wide = values.astype(np.float32).astype(np.float64)
    centred = wide - np.average(wide[fitted], axis=0, weights=weights)
    return centred[rows] @ centred[columns].T / (centred[fitted] ** 2).sum(1).mean()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("band", ["z", "zc_strength-80_step-100"])
def test_the_kernel_is_centred_and_scaled_on_the_fitted_stimuli(band: str, offset: float) -> None:
    bands = arrays(offset)
    features = Features.from_arrays(IDS, bands)
    fitted, new = np.arange(10, 70), np.r_[3, 100:120]
    weights = np.random.default_rng(1).integers(1, 4, 60)
    ids = [[IDS[i] for i in rows] for rows in (new, fitted)]
    found = features.gram(band, *ids, fit_on=ids[1], weights=weights)
    np.testing.assert_allclose(found, direct(bands[band], new, fitted, fitted, weights), rtol=1e-9, atol=1e-10)


def test_the_mean_diagonal_over_the_fitted_stimuli_is_1_and_the_weighted_mean_is_the_origin() -> None:
    features = Features.from_arrays(IDS, arrays())
    weights = np.arange(1, 61)
    gram = features.gram("z", IDS[:60], IDS[:60], fit_on=IDS[:60], weights=weights)
    assert np.isclose(np.diag(gram).mean(), 1)
    np.testing.assert_allclose(weights @ gram, 0, atol=1e-10)


def test_the_kernel_does_not_depend_on_the_units_of_a_band() -> None:
    bands = arrays()
    one, other = (Features.from_arrays(IDS, {"z": bands["z"] * k}) for k in (1, 1024))
    ids = IDS[:50]
    np.testing.assert_allclose(one.gram("z", ids, ids, fit_on=ids), other.gram("z", ids, ids, fit_on=ids), rtol=1e-9)


def test_the_kernel_of_selected_stimuli_is_that_of_all() -> None:
    features = Features.from_arrays(IDS, arrays())
    ids = IDS[20:90]
    few = features.select_stimuli(ids[::-1]).gram("z", ids, ids, fit_on=ids)
    np.testing.assert_allclose(few, features.gram("z", ids, ids, fit_on=ids), rtol=1e-9, atol=1e-12)


def wide_store(folder: Path, n_stimuli: int, n_dims: int) -> Features:
    values = np.random.default_rng(0).standard_normal((n_stimuli, n_dims), dtype=np.float32) + 1000
    return Features.from_arrays([f"s{i:04d}" for i in range(n_stimuli)], {"z": values}).save(folder)


def test_the_kernel_has_the_same_bits_whatever_is_held_in_memory(tmp_path: Path, monkeypatch) -> None:
    features = wide_store(tmp_path, 1130, 30)
    ids, grams = features.ids, []
    for held in (HELD_BYTES, 2 * PANEL * 30 * 4, 1):
        monkeypatch.setattr("latentcortex._kernel.HELD_BYTES", held)
        grams.append(Features.open(tmp_path).gram("z", ids, ids, fit_on=ids))
    np.testing.assert_array_equal(grams[1], grams[0])
    np.testing.assert_array_equal(grams[2], grams[0])
    expected = direct(features.array("z"), range(1130), range(1130), range(1130), np.ones(1130))
    np.testing.assert_allclose(grams[0], expected, rtol=1e-9, atol=1e-9)


def test_the_kernel_of_a_wide_band_needs_a_few_panels_of_memory(tmp_path: Path, monkeypatch) -> None:
    features = wide_store(tmp_path, 1000, 20_000)
    monkeypatch.setattr("latentcortex._kernel.HELD_BYTES", 1)
    tracemalloc.start()
    features.gram("z", features.ids[:2], features.ids[:2], fit_on=features.ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    panel = PANEL * 20_000 * 4
    assert peak < 2.6 * panel + 3 * 8 * 1000**2 + n_cores() * 3 * 8 * PANEL * COLUMNS_AT_ONCE


def test_columns_that_are_the_same_for_all_stimuli_are_counted(caplog) -> None:
    values = np.random.default_rng(0).standard_normal((300, 9))
    values[:, [2, 5]] = 3.0
    values[299, 5] = 3.5
    with caplog.at_level("INFO"):
        features = Features.from_arrays([f"s{i}" for i in range(300)], {"z": values})
        features.gram("z", features.ids, features.ids, fit_on=features.ids)
    assert "1 of 9 columns of band z are the same for all stimuli" in caplog.text


def test_a_band_that_is_constant_over_the_fitted_stimuli_is_an_input_error() -> None:
    values = np.ones((120, 3))
    values[60:] = np.random.default_rng(0).random((60, 3))
    features = Features.from_arrays(IDS, {"z": values})
    with pytest.raises(InputError, match="constant over the 60 stimuli"):
        features.gram("z", IDS[:60], IDS[:60], fit_on=IDS[:60])


def test_selected_stimuli_and_bands_come_in_the_asked_order() -> None:
    bands = arrays()
    features = (
        Features.from_arrays(IDS, bands).select_stimuli(["s010", "s002"]).select_bands(["zc_strength-80_step-100", "z"])
    )
    assert features.bands == ("zc_strength-80_step-100", "z")
    np.testing.assert_array_equal(features.array("z"), bands["z"][[10, 2]].astype(np.float32))
    np.testing.assert_array_equal(features.array("z", ["s002"]), bands["z"][[2]].astype(np.float32))


@pytest.mark.parametrize(
    ("ids", "values", "error"),
    [
        (["a", "a"], np.ones((2, 1)), InputError),
        (["a", "b"], np.ones((3, 1)), AlignmentError),
        (["a", "b"], np.array([[1.0], [np.nan]]), InputError),
    ],
)
def test_arrays_that_do_not_fit_are_errors(ids: list[str], values: np.ndarray, error: type) -> None:
    with pytest.raises(error):
        Features.from_arrays(ids, {"z": values})


def test_what_is_not_there_is_named() -> None:
    features = Features.from_arrays(IDS, arrays())
    with pytest.raises(InputError, match=r"Unknown band 'zz'. Did you mean 'z'"):
        features.array("zz")
    with pytest.raises(AlignmentError, match="1 of 2 stimulus ids are not there: x"):
        features.select_stimuli(["s001", "x"])
    with pytest.raises(AlignmentError, match="1 of 2 stimuli have no features: x"):
        aligned(features, ["s001", "x"])


def store(folder: Path) -> dict[str, np.ndarray]:
    bands = {name: values.astype(np.float32) for name, values in arrays().items()}
    Features.from_arrays(IDS, bands).save(folder)
    return bands


def test_a_store_is_read_by_id_across_blocks(tmp_path: Path) -> None:
    bands = store(tmp_path)
    features = Features.open(tmp_path)
    rows = [110, 3, 55, 49, 50]
    for band, values in bands.items():
        np.testing.assert_array_equal(features.array(band), values)
        picked = features.select_stimuli([IDS[i] for i in rows])
        np.testing.assert_array_equal(picked.array(band), values[rows])
        np.testing.assert_array_equal(picked.select_stimuli([IDS[55]]).array(band), values[[55]])


def test_an_unfinished_or_foreign_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="did not finish"):
        Features.open(tmp_path)
    _files.write_json(tmp_path / MANIFEST, {"format": "other 9"})
    with pytest.raises(IncompleteError, match="'other 9'"):
        Features.open(tmp_path)


@pytest.mark.parametrize(
    ("ids", "values", "says"),
    [
        (["a", "b"], np.ones(2), r"Band z is \(2,\); expected \(2, n_dims\). If n_dims is 1: .*reshape\(-1, 1\)"),
        (["a", "b"], np.ones((2, 2)) > 0, "Band z: expected real numbers; got bool"),
        (["a", "b"], np.ma.array(np.ones((2, 2)), mask=[[0, 1], [0, 0]]), "1 values that are not finite"),
        (["a", "b"], [[1.0, None], [1.0, 2.0]], "got object"),
        (["a", "b"], np.full((2, 2), 1e300), "4 values that are not finite in float32"),
        (["a", 2], np.ones((2, 2)), "Stimulus ids must be strings; found 2, of type int"),
        ("ab", np.ones((2, 2)), "Stimulus ids must be a list of ids"),
        ([], np.ones((0, 2)), "Stimulus ids is empty"),
    ],
)
def test_arrays_that_are_no_features_are_refused_by_name(ids, values, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        Features.from_arrays(ids, {"z": values})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", ["float16", "int16", "uint8", "int64", "longdouble", ">f4"])
def test_features_of_any_type_are_those_of_float32(dtype: str) -> None:
    whole = np.arange(12).reshape(4, 3)
    features = Features.from_arrays(list("abcd"), {"z": whole.astype(dtype)})
    assert features.array("z").dtype == np.dtype("float32")
    np.testing.assert_array_equal(features.array("z"), whole)
