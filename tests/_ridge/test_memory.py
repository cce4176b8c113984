"""Memory of a fit is predicted, and does not grow with voxels that lie on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PEAK = """
import json, os, re, sys, threading, time
from pathlib import Path
n_voxels, cores, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [0] if cores == "one" else range(os.cpu_count()))
import numpy as np
from latentcortex.estimators.banded_ridge import BandedRidge

def anonymous():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.before = self.peak = anonymous()
        self.over = threading.Event()
    def run(self):
        while not self.over.is_set():
            self.peak = max(self.peak, anonymous())
            time.sleep(0.002)

grams = {path.stem: np.load(path) for path in sorted(folder.glob("band*.npy"))}
y = np.load(folder / "y.npy", mmap_mode="r")[:, :n_voxels]
small = {band: gram[:60, :60].copy() for band, gram in grams.items()}
BandedRidge(selection="gcv").fit_gram(small, np.array(y[:60, :3000]))  # libraries and threads take what they keep
watch = Peak()
watch.start()
model = BandedRidge(selection="gcv").fit_gram(grams, y)
watch.over.set()
watch.join()
predicted = BandedRidge().memory(len(y), len(grams), n_voxels)
print(json.dumps({"grown": watch.peak - watch.before, "predicted": predicted, "dtype": str(model._fit.prepared.dtype)}))
"""


def on_disk(n: int, n_voxels: int, n_bands: int, folder: Path) -> Path:
    """Kernels, and responses that are driven by every band, so that mixtures are tried."""
    rng = np.random.default_rng(0)
    y = np.lib.format.open_memmap(folder / "y.npy", mode="w+", dtype=np.float32, shape=(n, n_voxels))
    y[:] = 3 + rng.standard_normal((n, n_voxels), dtype=np.float32)
    for band in range(n_bands):
        x = rng.standard_normal((n, 2 * n), dtype=np.float32)
        x[:, :20] *= 10
        x -= x.mean(0)
        np.save(folder / f"band{band}.npy", (x @ x.T / (x * x).sum(1).mean()).astype(np.float64))
        some = rng.random(n_voxels, dtype=np.float32)
        y[:] += some * (x[:, :20] / 40 @ rng.standard_normal((20, n_voxels), dtype=np.float32))
    y.flush()
    return folder


def grown(n_voxels: int, folder: Path, *, cores: str) -> dict:
    command = [sys.executable, "-c", PEAK, str(n_voxels), cores, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells of no memory")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("n_bands", [1, 2])
def test_memory_does_not_grow_with_voxels_that_lie_on_disk(n_bands: int, tmp_path: Path) -> None:
    folder = on_disk(300, 200_000, n_bands, tmp_path)
    few, many = (grown(n_voxels, folder, cores="all")["grown"] for n_voxels in (20_000, 200_000))
    print(f"{few / 1e6:.1f} and {many / 1e6:.1f} MB")
    assert many - few <= max(0.05 * few, 20e6)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("cores", ["one", "all"])
@pytest.mark.parametrize("n_bands", [1, 2])
def test_memory_is_predicted_within_a_fifth(n_bands: int, cores: str, tmp_path: Path) -> None:
    found = grown(20_000, on_disk(1500, 20_000, n_bands, tmp_path), cores=cores)
    print(found)
    assert found["dtype"] == "float32"
    assert found["predicted"] == pytest.approx(found["grown"], rel=0.2)
