"""How long does banded ridge take, and how well does it predict, against himalaya's random search?

    python benchmarks/banded_ridge.py --out banded_ridge.json

Both get the same centred float32 Gram matrices and responses, and all cores. himalaya searches ten mixtures and twenty
penalties by five folds, in batches as its documentation recommends, with its numpy and its torch backend; ours has
its defaults. Runs are interleaved; what is reported is the ratio of median wall times within one run of this script,
and the mean R² of all on held-out rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np

from latentcortex import BandedRidge, Features, scoring

N_TEST = 300
BATCHES = {"n_targets_batch": 1000, "n_alphas_batch": 5, "n_targets_batch_refit": 200}
Predict = Callable[[], np.ndarray]


def problem(n_rows: int, n_dims: int, n_voxels: int) -> tuple[Features, np.ndarray]:
    """Draw two bands and responses that follow them in all proportions, under noise as strong as the signal."""
    rng = np.random.default_rng(0)
    x = {band: rng.standard_normal((n_rows + N_TEST, n_dims), dtype=np.float32) for band in ("a", "b")}
    share = rng.random(n_voxels, dtype=np.float32)
    weights = (np.sqrt(share), np.sqrt(1 - share))
    drawn = [v @ rng.standard_normal((n_dims, n_voxels), dtype=np.float32) / n_dims**0.5 for v in x.values()]
    signal = sum(w * part for w, part in zip(weights, drawn, strict=True))
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    return Features.from_arrays([f"s{i}" for i in range(n_rows + N_TEST)], x), (signal + noise).astype(np.float32)


def ours(inner: dict[str, np.ndarray], across: dict[str, np.ndarray], y: np.ndarray) -> Predict:
    model = BandedRidge().fit_gram(inner, y)
    return lambda: model.predict_gram(across).sum(0) + model.intercept_


def himalaya(backend: str, inner: dict[str, np.ndarray], across: dict[str, np.ndarray], y: np.ndarray) -> Predict:
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    own = set_backend(backend)
    settings = {"n_iter": 10, "alphas": np.logspace(-2, 7, 20), "progress_bar": False, **BATCHES}
    model = MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", solver_params=settings, cv=5, random_state=0
    )
    mean = y.mean(0)
    model.fit(own.asarray(np.stack(list(inner.values())), "float32"), own.asarray(y - mean))
    new = own.asarray(np.stack(list(across.values())), "float32")
    return lambda: own.to_numpy(model.predict(new)) + mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--dims", type=int, default=1000, help="of each of the two bands")
    parser.add_argument("--voxels", type=int, default=4000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    features, y = problem(given.rows, given.dims, given.voxels)
    fit, test = features.ids[: given.rows], features.ids[given.rows :]
    inner = {band: features.gram(band, fit, fit, fit_on=fit) for band in features.bands}
    across = {band: features.gram(band, test, fit, fit_on=fit) for band in features.bands}
    solvers: dict[str, Callable[..., Predict]] = {"latentcortex": ours}
    for backend in ("numpy", "torch") if find_spec("torch") else ("numpy",):
        solvers[f"himalaya, {backend}"] = lambda *data, backend=backend: himalaya(backend, *data)
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    r2 = {}
    ours(inner, across, y[: given.rows, :50])  # what is loaded at first use is not counted
    for _ in range(given.runs):
        for name, solver in solvers.items():
            started = time.perf_counter()
            predicted = solver(inner, across, y[: given.rows])()
            seconds[name].append(time.perf_counter() - started)
            r2[name] = float(scoring.r2(y[given.rows :], predicted).mean())
    fastest = min((name for name in solvers if name != "latentcortex"), key=lambda name: median(seconds[name]))
    result = {
        "settings": {k: v for k, v in vars(given).items() if k != "out"},
        "seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
        "mean_r2": {name: round(score, 5) for name, score in r2.items()},
        "fastest_peer": fastest,
        "ratio_of_medians": round(median(seconds[fastest]) / median(seconds["latentcortex"]), 1),
        "versions": {name: version(name) for name in ("latentcortex", "himalaya", "numpy", "scipy")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(result, indent=2)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
