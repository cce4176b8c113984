"""How sure one may be: what a band adds, whether that stays, and whether single voxels can be told.

Two bands of 60 dimensions, of which the second partly repeats the first. Of 300 simulated voxels 100 answer to the
first, 100 to what only the second has, and 100 to nothing.
"""

from __future__ import annotations

import numpy as np

from latentcortex import BandedRidge, inference, scoring
from latentcortex.inference import Penalties, Rows

rng = np.random.default_rng(0)
first, own = rng.standard_normal((2, 800, 60))
bands = {"first": first, "second": 0.8 * first + 0.6 * own}
signal = np.c_[first @ rng.standard_normal((60, 100)), own @ rng.standard_normal((60, 100)), np.zeros((800, 100))]
y = (signal / 60**0.5 + rng.standard_normal(signal.shape)).astype(np.float32)
fitted = np.arange(800) < 600


def only(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {band: values[rows] for band, values in bands.items()}


model = BandedRidge(seed=0).fit(only(fitted), y[fitted])
without = model.nested([["first"]])[("first",)]
predicted = model.predict(only(~fitted))
reduced = without.predict({"first": first[~fitted]})


def say(what: str, p: np.ndarray) -> None:
    found = inference.fdr(p).rejected
    print(
        f"{what:<44} first {found[:100].mean():.2f}  second {found[100:200].mean():.2f}  none {found[200:].mean():.2f}"
    )


print("Fraction of voxels, by what they answer to, in which is found:")
say("that the joint model predicts", inference.correlation_p(scoring.correlation(y[~fitted], predicted), 200))
say("that the second band adds (flips of loss)", inference.share_p(y[~fitted], predicted, reduced, seed=0))

# The same question by refitting permuted residuals: exact while there are more rows than columns.
centred = {band: values - values[fitted].mean(0) for band, values in bands.items()}
kernels = {band: x @ x.T / np.mean(np.sum(x[fitted] ** 2, axis=1)) for band, x in centred.items()}
rows = Rows(kernels, fitted)
both = {"full": Penalties(model.mixtures_, model.alphas_), "reduced": Penalties(without.mixtures_, without.alphas_)}
p, n_used = inference.freedman_lane_p(rows, y, "second", **both, n_permutations=999, seed=0)
say("that the second band adds (Freedman, Lane)", p)
print(f"{'':<44} after {n_used.mean():.0f} of 999 permutations on average")

fitted_kernels = {band: kernel[np.ix_(fitted, fitted)] for band, kernel in kernels.items()}
told = inference.identifiability(fitted_kernels, model.mixtures_, model.alphas_, seed=0)
shares = scoring.product_shares(y[~fitted], model.predict(only(~fitted), split=True))
print("\nShare of the second band, and its expected reliability between halves of the stimuli:")
for name, voxels in (("first", slice(0, 100)), ("second", slice(100, 200))):
    print(f"  voxels of {name:<7} {np.mean(shares[1, voxels]):.2f}   {np.nanmedian(told[1, voxels]):.2f}")
