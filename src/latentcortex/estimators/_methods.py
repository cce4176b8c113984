"""What an estimator does, in the sentences of a methods section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def fitted(scale: object, model: str, choice: str, *, by: str, remark: str = "") -> str:
    """Write the sentences on features and fits.

    Parameters
    ----------
    scale : str or None
        As an estimator takes it.
    model, choice : str
        From the functions of these names.
    by : str
        The software.
    remark : str
        A further sentence.
    """
    scaled = "bands were scaled to equal mean kernel diagonal" if scale else "bands were not scaled"
    return (
        f"Feature columns were centred on training stimuli and {scaled}. Voxel-wise encoding models were fitted by "
        f"{model}, {choice}, as implemented in {by}."
        f"{' ' if remark else ''}{remark}"
    )


def model(mixtures: Any, *, joint: bool, intercept: bool = True) -> str:
    """Name the model."""
    equal = isinstance(mixtures, str) and mixtures == "equal"
    shared = "ridge regression with one penalty for all bands" if joint else "ridge regression"
    name = shared if equal else "banded ridge regression [@duprelatour2022]"
    return name if intercept else f"{name}, without an intercept"


def choice(alphas: Sequence[float], mixtures: Any, *, joint: bool, refine: bool, by: str) -> str:
    """Say what is chosen for each voxel, among what, and how.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    mixtures : ndarray, str or None
        As an estimator takes them.
    joint : bool
        Whether any model has several bands, so that there is a mixture.
    refine : bool
        Whether penalties between those given are chosen, too.
    by : str
        By what they are compared.
    """
    grid = np.unique(np.asarray(alphas, dtype=float))
    fixed = (isinstance(mixtures, str) and mixtures == "equal") or (
        mixtures is not None and not isinstance(mixtures, str) and len(np.asarray(mixtures)) == 1
    )
    if len(grid) == 1:
        penalty, is_chosen = f"the penalty {grid[0]:g}", False
    else:
        between = ", and between these" if refine else ""
        penalty, is_chosen = f"the penalty (of {len(grid)} from {grid[0]:g} to {grid[-1]:g}{between})", True
    mixture = "the mixture of bands" if joint and not fixed else ""
    compared = f"within the training stimuli by {by}"
    if is_chosen:
        return f"with {' and '.join(part for part in (penalty, mixture) if part)} chosen for each voxel {compared}"
    return f"with {penalty} for every voxel" + (f" and {mixture} chosen for each {compared}" if mixture else "")


def selection(name: str, cv: int) -> str:
    """Name a way to choose among candidates."""
    folds = f"{cv} folds of stimuli"
    return {
        "auto": f"generalised cross-validation ({folds} where these are few or depend on each other)",
        "gcv": "generalised cross-validation",
        "loo": "leaving one stimulus out",
        "kfold": folds,
    }[name]
