"""Test stimuli that are as good as one: what is predicted for them is the same, and responses to them are alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import stats
from scipy.sparse import csgraph, csr_array

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.encoding.fitted import Fitted
from latentcortex.features import Features

logger = logging.getLogger(__name__)

NEAR: Final = 0.995
"""Agreement of two stimuli's features, over all bands of a model, from which they are as good as one."""
EQUAL: Final = 1 - 1e-6
"""The same of equal features, in float32."""
BY_CHANCE: Final = 0.01
"""Neighbours so near that a stimulus may have by chance, as in few dimensions; where it has more, near means equal."""
LEAST_SETS: Final = 5
"""Fewer sets cannot have their signs flipped."""
AT_ONCE: Final = 512


def duplicates(model: Fitted, features: Features, ids: Sequence[str]) -> tuple[str, ...]:
    """Name the set of each test stimulus: stimuli with nearly equal features are one.

    Two stimuli agree if the squared distance of their features is below 0.5 % of the sum of their squared norms, over
    all bands of the model, each centred on the fitted stimuli and scaled to the same size. In few dimensions stimuli
    are as near by chance: where Gaussian features of as many effective dimensions (the participation ratio of the
    kernel's eigenvalues) would have one such neighbour for 100 stimuli, only equal features agree.

    A set of which a fitted stimulus is a member, too, is taken apart: what its stimuli share was fitted, and is what is
    tested. So the stimuli of a category that the fit has seen are exchangeable one by one although one-hot features of
    all of them are the same, and new categories are not. (An image on both sides of a split is a leak, which `check`
    refuses.)

    Parameters
    ----------
    model : Fitted
    features : Features
        They hold the test stimuli, and may hold the fitted ones.
    ids : sequence of str
        Test stimuli.

    Returns
    -------
    tuple of str, of length n_stimuli
        Empty where no two stimuli are in one set.
    """
    among = _kernel(model, features, ids, ids)
    if not among.any():  # all test stimuli lie at the mean of the fitted ones: nothing is predicted
        return ()
    n_dims = float(np.trace(among, dtype=np.float64) ** 2 / np.sum(among * among, dtype=np.float64))
    by_chance = len(ids) * stats.chi2.cdf((1 - NEAR) * n_dims, n_dims)
    alike = NEAR if by_chance < BY_CHANCE else EQUAL
    links = csr_array(_agree(among, np.diag(among), np.diag(among), alike))
    codes = csgraph.connected_components(links, directed=False)[1]
    member = np.flatnonzero(np.bincount(codes)[codes] > 1)
    if not len(member):
        return ()
    across = _kernel(model, features, [ids[i] for i in member.tolist()], model.ids)
    fitted = _agree(across, np.diag(among)[member], _norms(model), alike).any(1)
    seen = np.isin(codes, codes[member[fitted]])
    codes = np.where(seen, len(ids) + np.arange(len(ids)), codes)
    n_sets = len(np.unique(codes))
    if n_sets == len(ids):
        return ()
    if n_sets < LEAST_SETS:
        said = "%s: %d test stimuli have only %d different features, none of them fitted: p takes them one by one."
        logger.warning(said, "+".join(model.bands), len(ids), n_sets)
        return ()
    return tuple(f"set {code}" for code in codes)


def _agree(joint: FloatArray, size: FloatArray, other: FloatArray, alike: float) -> BoolArray:
    """Tell which stimuli of a kernel's rows and columns agree, by the diagonals of both sides."""
    floor = float(np.finfo(np.float32).eps) * float(max(size.max(), other.max()))
    out = np.empty(joint.shape, dtype=bool)
    for rows in (slice(i, i + AT_ONCE) for i in range(0, len(joint), AT_ONCE)):
        mean = (size[rows, None] + other) / 2
        out[rows] = mean - joint[rows] <= (1 - alike) * mean + floor
    return out


def _kernel(model: Fitted, features: Features, ids: Sequence[str], others: Sequence[str]) -> FloatArray:
    """Compute the kernel of stimuli and others over all bands of the model, float32 (n_stimuli, n_others)."""
    joint = np.zeros((len(ids), len(others)), dtype=np.float32)
    if not model.by_columns and features.same_source(model.features) and {*model.ids, *others} <= set(features.ids):
        for band in model.bands:
            joint += features.gram(band, ids, others, fit_on=model.ids, weights=model.weights)
        return joint
    for band in model.bands:
        mean, size = _centre(model, band)
        held = model.features if others is model.ids else features
        one, other = ((of.array(band, some) - mean) / size for of, some in ((features, ids), (held, others)))
        joint += one @ other.T
    return joint


def _centre(model: Fitted, band: str) -> tuple[FloatArray, float]:
    """Compute the mean of a band over the fitted stimuli, in float64, and the root mean square distance from it."""
    fitted = model.features.array(band, model.ids).astype(np.float64)
    mean = model.weights @ fitted / model.weights.sum()
    return mean, float(np.sqrt(((fitted - mean) ** 2).sum(1).mean()))


def _norms(model: Fitted) -> FloatArray:
    """Sum the squared norms of each fitted stimulus over all bands, (n_fitted,)."""
    total = np.zeros(len(model.ids))
    for band in model.bands:
        mean, size = _centre(model, band)
        total += (((model.features.array(band, model.ids) - mean) / size) ** 2).sum(1)
    return total
