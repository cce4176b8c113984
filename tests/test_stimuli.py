from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from latentcortex.errors import AlignmentError, InputError
from latentcortex.extractors import make
from latentcortex.stimuli import Stimuli, pixel_hash


def test_stimuli_are_taken_by_id_in_the_asked_order(pictures) -> None:
    stimuli = pictures(["a", "b", "c"])
    some = stimuli.select_stimuli(["c", "a"])
    assert some.ids == ("c", "a")
    np.testing.assert_array_equal(some.images(some.ids), stimuli.images(["c", "a"]))
    assert some.captions(["a"]) == stimuli.captions(["a"])
    with pytest.raises(AlignmentError, match="x"):
        stimuli.select_stimuli(["x"])


def test_equal_pixels_have_equal_hashes_whatever_they_are_called() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image.copy()))
    assert pixel_hash(image) != pixel_hash(image.reshape(2, 8, 3))
    assert pixel_hash(image) != pixel_hash(image + 1)


def test_ids_that_stand_twice_no_stimuli_or_mixed_sizes_are_input_errors() -> None:
    table = pd.DataFrame({"captions": [(), ()]}, index=["a", "b"])
    with pytest.raises(InputError, match="unique"):
        Stimuli(table.set_axis(["a", "a"]), lambda name: None)
    with pytest.raises(InputError, match="no stimulus"):
        Stimuli(table.iloc[:0], lambda name: None)
    sizes = {"a": 4, "b": 5}
    mixed = Stimuli(table, lambda name: np.zeros((sizes[name], 4, 3), np.uint8))
    with pytest.raises(InputError, match="4 x 4 pixels as a, 1 in all, 5 x 4 pixels as b, 1 in all"):
        mixed.images(["a", "b"])


def test_pixels_are_pillows_luminance() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    found = make("pixels", size=8).extract(image, [()], ["x"], ["pixels"])["pixels"]
    np.testing.assert_allclose(found[0] * 255, np.asarray(Image.fromarray(image[0]).convert("L")).ravel(), rtol=1e-6)
    with pytest.raises(InputError, match="`size` of extractor 'pixels' must be a whole number of at least 1; got 0"):
        make("pixels", size=0)
