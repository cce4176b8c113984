"""Battery of calibration, comparing models: differences, the winner, unique shares, preferred layers.

Models are fitted and compared as a study does it. The ways that must fail hold the fitted models fixed, as a test over
held-out stimuli alone does, or unite the masks of several maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _battery import BROKEN, HELD, NOISE, Finding, fdp, fixture, found, quiet, recording
from scipy import stats

from latentcortex import BandedRidge, Features, Maps, analyses, inference
from latentcortex.analyses import Analysis, Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Criterion, HeldOutSides, significance
from latentcortex.reporting.content import found_by_any
from latentcortex.space import Unlocated

RATE: dict[str, Any] = {"most": 0.055}
"""What a rate of 5 % may reach in these fixtures."""
MISSED: dict[str, Any] = {"least": 0.08, "naive": True}
"""A rate of 5 % that must be seen to be missed by far, with few runs, too."""
FULL = 4
"""Runs from which all settings are measured, not only the first."""
N_COMPARED = 120
"""Voxels of a run."""


def driven_by(rng: np.random.Generator, x: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Draw signals that are linear in some columns and have these variances, (n_stimuli, n_voxels)."""
    weights = rng.standard_normal((x.shape[1], len(fraction)))
    return np.asarray(x @ (weights / np.linalg.norm(weights, axis=0)) * np.sqrt(fraction))


def held_out(bands: dict[str, np.ndarray], y: np.ndarray, n_fit: int, **criterion: Any) -> Scorer:
    """Prepare a study's way of scoring: the first stimuli are fitted, the others tested."""
    responses = recording(y)
    train, test = responses.split(test_ids=responses.ids[n_fit:], zscore="none")
    how = Criterion(identifiability=False, **criterion)
    return Scorer(Features.from_arrays(responses.ids, bands), HeldOutSides(train, test), BandedRidge, how)


# Differences of latents


def compared_latents(run: int, n_test: int, variances: np.ndarray, **criterion: Any) -> Maps:
    """Compare two latents of 100 columns, of which each explains these fractions (2, n_voxels); 600 stimuli fitted."""
    rng = np.random.default_rng([run, n_test])
    bands = {"z": rng.standard_normal((600 + n_test, 100)), "c": rng.standard_normal((600 + n_test, 100))}
    parts = [driven_by(rng, x, own) for x, own in zip(bands.values(), variances, strict=True)]
    y = sum(parts) + np.sqrt(1 - variances.sum(0)) * rng.standard_normal(parts[0].shape)
    with quiet():
        return held_out(bands, y, 600, **criterion).score(Latents("latents", (("z",), ("c",))))


def tied_latents(n: int) -> list[Finding]:
    """Compare two latents that explain as much, by flips of test stimuli alone and with the variance of fitting."""
    out, tied = [], np.full((2, N_COMPARED), 0.1)
    for n_test in (1000, 300, 3000)[: 3 if n > FULL else 1]:
        setting = f"two latents of 100 columns that explain .1 each, 600 + {n_test} stimuli"
        for n_refits, name, bounds in ((20, "with the variance of fitting", RATE), (0, "by flips alone", MISSED)):
            if not n_refits and n_test == 300:
                continue
            maps = [compared_latents(run, n_test, tied, n_refits=n_refits) for run in range(n)]
            rates = [float((one.values(statistic="differenceP") <= 0.05).mean()) for one in maps]
            out.append(found("B6", f"voxels of p ≤ .05 {name}", setting, rates, **bounds))
    return out


def differing_latents(n: int) -> list[Finding]:
    """Compare two latents where few voxels are driven, by one of them: differences are false where nothing is."""
    variances = np.zeros((2, 400))
    variances[0, :120] = np.linspace(0.02, 0.3, 120)
    active = variances[0] > 0
    ours, naive, power = [], [], []
    for run in range(n):
        maps = compared_latents(run, 1000, variances)
        rejected = maps.values(statistic="differenceMask") == 1
        ours.append(fdp(rejected, active))
        power.append(float(rejected[active].mean()))
        naive.append(fdp(inference.fdr(flipped(run, variances)).rejected, active))
    setting = "30 % of 400 voxels driven by one of two latents of 100 columns, 600 + 1,000 stimuli"
    what = "false discovery proportion of differences"
    return [
        found("B6", f"{what}, found by either first", setting, ours, **HELD),
        found("B6", f"{what}, BH of flips alone over all voxels", setting, naive, **{**MISSED, "least": 0.06}),
        found("B6", "driven voxels whose difference is found", setting, power, least=0.5),
    ]


def flipped(run: int, variances: np.ndarray) -> np.ndarray:
    """Test the same differences by flips of test stimuli alone, wherever anything is found or not."""
    rng = np.random.default_rng([run, 1000])
    bands = {"z": rng.standard_normal((1600, 100)), "c": rng.standard_normal((1600, 100))}
    parts = [driven_by(rng, x, own) for x, own in zip(bands.values(), variances, strict=True)]
    y = sum(parts) + np.sqrt(1 - variances.sum(0)) * rng.standard_normal(parts[0].shape)
    with quiet():
        one, other = (BandedRidge().fit({"x": x[:600]}, y[:600]).predict({"x": x[600:]}) for x in bands.values())
    return np.asarray(inference.paired_difference_p(y[600:], one, other, n_permutations=999, seed=0))


# The winner


def winner_maps(n: int) -> list[Finding]:
    """Colour a voxel that any of three latents finds: by Simes's p across them, and by the union of their masks."""
    active = np.arange(2000) < 200
    ways: dict[str, list[float]] = {"ours": [], "union": []}
    power: dict[str, list[float]] = {"ours": [], "union": []}
    for run in range(n):
        rng = np.random.default_rng(run)
        p = stats.norm.sf(rng.standard_normal((3, 2000)) + 4 * active * rng.uniform(0.6, 1, (3, 1)))
        columns = []
        for name, own in zip(("z", "c", "zc"), p, strict=True):
            about = {"analysis": "latents", "model": name, "band": name, "n_stimuli": 100}
            columns += significance(about, own, Criterion(), null="closed form")
        maps = Maps.build(Unlocated(2000), columns)
        together = [{"analysis": "latents", "model": name} for name in ("z", "c", "zc")]
        union = np.stack([maps.values(**facts, statistic="mask") == 1 for facts in together]).any(0)
        for name, rejected in (("ours", found_by_any(maps, together)), ("union", union)):
            ways[name].append(fdp(rejected, active))
            power[name].append(float(rejected[active].mean()))
    setting = "10 % of 2,000 voxels active in all of three maps"
    what = "false discovery proportion of coloured voxels"
    return [
        found("B7", f"{what}, Simes's p across the maps", setting, ways["ours"], **HELD),
        found("B7", f"{what}, union of the maps' masks", setting, ways["union"], **BROKEN),
        found("B7", "active voxels that are coloured", setting, power["ours"], least=0.8),
    ]


# Unique shares


def unique_maps(kind: str, widths: tuple[int, int], sizes: tuple[int, int], run: int, **criterion: Any) -> Maps:
    """Test unique shares of two bands, of which the second adds nothing."""
    rng = np.random.default_rng(run)
    bands, signal = fixture(kind, widths, rng)(sum(sizes))
    y = signal + NOISE * rng.standard_normal(signal.shape)
    scorer = held_out(bands, y, sizes[0], shares=("unique",), **criterion)
    with quiet():
        return scorer.score(Analysis("shares", (("a", "b"),)))


def empty_shares(n: int) -> list[Finding]:
    """Test bands without a unique share on many test stimuli, by flips alone and with the variance of fitting."""
    out = []
    kinds = (("linear functions", (10, 10)), ("linear functions", (20, 200)), ("redundant", (40, 40)))
    for kind, widths in kinds[: 3 if n > FULL else 1]:
        setting = f"{kind}, {widths[0]} and {widths[1]} columns, 600 + 5,000 stimuli"
        naive = kind == "linear functions"
        for n_refits, name, bounds in ((20, "with the variance of fitting", RATE), (0, "by flips alone", MISSED)):
            if not n_refits and not naive:
                continue
            maps = [unique_maps(kind, widths, (600, 5000), run, n_refits=n_refits) for run in range(n)]
            rates = [float((one.values(statistic="uniqueP", band="b") <= 0.05).mean()) for one in maps]
            out.append(found("B8", f"voxels whose unique share has p ≤ .05 {name}", setting, rates, **bounds))
            if n_refits:
                masks = [float((one.values(statistic="uniqueMask", band="b") == 1).mean()) for one in maps]
                out.append(found("B8", "voxels in the mask of the unique share", setting, masks, most=0.01))
    return out


def undriven_shares(n: int) -> list[Finding]:
    """Test unique shares where nothing is driven: gains of the fitted models, and where the joint model is found."""
    rates: dict[str, list[float]] = {"ours": [], "naive": []}
    for run in range(n):
        maps = unique_maps("nothing is driven", (40, 40), (600, 5000), run)
        rates["ours"].append(float((maps.values(statistic="uniqueP", band="b") <= 0.05).mean()))
        rates["naive"].append(float((gain_of_fixed_models(run) <= 0.05).mean()))
    setting = "nothing is driven, 40 and 40 columns, 600 + 5,000 stimuli"
    what = "voxels whose unique share has p ≤ .05"
    return [
        found("B8", f"{what}, where the joint model is found", setting, rates["ours"], **RATE),
        found("B8", f"{what} by flips alone, everywhere", setting, rates["naive"], **MISSED),
    ]


def gain_of_fixed_models(run: int) -> np.ndarray:
    """Test the gain of the second band by flips of test stimuli alone, in all voxels."""
    rng = np.random.default_rng(run)
    bands, signal = fixture("nothing is driven", (40, 40), rng)(5600)
    y = signal + NOISE * rng.standard_normal(signal.shape)
    fit, new = slice(600), slice(600, None)
    with quiet():
        model = BandedRidge().fit({name: x[fit] for name, x in bands.items()}, y[fit])
        without = model.nested([["a"]])[("a",)].predict({"a": bands["a"][new]})
        full = model.predict({name: x[new] for name, x in bands.items()})
    return np.asarray(inference.share_p(y[new], full, without, n_permutations=999, seed=0))


def small_shares(n: int) -> list[Finding]:
    """Test a band with a small share of its own, and one without, by its gain and by Freedman and Lane's test."""
    out, power = [], {}
    sizes, shares = (600, 300), np.repeat([0.05, 0.0], N_COMPARED // 2)
    for test in ("gain", "freedman-lane"):
        rates = []
        for run in range(n):
            rng = np.random.default_rng(run)
            a, b = rng.standard_normal((2, sum(sizes), 60))
            b += a
            new = b - a  # what only the second band holds
            y = driven_by(rng, a, np.full(N_COMPARED, 0.2)) + driven_by(rng, new, shares)
            y += np.sqrt(0.8 - shares) * rng.standard_normal(y.shape)
            how: dict[str, Any] = {"shares": ("unique",), "share": test, "n_permutations": 999}
            with quiet():
                maps = held_out({"a": a, "b": b}, y, sizes[0], **how).score(Analysis("shares", (("a", "b"),)))
            low = maps.values(statistic="uniqueP", band="b") <= 0.05
            rates.append((low[shares > 0].mean(), low[shares == 0].mean()))
        hits, false = np.array(rates).T
        power[test] = hits.mean()
        setting = "two bands of 60 columns that share half of them, 600 + 300 stimuli"
        name = f"share = '{test}'"
        out.append(found("B8", f"voxels of unique share .05 with p ≤ .05, {name}", setting, hits, least=0.1))
        out.append(found("B8", f"voxels of unique share 0 with p ≤ .05, {name}", setting, false, **RATE))
    more = power["freedman-lane"] - power["gain"]
    what = "voxels of unique share .05 that Freedman and Lane's test finds beyond those of the gain"
    return [*out, Finding("B8", what, setting, float(more), np.nan, n, least=0.05)]


# Preferred layers

LAYERS = [f"unet_layer-{name}_strength-80_step-50" for name in ("down0", "mid", "up0")]


def preferred_layers(bands: dict[str, np.ndarray], y: np.ndarray, n_fit: int, **criterion: Any) -> Maps:
    """Compare layers as the analysis `unet-layers` does."""
    with quiet():
        return held_out(bands, y, n_fit, **criterion).score(analyses.make("unet-layers", list(bands)))


def told_layers(n: int) -> list[Finding]:
    """Tell the best of three layers of 60 columns, by how much its r is the highest: 600 + 300 stimuli."""
    out, leads = [], (0.0, 0.04, 0.09, 0.2, 0.35)
    lead = np.repeat(leads, 40)
    told, right, apart = [], [], []
    for run in range(n):
        rng = np.random.default_rng(run)
        bands = {name: rng.standard_normal((900, 60)) for name in LAYERS}
        parts = [driven_by(rng, x, 0.12 + lead * (i == 0)) for i, x in enumerate(bands.values())]
        y = sum(parts) + np.sqrt(1 - 0.36 - lead) * rng.standard_normal(parts[0].shape)
        maps = preferred_layers(bands, y, 600)
        told.append(maps.values(statistic="identifiable") == 1)
        right.append(maps.values(statistic="preferred") == 0)
        r = np.stack([maps.values(statistic="r", band=name) for name in LAYERS])
        apart.append(r[0] - r[1:].max(0))
    whole, first = np.array(told), np.array(right)
    for i, ahead_by in enumerate(leads):
        own = lead == ahead_by
        margin = float(np.mean(apart, axis=0)[own].mean()) if i else 0.0
        setting = f"three layers, the best ahead in r by {margin:.2f} on average, 600 + 300 stimuli"
        if not i:
            out.append(found("B16", "voxels told, layers tied", setting, whole[:, own].mean(1), most=0.05))
            continue
        least = {"least": 0.9 if i == len(leads) - 1 else 0.0}
        out.append(found("B16", "voxels told", setting, whole[:, own].mean(1), **least))
        out.append(found("B16", "voxels whose preferred layer is the best", setting, first[:, own].mean(1), least=0.5))
    ahead = lead > 0
    n_told, n_wrong = int(whole[:, ahead].sum()), int((whole & ~first)[:, ahead].sum())
    setting, wrong = "three layers, one of them ahead", n_wrong / max(n_told, 1)
    what = "told voxels whose preferred layer is wrong"
    return [*out, Finding("B16", what, setting, wrong, np.nan, n_told, most=0.05)]


def padded_layers(n: int) -> list[Finding]:
    """Pad one of two tied layers with columns that hold nothing, or with noise in its own: how often it still wins."""
    out = []
    setting = "two layers that hold a voxel alike, 600 + 300 stimuli"
    for name, n_junk, noise in (
        ("tied as they are", 0, 0.0),
        ("400 junk columns", 400, 0.0),
        ("noise of .7 SD", 0, 0.7),
    ):
        wins, ratio = [], []
        for run in range(n):
            rng = np.random.default_rng(run)
            own, other = rng.standard_normal((2, 900, 60))
            parts = [driven_by(rng, x, np.full(N_COMPARED, 0.15)) for x in (own, other)]
            y = sum(parts) + np.sqrt(0.7) * rng.standard_normal(parts[0].shape)
            own = np.hstack([own + noise * rng.standard_normal(own.shape), rng.standard_normal((900, n_junk))])
            maps = preferred_layers(dict(zip(LAYERS[:2], (own, other), strict=True)), y, 600, n_refits=0)
            column = maps.find_columns(statistic="preferred")
            wins.append(float((column.values() == 0).mean()))
            first, second = map(float, column.columns["effective_dims"].iloc[0].split("+"))
            ratio.append(first / second)
        bounds: dict[str, Any] = {"least": 0.5, "most": 0.5, "slack": 3}
        if n_junk or noise:
            bounds = {"most": 0.45, "naive": True}
        out.append(found("B16", f"wins of the first layer, {name}", setting, wins, **bounds))
        if n_junk:
            what = "effective dimensions of the first relative to the second, beside the map"
            out.append(found("B16", f"{what}, {name}", setting, ratio, least=2.0))
    return out


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "tied_latents": (tied_latents, 2, 8),
    "differing_latents": (differing_latents, 2, 10),
    "winner_maps": (winner_maps, 40, 1000),
    "empty_shares": (empty_shares, 1, 4),
    "undriven_shares": (undriven_shares, 1, 6),
    "small_shares": (small_shares, 1, 8),
    "told_layers": (told_layers, 2, 8),
    "padded_layers": (padded_layers, 2, 10),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
