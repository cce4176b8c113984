"""Categories are fractions of captions that have a whole word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latentcortex import extract, extractors
from latentcortex.errors import InputError
from latentcortex.extractors.categories import Categories


def test_categories_are_fractions_of_captions_that_have_a_whole_word() -> None:
    model = Categories(words=["cat", "fire hydrant", "Dog"])
    captions = [("A CAT.", "two cats scatter"), ("dog-cat by a fire\n hydrant",), ("hotdog", "a dog", "cat, dog", "x")]
    found = model.extract(np.zeros((3, 1, 1, 3), np.uint8), captions, ["", "", ""], ["categories"])["categories"]
    np.testing.assert_array_equal(found, [[0.5, 0, 0], [1, 1, 1], [0.25, 0, 0.5]])
    assert found.dtype == np.float32


def test_categories_go_into_a_store_that_belongs_to_the_words(pictures, tmp_path: Path) -> None:
    stimuli = pictures(["a", "b", "z"])
    stores = {}
    for words in (["dog", "cat"], ["cat", "dog"], ["car"]):
        stores[tuple(words)] = extract(
            stimuli, extractors.make("categories", words=words), store=tmp_path, progress=False
        )
    assert len({features.folder for features in stores.values()}) == 3
    expected = [
        [np.mean([word in text.split() for text in texts]) for word in ("dog", "cat")]
        for texts in stimuli.table["captions"]
    ]
    np.testing.assert_array_equal(stores["dog", "cat"].array("categories"), np.array(expected, np.float32))


def test_a_word_that_no_caption_has_is_warned_of(caplog) -> None:
    Categories(words=["cat", "dgo"]).check(["categories"], [("a cat",), ("a dog",)])
    assert [record.getMessage() for record in caplog.records] == [
        "No caption of 2 stimuli has dgo; its column is constant."
    ]


def test_categories_without_captions_are_an_input_error() -> None:
    model = Categories(words=["cat"])
    for ask in (model.check, lambda b, c: model.extract(np.zeros((2, 1, 1, 3), np.uint8), c, ["", ""], b)):
        with pytest.raises(InputError, match="1 stimuli have none"):
            ask(["categories"], [("a cat",), ()])
