"""What a machine or a signal does to a command: one line, an exit code, nothing half-written, and the work goes on."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from _outside import bound_by_permissions, in_one_process, numbers

from latentcortex.reporting import LOG
from latentcortex.reporting.tables import alterations
from latentcortex.study import Study

SIGNALLED = """
took = time.monotonic()
assert end(start("run", "study/study.toml", "--out", "whole", "--quiet")) == (0, "")
took = time.monotonic() - took
random.seed(0)
ends, n_round = [], 0
while len(ends) < int(sys.argv[1]):
    number = [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGINT][len(ends) % 4]
    child = start("run", "study/study.toml", "--out", f"stopped{n_round}", "--quiet")
    time.sleep(0.1 + random.random() * took)
    os.kill(child[0], number)
    asked = time.monotonic()
    code, text = end(child)
    if code == 0:
        n_round += 1
        continue
    # What a killed run left before stays until the next one sweeps; it may be stopped before that.
    left = [path.name for path in pathlib.Path(f"stopped{n_round}").rglob(f".*-{child[0]}-*") if path.is_file()]
    ends.append([number, code, text, time.monotonic() - asked, left])
assert end(start("run", "study/study.toml", "--out", f"stopped{n_round}", "--quiet")) == (0, "")
print(json.dumps(ends))
"""


def said(out: Path) -> list[tuple[str, int]]:
    """What a report says was altered, and how often, in the order of the words."""
    return sorted((entry["what"], entry["times"]) for entry in alterations(out / LOG))


@pytest.mark.parametrize("n_signals", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_with_a_line_and_its_code_and_the_run_goes_on(folder_study, tmp_path, n_signals):
    ends = in_one_process(SIGNALLED, tmp_path, n_signals)
    words = {2: "interrupted", 15: "interrupted by SIGTERM", 1: "interrupted by SIGHUP"}
    for number, code, text, seconds, left in ends:
        assert seconds < 5
        if number == signal.SIGKILL:
            assert (code, text) == (-number, "")
            continue
        assert left == []
        assert (code, text) == (128 + number, f"latentcortex: {words[number]}; run the same command to go on.\n")
    whole = numbers(tmp_path / "whole")
    assert whole
    stopped = sorted(tmp_path.glob("stopped*"))
    assert stopped
    for out in stopped:
        assert numbers(out) == whole
        assert not [path for path in out.rglob(".*-*-*") if path.is_file()]
        assert said(out) == said(tmp_path / "whole")


FILLED = """
import subprocess
pathlib.Path("disk").mkdir()
assert end(start("run", "study/study.toml", "--out", "whole", "--quiet")) == (0, "")
need = sum(path.stat().st_size for path in pathlib.Path("whole").rglob("*"))
n_disks, rounds = int(sys.argv[1]), []
for k in range(n_disks):
    # tmpfs has pages of 4096 bytes; what is written takes more of them than it has bytes.
    size = 8192 + need * (2 * k + 1) // (2 * n_disks)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "disk"], check=True)
    stopped = end(start("run", "study/study.toml", "--out", "disk/out", "--quiet"))
    left = [path.name for path in pathlib.Path("disk").rglob(".*-*-*") if path.is_file()]
    subprocess.run(["mount", "-o", "remount,size=64m", "disk"], check=True)
    again = end(start("run", "study/study.toml", "--out", "disk/out", "--quiet"))
    shutil.copytree("disk/out", f"filled{k}")
    subprocess.run(["umount", "disk"], check=True)
    rounds.append([stopped, left, again])
print(json.dumps(rounds))
"""


def own_mounts() -> tuple[str, ...]:
    """Say under what a process has mounts of its own, or skip the test."""
    command = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here, which gives a process small disks of its own")
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("this process may not mount a small disk of its own")
    return command


@pytest.mark.parametrize("n_disks", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(folder_study, tmp_path, n_disks):
    whole = tmp_path / "whole"
    for k, (stopped, left, again) in enumerate(in_one_process(FILLED, tmp_path, n_disks, under=own_mounts())):
        code, text = stopped
        assert code == 2
        said = r"latentcortex: disk/out\S*: No space left on device: make room on that disk, then run the same .*\n"
        assert re.fullmatch(said, text), text
        assert (left, again) == ([], [0, ""])
        assert numbers(tmp_path / f"filled{k}") == numbers(whole)
    assert numbers(whole)


REFUSED = """
cases = json.loads(sys.argv[1])
print(json.dumps({name: end(start("run", study, "--out", out, "--quiet")) for name, study, out in cases}))
"""
INPUTS = ("study.toml", "data/stimuli.tsv", "data/trials.tsv", "data/responses.npy", "data/stimuli/s003.png", "data")
OUTPUTS = ("study.json", "logs", "logs/latentcortex.jsonl", "features", "sub-01", "sub-01/func", "work", "summary.json")


def closed(path: Path) -> None:
    path.chmod(0)


def dangling(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to("/nowhere/annex")


def other_kind(path: Path) -> None:
    """Put a file where a folder was, and a folder where a file was."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(INPUTS, ()), pytest.param((), OUTPUTS, marks=pytest.mark.slow)],
    ids=["inputs", "folder of results"],
)
def test_what_cannot_be_opened_is_one_line_that_names_it(folder_study, tmp_path, inputs, outputs):
    under = bound_by_permissions()
    if under is None:
        pytest.skip("root may read everything, and there is no setpriv here to become less")
    given, out = folder_study.parent, tmp_path / "out"
    if outputs:
        Study.read(folder_study).run(out, progress=False)
        (out / "sub-01.html").unlink()
    cases = []
    for k, (spoil, name) in enumerate(itertools.product((closed, dangling, other_kind), (*inputs, *outputs))):
        folder = tmp_path / str(k)
        shutil.copytree(given, folder / "study")
        if outputs:
            shutil.copytree(out, folder / "out")
        spoil((folder / "study" if name in inputs else folder / "out") / name)
        cases.append([f"{spoil.__name__} {name}", str(folder / "study" / "study.toml"), str(folder / "out")])
    ends = in_one_process(REFUSED, tmp_path, json.dumps(cases), under=under)
    assert len(ends) == 3 * len((*inputs, *outputs))
    for name, (code, text) in ends.items():
        if name == "dangling summary.json":  # which is written anew
            assert (code, text) == (0, "")
            continue
        assert (code, text.count("\n")) == (2, 1), (name, text)
        assert text.startswith("latentcortex: "), (name, text)
        assert Path(name.split()[1]).name in text, (name, text)
    if inputs:
        assert not list(tmp_path.glob("*/out"))
