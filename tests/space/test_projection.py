"""Voxels on cortex: as nilearn and pycortex lay them there, in mm, along transforms and on a participant's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _subjects
import nibabel as nib
import numpy as np
import pytest
from _volumes import AFFINES, AT_152, LAS, MIDDLE, MNI, OBLIQUE, RAS, SHAPE, SURFACES, on_bundled, whole

from latentcortex import _surfaces
from latentcortex.errors import InputError
from latentcortex.space import Surface, Volume, projection


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


MAPPED = """
import sys
import numpy as np
import cortex
with np.load(sys.argv[1]) as kept:
    volume = cortex.Volume(kept["grid"].T, "S1", "fullhead")
np.save(sys.argv[2], np.asarray(volume.map("line_nearest").data).ravel())
"""


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


def test_a_mask_that_hardly_meets_cortex_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), RAS @ np.diag([1, 1, 1, 1])), tmp_path / "right.nii.gz")
    far = RAS.copy()
    far[0, 3] += 130
    nib.save(nib.Nifti1Image(np.ones(SHAPE, dtype=np.uint8), far), tmp_path / "far.nii.gz")
    Volume.read(tmp_path / "right.nii.gz", reference=MNI, template="fsaverage5")
    assert "met by the cortex" not in caplog.text
    Volume.read(tmp_path / "far.nii.gz", reference=MNI, template="fsaverage5")
    assert "met by the cortex of fsaverage5: are its affine and `reference` right" in caplog.text
