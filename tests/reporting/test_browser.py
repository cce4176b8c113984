"""The report in a browser: from the disk, without the network, with strings from data as text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _paths import ROOT

from latentcortex.study import Study

MARKUP = "</td><img src=x onerror='document.title=1'><script>document.title=2</script>&"
N = 20484


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives a browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def report(folder_study: Path, tmp_path: Path) -> Path:
    """Write a report in which a region and the folder are called by markup."""
    data, atlas = folder_study.parent / "data", folder_study.parent / "<b>mine</b>"
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), N)).astype(np.float32)
    wide[:, ::3] = small[:, :1] + 0.1 * wide[:, ::3]
    np.save(data / "responses.npy", wide)
    shutil.copytree(ROOT / "atlases" / "phantom", atlas)
    table = next(atlas.glob("*_dseg.tsv"))
    table.write_text(table.read_text().replace("early", MARKUP))
    text = folder_study.read_text().replace('root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    folder_study.write_text(text + '\n[report]\natlas = "<b>mine</b>"\nfigures = ["accuracy-flat"]\n')
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    return tmp_path / "out" / "sub-01.html"


def test_a_report_asks_for_nothing_sorts_downloads_and_fits_a_phone(driver: Any, report: Path) -> None:
    tab, asked, wrong = driver.new_page(viewport={"width": 1100, "height": 900}), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.goto(report.as_uri())
    title = tab.title()
    assert "01" in title
    pictures = tab.locator("img")
    assert pictures.count() == 1
    assert pictures.first.evaluate("one => one.complete && one.naturalWidth > 500")
    assert len(pictures.first.get_attribute("alt")) > 30

    rows = tab.locator("#rois ~ details table.sortable").first.locator("tbody tr")
    first = [row.locator("td").first.inner_text() for row in rows.all()]
    assert MARKUP in first
    tab.locator("#rois ~ details table.sortable").first.locator("th button").first.focus()
    tab.keyboard.press("Enter")
    again = [row.locator("td").first.inner_text() for row in rows.all()]
    assert again in (sorted(first), sorted(first, reverse=True), sorted(first, key=str.lower))
    assert set(again) == set(first)
    with tab.expect_download() as given:
        tab.locator("a[download]").first.click()
    assert MARKUP in Path(given.value.path()).read_text(encoding="utf-8")

    assert tab.title() == title
    assert [one for one in asked if not one.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert not wrong
    phone = driver.new_page(viewport={"width": 390, "height": 800})
    phone.goto(report.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    summary = phone.locator("#summary ~ div table").first
    for cell in summary.locator("tbody td").all():
        box = cell.bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= 390
