"""Calibration of the null that a test set gets: shifted baselines, near-duplicates, order, tails, uneven clusters.

Parts are as those of `_battery.py`: plain functions that simulate, measure and return findings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from _battery import BROKEN, HELD, Finding, fdp, found, quiet, recording

from latentcortex import BandedRidge, Encoder, Features, Responses, inference
from latentcortex.encoding import Criterion, Null, Prediction
from latentcortex.space import Unlocated

Sides = tuple[Encoder, Features, Responses]
"""A fitted encoder, all features, and the responses to the test stimuli."""


def flipped(gain: np.ndarray, seed: int, n_flips: int = 999) -> np.ndarray:
    """Flip the signs of rows, as they are, without asking what they share: (n_rows, n_voxels) -> p."""
    signs = np.random.default_rng([99, seed]).choice([-1.0, 1.0], (n_flips, len(gain)))
    return np.asarray(((signs @ gain >= gain.sum(0)).sum(0) + 1) / (n_flips + 1))


# A baseline that differs


def shifted(run: int, shift: float, *, n_voxels: int = 100) -> Sides:
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
            (held_out,) = encoder.predict_tiles(features, test, shares=("unique",))
            rates.append((maps.values(statistic="uniqueP", band="b") <= 0.05).mean())
            masked.append(np.nanmean(maps.values(statistic="uniqueMask", band="b")))
            raw = (held_out.y - held_out.nested["a",]) ** 2 - (held_out.y - held_out.yhat) ** 2
            naive.append((flipped(raw, run) <= 0.05).mean())
            joint.append(maps.values(statistic="r2").mean())
            offsets.append(maps.find_columns(statistic="r2").columns["offset"].iloc[0])
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


# Near-duplicates


def near_duplicates(run: int, each: int, *, driven: int = 0, n_voxels: int = 500) -> tuple[Sides, np.ndarray]:
    """Test on sets of so many nearly equal images, whose responses are alike (ICC .53) for what no feature says.

    Returns
    -------
    sides : encoder, features, test responses
    code : ndarray of int, shape (n_test,)
        The set of each test stimulus.
    """
    rng = np.random.default_rng([2, run, each])
    code = np.concatenate([np.arange(300), 300 + np.arange(300) // each])
    x = rng.standard_normal((code.max() + 1, 40))[code] + 0.04 * rng.standard_normal((600, 40))
    shared = rng.standard_normal((code.max() + 1, n_voxels))[code]
    y = np.sqrt(0.53) * shared + np.sqrt(0.47) * rng.standard_normal(shared.shape)
    y[:, :driven] += 0.5 * x @ rng.standard_normal((40, driven)) / 40**0.5
    order = np.concatenate([np.arange(300), 300 + rng.permutation(300)])
    responses, code = recording(y[order]), code[order]
    features = Features.from_arrays(responses.ids, {"x": x[order]})
    train, test = responses.split(test_ids=responses.ids[300:], zscore="none")
    return (Encoder(BandedRidge(seed=0)).fit(features, train), features, test), code[300:]


def sets_of_duplicates(n: int) -> list[Finding]:
    """Score test sets of near-duplicates as they come; and where there are few or none, look at what is found."""
    out = []
    for each in (2, 4, 10) if n >= 10 else (2, 10):
        rates, naive, false = [], [], []
        for run in range(n):
            with quiet():
                (encoder, features, test), _ = near_duplicates(run, each)
                maps = encoder.score(features, test)
                one_by_one = encoder.predict_held_out(features, test).p
            rates.append((maps.values(statistic="p") <= 0.05).mean())
            false.append(bool(maps.values(statistic="mask").any()))
            naive.append((one_by_one <= 0.05).mean())
        setting = f"sets of {each} nearly equal images among 300 test stimuli, voxels without signal"
        out += [
            found("B2", "voxels of p ≤ .05", setting, rates, most=0.055, slack=3.0),
            found("B2", "maps in which anything passes BH", setting, np.array(false), **HELD),
            found("B2", "voxels of p ≤ .05, stimuli one by one", setting, naive, **BROKEN),
        ]
    power, all_once = [], []
    for run in range(n):
        with quiet():
            (encoder, features, test), code = near_duplicates(run, 2, driven=100)
            # Five pairs, and one stimulus of every other set.
            first = np.unique(code, return_index=True)[1]
            kept = np.concatenate([first, [np.flatnonzero(code == code[i])[1] for i in first[:5]]])
            maps = encoder.score(features, test.select_stimuli([test.ids[i] for i in kept]))
            once = encoder.predict_held_out(features, test.select_stimuli([test.ids[i] for i in first])).p
        power.append((maps.values(statistic="mask")[:100] == 1).mean())
        all_once.append(inference.fdr(once).rejected[:100].mean())
    what, setting = "driven voxels found less than without the second of each pair", "5 pairs among 155 stimuli"
    lost = np.subtract(all_once, power)
    return [
        *out,
        found("B2", what, setting, lost, most=0.01, slack=3.0),
        found("B2", "driven voxels found", setting, power, least=0.5),
    ]


# The order of averaged stimuli


def ordered(run: int, order: str) -> Sides:
    """Drive 15 of 1,000 voxels by features that categories have in common; 20 categories of 20 images, shown twice.

    Parameters
    ----------
    run : int
    order : {"by category", "shuffled", "by category, trials of several runs"}
        Of the rows of the table.
    """
    rng = np.random.default_rng([5, run])
    category = np.repeat(np.arange(20), 20)
    x = rng.standard_normal((20, 30))[category] + 0.7 * rng.standard_normal((400, 30))
    y = rng.standard_normal((400, 1000))
    y[:, :15] += x @ rng.standard_normal((30, 15)) / 30**0.5
    ids = [f"s{i:03d}" for i in range(400)]
    rows = np.arange(400) if order.startswith("by category") else rng.permutation(400)
    if order == "by category, trials of several runs":
        shown, runs = rows, [str(i) for i in rng.integers(8, size=400)]
    else:
        shown, runs = np.repeat(rows, 2), ["1", "2"] * 400
    data = y[shown] + 0.5 * rng.standard_normal((len(shown), 1000))
    names = [ids[i] for i in shown]
    responses = Responses.single_trials(
        data.astype(np.float32), Unlocated(1000), stimulus=names, session=["1"] * len(shown), run=runs
    )
    features = Features.from_arrays(ids, {"x": x})
    train, test = responses.split(test_ids=ids[1::2], zscore="none")
    return Encoder(BandedRidge(seed=0)).fit(features, train), features, test


def order_of_rows(n: int) -> list[Finding]:
    """Find driven voxels of averaged stimuli whatever the order of the table."""
    out = []
    orders = ("by category", "by category, trials of several runs", "shuffled")
    for order in orders if n >= 10 else orders[:2]:
        power, false, naive = [], [], []
        for run in range(n):
            with quiet():
                encoder, features, test = ordered(run, order)
                mask = encoder.score(features, test).values(statistic="mask") == 1
                held_out = replace(encoder.predict_held_out(features, test), in_time=True)
                as_series = Null.of(held_out, Criterion()).p(held_out)
            power.append(mask[:15].mean())
            false.append(fdp(mask, np.arange(1000) < 15))
            naive.append(inference.fdr(as_series).rejected[:15].mean())
        setting = f"200 test stimuli of 20 categories, table {order}"
        out += [
            found("B5", "driven voxels found", setting, power, least=0.9),
            *([found("B5", "false discovery proportion", setting, false, **HELD)] if n >= 10 else []),
        ]
        if order != "shuffled":
            out.append(found("B5", "driven voxels found as a time series", setting, naive, most=0.1, naive=True))
    return out


# Tails


def tailed(run: int, kind: str, n_voxels: int) -> Prediction:
    """Predict 200 responses with heavy tails by five unrelated features with heavy tails."""
    rng = np.random.default_rng([9, run])
    weights = rng.standard_normal((5, n_voxels)).astype(np.float32)
    if kind.startswith("rare"):
        x, y = rng.random((200, 5)) < 0.03, np.exp(rng.standard_normal((200, n_voxels)))
    elif kind.startswith("t of"):
        x, y = rng.standard_t(3, (200, 5)), rng.standard_t(3, (200, n_voxels))
    elif kind.startswith("bursts"):
        x, y = (np.where(rng.random((200, k)) < 0.02, 10, 1) * rng.standard_normal((200, k)) for k in (5, n_voxels))
    else:
        x, y = rng.standard_normal((200, 5)), rng.standard_normal((200, n_voxels))
    return Prediction(y.astype(np.float32), (x.astype(np.float32) @ weights)[None], np.zeros(n_voxels))


def tails_of(kind: str, n: int, n_voxels: int) -> list[Finding]:
    """Test predictions that have nothing to do with responses, voxel by voxel and by BH over a map."""
    rare, any_found, naive, naive_found, permuted = [], [], [], [], []
    for run in range(n):
        held_out = tailed(run, kind, n_voxels)
        null = Null.of(held_out, Criterion())
        p = null.p(held_out)
        permuted.append(float(null.name == "permutation"))
        rare.append((p <= 0.001).mean())
        any_found.append(bool(inference.fdr(p).rejected.any()))
        naive.append((held_out.p <= 0.001).mean())
        naive_found.append(bool(inference.fdr(held_out.p).rejected.any()))
    setting, gaussian = f"{kind}, 200 stimuli, {n_voxels:,} voxels", kind == "Gaussian"
    expected = {"most": 0.0} if gaussian else {"least": 1.0}
    out = [
        found("B9", "maps of which `auto` permutes stimuli", setting, permuted, **expected),
        found("B9", "voxels of p ≤ .001", setting, rare, most=0.001, slack=3.0),
        found("B9", "maps in which anything passes BH", setting, np.array(any_found), **HELD),
    ]
    if kind.startswith(("rare", "bursts")):
        bounds = {"least": 0.001, "slack": -3.0, "naive": True}
        out.append(found("B9", "voxels of p ≤ .001 by the closed form", setting, naive, **bounds))
    if kind.startswith(("rare", "bursts")) and n >= 10:
        out.append(found("B9", "maps in which anything passes BH of it", setting, np.array(naive_found), **BROKEN))
    return out


def tails(n: int) -> list[Finding]:
    """Permute where tails are heavy, and do not where they are not; in full also as many voxels as a cortex has."""
    kinds = ("rare binary columns, lognormal responses", "bursts on both sides", "t of 3 degrees on both sides")
    out = [one for kind in kinds for one in tails_of(kind, n, 1000)] + tails_of("Gaussian", 10 * n, 1000)
    return out + (tails_of(kinds[0], n // 10, 20_000) if n >= 20 else [])


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "baseline": (baseline, 2, 24),
    "sets_of_duplicates": (sets_of_duplicates, 2, 40),
    "order_of_rows": (order_of_rows, 2, 60),
    "tails": (tails, 2, 20),
    "uneven_clusters": (uneven_clusters, 2000, 40_000),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
