"""Calibration of the null that a test set gets: shifted baselines, near-duplicates, order, tails, uneven clusters.

Parts are as those of `_battery.py`: plain functions that simulate, measure and return findings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _battery import BROKEN, HELD, Finding, found, quiet, recording

from latentcortex import BandedRidge, Encoder, Features, Responses, inference

Sides = tuple[Encoder, Features, Responses]
"""A fitted encoder, all features, and the responses to the test stimuli."""


def flipped(gain: np.ndarray, seed: int, n_flips: int = 999) -> np.ndarray:
    """Flip the signs of rows, as they are, without asking what they share: (n_rows, n_voxels) -> p."""
    signs = np.random.default_rng([99, seed]).choice([-1.0, 1.0], (n_flips, len(gain)))
    return np.asarray(((signs @ gain >= gain.sum(0)).sum(0) + 1) / (n_flips + 1))


# A baseline that differs


def shifted(run: int, shift: float, *, n_voxels: int = 200) -> Sides:
    """Drive voxels by the first of two bands, and raise features and responses of the test set by so many SD."""
    rng = np.random.default_rng([1, run])
    a, b = rng.standard_normal((2, 600, 40))
    signal = a @ rng.standard_normal((40, n_voxels)) / 40**0.5
    y = (signal + 1.5 * rng.standard_normal(signal.shape)) / np.sqrt(1 + 1.5**2)
    for side in (a, b, y):
        side[300:] += shift
    responses = recording(y)
    features = Features.from_arrays(responses.ids, {"a": a, "b": b})
    train, test = responses.split(test_ids=responses.ids[300:], zscore="none")
    return Encoder(BandedRidge(seed=0)).fit(features, train), features, test


def baseline(n: int) -> list[Finding]:
    """Test the unique share of a band that drives nothing where the baseline of the test set is another."""
    out = []
    for shift in (0.5, 1.0):
        rates, naive, masked, offsets, joint = [], [], [], [], []
        for run in range(n):
            with quiet():
                encoder, features, test = shifted(run, shift)
                maps = encoder.score(features, test, shares=("unique",), identifiability=False)
            (held_out,) = encoder.walk(features, test, shares=("unique",))
            rates.append((maps.values(statistic="uniqueP", band="b") <= 0.05).mean())
            masked.append(np.nanmean(maps.values(statistic="uniqueMask", band="b")))
            raw = (held_out.y - held_out.nested["a",]) ** 2 - (held_out.y - held_out.yhat) ** 2
            naive.append((flipped(raw, run) <= 0.05).mean())
            joint.append(maps.values(statistic="r2").mean())
            offsets.append(maps.find(statistic="r2").columns["offset"].iloc[0])
        setting = f"features and responses of the test set raised by {shift:g} SD, 300 + 300 stimuli"
        what = "voxels whose unique share of a band without signal has p ≤ .05"
        out += [
            found("B1", what, setting, rates, most=0.055),
            found("B1", "the same by losses that hold the baseline", setting, naive, **BROKEN),
            found("B1", "voxels in the mask of that share", setting, masked, **HELD),
            found("B1", "mean R² less its offset", setting, np.subtract(joint, offsets), least=0.1),
            found("B1", "mean R², which the offset takes down", setting, joint, most=0.1, naive=True),
        ]
    return out


# Clusters


def uneven_clusters(n: int) -> list[Finding]:
    """Flip clusters of which one has half of the stimuli; voxels are independent, and so are their predictions."""
    out = []
    for n_others, icc in ((20, 0.9), (20, 0.3), (10, 0.9)):
        rng = np.random.default_rng([15, n_others])
        code = np.repeat(np.arange(n_others + 1), [15 * n_others, *[15] * n_others])
        sides = [
            np.sqrt(icc) * rng.standard_normal((n_others + 1, n))[code]
            + np.sqrt(1 - icc) * rng.standard_normal((len(code), n))
            for _ in range(2)
        ]
        names = [str(i) for i in code]
        p = inference.cluster_p(*sides, names, n_permutations=999, seed=0)
        product = np.prod([side - side.mean(0) for side in sides], axis=0)
        summed = np.stack([product[code == i].sum(0) for i in range(n_others + 1)])
        noise = rng.standard_normal((2, len(code), n)) / 3
        share = inference.share_p(sides[0], *(noise + sides[1]), clusters=names, n_permutations=999, seed=0)
        setting = f"one cluster with half of the stimuli, {n_others} with the rest, ICC {icc:g}"
        out += [
            found("B15", "voxels of p ≤ .05 by flips of clusters", setting, p <= 0.05, most=0.055, slack=3.0),
            found("B15", "the same for a difference of losses", setting, share <= 0.05, most=0.055, slack=3.0),
            found("B15", "about the mean of all stimuli", setting, flipped(summed, 0) <= 0.05, **BROKEN),
        ]
    return out


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "baseline": (baseline, 3, 100),
    "uneven_clusters": (uneven_clusters, 2000, 50_000),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
