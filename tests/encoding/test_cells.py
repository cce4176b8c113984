"""Cells: what is kept of them, who reads it, and what happens where it is gone."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from _studies import write_folder_study

from latentcortex import analyses, executors
from latentcortex._results import ResultsFolder
from latentcortex._store import Store
from latentcortex.encoding.cells import Cell, Cells, Result
from latentcortex.encoding.pieces import Piece
from latentcortex.errors import IncompleteError
from latentcortex.reporting import LOG
from latentcortex.study import Study, encoding_stages


def constant(number: int) -> Result:
    """A cell of 20,000 voxels in one tile."""
    return {"m": Piece({"r": np.full((2, 20_000), number, np.float32)}, {"n": np.full((1, 1), number)})}


def constants(folder: Path, n: int) -> tuple[Cells, list[Result]]:
    cells = Cells(store=Store(folder))
    return cells, cells.map(constant, [Cell(i, {"number": i}) for i in range(n)], title="constants")


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="this system has no file descriptors")
def test_results_that_are_kept_hold_no_file_open(tmp_path: Path) -> None:
    before = psutil.Process().num_fds()
    _, results = constants(tmp_path, 40)
    whole = Piece.join([result["m"] for result in results])
    values, total = whole.values["r"], whole.total("n")
    assert psutil.Process().num_fds() == before
    np.testing.assert_array_equal(values, np.repeat(np.arange(40.0)[None], 2, axis=0).repeat(20_000, axis=1))
    assert total == sum(range(40))


def test_a_result_that_is_kept_can_be_sent_elsewhere_and_says_when_it_is_gone(tmp_path: Path) -> None:
    cells, results = constants(tmp_path, 2)
    sent = pickle.loads(pickle.dumps(results[1]))
    np.testing.assert_array_equal(sent["m"].values["r"], results[1]["m"].values["r"])
    cells.forget()
    with pytest.raises(IncompleteError, match="was deleted or damaged while it was in use; run the same command again"):
        sent["m"].values["r"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.read(write_folder_study(tmp_path))


def parts(out: Path) -> list[str]:
    """What the folder of parts holds, without the hash of the study."""
    return sorted(path.name.rsplit("-", 1)[0] for path in (out / "work").iterdir())


MAPS = ["sub-01_ceiling", "sub-01_latents"]


def test_a_process_that_is_through_leaves_the_cells_of_a_slower_one_and_the_last_one_deletes_them(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, score, left = tmp_path / "out", analyses.Scorer.score, []

    def fast() -> None:
        monkeypatch.setattr(analyses.Scorer, "score", score)
        Study.read(tmp_path / "study" / "study.toml").run(out, until="encode", progress=False)

    def slow(*given):
        maps = score(*given)
        with ThreadPoolExecutor(1) as beside:  # each run has a claim of its own, as a process has
            beside.submit(fast).result(timeout=60)
        left.extend(parts(out))
        return maps

    monkeypatch.setattr(analyses.Scorer, "score", slow)
    study.run(out, until="encode", progress=False)
    assert len(left) > len(MAPS)
    assert parts(out) == MAPS
    assert "gone" not in (out / LOG).read_text()
    assert "once more" not in (out / LOG).read_text()


@pytest.mark.parametrize("finished", [True, False])
def test_maps_whose_cells_are_gone_are_read_if_another_process_finished_them_or_computed_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    study.run(tmp_path / "whole", until="encode", progress=False)
    score, calls = analyses.Scorer.score, []

    def deleted(*given):
        maps = score(*given)
        calls.append(maps)
        if len(calls) == 1:
            for path in (tmp_path / "out" / "work").glob("*_cell-*"):
                path.unlink()
            for path in (tmp_path / "whole" / "work").glob("*_latents-*") if finished else ():
                (tmp_path / "out" / "work" / path.name).write_bytes(path.read_bytes())
        return maps

    monkeypatch.setattr(analyses.Scorer, "score", deleted)
    study.run(tmp_path / "out", until="encode", progress=False)
    assert len(calls) == (1 if finished else 2)
    assert parts(tmp_path / "out") == MAPS
    for path in (tmp_path / "whole" / "work").iterdir():
        assert (tmp_path / "out" / "work" / path.name).read_bytes() == path.read_bytes()


def test_maps_that_cannot_be_read_back_are_never_left_out(study: Study, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(encoding_stages, "save_maps", lambda *_: None)
    with pytest.raises(
        IncompleteError, match=r"sub-01_ceiling-\w+.arrays was written and cannot be read back: look at"
    ):
        study.run(tmp_path / "out", until="encode", progress=False)


def test_of_processes_that_leave_only_the_last_one_tidies_up(tmp_path: Path) -> None:
    tidied: list[str] = []
    first, last = (ResultsFolder(tmp_path, "key", {}, ()) for _ in range(2))
    with last.owning(overwrite=False, tidy=lambda: tidied.append("last")):
        with first.owning(overwrite=False, tidy=lambda: tidied.append("first")), first.alone() as alone:
            assert not alone
        with last.alone() as alone:
            assert alone
        assert tidied == []
    assert tidied == ["last"]
    with pytest.raises(KeyError), last.owning(overwrite=False, tidy=lambda: tidied.append("interrupted")):
        raise KeyError
    assert tidied == ["last"]


@pytest.mark.parametrize(("start", "taken"), [(0.0, [0, 1, 2, 3, 4]), (0.5, [2, 3, 4, 0, 1]), (0.9, [4, 0, 1, 2, 3])])
def test_processes_begin_at_several_places_and_results_stay_in_order(start: float, taken: list[int]) -> None:
    calls: list[int] = []
    cells = Cells(executors.make("threads", n_workers=1), start=start)
    results = cells.map(lambda i: (calls.append(i), constant(i))[1], [Cell(i, {}) for i in range(5)], title="")
    assert calls == taken
    assert [result["m"].total("n") for result in results] == [0, 1, 2, 3, 4]


def test_the_second_of_two_processes_begins_in_the_middle(tmp_path: Path) -> None:
    first, second = (ResultsFolder(tmp_path, "key", {}, ()) for _ in range(2))
    with first.owning(overwrite=False):
        assert first.place() == 0
        time.sleep(0.002)  # claims are told apart by milliseconds
        with second.owning(overwrite=False):
            assert (first.place(), second.place()) == (0, 0.5)
        assert first.place() == 0
    assert first.place() == 0
