"""The methods text is true: what it says of estimators is what they do, and of tests what the sidecars say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentcortex import Encoder, Features, Responses, estimators
from latentcortex.analyses import Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Criterion, HeldOutSides, ReadByChunk
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.reporting import Content, methods
from latentcortex.space import Bare
from latentcortex.splits import Splits

BANDED = [{"name": "banded_ridge", "selection": kind} for kind in ("auto", "gcv", "loo", "kfold")]
GIVEN = [
    *BANDED,
    {"name": "banded_ridge", "scale": None, "mixtures": "equal", "fit_intercept": False, "refine": False},
    {"name": "banded_ridge", "alphas": [10.0]},
    *({"name": "ridge", "scale": scale, "cv": 4, "selection": "kfold"} for scale in ("trace", None)),
    {"name": "takagi2023-released"},
    {"name": "himalaya"},
    {"name": "himalaya", "scale": None, "mixtures": "equal", "cv": 3},
]
SETTINGS = {
    "responses": {"zscore": "none"},
    "analyses": {"n_dims": 0},
    "splits": {"cross_validation": 0, "unit": "stimulus", "test": "split", "embedding": "", "n_clusters": 50},
    "inference": {"q": 0.05, "correction": "bh", "family": "map"},
    "report": {"atlas": ""},
}


def recording(n: int = 120, n_voxels: int = 12) -> tuple[dict[str, np.ndarray], np.ndarray, Responses]:
    rng = np.random.default_rng(0)
    bands = {"a": rng.standard_normal((n, 5)), "b": rng.standard_normal((n, 5))}
    weights = [rng.standard_normal((5, n_voxels)) * scale for scale in (np.linspace(0, 1, n_voxels), 0.5)]
    y = sum(x @ w for x, w in zip(bands.values(), weights, strict=True)) + 3 + rng.standard_normal((n, n_voxels))
    ids = [f"s{i:03d}" for i in range(n)]
    about = {"stimulus": ids, "session": ["1"] * n, "run": ["1"] * n}
    return bands, y, Responses.single_trials(y.astype(np.float32), Bare(n_voxels), **about)


def text(maps: Any, *, facts: dict[str, int] | None = None, **settings: Any) -> str:
    """Write the methods of these maps."""
    counts = {"n_trials": 120, "n_sessions": 1, "n_voxels": 12, "n_valid": 12, "n_train": 80, "n_test": 40}
    content = Content("01", maps, None, facts or counts, SETTINGS | settings, {"name": "pixels"}, Path("log"))
    return " ".join(methods(content))


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "-".join(map(str, given.values())))
def test_the_text_says_of_an_estimator_what_it_does(given: dict[str, Any]) -> None:
    bands, _, responses = recording()
    own = estimators.make(given["name"], **{key: value for key, value in given.items() if key != "name"})
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")

    def fitted(factor: float) -> Encoder:
        scaled = Features.from_arrays(responses.ids, {"a": bands["a"] * factor, "b": bands["b"]})
        return Encoder(own).fit(scaled, train)

    encoder = fitted(1.0)
    said = text(encoder.score(Features.from_arrays(responses.ids, bands), test), estimator=given)
    predicted = [one.model.parts(one.model.features, test.ids) for one in (encoder, fitted(20.0))]
    assert np.allclose(*predicted, atol=1e-3) == ("scaled to equal mean kernel diagonal" in said)
    assert np.allclose(*predicted, atol=1e-3) != ("bands were not scaled" in said)
    model = encoder.model.estimator
    assert np.allclose(model.offset_, 0) == ("without an intercept" in said)
    assert (len(np.unique(model.mixtures_, axis=1).T) > 1) == ("and the mixture of bands chosen" in said)
    assert (len(np.unique(model.mixtures_, axis=1).T) == 1) == ("one penalty for all bands" in said)
    grid = np.unique(np.asarray(own.alphas, dtype=float))
    inside = np.isclose(model.alphas_[:, None], grid, rtol=1e-4).any(1)
    assert ("and between these" in said) >= bool((~inside).any())
    assert ("the penalty 10 for every voxel" in said) == (len(grid) == 1)
    folds = re.search(r"by (\d) folds of stimuli", said)
    chosen = own.cv if isinstance(own, estimators.Told) and getattr(own, "selection", "kfold") == "kfold" else 0
    assert (int(folds[1]) if folds else 0) == chosen
    assert ("generalised cross-validation" in said) == (getattr(own, "selection", "kfold") in ("auto", "gcv"))
    assert ("leaving one stimulus out" in said) == (getattr(own, "selection", "") == "loo")
    assert ("himalaya" in said) == (given["name"] == "himalaya")
    assert ("Dupré la Tour et al., 2022" in said) == ("one penalty for all bands" not in said)


def test_every_estimator_of_the_shelf_is_told_of() -> None:
    assert {given["name"] for given in GIVEN} == set(estimators.SHELF.where)


@pytest.mark.parametrize("null", ["analytic", "permutation", "blocks", "shift"])
def test_the_text_names_the_null_of_a_test_set(null: str) -> None:
    bands, _, responses = recording()
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")
    how = Criterion(null=null, n_permutations=19, identifiability=False)
    scorer = Scorer(Features.from_arrays(responses.ids, bands), HeldOutSides(train, test), BandedRidge, how)
    maps = scorer.score(Latents("latents", (("a",),)))
    said = text(maps, estimator={"name": "banded_ridge"})
    (words,) = maps.find(statistic="p").columns["null"]
    assert f"One-sided p-values came from the null of {words}." in said
    assert "fitted on 80 stimuli" in said
    assert "responses to 40 held-out stimuli" in said
    assert "pooled" not in said


@pytest.mark.parametrize(("unit", "words"), [("stimulus", "permutations of stimuli"), ("session", "whole clusters")])
def test_the_text_of_folds_says_where_pooled_r_lies_without_signal(unit: str, words: str) -> None:
    rng = np.random.default_rng(1)
    n, n_voxels = 48, 150
    ids = [f"s{i:02d}" for i in range(n)]
    about = {"stimulus": ids, "session": [f"{i % 6}" for i in range(n)], "run": ["1"] * n}
    noise = rng.standard_normal((n, n_voxels)).astype(np.float32)
    responses = Responses.single_trials(noise, Bare(n_voxels), **about)
    groups = ids if unit == "stimulus" else about["session"]
    splits = Splits.k_fold(ids, 6, groups=groups, unit=unit, seed=0)
    features = Features.from_arrays(ids, {"a": rng.standard_normal((n, 4))})
    how = Criterion(n_permutations=39)
    maps = Scorer(features, ReadByChunk.of(responses, splits, "none"), BandedRidge, how).score(
        Latents("latents", (("a",),))
    )
    (median,) = maps.find(statistic="r").columns["null_median"]
    r = maps.values(statistic="r")
    assert median < -0.1
    assert abs(np.median(r) - median) < 0.12  # voxels share one draw of features
    folds = SETTINGS["splits"] | {"cross_validation": 6, "unit": unit}
    facts = {"n_trials": n, "n_sessions": 6, "n_voxels": n_voxels, "n_valid": n_voxels, "n_stimuli": n, "n_folds": 6}
    said = text(maps, facts=facts, splits=folds, estimator={"name": "banded_ridge"})
    assert f"here at {median:.2f} (median over permutations and voxels)" in said
    assert words in said
    assert ("hold out whole sessions" in said) == (unit == "session")
