"""The arguments of a class as a pydantic model: what a study file may say of it, whoever wrote it."""

from __future__ import annotations

import inspect
import os
import re
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticUndefined

from latentcortex._ranges import Described

STRICT: Final = ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    protected_namespaces=(),
)
"""A truth value is no number and "5" is none either; 5 is one where a fraction is asked for."""
NUMBERS: Final = Annotated[list[list[float]] | list[float], Described("a list of numbers, or a list of such lists")]
"""An array, as a file says it."""
LITERAL: Final[Any] = Literal
UNION: Final[Any] = Union
ANNOTATED: Final[Any] = Annotated
LIST: Final[Any] = list
TABLE: Final[Any] = dict
"""Types that are put together here: for the type checker they are values."""
MAX_CHECKED: Final = 10_000
"""Entries of an array that are looked at one by one; no study file has as many."""
PLAIN: Final = (bool, int, float, str, Any)


class Chosen(BaseModel):
    """What a study says of the class that `name` picks from a shelf.

    Parameters
    ----------
    name : str
    """

    model_config = STRICT

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Those arguments of the class that the study gives."""
        return self.model_dump(exclude_unset=True, exclude={"name"})


_MODELS: Final[dict[tuple[Any, ...], type[Chosen]]] = {}
"""Those that were derived: settings are equal only if their models are the same."""


def model_of(maker: Callable[..., Any], name: str, kind: str, *, unnamed: bool = False) -> type[Chosen]:
    """Derive the model of a class's arguments from its signature and its docstring, or take the one that was derived.

    Parameters
    ----------
    maker : class or function
    name : str
        Its name on its shelf.
    kind : str
        What stands on that shelf.
    unnamed : bool
        Whether it may be meant where `name` is not given.
    """
    key = maker, name, kind, unnamed
    if key not in _MODELS:
        _MODELS[key] = _derived(maker, name, kind, unnamed=unnamed)
    return _MODELS[key]


def _derived(maker: Callable[..., Any], name: str, kind: str, *, unnamed: bool) -> type[Chosen]:
    about = described(maker)
    fields: dict[str, Any] = {"name": (Literal[name], name) if unnamed else (Literal[name], ...)}
    open_ended = False
    for key, parameter in inspect.signature(maker).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            open_ended |= parameter.kind is parameter.VAR_KEYWORD
            continue
        default = ... if parameter.default is parameter.empty else plain_value(parameter.default)
        annotation, _ = plain(_resolved(maker, parameter.annotation))
        fields[key] = annotation, Field(default=default, description=about.get(key))
    with warnings.catch_warnings():  # of an argument that is called as something of pydantic is
        warnings.simplefilter("ignore", UserWarning)
        made = create_model(f"{kind} {name}", __base__=Chosen, __doc__=first_sentence(maker), **fields)
    if open_ended:
        made.model_config["extra"] = "allow"
        made.model_rebuild(force=True)
    return made


def arguments_as_plain(maker: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Write arguments as a file would say them, without those that no file can.

    None is what is not given; a large array, and an object of a class that the annotation names, are not looked into.
    """
    signature, written = inspect.signature(maker), {}
    for key, value in arguments.items():
        foreign = key in signature.parameters and plain(_resolved(maker, signature.parameters[key].annotation))[1]
        is_large = isinstance(value, np.ndarray) and value.size > MAX_CHECKED
        said = PydanticUndefined if is_large else plain_value(value)
        if value is None or is_large or (foreign and said is PydanticUndefined):
            continue
        written[key] = value if said is PydanticUndefined else said
    return written


def plain(annotation: Any) -> tuple[Any, bool]:
    """Reduce an annotation to what a TOML file can say: strings, numbers, truth values, lists and tables of them.

    Returns
    -------
    annotation, bool
        `Any` where nothing is left; and whether it allows what no file can say.
    """
    for alias in ("__value__", "__supertype__"):  # `type Name = ...`, and `NewType`
        annotation = getattr(annotation, alias, annotation)
    if annotation in PLAIN:
        return annotation, False
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, foreign = plain(arguments[0])
        return ANNOTATED[(inner, *arguments[1:])], foreign
    if origin is Literal:
        return LITERAL[tuple(one for one in arguments if one is not None)], False
    if origin in (Union, types.UnionType):
        return _plain_union([one for one in arguments if one is not types.NoneType])
    if origin is np.ndarray or annotation is np.ndarray:
        return NUMBERS, False
    kind = origin or annotation
    if not isinstance(kind, type):
        return Any, True
    if issubclass(kind, (str, os.PathLike)):
        return str, False
    for general, single in ((np.integer, int), (np.floating, float), (np.bool_, bool)):
        if issubclass(kind, general):
            return single, False
    if issubclass(kind, Mapping):
        return TABLE[str, plain(arguments[1])[0] if arguments else Any], False
    if issubclass(kind, (Collection, Iterable)) and not issubclass(kind, BaseModel):
        return _plain_list(kind, arguments), False
    return Any, True


def _plain_union(members: Sequence[Any]) -> tuple[Any, bool]:
    """Keep the members that a file can say."""
    reduced = [plain(one) for one in members]
    kept = [one for one, foreign in reduced if not foreign]
    return (UNION[tuple(kept)] if kept else Any), len(kept) < len(reduced)


def _plain_list(kind: type, arguments: tuple[Any, ...]) -> Any:
    """Write any sequence as a list; one of a fixed length keeps its length."""
    entries = [plain(one)[0] for one in arguments if one is not Ellipsis] or [Any]
    entry = UNION[tuple(entries)]
    if issubclass(kind, tuple) and arguments and Ellipsis not in arguments:
        return ANNOTATED[LIST[entry], Len(len(arguments), len(arguments))]
    return LIST[entry]


def plain_value(value: Any) -> Any:
    """Write a value as a file would say it; `PydanticUndefined` if no file can."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain_value(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain_value(one) for one in value]
    return PydanticUndefined


def _resolved(maker: Callable[..., Any], annotation: Any) -> Any:
    """Look up what an annotation that is written as a string names; `Any` where that is not imported when it runs."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, vars(sys.modules[maker.__module__]), include_extras=True)["it"]
    except NameError:
        return Any


def first_sentence(maker: Callable[..., Any]) -> str:
    """Return the first line of a docstring."""
    return _uncited((inspect.getdoc(maker) or "").split("\n", 1)[0])


def _uncited(text: str) -> str:
    """Leave out the numbers of references, which stand elsewhere.

    Examples
    --------
    >>> _uncited("Features of a model [1]_ of images.")
    'Features of a model of images.'
    """
    return re.sub(r" \[\d+\]_", "", text)


def described(maker: Callable[..., Any]) -> dict[str, str]:
    """Read what a numpydoc docstring says of each parameter.

    A function that makes an instance of a class and says nothing of its parameters has those of the class.
    """
    documented = _parameters(inspect.getdoc(maker) or "")
    if not isinstance(maker, type):
        made = _resolved(maker, inspect.signature(maker).return_annotation)
        if isinstance(made, type):
            documented = {**_parameters(inspect.getdoc(made) or ""), **documented}
    return documented


def _parameters(doc: str) -> dict[str, str]:
    r"""Part the section `Parameters` by parameter; several may share one entry.

    Examples
    --------
    >>> _parameters("Add.\n\nParameters\n----------\na, b : int\n    What is\n    added.\n\nRaises\n------\n")
    {'a': 'What is added.', 'b': 'What is added.'}
    """
    _, _, body = doc.partition("Parameters\n----------\n")
    names: list[str] = []
    lines: dict[str, list[str]] = {}
    for line in body.splitlines():
        if line.startswith("---"):
            lines = {name: said for name, said in lines.items() if name not in names}
            break
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.partition(" :")[0].split(",")]
            lines |= {name: [] for name in names}
        elif line.strip():
            for name in names:
                lines[name].append(line.strip())
    return {name: _uncited(" ".join(said)) for name, said in lines.items() if said}
