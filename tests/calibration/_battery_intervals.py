"""Battery of intervals and ceilings: what holds the truth where clusters are few, voxels silent, or noise uneven.

Plain functions, as in `_battery.py`; `test_intervals.py` asserts them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from _battery import BROKEN, HELD, Finding, fdp, found, quiet
from scipy import ndimage, stats

from latentcortex import BandedRidge, inference, scoring
from latentcortex.analyses.generalisation import mean_scores
from latentcortex.encoding import Prediction
from latentcortex.evaluation import identification, image_weights
from latentcortex.inference import bootstrap_rows

COVERS: dict[str, Any] = {"least": 0.92, "slack": 3.0}
"""Intervals of 95 % that hold the truth."""
FAILS_TO_COVER: dict[str, Any] = {"most": 0.92, "slack": -3.0, "naive": True}


# Relative to the ceiling


def silent_voxels(n: int) -> list[Finding]:
    """Predict perfectly where some voxels are silent: r relative to the ceiling is 1."""
    out = []
    for silent in (0.0, 0.25, 0.5, 0.8):
        rng = np.random.default_rng([10, int(100 * silent)])
        relative, covered, naive = [], [], []
        for _ in range(n):
            ceiling = np.where(np.arange(100) < 100 * silent, 0.0, rng.uniform(0.2, 0.8, 100))
            trial_noise = np.sqrt(3 * np.where(ceiling > 0, (1 - ceiling) / np.maximum(ceiling, 0.1), 1))
            signal_part = rng.standard_normal((80, 100))
            repeats = signal_part * (ceiling > 0) + trial_noise * rng.standard_normal((3, 80, 100))
            piece = Prediction(repeats.mean(0), signal_part[None], np.zeros(100))
            facts = mean_scores([piece], repeats, seed=0)
            relative.append(facts["normalised"])
            covered.append(facts["normalised_low"] <= 1 <= facts["normalised_high"])
            mean_ceiling = scoring.noise_ceiling(repeats, n_averaged=3).mean()
            naive.append(facts["mean"] / np.sqrt(mean_ceiling))
        setting = f"perfect model, {silent:.0%} of 100 voxels silent, 80 stimuli, 3 repeats"
        out.append(found("B10", "mean r relative to the ceiling", setting, relative, least=0.97, most=1.03))
        out.append(found("B10", "its 95 % intervals that hold 1", setting, np.array(covered), **COVERS))
        if silent:
            what = "mean r over the root of the mean ceiling"
            out.append(found("B10", what, setting, naive, most=0.97, slack=-3, naive=True))
    return out


# Few clusters


def clustered(rng: np.random.Generator, sizes: list[int], like: float) -> Callable[[], tuple[np.ndarray, ...]]:
    """Make what draws responses and predictions of clusters, whose stimuli share so much of their variance."""
    onto, noise = rng.standard_normal((2, 8, 40)) / 8**0.5
    code = np.repeat(np.arange(len(sizes)), sizes)

    def features() -> np.ndarray:
        shared = rng.standard_normal((len(sizes), 8))[code]
        return np.sqrt(like) * shared + np.sqrt(1 - like) * rng.standard_normal((len(code), 8))

    def draw() -> tuple[np.ndarray, ...]:
        yhat = 0.8 * features() @ onto
        y = yhat + 0.7 * features() @ noise + rng.standard_normal(yhat.shape)
        return y.astype(np.float32), yhat.astype(np.float32), code.astype(str)

    return draw


def few_clusters(n: int) -> list[Finding]:
    """Find the interval of the mean r of a profile of generalisation; the truth is that of unlimited stimuli."""
    out = []
    shapes = {
        "10 clusters of 10": ([10] * 10, 0.9),
        "20 clusters of 10": ([10] * 20, 0.9),
        "16 clusters of 3 to 18": (list(range(3, 19)), 0.5),
        "100 single stimuli": ([1] * 100, 0.0),
    }
    for shape, (sizes, like) in shapes.items():
        rng = np.random.default_rng([11, len(sizes)])
        draw = clustered(rng, sizes, like)
        # Of the population: of all voxels, with the variances that features of variance 1 give.
        many = [draw() for _ in range(40_000 // sum(sizes))]
        y, yhat = (np.concatenate([one[i] for one in many]) for i in (0, 1))
        truth = float(scoring.correlation(y, yhat).mean())
        covered, naive = [], []
        for run in range(n):
            y, yhat, names = draw()
            clusters = tuple(names) if len(sizes) < len(y) else ()
            facts = mean_scores([Prediction(y, yhat[None], np.zeros(40), clusters=clusters)], None, seed=run)
            covered.append(facts["low"] <= truth <= facts["high"])
            weights = inference.bootstrap_weights(len(y), clusters=names, n_draws=100, seed=run)
            low, high = np.quantile(scoring.weighted_correlation(y, yhat, weights).mean(1), [0.025, 0.975])
            naive.append(low <= truth <= high)
        setting = f"{shape}, 40 voxels that share noise"
        out.append(found("B11", "95 % intervals that hold the mean r", setting, np.array(covered), **COVERS))
        if clusters:
            what = "percentiles of bootstrap draws of clusters that hold it"
            out.append(found("B11", what, setting, np.array(naive), **FAILS_TO_COVER))
    return out


# Noise ceilings


def uneven_repeats(n: int) -> list[Finding]:
    """Estimate ceilings where stimuli with few repeats are noisier; n voxels."""
    out = []
    shapes = {
        "2 or 6 repeats, noise 2 or 1": ([2, 6], [2.0, 1.0]),
        "2, 3 or 5 repeats, noise 2, 1.5 or .8": ([2, 3, 5], [2.0, 1.5, 0.8]),
        "1, 2 or 4 repeats, equal noise": ([1, 2, 4], [1.0, 1.0, 1.0]),
    }
    for shape, (repeated, spread) in shapes.items():
        counts, size = np.resize(repeated, 120), np.resize(spread, 120)
        for ceiling in (0.0, 0.4):
            rng = np.random.default_rng([13, int(10 * ceiling)])
            of_mean = float((size**2 / counts).mean())
            gain = np.sqrt(ceiling / (1 - ceiling) * of_mean)
            repeats = gain * rng.standard_normal((120, n)) + size[:, None] * rng.standard_normal((6, 120, n))
            repeats[np.arange(6)[:, None] >= counts] = np.nan
            estimate = scoring.noise_ceiling(repeats, n_averaged=counts.astype(float))
            low, high = scoring.noise_ceiling_ci(repeats, n_averaged=counts.astype(float))
            setting = f"120 stimuli, {shape}, ceiling {ceiling:g}"
            out.append(found("B13", "bias of the ceiling", setting, estimate - ceiling, least=-0.03, most=0.03))
            covered = (low <= ceiling) & (ceiling <= high)
            out.append(found("B13", "95 % intervals that hold it", setting, covered, **COVERS))
            if len(set(spread)) > 1:
                wrong = pooled_ceiling(repeats, counts) - ceiling
                what = "bias with one noise variance for all stimuli"
                out.append(found("B13", what, setting, wrong, least=0.1, slack=-3, naive=True))
    return out


def pooled_ceiling(repeats: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Estimate the ceiling of means as if the noise of all stimuli had the same variance."""
    within = np.nansum((repeats - np.nanmean(repeats, axis=0)) ** 2, axis=(0, 1)) / (counts - 1).sum()
    return np.asarray(1 - within * np.mean(1 / counts) / np.nanmean(repeats, axis=0).var(0, ddof=1))


# Identification


def by_category(rng: np.random.Generator, n_categories: int, n_images: int) -> np.ndarray:
    """Decode the category of an image, some categories well and others not, and nothing else of it."""
    code = np.repeat(np.arange(n_categories), n_images)
    told = 1.0 + 1.5 * rng.standard_normal(n_categories)
    alike = rng.standard_normal((n_categories, n_categories)) + np.diag(told)
    return np.asarray(alike[code][:, code] + 0.3 * rng.standard_normal((len(code), len(code))))


def near_1(rng: np.random.Generator, n_images: int) -> np.ndarray:
    """Reconstruct well, but for one image in fifteen, of which nothing comes back."""
    good = np.where(rng.random(n_images) < 1 / 15, 0.0, 5.0)
    return np.asarray(rng.standard_normal((n_images, n_images)) + np.diag(good))


def in_pairs(rng: np.random.Generator, n_pairs: int) -> np.ndarray:
    """Reconstruct images that come in pairs, of which each looks like the other and comes back as well."""
    pair = np.repeat(np.arange(n_pairs), 2)
    good = 1.0 + rng.standard_normal(n_pairs)
    alike = rng.standard_normal((n_pairs, n_pairs)) + np.diag(good)
    return np.asarray(alike[pair][:, pair] + 0.05 * rng.standard_normal((len(pair), len(pair))))


IMAGES: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], int]] = {
    "a decoder of the category, 12 new categories of 6": (lambda rng: by_category(rng, 12, 6), 6),
    "a decoder of the category, 20 new categories of 4": (lambda rng: by_category(rng, 20, 4), 4),
    "score near 1, 8 images": (lambda rng: near_1(rng, 8), 1),
    "score near 1, 20 images": (lambda rng: near_1(rng, 20), 1),
    "score near 1, 50 images": (lambda rng: near_1(rng, 50), 1),
    "20 pairs of near-duplicates": (lambda rng: in_pairs(rng, 20), 2),
}
"""What is reconstructed, and how many images are drawn together."""


def identifications(n: int) -> list[Finding]:
    """Find intervals of two-way identification, for images that are drawn anew, their distractors with them."""
    out = []
    for setting, (draw, together) in IMAGES.items():
        rng = np.random.default_rng([14, len(setting)])
        size = len(draw(rng))
        weights = image_weights([str(i // together) for i in range(size)], n_draws=400, seed=0)
        many = [identification(draw(rng)[:, :, None], weights[:1], fixed="original").value for _ in range(1500)]
        truth, covered, naive = float(np.mean(many)), [], []
        drawn = bootstrap_rows(size, n_draws=200, seed=1)
        for _ in range(n):
            similarity = draw(rng)
            low, high = identification(similarity[:, :, None], weights, fixed="original").interval
            covered.append(low <= truth <= high)
            low, high = percentiles(similarity, drawn)
            naive.append(low <= truth <= high)
        covers = {**COVERS, "least": 0.9}
        out.append(found("B14", "95 % intervals of identification that hold it", setting, np.array(covered), **covers))
        if size not in (40, 50):
            what = "percentiles of draws of single images that hold it"
            out.append(found("B14", what, setting, np.array(naive), **FAILS_TO_COVER | {"most": 0.9}))
    return out


def percentiles(similarity: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Find the percentile interval of identification over draws of images with replacement."""
    wins = (np.diag(similarity)[:, None] > similarity) & ~np.eye(len(similarity), dtype=bool)
    counts = np.stack([np.bincount(rows, minlength=len(similarity)) for rows in drawn]).astype(float)
    scores = (counts @ wins.T) / (counts @ ~np.eye(len(similarity), dtype=bool))
    return np.asarray(np.quantile((counts * scores).sum(1) / counts.sum(1), [0.025, 0.975]))


# Learning curves


def curve_of(width: int, n_most: int, own: float, run: int) -> tuple[list[int], np.ndarray]:
    """Measure the mean gain of 20 linear functions of a wide band, with columns of their own or none, at five sizes."""
    rng = np.random.default_rng([12, width, n_most, run])
    sizes, n = [int(size) for size in np.geomspace(n_most / 8, n_most, 5).round()], n_most + 400
    wide, alone = rng.standard_normal((n, width)), rng.standard_normal((n, 20))
    functions = wide @ rng.standard_normal((width, 20)) / width**0.5
    weights = rng.standard_normal((2, 20, 30)) / 20**0.5
    y = np.sqrt(0.5) * functions @ weights[0] + np.sqrt(own) * alone @ weights[1] + rng.standard_normal((n, 30))
    second, curve = np.concatenate([functions, alone], axis=1) if own else functions, []
    for size in sizes:
        scores = []
        for bands in ({"wide": wide, "second": second}, {"wide": wide}):
            model = BandedRidge(selection="gcv").fit({name: x[:size] for name, x in bands.items()}, y[:size])
            predicted = model.predict({name: x[n_most:] for name, x in bands.items()})
            scores.append(scoring.r2(y[n_most:], predicted).mean())
        curve.append(scores[0] - scores[1])
    return sizes, np.array(curve)[:, None]


def learning_curves(n: int) -> list[Finding]:
    """Extrapolate learning curves that have fallen, or have hardly begun to, to a limit of 0 or of what is unique."""
    out = []
    for width, n_most in ((100, 400), (100, 800), (100, 1200)):
        for own in (0.0, 0.3):
            truth, holds, naive = own / 1.8 if own else 0.0, [], []
            for run in range(n):
                with quiet():
                    sizes, curve = curve_of(width, n_most, own, run)
                _, low, high = scoring.asymptote(sizes, curve)
                holds.append(bool(np.isnan(low[0])) or bool(low[0] <= truth <= high[0]))
                naive.append(one_form(sizes, curve[:, 0], truth))
            setting = f"20 functions of {width} columns, limit {truth:.2g}, up to {n_most} stimuli"
            what = "limits whose ends hold the truth, or that are not told"
            out.append(found("B12", what, setting, np.array(holds), least=0.92, slack=3))
            if n_most == 400:
                what = "limits of one form within two standard errors of the truth"
                out.append(found("B12", what, setting, np.array(naive), **FAILS_TO_COVER))
    return out


def one_form(sizes: list[int], curve: np.ndarray, truth: float) -> bool:
    """Tell whether a + b / (n + n0), fitted with its best n0, is within two standard errors of the truth."""
    fits = []
    for shift in np.linspace(0, max(sizes) / 2, 65):
        x = np.stack([np.ones(len(sizes)), 1 / (np.array(sizes) + shift)], axis=1)
        (a, _), rest = np.linalg.lstsq(x, curve, rcond=None)[:2]
        fits.append((float(rest[0]), a, float(np.sqrt(rest[0] / (len(sizes) - 2) * np.linalg.inv(x.T @ x)[0, 0]))))
    _, a, error = min(fits)
    return bool(abs(a - truth) <= 2 * error)


# Corrections and similarity of maps that vary smoothly


def storey_of_shared_noise(n: int) -> list[Finding]:
    """Correct maps whose voxels share half of their noise; 10 % are active."""
    rng, active = np.random.default_rng(15), np.arange(500) < 50
    proportions: dict[str, list[float]] = {"bh": [], "by": [], "storey": []}
    for _ in range(n):
        noise = (rng.standard_normal() + rng.standard_normal(500)) / 2**0.5
        p = stats.norm.sf(noise + 3 * active)
        for method, each in proportions.items():
            each.append(fdp(inference.fdr(p, method=method).rejected, active))
    setting = "500 voxels that share half of their noise, 10 % active at z + 3"
    what = "false discovery proportion, mean"
    return [
        found("B15", f"{what}, BH", setting, proportions["bh"], **HELD),
        found("B15", f"{what}, BY", setting, proportions["by"], **HELD),
        found("B15", f"{what}, Storey", setting, proportions["storey"], **BROKEN),
    ]


def smooth_maps(n: int) -> list[Finding]:
    """Correlate unrelated maps over a cube of voxels; the naive way draws cubes of six voxels' edge."""
    out, edge = [], 24
    places = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cube = np.unique(places // 6, axis=0, return_inverse=True)[1].ravel()
    for sigma in (0, 1, 2, 3):
        rng, wrong, naive = np.random.default_rng([16, sigma]), [], []
        for run in range(n):
            maps = rng.standard_normal((2, edge, edge, edge))
            maps = ndimage.gaussian_filter(maps, (0, sigma, sigma, sigma)) if sigma else maps
            x, y = maps.reshape(2, -1)
            _, low, high = inference.map_similarity(np.stack([x, y]), places.astype(float), seed=run)[:, 0, 1]
            wrong.append(bool(low > 0 or high < 0))
            x, y = x - x.mean(), y - y.mean()
            sums = np.stack([np.bincount(cube, one) for one in (x * y, x * x, y * y)])
            drawn = sums @ np.stack([np.bincount(r, minlength=64) for r in bootstrap_rows(64, n_draws=200, seed=run)]).T
            ends = np.quantile(drawn[0] / np.sqrt(drawn[1] * drawn[2]), [0.025, 0.975])
            naive.append(bool(ends[0] > 0 or ends[1] < 0))
        setting = f"{edge**3} voxels, smoothness {sigma}"
        most = {"most": 0.07, "slack": 3.0}
        out.append(found("B15", "95 % intervals of unrelated maps without 0", setting, np.array(wrong), **most))
        if sigma == 3:
            what = "percentiles of draws of cubes without 0"
            out.append(found("B15", what, setting, np.array(naive), **BROKEN | {"slack": -1.0}))
    return out


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "silent_voxels": (silent_voxels, 40, 400),
    "few_clusters": (few_clusters, 60, 600),
    "storey_of_shared_noise": (storey_of_shared_noise, 1500, 15_000),
    "smooth_maps": (smooth_maps, 8, 120),
    "learning_curves": (learning_curves, 3, 8),
    "identifications": (identifications, 100, 600),
    "uneven_repeats": (uneven_repeats, 1000, 10_000),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
