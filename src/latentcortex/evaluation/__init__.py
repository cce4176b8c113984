"""How like the seen images reconstructions are: similarity, identification and attributes, each with its chance."""

from latentcortex.evaluation.measures import (
    DECODED,
    Seen,
    check_words,
    image_scores,
    image_similarities,
    latent_scores,
    mean_image,
    mean_image_scores,
    samples_of,
    score_table,
)
from latentcortex.evaluation.scores import Score, identification, image_weights, own_score, pool_size
from latentcortex.evaluation.similarity import check_size, pixel_correlation, row_correlation, ssim, two_alternative

__all__ = [
    "DECODED",
    "Score",
    "Seen",
    "check_size",
    "check_words",
    "identification",
    "image_scores",
    "image_similarities",
    "image_weights",
    "latent_scores",
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
