"""A shelf: classes that a user picks by name. A stranger adds one file and one line here."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar

import numpy as np

from latentcortex.errors import InputError

_Make = TypeVar("_Make", bound=Callable[..., Any])


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Make the error for a name that is not known, with the nearest one that is.

    Examples
    --------
    >>> str(unknown("extractor", "ldn", ["clip", "ldm"]))
    "Unknown extractor 'ldn'. Did you mean 'ldm'? Known: clip, ldm."
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")


KINDS: Final[dict[str, tuple[str, tuple[type, ...]]]] = {
    "int": ("a whole number", (int, np.integer)),
    "float": ("a number", (int, float, np.number)),
    "str": ("a string", (str, os.PathLike)),
    "bool": ("true or false", (bool,)),
}
"""Annotations that a study file can go against: what they ask for, in words and as types."""


def _check_kind(what: str, value: object, annotation: str) -> None:
    """Raise `InputError` where a value is not of the kind that a simple annotation asks for."""
    several = annotation.startswith("Sequence[")
    kind = annotation.removeprefix("Sequence[").removesuffix("]")
    if kind not in KINDS or value is None:
        return
    words, types = KINDS[kind]
    items = list(value) if several and isinstance(value, (list, tuple, np.ndarray)) else [value]
    right = all(isinstance(one, types) and (kind == "bool" or not isinstance(one, bool)) for one in items)
    if not right or several != isinstance(value, (list, tuple, np.ndarray)):
        raise InputError(f"{what} must be {'a list, each ' if several else ''}{words}; got {value!r}.")


@dataclass(frozen=True)
class Shelf:
    """Classes by name, imported when asked for.

    Parameters
    ----------
    kind : str
        What stands on the shelf, for messages.
    where : dict
        Name -> `module:Class`.
    """

    kind: str
    where: dict[str, str]

    def add(self, name: str, place: str) -> None:
        """Put a class of another package on the shelf.

        Parameters
        ----------
        name : str
            What a study file calls it.
        place : str
            `module:Class`; it is imported when it is asked for.

        Raises
        ------
        InputError
            If another class has this name, or `place` is not of this form.
        """
        module, _, attribute = place.partition(":")
        if not (module and attribute):
            raise InputError(f"{self.kind} {name!r} must be given as 'module:Class'; got {place!r}.")
        if self.where.setdefault(name, place) != place:
            raise InputError(f"There is a {self.kind} {name!r} already: {self.where[name]}; take another name.")

    def known(self, name: str) -> None:
        """Raise `InputError` with the nearest name if there is no class of this name, nor in an installed package.

        A package offers one as an entry point of the group `latentcortex.datasets`, `latentcortex.extractors`, ...
        """
        if name in self.where:
            return
        offered = {one.name: one.value for one in entry_points(group=f"latentcortex.{self.kind}s")}
        if name not in offered:
            raise unknown(self.kind, name, {**self.where, **offered})
        self.add(name, offered[name])

    def find(self, name: str) -> type[Any]:
        """Import the class of this name; raise `InputError` with the nearest name if there is none."""
        self.known(name)
        module, attribute = self.where[name].split(":")
        found: type[Any] = getattr(importlib.import_module(module), attribute)
        return found

    def documented(self, make: _Make) -> _Make:
        """Write into the docstring of the function that makes things which names there are, and what each is."""
        listing = "\n".join(f"    - {name}: {place.replace(':', '.')}" for name, place in sorted(self.where.items()))
        make.__doc__ = (
            f"{make.__doc__}\n\nParameters\n----------\nname : str\n    One of these, which `help` of its class "
            f"tells more of:\n\n{listing}\n**arguments\n    Of that class, by name.\n\nRaises\n------\nInputError\n"
            "    If there is no such name or argument; it names the nearest.\n"
        )
        return make

    def named(self, attribute: str) -> Any:
        """Import the class that is called so itself, for the module that the shelf is of.

        Raises
        ------
        AttributeError
            If no class on the shelf is.
        """
        for place in self.where.values():
            module, name = place.split(":")
            if name == attribute and name[:1].isupper():
                return getattr(importlib.import_module(module), name)
        raise AttributeError(f"there is no {attribute!r} among the {self.kind}s: {', '.join(self.where)}")

    def takes(self, name: str, argument: str) -> bool:
        """Tell whether the class of this name has such an argument."""
        return argument in inspect.signature(self.find(name)).parameters

    def make(self, name: str, **arguments: Any) -> Any:
        """Make an instance; an unknown argument is an `InputError` that names the known ones."""
        maker = self.find(name)
        known = [p for p in inspect.signature(maker).parameters if p != "self"]
        for argument in arguments:
            if argument not in known:
                raise unknown(f"key of {self.kind} {name!r}:", argument, known)
        for argument, value in arguments.items():
            annotation = inspect.signature(maker).parameters[argument].annotation
            _check_kind(f"`{argument}` of {self.kind} {name!r}", value, str(annotation).removesuffix(" | None"))
        try:
            inspect.signature(maker).bind(**arguments)
        except TypeError as error:
            raise InputError(f"{self.kind} {name!r}: {error}.") from None
        return maker(**arguments)
