"""The ridge engine by itself: what each band adds, how far it agrees with himalaya, and a model kept in a file."""

from pathlib import Path

import numpy as np

import latentcortex as lc

# 400 stimuli, three bands of which the third repeats the second with noise; 60 voxels follow a, or b, or both.
rng = np.random.default_rng(0)
x = {"a": rng.standard_normal((400, 40)), "b": rng.standard_normal((400, 60))}
x["c"] = x["b"] @ rng.standard_normal((60, 60)) / 8 + rng.standard_normal((400, 60))
parts = [x[band] @ rng.standard_normal((x[band].shape[1], 60)) / x[band].shape[1] ** 0.5 for band in "ab"]
parts[0][:, 20:40] = 0
parts[1][:, :20] = 0
y = sum(parts) + rng.standard_normal((400, 60))

fit = {band: values[:300] for band, values in x.items()}
new = {band: values[300:] for band, values in x.items()}
model = lc.BandedRidge(seed=0).fit(fit, y[:300])

# Every subset of the bands, each with penalties of its own: what the joint model loses without a band.
r2 = {}
for bands, nested in model.nested().items():
    r2[bands] = lc.scoring.r2(y[300:], nested.predict({band: new[band] for band in bands}))
full = r2["a", "b", "c"]
for band in x:
    gain = full - r2[tuple(other for other in x if other != band)]
    print(f"gain from {band}: {gain[:20].mean():+.3f} where a is planted, {gain[20:40].mean():+.3f} where b is")

# The field's reference on the same rows.
theirs = lc.estimators.make("himalaya", seed=0)
agreement = lc.estimators.compare(lc.BandedRidge(seed=0), theirs, fit, y[:300], test_bands=new, test_y=y[300:])
low, high = agreement.interval
print(f"R² less himalaya's: {agreement.table['r2_difference'].mean():+.4f} [{low:+.4f}, {high:+.4f}]")
figure = lc.plotting.estimator_agreement(agreement.table, agreement.names, agreement.interval)
lc.plotting.save(figure, Path("agreement.png"))

# A model of named features predicts new images, and is kept in a file.
ids = [f"image{i}" for i in range(400)]
features = lc.Features.from_arrays(ids, x)
trials = {"stimulus": ids[:300], "session": ["1"] * 300, "run": ["1"] * 300}
train = lc.Responses.single_trials(y[:300].astype(np.float32), lc.Unlocated(60), **trials)
encoder = lc.Encoder(lc.estimators.make("banded_ridge")).fit(features, train)
encoder.save(Path("model.safetensors"))
again = lc.Encoder.load(Path("model.safetensors"), features)
same = np.allclose(again.predict(features, ids[300:]), encoder.predict(features, ids[300:]), atol=1e-5)
print(f"the model in the file predicts the same: {same}")
print(f"weights of a {encoder.weights('a').shape}, patterns of b {encoder.patterns('b').shape}")
