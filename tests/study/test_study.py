"""A study runs, skips what is done, goes on where it was killed, and says what it did."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _paths import ROOT

from latentcortex import cli, reporting
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.study import Study
from latentcortex.study.schema import Settings

SUMMARY_KEYS = {
    "participant",
    "analysis",
    "band",
    "statistic",
    "n_voxels",
    "n_valid",
    "n_significant",
    "n_control",
    "null_fraction",
    "n_false",
    "n_false_low",
    "n_false_high",
    "correction",
    "q",
    "family",
    "score_max",
    "score_median",
}


def outputs(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def maps_only(folder: Path) -> dict[str, bytes]:
    """Content of the files that hold numbers, without times or paths."""
    return {name: content for name, (_, content) in outputs(folder).items() if "/func/" in name or "block-" in name}


def test_a_study_finds_the_planted_voxels_and_no_others(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["results"]
    assert [set(row) for row in rows] == [SUMMARY_KEYS]
    assert rows[0]["band"] == "pixels"
    assert rows[0]["n_voxels"] == 30
    assert rows[0]["n_valid"] == 28  # one nan, one constant
    assert 9 <= rows[0]["n_significant"] <= 12  # ten are driven by the pixels


def test_summary_states_seconds_and_memory_of_each_stage(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    stages = json.loads((tmp_path / "out" / "summary.json").read_text())["stages"]
    assert {"extract", "encode", "report"} <= {row["stage"] for row in stages}
    assert all(row["seconds"] >= 0 and row["peak_bytes"] > 1e6 for row in stages)


def test_running_twice_computes_nothing_the_second_time(folder_study, tmp_path, capsys):
    arguments = ["run", str(folder_study), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(arguments) == 0
    before = outputs(tmp_path / "out")
    capsys.readouterr()
    assert cli.main(arguments) == 0
    assert outputs(tmp_path / "out") == before
    assert "Nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["write_dataset", "write", "write_summary"])
def test_a_run_killed_in_the_middle_goes_on_to_the_same_maps(folder_study, tmp_path, monkeypatch, broken):
    Study.read(folder_study).run(tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(reporting, broken, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Study.read(folder_study).run(tmp_path / "out", progress=False)
    (part,) = (tmp_path / "out" / "work").glob("sub-01_latents-*.arrays")
    done = part.stat().st_mtime_ns
    assert Study.read(folder_study).run(tmp_path / "out", progress=False).computed
    assert part.stat().st_mtime_ns == done
    assert maps_only(tmp_path / "out") == maps_only(tmp_path / "whole")


def test_a_deleted_output_is_made_again(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    (tmp_path / "out" / "sub-01.html").unlink()
    assert Study.read(folder_study).run(tmp_path / "out", progress=False).computed
    assert (tmp_path / "out" / "sub-01.html").is_file()


def test_stages_can_be_run_one_by_one(folder_study, tmp_path):
    study, out = Study.read(folder_study), tmp_path / "out"
    study.run(out, until="extract", progress=False)
    assert not (out / "work").exists()
    study.run(out, until="encode", progress=False)
    assert not (out / "sub-01.html").exists()
    assert not study.run(out, until="encode", progress=False).computed
    study.run(out, until="report", progress=False)
    assert (out / "sub-01.html").is_file()


def test_results_of_another_study_are_not_overwritten_unless_asked(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    changed = folder_study.with_name("changed.toml")
    changed.write_text(folder_study.read_text().replace("q = 0.05", "q = 0.01"))
    before = outputs(tmp_path / "out")
    with pytest.raises(InputError, match=r"another study \(inference.q\)"):
        Study.read(changed).run(tmp_path / "out", progress=False)
    assert outputs(tmp_path / "out") == before
    assert Study.read(changed).run(tmp_path / "out", overwrite=True, progress=False).computed


def test_the_refusal_of_another_study_names_what_differs(folder_study, tmp_path):
    out, data = tmp_path / "out", folder_study.parent / "data" / "responses.npy"
    text, values = folder_study.read_text(), data.read_bytes()
    Study.read(folder_study).run(out, progress=False, until="encode")
    folder_study.write_text(text + "\n[run]\nseed = 1\n")
    with pytest.raises(InputError, match=r"another study \(run.seed\)"):
        Study.read(folder_study).run(out, progress=False, until="encode")
    folder_study.write_text(text)
    np.save(data, np.load(data) * np.float32(1.5))
    with pytest.raises(InputError, match=r"another study \(the data\)"):
        Study.read(folder_study).run(out, progress=False, until="encode")
    data.write_bytes(values)
    record = json.loads((out / "study.json").read_text())
    for sources, said in (
        ({**record["sources"], "the version of latentcortex": "0"}, "the version of latentcortex"),
        ({}, "run.seed, .*the data, .* or anything else"),
    ):
        (out / "study.json").write_text(json.dumps({**record, "key": "another", "sources": sources}))
        with pytest.raises(InputError, match=rf"another study \({said}"):
            Study.read(folder_study).run(out, progress=False, until="encode")


def test_a_folder_that_holds_something_else_is_refused(folder_study, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        Study.read(folder_study).run(tmp_path, progress=False)


def test_one_byte_flipped_in_an_analysis_is_noticed_and_computed_again(folder_study, tmp_path):
    study, out = Study.read(folder_study), tmp_path / "out"
    study.run(out, progress=False)
    before = maps_only(out)
    (state,) = (out / "work").glob("sub-01_latents-*.arrays")
    damaged = bytearray(state.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    state.write_bytes(damaged)
    (out / "sub-01.html").unlink()
    study.run(out, progress=False)
    assert maps_only(out) == before


def test_cross_validation_uses_permutations_and_a_parametric_null_is_refused(folder_study, tmp_path):
    text = folder_study.read_text() + "\n[splits]\ncross_validation = 4\n"
    crossed = folder_study.with_name("crossed.toml")
    crossed.write_text(text.replace("q = 0.05", "q = 0.05\nn_permutations = 99"))
    Study.read(crossed).run(tmp_path / "out", progress=False)
    row = json.loads((tmp_path / "out" / "summary.json").read_text())["results"][0]
    assert row["n_significant"] >= 8
    ceilings = list((tmp_path / "out" / "sub-01" / "func").glob("*ceiling*.json"))
    assert any("n_averaged" in path.read_text() for path in ceilings)
    assert "The noise ceiling is the fraction" in (tmp_path / "out" / "sub-01.html").read_text()
    assert "folds that keep together images that are equal or look alike" in (tmp_path / "out/sub-01.html").read_text()
    crossed.write_text(text.replace("q = 0.05", 'q = 0.05\nnull = "analytic"'))
    with pytest.raises(InputError, match="not valid for predictions pooled over folds"):
        Study.read(crossed)


def test_whole_runs_are_held_out_z_scored_by_themselves_and_the_methods_text_says_so(folder_study, tmp_path):
    """Baselines of the runs differ by five standard deviations; images are shown once."""
    data = folder_study.parent / "data"
    trials = pd.read_csv(data / "trials.tsv", sep="\t", dtype=str)[:60]
    run = np.arange(60) // 10
    trials.assign(run=run.astype(str)).drop(columns="split").to_csv(data / "trials.tsv", sep="\t", index=False)
    baseline = 5 * np.random.default_rng(1).standard_normal((6, 30))[run]
    np.save(data / "responses.npy", (np.load(data / "responses.npy")[:60] + baseline).astype(np.float32))
    by_runs = '[responses]\nzscore = "run"\n[splits]\ncross_validation = 6\nunit = "run"\n'
    folder_study.write_text(
        folder_study.read_text().replace("[inference]", by_runs + "[inference]\nn_permutations = 31")
    )
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "6 folds that hold out whole runs" in page
    assert "(runs without any with their own, so that differences between their means are not tested)" in page
    r = Maps.load(tmp_path / "out", participant="01").values(statistic="r", model="pixels")
    assert np.nanmedian(r[:10]) > 0.5
    assert abs(np.nanmedian(r[10:28])) < 0.3


def test_bands_are_made_equally_wide_on_request_by_components_of_training_stimuli(folder_study, tmp_path):
    text, narrow = folder_study.read_text(), folder_study.with_name("narrow.toml")
    reduced: Callable[[int], str] = lambda n: text.replace("[analyses]", f"[analyses]\nn_dims = {n}")  # noqa: E731
    narrow.write_text(reduced(2))
    best = []
    for name, path in (("wide", folder_study), ("narrow", narrow)):
        Study.read(path).run(tmp_path / name, progress=False)
        best.append(json.loads((tmp_path / name / "summary.json").read_text())["results"][0]["score_max"])
    assert best[1] < best[0] - 0.01
    assert "reduced to 2 principal components" in (tmp_path / "narrow" / "sub-01.html").read_text()
    for n_dims, says in ((60, "at most 39 components"), (-1, "n_dims")):
        narrow.write_text(reduced(n_dims))
        with pytest.raises(InputError, match=says):
            Study.read(narrow).run(tmp_path / "wrong", progress=False)
        assert not (tmp_path / "wrong").exists()
    narrow.write_text(reduced(2) + "\n[splits]\ncross_validation = 4\n")
    with pytest.raises(InputError, match="needs a test set"):
        Study.read(narrow)


def test_report_has_no_network_one_known_script_and_escapes_what_users_wrote(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in page
    assert "unsafe-eval" not in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert page.count("<img") == page.count('<img alt="')
    assert "Benjamini-Hochberg" in page


def test_a_report_is_made_again_from_the_folder_alone(folder_study, tmp_path, capsys):
    out, moved = tmp_path / "out", tmp_path / "elsewhere"
    Study.read(folder_study).run(out, progress=False)
    page = (out / "sub-01.html").read_text()
    shutil.rmtree(out / "features")
    shutil.rmtree(out / "work")
    out.rename(moved)
    (moved / "sub-01.html").unlink()
    shutil.rmtree(moved / "sub-01" / "figures")
    assert cli.main(["report", str(moved)]) == 0
    assert (moved / "sub-01.html").read_text() == page
    assert list((moved / "sub-01" / "figures").glob("*.png"))
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "expected a folder in which a report was written" in capsys.readouterr().err


def test_references_are_beside_the_page_for_bibtex(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    text = (tmp_path / "out" / "references.bib").read_text()
    assert text.count("{") == text.count("}")
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert "duprelatour2022" in keys
    assert "takagi2023" not in keys  # nothing here comes from a diffusion model
    assert "latentcortex" in keys
    assert len(keys) == len(set(keys))


def test_numbers_in_the_methods_text_are_those_of_the_data(folder_study, tmp_path):
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "30 voxels of which 28 were valid" in page
    trials = np.load(folder_study.parent / "data" / "responses.npy")
    assert f"({len(trials)} trials in 2 sessions" in page


def test_derivatives_pass_the_bids_validator(folder_study, tmp_path):
    pytest.importorskip("bids_validator_deno", reason="needs bids-validator-deno")
    import subprocess
    import sys

    Study.read(folder_study).run(tmp_path / "out", progress=False)
    command = [
        str(Path(sys.executable).with_name("bids-validator-deno")),
        str(tmp_path / "out"),
        "--ignoreWarnings",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout


def test_a_repair_that_was_interrupted_is_not_called_complete(folder_study, tmp_path, monkeypatch):
    study, out = Study.read(folder_study), tmp_path / "out"
    study.run(out, progress=False)
    (out / "sub-01.html").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            study.run(out, progress=False)
    assert study.run(out, progress=False).computed
    assert (out / "sub-01.html").is_file()


def test_features_that_were_deleted_are_extracted_again(folder_study, tmp_path):
    import shutil

    study, out = Study.read(folder_study), tmp_path / "out"
    study.run(out, until="extract", progress=False)
    shutil.rmtree(out / "features")
    assert study.run(out, until="extract", progress=False).computed
    assert list((out / "features").glob("*/manifest.json"))


def test_overwriting_removes_what_an_interrupted_study_left_and_nothing_of_the_user(
    folder_study, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "write_summary", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Study.read(folder_study).run(out, progress=False)
    kept = [out / "notes.txt", out / "sub-01" / "func" / "notes.tsv"]
    for path in kept:
        path.write_text("mine")
    left = sorted((out / "sub-01" / "func").glob("sub-01_*Pixels*"))
    assert len(left) == 2
    changed = folder_study.with_name("changed.toml")
    changed.write_text(folder_study.read_text().replace("size = 8", 'size = 8\nbands = ["contrast"]'))
    Study.read(changed).run(out, overwrite=True, progress=False)
    assert [path.read_text() for path in kept] == ["mine", "mine"]
    assert not any(path.exists() for path in left)


def test_casts_made_while_checking_are_in_the_report(folder_study, tmp_path):
    path = folder_study.parent / "data" / "responses.npy"
    np.save(path, np.load(path).astype(np.float64))
    Study.read(folder_study).run(tmp_path / "out", progress=False)
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert "cast from float64 to float32" in page
    assert "Nothing was altered" not in page


def test_the_example_of_every_key_has_every_key_and_is_a_study():
    path = ROOT / "examples" / "every_key.toml"
    given = tomllib.loads(path.read_text())
    study = Study.read(path)
    defaults = Settings.read({name: {"name": given[name]["name"]} for name in ("dataset", "extractor")}).plain()
    assert set(given) == set(defaults)
    for section in set(given) - {"dataset", "extractor", "estimator", "reconstructor"}:
        assert set(given[section]) == set(defaults[section]), section
        for key, default in defaults[section].items():
            if study.settings.plain()[section][key] != default:
                assert key in ("atlas", "rois", "bands", "n_images", "category", "out"), (section, key)
    assert study.decodes
    study.dataset()
    study.estimator()
    pytest.importorskip("torch", reason="the extractor ldm needs the extra [ldm]")
    assert study.extractor().bands
    assert set(study.reconstructor().routes) == {"zc", "z", "c"}


def test_an_unknown_stage_is_named_before_anything_is_written(folder_study, tmp_path):
    with pytest.raises(InputError, match=r"Unknown stage 'evaluat'. Did you mean 'evaluate'"):
        Study.read(folder_study).run(tmp_path / "out", until="evaluat", progress=False)
    assert not (tmp_path / "out").exists()
