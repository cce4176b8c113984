from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from latentcortex._store import Store
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.maps import Maps, label, stem_of
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.space import Surface, Unlocated

ABOUT = {"analysis": "latents", "model": "z", "band": "z", "n_stimuli": 40}
LAYERS = [f"unet_layer-{la}_strength-80_step-100" for la in ("down0", "down2", "mid", "up1", "up3")]


def maps(space) -> Maps:
    values = np.arange(space.n_voxels, dtype=np.float32)
    values[0] = np.nan
    q = {"correction": "bh", "q": 0.05, "n_tests": 9, "threshold": 0.0123456789012345}
    return Maps.build(
        space,
        [
            (values, {**ABOUT, "statistic": "r", "unit": "correlation"}),
            (values > 2, {**ABOUT, "statistic": "mask", "unit": "0 or 1", **q}),
        ],
    )


def test_a_column_is_found_by_what_it_is() -> None:
    found = maps(Unlocated(5))
    np.testing.assert_array_equal(found.values(statistic="mask"), [0, 0, 0, 1, 1])
    assert [facts["statistic"] for _, facts in found] == ["r", "mask"]
    with pytest.raises(InputError, match="0 columns are"):
        found.values(statistic="p")


def test_columns_that_do_not_fit_or_stand_twice_are_errors() -> None:
    found = maps(Unlocated(5))
    with pytest.raises(AlignmentError, match="Two columns are the same thing"):
        found.join(found)
    with pytest.raises(AlignmentError, match="expected \\(n_voxels, n_columns\\) = \\(4, 2\\)"):
        Maps(found.data, found.columns, Unlocated(4))


def test_joined_maps_keep_their_columns() -> None:
    found = maps(Unlocated(5))
    other = Maps.build(Unlocated(5), [(np.ones(5), {**ABOUT, "statistic": "ceiling", "unit": "fraction"})])
    joined = found.join(other)
    assert joined.data.shape == (5, 3)
    np.testing.assert_array_equal(joined.values(statistic="ceiling"), 1)


def kept_in_files(n_voxels: int, n_columns: int, read: list[int]) -> Maps:
    """Make maps whose columns are read when they are asked for, noting each time which one."""

    def reader(number: int) -> Callable[[], np.ndarray]:
        def read_column() -> np.ndarray:
            read.append(number)
            return np.full(n_voxels, number, dtype=np.float32)

        return read_column

    facts = [{**ABOUT, "statistic": f"r{i}", "unit": "correlation"} for i in range(n_columns)]
    return Maps([reader(i) for i in range(n_columns)], pd.DataFrame(facts), Unlocated(n_voxels))


def test_columns_in_files_are_read_only_when_their_values_are_asked_for() -> None:
    read: list[int] = []
    found = kept_in_files(4, 5, read)
    both = found.join(Maps.build(Unlocated(4), [(np.ones(4), {**ABOUT, "statistic": "p", "unit": "probability"})]))
    chosen = both.find_columns(analysis="latents").select_columns(np.array([False, True, False, True, False, True]))
    assert (read, len(chosen.columns)) == ([], 3)
    np.testing.assert_array_equal(chosen.values(statistic="r3"), 3)
    assert read == [3]
    assert [values[0] for values, _ in chosen] == [1, 3, 1]
    np.testing.assert_array_equal(found.data[0], np.arange(5))


def test_a_column_in_a_file_of_another_length_is_an_error() -> None:
    with pytest.raises(AlignmentError, match=r"is \(3,\); expected \(n_voxels,\) = \(4,\)"):
        Maps([lambda: np.ones(3)], pd.DataFrame([{**ABOUT, "statistic": "r"}]), Unlocated(4)).values(statistic="r")


@pytest.mark.parametrize("space", [Unlocated(70_000), Surface("fsaverage5")], ids=["table", "surface"])
@pytest.mark.parametrize("kept", [False, True], ids=["derivatives", "state"])
def test_no_more_than_two_whole_columns_are_in_memory_while_maps_are_written(space, kept, tmp_path: Path) -> None:
    alive: list[int] = []
    in_memory = weakref.WeakSet()

    def read_column() -> np.ndarray:
        values = np.ones(space.n_voxels, dtype=np.float32).view(Watched)
        in_memory.add(values)
        alive.append(len(in_memory))
        return values

    facts = [{**ABOUT, "statistic": f"r{i}", "unit": "correlation"} for i in range(5)]
    found = Maps([read_column] * 5, pd.DataFrame(facts), space)
    if kept:
        save_maps(Store(tmp_path), "x", found)
    else:
        found.save(tmp_path, participant="01")
    assert (len(alive) >= 5, max(alive) <= 2) == (True, True)


class Watched(np.ndarray):
    """An array that a set of weak references takes."""

    __hash__ = object.__hash__


def test_values_that_a_caller_changes_leave_the_maps_as_they_are() -> None:
    found = maps(Unlocated(5))
    found.values(statistic="r")[:] = 9
    assert found.values(statistic="r")[1] == 1


def test_rois_are_summarised_over_all_valid_voxels_as_pandas_does() -> None:
    found = maps(Unlocated(6))
    table = found.summarise([1, 1, 1, 2, 2, 0], {1: "V1", 2: "V2", 3: "none"})
    row = table[(table["roi"] == "V1") & (table["statistic"] == "r")].iloc[0]
    assert (row["n_voxels"], row["n_valid"], row["mean"], row["median"]) == (3, 2, 1.5, 1.5)
    assert table[table["roi"] == "none"]["mean"].isna().all()


@pytest.mark.parametrize("space", [Unlocated(7), Surface("fsaverage5", np.array([0, 5, 10242, 20483]))])
def test_state_is_read_back_as_it_was(space, tmp_path: Path) -> None:
    before = maps(space)
    save_maps(Store(tmp_path), "x", before)
    after = load_maps(Store(tmp_path), "x", n_voxels=space.n_voxels)
    assert after is not None
    np.testing.assert_array_equal(after.data, before.data)
    pd.testing.assert_frame_equal(after.columns, before.columns, check_dtype=False)
    assert after.space.description == space.description
    assert after.columns["threshold"][1] == 0.0123456789012345


@pytest.mark.parametrize("space", [Unlocated(7), Surface("fsaverage5", np.array([0, 5, 10242, 20483]))])
def test_derivatives_are_read_back_as_they_were(space, tmp_path: Path) -> None:
    before = maps(space)
    before.columns["intervals"] = [{"V1": [0.25, 0.5]}, np.nan]
    before.save(tmp_path, participant="01")
    after = Maps.load(tmp_path, participant="01")
    np.testing.assert_array_equal(after.data, before.data)
    pd.testing.assert_frame_equal(after.columns[before.columns.columns], before.columns, check_dtype=False)
    assert after.space.description == space.description
    with pytest.raises(InputError, match="has no maps sub-02"):
        Maps.load(tmp_path, participant="02")
    written = next(path for path in (tmp_path / "sub-01" / "func").iterdir() if path.suffix in (".gii", ".tsv"))
    written.write_bytes(written.read_bytes()[:60])
    with pytest.raises(IncompleteError, match="damaged"):
        Maps.load(tmp_path, participant="01")


@pytest.mark.parametrize("left", [0, 50, 300])
def test_damaged_state_counts_as_not_there(left: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    save_maps(store, "x", maps(Unlocated(7)))
    store.path("x").write_bytes(store.path("x").read_bytes()[:left])
    assert load_maps(store, "x", n_voxels=7) is None


def test_a_column_of_a_state_that_is_deleted_or_damaged_while_it_is_in_use_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save_maps(store, "x", maps(Unlocated(7)))
    found = load_maps(store, "x", n_voxels=7)
    assert found is not None
    np.testing.assert_array_equal(found.values(statistic="r")[1:], np.arange(1, 7))
    whole = store.path("x").read_bytes()
    for left in (whole[:-1] + b"x", None):
        store.path("x").unlink() if left is None else store.path("x").write_bytes(left)
        with pytest.raises(IncompleteError, match=r"x.arrays was deleted or damaged while it was in use; run the same"):
            found.values(statistic="mask")


def test_state_of_other_voxels_counts_as_not_there_and_is_named(tmp_path: Path, caplog) -> None:
    store = Store(tmp_path)
    save_maps(store, "x", maps(Unlocated(7)))
    assert load_maps(store, "x", n_voxels=8) is None
    assert "x.arrays counts as not there: it holds float32 of shape (7,); expected float32 of (8,)" in caplog.text


def test_surface_maps_are_gifti_that_nibabel_reads(tmp_path: Path) -> None:
    surface = Surface("fsaverage5", np.array([0, 5, 10242, 20483]))
    written = maps(surface).save(tmp_path, participant="01")
    gifti = [path for path in written if path.name.endswith(".func.gii")]
    assert len(gifti) == 2 * 3  # and which vertices are voxels
    left = next(path for path in gifti if "hemi-L" in path.name and "stat-r" in path.name)
    image = nib.load(left)
    values = image.agg_data()
    assert (len(values), values[5], np.isnan(values[0]), np.isnan(values[1])) == (10242, 1.0, True, True)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    sidecar = json.loads(next(p for p in written if "stat-r" in p.name and p.suffix == ".json").read_text())
    assert sidecar["analysis"] == "latents"
    assert "threshold" not in sidecar  # nan is left out


def test_bare_maps_are_a_table_with_a_sidecar(tmp_path: Path) -> None:
    table, sidecar = maps(Unlocated(5)).save(tmp_path, participant="01")
    read = pd.read_csv(table, sep="\t")
    np.testing.assert_array_equal(read["r[z]"], [np.nan, 1, 2, 3, 4])
    assert set(json.loads(sidecar.read_text())) == set(read.columns)


@pytest.mark.parametrize("band", ["", *LAYERS])
def test_file_names_fit_a_file_system_and_bids(band: str) -> None:
    facts = {"analysis": "unet-partition", "model": "+".join(LAYERS), "band": band, "statistic": "shareR2"}
    name = stem_of(facts)
    assert len(name) < 150
    assert all(part.isalnum() for pair in name.split("_")[:-1] for part in pair.split("-"))


def test_different_columns_have_different_file_names() -> None:
    models = [("z",), ("z", "zc_strength-80_step-100"), ("z", "zc_strength-20_step-100"), tuple(LAYERS)]
    facts = [
        {"analysis": "a", "model": "+".join(model), "band": band, "statistic": statistic}
        for model in models
        for band in ("", *model)
        for statistic in ("r", "shareR", "shareR2", "mask")
        if len(model) > 1 or band
    ]
    assert len({stem_of(one) for one in facts}) == len(facts)


def test_labels_are_letters_and_digits() -> None:
    assert label("a-b_c.d+e 1") == "aBCDE1"


# Where voxels are


def test_values_go_to_the_mesh_and_back() -> None:
    surface = Surface("fsaverage5", np.array([3, 10242, 10250]))
    sides = surface.hemispheres(np.array([1.0, 2.0, 3.0]))
    assert (sides["L"][3], sides["R"][0], sides["R"][8]) == (1, 2, 3)
    assert np.isfinite(np.r_[sides["L"], sides["R"]]).sum() == 3
    np.testing.assert_array_equal(surface.take(np.r_[sides["L"], sides["R"]]), [1, 2, 3])
    assert Surface("fsaverage5").n_voxels == 20484


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Surface("fsaverage9"), "Unknown surface template"),
        (lambda: Surface("fsaverage5", np.array([3, 3])), "must ascend"),
        (lambda: Surface("fsaverage5", np.array([20484])), "must ascend"),
        (lambda: Surface("fsaverage5").on_mesh(np.ones(3)), "Got 3 values for 20484"),
        (lambda: Surface("fsaverage5").take(np.ones(3)), "has 20484"),
    ],
)
def test_what_is_not_on_the_mesh_is_an_input_error(call, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call()


def test_facts_that_no_column_knows_are_there_when_read_back(tmp_path: Path) -> None:
    before = maps(Unlocated(5))
    before.columns["stability"] = np.nan
    before.save(tmp_path, participant="01")
    assert Maps.load(tmp_path, participant="01").columns["stability"].isna().all()


def test_maps_of_several_savings_or_with_a_missing_column_are_refused(tmp_path: Path) -> None:
    surface = Surface("fsaverage5", np.array([0, 5, 10242]))
    written = maps(surface).save(tmp_path, participant="01")
    (sidecar,) = [path for path in written if "stat-r_" in path.name and path.suffix == ".json"]
    sidecar.rename(tmp_path / "aside")
    with pytest.raises(IncompleteError, match="some are missing, or were saved at another time"):
        Maps.load(tmp_path, participant="01")
    (tmp_path / "aside").rename(sidecar)
    more = Maps.build(surface, [(np.ones(3), {**ABOUT, "model": "c", "band": "c", "statistic": "r", "unit": "x"})])
    more.save(tmp_path, participant="01")
    with pytest.raises(IncompleteError, match="saved at another time"):
        Maps.load(tmp_path, participant="01")


def test_models_without_anything_in_common_have_files_of_their_own() -> None:
    about = [{**ABOUT, "model": model, "band": "", "statistic": "r"} for model in ("a+b+c", "d+e+f")]
    assert len({stem_of(facts) for facts in about}) == 2
