"""Regions of a volume and of its cortex are where their labels and outlines are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _volumes import ABOUT, AFFINES, AT_152, LAS, MIDDLE, MNI, atlas, on_bundled, some, whole

from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.space import Atlas


def test_regions_of_a_volume_are_where_their_labels_are(tmp_path: Path) -> None:
    found, space = Atlas.find(str(atlas(tmp_path / "halves")), some("fsaverage5")), some("fsaverage5")
    assert found.names == {1: "left", 2: "right"}
    np.testing.assert_array_equal(found.voxels(space, ["left"]), np.arange(40))
    with pytest.raises(InputError, match="Region right of atlas halves has no voxel"):
        found.voxels(space, ["right"])
    rois = found.on_cortex(whole())
    behind = AT_152[:, 1] < -8
    half = len(MIDDLE) // 2
    assert (rois.labels[:half][behind[:half] & (AT_152[:half, 0] < -4)] == 1).mean() > 0.99
    assert (rois.labels[half:][behind[half:] & (AT_152[half:, 0] > 4)] == 2).mean() > 0.99
    assert (rois.labels[AT_152[:, 1] > 8] == 0).all()


def test_an_atlas_of_another_grid_says_how_to_resample_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='interpolation="nearest"'):
        Atlas.find(str(atlas(tmp_path / "a", LAS)), some())
    with pytest.raises(InputError, match=f"is on T1w; the responses are on {MNI}"):
        Atlas.find(str(atlas(tmp_path / "b", reference="T1w")), some())
    with pytest.raises(InputError, match="expected labels, whole numbers"):
        Atlas.find(str(atlas(tmp_path / "c", dtype=np.float32)), some())
    with pytest.raises(InputError, match=f"is on fsaverage5; the responses are on {MNI}"):
        Atlas.find("phantom", some())


@pytest.mark.parametrize("affine", AFFINES)
def test_regions_of_the_cortex_are_those_of_the_voxels_that_it_crosses(affine: str) -> None:
    volume, given = whole(AFFINES[affine]), Atlas.find("phantom", "fsaverage5")
    found = Atlas.find("phantom", volume)
    assert found.names == given.names
    np.testing.assert_array_equal(found.on_cortex(volume).labels, given.labels)
    of_voxel = volume.take(found.labels)
    met = np.asarray((volume.votes > 0).sum(axis=0)).ravel() > 0
    assert not of_voxel[~met].any()
    for label in given.names:
        centre = AT_152[given.labels == label]
        distance = np.min(
            np.linalg.norm(volume.coordinates[of_voxel == label][:, None] - centre[None, ::5], axis=2), axis=1
        )
        assert np.percentile(distance, 95) < 8.0  # mm; a voxel has 4
    there = np.bincount(np.nan_to_num(volume.labels_on_mesh(of_voxel)).astype(int), minlength=8)
    assert np.corrcoef(there[1:], np.bincount(given.labels, minlength=8)[1:])[0, 1] > 0.95


def test_regions_of_overlays_are_those_of_the_voxels_and_keep_their_outlines(bundled: Path, tmp_path: Path) -> None:
    pytest.importorskip("svgelements", reason="reads drawings: pip install 'latentcortex[pycortex]'")
    volume = on_bundled(bundled, tmp_path)
    found, own = Atlas.find("overlays", volume), Atlas.find("overlays", str(bundled))
    np.testing.assert_array_equal(found.on_cortex(volume).labels, own.labels)
    sizes = {name: np.mean(volume.take(found.labels) == label) for label, name in found.names.items()}
    assert sizes["V1"] > sizes["FFA"] > 0
    maps = Maps.build(volume, [(volume.coordinates[:, 2], {**ABOUT, "model": "c", "band": "c", "statistic": "r"})])
    table = maps.summarise(volume.take(found.labels), found.names).set_index("roi")
    assert table.loc["IPS", "mean"] > table.loc["PPA", "mean"] + 20  # dorsal and ventral
