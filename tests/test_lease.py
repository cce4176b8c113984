"""A folder is one study's while it is written: never two win, and who died or was stopped holds nobody up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from _outside import in_one_process
from _studies import write_folder_study

from latentcortex import _lease
from latentcortex._lease import Lease, claims
from latentcortex._results import ResultsFolder
from latentcortex.errors import IncompleteError, InputError

TIMED = ("study.json", "summary.json", ".jsonl", ".html", "_report.json")
"""How files end that hold times."""


def test_another_study_is_refused_in_one_line_and_this_one_shares(tmp_path: Path) -> None:
    with Lease(tmp_path, "a").held():
        before = sorted(tmp_path.iterdir())
        said = rf"is being written by another study, .*process {os.getpid()} on {socket.gethostname()}, since 20"
        with pytest.raises(InputError, match=said) as refused:
            Lease(tmp_path, "b").refuse_others()
        assert "\n" not in str(refused.value)
        with pytest.raises(InputError, match=said), Lease(tmp_path, "b").held():
            pass
        assert sorted(tmp_path.iterdir()) == before
        Lease(tmp_path, "a").refuse_others()
        with Lease(tmp_path, "a").held():
            assert len(claims(tmp_path, "lease")) == 2
        with pytest.raises(InputError), Lease(tmp_path, "b").held():
            pass
    assert list(tmp_path.iterdir()) == []
    with Lease(tmp_path, "b").held():
        pass


def test_looking_whose_a_folder_is_makes_none(tmp_path: Path) -> None:
    Lease(tmp_path / "out", "a").refuse_others()
    assert not (tmp_path / "out").exists()


def test_a_lease_ends_with_an_error_in_its_block(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), Lease(tmp_path, "a").held():
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


HOLDER = """
import sys, time
from pathlib import Path
from latentcortex._lease import Lease
with Lease(Path(sys.argv[1]), "a").held():
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holding(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lease of a folder in another process."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_owner_is_followed_at_once(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        with pytest.raises(InputError), Lease(tmp_path, "b").held():
            pass
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
        assert len(list(tmp_path.iterdir())) == 2
        with Lease(tmp_path, "b").held():
            assert len(claims(tmp_path, "lease")) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_of_the_same_study_left_goes_with_the_last_one(tmp_path: Path) -> None:
    with holding(tmp_path) as process, Lease(tmp_path, "a").held():
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_is_stopped_is_still_the_owner(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(InputError), Lease(tmp_path, "b").held():
            pass


def planted(folder: Path, *, seconds_ago: float = 0.0, **changes: object) -> Path:
    """Put down the claim of an owner that is like this process but for some facts."""
    mine = replace(_lease._new(folder, "lease", _lease._short("a")), **changes)
    name = f".latentcortex_lease-{mine.key}-{mine.since_ms}-{mine.pid}-{mine.started}-{mine.namespace}"
    path = folder / f"{name}-{mine.token}-{mine.host}"
    for one in (path, path.with_name(f"{path.name}{_lease.OWNER}")):
        one.touch()
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


@pytest.mark.parametrize(
    ("changes", "seconds_ago", "holds"),
    [
        ({}, 1e6, True),  # it lives, whatever the clock says
        ({"started": 7}, 0, False),  # an earlier process of the same number
        ({"host": "another-host"}, 300, True),
        ({"host": "another-host"}, 1200, False),
        ({"namespace": 7}, 300, True),  # of a container with the same host name
        ({"namespace": 7}, 1200, False),
    ],
)
def test_a_claim_holds_while_its_process_may_live(tmp_path: Path, changes, seconds_ago: float, holds: bool) -> None:
    path = planted(tmp_path, seconds_ago=seconds_ago, **changes)
    if holds:
        with pytest.raises(InputError) as refused, Lease(tmp_path, "b").held():
            pass
        assert (f"delete {path} if that process has ended" in str(refused.value)) == bool(changes)
    else:
        with Lease(tmp_path, "b").held():
            assert not path.exists()


def test_a_sign_of_life_is_given_while_a_lease_is_held(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_lease, "HEARTBEAT_S", 0.01)
    with Lease(tmp_path, "a").held():
        (claim,) = claims(tmp_path, "lease")
        os.utime(claim.path, (0, 0))
        end = time.monotonic() + 10
        while not claim.path.stat().st_mtime and time.monotonic() < end:
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > 0
    assert not [one for one in threading.enumerate() if one.name == "latentcortex-lease"]


def test_a_claim_of_an_earlier_process_that_waits_is_not_stronger_than_an_owner(tmp_path: Path) -> None:
    with Lease(tmp_path, "a").held():
        early = planted(tmp_path, key=_lease._short("b"), since_ms=1)
        early.with_name(f"{early.name}{_lease.OWNER}").unlink()  # it has not won
        Lease(tmp_path, "a").refuse_others()
        early.unlink()


def test_who_lost_the_lease_writes_nothing_more(tmp_path: Path) -> None:
    from latentcortex import _files

    record = ResultsFolder(tmp_path, "k", {}, ("sub-*.html",))
    with record.owning(overwrite=False):
        record.begin()
        with record.claiming():
            _files.write_text(tmp_path / "sub-01.html", "before")
            for path in tmp_path.glob(".latentcortex_lease*"):
                path.unlink()
            with pytest.raises(IncompleteError, match="taken over by another process"):
                _files.write_text(tmp_path / "sub-01.html", "after")
    assert (tmp_path / "sub-01.html").read_text() == "before"


@pytest.mark.parametrize("n_rounds", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_of_many_that_claim_a_folder_at_once_exactly_one_study_wins(tmp_path: Path, n_rounds: int) -> None:
    for _ in range(n_rounds):
        barrier, won, inside = threading.Barrier(6), [], set()
        clashes = []

        def contend(key: str, barrier=barrier, won=won, inside=inside, clashes=clashes) -> None:
            barrier.wait()
            with suppress(InputError), Lease(tmp_path, key).held():
                won.append(key)
                inside.add(key)
                clashes.extend([inside] if len(inside) > 1 else [])
                barrier.wait()
                return
            barrier.wait()

        threads = [threading.Thread(target=contend, args=(key,)) for key in "aabbcc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(won)) == 1
        assert not clashes
        assert list(tmp_path.iterdir()) == []


def test_turns_do_not_overlap(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_lease, "TURN_S", 0.001)
    inside, most = [], []

    def write() -> None:
        for _ in range(5):
            with Lease(tmp_path, "a").turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


ROUNDS = """
n_rounds = int(sys.argv[1])
random.seed(int(sys.argv[2]))
began = time.monotonic()
for name in ("a", "b"):
    assert end(start("run", f"study/{name}.toml", "--out", f"alone-{name}", "--quiet")) == (0, "")
took = (time.monotonic() - began) / 2
rounds = []
for k in range(n_rounds):
    for kind, names in KINDS.items():
        children = []
        for name in names:
            options = ["--overwrite"] if kind == "overwriting" and children else []
            children.append(start("run", f"study/{name}.toml", "--out", f"{kind}{k}", "--quiet", *options))
            time.sleep(random.choice([0, random.random() * took / len(names)]))
        if kind == "killed":
            os.kill(children[0][0], signal.SIGKILL)
        rounds.append([kind, f"{kind}{k}", [[name, *end(child)] for name, child in zip(names, children)]])
print(json.dumps(rounds))
"""
KINDS = {"same": "aa", "four": "aaaa", "different": "ab", "mixed": "abab", "overwriting": "ab", "killed": "aa"}
"""Which studies start into one folder, one after the other."""


def content(out: Path) -> dict[str, bytes]:
    """Read every file; of those that hold times, that they are there."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: b"" if name.endswith(TIMED) else path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize(
    ("kinds", "n_rounds"), [(("same", "different"), 1), pytest.param(tuple(KINDS), 10, marks=pytest.mark.slow)]
)
def test_processes_on_one_folder_never_leave_a_mixture(tmp_path: Path, kinds: tuple[str, ...], n_rounds: int) -> None:
    """What is left is what one study leaves alone; the others are refused in one line."""
    study = write_folder_study(tmp_path)
    study.rename(study.with_name("a.toml"))
    study.with_name("b.toml").write_text(study.with_name("a.toml").read_text().replace("q = 0.05", "q = 0.01"))
    program = f"KINDS = { {kind: KINDS[kind] for kind in kinds}!r}\n{ROUNDS}"
    rounds = in_one_process(program, tmp_path, n_rounds, n_rounds)
    alone = {name: content(tmp_path / f"alone-{name}") for name in "ab"}
    keys = {name: key_of(tmp_path / f"alone-{name}") for name in "ab"}
    assert alone["a"] != alone["b"]
    for kind, out, ends in rounds:
        (left,) = [name for name in "ab" if keys[name] == key_of(tmp_path / out)]
        assert content(tmp_path / out) == alone[left], (kind, out, ends)
        assert left in [name for name, code, _ in ends if code == 0], (kind, out, ends)
        for name, code, text in ends:
            if code == -signal.SIGKILL:
                assert kind == "killed"
            elif code == 0:
                assert text == ""
                assert name == left or kind == "overwriting", (kind, out, ends)
            else:
                assert (code, text.count("\n")) == (2, 1), (kind, out, ends)
                assert "another study" in text
                assert name != left or kind == "overwriting", (kind, out, ends)


def key_of(out: Path) -> str:
    key: str = json.loads((out / "study.json").read_text())["key"]
    return key
