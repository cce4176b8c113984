"""Figures of planted maps."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from latentcortex import _surfaces, plotting
from latentcortex.errors import AlignmentError, InputError
from latentcortex.plotting import _legends, cortex, painting
from latentcortex.space import Atlas

N = 20484
NOTHING = np.full(N, np.nan)
LAYERS = ("down0", "down2", "mid", "up1", "up3")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "FLAT_PIXELS", 100)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 60)


def pixels(figure: Figure, index: int = 0) -> np.ndarray:
    """What the picture of a panel or legend shows, (height, width, 3)."""
    return np.asarray(figure.axes[index].images[0].get_array())


def rois() -> Atlas:
    y = np.concatenate([mesh.coordinates[:, 1] for mesh in _surfaces.surface("white")])
    return Atlas("planted", np.where(y < -85, 1, np.where(y > 40, 2, 0)), {1: "back", 2: "front"}, "fsaverage5")


def profile(x: list) -> pd.DataFrame:
    rows = [
        {
            "roi": roi,
            "x": place,
            "y": 0.1 * i,
            "low": 0.1 * i - 0.02,
            "high": 0.1 * i + 0.02,
            "series": series,
        }
        for roi in ("early", "ventral", "lateral")
        for series in ("z", "z_c")
        for i, place in enumerate(x)
    ]
    return pd.DataFrame(rows)


NAN_FIGURES = {
    "flatmaps": lambda: plotting.draw(plotting.Scores([plotting.Panel("a", NOTHING)] * 3), plotting.Flat(rois())),
    "inflated": lambda: plotting.draw(plotting.Scores([plotting.Panel("a", NOTHING)]), plotting.Inflated(rois())),
    "share_maps": lambda: plotting.draw(plotting.Shares([plotting.Panel("a", (NOTHING, NOTHING))])),
    "preference_maps": lambda: plotting.draw(
        plotting.Preference([plotting.Panel("a", NOTHING, opacity=NOTHING)], LAYERS)
    ),
    "prediction_against_ceiling": lambda: plotting.prediction_against_ceiling(NOTHING, NOTHING),
    "histogram": lambda: plotting.histogram(NOTHING, np.nan),
    "roi_profiles": lambda: plotting.roi_profiles(profile([60, 80]).assign(y=np.nan, low=np.nan, high=np.nan)),
}


@pytest.mark.parametrize("name", NAN_FIGURES)
def test_a_figure_of_nothing_but_nan_is_drawn_without_a_warning(name: str, tmp_path: Path) -> None:
    plotting.save(NAN_FIGURES[name](), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_undefined_vertices_show_the_grey_underlay_and_defined_ones_colour() -> None:
    values = NOTHING.copy()
    values[: N // 2] = 0.5
    shown = pixels(plotting.draw(plotting.Scores([plotting.Panel("left", values)], limits=(0.0, 1.0))))
    saturation = np.ptp(shown, axis=2)
    raster = _surfaces.flat_raster(100)
    side = raster.nearest(np.arange(N) // (N // 2))
    assert saturation[side == 0].min() > 0.2
    assert saturation[side == 1].max() < 1e-9
    assert (shown[side == -1] == 1.0).all()


def test_all_panels_of_a_figure_share_one_scale() -> None:
    low, high = np.full(N, 0.2), np.full(N, 0.8)
    figure = plotting.draw(plotting.Scores([plotting.Panel("low", low), plotting.Panel("high", high)]))
    inside = _surfaces.flat_raster(100).inside
    first, second = pixels(figure, 0)[inside], pixels(figure, 1)[inside]
    assert first.sum(axis=1).max() < second.sum(axis=1).min()
    alone = plotting.draw(plotting.Scores([plotting.Panel("low", low)], limits=(0.0, 0.8)))
    np.testing.assert_allclose(first, pixels(alone)[inside], atol=0.01)


@pytest.mark.parametrize(
    ("values", "extend"),
    [((0.1, 0.4), "neither"), ((-0.1, 0.4), "min"), ((0.1, 0.6), "max"), ((-1, 1), "both")],
)
def test_the_colour_bar_tells_that_values_lie_beyond_it(values: tuple[float, float], extend: str) -> None:
    ends = np.where(np.arange(N) % 2, *values)
    figure = plotting.draw(plotting.Scores([plotting.Panel("a", ends)], limits=(0.0, 0.5), label="r"))
    bar = figure.axes[-1]
    assert bar._colorbar.extend == extend
    assert bar.get_xlabel() == "r"


def test_the_default_scale_starts_from_zero_and_takes_in_negative_values() -> None:
    assert painting.scale_of([np.linspace(0.2, 1.0, 1001)], None).vmin == 0.0
    assert painting.scale_of([np.linspace(-0.2, 1.0, 1001)], None).vmin == pytest.approx(-0.194)
    assert painting.scale_of([np.linspace(0.0, 1.0, 1001), NOTHING], None).vmax == pytest.approx(0.995)
    constant = painting.scale_of([np.full(9, 0.3)], None)
    assert (constant.vmin, constant.vmax) == pytest.approx((0.0, 0.3))
    nothing = painting.scale_of([NOTHING], None)
    assert (nothing.vmin, nothing.vmax) == (0.0, 1.0)


def test_regions_are_outlined_and_named_in_both_hemispheres() -> None:
    ax = plotting.draw(plotting.Scores([plotting.Panel("a", np.arange(N) / N)]), plotting.Flat(rois())).axes[0]
    assert sorted(text.get_text() for text in ax.texts) == ["back", "back", "front", "front"]
    assert len(ax.collections[0].get_paths()) >= 4


def test_names_that_would_cover_each_other_are_moved_apart() -> None:
    places = np.array([[50.0, 50.0], [52.0, 51.0], [300.0, 50.0]])
    moved = cortex._parted(places, ["early", "midventral", "lateral"], 10.0)
    assert abs(moved[0, 1] - moved[1, 1]) >= 10.0
    np.testing.assert_array_equal(moved[2], places[2])


def test_share_colours_say_which_band_by_hue_and_how_much_by_opacity() -> None:
    first, second = np.array([0.0, 0.3, 0.0, 0.3, 0.1]), np.array([0.0, 0.0, 0.3, 0.3, 0.0])
    colours = plotting.share_colours(first, second, limit=0.3)
    _, z, zc, both, weak = colours[:, :3]
    assert z[2] > 2 * z[0]
    assert zc[0] > 2 * zc[2]
    assert both.sum() > max(z.sum(), zc.sum())
    np.testing.assert_allclose(weak, z, atol=1e-12)
    np.testing.assert_allclose(colours[:, 3], [0, 1, 1, 1, 1 / 3])


def test_shares_below_zero_count_as_zero_and_nan_is_transparent() -> None:
    colours = plotting.share_colours(np.array([-0.2, np.nan]), np.array([0.1, 0.1]), limit=0.2)
    np.testing.assert_allclose(colours[0], plotting.share_colours(np.zeros(1), np.full(1, 0.1), limit=0.2)[0])
    assert list(colours[:, 3]) == [0.5, 0.0]


def test_low_scores_are_never_darker_than_cortex_but_what_cannot_be_told_is() -> None:
    low = np.linspace(0.0, 0.2, 9)
    nothing = np.zeros(9)
    rgb = [plotting.rgb_colours(*np.roll([low, low / 3, nothing], i, axis=0), limit=1.0) for i in range(3)]
    shares = [plotting.share_colours(*pair, limit=1.0) for pair in ((low, nothing), (nothing, low), (low, low))]
    for colours in (*rgb, *shares):
        drawn = _legends.on_grey(colours)
        assert drawn.mean(-1).min() > 0.85 * _legends.CORTEX_GREY
    darkest_cortex = cortex.relief(_surfaces.curvature("fsaverage5")).min()
    assert matplotlib.colors.to_rgb(_legends.GREY)[0] < 0.6 * darkest_cortex


def test_the_legend_of_the_share_maps_has_the_first_band_rightwards_and_the_second_upwards() -> None:
    panel = plotting.Panel("a", (np.full(N, 0.4), np.zeros(N)))
    figure = plotting.draw(plotting.Shares([panel], names=("z", "z_c"), limit=0.4))
    legend, picture = figure.axes[-1], pixels(figure, -1)
    assert (legend.get_xlabel(), legend.get_ylabel()) == ("z", "z_c")
    assert legend.images[0].origin == "lower"
    full_z, full_zc = picture[0, -1, :3], picture[-1, 0, :3]
    inside = _surfaces.flat_raster(100).inside
    np.testing.assert_allclose(pixels(figure)[inside], np.broadcast_to(full_z, (inside.sum(), 3)))
    assert full_zc[0] > full_zc[2]


def test_preferred_layers_have_their_own_colours_in_the_maps_and_in_the_legend() -> None:
    preferred = (np.arange(N) % len(LAYERS)).astype(float)
    figure = plotting.draw(plotting.Preference([plotting.Panel("a", preferred)], LAYERS))
    colours = plotting.layer_colours(len(LAYERS))
    raster = _surfaces.flat_raster(100)
    number = raster.nearest(np.arange(N) % len(LAYERS))
    np.testing.assert_allclose(pixels(figure)[raster.inside], colours[number[raster.inside]])
    legend = figure.axes[-1]
    assert [text.get_text() for text in legend.get_xticklabels()] == list(LAYERS)
    np.testing.assert_allclose(pixels(figure, -1)[0], colours)


def test_layer_colours_grow_lighter_in_the_order_of_the_layers() -> None:
    lightness = plotting.layer_colours(5) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) > 0.05).all()


def test_confidence_fades_to_the_underlay() -> None:
    nothing = pixels(plotting.draw(plotting.Scores([plotting.Panel("a", NOTHING)])))
    unsure = plotting.Panel("a", np.zeros(N), opacity=np.zeros(N))
    np.testing.assert_allclose(pixels(plotting.draw(plotting.Preference([unsure], LAYERS))), nothing)


def test_the_legend_shows_each_layer_in_the_opacities_that_have_a_name_and_none_is_cut_off() -> None:
    panel = plotting.Panel("a", np.zeros(N), opacity=np.where(np.arange(N) < N // 2, 0.5, 1.0))
    style = plotting.Style(width_mm=85)
    figure = plotting.draw(
        plotting.Preference([panel], LAYERS, opacities={"no clear winner": 0.5, "clear winner": 1}), style=style
    )
    legend, (pale, full) = figure.axes[-1], pixels(figure, -1)
    assert [text.get_text() for text in legend.get_yticklabels()] == ["no clear winner", "clear winner"]
    np.testing.assert_allclose(full, plotting.layer_colours(len(LAYERS)))
    np.testing.assert_allclose(pale, 0.5 * full + 0.5 * _legends.CORTEX_GREY)
    figure.canvas.draw()
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.get_figwidth()


def test_a_layer_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="from 5 to 5, but 5 layers"):
        plotting.draw(plotting.Preference([plotting.Panel("a", np.full(N, 5.0))], LAYERS))


def test_profiles_are_lines_over_numbers_and_bars_over_words() -> None:
    over_numbers = plotting.roi_profiles(profile([60, 80, 90]), x_label="strength (%)")
    over_words = plotting.roi_profiles(profile(["down0", "mid", "up1"]))
    assert [len(ax.lines) for ax in over_numbers.axes] == [2, 2, 2]
    np.testing.assert_allclose(over_numbers.axes[1].lines[0].get_xdata(), [60, 80, 90])
    assert [ax.get_title() for ax in over_words.axes] == ["early", "ventral", "lateral"]
    assert [len(ax.patches) for ax in over_words.axes] == [6, 6, 6]
    assert [text.get_text() for text in over_words.legends[0].get_texts()] == ["z", "z_c"]


def test_a_profile_without_a_needed_column_is_refused() -> None:
    with pytest.raises(InputError, match="low"):
        plotting.roi_profiles(profile([1, 2]).drop(columns="low"))


def test_scores_are_counted_above_the_threshold_and_undefined_ones_named() -> None:
    score = np.concatenate([np.full(30, 0.05), np.full(12, 0.3), np.full(4, np.nan)])
    ax = plotting.histogram(score, 0.1).axes[0]
    assert ax.get_title() == "42 voxels, 12 from 0.1 on; 4 undefined"
    below, above = ([patch.get_height() for patch in bars] for bars in ax.containers)
    assert (sum(below), sum(above)) == (30, 12)


def test_every_voxel_with_score_and_ceiling_is_in_the_scatter() -> None:
    rng = np.random.default_rng(0)
    ceiling, score = rng.random(500), rng.random(500) - 0.2
    score[:20] = np.nan
    ax = plotting.prediction_against_ceiling(score, ceiling).axes[0]
    assert ax.get_title() == "480 voxels"
    assert ax.collections[0].get_array().sum() == 480


@pytest.mark.parametrize("lowest", [0.0, -0.3])
def test_no_mark_is_cut_and_only_scores_far_below_are_left_out_of_the_scatter(lowest: float) -> None:
    rng = np.random.default_rng(0)
    ceiling, score = rng.random(1000), rng.uniform(lowest, 1.0, 1000)
    score[:3] = -50.0
    figure = plotting.prediction_against_ceiling(score, ceiling)
    ax = figure.axes[0]
    assert ax.get_title() == "1,000 voxels, 3 below the axes"
    marks = ax.collections[0]
    assert marks.get_array().sum() == 997
    corners = (marks.get_offsets()[:, None] + marks.get_paths()[0].vertices).reshape(-1, 2)
    for (low, high), places in zip((ax.get_xlim(), ax.get_ylim()), corners.T, strict=True):
        assert low <= places.min() <= places.max() <= high
    assert max(ceiling.max(), score.max()) <= ax.get_xlim()[1]


def test_the_label_of_the_counts_is_not_cut_off() -> None:
    score = np.concatenate([np.full(200_000, 0.5), np.linspace(0, 1, 50)])
    for style in (plotting.PAGE, plotting.Style(width_mm=85)):
        figure = plotting.prediction_against_ceiling(score, score, style=style)
        figure.canvas.draw()
        assert figure.get_tightbbox().x1 <= figure.get_figwidth()


def test_the_same_figure_gives_the_same_bytes_without_software_or_date(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        plotting.save(
            plotting.draw(plotting.Scores([plotting.Panel("a", np.ones(N))]), plotting.Flat(rois())), tmp_path / name
        )
    written = (tmp_path / "a.png").read_bytes()
    assert written == (tmp_path / "b.png").read_bytes()
    assert b"Software" not in written
    assert b"tIME" not in written


def test_a_map_that_is_not_on_all_vertices_is_refused() -> None:
    with pytest.raises(AlignmentError, match="10242"):
        plotting.Panel("left", np.zeros(N // 2))


def test_no_panel_is_an_error() -> None:
    with pytest.raises(InputError, match="no panel"):
        plotting.draw(plotting.Scores([]))


def test_drawing_leaves_pyplot_alone() -> None:
    plotting.histogram(np.zeros(5))
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_weights_of_latents_are_drawn_by_channel_and_together(tmp_path):
    maps = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    maps[1] = np.nan
    figure = plotting.latent_weights(maps, ["first", "not valid"])
    images = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in images[:4]] == ["channel 1", "channel 2", "channel 3", "all"]
    np.testing.assert_allclose(images[3].images[0].get_array(), np.sqrt((maps[0] ** 2).sum(0)))
    plotting.save(figure, tmp_path / "weights.png")
    with pytest.raises(AlignmentError):
        plotting.latent_weights(maps, ["one"])
