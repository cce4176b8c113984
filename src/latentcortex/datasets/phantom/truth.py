"""The planted truth: which latent or layer drives each vertex of the phantom, how, and how strongly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, positions, random_for
from latentcortex.space import Atlas

FACTORS: Final = Path(__file__).parent / "factors.npz"
"""Planted signals of every stimulus, made by training/phantom_factors.py from the model's features."""

N_NAN: Final = 40
"""Vertices that are nan in a sixth of the trials."""
N_CONSTANT: Final = 25
"""Vertices that are 0 in all trials."""
UNMODELLED_SHARE: Final = 0.15
"""Fraction of the signal variance that no band contains, in the vertices that have such a component."""
CEILINGS: Final = (0.25, 0.75)
"""Range of the planted noise ceilings of responses averaged over three trials."""
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Fractions of the signal variance that z_c drives, and z the rest, in the regions with graded mixtures."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The planted truth of one participant.

    Parameters
    ----------
    vertices : ndarray of int, shape (n_voxels,)
        The cortical vertices, left then right hemisphere.
    table : DataFrame of length n_voxels
        `roi`; `kind` (null, z, c, zc, mixed or unet); `share` of z_c (mixed only); `layer` and `step` (unet
        only); `nonlinear` and `unmodelled` (whether the signal has such a component); `ceiling` (for three
        averaged trials, 0 without signal); `state` (valid, nan or constant).
    weights : dict
        Factor -> (n_factors, n_voxels) with which it enters the signal.
    """

    vertices: NDArray[np.intp]
    table: pd.DataFrame
    weights: dict[str, FloatArray]

    @classmethod
    def plant(cls, *, seed: int, participant: str) -> Truth:
        """Draw a participant's truth."""
        vertices = cortical_vertices()
        rng = random_for(seed, "truth", participant)
        table = _kinds(vertices)
        n_voxels = len(vertices)
        level = _ranked(smooth_noise(vertices, rng.standard_normal((n_voxels, 1)), 12)[:, 0])
        has_signal = table["kind"] != "null"
        table["ceiling"] = np.where(has_signal, CEILINGS[0] + (CEILINGS[1] - CEILINGS[0]) * level, 0.0)
        table["nonlinear"] = has_signal & (rng.random(n_voxels) < 0.5)
        table["unmodelled"] = has_signal & (rng.random(n_voxels) < 0.5)
        table["state"] = "valid"
        invalid = rng.choice(n_voxels, N_NAN + N_CONSTANT, replace=False)
        table.loc[invalid[:N_NAN], "state"] = "nan"
        table.loc[invalid[N_NAN:], "state"] = "constant"
        return cls(vertices, table, _tuning(table, vertices, rng))

    def select_voxels(self, voxels: NDArray[np.intp]) -> Truth:
        """Take the truth of some voxels, by their number."""
        table = self.table.iloc[voxels].reset_index(drop=True)
        return Truth(self.vertices[voxels], table, {name: w[:, voxels] for name, w in self.weights.items()})

    def signal(self, ids: list[str]) -> FloatArray:
        """Compute the noise-free responses, (n_stimuli, n_voxels); variance near 1 where there is signal."""
        stored, factors = read_factors()
        rows = positions(stored, ids, what="stimulus ids")
        signal = np.zeros((len(ids), len(self.vertices)), dtype=np.float32)
        is_nonlinear = self.table["nonlinear"].to_numpy()
        for name, weights in self.weights.items():
            driven = np.flatnonzero(weights.any(axis=0))
            linear = factors[name][rows] @ weights[:, driven]
            # The quadratic term lies outside the linear span of every band; mean 0 and variance 1 are kept.
            size = np.sqrt((weights[:, driven] ** 2).sum(0))
            quadratic = (linear**2 - size**2) / (np.sqrt(2) * size)
            signal[:, driven] += np.where(
                is_nonlinear[driven], np.sqrt(0.9) * linear + np.sqrt(0.1) * quadratic, linear
            )
        return signal


def cortical_vertices() -> NDArray[np.intp]:
    """List the vertices of fsaverage5 that are cortex, left then right hemisphere: every participant's voxels."""
    return np.flatnonzero(_surfaces.cortex())


@lru_cache(maxsize=1)
def read_factors() -> tuple[list[str], dict[str, FloatArray]]:
    """Read the planted factors: stimulus ids, and name -> (n_stimuli, n_factors), standardised."""
    with np.load(FACTORS, allow_pickle=False) as stored:
        facts = json.loads(stored["about"].tobytes())
        return facts["ids"], {name: stored[name].astype(np.float32) for name in facts["factors"]}


@lru_cache(maxsize=4)
def _smoother(key: bytes) -> sparse.csr_matrix:
    """Make the matrix (n_voxels, n_voxels) that averages each vertex with its neighbours."""
    vertices = np.frombuffer(key, dtype=np.intp)
    meshes = _surfaces.surface("white")
    n_left = len(meshes[0].coordinates)
    triangles = np.concatenate([meshes[0].triangles, meshes[1].triangles + n_left])
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    n = n_left + len(meshes[1].coordinates)
    ones = np.ones(len(edges), dtype=np.float32)
    matrix = sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    matrix = ((matrix + matrix.T) > 0).astype(np.float32) + sparse.eye(n, dtype=np.float32, format="csr")
    inside = matrix[vertices][:, vertices]
    degree = np.asarray(inside.sum(1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / degree) @ inside, dtype=np.float32)


def smooth_noise(vertices: NDArray[np.intp], noise: FloatArray, n_times: int) -> FloatArray:
    """Smooth columns of noise (n_voxels, n) over the mesh and bring each voxel back to unit variance."""
    key = np.ascontiguousarray(vertices).tobytes()
    smooth, gain = _smoother(key), _gain(key, n_times)
    out = noise
    for _ in range(n_times):
        out = smooth @ out
    return np.asarray(out / gain[:, None], dtype=np.float32)


@lru_cache(maxsize=12)
def _gain(key: bytes, n_times: int) -> FloatArray:
    """Compute by how much smoothing shrinks the standard deviation of white noise at each voxel."""
    smooth = _smoother(key)
    power = sparse.eye(smooth.shape[0], dtype=np.float32, format="csr")
    for _ in range(n_times):
        power = smooth @ power
    return np.asarray(np.sqrt(np.asarray(power.multiply(power).sum(1)).ravel()))


def _kinds(vertices: NDArray[np.intp]) -> pd.DataFrame:
    """Choose which latent or layer drives each vertex, by its region and its place within the region."""
    atlas = Atlas.find("phantom", "fsaverage5")
    names = np.array([atlas.names.get(int(label), "") for label in atlas.labels[vertices]])
    table = pd.DataFrame({"roi": names, "kind": "null", "share": np.nan, "layer": -1, "step": -1})
    along, across = _coordinates(vertices, atlas)
    table.loc[names == "early", "kind"] = "z"
    for roi in ("ventral", "lateral"):
        in_roi = names == roi
        table.loc[in_roi, "kind"] = np.where(along[in_roi] < 0.5, "zc", "c")
    for roi in ("midventral", "midlateral"):
        in_roi = names == roi
        table.loc[in_roi, "kind"] = "mixed"
        table.loc[in_roi, "share"] = np.array(SHARES)[np.minimum((along[in_roi] * 5).astype(int), 4)]
    for roi in ("midparietal", "parietal"):
        in_roi = names == roi
        table.loc[in_roi, "kind"] = "unet"
        table.loc[in_roi, "layer"] = np.minimum((along[in_roi] * 5).astype(int), 4)
        table.loc[in_roi, "step"] = np.minimum((across[in_roi] * 3).astype(int), 2)
    return table


def _coordinates(vertices: NDArray[np.intp], atlas: Atlas) -> tuple[FloatArray, FloatArray]:
    """Rank each vertex within its region and hemisphere along the region's two principal axes, 0 to 1."""
    left, right = _surfaces.surface("inflated")
    coordinates = np.concatenate([left.coordinates, right.coordinates])[vertices]
    is_right = vertices >= len(left.coordinates)
    along, across = np.zeros(len(vertices)), np.zeros(len(vertices))
    for label in atlas.names:
        for hemisphere in (False, True):
            in_roi = (atlas.labels[vertices] == label) & (is_right == hemisphere)
            centred = coordinates[in_roi] - coordinates[in_roi].mean(0)
            axes = np.linalg.svd(centred, full_matrices=False)[2]
            axes = axes * np.sign(axes[:, 1:2] + 1e-9)  # point forwards, so that hemispheres agree
            along[in_roi], across[in_roi] = (_ranked(centred @ axis) for axis in axes[:2])
    return along, across


def _ranked(values: FloatArray) -> FloatArray:
    """Replace values by their ranks, from 0 to 1."""
    return np.asarray(values.argsort().argsort() / max(len(values) - 1, 1))


def _tuning(table: pd.DataFrame, vertices: NDArray[np.intp], rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw smooth tuning of each vertex to the factors that drive it; squared weights sum to their signal variance."""
    _, factors = read_factors()
    kind, share = table["kind"].to_numpy(), table["share"].to_numpy()
    variance = {"z": (kind == "z") * 1.0, "c": (kind == "c") * 1.0, "zc": (kind == "zc") * 1.0}
    variance["z"] = np.where(kind == "mixed", 1 - share, variance["z"])
    variance["zc"] = np.where(kind == "mixed", share, variance["zc"])
    for name in factors:
        if name.startswith("unet"):
            _, layer, step = name.split("-")
            of_layer = (table["layer"] == int(layer)) & (table["step"] == int(step))
            variance[name] = of_layer.to_numpy() * 1.0
    unmodelled = np.where(table["unmodelled"], UNMODELLED_SHARE, 0.0)
    variance = {name: values * (1 - unmodelled) for name, values in variance.items()} | {"unmodelled": unmodelled}
    weights = {}
    for name, values in variance.items():
        drawn = rng.standard_normal((len(table), factors[name].shape[1]), dtype=np.float32)
        tuned = 0.6 * smooth_noise(vertices, drawn, 4) + 0.8 * drawn
        size = np.sqrt((tuned**2).sum(1))
        weights[name] = np.asarray((tuned * (np.sqrt(values) / size)[:, None]).T, dtype=np.float32)
    return weights
