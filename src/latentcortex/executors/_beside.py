"""What goes on beside the work: something that is done again and again meanwhile, and other programs."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(function: Callable[[], object], *, every: float) -> Iterator[None]:
    """Call a function in a thread of its own, every so many seconds, as long as the block runs.

    The first call comes after one interval. The block's end waits for a call that is running.
    """
    over = threading.Event()

    def again() -> None:
        while not over.wait(every):
            function()

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def process(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run another program in a folder to its end, with nothing to read; return its exit code and what it wrote."""
    return subprocess.run(  # noqa: S603 - a list, so that no shell reads it
        list(command),
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
