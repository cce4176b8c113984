"""A run's bytes are those of its study, whatever the chunks of voxels, the workers, and how often it was killed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from _outside import in_one_process
from _paths import ROOT

from latentcortex.reporting import LOG

COMPUTED = "A cell was computed."
"""What the log says of each; its facts say which."""
OF_TIME = ("logs/*", "study.json", "summary.json", "sub-*/sub-*_report.json", "sub-*.html", "work/*")
"""Files that hold seconds and sizes of memory, or are there while a run goes on."""
SETTINGS = """
[analyses]
run = [{analyses}]

[inference]
n_refits = {n_refits}
identifiability = {identifiability}
"""
ACROSS_FOLDS = """
[splits]
cross_validation = 3

[analyses]
run = ["latents"]

[inference]
null = "permutation"
n_permutations = {n_permutations}
"""
RUN = """
[run]
chunk_voxels = {chunk_voxels}
n_workers = {n_workers}
"""
WRITTEN = """
sys.path.insert(0, {benchmarks!r})
import argparse, study_memory
from latentcortex import extractors
extractors.SHELF.where["projections"] = "study_memory:Projections"

def written(n_stimuli, n_voxels, setting):
    given = argparse.Namespace(stimuli=n_stimuli, volume=False, setting=[setting])
    return study_memory.write_study(pathlib.Path("study"), given, n_voxels)

"""
CHUNKED = """
n_stimuli, n_voxels, setting, ways = json.loads(sys.argv[1])
study, ends = written(n_stimuli, n_voxels, setting), []
text = study.read_text()
for name, run in ways.items():
    study.write_text(text + run)
    ends.append(end(start("run", study, "--out", name, "--quiet")))
print(json.dumps(ends))
"""
KILLED = """
n_stimuli, n_voxels, setting, n_kills = json.loads(sys.argv[1])
study, generator = written(n_stimuli, n_voxels, setting), random.Random(0)
assert end(start("extract", study, "--out", "extracted", "--quiet")) == (0, "")
shutil.copytree("extracted", "whole")
took = time.monotonic()
assert end(start("run", study, "--out", "whole", "--quiet")) == (0, "")
took, kills = time.monotonic() - took, {}
while sum(kills.values()) < n_kills:
    out = f"killed{len(kills)}"
    shutil.copytree("extracted", out)
    kills[out] = 0
    while True:
        child = start("run", study, "--out", out, "--quiet")
        if sum(kills.values()) < n_kills:
            time.sleep(generator.uniform(0.1, 0.7) * took)
            os.kill(child[0], signal.SIGKILL)
        code, text = end(child)
        if code == 0:
            break
        assert code == -9, text
        kills[out] += 1
print(json.dumps(kills))
"""


def program(text: str) -> str:
    return WRITTEN.format(benchmarks=str(ROOT / "benchmarks")) + text


def content(out: Path) -> dict[str, Any]:
    """Content of all files of a folder of results, of those that hold times what does not depend on them."""
    whole = {path.relative_to(out): path for path in sorted(out.rglob("*")) if path.is_file()}
    kept = {str(name): path.read_bytes() for name, path in whole.items() if not any(map(name.match, OF_TIME))}
    pages = {str(name): path.read_text() for name, path in whole.items() if name.suffix == ".html"}
    pictures = {name: re.findall(r'src="(data:image[^"]+)"', text) for name, text in pages.items()}
    return {**kept, **pictures, "results": json.loads((out / "summary.json").read_text())["results"]}


def cells(out: Path) -> Counter[str]:
    """How often each cell was computed, as the log has it."""
    lines = [json.loads(line) for line in (out / LOG).read_bytes().splitlines() if line.endswith(b"}")]
    return Counter(json.dumps(one, sort_keys=True) for one in lines if one["what"] == COMPUTED)


SMALL = SETTINGS.format(analyses='"latents", "denoising-steps"', n_refits=0, identifiability="false")
ALL = SETTINGS.format(
    analyses='"latents", "noise-levels", "denoising-steps", "unet-layers", "unet-partition"',
    n_refits=5,
    identifiability="true",
)
ON_OTHER_STIMULI = SETTINGS.format(analyses='"learning-curve", "generalisation"', n_refits=0, identifiability="false")
ON_OTHER_STIMULI += "[splits]\nn_clusters = 25\n"
FEW_WAYS = [(0, 1), (1024, 2)]
WAYS = [(0, 1), (0, 4), (1024, 1), (1024, 2), (1024, 4), (8192, 2)]


@pytest.mark.parametrize(
    ("setting", "n_stimuli", "n_voxels", "ways"),
    [
        (SMALL, 48, 1_300, FEW_WAYS),
        pytest.param(ALL, 48, 9_300, WAYS, marks=pytest.mark.slow),
        pytest.param(ON_OTHER_STIMULI, 96, 2_100, WAYS[:4], marks=pytest.mark.slow),
    ],
    ids=["two analyses", "all analyses", "fewer and other stimuli"],
)
def test_bytes_do_not_depend_on_the_size_of_chunks_or_the_number_of_workers(
    setting, n_stimuli, n_voxels, ways, tmp_path
):
    runs = {f"out-{size}-{n}": RUN.format(chunk_voxels=size, n_workers=n) for size, n in ways}
    ends = in_one_process(program(CHUNKED), tmp_path, json.dumps([n_stimuli, n_voxels, setting, runs]))
    assert [code for code, _ in ends] == [0] * len(ways), ends
    first, *others = (content(tmp_path / name) for name in runs)
    assert any("/func/" in name for name in first)
    for name, other in zip(list(runs)[1:], others, strict=True):
        assert [key for key in {**first, **other} if first.get(key) != other.get(key)] == [], name


@pytest.mark.parametrize(
    ("n_kills", "n_workers", "n_permutations", "n_voxels"),
    [
        (2, 2, 4, 1_300),
        pytest.param(10, 2, 60, 4_500, marks=pytest.mark.slow),
        pytest.param(10, 4, 60, 4_500, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes_and_computes_only_what_was_running(
    n_kills, n_workers, n_permutations, n_voxels, tmp_path
):
    setting = ACROSS_FOLDS.format(n_permutations=n_permutations) + RUN.format(chunk_voxels=1024, n_workers=n_workers)
    kills = in_one_process(program(KILLED), tmp_path, json.dumps([48, n_voxels, setting, n_kills]))
    whole, once = content(tmp_path / "whole"), cells(tmp_path / "whole")
    assert any("/func/" in name for name in whole)
    assert once
    assert set(once.values()) == {1}
    for name, n in kills.items():
        killed, again = content(tmp_path / name), cells(tmp_path / name)
        assert [key for key in {**whole, **killed} if whole.get(key) != killed.get(key)] == []
        assert set(again) == set(once)
        # A cell that was computed and whose part was not yet kept when the run was killed is computed once more.
        assert (again - once).total() <= n * n_workers
