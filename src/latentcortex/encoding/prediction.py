"""Measured and predicted responses, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from latentcortex import inference, scoring
from latentcortex._arrays import FloatArray, arrays, tiles
from latentcortex.executors import share


@dataclass(frozen=True, eq=False)
class Prediction:
    """Measured and predicted responses of held-out stimuli.

    Parameters
    ----------
    y : ndarray of shape (n_stimuli, n_voxels)
    yhat_bands : ndarray of shape (n_bands, n_stimuli, n_voxels)
        What each band contributes; nan where a voxel is not valid.
    offset : ndarray of shape (n_voxels,)
        What is added to the sum over bands, as an estimator's `offset_`: bands are measured from the mean of the fitted
        features. What is predicted where all features are 0 is `Encoder.intercept`.
    nested : dict of tuple of str to ndarray of shape (n_stimuli, n_voxels)
        Predictions of refitted models of some of the bands; empty unless shares need them.
    clusters : tuple of str
        Of each stimulus, where stimuli come in clusters; empty otherwise.
    sets : tuple of str
        Of each stimulus, where some are as good as one; see `encoding.duplicates`.
    in_time : bool
        Whether the order of stimuli is that of time; see `Responses.in_time`.

    Raises
    ------
    AlignmentError
        If responses, predictions and offset are not of the same stimuli and voxels.
    """

    y: FloatArray
    yhat_bands: FloatArray
    offset: FloatArray
    nested: Mapping[tuple[str, ...], FloatArray] = field(default_factory=dict)
    clusters: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    in_time: bool = True

    def __post_init__(self) -> None:
        checked = arrays(
            y=(self.y, "n_stimuli n_voxels"),
            yhat_bands=(self.yhat_bands, "n_bands n_stimuli n_voxels"),
            offset=(self.offset, "n_voxels"),
        )
        for name, values in zip(("y", "yhat_bands", "offset"), checked, strict=True):
            object.__setattr__(self, name, values)

    def averaged(self, sets: Sequence[str]) -> Prediction:
        """Average the stimuli of each set; itself where there are none. Nested models are left out."""
        if not sets:
            return self
        names, code = np.unique(np.asarray(sets), return_inverse=True)
        each = csr_array((1 / np.bincount(code)[code], (code, np.arange(len(code)))), shape=(len(names), len(code)))
        each = each.astype(np.float32)
        parts = np.stack([each @ part for part in self.yhat_bands])
        return Prediction(np.asarray(each @ self.y), parts, self.offset, in_time=False)

    @cached_property
    def varying(self) -> FloatArray:
        """The joint prediction without the offset, beside which float32 would lose what varies."""
        return np.asarray(self.yhat_bands.sum(0)) if len(self.yhat_bands) > 1 else self.yhat_bands[0]

    @property
    def yhat(self) -> FloatArray:
        """The joint prediction, (n_stimuli, n_voxels)."""
        return np.asarray(self.varying + self.offset.astype(np.float32))

    @cached_property
    def r(self) -> FloatArray:
        """The correlation of each voxel, (n_voxels,)."""
        return by_tile(scoring.correlation, self.y, self.varying)

    @property
    def p(self) -> FloatArray:
        """The closed form of its null of independent Gaussian vectors, (n_voxels,)."""
        return inference.correlation_p(self.r, len(self.y))


def by_tile(score: Callable[[FloatArray, FloatArray], FloatArray], y: FloatArray, yhat: FloatArray) -> FloatArray:
    """Score all voxels, a block of them per thread; voxels are the last axis of all three arrays."""

    def block(tile: slice) -> FloatArray:
        return score(y[:, tile], yhat[..., tile])

    return np.concatenate(share(block, tiles(y.shape[1])), axis=-1)
