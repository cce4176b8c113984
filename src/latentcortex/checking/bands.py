"""Rules about bands: whether their shares and scores can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import numpy as np

from latentcortex._arrays import FloatArray, listed
from latentcortex.checking.design import StudyDesign
from latentcortex.executors import share

COLLINEAR: Final = 0.99
"""Agreement of two bands' kernels from which their shares cannot be told apart."""
WIDER: Final = 10
"""Ratio of the effective dimensions of bands from which width alone could make the difference."""


def collinear_bands(design: StudyDesign) -> Iterator[str]:
    """Find bands of one model that nearly have one kernel."""
    agree: dict[tuple[str, str], float] = {}
    for model in design.models:
        new = [pair for pair in combinations(model, 2) if pair not in agree]
        kernels = _kernels(design, {band for pair in new for band in pair})
        agree |= {pair: _agreement(kernels[pair[0]], kernels[pair[1]]) for pair in new}
    close = {pair: value for pair, value in agree.items() if value > COLLINEAR}
    if close:
        named = listed(f"{one} and {other} {value:.4f}" for (one, other), value in close.items())
        yield (
            f"{len(close)} pairs of bands in one model have nearly the same kernel ({named}): their shares cannot be "
            "told apart in single voxels, see the identifiability in the report."
        )


def unequal_widths(design: StudyDesign) -> Iterator[str]:
    """Find bands that differ much in effective dimensions."""
    width = {}
    for band in sorted({band for model in design.models for band in model}):
        width[band] = effective(_kernels(design, {band})[band])
    if not width:
        return
    least, most = min(width, key=width.__getitem__), max(width, key=width.__getitem__)
    if width[most] > WIDER * width[least]:
        yield (
            f"{most} has {width[most]:.0f} effective dimensions and {least} {width[least]:.0f}: with so many stimuli "
            "the narrower band scores higher for its width alone; compare bands of one width, or corrected R²."
        )


def _kernels(design: StudyDesign, bands: set[str]) -> dict[str, FloatArray]:
    """Compute the kernels of the first fold's training stimuli."""
    train = design.splits.folds[0].train
    names = sorted(bands)
    kernels = share(lambda band: design.extracted.gram(band, train, train, fit_on=train), names)
    return dict(zip(names, kernels, strict=True))


def effective(kernel: FloatArray) -> float:
    """Count effective dimensions: the participation ratio of a kernel's eigenvalues."""
    return float(np.trace(kernel) ** 2 / (kernel * kernel).sum())


def _agreement(one: FloatArray, other: FloatArray) -> float:
    """Correlate two centred kernels (linear CKA), in [0, 1]."""
    return float((one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum()))
