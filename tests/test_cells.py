"""Cells: what is kept of them, who reads it, and what happens where it is gone."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import psutil
import pytest

from latentcortex._store import Store
from latentcortex.encoding.cells import Cell, Cells, Result
from latentcortex.encoding.pieces import Piece
from latentcortex.errors import IncompleteError


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
