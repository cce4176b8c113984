"""The light viewer: a page of plotly that shows planted maps where they were planted."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _subjects
import numpy as np
import pytest
from _views import FORWARD, LEFT, MARKUP, N, groups, regions
from PIL import Image

from latentcortex import _surfaces, plotting, reporting
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.maps import Maps
from latentcortex.space import Surface, Unlocated
from latentcortex.study import Study, schema

HALF = N // 2
VIEWS = ["Left lateral", "Right lateral", "Left medial", "Right medial", "Dorsal", "Ventral", "Posterior", "Anterior"]

with_plotly = pytest.mark.skipif(
    importlib.util.find_spec("plotly") is None, reason="plotly is not installed: pip install 'latentcortex[light]'"
)


def told(page: Path) -> dict[str, Any]:
    """What a page says of its maps and surfaces."""
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def numbers(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a page of planted maps."""
    pytest.importorskip("plotly", reason="needs plotly: pip install 'latentcortex[light]'")
    made = tmp_path_factory.mktemp("page") / "light.html"
    assert plotting.light(groups(), made, atlas=regions(), title=MARKUP) == made
    return made


def test_without_plotly_one_line_names_the_extra(
    tmp_path: Path, folder_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'latentcortex\[light\]'") as error:
        plotting.light(plotting.Scores([plotting.Panel("left", LEFT)]), tmp_path / "light.html")
    assert "\n" not in str(error.value)
    folder_study.write_text(folder_study.read_text() + '\n[report]\nviewer = "light"\n')
    with pytest.raises(MissingExtraError, match="light viewer"):
        Study.read(folder_study).run(tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [("lite", "Did you mean 'light'"), (1, "true, false or a name"), ([], "true, false or a name"), ("", "light")],
)
def test_a_viewer_that_is_not_known_is_refused(given: object, said: str) -> None:
    study = {"dataset": {"name": "phantom"}, "extractor": {"name": "ldm"}, "report": {"viewer": given}}
    with pytest.raises(InputError, match=said) as error:
        schema.Settings.read(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [True, False, "webgl", "light"])
def test_the_viewers_that_are_known_are_kept_as_they_are_given(given: object) -> None:
    study = {"dataset": {"name": "phantom"}, "extractor": {"name": "ldm"}, "report": {"viewer": given}}
    assert schema.Settings.read(study).report.viewer is given


@with_plotly
def test_what_cannot_be_shown_is_refused_before_anything_is_computed(tmp_path: Path, folder_study: Path) -> None:
    path = tmp_path / "light.html"
    with pytest.raises(InputError, match="no map"):
        plotting.light({}, path)
    nowhere = Maps.build(Unlocated(3), [(np.zeros(3), {"analysis": "a", "model": "z", "band": "z", "statistic": "r"})])
    with pytest.raises(InputError, match="without a known position"):
        plotting.light(nowhere, path)
    folder_study.write_text(folder_study.read_text() + '\n[report]\nviewer = "light"\n')
    with pytest.raises(InputError, match="give `template`"):
        Study.read(folder_study).run(tmp_path / "out", progress=False)
    assert not path.exists()
    assert not (tmp_path / "out").exists()


def test_each_hemisphere_has_its_triangles_and_surfaces_and_lies_on_its_side(page: Path) -> None:
    left, right = told(page)["hemispheres"]
    assert [(one["name"], one["first"], one["n"]) for one in (left, right)] == [
        ("left", 0, HALF),
        ("right", HALF, HALF),
    ]
    for i, one in enumerate((left, right)):
        mesh = _surfaces.surface("pial")[i]
        assert np.array_equal(numbers(one["triangles"], "<u4").reshape(-1, 3), mesh.triangles)
        assert [name for name, _ in one["shapes"]] == ["Inflated", "Folded"]
        for (_, text), kind in zip(one["shapes"], ("inflated", "pial"), strict=True):
            places = numbers(text, "<f4").reshape(-1, 3)
            moved = places - _surfaces.surface(kind)[i].coordinates
            assert np.abs(moved[:, 1:]).max() < 1e-4
            assert np.ptp(moved[:, 0]) < 1e-3
            assert (places[:, 0] < 0).all() if i == 0 else (places[:, 0] > 0).all()
        sulcus = _surfaces.curvature()[i * HALF : (i + 1) * HALF] > 0.05
        grey = numbers(one["grey"], "u1")
        assert grey[sulcus].max() < grey[~sulcus].max()
        assert 150 < grey.min() < 165 < 210 < grey.max() < 225


def test_planted_values_lie_at_the_vertices_where_they_were_planted(page: Path) -> None:
    left, nothing, front, forward = (numbers(one["values"], "<f4") for one in told(page)["maps"][:4])
    assert np.array_equal(left, LEFT.astype(np.float32), equal_nan=True)
    assert np.isnan(left[HALF:]).all()
    assert np.isnan(nothing).all()
    assert np.array_equal(np.isfinite(front), FORWARD >= 0)
    assert np.array_equal(forward, FORWARD.astype(np.float32))


def test_shares_and_layers_have_the_colours_of_the_figures(page: Path) -> None:
    shares, layers = (numbers(one["colours"], "u1").reshape(-1, 4) for one in told(page)["maps"][4:])
    grey = FORWARD > 0
    mixed = plotting.share_colours(LEFT, 0.5 * LEFT, limit=1.0)
    assert np.abs(shares[~grey & (np.arange(N) < HALF)] - 255 * mixed[0]).max() <= 1
    assert (shares[~grey & (np.arange(N) >= HALF), 3] == 0).all()
    assert (shares[grey] == (77, 77, 77, 255)).all()
    palette = 255 * plotting.layer_colours(2)
    assert np.abs(layers[:, :3] - palette[grey.astype(int)]).max() <= 1
    assert (np.abs(layers[:, 3] - 127.5) <= 1).all()


def test_every_map_says_its_scale_and_what_is_special_about_it(page: Path) -> None:
    left, nothing, front, forward, two, which = told(page)["maps"]
    assert left["note"].startswith("10,242 of 20,484 vertices have a value")
    assert nothing["note"] == "No vertex has a value; the curvature shows everywhere."
    assert front["note"].startswith(f"{(FORWARD >= 0).sum():,} of 20,484")
    assert (left["legend"]["low"], left["legend"]["high"]) == ("0", "1")
    assert (forward["legend"]["low"], forward["legend"]["high"]) == ("-120", "80")
    assert forward["limits"] == [-120, 80]
    assert len(numbers(forward["palette"], "u1")) == 768
    assert two["legend"]["names"] == ["z", MARKUP]
    assert two["legend"]["swatches"][-1][1] == "cannot be told"
    assert [name for _, name in which["legend"]["swatches"]] == ["early", "late"]


def test_text_of_users_never_becomes_markup(page: Path) -> None:
    text = page.read_text("utf-8")
    assert MARKUP not in text
    assert "<img src=x" not in text
    assert told(page)["title"] == MARKUP
    assert told(page)["regions"]["names"] == {"1": "back", "2": MARKUP}


def test_the_page_may_run_its_two_scripts_and_fetch_nothing(page: Path) -> None:
    text = page.read_text("utf-8")
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert found
    policy = dict(rule.strip().split(" ", 1) for rule in found[1].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert set(policy) == {"default-src", "img-src", "style-src", "script-src"}
    assert "unsafe" not in policy["script-src"]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert policy["script-src"].split() == [f"'sha256-{one}'" for one in hashes]
    assert len(re.findall(r"<script\b", text[: text.index("plotly.js v")])) == 2
    assert not re.search(r"""<(?:link|iframe|script[^>]*\bsrc=)""", text[: text.index("plotly.js v")])


@with_plotly
def test_twenty_maps_are_one_page_of_less_than_12_mb(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((20, N))
    panels = [plotting.Panel(f"map {i}", values) for i, values in enumerate(noise)]
    made = plotting.light(plotting.Scores(panels), tmp_path / "light.html")
    assert made.stat().st_size < 12e6
    assert [path.name for path in tmp_path.iterdir()] == ["light.html"]
    plotting.light(plotting.Scores(panels), tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == made.read_bytes()


@with_plotly
def test_columns_of_maps_share_a_scale_by_statistic(tmp_path: Path) -> None:
    vertices = np.arange(0, N, 2)
    of = {"analysis": "latents", "unit": "1", "n_stimuli": 3}
    maps = Maps.build(
        Surface("fsaverage5", vertices),
        [
            (np.linspace(0, 0.5, len(vertices)), of | {"model": "z", "band": "z", "statistic": "r"}),
            (np.linspace(0, 0.1, len(vertices)), of | {"model": "c", "band": "c", "statistic": "r"}),
            (np.zeros(len(vertices)), of | {"model": "a", "band": "", "statistic": "preferred", "layers": "mid+up1"}),
        ],
    )
    found = told(plotting.light(maps, tmp_path / "light.html"))
    z, c, preferred = found["maps"]
    assert (z["title"], c["title"], z["heading"]) == ("latents, z", "latents, c", "r")
    assert z["limits"] == c["limits"]
    assert [name for _, name in preferred["legend"]["swatches"]] == ["mid", "up1"]
    assert np.flatnonzero(np.isfinite(numbers(z["values"], "<f4"))).tolist() == vertices.tolist()
    assert found["regions"] is None


@with_plotly
def test_a_subject_whose_hemispheres_differ_and_have_no_flat_surface_is_shown(tmp_path: Path) -> None:
    native = str(_subjects.freesurfer_subject(tmp_path / "sub-01", flat=False, curvature=False))
    n = HALF + _subjects.COARSE
    only_left = np.where(np.arange(n) < HALF, 1.0, np.nan)
    panel = plotting.Panel("left", only_left, Surface(native))
    found = told(plotting.light(plotting.Scores([panel]), tmp_path / "light.html"))
    left, right = found["hemispheres"]
    assert [(one["first"], one["n"]) for one in (left, right)] == [(0, HALF), (HALF, _subjects.COARSE)]
    triangles = numbers(right["triangles"], "<u4")
    assert triangles.max() == _subjects.COARSE - 1
    assert len(numbers(right["shapes"][0][1], "<f4")) == 3 * _subjects.COARSE
    assert np.array_equal(numbers(found["maps"][0]["values"], "<f4"), only_left.astype(np.float32), equal_nan=True)
    assert str(tmp_path) not in (tmp_path / "light.html").read_text("utf-8")
    with pytest.raises(InputError, match="one cortex"):
        plotting.light(plotting.Scores([panel]), tmp_path / "light.html", atlas=regions())
    with pytest.raises(InputError, match="one cortex"):
        plotting.light(plotting.Scores([panel, plotting.Panel("other", LEFT)]), tmp_path / "light.html")


@with_plotly
def test_a_study_writes_the_viewer_it_asks_for_and_links_no_other(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), N)).astype(np.float32)
    wide[:, :1000] = small[:, :1] + 0.1 * wide[:, :1000]
    np.save(data / "responses.npy", wide)
    text = folder_study.read_text().replace('root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    folder_study.write_text(
        text + '\n[report]\natlas = "phantom"\nviewer = "light"\nfigures = ["prediction-against-ceiling"]\n'
    )
    out = tmp_path / "out"
    assert Study.read(folder_study).run(out, progress=False).computed
    assert 'href="sub-01_light.html"' in (out / "sub-01.html").read_text()
    maps = told(out / "sub-01_light.html")["maps"]
    assert "prediction accuracy r, where q < 0.05" in maps[0]["legend"]["label"]
    assert maps[-1]["title"] == "noise ceiling"
    assert not Study.read(folder_study).run(out, progress=False).computed
    before = (out / "sub-01_light.html").read_bytes()
    reporting.rebuild(out)
    assert (out / "sub-01_light.html").read_bytes() == before
    assert 'href="sub-01_light.html"' in (out / "sub-01.html").read_text()
    folder_study.write_text(folder_study.read_text().replace('viewer = "light"', "viewer = false"))
    Study.read(folder_study).run(out, progress=False)
    assert "_light.html" not in (out / "sub-01.html").read_text()
    assert not (out / "sub-01_light.html").exists()


@pytest.fixture(scope="module")
def opened(page: Path) -> Iterator[tuple[Any, list[str], list[str]]]:
    """Open the page from the disk in a browser; also give what it asked the network for, and its errors."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives a browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        tab, asked, wrong = browser.new_page(viewport={"width": 1110, "height": 600}), [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("websocket", lambda socket: asked.append(socket.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-ready]", timeout=120_000)
        tab.locator("#outlines").uncheck()
        yield tab, asked, wrong
        browser.close()


def seen(tab: Any, number: int, view: str) -> np.ndarray:
    """Show a map from a side as a user does; return the picture, (height, width, 3)."""
    tab.locator("#maps button").nth(number).click()
    tab.get_by_role("button", name=view, exact=True).click()
    return picture(tab)


def picture(tab: Any) -> np.ndarray:
    tab.mouse.move(5, 5)
    tab.wait_for_timeout(700)
    shot = tab.locator("#cortex").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def yellow(shot: np.ndarray) -> np.ndarray:
    """Where the upper end of the scale is seen, however shaded."""
    return (shot[..., 0] - shot[..., 2] > 35) & (shot[..., 1] - shot[..., 2] > 35)


@pytest.mark.parametrize(("view", "side"), [("Dorsal", 0), ("Posterior", 0), ("Ventral", 1), ("Anterior", 1)])
def test_a_map_of_the_left_hemisphere_is_seen_on_the_left_only(
    opened: tuple[Any, list[str], list[str]], view: str, side: int
) -> None:
    tab, _, _ = opened
    bare, left = seen(tab, 1, view), seen(tab, 0, view)
    middle = bare.shape[1] // 2
    halves = [np.s_[:, :middle], np.s_[:, middle:]]
    assert not yellow(bare).any()
    coloured, other = yellow(left[halves[side]]), left[halves[1 - side]]
    assert coloured.mean() > 0.1
    assert not yellow(other).any()
    assert np.abs(other - bare[halves[1 - side]]).max() < 8
    cortex = (bare[halves[side]] < 240).all(axis=2)
    assert coloured[cortex].mean() > 0.95


def test_views_of_one_side_show_that_side(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    for view in ("Left lateral", "Left medial"):
        shot = seen(tab, 0, view)
        assert yellow(shot).mean() > 0.15
    for view in ("Right lateral", "Right medial"):
        shot = seen(tab, 0, view)
        assert yellow(shot).mean() < 0.01
        assert (shot < 240).all(axis=2).mean() > 0.15


@pytest.mark.parametrize(("view", "front"), [("Left lateral", 0), ("Left medial", 1), ("Right lateral", 1)])
def test_a_gradient_rises_towards_the_front(opened: tuple[Any, list[str], list[str]], view: str, front: int) -> None:
    tab, _, _ = opened
    shot = seen(tab, 3, view)
    brain = shot.min(axis=2) < 200
    columns = np.flatnonzero(brain.any(axis=0))
    part = (columns[-1] - columns[0]) // 5
    slices = np.s_[columns[0] : columns[0] + part], np.s_[columns[-1] - part : columns[-1]]
    ends = [shot[:, one][brain[:, one]].sum(axis=1).mean() for one in slices]
    assert ends[front] > 1.5 * ends[1 - front]


def test_the_brightest_colour_is_that_of_the_legend(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    shot = seen(tab, 0, "Left lateral")
    top = np.percentile(shot[yellow(shot)], 99, axis=0)
    palette = numbers(told_maps(tab)[0]["palette"], "u1").reshape(256, 3)
    assert np.abs(top - palette[-1]).max() < 12


def told_maps(tab: Any) -> list[dict[str, Any]]:
    return json.loads(tab.locator("#told").text_content())["maps"]


def test_another_map_is_another_picture_and_another_legend(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    shots, legends = [], []
    for number in range(6):
        shots.append(seen(tab, number, "Left lateral"))
        legends.append(tab.locator("#legend").inner_text())
        assert tab.locator("#maps [aria-current=true]").count() == 1
    for i in range(6):
        for j in range(i):
            assert (np.abs(shots[i] - shots[j]).max(axis=2) > 20).mean() > 0.05
    assert len(set(legends)) == 6
    assert "-120" in legends[3]
    assert "80" in legends[3]


def test_the_keys_turn_the_cortex_and_choose_maps(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    before = seen(tab, 3, "Posterior")
    tab.locator("#cortex").focus()
    for _ in range(9):
        tab.keyboard.press("ArrowLeft")
    turned = picture(tab)
    assert (np.abs(turned - before).max(axis=2) > 20).mean() > 0.05
    # Nine steps of 10 degrees from behind, and the right hemisphere faces the viewer.
    assert (tab.locator("#to-left").inner_text(), tab.locator("#to-right").inner_text()) == ("back", "front")
    assert tab.locator("#sides [aria-pressed=true]").count() == 0
    tab.locator("#maps button").nth(3).focus()
    tab.keyboard.press("ArrowDown")
    assert tab.locator("#maps [aria-current=true]").inner_text() == "two"
    assert tab.evaluate("document.activeElement.textContent") == "two"


def test_what_is_pointed_at_is_read_out(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    seen(tab, 3, "Posterior")
    box = tab.locator("#cortex").bounding_box()
    tab.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    tab.mouse.move(box["x"] + 0.4 * box["width"] + 2, box["y"] + 0.5 * box["height"], steps=3)
    tab.wait_for_timeout(700)
    words = tab.locator("#at").inner_text().split(" · ")
    vertex = int(words[0].removeprefix("left vertex ").replace(",", ""))
    assert float(words[-1]) == pytest.approx(FORWARD[vertex], rel=1e-3)
    assert words[1:-1] == (["back"] if FORWARD[vertex] < -85 else [])


def test_names_are_shown_as_they_are(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    seen(tab, 1, "Left lateral")
    words = " ".join(MARKUP.split())
    assert tab.title() == words
    assert tab.locator("h1").inner_text() == words
    assert tab.locator("#maps button").nth(1).inner_text() == words
    assert tab.locator("#legend .what").inner_text() == words
    assert tab.locator("#legend .label").inner_text() == words
    assert tab.evaluate("typeof hacked") == "undefined"


def test_every_view_opens_without_network_and_without_an_error(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, asked, wrong = opened
    assert tab.locator("#sides button").all_inner_texts() == VIEWS
    for button in tab.locator("#tools button").all():
        button.click()
        tab.wait_for_timeout(100)
    plain = picture(tab)
    tab.locator("#outlines").check()
    assert (np.abs(picture(tab) - plain).max(axis=2) > 40).any()
    tab.locator("#outlines").uncheck()
    assert np.abs(picture(tab) - plain).max() < 8
    assert len(asked) == 1
    assert asked[0].startswith("file:")
    assert wrong == []


def test_a_phone_shows_the_cortex_above_the_maps_and_nothing_sideways(
    opened: tuple[Any, list[str], list[str]],
) -> None:
    tab, _, _ = opened
    tab.set_viewport_size({"width": 390, "height": 844})
    tab.wait_for_timeout(700)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    shot = seen(tab, 0, "Left lateral")
    columns = np.flatnonzero(yellow(shot).any(axis=0))
    assert 0 < columns[0] < columns[-1] < 389
    assert tab.locator("#cortex").bounding_box()["y"] < tab.locator("#legend").bounding_box()["y"]
    assert tab.locator("#legend").bounding_box()["y"] < tab.locator("#maps").bounding_box()["y"]
    tab.set_viewport_size({"width": 1110, "height": 600})
