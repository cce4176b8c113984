"""How sure one may be: p-values from nulls that fit the design, and corrections. Arrays in, arrays out."""

from latentcortex.inference.corrections import (
    Fdr,
    fdr,
    grid_adjacency,
    hierarchical_fdr,
    max_t,
    mesh_adjacency,
    simes_p,
    tfce,
    true_discovery_bound,
)
from latentcortex.inference.halves import Resampling, better_p
from latentcortex.inference.identifiability import MIN_ROWS, identifiability
from latentcortex.inference.jackknife import jackknife_interval, leave_out
from latentcortex.inference.null import (
    block_length,
    correlation_p,
    exchange,
    lag_one,
    permutation_p,
    permutations_needed,
    sequential_p,
    shifts_of,
    tail_p,
)
from latentcortex.inference.penalties import Penalties
from latentcortex.inference.preferences import Preference, preference
from latentcortex.inference.refitting import Rows, band_residual_p, freedman_lane_p
from latentcortex.inference.resampling import (
    bootstrap_ci,
    bootstrap_rows,
    bootstrap_weights,
    cluster_p,
    n_flips,
    paired_difference_p,
    prevalence,
    share_p,
    signs,
)
from latentcortex.inference.spatial import map_similarity

__all__ = [
    "MIN_ROWS",
    "Fdr",
    "Penalties",
    "Preference",
    "Resampling",
    "Rows",
    "band_residual_p",
    "better_p",
    "block_length",
    "bootstrap_ci",
    "bootstrap_rows",
    "bootstrap_weights",
    "cluster_p",
    "correlation_p",
    "exchange",
    "fdr",
    "freedman_lane_p",
    "grid_adjacency",
    "hierarchical_fdr",
    "identifiability",
    "jackknife_interval",
    "lag_one",
    "leave_out",
    "map_similarity",
    "max_t",
    "mesh_adjacency",
    "n_flips",
    "paired_difference_p",
    "permutation_p",
    "permutations_needed",
    "preference",
    "prevalence",
    "sequential_p",
    "share_p",
    "shifts_of",
    "signs",
    "simes_p",
    "tail_p",
    "tfce",
    "true_discovery_bound",
]
