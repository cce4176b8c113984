"""Files that are either whole or not there, and records of what was done."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import logging
import math
import os
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from latentcortex._arrays import digest, unique_ids
from latentcortex.errors import IncompleteError, InputError


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on leaving, sync it and rename it into place.

    A reader sees the old file or the new one, never half of one; a killed writer leaves only a file whose
    name starts with a dot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f".{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}"
    part = path.parent / unique
    try:
        yield part
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        for announce in _LISTENERS:
            announce(part, path)
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


_LISTENERS: list[Callable[[Path, Path], None]] = []


@contextmanager
def announcing(listener: Callable[[Path, Path], None]) -> Iterator[None]:
    """Call a function with the temporary and the final name of every file that `writing` is about to rename."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def sweep(folder: Path) -> None:
    """Delete what writers on this machine left in a folder when they were killed."""
    for part in folder.glob(f".{socket.gethostname()}-*"):
        pid = part.name.removeprefix(f".{socket.gethostname()}-").split("-")[0]
        if pid.isdecimal() and not _alive(int(pid)):
            part.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole, keys in their given order; what is not finite is not JSON and becomes null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Turn a value into what JSON knows: arrays into lists, paths into text, what is not finite into None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def read_json(path: Path) -> Any:
    """Read JSON; raise `InputError` if it is missing, or with the line of the first mistake."""
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a JSON file.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from None


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with a hash of itself, so that no change of it goes unnoticed."""
    known = plain(content)
    write_json(path, {**known, "seal": digest(json.dumps(known))})


def read_sealed(path: Path, *, kind: str) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Raises
    ------
    IncompleteError
        If it is missing or damaged, or its `format` is not `kind`.
    """
    if not path.is_file():
        raise IncompleteError(f"{path} is missing: what it belongs to did not finish; run it again.")
    try:
        found = read_json(path)
    except InputError as error:
        raise IncompleteError(f"{error} Run again what it belongs to.") from None
    if not isinstance(found, dict) or found.get("format") != kind:
        what = repr(found.get("format")) if isinstance(found, dict) else "no record"
        raise IncompleteError(f"{path} is {what}; this version reads {kind!r}. Run again what it belongs to.")
    if found.pop("seal", "") != digest(json.dumps(found)):
        raise IncompleteError(f"{path} is not as it was written; run again what it belongs to.")
    return found


def read_tsv(path: Path, *, needs: tuple[str, ...]) -> pd.DataFrame:
    """Read a table with every cell a string (`001` stays `001`).

    Raises
    ------
    InputError
        If the file is missing, is not UTF-8 text, is not tab-separated, lacks a needed column, or has a row
        of another length than its header.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected a tab-separated table with {', '.join(needs)}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True) if row]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}.") from None
    if not rows:
        raise InputError(f"{path} is empty; expected a tab-separated table with {', '.join(needs)}.")
    header = rows[0]
    missing = [name for name in needs if name not in header]
    if missing:
        comma = " It looks comma-separated; use tabs." if "," in header[0] else ""
        found = ", ".join(header)
        raise InputError(f"{path} has no column {', '.join(missing)}; found {found}.{comma}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InputError(f"{path} row {number} has {len(row)} cells; its header has {len(header)}.")
    return pd.DataFrame(rows[1:], columns=unique_ids(header, what=f"Columns of {path}"), dtype=str)


def inside(package: str, *parts: str) -> Path | None:
    """Find a file or folder inside an installed package, without importing it; None if the package is not there."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0], *parts)


def sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_as_written(path: Path, expected: str) -> bool:
    """Tell whether a file is there and has this hash."""
    return path.is_file() and sha256(path) == expected


class JsonLines(logging.Handler):
    """Append every record that tells of an alteration, an exclusion or a step to a file, as JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__(level=logging.INFO)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.about = ""
        """What the records tell of, said before each of them."""

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"level": record.levelname.lower(), "what": self.about + record.getMessage()}
        entry |= getattr(record, "facts", {})
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(plain(entry), ensure_ascii=False) + "\n")


class _Memory(logging.Handler):
    """Keep records until there is a place for them."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.records.append(record)


@contextmanager
def remembering() -> Iterator[list[logging.LogRecord]]:
    """Remember the package's log while the block runs, for a log file that may not be begun yet."""
    logger, handler = logging.getLogger("latentcortex"), _Memory()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def replay(records: Iterable[logging.LogRecord]) -> None:
    """Handle log records again that were made before there was a file for them."""
    for record in records:
        logging.getLogger(record.name).handle(record)


@contextmanager
def logging_to(path: Path) -> Iterator[JsonLines]:
    """Keep the package's log beside the outputs while the block runs."""
    logger, handler = logging.getLogger("latentcortex"), JsonLines(path)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
