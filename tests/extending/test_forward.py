"""What a stranger adds from outside the package: one file that names itself on a shelf."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _strangers import DATASET, STUDY, forgetting, methods_of, offer, write_module
from _studies import write_folder_study

import latentcortex as lc
from latentcortex import analyses, cli, datasets, estimators, executors, reporting, statistics
from latentcortex._arrays import TILE, tiles
from latentcortex.encoding import SHARES
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.reporting import region_tables
from latentcortex.reporting.tables import roi_table
from latentcortex.study import Study
from latentcortex.study.data import StudyData

EXECUTOR = '''
"""Runs cells from the last to the first, each on a copy of what it is sent, as another process would."""

import pickle

from latentcortex import executors


class Backwards:
    def __init__(self, *, twice: bool = False) -> None:
        self.times = 2 if twice else 1

    def map(self, function, cells):
        sent = [pickle.dumps((function, cell)) for cell in cells]
        done = {}
        for i in reversed(range(len(sent))):
            for _ in range(self.times):
                own, cell = pickle.loads(sent[i])
                done[i] = executors.with_threads(1, own, cell)
        for i in range(len(sent)):
            yield pickle.loads(pickle.dumps(done[i]))


executors.SHELF.where["backwards"] = f"{__name__}:Backwards"
'''

ROWS = np.random.default_rng(0).standard_normal((60, 40))


def penalties(voxels: slice) -> np.ndarray:
    """A cell: the penalties of some voxels of responses that depend on nothing else."""
    y = ROWS[:, :3] @ np.random.default_rng(1).standard_normal((3, 2 * TILE + 9))
    prepared = estimators.prepare(estimators.make("ridge", selection="gcv"), {"x": ROWS}, sample=y[:, ::50])
    return prepared.fit(y[:, voxels]).alphas_


@pytest.fixture
def from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of the package from which files can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_executor_from_outside_is_found_by_name_and_gives_the_same_bits(from_outside: Path) -> None:
    (from_outside / "somebodys_executor.py").write_text(EXECUTOR, encoding="utf-8")
    importlib.import_module("somebodys_executor")
    try:
        theirs = executors.make("backwards", twice=True)
        cells = tiles(2 * TILE + 9)
        expected = list(executors.make("threads", n_workers=2).map(penalties, cells))
        np.testing.assert_array_equal(np.concatenate(list(theirs.map(penalties, cells))), np.concatenate(expected))
    finally:
        del executors.SHELF.where["backwards"]


TWIN = """
twin = true

[run]
"""
ACROSS_FOLDS = """
null = "permutation"
n_permutations = 12

[splits]
cross_validation = 3

[run]
"""


@pytest.mark.parametrize("setting", [TWIN, ACROSS_FOLDS], ids=["a test set and its control", "across folds"])
def test_every_cell_of_a_study_can_be_sent_elsewhere(from_outside: Path, setting: str) -> None:
    (from_outside / "somebodys_executor.py").write_text(EXECUTOR, encoding="utf-8")
    file = write_folder_study(from_outside)
    given = file.read_text() + setting
    try:
        importlib.import_module("somebodys_executor")
        executors.SHELF.where["backwards"] = "somebodys_executor:Backwards"
        for name in ("threads", "backwards"):
            file.write_text(f'{given}executor = "{name}"\n')
            Study.read(file).run(from_outside / name, until="encode", progress=False)
    finally:
        executors.SHELF.where.pop("backwards", None)
    theirs, ours = (
        {path.name: path.read_bytes() for path in (from_outside / name / "work").iterdir()}
        for name in ("backwards", "threads")
    )
    assert any("latents" in name for name in ours)
    assert any("ceiling" in name for name in ours)
    assert theirs == ours


@pytest.fixture
def greys(from_outside: Path) -> Iterator[Path]:
    """The folder with somebody's dataset, and a study that names it."""
    write_module(from_outside, "somebodys_dataset", DATASET)
    (from_outside / "study.toml").write_text(STUDY, encoding="utf-8")
    with forgetting():
        yield from_outside


def test_a_dataset_that_is_put_on_the_shelf_runs_a_study(greys: Path) -> None:
    datasets.SHELF.add("greys", "somebodys_dataset:Greys")
    Study.read(greys / "study.toml").run(greys / "out", progress=False)
    (row,) = json.loads((greys / "out" / "summary.json").read_text())["results"]
    assert row["n_significant"] == 12


def test_a_dataset_of_an_installed_package_is_found_by_its_entry_point(greys: Path, capsys) -> None:
    offer(greys, {"datasets": {"greys": "somebodys_dataset:Greys"}})
    assert cli.main(["check", str(greys / "study.toml")]) == 0
    assert "Participant 01" in capsys.readouterr().out
    with pytest.raises(InputError, match="Did you mean 'greys'"):
        datasets.make("grays")


def test_a_name_that_is_taken_or_no_place_is_refused() -> None:
    with pytest.raises(InputError, match=r"There is a dataset 'folder' already: latentcortex.datasets.folder:Folder"):
        datasets.SHELF.add("folder", "somebodys:Folder")
    with pytest.raises(InputError, match=r"must be given as 'module:Class'; got 'somebodys.Folder'"):
        datasets.SHELF.add("theirs", "somebodys.Folder")


def test_a_dataset_that_gives_other_voxels_or_trials_than_asked_for_is_refused(greys: Path) -> None:
    whole = "numbers = range(*voxels.indices(self.n_voxels))"
    for old, new, says in (
        (
            whole,
            "numbers = range(self.n_voxels)",
            r"\(80, 200\) of participant 01 for voxels \d+ to \d+; expected \(80",
        ),
        (
            '"stimulus": self.names,',
            '"stimulus": list(np.random.permutation(self.names)),',
            "in the order of its `rows`",
        ),
        ('"session": "1", ', "", "The rows of responses lack session"),
    ):
        name = f"somebodys_{len(says)}"
        (greys / f"{name}.py").write_text(DATASET.replace(old, new), encoding="utf-8")
        importlib.invalidate_caches()
        datasets.SHELF.where["greys"] = f"{name}:Greys"
        (greys / "study.toml").write_text(STUDY.replace("n_voxels = 12", "n_voxels = 200"), encoding="utf-8")
        with pytest.raises(InputError, match=says):
            StudyData(Study.read(greys / "study.toml"), greys / "out", progress=False).reader("01")(slice(0, 9))


METHODS = '''
    references = """
@article{weber1834,
  author = {Weber, E. H.},
  year = {1834},
  title = {{De pulsu, resorptione, auditu et tactu}},
}
"""

    def methods(self, participant):
        return f"Voxels of participant {participant} follow the grey of one picture [@weber1834]."
'''


def test_a_part_from_outside_that_has_methods_gets_its_sentences_and_references_into_the_report(greys: Path) -> None:
    (greys / "telling_dataset.py").write_text(DATASET + METHODS, encoding="utf-8")
    importlib.invalidate_caches()
    datasets.SHELF.add("greys", "telling_dataset:Greys")
    Study.read(greys / "study.toml").run(greys / "out", progress=False)
    said = methods_of((greys / "out" / "sub-01.html").read_text())
    assert "<p>Voxels of participant 01 follow the grey of one picture (Weber, 1834). Responses of" in said
    assert "<li>Weber, E. H. (1834). De pulsu, resorptione, auditu et tactu.</li>" in said
    keys = {
        line[line.index("{") + 1 : -1]
        for line in (greys / "out/references.bib").read_text().splitlines()
        if line[:1] == "@"
    }
    assert keys == {"benjamini1995", "latentcortex", "weber1834"}
    assert "no description" not in said


def test_a_part_from_outside_without_methods_is_named_in_one_sentence(greys: Path) -> None:
    datasets.SHELF.add("greys", "somebodys_dataset:Greys")
    Study.read(greys / "study.toml").run(greys / "out", progress=False)
    said = methods_of((greys / "out" / "sub-01.html").read_text())
    expected = "<p>The dataset was greys (n_voxels: 12), called from latentcortex "
    assert said.count(expected) == 1
    assert said.count("it gives no description of what it does.") == 1


def test_sentences_that_cite_what_is_not_known_stop_a_study_before_anything_is_written(greys: Path) -> None:
    (greys / "careless_dataset.py").write_text(
        DATASET + METHODS.replace("weber1834,", "fechner1860,"), encoding="utf-8"
    )
    importlib.invalidate_caches()
    datasets.SHELF.add("greys", "careless_dataset:Greys")
    with pytest.raises(
        InputError, match="`methods` of dataset 'greys' cites weber1834, of which no reference is given"
    ):
        Study.read(greys / "study.toml").run(greys / "out", progress=False)
    assert not (greys / "out").exists()


ANALYSIS = '''
"""Pixels and contrast: each alone, compared, and both jointly."""

from latentcortex.analyses import Analysis, ModelGroup
from latentcortex.analyses.paired import Pairs


class Contrast(Analysis):
    title = "What contrast adds to pixels"
    needs = "pixels and contrast"
    methods = "Contrast was compared with pixels in each voxel."
    needs_test_set = True
    figures = ("accuracy-flat",)

    @classmethod
    def choose(cls, bands):
        both = ("pixels", "contrast")
        return [("pixels",), ("contrast",), both] if set(both) <= set(bands.names) else []

    def plan(self, scorer):
        *alone, both = self.models
        return [ModelGroup(tuple(alone), Pairs()), ModelGroup((both,))]
'''
CONTRAST = """
[dataset]
name = "greys"
on_cortex = true

[extractor]
name = "pixels"
size = 4
bands = ["pixels", "contrast"]

[analyses]
run = ["contrast-gain"]

[inference]
n_refits = 0
"""


@pytest.fixture
def contrast(greys: Path) -> Iterator[Path]:
    """The folder with somebody's dataset and somebody's analysis, and a study that names both."""
    datasets.SHELF.add("greys", "somebodys_dataset:Greys")
    (greys / "somebodys_analysis.py").write_text(ANALYSIS, encoding="utf-8")
    (greys / "study.toml").write_text(CONTRAST, encoding="utf-8")
    importlib.invalidate_caches()
    yield greys
    analyses.SHELF.where.pop("contrast-gain", None)


def test_an_analysis_that_is_put_on_the_shelf_runs_a_study_up_to_its_title_in_the_report(contrast: Path) -> None:
    analyses.SHELF.add("contrast-gain", "somebodys_analysis:Contrast")
    study, out = Study.read(contrast / "study.toml"), contrast / "out"
    study.run(out, progress=False)
    maps = Maps.load(out, participant="01")
    assert set(maps.columns["analysis"]) == {"contrast-gain"}
    assert set(maps.find_columns(statistic="r").columns["model"]) == {"pixels", "contrast", "pixels+contrast"}
    assert len(maps.find_columns(model="pixels", band="contrast", statistic="differenceMask").columns) == 1
    page = (out / "sub-01.html").read_text(encoding="utf-8")
    assert '<h2 id="contrast-gain">What contrast adds to pixels</h2>' in page
    assert "Contrast was compared with pixels in each voxel." in page
    assert [path.name for path in (out / "sub-01" / "figures").iterdir()] == ["contrast-gain-flat.png"]
    assert page.index('id="contrast-gain"') < page.index("Prediction accuracy (r) of each model; only voxels")

    del analyses.SHELF.where["contrast-gain"]  # a page is made again from its folder alone
    (out / "sub-01.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    assert (out / "sub-01.html").read_text(encoding="utf-8") == page


def test_a_figure_that_an_analysis_names_and_nobody_has_stops_a_study_before_anything_is_computed(
    contrast: Path, capsys
) -> None:
    (contrast / "careless_analysis.py").write_text(ANALYSIS.replace("accuracy-flat", "accuracy-flad"), encoding="utf-8")
    importlib.invalidate_caches()
    analyses.SHELF.add("contrast-gain", "careless_analysis:Contrast")
    assert cli.main(["run", str(contrast / "study.toml"), "--out", str(contrast / "out"), "--quiet"]) == 2
    said = "Unknown figure of the analysis 'contrast-gain': 'accuracy-flad'. Did you mean 'accuracy-flat'?"
    assert said in capsys.readouterr().err
    assert not (contrast / "out").exists()


def test_an_analysis_of_an_installed_package_is_picked_and_refused_by_what_it_says_of_itself(
    contrast: Path, capsys
) -> None:
    offer(contrast, {"analyses": {"contrast-gain": "somebodys_analysis:Contrast"}})
    file = contrast / "study.toml"
    assert cli.main(["check", str(file)]) == 0
    for old, new, says in (
        ("contrast-gain", "contrast-gane", "Did you mean 'contrast-gain'?"),
        ('"pixels", "contrast"]', '"pixels"]', "Analysis 'contrast-gain' needs pixels and contrast; there are pixels."),
        ("[inference]", "[splits]\ncross_validation = 3\n\n[inference]", "The analysis 'contrast-gain' in `run` in"),
    ):
        file.write_text(CONTRAST.replace(old, new), encoding="utf-8")
        assert cli.main(["check", str(file)]) == 2
        assert says in capsys.readouterr().err


STATISTIC = '''
"""What each band explains when it is fitted alone, beside the shares of the joint model."""

import numpy as np

from latentcortex import scoring, statistics
from latentcortex.encoding import SHARES, Share

SOLE = statistics.add(
    statistics.Statistic(
        "soleR2",
        "R² alone",
        "fraction of variance",
        "R2 about the means of the band fitted alone",
        by_region="mean",
        on_page=True,
        relative="variance",
    )
)


def sole(held_out, bands):
    return np.stack([scoring.r2(held_out.y, held_out.nested[band,], offset=False) for band in bands])


SHARES["sole"] = Share((SOLE,), sole, nested=lambda bands: [(band,) for band in bands])
'''


@pytest.fixture
def sole(from_outside: Path) -> Iterator[Path]:
    """The folder with somebody's statistic, and a study that asks for it; it is unknown afterwards."""
    (from_outside / "somebodys_statistic.py").write_text(STATISTIC, encoding="utf-8")
    (from_outside / "study.toml").write_text(
        STUDY.replace("[analyses]", '[analyses]\nshares = ["product", "sole"]')
        .replace("greys", "folder")
        .replace("n_voxels = 12", 'root = "."'),
        encoding="utf-8",
    )
    importlib.invalidate_caches()
    yield from_outside
    SHARES.pop("sole", None)
    statistics._REGISTERED.pop("soleR2", None)


def test_a_statistic_of_one_file_is_in_sidecars_tables_by_region_and_maps(sole: Path) -> None:
    with pytest.raises(InputError, match="Unknown share 'sole'"):
        Study.read(sole / "study.toml")
    importlib.import_module("somebodys_statistic")
    assert "sole" in Study.read(sole / "study.toml").settings.analyses.shares

    rng = np.random.default_rng(0)
    ids, space = [f"s{i:03d}" for i in range(120)], lc.Surface("fsaverage5", np.arange(0, 20484, 500))
    bands = {name: rng.standard_normal((120, 6)).astype(np.float32) for name in ("z", "c")}
    y = np.concatenate(list(bands.values()), axis=1) @ rng.standard_normal((12, space.n_voxels))
    y += 2 * rng.standard_normal(y.shape)
    rows = pd.DataFrame({"stimulus": ids, "session": "1", "run": "1", "n_repeats": 1})
    responses, features = lc.Responses(y.astype(np.float32), rows, space), lc.Features.from_arrays(ids, bands)
    train, test = responses.split(test_ids=ids[80:])
    encoder = lc.Encoder(estimators.make("banded_ridge", seed=0)).fit(features, train)
    maps = encoder.score(features, test, shares=("unique", "common", "sole"))

    # Of two bands, what one explains alone is what it adds and what both have in common.
    (common,) = (values for values, _ in maps.find_columns(statistic="commonR2"))
    for band in bands:
        alone = maps.values(statistic="soleR2", band=band)
        np.testing.assert_allclose(alone, maps.values(statistic="uniqueR2", band=band) + common, atol=1e-5)
        assert np.nanmax(alone) > 0.2
    maps.save(sole / "out", participant="01")
    (sidecar,) = (sole / "out" / "sub-01" / "func").glob("*stat-soleR2*C_statmap.json")
    stated = json.loads(sidecar.read_text(encoding="utf-8"))
    assert (stated["Description"], stated["unit"]) == (
        "R2 about the means of the band fitted alone",
        "fraction of variance",
    )
    atlas = lc.Atlas.find("phantom", "fsaverage5")
    table = roi_table(reporting.Content("01", maps, atlas, {}, {}, {}, sole / "log"))
    assert table is not None
    assert set(table.loc[table["statistic"] == "soleR2", "band"]) == set(bands)
    (rows_of_page,) = region_tables(table).values()
    assert {"z beside c: R² alone", "c beside z: R² alone"} <= {row.mean_of for row in rows_of_page}
