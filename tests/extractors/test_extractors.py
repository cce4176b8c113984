"""What a study file may get wrong about an extractor is one line, and a study extracts them."""

from __future__ import annotations

import re

import pytest

from latentcortex import extractors
from latentcortex.errors import InputError


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("pixels", {"n_scale": 3}, "Did you mean 'n_scales'"),
        ("pixels", {"n_scales": 7}, "`n_scales` of extractor 'pixels' must be a whole number from 1 to 6; got 7"),
        ("pixels", {"n_orientations": 0}, "must be a whole number of at least 1; got 0"),
        ("pixels", {"grid": 129}, "`grid` of extractor 'pixels' must be a whole number from 1 to 128; got 129"),
        ("pixels", {"grid": 2.0}, "whole number from 1 to 128; got 2.0"),
        (
            "pixels",
            {"bands": "gabor"},
            "must be a list of distinct entries, each one of pixels, contrast, gabor, colour, at least one; got",
        ),
        ("pixels", {"bands": ["gabour"]}, "Unknown band of pixels 'gabour'. Did you mean 'gabor'"),
        ("pixels", {"bands": []}, "at least one"),
        ("categories", {}, "missing a required argument: 'words'"),
        ("categories", {"words": "cat"}, "must be a list of distinct names, at least one; got 'cat'"),
        ("categories", {"words": ["cat", " Cat"]}, "must differ in more than case"),
        ("categories", {"words": ["cat", ""]}, "not be empty"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_right(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)) as error:
        extractors.make(name, **arguments)
    assert "\n" not in str(error.value)
