"""Small facts about arrays and ids that every other module relies on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from latentcortex.errors import AlignmentError, InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

TILE: Final = 1024
"""Voxels per block of the canonical grid. Results depend on it in the last bits, so nobody may choose it."""

MAX_WHOLE: Final = 2**53
"""The largest whole number up to which float64 holds every one."""

CONSTANT: Final = {4: 1e-6, 8: 1e-14}
"""By the bytes of a number: what varies by less than this fraction of its size is constant."""


def same_length(**arrays: Sized) -> None:
    """Raise `AlignmentError` unless all named arrays have the same number of entries."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise AlignmentError(f"These must have one entry each per row: {given}.")


def listed(items: Iterable[object], most: int = 10) -> str:
    """Write the first items out and count the rest."""
    names = [str(item) for item in items]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def positions(ids: Sequence[str], wanted: Sequence[str], *, what: str = "ids") -> NDArray[np.intp]:
    """Find where each wanted id stands among `ids`; ids, never row numbers, join two things.

    Raises
    ------
    AlignmentError
        If an id is wanted that is not there.

    Examples
    --------
    >>> positions(["b", "a"], ["a", "b"]).tolist()
    [1, 0]
    """
    where = {name: i for i, name in enumerate(ids)}
    missing = [name for name in wanted if name not in where]
    if missing:
        raise AlignmentError(f"{len(missing)} of {len(wanted)} {what} are not there: {listed(missing)}.")
    return np.array([where[name] for name in wanted], dtype=np.intp)


def unique_ids(ids: Iterable[str], *, what: str) -> tuple[str, ...]:
    """Return the ids as a tuple of strings; raise `InputError` if one stands twice."""
    names = tuple(ids)
    _check_strings(what, names)
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise InputError(f"{what} must be unique, but {listed(twice)} stand there more than once.")
    return names


def digest(*parts: object) -> str:
    """Hash what `repr` tells of the parts: 64 hexadecimal digits."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()


def fingerprint(array: NDArray[Any]) -> str:
    """Hash an array's type, shape and values without copying them."""
    contiguous = np.ascontiguousarray(array)
    hashed = hashlib.sha256(f"{contiguous.dtype.str}{contiguous.shape}".encode())
    hashed.update(contiguous.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def varying(values: NDArray[Any]) -> BoolArray:
    """Tell which columns are finite and vary by more than the rounding of their precision; (n_columns,)."""
    low, high = values.min(0), values.max(0)
    size = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(size) & (high - low > CONSTANT[values.dtype.itemsize] * size), dtype=bool)


def random_for(seed: int, *what: str | int) -> np.random.Generator:
    """Make the generator for one purpose, so that no draw depends on the order of calls.

    Examples
    --------
    >>> bool(random_for(0, "noise", "img1").random() == random_for(0, "noise", "img1").random())
    True
    """
    return np.random.default_rng(int(digest(seed, *what)[:32], 16))


def passes(n_rows: int, size: int) -> Iterator[tuple[list[int], int]]:
    """Cut rows into passes of one size, the last padded with its own last row; yield rows and how many count.

    Examples
    --------
    >>> list(passes(3, 2))
    [([0, 1], 2), ([2, 2], 1)]
    """
    for start in range(0, n_rows, size):
        rows = list(range(start, min(start + size, n_rows)))
        yield rows + [rows[-1]] * (size - len(rows)), len(rows)


def whole_number(name: str, value: object, *, least: int) -> int:
    """Return a whole number; raise `InputError` for anything else, or if it is less than `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    return int(value)


def refuse_beyond_memory(name: str, count: int, n_bytes: int) -> None:
    """Raise `InputError` if so many draws, of so many bytes each, are more than the memory that is free.

    It is asked before anything is drawn: what is held at once is known from the settings.
    """
    import psutil  # a moment to import, for those who draw

    free = psutil.virtual_memory().available
    if count * n_bytes > free:
        raise InputError(
            f"{name} = {count} takes {count * n_bytes / 1e9:,.1f} GB of memory, and {free / 1e9:.1f} GB are free; ask "
            "for fewer."
        )


def finite_number(name: str, value: object) -> float:
    """Return a number; raise `InputError` for anything else, and for nan and infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise InputError(f"{name} must be a finite number; got {value!r}.")
    return float(value)


def words(name: str, values: object) -> tuple[str, ...]:
    """Return a list of distinct names as a tuple; raise `InputError` for anything else, a single name too."""
    items = tuple(values) if isinstance(values, (list, tuple)) else ()
    if not items or not all(isinstance(one, str) for one in items) or len(set(items)) < len(items):
        raise InputError(f"{name} must be a list of distinct names, at least one; got {values!r}.")
    return items


# The gate of arrays that a user gives


def numbers(name: str, values: object) -> FloatArray:
    """Return real numbers as an array of float32 or float64, nan where a masked array hides them.

    float32 and float64 pass without a copy, perhaps on disk. float16 becomes float32; integers and long doubles become
    float64.

    Raises
    ------
    InputError
        For whatever is no array of real numbers, by name: truth values, complex numbers, strings, objects, and tables,
        whose labels would not be looked at. For numbers that float64 does not hold.

    Examples
    --------
    >>> numbers("y", np.ma.array([1, 2], mask=[False, True])).tolist()
    [1.0, nan]
    """
    if isinstance(values, (list, tuple)) and any(isinstance(one, np.ndarray) for one in values):
        each = [numbers(f"{name}[{i}]", one) for i, one in enumerate(values)]
        if len({one.shape for one in each}) > 1:
            raise AlignmentError(f"The arrays of {name} have different shapes: {listed(one.shape for one in each)}.")
        return np.stack(each)
    given = _array(name, values)
    if given.dtype.kind not in "fiu":
        hint = " Use .astype(float) for 0 and 1." if given.dtype.kind == "b" else ""
        raise InputError(f"{name}: expected real numbers; got {given.dtype}.{hint}")
    narrow = given.dtype.kind == "f" and given.dtype.itemsize <= 4
    with np.errstate(over="ignore", under="ignore"):
        out: FloatArray = np.asarray(given, dtype=np.float32 if narrow else np.float64)
    if given.dtype.itemsize >= 8 and given.dtype.newbyteorder("=") != out.dtype:
        _check_kept(name, given, out)
    return np.asarray(np.where(values.mask, np.nan, out), dtype=out.dtype) if _hides(values) else out


def _hides(values: object) -> TypeGuard[np.ma.MaskedArray[Any, Any]]:
    """Tell whether something is an array with masked entries."""
    return isinstance(values, np.ma.MaskedArray) and bool(np.any(values.mask))


def _array(name: str, values: object) -> NDArray[Any]:
    """Make an array of what is one, or lists of numbers."""
    if not isinstance(values, (np.ndarray, np.number, list, tuple, int, float)):
        kind = type(values).__name__
        hint = f"; give {name}.to_numpy(), its labels are not looked at" if hasattr(values, "to_numpy") else ""
        raise InputError(f"{name} is of type {kind}; expected an array of numbers{hint}.")
    try:
        return np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(f"{name} is a list that makes no array: its rows differ in length or kind.") from None


def _check_kept(name: str, given: NDArray[Any], out: FloatArray) -> None:
    """Raise `InputError` where 64-bit integers or long doubles are beyond what float64 holds."""
    if given.dtype.kind in "iu":
        lost = int(((out > MAX_WHOLE) | (out < -MAX_WHOLE)).sum())
    else:
        lost = int(((np.isinf(out) & ~np.isinf(given)) | ((out == 0) & (given != 0))).sum())
    if lost:
        raise InputError(
            f"{name} is an array of {given.dtype} with {lost} values that float64 cannot hold; scale them."
        )


def arrays(**given: tuple[object, str]) -> tuple[FloatArray, ...]:
    """Return arrays of real numbers, as `numbers` does, that have exactly the axes that are named beside them.

    A word such as `n_voxels` stands for one length wherever it occurs. An axis may be empty only if it is of voxels.

    Raises
    ------
    AlignmentError
        If an array has other axes, or another length than the arrays before it.
    InputError
        If something is no array of real numbers.

    Examples
    --------
    >>> arrays(y=(np.zeros(3), "n_stimuli n_voxels"))
    Traceback (most recent call last):
    latentcortex.errors.AlignmentError: y is (3,); expected (n_stimuli, n_voxels). If n_voxels is 1: y.reshape(-1, 1).
    """
    lengths: dict[str, int] = {}
    out = []
    for name, (values, axes) in given.items():
        array = numbers(name, values)
        check_axes(name, array.shape, axes, lengths)
        out.append(array)
    return tuple(out)


def by_band(kind: str, given: object) -> dict[str, FloatArray]:
    """Return arrays of real numbers by band; raise `InputError` for anything but a mapping of such."""
    if not isinstance(given, Mapping):
        raise InputError(f"{kind} must be given by band, as a dict; got {type(given).__name__}.")
    return {str(band): numbers(f"{kind} of {band}", values) for band, values in given.items()}


def check_axes(name: str, shape: tuple[int, ...], axes: str, lengths: dict[str, int]) -> None:
    """Raise `AlignmentError` unless a shape has these axes; lengths are looked up in `lengths`, or noted there."""
    words = axes.split()
    expected = ", ".join(str(lengths.get(word, word)) for word in words) + ("," if len(words) == 1 else "")
    if len(shape) != len(words):
        raise AlignmentError(f"{name} is {shape}; expected ({expected}).{_reshaped(name, shape, words)}")
    for word, length in zip(words, shape, strict=True):
        if lengths.setdefault(word, length) != length or (length == 0 and word != "n_voxels"):
            raise AlignmentError(f"{name} is {shape}; expected ({expected}){'' if length else ', none of them 0'}.")


def _reshaped(name: str, shape: tuple[int, ...], words: Sequence[str]) -> str:
    """Say how one axis more is made, or one less."""
    if len(words) == 2 and len(shape) == 1:
        return f" If {words[1]} is 1: {name}.reshape(-1, 1)."
    if len(words) == 1 and len(shape) == 2 and 1 in shape:
        return f" Write {name}.ravel()."
    return f" If {words[0]} is 1: {name}[None]." if len(words) == len(shape) + 1 else ""


def truths(name: str, values: object, n: int | None = None) -> BoolArray:
    """Return truth values, of shape (n,) if n is given; raise `InputError` for anything else, such as positions."""
    given = _array(name, values)
    if given.dtype != np.bool_ or _hides(values):
        raise InputError(f"{name} is an array of {given.dtype}; expected truth values, none masked.")
    if n is not None:
        check_axes(name, given.shape, "n", {"n": n})
    return np.asarray(given, dtype=bool)


def whole_array(name: str, values: object, *, least: int, most: int) -> IntArray:
    """Return an array of whole numbers within two ends; raise `InputError` for anything else."""
    given = _array(name, values)
    if given.dtype.kind not in "iu" or _hides(values):
        raise InputError(f"{name} is an array of {given.dtype}; expected whole numbers, none masked.")
    if given.size and (given.min() < least or given.max() > most):
        raise InputError(f"{name} must lie in {least}..{most}; found {given.min()} to {given.max()}.")
    return np.asarray(given, dtype=np.int64)


def labels(name: str, values: object, n: int) -> NDArray[Any]:
    """Return one label per entry, (n,), all strings or all whole numbers; raise `InputError` for anything else.

    Examples
    --------
    >>> labels("clusters", ["a", "b"], 2).tolist()
    ['a', 'b']
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list of labels, one for each of {n}; got {values!r}.")
    plain = isinstance(values, np.ndarray) and values.dtype.kind in "iuU" and not _hides(values)
    unchecked = [] if plain else list(values)
    odd = [one for one in unchecked if isinstance(one, bool) or not isinstance(one, (str, int, np.integer))]
    if odd or len({isinstance(one, str) for one in unchecked}) > 1:
        other = repr(odd[0]) if odd else "both"
        raise InputError(f"{name} must be all strings or all whole numbers; found {other}.")
    out = np.asarray(values if plain else unchecked)
    same_length(rows=range(n), **{name: out})
    check_axes(name, out.shape, "n", {"n": n})
    return out


def id_list(name: str, values: object) -> tuple[str, ...]:
    """Return ids as a tuple; raise `InputError` for none, a single string, and what is not a string."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a list of ids; got {values!r}.")
    ids = tuple(values)
    _check_strings(name, ids)
    if not ids:
        raise InputError(f"{name} is empty; expected at least one id.")
    return ids


def _check_strings(name: str, values: Sequence[object]) -> None:
    odd = [one for one in values if not isinstance(one, str)]
    if odd:
        raise InputError(f"{name} must be strings; found {odd[0]!r}, of type {type(odd[0]).__name__}.")


def check_finite(name: str, values: FloatArray) -> None:
    """Raise `InputError` if a value is nan or infinite."""
    odd = ~np.isfinite(values)
    if odd.any():
        row = int(np.argwhere(odd)[0][0])
        raise InputError(f"{name}: {odd.sum()} of {odd.size} values are not finite, the first in row {row}.")


def tiles(n_voxels: int, at_once: int = TILE) -> list[slice]:
    """Cut voxels along the canonical grid, or along that of the block of `on_grid` if these are its voxels.

    With `at_once`, a multiple of a tile, they are cut at every so many voxels of the grid.
    """
    widths = _grid.get()
    if widths and sum(widths) == n_voxels:
        n_tiles = -(-at_once // TILE)
        widths = tuple(sum(widths[i : i + n_tiles]) for i in range(0, len(widths), n_tiles))
        ends = list(accumulate(widths))
        return [slice(end - width, end) for end, width in zip(ends, widths, strict=True) if width]
    return [slice(i, min(i + at_once, n_voxels)) for i in range(0, n_voxels, at_once)]


@contextmanager
def on_grid(voxels: IntArray) -> Iterator[None]:
    """Cut these voxels, some of those of a canonical grid, along that grid as long as the block runs.

    What is computed of a voxel depends in its last bits on which others share its tile. Voxels that are chosen from a
    chunk, and from all of them, must share tiles with the same others.

    Parameters
    ----------
    voxels : ndarray of int
        Numbers on the grid, ascending.
    """
    widths = np.bincount(voxels // TILE) if len(voxels) else np.empty(0, dtype=np.intp)
    token = _grid.set(tuple(widths.tolist()))
    try:
        yield
    finally:
        _grid.reset(token)


def chosen(values: FloatArray, voxels: IntArray) -> FloatArray:
    """Take some voxels, the last axis, row by row in memory: by which numbers a sum comes about depends on that."""
    return np.ascontiguousarray(values[..., voxels])


_grid: ContextVar[tuple[int, ...]] = ContextVar("grid", default=())
"""Voxels in each tile, where others than those of the canonical grid hold."""
