from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

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


def n_blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_work_is_mapped_in_order_with_one_blas_thread_each() -> None:
    before = n_blas_threads()
    assert _arrays.in_threads(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    assert _arrays.in_threads(lambda _: n_blas_threads(), range(3)) == [{1}] * 3
    assert n_blas_threads() == before
    assert _arrays.in_threads(lambda i: i, []) == []


def test_nested_work_makes_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arrays, "n_cores", lambda: 4)

    def inner(_: int) -> int:
        return threading.get_ident()

    def outer(_: int) -> bool:
        return set(_arrays.in_threads(inner, range(5))) == {threading.get_ident()}

    assert _arrays.in_threads(outer, range(8)) == [True] * 8
    assert n_blas_threads() != {0}


def test_an_exception_in_a_worker_arrives_and_leaves_the_threads_as_they_were() -> None:
    before = n_blas_threads()
    with pytest.raises(ZeroDivisionError):
        _arrays.in_threads(lambda i: 1 / i, range(3))
    assert n_blas_threads() == before


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtraError.of("ldm", needed_for="The extractor 'ldm'")
    assert "pip install 'latentcortex[ldm]'" in str(error)
    assert isinstance(error, ImportError)


def test_digests_tell_parts_apart() -> None:
    assert _arrays.digest("a", "b") != _arrays.digest("ab")
    assert _arrays.digest(1) != _arrays.digest("1")
    assert len(_arrays.digest(np.arange(2).tolist())) == 64
