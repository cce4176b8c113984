"""The viewer: a subject for pycortex, and a page that shows planted maps where they were planted."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from _paths import TESTS
from _views import FORWARD, LEFT, MARKUP, N, regions
from PIL import Image

from latentcortex import _surfaces, plotting
from latentcortex._pycortex import overlays, subject, view
from latentcortex.errors import InputError, LatentcortexError, MissingExtraError
from latentcortex.maps import Maps
from latentcortex.space import Surface, Unlocated
from latentcortex.study import Study

with_pycortex = pytest.mark.skipif(
    importlib.util.find_spec("cortex") is None, reason="pycortex is not installed: pip install 'latentcortex[pycortex]'"
)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import _views
_views.plotting.webgl(_views.groups(), {page!r}, atlas=_views.regions(), title=_views.MARKUP, filestore={filestore!r})
assert "cortex" not in sys.modules
"""


def make(page: Path, *, filestore: Path | None = None, **environment: str) -> None:
    """Make a page in a process with other surroundings."""
    code = SCRIPT.format(tests=str(TESTS), page=str(page), filestore=filestore and str(filestore))
    left_out = ("XDG_", "MPL", "HOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    subprocess.run([sys.executable, "-c", code], env=kept | environment, check=True, timeout=300)


def test_nothing_of_the_current_folder_is_imported_or_read_by_pycortex_s_process(tmp_path: Path, monkeypatch) -> None:
    for name in ("numpy", "json", "cortex"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')")
    (tmp_path / "job").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(LatentcortexError, match=r"No module named 'cortex'|No such file or directory: '.*/job\.json'"):
        view._run(tmp_path / "job")


def told(page: Path) -> dict[str, Any]:
    """What a page says beside its maps."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder, with their time and content."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a page of planted maps, with a home of its own that must stay empty."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "home").mkdir()
    made = folder / "viewer.html"
    make(made, HOME=str(folder / "home"), MPLCONFIGDIR=str(folder / "matplotlib"))
    return made


def test_the_subject_has_the_templates_vertices_in_their_order(tmp_path: Path) -> None:
    folder = subject.build(tmp_path / "db")
    for name, kind in subject.SURFACES.items():
        for side, mesh in zip(("lh", "rh"), _surfaces.surface(kind), strict=True):
            points, triangles = nib.load(folder / "surfaces" / f"{name}_{side}.gii").agg_data()
            assert np.array_equal(points, mesh.coordinates.astype(np.float32))
            assert np.array_equal(triangles, mesh.triangles)
    with np.load(folder / "surface-info" / "curvature.npz") as curvature:
        assert np.array_equal(np.concatenate([curvature["left"], curvature["right"]]), -_surfaces.curvature())


@pytest.mark.parametrize("side", [0, 1])
def test_no_triangle_bridges_the_cuts_of_the_flat_subject(side: int) -> None:
    flat, whole = subject.flat()[side], _surfaces.surface("pial")[side]
    patch = np.zeros(len(flat.coordinates), dtype=bool)
    patch[flat.triangles] = True
    assert 9300 < patch.sum() < 9537
    drawn = flat.coordinates[whole.triangles[patch[whole.triangles].all(axis=1)]]
    assert np.linalg.norm(drawn - np.roll(drawn, 1, axis=1), axis=2).max() < _surfaces.LONGEST_MM
    assert np.ptp(flat.coordinates[~patch], axis=0).max() == 0
    low, high = flat.coordinates[patch].min(axis=0), flat.coordinates[patch].max(axis=0)
    assert (low <= flat.coordinates).all()
    assert (flat.coordinates <= high).all()


def test_six_processes_build_one_subject(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path\nfrom latentcortex._pycortex import subject\nsubject.build(Path({str(tmp_path)!r}))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
    assert [one.wait(timeout=120) for one in running] == [0] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["fsaverage5"]
    assert len(list((tmp_path / "fsaverage5" / "surfaces").iterdir())) == 8


def test_a_subject_that_is_there_is_left_alone(tmp_path: Path) -> None:
    subject.build(tmp_path)
    before = everything(tmp_path)
    subject.build(tmp_path)
    assert everything(tmp_path) == before


def test_a_filestore_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        subject.build(tmp_path / "file" / "db")
    (tmp_path / "db" / "fsaverage5" / "surfaces").mkdir(parents=True)
    with pytest.raises(InputError, match="give another filestore"):
        subject.build(tmp_path / "db")


def test_outlines_have_one_path_and_one_name_on_each_hemisphere() -> None:
    from xml.etree import ElementTree

    rois = regions()
    drawn = ElementTree.fromstring(overlays.drawing(rois.labels, rois.names))
    texts = list(drawn.iter(f"{{{overlays.SVG}}}text"))
    assert sorted(str(text.text) for text in texts) == sorted(["back", "back", MARKUP, MARKUP])
    assert len(list(drawn.iter(f"{{{overlays.SVG}}}path"))) == 4
    for text in texts:
        vertex, right = int(text.attrib["data-ptidx"]), float(text.attrib["x"]) > float(drawn.attrib["width"]) / 2
        assert rois.names[rois.labels[vertex]] == text.text
        assert right == (vertex >= N // 2)


def test_names_that_xml_cannot_hold_are_cleaned() -> None:
    assert overlays.printable(" V1\x00\x1b[31m\n ") == "V1[31m"
    drawn = overlays.drawing(regions().labels, {1: "a\x00b"})
    assert b"ab" in drawn


def test_without_pycortex_one_line_names_the_extra(
    tmp_path: Path, folder_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cortex", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'latentcortex\[pycortex\]'") as error:
        plotting.webgl(plotting.Scores([plotting.Panel("left", LEFT)]), tmp_path / "viewer.html")
    assert "\n" not in str(error.value)
    folder_study.write_text(folder_study.read_text() + "\n[report]\nviewer = true\n")
    with pytest.raises(MissingExtraError, match="WebGL viewer"):
        Study.read(folder_study).run(tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@with_pycortex
def test_what_cannot_be_shown_is_refused_before_anything_is_computed(tmp_path: Path, folder_study: Path) -> None:
    with pytest.raises(InputError, match="no map"):
        plotting.webgl({}, tmp_path / "viewer.html")
    nowhere = Maps.build(Unlocated(3), [(np.zeros(3), {"analysis": "a", "model": "z", "band": "z", "statistic": "r"})])
    with pytest.raises(InputError, match="without a known position"):
        plotting.webgl(nowhere, tmp_path / "viewer.html")
    folder_study.write_text(folder_study.read_text() + "\n[report]\nviewer = true\n")
    with pytest.raises(InputError, match="give `template`"):
        Study.read(folder_study).run(tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@with_pycortex
def test_a_page_leaves_the_home_empty(page: Path) -> None:
    assert list((page.parent / "home").rglob("*")) == []
    assert page.stat().st_size < 8e6


@with_pycortex
def test_a_home_that_cannot_be_and_a_read_only_filestore_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = tmp_path / "100% store"
    subject.build(store)
    for path in (store, *store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = everything(store)
    nowhere = str(tmp_path / "file" / "home")
    make(tmp_path / "viewer.html", filestore=store, HOME=nowhere, MPLCONFIGDIR=str(tmp_path / "matplotlib"))
    assert (tmp_path / "viewer.html").is_file()
    assert everything(store) == before


@with_pycortex
def test_two_viewers_at_once_share_a_new_filestore_and_a_home(page: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    store, pages = tmp_path / "db", [tmp_path / "one.html", tmp_path / "two.html"]
    around = {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda made: make(made, filestore=store, **around), pages))
    assert [made.read_bytes() == page.read_bytes() for made in pages] == [True, True]
    assert list((tmp_path / "home").rglob("*")) == []
    subject.build(tmp_path / "built")
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (store, tmp_path / "built")]
    assert names[0] == names[1]


@with_pycortex
def test_the_same_maps_give_the_same_bytes(page: Path, tmp_path: Path) -> None:
    make(tmp_path / "again.html", HOME=str(tmp_path), MPLCONFIGDIR=str(tmp_path / "matplotlib"))
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


@with_pycortex
def test_every_map_says_its_scale_and_what_is_special_about_it(page: Path) -> None:
    left, nothing, front, forward, two, which = told(page)["maps"]
    assert left["note"].startswith("10,242 of 20,484 vertices have a value")
    assert "All have the same, 1." in left["note"]
    assert nothing["note"] == "No vertex has a value; the curvature shows everywhere."
    assert front["note"].startswith(f"{(FORWARD >= 0).sum():,} of 20,484")
    assert {left["legend"]["low"], left["legend"]["high"]} == {"0", "1"}
    assert (forward["legend"]["low"], forward["legend"]["high"]) == ("-120", "80")
    assert two["legend"]["names"] == ["z", MARKUP]
    assert two["legend"]["swatches"][-1][1] == "cannot be told"
    assert [name for _, name in which["legend"]["swatches"]] == ["early", "late"]


@with_pycortex
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
    plotting.webgl(maps, tmp_path / "viewer.html")
    z, c, preferred = told(tmp_path / "viewer.html")["maps"]
    assert (z["title"], c["title"], z["heading"]) == ("latents, z", "latents, c", "r")
    assert z["legend"]["high"] == f"≥ {c['legend']['high']}"
    assert [name for _, name in preferred["legend"]["swatches"]] == ["mid", "up1"]


@with_pycortex
def test_a_study_writes_its_viewer_beside_the_page(folder_study: Path, tmp_path: Path) -> None:
    data = folder_study.parent / "data"
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), N)).astype(np.float32)
    wide[:, :1000] = small[:, :1] + 0.1 * wide[:, :1000]
    np.save(data / "responses.npy", wide)
    text = folder_study.read_text().replace('root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    folder_study.write_text(text + '\n[report]\natlas = "phantom"\nviewer = true\n')
    out = tmp_path / "out"
    assert Study.read(folder_study).run(out, progress=False).computed
    assert 'href="sub-01_viewer.html"' in (out / "sub-01.html").read_text()
    maps = told(out / "sub-01_viewer.html")["maps"]
    assert "prediction accuracy r, where q < 0.05" in maps[0]["legend"]["label"]
    assert maps[-1]["title"] == "noise ceiling"
    assert not Study.read(folder_study).run(out, progress=False).computed
    if importlib.util.find_spec("bids_validator_deno"):
        command = [str(Path(sys.executable).with_name("bids-validator-deno")), str(out), "--ignoreWarnings"]
        assert subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == 0


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
        tab, asked, wrong = browser.new_page(viewport={"width": 1110, "height": 500}), [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("websocket", lambda socket: asked.append(socket.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        tab.goto(page.as_uri())
        tab.wait_for_selector("body[data-ready]", timeout=120_000)
        yield tab, asked, wrong
        browser.close()


def choose(tab: Any, number: int) -> np.ndarray:
    """Show a map as a user does; return what the canvas shows, (height, width, 3)."""
    tab.locator("#maps li").nth(number).click()
    # The page's policy forbids what `wait_for_function` does.
    there = f"viewer.active.name === 'map{number:04d}' && viewer.active.loaded.state() === 'resolved'"
    while not tab.evaluate(there):
        tab.wait_for_timeout(100)
    tab.wait_for_timeout(1500)
    shot = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")).astype(int)
    return shot[30:, : tab.evaluate("viewer.canvas[0].getBoundingClientRect().width")]


@with_pycortex
def test_a_map_of_the_left_hemisphere_is_seen_on_the_left_only(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    bare, left = choose(tab, 1), choose(tab, 0)
    changed = np.abs(left - bare).max(axis=2) > 40
    middle = bare.shape[1] // 2
    assert changed[:, :middle].mean() > 0.4
    assert changed[:, middle + 5 :].sum() == 0
    yellow = (left[..., 0] > 200) & (left[..., 1] > 200) & (left[..., 2] < 190)
    assert yellow[:, :middle].mean() > 0.4
    assert not yellow[:, middle + 5 :].any()


@with_pycortex
def test_a_gradient_lies_at_the_vertices_where_it_was_planted(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    shot = choose(tab, 3)
    found = tab.evaluate(
        """() => ["left", "right"].map((side, number) => {
            const values = viewer.active.data[0].verts[0][number].array;
            const places = viewer.surfs[0].surf.hemis[side].attributes.position;
            return Array.from(values, (value, i) => [value, places.array[i * places.itemSize + 1]]);
        })"""
    )
    shown = np.concatenate([np.array(side) for side in found])
    assert len(shown) == N
    assert np.abs(shown[:, 0] - shown[:, 1]).max() < 0.5
    # In the flatmap the posterior ends face the middle.
    bright, height = shot.sum(axis=2), shot.shape[0]
    middle, edge = bright.shape[1] // 2, bright.shape[1] // 8
    band = slice(2 * height // 5, 3 * height // 5)
    assert np.median(bright[band, edge : edge + 20]) > 2 * np.median(bright[band, middle - 60 : middle - 25])


@with_pycortex
def test_names_are_shown_as_they_are(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, _, _ = opened
    choose(tab, 1)
    assert tab.title() == MARKUP
    assert tab.locator("#panel h1").inner_text() == MARKUP
    assert tab.locator("#maps li").nth(1).inner_text() == MARKUP
    assert tab.locator("#legend .what").inner_text() == MARKUP
    assert tab.locator("#legend .label").inner_text() == MARKUP
    assert tab.evaluate("typeof hacked") == "undefined"
    names = tab.evaluate("Object.keys(viewer.surfs[0].surf.svg.layers.rois.labels.labels)")
    assert sorted(names) == sorted(["back", MARKUP])


@with_pycortex
def test_every_view_opens_without_network_and_without_an_error(opened: tuple[Any, list[str], list[str]]) -> None:
    tab, asked, wrong = opened
    for number in range(6):
        choose(tab, number)
    for button in tab.locator("#panel button").all():
        button.click()
        tab.wait_for_timeout(300)
    for box in tab.locator("#panel input").all():
        box.click()
    tab.wait_for_timeout(500)
    assert [url[:60] for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert wrong == []
