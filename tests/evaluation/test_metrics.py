"""Metrics of the shelf: what each says of itself is so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcortex import evaluation
from latentcortex._methods import MethodsPart, sentences_of
from latentcortex.evaluation import EmbeddingMetric, Metric, Originals, make_metrics


class Bright:
    """A probe that reads whether an image is bright."""

    attributes = {"light": ("dark", "bright")}  # noqa: RUF012

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        mean = images.mean((1, 2, 3)) / 255
        return {"light": np.log(np.stack([1 - mean, mean], axis=1))}


@pytest.fixture
def originals() -> Originals:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 110, (8, 16, 16, 3)) + 140 * (np.arange(8) % 2)[:, None, None, None]
    return Originals(images.astype(np.uint8), pd.DataFrame({"light": ["dark", "bright"] * 4}))


@pytest.mark.parametrize("name", evaluation.SHELF)
def test_a_metric_of_the_shelf_lies_in_its_range_and_is_best_for_the_image_itself(
    name: str, originals: Originals
) -> None:
    (metric,) = make_metrics(Bright(), [name]).values()
    metric.check(originals)
    compared = metric.compare(originals, originals.images)
    low, high = metric.range
    if metric.compares != "attributes":  # another image of the same words may be surer
        assert (compared.identifying.max(axis=1) == np.diagonal(compared.identifying)).all()
    for values in compared.scores.values():
        best = values.max(axis=1) if metric.higher_is_better else values.min(axis=1)
        np.testing.assert_allclose(np.diagonal(values), best, atol=1e-6)
        assert low - 1e-4 <= np.nanmin(values) <= np.nanmax(values) <= high + 1e-4
    assert metric.title
    sentences_of("metric", MethodsPart(metric, name, {}))  # cites nothing that is not known


def test_without_a_probe_only_the_metrics_that_need_one_are_left_out() -> None:
    with_probe, without = make_metrics(Bright()), make_metrics()
    assert set(with_probe) == set(evaluation.CANONICAL)
    assert set(with_probe) - set(without) == {name for name, metric in with_probe.items() if metric.network}


def test_a_distance_is_compared_the_other_way_round_and_beats_the_baseline_by_being_smaller(
    originals: Originals,
) -> None:
    class Difference(Metric):
        range = (0.0, 255.0)
        higher_is_better = False

        def similarity(self, originals: Originals, images: np.ndarray, pairs: object = None) -> np.ndarray:
            return np.abs(originals.images.mean((1, 2, 3))[:, None] - images.mean((1, 2, 3)))

    compared = Difference("difference").compare(originals, originals.images)
    assert (compared.identifying.argmax(axis=1) == np.arange(8)).all()
    np.testing.assert_array_equal(compared.scores["difference"], -compared.identifying)


def test_a_metric_of_embeddings_correlates_what_its_network_makes(originals: Originals) -> None:
    class Rows(EmbeddingMetric):
        def embed(self, images: np.ndarray) -> np.ndarray:
            return images.mean((2, 3))

    rows = Rows("mean-rows").compare(originals, originals.images[::-1])
    means = originals.images.mean((2, 3))
    expected = np.corrcoef(means, means[::-1])[:8, 8:]
    np.testing.assert_allclose(rows.scores["correlation_space-meanrows"], expected, atol=1e-5)
