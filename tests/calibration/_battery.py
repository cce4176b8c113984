"""Battery of calibration: rates on nulls of every kind, and whether what is planted comes back.

Plain functions that simulate, measure and return findings. Repeats, shares and a recording are here, other parts in
`_battery_*.py`. `test_calibration.py` asserts them, a few runs of each by default and ten times as many nightly;
`benchmarks/calibration.py` writes them down. Where a naive way must fail, that
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
from _permutations import permuted_r

from latentcortex import BandedRidge, Encoder, Features, Responses, extractors, inference
from latentcortex.datasets.folder import Folder
from latentcortex.encoding import Folds, Null
from latentcortex.extraction import extract
from latentcortex.space import Unlocated
from latentcortex.splits import Splits


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
    return r, permuted_r(estimator, features, responses, splits, "session", Null("permutation", n, 1))


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
    "repeats": (repeats, 5, 50),
    "noise_band": (noise_band, 3, 30),
    "null_shares": (null_shares, 8, 100),
    "gaining_shares": (gaining_shares, 2, 20),
    "lesioned_share": (lesioned_share, 3, 30),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
