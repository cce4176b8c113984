from __future__ import annotations

import numpy as np
import pytest

from latentcortex import _arrays
from latentcortex.errors import AlignmentError, InputError, MissingExtraError


def test_things_are_joined_by_id() -> None:
    assert _arrays.positions(["b", "a", "c"], ["c", "b"]).tolist() == [2, 0]
    with pytest.raises(AlignmentError, match="2 of 3 voxels are not there: x, y"):
        _arrays.positions(["a"], ["x", "a", "y"], what="voxels")


def test_lengths_that_differ_are_named() -> None:
    _arrays.same_length(a=[1], b=[2])
    with pytest.raises(AlignmentError, match="a has 1, b has 2"):
        _arrays.same_length(a=[1], b=[2, 3])


def test_ids_that_stand_twice_are_named() -> None:
    assert _arrays.unique_ids(["b", "a"], what="Ids") == ("b", "a")
    with pytest.raises(InputError, match="Ids must be unique, but a, c stand"):
        _arrays.unique_ids(["a", "c", "b", "a", "c"], what="Ids")


def test_long_lists_are_counted() -> None:
    assert _arrays.listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_a_random_stream_depends_on_seed_and_purpose_only() -> None:
    draw = {(s, w): _arrays.random_for(s, w).random() for s in (0, 1) for w in ("a", "b")}
    assert len(set(draw.values())) == 4
    assert draw[0, "b"] == _arrays.random_for(0, "b").random()
    assert _arrays.random_for(0, "a", 1).random() != _arrays.random_for(0, "a1").random()


@pytest.mark.parametrize("n_voxels", [0, 1, _arrays.TILE, _arrays.TILE + 1, 3 * _arrays.TILE])
def test_tiles_cover_every_voxel_once(n_voxels: int) -> None:
    covered = [i for tile in _arrays.tiles(n_voxels) for i in range(tile.start, tile.stop)]
    assert covered == list(range(n_voxels))


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtraError.of("ldm", needed_for="The extractor 'ldm'")
    assert "pip install 'latentcortex[ldm]'" in str(error)
    assert isinstance(error, ImportError)


def test_digests_tell_parts_apart() -> None:
    assert _arrays.digest("a", "b") != _arrays.digest("ab")
    assert _arrays.digest(1) != _arrays.digest("1")
    assert len(_arrays.digest(np.arange(2).tolist())) == 64
