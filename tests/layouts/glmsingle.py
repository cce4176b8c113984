"""What GLMsingle writes, in both of its languages, with sentinels: the planted voxel's beta is an image's mean grey.

The beta of trial t at (x, y, z) is 1000 x + 100 y + 10 z + t / 16, but of the planted voxel, where it is the grey of
the image that was shown in trial t: a transposition, a shift by a trial or by a voxel each give a wrong number.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image

GRID = (3, 4, 5)
PLANTED = (1, 2, 3)
N_STIMULI = 8
STEM = "TYPED_FITHRF_GLMDENOISE_RR"
FORMS = ("python", "python chunked", "python flat", "matlab", "matlab flat", "pickled")
RUNS = [("1", "1"), ("1", "2"), ("2", "1"), ("10", "1")]
"""Session and run, in the order of time."""


def grey(stimulus: str) -> int:
    return 10 + 20 * int(stimulus[1:])


def trials() -> pd.DataFrame:
    """Show all stimuli in each run, in another order each time, every 4 s."""
    rows = []
    for number, (session, run) in enumerate(RUNS):
        order = np.random.default_rng(number).permutation(N_STIMULI)
        rows += [(f"s{k}", session, run, f"{4 * i}") for i, k in enumerate(order)]
    return pd.DataFrame(rows, columns=["stimulus_id", "session", "run", "onset"])


def betas(table: pd.DataFrame) -> np.ndarray:
    """Make the amplitudes (x, y, z, trials), float32."""
    x, y, z, t = np.indices((*GRID, len(table)))
    values = (1000 * x + 100 * y + 10 * z + t / 16).astype(np.float32)
    values[PLANTED] = [grey(name) for name in table["stimulus_id"]]
    return values


def hrfs() -> np.ndarray:
    """Number the HRF of each voxel, from 0."""
    return np.random.default_rng(9).integers(0, 20, GRID)


def write_stimuli(root: Path) -> None:
    (root / "stimuli").mkdir(parents=True, exist_ok=True)
    names = [f"s{k}" for k in range(N_STIMULI)]
    for name in names:
        Image.new("RGB", (8, 8), (grey(name),) * 3).save(root / "stimuli" / f"{name}.png")
    listing = pd.DataFrame({"stimulus_id": names, "stim_file": [f"{name}.png" for name in names]})
    listing["split"] = ["test" if k % 4 == 0 else "train" for k in range(N_STIMULI)]
    listing.to_csv(root / "stimuli.tsv", sep="\t", index=False)


def write_output(folder: Path, values: np.ndarray, form: str = "python", stem: str = STEM) -> Path:
    """Write the file of one type of model."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = hrfs()
    r2 = np.linspace(0, 100, numbers.size).reshape(GRID)
    if "flat" in form:
        values = values.reshape(-1, 1, 1, values.shape[-1])
        numbers, r2 = numbers.reshape(-1, 1, 1), r2.reshape(-1, 1, 1)
    if form == "pickled":
        path = folder / f"{stem}.npy"
        np.save(path, {"betasmd": values, "HRFindex": numbers, "R2": r2, "pcnum": np.int64(3), "noisepool": None})
        return path
    if form.startswith("python"):
        path = folder / f"{stem}.hdf5"
        with h5py.File(path, "w") as file:
            chunks = (2, 2, 2, 5) if "chunked" in form else None
            file.create_dataset("betasmd", data=values, chunks=chunks, compression="gzip" if chunks else None)
            file["HRFindex"], file["R2"] = numbers, r2
            file.attrs["pcnum"] = 3
        return path
    path = folder / f"{stem}.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, array in {"modelmd": values, "HRFindex": numbers + 1.0, "R2": r2}.items():
            chunks = tuple(min(n, 3) for n in array.T.shape)
            stored = file.create_dataset(key, data=array.T, chunks=chunks, compression="gzip")
            stored.attrs["MATLAB_class"] = np.bytes_("single" if array.dtype == np.float32 else "double")
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


def write(root: Path, form: str = "python", participant: str = "01") -> pd.DataFrame:
    """Write a dataset of one participant; return its trials in the order of time."""
    write_stimuli(root)
    table = trials()
    folder = root / f"sub-{participant}"
    write_output(folder, betas(table), form)
    table.to_csv(folder / "trials.tsv", sep="\t", index=False)
    return table


def write_design(folder: Path, table: pd.DataFrame) -> None:
    """Write the order of conditions as MATLAB notes it: numbers from 1, by the column of the design."""
    with h5py.File(folder / "DESIGNINFO.mat", "w") as file:
        file["stimorder"] = np.array([[int(name[1:]) + 1.0] for name in table["stimulus_id"]])


def write_events(bids: Path, table: pd.DataFrame) -> None:
    """Write the events of each run, a blank between trials, in BIDS's names with entities in more than one order."""
    for number, (session, run) in enumerate(RUNS):
        own = table[(table["session"] == session) & (table["run"] == run)]
        rows = [
            (onset, "2", f"stimuli/{name}.png") for name, onset in zip(own["stimulus_id"], own["onset"], strict=True)
        ]
        rows += [(f"{float(onset) + 2}", "2", "n/a") for onset in own["onset"]]
        if number % 2 == 0:
            rows.sort(key=lambda row: float(row[0]))
        entities = ["task-images", f"run-{run}"][:: 1 if number % 2 else -1]
        path = bids / "sub-01" / f"ses-{session}" / "func" / f"sub-01_ses-{session}_{'_'.join(entities)}_events.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=["onset", "duration", "stim_file"]).to_csv(path, sep="\t", index=False)
