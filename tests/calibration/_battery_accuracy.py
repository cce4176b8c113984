"""Part of the battery: ceilings and corrected R² are unbiased whatever the width of a band.

Plain functions, as in `_battery.py`; `test_accuracy.py` asserts them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from _battery import Finding, found, quiet

from latentcortex import BandedRidge, scoring


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


BATTERY: dict[str, tuple[Callable[[int], list[Finding]], int, int]] = {
    "ceilings": (ceilings, 1000, 10_000),
    "widths": (widths, 10, 100),
    "misaligned": (misaligned, 3, 30),
}
"""Every part: its function, and how many runs it has by default and in the full form."""
