"""Arrays of numbers out of a pickle, without unpickling it.

A pickle is a program. Here its instructions are read one by one, and only those are carried out that put together
numbers, text, lists and dicts. Of all functions that it may call, those are known by which numpy rebuilds arrays, types
and scalars, and these are imitated rather than called. Nothing that a pickle names is imported or run.

This module is a program of its own (`python _pickled.py SOURCE.npy TARGET.hdf5`), so that a damaged or hostile file can
end no more than that process. It needs numpy and h5py, and nothing of this package.
"""

from __future__ import annotations

import pickletools
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import h5py
import numpy as np
from numpy.typing import NDArray

HEADER: Final = re.compile(rb"\{'descr': '\|O', 'fortran_order': (?:True|False), 'shape': \([0-9, ]*\), \} *\n")
"""What numpy.save writes before an array of Python's objects."""
MODULES: Final = (
    "numpy",
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)
CALLS: Final = ("_reconstruct", "_frombuffer", "scalar", "dtype", "ndarray")
PLAIN: Final = re.compile(r"b1|[iu][1248]|f[248]|O8?")
MAX_DEPTH: Final = 8
"""Of lists within lists that are written."""
VALUES: Final = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Instructions that put their argument on the stack."""
CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
GETS: Final = {"GET", "BINGET", "LONG_BINGET"}
PUTS: Final = {"PUT", "BINPUT", "LONG_BINPUT"}
TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusedError(ValueError):
    """A pickle holds more than arrays of numbers, text, lists and dicts."""


@dataclass(frozen=True)
class Name:
    """Something of numpy that a pickle names."""

    name: str


class Mark:
    """Where a list of arguments begins on the stack."""


@dataclass(eq=False)
class DType:
    """What a pickle says of a type of numbers; its byte order follows by `BUILD`."""

    code: str
    order: str = "|"

    def build(self, state: Any) -> None:
        """Take over the byte order; a type with fields, or with a shape of its own, is refused."""
        if not (isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")):
            raise RefusedError("a type of numbers is described in another way than numpy does")
        if any(one is not None for one in state[2:5]):
            raise RefusedError("an array has a type of several fields")
        self.order = state[1]

    def made(self) -> np.dtype[Any]:
        """Make the type."""
        return np.dtype(object) if self.code.startswith("O") else np.dtype(self.order + self.code)


@dataclass(eq=False)
class Array:
    """An array whose values follow by `BUILD`."""

    value: Any = field(default=None)

    def build(self, state: Any) -> None:
        """Take over shape, type and values."""
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], DType)):
            raise RefusedError("an array is described in another way than numpy does")
        _, shape, dtype, fortran, content = state
        self.value = _objects(content) if dtype.code.startswith("O") else _array(content, dtype, shape, fortran)


def _array(content: Any, dtype: DType, shape: Any, fortran: Any) -> NDArray[Any]:
    """Make an array of the bytes that a pickle holds."""
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise RefusedError(f"an array has the shape {shape!r:.60}")
    if not isinstance(content, (bytes, bytearray)):
        raise RefusedError("the values of an array are no bytes")
    values = np.frombuffer(content, dtype=dtype.made())
    return values.reshape(shape, order="F" if fortran else "C")  # ValueError where the sizes differ


def _objects(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise RefusedError("an array of objects is described in another way than numpy does")
    return content


def _call(function: Any, arguments: Any) -> Any:
    """Do what one of numpy's functions would."""
    name = function.name if isinstance(function, Name) else None
    match name, arguments:
        case "_reconstruct", (Name("ndarray"), tuple(), _):
            return Array()
        case "dtype", (str(code), *_) if PLAIN.fullmatch(code):
            return DType(code)
        case "scalar", (DType() as dtype, bytes(content)) if not dtype.code.startswith("O"):
            return _array(content, dtype, (), False)[()]
        case "_frombuffer", (content, DType() as dtype, shape, order) if not dtype.code.startswith("O"):
            made = Array()
            made.value = _array(content, dtype, shape, order == "F")
            return made
    raise RefusedError(f"it calls {name or type(function).__name__} with {type(arguments).__name__}, not as numpy does")


def _name(module: Any, name: Any) -> Name:
    if module not in MODULES or name not in CALLS:
        raise RefusedError(f"it names {module}.{name}, and only arrays, types and scalars of numpy are made")
    return Name(name)


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, handle: BinaryIO) -> Any:
        """Carry out the instructions of an open file up to its end."""
        for opcode, argument, _ in pickletools.genops(handle):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise RefusedError("it ends too early")

    def _marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        at = max(i for i, one in enumerate(self.stack) if isinstance(one, Mark))
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in VALUES:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in GETS:
            stack.append(self.memo[int(argument)])
        elif name in PUTS:
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in TUPLES:
            n = TUPLES[name]
            taken = tuple(stack[len(stack) - n :])
            del stack[len(stack) - n :]
            stack.append(taken)
        else:
            self._gather(name, argument)

    def _gather(self, name: str, argument: Any) -> None:
        """Carry out an instruction about lists, dicts, or something of numpy."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                stack.append(Mark())
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "APPENDS" | "APPEND":
                more = self._marked() if name == "APPENDS" else [stack.pop()]
                self._top(list).extend(more)
            case "SETITEMS" | "SETITEM":
                pairs = self._marked() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                self._top(dict).update(zip(pairs[::2], pairs[1::2], strict=True))
            case "GLOBAL":
                stack.append(_name(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                last = stack.pop()
                stack.append(_name(stack.pop(), last))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_call(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                if not isinstance(stack[-1], (Array, DType)):
                    raise RefusedError(f"it sets the state of a {type(stack[-1]).__name__}")
                stack[-1].build(state)
            case _:
                raise RefusedError(f"it has the instruction {name}, which no arrays need")

    def _top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise RefusedError(f"it adds to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]


def read_pickled(handle: BinaryIO) -> dict[str, Any]:
    """Read the dict that numpy.save pickled: names -> arrays, numbers, text, None, and lists of these.

    Raises
    ------
    ValueError
        If the file is no such array, or its pickle holds or does anything else.
    """
    start = handle.read(8)
    n_header = int.from_bytes(handle.read(2), "little")
    if start[:7] != b"\x93NUMPY\x01" or not HEADER.fullmatch(handle.read(n_header)):
        raise RefusedError("it is no pickled .npy file as numpy.save writes it")
    try:
        content = _Machine().run(handle)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"its instructions make no sense ({type(error).__name__})") from None
    whole = content.value if isinstance(content, Array) else content
    if isinstance(whole, list) and len(whole) == 1:
        whole = whole[0]
    if not (isinstance(whole, dict) and all(isinstance(key, str) for key in whole)):
        raise RefusedError("it holds no dict of arrays by name")
    return whole


def _write(group: h5py.Group, name: str, value: Any, depth: int = 0) -> None:
    """Write a value as GLMsingle does: arrays plain, numbers as attributes, lists of unlike arrays as groups."""
    value = value.value if isinstance(value, Array) else value
    if depth > MAX_DEPTH or not name or "/" in name or name == ".":
        raise RefusedError(f"it has lists within lists, or an odd name, {name!r:.40}")
    if isinstance(value, np.ndarray) and value.ndim:
        group.create_dataset(name, data=value)
    elif isinstance(value, (bool, int, float, str, np.generic)):
        group.attrs[name] = value
    elif isinstance(value, np.ndarray):
        group.attrs[name] = value[()]
    elif isinstance(value, (list, tuple)) and value and all(isinstance(one, (int, float, np.number)) for one in value):
        group.create_dataset(name, data=np.array(value))
    elif isinstance(value, (list, tuple)):
        below = group.create_group(name)
        for i, one in enumerate(value):
            _write(below, f"item_{i}", one, depth + 1)
    elif isinstance(value, dict):
        below = group.create_group(name)
        for key, one in value.items():
            _write(below, str(key), one, depth + 1)


def main(source: str, target: str) -> None:
    """Copy the arrays of a pickled file into an HDF5 file."""
    with Path(source).open("rb") as handle:
        content = read_pickled(handle)
    with h5py.File(target, "w") as file:
        for name, value in content.items():
            _write(file, name, value)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except (ValueError, OSError, MemoryError, RecursionError) as error:
        sys.exit(f"{error}" or type(error).__name__)
