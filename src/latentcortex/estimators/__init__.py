"""Estimators: what maps features to responses. Add a file here and a line to the shelf."""

from __future__ import annotations

import importlib
from typing import Any, Final

from latentcortex._shelf import Shelf
from latentcortex.estimators._counts import VoxelCounts
from latentcortex.estimators._folds import logging_once
from latentcortex.estimators._prepared import Prepared, Preparing, prepare
from latentcortex.estimators.estimator import Checkable, DescribedEstimator, Estimator, Nesting, without_warnings

__all__ = [
    "SHELF",
    "Checkable",
    "DescribedEstimator",
    "Estimator",
    "Nesting",
    "Prepared",
    "Preparing",
    "VoxelCounts",
    "logging_once",
    "make",
    "prepare",
    "without_warnings",
]

SHELF: Final = Shelf(
    "estimator",
    {
        "banded_ridge": "latentcortex.estimators.banded_ridge:BandedRidge",
        "himalaya": "latentcortex.estimators.himalaya:Himalaya",
        "ridge": "latentcortex.estimators.ridge:ridge",
        "takagi2023-released": "latentcortex.estimators.ridge:takagi2023_released",
    },
)


@SHELF.documented
def make(name: str, **arguments: Any) -> Any:
    """Make an estimator by name."""
    return SHELF.make(name, **arguments)


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name, or what compares two estimators: that needs pandas and matplotlib."""
    if name in ("Agreement", "compare"):
        return getattr(importlib.import_module(f"{__name__}._agreement"), name)
    return SHELF.named(name)
