"""What is allowed, and what is wrong, in words that name a key."""

from __future__ import annotations

import types
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Len, Lt, MultipleOf
from pydantic.fields import FieldInfo

from latentcortex._ranges import Distinct, OneOf, ZeroOr
from latentcortex._shelf.nearest import hint, unknown

KINDS: Final[dict[Any, str]] = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def allowed(annotation: Any) -> str:
    """Say in words what an annotation allows.

    Examples
    --------
    >>> allowed(Annotated[int, Ge(1)] | Literal["auto"])
    "'auto' or a whole number of at least 1"
    >>> allowed(list[float])
    'a list, each a number'
    """
    annotation, marks = _parted(annotation)
    for mark in marks:
        if isinstance(getattr(mark, "text", None), str):
            return str(mark.text)
        if isinstance(mark, OneOf):
            return _one_of(list(mark.names))
        if isinstance(mark, ZeroOr):
            return f"0 ({mark.meaning}) or at least {mark.least}"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _one_of([one for one in arguments if one is not None])
    if origin in (Union, types.UnionType):
        words_first = sorted(arguments, key=lambda one: not _words(one))
        said = list(dict.fromkeys(allowed(one) for one in words_first))
        return (", or " if any("," in one for one in said[:-1]) else " or ").join(said)
    if origin in (list, tuple):
        return _allowed_list(arguments[0], marks)
    if origin is dict:
        return f"a table, each {allowed(arguments[1])}"
    return KINDS.get(annotation, "a value") + _within(marks)


def _one_of(names: list[Any]) -> str:
    return " or ".join(map(repr, names)) if len(names) < 3 else f"one of {', '.join(map(str, names))}"


def _allowed_list(entry: Any, marks: list[Any]) -> str:
    each = allowed(entry)
    if any(isinstance(mark, Distinct) for mark in marks):
        each = "a list of distinct names" if each == KINDS[str] else f"a list of distinct entries, each {each}"
    else:
        each = f"a list, each {each}"
    least = max([mark.min_length for mark in marks if isinstance(mark, Len)], default=0)
    return each + (f", at least {'one' if least == 1 else least}" if least else "")


def _within(marks: list[Any]) -> str:
    """Say the bounds of a number.

    Examples
    --------
    >>> _within([Ge(1), Le(6)]), _within([Gt(0), Le(1)]), _within([Ge(0), MultipleOf(1024)])
    (' from 1 to 6', ' above 0 and at most 1', ' of at least 0, a multiple of 1024')
    """
    bounds: dict[type, Any] = {type(mark): mark for mark in marks}
    said = []
    if Ge in bounds and Le in bounds:
        said.append(f"from {bounds[Ge].ge:g} to {bounds[Le].le:g}")
    elif Ge in bounds or Gt in bounds:
        said.append(f"of at least {bounds[Ge].ge:g}" if Ge in bounds else f"above {bounds[Gt].gt:g}")
    if Lt in bounds:
        said.append(f"below {bounds[Lt].lt:g}")
    elif Le in bounds and Ge not in bounds:
        said.append(f"{'' if said else 'of '}at most {bounds[Le].le:g}")
    multiple = f", a multiple of {bounds[MultipleOf].multiple_of}" if MultipleOf in bounds else ""
    return (f" {' and '.join(said)}" if said else "") + multiple


def _parted(annotation: Any) -> tuple[Any, list[Any]]:
    """Part an annotation into its type and its marks, bounds one by one."""
    marks: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marks += more
    flat = [one for mark in marks for one in (mark if isinstance(mark, GroupedMetadata) else [mark])]
    return annotation, [*flat, *(mark for mark in marks if isinstance(mark, Len))]


def annotation_of(field: FieldInfo) -> Any:
    """Put the type and the marks of a key together again."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def wrong(key: str, what: str, annotation: Any, value: Any, errors: list[Any]) -> dict[str, str]:
    """Say that the value of a key is not allowed: by key, or by each name in a list that there is not, a sentence."""
    bare, _ = _parted(annotation)
    entries = dict.fromkeys(one["loc"][1] for one in errors if len(one["loc"]) > 1)
    if get_origin(bare) not in (list, tuple) or not all(isinstance(one, int) for one in entries) or not entries:
        return {key: _wrong_value(key, what, annotation, value, errors)}
    names = _names(get_args(bare)[0])
    misspelt = {i: value[i] for i in entries if names and isinstance(value[i], str)}
    lines = {}
    if names:
        kind = names[0] or f"entry of `{key}` {what}:"
        lines = {f"{key}, entry {i + 1}": str(unknown(kind, name, names[1])) for i, name in misspelt.items()}
    got = " and ".join(f"{value[i]!r} as entry {i + 1}" for i in entries if i not in misspelt)
    return lines | ({key: f"`{key}` {what} must be {allowed(annotation)}; got {got}."} if got else {})


def _wrong_value(key: str, what: str, annotation: Any, value: Any, errors: list[Any]) -> str:
    """Say that a value is not allowed, and which name or number may have been meant."""
    _, marks = _parted(annotation)
    if isinstance(value, str) and (known := _names(annotation)):
        return str(unknown(known[0] or f"{key} {what}:", value, known[1]))
    near = hint(value, _words(annotation)) if isinstance(value, str) else _percent(value, marks)
    words = allowed(annotation)
    if errors[0]["type"] == "finite_number":
        words = words.replace("a number", "a finite number")
    return f"`{key}` {what} must be {words}; got {value!r}.{near}"


def _names(annotation: Any) -> tuple[str, list[str]] | None:
    """List the names that an annotation allows, and what they are of; nothing if it allows anything else."""
    bare, marks = _parted(annotation)
    for mark in marks:
        if isinstance(mark, OneOf):
            return mark.kind, list(mark.names)
    return ("", [one for one in get_args(bare) if one is not None]) if get_origin(bare) is Literal else None


def _words(annotation: Any) -> list[str]:
    """List all the names that an annotation allows, among other things."""
    bare, _ = _parted(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        return [name for one in get_args(bare) for name in _words(one)]
    names = _names(annotation)
    return names[1] if names else []


def _percent(value: Any, marks: list[Any]) -> str:
    """Ask whether a fraction was meant that is given in percent."""
    bounds: dict[type, Any] = {type(mark): mark for mark in marks}
    if not (Gt in bounds and Lt in bounds and bounds[Lt].lt == 1) or type(value) not in (int, float):
        return ""
    return f" Did you mean {value / 100:g}?" if 1 <= value < 100 else ""
