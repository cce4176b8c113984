"""What somebody else's package holds: a dataset, and how a package that is installed offers its classes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from latentcortex import analyses, datasets, estimators, evaluation, executors, extractors, reconstructors, reporting

DATASET = '''
"""Eighty stimuli of sixteen greys each, and voxels that follow these more or less."""

import numpy as np
import pandas as pd

from latentcortex import Responses, Stimuli
from latentcortex.space import Surface, Unlocated


class Greys:
    def __init__(self, participants=("01",), *, n_voxels: int = 20, on_cortex: bool = False) -> None:
        self.participants, self.n_voxels, self.on_cortex = tuple(participants), n_voxels, on_cortex
        self.names = [f"grey{i:02d}" for i in range(80)]
        self.grey = np.random.default_rng(0).random((80, 4, 4))

    def stimuli(self) -> Stimuli:
        table = pd.DataFrame({"captions": [()] * 80}, index=pd.Index(self.names, name="stimulus_id"))
        pictures = dict(zip(self.names, (self.grey * 255).astype(np.uint8)))
        return Stimuli(table, lambda name: np.repeat(np.kron(pictures[name], np.ones((4, 4), "u1"))[..., None], 3, -1))

    def rows(self, participant):
        split = ["test" if i % 4 == 0 else "train" for i in range(80)]
        return pd.DataFrame({"stimulus": self.names, "session": "1", "run": "1", "n_repeats": 1, "split": split})

    def space(self, participant):
        return Surface("fsaverage5", np.arange(self.n_voxels)) if self.on_cortex else Unlocated(self.n_voxels)

    def responses(self, participant, voxels=slice(None)):
        numbers = range(*voxels.indices(self.n_voxels))
        drawn = [np.random.default_rng([1, i]).standard_normal(80 + 16) for i in numbers]
        data = [self.grey.reshape(80, 16) @ one[80:] + 0.1 * one[:80] for one in drawn]
        rows = self.rows(participant).drop(columns="split")
        space = self.space(participant).select_voxels(np.array(numbers))
        return Responses(np.stack(data, axis=1), rows, space)

    def tables(self, participant):
        return {}

    def probe(self):
        return None

    def fingerprint(self, participant):
        return f"greys 1 {participant} {self.n_voxels}"
'''

STUDY = """
[dataset]
name = "greys"
n_voxels = 12

[extractor]
name = "pixels"
size = 4

[estimator]
name = "ridge"

[analyses]
run = ["latents"]
"""

SHELVES = {
    "datasets": datasets.SHELF,
    "extractors": extractors.SHELF,
    "estimators": estimators.SHELF,
    "executors": executors.SHELF,
    "analyses": analyses.SHELF,
    "figures": reporting.FIGURES,
    "metrics": evaluation.SHELF,
    "reconstructors": reconstructors.SHELF,
}


@contextmanager
def forgetting() -> Iterator[None]:
    """Take from the shelves, and from Python, what was put there meanwhile."""
    before = {name: dict(shelf.where) for name, shelf in SHELVES.items()}
    try:
        yield
    finally:
        for name, shelf in SHELVES.items():
            shelf.where.clear()
            shelf.where.update(before[name])
        for name in [name for name in sys.modules if name.startswith("somebodys_")]:
            del sys.modules[name]


def write_module(folder: Path, name: str, text: str) -> None:
    """Write a module that can be imported if `folder` is on the path."""
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()


def offer(folder: Path, offered: Mapping[str, Mapping[str, str]]) -> None:
    """Write what an installed package says of itself: group -> name -> `module:object`; it is all in one folder."""
    about = folder / "somebodys-1.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys\nVersion: 1\n", encoding="utf-8")
    groups = [
        "\n".join([f"[latentcortex.{group}]", *(f"{name} = {place}" for name, place in places.items())])
        for group, places in offered.items()
    ]
    (about / "entry_points.txt").write_text("\n\n".join(groups) + "\n", encoding="utf-8")
    importlib.invalidate_caches()


def methods_of(page: str) -> str:
    """Take the methods section of a report's page, with its references, without markup."""
    return page.partition('id="methods"')[2].partition('id="cite"')[0]
