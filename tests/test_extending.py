"""What a stranger adds from outside the package: one file that names itself on a shelf."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from latentcortex import estimators, executors
from latentcortex._arrays import TILE, tiles

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
