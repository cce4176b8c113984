"""What every dataset says of its responses fits what it gives of some voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latentcortex.datasets import Dataset, make
from latentcortex.responses import COLUMNS

MADE: dict[str, Callable[[Path], Dataset]] = {
    "folder": lambda data: make("folder", root=str(data)),
    "phantom": lambda _: make("phantom", n_train=20, n_test=10),
}


@pytest.mark.parametrize("name", MADE)
def test_some_voxels_of_a_dataset_are_columns_of_all_in_the_order_of_its_rows(name: str, folder_study: Path) -> None:
    dataset = MADE[name](folder_study.parent / "data")
    rows, space = dataset.rows("01"), dataset.space("01")
    dataset.responses("01", slice(0, 1))  # for which the phantom keeps what it simulates
    whole = dataset.responses("01")
    assert whole.data.shape == (len(rows), space.n_voxels)
    assert whole.space.description == space.description
    for voxels in (slice(None), slice(5, 17), slice(space.n_voxels - 3, None), slice(0, 1)):
        part = dataset.responses("01", voxels)
        np.testing.assert_array_equal(part.data, whole.data[:, voxels])
        assert part.rows.equals(rows[list(COLUMNS)])
        assert part.space.description == space.select_voxels(np.arange(space.n_voxels)[voxels]).description
    assert set(rows["split"]) == {"train", "test"}
