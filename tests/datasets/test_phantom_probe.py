"""The phantom's probe: what it reads off drawings is what was drawn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from latentcortex.datasets import make
from latentcortex.datasets.phantom import scenes
from latentcortex.datasets.phantom.probe import SceneProbe
from latentcortex.errors import InputError

N_SCENES = 250
Drawn = tuple[list[scenes.Scene], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Draw scenes that neither the probe, the model nor the study knows."""
    rng = np.random.default_rng(731)
    shown = [scenes.draw_scene(rng) for _ in range(N_SCENES)]
    return shown, np.stack([scenes.render(scene, rng) for scene in shown])


def true_word(scene: scenes.Scene, attribute: str) -> str:
    return f"{scene.row} {scene.column}" if attribute == "place" else str(getattr(scene, attribute))


@pytest.mark.parametrize(("attribute", "least"), [("scene", 0.97), ("colour", 0.97), ("place", 0.97), ("shape", 0.93)])
def test_the_best_word_is_what_was_drawn(drawn: Drawn, attribute: str, least: float) -> None:
    shown, images = drawn
    probe = SceneProbe()
    words = probe.attributes[attribute]
    best = probe.read(images)[attribute].argmax(1)
    assert np.mean([words[k] == true_word(scene, attribute) for k, scene in zip(best, shown, strict=True)]) >= least


def test_each_attribute_has_one_distribution_over_its_words(drawn: Drawn) -> None:
    probe = SceneProbe()
    read = probe.read(drawn[1][:20])
    assert list(read) == list(probe.attributes) == ["scene", "colour", "shape", "place"]
    assert probe.attributes["place"][:4] == ("top left", "top centre", "top right", "middle left")
    for name, words in probe.attributes.items():
        assert read[name].shape == (20, len(words))
        assert read[name].dtype == np.float32
        np.testing.assert_allclose(np.exp(read[name]).sum(1), 1, atol=1e-5)


def test_an_image_is_read_alike_alone_and_among_others(drawn: Drawn) -> None:
    images = drawn[1][:37]
    together = SceneProbe().read(images)
    backwards = SceneProbe().read(images[::-1])
    for i in range(len(images)):
        alone = SceneProbe().read(images[i : i + 1])
        for name in together:
            np.testing.assert_array_equal(alone[name][0], together[name][i])
            np.testing.assert_array_equal(backwards[name][-1 - i], together[name][i])


def test_no_image_gives_no_row() -> None:
    read = SceneProbe().read(np.empty((0, 64, 64, 3), np.uint8))
    assert {name: values.shape for name, values in read.items()} == {
        name: (0, len(words)) for name, words in SceneProbe().attributes.items()
    }


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (64, 64, 3), (2, 64, 64), (2, 3, 64, 64)])
def test_images_of_another_size_are_refused_in_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"64, 64, 3") as caught:
        SceneProbe().read(np.zeros(shape, np.uint8))
    assert "\n" not in str(caught.value)


def test_images_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="uint8"):
        SceneProbe().read(np.zeros((1, 64, 64, 3), np.float32))  # type: ignore[arg-type]


def test_every_attribute_is_a_column_of_the_stimuli_with_known_words() -> None:
    phantom = make("phantom")
    table = phantom.stimuli().table
    for name, words in phantom.probe().attributes.items():
        assert set(table[name]) == set(words)


def test_stimuli_are_read_as_their_table_says() -> None:
    phantom = make("phantom", n_train=40, n_test=2)
    stimuli, probe = phantom.stimuli(), phantom.probe()
    read = probe.read(stimuli.images(stimuli.ids))
    for name, words in probe.attributes.items():
        assert np.mean(np.array(words)[read[name].argmax(1)] == stimuli.table[name].to_numpy()) >= 0.9


def test_reading_needs_no_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
import numpy as np
from latentcortex.datasets import make
make("phantom").probe().read(np.zeros((1, 64, 64, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
