"""Cells side by side, what they share, and what goes on beside them."""

import os
import pickle
import sys
import threading
import time
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from latentcortex import executors
from latentcortex.errors import InputError
from latentcortex.executors import _sharing, called_every, run_program, share, with_threads
from latentcortex.executors.threads import Threads


def n_blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_work_is_mapped_in_order_with_one_blas_thread_each() -> None:
    before = n_blas_threads()
    assert share(lambda i: i * i, range(20)) == [i * i for i in range(20)]
    assert share(lambda _: n_blas_threads(), range(3)) == [{1}] * 3
    assert n_blas_threads() == before
    assert share(lambda i: i, []) == []


def test_nested_work_makes_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sharing, "n_cores", lambda: 4)

    def inner(_: int) -> int:
        return threading.get_ident()

    def outer(_: int) -> bool:
        return set(share(inner, range(5))) == {threading.get_ident()}

    assert share(outer, range(8)) == [True] * 8
    assert n_blas_threads() != {0}


def test_an_exception_in_a_worker_arrives_and_leaves_the_threads_as_they_were() -> None:
    before = n_blas_threads()
    with pytest.raises(ZeroDivisionError):
        share(lambda i: 1 / i, range(3))
    assert n_blas_threads() == before


class Running:
    """Counts how many threads run at once, and the most that ever did; they wait for each other until all are there."""

    def __init__(self, expected: int) -> None:
        self.expected, self.now, self.most = expected, 0, 0
        self._changed = threading.Condition()

    def wait(self) -> None:
        with self._changed:
            self.now += 1
            self.most = max(self.most, self.now)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self.expected, timeout=2)
        time.sleep(0.005)  # for one too many to come
        with self._changed:
            self.now -= 1


@pytest.mark.parametrize(("n_workers", "n_cells"), [(1, 3), (3, 1), (3, 2), (3, 7), (8, 3)])
def test_cells_and_what_they_share_never_use_more_threads_than_there_are_workers(n_workers: int, n_cells: int) -> None:
    running = Running(n_workers)

    def cell(i: int) -> list[int]:
        return share(lambda k: (running.wait(), 10 * i + k)[1], range(6))

    done = list(Threads(n_workers).map(cell, range(n_cells)))
    assert done == [[10 * i + k for k in range(6)] for i in range(n_cells)]
    assert running.most == n_workers  # where cells are fewer, those that run are given the other threads


def test_a_cell_alone_is_given_every_thread_and_shares_none_of_what_is_shared_already() -> None:
    def inner(_: int) -> int:
        time.sleep(0.02)
        return threading.get_ident()

    def cell(_: int) -> tuple[set[int], list[bool]]:
        outer = share(lambda k: (threading.get_ident(), set(share(inner, range(3)))), range(4))
        return {thread for thread, _ in outer}, [others == {thread} for thread, others in outer]

    ((threads, alone),) = Threads(4).map(cell, [0])
    assert len(threads) > 1
    assert all(alone)
    assert list(Threads(2).map(lambda _: executors.most_threads(), [0])) == [2]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_cell_in_a_process_of_its_own_shares_the_threads_that_it_is_given(n_threads: int) -> None:
    running = Running(n_threads)

    def cell(i: int) -> list[int]:
        assert n_blas_threads() == {1}
        return share(lambda k: (running.wait(), i + k)[1], range(6))

    assert with_threads(n_threads, cell, 5) == [5, 6, 7, 8, 9, 10]
    assert running.most == n_threads


def test_results_come_in_the_order_of_the_cells_whichever_ends_first() -> None:
    naps = [0.2, 0.0, 0.1, 0.0]
    ended: list[float] = []
    results = Threads(4).map(lambda nap: (time.sleep(nap), ended.append(nap), nap)[2], naps)
    assert list(results) == naps
    assert ended != naps


def test_a_cell_that_fails_raises_in_its_place_and_leaves_those_that_have_not_begun() -> None:
    begun: list[int] = []

    def cell(i: int) -> float:
        begun.append(i)
        time.sleep(0.01)
        return 1 / (2 - i)

    results = Threads(1).map(cell, range(50))
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 10


def test_each_cell_has_one_blas_thread_and_what_the_caller_said() -> None:
    said: ContextVar[str] = ContextVar("said", default="nothing")
    before = n_blas_threads()
    said.set("this")
    cells = Threads(2).map(lambda _: (n_blas_threads(), said.get()), range(4))
    assert list(cells) == [({1}, "this")] * 4
    assert n_blas_threads() == before


def test_cells_within_a_cell_use_its_own_thread() -> None:
    def cell(_: int) -> bool:
        return set(Threads(4).map(lambda _: threading.get_ident(), range(5))) == {threading.get_ident()}

    assert list(Threads(2).map(cell, range(3))) == [True] * 3


def test_what_is_computed_has_the_same_bits_whatever_the_workers_and_the_order() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 200))

    def cell(i: int) -> bytes:
        return b"".join(share(lambda k: (rows[:, : 20 + i] @ rows[: 20 + i, k::3]).tobytes(), range(3)))

    alone = list(Threads(1).map(cell, range(9)))
    assert list(Threads(3).map(cell, range(9))) == alone
    assert list(Threads(3).map(cell, range(8, -1, -1))) == alone[::-1]


def test_an_executor_is_made_by_name_and_refuses_what_is_no_number_of_workers() -> None:
    assert executors.make("threads", n_workers=2) == Threads(2)
    assert list(executors.make("threads").map(abs, [])) == []
    with pytest.raises(InputError, match="Unknown executor 'thread'"):
        executors.make("thread")
    with pytest.raises(InputError, match="`n_workers` of executor 'threads' must be a whole number of at least 1"):
        executors.make("threads", n_workers=0)


def test_what_goes_on_beside_ends_with_the_block_even_if_that_fails() -> None:
    calls: list[float] = []
    before = threading.active_count()

    def failing() -> None:
        with called_every(lambda: calls.append(0.0), seconds=0.005):
            time.sleep(0.1)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    n_calls = len(calls)
    assert 1 < n_calls <= 20
    time.sleep(0.03)
    assert len(calls) == n_calls
    assert threading.active_count() == before


def test_another_program_runs_in_its_folder_with_nothing_to_read(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), repr(sys.stdin.read()), os.environ['A']); sys.exit(3)"
    done = run_program([sys.executable, "-c", code], environment=os.environ | {"A": "b"}, folder=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (3, f"{tmp_path.resolve()} '' b")


def test_an_executor_can_be_sent_elsewhere() -> None:
    sent = pickle.loads(pickle.dumps((Threads(2), partial(pow, 2))))
    assert list(sent[0].map(sent[1], [1, 2, 3])) == [2, 4, 8]
