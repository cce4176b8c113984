"""Files that nobody wrote on purpose: what killed writers leave, and what operating systems put into folders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latentcortex import _files
from latentcortex._results import NAME, ResultsFolder
from latentcortex.errors import InputError

HOST = socket.gethostname()
NOBODYS = (
    ".DS_Store",
    "._study.json",
    "Thumbs.db",
    "desktop.ini",
    ".nfs000000000012",
    f".latentcortex-{HOST}-1-0123abcd-x.json",
)


def record(folder: Path) -> ResultsFolder:
    return ResultsFolder(folder, "key", {}, ("sub-*/*", "logs/*"))


def dead() -> int:
    """Number a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def part(folder: Path, host: str, pid: int, *, seconds_ago: float = 0.0) -> Path:
    """Put down what a writer did not finish."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".latentcortex-{host}-{pid}-0123abcd-map.nii.gz"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


@pytest.mark.parametrize("name", [*NOBODYS, ".latentcortex-another-host-77-89abcdef-study.json"])
def test_a_folder_with_nobody_s_files_is_free(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    record(tmp_path).refuse(overwrite=False)


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".git",
        ".secret-1-2.txt",
        ".draft-12-20240131-figure.png",
        ".latentcortex-1-2",
        "Thumbs",
        "study.toml",
    ],
)
def test_a_folder_with_somebody_s_file_is_refused_and_the_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=f"is not empty \\({name}\\) and holds no study \\(no study.json\\)"):
        record(tmp_path).refuse(overwrite=False)


def test_a_folder_that_is_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"out is a link to .*gone, which is not there"):
        record(tmp_path / "out").refuse(overwrite=False)


def test_what_is_unfinished_is_never_a_result_and_is_gone_when_its_writer_is(tmp_path: Path) -> None:
    left = [part(tmp_path / name, HOST, dead()) for name in ("", "sub-01", "sub-01/func", "features/store")]
    alive = part(tmp_path / "sub-01", HOST, os.getpid())
    clutter = tmp_path / "sub-01" / ".DS_Store"
    block = tmp_path / "features" / "store" / "block-0000.arrays"
    for path in (clutter, block):
        path.write_bytes(b"whole")
    study = record(tmp_path)
    study.begin()
    assert not any(path.exists() for path in left)
    with study.claiming():
        _files.write_text(tmp_path / "sub-01" / "map.nii.gz", "whole")
    study.include({block: _files.sha256(block)})
    late = part(tmp_path / "sub-01", HOST, dead())
    study.finish(("report",))
    assert not late.exists()
    assert alive.exists()
    assert list(_files.read_json(tmp_path / NAME)["files"]) == ["sub-01/map.nii.gz"]
    clutter.write_bytes(b"the system wrote into it again")
    assert study.is_done("report")


@pytest.mark.parametrize(
    ("host", "pid", "seconds_ago", "stays"),
    [
        (HOST, "own", 0, True),
        (HOST, "own", 1e6, False),  # of an earlier process with the same number
        (HOST, "dead", 0, False),
        (HOST, "zombie", 0, False),
        ("another-host", "own", 60, True),
        ("another-host", "dead", 1200, False),
        ("", "own", 1200, True),  # not what `writing` names a file
    ],
)
def test_an_unfinished_file_stays_while_its_writer_may_live(
    tmp_path: Path, host: str, pid: str, seconds_ago: float, stays: bool
) -> None:
    ended = os.fork() if pid == "zombie" else 0
    if pid == "zombie" and ended == 0:
        os._exit(0)
    try:
        if ended:
            os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
        number = {"own": os.getpid(), "zombie": ended}.get(pid) or dead()
        path = part(tmp_path / "deep", host, number, seconds_ago=seconds_ago)
        _files.sweep(tmp_path)
        assert path.exists() == stays
    finally:
        if ended:
            os.waitpid(ended, 0)


def test_no_link_is_followed_to_sweep(tmp_path: Path) -> None:
    elsewhere = part(tmp_path / "elsewhere", HOST, dead())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub-01").symlink_to(tmp_path / "elsewhere")
    link = tmp_path / "out" / elsewhere.name
    link.symlink_to(elsewhere)
    _files.sweep(tmp_path / "out")
    assert elsewhere.exists()
