"""Solvers of banded ridge as plain functions of kernels or columns. numpy in, numpy out.

The model is y = intercept + sum_b x_b w_b with penalty alpha * sum_b |w_b|^2 / gamma_b: band b has the kernel
gamma_b K_b, where gamma, one number per band summing to one, is a *mixture*. Rows carry weights (how many
trials they average), so that the fit equals the one on single trials.

A fit goes through four names. `candidates` lists the penalties and mixtures that are tried. `PreparedFit` walks over
tiles of voxels; for each tile `search` chooses mixture and alpha. `PreparedRows` decomposes each mixture of a `Design`
(kernels, or columns where these are fewer) once for all tiles, by `lapack.eigh`. A `RidgeFit` keeps four numbers per
voxel; dual weights are solved for when they are asked for, so that memory does not grow with voxels whose responses lie
on disk.
"""

from latentcortex._ridge.backend import NAMES, Backend, backend
from latentcortex._ridge.candidates import ModelCandidates, SearchSpace
from latentcortex._ridge.decompositions import keeping, keeping_none, mapped
from latentcortex._ridge.design import Columns, Design, Kernels
from latentcortex._ridge.fit import PreparedFit, RidgeFit, memory
from latentcortex._ridge.search import RELATIVE_TIE

__all__ = [
    "NAMES",
    "RELATIVE_TIE",
    "Backend",
    "Columns",
    "Design",
    "Kernels",
    "ModelCandidates",
    "PreparedFit",
    "RidgeFit",
    "SearchSpace",
    "backend",
    "keeping",
    "keeping_none",
    "mapped",
    "memory",
]
