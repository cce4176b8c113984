"""Arrays in, arrays out: banded ridge, shares and significance without a dataset or a study file."""

import numpy as np

import latentcortex as lc

# 300 stimuli, two bands of features, 40 voxels: the first half follows band a, the second half band b.
rng = np.random.default_rng(0)
x = {"a": rng.standard_normal((300, 20)), "b": rng.standard_normal((300, 200))}
driven = np.hstack([x["a"] @ rng.standard_normal((20, 20)), x["b"] @ rng.standard_normal((200, 20)) / 3])
y = driven + 4 * rng.standard_normal(driven.shape)

train, test = slice(0, 200), slice(200, 300)
model = lc.BandedRidge(seed=0).fit({band: values[train] for band, values in x.items()}, y[train])
yhat = model.predict({band: values[test] for band, values in x.items()})

r = lc.scoring.correlation(y[test], yhat)
p = lc.inference.correlation_p(r, n=100)
found = lc.inference.fdr(p, q=0.05)
print(f"{found.rejected.sum()} of {found.n_tests} voxels at q < 0.05; mean r {r.mean():.2f}")
weight = model.mixtures_[0]
print(f"weight of band a: {weight[:20].mean():.2f} in its voxels, {weight[20:].mean():.2f} in the others")
