"""Sections of a report: parts of one analysis are one, and test sets of an analysis's own have no part in the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _studies import sections
from matplotlib.collections import LineCollection

from latentcortex import plotting
from latentcortex.encoding import Criterion
from latentcortex.encoding.methods import of_tests
from latentcortex.maps import Maps
from latentcortex.reporting import Content
from latentcortex.reporting.figures import figures
from latentcortex.reporting.tables import roi_table
from latentcortex.space import Atlas, Surface

SPACE = Surface("fsaverage5", np.arange(0, 20484, 40))
MEANS = {"random": 0.4, "cluster": 0.2, "far": 0.1}


def maps_of_two_analyses() -> Maps:
    """Latents on the study's test set, beside its noise ceiling, and the profile of generalisation on three others."""
    n, columns = SPACE.n_voxels, []

    def model(analysis: str, r: float, null: str, **facts: Any) -> None:
        about = {"analysis": analysis, "model": "z", "band": "z", "n_stimuli": 60, "unit": "", **facts}
        tests = {"q": 0.05, "null": null, "correction": "bh", "family": "all"}
        columns.append((np.full(n, r), {**about, "statistic": "r"}))
        columns.append((np.full(n, 1e-4), {**about, "statistic": "p", **tests}))
        columns.append((np.ones(n), {**about, "statistic": "mask", **tests}))

    ceiling = {"analysis": "ceiling", "model": "", "band": "", "statistic": "ceiling", "unit": "", "n_stimuli": 60}
    columns.append((np.full(n, 0.5), ceiling))
    model("latents", 0.5, "its own null")
    for kind, mean in MEANS.items():
        ends = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "normalised": 2 * mean, "n_train": 90}
        model(f"generalisation-{kind}", mean, f"the null of {kind}", test_set=kind, **ends)
    return Maps.build(SPACE, columns)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """What a report of them is made from, once they were written and read."""
    maps_of_two_analyses().save(tmp_path, participant="01")
    report = {"atlas": "phantom", "mask": "own", "figures": ["accuracy-by-test-set"], "width_mm": 180.0}
    settings = {"report": {**report, "format": "png"}, "run": {"seed": 0}}
    maps, atlas = Maps.load(tmp_path, participant="01"), Atlas.find("phantom", "fsaverage5")
    return Content("01", maps, atlas, {}, settings, {}, tmp_path / "log", sections=sections())


def test_an_analysis_of_three_test_sets_is_one_section_with_one_figure_of_all(content: Content) -> None:
    assert set(content.analyses) == {"ceiling", "latents", "generalisation"}
    ((analysis, figure),) = figures(content)
    assert (analysis, figure.name) == ("generalisation", "generalisation")
    for kind, mean in MEANS.items():
        assert f"z {kind} {2 * mean:.3f}" in figure.caption
    assert "each after a fit to 90 stimuli" in figure.caption
    (ax,) = [one for one in figure.draw(plotting.PAGE).axes if one.get_title() == "z"]
    (intervals,) = (one for one in ax.collections if isinstance(one, LineCollection))
    drawn = {int(segment[0, 0]): segment[:, 1].mean() for segment in intervals.get_segments()}
    assert [text.get_text() for text in ax.get_xticklabels()] == list(MEANS)
    assert [drawn[place] for place in sorted(drawn)] == pytest.approx(list(MEANS.values()))


def test_scores_on_another_test_set_are_not_related_to_the_ceiling_of_the_studys(content: Content) -> None:
    table = roi_table(content)
    assert table is not None
    of_r = table[(table["statistic"] == "r") & (table["n_valid"] > 0)]
    normalised = of_r.set_index("analysis")["normalised"]
    assert np.isfinite(normalised["latents"]).all()
    for kind in MEANS:
        assert normalised[f"generalisation-{kind}"].isna().all()


def test_the_methods_text_names_the_nulls_of_the_studys_own_test_set_only(content: Content) -> None:
    text = of_tests(content.maps, Criterion(), averaged=True)
    assert "One-sided p-values came from the null of its own null." in text
    assert not any(f"the null of {kind}" in text for kind in MEANS)


def test_what_an_analysis_says_of_its_section_is_read_again_from_the_folder(content: Content, tmp_path: Path) -> None:
    content.write(tmp_path, [])
    again, _ = Content.read(tmp_path / "sub-01" / "sub-01_report.json", log=content.log)
    assert again.sections == content.sections
    assert again.section("noise-levels").axis == "strength"
    assert again.section("generalisation").parts == tuple(f"generalisation-{kind}" for kind in MEANS)
