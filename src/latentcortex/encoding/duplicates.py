"""Test stimuli that are as good as one: what is predicted for them is the same, and responses to them are alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np

from latentcortex import _duplicates
from latentcortex._arrays import FloatArray
from latentcortex.encoding.fitted import FittedModel, PreparedModel
from latentcortex.features import Features

logger = logging.getLogger(__name__)

MIN_SETS: Final = 5
"""A test by flips of signs needs so many sets of stimuli: fewer have too few patterns of signs."""


def duplicates(model: PreparedModel | FittedModel, features: Features, ids: Sequence[str]) -> tuple[str, ...]:
    """Name the set of each test stimulus: stimuli with nearly equal features are one, see `_duplicates`.

    Features of all bands of the model count, each centred on the fitted stimuli and scaled to the same size. Equal
    features are one even where they take few values: nothing tells new stimuli of one category apart, and responses to
    them are alike.

    A set of which a fitted stimulus is a member, too, is taken apart: what its stimuli share was fitted, and is what is
    tested. So the stimuli of a category that the fit has seen are exchangeable one by one although one-hot features of
    all of them are the same, and new categories are not. (An image on both sides of a split is a leak, which `check`
    refuses.)

    Parameters
    ----------
    model : PreparedModel or FittedModel
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
    size = np.diag(among)
    pairs, agreement = _duplicates.duplicates(lambda rows: among[rows], size, kinds=True)
    if not len(pairs):
        return ()
    codes, member = _duplicates.labelled(len(ids), pairs), np.unique(pairs)
    across = _kernel(model, features, [ids[i] for i in member.tolist()], model.ids)
    fitted = _duplicates.agree(across, size[member], _norms(model), agreement).any(1)
    seen = np.isin(codes, codes[member[fitted]])
    codes = np.where(seen, len(ids) + np.arange(len(ids)), codes)
    n_sets = len(np.unique(codes))
    if n_sets == len(ids):
        return ()
    if n_sets < MIN_SETS:
        text = "%s: %d test stimuli have only %d different features, none of them fitted: p takes them one by one."
        logger.warning(text, model.bands.name, len(ids), n_sets, extra={"facts": {"statistic": "p"}})
        return ()
    return tuple(f"set {code}" for code in codes)


def _kernel(
    model: PreparedModel | FittedModel, features: Features, ids: Sequence[str], others: Sequence[str]
) -> FloatArray:
    """Compute the kernel of stimuli and others over all bands of the model, float64 (n_stimuli, n_others)."""
    joint = np.zeros((len(ids), len(others)))
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


def _centre(model: PreparedModel | FittedModel, band: str) -> tuple[FloatArray, float]:
    """Compute the mean of a band over the fitted stimuli, in float64, and the root mean square distance from it."""
    fitted = model.features.array(band, model.ids).astype(np.float64)
    mean = model.weights @ fitted / model.weights.sum()
    return mean, float(np.sqrt(((fitted - mean) ** 2).sum(1).mean()))


def _norms(model: PreparedModel | FittedModel) -> FloatArray:
    """Sum the squared norms of each fitted stimulus over all bands, (n_fitted,)."""
    total = np.zeros(len(model.ids))
    for band in model.bands:
        mean, size = _centre(model, band)
        total += (((model.features.array(band, model.ids) - mean) / size) ** 2).sum(1)
    return total
