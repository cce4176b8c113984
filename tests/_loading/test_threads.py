"""Features have the same bits whatever the threads, which are given back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


from latentcortex import _ldm  # noqa: E402
from latentcortex._loading import threads  # noqa: E402
from latentcortex.extractors.ldm import LDM  # noqa: E402


def test_features_have_the_same_bits_whatever_the_threads_of_torch(tiny_model: Path, pictures) -> None:
    stimuli = pictures([f"s{i}" for i in range(7)])
    ids, images = stimuli.ids, stimuli.images(stimuli.ids)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            model = LDM(str(tiny_model), n_steps=10, batch=2)
            found.append(model.extract(images, stimuli.captions(ids), list(ids), model.bands))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    assert model.made_by["threads"] == "one per pass"
    for band in found[0]:
        for other in found[1:]:
            np.testing.assert_array_equal(found[0][band], other[band])


def test_threads_are_given_back_where_a_pass_fails() -> None:
    before = torch.get_num_threads()

    def fails(_model: object, _item: int) -> None:
        assert torch.get_num_threads() == 1
        raise ValueError("in a pass")

    with pytest.raises(ValueError, match="in a pass"):
        threads.Passes(object(), []).map(fails, [1, 2])
    assert torch.get_num_threads() == before


def test_two_passes_at_once_share_weights_and_nothing_else(tiny_model: Path) -> None:
    model = _ldm.load(tiny_model)
    other = threads.twin(model, model.modules)
    for one, two in zip(model.modules, other.modules, strict=True):
        assert one is not two
        assert all(a is b for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert other.scheduler is not model.scheduler
    assert re.match("CLIPTokenizer", type(other.tokenizer).__name__)
