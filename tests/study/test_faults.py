"""Bad input: one line with what was found and expected, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentcortex import cli
from latentcortex.study import Study


def fails(capsys, study: Path, out: Path, *expected: str) -> None:
    """Run a study that must fail as the house style asks."""
    code = cli.main(["run", str(study), "--out", str(out), "--quiet"])
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("latentcortex: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    for text in expected:
        assert text in captured.err
    assert not out.exists()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('name = "folder"', 'name = "foldr"', ("Unknown dataset 'foldr'. Did you mean 'folder'?",)),
        ("[estimator]", "[estimator]\nalpahs = [1.0]", ("'alpahs'", "Did you mean 'alphas'?")),
        (
            "[estimator]",
            "[estimator]\nalphas = [0.0]",
            ("`alphas` of estimator", "each a number above 0, at least one; got 0.0 as entry 1"),
        ),
        ("[estimator]", "[estimatr]", ("Unknown section 'estimatr'. Did you mean 'estimator'?",)),
        (
            "q = 0.05",
            "q = 5",
            ("`q` in [inference] must be a number above 0 and below 1; got 5.", "Did you mean 0.05?"),
        ),
        ("q = 0.05", 'q = "0.05"', ("`q` in [inference] must be a number",)),
        ("q = 0.05", "q = 0.05\nq = 0.01", ("is not TOML",)),
        ("q = 0.05", "q = 0.05\ncorection = 'bh'", ("Did you mean 'correction'?",)),
        ("q = 0.05", "q = 0.05\ncorrection = 'bhh'", ("Unknown correction 'bhh'",)),
        ('participants = ["01"]', "participants = [1]", ("each a string of letters and digits", "got 1 as entry 1")),
        ('participants = ["01"]', 'participants = ["../x"]', ("letters and digits",)),
        ('participants = ["01"]', "participants = [01]", ("is not TOML",)),
        ('root = "data"', 'root = "nowhere"', ("nowhere", "is not there")),
        ('root = "data"', "", ("missing a required argument: 'root'",)),
        ('run = ["latents"]', 'run = ["latent"]', ("Unknown analysis 'latent'. Did you mean 'latents'?",)),
        (
            'run = ["latents"]',
            'run = ["latents"]\nshares = ["uniqe"]',
            ("Unknown share 'uniqe'. Did you mean 'unique'? Known: common, product, shapley, unique",),
        ),
        ("[analyses]", "[splits]\ncross_validation = 1000\n[analyses]", ("1000 folds cannot be made",)),
    ],
)
def test_a_wrong_study_file_is_named_with_the_nearest_known_key(folder_study, tmp_path, capsys, old, new, expected):
    edit(folder_study, old, new)
    fails(capsys, folder_study, tmp_path / "out", *expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"x = " + b"[" * 50_000, "nested too deeply"),
        (b"x = " + b"1" * 50_000, "is not TOML"),
        (b"\xff\xfe[\0r\0", "is not UTF-8 (byte 0)"),
        (b"# " * 40_000, "has 80,000 bytes; expected a study file in TOML of at most 65,536"),
    ],
)
def test_a_study_file_that_is_none(tmp_path, capsys, content, expected):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    fails(capsys, path, tmp_path / "out", "x.toml", expected)


def test_a_study_file_may_begin_with_the_mark_that_windows_writes(folder_study):
    plain = Study.read(folder_study)
    folder_study.write_bytes(b"\xef\xbb\xbf" + folder_study.read_bytes().replace(b"\n", b"\r\n"))
    assert Study.read(folder_study) == plain


def test_a_missing_study_file(tmp_path, capsys):
    fails(capsys, tmp_path / "none.toml", tmp_path / "out", "none.toml is not there")


def test_trials_that_name_unknown_stimuli(folder_study, tmp_path, capsys):
    edit(folder_study.parent / "data" / "trials.tsv", "s000\t", "S000\t")
    fails(capsys, folder_study, tmp_path / "out", "trials.tsv", "S000")


def test_a_wrong_number_of_rows(folder_study, tmp_path, capsys):
    path = folder_study.parent / "data" / "responses.npy"
    np.save(path, np.load(path)[:-1])
    fails(capsys, folder_study, tmp_path / "out", "responses.npy is (", "expected one row per trial")


def test_responses_that_are_nan_everywhere(folder_study, tmp_path, capsys):
    path = folder_study.parent / "data" / "responses.npy"
    np.save(path, np.full_like(np.load(path), np.nan))
    fails(capsys, folder_study, tmp_path / "out", "0 of 30 voxels are usable")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"hello, this is text", "is not an image"), (b"", "is not an image"), (None, "cannot be read")],
)
def test_an_unreadable_image(folder_study, tmp_path, capsys, content, expected):
    path = folder_study.parent / "data" / "stimuli" / "s003.png"
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    fails(capsys, folder_study, tmp_path / "out", "s003.png", expected)


def test_images_of_several_sizes(folder_study, tmp_path, capsys):
    from PIL import Image

    path = folder_study.parent / "data" / "stimuli" / "s003.png"
    Image.open(path).resize((9, 9)).save(path)
    fails(capsys, folder_study, tmp_path / "out", "differ in size", "9 x 9 pixels as s003, 1 in all")


def test_a_missing_image(folder_study, tmp_path, capsys):
    (folder_study.parent / "data" / "stimuli" / "s003.png").unlink()
    fails(capsys, folder_study, tmp_path / "out", "names images", "s003.png")


def test_a_stimulus_in_both_splits(folder_study, tmp_path, capsys):
    path = folder_study.parent / "data" / "trials.tsv"
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("s000\t"))
    lines[first] = lines[first].replace("train", "test")
    path.write_text("\n".join(lines) + "\n")
    fails(capsys, folder_study, tmp_path / "out", "two splits", "s000")


def test_a_pickled_array_is_not_loaded(folder_study, tmp_path, capsys):
    np.save(folder_study.parent / "data" / "responses.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    fails(capsys, folder_study, tmp_path / "out", "responses.npy", "not a plain .npy array")


def test_an_unwritable_folder_for_results_is_said_before_anything_is_computed(folder_study, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code = cli.main(["run", str(folder_study), "--out", str(tmp_path / "file" / "out"), "--quiet"])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_line_itself_exits_with_2(folder_study, tmp_path):
    edit(folder_study, "q = 0.05", "q = 5")
    command = [
        sys.executable,
        "-m",
        "latentcortex",
        "run",
        str(folder_study),
        "--out",
        str(tmp_path / "out"),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("latentcortex: ")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("demo", "run", "extract", "encode", "report"))


def test_an_image_on_both_sides_of_the_split_under_two_names(folder_study, tmp_path, capsys):
    stimuli = folder_study.parent / "data" / "stimuli"
    (stimuli / "s050.png").write_bytes((stimuli / "s003.png").read_bytes())
    said = ("straddling: 1 image on both sides of a split", "s003 = s050", "--allow straddling")
    fails(capsys, folder_study, tmp_path / "out", *said)


def test_an_unknown_atlas_is_named_before_anything_is_computed(folder_study, tmp_path, capsys):
    path = folder_study.parent / "data" / "responses.npy"
    responses = np.zeros((120, 20484), dtype=np.float32)
    responses[:, :30] = np.load(path)
    np.save(path, responses)
    edit(folder_study, 'root = "data"', 'root = "data"\ntemplate = "fsaverage5"')
    edit(folder_study, "[inference]", '[report]\natlas = "fantom"\n\n[inference]')
    fails(capsys, folder_study, tmp_path / "out", "Unknown atlas 'fantom'. Did you mean 'phantom'?")


@pytest.mark.parametrize("run", ["[]", '["latents", "latents"]'])
def test_each_analysis_is_named_once(folder_study, tmp_path, capsys, run):
    edit(folder_study, '["latents"]', run)
    fails(
        capsys,
        folder_study,
        tmp_path / "out",
        "`run` in [analyses] must be a list of distinct entries",
        "latents",
        "at least one",
    )


def test_a_held_out_session_of_few_rows_is_found_before_extraction(folder_study, tmp_path, capsys):
    path = folder_study.parent / "data" / "trials.tsv"
    table = pd.read_csv(path, sep="\t", dtype=str)
    few = (table["split"] == "test").cumsum().le(7) & (table["split"] == "test")
    table.loc[few, "session"] = "03"
    table.to_csv(path, sep="\t", index=False)
    fails(capsys, folder_study, tmp_path / "out", "session 03 has 7 held-out rows; z-scoring needs at least 8")


@pytest.mark.parametrize("unit", ["session", "run"])
def test_sessions_that_share_all_their_images_cannot_be_held_out(folder_study, tmp_path, capsys, unit):
    edit(folder_study, "[inference]", f'[splits]\ncross_validation = 2\nunit = "{unit}"\n[inference]')
    fails(capsys, folder_study, tmp_path / "out", f"as many as there are {unit}s that share no stimulus (1)")


@pytest.mark.slow
def test_a_device_that_is_not_there_is_said_before_extraction(folder_study, tmp_path, capsys):
    pytest.importorskip("torch", reason="the extractor ldm needs the extra [ldm]")
    own = 'name = "ldm"\nmodel = "phantom"\nbands = ["z"]\ndevice = "cuda:99"'
    edit(folder_study, 'name = "pixels"\nsize = 8', own)
    fails(capsys, folder_study, tmp_path / "out", "device = 'cuda:99' cannot be used on this machine", "Use 'cpu'")


def test_captions_that_are_missing_are_found_before_extraction(folder_study, tmp_path, capsys):
    pytest.importorskip("torch", reason="the extractor ldm needs the extra [ldm]")
    edit(
        folder_study,
        'name = "pixels"\nsize = 8',
        'name = "ldm"\nmodel = "phantom"\nbands = ["z", "zc_strength-80_step-100"]',
    )
    fails(capsys, folder_study, tmp_path / "out", "zc_strength-80_step-100 needs captions", "60 stimuli have none")
