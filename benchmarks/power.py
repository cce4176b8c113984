"""How many voxels are found where there is signal: what a change of the inference costs, or gains.

    python benchmarks/power.py --demo results --out before.json
    python benchmarks/power.py --demo results --out after.json --beside before.json

Every map that says what is significant, of three recordings: the phantom, from the results of `latentcortex demo`; one
participant who saw a hundred digits once each, across folds (`examples/digits69.toml`); and the series of one
participant who saw blocks of objects, as `tests/datasets/test_haxby.py` reads it. The two real ones are counted where
they lie beside the checkout. Writes one JSON file with the versions, and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from latentcortex import Maps
from latentcortex.study import Study

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
VERSIONS = ("latentcortex", "numpy", "scipy", "scikit-learn")
Counts = dict[str, list[int]]


def counts(maps: Maps, recording: str) -> Counts:
    """Count the voxels of every map that are significant, and those that were tested."""
    out = {}
    for values, facts in maps:
        if "mask" in facts["statistic"].lower() or facts["statistic"] == "identifiable":
            name = " | ".join([recording, facts["analysis"], facts["model"], str(facts["band"]), facts["statistic"]])
            out[name] = [int((values == 1).sum()), int(np.isfinite(values).sum())]
    return out


def demo(folder: Path) -> Counts:
    """Count those of the phantom."""
    return counts(Maps.load(folder, participant="01"), "phantom")


def digits() -> Counts:
    """Run the example across folds."""
    text = (ROOT / "examples" / "digits69.toml").read_text(encoding="utf-8")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "digits69.toml"
        path.write_text(text.replace("../../shared/data", str(DATA)), encoding="utf-8")
        study = Study.read(path)
        study.run(Path(folder) / "out", until="report", progress=False)
        return counts(Maps.load(Path(folder) / "out", participant=study.dataset().participants[0]), "digits69")


def haxby() -> Counts:
    """Score the series of objects, with what any object does and without it."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "datasets")]
    tests = import_module("test_haxby")
    recording = tests.recording.__wrapped__()
    pairs = {"any object": (recording.y, recording.kinds), "which object": recording.selective}
    return {
        key: value
        for name, pair in pairs.items()
        for key, value in counts(tests.scored(*pair), f"haxby, {name}").items()
    }


def table(now: Counts, before: Counts) -> str:
    """Lay both out side by side."""
    lines = ["| recording, analysis, model, band, statistic | voxels | before | now |", "| --- | --- | --- | --- |"]
    for name, (n_found, n_tested) in now.items():
        earlier = before.get(name, ["", ""])[0]
        lines.append(f"| {name.replace(' | ', ', ')} | {n_tested:,} | {earlier} | {n_found} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, help="folder of results of `latentcortex demo`")
    parser.add_argument("--only", nargs="+", choices=("digits", "haxby"), default=["digits", "haxby"])
    parser.add_argument("--beside", type=Path, help="an earlier file, for the table")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    now: Counts = demo(given.demo) if given.demo else {}
    for name, (measure, folder) in {"digits": (digits, "digits69"), "haxby": (haxby, "haxby_bids")}.items():
        if name in given.only and (DATA / folder).is_dir():
            now |= measure()
    before: Counts = json.loads(given.beside.read_text())["counts"] if given.beside else {}
    facts: dict[str, Any] = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}
    if given.out:
        given.out.write_text(json.dumps({"versions": facts, "counts": now}, indent=1), encoding="utf-8")
    print(table(now, before))


if __name__ == "__main__":
    main()
