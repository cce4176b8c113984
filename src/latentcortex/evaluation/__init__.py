"""How like the seen images reconstructions are: metrics on a shelf, identification, and the chance of each.

Add a file with a class of `Metric` here, and a line to the shelf.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from latentcortex._shelf import Shelf
from latentcortex.datasets import Probe
from latentcortex.evaluation.measures import (
    DECODED,
    Seen,
    image_scores,
    image_similarities,
    latent_scores,
    mean_image,
    mean_image_scores,
    samples_of,
    score_table,
)
from latentcortex.evaluation.metric import Compared, EmbeddingMetric, Metric, Originals
from latentcortex.evaluation.scores import Score, identification, image_weights, own_score, pool_size
from latentcortex.evaluation.similarity import check_size, pixel_correlation, row_correlation, ssim, two_alternative

__all__ = [
    "CANONICAL",
    "DECODED",
    "SHELF",
    "Compared",
    "EmbeddingMetric",
    "Metric",
    "Originals",
    "Score",
    "Seen",
    "check_size",
    "identification",
    "image_scores",
    "image_similarities",
    "image_weights",
    "latent_scores",
    "make_metrics",
    "mean_image",
    "mean_image_scores",
    "own_score",
    "pixel_correlation",
    "pool_size",
    "row_correlation",
    "samples_of",
    "score_table",
    "ssim",
    "two_alternative",
]

SHELF: Final = Shelf(
    "metric",
    {
        "pixels": "latentcortex.evaluation.metrics:PixelCorrelation",
        "ssim": "latentcortex.evaluation.metrics:StructuralSimilarity",
        "attributes": "latentcortex.evaluation.metrics:Attributes",
    },
)
"""Every metric that `metrics` in [evaluation] takes."""
CANONICAL: Final = tuple(SHELF.where)
"""Those by which a study scores unless it names others."""


def make_metrics(probe: Probe | None = None, names: Iterable[str] = CANONICAL) -> dict[str, Metric]:
    """Make metrics by name, those that have what they need.

    Parameters
    ----------
    probe : Probe, optional
        What the dataset brings along to read attributes.
    names : iterable of str

    Raises
    ------
    InputError
        If a name is not known.
    """
    metrics = {}
    for name in names:
        kind: type[Metric] = SHELF.find(name)
        metric = kind.of(name, probe)
        if metric is not None:
            metrics[name] = metric
    return metrics
