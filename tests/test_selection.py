"""What is chosen by generalised cross-validation predicts as well as what exhaustive folds, or himalaya, choose.

Ten seeds of each simulation; the paired interval of the difference of mean held-out R² must exclude -.001.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from latentcortex import scoring
from latentcortex.estimators import make
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features

pytestmark = pytest.mark.slow

N_FIT, N_TEST, N_VOXELS, SEEDS = 600, 400, 200, range(10)
EXHAUSTIVE = np.stack([np.linspace(0, 1, 11), 1 - np.linspace(0, 1, 11)], axis=1)


def simulated(seed: int, *, p: int, decay: float, noise: float) -> tuple[Features, np.ndarray]:
    """Two bands of `p` dimensions whose variance falls with `decay`; voxels follow them in all proportions."""
    rng = np.random.default_rng(seed)
    n = N_FIT + N_TEST
    spectrum = 1 / np.sqrt(1 + np.arange(p)) ** decay
    bands = {b: (rng.standard_normal((n, p)) * spectrum).astype(np.float32) for b in "ab"}
    parts = [x @ rng.standard_normal((p, N_VOXELS)) for x in bands.values()]
    share = rng.choice([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1], N_VOXELS)
    signal = sum(np.sqrt(s) * v / v.std(0) for s, v in zip((share, 1 - share), parts, strict=True))
    y = signal + noise * rng.standard_normal((n, N_VOXELS))
    return Features.from_arrays([f"s{i}" for i in range(n)], bands), y.astype(np.float32)


def held_out(model, features: Features, y: np.ndarray) -> float:
    fit, test = features.ids[:N_FIT], features.ids[N_FIT:]
    grams = {b: features.gram(b, fit, fit, fit_on=fit) for b in features.bands}
    model.fit_gram(grams, y[:N_FIT])
    new = {b: features.gram(b, test, fit, fit_on=fit) for b in features.bands}
    return float(scoring.r2(y[N_FIT:], model.predict_gram(new).sum(0) + model.intercept_).mean())


@pytest.mark.parametrize("p", [200, 500])
@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.7, 2.0])
def test_gcv_chooses_as_well_as_exhaustive_folds_and_as_himalaya(p: int, decay: float, noise: float) -> None:
    data = [simulated(seed, p=p, decay=decay, noise=noise) for seed in SEEDS]
    ours = np.array([held_out(BandedRidge(selection="gcv"), *one) for one in data])
    for other in (BandedRidge(selection="kfold", mixtures=EXHAUSTIVE, refine=False), make("himalaya")):
        theirs = np.array([held_out(other, *one) for one in data])
        difference = ours - theirs
        low = difference.mean() - stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
        assert low > -1e-3, (type(other).__name__, difference.mean(), low)
