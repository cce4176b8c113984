"""The nearest training image: the baseline that every reconstruction must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, digest
from latentcortex.errors import AlignmentError, InputError
from latentcortex.features import Features
from latentcortex.reconstructors import Side
from latentcortex.stimuli import Stimuli


@dataclass(frozen=True, eq=False)
class _Pool:
    """The training stimuli of one side: their ids, and mean and unit rows of each band."""

    ids: tuple[str, ...]
    mean: dict[str, FloatArray]
    unit: dict[str, FloatArray]

    @classmethod
    def of(cls, features: Features, ids: Sequence[str], bands: Sequence[str]) -> _Pool:
        arrays = {band: features.array(band, ids).astype(np.float64) for band in bands}
        mean = {band: values.mean(0) for band, values in arrays.items()}
        return cls(tuple(ids), mean, {band: _unit(values - mean[band]) for band, values in arrays.items()})

    def nearest(self, latents: Mapping[str, FloatArray]) -> str:
        """Name the stimulus nearest to one decoded row per band."""
        likeness = [self.unit[band] @ _unit(latents[band] - self.mean[band]) for band in self.unit]
        return self.ids[int(np.mean(likeness, axis=0).argmax())]


class Retrieval:
    """Shows the training image whose features are nearest to what was decoded.

    Nearness is the correlation of decoded with true features, both less the training mean, averaged over the
    bands; among equals the first training stimulus is taken.

    Parameters
    ----------
    bands : sequence of str
        By which images are compared.
    """

    def __init__(self, bands: Sequence[str] = ("z", "c")) -> None:
        if not bands:
            raise InputError("Retrieval needs at least one band to compare images by.")
        self.bands = tuple(bands)
        self._pools: dict[str, _Pool] = {}

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """One route, by all bands."""
        return {"retrieval": self.bands}

    @property
    def made_by(self) -> dict[str, Any]:
        """What the images depend on, the training stimuli among them."""
        known = [(pool.ids, [values.tobytes() for values in pool.unit.values()]) for pool in self._distinct]
        return {"name": "retrieval", "version": 1, "bands": list(self.bands), "training": digest(known)}

    @property
    def _distinct(self) -> list[_Pool]:
        return list({id(pool): pool for pool in self._pools.values()}.values())

    def fit(self, features: Features, stimuli: Stimuli, sides: Sequence[Side]) -> Self:
        """Keep the features of the training stimuli of each side."""
        self._stimuli = stimuli
        self._pools = {}
        for train_ids, test_ids in sides:
            self._pools |= dict.fromkeys(test_ids, _Pool.of(features, train_ids, self.bands))
        return self

    def n_samples(self, route: str) -> int:
        """One: nothing is drawn."""
        return 1

    def nearest(self, latents: Mapping[str, FloatArray], ids: Sequence[str]) -> list[str]:
        """Name the training stimulus that is nearest to what was decoded for each of `ids`."""
        unknown = [name for name in ids if name not in self._pools]
        if unknown:
            raise AlignmentError(f"{len(unknown)} stimuli are on no test side, for example {unknown[0]}; fit first.")
        rows = [{band: latents[band][i] for band in self.bands} for i in range(len(ids))]
        return [self._pools[name].nearest(row) for name, row in zip(ids, rows, strict=True)]

    def reconstruct(
        self, route: str, latents: Mapping[str, FloatArray], ids: Sequence[str], n_samples: int
    ) -> NDArray[np.uint8]:
        """Return the nearest training images, (n_stimuli, 1, height, width, 3)."""
        return self._stimuli.images(self.nearest(latents, ids))[:, None]


def _unit(rows: FloatArray) -> FloatArray:
    """Centre rows (..., n_dims) and bring them to length 1; a constant row becomes 0."""
    centred = rows - rows.mean(-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1))
