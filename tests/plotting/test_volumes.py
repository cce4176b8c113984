"""Cuts through a volume show what lies where, with values that nilearn draws, and refuse what does not fit."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pytest
from _volumes import AFFINES, LAS, MNI, RAS, SHAPE, some, whole

from latentcortex import plotting
from latentcortex.errors import AlignmentError, InputError
from latentcortex.plotting import _planes
from latentcortex.space import Volume

pytestmark = pytest.mark.usefixtures("small")


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
