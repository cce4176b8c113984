"""Two estimators side by side: what is reported of them is what was planted, and what others compute."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from latentcortex import inference, plotting
from latentcortex._arrays import TILE
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators._agreement import SEED, Agreement, compare
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya
from latentcortex.plotting.agreement import MIN_COUNTED_VOXELS

N, N_TEST = 200, 80


class Planted:
    """Predicts by weights that it is given, whatever it is fitted to."""

    def __init__(self, weights: dict[str, np.ndarray], *, alpha=1.0, gamma=None, intercept=0.0, bands=None) -> None:
        n_voxels = next(iter(weights.values())).shape[1]
        self.weights, self.bands = weights, bands or tuple(weights)
        self.alphas_ = np.full(n_voxels, alpha)
        self.offset_ = np.full(n_voxels, intercept)
        own = np.full(len(weights), 1 / len(weights)) if gamma is None else np.asarray(gamma)
        self.mixtures_ = np.repeat(own[:, None], n_voxels, axis=1)

    def fit(self, bands, y, *, groups=None, sample_weight=None):
        return self

    def predict(self, bands, *, split=False):
        parts = np.stack([bands[band] @ self.weights[band] for band in self.bands])
        return parts if split else parts.sum(0) + self.offset_


def planted(n_voxels: int = 40, *, noise: float = 0.3, seed: int = 0):
    """Make bands and responses of rows to fit and of others, and the weights behind them."""
    rng = np.random.default_rng(seed)
    sizes = {"z": 10, "c": 15}
    bands = {band: rng.standard_normal((N + N_TEST, size)) for band, size in sizes.items()}
    weights = {band: rng.standard_normal((size, n_voxels)) / np.sqrt(size) for band, size in sizes.items()}
    y = sum(bands[band] @ weights[band] for band in bands) + noise * rng.standard_normal((N + N_TEST, n_voxels)) + 3
    fitted, test = ({band: x[rows] for band, x in bands.items()} for rows in (slice(N), slice(N, None)))
    return {"bands": fitted, "y": y[:N], "test_bands": test, "test_y": y[N:]}, weights


@pytest.fixture(scope="module")
def both() -> tuple[Agreement, dict, tuple]:
    """Compare the two engines, voxel 3 constant and voxel 5 nan on a test row."""
    rows, _ = planted()
    rows["y"][:, 3], rows["test_y"][7, 5] = 2.0, np.nan
    models = BandedRidge(), Himalaya()
    return compare(*models, **rows, groups=[str(i) for i in range(N)]), rows, models


def test_both_engines_agree_on_what_is_planted(both) -> None:
    agreement, _, _ = both
    assert agreement.names == ("banded_ridge", "himalaya")
    valid = agreement.table.drop(index=[3, 5])
    assert (valid["prediction_r"] > 0.99).all()
    assert (valid["r2_difference"].abs() < 0.02).all()
    assert (valid["r2_banded_ridge"] > 0.8).all()


def test_scores_are_those_that_others_compute_from_the_predictions(both) -> None:
    agreement, rows, models = both
    known = agreement.table.index.difference([3, 5])
    yhat = [model.predict(rows["test_bands"])[:, known] for model in models]
    y, table = rows["test_y"][:, known], agreement.table.loc[known]
    for name, own in zip(agreement.names, yhat, strict=True):
        np.testing.assert_allclose(table[f"r2_{name}"], r2_score(y, own, multioutput="raw_values"), atol=1e-6)
        expected = [stats.pearsonr(y[:, v], own[:, v]).statistic for v in range(len(known))]
        np.testing.assert_allclose(table[f"r_{name}"], expected, atol=1e-6)
        centred = r2_score(y - y.mean(0), own - own.mean(0), multioutput="raw_values")
        np.testing.assert_allclose(table[f"share_z_{name}"] + table[f"share_c_{name}"], centred, atol=1e-6)
        np.testing.assert_allclose(table[f"mixture_z_{name}"] + table[f"mixture_c_{name}"], 1, atol=1e-6)
    expected = [stats.pearsonr(yhat[0][:, v], yhat[1][:, v]).statistic for v in range(len(known))]
    np.testing.assert_allclose(table["prediction_r"], expected, atol=1e-6)


def test_a_voxel_that_is_not_valid_is_nan_and_counted(both) -> None:
    agreement, _, _ = both
    assert agreement.table.loc[[3, 5]].isna().all(axis=None)
    assert agreement.table.drop(index=[3, 5]).notna().all(axis=None)
    found = agreement.summary()
    assert (found["n_voxels"], found["n_not_valid"], found["n_without_prediction_r"]) == (40, 2, 0)
    assert np.isfinite(agreement.draws).all()


def test_a_voxel_that_one_of_them_lost_keeps_what_the_other_made_of_it() -> None:
    rows, weights = planted(4)
    lost = Planted(weights)
    lost.offset_[2] = np.nan
    agreement = compare(Planted(weights, intercept=3.0), lost, **rows)
    row = agreement.table.loc[2]
    shared = ["r2_difference", "log10_alpha_ratio", "mixture_distance", "prediction_r"]
    assert row[[*shared, *(name for name in row.index if name.endswith("_other"))]].isna().all()
    assert row[[name for name in row.index if name.endswith("_one")]].notna().all()
    assert agreement.summary()["n_not_valid"] == 1


def test_identical_estimators_differ_by_exactly_0() -> None:
    rows, _ = planted(12)
    one = BandedRidge()
    for other in (BandedRidge(), one):
        agreement = compare(one, other, **rows)
        assert agreement.names == ("one", "other")
        assert (agreement.table[["r2_difference", "log10_alpha_ratio", "mixture_distance"]] == 0).all(axis=None)
        assert agreement.interval == (0, 0)
        assert agreement.summary()["prediction_r_min"] == pytest.approx(1)


def test_a_bad_estimator_is_shown_to_be_worse() -> None:
    rows, _ = planted(20)
    good, bad = BandedRidge(), BandedRidge(alphas=[1e6])
    found, turned = compare(good, bad, **rows).summary(), compare(bad, good, **rows).summary()
    assert 0 < found["r2_difference_low"] < found["r2_difference"] < found["r2_difference_high"]
    assert turned["r2_difference_high"] < 0
    assert turned["r2_difference"] == -found["r2_difference"]
    assert found["median_abs_log10_alpha_ratio"] > 4


def test_a_draw_is_the_difference_of_sklearns_scores_of_the_drawn_rows() -> None:
    rows, weights = planted(6, noise=1.0)
    half = {band: w / 2 for band, w in weights.items()}
    models = Planted(weights, intercept=3.0), Planted(half, intercept=2.5)
    agreement = compare(*models, **rows)
    yhat = [model.predict(rows["test_bands"]) for model in models]
    drawn = inference.bootstrap_rows(N_TEST, n_draws=5, seed=SEED)
    expected = [r2_score(rows["test_y"][i], yhat[0][i]) - r2_score(rows["test_y"][i], yhat[1][i]) for i in drawn]
    np.testing.assert_allclose(agreement.draws[:5], expected, rtol=1e-9)
    assert len(agreement.draws) == agreement.summary()["n_draws"]


def test_the_interval_is_scipys_basic_one() -> None:
    rows, weights = planted(6, noise=1.0)
    half = {band: w / 2 for band, w in weights.items()}
    models = Planted(weights, intercept=3.0), Planted(half, intercept=2.5)
    yhat = [model.predict(rows["test_bands"]) for model in models]

    def statistic(at: np.ndarray) -> float:
        return r2_score(rows["test_y"][at], yhat[0][at]) - r2_score(rows["test_y"][at], yhat[1][at])

    theirs = stats.bootstrap(
        (np.arange(N_TEST),), statistic, vectorized=False, n_resamples=1000, method="basic", rng=0
    ).confidence_interval
    low, high = compare(*models, **rows).interval
    assert np.abs(np.subtract((low, high), theirs)).max() < 0.1 * (high - low)


def test_planted_alphas_and_mixtures_are_reported_by_band() -> None:
    rows, weights = planted(5)
    one = Planted(weights, alpha=1.0, gamma=[0.75, 0.25], intercept=3.0)
    other = Planted(weights, alpha=100.0, gamma=[0.5, 0.5], intercept=3.0, bands=("c", "z"))
    other.mixtures_[:, 0] = [0.32, 0.68]
    agreement = compare(one, other, **rows)
    table, found = agreement.table, agreement.summary()
    np.testing.assert_allclose(table["log10_alpha_ratio"], -2)
    np.testing.assert_allclose(table["mixture_distance"], [0.07, 0.25, 0.25, 0.25, 0.25])
    assert (table.loc[0, "mixture_z_one"], table.loc[0, "mixture_z_other"]) == (0.75, 0.68)
    np.testing.assert_allclose(table["share_z_one"], table["share_z_other"], rtol=1e-12)
    assert found["mixtures_differ"] == 0.8
    assert found["median_abs_log10_alpha_ratio"] == 2


def test_a_constant_prediction_has_no_correlation_and_is_counted() -> None:
    rows, weights = planted(3)
    nothing = {band: np.zeros_like(w) for band, w in weights.items()}
    found = compare(Planted(weights, intercept=3.0), Planted(nothing, intercept=3.0), **rows).summary()
    assert (found["n_not_valid"], found["n_without_prediction_r"]) == (0, 3)
    assert np.isnan(found["prediction_r_min"])


def test_a_small_prediction_beside_a_large_intercept_keeps_its_correlation() -> None:
    rows, weights = planted(3)
    faint = {band: 1e-9 * w for band, w in weights.items()}
    table = compare(Planted(weights, intercept=3.0), Planted(faint, intercept=1e3), **rows).table
    np.testing.assert_allclose(table["prediction_r"], 1)
    np.testing.assert_allclose(table["r_other"], table["r_one"])


def test_voxels_that_are_not_valid_change_nothing_for_the_others() -> None:
    rows, weights = planted(5)
    half = {band: w / 2 for band, w in weights.items()}
    few = {**rows, "y": rows["y"][:, 1:], "test_y": rows["test_y"][:, 1:].copy()}
    rows["test_y"][:, 0] = 3.0
    whole = compare(Planted(weights, intercept=3.0), Planted(half), **rows)
    own, half_own = ({band: w[:, 1:] for band, w in these.items()} for these in (weights, half))
    part = compare(Planted(own, intercept=3.0), Planted(half_own), **few)
    np.testing.assert_allclose(whole.draws, part.draws, rtol=1e-12)
    np.testing.assert_allclose(whole.interval, part.interval, rtol=1e-12)


def test_a_voxels_row_does_not_depend_on_its_tile() -> None:
    rows, weights = planted(TILE + 10)
    at = slice(TILE, None)
    few = {**rows, "y": rows["y"][:, at], "test_y": rows["test_y"][:, at]}
    own = {band: w[:, at] for band, w in weights.items()}
    half, half_own = ({band: w / 2 for band, w in these.items()} for these in (weights, own))
    whole = compare(Planted(weights), Planted(half), **rows)
    part = compare(Planted(own), Planted(half_own), **few)
    pd.testing.assert_frame_equal(whole.table[at].reset_index(drop=True), part.table, check_names=False, rtol=1e-12)


def test_the_summary_names_the_largest_differences_and_can_be_written_as_json(both) -> None:
    agreement, _, _ = both
    found = agreement.summary(n_largest=3)
    difference = agreement.table["r2_difference"]
    assert [voxel for voxel, _ in found["largest_differences"]] == list(difference.abs().nlargest(3).index)
    assert found["largest_differences"][0][1] == difference[difference.abs().idxmax()]
    assert json.loads(json.dumps(found, allow_nan=False))["seed"] == SEED


def wrong(**changes):
    rows, _ = planted(3)
    return {**rows, **{name: change(rows[name]) for name, change in changes.items()}}


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (wrong(y=lambda y: y[:, 0]), r"y is \(200,\)"),
        (wrong(test_y=lambda y: y[:0], test_bands=lambda b: {k: x[:0] for k, x in b.items()}), r"test_y is \(0, 3\)"),
        (wrong(test_y=lambda y: y[:, :2]), "y has 3 voxels and test_y has 2"),
        (wrong(y=lambda y: y[1:]), "Band z has 200 rows and y has 199"),
        (wrong(test_y=lambda y: y[1:]), "Band z has 80 rows and test_y has 79"),
        (wrong(test_bands=lambda b: {"z": b["z"]}), "bands are z, c; test_bands are z"),
        (wrong(test_bands=lambda b: {**b, "c": b["c"][:, 1:]}), "Band c has 15 columns in bands and 14 in test_bands"),
        (wrong(test_y=lambda y: y * np.nan), "0 of 3 voxels are valid"),
    ],
)
def test_arrays_that_do_not_match_are_refused(rows: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        compare(BandedRidge(), BandedRidge(), **rows)


def test_an_estimator_whose_results_are_of_another_shape_is_refused() -> None:
    rows, weights = planted(3)
    one_alpha, other_bands = Planted(weights), Planted(weights, bands=("z",))
    one_alpha.alphas_ = np.float64(1.0)
    with pytest.raises(InputError, match=r"alphas_ of other is \(\); expected \(3,\)"):
        compare(Planted(weights), one_alpha, **rows)
    with pytest.raises(AlignmentError, match="one was given z, c; its bands are z"):
        compare(other_bands, Planted(weights), **rows)


def test_the_picture_has_three_panels_with_labels(both, tmp_path) -> None:
    agreement, _, _ = both
    figure = plotting.estimator_agreement(agreement.table, agreement.names, agreement.interval)
    left, middle, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel()) == ("R² of himalaya", "R² of banded_ridge")
    assert (middle.get_xlabel(), middle.get_ylabel()) == ("R² of banded_ridge − R² of himalaya", "voxels")
    assert (right.get_xlabel(), right.get_ylabel()) == ("log10 alpha of himalaya", "log10 alpha of banded_ridge")
    for ax in (left, right):
        assert ax.get_xlim() == ax.get_ylim()
        assert len(ax.lines[1].get_xdata()) == 38
    assert left.get_title() == "38 voxels; 2 undefined"
    assert sum(bar.get_height() for bar in middle.patches[:31]) == 38
    plotting.save(figure, tmp_path / "agreement.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_many_voxels_are_drawn_as_counts_and_those_far_away_are_counted() -> None:
    rows, weights = planted(3 * MIN_COUNTED_VOXELS)
    far = {band: w * np.where(np.arange(3 * MIN_COUNTED_VOXELS) == 4, 50, 0.5) for band, w in weights.items()}
    agreement = compare(Planted(weights, intercept=3.0), Planted(far, intercept=3.0), **rows)
    figure = plotting.estimator_agreement(agreement.table, agreement.names, agreement.interval)
    figure.draw_without_rendering()
    left, middle, right, bar = figure.axes
    assert bar.get_ylabel() == "voxels"
    assert left.get_title() == "1,500 voxels\n1 outside the picture"
    assert middle.get_title().endswith("1 outside the picture")
    assert np.nansum(left.collections[0].get_array()) == 3 * MIN_COUNTED_VOXELS - 1
    assert np.nansum(right.collections[0].get_array()) == 3 * MIN_COUNTED_VOXELS
