"""Evaluation: similarities equal somebody else's, identification knows its chance, intervals cover."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentcortex import evaluation
from latentcortex.errors import AlignmentError, InputError
from latentcortex.evaluation import (
    Score,
    Seen,
    identification,
    image_weights,
    make_metrics,
    own_score,
    pixel_correlation,
    pool_size,
    row_correlation,
    ssim,
    two_alternative,
)
from latentcortex.features import Features
from latentcortex.stimuli import Stimuli

RNG = np.random.default_rng(0)


def pictures(n: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """Smooth coloured pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, size // 4, size // 4, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)


def seen(images: np.ndarray, **columns: list[str]) -> Seen:
    ids = [f"s{i}" for i in range(len(images))]
    table = pd.DataFrame({"captions": [()] * len(ids), **columns}, index=pd.Index(ids))
    category = next(iter(columns), "")
    return Seen(Stimuli(table, lambda name: images[int(name[1:])]), category=category)


def reconstructed(samples: np.ndarray) -> Stimuli:
    """Reconstructions (n_stimuli, n_samples, height, width, 3) of those stimuli, in another order than theirs."""
    keys = [(i, k) for i in range(len(samples)) for k in range(samples.shape[1])][::-1]
    index = pd.Index([f"s{i}_sample-{k + 1}" for i, k in keys])
    columns = {"captions": [()] * len(keys), "stimulus": [f"s{i}" for i, _ in keys], "sample": [k + 1 for _, k in keys]}
    where = dict(zip(index, keys, strict=True))
    return Stimuli(pd.DataFrame(columns, index=index), lambda name: samples[where[name]])


# Similarities


def test_pixel_correlation_is_pearsons():
    a, b = pictures(130), pictures(120, seed=1)
    found = pixel_correlation(a, b)
    assert found.shape == (130, 120)
    for i, j in ((0, 0), (129, 7), (50, 119)):
        assert found[i, j] == pytest.approx(np.corrcoef(a[i].ravel(), b[j].ravel())[0, 1], abs=1e-5)


def test_an_image_of_one_colour_correlates_with_nothing():
    flat = np.full((1, 24, 24, 3), 7, dtype=np.uint8)
    assert np.isnan(pixel_correlation(pictures(3), flat)).all()


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="the reference for SSIM is scikit-image")
    from skimage.color import rgb2gray

    a = pictures(3)
    b = np.clip(a.astype(int) + np.random.default_rng(1).integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    found = ssim(a, b)
    for i in range(3):
        for j in range(3):
            theirs = metrics.structural_similarity(
                rgb2gray(a[i]),
                rgb2gray(b[j]),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
            )
            assert found[i, j] == pytest.approx(theirs, abs=1e-4)


def test_ssim_leaves_out_pairs_that_are_not_wanted():
    wanted = np.eye(3, dtype=bool)
    found = ssim(pictures(3), pictures(3), wanted)
    np.testing.assert_array_equal(np.isfinite(found), wanted)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-5)


def test_ssim_of_tiny_images_is_refused():
    with pytest.raises(InputError, match="more than 10 pixels"):
        ssim(pictures(2, size=8), pictures(2, size=8))


def test_two_alternatives_count_the_words_that_are_beaten():
    log_p = np.log([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    found = two_alternative(log_p, np.array([0, 1]))
    np.testing.assert_allclose(found, [[1, 0.25], [0.5, 0.25]])


def test_a_probability_of_0_ties_with_itself_and_is_beaten_by_any_other():
    with np.errstate(divide="ignore"):
        log_p = np.log([[0.0, 0.0, 0.4, 0.6], [0.0, 0.1, 0.4, 0.5]])
    found = two_alternative(log_p, np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [[1 / 6, 0], [1 / 6, 1 / 3], [2 / 3, 2 / 3]])


def test_an_image_of_which_a_word_is_undefined_has_no_score():
    log_p = np.log([[0.5, np.nan, 0.2], [0.2, 0.2, 0.6]])
    assert np.isnan(two_alternative(log_p, np.array([0, 2]))).tolist() == [[True, False], [True, False]]


def test_a_row_with_a_masked_value_correlates_with_nothing():
    rows = np.random.default_rng(4).standard_normal((5, 30))
    found = row_correlation(np.ma.array(rows, mask=np.arange(150).reshape(5, 30) == 40), rows, rows.mean(0))
    assert np.isnan(found).all(1).tolist() == [False, True, False, False, False]
    np.testing.assert_allclose(np.delete(found, 1, 0), np.delete(row_correlation(rows, rows, rows.mean(0)), 1, 0))


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_correlations_of_rows_have_no_unit(factor: float):
    rows, others = np.random.default_rng(5).standard_normal((2, 6, 40))
    expected = np.corrcoef(rows, others)[:6, 6:]
    np.testing.assert_allclose(row_correlation(rows * factor, others, np.zeros(40)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: pixel_correlation(a / 255, a), "originals must be an array of uint8, 0 to 255"),
        (lambda a: ssim(a, a / 255), "images must be an array of uint8, 0 to 255"),
        (lambda a: ssim(a, np.ma.array(a, mask=a > 9)), "images must be an array of uint8, .* with nothing masked"),
        (lambda a: pixel_correlation(a[0], a), r"expected \(n_originals, height, width, 3\)"),
        (lambda a: ssim(a[:, :12], a), r"images is \(3, 24, 24, 3\); expected \(n_images, 12, 24, 3\)"),
        (lambda a: ssim(a[:0], a), "none of them 0"),
        (lambda a: ssim(a, a, np.ones((3, 2), dtype=bool)), r"wanted is \(3, 2\); expected \(3, 3\)"),
        (lambda a: row_correlation(np.ones((3, 5)), np.ones((3, 4))), r"decoded is \(3, 4\); expected \(m, 5\)"),
        (lambda a: row_correlation(np.ones((3, 5)), np.ones((3, 5)), np.ones(1)), r"mean is \(1,\); expected \(5,\)"),
        (lambda a: row_correlation(np.ones(5), np.ones((3, 5))), r"true is \(5,\); expected \(n, n_dims\)"),
        (lambda a: two_alternative(np.zeros((2, 3)), np.array([0, -1])), r"words must lie in 0\.\.2; found -1 to 0"),
        (lambda a: two_alternative(np.zeros((2, 3)), np.array([0.0])), "words is an array of float64"),
    ],
)
def test_what_is_not_compared_is_refused_in_one_line_and_never_broadcast(call, says: str):
    with pytest.raises((AlignmentError, InputError), match=says):
        call(pictures(3))


# Identification


def by_loops(similarity: np.ndarray, fixed: str) -> float:
    n, _, n_samples = similarity.shape
    hits = []
    for i in range(n):
        for j in range(n):
            for k in range(n_samples):
                if i != j:
                    other = similarity[i, j, k] if fixed == "original" else similarity[j, i, k]
                    hits.append(float(similarity[i, i, k] > other))
    return float(np.mean(hits))


@pytest.mark.parametrize("fixed", ["original", "reconstruction"])
def test_identification_is_the_fraction_of_others_that_are_beaten(fixed):
    similarity = RNG.standard_normal((9, 9, 3)) + np.eye(9)[:, :, None]
    found = identification(similarity, image_weights(9, n_draws=20, seed=0), fixed=fixed)
    assert found.value == pytest.approx(by_loops(similarity, fixed))
    assert found.chance == 0.5


def test_the_two_directions_differ_where_one_reconstruction_is_like_everything():
    """A hub: every original is most like reconstruction 0, but each reconstruction still fits its own original best."""
    similarity = np.eye(5)[:, :, None] * 0.2
    similarity[:, 0] += 1
    counts = image_weights(5, n_draws=10, seed=0)
    assert identification(similarity, counts, fixed="reconstruction").value == 1.0
    assert identification(similarity, counts, fixed="original").value == pytest.approx((1 + 4 * 0.75) / 5)


def test_averaging_samples_first_is_the_papers_formula_and_gains_with_samples():
    similarity = np.random.default_rng(1).standard_normal((60, 60, 25)) + 0.5 * np.eye(60)[:, :, None]
    counts = image_weights(60, n_draws=10, seed=0)
    mean = similarity.mean(2)
    theirs = np.mean([(mean[i, i] > np.delete(mean[i], i)).mean() for i in range(60)])
    averaged = identification(similarity, counts, fixed="original", samples="mean").value
    assert averaged == pytest.approx(theirs)
    assert averaged > identification(similarity, counts, fixed="original").value + 0.2


def test_reconstructions_that_are_all_the_same_are_at_chance():
    similarity = np.repeat(RNG.standard_normal((12, 1, 1)), 12, axis=1)
    counts = image_weights(12, n_draws=10, seed=0)
    assert identification(similarity, counts, fixed="original").value == 0.5


def test_one_image_for_all_is_at_chance_to_the_last_bit():
    """Products round equal images differently, by where they stand; a tie must be one all the same."""
    images = pictures(97)
    same = np.repeat(pictures(1, seed=1), 97, axis=0)
    similarity = pixel_correlation(images, same)[:, :, None]
    found = identification(similarity, image_weights(97, n_draws=20, seed=0), fixed="original")
    assert found.value == 0.5
    low, high = found.interval
    assert 0.46 < low < 0.5 < high < 0.54


def test_a_constant_answer_is_at_the_chance_of_unbalanced_words():
    """Eight of ten images are `upper`: always saying so is right for eight of ten, and so is chance."""
    images, _ = with_halves(20)
    halves = ["upper"] * 16 + ["lower"] * 4
    always = np.repeat(images[1:2], 20, axis=0)
    probe = Halves()
    scores = evaluation.image_scores(
        seen(images, half=halves),
        reconstructed(always[:, None]),
        make_metrics(probe),
        image_weights(20, n_draws=20, seed=0),
    )
    one = scores["attribute_name-half"]
    assert one.value == pytest.approx(0.8)
    assert one.chance == pytest.approx(0.8)


def test_stimuli_without_a_category_are_in_none():
    images, _ = with_halves(12)
    labels = ["cat"] * 4 + ["dog"] * 4 + ["n/a", "", "n/a", "n/a"]
    one = seen(images, kind=labels)
    within = one.comparisons["within-kind_pool-4"]
    assert not within[8:].any()
    assert within[:4, :4].all()


def test_ssim_of_few_pairs_has_the_pools_mixture_of_categories(monkeypatch):
    """The pairs within a category must not enter the pool: they would be harder distractors."""
    monkeypatch.setattr(evaluation.measures, "MAX_SLOW_PAIRS", 800)
    images = pictures(80)
    one = seen(images, kind=[str(i // 8) for i in range(80)])
    pairs = one.sampled(1, 0)
    pool, within = pairs.values()
    assert (pool.sum(1) == 11).all()
    alike = one.comparisons["within-kind_pool-8"]
    fraction = (pool & alike & ~np.eye(80, dtype=bool)).sum() / (pool.sum() - 80)
    assert abs(fraction - 7 / 79) < 0.04
    assert (within <= alike).all()
    moved = evaluation.Seen(one.stimuli.select_stimuli(one.stimuli.ids[::-1]), category="kind").sampled(1, 0)
    np.testing.assert_array_equal(next(iter(moved.values()))[::-1, ::-1], pool)


def test_knowing_the_category_alone_helps_in_the_pool_and_not_within_the_category():
    rng = np.random.default_rng(0)
    category = np.repeat(np.arange(6), 20)
    similarity = (category[:, None] == category)[:, :, None] + 0.1 * rng.standard_normal((120, 120, 1))
    counts = image_weights(120, n_draws=200, seed=0)
    within = category[:, None] == category
    assert identification(similarity, counts, fixed="original").value > 0.9
    inside = identification(similarity, counts, fixed="original", among=within)
    assert abs(inside.value - 0.5) < 3 * inside.standard_error
    assert pool_size(within) == 20


def test_what_is_undefined_is_compared_with_nothing_and_not_counted():
    similarity = np.eye(4)[:, :, None].astype(float)
    similarity[:, 2] = np.nan
    counts = image_weights(4, n_draws=10, seed=0)
    found = identification(similarity, counts, fixed="reconstruction")
    assert (found.value, found.n_images) == (1.0, 3)
    assert own_score(similarity, counts).n_images == 3
    nothing = identification(np.full((4, 4, 1), np.nan), counts, fixed="original")
    assert np.isnan(nothing.value)
    assert np.isnan(nothing.interval).all()


def test_chance_of_a_similarity_is_that_with_other_images():
    similarity = np.full((5, 5, 2), 0.3) + 0.5 * np.eye(5)[:, :, None]
    found = own_score(similarity, image_weights(5, n_draws=10, seed=0))
    assert (found.value, found.chance) == (pytest.approx(0.8), pytest.approx(0.3))


@pytest.mark.parametrize("fixed", ["original", "reconstruction"])
def test_the_interval_over_images_covers_the_true_accuracy(fixed):
    """Images differ in how well they come back and how much they stand out; the pool is drawn, too."""
    n, covered, signal = 40, 0, 0.6

    def draw(rng, n):
        good, hub = rng.standard_normal(n), 0.5 * rng.standard_normal(n)
        return rng.standard_normal((n, n, 1)) + hub[:, None] + np.diag(signal + 0.5 * good)[:, :, None]

    rng = np.random.default_rng(0)
    large = draw(rng, 1500)
    truth = identification(large, np.ones((1, 1500)), fixed=fixed).value
    counts = image_weights(n, n_draws=400, seed=0)
    for _ in range(200):
        low, high = identification(draw(rng, n), counts, fixed=fixed).interval
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_difference_of_scores_is_paired():
    each, weights = np.random.default_rng(0).random(10), image_weights(10, n_draws=200, seed=0)
    a, b = Score(0.7, 0.5, each + 0.2, weights), Score(0.5, 0.5, each, weights)
    assert a.less(b).interval == (pytest.approx(0.2), pytest.approx(0.2))
    bounded = [Score(1.0, 0.5, np.ones(10), weights, (0.0, 1.0)) for _ in range(2)]
    low, high = bounded[0].less(bounded[1]).interval
    assert -0.5 < low < -0.1
    assert 0.1 < high < 0.5
    less = Score(0.5, 0.5, np.where(np.arange(10) > 0, each, np.nan), weights)
    assert np.isnan(a.less(less).value)
    assert np.isnan(a.less(less).interval).all()


@pytest.mark.parametrize("n", [8, 50])
def test_the_interval_of_images_that_all_came_back_is_clopper_and_pearsons(n: int):
    """Of successes and failures it is theirs; 1.000 [1.000, 1.000] was said of four images."""
    similarity = (10 * np.eye(n) + np.random.default_rng(0).random((n, n)))[:, :, None]
    found = identification(similarity, image_weights(n, n_draws=20_000, seed=0), fixed="original")
    low, high = stats.binomtest(n, n).proportion_ci(method="exact")
    assert found.value == found.interval[1] == high == 1
    assert found.interval[0] == pytest.approx(low, abs=0.01)
    failed = np.where(np.arange(n) < n // 4, 0.0, 1.0)
    some = Score(failed.mean(), 0.5, failed, image_weights(n, n_draws=20_000, seed=0), (0.0, 1.0))
    theirs = stats.binomtest(int(failed.sum()), n).proportion_ci(method="exact")
    assert some.interval == pytest.approx(tuple(theirs), abs=0.01)


def test_images_of_a_cluster_are_drawn_together_and_one_that_was_not_seen_with_them():
    weights = image_weights(["a", "b", "a", "c", "c", "c"], n_draws=4000, seed=0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 3], weights[:, 5])
    assert ((weights.sum(1) < 1) & (weights >= 0).all(1)).all()
    assert np.mean(1 - weights.sum(1)) == pytest.approx(1 / 4, abs=0.02)
    assert image_weights(3, n_draws=5, seed=1).shape == (5, 3)


def test_images_of_one_category_and_identical_ones_are_one_cluster():
    images = pictures(6)
    one = seen(images, kind=["cat", "dog", "n/a", "cat", "", "n/a"])
    hashes = {f"s{i}": str(i) for i in range(6)} | {"s5": "1"}
    codes = pd.factorize(np.array(one.clusters(hashes)))[0].tolist()
    assert codes == [0, 1, 2, 0, 3, 1]
    assert pd.factorize(np.array(seen(images).clusters(hashes)))[0].tolist() == [0, 1, 2, 3, 4, 1]


def test_wrong_shapes_and_sides_are_refused():
    counts = image_weights(3, n_draws=2, seed=0)
    with pytest.raises(AlignmentError, match="expected"):
        identification(np.zeros((3, 4, 1)), counts, fixed="original")
    with pytest.raises(InputError, match="Did you mean 'original'"):
        identification(np.zeros((3, 3, 1)), counts, fixed="orignal")  # type: ignore[arg-type]


# A study's evaluation


class Halves:
    """A probe that reads which half of a picture is brighter."""

    def __init__(self) -> None:
        self.attributes = {"half": ("upper", "lower")}

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        middle = images.shape[1] // 2
        upper = images[:, :middle].mean((1, 2, 3)) - images[:, middle:].mean((1, 2, 3))
        p = 1 / (1 + np.exp(-upper / 10))
        return {"half": np.log(np.stack([p, 1 - p], axis=1)).astype(np.float32)}


def with_halves(n: int) -> tuple[np.ndarray, list[str]]:
    images = pictures(n) // 2
    halves = ["upper" if i % 2 else "lower" for i in range(n)]
    for image, half in zip(images, halves, strict=True):
        image[:12] += np.uint8(100 * (half == "upper"))
        image[12:] += np.uint8(100 * (half == "lower"))
    return images, halves


def test_perfect_reconstructions_score_perfectly_by_every_measure():
    images, halves = with_halves(20)
    scores = evaluation.image_scores(
        seen(images, half=halves),
        reconstructed(images[:, None]),
        make_metrics(Halves()),
        image_weights(20, n_draws=50, seed=0),
    )
    assert set(scores) == {
        "correlation_space-pixels",
        "ssim",
        "attribute_name-half",
        *(
            f"identification_space-{space}_fixed-{fixed}_{pool}"
            for space in ("pixels", "ssim", "attributes")
            for fixed in ("original", "reconstruction")
            for pool in ("pool-20", "within-half_pool-10")
        ),
    }
    exact = {name: score.value for name, score in scores.items() if "attributes" not in name}
    assert all(value == pytest.approx(1, abs=1e-4) for value in exact.values())
    assert scores["identification_space-attributes_fixed-original_within-half_pool-10"].value < 0.9


def test_samples_are_found_by_id_and_a_missing_one_is_named():
    samples = np.stack([pictures(5), pictures(5, seed=1)], axis=1)
    found = evaluation.samples_of(reconstructed(samples), ["s3", "s0"])
    np.testing.assert_array_equal(found, samples[[3, 0]])
    some = reconstructed(samples)
    with pytest.raises(AlignmentError, match=r"1 of 2 .*s4 \(sample 2\)"):
        evaluation.samples_of(some.select_stimuli([name for name in some.ids if name != "s4_sample-2"]), ["s4"])


def test_reconstructions_are_brought_to_the_size_of_the_originals():
    images, _ = with_halves(6)
    larger = np.repeat(np.repeat(images, 2, axis=1), 2, axis=2)
    found = evaluation.image_similarities(seen(images), reconstructed(larger[:, None]), make_metrics())
    assert np.diagonal(found["pixels"].identifying[:, :, 0]).min() > 0.9


def test_pools_are_not_mixed():
    images, _ = with_halves(10)
    folds = Seen(seen(images).stimuli, ["0"] * 5 + ["1"] * 5)
    assert list(folds.comparisons) == ["pool-5"]
    z = Features.from_arrays(folds.stimuli.ids, {"z": np.random.default_rng(0).standard_normal((10, 8))})
    means = {"0": np.zeros(8), "1": np.full(8, 100.0)}
    scores = evaluation.latent_scores(folds, "z", z, z, means, image_weights(10, n_draws=10, seed=0))
    assert scores["identification_space-z_fixed-original_pool-5"].value == 1.0


def test_the_table_holds_controls_and_the_paired_difference_to_the_baseline():
    counts = image_weights(8, n_draws=50, seed=0)
    good = own_score(np.eye(8)[:, :, None], counts)
    poor = own_score(0.3 * np.eye(8)[:, :, None], counts)
    table = evaluation.score_table({"zc": {"ssim": good}, "retrieval": {"ssim": poor}}, {"zc": {"ssim": poor}})
    row = table.set_index("route").loc["zc"]
    assert row["score"] == 1.0
    assert row["shuffled"] == pytest.approx(0.3)
    assert row["above_baseline_low"] == pytest.approx(0.7)
    assert np.isnan(table.set_index("route").loc["retrieval", "above_baseline"])


def test_the_mean_training_image_is_scored_as_if_it_came_back_for_every_stimulus():
    """Images that look alike correlate with their mean: .27 on the phantom, where "chance" is .07."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 40, (16, 16, 3))
    images = np.clip(128 + common + rng.normal(0, 40, (12, 16, 16, 3)), 0, 255).astype(np.uint8)
    one = Seen(seen(images, half=["upper"] * 12).stimuli, ["0"] * 6 + ["1"] * 6)
    means = {str(k): evaluation.mean_image(one.stimuli, one.stimuli.ids[6 * (1 - k) : 6 * (2 - k)]) for k in (0, 1)}
    np.testing.assert_array_equal(means["0"], np.rint(images[6:].mean(0)))
    scores = evaluation.mean_image_scores(one, means, make_metrics(Halves()))
    theirs = [np.corrcoef(images[i].ravel(), means[str(i // 6)].ravel())[0, 1] for i in range(12)]
    assert scores["correlation_space-pixels"] == pytest.approx(np.mean(theirs), abs=1e-5)
    assert scores["correlation_space-pixels"] > 0.5
    assert set(scores) == {"correlation_space-pixels", "ssim", "attribute_name-half"}
    assert scores["attribute_name-half"] in (0.0, 0.5, 1.0)
    value = own_score(np.eye(12)[:, :, None], image_weights(12, n_draws=10, seed=0))
    table = evaluation.score_table({"zc": {"ssim": value, "other": value}}, {}, of_mean_image=scores)
    assert table["mean_image"].iloc[0] == scores["ssim"]
    assert np.isnan(table["mean_image"].iloc[1])


def test_words_that_the_probe_does_not_know_are_named():
    images, halves = with_halves(4)
    with pytest.raises(InputError, match="middle"):
        make_metrics(Halves())["attributes"].check(seen(images, half=[*halves[:3], "middle"]).originals)


def test_an_unknown_category_is_named():
    images, halves = with_halves(4)
    with pytest.raises(InputError, match="Did you mean 'half'"):
        Seen(seen(images, half=halves).stimuli, category="halv")


@pytest.mark.parametrize(
    "change",
    [
        {"similarity": np.eye(5)},
        {"similarity": np.zeros((5, 4, 1))},
        {"weights": np.ones((3, 1))},
        {"weights": np.ones(5)},
        {"among": np.ones((1, 5), dtype=bool)},
        {"among": np.ones((5, 5))},
        {"similarity": None},
    ],
)
def test_scores_of_other_shapes_or_types_are_refused_and_never_broadcast(change: dict) -> None:
    given = {"similarity": np.eye(5)[:, :, None], "weights": np.full((3, 5), 0.1), "among": np.ones((5, 5), dtype=bool)}
    for score in (own_score, lambda **options: identification(**options, fixed="original")):
        with pytest.raises(InputError):
            score(**(given | change))
