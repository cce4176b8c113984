from __future__ import annotations

import numpy as np
import pytest

from latentcortex.errors import AlignmentError, InputError
from latentcortex.splits import Splits, held_out

IDS = [f"s{i}" for i in range(23)]


def test_every_stimulus_is_tested_once_and_never_fitted_on_at_the_same_time() -> None:
    splits = Splits.k_fold(IDS, 5, seed=0)
    tested = []
    for train, test in splits:
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(IDS)
        tested += test
    assert sorted(tested) == sorted(IDS)
    assert splits.n_splits == 5
    assert np.ptp(np.bincount(splits.fold)) <= 1


def test_groups_never_straddle_folds() -> None:
    groups = [f"g{i // 3}" for i in range(23)]
    splits = Splits.k_fold(IDS, 4, groups=groups, seed=0)
    assert len({(g, f) for g, f in zip(groups, splits.fold, strict=True)}) == len(set(groups))
    with pytest.raises(AlignmentError, match="straddles folds"):
        Splits(("a", "b"), np.array([0, 1]), ("g", "g"))


def test_folds_depend_on_the_seed_only() -> None:
    folds = [Splits.k_fold(IDS, 5, seed=seed).fold for seed in (0, 0, 1)]
    np.testing.assert_array_equal(folds[0], folds[1])
    assert not np.array_equal(folds[0], folds[2])


@pytest.mark.parametrize("n_splits", [0, 1, 24])
def test_an_impossible_number_of_folds_is_an_input_error(n_splits: int) -> None:
    with pytest.raises(InputError, match=f"{n_splits} folds need at least 2"):
        Splits.k_fold(IDS, n_splits, seed=0)
    with pytest.raises(InputError, match="must be unique"):
        Splits.k_fold(["a", "a", "b"], 2, seed=0)


def test_a_split_column_gives_train_and_test() -> None:
    assert held_out(["a", "b", "c"], ["test", "train", "test"]) == (["b"], ["a", "c"])
    with pytest.raises(InputError, match="must be train or test; found val"):
        held_out(["a", "b"], ["train", "val"])
    with pytest.raises(InputError, match="2 train and 0 test"):
        held_out(["a", "b"], ["train", "train"])
