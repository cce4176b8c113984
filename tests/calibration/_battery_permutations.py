"""Part of the battery: permutations, of time series and of the whole pipeline, hold their rate where they are enough.

Plain functions, as in `_battery.py`; `test_permutations.py` asserts them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from _battery import BROKEN, HELD, Finding, fdp, found, quiet, recording
from scipy import signal, stats

from latentcortex import BandedRidge, Encoder, Features, Maps, inference, scoring

AR = (0.0, 0.3, 0.56, 0.8)
"""Autocorrelations of neighbouring rows; .56 is that of a real recording."""


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


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "stretches": (stretches, 8, 120),
    "permutation_p": (permutation_p, 4000, 40_000),
    "whole_pipeline": (whole_pipeline, 20, 200),
    "too_few_permutations": (too_few_permutations, 1, 1),
    "enough_permutations": (enough_permutations, 1, 1),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
