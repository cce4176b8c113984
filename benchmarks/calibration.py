"""Do the statistics hold their rates, and does what is planted come back? One table of all that the battery measures.

    python benchmarks/calibration.py --out docs/calibration.md
    python benchmarks/calibration.py --quick
    python benchmarks/calibration.py --only ceilings widths

Nothing is simulated here: it runs the functions that the tests assert, `tests/calibration/_battery*.py` with as many
runs as their nightly form and the time series of `tests/encoding/test_criterion.py`, and writes down each number beside
its target. Limit cores with taskset. All draws are seeded, so that the same versions give the same numbers.

- target: what the number must keep to. SE is its standard error: of a rate of yes and no that at the target, else that
  over runs. "must fail" is the target of a naive way, measured so that one sees what the measurement can see.
- n: what the number is a mean of, mostly runs, maps or voxels.
- passed: a "no" is a miss. Known ones are expected by the tests, and what is known of them stands beside `MISSED` in
  the battery. A bound at three standard errors is missed by chance by one number in 700.

Real recordings are measured where they lie beside the checkout, and their rows are missing where they do not. `--quick`
takes as many runs as the tests do by default. Progress is printed to stderr. With `--keep FOLDER` a run that was
stopped goes on, and several that each measure `--only` some parts, side by side, are put together by one more.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from latentcortex._arrays import digest
from latentcortex.executors import n_cores

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT.parent / "shared" / "data" / "digits69"
VERSIONS = ("latentcortex", "numpy", "scipy", "scikit-learn", "statsmodels")


TESTS = ROOT / "tests"  # which is no package
sys.path[:0] = [str(TESTS), str(TESTS / "calibration"), str(TESTS / "encoding")]
ROOMS = [import_module(path.stem) for path in sorted((TESTS / "calibration").glob("_battery*.py"))]
"""The battery, by what its parts are about."""
battery, criterion = import_module("_battery"), import_module("test_criterion")
Part = Callable[[int], list[Any]]


def rates(ar: float, n: int, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """Run the whole pipeline on time series that have nothing to do with their features.

    Returns
    -------
    rate : ndarray of shape (n,)
        Voxels of p <= .05.
    any_found : ndarray of bool, shape (n,)
    """
    maps = [criterion.null_maps(run, ar, **how) for run in range(n)]
    rate = np.array([(one.values(statistic="p") <= 0.05).mean() for one in maps])
    return rate, np.array([bool(one.values(statistic="mask").any()) for one in maps])


def series(n: int) -> list[Any]:
    """Test time series with default settings, and with nulls that do not fit."""
    out = []
    for ar in criterion.AR:
        setting = f"whole pipeline, 400 + 1,000 rows, AR(1) {ar:g}"
        naive = ar >= 0.56
        for name, how in (("the default null", {}), ("the closed form", {"null": "analytic"}))[: 1 + naive]:
            bounds = battery.BROKEN if how else battery.HELD
            with battery.quiet():
                rate, any_found = rates(ar, n, **how)
            out.append(battery.found("A7", f"voxels of p ≤ .05 by {name}", setting, rate, **bounds))
            out.append(battery.found("A7", f"maps in which anything passes BH by {name}", setting, any_found, **bounds))
        if naive:
            with battery.quiet():
                rate, _ = rates(ar, n // 4, null="permutation", n_permutations=200)
            out.append(battery.found("A8", "voxels of p ≤ .05 by single rows", setting, rate, **battery.BROKEN))
    return out


def parts() -> dict[str, tuple[Part, int, int]]:
    """List everything that is measured: a function, and its runs in the quick and the full form."""
    known = {name: part for room in ROOMS for name, part in room.BATTERY.items()}
    known["series"] = (series, 12, 480)
    if DIGITS.is_dir():
        known["digits"] = (lambda n: battery.digits(DIGITS, n), 99, 400)
    return known


def row(one: Any) -> str:
    error = "" if np.isnan(one.error) else f"{one.error:.2g}"
    cells = (one.number, one.what, one.setting, one.target, f"{one.measured:.4g}", error, f"{one.n:,}")
    return f"| {' | '.join(cells)} | {'yes' if one.passed else '**no**'} |"


def page(findings: list[Any], command: str, seconds: float) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    n_missed = sum(not one.passed for one in findings)
    return "\n".join(
        [
            "# Calibration",
            "",
            f"Written by `{command}` in {seconds / 60:.0f} minutes on {n_cores()} core(s) with Python "
            f"{platform.python_version()}, {packages}. Do not edit: what the columns mean, and how it is measured, "
            "stands in the script.",
            "",
            f"{len(findings)} numbers, of which {n_missed} miss their target.",
            "",
            "| test | what | setting | target | measured | SE | n | passed |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(row, findings),
            "",
        ]
    )


def parsed(known: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few runs of each, as in the tests by default")
    parser.add_argument("--only", nargs="+", choices=known, metavar="PART", help=f"some of {', '.join(known)}")
    parser.add_argument("--keep", type=Path, help="folder in which measured parts are kept, and looked for")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def code() -> str:
    """Hash everything that is measured, and what measures it."""
    paths = [
        *(ROOT / "src").rglob("*.py"),
        *(TESTS / "calibration").glob("_battery*.py"),
        TESTS / "encoding" / "test_criterion.py",
    ]
    return digest(*(path.read_text(encoding="utf-8") for path in sorted(paths)))


def measured(name: str, part: tuple[Part, int, int], given: argparse.Namespace) -> tuple[list[Any], float]:
    """Measure a part, or take what was kept of the same code and number of runs; findings and seconds."""
    measure, quick, full = part
    n = quick if given.quick else full
    kept = None if given.keep is None else given.keep / f"{name}-{n}-{code()[:12]}.json"
    if kept is not None and kept.is_file():
        content = json.loads(kept.read_text(encoding="utf-8"))
        return [battery.Finding(**facts) for facts in content["findings"]], content["seconds"]
    started = time.perf_counter()
    findings = measure(n)
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        content = {"seconds": seconds, "findings": [vars(one) for one in findings]}
        kept.write_text(json.dumps(content, default=float), encoding="utf-8")
    return findings, seconds


def main() -> None:
    known = parts()
    given = parsed(list(known))
    findings, total = [], 0.0
    for name in given.only or known:
        more, seconds = measured(name, known[name], given)
        findings, total = [*findings, *more], total + seconds
    options = ["--quick"] * given.quick + (["--only", *given.only] if given.only else [])
    command = " ".join(["python benchmarks/calibration.py", *options])
    text = page(findings, command, total)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
