"""The nearest of the names that there are, for one that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from latentcortex.errors import InputError


def hint(name: str, names: Iterable[str]) -> str:
    """Ask whether the nearest name was meant; nothing where none is near.

    Examples
    --------
    >>> hint("ldn", ["clip", "ldm"])
    " Did you mean 'ldm'?"
    """
    near = get_close_matches(name, sorted(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Make the error for a name that is not known, with the nearest one that is.

    Examples
    --------
    >>> str(unknown("extractor", "ldn", ["clip", "ldm"]))
    "Unknown extractor 'ldn'. Did you mean 'ldm'? Known: clip, ldm."
    """
    names = sorted(known)
    return InputError(f"Unknown {kind} {name!r}.{hint(name, names)} Known: {', '.join(names)}.")
