"""What ends a command from outside the program: a signal, or what the operating system answers."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from latentcortex.errors import InputErrors, LatentcortexError

REFUSED: Final = 2
"""Exit code for what the user or the machine must mend. A signal's is 128 and its number, as shells have it."""
SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Those that ask for an end; Windows has no SIGHUP."""
_ADVICE: Final = {
    "make room on that disk": ("ENOSPC",),
    "make room within your quota": ("EDQUOT",),
    "raise the limit on the size of files (ulimit -f), or use a file system that takes larger ones": ("EFBIG",),
    "change the permissions of the file and of the folders above it": ("EACCES", "EPERM"),
    "choose a folder that can be written": ("EROFS",),
    "raise the limit on open files (ulimit -n)": ("EMFILE", "ENFILE"),
    "look at that disk, or at the network that it is on": ("EIO", "ENXIO", "ENODEV"),
    "look at the network that it is on": (
        *("ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "ECONNREFUSED", "EREMOTEIO"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
    ),
    "choose a shorter name, or a folder of results with a shorter one": ("ENAMETOOLONG",),
    "choose a name that this file system can hold, or another file system": ("EILSEQ",),
    "mend the links on the way to it, which lead in a circle": ("ELOOP",),
    "close what has it open": ("EBUSY", "ETXTBSY"),
    "move away what stands in its place": ("EEXIST", "ENOTEMPTY"),
    "move away the folder that stands in its place": ("EISDIR",),
    "move away what stands in the place of a folder": ("ENOTDIR",),
    "choose a folder on a file system that can do this": ("ENOSYS", "EOPNOTSUPP", "EXDEV", "EMLINK", "ENOLCK"),
    "free some memory": ("ENOMEM",),
}
ADVICE: Final = {
    getattr(errno, name): advice for advice, names in _ADVICE.items() for name in names if hasattr(errno, name)
}
"""What to do about an answer of the operating system; not every system has every answer."""
WORDS_OF_MEMORY: Final = ("can't allocate memory", "can't start new thread")
"""What torch and Python say, as errors without a type of their own, where the machine has no more to give."""
GO_ON: Final = "run the same command to go on"


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """End the block by `Interrupted` when a signal asks for it, so that whatever is open is closed on the way.

    Signals that are ignored stay ignored (`nohup`, background jobs), and so do all but the first SIGTERM and SIGHUP.
    Only the main thread hears signals; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if signal.getsignal(number) in usual}

    def stop(number: int, _: FrameType | None) -> None:
        heard.append(number)
        for other in before.keys() - {signal.SIGINT}:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        if heard:  # an import that is interrupted inside a compiled module says something else
            raise Interrupted(heard[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Ending:
    """How a command ends.

    Parameters
    ----------
    line : str
        What is said, a line for each mistake; nothing where nobody listens.
    code : int
        Exit code.
    """

    line: str
    code: int


def ending(error: BaseException) -> Ending | None:
    """Say what ended a command, and what to do, in one line for each mistake; None for an error of the program."""
    if isinstance(error, InputErrors):
        return Ending("\n".join(map(_one_line, error.lines)), REFUSED)
    if isinstance(error, LatentcortexError):
        return Ending(_one_line(str(error)), REFUSED)
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        return Ending(f"interrupted{by}; {GO_ON}.", 128 + number)
    if isinstance(error, BrokenPipeError):
        return Ending("", 128 + signal.SIGPIPE)
    if isinstance(error, OSError):
        return Ending(_answer(error), REFUSED)
    if _is_memory(error):
        why = f" ({_one_line(str(error))})" if str(error) else ""
        less = "free some, or lower `batch` in [extractor] or `n_dims` in [analyses]"
        return Ending(f"there is not enough memory{why}: {less}, then {GO_ON}.", REFUSED)
    if isinstance(error, _of_torch("AcceleratorError")):
        return Ending(f"the device failed ({_one_line(str(error))}): look at it, then {GO_ON}.", REFUSED)
    return None


def _answer(error: OSError) -> str:
    """Name the file, the reason and the remedy."""
    if error.errno is None:  # a library's own words
        return _one_line(str(error))
    reason = error.strerror or os.strerror(error.errno)
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else None
    for link in (Path(path), *Path(path).parents) if path and error.errno in (errno.ENOENT, errno.EEXIST) else ():
        if os.path.islink(link) and not os.path.exists(link):
            return f"{link} is a link to {os.readlink(link)}, which is not there: mend the link, then {GO_ON}."
    place = "" if path is None else f"{path}: "
    advice = f": {ADVICE[error.errno]}, then {GO_ON}" if error.errno in ADVICE else ""
    return _one_line(f"{place}{reason}{advice}.")


def _is_memory(error: BaseException) -> bool:
    """Tell whether memory ran out."""
    if isinstance(error, (MemoryError, _of_torch("OutOfMemoryError"))):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS_OF_MEMORY)


def _of_torch(name: str) -> type[BaseException] | tuple[()]:
    """Find one of torch's errors, which cannot have been raised unless torch was imported."""
    kind = getattr(sys.modules.get("torch"), name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else ()


def _one_line(text: str) -> str:
    return " ".join(text.split())
