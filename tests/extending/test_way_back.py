"""An extractor, a reconstructor and metrics of somebody else's package, up to the page of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from _strangers import DATASET, STUDY, forgetting, methods_of, offer, write_module

from latentcortex import cli, evaluation, extractors, reconstructors
from latentcortex.errors import InputError
from latentcortex.study import Study

EXTRACTOR = '''
"""The mean grey of each cell of a grid that is laid over an image."""

from typing import Annotated

import numpy as np
from annotated_types import Ge


class Grid:
    """Grey cells."""

    bands = ("grid",)
    references = """
@article{weber1834,
  author = {Weber, E. H.},
  year = {1834},
  title = {{De pulsu, resorptione, auditu et tactu}},
}
"""

    def __init__(self, *, n_cells: Annotated[int, Ge(1)] = 2) -> None:
        self.n_cells = n_cells

    @property
    def made_by(self):
        return {"name": "grid", "version": 1, "n_cells": self.n_cells}

    def methods(self, bands=()):
        return f"The band grid has the mean grey of {self.n_cells} x {self.n_cells} cells of an image [@weber1834]."

    def check(self, bands, captions=None):
        assert set(bands) <= {"grid"}

    def extract(self, images, captions, pixel_hashes, bands):
        n, height, width, _ = images.shape
        k = self.n_cells
        cells = images.mean(-1).reshape(n, k, height // k, k, width // k).mean((2, 4))
        return {"grid": cells.reshape(n, -1).astype(np.float32)}
'''
RECONSTRUCTOR = '''
"""Paints the cells of a grid; its name is that of an extractor, whose settings are none of its own."""

import numpy as np


class Painter:
    """Grey cells."""

    routes = {"painted": ("grid",)}
    titles = {"painted": "painted cells"}

    def __init__(self, *, gamma: float = 1.0) -> None:
        self.gamma = gamma

    @property
    def made_by(self):
        return {"name": "painter", "version": 1, "gamma": self.gamma}

    def methods(self, routes=()):
        return f"Each cell was painted in the grey that was decoded, with a gamma of {self.gamma:g}."

    def fit(self, features, stimuli, splits):
        return self

    def n_samples(self, route):
        return 1

    def reconstruct(self, route, latents, ids, n_samples):
        side = int(latents["grid"].shape[1] ** 0.5)
        grey = np.clip(latents["grid"], 0, 255).reshape(-1, side, side)
        large = np.kron(grey, np.ones((16 // side, 16 // side)))
        return np.repeat(large[:, None, ..., None], 3, axis=-1).astype(np.uint8)
'''
METRIC = '''
"""How far the mean greys of two images are apart, and how alike quarters of them are."""

import numpy as np

from latentcortex.evaluation import EmbeddingMetric, Metric


class Greyness(Metric):
    title = "mean grey"
    range = (0.0, 255.0)
    limits = (0.0, 255.0)
    higher_is_better = False
    methods = "Mean greys were subtracted [@weber1834]."
    references = "@misc{weber1834,\\n  author = {Weber, E. H.},\\n  year = {1834},\\n  title = {{De tactu}},\\n}\\n"

    def similarity(self, originals, images, pairs=None):
        return np.abs(originals.images.mean((1, 2, 3))[:, None] - images.mean((1, 2, 3)))


class Quarters(EmbeddingMetric):
    title = "quarters"
    network = "a network of one layer, drawn with seed 0"
    methods = "Quarters of images were embedded by a network of one layer, drawn with seed 0."

    def embed(self, images):
        cells = images.mean(-1).reshape(len(images), 2, 8, 2, 8).mean((2, 4)).reshape(len(images), -1)
        return cells @ np.random.default_rng(0).standard_normal((4, 32))


class Beyond(Greyness):
    range = (0.0, 1e-6)
'''
OFFERED = {
    "datasets": {"greys": "somebodys_dataset:Greys"},
    "extractors": {"grid": "somebodys_extractor:Grid"},
    "reconstructors": {"grid": "somebodys_reconstructor:Painter"},
    "metrics": {name: f"somebodys_metric:{name.title()}" for name in ("greyness", "quarters", "beyond")},
}
WAY_BACK = STUDY.replace("n_voxels = 12", "n_voxels = 40").replace(
    'name = "pixels"\nsize = 4', 'name = "grid"\nn_cells = 4'
)
WAY_BACK += """
[decoding]
bands = ["grid"]

[reconstructor]
name = "grid"
gamma = 1.0

[evaluation]
metrics = ["pixels", "greyness", "quarters"]
n_bootstrap = 50
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a package is installed, and a study that names what it has."""
    monkeypatch.syspath_prepend(tmp_path)
    given = {"dataset": DATASET, "extractor": EXTRACTOR, "reconstructor": RECONSTRUCTOR, "metric": METRIC}
    for name, text in given.items():
        write_module(tmp_path, f"somebodys_{name}", text)
    offer(tmp_path, OFFERED)
    (tmp_path / "study.toml").write_text(WAY_BACK, encoding="utf-8")
    with forgetting():
        yield tmp_path


def test_extractor_reconstructor_and_metrics_of_an_installed_package_run_a_study_up_to_its_pages(folder: Path) -> None:
    out = folder / "out"
    Study.read(folder / "study.toml").run(out, progress=False)
    report = methods_of((out / "sub-01.html").read_text(encoding="utf-8"))
    assert "The band grid has the mean grey of 4 x 4 cells of an image (Weber, 1834)." in report
    assert "<li>Weber, E. H. (1834). De pulsu, resorptione, auditu et tactu.</li>" in report

    table = pd.read_csv(out / "decoding/sub-01/sub-01_scores.tsv", sep="\t", na_values="n/a")
    painted = table[table["route"] == "painted"].set_index("measure")
    assert painted.loc["greyness", "score"] < painted.loc["greyness", "chance"] / 3
    assert painted.loc["greyness", "above_baseline"] > 0  # so much nearer than the nearest training image
    assert painted.loc["correlation_space-quarters", "score"] > 0.9
    for space in ("pixels", "greyness", "quarters"):
        assert painted.loc[f"identification_space-{space}_fixed-original_pool-20", "score"] > 0.85
    assert not painted.index.str.contains("ssim|attribute").any()

    page = (out / "decoding" / "sub-01.html").read_text(encoding="utf-8")
    for words in (
        '<th class="number">painted cells</th>',
        "Images: distance from the original, the lower the better",
        "<td>mean grey</td>",
        "<td>correlation of quarters</td>",
        "<td>quarters, original fixed</td>",
        "Each cell was painted in the grey that was decoded, with a gamma of 1.",
        "Mean greys were subtracted (Weber, 1834).",
        "a network of one layer, drawn with seed 0",
        "<li>Weber, E. H. (1834). De tactu.</li>",
    ):
        assert words in page, words
    assert "SSIM" not in page

    for shelf, name in ((extractors.SHELF, "grid"), (reconstructors.SHELF, "grid"), (evaluation.SHELF, "greyness")):
        del shelf.where[name]
    for name in ("extractor", "reconstructor", "metric"):
        (folder / f"somebodys_{name}.py").unlink()
    assert cli.main(["report", str(out)]) == 0  # pages are made again from the folder alone
    assert (out / "decoding" / "sub-01.html").read_text(encoding="utf-8") == page


def test_a_reconstructor_that_is_called_as_an_extractor_has_no_settings_of_it_and_is_not_taken_for_its_own(
    folder: Path,
) -> None:
    study = Study.read(folder / "study.toml")
    assert study.reconstructor().made_by == {"name": "painter", "version": 1, "gamma": 1.0}
    (folder / "study.toml").write_text(WAY_BACK.replace('name = "grid"\ngamma = 1.0', ""), encoding="utf-8")
    assert Study.read(folder / "study.toml").settings.reconstructor.name == "retrieval"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"greyness"', '"grayness"', "Did you mean 'greyness'?"),
        ('"greyness"', '"attributes"', "The metric 'attributes' in `metrics` in [evaluation] needs the probe of"),
        ("n_cells = 4", "n_cells = 0", "`n_cells` of extractor 'grid' must be a whole number of at least 1; got 0"),
        ("gamma = 1.0", 'gamma = "much"', "`gamma` of reconstructor 'grid' must be a number; got 'much'"),
    ],
)
def test_what_somebody_elses_classes_do_not_take_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    (folder / "study.toml").write_text(WAY_BACK.replace(old, new), encoding="utf-8")
    assert cli.main(["check", str(folder / "study.toml")]) == 2
    assert says in capsys.readouterr().err


def test_a_metric_that_gives_numbers_out_of_its_range_is_refused(folder: Path) -> None:
    stimuli = Study.read(folder / "study.toml").dataset().stimuli()
    seen = evaluation.Seen(stimuli.select_stimuli(stimuli.ids[:4]))
    (metric,) = evaluation.make_metrics(names=["beyond"]).values()
    with pytest.raises(InputError, match=r"Metric 'beyond' gave \d+.*; its `range` is 0 to 1e-06"):
        metric.compare(seen.originals, seen.images)
