"""Where a planted map is seen: pycortex, nilearn, nibabel and our own flatmap agree on it.

Regions are planted at the back, front, top and bottom of each hemisphere, and where the phantom's atlas has them. The
flatmaps and outlines that they are looked for in are drawn by pycortex, the heads by nilearn.
"""

from __future__ import annotations

import importlib.util
import os
import site
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path as Polygon
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from latentcortex import _surfaces, plotting
from latentcortex._pycortex import overlays, subject
from latentcortex.maps import Maps
from latentcortex.space import Atlas, Surface

N = len(_surfaces.curvature())
HALF = N // 2
PIAL = np.concatenate([mesh.coordinates for mesh in _surfaces.surface("pial")])
SIDES = ("left", "right")
HEIGHT = 512
"""Of all flatmaps, in pixels: a triangle is some six pixels wide."""
ROUNDED = 3.5
"""By how many pixels an outline, rounded and mixed of corners, departs from the vertices' borders: under 2 mm."""
GREY = 10
"""Steps of grey between regions."""

with_pycortex = pytest.mark.skipif(
    importlib.util.find_spec("cortex") is None, reason="pycortex is not installed: pip install 'latentcortex[pycortex]'"
)


@dataclass(frozen=True)
class Planted:
    """Regions: the number of each at its vertices (n_vertices,), 0 elsewhere, and number -> name."""

    labels: np.ndarray
    names: dict[int, str]

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return iter(self.names.items())


def poles() -> Planted:
    """Plant a disc round the vertex of each inflated hemisphere that is furthest back, to the front, up and down."""
    labels, names = np.zeros(N, dtype=int), {}
    for first, side, mesh in zip((0, HALF), SIDES, _surfaces.surface("inflated"), strict=True):
        for pole, direction in {"back": (0, -1, 0), "front": (0, 1, 0), "top": (0, 0, 1), "bottom": (0, 0, -1)}.items():
            centre = mesh.coordinates[(mesh.coordinates @ direction).argmax()]
            names[len(names) + 1] = f"{side} {pole}"
            members = np.linalg.norm(mesh.coordinates - centre, axis=1) < 22
            labels[first : first + HALF][members] = len(names)
    return Planted(labels, names)


def atlas() -> Planted:
    """Plant the regions of the phantom's atlas, each hemisphere's with names of its own."""
    known = Atlas.find("phantom", "fsaverage5")
    right = (known.labels > 0) & (np.arange(N) >= HALF)
    names = {
        label + len(known.names) * i: f"{side} {name}"
        for i, side in enumerate(SIDES)
        for label, name in known.names.items()
    }
    return Planted(known.labels + len(known.names) * right, names)


PLANTED = {"poles": poles(), "atlas": atlas()}
both = pytest.mark.parametrize("planted", list(PLANTED))


def place(picture: np.ndarray, region: np.ndarray) -> tuple[float, float]:
    """Say where the middle of a region is in the box round a picture: 0..1 from the left, and from below."""
    rows, columns = np.nonzero(picture)
    row, column = np.argwhere(region).mean(axis=0)
    return (column - columns.min()) / np.ptp(columns), (rows.max() - row) / np.ptp(rows)


def dice(these: np.ndarray, those: np.ndarray) -> float:
    return float(2 * (these & those).sum() / (these.sum() + those.sum()))


def astray(these: np.ndarray, those: np.ndarray) -> float:
    """Measure how far a pixel of the one is from the other, or one of the other within the one from its border."""
    beyond, short = those & ~these, these & ~those
    outside = ndimage.distance_transform_edt(~these)[beyond]
    inside = ndimage.distance_transform_edt(these)[short]
    return float(max(outside.max(initial=0), inside.max(initial=0)))


def check_flat_poles(picture: np.ndarray, regions: np.ndarray, side: str, middle: str) -> None:
    """Check that a flat hemisphere has its back towards the middle of the figure, and its top up."""
    names = {name: label for label, name in PLANTED["poles"]}
    at = {pole: place(picture, regions == names[f"{side} {pole}"]) for pole in ("back", "front", "top", "bottom")}
    towards = {pole: across if middle == "right" else 1 - across for pole, (across, _) in at.items()}
    assert towards["back"] > 0.85
    assert towards["front"] < 0.25
    assert at["top"][1] > 0.75
    assert at["bottom"][1] < 0.25


# Our own flatmap


def within(lines: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Tell which pixels' centres are within closed lines of columns and rows."""
    inside = np.zeros(shape, dtype=bool)
    for line in lines:
        low, high = np.floor(line.min(axis=0)).astype(int), np.ceil(line.max(axis=0)).astype(int)
        columns, rows = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
        found = Polygon(line).contains_points(np.stack([columns.ravel(), rows.ravel()], axis=1))
        inside[rows.ravel()[found], columns.ravel()[found]] ^= True
    return inside


@both
def test_our_outline_of_a_region_contains_what_is_painted_in_it(planted: str) -> None:
    raster, regions = _surfaces.flat_raster(HEIGHT), PLANTED[planted]
    outlines = {outline.label: outline for outline in _surfaces.outlines(raster, regions.labels)}
    assert set(outlines) == set(regions.names)
    for label, _ in regions:
        painted = raster.paint(np.where(regions.labels == label, 1.0, np.nan)) == 1
        drawn = within(outlines[label].lines, raster.shape)
        assert dice(painted, drawn & raster.inside) > 0.95
        assert astray(painted, drawn & raster.inside) < ROUNDED


@pytest.mark.parametrize("side", SIDES)
def test_our_flatmap_has_the_back_towards_the_middle_and_the_top_up(side: str) -> None:
    raster, labels = _surfaces.flat_raster(HEIGHT), PLANTED["poles"].labels
    names = PLANTED["poles"].names
    regions = sum(np.nan_to_num(raster.paint(np.where(labels == label, label, np.nan))) for label in names)
    half = raster.inside & ((raster.closest >= HALF) == (side == "right"))
    columns = np.nonzero(half.any(axis=0))[0]
    assert (columns.max() < raster.shape[1] / 2) if side == "left" else (columns.min() > raster.shape[1] / 2)
    check_flat_poles(half, np.where(half, regions, 0), side, "right" if side == "left" else "left")


@pytest.mark.parametrize("name", ["left back", "right back", "left top", "right bottom"])
def test_our_figure_shows_a_region_within_its_outline(name: str) -> None:
    (label,) = (label for label, known in PLANTED["poles"] if known == name)
    member = PLANTED["poles"].labels == label
    values = np.where(member, 1.0, np.nan)
    figure = plotting.plot_flatmap(
        values, atlas=Atlas("planted", member.astype(int), {}, "fsaverage5"), cmap="winter", limits=(0.0, 1.0)
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    ax = figure.axes[0]
    box = ax.get_window_extent()
    columns = slice(round(box.x0), round(box.x1))
    rows = slice(len(picture) - round(box.y1), len(picture) - round(box.y0))
    seen = np.zeros(picture.shape[:2], dtype=bool)
    seen[rows, columns] = np.ptp(picture, axis=2)[rows, columns] > 100
    lines = [ax.transData.transform(line) for line in ax.collections[0].get_segments()]
    drawn = within([np.array([-0.5, len(picture) - 0.5]) + line * [1, -1] for line in lines], seen.shape)
    # Half of the line itself covers what is in it.
    assert (seen & drawn).sum() / seen.sum() > 0.99
    assert (seen & drawn).sum() / drawn.sum() > 0.75


# pycortex

QUICKFLAT = """
import sys
from pathlib import Path

import cortex
import numpy as np
from cortex import quickflat

job, subject, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
maps, found = np.load(job / "maps.npz"), {}
for name in maps.files:
    data = cortex.Vertex(maps[name].astype(np.float32), subject, vmin=0, vmax=255, cmap="gray")
    image, found["extents"] = quickflat.utils.make_flatmap_image(data, height=size)
    found[f"map/{name}"] = image
    drawing = job / f"{name}.svg"
    if not drawing.is_file():
        continue
    figure = quickflat.make_figure(data, height=size, with_rois=False, with_colorbar=False)
    figure.canvas.draw()
    found[f"figure/{name}"] = np.asarray(figure.canvas.buffer_rgba())[..., 0]
    for region, vertices in cortex.get_roi_verts(subject, overlay_file=str(drawing)).items():
        found[f"vertices/{region}"] = vertices
    overlay = cortex.db.get_overlay(subject, overlay_file=str(drawing))
    width, height = overlay.svgshape
    rows, columns = np.indices(image.shape)
    x, y = (columns + 0.5) / image.shape[1] * width, (rows + 0.5) / image.shape[0] * height
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    for region, shape in overlay.rois.shapes.items():
        inside = np.any([path.contains_points(points) for path in shape.splines], axis=0)
        found[f"outline/{region}"] = inside.reshape(image.shape)
np.savez(job / "found.npz", **found)
"""
"""Draws maps as flatmaps, and finds the vertices and pixels within outlines, with nothing but pycortex."""


def smooth(values: np.ndarray, n_times: int) -> np.ndarray:
    """Average each vertex with its neighbours, so many times."""
    triangles = np.concatenate([mesh.triangles + i * HALF for i, mesh in enumerate(_surfaces.surface("pial"))])
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    matrix = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (N, N)).tocsr() + sparse.eye(N)
    for _ in range(n_times):
        values = (matrix @ values) / matrix.sum(axis=1).A1
    return values


def compared() -> dict[str, np.ndarray]:
    """Make the maps that our flatmap and pycortex's are compared on."""
    rng = np.random.default_rng(0)
    noise, blobs = rng.standard_normal(N), smooth(rng.standard_normal(N), 12)
    return {
        "blobs": blobs,
        "fine blobs": smooth(rng.standard_normal(N), 3),
        "sulcal depth": _surfaces.sulcal_depth(),
        "curvature": _surfaces.curvature(),
        "forward": PIAL[:, 1],
        "upward": PIAL[:, 2],
        "step": (PIAL[:, 1] > -20).astype(float),
        # Accuracy in regions, each of them about as good as its neighbours, tested on 200 stimuli.
        "accuracy": np.where(PLANTED["atlas"].labels > 0, 0.5 + 0.1 * blobs / blobs.std(), 0.0) + noise / 200**0.5,
        "noise": noise,
    }


@dataclass(frozen=True)
class Quickflat:
    """What pycortex made of maps and of our drawings of regions."""

    found: dict[str, np.ndarray]

    def figure(self, planted: str) -> np.ndarray:
        """The number of the region that each pixel of the figure shows; 0 where the figure is white."""
        return np.where(self.found[f"figure/{planted}"] == 255, 0, np.rint(self.found[f"figure/{planted}"] / GREY))

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel is in our flat patch, in mm, found by the outer edges of the hemispheres.

        pycortex moves the hemispheres until they touch at 0; the first and last pixels are centred on the edges.
        """
        left, right, bottom, top = self.found["extents"].astype(float)
        n_rows, n_columns = self.found["map/vertex"].shape
        x, y = np.meshgrid(np.linspace(left, right, n_columns), np.linspace(top, bottom, n_rows))
        patch = _surfaces.flat_patch().coordinates
        inner, outer, upper = np.nanmax(patch[:HALF, 0]), np.nanmax(patch[:, 0]), np.nanmax(patch[:, 1])
        return np.where(x < 0, x + inner, x - right + outer), y - top + upper

    def ours(self, values: np.ndarray, *, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Paint a map by ourselves at the places of pycortex's pixels, or so many pixels beside them."""
        raster, (x, y) = _surfaces.flat_raster(HEIGHT), self.places()
        left, right, _, top = raster.extent
        pixel = (right - left) / raster.shape[1]
        row, column = np.floor((top - y) / pixel).astype(int), np.floor((x - left) / pixel).astype(int)
        return raster.paint(values)[row + shift[0], column + shift[1]]


@pytest.fixture(scope="module")
def quickflat(tmp_path_factory: pytest.TempPathFactory) -> Quickflat:
    """Let pycortex draw our subject, in a process with a home and a configuration of its own."""
    job = tmp_path_factory.mktemp("quickflat")
    store = job / "filestore"
    subject.build(store)
    for name in ("config/pycortex", "home", "tmp"):
        (job / name).mkdir(parents=True)
    options = f"[basic]\nfilestore = {store}\ncache = {job / 'cache'}\n"
    (job / "config" / "pycortex" / "options.cfg").write_text(options)
    maps = compared() | {"vertex": np.arange(N)}
    for name, planted in PLANTED.items():
        maps[name] = np.where(planted.labels > 0, GREY * planted.labels, np.nan)
        (job / f"{name}.svg").write_bytes(overlays.drawing(planted.labels, planted.names))
    np.savez(job / "maps.npz", **maps)
    private = {name: str(job / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR")}
    private |= {"XDG_CONFIG_HOME": str(job / "config"), "TMPDIR": str(job / "tmp"), "MPLBACKEND": "Agg"}
    private |= {"PYTHONUSERBASE": site.getuserbase()}
    command = [sys.executable, "-P", "-c", QUICKFLAT, str(job), "fsaverage5", str(HEIGHT)]
    subprocess.run(command, env=os.environ | private, check=True, timeout=300, stdout=subprocess.DEVNULL)
    with np.load(job / "found.npz") as found:
        return Quickflat(dict(found))


@with_pycortex
@both
def test_pycortex_paints_a_region_within_the_outline_of_its_name(quickflat: Quickflat, planted: str) -> None:
    figure = quickflat.figure(planted)
    patch = np.isfinite(quickflat.found["map/vertex"])
    assert figure.shape == patch.shape
    left, right = quickflat.found["extents"][:2]
    on_the_right = np.broadcast_to(np.linspace(left, right, figure.shape[1]) > 0, figure.shape)
    for label, name in PLANTED[planted]:
        # Beyond the cortex nothing is painted, but outlines cut across the notches of its edge.
        painted, drawn = figure == label, quickflat.found[f"outline/{name}"] & patch
        print(f"{name}: Dice {dice(painted, drawn):.3f}, at most {astray(painted, drawn):.1f} pixels astray")
        assert dice(painted, drawn) > 0.95
        assert astray(painted, drawn) < ROUNDED
        # Where the hemispheres touch, a pixel may be nearer to a vertex of the other.
        assert painted[on_the_right == name.startswith("right")].sum() > 0.998 * painted.sum()


@with_pycortex
@both
def test_pycortex_reads_a_regions_vertices_back_from_its_outline(quickflat: Quickflat, planted: str) -> None:
    patch = np.isfinite(_surfaces.flat_patch().coordinates[:, 0])
    for label, name in PLANTED[planted]:
        member = PLANTED[planted].labels == label
        found = np.isin(np.arange(N), quickflat.found[f"vertices/{name}"])
        print(f"{name}: Dice {dice(member & patch, found & patch):.3f}")
        assert dice(member & patch, found & patch) > 0.97
        assert set(np.flatnonzero(found) >= HALF) == {name.startswith("right")}


@with_pycortex
@pytest.mark.parametrize("side", SIDES)
def test_pycortex_has_the_back_towards_the_middle_and_the_top_up(quickflat: Quickflat, side: str) -> None:
    known = np.isfinite(quickflat.found["map/vertex"])
    half = known & ((quickflat.found["map/vertex"] >= HALF) == (side == "right"))
    regions = np.where(half, quickflat.figure("poles"), 0)
    check_flat_poles(half, regions, side, "right" if side == "left" else "left")


@with_pycortex
def test_every_pixel_of_pycortex_shows_the_vertex_that_is_nearest_in_our_patch(quickflat: Quickflat) -> None:
    known = np.isfinite(quickflat.found["map/vertex"])
    shown = quickflat.found["map/vertex"][known].astype(int)
    points = np.stack(quickflat.places(), axis=-1)[known]
    patch = _surfaces.flat_patch().coordinates[:, :2]
    distance = np.linalg.norm(patch[shown] - points, axis=1)
    used = np.unique(shown)
    assert len(used) > 18_800
    nearest, _ = cKDTree(patch[used]).query(points)
    # Where the hemispheres touch, the nearest vertex may be one of the other.
    assert np.mean(distance < nearest + 0.01) > 0.999


def agreement(quickflat: Quickflat, name: str, shift: tuple[int, int] = (0, 0)) -> float:
    """Correlate pixels inside both patches."""
    ours, theirs = quickflat.ours(compared()[name], shift=shift), quickflat.found[f"map/{name}"]
    inside = np.isfinite(ours) & np.isfinite(theirs)
    assert inside.sum() > 0.98 * np.isfinite(theirs).sum()
    return float(np.corrcoef(ours[inside], theirs[inside])[0, 1])


@with_pycortex
@pytest.mark.parametrize("name", [name for name in compared() if name != "noise"])
def test_our_flatmap_correlates_with_pycortexs(quickflat: Quickflat, name: str) -> None:
    found = agreement(quickflat, name)
    print(f"correlation {found:.4f}")
    assert found > 0.95


@with_pycortex
def test_our_flatmap_lies_exactly_upon_pycortexs(quickflat: Quickflat) -> None:
    beside = [agreement(quickflat, "curvature", shift) for shift in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    assert agreement(quickflat, "curvature") > max(beside) + 0.002
    # A picture that is right by less than a quarter of a pixel loses as much on one side as on the other.
    assert np.ptp(beside) < 0.004


@with_pycortex
def test_noise_without_any_smoothness_agrees_as_far_as_mixed_corners_agree_with_the_nearest(
    quickflat: Quickflat,
) -> None:
    raster, (x, y) = _surfaces.flat_raster(HEIGHT), quickflat.places()
    left, right, _, top = raster.extent
    pixel = (right - left) / raster.shape[1]
    at = np.floor((top - y) / pixel).astype(int), np.floor((x - left) / pixel).astype(int)
    inside = raster.inside[at] & np.isfinite(quickflat.found["map/vertex"])
    weights, corners = raster.weights[at][inside], raster.vertices[at][inside]
    own = (weights * (corners == quickflat.found["map/vertex"][inside][:, None])).sum(axis=1)
    expected = own.mean() / np.sqrt((weights**2).sum(axis=1).mean())
    found = agreement(quickflat, "noise")
    print(f"correlation {found:.4f}, expected {expected:.4f}")
    assert found == pytest.approx(expected, abs=0.01)


# nibabel and nilearn


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a map of each pole: how far forward its vertices are, undefined elsewhere; only cortex is known."""
    folder = tmp_path_factory.mktemp("saved")
    planted, cortex = PLANTED["poles"], np.flatnonzero(_surfaces.cortex())
    facts = {"analysis": "latents", "model": "z", "band": "z", "statistic": "r", "unit": "1", "n_stimuli": 3}
    for label, name in planted:
        values = np.where(planted.labels == label, PIAL[:, 1], np.nan)[cortex]
        Maps.build(Surface("fsaverage5", cortex), [(values, facts)]).save(folder / name, participant="01")
    return folder


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Load nilearn's own meshes; nothing is downloaded."""
    from nilearn.datasets import load_fsaverage

    return load_fsaverage("fsaverage5", data_dir=tmp_path_factory.mktemp("nilearn"))


def files_of(folder: Path) -> dict[str, Path]:
    found = {side: list(folder.rglob(f"*_hemi-{side[0].upper()}_*_statmap.func.gii")) for side in SIDES}
    assert all(len(paths) == 1 for paths in found.values())
    return {side: path for side, (path,) in found.items()}


@pytest.mark.parametrize(("label", "name"), list(PLANTED["poles"]))
def test_nibabel_reads_a_region_back_where_it_was_planted(saved: Path, meshes: Any, label: int, name: str) -> None:
    member = (PLANTED["poles"].labels == label) & _surfaces.cortex()
    for side, expected in zip(SIDES, np.split(member, 2), strict=True):
        image = nib.load(files_of(saved / name)[side])
        assert image.meta["AnatomicalStructurePrimary"] == f"Cortex{side.title()}"
        (values,) = (array.data for array in image.darrays)
        assert values.shape == (HALF,)
        assert np.array_equal(np.isfinite(values), expected)
        assert expected.any() == name.startswith(side)
        forward = meshes["pial"].parts[side].coordinates[:, 1]
        np.testing.assert_array_equal(values[expected], forward[expected].astype(np.float32))


def head(saved: Path, meshes: Any, name: str, *, side: str, kind: str, view: str) -> tuple[np.ndarray, np.ndarray]:
    """Let nilearn draw a saved map on one of its meshes; tell which pixels show a head, and which the map."""
    from matplotlib.figure import Figure
    from nilearn import plotting as nilearn_plotting
    from nilearn.surface import SurfaceImage

    image = SurfaceImage(mesh=meshes[kind], data={key: str(path) for key, path in files_of(saved / name).items()})
    figure = Figure(figsize=(2, 2), dpi=100)
    canvas, ax = FigureCanvasAgg(figure), figure.add_subplot(projection="3d")
    how: dict[str, Any] = {"cmap": "winter", "vmin": -120.0, "vmax": 90.0, "colorbar": False, "engine": "matplotlib"}
    nilearn_plotting.plot_surf_stat_map(stat_map=image, hemi=side, view=view, axes=ax, figure=figure, **how)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    return picture.min(axis=2) < 250, np.ptp(picture, axis=2) > 100


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # nilearn's, of the hemisphere that has no value
@pytest.mark.parametrize("kind", ["pial", "inflated"])
@pytest.mark.parametrize("side", SIDES)
def test_nilearn_shows_a_region_at_its_pole_of_the_head(saved: Path, meshes: Any, side: str, kind: str) -> None:
    other = SIDES[side == "left"]
    seen = {}
    for pole in ("back", "front", "top", "bottom"):
        picture, region = head(saved, meshes, f"{side} {pole}", side=side, kind=kind, view="lateral")
        seen[pole] = place(picture, region)
    # Seen from the left, the front is on the left.
    forward = {pole: 1 - across if side == "left" else across for pole, (across, _) in seen.items()}
    assert forward["back"] < 0.15
    assert forward["front"] > 0.85
    assert seen["top"][1] > 0.85
    assert seen["bottom"][1] < 0.15
    picture, region = head(saved, meshes, f"{other} back", side=side, kind=kind, view="lateral")
    assert picture.any()
    assert not region.any()


@pytest.mark.parametrize("side", SIDES)
def test_nilearns_flat_surface_shows_a_region_where_our_flatmap_does(saved: Path, meshes: Any, side: str) -> None:
    raster, planted = _surfaces.flat_raster(HEIGHT), PLANTED["poles"]
    half = raster.inside & ((raster.closest >= HALF) == (side == "right"))
    for label, name in planted:
        if name.startswith(side):
            ours = place(half, raster.paint(np.where(planted.labels == label, 1.0, np.nan)) == 1)
            # From above, nilearn has the second coordinate to the right and the first one downwards.
            picture, region = head(saved, meshes, name, side=side, kind="flat", view="dorsal")
            right, up = place(picture, region)
            assert (1 - up, right) == pytest.approx(ours, abs=0.04)


@pytest.mark.parametrize(("label", "name"), list(PLANTED["poles"]))
def test_nilearns_mesh_has_what_was_planted_at_the_same_coordinates(
    saved: Path, meshes: Any, label: int, name: str
) -> None:
    from nilearn.surface import SurfaceImage

    side = name.split()[0]
    data = {key: str(path) for key, path in files_of(saved / name).items()}
    known = np.isfinite(SurfaceImage(mesh=meshes["pial"], data=data).data.parts[side])
    found = meshes["pial"].parts[side].coordinates[known.ravel()]
    planted = (PLANTED["poles"].labels == label) & _surfaces.cortex()
    np.testing.assert_array_equal(found, PIAL[planted])
    axis, sign = {"back": (1, -1), "front": (1, 1), "top": (2, 1), "bottom": (2, -1)}[name.split()[1]]
    assert (sign * found[:, axis]).mean() > np.quantile(sign * PIAL[:, axis], 0.95)
    assert np.all(found[:, 0] < 2) if side == "left" else np.all(found[:, 0] > -2)
