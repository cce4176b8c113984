"""Voxels of a volume: where they are, how they come onto cortex and onto cuts, and a study of them."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _subjects
import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from _studies import sections

import latentcortex as lc
from latentcortex import _surfaces, cli, plotting, reporting
from latentcortex._store import Store
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.maps import Maps
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.plotting import _planes, cortex
from latentcortex.reporting.figures import figures
from latentcortex.space import Atlas, Surface, Volume, projection
from latentcortex.study import Study

MNI = "MNI152NLin2009cAsym"
RAS = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
SHAPE = (46, 56, 48)
LAS = RAS @ np.array([[-1.0, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_TURN = np.deg2rad(12)
_LEAN = np.array([[1, 0, 0], [0, np.cos(_TURN), -np.sin(_TURN)], [0, np.sin(_TURN), np.cos(_TURN)]])
OBLIQUE = np.block([[_LEAN @ RAS[:3, :3], (_LEAN @ RAS[:3, 3])[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
AFFINES = {"RAS": RAS, "LAS": LAS, "oblique": OBLIQUE}
SURFACES = [_surfaces.surface(kind) for kind in ("white", "pial")]
MIDDLE = np.concatenate([(w.coordinates + p.coordinates) / 2 for w, p in zip(*SURFACES, strict=True)])
AT_152 = MIDDLE @ projection.MNI305_TO_MNI152[:3, :3].T + projection.MNI305_TO_MNI152[:3, 3]
"""Middle of cortex in mm of MNI152."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "FLAT_PIXELS", 60)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 40)


def whole(affine: np.ndarray = RAS, template: str = "fsaverage5", **more: Any) -> Volume:
    return Volume(np.ones(SHAPE, dtype=bool), affine, MNI, template, **more)


def some(template: str = "", n: int = 40) -> Volume:
    """A few voxels in the back of the left hemisphere."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[12:20, 10:18, 14:22] = True
    chosen = np.random.default_rng(0).choice(np.flatnonzero(mask), n, replace=False)
    mask[:] = False
    mask.ravel()[chosen] = True
    return Volume(mask, RAS, MNI, template)


# --- what a volume is -------------------------------------------------------------------------------------------------


def test_voxels_are_those_of_the_mask_in_the_order_of_nilearns_masker() -> None:
    from nilearn.maskers import NiftiMasker

    volume = some()
    image = nib.Nifti1Image(np.random.default_rng(0).standard_normal((*SHAPE, 1)).astype(np.float32), RAS)
    masker = NiftiMasker(nib.Nifti1Image(volume.mask.astype(np.uint8), RAS), standardize=None).fit()
    np.testing.assert_array_equal(volume.take(image.get_fdata()[..., 0]), np.ravel(masker.transform(image)))
    np.testing.assert_array_equal(volume.take(image.get_fdata().ravel()), volume.take(image.get_fdata()[..., 0]))


def test_values_become_an_image_with_nan_outside_the_mask() -> None:
    volume, values = some(), np.arange(40.0)
    image = volume.to_image(values)
    assert (image.get_data_dtype(), image.shape, image.header.get_xyzt_units()[0]) == (np.float32, SHAPE, "mm")
    np.testing.assert_array_equal(image.affine, RAS)
    grid = image.get_fdata()
    np.testing.assert_array_equal(grid[volume.mask], values)
    assert np.isnan(grid[~volume.mask]).all()


def test_a_voxel_says_where_it_is_and_some_can_be_taken() -> None:
    volume = some("fsaverage5")
    i, j, k = volume.indices[7]
    assert volume.where(7) == f": {i}, {j}, {k}; {4 * i - 90}, {4 * j - 126}, {4 * k - 72} mm"
    few = volume.select_voxels(np.array([3, 7, 20]))
    assert (few.n_voxels, few.template, few.where(1)) == (3, "fsaverage5", volume.where(7))
    np.testing.assert_array_equal(few.to_voxels, volume.to_voxels)
    with pytest.raises(AlignmentError, match="must ascend"):
        volume.select_voxels(np.array([7, 3]))


def test_places_are_in_mm() -> None:
    volume = whole(template="")
    np.testing.assert_array_equal(volume.places(), volume.coordinates)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask": np.ones((3, 3), dtype=bool)}, "bool of shape (x, y, z); got bool of shape (3, 3)"),
        ({"mask": np.ones((3, 3, 3))}, "got float64"),
        ({"mask": np.zeros((3, 3, 3), dtype=bool)}, "no voxel"),
        ({"affine": np.full((4, 4), np.nan)}, "affine must be a finite matrix"),
        ({"affine": np.diag([2.0, 2, 0, 1])}, "cannot be inverted"),
        ({"affine": np.eye(3)}, "4 x 4"),
        ({"reference": "my space"}, "letters and digits"),
        ({"reference": "T1w", "template": "fsaverage5"}, "have no known place on fsaverage5"),
        ({"to_voxels": np.eye(4)}, "give `template`, too"),
        ({"template": "fsaverage5", "to_voxels": np.zeros((4, 4))}, "to_voxels must be"),
    ],
)
def test_what_is_no_volume_is_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        Volume(**{"mask": np.ones((3, 3, 3), dtype=bool), "affine": RAS, "reference": MNI, **change})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_volume_is_refused() -> None:
    for call in (some("fsaverage5").on_mesh, some("fsaverage5").labels_on_mesh, some().to_image):
        with pytest.raises(AlignmentError, match="for 40 voxels"):
            call(np.ones(41))
    with pytest.raises(AlignmentError, match="the grid of the mask is"):
        some().take(np.ones((3, 3, 3)))
    with pytest.raises(InputError, match="without `template`"):
        some().on_mesh(np.ones(40))


# --- onto cortex ------------------------------------------------------------------------------------------------------


def of_nilearn(image: nib.Nifti1Image, depths: list[float]) -> np.ndarray:
    """Lay an image onto fsaverage5 by nilearn, which takes MNI305 for the image's space, and counts depth from pial."""
    from nilearn.surface import vol_to_surf

    shifted = nib.Nifti1Image(image.get_fdata(), np.linalg.inv(projection.MNI305_TO_MNI152) @ image.affine)
    how = {"kind": "depth", "depth": [1 - one for one in depths], "interpolation": "nearest_most_frequent"}
    sides = [
        vol_to_surf(shifted, (p.coordinates, p.triangles), inner_mesh=(w.coordinates, w.triangles), **how)
        for w, p in zip(*SURFACES, strict=True)
    ]
    return np.concatenate(sides)


@pytest.mark.parametrize("depth", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("affine", AFFINES)
def test_at_one_depth_a_vertex_has_the_voxel_that_nilearn_gives_it(
    affine: str, depth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "DEPTHS", (depth,))
    volume = whole(AFFINES[affine])
    values = np.random.default_rng(0).standard_normal(volume.n_voxels).astype(np.float32)
    theirs, ours = of_nilearn(volume.to_image(values), [depth]), volume.on_mesh(values)
    same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
    assert same.mean() > 0.9999  # all but points that lie between two voxels to the last bit


def test_labels_are_those_of_nilearn_but_for_ties() -> None:
    volume = whole()
    labels = np.random.default_rng(0).integers(0, 4, volume.n_voxels)
    theirs, ours = of_nilearn(volume.to_image(labels), list(projection.DEPTHS)), volume.labels_on_mesh(labels)
    votes = np.stack([volume.votes @ (labels == label).astype(float) for label in range(4)])
    tied = (votes == votes.max(0)).sum(0) > 1
    np.testing.assert_array_equal(theirs[~tied], ours[~tied])
    np.testing.assert_array_equal(votes[ours[tied].astype(int), np.flatnonzero(tied)], votes.max(0)[tied])
    assert (ours[tied] > 0).all()  # a region, rather than none


@pytest.mark.parametrize("affine", AFFINES)
def test_a_gradient_in_mm_arrives_where_it_belongs(affine: str) -> None:
    volume = whole(AFFINES[affine])
    for axis in range(3):
        laid = volume.on_mesh(volume.coordinates[:, axis])
        known = np.isfinite(laid)
        assert known.mean() > 0.97
        # Means of eight points, each within half a voxel.
        assert np.abs(laid[known] - AT_152[known, axis]).max() < 2 * np.sqrt(3)
        assert abs((laid[known] - AT_152[known, axis]).mean()) < 0.1
    left = volume.on_mesh(volume.coordinates[:, 0])[: len(MIDDLE) // 2]
    assert np.nanmedian(left) < -20


def test_a_sphere_in_mni152_is_on_the_vertices_that_are_there() -> None:
    volume, centre = whole(), np.array([-30.0, -86.0, 2.0])
    inside = np.linalg.norm(volume.coordinates - centre, axis=1) < 18
    laid = volume.on_mesh(np.where(inside, 1.0, np.nan))
    far = np.linalg.norm(AT_152 - centre, axis=1)
    assert np.isfinite(laid[far < 13]).all()
    assert np.isnan(laid[far > 25]).all()
    assert np.isnan(laid[len(MIDDLE) // 2 :]).all()


def test_nan_stays_nan_and_does_not_count_in_means() -> None:
    volume = whole()
    values = np.full(volume.n_voxels, 2.0)
    values[::2] = np.nan
    laid = volume.on_mesh(values)
    assert set(np.unique(laid[np.isfinite(laid)])) == {2.0}
    unseen = np.asarray((volume.votes @ np.isfinite(values).astype(float)) == 0)
    np.testing.assert_array_equal(np.isnan(laid), unseen)
    assert np.isnan(volume.labels_on_mesh(np.full(volume.n_voxels, np.nan))).all()
    assert np.isinf(volume.on_mesh(np.full(volume.n_voxels, np.inf))).any()  # not taken for undefined


def test_a_volume_of_a_part_of_cortex_leaves_the_rest_undefined() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, :16] = True  # behind y = -64
    volume = Volume(mask, RAS, MNI, "fsaverage5")
    known = np.isfinite(volume.on_mesh(np.zeros(volume.n_voxels)))
    assert known[AT_152[:, 1] < -70].mean() > 0.98
    assert not known[AT_152[:, 1] > -55].any()
    assert 0 < volume.n_on_mesh < volume.n_voxels


def test_of_kinds_the_most_frequent_arrives_and_never_a_mean() -> None:
    volume = whole()
    kinds = np.random.default_rng(0).choice([1.0, 5.0, np.nan], volume.n_voxels)
    laid = volume.labels_on_mesh(kinds)
    assert set(np.unique(laid[np.isfinite(laid)])) == {1.0, 5.0}
    surface = Surface("fsaverage5", np.array([3, 9]))
    np.testing.assert_array_equal(surface.labels_on_mesh(np.array([1, 2]))[[3, 9]], [1, 2])


def test_surfaces_of_a_participant_are_where_freesurfer_says(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), RAS)
    nib.save(image, tmp_path / "mask.nii.gz")
    native = str(_subjects.freesurfer_subject(tmp_path / "bert"))
    moved = Volume.read(tmp_path / "mask.nii.gz", reference="T1w", template=native)
    middle = np.concatenate([MIDDLE[:10242], MIDDLE[10242:][: _subjects.COARSE]])
    for axis in range(3):
        laid = moved.on_mesh(moved.coordinates[:, axis])
        assert abs(np.nanmean(laid - (middle + _subjects.CRAS)[:, axis])) < 0.2
    same = Volume(moved.mask, RAS, "MNI305", "fsaverage5")
    np.testing.assert_array_equal(same.to_voxels, np.linalg.inv(RAS))


# --- transforms of pycortex -------------------------------------------------------------------------------------------


def transform(folder: Path, coord: Any, affine: np.ndarray = RAS, shape: tuple[int, ...] = SHAPE) -> Path:
    folder.mkdir(parents=True)
    (folder / "matrices.xfm").write_text(json.dumps({"coord": coord, "magnet": np.eye(4).tolist()}))
    nib.save(nib.Nifti1Image(np.zeros(shape, dtype=np.int16), affine), folder / "reference.nii.gz")
    return folder


def masked(folder: Path, affine: np.ndarray = RAS) -> Path:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), affine), folder / "mask.nii.gz")
    return folder / "mask.nii.gz"


def test_a_transform_says_which_voxel_each_vertex_is_in(tmp_path: Path) -> None:
    turned = np.linalg.inv(OBLIQUE)
    folder = transform(tmp_path / "transforms" / "fullhead", turned.tolist())
    volume = Volume.read(masked(tmp_path), reference="T1w", template="fsaverage5", transform=str(folder))
    np.testing.assert_array_equal(volume.to_voxels, turned)
    for axis in range(3):
        laid = volume.on_mesh(volume.indices[:, axis])
        expected = MIDDLE @ turned[axis, :3] + turned[axis, 3]
        known = np.isfinite(laid)
        assert abs((laid - expected)[known].mean()) < 0.05
        assert np.abs((laid - expected)[known]).max() < 2


def test_a_transform_is_found_by_its_name_in_the_folder_of_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, known = tmp_path / "S1", _surfaces.surface
    monkeypatch.setattr(_surfaces, "surface", lambda kind, template: known(kind))  # a participant with these meshes
    transform(subject / "transforms" / "fullhead", np.linalg.inv(RAS).tolist())
    volume = Volume.read(masked(tmp_path), reference="T1w", template=str(subject), transform="fullhead")
    laid = volume.on_mesh(volume.coordinates[:, 1])
    assert abs(np.nanmean(laid - MIDDLE[:, 1])) < 0.1  # no shift to MNI152
    with pytest.raises(InputError, match="`transform` 'halfhead' is none"):
        Volume.read(masked(tmp_path), reference="T1w", template=str(subject), transform="halfhead")


def test_the_average_subject_is_known_by_the_name_of_its_folder() -> None:
    for template in ("fsaverage5", "/somewhere/subjects/fsaverage"):
        np.testing.assert_array_equal(
            projection.from_mm(RAS, MNI, template), np.linalg.inv(RAS) @ projection.MNI305_TO_MNI152
        )


TRANSFORMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such": (lambda root: None, "holds a file matrices.xfm"),
    "not JSON": (
        lambda root: (transform(root / "x", None) / "matrices.xfm").write_text("coord"),
        "is no transform of pycortex",
    ),
    "no coord": (
        lambda root: (transform(root / "x", None) / "matrices.xfm").write_text("{}"),
        "is no transform of pycortex",
    ),
    "singular": (lambda root: transform(root / "x", np.diag([1.0, 1, 0, 1]).tolist()), "cannot be inverted"),
    "other grid": (lambda root: transform(root / "x", np.eye(4).tolist(), shape=(31, 100, 100)), "is (31, 100, 100)"),
    "flipped": (lambda root: transform(root / "x", np.eye(4).tolist(), affine=LAS), "towards LAS, the mask towards"),
    "elsewhere": (lambda root: transform(root / "x", (np.eye(4) + np.pad([[900.0]], ((0, 3), (3, 0)))).tolist()),
                  "No voxel of the mask lies in the cortex"),
    "no reference": (
        lambda root: (transform(root / "x", np.eye(4).tolist()) / "reference.nii.gz").unlink(),
        "reference.nii.gz is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TRANSFORMS)
def test_a_transform_that_cannot_be_right_is_one_line(fault: str, tmp_path: Path) -> None:
    make, says = TRANSFORMS[fault]
    make(tmp_path)
    with pytest.raises(InputError) as caught:
        Volume.read(masked(tmp_path), reference="T1w", template="fsaverage5", transform=str(tmp_path / "x"))
    assert says in str(caught.value)
    assert str(tmp_path / "mask.nii.gz") in str(caught.value)
    assert "\n" not in str(caught.value)


# --- maps -------------------------------------------------------------------------------------------------------------

ABOUT = {"analysis": "latents", "n_stimuli": 40, "unit": "some"}
TESTS = {"correction": "bh", "q": 0.05, "n_tests": 9, "threshold": 0.1, "family": "map", "null": "closed form"}


def planted(space: Any, latents: tuple[str, ...] = ("z", "c", "zc_strength-80_step-100")) -> Maps:
    """Latents of which each predicts a third best; a ceiling; shares at two strengths."""
    n, columns = space.n_voxels, []
    for i, band in enumerate(latents):
        r = np.where(np.arange(n) % 3 == i, 0.6, 0.3).astype(np.float32)
        r[0] = np.nan
        facts = {**ABOUT, "model": band, "band": band}
        columns += [(r, {**facts, "statistic": "r"}), (r * r, {**facts, "statistic": "r2"})]
        columns.append((np.where(np.isnan(r), np.nan, r > 0.2), {**facts, "statistic": "mask", **TESTS}))
        columns.append(((1 - r) / 100, {**facts, "statistic": "p", **TESTS}))
    columns.append((np.full(n, 0.5), {**ABOUT, "analysis": "ceiling", "model": "", "band": "", "statistic": "ceiling"}))
    for band in [f"zc_strength-{s}_step-100" for s in (20, 80)]:
        facts = {**ABOUT, "analysis": "noise-levels", "model": f"z+{band}"}
        columns.append((np.full(n, 0.5), {**facts, "band": "", "statistic": "r"}))
        columns.append((np.full(n, 1e-4), {**facts, "band": "", "statistic": "p", **TESTS}))
        columns.append((np.ones(n), {**facts, "band": "", "statistic": "mask", **TESTS}))
        columns += [(np.full(n, 0.1), {**facts, "band": one, "statistic": "shareR2"}) for one in ("z", band)]
    return Maps.build(space, columns)


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


# --- atlases ----------------------------------------------------------------------------------------------------------


def atlas(folder: Path, affine: np.ndarray = RAS, reference: str = MNI, dtype: Any = np.int16) -> Path:
    """Left is 1, right is 2, in front of y = 0 nothing."""
    folder.mkdir()
    (folder / "atlas.json").write_text(json.dumps({"name": "halves", "space": reference}))
    (folder / "x_dseg.tsv").write_text("index\tname\n1\tleft\n2\tright\n")
    places = whole(affine, "").coordinates.reshape(*SHAPE, 3)
    labels = np.where(places[..., 1] > 0, 0, np.where(places[..., 0] < 0, 1, 2))
    nib.save(
        nib.Nifti1Image((labels * (1.5 if dtype is np.float32 else 1)).astype(dtype), affine), folder / "x_dseg.nii.gz"
    )
    return folder


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


# --- cuts -------------------------------------------------------------------------------------------------------------


def panels(volume: Volume) -> list[plotting.Panel]:
    values = np.linspace(0, 1, volume.n_voxels)
    return [
        plotting.Panel("z", values, volume),
        plotting.Panel("c", np.where(values > 0.5, values, np.nan), volume, unsure=np.where(values < 0.1, 1.0, np.nan)),
        plotting.Panel("nothing at all", np.full(volume.n_voxels, np.nan), volume),
    ]


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("axis", "xyz")
def test_a_sphere_is_seen_on_a_cut_where_it_is(affine: str, axis: str) -> None:
    volume, centre = whole(AFFINES[affine], ""), np.array([-30.0, -60.0, 10.0])
    inside = np.linalg.norm(volume.coordinates - centre, axis=1) < 15
    cut = _planes.Slice(axis, centre["xyz".index(axis)], _planes.frame_of(volume.coordinates, None))
    voxels = cut.voxels(volume)
    seen = (voxels >= 0) & inside[voxels]
    left, right, bottom, top = cut.extent
    rows, columns = np.nonzero(seen)
    across, up = _planes.ACROSS[axis]
    middle = (
        left + (columns.mean() + 0.5) * (right - left) / seen.shape[1],
        top - (rows.mean() + 0.5) * (top - bottom) / seen.shape[0],
    )
    np.testing.assert_allclose(middle, centre[[across, up]], atol=1.0)
    area = seen.sum() * (right - left) * (top - bottom) / seen.size
    assert area == pytest.approx(np.pi * 15**2, rel=0.12)


def test_a_cut_has_the_values_that_nilearn_draws() -> None:
    from nilearn.plotting.displays import CutAxes

    volume = whole(LAS, "")
    values = np.random.default_rng(0).standard_normal(volume.n_voxels)
    grid = volume.to_image(values)
    ordered = nib.as_closest_canonical(grid)
    for axis, mm in (("x", 14.0), ("y", -42.0), ("z", 20.0)):
        theirs = CutAxes(None, axis, mm).transform_to_2d(ordered.get_fdata(), ordered.affine)
        cut = _planes.Slice(axis, mm, np.stack([volume.coordinates.min(0) - 2, volume.coordinates.max(0) + 2]))
        ours = values[cut.voxels(volume)]
        rows, columns = (
            ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(theirs.shape, ours.shape, strict=True)
        )
        np.testing.assert_allclose(ours[np.ix_(rows, columns)], theirs, rtol=1e-6)


def test_cuts_cover_the_voxels_and_are_never_beside_them() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:9, 8:20, 3:9] = mask[30:36, 8:20, 30:40] = True  # two parts, and nothing between
    volume = Volume(mask, RAS, "T1w")
    cuts = _planes.slices_of([volume], None)
    assert [cut.axis for cut in cuts] == ["z"] * 6 + ["x", "y"]
    assert all((cut.voxels(volume) >= 0).any() for cut in cuts)
    slab = Volume(np.ones((10, 10, 2), dtype=bool), RAS, "T1w")
    assert [cut.axis for cut in _planes.slices_of([slab], None)] == ["z", "z", "x", "y"]


def test_where_a_map_is_nan_the_anatomy_shows_and_nothing_else() -> None:
    volume = some()
    figure = plotting.draw(plotting.Scores([plotting.Panel("", np.full(40, np.nan), volume)]), plotting.Slices())
    coloured = plotting.draw(
        plotting.Scores([plotting.Panel("", np.full(40, 0.0), volume)], limits=(0.0, 1.0)), plotting.Slices()
    )
    pictures = [[ax.images[0].get_array() for ax in one.axes if ax.images] for one in (figure, coloured)]
    for bare, drawn in zip(*pictures, strict=True):
        np.testing.assert_array_equal(bare[..., 0], bare[..., 2])  # grey
        changed = (bare != drawn).any(-1)
        assert changed.any()
        np.testing.assert_allclose(
            drawn[changed], np.broadcast_to([0.001462, 0.000466, 0.013866], drawn[changed].shape), atol=1e-6
        )


@pytest.mark.parametrize("width", [85.0, 180.0])
@pytest.mark.parametrize("kind", ["slices", "share_slices", "glass_brain"])
def test_pictures_of_volumes_fit_their_width_with_letters_that_can_be_read(kind: str, width: float) -> None:
    import matplotlib.pyplot as plt

    plt.get_fignums()
    before = {name: value for name, value in matplotlib.rcParams.items() if not name.startswith("backend")}
    volume, style = some(), plotting.Style(width_mm=width)
    if kind == "share_slices":
        half = np.full(40, 0.5)
        figure = plotting.draw(
            plotting.Shares([plotting.Panel("strength 20 %", (half, half / 2), volume, unsure=np.ones(40))]),
            plotting.Slices(),
            style=style,
        )
    else:
        canvas = plotting.Slices() if kind == "slices" else plotting.Glass()
        scores = plotting.Scores(panels(volume), label="prediction accuracy r")
        figure = plotting.draw(scores, canvas, style=style)
    assert figure.get_figwidth() * 25.4 <= width + 0.01
    assert plotting.smallest_text(figure) >= 5
    figure.canvas.draw()
    drawn, size = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.005, "cut off on the left or below"
    assert drawn.x1 <= size[0] + 0.005, "cut off on the right"
    assert drawn.y1 <= size[1] + 0.005, "cut off above"
    assert plt.get_fignums() == []
    assert before == {name: value for name, value in matplotlib.rcParams.items() if not name.startswith("backend")}


def test_an_image_is_a_panel_and_what_is_none_is_refused(tmp_path: Path) -> None:
    grid = np.full(SHAPE, np.nan, dtype=np.float32)
    grid[10:20, 10:20, 10:20] = 0.5
    panel = plotting.Panel.of_image("mine", nib.Nifti1Image(grid, RAS), reference="T1w")
    assert panel.space.n_voxels == 1000
    anatomy = nib.Nifti1Image(np.ones(SHAPE), RAS)
    assert plotting.draw(plotting.Scores([panel]), plotting.Slices(anatomy)).axes
    with pytest.raises(InputError, match="mine is in T1w: use plotting"):
        plotting.draw(plotting.Scores([panel]), plotting.Glass())
    with pytest.raises(InputError, match="no panel"):
        plotting.draw(plotting.Scores([]), plotting.Slices())
    with pytest.raises(InputError, match="40 values of a map are infinite"):
        plotting.Panel("x", np.full(40, np.inf), some())
    with pytest.raises(AlignmentError, match="for 40 voxels of a volume"):
        plotting.Panel("x", np.ones(39), some())
    with pytest.raises(InputError, match="nowhere above 0"):
        plotting.draw(plotting.Scores([panel]), plotting.Slices(nib.Nifti1Image(np.zeros(SHAPE), RAS)))


# --- reports ----------------------------------------------------------------------------------------------------------


def drawn(space: Any, names: list[str], width: float = 180.0, **more: Any) -> dict[str, Any]:
    report = {"atlas": "", "mask": "own", "figures": names, "width_mm": width, "format": "png"}
    settings = {"report": report, "run": {"seed": 0}}
    content = reporting.Content("01", planted(space), None, {}, settings, {}, Path("log"), sections=sections(), **more)
    return {figure.name: figure for _, figure in figures(content)}


def test_without_a_cortex_cuts_stand_for_flatmaps() -> None:
    assert list(drawn(some(), ["default"])) == [
        "latents-slices",
        "latents-against-ceiling",
        "ceiling-slices",
        "noise-levels-slices",
    ]


def test_with_a_cortex_flatmaps_are_there_beside_cuts_of_accuracy() -> None:
    found = drawn(some("fsaverage5"), ["default"])
    assert {"latents-flat", "latents-slices", "ceiling", "noise-levels", "latents-winner"} <= set(found)
    assert not {"ceiling-slices", "noise-levels-slices", "latents-glass"} & set(found)
    assert "a vertex has the mean of the coloured voxels" in found["latents-flat"].caption
    assert "vertex" not in found["latents-slices"].caption
    assert "latents-glass" in drawn(some(), ["accuracy-glass"])
    assert "noise-levels-slices" in drawn(some("fsaverage5"), ["shares-slices"])


def test_winners_are_counted_in_voxels_and_not_in_vertices() -> None:
    n = np.bincount(np.arange(1, 40) % 3)
    figure = drawn(some("fsaverage5"), ["winner"])["latents-winner"]
    assert f"(z {n[0]}, c {n[1]}, z_c {n[2]})" in figure.caption
    words = [text.get_text() for text in figure.draw(plotting.PAGE).findobj(matplotlib.text.Text)]
    assert {f"z ({n[0]})", f"c ({n[1]})", f"z_c ({n[2]})"} <= set(words)


def test_every_figure_of_a_volume_can_be_drawn_in_the_width_of_a_column() -> None:
    for figure in drawn(some("fsaverage5"), ["all"], width=85.0).values():
        picture = figure.draw(plotting.Style(width_mm=85))
        assert picture.get_figwidth() * 25.4 <= 85.01, figure.name
        assert plotting.smallest_text(picture) >= 5, figure.name


def test_a_vertex_counts_for_a_group_where_all_its_voxels_are_found(tmp_path: Path) -> None:
    from latentcortex.reporting.group import _rejected

    volume = whole()
    p = np.where(np.arange(volume.n_voxels) % 2 == 0, 0.01, 0.5).astype(np.float32)
    facts = {**ABOUT, "model": "z", "band": "z"}
    maps = Maps.build(volume, [(1 - p, {**facts, "statistic": "r"}), (p, {**facts, "statistic": "p", **TESTS})])
    settings: dict[str, Any] = {}
    hits = _rejected(reporting.Content("01", maps, None, {}, settings, {}, Path("log"), sections=sections()))["z"]
    assert set(np.unique(hits[np.isfinite(hits)])) == {0.0, 1.0}
    all_found = np.asarray(volume.votes @ (p > 0.05)) == 0
    np.testing.assert_array_equal(hits[np.isfinite(hits)] == 1, all_found[np.isfinite(hits)])


def test_without_a_cortex_there_are_profiles_of_regions_and_similarity_of_maps(tmp_path: Path) -> None:
    space = some()
    halves = Atlas.find(str(atlas(tmp_path / "halves")), space)
    report = {"atlas": "halves", "mask": "own", "figures": ["share-profiles", "similarity"], "width_mm": 180.0}
    settings = {"report": {**report, "format": "png"}, "run": {"seed": 0}}
    content = reporting.Content("01", planted(space), halves, {}, settings, {}, Path("log"), sections=sections())
    found = {figure.name: figure for _, figure in figures(content)}
    assert list(found) == ["noise-levels-profiles", "noise-levels-similarity"]
    assert "independent places" in found["noise-levels-similarity"].caption
    assert "Without a valid voxel: right" in found["noise-levels-profiles"].caption
    assert content.maps.space.canvases == ("slices", "glass")


@pytest.mark.parametrize("template", ["", "fsaverage5"])
def test_the_page_of_a_group_has_a_map_where_all_have_a_cortex_and_says_so_otherwise(
    template: str, tmp_path: Path
) -> None:
    settings = {"report": {"atlas": ""}}
    for name, n in (("01", 200), ("02", 300), ("03", 300)):
        maps = planted(whole(template="").select_voxels(np.arange(0, 120000, n)))
        maps = planted(Volume(maps.space.mask, RAS, MNI, template))
        maps.save(tmp_path, participant=name)
        about = (name, maps, None, {}, settings, {"name": "arrays"}, tmp_path / "log")
        reporting.Content(*about, sections=sections()).write(tmp_path, [])
    page = reporting.write_group(tmp_path)
    assert page is not None
    text = page.read_text()
    assert ("There is no map of how many people show it" in text) == (template == "")
    assert (tmp_path / "group_prevalence.png").is_file() == (template != "")
    assert reporting.GroupResults.read(tmp_path).n_significant.loc["latents: z"].to_list()[1:] == [399, 399]


# --- studies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def volume_study(folder_study: Path) -> Path:
    """The study of 30 voxels, which are in a mask of MNI152."""
    data = folder_study.parent / "data"
    nib.save(nib.Nifti1Image(some(n=30).mask.astype(np.uint8), RAS), data / "mask.nii.gz")
    told = f'root = "data"\nmask = "mask.nii.gz"\nreference = "{MNI}"\n'
    folder_study.write_text(folder_study.read_text().replace('root = "data"\n', told))
    return folder_study


def append(study: Path, *lines: str) -> None:
    """Add keys to [dataset]."""
    study.write_text(study.read_text().replace("[dataset]\n", "[dataset]\n" + "\n".join(lines) + "\n"))


def test_a_study_of_a_mask_writes_valid_bids_and_a_report_that_is_made_again(
    volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, moved = tmp_path / "out", tmp_path / "elsewhere"
    append(volume_study, 'background = "T1w.nii.gz"')
    places = whole(template="").coordinates
    head = np.exp(-(((places / (70, 90, 65)) ** 2).sum(1) ** 3)).reshape(SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(head, RAS), volume_study.parent / "data" / "T1w.nii.gz")
    assert cli.main(["run", str(volume_study), "--out", str(out), "--quiet"]) == 0
    page = (out / "sub-01.html").read_text()
    assert "Voxels are those of a mask in MNI152NLin2009cAsym (4 x 4 x 4 mm)." in page
    assert "On axial cuts" in page
    assert {path.stem for path in (out / "sub-01" / "figures").iterdir()} == {
        "ceiling-slices",
        "latents-slices",
        "latents-against-ceiling",
    }
    rows = json.loads((out / "summary.json").read_text())["results"]
    assert rows[0]["n_voxels"] == 30
    assert 9 <= rows[0]["n_significant"] <= 12  # ten are driven by the pixels
    maps = Maps.load(out, participant="01")
    found = np.nonzero(maps.to_image(statistic="mask").get_fdata() == 1)
    assert len(set(maps.space.numbers[found]) & set(range(10))) >= 9  # the first columns of the responses
    shutil.rmtree(out / "features")
    shutil.rmtree(out / "sub-01" / "figures")
    out.rename(moved)
    assert cli.main(["report", str(moved)]) == 0
    assert (moved / "sub-01.html").read_text() == page
    capsys.readouterr()
    (moved / "sub-01" / "sub-01_background.nii.gz").unlink()
    assert cli.main(["report", str(moved)]) == 2
    assert "the anatomy behind the cuts" in capsys.readouterr().err


def test_derivatives_of_a_volume_pass_the_bids_validator(volume_study: Path, tmp_path: Path) -> None:
    pytest.importorskip("bids_validator_deno", reason="needs bids-validator-deno")
    append(volume_study, 'template = "fsaverage5"', 'background = "mask.nii.gz"')
    Study.read(volume_study).run(tmp_path / "out", progress=False)
    command = [str(Path(sys.executable).with_name("bids-validator-deno")), str(tmp_path / "out"), "--ignoreWarnings"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout


def test_a_study_on_a_cortex_says_how_voxels_came_there(volume_study: Path, tmp_path: Path) -> None:
    append(volume_study, 'template = "fsaverage5"')
    volume_study.write_text(
        volume_study.read_text() + f'\n[report]\natlas = "{atlas(tmp_path / "halves").as_posix()}"\n'
    )
    Study.read(volume_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "8 points between 10% and 90% of the way from the white to the pial surface" in page
    assert re.search(r"FreeSurfer.{1,8}s matrix; \d+ of the 30 voxels are met by a vertex", page)
    assert {path.stem for path in (tmp_path / "out" / "sub-01" / "figures").iterdir()} == {
        "ceiling",
        "latents-against-ceiling",
        "latents-flat",
        "latents-inflated",
        "latents-slices",
    }
    table = pd.read_csv(tmp_path / "out" / "sub-01" / "sub-01_rois.tsv", sep="\t", na_values="n/a")
    assert set(table.loc[table["roi"] == "left", "n_voxels"]) == {30}
    assert set(table.loc[table["roi"] == "right", "n_voxels"]) == {0}


def test_the_fingerprint_covers_the_mask(volume_study: Path) -> None:
    folder = {"root": str(volume_study.parent / "data"), "mask": "mask.nii.gz", "reference": MNI}
    before = lc.datasets.make("folder", **folder).fingerprint("01")
    assert lc.datasets.make("folder", **folder).fingerprint("01") == before
    assert lc.datasets.make("folder", **folder, template="fsaverage5").fingerprint("01") != before
    path = volume_study.parent / "data" / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.roll(nib.load(path).get_fdata(), 1, axis=0).astype(np.uint8), RAS), path)
    assert lc.datasets.make("folder", **folder).fingerprint("01") != before


def image_of(values: np.ndarray, affine: np.ndarray = RAS) -> Callable[[Path], None]:
    return lambda path: nib.save(nib.Nifti1Image(values, affine), path)


def no_affine(path: Path) -> None:
    image = nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), RAS)
    image.header["srow_x"], image.header["vox_offset"], image.header["sform_code"] = np.nan, 352, 2
    content = image.header.binaryblock + bytes(4) + np.ones(SHAPE, dtype=np.uint8).tobytes()
    path.write_bytes(gzip.compress(content))


MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "is missing; expected a NIfTI image"),
    "text": (lambda path: path.write_bytes(b"mask"), "is not a NIfTI image, or damaged"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "is not a NIfTI image, or damaged"),
    "grey": (image_of(np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)), "of 0 and 1: threshold it"),
    "nan": (image_of(np.full((5, 5, 5), np.nan, dtype=np.float32)), "of 0 and 1: threshold it"),
    "labels": (image_of(np.arange(27, dtype=np.int16).reshape(3, 3, 3)), "holds 0, 1, 2, 3 and 23 more"),
    "4D": (image_of(np.ones((3, 3, 3, 2), dtype=np.uint8)), "is (3, 3, 3, 2); expected a mask (x, y, z)"),
    "empty": (image_of(np.zeros((3, 3, 3), dtype=np.uint8)), "has no voxel"),
    "nan affine": (no_affine, "affine must be a finite matrix"),
    "other count": (
        image_of(np.ones((3, 3, 3), dtype=np.uint8)),
        "responses.npy has 30 columns, {mask} 27 voxels; expected one column per voxel of the mask",
    ),
}


@pytest.mark.parametrize("fault", MASKS)
def test_a_mask_that_cannot_be_used_is_one_line(
    fault: str, volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, says = MASKS[fault]
    path = volume_study.parent / "data" / "mask.nii.gz"
    spoil(path)
    assert cli.main(["run", str(volume_study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert says.format(mask=path) in said
    assert str(path) in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('template = "fsaverage9"', "fsaverage9"),
        ('transform = "fullhead"', "`transform` says where a cortex is; give `template`, too"),
        ('background = "no.nii.gz"', "no.nii.gz is missing"),
        ('refrence = "T1w"', "Did you mean 'reference'"),
    ],
)
def test_a_key_about_a_volume_that_is_wrong_is_one_line(
    line: str, says: str, volume_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(volume_study, line)
    assert cli.main(["run", str(volume_study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert "\n" not in said


def test_what_belongs_to_a_mask_is_given_with_it(volume_study: Path) -> None:
    root = str(volume_study.parent / "data")
    with pytest.raises(InputError, match="`mask` in \\[dataset\\] needs `reference`"):
        lc.datasets.make("folder", root=root, mask="mask.nii.gz")
    for key in ("reference", "transform", "background"):
        with pytest.raises(InputError, match=f"`{key}` in \\[dataset\\] is about voxels of a volume"):
            lc.datasets.make("folder", root=root, **{key: "T1w"})


def test_a_viewer_needs_a_cortex(volume_study: Path) -> None:
    from latentcortex.plotting._viewer_maps import viewer_maps

    with pytest.raises(InputError, match="without a known position on cortex"):
        viewer_maps(planted(some()), None)
    template, _, views = viewer_maps(planted(some("fsaverage5")), None)
    assert template == "fsaverage5"
    assert any(np.isfinite(view.values).any() for view, about in views if about["heading"] == "r")


# --- a subject of pycortex --------------------------------------------------------------------------------------------


MAPPED = """
import sys
import numpy as np
import cortex
with np.load(sys.argv[1]) as kept:
    volume = cortex.Volume(kept["grid"].T, "S1", "fullhead")
np.save(sys.argv[2], np.asarray(volume.map("line_nearest").data).ravel())
"""


@pytest.fixture(scope="module")
def bundled() -> Path:
    """The subject that comes with pycortex."""
    if importlib.util.find_spec("cortex") is None:
        pytest.skip("pycortex is not installed: pip install 'latentcortex[pycortex]'")
    folder = Path(sys.prefix, "share", "pycortex", "db", "S1")
    if not folder.is_dir():
        pytest.skip("pycortex was installed without its subject S1")
    return folder


def on_bundled(bundled: Path, folder: Path) -> Volume:
    """All voxels of the transform `fullhead`."""
    grid = nib.load(bundled / "transforms" / "fullhead" / "reference.nii.gz")
    nib.save(nib.Nifti1Image(np.ones(grid.shape, dtype=np.uint8), grid.affine), folder / "mask.nii.gz")
    return Volume.read(folder / "mask.nii.gz", reference="S1", template=str(bundled), transform="fullhead")


def test_vertices_have_what_pycortexs_line_mapper_gives_them(bundled: Path, tmp_path: Path) -> None:
    volume = on_bundled(bundled, tmp_path)
    values = np.random.default_rng(0).standard_normal(volume.n_voxels).astype(np.float32)
    np.savez(tmp_path / "grid.npz", grid=volume.to_image(values).get_fdata().astype(np.float32))
    (tmp_path / "home" / "pycortex").mkdir(parents=True)
    (tmp_path / "home" / "pycortex" / "options.cfg").write_text(
        f"[basic]\nfilestore = {bundled.parent}\ncache = {tmp_path / 'cache'}\n"
    )
    own = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")}
    command = [sys.executable, "-P", "-c", MAPPED, str(tmp_path / "grid.npz"), str(tmp_path / "theirs.npy")]
    subprocess.run(command, env=os.environ | own, check=True, capture_output=True, timeout=300)
    ours, theirs = volume.on_mesh(values), np.load(tmp_path / "theirs.npy")
    assert np.isfinite(ours).all()
    # The depths at which both look differ a little, and these voxels have nothing to do with each other.
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


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


@pytest.mark.slow
def test_a_viewer_of_a_volume_is_on_the_subjects_own_cortex(bundled: Path, tmp_path: Path) -> None:
    volume = on_bundled(bundled, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in bundled.rglob("*")}
    panel = plotting.Panel("height", volume.on_mesh(volume.coordinates[:, 2]), lc.Surface(str(bundled)))
    page = plotting.webgl(plotting.Scores([panel]), tmp_path / "viewer.html")
    assert "All 304,380 vertices" in page.read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in bundled.rglob("*")} == before


# --- what a sceptical reading found -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(_subjects.freesurfer_subject(tmp_path_factory.mktemp("subjects") / "bert"))


def on_bert(bert: str) -> Volume:
    """Voxels of 4 mm round the cortex of a subject of FreeSurfer."""
    return Volume(np.ones(SHAPE, dtype=bool), RAS, "T1w", bert)


@pytest.mark.parametrize("kind", ["surface", "volume"])
def test_every_figure_of_a_participants_own_cortex_is_drawn_on_it(bert: str, kind: str) -> None:
    whole_volume = on_bert(bert)
    space = (
        Surface(bert) if kind == "surface" else whole_volume.select_voxels(np.unique(whole_volume.votes.indices)[::5])
    )
    found = drawn(space, ["all"])
    assert {"latents-flat", "noise-levels", "latents-difference", "latents-winner", "latents-rgb"} <= set(found)
    for figure in found.values():
        figure.draw(plotting.PAGE)


def test_differences_on_cortex_are_means_of_significant_voxels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = whole().select_voxels(np.unique(whole().votes.indices))
    hit = np.arange(volume.n_voxels) % 3 == 0
    maps = planted(volume, ("z", "c"))
    pair = {**ABOUT, "model": "z", "band": "c"}
    extra = Maps.build(
        volume,
        [
            (np.where(hit, 1.0, -1.0), {**pair, "statistic": "differenceR2"}),
            (np.where(hit, 0.01, 0.5), {**pair, "statistic": "differenceQ"}),
        ],
    )
    seen: list[Any] = []
    monkeypatch.setattr(plotting, "draw", lambda painting, *_, **__: seen.append(painting))
    report = {"atlas": "", "mask": "own", "figures": ["differences"], "width_mm": 180.0, "format": "png"}
    settings = {"report": report, "run": {"seed": 0}}
    content = reporting.Content("01", maps.join(extra), None, {}, settings, {}, Path("log"), sections=sections())
    (figure,) = [one for _, one in figures(content)]
    figure.draw(plotting.PAGE)
    (painting,) = seen
    (panel,) = painting.panels
    (laid,) = painting.laid(panel, cortex.Vertices(volume))
    assert set(np.unique(laid[np.isfinite(laid)])) == {1.0}


def test_the_winner_of_a_vertex_is_that_of_most_of_its_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = whole().select_voxels(np.unique(whole().votes.indices))
    seen: list[Any] = []
    monkeypatch.setattr(plotting, "draw", lambda painting, *_, **__: seen.append(painting))
    drawn(volume, ["winner"])["latents-winner"].draw(plotting.PAGE)
    numbers = np.where(np.arange(volume.n_voxels) == 0, np.nan, np.arange(volume.n_voxels) % 3)
    (painting,) = seen
    colours = painting.paint(painting.panels[0], cortex.Vertices(volume))
    expected = volume.labels_on_mesh(numbers)
    np.testing.assert_array_equal(colours[:, 3] == 1, np.isfinite(expected))
    palette = np.array([matplotlib.colors.to_rgb(one) for one in ("#0072B2", "#D55E00", "#009E73")])
    is_coloured = np.isfinite(expected)
    np.testing.assert_allclose(colours[is_coloured, :3], palette[expected[is_coloured].astype(int)])


def test_voxels_of_mni_are_not_laid_onto_a_participants_own_cortex(bert: str) -> None:
    with pytest.raises(InputError, match="not in the participant's own space"):
        Volume(np.ones(SHAPE, dtype=bool), RAS, MNI, bert)
    with pytest.raises(InputError, match="did you mean MNI152"):
        Volume(np.ones(SHAPE, dtype=bool), RAS, "mni152")


@pytest.mark.parametrize("turn", [0.0, 20.0])
def test_a_volume_of_freesurfer_that_did_not_lie_straight_is_followed(tmp_path: Path, turn: float) -> None:
    from nibabel.freesurfer import io as freesurfer

    folder = _subjects.freesurfer_subject(tmp_path / "bert")
    path = folder / "surf" / "lh.white"
    points, triangles, about = freesurfer.read_geometry(path, read_metadata=True)
    angle = np.radians(turn)
    lean = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    for name in ("xras", "yras", "zras"):
        about[name] = lean @ about[name]
    freesurfer.write_geometry(path, points, triangles, volume_info=about)
    matrix = _surfaces.layout(str(folder)).to_world()
    image = nib.freesurfer.MGHImage(np.zeros((256, 256, 256), dtype=np.uint8), np.eye(4))
    header = image.header
    header["Mdc"] = np.stack([about[name] for name in ("xras", "yras", "zras")])
    header["Pxyz_c"], header["delta"] = about["cras"], 1.0
    expected = header.get_affine() @ np.linalg.inv(header.get_vox2ras_tkr())
    np.testing.assert_allclose(matrix, expected, atol=1e-4)


def test_maps_of_different_voxels_are_not_joined() -> None:
    one, other = some(n=40), some(n=40).select_voxels(np.arange(20))
    mask = np.zeros(SHAPE, dtype=bool)
    mask.ravel()[np.flatnonzero(one.mask.ravel()) + 1] = True
    for space in (other, Volume(mask, RAS, MNI), Volume(one.mask, LAS, MNI), Volume(one.mask, RAS, "T1w")):
        with pytest.raises(AlignmentError):
            planted(one, ("z",)).join(planted(space, ("c",)))


def test_a_brain_of_glass_shows_one_voxel_and_a_box_without_holes() -> None:
    box = np.zeros(SHAPE, dtype=bool)
    box[20:24, 20:24, 20:24] = True
    for volume in (Volume(box, RAS, MNI), some(n=1)):
        plotting.draw(plotting.Scores([plotting.Panel("a", np.ones(volume.n_voxels), volume)]), plotting.Glass())


def test_panels_that_do_not_fit_their_volume_or_each_other_are_one_line() -> None:
    volume = some()
    with pytest.raises(AlignmentError, match="for 40 voxels of a volume"):
        plotting.Panel("a", np.ones(40), volume, unsure=np.ones(3))
    with pytest.raises(InputError, match="maps in one space"):
        plotting.draw(
            plotting.Scores(
                [
                    plotting.Panel("a", np.ones(40), volume),
                    plotting.Panel("b", np.ones(40), Volume(volume.mask, RAS, "T1w")),
                ]
            ),
            plotting.Slices(),
        )


def test_a_cut_lies_where_voxels_are_and_not_between_two() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10, :20, :20], mask[22, :9, :20], mask[23, :9, :20] = True, True, True
    cuts = _planes.slices_of([Volume(mask, RAS + np.eye(4)[:, [3]] * 0, MNI)], None)
    (x,) = [cut.mm for cut in cuts if cut.axis == "x"]
    assert x == 4 * 10 - 90


@pytest.mark.parametrize("name", ["volume", "unlocated"])
def test_a_subject_may_be_called_anything(bert: str, tmp_path: Path, name: str) -> None:
    shutil.copytree(bert, tmp_path / name)
    before = planted(Surface(str(tmp_path / name)), ("z",))
    save_maps(Store(tmp_path), "x", before)
    assert load_maps(Store(tmp_path), "x", n_voxels=before.space.n_voxels).space.template == str(tmp_path / name)


def test_a_mask_with_a_fourth_axis_of_one_is_a_mask_and_of_two_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for n in (1, 2):
        nib.save(nib.Nifti1Image(np.ones((*SHAPE, n), dtype=np.uint8), RAS), tmp_path / f"{n}.nii.gz")
    assert Volume.read(tmp_path / "1.nii.gz", reference=MNI).shape == SHAPE
    assert "fourth axis of one volume" in caplog.text
    with pytest.raises(InputError, match="take one of its volumes"):
        Volume.read(tmp_path / "2.nii.gz", reference=MNI)


def test_a_mask_that_hardly_meets_cortex_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), RAS @ np.diag([1, 1, 1, 1])), tmp_path / "right.nii.gz")
    far = RAS.copy()
    far[0, 3] += 130
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), far), tmp_path / "far.nii.gz")
    Volume.read(tmp_path / "right.nii.gz", reference=MNI, template="fsaverage5")
    assert "met by the cortex" not in caplog.text
    Volume.read(tmp_path / "far.nii.gz", reference=MNI, template="fsaverage5")
    assert "met by the cortex of fsaverage5: are its affine and `reference` right" in caplog.text


def test_a_moved_cortex_is_another_study_and_an_edited_atlas_another_report(tmp_path: Path, bert: str) -> None:
    volume = on_bert(bert)
    before = volume.digests
    moved = Volume(volume.mask, RAS, "T1w", bert, np.linalg.inv(RAS))
    assert moved.digests != before
    assert on_bert(bert).digests == before


def test_coloured_voxels_that_lie_on_no_cut_are_told() -> None:
    volume = whole()
    on = np.unique(
        np.concatenate(
            [cut.voxels(volume).ravel() for cut in _planes.slices_of([volume], _planes.behind(volume, None))]
        )
    )
    off = np.setdiff1d(np.arange(volume.n_voxels), on)[:2]
    values = np.full(volume.n_voxels, np.nan)
    values[off] = 1.0
    words = [
        text.get_text()
        for text in plotting.draw(plotting.Scores([plotting.Panel("a", values, volume)]), plotting.Slices()).findobj(
            matplotlib.text.Text
        )
    ]
    assert "a (2 coloured voxels, none on these slices)" in words
