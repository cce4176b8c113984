"""Planted data, and how the ridge estimators scale them."""

from __future__ import annotations

import numpy as np


def planted(n: int, p: int, *, n_voxels: int = 20, noise: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    y = x @ rng.standard_normal((p, n_voxels)) / np.sqrt(p) + noise * rng.standard_normal((n, n_voxels))
    return x, y + 3.0


def noise(n: int, n_voxels: int = 20) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((n, n_voxels))


def scale_of(x: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Mean squared norm of the centred rows, by which a band's kernel is divided."""
    centred = x - np.average(x, axis=0, weights=weights)
    return float((centred**2).sum(1).mean())
