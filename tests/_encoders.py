"""A planted study, an encoder and bands that tests of encoding share."""

from __future__ import annotations

import numpy as np

from latentcortex import Features, Responses, estimators
from latentcortex.encoding import Encoder
from latentcortex.space import Unlocated

IDS = [f"s{i:03d}" for i in range(120)]
TEST = IDS[80:]


def study(n_voxels: int = 12, signal: float = 1.0, n_repeats: int = 2, seed: int = 0):
    """Plant voxels that follow z (first third), zc (second third) or nothing, with unequal repeats."""
    rng = np.random.default_rng(seed)
    bands = {"z": rng.standard_normal((120, 10)), "zc_strength-80_step-100": rng.standard_normal((120, 25))}
    third = n_voxels // 3
    mean = np.zeros((120, n_voxels))
    for k, x in enumerate(bands.values()):
        mean[:, k * third : (k + 1) * third] = (
            signal * x @ rng.standard_normal((x.shape[1], third)) / np.sqrt(x.shape[1])
        )
    shown = np.concatenate([np.repeat(np.arange(120), n_repeats), np.arange(0, 120, 2)])
    shown = rng.permutation(shown)
    data = (mean[shown] + rng.standard_normal((len(shown), n_voxels))).astype(np.float32)
    session = [str(i % 3) for i in range(len(shown))]
    responses = Responses.single_trials(
        data, Unlocated(n_voxels), stimulus=[IDS[i] for i in shown], session=session, run=["1"] * len(shown)
    )
    return Features.from_arrays(IDS, bands), responses


def encoder(**arguments) -> Encoder:
    return Encoder(estimators.make("banded_ridge", **arguments), analysis="test")


BANDS = [
    "z",
    "c",
    "zc_strength-20_step-100",
    "zc_strength-80_step-50",
    "zc_strength-80_step-100",
    *(f"unet_layer-{la}_strength-80_step-{k}" for k in (50, 100) for la in ("down0", "mid", "up2")),
]
