"""Voxels of a volume: which they are, where they are, and what is no volume."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from _volumes import MNI, RAS, SHAPE, some, whole

from latentcortex.errors import AlignmentError, InputError
from latentcortex.space import Volume


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
