"""An atlas in a study: beside it, edited, refused and moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from _paths import ROOT

from latentcortex import _surfaces, cli
from latentcortex._pycortex import subject
from latentcortex.errors import InputError
from latentcortex.space import Atlas, Surface


def test_an_atlas_beside_the_study_is_found_from_everywhere_and_noticed_when_it_is_edited(
    folder_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = folder_study.parent / "data", folder_study.parent / "mine"
    small = np.load(data / "responses.npy")
    wide = np.random.default_rng(0).standard_normal((len(small), 20484)).astype(np.float32)
    wide[:, :500] = small[:, :1] + 0.1 * wide[:, :500]
    np.save(data / "responses.npy", wide)
    shutil.copytree(ROOT / "atlases" / "phantom", folder)
    (folder / "atlas.json").write_text('{"name": "phantom", "space": "fsaverage5"}')  # without hashes of its files
    text = folder_study.read_text().replace('root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    folder_study.write_text(text + '\n[report]\natlas = "mine"\nfigures = ["prediction-against-ceiling"]\n')
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", str(folder_study)]) == 0
    assert cli.main(["run", str(folder_study), "--out", "out", "--quiet"]) == 0
    assert "Regions are those of the atlas phantom." in Path("out", "sub-01.html").read_text()
    assert cli.main(["report", "out"]) == 0
    table = next(folder.glob("*_dseg.tsv"))
    table.write_text(table.read_text().replace("early", "late"))
    capsys.readouterr()
    assert cli.main(["report", "out"]) == 2
    assert "is not as it was when its regions were scored" in capsys.readouterr().err


def test_check_refuses_what_a_run_refuses(folder_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = folder_study.read_text()
    for dataset, report, said in (
        ("", '[report]\natlas = "phantom"', "needs voxels of known position"),
        ('template = "fsaverage55"', "", "Did you mean 'fsaverage5'"),
        ("", '[report]\nviewer = "light"', "needs voxels with a place on cortex"),
    ):
        folder_study.write_text(text.replace('root = "data"', f'root = "data"\n{dataset}') + f"\n{report}\n")
        assert cli.main(["check", str(folder_study)]) == 2
        assert said in capsys.readouterr().err


def test_a_subject_that_was_moved_is_named(tmp_path: Path) -> None:
    subject.build(tmp_path / "db")
    space = Surface(str(tmp_path / "db" / "fsaverage5"))
    (tmp_path / "db").rename(tmp_path / "elsewhere")
    _surfaces.layout.cache_clear()  # as in another process
    with pytest.raises(InputError, match=r"which is not there; was the subject moved\?"):
        Atlas.find("overlays", space)
