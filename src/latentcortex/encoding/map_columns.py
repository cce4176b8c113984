"""Statistics of held-out predictions as columns of maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from latentcortex import inference, scoring, statistics
from latentcortex._arrays import BoolArray, FloatArray, IntArray
from latentcortex.bands import Model
from latentcortex.encoding.criterion import Criterion, Null
from latentcortex.encoding.prediction import Prediction, by_tile
from latentcortex.inference.corrections import bh_level
from latentcortex.inference.ties import at_most
from latentcortex.maps import Maps, short
from latentcortex.statistics import OF_MODEL, OF_UNIQUE_SHARE, Significance, Statistic

logger = logging.getLogger(__name__)

MIN_FLOAT32: Final = float(np.finfo(np.float32).tiny)
"""Smallest p and q that maps hold: they are float32, in which a smaller one would be 0."""

N_FLIPS: Final = 4999
"""Flips of signs for comparisons of models; fewer where test stimuli have fewer patterns of signs."""
LARGE_OFFSET: Final = 0.02
"""A warning tells of a shift of the mean that takes more than this of the mean R²."""
CHANCE_OFFSET: Final = 4
"""Divided by the number of test stimuli it is added to that limit, since estimating two means costs some R², too."""

COUNTED: Final = ("n_false", "n_false_low", "n_false_high", "n_control", "n_shuffles", "null_fraction", "n_false_is")
"""Facts of a mask that `inference.control` counted at its threshold."""

Column = tuple[FloatArray | BoolArray, dict[str, Any]]

about_means = partial(scoring.r2, offset=False)
"""R² without what a shift of the mean costs, whose shares and differences are shown and tested."""


def about_model(analysis: str, bands: Sequence[str], n_stimuli: int) -> dict[str, Any]:
    """State the facts that all columns of a model share; the band is empty where it has several."""
    band = bands[0] if len(bands) == 1 else ""
    return {"analysis": analysis, "model": Model(bands).name, "band": band, "n_stimuli": n_stimuli}


def significance(
    facts: dict[str, Any],
    p: FloatArray,
    criterion: Criterion,
    *,
    null: str,
    n_permutations: int = 0,
    test: Significance = OF_MODEL,
) -> list[Column]:
    """Make the columns p, q and mask of one map, whose valid voxels are one family.

    Parameters
    ----------
    facts : dict
        Of the map: `analysis`, `model`, `band` and `n_stimuli`.
    p : ndarray of shape (n_voxels,)
    criterion : Criterion
    null : str
        What p comes from, in words.
    n_permutations : int
        That p is counted from; 0 for a closed form.
    test : Significance
        It names the columns: that of the model's score by default.
    """
    q = criterion.q
    corrected = inference.fdr(p, q=q, method=criterion.correction)
    if n_permutations:
        _warn_of_few_permutations(facts, p, corrected, criterion, statistic=test.p, n_permutations=n_permutations)
    tested = test.about.format(model=facts["model"], band=facts["band"])
    name = f"{facts['analysis']}: all {corrected.n_tests} valid voxels of {tested}"
    family = {"correction": criterion.correction, "q": q, "family": name, "n_tests": corrected.n_tests, "null": null}
    mask = np.where(np.isnan(p), np.nan, corrected.rejected)
    return [
        (np.maximum(p, MIN_FLOAT32), {**facts, **statistics.named(test.p).facts, **family}),
        (np.maximum(corrected.q_values, MIN_FLOAT32), {**facts, **statistics.named(test.q).facts, **family}),
        (mask, {**facts, **statistics.named(test.mask).facts, **family, "threshold": corrected.threshold}),
    ]


def _warn_of_few_permutations(
    facts: dict[str, Any],
    p: FloatArray,
    corrected: inference.Fdr,
    criterion: Criterion,
    *,
    statistic: str,
    n_permutations: int,
) -> None:
    """Warn of a map that so few permutations cannot reject in, naming its model and its statistic."""
    of_map = {"analysis": facts["analysis"], "model": short(facts["model"]), "statistic": statistic}
    of_map |= {"band": facts["band"]} if facts["band"] not in ("", facts["model"]) else {}
    name = ", ".join(str(of_map[key]) for key in ("analysis", "model", "band", "statistic") if key in of_map)
    # Of the voxels below q, so many are there although nothing drives them.
    q = criterion.q
    active = (int((p < q).sum()) - q * corrected.n_tests) / (1 - q)
    level = bh_level(q, corrected.n_tests, criterion.correction)
    needed = inference.permutations_needed(corrected.n_tests, max(round(active), 1), level)
    if needed > n_permutations:
        text = "%s: %d permutations are too few to reject as few voxels as seem active at q = %g; at least %d are"
        text += " needed."
        logger.warning(text, name, n_permutations, q, needed, extra={"facts": of_map})
    n_least = int(at_most(p, 1 / (n_permutations + 1)).sum())
    if n_least and not corrected.rejected.any() and needed <= n_permutations:
        text = "%s: none of %d voxels is significant, and %d have the smallest p that %d permutations can give."
        logger.warning(text, name, corrected.n_tests, n_least, n_permutations, extra={"facts": of_map})


def accuracy(held_out: Prediction) -> FloatArray:
    """Compute r, R² and R² about the means, (3, n_voxels)."""
    explained = (by_tile(score, held_out.y, held_out.yhat) for score in (scoring.r2, about_means))
    return np.stack([held_out.r, *explained])


def scores(facts: dict[str, Any], accuracies: FloatArray) -> list[Column]:
    """Make the columns r and r2 from the `accuracy` of all voxels; beside r2 stands its `offset`, averaged over voxels.

    It is what R² is below R² about the means, of which shares and differences are. A warning says where it is more than
    estimating two means costs: then the baseline of the test set differs from that of the fitted stimuli.
    """
    r, explained, level = accuracies
    valid = np.isfinite(explained) & np.isfinite(level)
    # Means over valid voxels: what the shift of the mean costs, and R² without it.
    cost, mean = (float(r2[valid].mean()) if valid.any() else float("nan") for r2 in (explained - level, level))
    if cost < -LARGE_OFFSET - CHANCE_OFFSET / facts["n_stimuli"]:
        text = (
            "%s, %s: the mean of the test responses is not the predicted one, which takes %.2f from the mean R², %.2f "
            "without it: baselines of the test set and of the fitted stimuli differ. r, p, shares and differences do "
            "not depend on it."
        )
        extra = {"facts": {"statistic": statistics.R2.name}}
        logger.warning(text, facts["analysis"], short(facts["model"]), -cost, mean, extra=extra)
    return [
        (r, {**facts, **statistics.R.facts}),
        (explained, {**facts, **statistics.R2.facts, "offset": round(cost, 6)}),
    ]


def each_band(bands: Sequence[str]) -> list[Model]:
    """List the model of each band alone."""
    return [Model([band]) for band in bands]


def without_each(bands: Sequence[str]) -> list[Model]:
    """List the models of all bands but one, from that without the last band to that without the first."""
    return list(map(Model, combinations(bands, len(bands) - 1)))


def all_smaller(bands: Sequence[str]) -> list[Model]:
    """List the models of all subsets but that of all bands, the smaller ones first."""
    return [Model(subset) for k in range(1, len(bands)) for subset in combinations(bands, k)]


def several_bands(bands: Sequence[str]) -> list[Model]:
    """List the models of all subsets of two bands and more, the smaller ones first, as `scoring.commonality` does."""
    return [Model(subset) for k in range(2, len(bands) + 1) for subset in combinations(bands, k)]


def no_model(bands: Sequence[str]) -> list[Model]:
    """List no model: a share that needs none beside the joint one."""
    return []


class Share(NamedTuple):
    """A way to split the score of a joint model between its bands.

    Parameters
    ----------
    statistics : tuple of Statistic
        What its columns are: all those of the first, then all those of the next.
    values : callable
        Prediction, bands of the model -> these columns, (n_columns, n_voxels).
    subsets : callable
        Bands of the model -> the bands of each column of a statistic; each band alone by default.
    nested : callable
        Bands of the model -> the bands of nested models that are refitted for it, whose predictions `values` has as
        `Prediction.nested`; none by default.
    weighted : callable, optional
        Prediction, bands, weights of test stimuli (n_draws, n_stimuli), numbers of voxels -> the columns of the first
        statistic in every draw, (n_columns, n_draws, n_voxels). Means over regions have intervals where there is one.
    """

    statistics: tuple[Statistic, ...]
    values: Callable[[Prediction, Sequence[str]], FloatArray]
    subsets: Callable[[Sequence[str]], list[Model]] = each_band
    nested: Callable[[Sequence[str]], list[Model]] = no_model
    weighted: Callable[[Prediction, Sequence[str], FloatArray, IntArray], FloatArray] | None = None

    def facts(self, bands: Sequence[str]) -> list[dict[str, str]]:
        """Say what each column is: `band`, `statistic` and `unit`."""
        subsets = self.subsets(bands)
        return [{"band": Model(subset).name, **of.facts} for of in self.statistics for subset in subsets]


def _product_shares(held_out: Prediction, bands: Sequence[str]) -> FloatArray:
    """Split R², then r, by the product measure."""
    kinds: tuple[Literal["r2", "r"], ...] = ("r2", "r")
    splits = (partial(scoring.product_shares, of=kind) for kind in kinds)
    return np.concatenate([by_tile(split, held_out.y, held_out.yhat_bands) for split in splits])


def _weighted_product_shares(
    held_out: Prediction, bands: Sequence[str], weights: FloatArray, voxels: IntArray
) -> FloatArray:
    """Split R² by the product measure, with weights of test stimuli."""
    return scoring.weighted_product_shares(held_out.y[:, voxels], held_out.yhat_bands[..., voxels], weights)


def _unique_shares(held_out: Prediction, bands: Sequence[str]) -> FloatArray:
    """Compute what the joint model loses without each band, refitted; see `encoding.unique` for its p."""
    return scoring.unique_shares(_r2_by_subset(held_out, bands))


def _weighted_unique_shares(
    held_out: Prediction, bands: Sequence[str], weights: FloatArray, voxels: IntArray
) -> FloatArray:
    """Compute what the joint model loses without each band, with weights of test stimuli."""
    nested = (held_out.nested[tuple(other for other in bands if other != band)] for band in bands)
    predictions = (yhat[:, voxels] for yhat in (held_out.yhat, *nested))
    y = held_out.y[:, voxels]
    joint, *without = (scoring.weighted_r2(y, yhat, weights, own_mean=False, offset=False) for yhat in predictions)
    return np.stack([joint - one for one in without])


def _shapley_shares(held_out: Prediction, bands: Sequence[str]) -> FloatArray:
    """Compute what each band adds on average over all orders of the bands."""
    return scoring.shapley_shares(_r2_by_subset(held_out, bands))


def _common_shares(held_out: Prediction, bands: Sequence[str]) -> FloatArray:
    """Compute what only all bands of each set of two and more explain."""
    shared = scoring.commonality(_r2_by_subset(held_out, bands))
    return np.stack([shared[subset] for subset in several_bands(bands)])


def _r2_by_subset(held_out: Prediction, bands: Sequence[str]) -> dict[tuple[str, ...], FloatArray]:
    """Score the joint model, whose order of bands shares have, and every nested one, about the means; as is tested."""
    models = {tuple(bands): held_out.yhat, **held_out.nested}
    return {subset: by_tile(about_means, held_out.y, yhat) for subset, yhat in models.items()}


def flips_of(null: Null, n_rows: int) -> int:
    """Count the flips of signs that test stimuli, or clusters of them, have."""
    return inference.n_flips(len(set(null.alike(n_rows) or range(n_rows))), N_FLIPS)


def flips_in_words(loss: str, null: Null, n_rows: int) -> str:
    """Say how often signs of what are flipped, and those of which test stimuli together."""
    flips = f"{flips_of(null, n_rows)} flips of signs of {loss}"
    if not null.alike(n_rows):
        return flips
    kept = "a cluster" if null.clusters else f"{null.together(n_rows)} neighbouring rows"
    kept = "stimuli with nearly equal features" if null.sets else kept
    return f"{flips}, those of {kept} together"


def rejudged(maps: Maps, criterion: Criterion) -> Maps:
    """Correct the maps of an analysis together, where the criterion's family is hierarchical; else leave them."""
    if criterion.family == "map":
        return maps
    columns, changed = maps.columns.copy(), dict[int, FloatArray]()
    for test in (OF_MODEL, OF_UNIQUE_SHARE):
        # Simes's combinations over layers are no maps of their own.
        models = ~columns["model"].str.startswith("layers_")
        places = {key: np.flatnonzero((columns["statistic"] == key) & models) for key in test.names}
        if not len(places[test.p]):
            continue
        p = {str(i): maps.column(int(i)) for i in places[test.p]}
        corrected = inference.hierarchical_fdr(p, criterion.q, criterion.correction)
        n_chosen = sum(result.rejected.any() for result in corrected.values())
        n_maps = sum(result.n_tests > 0 for result in corrected.values())
        chosen = f"{', '.join(dict.fromkeys(columns['analysis']))}: {n_chosen} of {n_maps} maps were chosen first"
        for result, i, j, k in zip(corrected.values(), *places.values(), strict=True):
            level = criterion.q * n_chosen / max(n_maps, 1)
            words = f"{chosen}, this one with them: its voxels are tested at {level:.3g}"
            words = words if result.rejected.any() else f"{chosen}, this one not"
            changed[int(j)] = np.maximum(result.q_values, MIN_FLOAT32).astype(np.float32)
            changed[int(k)] = np.where(np.isnan(result.q_values), np.nan, result.rejected).astype(np.float32)
            columns.loc[[i, j, k], "family"] = words
            columns.loc[[k], "threshold"] = result.threshold
            # What was counted at the threshold of the map alone does not hold at another one.
            columns.loc[[k], [name for name in COUNTED if name in columns]] = np.nan
    return maps.replace_columns(columns, changed)


def models_needed(shares: Sequence[str], bands: Sequence[str]) -> list[Model]:
    """List the nested models that shares are computed from, the smaller ones first; none of a single band."""
    if len(bands) < 2:
        return []
    needed = {subset for share in shares for subset in SHARES[share].nested(bands)}
    return [subset for subset in all_smaller(bands) if subset in needed]


SHARES: Final[dict[str, Share]] = {
    "product": Share(
        (statistics.PRODUCT_SHARE, statistics.PRODUCT_SHARE_OF_R), _product_shares, weighted=_weighted_product_shares
    ),
    "unique": Share((statistics.UNIQUE_SHARE,), _unique_shares, nested=without_each, weighted=_weighted_unique_shares),
    "shapley": Share((statistics.SHAPLEY_SHARE,), _shapley_shares, nested=all_smaller),
    "common": Share((statistics.COMMON_SHARE,), _common_shares, subsets=several_bands, nested=all_smaller),
}
"""The ways to split the score of a joint model between its bands, by the names that `shares` takes.

Another package adds one here, with statistics of its own; see `statistics.add`."""
