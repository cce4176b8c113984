"""Whatever the operating system answers: what a file system lacks is put up with, and a refusal is one line."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _studies import write_folder_study

from latentcortex import _files, _filesystem, cli
from latentcortex._boundary import ADVICE, ending
from latentcortex._results import NAME, ResultsFolder
from latentcortex._store import Store
from latentcortex.study import Study

Answer = Callable[..., Any]
LACKS = {
    "no sync": ("fsync", errno.EINVAL, "cannot sync files"),
    "no sync at all": ("fsync", errno.ENOSYS, "cannot sync files"),
    "no folders to open": ("open", errno.EACCES, "cannot open folders"),
    "no replacing": ("replace", errno.EPERM, "cannot rename over a file that is there"),
    "exists": ("replace", errno.EEXIST, "cannot rename over a file that is there"),
}
REFUSED = (
    *(errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT, errno.ESTALE),
    *(errno.EMFILE, errno.ENOTCONN, errno.ELOOP, errno.EBUSY),
)
CALLS = ("io.open", "os.replace", "os.fsync", "os.mkdir", "os.listdir")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_filesystem, "_SAID", set())
    monkeypatch.setattr(_filesystem, "WAITS_S", (0.0, 0.0))


def refusing(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int, below: Path, *, only: Answer | None = None
) -> None:
    """Make a function of the operating system refuse what lies below a folder; syncing knows no names."""
    module, name = call.split(".")
    whole = getattr({"os": os, "io": io}[module], name)

    def refused(*given: Any, **more: Any) -> Any:
        path = given[0]
        named = isinstance(path, (str, os.PathLike))
        if (name == "fsync" or (named and Path(path).is_relative_to(below))) and (only is None or only(*given)):
            raise OSError(number, os.strerror(number), *([os.fspath(path)] if named else []))
        return whole(*given, **more)

    monkeypatch.setattr(f"{module}.{name}", refused)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("lack", LACKS)
def test_a_file_system_that_lacks_something_is_put_up_with_and_said_once(tmp_path, monkeypatch, caplog, lack) -> None:
    name, number, said = LACKS[lack]
    only = {
        "replace": lambda _, path: os.path.lexists(path),
        "open": lambda path, *_: os.path.isdir(path),
        "fsync": None,
    }[name]
    refusing(monkeypatch, f"os.{name}", number, tmp_path, only=only)
    for text in ("one", "two", "three"):
        _files.write_text(tmp_path / "x.txt", text)
        Store(tmp_path).save("part", {"x": np.ones(3)}, {"text": text})
    monkeypatch.undo()
    part = Store(tmp_path).load("part")
    assert part is not None
    assert part.facts == {"text": "three"}
    assert sorted(written(tmp_path)) == ["part.arrays", "x.txt"]
    assert written(tmp_path)["x.txt"] == b"three"
    assert caplog.text.count(said) == 1


def test_a_file_that_somebody_reads_is_waited_for(tmp_path, monkeypatch) -> None:
    _files.write_text(tmp_path / "x.txt", "one")
    answers = [errno.ETXTBSY, errno.EBUSY]
    refusing(monkeypatch, "os.replace", errno.EBUSY, tmp_path, only=lambda *_: answers and answers.pop())
    _files.write_text(tmp_path / "x.txt", "two")
    assert answers == []
    assert written(tmp_path) == {"x.txt": b"two"}


def test_a_file_that_is_read_for_ever_is_refused_unless_it_is_the_same(tmp_path, monkeypatch) -> None:
    store = Store(tmp_path)
    store.save("part", {"x": np.ones(3)})
    refusing(monkeypatch, "os.replace", errno.EBUSY, tmp_path)
    store.save("part", {"x": np.ones(3)})
    with pytest.raises(OSError, match="busy") as refused:
        store.save("part", {"x": np.zeros(3)})
    end = ending(refused.value)
    assert end is not None
    assert end.line == (
        f"{tmp_path}/part.arrays: Device or resource busy: close what has it open, then run the same command to go on."
    )
    assert sorted(written(tmp_path)) == ["part.arrays"]


@pytest.mark.parametrize(("number", "n_said"), [(errno.ENODEV, 1), (errno.EMFILE, 0), (errno.ENOMEM, 0)])
def test_files_that_cannot_be_mapped_are_read(tmp_path, monkeypatch, caplog, number: int, n_said: int) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    store = Store(tmp_path)
    store.save("part", {"x": np.arange(10_000)})
    monkeypatch.setattr("latentcortex._filesystem._SAID", set())
    monkeypatch.setattr("mmap.mmap", refused)
    for _ in range(2):
        part = store.load("part", mmap=True)
        assert part is not None
        assert part.arrays["x"].tolist() == list(range(10_000))
    assert caplog.text.count("cannot map files into memory") == n_said


def owned(folder: Path) -> None:
    """Do with a folder of results what a run does."""
    record = ResultsFolder(folder, "k", {}, ("sub-*.html",))
    with record.owning(overwrite=False):
        record.begin()
        with record.claiming():
            record.store.save("part", {"x": np.ones(3)})
            record.store.load("part", mmap=True)
            _files.write_text(folder / "sub-01" / "x.html", "x")
        record.finish(("report",))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", REFUSED)
def test_what_is_refused_is_one_line_with_file_reason_and_remedy(tmp_path, monkeypatch, call: str, number: int) -> None:
    with monkeypatch.context() as patch:
        refusing(patch, call, number, tmp_path / "out")
        with pytest.raises(OSError) as refused:  # noqa: PT011 - its words are what is looked at
            owned(tmp_path / "out")
    end = ending(refused.value)
    assert end is not None
    assert end.code == 2
    assert end.line.startswith(f"{tmp_path}/out"), end.line
    assert ADVICE[number] in end.line
    assert "\n" not in end.line
    assert not [path for path in tmp_path.rglob(".latentcortex*") if path.is_file()]
    owned(tmp_path / "out")
    assert (tmp_path / "out" / NAME).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENAMETOOLONG, errno.EDQUOT])
@pytest.mark.parametrize("part", ["", "work", "features", "sub-01/func", "logs"])
def test_a_run_that_is_refused_a_file_ends_in_one_line_and_goes_on(
    tmp_path, monkeypatch, capsys, call: str, number: int, part: str
) -> None:
    study, out = write_folder_study(tmp_path), tmp_path / "out"
    Study.read(study).run(out, until="extract", progress=False)
    with monkeypatch.context() as patch:
        refusing(patch, call, number, out / part)
        code = cli.main(["run", str(study), "--out", str(out), "--quiet"])
    text = capsys.readouterr().err
    if code:
        assert (code, text.count("\n")) == (2, 1), text
        assert str(out) in text
    assert cli.main(["run", str(study), "--out", str(out), "--quiet"]) == 0
    assert not [path for path in out.rglob(".latentcortex*") if path.is_file()]


def test_a_link_that_leads_nowhere_is_named_wherever_it_lies_on_the_way(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for path in (tmp_path / "link", tmp_path / "link" / "x.txt", tmp_path / "link" / "deep" / "x.txt"):
        with pytest.raises(OSError) as refused:  # noqa: PT011 - its words are what is looked at
            _files.write_text(path, "x") if path != tmp_path / "link" else path.read_text()
        end = ending(refused.value)
        assert end is not None
        assert end.line.startswith(f"{tmp_path}/link is a link to {tmp_path}/gone, which is not there: mend the link")


def test_a_name_that_is_too_long_is_one_line(tmp_path, capsys) -> None:
    study = write_folder_study(tmp_path)
    assert cli.main(["run", str(study), "--out", str(tmp_path / ("x" * 300)), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "File name too long: choose a shorter name" in error
