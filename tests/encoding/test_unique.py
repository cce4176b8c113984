"""Shares of refitted models go to the band that voxels follow."""

from __future__ import annotations

import numpy as np
import pytest
from _encoders import TEST, encoder, study

from latentcortex import analyses, estimators
from latentcortex.analyses import (
    Scorer,
)
from latentcortex.encoding import Criterion, Encoder, HeldOutSides
from latentcortex.errors import InputError


def test_unique_and_shapley_shares_go_to_the_band_that_voxels_follow() -> None:
    features, responses = study(n_voxels=30)
    train, test = responses.split(test_ids=TEST)
    shares = ("product", "unique", "shapley", "common")
    # Of these fitted models: halves of 80 stimuli leave little to be sure of.
    maps = encoder().fit(features, train).score(features, test, shares=shares, n_refits=0)
    z, zc = features.bands
    r2 = maps.values(statistic="r2")
    unique = {band: maps.values(band=band, statistic="uniqueR2") for band in features.bands}
    shapley = {band: maps.values(band=band, statistic="shapleyR2") for band in features.bands}
    common = maps.values(band=f"{z}+{zc}", statistic="commonR2")
    # All splits are of R² about the means, as product shares are; what the shift of the mean takes stands beside r2.
    product = sum(maps.values(band=band, statistic="shareR2") for band in features.bands)
    np.testing.assert_allclose(shapley[z] + shapley[zc], product, atol=1e-5)
    np.testing.assert_allclose(unique[z] + unique[zc] + common, product, atol=1e-5)
    offset = maps.find_columns(statistic="r2").columns["offset"].iloc[0]
    assert (r2 - product).mean() == pytest.approx(offset, abs=1e-5)
    assert unique[z][:10].mean() > 0.2 > 0.05 > abs(unique[z][10:20].mean())
    assert unique[zc][10:20].mean() > 0.1 > 0.05 > abs(unique[zc][:10].mean())
    found = {band: maps.values(band=band, statistic="uniqueMask") == 1 for band in features.bands}
    assert found[z][:10].mean() >= 0.6
    assert found[zc][:10].mean() < 0.2
    assert found[z][20:].sum() + found[zc][20:].sum() <= 2
    facts = maps.find_columns(band=z, statistic="uniqueQ").columns.iloc[0]
    assert facts["family"] == f"test: all 30 valid voxels of the unique share of {z} in {z}+{zc}"
    assert facts["null"].startswith("4999 flips")


def test_nested_models_are_those_fitted_alone() -> None:
    features, responses = study()
    train, test = responses.split(test_ids=TEST)
    maps = encoder().fit(features, train).score(features, test, shares=("unique",))
    ids, y = test.averaged().ids, test.averaged().data

    def about_means(*bands: str) -> np.ndarray:
        left = y - encoder().fit(features.select_bands(bands), train).predict(features.select_bands(bands), ids)
        return 1 - left.var(0) / y.var(0)

    for band, other in zip(features.bands, reversed(features.bands), strict=True):
        expected = about_means(*features.bands) - about_means(other)
        np.testing.assert_allclose(maps.values(band=band, statistic="uniqueR2"), expected, atol=1e-5)


def test_an_estimator_that_refits_no_subsets_has_product_shares_only() -> None:
    features, responses = study()
    train, test = responses.split(test_ids=TEST)
    theirs = Encoder(estimators.make("himalaya"), analysis="test").fit(features, train)
    with pytest.raises(InputError, match="himalaya does not refit subsets of bands; use banded_ridge"):
        theirs.score(features, test, shares=("unique",))
    assert "shareR2" in set(theirs.score(features, test).columns["statistic"])


def test_an_analysis_has_the_shares_that_were_asked_for() -> None:
    features, responses = study(n_voxels=30)
    train, test = responses.split(test_ids=TEST)
    criterion = Criterion(shares=("product", "unique"))
    scorer = Scorer(features, HeldOutSides(train, test), lambda: estimators.make("banded_ridge"), criterion)
    found = set(scorer.score(analyses.make("noise-levels", features.bands)).columns["statistic"])
    expected = {"r", "r2", "p", "q", "mask", "shareR2", "shareR", "uniqueR2", "uniqueP", "uniqueQ", "uniqueMask"}
    assert found == expected | {"excessR2", "identifiability"}
