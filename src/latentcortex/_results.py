"""What a folder of results holds already: whose it is, which stages are done, and whether its files are whole."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from latentcortex import _files
from latentcortex._arrays import digest, listed
from latentcortex._lease import Lease
from latentcortex._store import Store
from latentcortex.errors import IncompleteError, InputError

logger = logging.getLogger(__name__)

NAME: Final = "study.json"
FORMAT: Final = "latentcortex-study 2"
LOG: Final = "logs/latentcortex.jsonl"
"""Where a folder of results keeps its log, which every run appends to."""
WORK: Final = "work"
"""Where a folder of results keeps the parts that results are made from."""
JOURNAL: Final = "logs/written.jsonl"
"""Names and hashes of what is written until a run finishes: a line each, before the file has its name."""
PICTURES: Final = ("sub-*/figures/*", "sub-*_viewer.html", "sub-*_light.html")
"""Files that depend on how figures look, and on which of them are asked for."""
CONTINUED: Final = (LOG, "summary.json", "sub-*/func/*", "sub-*/sub-*_report.json")
"""Files that are appended to, or that are read together with what other runs wrote."""
KEPT: Final = ".kept"
"""How the name of a file goes on that was in the way of a result and is not one."""
IN_THE_WAY: Final = "was in the way of a result and is none; it is kept as"


@dataclass(frozen=True)
class ResultsFolder:
    """The memory of one folder of results, for one study.

    Parameters
    ----------
    folder : Path
    key : str
        Hash of everything that the results depend on.
    settings : dict
        Those that the results depend on, section by section.
    ours : tuple of str
        Patterns of what is written here. Only a file that a run wrote, as it wrote it, is ever deleted; whatever else
        lies in the folder is the user's and is never touched, whatever it is called.
    figure_settings : dict
        Settings on which no number depends, but files of figures do: when they change, figures are drawn anew.
    sources : dict of str to str
        What else the key is a hash of, in words, each with its value or hash.
    """

    folder: Path
    key: str
    settings: Mapping[str, Mapping[str, Any]]
    ours: tuple[str, ...]
    figure_settings: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict, repr=False)
    _stored: dict[str, str] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list, repr=False)
    """What happened to files before there was a log for it."""
    kept: list[str] = field(default_factory=list, repr=False)
    """What was neither deleted nor replaced, since no run wrote it."""
    _lease: Lease = field(init=False, repr=False)
    _seen: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lease", _lease_of(self.folder, self.key, self.figure_settings))

    @property
    def _known(self) -> dict[str, Any]:
        """What is written down; nothing where there is no record."""
        return read_record(self.folder)

    def refuse(self, *, overwrite: bool) -> None:
        """Raise `InputError` if the folder may not be written, is being written, or holds another study's results."""
        self.refuse_foreign()
        self._lease.refuse_others()
        if not overwrite:
            self.refuse_other_study()

    def refuse_foreign(self) -> None:
        """Raise `InputError` if the folder cannot be written, or holds anything but this study's results."""
        above = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise InputError(f"{self.folder} cannot be written: {above} is not a folder that you may write to.")
        if self.folder.is_symlink() and not self.folder.exists():
            raise InputError(f"{self.folder} is a link to {self.folder.readlink()}, which is not there.")
        if not self.folder.exists() or (self.folder / NAME).is_file():
            return
        others = sorted(path.name for path in self.folder.iterdir() if not _files.is_incidental(path))
        if others:
            names = listed(others, 3)
            raise InputError(
                f"{self.folder} is not empty ({names}) and holds no study (no {NAME}); choose another folder."
            )

    def refuse_other_study(self) -> None:
        """Raise `InputError`, naming what differs, if the folder holds results of another study."""
        known = self._known
        if not self._is_of_another(known):
            return
        differs = [
            f"{section}.{key}"
            for section, keys in self.settings.items()
            for key, value in keys.items()
            if known["settings"].get(section, {}).get(key) != value
        ]
        # A folder that was begun before sources were part of a record does not say what it was made from.
        before = known.get("sources")
        if isinstance(before, dict) and before:
            differs += [name for name, value in self.sources.items() if before.get(name) != value]
        differs += ["the format of its record"] if known.get("format") != FORMAT else []
        changed = (
            listed(differs) or f"{', '.join(self.sources) or 'the data, the model'} or anything else it is made from"
        )
        raise InputError(
            f"{self.folder} holds results of another study ({changed}); use another folder or --overwrite."
        )

    def is_done(self, stage: str) -> bool:
        """Tell whether a stage is done and every file that it left is as it was left; note those that are not."""
        known = self._known
        self._seen.append(known)
        if not self._is_mine(known) or stage not in known["done"]:
            return False
        if not known["stored"]:  # written before features were part of a record
            return False
        files = known["files"] | known["stored"]
        changed = [name for name, expected in files.items() if not _files.is_as_written(self.folder / name, expected)]
        self.notes.extend(
            f"{name} is missing or not as it was left: what it belongs to is done again." for name in changed
        )
        return not changed

    def was_done_meanwhile(self, stage: str) -> bool:
        """Tell whether another process of this study has finished a stage since `is_done` was asked."""
        return self._known != self._seen[-1] and self.is_done(stage)

    @contextmanager
    def owning(self, *, overwrite: bool, tidy: Callable[[], None] | None = None) -> Iterator[None]:
        """Own the folder while the block runs, together with other processes of this study.

        What these compute they share, part by part; what they write into the folder itself, they write in turns.

        Parameters
        ----------
        overwrite : bool
            Whether the folder may hold results of another study.
        tidy : callable, optional
            Is called by the last process of this study when it is through: it deletes what only runs need.

        Raises
        ------
        InputError
            If another study owns the folder, or has left results there since `refuse` looked.
        """
        with self._lease.held():
            self.refuse(overwrite=overwrite)
            yield
            if tidy is not None:
                with self.turn():
                    if self._lease.leave():
                        tidy()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Tell whether no other process of this study is at work; none begins while the block runs."""
        with self.turn():
            yield self._lease.is_alone()

    def place(self) -> float:
        """Tell which part of the processes of this study that are at work began before this one."""
        return self._lease.place()

    @property
    def done(self) -> tuple[str, ...]:
        """Stages that this study has done, as the record says."""
        known = self._known
        return tuple(known["done"]) if self._is_mine(known) else ()

    def turn(self) -> AbstractContextManager[None]:
        """Be the only process that writes results while the block runs."""
        return self._lease.turn()

    def _is_mine(self, known: Mapping[str, Any]) -> bool:
        """Tell whether a record is that of this study, with figures that look like its own."""
        return (
            not self._is_of_another(known)
            and known["key"] == self.key
            and known.get("figure_settings", {}) == self.figure_settings
        )

    def _is_of_another(self, known: Mapping[str, Any]) -> bool:
        """Tell whether a record is that of another study, or in the words of another version."""
        return known["key"] not in ("", self.key) or (known["key"] == self.key and known.get("format") != FORMAT)

    def begin(self) -> None:
        """Make the folder that of this study; another process of it may have begun already.

        Files that another study left here are removed (it was asked to be overwritten), if they are as it left them.
        Those that are not are kept; where they would be taken for results, with `.kept` after their name. What is named
        by what it depends on (features, decoded features, reconstructions) is nobody's and stays.
        """
        with self.turn():
            self._lease.check()
            _files.sweep(self.folder)
            known = self._known
            files: dict[str, str] = known["files"] | read_journal(self.folder)
            gone: dict[str, str] = {}
            overwrites = self._is_of_another(known)
            if overwrites:  # no run that was killed took its log down, and no other study's may be continued
                files, gone = {}, {LOG: "", **files}
                self.store.remove(filter(self.store.has, self.store.keys()))
            elif not self._is_mine(known):
                gone = {name: expected for name, expected in files.items() if _matches(name, PICTURES)}
            for name, expected in gone.items():
                files.pop(name, None)
                self._remove(name, expected)
            if overwrites:  # before the record is ours: a journal must never be taken for that of another study
                (self.folder / JOURNAL).unlink(missing_ok=True)
            self._written.update(files)
            self._write(done=(), files=files)
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def _remove(self, name: str, expected: str) -> None:
        """Delete a file if it is as a run wrote it; say so if it is not."""
        path = self.folder / name
        if not (_matches(name, self.ours) and os.path.lexists(path)):
            return
        linked = _linked(self.folder, name)
        if not linked and _files.is_as_written(path, expected):
            path.unlink()
            return
        kept = _set_aside(path) if _matches(name, CONTINUED) and not linked else path
        place = "" if kept == path else f" as {kept.name}"
        self.kept.append(f"{name} is not as a run left it, and is kept{place}.")
        self.notes.append(self.kept[-1])

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Take down what is written into the folder while the block runs, and say in the log what was noted before."""
        with _files.announcing(self._claim):
            self.tell()
            try:
                yield
            finally:  # so that what was logged before an interruption is known as the run's, too
                with self.turn():
                    if (self.folder / LOG).is_file():
                        self._take_down(LOG, _files.sha256(self.folder / LOG))

    def tell(self) -> None:
        """Say in the log what was noted before there was one."""
        for note in self.notes:
            logger.warning("%s", note)
        self.notes.clear()

    def _claim(self, part: Path, path: Path) -> None:
        """Take down the name and the hash of a file that is about to get its name; what is in the way is kept."""
        name = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else ""
        if not _matches(name, self.ours):
            return
        self._lease.check()
        if os.path.lexists(path) and name not in self._written:  # by another process of this study?
            self._written.update(self._known["files"] | read_journal(self.folder))
        if os.path.lexists(path) and (name not in self._written or path.is_symlink()):
            self.kept.append(f"{name} {IN_THE_WAY} {_set_aside(path).name}.")
            logger.warning("%s", self.kept[-1])
        self._take_down(name, _files.sha256(part))

    def _take_down(self, name: str, sha256: str) -> None:
        self._written[name] = sha256
        _append(self.folder, name, sha256)

    def include(self, store: Mapping[Path, str]) -> None:
        """Note files, with their hashes, that the results depend on and that other studies may share."""
        for path, expected in store.items():
            self._stored[path.relative_to(self.folder).as_posix()] = expected

    def finish(self, done: tuple[str, ...]) -> None:
        """List what this and other processes of this study wrote, with hashes; until then nothing is called done."""
        with self.turn():
            self._lease.check()
            _files.sweep(self.folder)
            known = self._known
            files = {
                name: expected
                for name, expected in (known["files"] | read_journal(self.folder)).items()
                if _files.is_as_written(self.folder / name, expected)
            }
            if self._is_mine(known):
                done = tuple(dict.fromkeys((*known["done"], *done)))
            self._write(done=done, files=dict(sorted(files.items())), stored=known["stored"] | self._stored)
            (self.folder / JOURNAL).unlink(missing_ok=True)

    def _write(self, *, done: Sequence[str], files: dict[str, str], stored: Mapping[str, str] | None = None) -> None:
        content = {"format": FORMAT, "key": self.key, "settings": self.settings, "done": list(done), "files": files}
        content |= {"stored": dict(sorted(stored.items()))} if stored is not None else {}
        content |= {"figure_settings": self.figure_settings} if self.figure_settings else {}
        content |= {"sources": self.sources} if self.sources else {}
        _files.write_json(self.folder / NAME, content)

    # Parts of results

    @property
    def store(self) -> Store:
        """Parts that results are made from, which an interrupted run goes on from."""
        return Store(self.folder / WORK)

    def key_of(self, name: str) -> str:
        """Name a part of this study: what it is, and a digest of everything that the study's results depend on."""
        return f"{name}-{self.key[:16]}"

    def include_parts(self, keys: Iterable[str]) -> None:
        """Note parts that results were made from; see `include`."""
        paths = [self.store.path(key) for key in keys]
        self.include({path: _files.sha256(path) for path in paths})


# What is read of a folder


def read_record(folder: Path) -> dict[str, Any]:
    """Read what a folder's record says; nothing where there is none.

    Raises
    ------
    InputError
        If it is not a record, or names a file outside of the folder.
    """
    nothing: dict[str, Any] = {"key": "", "settings": {}, "done": [], "files": {}, "stored": {}}
    path = folder / NAME
    if not path.is_file():
        return nothing
    try:
        known = _files.read_json(path)
    except InputError as error:
        raise InputError(f"{error} Move the folder away, or choose another one for results.") from None
    record = nothing | known if isinstance(known, dict) and nothing.keys() - {"stored"} <= known.keys() else {}
    typed = record and all(isinstance(record[name], type(value)) for name, value in nothing.items())
    if not typed or not all(isinstance(section, dict) for section in record["settings"].values()):
        raise InputError(f"{path} is not a study's record; move the folder away, or choose another one for results.")
    for name, expected in (record["files"] | record["stored"]).items():
        if not _is_inside(name) or not isinstance(expected, str):
            raise InputError(
                f"{path} names {name!r}; a study names files in its own folder, with their hashes. Somebody else may "
                "have written this: look at the folder, and choose another one for results."
            )
    return record


def read_journal(folder: Path) -> dict[str, str]:
    """Read names and hashes of what a run wrote that did not finish; a last line that was cut off is left out."""
    path = folder / JOURNAL
    entries: dict[str, str] = {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
            name, expected = str(entry["name"]), str(entry["sha256"])
        except (ValueError, KeyError, TypeError):
            continue
        if _is_inside(name):
            entries[name] = expected
    return entries


def refuse_damaged(folder: Path, paths: Iterable[Path], stage: str = "report") -> None:
    """Raise `IncompleteError` if one of these files is not as the record of the folder says that it was left.

    Files that the record does not name, and folders without a record, are taken as they are. The stage is the one that
    makes them.
    """
    files = read_record(folder)["files"] | read_journal(folder)
    for path in paths:
        expected = files.get(path.relative_to(folder).as_posix())
        if expected is not None and not _files.is_as_written(path, expected):
            raise IncompleteError(
                f"{path} is missing or not as the study left it; `latentcortex {stage} STUDY.toml` makes it again."
            )


def _set_aside(path: Path) -> Path:
    """Give a file another name, so that a result can have its own."""
    names = (path.with_name(f"{path.name}{KEPT}{number}") for number in ("", *map(str, range(2, 1000))))
    free = next(name for name in names if not os.path.lexists(name))
    path.rename(free)
    return free


def _append(folder: Path, name: str, sha256: str) -> None:
    """Write a line into the journal of a folder."""
    path = folder / JOURNAL
    path.parent.mkdir(exist_ok=True)
    with _files.naming(path), path.open("a", encoding="utf-8") as handle:
        # The break comes first: a line that a kill cut off must not take the next one with it.
        handle.write("\n" + json.dumps({"name": name, "sha256": sha256}))


@contextmanager
def amending(folder: Path) -> Iterator[None]:
    """Note in the record of a folder, if there is one, the hashes of results that are made again meanwhile.

    A file under the name of a result that the record does not name is not one, and is kept under another name, unless
    it is what the results are made from.
    """
    if not (folder / NAME).is_file():
        yield
        return
    lease = _lease_of(folder, read_record(folder)["key"], read_record(folder).get("figure_settings", {}))
    with lease.held(), lease.turn(), _amending(folder):
        yield


@contextmanager
def _amending(folder: Path) -> Iterator[None]:
    """See `amending`."""
    record = read_record(folder)
    files: dict[str, str] = record["files"] | read_journal(folder)

    def note(part: Path, path: Path) -> None:
        if not path.is_relative_to(folder):
            return
        name = path.relative_to(folder).as_posix()
        if os.path.lexists(path) and name not in files and not _matches(name, CONTINUED):
            logger.warning("%s %s %s.", name, IN_THE_WAY, _set_aside(path).name)
        files[name] = _files.sha256(part)
        _append(folder, name, files[name])

    with _files.announcing(note):
        yield
    _files.write_json(folder / NAME, {**record, "files": dict(sorted(files.items()))})
    (folder / JOURNAL).unlink(missing_ok=True)


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise `InputError` if one of these names in a folder is a link, or lies in one."""
    for name in names:
        if _linked(folder, name):
            raise InputError(
                f"{folder / name} is, or lies in, a link; results would be written elsewhere: remove the link."
            )


def _lease_of(folder: Path, key: str, figure_settings: Mapping[str, Any]) -> Lease:
    """Make the lease of a study with figures that look so: it decides the content of every file."""
    return Lease(folder, digest(key, json.dumps(_files.plain(dict(figure_settings)), sort_keys=True)))


def _is_inside(name: str) -> bool:
    """Tell whether a name is that of a file below a folder."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts)) and "\\" not in name and name.isprintable()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether a name is made like one of these, folder by folder."""
    parts = name.split("/")
    return _is_inside(name) and any(
        len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def _linked(folder: Path, name: str) -> bool:
    """Tell whether a file, or a folder between it and this one, is a symbolic link."""
    path = folder
    for part in name.split("/"):
        path /= part
        if path.is_symlink():
            return True
    return False
