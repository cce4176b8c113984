"""Which figures a report has, what they say, and what is said of those that it has not."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _studies import sections
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from scipy import ndimage, stats

import latentcortex as lc
from latentcortex import inference, plotting, reporting
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.plotting import cortex
from latentcortex.reporting import map_figures
from latentcortex.reporting.figures import SHELF, figures
from latentcortex.reporting.profiles import profile
from latentcortex.reporting.report_figure import ReportFigure
from latentcortex.reporting.tables import region_means
from latentcortex.statistics import CEILING, R
from latentcortex.study import Study

SPACE = lc.Surface("fsaverage5", np.arange(0, 20484, 5))
ATLAS = lc.Atlas.find("phantom", "fsaverage5")
LATENTS = ("z", "c", "zc_strength-80_step-100")
LEVELS = [f"zc_strength-{s}_step-100" for s in (20, 80)]
STEPS = ["zc_strength-80_step-25", "zc_strength-80_step-100"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "FLAT_PIXELS", 60)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 40)


def planted(space: Any = SPACE, *, latents: tuple[str, ...] = LATENTS) -> Maps:
    """Latents whose best one is known, and joint models whose shares of z are 0.1 and of z_c the strength by step."""
    n, columns = space.n_voxels, []
    rng = np.random.default_rng(0)

    def model(analysis: str, name: str, band: str, r: np.ndarray) -> None:
        about = {"analysis": analysis, "model": name, "band": band, "n_stimuli": 100, "unit": ""}
        tests = {"q": 0.05, "null": "closed form", "correction": "bh", "family": ""}
        columns.append((r, {**about, "statistic": "r"}))
        columns.append((r * r, {**about, "statistic": "r2"}))
        columns.append((np.where(r > 0.2, 1e-4, 0.5), {**about, "statistic": "p", **tests}))
        columns.append((r > 0.2, {**about, "statistic": "mask", **tests}))

    for i, band in enumerate(latents):
        model("latents", band, band, np.where(np.arange(n) % 4 == i, 0.6, 0.3))
    for analysis, bands in (("noise-levels", LEVELS), ("denoising-steps", STEPS)):
        for band in bands:
            strength, step = (float(part.split("-")[1]) for part in band.split("_")[1:])
            model(analysis, f"z+{band}", "", 0.5 + 0.1 * rng.random(n))
            about = {"analysis": analysis, "model": f"z+{band}", "statistic": "shareR2", "unit": "", "stability": 1.0}
            columns.append((np.full(n, 0.1), {**about, "band": "z"}))
            noise = 0.001 * rng.standard_normal(n)
            columns.append((np.full(n, strength * step / 2e4) + noise, {**about, "band": band}))
    return Maps.build(space, columns)


def content(maps: Maps, names: list[str], *, atlas: Any = ATLAS, width: float = 180.0) -> reporting.Content:
    report = {"atlas": "phantom", "mask": "own", "figures": names, "width_mm": width, "format": "png"}
    settings = {"report": report, "run": {"seed": 0}}
    return reporting.Content("01", maps, atlas, {}, settings, {}, Path("log"), sections=sections())


def drawn(*args: Any, **options: Any) -> dict[str, Any]:
    return {figure.name: figure for _, figure in figures(content(*args, **options))}


def test_names_stand_for_figures_in_the_order_of_the_report() -> None:
    assert reporting.chosen(["rgb", "accuracy-flat"]) == ("accuracy-flat", "rgb")
    assert set(reporting.chosen(["all"])) == set(SHELF)
    default = reporting.chosen(["default"])
    assert {"winner", "rgb", "share-profiles", "accuracy-flat"} <= set(default)
    assert not {"differences", "strength-by-step", "similarity", "histograms"} & set(default)
    assert set(reporting.chosen(["default", "similarity"])) == {*default, "similarity"}
    with pytest.raises(InputError, match=r"'winer'.*Did you mean 'winner'"):
        reporting.chosen(["winer"])


def test_the_default_figures_of_three_latents_and_two_splits() -> None:
    assert list(drawn(planted(), ["default"])) == [
        "latents-flat",
        "latents-inflated",
        "latents-winner",
        "latents-rgb",
        "noise-levels",
        "noise-levels-profiles",
        "denoising-steps",
        "denoising-steps-profiles",
    ]


def test_every_figure_can_be_drawn_in_the_width_of_a_column() -> None:
    for figure in drawn(planted(), ["all"], width=85.0).values():
        picture = figure.draw(plotting.Style(width_mm=85))
        assert picture.get_figwidth() * 25.4 <= 85.01, figure.name
        assert plotting.smallest_text(picture) >= 5, figure.name


def test_the_caption_counts_how_often_each_latent_wins() -> None:
    n = SPACE.n_voxels
    wins = [int((np.arange(n) % 4 == i).sum()) for i in range(3)]
    wins[0] += int((np.arange(n) % 4 == 3).sum())  # a tie belongs to the first
    caption = drawn(planted(), ["winner"])["latents-winner"].caption
    assert f"(z {wins[0]:,}, c {wins[1]:,}, z_c {wins[2]:,})" in caption
    assert "not tested" in caption


def test_profiles_are_means_over_regions_with_intervals_only_where_the_table_has_them() -> None:
    figure = drawn(planted(), ["share-profiles"])["noise-levels-profiles"]
    axes = figure.draw(plotting.PAGE).axes[: len(ATLAS.names)]
    assert [ax.get_title() for ax in axes] == list(ATLAS.names.values())
    for ax in axes:
        z, zc = ax.lines
        np.testing.assert_allclose(z.get_ydata(), [0.1, 0.1], atol=1e-6)
        np.testing.assert_allclose(zc.get_ydata(), [0.1, 0.4], atol=1e-3)
        np.testing.assert_array_equal(zc.get_xdata(), [20, 80])
    assert "Intervals" not in figure.caption
    means = region_means(content(planted(), []), "noise-levels", "shareR2")
    half_known = means.assign(low=0.05, high=np.where(means["band"] == "z", 0.15, np.nan))
    figure = profile(half_known, "noise-levels", "strength")
    assert "Intervals are of 95 %" in figure.caption
    lines = [one for one in figure.draw(plotting.PAGE).axes[0].collections if isinstance(one, LineCollection)]
    known = [[part.tolist() for part in one.get_segments() if len(part) and np.isfinite(part).all()] for one in lines]
    np.testing.assert_allclose(known[0], [[[20, 0.05], [20, 0.15]], [[80, 0.05], [80, 0.15]]])
    assert known[1] == []


def test_of_many_regions_the_largest_are_shown_and_empty_ones_are_named() -> None:
    labels = np.arange(20484) // 512  # 41 regions, of which the first has the number 0: none
    many = lc.Atlas("many", labels, {i: f"r{i:02d}" for i in range(1, 43)}, "fsaverage5")
    figure = drawn(planted(), ["share-profiles"], atlas=many)["noise-levels-profiles"]
    assert "Of 40 regions, the 24 with the largest mean are shown." in figure.caption
    assert "Without a valid voxel: r41, r42." in figure.caption
    assert sum(bool(ax.lines) for ax in figure.draw(plotting.Style(width_mm=85)).axes) == 24
    flat = drawn(planted(), ["accuracy-flat"], atlas=many)["latents-flat"].draw(plotting.Style(width_mm=85))
    assert not flat.axes[0].texts  # outlines only


def test_strength_by_step_shows_what_was_fitted_and_stands_there_once() -> None:
    found = figures(content(planted(), ["strength-by-step"]))
    ((analysis, figure),) = list(found)
    assert analysis == "noise-levels"
    assert "(3 pairs were fitted" in figure.caption
    ax = figure.draw(plotting.PAGE).axes[len(ATLAS.names) - 1]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["25", "100"]
    assert sum(bool(patch.get_hatch()) for patch in ax.patches) == 1  # strength 20, step 25


def test_a_difference_without_a_paired_test_says_so_and_one_with_it_is_masked() -> None:
    maps = planted()
    caption = drawn(maps, ["differences"])["latents-difference"].caption
    assert "not tested" in caption
    q = np.where(np.arange(SPACE.n_voxels) % 4 == 0, 0.01, 0.5)
    pairs = [("z", "c"), ("z", LATENTS[2]), ("c", LATENTS[2])]
    about = {"analysis": "latents", "statistic": "differenceQ", "unit": "rate", "n_stimuli": 100}
    columns = [(q, {**about, "model": one, "band": other}) for one, other in pairs]
    columns += [(q, {**facts, "statistic": "differenceR2"}) for _, facts in columns]
    paired = Maps.build(SPACE, columns)
    figure = drawn(maps.join(paired), ["differences"])["latents-difference"]
    assert "a paired two-sided test of their losses says that they differ" in figure.caption
    assert "q < 0.05, each pair's map a family" in figure.caption
    assert figure.draw(plotting.PAGE).axes[-1].get_xlabel() == "difference of R²"


def test_a_preferred_layer_is_in_full_colour_where_it_is_clearly_the_best_and_else_pale_however_confident() -> None:
    n = SPACE.n_voxels
    clear, confidence = np.arange(n) % 2 == 0, np.linspace(0.3, 1.0, n)
    about = {"analysis": "unet-layers", "model": "layers_step-50", "band": "", "layers": "down0+mid"}
    columns = {"preferred": np.arange(n) // 2 % 2, "confidence": confidence, "identifiable": clear, "mask": clear >= 0}
    maps = Maps.build(SPACE, [(one.astype(float), {**about, "statistic": name}) for name, one in columns.items()])
    (preferred,) = map_figures.preferences(content(maps, ["preferred-layers"]), "unet-layers")
    (panel,), points = preferred.painting.panels, cortex.Vertices(SPACE)
    assert preferred.painting.layers == ["down0", "mid"]
    np.testing.assert_array_equal(SPACE.take(preferred.painting.laid(panel, points)[0]), columns["preferred"])
    opacity = SPACE.take(preferred.painting.paint(panel, points)[:, 3])
    np.testing.assert_array_equal(opacity, np.where(clear, 1.0, map_figures.UNCLEAR_OPACITY))
    figure = drawn(maps, ["preferred-layers"])["unet-layers"]
    assert f"(in {clear.sum():,} of {n:,} voxels" in figure.caption
    words = {text.get_text() for text in figure.draw(plotting.PAGE).findobj(Text)}
    assert {"clear winner", "no clear winner"} <= words


def test_similarity_is_that_of_the_maps() -> None:
    maps = planted()
    figure = drawn(maps, ["similarity"])["noise-levels-similarity"]
    assert "as many independent places as maps of this smoothness have" in figure.caption
    shares = [maps.values(analysis="noise-levels", band=b, statistic="shareR2") for b in LEVELS]
    expected = np.corrcoef(shares)[0, 1]
    words = [text.get_text() for text in figure.draw(plotting.PAGE).axes[1].texts]
    assert words[0].startswith(f"{expected:.2f}\n[")


def test_what_was_asked_for_and_cannot_be_drawn_is_a_warning_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert not drawn(planted(latents=("z", "c")), ["rgb", "preferred-layers"])
    assert "too few or too many bands: rgb" in caplog.text
    assert "no map that it draws was computed: preferred-layers" in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_without_an_atlas_profiles_are_left_out_and_that_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert "noise-levels-profiles" not in drawn(planted(), ["default"], atlas=None)
    assert "no atlas is named in [report]: share-profiles" in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_without_a_surface_there_are_histograms_and_a_note(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = drawn(planted(lc.Unlocated(50)), ["default"])
    assert list(found)[:2] == ["latents-z", "latents-c"]
    assert "noise-levels-z-zc_strength-80_step-100" in found
    assert "voxels have no place on a surface: accuracy-flat" in caplog.text


def test_a_kind_of_figure_says_what_it_lacks() -> None:
    kind = ReportFigure(lambda *_: iter(()), R, "atlas", n_models=(4, 5))
    assert kind.lacks(content(planted(), []), "latents") == "bands"
    kind = ReportFigure(lambda *_: iter(()), R, "atlas")
    assert kind.lacks(content(planted(), [], atlas=None), "latents") == "atlas"
    assert kind.lacks(content(planted(lc.Unlocated(9)), []), "latents") == "surface"
    assert kind.lacks(content(planted(), []), "unet-layers") == "maps"
    assert ReportFigure(lambda *_: iter(()), R, beside=CEILING).lacks(content(planted(), []), "latents") == "maps"
    assert ReportFigure(lambda *_: iter(()), R, along_axis=True).lacks(content(planted(), []), "latents") == "maps"
    assert not ReportFigure(lambda *_: iter(()), R, along_axis=True).lacks(content(planted(), []), "noise-levels")


# --- in a study -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('figures = ["historgams"]', r"figure in \[report\]: 'historgams'.*Did you mean 'histograms'"),
        ("figures = []", "`figures` in \\[report\\] must be a list of distinct entries, each one of"),
        ('figures = "all"', "`figures` in \\[report\\] must be a list"),
        ('format = "jpg"', r"format in \[report\]: 'jpg'"),
        ("width_mm = 20", "`width_mm` in \\[report\\] must be a number from 60 to 600; got 20"),
    ],
)
def test_a_wrong_word_about_figures_is_refused(folder_study: Path, line: str, said: str) -> None:
    folder_study.write_text(folder_study.read_text() + f"\n[report]\n{line}\n")
    with pytest.raises(InputError, match=said):
        Study.read(folder_study)


def test_another_format_draws_the_figures_anew_and_computes_nothing(folder_study: Path, tmp_path: Path) -> None:
    out, plain = tmp_path / "out", folder_study.read_text()
    Study.read(folder_study).run(out, progress=False)
    folder, (kept,) = out / "sub-01" / "figures", (out / "work").glob("sub-01_latents-*.arrays")
    assert [path.name for path in folder.iterdir()] == ["latents-pixels.png"]
    before, mine = kept.stat().st_mtime_ns, folder / "mine.txt"
    mine.write_text("keep me")
    folder_study.write_text(plain + '\n[report]\nformat = "pdf"\nwidth_mm = 85\n')
    assert Study.read(folder_study).run(out, progress=False).computed
    assert sorted(path.name for path in folder.iterdir()) == ["latents-pixels.pdf", "mine.txt"]
    assert kept.stat().st_mtime_ns == before
    assert "data:image/png;base64" in (out / "sub-01.html").read_text()
    assert not Study.read(folder_study).run(out, progress=False).computed
    assert json.loads((out / "study.json").read_text())["figure_settings"]["format"] == "pdf"


# --- similarity of maps -----------------------------------------------------------------------------------------------


def test_similarity_of_maps_is_pearsons_and_smoothness_widens_its_interval() -> None:
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    signal = ndimage.gaussian_filter(rng.standard_normal((40, 40)), 2).ravel()
    signal /= signal.std()
    noise = ndimage.gaussian_filter(rng.standard_normal((2, 40, 40)), (0, 2, 2)).reshape(2, -1)
    values = np.concatenate([signal + noise / noise.std(), np.ones((1, 1600))])
    values[0, 7] = np.nan
    r, low, high = inference.map_similarity(values, places, seed=0)
    known = np.arange(1600) != 7
    assert r[0, 1] == pytest.approx(np.corrcoef(values[:2, known])[0, 1], abs=1e-9)
    assert r[0, 0] == pytest.approx(1)
    assert np.isnan(r[0, 2])
    assert low[0, 1] < r[0, 1] < high[0, 1]
    alone = inference.map_similarity(values, rng.permutation(places), seed=0)
    assert high[0, 1] - low[0, 1] > 2 * (alone[2, 0, 1] - alone[1, 0, 1])
    # Of independent voxels it is Fisher's.
    fisher = stats.pearsonr(*values[:2, known]).confidence_interval(0.95)
    assert alone[1:, 0, 1] == pytest.approx(tuple(fisher), abs=0.02)


def test_similarity_has_no_interval_with_few_places_and_none_without_voxels() -> None:
    line = np.arange(200.0)[:, None]
    slow = np.stack([np.sin(line[:, 0] / 60), np.cos(line[:, 0] / 60)])
    r, low, high = inference.map_similarity(slow, line, seed=0)
    assert np.isfinite(r).all()
    assert np.isnan([low, high]).all()
    assert np.isnan(inference.map_similarity(slow * np.nan, line, seed=0)).all()


def test_places_of_the_surface_keep_its_hemispheres_apart() -> None:
    places = lc.Surface("fsaverage5").places()
    left, right = places[:10242], places[10242:]
    assert np.linalg.norm(left, axis=1) == pytest.approx(100, rel=0.01)
    assert (right[:, 0].min() - left[:, 0].max()) > 500
    np.testing.assert_array_equal(SPACE.places(), places[SPACE.vertices])


@pytest.mark.parametrize(
    ("band", "title"),
    [
        ("zc_strength-80", "zc_strength-80"),
        ("unet_layer-mid_step-50", "unet_layer-mid_step-50"),
        ("unet_layer-mid_strength-60_step-50", "mid, strength 60 %, step 50 %"),
    ],
)
def test_names_of_ones_own_are_titles_and_a_strength_that_is_not_the_usual_is_said(band: str, title: str) -> None:
    assert reporting.title_of(band) == title
