"""Models that are fitted together, since they are compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from latentcortex._arrays import FloatArray, listed
from latentcortex.bands import Model
from latentcortex.encoding import Column, Criterion, HalfFits, Null, Prediction
from latentcortex.errors import InputError
from latentcortex.features import Features

MIN_TEST_STIMULI: Final = 5
"""On which models are compared."""


@dataclass(frozen=True, eq=False)
class ComparedScores:
    """What a comparison of single-band models is finished from, all of it over all voxels.

    Parameters
    ----------
    bands : tuple of str
        Of each model.
    accuracy : ndarray of shape (n_models, n_scores, n_voxels)
        r first, R² about the means third.
    p : ndarray of shape (n_models, n_voxels)
        Of each model's r.
    tested : ndarray of shape (n_rows, n_voxels), optional
        What the comparison's `cell` gave; None in a shuffled control, whose models are not compared.
    features : Features
    train_ids : tuple of str
    criterion : Criterion
    null : Null
        The widest of the models'.
    n_refits : int
        Half-fits that models are compared with.
    facts : dict
        `analysis` and `n_stimuli` of the columns.
    """

    bands: tuple[str, ...]
    accuracy: FloatArray
    p: FloatArray
    tested: FloatArray | None
    features: Features
    train_ids: tuple[str, ...]
    criterion: Criterion
    null: Null
    n_refits: int
    facts: dict[str, Any]

    def tested_rows(self, n_rows: int) -> FloatArray:
        """Take what `cell` gave, (n_rows, n_voxels); nan where models were not compared."""
        return np.full((n_rows, self.p.shape[1]), np.nan) if self.tested is None else self.tested


class Comparison(Protocol):
    """How models of one band each are compared; values that are equal compare alike, and can be sent elsewhere."""

    def cell(
        self, predictions: Sequence[Prediction], p: FloatArray, criterion: Criterion, null: Null, halves: HalfFits
    ) -> FloatArray:
        """Test in a chunk of voxels what is tested voxel by voxel.

        Parameters
        ----------
        predictions : sequence of Prediction
            Of each model.
        p : ndarray of shape (n_models, n_voxels)
            Of each model's r.
        criterion : Criterion
        null : Null
            The widest of the models'; stimuli that it keeps together are drawn together.
        halves : HalfFits
            Of these models and voxels.

        Returns
        -------
        ndarray of shape (n_rows, n_voxels)
            nan where nothing is tested.
        """
        ...

    def finish(self, scores: ComparedScores) -> list[Column]:
        """Make the columns of the comparison, corrected over all voxels."""
        ...


@dataclass(frozen=True)
class ModelGroup:
    """Models that one cell fits, since they are compared.

    Parameters
    ----------
    models : tuple of tuple of str
        Of one band each if they are compared.
    comparison : Comparison, optional
        None for models that are not.

    Raises
    ------
    InputError
        If a model of several bands is to be compared.
    """

    models: tuple[Model, ...]
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(map(Model, self.models)))
        joint = [model.name for model in self.models if len(model) > 1]
        if self.comparison is not None and joint:
            raise InputError(f"Models of one band each are compared; got {listed(joint)}. Put it in another group.")

    @property
    def name(self) -> str:
        """All its models."""
        return " ".join(model.name for model in self.models)


def batches(groups: Sequence[ModelGroup], n_models: int) -> Iterator[list[ModelGroup]]:
    """Take as many groups at a time as have few enough models to be ready together, and at least one."""
    batch: list[ModelGroup] = []
    for group in groups:
        if batch and sum(len(one.models) for one in (*batch, group)) > n_models:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
