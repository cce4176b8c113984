"""Finished permutations of a run across folds, kept until their analysis is done."""

from __future__ import annotations

from dataclasses import dataclass

from latentcortex._arrays import FloatArray
from latentcortex._store import Store


@dataclass(frozen=True, eq=False)
class KeptDraws:
    """Parts of one permutation each.

    A permutation that refits every fold can take minutes, and a killed run goes on after those that it has finished, to
    the same bits.

    Parameters
    ----------
    store : Store
    stem : str
        How their keys begin; it says what permutations depend on beside their name.
    n_voxels : int
    """

    store: Store
    stem: str
    n_voxels: int

    def load(self, name: str) -> FloatArray | None:
        """Read r of a permutation, (n_voxels,); None if it is not there or not whole."""
        part = self.store.load(f"{self.stem}-{name}")
        r: FloatArray | None = None if part is None else part.arrays.get("r")
        return None if r is None or r.shape != (self.n_voxels,) else r

    def save(self, name: str, r: FloatArray) -> None:
        """Write r of a permutation, whole or not at all."""
        self.store.save(f"{self.stem}-{name}", {"r": r})

    def remove(self) -> None:
        """Delete all permutations that are there."""
        self.store.remove(filter(lambda key: key.startswith(f"{self.stem}-"), self.store.keys()))
