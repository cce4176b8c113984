"""Any painting on any canvas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import latentcortex as lc
from latentcortex import plotting
from latentcortex.errors import AlignmentError, InputError
from latentcortex.plotting import cortex, glass, slices

AFFINE = np.array([[6.0, 0, 0, -72], [0, 6, 0, -108], [0, 0, 6, -60], [0, 0, 0, 1]])
BANDS = ("z", "c", "z_c")
LAYERS = ("down0", "mid", "up1")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cortex, "FLAT_PIXELS", 60)
    monkeypatch.setattr(cortex, "INFLATED_PIXELS", 40)


@lru_cache
def volume() -> lc.Volume:
    """Voxels of 6 mm round cortex."""
    return lc.Volume(np.ones((25, 30, 25), dtype=bool), AFFINE, "MNI152NLin2009cAsym", "fsaverage5")


def planted() -> np.ndarray:
    values = np.random.default_rng(0).random((3, volume().n_voxels))
    return np.where(np.arange(volume().n_voxels) % 5 == 0, np.nan, values)


def painted(kind: str) -> plotting.Painting:
    one, two, three = planted()
    unsure = np.where(one > 0.9, 1.0, 0.0)
    numbers = plotting.Panel("numbers", one, volume(), unsure)
    paintings = {
        "Scores": lambda: plotting.Scores([numbers, numbers], label="r"),
        "Differences": lambda: plotting.Differences([plotting.Panel("z − c", one - two, volume())], [one > 0.5]),
        "Shares": lambda: plotting.Shares([plotting.Panel("two", (one, two), volume(), unsure)]),
        "Preference": lambda: plotting.Preference(
            [plotting.Panel("which", np.floor(3 * one), volume(), opacity=two)], LAYERS
        ),
        "Winner": lambda: plotting.Winner([plotting.Panel("", (one, two, three), volume())], BANDS),
        "RedGreenBlue": lambda: plotting.RedGreenBlue([plotting.Panel("", (one, two, three), volume())], BANDS),
    }
    return paintings[kind]()


KINDS = ("Scores", "Differences", "Shares", "Preference", "Winner", "RedGreenBlue")
CANVASES = {"flat": plotting.Flat, "inflated": plotting.Inflated, "slices": plotting.Slices, "glass": plotting.Glass}


QUICK = {*((kind, canvas) for kind in KINDS for canvas in ("flat", "slices")), ("Scores", "glass"), ("Shares", "glass")}


@pytest.mark.parametrize(
    ("kind", "canvas"),
    [
        pair if pair in QUICK else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in ((kind, canvas) for kind in KINDS for canvas in CANVASES)
    ],
)
def test_any_painting_can_be_drawn_on_any_canvas_in_the_width_of_a_column(kind: str, canvas: str) -> None:
    painting, on = painted(kind), CANVASES[canvas]()
    figure = plotting.draw(painting, on, style=plotting.Style(width_mm=85))
    assert figure.get_figwidth() * 25.4 <= 85.01
    assert plotting.smallest_text(figure) >= 5
    sentences = on.caption(painting)
    assert sentences.endswith(".")


def test_a_space_names_the_canvases_that_it_can_be_drawn_on() -> None:
    assert lc.Surface("fsaverage5").canvases == ("flat", "inflated")
    assert volume().canvases == ("slices", "glass", "flat", "inflated")
    assert lc.Volume(volume().mask, AFFINE, "T1w").canvases == ("slices",)
    assert lc.space.Unlocated(4).canvases == ()
    with pytest.raises(InputError, match="show voxels of a volume, which those of 'a' are not"):
        plotting.draw(plotting.Scores([plotting.Panel("a", np.zeros(20484))]), plotting.Slices())


@pytest.mark.parametrize("kind", ["Winner", "Shares", "RedGreenBlue", "Scores"])
def test_of_voxels_behind_each_other_the_highest_hides_the_others(kind: str) -> None:
    painting = painted(kind)
    panel = painting.panels[0]
    ranks = glass._ranks(painting, panel, painting.paint(panel, slices.Voxels()))
    scores = panel.bands.max(0)
    scores[panel.unsure == 1 if panel.unsure is not None else False] = -1  # grey hides nothing
    seen = np.isfinite(ranks)
    assert np.array_equal(np.isfinite(scores), seen)
    assert (np.diff(scores[seen][np.argsort(ranks[seen])]) >= 0).all()
    assert len(np.unique(ranks[seen])) == seen.sum()


def test_a_slice_shows_the_colour_of_the_best_band_of_each_voxel() -> None:
    painting = painted("Winner")
    colours = painting.paint(painting.panels[0], slices.Voxels())
    best, is_defined = planted().argmax(0), np.isfinite(planted()).all(0)
    palette = np.array([to_rgb(colour) for colour in ("#0072B2", "#D55E00", "#009E73")])
    np.testing.assert_allclose(colours[is_defined, :3], palette[best[is_defined]])
    np.testing.assert_array_equal(colours[:, 3] == 1, is_defined)


def test_on_cortex_a_preference_is_as_opaque_as_the_voxels_that_have_it() -> None:
    painting = painted("Preference")
    (panel,) = painting.panels
    colours = painting.paint(panel, cortex.Vertices(volume()))
    preferred = volume().labels_on_mesh(panel.bands[0])
    for layer in range(len(LAYERS)):
        mean = volume().on_mesh(np.where(panel.bands[0] == layer, panel.opacity, np.nan))
        np.testing.assert_allclose(colours[preferred == layer, 3], mean[preferred == layer], rtol=1e-6)
    assert (colours[np.isnan(preferred), 3] == 0).all()


def test_a_painting_needs_as_many_values_per_voxel_as_it_has_bands() -> None:
    one = np.zeros(20484)
    with pytest.raises(AlignmentError, match="Shares needs 2 values per voxel; 'a' has 1"):
        plotting.Shares([plotting.Panel("a", one)])
    with pytest.raises(AlignmentError, match="Winner needs 2 values per voxel; 'a' has 3"):
        plotting.Winner([plotting.Panel("a", (one, one, one))], ("z", "c"))


def test_regions_of_a_grid_are_laid_onto_cortex_and_those_of_no_cortex_are_refused() -> None:
    labels = np.where(volume().coordinates[:, 0] < 0, 1, 2)
    laid = lc.Atlas("halves", labels, {1: "left", 2: "right"}).on_cortex(volume())
    assert laid.template == "fsaverage5"
    assert (laid.labels[:10242] == 1).mean() > 0.9
    assert (laid.labels[10242:] == 2).mean() > 0.9
    with pytest.raises(AlignmentError, match="regions on no cortex"):
        lc.Atlas("halves", labels, {1: "left", 2: "right"}).on_cortex(lc.Surface("fsaverage5"))
