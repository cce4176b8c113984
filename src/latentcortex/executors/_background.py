"""Calls of a function at intervals while a block runs, and other programs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def called_every(function: Callable[[], object], *, seconds: float) -> Iterator[None]:
    """Call a function in a thread of its own, every so many seconds, as long as the block runs.

    The first call comes after one interval. The block's end waits for a call that is running. An exception of the
    function ends the calls: it is printed, and not raised in the block.
    """
    stop = threading.Event()

    def call_repeatedly() -> None:
        while not stop.wait(seconds):
            function()

    thread = threading.Thread(target=call_repeatedly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def run_program(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run another program in a folder to its end, with empty standard input; return its exit code and what it wrote.

    `environment` is the whole of its environment, not what is added to this process's.
    """
    return subprocess.run(  # noqa: S603 - a list, so that no shell reads it
        list(command),
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
