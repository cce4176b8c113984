from __future__ import annotations

import pytest

from latentcortex import datasets, estimators, extractors, reconstructors
from latentcortex.errors import InputError

SHELVES = [datasets, extractors, estimators, reconstructors]


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
        (reconstructors, "retreival", "retrieval"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(shelf, name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"Unknown {shelf.SHELF.kind} '{name}'. Did you mean '{nearest}'"):
        shelf.make(name)


def test_an_unknown_key_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(InputError, match=r"'alpahs'. Did you mean 'alphas'.* Known: alphas, cv"):
        estimators.make("banded_ridge", alpahs=[1.0])


def test_a_missing_key_is_an_input_error() -> None:
    with pytest.raises(InputError, match="dataset 'folder': missing a required argument: 'root'"):
        datasets.make("folder")


def test_a_made_thing_says_what_made_it() -> None:
    for name in estimators.SHELF.where:
        assert estimators.make(name, seed=3).parameters.items() >= {"name": name, "seed": 3}.items()
