"""What bdpy writes: a table whose columns belong to keys; the planted voxel is the grey of the image that was shown."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from PIL import Image

PLANTED = 3
N_VOXELS = 7
STIMULI = {"train": [f"n01_{k}" for k in range(12)], "test": [f"n02_{k}" for k in range(4)]}


def grey(name: str) -> int:
    return 10 * int(name[-1]) + (100 if name.startswith("n02") else 0) + 5


def write_stimuli(root: Path) -> None:
    (root / "stimuli").mkdir(parents=True, exist_ok=True)
    names = [name for of_split in STIMULI.values() for name in of_split]
    for name in names:
        Image.new("RGB", (8, 8), (grey(name),) * 3).save(root / "stimuli" / f"{name}.png")
    listing = pd.DataFrame({"stimulus_id": names, "stim_file": [f"{name}.png" for name in names]})
    listing.to_csv(root / "stimuli.tsv", sep="\t", index=False)


def samples(split: str, n_repeats: int) -> tuple[list[str], np.ndarray]:
    """Show each stimulus so often, in another order each time, with a blank at the end of each run."""
    shown: list[str] = []
    for repeat in range(n_repeats):
        order = np.random.default_rng([repeat, len(split)]).permutation(len(STIMULI[split]))
        shown += [STIMULI[split][k] for k in order] + [""]
    voxels = np.random.default_rng(len(split)).standard_normal((len(shown), N_VOXELS))
    voxels[:, PLANTED] = [grey(name) if name else np.nan for name in shown]
    return shown, voxels


def write(root: Path, *, older: bool = False) -> dict[str, tuple[list[str], np.ndarray]]:
    """Write both files of one participant; columns of voxels are not the first, and there is one that is no voxel."""
    write_stimuli(root)
    made = {}
    for split, name in (("train", "training"), ("test", "test")):
        shown, voxels = samples(split, 3)
        made[split] = shown, voxels
        labels = {name: number for number, name in enumerate(STIMULI[split], start=1)}
        size = len(STIMULI[split]) + 1
        columns = np.column_stack(
            [
                np.ones(len(shown)),
                np.arange(len(shown)) // size + 1,
                voxels,
                [labels.get(one, np.nan) for one in shown],
            ]
        )
        keys = {"Session": [0], "Run": [1], "VoxelData": range(2, 9), "ROI_V1": [2, 3], "ROI_V2": [5]}
        keys |= {"ROI_VC": [2, 3, 5, 6], "stimulus_name": [9]}
        values = np.full((len(keys), columns.shape[1]), np.nan)
        for row, of_key in enumerate(keys.values()):
            values[row, list(of_key)] = 1
        with h5py.File(root / f"sub-01_{name}.h5", "w") as file:
            file["dataSet" if older else "dataset"] = columns
            metadata = "metaData" if older else "metadata"
            file[f"{metadata}/key"] = np.array([key.encode() for key in keys])
            file[f"{metadata}/description"] = np.array([b"1 = x"] * len(keys))
            file[f"{metadata}/value"] = values
            for one, number in labels.items():
                file[f"vmap/stimulus_name/{float(number)}"] = one
    return made
