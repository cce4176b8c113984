"""Finished permutations of a run across folds, kept until their analysis is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from latentcortex._arrays import FloatArray
from latentcortex._record import Record
from latentcortex.errors import IncompleteError
from latentcortex.maps import Maps
from latentcortex.maps.state import load_state, save_state
from latentcortex.space import Space


@dataclass(frozen=True, eq=False)
class KeptDraws:
    """Files of one permutation each, which the record of the folder knows as it knows every other file of a run.

    A permutation that refits every fold can take minutes, and a killed run goes on after those that it has finished, to
    the same bits.

    Parameters
    ----------
    record : Record
    stem : Path
        How the names of files begin.
    space : Space
        Of the voxels.
    """

    record: Record
    stem: Path
    space: Space
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self, name: str) -> FloatArray | None:
        """Read r of a permutation; None if it is not there, not whole, or of another study."""
        path = self._path(name)
        try:
            return load_state(path, n_voxels=self.space.n_voxels).data[:, 0] if self.record.has(path) else None
        except IncompleteError:  # not as the record's hash, which was just compared: another process writes here
            return None

    def save(self, name: str, r: FloatArray) -> None:
        """Write r of a permutation, whole or not at all."""
        about = {"analysis": "", "model": "", "band": "", "statistic": "r", "unit": "correlation"}
        with self._lock:
            save_state(Maps.of(self.space, [(r, about)]), self._path(name))
            self.record.keep(self._path(name))

    @property
    def paths(self) -> Iterator[Path]:
        """All files that are there."""
        return self.stem.parent.glob(f"{self.stem.name}-*")

    def _path(self, name: str) -> Path:
        return self.stem.parent / f"{self.stem.name}-{name}.npz"
