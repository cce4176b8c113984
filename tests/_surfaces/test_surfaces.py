"""The template surfaces, and pictures painted from planted values."""

from __future__ import annotations

import json
from hashlib import sha256
from itertools import pairwise

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from _paths import ROOT
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from latentcortex import _surfaces
from latentcortex.errors import AlignmentError, InputError

ATLAS = ROOT / "atlases" / "phantom"
N = 20484
LEFT = np.arange(N) < N // 2


@pytest.fixture(scope="module")
def flat() -> _surfaces.Raster:
    return _surfaces.flat_raster(160)


def pixel_centres(raster: _surfaces.Raster) -> tuple[np.ndarray, np.ndarray]:
    height, width = raster.shape
    left, right, bottom, top = raster.extent
    across = left + (np.arange(width) + 0.5) * (right - left) / width
    down = top - (np.arange(height) + 0.5) * (top - bottom) / height
    return np.meshgrid(across, down)


def edges(triangles: np.ndarray) -> np.ndarray:
    return np.concatenate([triangles[:, list(pair)] for pair in pairwise((0, 1, 2, 0))])


@pytest.mark.parametrize("kind", ["white", "pial", "inflated", "sphere"])
def test_closed_surfaces_are_spheres_in_topology_and_have_outward_normals(kind: _surfaces.SurfaceKind) -> None:
    for mesh in _surfaces.surface(kind):
        n_edges = len(np.unique(np.sort(edges(mesh.triangles), axis=1), axis=0))
        assert len(mesh.coordinates) - n_edges + len(mesh.triangles) == 2
        from_centre = mesh.coordinates - mesh.coordinates.mean(axis=0)
        assert np.mean((mesh.normals() * from_centre).sum(axis=1) > 0) > 0.7


def test_normals_of_the_sphere_are_its_radii() -> None:
    mesh = _surfaces.surface("sphere")[1]
    radii = mesh.coordinates / np.linalg.norm(mesh.coordinates, axis=1, keepdims=True)
    assert (mesh.normals() * radii).sum(axis=1).min() > 0.999


def test_hemispheres_lie_on_their_sides() -> None:
    left, right = _surfaces.surface("white")
    assert left.coordinates[:, 0].mean() < -20 < 20 < right.coordinates[:, 0].mean()


def test_the_medial_wall_is_one_hole_around_the_midline_in_each_hemisphere() -> None:
    wall = ~_surfaces.cortex()
    assert wall[_surfaces.thickness() <= 0].all()
    for mesh, hole in zip(_surfaces.surface("white"), np.split(wall, 2), strict=True):
        inside = edges(mesh.triangles)
        inside = inside[hole[inside].all(axis=1)]
        graph = sparse.coo_matrix((np.ones(len(inside)), inside.T), (N // 2, N // 2))
        sizes = np.bincount(connected_components(graph, directed=False)[1][hole])
        assert sizes.max() > 0.97 * hole.sum()
        assert np.abs(mesh.coordinates[hole, 0]).max() < 45
        assert 0.04 < hole.mean() < 0.09


def test_curvature_is_positive_in_sulci() -> None:
    assert np.corrcoef(_surfaces.curvature(), _surfaces.sulcal_depth())[0, 1] > 0.7


@pytest.mark.parametrize(
    "load", [lambda: _surfaces.surface("pial", "fsaverage9"), lambda: _surfaces.surface("midthickness")]
)
def test_an_unknown_template_or_surface_is_named(load) -> None:
    with pytest.raises(InputError, match=r"fsaverage9|midthickness"):
        load()


def test_the_flat_patch_has_no_turned_or_stretched_triangle_and_no_overlap_of_hemispheres() -> None:
    patch = _surfaces.flat_patch()
    corners = patch.coordinates[patch.triangles][..., :2]
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]).min() > 0
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max() < _surfaces.LONGEST_MM
    gap = np.nanmin(patch.coordinates[~LEFT, 0]) - np.nanmax(patch.coordinates[LEFT, 0])
    assert gap == pytest.approx(_surfaces.GAP_MM)


def test_flat_patches_face_each_other_with_their_posterior_ends_and_dorsal_is_up() -> None:
    x, y, _ = _surfaces.flat_patch().coordinates.T
    white = np.concatenate([mesh.coordinates for mesh in _surfaces.surface("white")])
    for side, towards_middle in ((LEFT, 1), (~LEFT, -1)):
        known = side & np.isfinite(x)
        assert np.corrcoef(x[known], -towards_middle * white[known, 1])[0, 1] > 0.8
        assert np.corrcoef(y[known], white[known, 2])[0, 1] > 0.7


def test_weights_of_a_pixel_sum_to_one_and_are_not_negative(flat: _surfaces.Raster) -> None:
    np.testing.assert_allclose(flat.weights[flat.inside].sum(axis=1), 1.0, atol=1e-12)
    assert flat.weights.min() > -1e-8
    assert 0.5 < flat.inside.mean() < 0.7


def test_painting_a_linear_function_of_the_flat_coordinates_reproduces_it(flat: _surfaces.Raster) -> None:
    x, y, _ = _surfaces.flat_patch().coordinates.T
    across, down = pixel_centres(flat)
    expected = np.where(flat.inside, 0.7 * across - 2.0 * down + 5.0, np.nan)
    np.testing.assert_allclose(flat.paint(0.7 * x - 2.0 * y + 5.0), expected, atol=1e-6)


def test_a_pixel_is_undefined_exactly_where_its_closest_vertex_is(flat: _surfaces.Raster) -> None:
    values = np.ones(N)
    values[::3] = np.nan
    values[1::3] = np.inf
    painted = flat.paint(values)
    expected = flat.nearest((np.arange(N) % 3 == 2).astype(int)) == 1
    np.testing.assert_array_equal(np.isfinite(painted), expected)
    np.testing.assert_allclose(painted[np.isfinite(painted)], 1.0)


def test_nothing_defined_paints_nothing(flat: _surfaces.Raster) -> None:
    assert np.isnan(flat.paint(np.full(N, np.nan))).all()


def test_nearest_gives_the_label_of_the_closest_vertex_in_the_plane(flat: _surfaces.Raster) -> None:
    coordinates = _surfaces.flat_patch().coordinates[:, :2]
    across, down = pixel_centres(flat)
    found = flat.nearest(np.arange(N))
    assert (found[~flat.inside] == -1).all()
    rows, columns = np.nonzero(flat.inside)
    for row, column in list(zip(rows, columns, strict=True))[::700]:
        corners = flat.vertices[row, column]
        distance = np.linalg.norm(coordinates[corners] - (across[row, column], down[row, column]), axis=1)
        # The greatest weight is the closest corner, but for triangles that are far from equilateral.
        assert distance[list(corners).index(found[row, column])] <= distance.min() + 1.5


def test_left_vertices_are_on_the_left_of_the_flat_picture(flat: _surfaces.Raster) -> None:
    labels = flat.nearest(np.where(LEFT, 1, 2))
    columns = np.broadcast_to(np.arange(flat.shape[1]), flat.shape)
    assert columns[labels == 1].max() < columns[labels == 2].min()


@pytest.mark.parametrize(
    ("hemisphere", "view", "axis", "sign"),
    [
        ("left", "lateral", 0, -1),
        ("left", "medial", 0, 1),
        ("right", "lateral", 0, 1),
        ("right", "medial", 0, -1),
        ("left", "ventral", 2, -1),
        ("right", "posterior", 1, -1),
    ],
)
def test_a_view_shows_only_what_faces_the_viewer(hemisphere, view, axis: int, sign: int) -> None:
    raster = _surfaces.inflated_raster(hemisphere, view, 90)
    side = _surfaces.HEMISPHERES.index(hemisphere)
    shown = np.unique(raster.vertices[raster.inside]) - side * (N // 2)
    assert shown.min() >= 0
    assert shown.max() < N // 2
    towards = sign * _surfaces.surface("inflated")[side].normals()[shown, axis]
    assert np.mean(towards > 0) > 0.95
    assert 0.0 <= raster.shading.min() < 0.7 < raster.shading[raster.inside].max() <= 1.0


def test_anterior_is_left_in_the_left_lateral_view_and_right_in_the_right_one() -> None:
    anterior = np.concatenate([mesh.coordinates[:, 1] for mesh in _surfaces.surface("inflated")])
    for hemisphere, sign in (("left", -1), ("right", 1)):
        raster = _surfaces.inflated_raster(hemisphere, "lateral", 90)
        across, _ = pixel_centres(raster)
        np.testing.assert_allclose(raster.paint(anterior)[raster.inside], sign * across[raster.inside], atol=1e-6)


def test_views_of_one_figure_have_one_scale() -> None:
    sizes = []
    for view in ("lateral", "medial", "ventral", "posterior"):
        raster = _surfaces.inflated_raster("left", view, 90)
        sizes.append((raster.extent[1] - raster.extent[0]) / raster.shape[1])
    assert sizes == pytest.approx([sizes[0]] * 4)


def test_the_joined_views_show_every_pixel_of_the_single_ones() -> None:
    joined = _surfaces.inflated_views(90)
    single = [_surfaces.inflated_raster(*key, 90) for key in _surfaces.AXES]
    assert joined.inside.sum() == sum(raster.inside.sum() for raster in single)
    assert (joined.shading[~joined.inside] == 1.0).all()


def test_rasters_are_made_once() -> None:
    assert _surfaces.flat_raster(160) is _surfaces.flat_raster(160)


def test_a_map_of_one_hemisphere_is_refused(flat: _surfaces.Raster) -> None:
    with pytest.raises(AlignmentError, match="20484"):
        flat.paint(np.zeros(N // 2))


def test_an_unknown_view_is_named() -> None:
    with pytest.raises(InputError, match="dorsal"):
        _surfaces.inflated_raster("left", "dorsal", 90)


def test_outlines_follow_a_planted_disc_and_name_it_at_its_centre(flat: _surfaces.Raster) -> None:
    x, y, _ = _surfaces.flat_patch().coordinates.T
    centre = (np.nanmean(x[LEFT]), np.nanmean(y[LEFT]))
    disc = np.nan_to_num(np.hypot(x - centre[0], y - centre[1]), nan=np.inf) < 40.0
    (outline,) = _surfaces.outlines(flat, np.where(disc, 7, 0))
    pixel = (flat.extent[1] - flat.extent[0]) / flat.shape[1]
    columns, rows = np.concatenate(outline.lines).T
    across = flat.extent[0] + (columns + 0.5) * pixel
    down = flat.extent[3] - (rows + 0.5) * pixel
    assert outline.label == 7
    np.testing.assert_allclose(np.hypot(across - centre[0], down - centre[1]), 40.0, atol=5.0)
    (anchor,) = outline.anchors
    np.testing.assert_allclose((anchor[0] * pixel + flat.extent[0]), centre[0], atol=8.0)
    np.testing.assert_allclose((flat.extent[3] - anchor[1] * pixel), centre[1], atol=8.0)


def test_regions_that_the_picture_does_not_show_have_no_outline(flat: _surfaces.Raster) -> None:
    outside = np.isnan(_surfaces.flat_patch().coordinates[:, 0])
    assert _surfaces.outlines(flat, np.where(outside, 3, 0)) == []
    assert _surfaces.outlines(flat, np.zeros(N, dtype=int)) == []


def phantom_labels() -> list[np.ndarray]:
    names = [f"tpl-fsaverage_hemi-{side}_atlas-phantom_den-10k_dseg.label.gii" for side in "LR"]
    return [nib.load(ATLAS / name).darrays[0].data for name in names]


def test_the_phantom_atlas_has_seven_separate_contiguous_regions_in_each_hemisphere() -> None:
    for labels, mesh in zip(phantom_labels(), _surfaces.surface("pial"), strict=True):
        assert set(labels) == set(range(8))
        ends = labels[edges(mesh.triangles)]
        assert not ((ends > 0).all(axis=1) & (ends[:, 0] != ends[:, 1])).any()
        same = edges(mesh.triangles)[(ends[:, 0] == ends[:, 1]) & (ends[:, 0] > 0)]
        graph = sparse.coo_matrix((np.ones(len(same)), same.T), (N // 2, N // 2))
        pieces = connected_components(graph, directed=False)[1]
        assert [len(set(pieces[labels == label])) for label in range(1, 8)] == [1] * 7


def test_the_phantom_atlas_covers_a_quarter_of_cortex_and_no_medial_wall() -> None:
    labels = np.concatenate(phantom_labels())
    assert not labels[~_surfaces.cortex()].any()
    assert 0.25 < np.mean(labels[_surfaces.cortex()] > 0) < 0.30


def test_the_phantom_atlas_describes_its_files() -> None:
    description = json.loads((ATLAS / "atlas.json").read_text(encoding="utf-8"))
    assert description["licence"] == "CC0-1.0"
    for name, entry in description["files"].items():
        assert sha256((ATLAS / name).read_bytes()).hexdigest() == entry["sha256"]
    table = pd.read_csv(ATLAS / "atlas-phantom_dseg.tsv", sep="\t")
    image = nib.load(ATLAS / "tpl-fsaverage_hemi-L_atlas-phantom_den-10k_dseg.label.gii")
    written = image.labeltable.get_labels_as_dict()
    assert dict(zip(table["index"], table["name"], strict=True)) == {i: n for i, n in written.items() if i}
    assert image.meta["AnatomicalStructurePrimary"] == "CortexLeft"
