"""What a stranger adds from outside the package: one file with a dataset, found by its name in a study file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentcortex import cli, datasets
from latentcortex.errors import InputError
from latentcortex.study import Study
from latentcortex.study.material import Material

DATASET = '''
"""Eighty stimuli of one grey each, and voxels that follow it more or less."""

import numpy as np
import pandas as pd

from latentcortex import Responses, Stimuli
from latentcortex.space import Bare


class Greys:
    def __init__(self, participants=("01",), *, n_voxels: int = 20) -> None:
        self.participants, self.n_voxels = tuple(participants), n_voxels
        self.names = [f"grey{i:02d}" for i in range(80)]
        self.grey = np.random.default_rng(0).random((80, 4, 4))

    def stimuli(self) -> Stimuli:
        table = pd.DataFrame({"captions": [()] * 80}, index=pd.Index(self.names, name="stimulus_id"))
        pictures = dict(zip(self.names, (self.grey * 255).astype(np.uint8)))
        return Stimuli(table, lambda name: np.repeat(np.kron(pictures[name], np.ones((4, 4), "u1"))[..., None], 3, -1))

    def rows(self, participant):
        split = ["test" if i % 4 == 0 else "train" for i in range(80)]
        return pd.DataFrame({"stimulus": self.names, "session": "1", "run": "1", "n_repeats": 1, "split": split})

    def space(self, participant):
        return Bare(self.n_voxels)

    def responses(self, participant, voxels=slice(None)):
        numbers = range(*voxels.indices(self.n_voxels))
        drawn = [np.random.default_rng([1, i]).standard_normal(80 + 16) for i in numbers]
        data = [self.grey.reshape(80, 16) @ one[80:] + 0.1 * one[:80] for one in drawn]
        rows = self.rows(participant).drop(columns="split")
        return Responses(np.stack(data, axis=1), rows, Bare(len(numbers)))

    def tables(self, participant):
        return {}

    def probe(self):
        return None

    def fingerprint(self, participant):
        return f"greys 1 {participant} {self.n_voxels}"
'''

STUDY = """
[dataset]
name = "greys"
n_voxels = 12

[extractor]
name = "pixels"
size = 4

[estimator]
name = "ridge"

[analyses]
run = ["latents"]
"""


@pytest.fixture
def from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder outside of the package from which its file can be imported, and a study that names it."""
    (tmp_path / "somebodys_dataset.py").write_text(DATASET, encoding="utf-8")
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    datasets.SHELF.where.pop("greys", None)


def test_a_dataset_that_is_put_on_the_shelf_runs_a_study(from_outside: Path) -> None:
    datasets.SHELF.add("greys", "somebodys_dataset:Greys")
    Study.read(from_outside / "study.toml").run(from_outside / "out", progress=False)
    (row,) = json.loads((from_outside / "out" / "summary.json").read_text())["results"]
    assert row["n_significant"] == 12


def test_a_dataset_of_an_installed_package_is_found_by_its_entry_point(from_outside: Path, capsys) -> None:
    offered = from_outside / "somebodys_dataset-1.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-dataset\nVersion: 1\n")
    (offered / "entry_points.txt").write_text("[latentcortex.datasets]\ngreys = somebodys_dataset:Greys\n")
    assert cli.main(["check", str(from_outside / "study.toml")]) == 0
    assert "Participant 01" in capsys.readouterr().out
    with pytest.raises(InputError, match="Did you mean 'greys'"):
        datasets.make("grays")


def test_a_name_that_is_taken_or_no_place_is_refused() -> None:
    with pytest.raises(InputError, match=r"There is a dataset 'folder' already: latentcortex.datasets.folder:Folder"):
        datasets.SHELF.add("folder", "somebodys:Folder")
    with pytest.raises(InputError, match=r"must be given as 'module:Class'; got 'somebodys.Folder'"):
        datasets.SHELF.add("theirs", "somebodys.Folder")


def test_a_dataset_that_gives_other_voxels_or_trials_than_asked_for_is_refused(from_outside: Path) -> None:
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
        (from_outside / f"{name}.py").write_text(DATASET.replace(old, new), encoding="utf-8")
        importlib.invalidate_caches()
        datasets.SHELF.where["greys"] = f"{name}:Greys"
        (from_outside / "study.toml").write_text(STUDY.replace("n_voxels = 12", "n_voxels = 200"), encoding="utf-8")
        with pytest.raises(InputError, match=says):
            Material(Study.read(from_outside / "study.toml"), from_outside / "out", progress=False).responses(
                "01", slice(0, 9)
            )
