"""What a folder of results holds already: whose it is, which stages are done, and whether its files are whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from latentcortex import _files
from latentcortex._arrays import listed
from latentcortex.errors import InputError

NAME: Final = "study.json"
FORMAT: Final = "latentcortex-study 1"
PICTURES: Final = ("sub-*/figures/*", "sub-*_viewer.html", "sub-*_light.html")
"""Files that depend on how figures look, and on which of them are asked for."""


@dataclass(frozen=True)
class Record:
    """The memory of one folder of results, for one study.

    Parameters
    ----------
    folder : Path
    key : str
        Hash of everything that the results depend on.
    settings : dict
        Those that the results depend on, section by section.
    ours : tuple of str
        Patterns of what is written here; whatever else lies in the folder is the user's and is never touched.
    stores : tuple of str
        Patterns of what is named by what it depends on: it is kept when another study overwrites this one.
    looks : dict
        Settings on which no number depends, but files of figures do: when they change, figures are drawn anew.
    """

    folder: Path
    key: str
    settings: Mapping[str, Mapping[str, Any]]
    ours: tuple[str, ...]
    stores: tuple[str, ...] = ()
    looks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _known(self) -> dict[str, Any]:
        """What is written down; nothing where there is no record."""
        nothing: dict[str, Any] = {"key": "", "settings": {}, "done": [], "files": {}}
        path = self.folder / NAME
        if not path.is_file():
            return nothing
        found = _files.read_json(path)
        if not isinstance(found, dict) or not nothing.keys() <= found.keys():
            raise InputError(f"{path} is not a study's record; move the folder away, or delete that file.")
        return found

    def refuse(self, *, overwrite: bool) -> None:
        """Raise `InputError` if the folder may not be written, or holds another study's results."""
        self.refuse_foreign()
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
        if known["key"] in ("", self.key):
            return
        differs = [
            f"{section}.{key}"
            for section, keys in self.settings.items()
            for key, value in keys.items()
            if known["settings"].get(section, {}).get(key) != value
        ]
        what = listed(differs) or "the data, the model or the version"
        raise InputError(f"{self.folder} holds results of another study ({what}); use another folder or --overwrite.")

    def is_done(self, stage: str) -> bool:
        """Tell whether a stage is done and every file that it left is as it was left."""
        known = self._known
        if known["key"] != self.key or stage not in known["done"] or known.get("looks", {}) != self.looks:
            return False
        return all(
            (self.folder / name).is_file() and _files.sha256(self.folder / name) == expected
            for name, expected in known["files"].items()
        )

    def begin(self) -> None:
        """Claim the folder; files that another study left here are removed (it was asked to be overwritten)."""
        _files.sweep(self.folder)
        known = self._known
        if known["key"] not in ("", self.key):
            ours = [path for place in self.ours for path in self.folder.glob(place) if path.is_file()]
            for path in ours:
                path.unlink()
        elif known.get("looks", {}) != self.looks:
            for name in known["files"]:
                if any(PurePosixPath(name).match(place) for place in PICTURES):
                    (self.folder / name).unlink(missing_ok=True)
        self._write(done=[], files={})

    def finish(self, done: tuple[str, ...]) -> None:
        """List what is there, with hashes; until this is written, nothing is called done."""
        _files.sweep(self.folder)
        written = {path for place in (*self.ours, *self.stores) for path in self.folder.glob(place) if path.is_file()}
        found = sorted(path for path in written if not _files.is_incidental(path))
        files = {path.relative_to(self.folder).as_posix(): _files.sha256(path) for path in found}
        self._write(done=list(done), files=files)

    def _write(self, *, done: list[str], files: dict[str, str]) -> None:
        content = {"format": FORMAT, "key": self.key, "settings": self.settings, "done": done, "files": files}
        content |= {"looks": self.looks} if self.looks else {}
        _files.write_json(self.folder / NAME, content)

    # Single files of its own

    def keep(self, path: Path) -> None:
        """Note, beside a file, that it belongs to this study, and its hash."""
        _files.write_json(path.with_suffix(".json"), {"key": self.key, "sha256": _files.sha256(path)})

    def has(self, path: Path) -> bool:
        """Tell whether a file is there, belongs to this study and is whole."""
        note = path.with_suffix(".json")
        if not (path.is_file() and note.is_file()):
            return False
        try:
            known = _files.read_json(note)
        except InputError:
            return False
        return isinstance(known, dict) and known == {"key": self.key, "sha256": _files.sha256(path)}
