"""The nearest training image: the baseline that every reconstruction must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, digest, fingerprint, words
from latentcortex._ranges import Names
from latentcortex.errors import AlignmentError
from latentcortex.features import Features
from latentcortex.splits import Splits
from latentcortex.stimuli import Stimuli


class Retrieval:
    """Shows the training image whose features are nearest to what was decoded.

    Nearness is the correlation of decoded with true features, both less the training mean, averaged over the
    bands; among equals the first training stimulus is taken.

    Parameters
    ----------
    bands : sequence of str
        By which images are compared.

    Raises
    ------
    InputError
        If `bands` is not a list of names.
    """

    def __init__(self, bands: Names = ("z", "c")) -> None:
        self.bands = words("bands", bands)
        self._fitted: dict[str, tuple[str, ...]] = {}
        self._pool: tuple[tuple[str, ...], dict[str, tuple[FloatArray, FloatArray]]] = ((), {})

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """One route, by all bands."""
        return {"retrieval": self.bands}

    @property
    def titles(self) -> dict[str, str]:
        """What the route is called in tables and figures."""
        return {"retrieval": "nearest training image"}

    @property
    def made_by(self) -> dict[str, Any]:
        """What the images depend on, the training stimuli among them."""
        return {"name": "retrieval", "version": 1, "bands": list(self.bands), "training": self._training}

    def methods(self, routes: Sequence[str] = ()) -> str:
        """Write for a methods section which images were shown."""
        return (
            f"For retrieval, the baseline, the training image was shown whose {' and '.join(self.bands)} correlated "
            "best with what was decoded, both less the training mean, averaged over bands."
        )

    def fit(self, features: Features, stimuli: Stimuli, splits: Splits) -> Self:
        """Keep the training stimuli of each test stimulus, which are those that may be shown for it."""
        self._features, self._stimuli = features, stimuli
        self._fitted = {name: train_ids for train_ids, test_ids in splits for name in test_ids}
        training = sorted({name for train_ids, _ in splits for name in train_ids})
        self._training = digest([fingerprint(features.array(band, training)) for band in self.bands], splits.key)
        return self

    def n_samples(self, route: str) -> int:
        """One: nothing is drawn."""
        return 1

    def nearest(self, latents: Mapping[str, FloatArray], ids: Sequence[str]) -> list[str]:
        """Name the training stimulus that is nearest to the decoded bands of each of `ids`."""
        missing = [name for name in ids if name not in self._fitted]
        if missing:
            raise AlignmentError(f"{len(missing)} stimuli are tested in no fold, for example {missing[0]}; fit first.")
        nearest = []
        for i, name in enumerate(ids):
            training = self._standardized(self._fitted[name])
            likeness = [unit @ _unit(latents[band][i] - mean) for band, (mean, unit) in training.items()]
            nearest.append(self._fitted[name][int(np.mean(likeness, axis=0).argmax())])
        return nearest

    def _standardized(self, train_ids: tuple[str, ...]) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Compute the mean and the unit rows of each band over training stimuli; the last ones are kept."""
        if self._pool[0] != train_ids:
            pool = {}
            for band in self.bands:
                rows = self._features.array(band, train_ids)
                mean = rows.mean(0, dtype=np.float64).astype(np.float32)
                pool[band] = mean, _unit(rows - mean)
            self._pool = train_ids, pool
        return self._pool[1]

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
