"""How long do permutation tests of a band's unique share take, against refitting for every permutation?

    python benchmarks/share_permutations.py --out share_permutations.json
    python benchmarks/share_permutations.py --rows 2000 --voxels 5000 --adding 1

Two bands of 100 columns, a fifth of the rows held out, float32 responses; the second band adds to a tenth of the voxels
(`--adding`). Mixtures and alphas are chosen once, by BandedRidge for the model with it and that without it. Limit cores
with taskset. Timed once each, after a tiny run that is not counted:

- share_p: signs of the held-out loss differences are flipped; nothing is refitted.
- freedman_lane_p and band_residual_p: both models are refitted for each permutation, for the voxels that are not done:
  early stopping is on, and `permutations_used` is the mean over voxels. Factorising the kernels is counted.
- naive: for each permutation and voxel both models are refitted with the same penalties from their kernels, one
  eigendecomposition per distinct mixture, float32, one BLAS thread per core. Timed for `--naive` permutations, and
  multiplied up to all of them: `naive_extrapolated`.

`ratios` are those of the seconds to naive_extrapolated. Before any clock counts, naive gains of the unpermuted
responses are compared with those of explicit predictions of BandedRidge.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from latentcortex import BandedRidge, Features
from latentcortex._arrays import BoolArray, FloatArray, tiles
from latentcortex.executors import n_cores, one_thread, share
from latentcortex.inference import share_p
from latentcortex.inference.refitting import Penalties, Rows, band_residual_p, freedman_lane_p

DIMS = 100
BANDS = ("others", "tested")
Models = dict[tuple[str, ...], Penalties]


@dataclass(frozen=True, eq=False)
class Data:
    """Rows, their responses, the chosen penalties, and the predictions of the held-out rows by either model."""

    rows: Rows
    y: FloatArray
    models: Models
    predicted: dict[tuple[str, ...], FloatArray]

    @classmethod
    def of(cls, n_rows: int, n_voxels: int, adding: float) -> Data:
        rng = np.random.default_rng(0)
        x = {band: rng.standard_normal((n_rows, DIMS), dtype=np.float32) for band in BANDS}
        y = responses(x, n_voxels, adding, rng)
        ids = [f"s{i}" for i in range(n_rows)]
        fitted = np.arange(n_rows) < round(0.8 * n_rows)
        known, fit_on = Features.from_arrays(ids, x), ids[: int(fitted.sum())]
        grams = {band: known.gram(band, ids, ids, fit_on=fit_on) for band in BANDS}
        full = BandedRidge().fit_gram(sides(grams, fitted, fitted), y[fitted])
        nested = {BANDS: full} | full.nested([BANDS[:1]])
        across = sides(grams, ~fitted, fitted)
        predicted = {
            bands: model.predict_gram({band: across[band] for band in bands}).sum(0) + model.intercept_
            for bands, model in nested.items()
        }
        models = {bands: Penalties(model.mixtures_, model.alphas_) for bands, model in nested.items()}
        return cls(Rows(grams, fitted), y, models, predicted)

    @property
    def penalties(self) -> dict[str, Penalties]:
        return {"full": self.models[BANDS], "reduced": self.models[BANDS[:1]]}


def responses(x: dict[str, FloatArray], n_voxels: int, adding: float, rng: np.random.Generator) -> FloatArray:
    """Draw responses under noise as strong as their signal; a fraction of the voxels follow the second band, too."""
    signal = [values @ rng.standard_normal((DIMS, n_voxels), dtype=np.float32) / DIMS**0.5 for values in x.values()]
    adds = np.arange(n_voxels) < adding * n_voxels
    noise = rng.standard_normal(signal[0].shape, dtype=np.float32)
    return np.asarray(np.where(adds, (signal[0] + signal[1]) / 2**0.5, signal[0]) + noise, dtype=np.float32)


def sides(grams: dict[str, FloatArray], some: BoolArray, others: BoolArray) -> dict[str, FloatArray]:
    return {band: gram[np.ix_(some, others)] for band, gram in grams.items()}


# Refitting for every permutation


def naive_gain(data: Data, y: FloatArray) -> FloatArray:
    """Refit both models, and return by how much the band lowers each voxel's held-out squared error."""
    losses = [naive_loss(data, y, bands, model) for bands, model in data.models.items()]
    return np.asarray(losses[1] - losses[0])


def naive_loss(data: Data, y: FloatArray, bands: tuple[str, ...], model: Penalties) -> FloatArray:
    fitted = data.rows.fitted
    mean = y[fitted].mean(0)
    distinct, mixture = np.unique(model.mixtures, axis=1, return_inverse=True)
    kernels = [sum(g * data.rows.grams[band] for g, band in zip(one, bands, strict=True)) for one in distinct.T]
    wide = [np.asarray(kernel, dtype=np.float32)[:, fitted] for kernel in kernels]
    parts = share(lambda kernel: np.linalg.eigh(kernel[fitted]), wide)
    loss = np.empty(y.shape[1])

    def fill(tile: slice) -> None:
        for m in np.unique(mixture[tile]):
            own = np.flatnonzero(mixture[tile] == m) + tile.start
            values, vectors = parts[m]
            z = vectors.T @ (y[np.ix_(fitted, own)] - mean[own]) / (values[:, None] + model.alphas[own])
            left = y[np.ix_(~fitted, own)] - mean[own] - wide[m][~fitted] @ (vectors @ z)
            loss[own] = (left * left).sum(0)

    share(fill, tiles(y.shape[1]))
    return loss


@one_thread()
def naive(data: Data, n_permutations: int) -> None:
    """Permute rows of the responses at random; what they are is of no matter for the time."""
    rng = np.random.default_rng(0)
    for _ in range(n_permutations):
        naive_gain(data, data.y[rng.permutation(len(data.y))])


def same_answer(data: Data) -> None:
    truth = data.y[~data.rows.fitted].astype(np.float64)
    without, with_band = (((truth - data.predicted[bands]) ** 2).sum(0) for bands in (BANDS[:1], BANDS))
    np.testing.assert_allclose(naive_gain(data, data.y) / without, (without - with_band) / without, atol=1e-3)


# All of it


def measured(data: Data, n_permutations: int, n_naive: int) -> dict[str, Any]:
    same_answer(data)
    truth = data.y[~data.rows.fitted]
    started = time.perf_counter()
    share_p(truth, data.predicted[BANDS], data.predicted[BANDS[:1]], n_permutations=n_permutations, seed=0)
    seconds, used = {"share_p": time.perf_counter() - started}, {}
    for test in (freedman_lane_p, band_residual_p):
        rows = Rows(data.rows.grams, data.rows.fitted)  # which knows no columns yet
        started = time.perf_counter()
        _, n_used = test(rows, data.y, BANDS[1], **data.penalties, n_permutations=n_permutations, seed=0)
        seconds[test.__name__] = time.perf_counter() - started
        used[test.__name__] = round(float(n_used.mean()), 1)
    started = time.perf_counter()
    naive(data, n_naive)
    whole = (time.perf_counter() - started) / n_naive * n_permutations
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "permutations_used": used,
        "naive_extrapolated": round(whole, 1),
        "ratios": {name: round(whole / value, 1) for name, value in seconds.items()},
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000, help="of which a fifth is held out")
    parser.add_argument("--voxels", type=int, default=20_000)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--adding", type=float, default=0.1, help="fraction of the voxels that the band adds to")
    parser.add_argument("--naive", type=int, default=3, help="permutations that are timed of the naive way")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    given = parsed()
    measured(Data.of(400, 50, 0.1), 20, 1)
    result: dict[str, Any] = {"settings": {k: v for k, v in vars(given).items() if k != "out"}}
    result |= measured(Data.of(given.rows, given.voxels, given.adding), given.permutations, given.naive)
    result["versions"] = {name: version(name) for name in ("latentcortex", "numpy", "scipy")}
    result["machine"] = f"{platform.processor() or platform.machine()}, {n_cores()} of {os.cpu_count()} cores"
    text = json.dumps(result, indent=2)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
