"""How long does banded ridge take, and how well does it predict, against himalaya's random search?

    python benchmarks/banded_ridge.py --out banded_ridge.json

Both get the same Gram matrices, responses, penalties and mixtures, and the same number of BLAS threads. What is
reported is the ratio of wall times within one run, and both scores on held-out rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from latentcortex import Features, estimators, scoring


def problem(n_rows: int, n_dims: int, n_voxels: int) -> tuple[Features, np.ndarray]:
    """Draw two bands and responses that follow both, under noise."""
    rng = np.random.default_rng(0)
    x = {band: rng.standard_normal((n_rows + 300, n_dims), dtype=np.float32) for band in ("a", "b")}
    signal = sum(v @ rng.standard_normal((n_dims, n_voxels), dtype=np.float32) for v in x.values()) / n_dims**0.5
    noise = 2.5 * rng.standard_normal(signal.shape, dtype=np.float32)
    return Features.from_arrays([f"s{i}" for i in range(n_rows + 300)], x), signal + noise


def measure(name: str, features: Features, y: np.ndarray, n_rows: int, n_runs: int) -> tuple[list[float], float]:
    """Fit `n_runs` times after one that is not counted; return seconds and the mean held-out R²."""
    ids, seconds = features.ids, []
    fit, test = ids[:n_rows], ids[n_rows:]
    inner = {band: features.gram(band, fit, fit, fit_on=fit) for band in features.bands}
    across = {band: features.gram(band, test, fit, fit_on=fit) for band in features.bands}
    for _ in range(n_runs + 1):
        model = estimators.make(name, seed=0)
        started = time.perf_counter()
        model.fit_gram(inner, y[:n_rows])
        seconds.append(time.perf_counter() - started)
    yhat = model.predict_gram(across).sum(0) + model.intercept
    return seconds[1:], float(scoring.r2(y[n_rows:], yhat).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--dims", type=int, default=500)
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    features, y = problem(given.rows, given.dims, given.voxels)
    found = {name: measure(name, features, y, given.rows, given.runs) for name in ("banded_ridge", "himalaya")}
    ours, theirs = (median(found[name][0]) for name in ("banded_ridge", "himalaya"))
    result = {
        "settings": {k: v for k, v in vars(given).items() if k != "out"},
        "seconds": {name: [round(s, 3) for s in seconds] for name, (seconds, _) in found.items()},
        "mean_r2": {name: round(score, 5) for name, (_, score) in found.items()},
        "ratio_of_medians": round(theirs / ours, 1),
        "versions": {name: version(name) for name in ("latentcortex", "himalaya", "numpy", "scipy")},
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(result, indent=2)
    if given.out:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
