"""A figure of somebody else's package: named by an analysis, or asked for in a study file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _strangers import DATASET, STUDY, forgetting, offer, write_module

from latentcortex import analyses, cli, reporting
from latentcortex.study import Study

FIGURE = '''
"""The scores of each model in the order of their size."""

import numpy as np
from matplotlib.figure import Figure as Canvas

from latentcortex.reporting import Figure, ReportFigure, models
from latentcortex.statistics import R


def ranks(content, analysis):
    names = models(content.maps, analysis)
    scores = {name: np.sort(content.maps.values(analysis=analysis, model=name, statistic=R.name)) for name in names}

    def draw(style):
        canvas = Canvas(figsize=(style.width_mm / 25.4, 2))
        canvas.subplots().plot(np.transpose(list(scores.values())))
        return canvas

    yield Figure(f"{analysis}-ranks", f"Sorted r of {len(scores)} models.", draw)


RANKS = ReportFigure(ranks, R, "", default=False, below_any=True)
PAIRS = ReportFigure(ranks, R, "", n_models=(2, 2))
NOTHING = ranks
'''
ANALYSIS = """
from latentcortex.analyses import Analysis


class Both(Analysis):
    figures = ("pairs",)
"""
OFFERED = {
    "datasets": {"greys": "somebodys_dataset:Greys"},
    "figures": {
        "ranks": "somebodys_figure:RANKS",
        "pairs": "somebodys_figure:PAIRS",
        "nothing": "somebodys_figure:NOTHING",
    },
    "analyses": {"both": "somebodys_analysis:Both"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a package is installed, and a study of its dataset."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("dataset", DATASET), ("figure", FIGURE), ("analysis", ANALYSIS)):
        write_module(tmp_path, f"somebodys_{name}", text)
    offer(tmp_path, OFFERED)
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    with forgetting():
        yield tmp_path


def test_a_figure_of_an_installed_package_stands_where_it_is_asked_for(folder: Path) -> None:
    file, out = folder / "study.toml", folder / "out"
    file.write_text(f'{STUDY}\n[report]\nfigures = ["ranks"]\n', encoding="utf-8")
    Study.read(file).run(out, progress=False)
    assert [path.name for path in (out / "sub-01" / "figures").iterdir()] == ["latents-ranks.png"]
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    assert page.index('id="latents"') < page.index("<figcaption>Sorted r of 1 models.</figcaption>")


def test_an_analysis_of_an_installed_package_has_the_figures_that_it_names(folder: Path) -> None:
    file, out = folder / "study.toml", folder / "out"
    both = STUDY.replace("size = 4", 'size = 4\nbands = ["pixels", "contrast"]').replace('["latents"]', '["both"]')
    file.write_text(both, encoding="utf-8")
    Study.read(file).run(out, progress=False)
    assert [path.name for path in (out / "sub-01" / "figures").iterdir()] == ["both-ranks.png"]
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    assert page.index('id="both"') < page.index("<figcaption>Sorted r of 2 models.</figcaption>")

    del analyses.SHELF.where["both"]  # the folder says which figures stood there
    (folder / "somebodys_analysis.py").unlink()
    (out / "sub-01.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "sub-01.html").read_text(encoding="utf-8") == page


def test_a_figure_that_nobody_has_or_that_is_none_is_refused_with_the_names_that_there_are(
    folder: Path, capsys
) -> None:
    file = folder / "study.toml"
    file.write_text(f'{STUDY}\n[report]\nfigures = ["rancks"]\n', encoding="utf-8")
    assert cli.main(["check", str(file)]) == 2
    assert "Did you mean 'ranks'?" in capsys.readouterr().err
    with pytest.raises(reporting.figures.InputError, match="Figure 'nothing' is somebodys_figure:NOTHING, a function"):
        reporting.check_figures({"latents": ("nothing",)})
