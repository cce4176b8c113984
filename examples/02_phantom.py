"""From images to maps: part of the bundled phantom, its latent diffusion model, z with z_c jointly."""

from pathlib import Path

import latentcortex as lc

phantom = lc.datasets.make("phantom", n_train=150, n_test=50)
stimuli = phantom.stimuli()
responses = phantom.responses("01")
train, test = responses.split(test_ids=stimuli.table.query("split == 'test'").index)

model = lc.extractors.make("ldm", model="phantom", strengths=[80])
features = lc.extract(stimuli, model, bands=["z", "zc_strength-80_step-100"], store="features")

encoder = lc.Encoder(lc.estimators.make("banded_ridge", seed=0), analysis="example").fit(features, train)
maps = encoder.score(features, test, shares=("product",), q=0.05, correction="bh")
maps.save(Path("derivatives"), participant="01")

mask = maps.values(statistic="mask") == 1
for band in features.bands:
    share = maps.values(band=band, statistic="shareR2")[mask]
    print(f"{band}: mean share {share.mean():.3f} of the variance in {mask.sum()} significant vertices")
