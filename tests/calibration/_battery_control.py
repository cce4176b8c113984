"""What the shuffled control says of a map: how many of its discoveries are expected to be false."""

from __future__ import annotations

import numpy as np
from _battery import Finding, found, quiet
from scipy import ndimage, signal

from latentcortex import Features, Responses, inference
from latentcortex.analyses import Analysis, Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Criterion, HeldOutSides
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.space import Unlocated

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
    return Features.from_arrays(ids, {"z": z}), Responses.single_trials(
        y.astype(np.float32), Unlocated(N_VOXELS), **about
    )


def counts(n: int, smoothness: float) -> np.ndarray:
    """Count in each run: planted false discoveries; expected ones with their interval; what BH finds in the control."""
    rows = []
    for run in range(n):
        driven = int(N_VOXELS * (0.2, 0.4, 0.6)[run % 3])
        features, responses = participant(run, smoothness, 300, driven)
        train, test = responses.split(test_ids=responses.ids[180:], zscore="none")
        scorer = Scorer(
            features, HeldOutSides(train, test), BandedRidge, Criterion(identifiability=False, seed=run), twin=True
        )
        with quiet():
            maps = scorer.score(Latents("latents", (("z",),)))
            own = scorer.shuffled().score(Latents("latents", (("z",),)))
        (facts,) = maps.find_columns(statistic="mask").columns.to_dict("records")
        false = maps.values(statistic="mask")[driven:].sum()
        naive = inference.fdr(own.values(statistic="p")).rejected.sum()
        rows.append([false, facts["n_false"], facts["n_false_low"], facts["n_false_high"], naive])
    return np.array(rows, dtype=float)


def expected_false(n: int) -> list[Finding]:
    """Compare what the control expects to be false with what is planted, and the control's own discoveries with it."""
    out = []
    for smoothness in SMOOTHNESS if n >= 100 else SMOOTHNESS[:1]:
        setting = f"120 test stimuli, {N_VOXELS:,} voxels, a fifth to three fifths driven, smoothness {smoothness}"
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


def series(run: int, n: int, n_voxels: int) -> tuple[Features, Responses]:
    """Make a participant whose responses have nothing to do with z, and both are slow time series."""
    rng = np.random.default_rng([16, run])

    def slow(n_columns: int) -> np.ndarray:
        return signal.lfilter([1], [1, -0.8], rng.standard_normal((n, n_columns)), axis=0)

    ids = [f"s{i:04d}" for i in range(n)]
    about = {"stimulus": ids, "session": ["1"] * n, "run": ["1"] * n}
    data = slow(n_voxels).astype(np.float32)
    return Features.from_arrays(ids, {"z": slow(4)}), Responses.single_trials(data, Unlocated(n_voxels), **about)


def wrong_null(n: int) -> list[Finding]:
    """Ask the control of maps whose p-values are wrong, so that all that they find is false and more than q of it."""
    expected, nominal = [], []
    for run in range(n):
        features, responses = series(run, 400, 400)
        train, test = responses.split(test_ids=responses.ids[200:], zscore="none")
        criterion = Criterion(null="analytic", identifiability=False, seed=run)
        with quiet():
            maps = Scorer(features, HeldOutSides(train, test), BandedRidge, criterion, twin=True).score(
                Analysis("a", (("z",),))
            )
        (facts,) = maps.find_columns(statistic="mask").columns.to_dict("records")
        found_false = max(maps.values(statistic="mask").sum(), 1)
        expected.append(facts["n_false"] / found_false)
        nominal.append(0.05)
    setting = "a test set, the closed form forced on time series, AR(1) .8, nothing driven"
    what = "false discoveries that are expected, of all that are found, which are false"
    return [
        found("B4", f"{what}, by the control", setting, np.array(expected), least=0.75, slack=3.0),
        found("B4", f"{what}, by q", setting, np.array(nominal), most=0.5, naive=True),
    ]


BATTERY = {"expected_false": (expected_false, 9, 150), "wrong_null": (wrong_null, 5, 100)}
