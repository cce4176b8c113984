"""Means over regions have the interval that scoring every bootstrap draw anew gives, and it covers."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from latentcortex import inference, scoring
from latentcortex.encoding import Criterion, Encoder, Null, Prediction, RegionMeans
from latentcortex.encoding.pieces import Piece
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.responses import Responses
from latentcortex.space import Unlocated

BANDS = ("z", "c")
NAMES = {1: "early", 2: "ventral", 5: "none of these"}
N_VOXELS = 40


@pytest.fixture(scope="module")
def fitted() -> tuple[Encoder, Features, Responses]:
    rng = np.random.default_rng(0)
    ids = [f"s{i:03d}" for i in range(160)]
    values = {band: rng.standard_normal((160, 12)) for band in BANDS}
    data = values["z"] @ rng.standard_normal((12, N_VOXELS)) + values["c"] @ rng.standard_normal((12, N_VOXELS))
    data = (data + 5 * rng.standard_normal(data.shape)).astype(np.float32)
    data[:, 7] = 1.0
    features = Features.from_arrays(ids, values)
    sides = [
        Responses.single_trials(data[rows], Unlocated(N_VOXELS), stimulus=ids[rows], session=["1"] * n, run=["1"] * n)
        for rows, n in ((slice(0, 100), 100), (slice(100, 160), 60))
    ]
    return Encoder(BandedRidge(), analysis="both").fit(features, sides[0]), features, sides[1]


def scored(fitted: tuple[Encoder, Features, Responses], labels: np.ndarray, *, n_pieces: int) -> tuple[Maps, list]:
    encoder, features, test = fitted
    how = Criterion(shares=("product", "unique"), null="analytic", identifiability=False)
    (whole,) = encoder.predict_tiles(features, test, shares=how.shares)
    edges = np.linspace(0, N_VOXELS, n_pieces + 1).astype(int)
    pieces = [
        Prediction(
            whole.y[:, a:b],
            whole.yhat_bands[..., a:b],
            whole.offset[a:b],
            {bands: yhat[:, a:b] for bands, yhat in whole.nested.items()},
        )
        for a, b in pairwise(edges)
    ]
    regions = RegionMeans(labels, NAMES, seed=3)
    return encoder.maps_of(pieces, test.space, how, null=Null.of(whole, how), regions=regions), [whole]


@pytest.mark.parametrize("n_pieces", [1, 3])
def test_intervals_are_those_of_scoring_anew_without_each_stimulus(fitted, n_pieces: int) -> None:
    labels = np.repeat([1, 2, 0, 1], 10)
    maps, (whole,) = scored(fitted, labels, n_pieces=n_pieces)
    n = len(whole.y)

    def without(voxels: np.ndarray) -> dict[tuple[str, str], list[float]]:
        found: dict[tuple[str, str], list[float]] = {}
        for left_out in range(n):
            row = np.arange(n) != left_out
            y, parts = whole.y[row][:, voxels].astype(float), whole.yhat_bands[:, row][..., voxels].astype(float)
            yhat = whole.yhat[row][:, voxels].astype(float)
            found.setdefault(("r", ""), []).append(scoring.correlation(y, yhat).mean())
            # About the mean of all stimuli, not of those that are left.
            spread = np.square(y - whole.y[:, voxels].mean(0, dtype=float)).sum(0)
            error = np.square(y - yhat).sum(0)
            found.setdefault(("r2", ""), []).append((1 - error / spread).mean())
            for band, share in zip(BANDS, scoring.product_shares(y, parts), strict=True):
                found.setdefault(("shareR2", band), []).append(share.mean())
                (other,) = (one for one in BANDS if one != band)
                both = (whole.yhat, whole.nested[other,])
                level = [(whole.y - one)[:, voxels].mean(0, dtype=float) for one in both]
                without = np.square(y - whole.nested[other,][row][:, voxels] - level[1]).sum(0)
                more = without - np.square(y - yhat - level[0]).sum(0)
                found.setdefault(("uniqueR2", band), []).append((more / spread).mean())
        return found

    for label, name in ((1, "early"), (2, "ventral")):
        voxels = np.flatnonzero((labels == label) & (np.arange(N_VOXELS) != 7))
        for (statistic, band), values in without(voxels).items():
            (facts,) = maps.find_columns(statistic=statistic, band=band).columns.to_dict("records")
            mean = np.nanmean(maps.values(statistic=statistic, band=band)[voxels])
            pseudo = n * mean - (n - 1) * np.array(values)  # Tukey's
            expected = stats.t.interval(0.95, n - 1, pseudo.mean(), stats.sem(pseudo))
            np.testing.assert_allclose(facts["intervals"][name], expected, atol=2e-5)
            assert "none of these" not in facts["intervals"]


def test_a_tile_has_sums_of_its_own_regions_only(fitted) -> None:
    """Those of 148 regions were 105 MB for each model of 300,000 voxels, nearly all of them 0."""
    encoder, features, test = fitted
    (whole,) = encoder.predict_tiles(features, test, shares=("product",))
    how = Criterion(shares=("product",), null="analytic")
    labels = np.repeat([140, 0, 3, 1000], 10)
    names = {label: f"region {label}" for label in range(1, 149)}
    numbers, sums = RegionMeans(labels, names).sums(whole, BANDS, how.shares, Null.of(whole, how), labels)
    assert numbers.tolist() == [2, 139]
    assert sums.shape == (2, 4, 61)
    assert sums[:, :, 0].tolist() == [[10] * 4, [9] * 4]  # a voxel of region 140 is constant


def test_sums_are_added_up_tile_by_tile_however_many_tiles_a_piece_has() -> None:
    """0.1 + (0.2 + 0.3) is another number than (0.1 + 0.2) + 0.3."""
    tiles = [Piece(sums={"total": np.array([[value]])}) for value in (0.1, 0.2, 0.3)]
    for pieces in (tiles, [tiles[0], Piece.join(tiles[1:])], [Piece.join(tiles[:2]), tiles[2]]):
        joined = Piece.join(pieces)
        assert joined.total("total").tolist() == [(0.1 + 0.2) + 0.3]
        assert [one.tolist() for one in joined.each("total")] == [[0.1], [0.2], [0.3]]
        assert "total" in joined.sums


def test_a_table_of_regions_has_the_intervals_round_the_means(fitted) -> None:
    labels = np.repeat([1, 2, 0, 1], 10)
    maps, _ = scored(fitted, labels, n_pieces=2)
    table = maps.summarise(list(labels), NAMES)
    known = table[table["statistic"].isin(["r", "r2", "shareR2", "uniqueR2"]) & (table["n_valid"] > 0)]
    assert len(known) == 2 * (2 + 2 * 2)
    assert (known["low"] < known["mean"]).all()
    assert (known["mean"] < known["high"]).all()
    others = table.drop(known.index)
    assert others[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("factor", [1e-15, 1e-12, 1e12, 1e15])
def test_intervals_do_not_depend_on_the_unit_of_responses(fitted, factor: float) -> None:
    """In tesla the interval of a mean r had collapsed to one number: squares of squares vanish in float32."""
    encoder, _, test = fitted
    labels, by = np.repeat([1, 2, 0, 1], 10), np.float32(factor)
    expected, (whole,) = scored(fitted, labels, n_pieces=1)
    nested = {bands: yhat * by for bands, yhat in whole.nested.items()}
    other = Prediction(whole.y * by, whole.yhat_bands * by, whole.offset * factor, nested)
    how = Criterion(shares=("product", "unique"), null="analytic", identifiability=False)
    regions = RegionMeans(labels, NAMES, seed=3)
    maps = encoder.maps_of(other, test.space, how, null=Null.of(whole, how), regions=regions)
    for facts, wanted in zip(maps.columns.to_dict("records"), expected.columns.to_dict("records"), strict=True):
        intervals = wanted["intervals"] if isinstance(wanted["intervals"], dict) else {}
        for name, ends in intervals.items():
            np.testing.assert_allclose(facts["intervals"][name], ends, atol=5e-5)
    for statistic in ("r", "r2", "p", "shareR2", "shareR", "uniqueR2"):
        values, wanted = (one.find_columns(statistic=statistic).data for one in (maps, expected))
        np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-5)


def covering(draw, truth: float, n_runs: int, *, clusters: list[str] | None, score) -> float:
    """Count how often the interval of a mean over voxels holds what unlimited stimuli would give."""
    covered = []
    for _ in range(n_runs):
        y, yhat = draw()
        weights, left_out = inference.leave_out(len(y), clusters=clusters, seed=0)
        means = score(y, yhat, weights).astype(float).mean(1)
        low, high = inference.jackknife_interval(means[:1], means[1:, None] - means[0], left_out)
        covered.append(low[0] < truth < high[0])
    return float(np.mean(covered))


def test_the_interval_of_a_mean_covers_what_unlimited_stimuli_would_give() -> None:
    """Predictions are fixed; 300 test sets of 100 stimuli, and the truth from 40,000."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((20, 20)) / 3  # voxels that share noise

    def draw(n: int = 100) -> tuple[np.ndarray, np.ndarray]:
        yhat = rng.standard_normal((n, 20))
        return (0.4 * yhat + rng.standard_normal((n, 20)) @ mixing + rng.standard_normal((n, 20))), yhat

    truth = float(scoring.correlation(*draw(40_000)).mean())
    rate = covering(draw, truth, 300, clusters=None, score=scoring.weighted_correlation)
    assert 0.9 < rate < 0.99


def test_the_interval_of_r2_is_round_its_mean_and_covers_what_such_test_sets_give() -> None:
    """150 voxels that share noise, a third predicted; 200 test sets of 100 stimuli, and the mean of 2,000 others."""
    rng = np.random.default_rng(0)
    gain, mixing = np.where(np.arange(150) < 50, 0.6, 0.0), rng.standard_normal((5, 150)) / 2

    def draw() -> tuple[np.ndarray, np.ndarray]:
        yhat = rng.standard_normal((100, 150)) * gain
        noise = rng.standard_normal((100, 5)) @ mixing + 0.5 * rng.standard_normal((100, 150))
        return (yhat + noise).astype(np.float32), yhat.astype(np.float32)

    truth = float(np.mean([scoring.r2(*draw()).mean() for _ in range(2000)]))
    score = partial(scoring.weighted_r2, own_mean=False)
    assert 0.9 < covering(draw, truth, 200, clusters=None, score=score) < 0.99


def test_clusters_are_left_out_whole_and_many_rows_in_groups() -> None:
    weights, left_out = inference.leave_out(6, clusters=["a", "a", "b", "b", "b", "c"], seed=0)
    np.testing.assert_allclose(weights, np.array([[1] * 6, [0, 0, 1, 1, 1, 1], [1, 1, 0, 0, 0, 1], [1] * 5 + [0]])
                               / np.array([[6], [4], [3], [5]]))  # fmt: skip
    np.testing.assert_allclose(left_out, [2 / 6, 3 / 6, 1 / 6])
    weights, left_out = inference.leave_out(250, seed=0)
    assert weights.shape == (101, 250)
    assert set((250 * left_out).round(9)) == {2.0, 3.0}
    assert left_out.sum() == pytest.approx(1)


def test_one_cluster_tells_no_interval() -> None:
    weights, left_out = inference.leave_out(5, clusters=["a"] * 5, seed=0)
    assert weights.shape == (1, 5)
    assert np.isnan(inference.jackknife_interval(np.zeros(3), np.empty((0, 3)), left_out)).all()


def test_a_level_out_of_range_and_changes_of_other_groups_are_refused() -> None:
    with pytest.raises(InputError, match="level must lie between 0 and 1; got 95"):
        inference.jackknife_interval(np.zeros(3), np.zeros((2, 3)), np.full(2, 0.5), level=95)
    with pytest.raises(AlignmentError, match="left_out is"):
        inference.jackknife_interval(np.zeros(3), np.zeros((3, 3)), np.full(2, 0.5))


def test_clusters_are_drawn_whole() -> None:
    weights = inference.bootstrap_weights(6, clusters=["a", "a", "b", "b", "b", "c"], n_draws=50, seed=0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert weights.std() > 0


def test_a_voxel_that_hardly_varies_does_not_widen_the_interval_of_its_region() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((100, 20)).astype(np.float32)
    yhat = (0.6 * y + 0.4 * rng.standard_normal((100, 20))).astype(np.float32)
    y[:, 0] = 0.1
    y[50, 0] = 1.0
    weights = inference.bootstrap_weights(100, n_draws=200, seed=0)
    undefined = weights[:, 50] == 0
    assert 50 < undefined.sum() < 100
    for values in (
        scoring.weighted_correlation(y, yhat, weights),
        scoring.weighted_r2(y, yhat, weights),
        scoring.weighted_product_shares(y, yhat[None], weights)[0],
    ):
        np.testing.assert_array_equal(np.isnan(values[:, 0]), undefined)
        assert np.isfinite(values[:, 1:]).all()
