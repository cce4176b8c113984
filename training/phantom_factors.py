"""Make the phantom's planted signal factors from the features of its trained model.

    python training/phantom_factors.py

For each stimulus and each component (z, c, z_c, five layers at three steps) some principal components of the
features, whitened and standardised over the training stimuli, plus random factors that no feature contains.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np

from latentcortex import extractors
from latentcortex._arrays import random_for
from latentcortex.datasets.phantom import N_TRAIN, draw_stimuli, stimulus_ids
from latentcortex.datasets.phantom.truth import FACTORS
from latentcortex.extraction import extract

N_FACTORS = {"z": 40, "c": 30, "zc": 40, "unet": 12}
N_UNMODELLED = 20
STRENGTH, STEPS = 80, (25, 50, 100)


def whitened(values: np.ndarray, n_factors: int) -> np.ndarray:
    """Project on the leading principal components of the training rows; unit variance each."""
    centred = values - values[:N_TRAIN].mean(0)
    axes = np.linalg.svd(centred[:N_TRAIN], full_matrices=False)[2][:n_factors]
    scores = centred @ axes.T
    return scores / scores[:N_TRAIN].std(0)


def main() -> None:
    ids = stimulus_ids()
    ldm = extractors.make("ldm", model="phantom", strengths=[STRENGTH], steps=list(STEPS))
    names = {"z": "z", "c": "c", "zc": f"zc_strength-{STRENGTH}_step-100"}
    for k, step in enumerate(STEPS):
        for j, layer in enumerate(ldm.layers):
            names[f"unet-{j}-{k}"] = f"unet_layer-{layer}_strength-{STRENGTH}_step-{step}"
    with tempfile.TemporaryDirectory() as folder:
        features = extract(draw_stimuli(ids), ldm, bands=list(names.values()), store=folder)
        factors = {
            name: whitened(features.array(band).astype(np.float64), N_FACTORS[name.split("-")[0]])
            for name, band in names.items()
        }
    beyond = random_for(0, "unmodelled factors").standard_normal((len(ids), N_UNMODELLED))
    factors["unmodelled"] = (beyond - beyond[:N_TRAIN].mean(0)) / beyond[:N_TRAIN].std(0)
    about = {"ids": ids, "factors": list(factors), "bands": names, "made_by": ldm.made_by}
    arrays = {name: values.astype(np.float16) for name, values in factors.items()}
    np.savez_compressed(FACTORS, about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), **arrays)
    print(f"{FACTORS}: {len(factors)} components, {FACTORS.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
