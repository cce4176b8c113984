"""Maps of voxels as they are kept, written as NIfTI and joined."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from _volumes import LAS, MNI, OBLIQUE, RAS, SHAPE, planted, some, whole

import latentcortex as lc
from latentcortex._store import Store
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.maps import Maps
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.space import Volume


@pytest.mark.parametrize("space", [some(), some("fsaverage5"), whole(OBLIQUE).select_voxels(np.arange(0, 90000, 7))])
def test_maps_of_a_volume_are_read_back_as_they_were(space: Volume, tmp_path: Path) -> None:
    before = planted(space)
    written = before.save(tmp_path, participant="01")
    save_maps(Store(tmp_path / "work"), "x", before)
    state = load_maps(Store(tmp_path / "work"), "x", n_voxels=space.n_voxels)
    assert state is not None
    for after in (Maps.load(tmp_path, participant="01"), state):
        assert isinstance(after.space, Volume)
        np.testing.assert_array_equal(after.data, before.data)
        pd.testing.assert_frame_equal(after.columns[before.columns.columns], before.columns, check_dtype=False)
        for name in ("mask", "affine", "reference", "template"):
            np.testing.assert_array_equal(getattr(after.space, name), getattr(space, name))
        np.testing.assert_array_equal(after.space.to_voxels, space.to_voxels)
    bytes_of = {path: path.read_bytes() for path in written}
    Maps.load(tmp_path, participant="01").save(tmp_path / "again", participant="01")
    assert {tmp_path / "again" / path.relative_to(tmp_path): text for path, text in bytes_of.items()} == {
        path: path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file()
    }


def test_a_map_is_nifti_named_as_bids_with_nan_outside_the_mask(tmp_path: Path) -> None:
    space = some("fsaverage5")
    written = planted(space).save(tmp_path, participant="01")
    path = tmp_path / "sub-01" / "func" / f"sub-01_task-images_space-{MNI}_stat-r_desc-latentsZ_statmap.nii.gz"
    assert path in written
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    assert np.isnan(image.get_fdata()[~space.mask]).all()
    assert int(image.header["sform_code"]) == 4
    assert gzip.decompress(path.read_bytes())[:4] == (348).to_bytes(4, "little")
    assert path.read_bytes()[4:8] == bytes(4)  # no time
    sidecar = json.loads(path.with_suffix("").with_suffix(".json").read_text())
    assert (sidecar["SpatialReference"], sidecar["Cortex"], sidecar["Resolution"]) == (
        MNI,
        "fsaverage5",
        "4 x 4 x 4 mm",
    )
    mask = nib.load(path.with_name(f"sub-01_task-images_space-{MNI}_desc-voxels_mask.nii.gz"))
    np.testing.assert_array_equal(mask.get_fdata(), space.mask)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IncompleteError, match="missing or damaged"):
        Maps.load(tmp_path, participant="01")


def test_a_column_is_an_image_and_rows_of_the_table_know_their_place() -> None:
    space = some()
    maps = planted(space)
    image = maps.to_image(analysis="latents", model="c", statistic="r")
    np.testing.assert_array_equal(image.get_fdata()[space.mask], maps.values(model="c", statistic="r"))
    table = maps.to_dataframe()
    assert table.index.names == ["i", "j", "k"]
    np.testing.assert_array_equal(np.array(table.index.to_list()), np.argwhere(space.mask))
    with pytest.raises(InputError, match="Only voxels of a volume"):
        planted(lc.Unlocated(5)).to_image(model="c", statistic="r")
    with pytest.raises(InputError, match="without `template`"):
        maps.plot(model="c", statistic="r")
    assert planted(some("fsaverage5")).plot(model="c", statistic="r").axes


def test_maps_of_different_voxels_are_not_joined() -> None:
    one, other = some(n=40), some(n=40).select_voxels(np.arange(20))
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[np.flatnonzero(one.mask.ravel()) + 1] = True
    for space in (other, Volume(mask, RAS, MNI), Volume(one.mask, LAS, MNI), Volume(one.mask, RAS, "T1w")):
        with pytest.raises(AlignmentError):
            planted(one, ("z",)).join(planted(space, ("c",)))
