"""Permutations that refit every fold: a killed run goes on after those that it has finished, to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from _studies import write_folder_study

from latentcortex.encoding import Folds
from latentcortex.study import Study

N = 40
KEPT = "work/sub-01_latents_draw-*.arrays"


def study_of(folder: Path) -> Path:
    """Write a study across folds, whose permutations take long enough to be killed among them."""
    path = write_folder_study(folder)
    path.write_text(f"{path.read_text()}n_permutations = {N}\n[splits]\ncross_validation = 4\n")
    return path


def maps_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "sub-01" / "func").iterdir())}


@pytest.fixture
def n_predicted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often all folds are predicted."""
    counts = [0]
    predict = Folds.predict

    def counted(*given: object, **more: object) -> object:
        counts[0] += 1
        return predict(*given, **more)

    monkeypatch.setattr(Folds, "predict", counted)
    return counts


def killed(study: Path, out: Path, n_kept: int) -> int:
    """Run a study in a process of its own and kill it once so many permutations are kept; return how many there are."""
    command = [sys.executable, "-m", "latentcortex", "run", str(study), "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while len(list(out.glob(KEPT))) < n_kept and process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return len(list(out.glob(KEPT)))


def test_a_killed_run_goes_on_after_its_finished_permutations_to_the_same_bits(
    tmp_path: Path, n_predicted: list[int]
) -> None:
    study, out = study_of(tmp_path), tmp_path / "killed"
    n_kept = killed(study, out, 5)
    assert 5 <= n_kept < N
    damaged = next(iter(sorted(out.glob(KEPT))))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    Study.read(study).run(out, progress=False)
    assert n_predicted[0] == 1 + N - (n_kept - 1)
    assert not list(out.glob("work/*_draw-*"))
    Study.read(study).run(tmp_path / "whole", progress=False)
    assert n_predicted[0] == 1 + N - (n_kept - 1) + 1 + N
    assert maps_in(out) == maps_in(tmp_path / "whole")
    assert not Study.read(study).run(out, progress=False).computed


@pytest.mark.slow
def test_permutations_of_another_study_are_not_taken(tmp_path: Path, n_predicted: list[int]) -> None:
    study, out = study_of(tmp_path), tmp_path / "out"
    assert killed(study, out, 3) < N
    study.write_text(f"{study.read_text()}[run]\nseed = 0\n\n[responses]\nzscore = 'none'\n")
    Study.read(study).run(out, progress=False, overwrite=True)
    assert n_predicted[0] == 1 + N
    assert not list(out.glob("work/*_draw-*"))
