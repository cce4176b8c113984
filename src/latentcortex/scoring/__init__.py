"""How well a prediction matches a response, voxel by voxel. Arrays in, arrays out.

Shapes are the same everywhere: `y` and `yhat` (n_stimuli, n_voxels), `yhat_bands` (n_bands, n_stimuli, n_voxels),
`repeats` (n_repeats, n_stimuli, n_voxels) with nan for missing repeats; results are (n_voxels,) or
(n_bands, n_voxels). What is undefined is nan.
"""

from latentcortex.scoring.accuracy import alignment, corrected_r2, correlation, r2, weighted_correlation, weighted_r2
from latentcortex.scoring.learning import asymptote
from latentcortex.scoring.reliability import (
    ncsnr,
    noise_ceiling,
    noise_ceiling_ci,
    normalised_mean,
    normalised_score,
    split_half,
    weighted_ceiling,
)
from latentcortex.scoring.shares import (
    commonality,
    effective_dims,
    leading,
    overlap,
    product_shares,
    shapley_shares,
    unique_shares,
    weighted_product_shares,
)

__all__ = [
    "alignment",
    "asymptote",
    "commonality",
    "corrected_r2",
    "correlation",
    "effective_dims",
    "leading",
    "ncsnr",
    "noise_ceiling",
    "noise_ceiling_ci",
    "normalised_mean",
    "normalised_score",
    "overlap",
    "product_shares",
    "r2",
    "shapley_shares",
    "split_half",
    "unique_shares",
    "weighted_ceiling",
    "weighted_correlation",
    "weighted_product_shares",
    "weighted_r2",
]
