"""A small study on the disk: pictures, trials, responses and what to do with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from latentcortex import analyses
from latentcortex.reporting import ReportSection
from latentcortex.study.methods import section_of

STUDY = """
[dataset]
name = "folder"
root = "data"
participants = ["01"]

[extractor]
name = "pixels"
size = 8

[estimator]
name = "banded_ridge"

[analyses]
run = ["latents"]

[inference]
q = 0.05
"""


def write_folder_study(folder: Path) -> Path:
    """Write a study of 60 pictures and 30 voxels: ten driven by the pixels, one nan, one constant."""
    from PIL import Image

    data = folder / "study" / "data"
    (data / "stimuli").mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = [f"s{i:03d}" for i in range(60)]
    small = rng.random((60, 4, 4))
    for name, grey in zip(ids, small, strict=True):
        picture = np.kron((grey * 255).astype(np.uint8), np.ones((4, 4), dtype=np.uint8))
        Image.fromarray(picture).convert("RGB").save(data / "stimuli" / f"{name}.png")
    stimuli = pd.DataFrame({"stimulus_id": ids, "stim_file": [f"{name}.png" for name in ids]})
    stimuli.to_csv(data / "stimuli.tsv", sep="\t", index=False)
    trials = pd.DataFrame({"stimulus_id": ids * 2, "session": ["01"] * 60 + ["02"] * 60, "run": "01"})
    trials["split"] = ["train" if int(name[1:]) < 40 else "test" for name in trials["stimulus_id"]]
    trials.to_csv(data / "trials.tsv", sep="\t", index=False)
    responses = rng.standard_normal((120, 30))
    driven = small.reshape(60, 16) @ rng.standard_normal((16, 10))
    responses[:, :10] += 2 * np.tile((driven - driven.mean(0)) / driven.std(0), (2, 1))
    responses[5, 28], responses[:, 29] = np.nan, 3.0
    np.save(data / "responses.npy", responses.astype(np.float32))
    (data.parent / "study.toml").write_text(STUDY)
    return data.parent / "study.toml"


def sections() -> dict[str, ReportSection]:
    """What every analysis of the shelf, and the noise ceiling, says of its section of the report."""
    made = [analyses.NoiseCeiling(), *(analyses.SHELF.find(name)(name, ()) for name in analyses.SHELF)]
    return {analysis.name: section_of(analysis) for analysis in made}
