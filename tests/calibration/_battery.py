"""Battery of calibration: rates on nulls of every kind, and whether what is planted comes back.

Plain functions that simulate, measure and return findings. `test_calibration.py` asserts them, a few runs of each by
default and ten times as many nightly; `benchmarks/calibration.py` writes them down. Where a naive way must fail, that
it does is a finding, too: else the measurement sees nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import ndimage, signal, stats
from statsmodels.stats.multitest import multipletests

from latentcortex import BandedRidge, Encoder, Features, Maps, Responses, extractors, inference, scoring
from latentcortex.datasets.folder import Folder
from latentcortex.encoding import Folds, Null
from latentcortex.extraction import extract
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

EDGE = 12
N_VOXELS = EDGE**3
SMOOTHNESS = (0, 1, 2, 4)
"""Standard deviations of a Gaussian kernel, in voxels."""
AR = (0.0, 0.3, 0.56, 0.8)
"""Autocorrelations of neighbouring rows; .56 is that of a real recording."""


@dataclass(frozen=True)
class Finding:
    """A measured number, and between which bounds it must lie.

    Parameters
    ----------
    number : str
        Of the test in the battery.
    what, setting : str
    measured : float
    error : float
        Its standard error; nan where it has none.
    n : int
        Runs, maps or voxels behind it.
    least, most : float
        Bounds; infinite where there is none.
    slack : float
        Standard errors by which it may pass a bound; below 0 it must be clear of the bound by so many.
    naive : bool
        Whether it is of a way that must fail, without which the measurement would see nothing.
    """

    number: str
    what: str
    setting: str
    measured: float
    error: float
    n: int
    least: float = -np.inf
    most: float = np.inf
    slack: float = 0
    naive: bool = False

    @property
    def passed(self) -> bool:
        """Whether it lies between the bounds."""
        reach = self.slack * self.error if self.slack else 0.0
        return bool(self.least - reach <= self.measured <= self.most + reach)

    @property
    def target(self) -> str:
        """The bounds in words."""
        errors = f" {abs(self.slack):g} SE" if self.slack else ""
        inwards = self.slack < 0
        if self.least == self.most:
            words = f"{self.least:g}{' ±' * bool(errors)}{errors}"
        elif np.isinf(self.least):
            words = f"≤ {self.most:g}{(' −' if inwards else ' +') * bool(errors)}{errors}"
        elif np.isinf(self.most):
            words = f"≥ {self.least:g}{(' +' if inwards else ' −') * bool(errors)}{errors}"
        else:
            words = f"{self.least:g} to {self.most:g}{' ±' * bool(errors)}{errors}"
        return f"{words} (must fail)" if self.naive else words

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.number} {self.what}, {self.setting}: {self.measured:.4g} (SE {self.error:.2g}, n {self.n}); "
            f"{self.target}"
        )


def found(number: str, what: str, setting: str, values: Any, **bounds: Any) -> Finding:
    """Average what each run gave; where a rate may pass its bound by standard errors, they are those at the bound."""
    each = np.asarray(values)
    if each.dtype == bool:
        rate = bounds.get("most", bounds.get("least")) if bounds.get("slack") else each.mean()
        error = np.sqrt(rate * (1 - rate) / each.size)
    else:
        error = each.std(ddof=1) / np.sqrt(each.size) if each.size > 1 else np.nan
    return Finding(number, what, setting, float(each.mean()), float(error), each.size, **bounds)


HELD: dict[str, Any] = {"most": 0.05, "slack": 3.0}
"""A rate of 5 %."""
BROKEN: dict[str, Any] = {"least": 0.05, "slack": -3.0, "naive": True}
"""A rate that must be seen to be above 5 %."""


def bh(p: np.ndarray, q: float) -> np.ndarray:
    """Reject by Benjamini and Hochberg's procedure as they wrote it."""
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), dtype=bool)
    if len(below):
        rejected = p <= p[order][below[-1]]
    return rejected


def fdp(rejected: np.ndarray, active: np.ndarray) -> float:
    """Compute the fraction of the rejections that are false; 0 where there is none."""
    return float((rejected & ~active).sum() / max(rejected.sum(), 1))


def recording(data: np.ndarray) -> Responses:
    """Make responses of one row per stimulus."""
    n = len(data)
    ids = [f"t{i:05d}" for i in range(n)]
    return Responses.single_trials(
        data.astype(np.float32), Unlocated(data.shape[1]), stimulus=ids, session=["1"] * n, run=["1"] * n
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Do not write that noise takes the largest penalty."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


# Families of tests


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


# Permutations


def autocorrelated(rng: np.random.Generator, n: int, n_columns: int, ar: float) -> np.ndarray:
    return np.asarray(signal.lfilter([1], [1, -ar], rng.standard_normal((n + 100, n_columns)), axis=0)[100:])


def exchanged_series(run: int, ar: float) -> dict[str, float]:
    """Permute 1,000 rows of 50 time series, predictions as slow as responses: how many have p <= .05 by each way."""
    rng = np.random.default_rng([4, run])
    y, yhat = autocorrelated(rng, 1000, 50, ar), autocorrelated(rng, 1000, 50, ar)
    r, length = scoring.correlation(y, yhat), inference.block_length(y)
    ways: dict[str, dict[str, Any]] = {
        "stretches": {"block": length},
        "circular shifts": {"shift": True, "block": min(length, 100)},
        "single rows": {},
    }
    rates = {}
    for name, options in ways.items():
        # Voxels of one run share their permutations, and every run has its own.
        orders = inference.exchange(1000, n_permutations=99, seed=run, **options)
        null = np.stack([scoring.correlation(y[order], yhat) for order in orders])
        rates[name] = float((inference.permutation_p(r, null) <= 0.05).mean())
    return rates


def stretches(n: int) -> list[Finding]:
    """Permute time series in stretches as long as these say, around a circle, and row by row."""
    out = []
    for ar in AR:
        runs, setting = [exchanged_series(run, ar) for run in range(n)], f"1,000 rows, AR(1) {ar:g}"
        for name in runs[0]:
            values = [rates[name] for rates in runs]
            if name != "single rows":
                out.append(found("A7", f"voxels of p ≤ .05 by {name}", setting, values, **HELD))
            elif ar >= 0.56:
                out.append(found("A8", f"voxels of p ≤ .05 by {name}", setting, values, **BROKEN))
    return out


def permutation_p(n: int) -> list[Finding]:
    """Count permutations with the +1 rule, and without."""
    rng = np.random.default_rng(5)
    p = inference.permutation_p(rng.standard_normal(n), rng.standard_normal((199, n)))
    uniform = float(stats.kstest(p - rng.random(n) / 200, "uniform").pvalue)
    setting = "199 permutations of nothing"
    naive = np.isclose(p * 200, 1)
    return [
        Finding("A13", "smallest p", setting, float(p.min()), np.nan, n, least=1 / 200, most=1 / 200),
        Finding("A13", "p of a Kolmogorov-Smirnov test of uniform p", setting, uniform, np.nan, n, least=0.001),
        found("A13", "voxels whose p would be 0 without the + 1", setting, naive, least=1 / n, naive=True),
    ]


def sparse_maps(run: int, n_permutations: int, *, strength: float = 0.6) -> tuple[np.ndarray, np.ndarray, Maps]:
    """Run the whole pipeline where 40 of 400 voxels are driven: rejected, active, and the maps."""
    rng = np.random.default_rng(run)
    x, y = rng.standard_normal((300, 20)), rng.standard_normal((300, 400))
    driven = x @ rng.standard_normal((20, 40))
    y[:, :40] += strength * driven / driven.std(0)
    responses = recording(y)
    features = Features.from_arrays(responses.ids, {"x": x})
    train, test = responses.split(test_ids=responses.ids[200:], zscore="none")
    encoder = Encoder(BandedRidge(seed=0)).fit(features, train)
    maps = encoder.score(features, test, null="permutation", n_permutations=n_permutations)
    return maps.values(statistic="mask") == 1, np.arange(400) < 40, maps


def whole_pipeline(n: int) -> list[Finding]:
    """Fit, predict, permute, correct."""
    out = []
    with quiet():
        for n_permutations in (1000, 200):
            runs = [sparse_maps(run, n_permutations)[:2] for run in range(n)]
            setting = f"40 of 400 voxels driven, 200 + 100 stimuli, {n_permutations} permutations"
            if n_permutations == 1000:
                rates = [fdp(*run) for run in runs]
                out.append(found("A9", "false discovery proportion of the whole pipeline", setting, rates, **HELD))
            power = [rejected[active].mean() for rejected, active in runs]
            enough = {"least": 0.9} if n_permutations == 1000 else {"most": 0.9, "naive": True}
            out.append(found("A9", "driven voxels that it finds", setting, power, **enough))
    return out


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def permutations_asked_for(n_permutations: int) -> int | None:
    """Run the pipeline with so many permutations; how many its warning asks for, or None."""
    heard, logger = _Heard(), logging.getLogger("latentcortex")
    logger.addHandler(heard)
    try:
        sparse_maps(0, n_permutations, strength=1.0)
    finally:
        logger.removeHandler(heard)
    asked = [record.args for record in heard.records if "permutations are too few" in record.msg]
    return int(asked[0][-1]) if asked and isinstance(asked[0], tuple) else None


def too_few_permutations(n: int) -> list[Finding]:
    """Ask what is told where BH cannot reject; `n` is not used."""
    del n
    out = []
    for n_permutations in (19, 99):
        setting = f"40 of 400 voxels strongly driven, {n_permutations} permutations"
        with quiet():
            rejected, _, _ = sparse_maps(0, n_permutations, strength=1.0)
        asked = permutations_asked_for(n_permutations)
        warned = Finding("A14", "a warning names a number", setting, float(asked is not None), np.nan, 1, least=1)
        out += [Finding("A14", "voxels found", setting, float(rejected.sum()), np.nan, 1, most=0), warned]
    return out


def enough_permutations(n: int) -> list[Finding]:
    """Take as many permutations as the warning asks for; `n` is not used."""
    del n
    out = []
    for n_permutations in (19, 99):
        asked = permutations_asked_for(n_permutations) or n_permutations
        with quiet():
            rejected, active, _ = sparse_maps(0, asked, strength=1.0)
        setting = f"40 of 400 voxels strongly driven, {asked} permutations, which the warning at {n_permutations} names"
        power = float(rejected[active].mean())
        out.append(Finding("A14", "driven voxels found", setting, power, np.nan, 1, least=0.9))
    return out


# Repeats


def leaked(run: int) -> dict[str, float]:
    """Give 60 stimuli, each shown four times, the features of others: median r over voxels of each way to split."""
    rng = np.random.default_rng(run)
    x = rng.standard_normal((60, 400)).astype(np.float32)
    stimulus = rng.permutation(np.repeat(np.arange(60), 4))
    own = rng.standard_normal((60, 100))
    data = (own[stimulus] + rng.standard_normal((240, 100))).astype(np.float32)
    x = x[rng.permutation(60)]
    alike = {"session": ["1"] * 240, "run": ["1"] * 240}
    names = [f"s{i:02d}" for i in stimulus]
    shown = Responses.single_trials(data, Unlocated(100), stimulus=names, **alike)
    trials = [f"t{i:03d}" for i in range(240)]
    single = Responses.single_trials(data, Unlocated(100), stimulus=trials, **alike)
    by_stimulus = Features.from_arrays(sorted(set(names)), {"x": x})
    by_trial = Features.from_arrays(trials, {"x": x[stimulus]})
    ways = {
        "default": (by_stimulus, shown, Splits.k_fold(shown.ids, 5, seed=0)),
        "grouped trials": (by_trial, single, Splits.k_fold(trials, 5, groups=names, seed=0)),
        "single trials": (by_trial, single, Splits.k_fold(trials, 5, seed=0)),
    }
    encoder = Encoder(BandedRidge(seed=0))
    return {
        name: float(np.nanmedian(encoder.cross_validate(*way, zscore="none", n_permutations=1).values(statistic="r")))
        for name, way in ways.items()
    }


def repeats(n: int) -> list[Finding]:
    """Cross-validate repeated stimuli whose identity is permuted."""
    with quiet():
        runs = [leaked(run) for run in range(n)]
    setting = "60 stimuli shown 4 times, identity permuted, 5 folds"
    out = [
        found("A12", f"median r, folds of {what}", setting, [run[name] for run in runs], most=0.05)
        for name, what in (("default", "stimuli, the default"), ("grouped trials", "trials grouped by stimulus"))
    ]
    naive = [run["single trials"] for run in runs]
    return [*out, found("A12", "median r, folds of single trials", setting, naive, least=0.2, naive=True)]


# Shares


def noise_band(n: int) -> list[Finding]:
    """Test the unique share of a band of noise beside a band that drives all voxels, as it is and 1,000 times it."""
    rates: dict[float, list[float]] = {1.0: [], 1000.0: []}
    apart = []
    for run in range(n):
        rng = np.random.default_rng(run)
        x, noise = rng.standard_normal((2, 450, 40))
        y = x @ rng.standard_normal((40, 200)) / 40**0.5 + 1.5 * rng.standard_normal((450, 200))
        responses, shares = recording(y), []
        train, test = responses.split(test_ids=responses.ids[300:], zscore="none")
        for factor, hits in rates.items():
            features = Features.from_arrays(responses.ids, {"x": x, "noise": factor * noise})
            encoder = Encoder(BandedRidge(seed=0)).fit(features, train)
            maps = encoder.score(features, test, shares=("unique",), identifiability=False)
            hits.append(float((maps.values(statistic="uniqueP", band="noise") <= 0.05).mean()))
            shares.append(maps.values(statistic="uniqueR2", band="noise"))
        apart.append(float(np.abs(shares[0] - shares[1]).max()))
    setting = "two bands of 40 columns, 300 + 150 stimuli, the second noise"
    return [
        found("A15", "voxels whose unique share has p ≤ .05", setting, rates[1.0], most=0.055),
        found("A15", "voxels whose unique share has p ≤ .05", f"{setting} × 1,000", rates[1000.0], most=0.055),
        Finding("A15", "largest change of a unique share by the factor", setting, max(apart), np.nan, n, most=1e-4),
    ]


Draw = Callable[[int], tuple[dict[str, np.ndarray], np.ndarray]]
"""Number of stimuli -> their bands `a` and `b`, and each voxel's signal."""
NOISE = 1.5
"""Standard deviation of the noise, where a voxel's signal has variance 1."""
N_SHARED = 200
"""Voxels of a run."""


def fixture(kind: str, widths: tuple[int, int], rng: np.random.Generator) -> Draw:
    """Plant two bands; the weights stay the same from draw to draw."""
    n_a, n_b = widths
    wa, wb = (rng.standard_normal((n, N_SHARED)) / n**0.5 for n in widths)
    mixing = rng.standard_normal(widths) / n_a**0.5
    paired = min(widths)

    def draw(n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        a, other = rng.standard_normal((n, n_a)), rng.standard_normal((n, n_b))
        if kind == "noise":
            return {"a": a, "b": other}, a @ wa
        if kind == "nothing is driven":
            return {"a": a, "b": other}, np.zeros((n, N_SHARED))
        if kind == "redundant":
            return {"a": a, "b": a @ mixing + 0.1 * other}, a @ wa
        if kind == "linear functions":
            return {"a": a, "b": a @ mixing}, a @ wa
        if kind == "copy":
            return {"a": a, "b": a.copy()}, a @ wa
        if kind == "known suppressor":  # what disturbs the first band is among its columns already
            return {"a": np.hstack([a, other]), "b": other}, a @ wa
        if kind == "suppressor":  # alone the second band explains nothing
            disturbance = np.zeros((n, n_a))
            disturbance[:, :paired] = other[:, :paired]
            return {"a": a + disturbance, "b": other}, a @ wa
        if kind == "equal shares":
            other[:, :paired] = 0.5 * a[:, :paired] + np.sqrt(0.75) * other[:, :paired]
            return {"a": a, "b": other}, a @ wa + other @ wb
        if kind == "functions that drive":
            return {"a": a, "b": a @ mixing}, a @ mixing @ wb
        raise ValueError(kind)

    return draw


@dataclass(frozen=True)
class Tested:
    """What the test of one band gives in one run.

    Parameters
    ----------
    rate : float
        Voxels of p <= .05.
    rate_of_null : float
        Of the voxels that these two fitted models predict no better with the band than without it; nan without any.
    gain : float
        Mean true gain of these fitted models over voxels, as a fraction of the variance.
    """

    rate: float
    rate_of_null: float
    gain: float


def tested(kind: str, widths: tuple[int, int], n_fit: int, n_test: int, run: int) -> Tested:
    """Fit with and without the second band, test its gain, and find the true one without noise on more stimuli."""
    rng = np.random.default_rng(run)
    bands, signal_part = fixture(kind, widths, rng)(n_fit + n_test + 1000)
    fit, new, more = slice(n_fit), slice(n_fit, None), slice(n_test, None)
    y = signal_part + NOISE * rng.standard_normal(signal_part.shape)
    model = BandedRidge(selection="gcv").fit({name: x[fit] for name, x in bands.items()}, y[fit])
    without = model.nested([["a"]])[("a",)].predict({"a": bands["a"][new]})
    full = model.predict({name: x[new] for name, x in bands.items()})
    p = inference.share_p(y[new][:n_test], full[:n_test], without[:n_test], n_permutations=999, seed=0)
    truth = signal_part[new][more]
    gain = (((truth - without[more]) ** 2).mean(0) - ((truth - full[more]) ** 2).mean(0)) / (1 + NOISE**2)
    hits, null = p <= 0.05, gain <= 0
    return Tested(float(hits.mean()), float(hits[null].mean()) if null.any() else np.nan, float(gain.mean()))


LARGE, SMALL = (600, 300), (200, 100)
"""Stimuli that are fitted and tested: more than columns, and fewer."""
MORE_THAN_COLUMNS = ((10, 10), (40, 40), (20, 200), (200, 20))
FEWER_THAN_COLUMNS = ((400, 20), (20, 400), (400, 400))
Setting = tuple[str, tuple[int, int], tuple[int, int]]

NULLS: Sequence[Setting] = [
    (kind, widths, sizes)
    for kind in ("noise", "nothing is driven", "redundant", "known suppressor", "linear functions")
    for sizes, some in ((LARGE, MORE_THAN_COLUMNS), (SMALL, FEWER_THAN_COLUMNS))
    for widths in some
] + [("copy", (40, 40), LARGE)]
"""Fixtures whose second band is expected to add nothing to predictions."""

MISSED: dict[Setting, str] = {
    ("linear functions", (10, 10), LARGE): "fast",
    ("linear functions", (20, 200), LARGE): "fast",
    ("linear functions", (200, 20), LARGE): "full",
    **{("nothing is driven", some, LARGE): "full" for some in MORE_THAN_COLUMNS},
}
"""Those in which more than 5 % of all voxels have p <= .05, and the form that has runs enough to see it.

The second band changes next to nothing there, so that what the two fitted models differ by is the luck of their fit,
which a test over test stimuli alone does not see. Of the voxels whose fitted models truly
gain nothing, 5 % at most have p <= .05 in these, too."""

GAINS: Sequence[Setting] = [
    ("suppressor", (10, 10), LARGE),
    ("equal shares", (10, 10), LARGE),
    ("equal shares", (40, 40), LARGE),
    ("equal shares", (200, 20), LARGE),
    ("functions that drive", (400, 20), (400, 200)),
]
"""Fixtures whose second band adds to predictions; in the last although nothing of it is unique, as stimuli are few."""


def described(setting: Setting) -> str:
    kind, widths, (n_fit, n_test) = setting
    return f"{kind}, {widths[0]} and {widths[1]} columns, {n_fit} + {n_test} stimuli"


def null_share(setting: Setting, n: int) -> list[Finding]:
    """Test a band that is expected to add nothing, over many fits."""
    kind, widths, sizes = setting
    with quiet():
        runs = [tested(kind, widths, *sizes, run) for run in range(n)]
    gains = [run.gain for run in runs]
    gain = found("share", "true gain, mean over fits", described(setting), gains, most=0.0, slack=3)
    of_null = [run.rate_of_null for run in runs if np.isfinite(run.rate_of_null)]
    return [
        gain,
        found("share", "voxels of p ≤ .05", described(setting), [run.rate for run in runs], **HELD),
        found("share", "voxels of p ≤ .05, of those whose fits gain nothing", described(setting), of_null, **HELD),
    ]


def null_shares(n: int) -> list[Finding]:
    """Test bands that are expected to add nothing."""
    return [one for setting in NULLS for one in null_share(setting, n)]


def gaining_shares(n: int) -> list[Finding]:
    """Test bands that add to predictions."""
    out = []
    with quiet():
        for kind, widths, sizes in GAINS:
            runs = [tested(kind, widths, *sizes, run) for run in range(n)]
            setting = described((kind, widths, sizes))
            rates = [one.rate for one in runs]
            out.append(found("share", "voxels of p ≤ .05 where the band adds", setting, rates, least=0.85))
    return out


def lesioned_share(n: int) -> list[Finding]:
    """Test a redundant band by zeroing its part of the joint prediction, as is often done."""
    rates = []
    for run in range(n):
        rng = np.random.default_rng(run)
        bands, signal_part = fixture("redundant", (40, 40), rng)(900)
        y = signal_part + NOISE * rng.standard_normal(signal_part.shape)
        with quiet():
            model = BandedRidge(selection="gcv").fit({name: x[:600] for name, x in bands.items()}, y[:600])
        split = model.predict({name: x[600:] for name, x in bands.items()}, split=True)
        full, zeroed = split.sum(0) + model.offset_, split[0] + model.offset_
        rates.append(float((inference.share_p(y[600:], full, zeroed, n_permutations=999, seed=0) <= 0.05).mean()))
    setting = described(("redundant", (40, 40), LARGE))
    return [found("share", "voxels of p ≤ .05, its columns zeroed without a refit", setting, rates, **BROKEN)]


# Ceilings and width


def ceilings(n: int) -> list[Finding]:
    """Estimate ceilings of 100 stimuli with three repeats; r is that of a single trial with the truth."""
    out = []
    for r in (0.0, 0.2, 0.5, 0.8):
        rng = np.random.default_rng([7, int(10 * r)])
        repeated = r * rng.standard_normal((100, n)) + np.sqrt(1 - r**2) * rng.standard_normal((3, 100, n))
        planted = r**2 / (r**2 + (1 - r**2) / 3)
        setting = f"r {r:g}, 100 stimuli, 3 repeats"
        estimate = scoring.noise_ceiling(repeated, n_averaged=3)
        out.append(found("A16", "bias of the ceiling", setting, estimate - planted, least=-0.02, most=0.02))
        low, high = scoring.noise_ceiling_ci(repeated, n_averaged=3)
        covered = (low <= planted) & (planted <= high)
        what = "95 % intervals that hold the planted ceiling"
        out.append(found("A16", what, setting, covered, least=0.92, most=0.98))
        if r == 0:
            clipped = np.maximum(estimate, 0)
            out.append(found("A16", "bias of the ceiling, clipped at 0", setting, clipped, least=0.04, naive=True))
    return out


def wide_band(width: int, run: int, *, decay: float = 0.0, columns: slice = slice(None)) -> tuple[float, float, float]:
    """Predict from one band that explains .2: mean R², mean corrected R², and the ratio of `alignment`.

    The spectrum of the columns falls as rank to the -decay; some of them, all by default, drive the responses.
    """
    rng = np.random.default_rng([width, run])
    x = rng.standard_normal((900, width)) / np.sqrt(1 + np.arange(width)) ** decay
    own = x[:, columns]
    driven = own @ rng.standard_normal((own.shape[1], 80))
    y = driven / driven.std(0) + 2 * rng.standard_normal((900, 80))
    x = x - x[:700].mean(0)
    x = x / np.sqrt((x[:700] ** 2).sum(1).mean())
    gram, across = x[:700] @ x[:700].T, x[700:] @ x[:700].T
    model = BandedRidge(selection="gcv").fit_gram({"x": gram}, y[:700])
    score = scoring.r2(y[700:], model.predict_gram({"x": across})[0] + model.intercept_)
    corrected = scoring.corrected_r2(score, gram, across, model.alphas_)
    first, others = scoring.alignment(y[:700], gram).mean(1)
    return float(score.mean()), float(np.nanmean(corrected)), float(others / first)


def widths(n: int) -> list[Finding]:
    """Correct R² of bands of 50 to 2,000 columns that explain as much."""
    out, all_corrected, observed = [], {}, {}
    with quiet():
        for width in (50, 200, 800, 2000):
            score, corrected, aligned = np.array([wide_band(width, run) for run in range(n)]).T
            setting = f"{width} columns that explain .2, 700 + 200 stimuli"
            out.append(found("width", "corrected R²", setting, corrected, least=0.19, most=0.21))
            out.append(found("width", "alignment, others to first", setting, aligned, least=0.7, most=1.5))
            all_corrected[width], observed[width] = corrected, score.mean()
            if width > 50:
                less, what = corrected - all_corrected[50], "corrected R² less that of 50 columns"
                out.append(found("width", what, setting, less, least=0, most=0, slack=3))
    ratio = float(observed[2000] / observed[50])
    what, setting = "observed R² of 2,000 columns relative to 50", "both explain .2, 700 + 200 stimuli"
    return [*out, Finding("width", what, setting, ratio, np.nan, n, most=0.3, naive=True)]


def misaligned(n: int) -> list[Finding]:
    """Look at bands of which only the smallest or the largest directions drive the responses."""
    out = []
    with quiet():
        for name, columns, bounds in (
            ("smallest half", slice(100, None), {"least": 3.0}),
            ("five largest", slice(5), {"most": 0.5}),
        ):
            _, corrected, aligned = np.array([wide_band(200, run, decay=1.0, columns=columns) for run in range(n)]).T
            setting = f"the {name} of 200 columns drive, falling spectrum"
            out.append(found("width", "alignment, others to first", setting, aligned, **bounds))
            wrong = np.abs(corrected - 0.2)
            out.append(found("width", "error of the corrected R²", setting, wrong, least=0.02, naive=True))
    return out


# A real recording


def pixel_shuffles(root: Path, n: int, *, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Predict every so many voxels of digits69 from pixels over 10 folds: r, and r of n shuffles of the stimuli."""
    folder = Folder(str(root))
    with TemporaryDirectory() as store:
        features = extract(folder.stimuli(), extractors.make("pixels"), store=Path(store), progress=False)
        features = Features.from_arrays(features.ids, {"pixels": features.array("pixels", features.ids)})
    responses = folder.responses("01")
    responses = responses.select_voxels(np.arange(responses.space.n_voxels) % every == 0)
    splits = Splits.k_fold(responses.ids, 10, seed=0)
    folds = Folds.of(features, responses, splits, "session")
    estimator = BandedRidge(seed=0)
    r = folds.predict(estimator, np.arange(len(splits.ids))).r
    return r, Encoder(estimator).null(folds, Null("permutation", n, 1))


def digits(root: Path, n: int, *, every: int = 1) -> list[Finding]:
    """Find voxels by permutation, and test each shuffle against the others: 100 stimuli, one trial each."""
    with quiet():
        r, null = pixel_shuffles(root, n, every=every)
    setting = f"{len(r)} voxels of V1-V3, pixels, 10 folds, {n} shuffles"

    def by_bh(p: np.ndarray) -> np.ndarray:
        return inference.fdr(p).rejected

    pairs = [(null[i], np.delete(null, i, axis=0)) for i in range(n)]
    ways = {
        "BH of permutation p": ([by_bh(inference.permutation_p(*pair)) for pair in pairs], {"most": 0.083}),
        "max-T": ([inference.max_t(*pair) <= 0.05 for pair in pairs], {"most": 0.083}),
        "BH of a parametric p": (
            [by_bh(inference.correlation_p(one, 100)) for one in null],
            {"least": 0.5, "naive": True},
        ),
        "BH of a two-sided one": (
            [by_bh(inference.correlation_p(one, 100, "two-sided")) for one in null],
            {"least": 0.95, "naive": True},
        ),
    }
    n_found = int(by_bh(inference.permutation_p(r, null)).sum())
    out = [Finding("A11", "voxels that pass BH of permutation p", setting, n_found, np.nan, 1, least=750 // every)]
    for name, (passing, bounds) in ways.items():
        any_found = np.array([one.any() for one in passing])
        out.append(found("A10", f"shuffles in which anything passes {name}", setting, any_found, **bounds))
    return out


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "bh_of_others": (bh_of_others, 200, 2000),
    "empty_maps": (empty_maps, 400, 4000),
    "active_maps": (active_maps, 400, 4000),
    "pooled_maps": (pooled_maps, 200, 2000),
    "chosen_maps": (chosen_maps, 60, 600),
    "stretches": (stretches, 8, 120),
    "permutation_p": (permutation_p, 4000, 40_000),
    "whole_pipeline": (whole_pipeline, 20, 200),
    "too_few_permutations": (too_few_permutations, 1, 1),
    "enough_permutations": (enough_permutations, 1, 1),
    "repeats": (repeats, 5, 50),
    "noise_band": (noise_band, 3, 30),
    "null_shares": (null_shares, 8, 100),
    "gaining_shares": (gaining_shares, 2, 20),
    "lesioned_share": (lesioned_share, 3, 30),
    "ceilings": (ceilings, 1000, 10_000),
    "widths": (widths, 10, 100),
    "misaligned": (misaligned, 3, 30),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
