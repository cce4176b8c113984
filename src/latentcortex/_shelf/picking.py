"""Sections and keys that pick a class from a shelf, and what is wrong with the keys of any section."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from latentcortex._shelf import Shelf, unknown
from latentcortex._shelf.signatures import Chosen, model_of
from latentcortex._shelf.wording import annotation_of, wrong
from latentcortex.errors import InputError, InputErrors


@dataclass(frozen=True, eq=False)
class FromShelf:
    """A section whose `name` picks a class, and whose other keys are the arguments of that class.

    Parameters
    ----------
    shelf : Shelf
    unnamed : tuple of str
        The names that need not be said; the first of them is meant where nothing else decides.
    key : str
        Of the section [run], say, where this is a key of it and no section; then a name alone may stand for a table.
    """

    shelf: Shelf
    unnamed: tuple[str, ...] = ()
    key: str = ""

    @property
    def text(self) -> str:
        """What a key that picks from the shelf may be, in words."""
        return f"one of {', '.join(self.shelf.where)}, or a table with this `name` and keys of its class"

    def model(self, name: str) -> type[Chosen]:
        """Derive the section's model from the class of a name."""
        return model_of(self.shelf.find(name), name, self.shelf.kind, unnamed=name in self.unnamed)

    def name(self, given: Mapping[str, Any]) -> Any:
        """Return the name that a section gives, or that is meant."""
        return given.get("name", self.unnamed[0] if self.unnamed else "")

    def what(self, given: Mapping[str, Any]) -> str:
        """Say what the keys are of: `of extractor 'ldm'`."""
        return f"of {self.shelf.kind} {self.name(given)!r}"

    def validated(self, given: Any) -> Any:
        """Check what is given against the class that it names."""
        if isinstance(given, Chosen):
            return given
        place = f"`{self.key}`" if self.key else f"[{self.shelf.kind}]"
        if self.key and isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, Mapping):
            words = self.text if self.key else f"a section, {place}"
            raise InputErrors([f"{place if self.key else self.shelf.kind} must be {words}; got {given!r}."])
        name = self.name(given)
        if not isinstance(name, str) or not name:
            raise InputErrors([f"{place} needs `name`, a string."])
        try:
            model = self.model(name)
        except InputError as error:
            raise InputErrors([f"{place} name: {error}" if not self.key else str(error)]) from None
        return model.model_validate({**given, "name": name})

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_plain_validator_function(self.validated)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        names: list[Any] = [core_schema.literal_schema(list(self.shelf.where))] if self.key else []
        members = [self.model(name).__pydantic_core_schema__ for name in self.shelf.where]
        return dict(handler(core_schema.union_schema(names + members)))


def picked_by(field: FieldInfo) -> FromShelf | None:
    """Return how a section or a key picks from a shelf, if it does."""
    return next((mark for mark in field.metadata if isinstance(mark, FromShelf)), None)


def problems(
    model: type[BaseModel], errors: Sequence[Any], given: Mapping[str, Any], *, what: str
) -> Iterator[tuple[str, str]]:
    """Say what is wrong, a key (or `key, entry 2`) and a sentence for each.

    Parameters
    ----------
    model : type of BaseModel
        That was validated against.
    errors : sequence of dict
        Of pydantic, whose places begin with the key.
    given : mapping
        What was validated.
    what : str
        What the keys are of: "`cv` WHAT must be", "Unknown key WHAT: 'cvv'".
    """
    by_key: dict[str, list[Any]] = {}
    for one in errors:
        by_key.setdefault(str(one["loc"][0]) if one["loc"] else "", []).append(one)
    for key, of_key in by_key.items():
        raised = of_key[0].get("ctx", {}).get("error")
        picked = picked_by(model.model_fields[key]) if key in model.model_fields else None
        if picked is not None and len(of_key[0]["loc"]) > 1:
            table = given[key]
            inner = [{**one, "loc": one["loc"][1:]} for one in of_key]
            for name, line in problems(picked.model(picked.name(table)), inner, table, what=picked.what(table)):
                yield f"{key}.{name}", line
        elif isinstance(raised, InputError):
            yield key, str(raised)
        elif of_key[0]["type"] == "extra_forbidden":
            yield key, str(unknown(f"key {what}:", key, [name for name in model.model_fields if name != "name"]))
        elif of_key[0]["type"] == "missing":
            yield key, f"{what.removeprefix('of ')}: missing a required argument: {key!r}."
        else:
            yield from wrong(key, what, annotation_of(model.model_fields[key]), given[key], of_key).items()
