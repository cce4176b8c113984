from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import bdpy as layout

from latentcortex.datasets import make
from latentcortex.datasets._bdata import BData
from latentcortex.errors import AlignmentError, InputError


@pytest.mark.parametrize("older", [False, True])
def test_the_planted_voxel_follows_the_grey_of_the_images(older: bool, tmp_path: Path) -> None:
    written = layout.write(tmp_path, older=older)
    made = make("bdpy", root=str(tmp_path))
    responses, stimuli = made.responses("01"), made.stimuli()
    shown = [stimuli.load(name).mean() for name in responses.rows["stimulus"]]
    np.testing.assert_array_equal(responses.data[:, layout.PLANTED], shown)
    expected = np.concatenate([voxels[[bool(name) for name in names]] for names, voxels in written.values()])
    np.testing.assert_array_equal(responses.data, expected.astype(np.float32))
    np.testing.assert_array_equal(made.responses("01", slice(2, 5)).data, responses.data[:, 2:5])


def test_sessions_of_the_two_files_are_not_the_same(tmp_path: Path) -> None:
    layout.write(tmp_path)
    rows = make("bdpy", root=str(tmp_path)).rows("01")
    assert dict(zip(rows["session"], rows["split"], strict=True)) == {"train1": "train", "test1": "test"}
    assert sorted(set(rows["run"])) == ["1", "2", "3"]


def test_regions_are_those_of_the_keys_that_are_named(tmp_path: Path) -> None:
    layout.write(tmp_path)
    made = make("bdpy", root=str(tmp_path), rois=["ROI_V1", "ROI_V2"])
    atlas = made.regions("01")
    named = ["ROI_V1", "ROI_V1", None, "ROI_V2", None, None, None]
    assert [atlas.names.get(label) for label in atlas.labels.tolist()] == named
    assert list(made.tables("01")["voxels"]["region"]) == [name or "n/a" for name in named]
    with pytest.raises(InputError, match="is in ROI_V1, ROI_VC; expected each voxel in one region"):
        make("bdpy", root=str(tmp_path), rois=["ROI_V1", "ROI_VC"]).regions("01")
    with pytest.raises(InputError, match="has no column of the key 'ROI_V9'; its keys are Session, Run"):
        make("bdpy", root=str(tmp_path), rois=["ROI_V9"]).regions("01")


def test_a_file_that_is_no_bdata_or_of_other_voxels_is_one_line(tmp_path: Path) -> None:
    layout.write(tmp_path)
    with h5py.File(tmp_path / "sub-01_test.h5", "r+") as file:
        file["metadata/value"][2, 2] = np.nan
    with pytest.raises(AlignmentError, match=r"training.h5 has 7 and .*test.h5 has 6 columns of VoxelData"):
        make("bdpy", root=str(tmp_path)).rows("01")
    with h5py.File(tmp_path / "sub-01_test.h5", "w") as file:
        file["other"] = [1.0]
    with pytest.raises(InputError, match="has other; expected a BData file of bdpy"):
        make("bdpy", root=str(tmp_path)).rows("01")
    with pytest.raises(InputError, match=r"none\.h5 is missing; expected a BData file"):
        make("bdpy", root=str(tmp_path), test="none.h5").rows("01")


def test_labels_come_from_the_map_of_numbers(tmp_path: Path) -> None:
    layout.write(tmp_path)
    file = BData.open(tmp_path / "sub-01_test.h5")
    assert file.words("stimulus_name")[-1] == ""
    with h5py.File(tmp_path / "sub-01_test.h5", "r+") as stored:
        del stored["vmap/stimulus_name/2.0"]
    with pytest.raises(InputError, match="has no label of stimulus_name for 2"):
        BData.open(tmp_path / "sub-01_test.h5").words("stimulus_name")
