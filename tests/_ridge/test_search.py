"""The search over mixtures tries what was given and promises no more than everything."""

from __future__ import annotations

import numpy as np
import pytest
from _engine import two_bands

from latentcortex import scoring
from latentcortex.estimators.banded_ridge import BandedRidge


@pytest.mark.parametrize("selection", ["gcv", "loo", "kfold"])
@pytest.mark.parametrize("first", [0, 1])
def test_every_given_mixture_is_tried_whatever_the_first_one_finds(selection: str, first: int) -> None:
    bands, _ = two_bands(400, (10, 10))
    rng = np.random.default_rng(0)
    y = bands["z" if first else "c"] @ rng.standard_normal((10, 30)) + 0.3 * rng.standard_normal((400, 30))
    given = np.eye(2)[[first, 1 - first]]
    model = BandedRidge(mixtures=given, selection=selection).fit(bands, y)
    assert model.cv_scores_.min() > 0.9
    assert (model.mixtures_[0 if first else 1] == 1).all()


@pytest.mark.parametrize("selection", ["gcv", "kfold"])
def test_refinement_never_promises_more_than_everything(selection: str) -> None:
    """Alphas one decade apart and little noise: a parabola through the errors themselves dips below 0."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((260, 50))
    y = x @ rng.standard_normal((50, 40)) + 0.1 * rng.standard_normal((260, 40))
    r2 = {}
    for refine in (True, False):
        model = BandedRidge(alphas=np.logspace(-8, 7, 6), selection=selection, refine=refine).fit(x[:60], y[:60])
        assert model.cv_scores_.max() <= 1
        r2[refine] = scoring.r2(y[60:], model.predict(x[60:])).mean()
    assert r2[True] > r2[False] - 0.02
