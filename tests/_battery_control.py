"""What the shuffled control says of a map: how many of its discoveries are expected to be false."""

from __future__ import annotations

import numpy as np
from _battery import Finding, found, quiet
from scipy import ndimage

from latentcortex import Features, Responses, inference
from latentcortex.analyses import Analysis, HeldOut
from latentcortex.encoding import Criterion
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.space import Bare

N_VOXELS = 1000
SMOOTHNESS = (0, 5)
"""Standard deviations of a Gaussian kernel along a row of voxels."""


def participant(run: int, smoothness: float, n: int, driven: int) -> tuple[Features, Responses]:
    """Make a participant of whom some voxels are driven by z, and all have noise that neighbours share."""
    rng = np.random.default_rng([15, run, int(smoothness), driven])
    z = rng.standard_normal((n, 6))
    noise = rng.standard_normal((n, N_VOXELS))
    if smoothness:
        noise = ndimage.gaussian_filter1d(noise, smoothness, axis=1, mode="wrap")
    y = noise / noise.std()
    y[:, :driven] += 0.6 * z @ rng.standard_normal((6, driven)) / 6**0.5
    ids = [f"s{i:04d}" for i in range(n)]
    about = {"stimulus": ids, "session": ["1"] * n, "run": ["1"] * n}
    return Features.from_arrays(ids, {"z": z}), Responses.single_trials(y.astype(np.float32), Bare(N_VOXELS), **about)


def counts(n: int, smoothness: float) -> np.ndarray:
    """Count in each run: planted false discoveries; expected ones with their interval; what BH finds in the control."""
    rows = []
    for run in range(n):
        driven = int(N_VOXELS * (0.2, 0.4, 0.6)[run % 3])
        features, responses = participant(run, smoothness, 300, driven)
        train, test = responses.split(test_ids=responses.ids[180:], zscore="none")
        scorer = HeldOut(features, train, test, BandedRidge, Criterion(identifiability=False, seed=run), twin=True)
        with quiet():
            maps = scorer.score(Analysis("latents", (("z",),)))
            own = scorer.shuffled().score(Analysis("latents", (("z",),)))
        (facts,) = maps.find(statistic="mask").columns.to_dict("records")
        false = maps.values(statistic="mask")[driven:].sum()
        naive = inference.fdr(own.values(statistic="p")).rejected.sum()
        rows.append([false, facts["n_false"], facts["n_false_low"], facts["n_false_high"], naive])
    return np.array(rows, dtype=float)


def expected_false(n: int) -> list[Finding]:
    """Compare what the control expects to be false with what is planted, and the control's own discoveries with it."""
    out = []
    for smoothness in SMOOTHNESS if n >= 100 else SMOOTHNESS[:1]:
        setting = (
            f"HeldOut, 120 test stimuli, {N_VOXELS:,} voxels, a fifth to three fifths driven, smoothness {smoothness}"
        )
        false, expected, low, high, naive = counts(n, smoothness).T
        inside = (low <= false) & (false <= high)
        out += [
            found(
                "B4",
                "intervals of false discoveries that hold the planted number",
                setting,
                inside,
                least=0.92,
                slack=3.0,
            ),
            found(
                "B4",
                "false discoveries, expected less planted",
                setting,
                expected - false,
                least=-1.0,
                most=1.5,
                slack=3.0,
            ),
            found(
                "B4",
                "planted false discoveries less those that BH finds in the control",
                setting,
                false - naive,
                least=0.0,
                slack=-3.0,
                naive=True,
            ),
        ]
    return out


BATTERY = {"expected_false": (expected_false, 12, 150)}
