"""Whose a folder is while it is written: a study's, whose processes take turns, or nobody's.

Each process lays down a file of its own, a claim, and only then lists those of the others. So of any two at least one
sees the other, whatever the file system does beside making and listing files (no links, no locks, no exclusive
creation): an earlier claim, or one that its process has marked as an owner's, wins, and the later process withdraws.
A claim is never handed on. It ends with its process, which others of the same machine look up, or when its process has
not touched it for `LEASE_S`; so anybody may delete it then, and no two can take over the same one. Names alone say
whose a claim is, so that nobody reads half of a file.

Where a machine lists a folder of a network file system from a memory that is seconds old, two machines that begin
within those seconds may both win. A process that was stopped for longer than `LEASE_S` and goes on notices before it
writes.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil

from latentcortex import _files
from latentcortex._arrays import digest
from latentcortex.errors import IncompleteError, InputError
from latentcortex.executors import called_every

HEARTBEAT_S: Final = 60.0
"""Seconds between two signs of life, a tenth of what other machines wait for."""
WITHDRAWAL_S: Final = 0.01
TURN_S: Final = 0.05
"""Seconds between two looks whether it is one's turn."""
START_TOLERANCE: Final = 2
"""By how much two readings of when a process began may differ."""
OWNER: Final = "-owner"
CLAIM: Final = re.compile(
    r"\.latentcortex_(?P<kind>lease|turn)-(?P<key>[0-9a-f]{12})-(?P<since>\d+)-(?P<pid>\d+)-(?P<started>\d+)"
    r"-(?P<namespace>\d+)-(?P<token>[0-9a-f]{8})-(?P<host>.+?)(?P<owner>-owner)?"
)
"""What a claim is called; that of an owner has a second file beside it."""


@dataclass(frozen=True)
class Claim:
    """What one process says of a folder.

    Parameters
    ----------
    path : Path
    key : str
        What it writes.
    since_ms : int
        Since the epoch, by the clock of its machine.
    pid, started, namespace : int
        The process, when it began, and among which processes its number counts.
    host : str
    token : str
        Tells claims of one process apart.
    owns : bool
        Whether it has won.
    """

    path: Path
    key: str
    since_ms: int
    pid: int
    started: int
    namespace: int
    host: str
    token: str
    owns: bool

    @property
    def order(self) -> tuple[int, str]:
        """Earlier claims come first."""
        return self.since_ms, self.token

    @property
    def is_of_this_machine(self) -> bool:
        """Tell whether its process can be looked up from here."""
        return (self.host, self.namespace) == (socket.gethostname(), _namespace())

    def is_alive(self) -> bool:
        """Tell whether its process may still write."""
        if self.is_of_this_machine:
            began = _started(self.pid)
            return _exists(self.pid) and (began is None or abs(began - self.started) <= START_TOLERANCE)
        try:
            return time.time() - self.path.lstat().st_mtime <= _files.LEASE_S
        except FileNotFoundError:
            return False

    def drop(self) -> None:
        """Delete it; one that cannot be deleted ends with its process."""
        for path in (self.path.with_name(f"{self.path.name}{OWNER}"), self.path):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def claims(folder: Path, kind: str) -> list[Claim]:
    """List the claims of live processes on a folder; those of dead ones are deleted."""
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return []
    alive = []
    for name in sorted(names):
        match = CLAIM.fullmatch(name)
        if match is None or match["kind"] != kind or match["owner"]:
            continue
        claim = Claim(
            folder / name,
            match["key"],
            *(int(match["since"]), int(match["pid"]), int(match["started"]), int(match["namespace"])),
            match["host"],
            match["token"],
            owns=f"{name}{OWNER}" in names,
        )
        if claim.is_alive():
            alive.append(claim)
        else:
            claim.drop()
    return alive


@dataclass(frozen=True)
class Lease:
    """The right to write into a folder, which processes with the same key share and all others are refused.

    Parameters
    ----------
    folder : Path
    key : str
        Hash of all that decides what is written.
    """

    folder: Path
    key: str
    _held: list[Claim] = field(default_factory=list, repr=False)

    def refuse_others(self) -> None:
        """Raise `InputError` if a process with another key owns the folder; nothing is written to find out."""
        for claim in claims(self.folder, "lease"):
            if claim.owns and claim.key != _short(self.key):
                raise InputError(_refusal(self.folder, claim))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease while the block runs.

        Raises
        ------
        InputError
            If a process with another key owns the folder, or claimed it earlier.
        """
        won = _claim(self.folder, "lease", _short(self.key))
        if not won.owns:
            raise InputError(_refusal(self.folder, won))
        self._held.append(won)
        try:
            with _beating(won):
                yield
        finally:
            if won in self._held:
                self._held.remove(won)
            won.drop()
            with suppress(OSError):
                for kind in ("lease", "turn"):  # what is left of others that were killed meanwhile
                    claims(self.folder, kind)

    def is_alone(self) -> bool:
        """Tell whether no other process holds the lease; in a turn, none that begins with one can come in between."""
        held = {claim.path for claim in self._held}
        return all(claim.path in held for claim in claims(self.folder, "lease"))

    def place(self) -> float:
        """Tell which part of the processes that hold the lease began before this one: 0, or 1/2 for the second of 2."""
        held = {claim.path for claim in self._held}
        of_all = [claim.path in held for claim in sorted(claims(self.folder, "lease"), key=lambda one: one.order)]
        return of_all.index(True) / len(of_all) if any(of_all) else 0.0

    def leave(self) -> bool:
        """Give the lease back before its block ends; tell whether nobody else holds it.

        Of several that do so in turns, only the last one is told so.
        """
        while self._held:
            self._held.pop().drop()
        return self.is_alone()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only process that writes while the block runs; wait until it is one's turn."""
        key = uuid.uuid4().hex[:12]
        while not (won := _claim(self.folder, "turn", key)).owns:
            time.sleep(TURN_S)
        try:
            with _beating(won):
                yield
        finally:
            won.drop()

    def check(self) -> None:
        """Raise `IncompleteError` if the lease was lost: another machine took this process for dead."""
        for claim in self._held:
            if not claim.path.exists():
                raise IncompleteError(
                    f"{self.folder} was taken over by another process, since this one gave no sign of life for "
                    f"{_files.LEASE_S / 60:.0f} minutes; nothing more is written. Run the same command to go on."
                )


def _claim(folder: Path, kind: str, key: str) -> Claim:
    """Claim a folder; return the claim, as its owner's, or the claim of another process that stands against it."""
    mine = _new(folder, kind, key)
    with _files.naming(folder, mine.path):
        folder.mkdir(parents=True, exist_ok=True)
        mine.path.write_text(json.dumps({"what": f"a process is writing here ({kind})", "pid": mine.pid}))
    try:
        while True:
            against = [claim for claim in claims(folder, kind) if claim.key != key]
            stronger = [claim for claim in against if claim.owns or claim.order < mine.order]
            if stronger:
                mine.drop()
                return replace(stronger[0], owns=False)
            if not against:
                with _files.naming(folder, mine.path):
                    mine.path.with_name(f"{mine.path.name}{OWNER}").touch()
                return mine
            time.sleep(WITHDRAWAL_S)  # later claims withdraw, or turn out to be owners'
    except BaseException:
        mine.drop()
        raise


def _new(folder: Path, kind: str, key: str) -> Claim:
    """Describe a claim of this process."""
    host, pid, since_ms, token = socket.gethostname(), os.getpid(), time.time_ns() // 10**6, uuid.uuid4().hex[:8]
    started, namespace = _started(pid) or 0, _namespace()
    name = f".latentcortex_{kind}-{key}-{since_ms}-{pid}-{started}-{namespace}-{token}-{host}"
    return Claim(folder / name, key, since_ms, pid, started, namespace, host, token, owns=True)


@contextmanager
def _beating(claim: Claim) -> Iterator[None]:
    """Give signs of life while the block runs, also while one computation takes longer than others would wait."""

    def beat() -> None:
        with suppress(OSError):  # gone, which `check` tells, or a file server that does not answer now
            os.utime(claim.path)

    with called_every(beat, seconds=HEARTBEAT_S):
        yield


def _refusal(folder: Path, claim: Claim) -> str:
    since = datetime.fromtimestamp(claim.since_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
    unless = "" if claim.is_of_this_machine else f", or delete {claim.path} if that process has ended"
    return (
        f"{folder} is being written by another study, or by this one with other settings of figures (process "
        f"{claim.pid} on {claim.host}, since {since}); wait until it has ended{unless}, or use another folder."
    )


def _short(key: str) -> str:
    return digest(key)[:12]


def _exists(pid: int) -> bool:
    """Tell whether there is a process of this number that has not ended."""
    try:
        return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's
        return True


def _started(pid: int) -> int | None:
    """Tell when a process began, in ticks since the machine did, which setting the clock does not change.

    Where there is no /proc, in seconds since the epoch; None where it cannot be told.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _namespace() -> int:
    """Tell among which processes numbers count; containers, which may share a host name, have each their own."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
