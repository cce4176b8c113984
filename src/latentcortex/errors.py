"""What can go wrong because of what a user gave us. One line for each mistake; the command line exits with 2."""

from __future__ import annotations

from collections.abc import Sequence


class LatentcortexError(Exception):
    """The user can mend this: the message says what was found, what was expected and what to do."""


class InputError(LatentcortexError, ValueError):
    """A file, a value or an argument is not what it must be."""


class InputErrors(InputError):
    """Several things are not what they must be; each has a line of its own.

    Parameters
    ----------
    lines : sequence of str
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class AlignmentError(InputError):
    """Two things that must describe the same stimuli, trials or voxels do not."""


class MissingExtraError(LatentcortexError, ImportError):
    """An optional part of latentcortex is not installed."""

    @classmethod
    def of(cls, extra: str, *, needed_for: str) -> MissingExtraError:
        """Make the error for an extra, saying what needs it and how to install it."""
        return cls(f"{needed_for} needs an optional part: pip install 'latentcortex[{extra}]'.")


class IncompleteError(LatentcortexError):
    """Something on disk is damaged or unfinished and cannot be used."""


def first_line(error: BaseException) -> str:
    """Shorten what somebody else's error says to a part of one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
