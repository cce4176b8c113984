"""Somebody with arrays: write the plain folder, describe it in a study file, run it, read the summary."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from latentcortex.study import Study

# Eighty pictures of noise, shown twice; ten of thirty voxels follow their pixels.
rng = np.random.default_rng(0)
data = Path("my-data")
(data / "stimuli").mkdir(parents=True, exist_ok=True)
ids = [f"img{i:03d}" for i in range(80)]
grey = rng.random((80, 4, 4))
for name, values in zip(ids, grey, strict=True):
    Image.fromarray(np.kron(255 * values, np.ones((8, 8))).astype(np.uint8)).convert("RGB").save(
        data / "stimuli" / f"{name}.png"
    )

stimuli = pd.DataFrame({"stimulus_id": ids, "stim_file": [f"{name}.png" for name in ids]})
stimuli.to_csv(data / "stimuli.tsv", sep="\t", index=False)
trials = pd.DataFrame({"stimulus_id": 2 * ids, "session": 80 * ["01"] + 80 * ["02"], "run": "01"})
trials["split"] = ["test" if name >= "img060" else "train" for name in trials["stimulus_id"]]
trials.to_csv(data / "trials.tsv", sep="\t", index=False)
responses = rng.standard_normal((160, 30))
responses[:, :10] += np.tile(grey.reshape(80, 16) @ rng.standard_normal((16, 10)), (2, 1))
np.save(data / "responses.npy", responses.astype(np.float32))

Path("study.toml").write_text(
    """
[dataset]
name = "folder"
root = "my-data"

[extractor]
name = "pixels"
size = 8

[analyses]
run = ["latents"]
"""
)
outcome = Study.read("study.toml").run(Path("out"), progress=False)
row = json.loads((outcome.out / "summary.json").read_text())["results"][0]
print(f"{row['band']}: {row['n_significant']} of {row['n_valid']} voxels at q < {row['q']}")
print(f"report: {outcome.pages['01'][0]}")
