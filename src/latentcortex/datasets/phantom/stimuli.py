"""The phantom's stimuli: which there are, and each drawn from its id alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
import pandas as pd

from latentcortex.datasets.phantom import scenes
from latentcortex.stimuli import Image, Stimuli

N_TRAIN: Final = 900
N_TEST: Final = 300


def stimulus_ids(n_train: int = N_TRAIN, n_test: int = N_TEST) -> list[str]:
    """Name the stimuli: `train0001` and so on, then `test0001` and so on."""
    return [f"train{i:04d}" for i in range(1, n_train + 1)] + [f"test{i:04d}" for i in range(1, n_test + 1)]


def draw_stimuli(ids: Sequence[str]) -> Stimuli:
    """Draw these scenes; each depends on its own id only."""
    drawn = {name: scenes.draw_scene(_stream(name, 0)) for name in ids}
    table = pd.DataFrame([vars(scene) for scene in drawn.values()], index=pd.Index(ids, name="stimulus_id"))
    table["place"] = table["row"] + " " + table["column"]
    table["captions"] = [tuple(scenes.captions(scene, _stream(name, 1))) for name, scene in drawn.items()]
    table["split"] = [name.rstrip("0123456789") for name in ids]

    @cache
    def load(name: str) -> Image:
        return scenes.render(drawn[name], _stream(name, 2))

    return Stimuli(table, load)


def _stream(name: str, purpose: int) -> np.random.Generator:
    """Make the random generator of a stimulus for one purpose: 0 its attributes, 1 its captions, 2 its appearance."""
    side = {"train": 2, "test": 3}[name.rstrip("0123456789")]
    return np.random.default_rng([20261120, side, int(name[-4:]), purpose])
