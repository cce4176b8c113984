"""Files that are either whole or not there, and records of what was done."""

from __future__ import annotations

import csv
import errno
import hashlib
import importlib.util
import json
import logging
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pandas as pd
import psutil

from latentcortex import _filesystem
from latentcortex._arrays import digest, unique_ids
from latentcortex.errors import IncompleteError, InputError

logger = logging.getLogger(__name__)

MAX_TEXT_BYTES: Final = 2**26
"""Of a file of text: 100,000 stimuli with five captions each are half of it."""
POINTER: Final = b"version https://git-lfs"
"""How a file begins that stands for another one, which git-lfs has not fetched."""
LINE_END: Final = re.compile(r"\r\n|\n|\r")
UNFINISHED: Final = re.compile(r"\.latentcortex-(?P<host>.+?)-(?P<pid>\d+)-[0-9a-f]{8}-.+", re.DOTALL)
"""What a file is called until it is whole: whose it is, who writes it, and what it will be called."""
CLUTTER: Final = (
    *(".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd"),
    *("Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", ".nfs*", ".fuse_hidden*", "lost+found"),
    *(".latentcortex_lease-*", ".latentcortex_turn-*"),
)
"""Names of what operating systems put into folders by themselves, and of claims (`_lease`)."""
REFUSALS: Final = tuple(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EIO", "ESTALE", "ETIMEDOUT", "EMFILE", "ENFILE", "ENOMEM", "ENXIO", "ENODEV", "EBUSY"),
        *("ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EREMOTEIO", "ECONNRESET"),
    )
    if hasattr(errno, name)
)
"""Why an operating system does not let a file be read that may be whole."""
LEASE_S: Final = 600.0
"""Seconds without a write after which a writer on another machine, which cannot be asked, is taken for dead."""
CLOCK_S: Final = 2.0
"""Seconds by which the start of a process and the time of a file may disagree."""


@contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Make an `OSError` of the block name the file: one of writing names none, or the temporary one, `part`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(part):
            raise
        if error.errno is None:  # a library's own words
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on leaving, sync it and rename it into place.

    A reader sees the old file or the new one, never half of one; a killed writer leaves only a file whose
    name starts with a dot, which `sweep` deletes.
    """
    writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    part = path.parent / f".latentcortex-{writer}-{path.name}"
    with naming(path, part):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb") as handle:
                _filesystem.sync(handle.fileno(), path.parent, "files")
            for announce in tuple(_LISTENERS):  # a study in another thread may begin or end meanwhile
                announce(part, path)
            _filesystem.replace(part, path)
            _filesystem.sync_folder(path.parent)
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


def is_refused(error: Exception) -> bool:
    """Tell whether the operating system refused to read a file, so that nothing is known of what is in it."""
    return isinstance(error, OSError) and error.errno in REFUSALS


def is_incidental(path: Path) -> bool:
    """Tell whether a file is nobody's: `writing` did not finish it, or an operating system put it there.

    So is a folder that holds nothing else: a process that was killed at its start leaves such ones.
    """
    if UNFINISHED.fullmatch(path.name) or any(fnmatchcase(path.name, name) for name in CLUTTER):
        return True
    return path.is_dir() and not path.is_symlink() and all(map(is_incidental, path.iterdir()))


def sweep(folder: Path) -> None:
    """Delete what killed writers left in a folder and below it, without following links.

    A file stays while its writer may live: while a process of this machine has its number and is older than the
    file, or for `LEASE_S` after the last write on another machine.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            writer, part = UNFINISHED.fullmatch(name), Path(place, name)
            if writer and _is_abandoned(part, writer["host"], int(writer["pid"])):
                with suppress(PermissionError):  # a store that may only be read
                    part.unlink(missing_ok=True)


def _is_abandoned(part: Path, host: str, pid: int) -> bool:
    """Tell whether whoever wrote a file is dead; numbers of dead processes are given to others."""
    try:
        written = part.lstat().st_mtime
        if host != socket.gethostname():
            return time.time() - written > LEASE_S
        writer = psutil.Process(pid)
        return bool(writer.status() == psutil.STATUS_ZOMBIE or writer.create_time() > written + CLOCK_S)
    except psutil.NoSuchProcess:
        return True
    except (FileNotFoundError, psutil.AccessDenied):  # its writer has just renamed it, or is somebody else's
        return False


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


def read_text(path: Path, *, expected: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a file of text in UTF-8, with or without the mark of the order of bytes that some editors put first.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for errors: `a JSON file`.
    max_bytes : int

    Raises
    ------
    InputError
        If it is missing, larger than that, or no text.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; expected {expected}.")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(f"{path} has {size:,} bytes; expected {expected} of at most {max_bytes:,}.")
    with naming(path), path.open("rb") as handle:
        content = handle.read(max_bytes)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); expected {expected}: save it as UTF-8.") from None
    if "\0" in text:
        raise InputError(f"{path} is no text: character {text.index(chr(0))} is 0; expected {expected}.")
    return text


def refuse_pointer(path: Path) -> None:
    """Raise `InputError` for a file that git-lfs left in place of the real one."""
    if not path.is_file():
        return
    with naming(path), path.open("rb") as handle:
        if handle.read(len(POINTER)) == POINTER:
            raise InputError(f"{path} is a pointer of git-lfs and not the file; fetch it with: git lfs pull.")


def read_json(path: Path) -> Any:
    """Read JSON; raise `InputError` if it is missing, or with the line of the first mistake."""
    text = read_text(path, expected="a JSON file")
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be read; expected a JSON file as it is written.") from None
    except ValueError as error:  # of the grammar, or a number of thousands of digits
        raise InputError(f"{path} is not JSON: {str(error).rstrip('.')}.") from None


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with a hash of itself, so that no change of it goes unnoticed."""
    sealed = plain(content)
    write_json(path, {**sealed, "seal": digest(json.dumps(sealed))})


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
        record = read_json(path)
    except InputError as error:
        raise IncompleteError(f"{error} Run again what it belongs to.") from None
    if not isinstance(record, dict) or record.get("format") != kind:
        what = repr(record.get("format")) if isinstance(record, dict) else "no record"
        raise IncompleteError(f"{path} is {what}; this version reads {kind!r}. Run again what it belongs to.")
    if record.pop("seal", "") != digest(json.dumps(record)):
        raise IncompleteError(f"{path} is not as it was written; run again what it belongs to.")
    return record


def read_tsv(path: Path, *, needs: tuple[str, ...]) -> pd.DataFrame:
    """Read a table with every cell a string (`001` stays `001`), as BIDS has it: a quotation mark is a letter.

    Returns
    -------
    DataFrame
        Its index is the number of each row in the file, where the header is the first.

    Raises
    ------
    InputError
        If the file is missing, is not UTF-8 text, is not tab-separated, lacks a needed column, or has a row
        of another length than its header.
    """
    expected = f"a tab-separated table with {', '.join(needs)}"
    lines = LINE_END.split(read_text(path, expected=expected))
    rows = {number: line.split("\t") for number, line in enumerate(lines, start=1) if line}
    if not rows:
        raise InputError(f"{path} is empty; expected {expected}.")
    header = rows.pop(min(rows))
    missing = [name for name in needs if name not in header]
    if missing:
        comma = " It looks comma-separated; use tabs." if "," in header[0] else ""
        raise InputError(f"{path} has no column {', '.join(missing)}; found {', '.join(header)}.{comma}")
    for number, row in rows.items():
        if len(row) != len(header):
            quoted = " A quotation mark does not hold a cell together." if '"' in "".join(row) else ""
            raise InputError(f"{path} row {number} has {len(row)} cells; its header has {len(header)}.{quoted}")
    _note_quotes(path, rows.values())
    columns = unique_ids(header, what=f"Columns of {path}")
    return pd.DataFrame(list(rows.values()), index=list(rows), columns=columns, dtype=str)


def as_tsv(table: pd.DataFrame, *, float_format: str = "%.5g") -> str:
    """Write a table as BIDS has it: tab-separated, `n/a` where there is no value, cells as they are.

    Raises
    ------
    InputError
        If a cell has a tab or ends a line, which such a table cannot hold.
    """
    try:
        return str(
            table.to_csv(
                sep="\t",
                index=False,
                na_rep="n/a",
                float_format=float_format,
                quoting=csv.QUOTE_NONE,
                lineterminator="\n",
            )
        )
    except csv.Error:
        raise InputError(
            "A cell of a table has a tab or the end of a line in it, which no .tsv file can hold."
        ) from None


def _note_quotes(path: Path, rows: Iterable[list[str]]) -> None:
    """Say that quotation marks are kept which a spreadsheet may have put round cells."""
    quoted = [cell for row in rows for cell in row if len(cell) > 1 and cell[0] == cell[-1] == '"']
    if quoted:
        said = "%d cells of %s begin and end with a quotation mark, which is kept: tables of BIDS have no quoting."
        logger.info(said, len(quoted), path, extra={"facts": {"file": path.name, "n_cells": len(quoted)}})


def inside(package: str, *parts: str) -> Path | None:
    """Find a file or folder inside an installed package, without importing it; None if the package is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0], *parts)


def sha256(path: Path) -> str:
    """Hash a file."""
    with naming(path), path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_as_written(path: Path, expected: str) -> bool:
    """Tell whether a file is there and has this hash."""
    return path.is_file() and sha256(path) == expected


CONTROL: Final = "control"
"""The fact of a log record that says of which control or refit it tells; a report leaves such records out."""
EVENT: Final = "event"
"""The fact of a log record that says which step of the work it notes; no alteration, which a report would show."""
CELL: Final = "cell"
"""The fact of a log record that says in which cell of a study it was made."""
_ABOUT: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("about", default=())


@contextmanager
def telling_of(**facts: Any) -> Iterator[None]:
    """Note in every log record of the block, also of threads that `share` starts, what it tells of.

    Parameters
    ----------
    **facts : str or dict
        For example `participant`, `analysis` and `model`; `cell` has the facts of a cell; `control` names a shuffled
        control or a refit, whose records are kept in the log file and shown by no report. Facts of an outer block hold
        on.
    """
    token = _ABOUT.set((*_ABOUT.get(), *facts.items()))
    try:
        yield
    finally:
        _ABOUT.reset(token)


def log_facts() -> dict[str, Any]:
    """Return what records of the log tell of here, for work that is sent where this is not known."""
    return dict(_ABOUT.get())


def _note_about(record: logging.LogRecord) -> bool:
    """Put onto a record, once, what it tells of: one that is replayed keeps what held when it was made."""
    if not hasattr(record, "about"):
        record.about = dict(_ABOUT.get())
    return True


class JsonLines(logging.Handler):
    """Append every record that tells of an alteration, an exclusion or a step to a file, as JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__(level=logging.INFO)
        self.addFilter(_note_about)
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # What a killed run did not finish must not be continued by the first record of this one.
            is_torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
            self._before = b"\n" if is_torn else b""
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"level": record.levelname.lower(), "what": record.getMessage()}
        entry |= getattr(record, "about", {}) | getattr(record, "facts", {})
        line = json.dumps(plain(entry), ensure_ascii=False) + "\n"
        # In a name that is not UTF-8 an escape stands for each byte that is not; JSON knows such escapes.
        with naming(self.path), self.path.open("ab") as handle:
            handle.write(self._before + line.encode(errors="backslashreplace"))
        self._before = b""


def read_log(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read what `JsonLines` wrote, each finding once, and count the lines that cannot be read.

    A run that goes on after an interruption writes down again what it finds again, in the same words.

    Returns
    -------
    list of dict
        Entries with `level`, `what` and their facts, in the order in which they first came.
    int
        Lines that are not such an entry: cut off when a run was killed, or damaged.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else []
    entries = [_entry(line) for line in dict.fromkeys(lines) if line.strip()]
    return [entry for entry in entries if entry is not None], entries.count(None)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Read one line of a log; None if it cannot be."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("level"), str) and isinstance(entry.get("what"), str)
    return entry if whole else None


class _Memory(logging.Handler):
    """Keep records until there is a place for them."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.addFilter(_note_about)
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
def logging_to(path: Path) -> Iterator[None]:
    """Keep the package's log beside the outputs while the block runs."""
    logger, handler = logging.getLogger("latentcortex"), JsonLines(path)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
