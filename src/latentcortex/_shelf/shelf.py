"""Classes by name, imported when they are asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

from latentcortex._shelf.nearest import unknown
from latentcortex.errors import InputError, InputErrors

_Make = TypeVar("_Make", bound=Callable[..., Any])


@dataclass(frozen=True)
class Shelf:
    """Classes by name, imported when asked for.

    Parameters
    ----------
    kind : str
        What stands on the shelf, for messages.
    where : dict
        Name -> `module:Class`.
    plural : str
        Of the kind, as groups of entry points and this package's folder are called; by default with an s.

    A shelf is also the collection of the names that it has, those of installed packages among them.
    """

    kind: str
    where: dict[str, str]
    plural: str = ""

    def __contains__(self, name: object) -> bool:
        return name in self.where or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter({**self.where, **self._offered()})

    def __len__(self) -> int:
        return len({**self.where, **self._offered()})

    def _offered(self) -> dict[str, str]:
        """List what installed packages offer."""
        return {one.name: one.value for one in entry_points(group=f"latentcortex.{self.plural or f'{self.kind}s'}")}

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
        offered = self._offered()
        if name not in offered:
            raise unknown(self.kind, name, {**self.where, **offered})
        self.add(name, offered[name])

    def find(self, name: str) -> type[Any]:
        """Import the class of this name; raise `InputError` with the nearest name if there is none."""
        self.known(name)
        module, attribute = self.where[name].split(":")
        kind: type[Any] = getattr(importlib.import_module(module), attribute)
        return kind

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
        """Make an instance; raise `InputError` unless every argument is there and as its annotation says."""
        maker = self.find(name)
        self.check(name, arguments)
        return maker(**arguments)

    def check(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Raise `InputError`, with a line for each mistake, unless the class of this name takes these arguments."""
        from pydantic import ValidationError  # takes a moment to import, for those who pick from a shelf

        from latentcortex._shelf import picking, signatures

        maker = self.find(name)
        written = {"name": name, **signatures.arguments_as_plain(maker, arguments)}
        model = signatures.model_of(maker, name, self.kind)
        try:
            model.model_validate(written)
        except ValidationError as error:
            whose = f"of {self.kind} {name!r}"
            # What is given and no file can say was left out of what is checked.
            errors = [
                one
                for one in error.errors(include_url=False)
                if one["type"] != "missing" or one["loc"][0] not in arguments
            ]
            lines = [line for _, line in picking.problems(model, errors, written, what=whose)]
            if not lines:
                return
            raise InputErrors(lines) if len(lines) > 1 else InputError(lines[0]) from None
