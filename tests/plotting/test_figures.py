"""Figures for print: their widths, letters and files, and what the newer kinds of figure show."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import latentcortex as lc
from latentcortex import _surfaces, plotting
from latentcortex.errors import AlignmentError, InputError
from latentcortex.plotting import _canvas, cortex

N = 20484
NOTHING = np.full(N, np.nan)
COLUMN, PAGE = plotting.Style(width_mm=85), plotting.Style(width_mm=180)
TALL = 100
LAYERS = ("down0", "down2", "mid", "up1", "up3")
REGIONS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "FLAT_PIXELS", TALL)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 60)


def pixels(figure: Figure, index: int = 0) -> np.ndarray:
    return np.asarray(figure.axes[index].images[0].get_array())


def atlas_rois() -> lc.Atlas:
    return lc.Atlas.find("phantom", "fsaverage5")


def anywhere(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random(N)
    values[::7] = np.nan
    return values


def over(x: list, n_regions: int = 7) -> pd.DataFrame:
    cells = itertools.product(REGIONS[:n_regions], x, ("z", "z_c"))
    rows = [{"roi": r, "x": place, "y": 0.1, "low": 0.05, "high": np.nan, "series": s} for r, place, s in cells]
    return pd.DataFrame(rows)


def grid_table() -> pd.DataFrame:
    pairs = [(25, 80), (50, 80), (100, 80), (100, 20)]
    return pd.DataFrame([{"roi": r, "x": x, "y": y, "value": x * y / 1e4} for r in REGIONS for x, y in pairs])


def scores() -> pd.DataFrame:
    panels, measures = ("two-way identification, pool 40", "similarity"), ("pixels, original fixed", "c")
    series = ("z and c (z_c)", "z alone", "c alone", "nearest training image")
    known = {"value": 0.6, "low": 0.5, "high": 0.7, "chance": 0.5, "control": np.nan}
    cells = itertools.product(panels, measures, series)
    return pd.DataFrame([{"panel": p, "measure": m, "series": s, **known} for p, m, s in cells])


def similar(n_maps: int = 4) -> np.ndarray:
    r = 0.5 + 0.5 * np.eye(n_maps)
    return np.stack([r, r - 0.1, np.minimum(r + 0.1, 1)])


def one_voxel(*, with_images: bool) -> plotting.Voxel:
    rng = np.random.default_rng(0)
    ids = [f"stimulus-{i:05d}" for i in range(30)]
    measured = np.arange(30.0)[rng.permutation(30)]
    return plotting.Voxel(
        "Voxel 12345: vertex 3894 of the right hemisphere, midventral",
        ids,
        measured,
        measured * 0.5,
        {"r": "0.600", "noise ceiling (R²)": "n/a (no repeats)", "penalty (alpha)": "1e+03"},
        ["z", "z_c\nstrength 80 %"],
        np.array([0.25, 0.75]),
        np.array([-0.1, 0.4]),
        {name: np.full((6, 8, 3), i, dtype=np.uint8) for i, name in enumerate(ids)} if with_images else {},
    )


DRAWN = {
    "flatmaps": lambda style: plotting.draw(
        plotting.Scores(
            [plotting.Panel(t, anywhere(), unsure=NOTHING * 0 + 1) for t in ("z", "c", "z_c, strength 80 %")],
            label="prediction accuracy r",
        ),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "many columns": lambda style: plotting.draw(
        plotting.Scores([plotting.Panel(f"{layer}, step 100 %", anywhere()) for layer in LAYERS], label="R²"),
        plotting.Flat(n_columns=5),
        style=style,
    ),
    "inflated": lambda style: plotting.draw(
        plotting.Scores([plotting.Panel("z", anywhere())]), plotting.Inflated(atlas_rois()), style=style
    ),
    "share_maps": lambda style: plotting.draw(
        plotting.Shares([plotting.Panel(f"strength {s} %", (anywhere(), anywhere(1))) for s in (20, 40)]),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "preference_maps": lambda style: plotting.draw(
        plotting.Preference([plotting.Panel("step 25 %", np.arange(N) % 5.0, opacity=anywhere())], LAYERS),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "winner_map": lambda style: plotting.draw(
        plotting.Winner([plotting.Panel("latents", [anywhere(), anywhere(1), anywhere(2)])], ("z", "c", "z_c")),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "rgb_map": lambda style: plotting.draw(
        plotting.RedGreenBlue(
            [plotting.Panel("", [anywhere(), anywhere(1), anywhere(2)])], ("z", "c", "z_c"), label="r"
        ),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "difference_maps": lambda style: plotting.draw(
        plotting.Differences([plotting.Panel("z − c", anywhere() - 0.5)], None),
        plotting.Flat(atlas_rois()),
        style=style,
    ),
    "plot_flatmap": lambda style: plotting.plot_flatmap(anywhere(), atlas=atlas_rois(), label="r", style=style),
    "roi_profiles": lambda style: plotting.roi_profiles(
        over([20, 40, 60, 80]), x_label="noise strength (%)", y_label="share of variance (R²)", style=style
    ),
    "bars": lambda style: plotting.roi_profiles(over(["random", "clusters", "far"]), y_label="mean r", style=style),
    "region_grids": lambda style: plotting.region_grids(
        grid_table(), x_label="denoising step (%)", y_label="noise strength (%)", label="share of z_c", style=style
    ),
    "similarity_matrices": lambda style: plotting.similarity_matrices(
        {"accuracy": similar(), "share of z_c": similar()},
        ["20 %", "40 %", "60 %", "80 %"],
        label="noise strength",
        style=style,
    ),
    "histogram": lambda style: plotting.histogram(anywhere(), 0.5, style=style),
    "prediction_against_ceiling": lambda style: plotting.prediction_against_ceiling(
        anywhere(), anywhere(1), style=style
    ),
    "voxel_page": lambda style: plotting.voxel_page(one_voxel(with_images=True), style=style),
    "voxel_page without images": lambda style: plotting.voxel_page(one_voxel(with_images=False), style=style),
    "score_intervals": lambda style: plotting.score_intervals(scores(), n_columns=2, style=style),
    "image_grid": lambda style: plotting.image_grid(
        {name: np.zeros((8, 8, 8, 3), np.uint8) for name in ("seen", "z and c")},
        [f"test{i:04d}" for i in range(8)],
        style=style,
    ),
}


HOSTILE = {
    "font.size": 31.0,
    "font.family": ["monospace"],
    "text.color": "blue",
    "axes.facecolor": "red",
    "axes.labelcolor": "green",
    "axes.grid": True,
    "axes.titleweight": "bold",
    "axes.xmargin": 0.4,
    "lines.linewidth": 9.0,
    "patch.edgecolor": "yellow",
    "image.origin": "lower",
    "image.interpolation": "bicubic",
    "savefig.bbox": "tight",
    "svg.fonttype": "path",
}
"""What somebody's `matplotlibrc` may say."""


QUICK = ("flatmaps", "bars", "histogram", "voxel_page without images", "image_grid")


@pytest.mark.parametrize("name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in DRAWN])
def test_a_figure_is_the_same_whatever_a_matplotlibrc_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_canvas, "DPI", 50)
    expected = plotting.png(DRAWN[name](COLUMN))
    with matplotlib.rc_context(HOSTILE):
        assert plotting.png(DRAWN[name](COLUMN)) == expected


def test_whatever_makes_a_figure_draws_it_in_the_house_style() -> None:
    """`plot_flatmap` may draw into somebody's axes, which have a style of their own, and leaves the rest to others."""
    made = [getattr(plotting, name) for name in plotting.__all__ if name != "plot_flatmap"]
    canvases = [plotting.Flat.draw, plotting.Inflated.draw, plotting.Slices.draw, plotting.Glass.draw]
    drawing = [one for one in made if getattr(one, "__annotations__", {}).get("return") == "Figure"]
    drawing = [*canvases, *(one for one in drawing if one is not plotting.draw)]  # which only calls the canvas
    assert len(drawing) >= 13
    assert [one.__name__ for one in drawing if not hasattr(one, "__wrapped__")] == []


@pytest.mark.parametrize("style", [COLUMN, PAGE], ids=["85mm", "180mm"])
@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_fits_its_width_with_letters_that_can_be_read_and_none_cut_off(
    name: str, style: plotting.Style
) -> None:
    figure = DRAWN[name](style)
    assert figure.get_figwidth() * 25.4 <= style.width_mm + 0.01
    assert plotting.smallest_text(figure) >= 5.0
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= -0.005, "cut off on the left"
    assert drawn.y0 >= -0.005, "cut off below"
    assert drawn.x1 <= width + 0.005, "cut off on the right"
    assert drawn.y1 <= height + 0.005, "cut off above"


@pytest.mark.parametrize("width", [59, 700, np.nan])
def test_a_width_that_no_journal_has_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width_mm"):
        plotting.Style(width_mm=width)


def test_a_picture_has_the_printed_size_and_300_dots_per_inch(tmp_path: Path) -> None:
    plotting.save(DRAWN["flatmaps"](PAGE), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == pytest.approx(180 / 25.4 * 300, abs=1)
        assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_letters_stay_letters_in_vector_files_which_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.pdf", "b.pdf"):
        plotting.save(DRAWN["roi_profiles"](COLUMN), tmp_path / name)
    svg, pdf = (tmp_path / "a.svg").read_text(encoding="utf-8"), (tmp_path / "a.pdf").read_bytes()
    assert re.search(r"<text[^>]*>midparietal</text>", svg)
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert svg == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    with pytest.raises(InputError, match=r"'pgn'.*Did you mean 'png'"):
        plotting.save(plotting.histogram(np.zeros(5)), tmp_path / "a.pgn")


def test_saving_leaves_matplotlibs_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plotting.save(plotting.histogram(np.zeros(5)), tmp_path / "a.pdf")
    assert dict(matplotlib.rcParams) == before


def test_regions_get_numbers_and_a_key_where_names_would_cover_the_map() -> None:
    narrow = plotting.draw(
        plotting.Scores([plotting.Panel("a", anywhere())]), plotting.Flat(atlas_rois()), style=COLUMN
    )
    assert {text.get_text() for text in narrow.axes[0].texts} == set("1234567")
    key = " ".join(text.get_text() for text in narrow.texts)
    assert all(f"{i} {name}" in key for i, name in atlas_rois().names.items())
    wide = plotting.draw(plotting.Scores([plotting.Panel("a", anywhere())]), plotting.Flat(atlas_rois()), style=PAGE)
    assert "midventral" in {text.get_text() for text in wide.axes[0].texts}


# --- the best band, and three as light ------------------------------------------------------------------------------


def test_the_winner_has_its_own_colour_and_is_counted() -> None:
    z, c, zc = NOTHING.copy(), NOTHING.copy(), NOTHING.copy()
    z[:9000], c[5000:15000], zc[12000:16000] = 0.3, 0.4, 0.4
    np.testing.assert_array_equal(plotting.winners([z, c, zc])[[0, 6000, 13000, 15500]], [0, 1, 1, 2])
    assert np.isnan(plotting.winners([z, c, zc])[-1])
    figure = plotting.draw(plotting.Winner([plotting.Panel("", [z, c, zc])], ("z", "c", "z_c")))
    words = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert {"z (5,000)", "c (10,000)", "z_c (1,000)"} <= words
    raster = _surfaces.flat_raster(TALL)
    winner = np.nan_to_num(plotting.winners([z, c, zc]), nan=-1).astype(int)
    nearest, shown = raster.nearest(winner), pixels(figure)
    for number, colour in enumerate(("#0072B2", "#D55E00", "#009E73")):
        there = nearest == number
        assert there.any()
        np.testing.assert_allclose(shown[there], np.broadcast_to(matplotlib.colors.to_rgb(colour), (there.sum(), 3)))
    assert np.ptp(shown[(nearest == -1) & raster.inside], axis=1).max() < 1e-9  # grey cortex


def test_one_band_has_no_winner() -> None:
    with pytest.raises(InputError, match="two to"):
        plotting.draw(plotting.Winner([plotting.Panel("", [NOTHING])], ("z",)))


def test_three_scores_are_light_of_three_colours() -> None:
    score = {"z": np.full(N, 0.4), "c": np.full(N, 0.2), "z_c": np.full(N, -0.1)}
    inside = _surfaces.flat_raster(TALL).inside
    figure = plotting.draw(plotting.RedGreenBlue([plotting.Panel("", list(score.values()))], list(score), limit=0.4))
    np.testing.assert_allclose(pixels(figure)[inside], np.broadcast_to([1.0, 0.5, 0.0], (inside.sum(), 3)), atol=1e-6)
    score["c"] = NOTHING
    shown = pixels(
        plotting.draw(plotting.RedGreenBlue([plotting.Panel("", list(score.values()))], list(score), limit=0.4))
    )[inside]
    np.testing.assert_allclose(shown, np.broadcast_to([1.0, 0.0, 0.0], (inside.sum(), 3)), atol=1e-6)
    with pytest.raises(InputError, match="three bands; got 2"):
        plotting.draw(plotting.RedGreenBlue([plotting.Panel("", [NOTHING, NOTHING])], ("z", "c")))


def test_the_corners_of_the_triangle_are_the_colours_of_the_bands() -> None:
    figure = DRAWN["rgb_map"](PAGE)
    triangle, bar = figure.axes[1], figure.axes[2]
    picture = np.asarray(triangle.images[0].get_array())
    corners = picture[2, 4, :3], picture[-4, 120, :3], picture[2, -5, :3]
    for corner, light in zip(corners, np.eye(3), strict=True):
        np.testing.assert_allclose(corner, light, atol=0.06)
    np.testing.assert_allclose(picture[80, 120, :3], [1, 1, 1], atol=0.05)
    assert [text.get_text() for text in triangle.texts] == ["z", "c", "z_c"]
    assert bar.get_xlabel() == "r"
    assert [text.get_text() for text in bar.get_xticklabels()] == ["≤0", "≥0.99"]


# --- differences ----------------------------------------------------------------------------------------------------


def test_a_difference_has_a_symmetric_scale_and_only_tested_vertices_are_coloured() -> None:
    values = np.where(np.arange(N) < N // 2, 0.4, -0.1)
    mask = np.arange(N) < N // 2
    figure = plotting.draw(plotting.Differences([plotting.Panel("z − c", values)], [mask], label="difference"))
    bar, raster = figure.axes[-1], _surfaces.flat_raster(TALL)
    assert bar.get_xlim() == pytest.approx((-0.4, 0.4))
    assert bar.get_xlabel() == "difference"
    side, shown = raster.nearest(np.arange(N) // (N // 2)), pixels(figure)
    assert (shown[side == 0][:, 0] > shown[side == 0][:, 2]).all()  # red above 0
    assert np.ptp(shown[side == 1], axis=1).max() < 1e-9
    untested = plotting.draw(plotting.Differences([plotting.Panel("z − c", values)], None))
    assert untested.axes[-1].get_xlabel() == "difference of r, not tested"
    assert (pixels(untested)[side == 1][:, 2] > pixels(untested)[side == 1][:, 0]).all()  # blue below 0
    with pytest.raises(AlignmentError):
        plotting.draw(plotting.Differences([plotting.Panel("a", values)], [mask, mask]))


# --- regions and similarity -------------------------------------------------------------------------------------------


def test_cells_of_a_heat_map_have_the_colour_of_their_value_and_empty_ones_are_hatched() -> None:
    table = grid_table().query("roi == 'early'")
    figure = plotting.region_grids(table, limits=(0.0, 0.8))
    ax = figure.axes[0]
    colours = np.asarray(ax.images[0].get_array())
    wanted = matplotlib.colormaps["cividis"](np.array([0.2, 0.4, 0.8, 0.2]) / 0.8)
    np.testing.assert_allclose([colours[1, 0], colours[1, 1], colours[1, 2], colours[0, 2]], wanted, atol=1e-6)
    hatched = sorted(tuple(np.add(patch.get_xy(), 0.5)) for patch in ax.patches if patch.get_hatch())
    assert hatched == [(0.0, 0.0), (1.0, 0.0)]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["20", "80"]


def test_a_heat_map_needs_its_columns_and_each_cell_once() -> None:
    with pytest.raises(InputError, match="value"):
        plotting.region_grids(grid_table().drop(columns="value"))
    with pytest.raises(InputError, match="twice"):
        plotting.region_grids(pd.concat([grid_table(), grid_table()]))


def test_similarity_is_written_with_its_interval_and_not_of_a_map_with_itself() -> None:
    r = np.array([[1.0, -0.25], [-0.25, 1.0]])
    figure = plotting.similarity_matrices({"a": np.stack([r, r - 0.1, r + 0.2])}, ["20 %", "40 %"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["-0.25\n[-.35, -.05]"] * 2
    unknown = np.stack([r, np.full((2, 2), np.nan), np.full((2, 2), np.nan)])
    assert plotting.similarity_matrices({"a": unknown}, ["a", "b"]).axes[0].texts[0].get_text() == "-0.25"


# --- a voxel ----------------------------------------------------------------------------------------------------------


def test_a_voxels_page_shows_every_stimulus_and_the_images_at_both_ends() -> None:
    voxel = one_voxel(with_images=True)
    figure = plotting.voxel_page(voxel, n_images=3)
    scatter = figure.axes[0]
    np.testing.assert_array_equal(scatter.lines[0].get_xydata(), np.stack([voxel.predicted, voxel.measured], axis=1))
    assert sorted(scatter.lines[1].get_ydata()) == [27, 28, 29]
    assert sorted(scatter.lines[2].get_ydata()) == [0, 1, 2]
    shown = [int(ax.images[0].get_array()[0, 0, 0]) for ax in figure.axes if ax.images]
    assert [voxel.measured[i] for i in shown] == [29, 28, 27, 0, 1, 2]
    widths = [[bar.get_width() for bar in ax.patches] for ax in figure.axes if ax.patches]
    assert widths == [[-0.1, 0.4], [0.25, 0.75]]


def test_a_voxel_that_is_not_valid_has_no_page() -> None:
    with pytest.raises(InputError, match="not valid"):
        plotting.Voxel("Voxel 3", ["a"], np.array([np.nan]), np.zeros(1), {}, ["z"], np.ones(1), np.ones(1))


def test_an_interval_is_drawn_where_a_profile_has_one_and_only_there() -> None:
    table = over([20, 80], 1).query("series == 'z'").assign(low=[0.05, np.nan], high=[0.2, np.nan])
    ax = plotting.roi_profiles(table).axes[0]
    (lines,) = [one for one in ax.collections if isinstance(one, matplotlib.collections.LineCollection)]
    drawn = [segment for segment in lines.get_segments() if len(segment) and np.isfinite(segment).all()]
    np.testing.assert_allclose(drawn, [[[20, 0.05], [20, 0.2]]])


# --- what is odd is said --------------------------------------------------------------------------------------------


LEFT = np.where(np.arange(N) < N // 2, anywhere(), np.nan)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (NOTHING, "no vertex is coloured"),
        (np.full(N, 0.25), "0.25 wherever it is coloured"),
        (LEFT, "nothing on the right, left hemisphere only"),
        (anywhere(), ""),
    ],
)
def test_an_odd_map_is_drawn_with_a_note(values: np.ndarray, note: str) -> None:
    figures = [
        plotting.draw(plotting.Scores([plotting.Panel("a", values)])),
        plotting.plot_flatmap(values, ax=Figure().add_subplot()),
        plotting.draw(plotting.RedGreenBlue([plotting.Panel("", [values, values, values])], ("z", "c", "z_c"))),
        plotting.draw(plotting.Winner([plotting.Panel("", [values, values])], ("z", "c"))),
        plotting.draw(plotting.Shares([plotting.Panel("a", (values, values))])),
    ]
    for figure in figures:
        words = " ".join(" ".join(text.get_text().split()) for text in figure.axes[0].texts)
        assert words == note


def test_an_infinite_value_is_refused_and_counted() -> None:
    values = anywhere()
    values[[3, 5]] = np.inf, -np.inf
    for draw in (
        lambda: plotting.plot_flatmap(values),
        lambda: plotting.draw(plotting.Winner([plotting.Panel("", [values, values])], ("z", "c"))),
    ):
        with pytest.raises(InputError, match="2 values of a map are infinite"):
            draw()


def test_the_values_of_one_hemisphere_are_told_how_to_become_both() -> None:
    with pytest.raises(AlignmentError, match=r"10242 values, those of one hemisphere.*np\.concatenate"):
        lc.plot_flatmap(np.zeros(N // 2))


# --- scripting ------------------------------------------------------------------------------------------------------


def some_maps(space: object, n_voxels: int) -> lc.Maps:
    about = {"analysis": "latents", "model": "z", "band": "z", "unit": "correlation"}
    r = np.linspace(-0.5, 0.5, n_voxels)
    return lc.Maps.build(space, [(r, {**about, "statistic": "r"}), (r > 0, {**about, "statistic": "mask"})])


def test_maps_become_a_table_with_vertices_of_each_hemisphere() -> None:
    table = some_maps(lc.Surface("fsaverage5", np.array([0, 7, 10242, 20483])), 4).to_dataframe()
    assert table.index.names == ["hemisphere", "vertex"]
    assert list(table.index) == [("L", 0), ("L", 7), ("R", 0), ("R", 10241)]
    assert table.columns.names == ["analysis", "model", "band", "statistic"]
    assert table.xs("r", axis=1, level="statistic").loc[("R", 10241)].item() == pytest.approx(0.5)
    long = table.stack(list(table.columns.names), future_stack=True)
    assert long.loc[("L", 7, "latents", "z", "z", "mask")] == 0
    bare = some_maps(lc.Unlocated(4), 4).to_dataframe()
    assert bare.index.name == "voxel"
    assert list(bare.index) == [0, 1, 2, 3]


def test_maps_are_drawn_in_axes_of_ones_own_and_leave_pyplot_alone() -> None:
    maps, figure = some_maps(lc.Surface("fsaverage5"), N), Figure()
    left, right = figure.subplots(1, 2)
    assert maps.plot(ax=right, statistic="r", significant=True) is figure
    assert not left.images
    raster = _surfaces.flat_raster(TALL)
    shown = np.asarray(right.images[0].get_array())
    side = raster.nearest(np.arange(N) // (N // 2))
    assert np.ptp(shown[side == 0], axis=1).max() < 1e-9  # r < 0 is not significant
    assert np.ptp(shown[side == 1], axis=1).mean() > 0.2
    assert right.child_axes[0].get_xlabel() == "r (correlation)"
    assert maps.plot(statistic="r").axes[0].get_title() == "z"
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_what_cannot_be_drawn_on_cortex_says_so() -> None:
    with pytest.raises(InputError, match="to_dataframe"):
        some_maps(lc.Unlocated(4), 4).plot(statistic="r")
    with pytest.raises(InputError, match="expected one"):
        some_maps(lc.Surface("fsaverage5"), N).plot(analysis="latents")
