"""A study file is checked whole before anything is computed, and what is written of its keys is what is checked."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import pytest
from _paths import ROOT
from annotated_types import Interval

import latentcortex
from latentcortex import cli, datasets, estimators, extractors
from latentcortex.errors import InputError, InputErrors
from latentcortex.study import Study, documents
from latentcortex.study.schema import FIGURE_SETTINGS, Settings

LDM = '[dataset]\nname = "phantom"\n[extractor]\nname = "ldm"\nmodel = "phantom"\n'
PIXELS = '[dataset]\nname = "phantom"\n[extractor]\nname = "pixels"\n'
FOLDER = '[dataset]\nname = "folder"\nroot = "."\nKEY\n[extractor]\nname = "pixels"\n'
HIMALAYA = PIXELS + '[estimator]\nname = "himalaya"\n'

MISTAKES = {
    # What used to be a traceback, to pass, or to be found after hours.
    LDM + "layers = 5": (
        "[extractor]: `layers` of",
        "a list of distinct names or a table, each a string; got 5",
    ),
    LDM + 'layers = "mid"': ("`layers` of extractor 'ldm'", "got 'mid'"),
    HIMALAYA + 'scale = "tarce"': ("[estimator] scale: Unknown", "'tarce'. Did you mean 'trace'?"),
    PIXELS + '[estimator]\nbackend = "nunpy"': (
        "[estimator] backend:",
        "'nunpy'. Did you mean 'numpy'? Known: auto, cuda",
    ),
    PIXELS + '[estimator]\nmixtures = "equl"': ("`mixtures` of estimator", "got 'equl'. Did you mean 'equal'?"),
    # Wrong types.
    PIXELS + 'size = "5"': ("[extractor]: `size` of", "a whole number of at least 1; got '5'"),
    PIXELS + "size = 5.0": ("`size` of", "got 5.0"),
    PIXELS + "size = true": ("`size` of", "got True"),
    PIXELS + "[inference]\nq = true": ("`q` in [inference] must be a number above 0 and below 1; got True",),
    PIXELS + "[inference]\nidentifiability = 1": ("`identifiability` in [inference] must be true or false; got 1",),
    PIXELS + '[estimator]\nalphas = ["1"]': ("`alphas` of estimator", "got '1' as entry 1"),
    PIXELS + "[report]\natlas = 3": ("`atlas` in [report] must be a string; got 3",),
    PIXELS + '[analyses]\nrun = "latents"': ("`run` in [analyses] must be a list", "got 'latents'"),
    PIXELS + "[splits]\nunit = 2": ("`unit` in [splits] must be one of stimulus, session, run, cluster; got 2",),
    PIXELS + "[decoding]\nrois = 3": ("`rois` in [decoding] must be a preset or a table; got 3",),
    "inference = 3\n" + PIXELS: ("inference must be a section, [inference]; got 3",),
    PIXELS + "[estimator]\nname = 3": ("[estimator] needs `name`, a string",),
    PIXELS + "[estimator]\ncv = 1979-05-27": ("`cv` of estimator", "a whole number of at least 2; got"),
    # Out of range.
    PIXELS + "[inference]\nq = 5": ("got 5. Did you mean 0.05?",),
    PIXELS + "[inference]\nq = nan": ("`q` in [inference] must be a finite number", "got nan"),
    PIXELS + "[report]\nwidth_mm = inf": ("`width_mm` in [report] must be a finite number from 60 to 600; got inf",),
    LDM + "[reconstructor]\nguidance = nan": ("`guidance` of reconstructor 'ldm' must be a finite number; got nan",),
    PIXELS + "[inference]\nn_permutations = -1": ("`n_permutations` in [inference]", "at least 1; got -1"),
    PIXELS + "[inference]\nn_refits = 3": ("`n_refits` in [inference] must be 0 (none) or at least 5; got 3",),
    PIXELS + "[splits]\ncross_validation = 1": ("must be 0 (a test set) or at least 2; got 1",),
    PIXELS + "[splits]\nn_clusters = 24": ("`n_clusters` in [splits] must be a whole number of at least 25; got 24",),
    PIXELS + "[run]\nchunk_voxels = 1000": ("`chunk_voxels` in [run]", "a multiple of 1024; got 1000"),
    PIXELS + "[run]\nn_workers = -2": ("`n_workers` in [run] must be a whole number of at least 0; got -2",),
    PIXELS + "[run]\nscratch_gb = -0.5": ("`scratch_gb` in [run] must be a number of at least 0; got -0.5",),
    LDM + "strengths = [20, 101]": ("`strengths` of extractor", "from 1 to 100", "got 101 as entry 2"),
    LDM + "batch = 0": ("`batch` of extractor 'ldm' must be a whole number of at least 1; got 0",),
    # Names that there are not.
    PIXELS + "[inferense]\nq = 0.05": ("Unknown section 'inferense'. Did you mean 'inference'?",),
    PIXELS + "[inference]\nqq = 0.05": ("Unknown key in [inference]: 'qq'.", "Known: correction,"),
    PIXELS + "sise = 5": ("[extractor]", "'sise'. Did you mean 'size'?"),
    '[dataset]\nname = "fantom"\n[extractor]\nname = "pixels"': ("[dataset] name: Unknown dataset 'fantom'.",),
    LDM + 'dtype = "bfloat61"': ("[extractor] dtype:", "'bfloat61'. Did you mean 'bfloat16'?"),
    LDM + 'device = "gpu"': (
        "`device` of extractor 'ldm' must be a device: 'cpu', 'cuda', 'cuda:1', 'mps'; got 'gpu'",
    ),
    HIMALAYA + 'backend = "tensorflow"': ("[estimator] backend:", "Known: cupy, numpy, torch, torch_cuda, torch_mps"),
    PIXELS + '[check]\nallow = ["stradling"]': ("[check] allow, entry 1: Unknown rule", "Did you mean 'straddling'?"),
    PIXELS + '[run]\nexecutor = "thread"': ("[run] executor: Unknown executor 'thread'. Did you mean 'threads'?",),
    PIXELS + "[run]\nexecutor = 3": ("`executor` must be one of threads, or a table", "got 3"),
    PIXELS + "[run]\nexecutor = {n_workers = 0}": (
        "[run] executor.n_workers:",
        "of executor 'threads' must be a whole number",
    ),
    PIXELS + '[run]\nexecutor = {name = "threads", n_worker = 2}': ("'n_worker'. Did you mean 'n_workers'?",),
    # Lists with one bad entry, none, or the same twice.
    PIXELS + '[analyses]\nrun = ["latents", "latent"]': (
        "[analyses] run, entry 2: Unknown analysis 'latent'. Did you mean 'latents'?",
    ),
    PIXELS + "[analyses]\nshares = []": ("`shares` in [analyses]", "at least one; got []"),
    PIXELS + '[decoding]\nbands = ["z", "z"]': ("`bands` in [decoding] must be a list of distinct names",),
    PIXELS + "[report]\nfigures = []": ("`figures` in [report]", "at least one; got []"),
    PIXELS + 'bands = ["pixels", "gabour"]': (
        "[extractor] bands, entry 2: Unknown band of pixels 'gabour'. Did you mean 'gabor'?",
    ),
    PIXELS + '[decoding]\nrois = {z = "early"}': ("[decoding] rois:", "Band z needs a list of regions"),
    PIXELS + "[decoding]\nrois = {z = 1}": ("[decoding] rois:", "Band z needs a list of regions"),
    LDM + 'bands = ["z", "c", "z"]': (
        "`bands` of extractor 'ldm' must be a list of distinct names; got ['z', 'c', 'z']",
    ),
    FOLDER.replace("KEY", 'participants = ["01", "01"]'): ("`participants` of", "a list of distinct entries"),
    FOLDER.replace("KEY", 'participants = ["../x"]'): (
        "`participants` of",
        "letters and digits",
        "got '../x' as entry 1",
    ),
    # A key that must be there.
    FOLDER.replace('root = "."\nKEY', ""): ("[dataset] root:", "missing a required argument: 'root'"),
    '[extractor]\nname = "pixels"': ("[dataset] needs `name`, a string",),
    # Keys that exclude each other.
    PIXELS + '[splits]\ntest = "far"\ncross_validation = 5': ("exclude each other",),
    PIXELS + '[splits]\nunit = "run"': ("unit = 'run' in [splits] is what folds hold out: set cross_validation",),
    PIXELS + '[splits]\ncross_validation = 5\n[inference]\nnull = "analytic"': ("not valid for predictions pooled",),
    PIXELS + '[inference]\nshare = "freedman-lane"': ("[inference] tests unique shares: add 'unique' to `shares`",),
    PIXELS + "[splits]\ncross_validation = 5\n[analyses]\nn_dims = 9": ("`n_dims` in [analyses] needs a test set",),
}
"""Study files with one mistake each, and what the one line about it says."""


def refused(path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a study that must be refused; return the lines that are said."""
    assert cli.main(["run", str(path), "--out", str(out), "--quiet"]) == 2
    assert not out.exists()
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_study_is_one_line_that_names_file_section_key_and_what_is_allowed(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    (line,) = refused(path, tmp_path / "out", capsys)
    assert line.startswith(f"latentcortex: {path}: ")
    for said in MISTAKES[text]:
        assert said in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PIXELS.replace("pixels", "categories") + 'words = ["cat", " Cat"]', "[extractor]: words must differ in more"),
        (FOLDER.replace("KEY", 'mask = "mask.nii"'), "[dataset]: `mask` in [dataset] needs `reference`"),
    ],
)
def test_what_only_the_class_itself_can_tell_names_file_and_section_too(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    (line,) = refused(path, tmp_path / "out", capsys)
    assert line.startswith(f"latentcortex: {path}: ")
    assert said in line


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        '[dataset]\nname = "fantom"\n[extractor]\nname = "ldm"\nlayers = 5\ndtype = "float61"\nbatsh = 3\n'
        '[estimator]\nbackend = "nunpy"\nmixtures = "equl"\n[inference]\nq = "0.05"\n[raport]\n'
        '[splits]\nunit = "run"\n[analyses]\nn_dims = -1\nrun = ["latent", "latents", "laten", 3]\n'
    )
    lines = refused(path, tmp_path / "out", capsys)
    places = ["'fantom'", "`layers`", "'float61'", "'batsh'", "`mixtures`", "'nunpy'", "`q`", "'raport'", "`n_dims`"]
    for place in (*places, "'latent'.", "'laten'", "got 3 as entry 4", "set cross_validation, too"):
        assert [place in line for line in lines].count(True) == 1, place
    assert len(lines) == len(places) + 4
    assert all(line.startswith(f"latentcortex: {path}: ") for line in lines)


def test_keys_exclude_each_other_only_where_each_is_allowed_by_itself() -> None:
    sections = {"dataset": {"name": "phantom"}, "extractor": {"name": "pixels"}}
    with pytest.raises(InputErrors) as error:
        Settings.read(sections | {"splits": {"unit": "run", "cross_validation": "5"}})
    assert [line for line in error.value.lines if "set cross_validation" in line] == []


ANYTHING = [-1, 0, 10**30, 5.5, float("nan"), True, "", "x", [], [1], ["a", "a"], [{}], {}, {"a": 1}, {"a": ["b"]}]


@pytest.mark.parametrize("section", Settings.model_fields)
def test_whatever_stands_in_a_file_is_read_or_refused_in_lines(section: str) -> None:
    sections, field = {"dataset": {"name": "phantom"}, "extractor": {"name": "pixels"}}, Settings.model_fields[section]
    models = [mark.model(name) for mark in field.metadata for name in mark.shelf.where] or [field.annotation]
    for model in models:
        named = {"name": model.model_fields["name"].annotation.__args__[0]} if field.metadata else {}
        for given in [*ANYTHING, *({**named, key: one} for key in [*model.model_fields, "copy"] for one in ANYTHING)]:
            lines = ["read"]
            try:
                Settings.read({**sections, section: given})
            except InputErrors as error:
                lines = [line for line in error.lines if section in line and "\n" not in line]
            assert lines, given


def test_types_are_strict_but_a_whole_number_is_a_number() -> None:
    sections = {"dataset": {"name": "phantom"}, "extractor": {"name": "pixels"}}
    settings = Settings.read(sections | {"report": {"width_mm": 85}, "run": {"scratch_gb": 1}})
    assert (settings.report.width_mm, type(settings.report.width_mm)) == (85.0, float)
    assert settings == Settings.read(sections | {"report": {"width_mm": 85.0}, "run": {"scratch_gb": 1.0}})


@pytest.mark.parametrize(
    ("given", "arguments"), [("threads", {}), ({}, {}), ({"name": "threads", "n_workers": 2}, {"n_workers": 2})]
)
def test_an_executor_is_a_name_or_a_table(given: Any, arguments: dict[str, int]) -> None:
    sections = {"dataset": {"name": "phantom"}, "extractor": {"name": "pixels"}, "run": {"executor": given}}
    settings = Settings.read(sections)
    assert (settings.run.executor.name, settings.run.executor.arguments) == ("threads", arguments)
    assert Study(settings).executor().n_workers == arguments.get("n_workers")
    workers = settings.model_copy(update={"run": settings.run.model_copy(update={"n_workers": 3})})
    assert Study(workers).executor().n_workers == arguments.get("n_workers", 3)
    assert jsonschema.Draft202012Validator(documents.json_schema()).is_valid(sections)
    json.dumps(settings.plain())


def test_no_number_depends_on_how_a_study_is_computed(folder_study: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "out", folder_study.read_text()
    Study.read(folder_study).run(out, until="extract", progress=False)
    folder_study.write_text(text + "\n[run]\nn_workers = 1\nchunk_voxels = 1024\nscratch_gb = 1\n")
    assert not Study.read(folder_study).run(out, until="extract", progress=False).computed
    folder_study.write_text(text.replace("[estimator]", "[estimator]\nprogress = true"))
    assert not Study.read(folder_study).run(out, until="extract", progress=False).computed
    for changed, key in (
        (text + "\n[run]\nseed = 1\n", "run.seed"),
        (text.replace("q = 0.05", "q = 0.1"), "inference.q"),
    ):
        folder_study.write_text(changed)
        with pytest.raises(InputError, match=rf"another study \({key}\)"):
            Study.read(folder_study).run(out, until="extract", progress=False)
    assert FIGURE_SETTINGS == ("figures", "width_mm", "format", "viewer")


# What is on a shelf, whoever put it there


class Saliency:
    """Where people look first.

    Parameters
    ----------
    sigma : float
        Blur, degrees.
    map : {"itti", "deepgaze"}
        The model.
    levels : tuple of int, optional
        Of the pyramid.
    """

    def __init__(
        self,
        *,
        sigma: Annotated[float, Interval(gt=0, le=10)],
        map: Literal["itti", "deepgaze"] = "itti",
        levels: tuple[int, int] | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        self.sigma, self.map, self.levels, self.mask = sigma, map, levels, mask


@pytest.fixture
def saliency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stranger's class on the shelf."""
    monkeypatch.setitem(extractors.SHELF.where, "saliency", f"{__name__}:Saliency")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Saliency.__module__])


@pytest.mark.usefixtures("saliency")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "missing a required argument: 'sigma'"),
        ({"sigma": 0}, "must be a number above 0"),
        ({"sigma": 1, "map": "ittti"}, "'ittti'. Did you mean 'itti'? Known: deepgaze, itti"),
        ({"sigma": 1, "levels": [1]}, "`levels` of extractor 'saliency'"),
        ({"sigma": 1, "levels": [1, 2.5]}, "got 2.5 as entry 2"),
        ({"sigma": 1, "mask": [["a"]]}, "`mask` of extractor 'saliency' must be a list of numbers"),
        ({"sigma": 1, "sigmma": 1}, "Did you mean 'sigma'"),
    ],
)
def test_a_strangers_class_is_checked_by_its_signature(given: dict[str, Any], said: str) -> None:
    sections = {"dataset": {"name": "phantom"}, "extractor": {"name": "saliency", **given}}
    with pytest.raises(InputErrors) as error:
        Settings.read(sections)
    (line,) = error.value.lines
    assert "[extractor]" in line
    assert said in line


@pytest.mark.usefixtures("saliency")
def test_a_strangers_class_is_in_what_is_written_of_the_keys() -> None:
    assert "Blur, degrees." in documents.every_key()
    assert '### name = "saliency"' in documents.tables()
    given = {"dataset": {"name": "phantom"}, "extractor": {"name": "saliency", "sigma": 2}}
    check = jsonschema.Draft202012Validator(documents.json_schema())
    assert check.is_valid(given)
    assert not check.is_valid(given | {"extractor": {"name": "saliency", "sigma": 0}})
    assert extractors.make("saliency", sigma=np.float32(2), mask=np.ones((2, 2))).mask.shape == (2, 2)


def test_arguments_in_python_may_be_arrays_and_numbers_of_numpy() -> None:
    model = estimators.make("banded_ridge", alphas=np.logspace(0, 2, 3), cv=np.int64(4), mixtures=np.eye(2), scale=None)
    assert (model.cv, model.scale, len(model.alphas)) == (4, None, 3)
    with pytest.raises(InputErrors, match=r"alphas.*\n.*cv") as error:
        estimators.make("banded_ridge", alphas=[np.nan], cv=True)
    assert len(error.value.lines) == 2


class Blurred:
    """Another extractor's bands, blurred.

    Parameters
    ----------
    source : Saliency
        The other extractor.
    """

    def __init__(self, source: Saliency, *, weights: np.ndarray | None) -> None:
        self.source, self.weights = source, weights


def test_what_no_file_can_say_may_be_given_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extractors.SHELF.where, "blurred", f"{__name__}:Blurred")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Blurred.__module__])
    source = Saliency(sigma=1.0)
    assert extractors.make("blurred", source=source, weights=np.ones(100_000)).source is source
    assert extractors.make("blurred", source=source, weights=None).weights is None
    with pytest.raises(InputError, match="missing a required argument: 'weights'"):
        extractors.make("blurred", source=source)


# What is written of the keys


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("examples/every_key.toml", documents.every_key),
        ("docs/keys.md", documents.tables),
        ("docs/study.schema.json", documents.schema_text),
    ],
)
def test_what_the_repository_says_of_the_keys_is_what_is_checked(path: str, written: Any) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == written(), "write it again with `latentcortex schema`"


@pytest.mark.parametrize(("option", "path"), [([], "docs/study.schema.json"), (["--toml"], "examples/every_key.toml")])
def test_the_command_line_writes_them(option: list[str], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", *option]) == 0
    assert capsys.readouterr().out == (ROOT / path).read_text(encoding="utf-8")


def studies() -> list[Path]:
    """List the study files of the repository."""
    places = [ROOT / "examples", Path(latentcortex.__file__).parent, ROOT / "benchmarks"]
    found = [path for place in places for path in place.rglob("*.toml") if "[dataset]" in path.read_text()]
    assert len(found) >= 3
    return found


def test_the_json_schema_is_one_and_accepts_every_study_of_the_repository() -> None:
    schema = json.loads(documents.schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for path in studies():
        assert list(check.iter_errors(tomllib.loads(path.read_text(encoding="utf-8")))) == [], path


@pytest.mark.parametrize("text", [text for text in MISTAKES if "exclude each other" not in MISTAKES[text][0]])
def test_the_json_schema_refuses_what_a_study_may_not_say(text: str) -> None:
    given = tomllib.loads(text)
    between_keys = any(said in " ".join(MISTAKES[text]) for said in ("folds", "needs a test", "tests unique", "pooled"))
    no_json = "nan" in text or "inf" in text.split() or "1979" in text
    valid = jsonschema.Draft202012Validator(documents.json_schema()).is_valid(given)
    assert valid == between_keys or no_json or "size = 5.0" in text


def test_every_row_of_the_tables_is_one_line_of_four_cells() -> None:
    rows = [line for line in documents.tables().splitlines() if line.startswith("| `")]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 and row.endswith(" |") for row in rows)
    assert len(rows) > 90


def test_every_key_has_a_meaning() -> None:
    for section, field in Settings.model_fields.items():
        for mark in field.metadata:
            for name in mark.shelf.where:
                for key, of_key in mark.model(name).model_fields.items():
                    assert key == "name" or of_key.description, (section, name, key)
        if not field.metadata:
            for key, of_key in field.annotation.model_fields.items():
                assert of_key.description, (section, key)
    assert datasets.SHELF.where.keys() <= {"algonauts2023", "bdpy", "folder", "glmsingle", "nsd", "phantom"}
