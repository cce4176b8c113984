"""How long do the report of a participant and one more flatmap take, and how much memory?

    python benchmarks/report.py --maps 20

Maps are drawn from a seed over all vertices of fsaverage5, with the regions of the phantom's atlas: accuracies of
single bands with p, q and mask, three to an analysis. The process that is measured does nothing else.
Timed once each, in this order:

- first flatmap: with what it sets up, the rasterised surface.
- flatmap: of a new map, after that; drawn and written as PNG, median of five.
- report: figures, tables by region with bounds, and the page, from maps that are there.
- light viewer: the page of `plotting.light` with the accuracies of all maps, if plotly is installed.

Limit cores with taskset. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import resource
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from latentcortex import plotting, reporting
from latentcortex._arrays import FloatArray
from latentcortex.executors import n_cores
from latentcortex.maps import Maps
from latentcortex.space import Atlas, Surface
from latentcortex.study.schema import Settings

SEED = 3
ANALYSES = ("latents", "first", "second", "third", "fourth", "fifth", "sixth")


def drawn(n_maps: int) -> Maps:
    """Draw accuracies with their p, q and mask, three bands to an analysis."""
    rng, space = np.random.default_rng(SEED), Surface("fsaverage5")
    columns = []
    for i in range(n_maps):
        band = ("z", "c", "zc_strength-80_step-100")[i % 3]
        about = {"analysis": ANALYSES[i // 3 % len(ANALYSES)], "model": band, "band": band, "n_stimuli": 300}
        p = (rng.random(space.n_voxels) ** 3).astype(np.float32)
        tested = {"null": "independent Gaussian vectors", "correction": "bh", "q": 0.05, "family": "all", "n_tests": 1}
        columns += [
            (0.8 * (1 - p), {**about, "statistic": "r", "unit": "correlation"}),
            (0.6 * (1 - p), {**about, "statistic": "r2", "unit": "fraction of variance"}),
            (p, {**about, "statistic": "p", "unit": "probability", **tested}),
            (np.minimum(2 * p, 1), {**about, "statistic": "q", "unit": "rate", **tested}),
            (p < 0.02, {**about, "statistic": "mask", "unit": "0 or 1", **tested}),
        ]
    return Maps.build(space, columns)


def flatmap(values: FloatArray, atlas: Atlas, path: Path) -> float:
    """Draw and write one flatmap; return the seconds."""
    begun = time.perf_counter()
    plotting.save(plotting.plot_flatmap(values, atlas=atlas), path)
    return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=20)
    given = parser.parse_args()
    maps, atlas = drawn(given.maps), Atlas.find("phantom", "fsaverage5")
    rng = np.random.default_rng(SEED)
    study = {"dataset": {"name": "phantom"}, "extractor": {"name": "ldm"}, "report": {"atlas": "phantom"}}
    settings = Settings.read(study).plain()
    facts = {"n_trials": 3150, "n_sessions": 6, "n_train": 900, "n_test": 300, "n_voxels": 20484, "n_valid": 20484}
    found: dict[str, Any] = {"maps": given.maps}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        new = [rng.random(maps.space.n_voxels).astype(np.float32) for _ in range(6)]
        first, *later = [flatmap(values, atlas, out / "flat.png") for values in new]
        found |= {"first flatmap, s": round(first, 2), "flatmap, s": round(statistics.median(later), 2)}
        content = reporting.Content("01", maps, atlas, facts, settings, {"name": "ldm"}, out / "log.jsonl")
        begun = time.perf_counter()
        page = reporting.write(out, content, [])
        found |= {"report, s": round(time.perf_counter() - begun, 1), "page, MB": round(page.stat().st_size / 1e6, 1)}
        if importlib.util.find_spec("plotly"):
            begun = time.perf_counter()
            page = plotting.light(maps.find_columns(statistic="r"), out / "light.html", atlas=atlas)
            found |= {"light viewer, s": round(time.perf_counter() - begun, 1)}
            found |= {"light viewer, MB": round(page.stat().st_size / 1e6, 1)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found |= {
        "peak memory, GB": round(peak / 1e9, 2),
        "versions": {name: version(name) for name in ("latentcortex", "numpy", "matplotlib")},
        "machine": f"{platform.machine()}, {n_cores()} cores",
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
