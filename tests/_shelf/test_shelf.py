from __future__ import annotations

import pytest

from latentcortex import datasets, estimators, executors, extractors, reconstructors
from latentcortex.errors import InputError

SHELVES = [datasets, extractors, estimators, executors, reconstructors]


@pytest.mark.parametrize("shelf", SHELVES, ids=lambda s: s.SHELF.kind)
def test_everything_on_a_shelf_can_be_found(shelf) -> None:
    for name in shelf.SHELF.where:
        assert shelf.SHELF.find(name).__doc__


@pytest.mark.parametrize(
    ("shelf", "name", "nearest"),
    [
        (datasets, "fantom", "phantom"),
        (extractors, "ldn", "ldm"),
        (estimators, "banded-ridge", "banded_ridge"),
        (executors, "thread", "threads"),
        (reconstructors, "retreival", "retrieval"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(shelf, name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"Unknown {shelf.SHELF.kind} '{name}'. Did you mean '{nearest}'"):
        shelf.make(name)


def test_an_unknown_key_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"'alpahs'. Did you mean 'alphas'.* Known: alphas, backend, cv"):
        estimators.make("banded_ridge", alpahs=[1.0])


@pytest.mark.parametrize(
    ("shelf", "name", "arguments", "says"),
    [
        (
            extractors,
            "pixels",
            {"size": "8"},
            "`size` of extractor 'pixels' must be a whole number of at least 1; got '8'",
        ),
        (extractors, "pixels", {"size": True}, "whole number of at least 1; got True"),
        (estimators, "banded_ridge", {"alphas": 1}, "must be a list, each a number above 0, at least one; got 1"),
        (estimators, "banded_ridge", {"refine": "yes"}, "must be true or false"),
        (executors, "threads", {"n_workers": "all"}, "`n_workers` of executor 'threads' must be a whole number"),
        (datasets, "folder", {"root": 3}, "must be a string"),
        (
            datasets,
            "phantom",
            {"participants": "01"},
            "must be a list of distinct entries, each a string of letters and digits, at least one; got '01'",
        ),
    ],
)
def test_a_value_of_another_kind_than_its_annotation_is_an_input_error(shelf, name, arguments, says) -> None:
    with pytest.raises(InputError, match=says):
        shelf.make(name, **arguments)


def test_a_missing_key_is_an_input_error() -> None:
    with pytest.raises(InputError, match="dataset 'folder': missing a required argument: 'root'"):
        datasets.make("folder")


def test_a_made_thing_says_what_made_it() -> None:
    for name in ("banded_ridge", "himalaya"):
        assert estimators.make(name, seed=3).parameters.items() >= {"name": name, "seed": 3}.items()
    # The others are settings of banded ridge, and say which.
    assert estimators.make("ridge", seed=3).parameters.items() >= {"mixtures": "equal", "seed": 3}.items()
    released = estimators.make("takagi2023-released").parameters
    assert released.items() >= {"alphas": "7 from 1e-06 to 1", "fit_intercept": False, "scale": None}.items()
