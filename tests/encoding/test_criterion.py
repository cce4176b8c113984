"""Which null a design gets, in whole pipelines; and what is said of how far a split may be trusted."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from _permutations import permuted_r
from scipy import signal

from latentcortex import BandedRidge, Encoder, Features, Maps, Responses, inference
from latentcortex.encoding import Criterion, Folds, Null, Prediction
from latentcortex.errors import InputError
from latentcortex.space import Unlocated
from latentcortex.splits import Splits
from latentcortex.statistics import MIN_RELIABILITY

AR = (0.0, 0.3, 0.56, 0.8)


def slow(rng: np.random.Generator, n: int, n_columns: int, ar: float) -> np.ndarray:
    return signal.lfilter([1], [1, -ar], rng.standard_normal((n + 100, n_columns)), axis=0)[100:].astype(np.float32)


def recording(data: np.ndarray) -> Responses:
    ids = [f"t{i:05d}" for i in range(len(data))]
    n = len(ids)
    return Responses.single_trials(data, Unlocated(data.shape[1]), stimulus=ids, session=["1"] * n, run=["1"] * n)


def null_maps(seed: int, ar: float, *, n_voxels: int = 100, n_test: int = 1000, **criterion: object) -> Maps:
    """Run the whole pipeline on a series that has nothing to do with its features; default settings unless given."""
    rng = np.random.default_rng(seed)
    n = 400 + n_test
    responses = recording(slow(rng, n, n_voxels, ar))
    features = Features.from_arrays(responses.ids, {"z": slow(rng, n, 20, ar)})
    train, test = responses.split(test_ids=responses.ids[400:], zscore="none")
    return Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test, **criterion)


def rates(ar: float, n_runs: int, **criterion: object) -> tuple[np.ndarray, float, set[str]]:
    """False-positive rate of each run, how often anything passes BH, and the nulls that were chosen."""
    maps = [null_maps(seed, ar, **criterion) for seed in range(n_runs)]
    passed = np.array([(one.values(statistic="p") <= 0.05).mean() for one in maps])
    any_found = float(np.mean([one.values(statistic="mask").any() for one in maps]))
    return passed, any_found, {str(one.find_columns(statistic="p").columns["null"].iloc[0]) for one in maps}


def held(passed: np.ndarray, any_found: float) -> bool:
    """Voxels of one run share their features, so that the rate's standard error is that over runs."""
    return passed.mean() <= 0.05 + 3 * passed.std(ddof=1) / len(passed) ** 0.5 and any_found <= 0.05 + 3 * np.sqrt(
        0.05 * 0.95 / len(passed)
    )


@pytest.mark.parametrize("ar", AR)
def test_default_settings_hold_the_rate_of_a_time_series_and_a_closed_form_does_not(ar: float) -> None:
    passed, any_found, nulls = rates(ar, 10)
    assert held(passed, any_found)
    assert all("stretches" in one for one in nulls) == (ar > 0)
    naive, _, _ = rates(ar, 10, null="analytic")
    assert (naive.mean() > 0.05 + 3 * naive.std() / 10**0.5) == (ar >= 0.56)


@pytest.mark.nightly
@pytest.mark.parametrize("ar", AR)
def test_default_settings_hold_the_rate_over_many_runs(ar: float, record_property) -> None:
    passed, any_found, _ = rates(ar, 200, n_voxels=400)
    naive, naive_found, _ = rates(ar, 200, n_voxels=400, null="analytic")
    rows, _, _ = rates(ar, 50, n_voxels=400, null="permutation", n_permutations=200)
    said = (
        f"AR {ar}: passed {passed.mean():.4f}, FWER {any_found:.3f}; closed form {naive.mean():.4f}, {naive_found:.3f}"
    )
    record_property("rates", f"{said}; single rows {rows.mean():.4f}")
    logging.getLogger(__name__).warning("%s; single rows %.4f", said, rows.mean())
    assert held(passed, any_found)
    if ar >= 0.56:
        assert not held(naive, naive_found)
        assert not held(rows, 0)


def test_a_short_or_shuffled_test_set_is_no_time_series() -> None:
    """Responses may drift: what counts is the product with the predictions' autocorrelation."""
    rng = np.random.default_rng(0)
    y, yhat = slow(rng, 300, 50, 0.8), rng.standard_normal((1, 300, 50)).astype(np.float32)
    assert str(Null.of(Prediction(y, yhat, np.zeros(50)), Criterion())) == "independent Gaussian vectors"
    found = Null.of(Prediction(y, slow(rng, 300, 50, 0.8)[None], np.zeros(50)), Criterion(n_permutations=99))
    assert (found.name, found.counted, found.block) == ("blocks", 99, inference.block_length(y))
    assert Null.of(Prediction(y, yhat, np.zeros(50)), Criterion(null="shift")).orders(300).shape == (299, 300)


def clustered(rng: np.random.Generator, n_clusters: int, each: int, n_columns: int, icc: float) -> np.ndarray:
    common = np.repeat(rng.standard_normal((n_clusters, n_columns)), each, axis=0)
    own = rng.standard_normal((n_clusters * each, n_columns))
    return (np.sqrt(icc) * common + np.sqrt(1 - icc) * own).astype(np.float32)


def test_clusters_that_are_held_out_are_flipped_whole() -> None:
    """20 clusters of 15 stimuli, ICC .3: one by one, one in eight voxels without signal would pass."""
    rng = np.random.default_rng(1)
    y, yhat = clustered(rng, 20, 15, 2000, 0.3), clustered(rng, 20, 15, 2000, 0.3)
    clusters = tuple(f"c{i // 15}" for i in range(300))
    held_out = Prediction(y, yhat[None], np.zeros(2000), clusters=clusters)
    null = Null.of(held_out, Criterion())
    assert null.name == "clusters"
    assert (null.p(held_out) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert (held_out.p <= 0.05).mean() > 0.1
    driven = Prediction(y, (yhat + 0.3 * y)[None], np.zeros(2000), clusters=clusters)
    assert (null.p(driven) <= 0.05).mean() > 0.9
    with pytest.raises(InputError, match="needs test stimuli that come in clusters"):
        Null.of(Prediction(y, yhat[None], np.zeros(2000)), Criterion(null="clusters"))


def test_folds_of_clusters_flip_clusters_and_folds_of_stimuli_permute() -> None:
    rng = np.random.default_rng(2)
    groups = [f"c{i // 6}" for i in range(120)]
    order = rng.permutation(120)
    responses, groups = recording(clustered(rng, 20, 6, 40, 0.5)[order]), [groups[i] for i in order]
    features = Features.from_arrays(responses.ids, {"z": rng.standard_normal((120, 8))})
    by_cluster = Splits.k_fold(responses.ids, 4, groups=groups, unit="cluster", seed=0)
    encoder = Encoder(BandedRidge(seed=0))
    with pytest.raises(InputError, match="Across folds only product shares"):
        encoder.cross_validate(features, responses, by_cluster, shares=("unique",))
    maps = encoder.cross_validate(features, responses, by_cluster, zscore="none")
    assert (
        maps.find_columns(statistic="p").columns["null"].iloc[0]
        == "1000 flips of signs of whole clusters, each refitted in every fold"
    )
    with pytest.raises(InputError, match="null = 'analytic' is not valid for predictions pooled over folds"):
        encoder.cross_validate(features, responses, by_cluster, zscore="none", null="analytic")
    folds = Folds.of(features, responses, Splits.k_fold(responses.ids, 4, seed=0), "none")
    assert folds.null_of(folds.predict(BandedRidge()), Criterion()).name == "permutation"


@pytest.mark.parametrize("icc", [0.1, 0.5])
def test_folds_of_clusters_hold_their_rate_and_flips_without_refits_do_not(icc: float) -> None:
    """50 clusters in 10 folds; each pair of clusters counts twice, since each is predicted from the other."""
    passed, naive = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        responses = recording(clustered(rng, 50, 6, 150, icc))
        features = Features.from_arrays(responses.ids, {"z": clustered(rng, 50, 6, 20, 0.9)})
        groups = [f"c{i // 6}" for i in range(300)]
        splits = Splits.k_fold(responses.ids, 10, groups=groups, unit="cluster", seed=0)
        estimator = BandedRidge(alphas=[1.0], selection="gcv")
        folds = Folds.of(features, responses, splits, "none")
        held_out = folds.predict(estimator)
        null = folds.null_of(held_out, Criterion(n_permutations=99))
        drawn = permuted_r(estimator, features, responses, splits, "none", null)
        passed.append((inference.permutation_p(held_out.r, drawn) <= 0.05).mean())
        naive.append((null.p(held_out) <= 0.05).mean())
    # Voxels of a run share its features: three standard errors over 4 runs of 150 voxels, counted as 20 each.
    assert np.mean(passed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 80)
    if icc == 0.5:
        assert np.mean(naive) > np.mean(passed)


def test_shifts_are_all_different_and_p_is_no_smaller_than_they_allow() -> None:
    orders = inference.exchange(60, n_permutations=1000, seed=0, block=6, shift=True)
    assert len(orders) == len({tuple(order) for order in orders}) == 49
    np.testing.assert_array_equal(inference.exchange(60, n_permutations=20, seed=0, block=6, shift=True), orders[:20])
    rng = np.random.default_rng(6)
    passed = []
    for _ in range(40):
        y, yhat = slow(rng, 100, 50, 0.7), slow(rng, 100, 50, 0.7)
        held_out = Prediction(y, yhat[None], np.zeros(50))
        null = Null.of(held_out, Criterion(null="shift"))
        p = null.p(held_out)
        assert p.min() >= 1 / (null.counted + 1) - 1e-12
        passed.append((p <= 0.05).mean())
    assert np.mean(passed) <= 0.05 + 3 * np.std(passed) / 40**0.5


def test_few_slow_voxels_make_the_stretches_long_enough_for_themselves() -> None:
    rng = np.random.default_rng(7)
    y, yhat = (np.c_[slow(rng, 500, 40, 0.8), rng.standard_normal((500, 960))] for _ in range(2))
    null = Null.of(Prediction(y, yhat[None], np.zeros(1000)), Criterion(n_permutations=200))
    assert null.block > 30
    white = Null.of(Prediction(y[:, 40:], yhat[None, :, 40:], np.zeros(960)), Criterion())
    assert white.name == "analytic"


def test_where_the_slow_voxels_lie_does_not_change_the_null() -> None:
    rng = np.random.default_rng(8)
    data = np.c_[np.full((900, 2000), np.nan), rng.standard_normal((900, 200)), slow(rng, 900, 200, 0.8)]
    responses = recording(data.astype(np.float32))
    features = Features.from_arrays(responses.ids, {"z": slow(rng, 900, 10, 0.8)})
    train, test = responses.split(test_ids=responses.ids[400:], zscore="none")
    maps = Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test, n_permutations=99)
    assert "stretches" in maps.find_columns(statistic="p").columns["null"].iloc[0]


def test_counts_that_tie_have_the_p_of_their_ties() -> None:
    rng = np.random.default_rng(9)
    y, yhat = rng.integers(0, 3, (2, 12, 300)).astype(np.float32)
    null = Null("permutation", 200, 0)
    among = null.p(Prediction(y, yhat[None], np.zeros(300)))
    alone = [null.p(Prediction(y[:, [v]], yhat[None, :, [v]], np.zeros(1)))[0] for v in range(60)]
    np.testing.assert_allclose(among[:60], alone)


def test_how_reliable_shares_are_does_not_depend_on_units_or_on_how_often_stimuli_were_shown() -> None:
    rng = np.random.default_rng(10)
    z, c = rng.standard_normal((200, 12)), rng.standard_normal((200, 12))
    y = np.c_[z @ rng.standard_normal((12, 30)), c @ rng.standard_normal((12, 30))] / 12**0.5
    y = (y + rng.standard_normal(y.shape)).astype(np.float32)
    ids = [f"s{i}" for i in range(200)]
    found = []
    for n_repeats, size, scale in ((1, 1.0, "trace"), (4, 1.0, "trace"), (1, 1.0, None), (1, 10.0, None)):
        rows = {"stimulus": ids * n_repeats, "session": ["1"] * 200 * n_repeats, "run": ["1"] * 200 * n_repeats}
        responses = Responses.single_trials(np.tile(y, (n_repeats, 1)), Unlocated(60), **rows)
        features = Features.from_arrays(ids, {"z": size * z, "c": size * c})
        train, test = responses.split(test_ids=ids[150:], zscore="none")
        alphas = np.logspace(-2, 7, 10) * (size**2 if scale is None else 1) * n_repeats
        encoder = Encoder(BandedRidge(scale=scale, alphas=alphas, seed=0)).fit(features, train)
        found.append(encoder.score(features, test).find_columns(statistic="identifiability").data)
    for other in found[1:]:
        np.testing.assert_allclose(np.nanmean(other), np.nanmean(found[0]), atol=0.06)


def test_few_stimuli_have_shares_and_no_reliability(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(11)
    responses = recording(rng.standard_normal((30, 8)).astype(np.float32))
    features = Features.from_arrays(
        responses.ids, {"a": rng.standard_normal((30, 3)), "b": rng.standard_normal((30, 3))}
    )
    train, test = responses.split(test_ids=responses.ids[18:], zscore="none")
    maps = Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test)
    assert "identifiability" not in set(maps.columns["statistic"])
    assert "18 fitted stimuli are too few to predict how reliable shares are" in caplog.text


def test_discoveries_expected_to_be_false_are_counted_in_folds_without_more_fits() -> None:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((90, 6))
    y = np.c_[z @ rng.standard_normal((6, 20)), 2 * rng.standard_normal((90, 20))].astype(np.float32)
    responses = recording(y + 0.5 * rng.standard_normal(y.shape).astype(np.float32))
    features = Features.from_arrays(responses.ids, {"z": z})
    splits = Splits.k_fold(responses.ids, 3, seed=0)
    maps = Encoder(BandedRidge(seed=0)).cross_validate(features, responses, splits, zscore="none", n_permutations=99)
    (facts,) = maps.find_columns(statistic="mask").columns.to_dict("records")
    assert maps.values(statistic="mask").sum() >= 18
    # 98 other draws and the ties of a p of 99: of 20 voxels without signal one at most.
    assert facts["n_shuffles"] == 99
    assert facts["n_false_low"] <= facts["n_false"] <= facts["n_false_high"] <= 4
    assert facts["n_false"] == pytest.approx(20 * facts["threshold"], abs=0.6)


def split_maps(overlap: float, *, shares: tuple[str, ...] = ("product", "unique")) -> Maps:
    """Two bands of 20 dimensions; half of the voxels by the first, half by the second."""
    rng = np.random.default_rng(4)
    a = rng.standard_normal((600, 20))
    b = overlap * a + np.sqrt(1 - overlap**2) * rng.standard_normal((600, 20))
    y = np.c_[a @ rng.standard_normal((20, 60)), b @ rng.standard_normal((20, 60))] / 20**0.5
    responses = recording((y + rng.standard_normal(y.shape)).astype(np.float32))
    features = Features.from_arrays(responses.ids, {"a": a, "b": b})
    train, test = responses.split(test_ids=responses.ids[400:], zscore="none")
    return Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test, shares=shares)


def test_what_makes_a_split_doubtful_is_said_beside_it() -> None:
    apart, near = split_maps(0.0), split_maps(0.995)
    for maps, low, high in ((apart, -0.1, 0.1), (near, 0.9, 1.0)):
        for facts in maps.find_columns(statistic="identifiability").columns.to_dict("records"):
            assert low <= facts["overlap"] <= high
    told = {name: np.nanmax(maps.find_columns(statistic="identifiability").data, axis=1) for name, maps in
            (("apart", apart), ("near", near))}  # fmt: skip
    assert (told["apart"] > MIN_RELIABILITY).mean() > 0.9
    assert (told["near"] < MIN_RELIABILITY).mean() > 0.8
    stable = [maps.find_columns(statistic="shareR2", band="a").columns["stability"].iloc[0] for maps in (apart, near)]
    assert stable[0] > 0.95 > stable[1]


def test_the_joint_model_can_explain_more_than_its_bands_alone() -> None:
    """The second band says what disturbs the first: alone it explains nothing."""
    rng = np.random.default_rng(5)
    signal_part, disturbance = rng.standard_normal((2, 600, 3))
    y = signal_part @ rng.standard_normal((3, 30)) + 0.3 * rng.standard_normal((600, 30))
    responses = recording(y.astype(np.float32))
    bands = {"a": signal_part + disturbance, "b": disturbance}
    features = Features.from_arrays(responses.ids, bands)
    train, test = responses.split(test_ids=responses.ids[400:], zscore="none")
    maps = Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test, shares=("unique",))
    assert (maps.values(statistic="excessR2") > 0.3).all()
    assert "excessR2" not in set(split_maps(0.0, shares=("product",)).columns["statistic"])


def test_models_are_compared_by_a_null_that_keeps_together_what_is_alike_for_any_of_them() -> None:
    of_four = Null("permutation", 1000, 0, clusters=tuple(f"set {i // 4}" for i in range(200)))
    of_two = Null("permutation", 5000, 0, clusters=tuple(f"set {max(i, 1)}" for i in range(200)))
    for nulls in ([of_four, of_two], [of_two, of_four]):
        assert len(set(Null.widest(nulls).clusters)) == 50
    plain = Null("analytic", 1000, 0)
    assert Null.widest([plain, of_two]) == Null.widest([of_two, plain])
    assert len(set(Null.widest([plain, of_two]).clusters)) == 199


def test_a_stricter_correction_gets_as_many_permutations_of_heavy_tails_as_it_needs() -> None:
    """Rare events that drive 8 of 2,000 voxels: BY asks for p 8 times smaller than BH."""
    rng = np.random.default_rng(0)
    x = (rng.random((400, 20)) < 0.03).astype(np.float32)
    y = rng.lognormal(0, 1.2, (400, 2000))
    y = (y - y.mean(0)) / y.std(0)
    y[:, :8] += 3 * x @ rng.standard_normal((20, 8))
    ids = [f"s{i:03d}" for i in range(400)]
    responses = Responses.single_trials(
        y.astype(np.float32), Unlocated(2000), stimulus=ids, session=["1"] * 400, run=["n/a"] * 400
    )
    train, test = responses.split(test_ids=ids[200:], zscore="none")
    features = Features.from_arrays(ids, {"x": x})
    estimator = BandedRidge(selection="gcv", alphas=np.logspace(0, 4, 5))
    maps = Encoder(estimator).fit(features, train).score(features, test, correction="by")
    assert "permutations of stimuli" in maps.find_columns(statistic="p").columns["null"].iloc[0]
    assert maps.values(statistic="mask")[:8].sum() >= 6


def test_a_criterion_that_is_not_known_is_refused() -> None:
    for given, said in (
        ({"null": "blok"}, r"Unknown null 'blok'\. Did you mean 'blocks'"),
        ({"family": "maps"}, r"Unknown family 'maps'\. Did you mean 'map'"),
        ({"n_permutations": 0}, "n_permutations must be a whole number of at least 1; got 0"),
    ):
        with pytest.raises(InputError, match=said):
            Criterion(**given)


def test_many_voxels_are_sampled_for_the_null_and_all_are_scored() -> None:
    rng = np.random.default_rng(12)
    responses = recording(rng.standard_normal((120, 5000)).astype(np.float32))
    features = Features.from_arrays(responses.ids, {"z": rng.standard_normal((120, 200))})
    train, test = responses.split(test_ids=responses.ids[90:], zscore="none")
    maps = Encoder(BandedRidge(seed=0)).fit(features, train).score(features, test)
    assert np.isfinite(maps.values(statistic="p")).all()
    assert maps.find_columns(statistic="p").columns["null"].iloc[0] == "independent Gaussian vectors"
