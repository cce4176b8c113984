"""Components of a latent diffusion model: which there are, what they take on disk, and what each of them carries.

Latents: the image latent z, the text embedding c and the denoised latent z_c at 80 % noise, each alone. Noise levels:
z with z_c at each strength. Denoising steps: z with z_c early, in the middle and at the end. U-Net layers: two blocks
of the first stage, the bottleneck and two of the second, each at each step, alone and jointly.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

import latentcortex as lc
from latentcortex import analyses

# Stable Diffusion 1.4 from its configuration alone: nothing is loaded, and no weight is needed.
here = Path(__file__).parent
stable = lc.extractors.make("ldm", model=str(here / "stable_diffusion_1_4"), strengths=[20, 40, 60, 80])
print(f"Stable Diffusion 1.4, images of {stable.pixels} pixels, z of {stable.latent}; for 10,000 images:")
for analysis in analyses.CANONICAL:
    bands = sorted({band for model in analyses.make(analysis, stable.bands).models for band in model})
    size, rows = sum(stable.dims(bands).values()) * 4 * 10_000, stable.n_rows(bands) * 10_000
    print(f"  {analysis:<16} {len(bands):2} bands {size / 1e9:7.1f} GB {rows / 1e6:4.1f} million U-Net rows")
size, rows = sum(stable.dims(stable.bands).values()) * 4 * 10_000, stable.n_rows(stable.bands) * 10_000
print(
    f"  {'all in one pass':<16} {len(stable.bands):2} bands {size / 1e9:7.1f} GB {rows / 1e6:4.1f} million U-Net rows"
)
pooled = lc.extractors.make("ldm", model=stable.model, strengths=[20, 40, 60, 80], n_projected=5000)
print(f"  with layers on 5,000 directions: {sum(pooled.dims(pooled.bands).values()) * 4 * 10_000 / 1e9:.1f} GB")
print(f"  hours on a GPU that does 100 rows a second: {rows / 100 / 3600:.1f}\n")

# What each band of the phantom carries: attributes of 100 scenes, read off by ridge regression from 300 others.
names = ("shape", "colour", "scene", "place", "size", "light")
phantom = lc.datasets.make("phantom", n_train=300, n_test=100)
stimuli = phantom.stimuli()
layers = [f"unet_layer-{layer}_strength-80_step-50" for layer in ("down0", "mid", "up2")]
bands = ["z", "c", *(f"zc_strength-{s}_step-100" for s in (20, 40, 60, 80)), *layers]
model = lc.extractors.make("ldm", model="phantom", bands=bands)
features = lc.extract(stimuli, model, store="features", progress=False)
stimuli.table["light"] = [float(stimuli.load(name).mean()) for name in stimuli.ids]  # mean lightness of the image
train = (stimuli.table["split"] == "train").to_numpy()


def told(band: str, name: str) -> float:
    """Fraction of test scenes whose attribute is told right, or R² of light, which is a number."""
    values, x = stimuli.table[name], features.array(band)
    if pd.api.types.is_numeric_dtype(values):
        y = values.to_numpy(float)
        return float(RidgeCV(np.logspace(0, 6, 13)).fit(x[train], y[train]).score(x[~train], y[~train]))
    y = pd.get_dummies(values).to_numpy(float)
    guess = RidgeCV(np.logspace(0, 6, 13)).fit(x[train], y[train]).predict(x[~train])
    return float((guess.argmax(1) == y[~train].argmax(1)).mean())


print("| band | " + " | ".join(names) + " |\n| --- |" + " --- |" * len(names))
for band in bands:
    print(f"| {band} | " + " | ".join(f"{told(band, name):.2f}" for name in names) + " |")
