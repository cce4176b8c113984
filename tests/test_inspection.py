"""One voxel on one page: what its page says is what its maps say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import latentcortex as lc
from latentcortex.errors import InputError


def encoded() -> tuple[lc.Encoder, lc.Features, lc.Responses]:
    """Fit two bands to two repeats of 60 stimuli: voxel 0 is driven by z, 1 by c, 2 is constant."""
    rng = np.random.default_rng(0)
    ids = [f"s{i:02d}" for i in range(60)]
    z, c = rng.standard_normal((2, 60, 4))
    driven = np.stack([z @ [1, 1, -1, 0], c @ [1, 0, 2, 1], np.zeros(60)], axis=1)
    trials = np.tile(driven, (2, 1)) + 0.5 * rng.standard_normal((120, 3)) * [1, 1, 0]
    half = ["01"] * 60 + ["02"] * 60
    rows = {"stimulus": ids * 2, "session": half, "run": half}
    responses = lc.Responses.single_trials(
        trials.astype(np.float32), lc.Surface("fsaverage5", np.array([4, 9, 10244])), **rows
    )
    train, test = responses.split(test_ids=ids[40:], zscore="none")
    features = lc.Features.from_arrays(ids, {"z": z, "c": c})
    return lc.Encoder(lc.estimators.make("banded_ridge", seed=0)).fit(features, train), features, test


def test_inspecting_a_voxel_shows_what_its_maps_say() -> None:
    encoder, features, test = encoded()
    maps = encoder.score(features, test, identifiability=False)
    images = {f"s{i:02d}": np.full((4, 4, 3), i, dtype=np.uint8) for i in range(60)}
    table = pd.DataFrame({"captions": [()] * 60}, index=pd.Index(list(images)))
    figure = lc.inspect_voxel(encoder, features, test, 1, stimuli=lc.Stimuli(table, images.__getitem__), n_images=2)
    assert figure.texts[0].get_text() == "Voxel 1: vertex 9 of the left hemisphere"
    words = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert f"r: {maps.values(statistic='r')[1]:.3f}" in words
    assert f"R²: {maps.values(statistic='r2')[1]:.3f}" in words
    assert f"penalty (alpha): {encoder.model.estimator.alphas_[1]:.3g}" in words
    assert "test stimuli: 20" in words
    ceiling = next(float(word.split(": ")[1]) for word in words if word.startswith("noise ceiling"))
    assert 0.9 < ceiling < 1
    shares, mixtures = ([bar.get_width() for bar in ax.patches] for ax in figure.axes if ax.patches)
    own = [maps.values(band=band, statistic="shareR2")[1] for band in ("z", "c")]
    np.testing.assert_allclose(shares, own, atol=1e-5)
    np.testing.assert_allclose(mixtures, encoder.model.estimator.mixtures_[:, 1])
    y = test.averaged()
    order = np.argsort(y.data[:, 1])
    shown = [f"s{int(ax.images[0].get_array()[0, 0, 0]):02d}" for ax in figure.axes if ax.images]
    assert shown == [y.ids[i] for i in (*order[::-1][:2], *order[:2])]


def test_what_is_not_there_cannot_be_inspected() -> None:
    encoder, features, test = encoded()
    with pytest.raises(InputError, match="no voxel 3: the responses have 3"):
        lc.inspect_voxel(encoder, features, test, 3)
    with pytest.raises(InputError, match="vertex 2 of the right hemisphere is not valid"):
        lc.inspect_voxel(encoder, features, test, 2)
    averaged = test.averaged()
    words = [text.get_text() for ax in lc.inspect_voxel(encoder, features, averaged, 0).axes for text in ax.texts]
    assert "noise ceiling (R²): n/a (no repeats)" in words
