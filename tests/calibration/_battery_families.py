"""Part of the battery: families of tests, whose false discoveries must keep their rate, map by map.

Plain functions, as in `_battery.py`; `test_families.py` asserts them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _battery import BROKEN, HELD, Finding, fdp, found
from scipy import ndimage, stats
from statsmodels.stats.multitest import multipletests

from latentcortex import inference

EDGE = 12
N_VOXELS = EDGE**3
SMOOTHNESS = (0, 1, 2, 4)
"""Standard deviations of a Gaussian kernel, in voxels."""


def bh(p: np.ndarray, q: float) -> np.ndarray:
    """Reject by Benjamini and Hochberg's procedure as they wrote it."""
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), dtype=bool)
    if len(below):
        rejected = p <= p[order][below[-1]]
    return rejected


def bh_of_others(n: int) -> list[Finding]:
    """Compare BH with three others over random families with ties."""
    rng = np.random.default_rng(0)
    apart, same = [], []
    for _ in range(n):
        m = int(rng.integers(1, 400))
        p = np.round(rng.random(m) ** rng.integers(1, 4), int(rng.integers(2, 6)))
        ours = inference.fdr(p)
        theirs = multipletests(p, 0.05, "fdr_bh")[:2]
        same.append(np.array_equal(ours.rejected, bh(p, 0.05)) and np.array_equal(ours.rejected, theirs[0]))
        apart += [np.abs(ours.q_values - q).max() for q in (theirs[1], stats.false_discovery_control(p))]
    setting = "random families of 1 to 400 tests with ties"
    what = "largest difference of q from scipy's and statsmodels'"
    return [
        Finding("A1", what, setting, max(apart), np.nan, n, most=1e-12),
        found("A1", "same rejections as the paper's procedure and statsmodels'", setting, np.array(same), least=1.0),
    ]


def smoothed(rng: np.random.Generator, n_maps: int, sigma: float) -> np.ndarray:
    """Draw standard normal maps that are smooth over a cube of voxels."""
    maps = rng.standard_normal((n_maps, EDGE, EDGE, EDGE))
    if sigma:
        maps = ndimage.gaussian_filter(maps, (0, sigma, sigma, sigma), mode="wrap")
        maps /= maps.std(axis=0, keepdims=True)
    return np.asarray(maps.reshape(n_maps, -1))


def empty_maps(n: int) -> list[Finding]:
    """Correct maps of nothing: how often anything is found."""
    out = []
    for sigma in SMOOTHNESS:
        p = stats.norm.sf(smoothed(np.random.default_rng(1), n, sigma))
        setting = f"{N_VOXELS} voxels of noise, smoothness {sigma}"
        number = "A3" if sigma else "A2"
        any_found = np.array([inference.fdr(one).rejected.any() for one in p])
        out.append(found(number, "maps with any rejection by BH", setting, any_found, **HELD))
        by = np.array([inference.fdr(one, method="by").rejected.any() for one in p])
        out.append(found("A6", "maps with any rejection by BY", setting, by, most=0.02))
        if not sigma:
            out.append(found("A2", "voxels of p ≤ .05", setting, (p <= 0.05).mean(1), least=0.049, most=0.051))
            uncorrected = (p <= 0.05).any(1)
            out.append(found("A2", "maps with any p ≤ .05, uncorrected", setting, uncorrected, **BROKEN))
    return out


def active_maps(n: int) -> list[Finding]:
    """Correct maps of which 7 % are active: mean and spread of the false discovery proportion."""
    out = []
    active = np.arange(N_VOXELS) < 0.07 * N_VOXELS
    for sigma in SMOOTHNESS:
        p = stats.norm.sf(smoothed(np.random.default_rng(2), n, sigma) + 3 * active)
        rejected = [inference.fdr(one).rejected for one in p]
        proportion = np.array([fdp(one, active) for one in rejected])
        setting = f"7 % of {N_VOXELS} voxels active at z + 3, smoothness {sigma}"
        out.append(found("A4", "false discovery proportion of BH, mean", setting, proportion, **HELD))
        power = [one[active].mean() for one in rejected]
        out.append(found("A4", "active voxels that BH finds", setting, power, least=0.5))
        # The rate is a mean: single maps exceed it, the more so the smoother they are.
        spread = {"most": 0.15} if sigma else {"most": 0.01}
        many = proportion > 0.2
        out.append(found("A5", "maps whose false discovery proportion is above .2", setting, many, **spread))
        by = np.array([fdp(inference.fdr(one, method="by").rejected, active) for one in p])
        out.append(found("A6", "false discovery proportion of BY, mean", setting, by, most=0.02))
    return out


def pooled_maps(n: int) -> list[Finding]:
    """Correct a sparse map on its own, and together with a strong one."""
    rng = np.random.default_rng(3)
    proportion: dict[str, list[float]] = {"own": [], "pooled": []}
    sparse_active, strong_active = np.arange(1000) < 10, np.arange(1000) < 800
    for _ in range(n):
        sparse, strong = (stats.norm.sf(rng.standard_normal(1000) + 3.5 * on) for on in (sparse_active, strong_active))
        ways = {"own": sparse, "pooled": np.concatenate([sparse, strong])}
        for name, p in ways.items():
            proportion[name].append(fdp(inference.fdr(p).rejected[:1000], sparse_active))
    setting = "10 of 1,000 voxels active beside a map with 800 of 1,000"
    what = "false discovery proportion of the sparse map"
    return [
        found("family", f"{what}, corrected on its own", setting, proportion["own"], **HELD),
        found("family", f"{what}, pooled with the strong one", setting, proportion["pooled"], **BROKEN),
    ]


def chosen_maps(n: int) -> list[Finding]:
    """Choose maps among many, then voxels within them."""
    n_maps, n_with, n_voxels, active = 40, 4, 500, np.arange(500) < 25
    average: dict[str, list[float]] = {"hierarchical": [], "naive": []}
    power = []
    for run in range(n):
        rng = np.random.default_rng(run)
        on = {f"map {i}": active & (i < n_with) for i in range(n_maps)}
        p = {name: stats.norm.sf(rng.standard_normal(n_voxels) + 3.5 * own) for name, own in on.items()}
        ways = {
            "hierarchical": {name: one.rejected for name, one in inference.hierarchical_fdr(p).items()},
            "naive": {name: inference.fdr(values).rejected for name, values in p.items()},
        }
        for name, rejected in ways.items():
            chosen = [fdp(one, on[key]) for key, one in rejected.items() if one.any()]
            average[name].append(float(np.mean(chosen)) if chosen else 0.0)
        power.append(np.mean([ways["hierarchical"][f"map {i}"][active].mean() for i in range(n_with)]))
    setting = "25 of 500 voxels active in 4 of 40 maps"
    what = "false discovery proportion, mean over the chosen maps"
    return [
        found("family", f"{what}, hierarchical", setting, average["hierarchical"], **HELD),
        found("family", f"{what}, maps with anything by BH at q", setting, average["naive"], **BROKEN),
        found("family", "active voxels that it finds", setting, power, least=0.3),
    ]


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "bh_of_others": (bh_of_others, 200, 2000),
    "empty_maps": (empty_maps, 400, 4000),
    "active_maps": (active_maps, 400, 4000),
    "pooled_maps": (pooled_maps, 200, 2000),
    "chosen_maps": (chosen_maps, 60, 600),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
