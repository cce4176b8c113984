"""The analyses of a study, run: every model of each, on a held-out test set or across folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from latentcortex import scoring
from latentcortex.encoding import Analysis, Encoder, Prediction, by_step, preference
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits


@dataclass(frozen=True)
class Tests:
    """How significance is found.

    Parameters
    ----------
    q : float
        False discovery rate.
    correction : str
        See `inference.fdr`.
    n_permutations : int
        0 for the closed form.
    seed : int
    """

    q: float = 0.05
    correction: str = "bh"
    n_permutations: int = 0
    seed: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of `Encoder`."""
        return vars(self).copy()


class Scorer(Protocol):
    """What runs an analysis."""

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model of the analysis."""
        ...


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Fit on training stimuli, score on averaged responses to test stimuli.

    Parameters
    ----------
    features : Features
    train, test : Responses
    make_estimator : callable
        Makes a fresh estimator for each model.
    tests : Tests
    progress : bool
    """

    features: Features
    train: Responses
    test: Responses
    make_estimator: Callable[[], Any]
    tests: Tests
    progress: bool = False

    def score(self, analysis: Analysis) -> Maps:
        """Fit and score every model; single-layer models also give each voxel's preferred layer."""
        found: list[Maps] = []
        predictions: dict[str, Prediction] = {}
        for bands in tqdm(analysis.models, desc=analysis.name, unit="model", disable=not self.progress):
            encoder = Encoder(self.make_estimator(), analysis=analysis.name)
            chosen = self.features.only(bands)
            held_out = encoder.fit(chosen, self.train).predict_held_out(chosen, self.test)
            found.append(encoder.maps_of(held_out, self.test.space, **self.tests.arguments))
            if len(bands) == 1:
                predictions[bands[0]] = held_out
        if analysis.name == "unet-layers":
            found.append(self._preferred(analysis, predictions))
        return joined(found)

    def _preferred(self, analysis: Analysis, predictions: dict[str, Prediction]) -> Maps:
        columns = []
        for step, names in by_step(analysis.models).items():
            here = {name: predictions[name] for name in names}
            tests = {"q": self.tests.q, "correction": self.tests.correction, "seed": self.tests.seed}
            columns += list(preference(here, analysis=analysis.name, step=step, **tests))
        return Maps.of(self.test.space, columns)


@dataclass(frozen=True, eq=False)
class AcrossFolds:
    """Predict every stimulus from a fit on the other folds; significance by permutations that refit.

    Parameters
    ----------
    features : Features
    responses : Responses
    splits : Splits
    zscore : {"session", "run", "none"}
    make_estimator : callable
    tests : Tests
        With permutations.
    progress : bool
    """

    features: Features
    responses: Responses
    splits: Splits
    zscore: Within
    make_estimator: Callable[[], Any]
    tests: Tests
    progress: bool = False

    def score(self, analysis: Analysis) -> Maps:
        """Cross-validate every model of the analysis."""
        found = []
        for bands in analysis.models:
            encoder = Encoder(self.make_estimator(), analysis=analysis.name, progress=self.progress)
            chosen = self.features.only(bands)
            arguments = self.tests.arguments
            found.append(
                encoder.cross_validate(chosen, self.responses, self.splits, zscore=self.zscore, **arguments)
            )
        return joined(found)


def joined(found: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not found:
        raise InputError("There is nothing to join: no model was run.")
    maps = found[0]
    for more in found[1:]:
        maps = maps.join(more)
    return maps


def ceiling(test: Responses) -> Maps | None:
    """Estimate the noise ceiling of the averaged test responses; None where nothing was repeated."""
    if len(test.rows) == len(test.ids):
        return None
    counts = test.rows.groupby("stimulus", sort=False).size().to_numpy()
    n_averaged = 1 / float(np.mean(1 / counts))
    values = scoring.noise_ceiling(test.repeats(), n_averaged=n_averaged)
    values = np.where(test.valid(), values, np.nan)
    about = {"analysis": "ceiling", "model": "", "band": "", "statistic": "ceiling", "unit": "fraction of variance"}
    return Maps.of(test.space, [(values, {**about, "n_stimuli": len(counts), "n_averaged": round(n_averaged, 3)})])
