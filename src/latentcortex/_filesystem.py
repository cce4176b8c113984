"""What file systems cannot do, such as shares on a network: it is put up with, and said once."""

from __future__ import annotations

import errno
import filecmp
import logging
import os
import time
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

UNSUPPORTED: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
"""What file systems answer that do not know a call, such as to sync a folder."""
BUSY: Final = (errno.EBUSY, errno.ETXTBSY)
"""What they answer that do not rename over a file while somebody has it open."""
NO_REPLACING: Final = (errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What they may answer that never rename over a file; a file that may not be touched is refused in the same words."""
WAITS_S: Final = (0.02, 0.1, 0.5, 1.0)
"""Seconds between tries to rename over a file that somebody has open."""

_SAID: set[tuple[str, int]] = set()


def say_once(folder: Path, lack: str) -> None:
    """Say in the log what the file system of a folder cannot do, once for each file system."""
    said = (lack, folder.stat().st_dev)
    if said not in _SAID:
        _SAID.add(said)
        logger.warning("The file system of %s cannot %s.", folder, lack)


def sync(number: int, folder: Path, what: str) -> None:
    """Wait until an open file, or folder, is on the disk; where that cannot be asked for, say so."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        say_once(folder, f"sync {what}: what is written just before a power cut may be lost, and is then made again")


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; where that cannot be asked for, say so."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:  # a folder may be one to write into and not to list
        if error.errno not in (*UNSUPPORTED, errno.EACCES, errno.EISDIR):
            raise
        say_once(folder, "open folders, to sync them: what is written just before a power cut may be lost")
        return
    try:
        sync(number, folder, "folders")
    finally:
        os.close(number)


def replace(part: Path, path: Path) -> None:
    """Rename a file over another one that may be there, with what the file system has.

    Where it refuses while somebody reads the old one, wait; what has the same bytes already needs no rename. Where it
    never renames over a file, the old one gets another name first: for a moment there is none, never half of one.
    """
    for seconds in (*WAITS_S, None):
        try:
            os.replace(part, path)
        except OSError as error:
            if error.errno not in (*BUSY, *NO_REPLACING) or not path.is_file():
                raise
            if error.errno in BUSY and seconds is not None:
                time.sleep(seconds)
                continue
            if filecmp.cmp(part, path, shallow=False):
                return
            if error.errno in BUSY:
                raise
            _swap(part, path)
        return


def _swap(part: Path, path: Path) -> None:
    """Give the old file the name of one that is unfinished, and the new one its name."""
    old = part.with_name(f"{part.name}-old")
    os.rename(path, old)
    try:
        os.rename(part, path)
    except OSError:
        os.rename(old, path)
        raise
    old.unlink()
    say_once(path.parent, "rename over a file that is there: a run that is killed meanwhile makes that file again")
