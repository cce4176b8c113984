from __future__ import annotations

import numpy as np
import pytest

from latentcortex.errors import AlignmentError, InputError
from latentcortex.splits import Splits, clusters_of, coordinates, farthest, linked, sessions_of

IDS = [f"s{i}" for i in range(23)]


def test_every_stimulus_is_tested_once_and_never_fitted_on_at_the_same_time() -> None:
    splits = Splits.k_fold(IDS, 5, seed=0)
    tested = []
    for train, test in splits:
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(IDS)
        tested += test
    assert sorted(tested) == sorted(IDS)
    assert len(splits) == 5
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
    with pytest.raises(InputError, match=f"{n_splits} folds cannot be made: expected at least 2"):
        Splits.k_fold(IDS, n_splits, seed=0)
    with pytest.raises(InputError, match="must be unique"):
        Splits.k_fold(["a", "a", "b"], 2, seed=0)


def test_a_split_column_gives_train_and_test() -> None:
    ((train, test),) = Splits.labelled(["a", "b", "c", "a"], ["test", "train", "test", "test"])
    assert (train, test) == (("b",), ("a", "c"))
    with pytest.raises(InputError, match="must be train or test; found val"):
        Splits.labelled(["a", "b"], ["train", "val"])
    with pytest.raises(InputError, match="2 train and 0 test"):
        Splits.labelled(["a", "b"], ["train", "train"])
    with pytest.raises(InputError, match="1 stimuli are both in train and test: a"):
        Splits.labelled(["a", "b", "a"], ["train", "test", "test"])


def test_a_held_out_test_set_is_one_fold_whose_training_stimuli_are_never_tested() -> None:
    splits = Splits.held_out(["b", "a"], ["d", "c"], participant="01")
    assert (splits.fold.tolist(), splits.tested) == ([-1, -1, 0, 0], ("d", "c"))
    ((train, test),) = splits
    assert (train, test) == (("b", "a"), ("d", "c"))
    with pytest.raises(InputError, match="1 stimuli are both in train and test: a"):
        Splits.held_out(["a", "b"], ["a"])
    with pytest.raises(InputError, match="2 train and 0 test"):
        Splits.held_out(["a", "b"], [])
    with pytest.raises(AlignmentError, match="'g' straddles folds -1 and 0"):
        Splits.held_out(["a"], ["b"], groups={"a": "g", "b": "g"})


def test_a_stimulus_that_is_only_fitted_on_is_so_in_every_fold() -> None:
    folds = Splits(("a", "b", "c", "d"), np.array([0, -1, 1, 0]), ("a", "b", "c", "d")).folds
    assert [(fold.train, fold.test) for fold in folds] == [(("b", "c"), ("a", "d")), (("a", "b", "d"), ("c",))]
    for fold in ([-1, -1], [0, 0]):
        with pytest.raises(InputError, match="both are needed"):
            Splits(("a", "b"), np.array(fold), ("a", "b"))


def test_the_key_of_splits_is_that_of_what_they_hold() -> None:
    one = {"participant": "01", "name": "half", "unit": "session"}
    fold, groups = np.array([0, 1, 0]), ("g", "h", "g")

    def key(ids: str = "abc", fold: np.ndarray = fold, groups: tuple[str, ...] = groups, **changed: str) -> str:
        return Splits(tuple(ids), fold, groups, **{**one, **changed}).key

    others = {key("bac"), key(fold=np.array([1, 0, 1])), key(groups=("a", "b", "c"))}
    others |= {key(participant="02"), key(name="other"), key(unit="run")}
    assert key() == key()
    assert len(others - {key()}) == 6


def test_groups_of_very_different_size_make_folds_of_nearly_the_same() -> None:
    sizes = [9, 7, 6, 5, 4, 3, 2, 2, 1, 1]
    groups = [f"g{g}" for g, size in enumerate(sizes) for _ in range(size)]
    ids = [f"s{i}" for i in range(len(groups))]
    assert np.ptp(np.bincount(Splits.k_fold(ids, 4, groups=groups, seed=0).fold)) <= 2


def test_sessions_that_share_a_stimulus_are_held_out_together() -> None:
    stimulus = ["a", "b", "b", "c", "d", "e"]
    session = ["1", "1", "2", "2", "3", "3"]
    groups = sessions_of(stimulus, session, ["a", "b", "c", "d", "e"])
    assert groups[0] == groups[1] == groups[2] != groups[3] == groups[4]
    splits = Splits.k_fold(["a", "b", "c", "d", "e"], 2, groups=groups, unit="session", seed=0)
    assert sorted(map(sorted, (test for _, test in splits))) == [["a", "b", "c"], ["d", "e"]]
    with pytest.raises(InputError, match=r"as many as there are sessions that share no stimulus \(2\)"):
        Splits.k_fold(["a", "b", "c", "d", "e"], 3, groups=groups, unit="session", seed=0)


def test_labels_link_through_chains() -> None:
    assert len(set(linked(5, ["a", "a", "b", "b", "c"], ["x", "y", "y", "z", "w"]))) == 2


def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """60 stimuli in 6 tight groups of a plane, hidden in 30 dimensions."""
    code = np.repeat(np.arange(6), 10)
    centres = 10 * np.c_[np.cos(np.arange(6)), np.sin(np.arange(6))]
    plane = centres[code] + 0.1 * rng.standard_normal((60, 2))
    return code, plane @ rng.standard_normal((2, 30))


def test_clusters_are_those_that_were_planted() -> None:
    code, values = blobs(np.random.default_rng(0))
    centred = values - values.mean(0)
    places = coordinates(centred @ centred.T)
    np.testing.assert_allclose(places @ places.T, centred @ centred.T, atol=1e-6)
    found = clusters_of(places, 6, seed=0)
    assert len(set(zip(code, found, strict=True))) == 6
    assert found == clusters_of(places, 6, seed=0)
    with pytest.raises(InputError, match="60 stimuli make 2 to 59 clusters; got 60"):
        clusters_of(places, 60, seed=0)


def test_the_farthest_are_those_that_lie_apart_and_repeats_are_no_neighbours() -> None:
    rng = np.random.default_rng(0)
    places = rng.standard_normal((40, 3))
    places[[3, 17]] += 100  # an image and its repeat, far from everything
    places[29] -= 50
    groups = [f"g{i}" for i in range(40)]
    groups[17] = groups[3]
    assert farthest(places, groups, 3).tolist() == [3, 17, 29]
    assert farthest(places, groups, 1).tolist() == [3, 17]
    distances = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(40)
    some = farthest(places, [f"g{i}" for i in range(40)], 8)
    assert distances.min(1)[some].min() >= np.delete(distances.min(1), some).max()
