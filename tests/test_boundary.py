"""One line and an exit code for what ends a command from outside; a traceback for what is wrong with the program."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from latentcortex import cli
from latentcortex._boundary import Ending, Interrupted, ending, interruptible
from latentcortex.errors import InputError
from latentcortex.study import Study

PYTHON = (sys.executable, "-m", "latentcortex")
GO_ON = "run the same command to go on."


def raised(call: object, *arguments: object) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what the tests ask
        call(*arguments)  # type: ignore[operator]
    return caught.value


@pytest.mark.parametrize("mistake", [ValueError("x"), RuntimeError("shapes"), AssertionError(), KeyError("a")])
def test_a_mistake_of_the_program_has_no_line(mistake: Exception) -> None:
    assert ending(mistake) is None


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "read", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "study.toml"])


def test_what_a_user_must_mend_is_one_line() -> None:
    assert ending(InputError("x.tsv\n  is empty")) == Ending("x.tsv is empty", 2)


def test_an_answer_of_the_operating_system_names_file_reason_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    cases = {
        os.listdir: (
            tmp_path / "file",
            f"Not a directory: move away what stands in the place of a folder, then {GO_ON}",
        ),
        Path.read_bytes: (tmp_path, f"Is a directory: move away the folder that stands in its place, then {GO_ON}"),
        Path.open: (tmp_path / "gone", "No such file or directory."),
    }
    for call, (path, said) in cases.items():
        assert ending(raised(call, path)) == Ending(f"{path}: {said}", 2)
    said = f"{tmp_path}/link is a link to nowhere, which is not there: mend the link, then {GO_ON}"
    assert [ending(raised(call, tmp_path / "link")) for call in (Path.open, Path.mkdir)] == [Ending(said, 2)] * 2
    full = ending(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.npz"))
    assert full == Ending(f"x.npz: No space left on device: make room on that disk, then {GO_ON}", 2)
    assert ending(OSError("a library's\nown words")) == Ending("a library's own words", 2)


def test_too_little_memory_is_one_line() -> None:
    end = ending(raised(np.empty, (10**9, 10**9)))
    assert end is not None
    assert end.code == 2
    assert end.line.startswith("there is not enough memory (Unable to allocate ")
    assert end.line.endswith(f"lower `batch` in [extractor] or `n_dims` in [analyses], then {GO_ON}")
    assert ending(MemoryError()) is not None


def test_too_little_memory_for_torch_is_one_line() -> None:
    torch = pytest.importorskip("torch")
    for error in (raised(torch.empty, 10**15), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")):
        end = ending(error)
        assert end is not None
        assert end.line.startswith("there is not enough memory (")
    failed = ending(torch.AcceleratorError("CUDA error: uncorrectable ECC error"))
    assert failed == Ending(f"the device failed (CUDA error: uncorrectable ECC error): look at it, then {GO_ON}", 2)


@pytest.fixture
def hung_up_on() -> Iterator[None]:
    """SIGHUP does what it does by default, whoever started the tests and had it ignored, as nohup does."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hung_up_on")
def test_a_signal_ends_a_block_and_handlers_are_as_before() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        with pytest.raises(Interrupted) as caught, interruptible():
            os.kill(os.getpid(), number)
        assert ending(caught.value) == Ending(
            f"interrupted{'' if number == signal.SIGINT else f' by {number.name}'}; {GO_ON}", 128 + number
        )
    assert {number: signal.getsignal(number) for number in before} == before


def test_a_signal_that_an_import_turns_into_an_error_is_still_one() -> None:
    def imported() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy._core.multiarray failed to import") from None

    with pytest.raises(Interrupted) as caught, interruptible():
        imported()
    assert caught.value.number == signal.SIGTERM


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hung_up_on")
def test_a_second_signal_does_not_break_off_what_the_first_one_closes() -> None:
    closed = []

    def closing() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            closed.append("whole")

    with pytest.raises(Interrupted), interruptible():
        closing()
    assert closed == ["whole"]


def test_a_command_runs_in_a_thread_which_hears_no_signals(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert capsys.readouterr().out.startswith("latentcortex ")


def test_debug_shows_where_a_refusal_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(tmp_path / "none.toml")]
    assert cli.main(command) == cli.main([*command, "--debug"]) == 2
    plain, *traceback, last = capsys.readouterr().err.splitlines()
    assert plain == last == f"latentcortex: Study file {tmp_path}/none.toml is not there."
    assert traceback[0].startswith("Traceback")
    assert cli.main(["run", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"latentcortex: {tmp_path} is a folder; expected a study file in TOML.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_standard_output_that_cannot_be_written_is_said_and_one_that_is_closed_is_not() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PYTHON, "--version"], stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    said = f"latentcortex: standard output: No space left on device: make room on that disk, then {GO_ON}\n"
    assert (done.returncode, done.stderr) == (2, said)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*PYTHON, "--version"], stdout=writer, stderr=subprocess.PIPE, check=False, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


SHADOWS = ("typing", "argparse", "random", "numpy", "pandas", "json", "latentcortex_extra")


def test_no_module_of_the_current_folder_is_imported(tmp_path: Path) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__file__} was imported')")
    command = [*PYTHON, "check", "none.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True, timeout=120)
    assert done.stderr == "latentcortex: Study file none.toml is not there.\n"
