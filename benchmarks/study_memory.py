"""How much memory does a whole study take, and how does that grow with its voxels?

    python benchmarks/study_memory.py --voxels 30000 300000

For each number of voxels it writes a study of the dataset `folder`: pictures drawn from a seed, `responses.npy`, of
which a tenth of the voxels follows the features, written a few trials at a time and so never held, and a study file
with the five canonical analyses and defaults for everything else. Their bands (z, c, z_c at four strengths and two more
steps, five layers of a U-Net at three steps) are projections of the pictures, made by an extractor in this file that is
put on the shelf from outside. Then `latentcortex run` goes through it in a process of its own.

Reported for each: the peak of resident memory, as the operating system counts it for the process (with what it has
mapped of files), the peak of anonymous memory (without; it and its children, looked at twenty times a second), seconds
and peak of each stage as `summary.json` has them, and the room of results on disk. At the end: by how much the peak at
the most voxels exceeds that at the fewest. The last line is one JSON object, also written to `--json`.

The folder needs 4 bytes for each trial and voxel (1.7 GB for 300,000 voxels) and about a GB more for results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray
from PIL import Image

from latentcortex import cli, extractors
from latentcortex._arrays import FloatArray
from latentcortex.executors import n_cores

SEED: Final = 16
SIDE: Final = 16
"""Height and width of a picture in pixels."""
STRENGTHS: Final = (20, 40, 60, 80)
STEPS: Final = (20, 60)
LAYERS: Final = ("down0", "down2", "mid", "up1", "up3")
DIMS: Final = {"z": 64, "c": 48, "zc": 64, "unet": 96}
"""Kind of a band -> its dimensions."""
DRIVEN: Final = 0.1
"""Fraction of the voxels that follow the features."""
INTERVAL_S: Final = 0.05
"""Seconds between two looks at memory."""
ROWS: Final = 16
"""Trials that are drawn and written at once."""


def all_bands() -> tuple[str, ...]:
    """Name the bands that the canonical analyses look at."""
    latents = [f"zc_strength-{s}_step-100" for s in STRENGTHS] + [f"zc_strength-80_step-{k}" for k in STEPS]
    layers = [f"unet_layer-{layer}_strength-80_step-{k}" for k in (*STEPS, 100) for layer in LAYERS]
    return ("z", "c", *latents, *layers)


class Projections:
    """Bands with the names of a latent diffusion model's, each a squashed random projection of the picture."""

    @property
    def bands(self) -> tuple[str, ...]:
        """All of them."""
        return all_bands()

    @property
    def made_by(self) -> dict[str, Any]:
        """What they depend on."""
        return {"name": "projections", "seed": SEED, "dims": DIMS}

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Accept every band that it names itself."""

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Project the pictures, (n_stimuli, n_dims) for each band."""
        grey = images[..., 0].reshape(len(images), -1) / 127.5 - 1
        return {band: self._band(grey, band) for band in bands}

    def _band(self, grey: FloatArray, band: str) -> FloatArray:
        rng = np.random.default_rng([SEED, all_bands().index(band)])
        weights = rng.standard_normal((grey.shape[1], DIMS[band.split("_")[0]])) / SIDE
        # One product per picture: that of several has other last digits for other numbers of pictures.
        return np.stack([np.tanh(2 * one @ weights) for one in grey]).astype(np.float32)


def write_study(folder: Path, given: argparse.Namespace, n_voxels: int) -> Path:
    """Write pictures, trials, responses and the study file; return the last."""
    data, rng, n_stimuli = folder / "data", np.random.default_rng(SEED), given.stimuli
    (data / "stimuli").mkdir(parents=True)
    ids, n_train = [f"s{i:04d}" for i in range(n_stimuli)], n_stimuli - n_stimuli // 6
    pictures = rng.integers(0, 256, (n_stimuli, SIDE, SIDE), dtype=np.uint8)
    for name, picture in zip(ids, pictures, strict=True):
        Image.fromarray(picture).convert("RGB").save(data / "stimuli" / f"{name}.png")
    files = {"stimulus_id": ids, "stim_file": [f"{name}.png" for name in ids]}
    pd.DataFrame(files).to_csv(data / "stimuli.tsv", sep="\t", index=False)
    # Test stimuli, the last sixth, are shown twice: there is a noise ceiling.
    shown = rng.permutation([*range(n_stimuli), *range(n_train, n_stimuli)])
    half = np.arange(len(shown)) < len(shown) // 2
    trials = {"stimulus_id": [ids[i] for i in shown], "session": np.where(half, "01", "02"), "run": "01"}
    trials["split"] = np.where(shown < n_train, "train", "test")
    pd.DataFrame(trials).to_csv(data / "trials.tsv", sep="\t", index=False)
    _write_responses(data / "responses.npy", pictures[shown], n_voxels)
    text = STUDY
    if given.volume:
        side = int(np.ceil(np.cbrt(n_voxels)))
        mask = (np.arange(side**3) < n_voxels).reshape(side, side, side).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 2.0, 2.0, 1.0])), data / "mask.nii.gz")
        text = text.replace('name = "folder"', 'name = "folder"\nmask = "mask.nii.gz"\nreference = "T1w"')
    (folder / "study.toml").write_text("\n".join([text, *given.setting]))
    return folder / "study.toml"


STUDY: Final = """
[dataset]
name = "folder"
root = "data"
participants = ["01"]

[extractor]
name = "projections"
"""


def _write_responses(path: Path, pictures: NDArray[np.uint8], n_voxels: int) -> None:
    """Draw responses of so many voxels to pictures in their order, a few trials at a time."""
    rng, n_driven = np.random.default_rng([SEED, n_voxels]), round(DRIVEN * n_voxels)
    rgb = np.repeat(pictures[..., None], 3, axis=-1)
    drivers = Projections().extract(rgb, [()], [], ["z", "zc_strength-80_step-100"])
    features = np.concatenate([band[:, :8] for band in drivers.values()], axis=1)
    weights = rng.standard_normal((features.shape[1], n_driven)).astype(np.float32)
    with path.open("wb") as handle:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(pictures), n_voxels)}
        np.lib.format.write_array_header_1_0(handle, header)
        for start in range(0, len(pictures), ROWS):
            rows = rng.standard_normal((min(ROWS, len(pictures) - start), n_voxels), dtype=np.float32)
            rows[:, :n_driven] += features[start : start + ROWS] @ weights
            handle.write(rows.tobytes())


def measured(study: Path, out: Path) -> dict[str, Any]:
    """Run a study in a process of its own, and look at its memory until it ends."""
    begun, anonymous = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, __file__, "--run", str(study), str(out)])
    try:
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            anonymous = max(anonymous, _anonymous_bytes(process.pid))
            time.sleep(INTERVAL_S)
    except BaseException:
        process.kill()
        raise
    seconds, (_, status, usage) = time.perf_counter() - begun, ended
    if status:
        raise SystemExit(f"The run of {study} ended with exit code {os.waitstatus_to_exitcode(status)}.")
    summary = json.loads((out / "summary.json").read_text())
    return {
        "seconds": round(seconds, 1),
        "peak_bytes": usage.ru_maxrss * 1024,
        "anonymous_bytes": anonymous,
        "out_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "n_significant": sum(row["n_significant"] for row in summary["results"]),
        "stages": summary["stages"],
    }


def _anonymous_bytes(pid: int) -> int:
    """Sum the anonymous memory of a process and what it has started, in bytes."""
    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return 0
    total = 0
    for one in family:
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:  # it has ended
            continue
        sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
        total += 1024 * sum(map(int, sizes))
    return total


def run(study: Path, out: Path) -> int:
    """Put the extractor on the shelf and run the study, as the command line does."""
    extractors.SHELF.where["projections"] = f"{Path(__file__).stem}:Projections"
    return cli.main(["run", str(study), "--out", str(out), "--quiet"])


def main() -> None:
    """Measure, and print."""
    if sys.argv[1:2] == ["--run"]:
        raise SystemExit(run(*map(Path, sys.argv[2:4])))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--stimuli", type=int, default=1200)
    parser.add_argument("--volume", action="store_true", help="voxels of a volume, rather than of unknown position")
    parser.add_argument("--setting", nargs="*", default=[], help="lines for the study file, as '[run]' 'workers = 2'")
    parser.add_argument("--folder", type=Path, help="where each study is written, and deleted")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("It was stopped."))  # the study is ended, and its folder deleted
    rows = []
    for n_voxels in given.voxels:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            study = write_study(Path(folder), given, n_voxels)
            rows.append({"voxels": n_voxels, **measured(study, Path(folder) / "out")})
        print(_line(rows[-1]), flush=True)
    most, least = (pick(rows, key=lambda row: row["voxels"])["peak_bytes"] for pick in (max, min))
    print(f"The peak at the most voxels is {100 * (most / least - 1):+.1f} % of that at the fewest.")
    numbers = {
        "rows": rows,
        "arguments": {key: value for key, value in vars(given).items() if key not in ("folder", "json")},
        "versions": {name: version(name) for name in ("latentcortex", "numpy", "scipy", "pandas", "matplotlib")},
        "machine": f"{platform.machine()}, {n_cores()} cores",
    }
    if given.json is not None:
        given.json.write_text(json.dumps(numbers, indent=2) + "\n")
    print(json.dumps(numbers))


def _line(row: dict[str, Any]) -> str:
    """Write one study's numbers in one line."""
    stages = ", ".join(
        f"{one['stage']} {one['seconds']:.0f} s {one['peak_bytes'] / 1e6:.0f} MB" for one in row["stages"]
    )
    return (
        f"{row['voxels']:>8} voxels: peak {row['peak_bytes'] / 1e6:.0f} MB, anonymous "
        f"{row['anonymous_bytes'] / 1e6:.0f} MB, {row['seconds']:.0f} s, results {row['out_bytes'] / 1e6:.0f} MB; "
        f"{row['n_significant']} significant; {stages}"
    )


if __name__ == "__main__":
    main()
