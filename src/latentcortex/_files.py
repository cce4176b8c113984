"""Files that are either whole or not there, and records of what was done."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import socket
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcortex.errors import InputError


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
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


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
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
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
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text), sep="\t", dtype=str, keep_default_na=False, index_col=False
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is not a table: {str(error).strip()}.") from None
    missing = [name for name in needs if name not in table.columns]
    if missing:
        comma = " It looks comma-separated; use tabs." if "," in str(table.columns[0]) else ""
        found = ", ".join(map(str, table.columns))
        raise InputError(f"{path} has no column {', '.join(missing)}; found {found}.{comma}")
    short = np.flatnonzero(table.isna().any(axis=1))
    if len(short):
        raise InputError(
            f"{path} line {short[0] + 2} has fewer cells than the header; write n/a where empty."
        )
    return table


def sha256(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class JsonLines(logging.Handler):
    """Append every record that tells of an alteration, an exclusion or a step to a file, as JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__(level=logging.INFO)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        entry = {"level": record.levelname.lower(), "what": record.getMessage()}
        entry |= getattr(record, "facts", {})
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(_plain(entry), ensure_ascii=False) + "\n")


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
