"""What a user meets at the prompt: classes under the names that one would try, help that lists them, short reprs."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import latentcortex as lc
from latentcortex.datasets.phantom import Phantom
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.study import Study
from latentcortex.study.schema import Settings

SHELVES = (lc.datasets, lc.estimators, lc.extractors, lc.reconstructors)
rng = np.random.default_rng(0)


def nouns() -> dict[str, Any]:
    """One of each noun, with what it must say of itself."""
    ids = [f"s{i:02d}" for i in range(40)]
    features = lc.Features.from_arrays(ids, {"z": rng.standard_normal((40, 5))})
    space, about = lc.Volume(np.ones((2, 2, 2), bool), np.eye(4), "MNI152"), {"session": ["1"] * 80, "run": ["1"] * 80}
    responses = lc.Responses.single_trials(
        rng.standard_normal((80, 8)).astype(np.float32), space, stimulus=ids * 2, **about
    )
    encoder = lc.Encoder(BandedRidge()).fit(features, responses)
    column = {"analysis": "latents", "model": "z", "band": "z", "statistic": "r"}
    sections = {"dataset": {"name": "phantom"}, "extractor": {"name": "pixels"}, "analyses": {"run": ["latents"]}}
    study = Study(Settings.read(sections))
    return {
        "40 images": Phantom(n_train=30, n_test=10).stimuli(),
        "80 rows of 40 stimuli": responses,
        "40 stimuli, 1 bands: z (5)": features,
        "1 columns of Volume(8 voxels in MNI152)": lc.Maps.build(space, [(np.ones(8), column)]),
        "40 stimuli in 40 groups, 4 folds": lc.Splits.k_fold(ids, 4, seed=0),
        "3 of the 20484 vertices of fsaverage5": lc.Surface("fsaverage5", np.arange(3)),
        "8 voxels in MNI152": space,
        "7 voxels without a known position": lc.Unlocated(7),
        "Atlas(phantom, ": lc.Atlas.find("phantom", "fsaverage5"),
        "not fitted": lc.Encoder(BandedRidge()),
        "z fitted on 40 stimuli": encoder,
        "all voxels": lc.Decoder(),
        "analyses latents": study,
        "BandedRidge(cv=3)": BandedRidge(cv=3),
    }


def test_every_noun_says_what_it_holds_in_one_line() -> None:
    for said, noun in nouns().items():
        assert said in repr(noun)
        assert "\n" not in repr(noun)
        assert len(repr(noun)) < 200
        assert repr(noun).startswith(type(noun).__name__)


def test_every_class_on_a_shelf_is_found_under_its_own_name_and_in_the_help() -> None:
    assert lc.BandedRidge is lc.estimators.BandedRidge is BandedRidge
    for shelf in SHELVES:
        text = inspect.getdoc(shelf.make) or ""
        for name, place in shelf.SHELF.where.items():
            assert f"- {name}: {place.replace(':', '.')}" in text
            attribute = place.partition(":")[2]
            if attribute[0].isupper():
                assert getattr(shelf, attribute) is shelf.SHELF.find(name)
        with pytest.raises(AttributeError, match="Nothing"):
            _ = shelf.Nothing
