"""What an argument may be beyond its type, said in its annotation: a study file is checked by it.

`annotated_types` has bounds (`Ge`, `Interval`, `MultipleOf`, `Len`); what it lacks stands in this module. Nothing here
imports pydantic, which reads these marks only when a study file or the arguments of a shelf are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Len


class _Mark:
    """A mark of an annotation that pydantic asks for a check and for its part of a JSON Schema."""

    def check(self, value: Any) -> Any:
        """Return the value; raise `ValueError` if it is not allowed."""
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """Say the same in the words of JSON Schema."""
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return {**handler(schema), **self.json_schema()}


@dataclass(frozen=True, eq=False)
class OneOf(_Mark):
    """A name out of a table of names.

    Parameters
    ----------
    names : collection of str
    kind : str
        What such a name is of, in messages; by default its key.
    """

    names: Collection[str]
    kind: str = ""

    def check(self, value: Any) -> Any:
        """Refuse every other name."""
        if value not in self.names:
            raise ValueError(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        """List the names."""
        return {"enum": list(self.names)}


@dataclass(frozen=True, eq=False)
class ZeroOr(_Mark):
    """A count that is either 0, which means something of its own, or not too small.

    Parameters
    ----------
    least : int
    meaning : str
        Of 0.
    """

    least: int
    meaning: str

    def check(self, value: Any) -> Any:
        """Refuse what lies below, but 0."""
        if value != 0 and value < self.least:
            raise ValueError(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        """Say both."""
        return {"anyOf": [{"const": 0}, {"minimum": self.least}]}


@dataclass(frozen=True, eq=False)
class Matching(_Mark):
    """A string that a pattern matches as a whole.

    Parameters
    ----------
    pattern : str
    text : str
        What it matches, in words.
    """

    pattern: str
    text: str

    def check(self, value: Any) -> Any:
        """Refuse every other string."""
        if not re.fullmatch(self.pattern, value):
            raise ValueError(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        """Give the pattern."""
        return {"pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, eq=False)
class Distinct(_Mark):
    """A list in which nothing stands twice."""

    def check(self, value: Any) -> Any:
        """Refuse a list with the same entry twice."""
        if any(one in value[:i] for i, one in enumerate(value)):
            raise ValueError(value)
        return value

    def json_schema(self) -> dict[str, Any]:
        """Say so."""
        return {"uniqueItems": True}


@dataclass(frozen=True, eq=False)
class Described:
    """A type that messages and tables of keys have their own words for.

    Parameters
    ----------
    text : str
    """

    text: str


class NoEffect:
    """An argument on which no result depends: where copies are kept, or what is shown meanwhile.

    A study in which only such a key is another one is the same study.
    """


Count = Annotated[int, Ge(0)]
PositiveCount = Annotated[int, Ge(1)]
Percent = Annotated[int, Interval(ge=1, le=100)]
Percents = Annotated[Sequence[Percent], Len(1)]
AnyNames = Annotated[Sequence[str], Distinct()]
"""A list of distinct names, perhaps of none."""
Names = Annotated[Sequence[str], Len(1), Distinct()]
"""A list of distinct names, at least one."""
Device = Annotated[str, Matching(r"(cpu|mps|(cuda|xpu)(:\d+)?)", "a device: 'cpu', 'cuda', 'cuda:1', 'mps'")]
Participants = Annotated[
    Sequence[Annotated[str, Matching(r"[0-9A-Za-z]+", "a string of letters and digits")]], Len(1), Distinct()
]
"""Labels as BIDS asks for them."""
FoldCount = Annotated[int, Ge(2)]
Alphas = Annotated[Sequence[Annotated[float, Gt(0)]], Len(1)]
"""Penalties to choose from."""
