"""Features, responses and fits that tests of the ridge engine share."""

from __future__ import annotations

import numpy as np

from latentcortex.estimators.banded_ridge import BandedRidge

HALVES = np.array([[0.5, 0.5]])


def rows(n: int, p: int, *, n_voxels: int = 20, noise: float = 1.0, condition: float = 1.0, seed: int = 0):
    """Features of a condition number, whose kernel has about 1 on its diagonal, and responses driven by them."""
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.standard_normal((n, p)), full_matrices=False)
    spectrum = np.geomspace(1, 1 / condition, min(n, p))
    x = u * (spectrum * np.sqrt(n / (spectrum**2).sum())) @ v if condition > 1 else rng.standard_normal((n, p))
    signal = x @ rng.standard_normal((p, n_voxels))
    return x, signal / signal.std(0) + noise * rng.standard_normal((n, n_voxels)) + 3


def two_bands(n: int, dims: tuple[int, int] = (8, 12), *, n_voxels: int = 30, seed: int = 0):
    """Two bands, and voxels from one to the other and from noise to signal."""
    rng = np.random.default_rng(seed)
    bands = {"z": rng.standard_normal((n, dims[0])) + 1, "c": 3 * rng.standard_normal((n, dims[1]))}
    parts = [x @ rng.standard_normal((x.shape[1], n_voxels)) for x in bands.values()]
    first, second = (part / part.std(0) for part in parts)
    share, strength = rng.random(n_voxels), np.linspace(0.1, 2, n_voxels)
    signal = strength * (share * first + (1 - share) * second)
    return bands, signal + rng.standard_normal((n, n_voxels)) + 3


def centred(x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    return x - np.average(x, axis=0, weights=weights)


def size(x: np.ndarray) -> float:
    return float((centred(x) ** 2).sum(1).mean())


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest error of a voxel, relative to its size."""
    return float(np.max(np.linalg.norm(found - expected, axis=-2) / np.linalg.norm(expected, axis=-2)))


def worked_in(model: BandedRidge) -> np.dtype:
    return model._fit.prepared.dtype


def results(model: BandedRidge) -> dict[str, np.ndarray]:
    names = ("alphas_", "mixtures_", "cv_scores_", "intercept_")
    return {name: getattr(model, name) for name in names}
