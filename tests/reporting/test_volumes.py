"""Figures and pages of voxels, with a cortex and without one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from _studies import sections
from _volumes import ABOUT, MNI, RAS, TESTS, atlas, on_bert, on_bundled, planted, some, whole

import latentcortex as lc
from latentcortex import plotting, reporting
from latentcortex._store import Store
from latentcortex.maps import Maps
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.plotting import cortex
from latentcortex.reporting.figures import figures
from latentcortex.space import Atlas, Surface, Volume

pytestmark = pytest.mark.usefixtures("small")


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


@pytest.mark.slow
def test_a_viewer_of_a_volume_is_on_the_subjects_own_cortex(bundled: Path, tmp_path: Path) -> None:
    volume = on_bundled(bundled, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in bundled.rglob("*")}
    panel = plotting.Panel("height", volume.on_mesh(volume.coordinates[:, 2]), lc.Surface(str(bundled)))
    page = plotting.webgl(plotting.Scores([panel]), tmp_path / "viewer.html")
    assert "All 304,380 vertices" in page.read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in bundled.rglob("*")} == before


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


@pytest.mark.parametrize("name", ["volume", "unlocated"])
def test_a_subject_may_be_called_anything(bert: str, tmp_path: Path, name: str) -> None:
    shutil.copytree(bert, tmp_path / name)
    before = planted(Surface(str(tmp_path / name)), ("z",))
    save_maps(Store(tmp_path), "x", before)
    assert load_maps(Store(tmp_path), "x", n_voxels=before.space.n_voxels).space.template == str(tmp_path / name)
