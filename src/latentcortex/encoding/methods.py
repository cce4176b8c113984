"""How predictions were tested and split between bands, in the sentences of a methods section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from latentcortex.encoding.criterion import NULLS, Criterion
from latentcortex.maps import Maps, is_of_study
from latentcortex.statistics import COMMON_SHARE, PRODUCT_SHARE, SHAPLEY_SHARE, UNIQUE_P, UNIQUE_SHARE, P, R

CORRECTED: Final = {
    "bh": "by the Benjamini-Hochberg procedure [@benjamini1995]",
    "by": "by the Benjamini-Yekutieli procedure, which holds under any dependence [@benjamini2001]",
    "storey": "by Storey's procedure [@storey2004]",
}
"""How each correction of `inference.fdr` is named and cited."""
FAMILY: Final = {
    "map": "for each map over all its valid voxels",
    "hierarchical": "for the maps of an analysis first, and over the valid voxels of those with discoveries "
    "[@benjamini2014]",
}
"""Over what the false discovery rate is controlled, by `Criterion.family`."""


def of_tests(maps: Maps, criterion: Criterion, *, averaged: bool) -> str:
    """Write how predictions were scored and tested, and what was done about many tests.

    Parameters
    ----------
    maps : Maps
    criterion : Criterion
    averaged : bool
        Whether responses to a repeated stimulus were averaged.
    """
    kind = "averaged responses" if averaged else "responses"
    words = [f"Predictions were scored in each voxel by their Pearson correlation with {kind}."]
    # What is tested without an r is no prediction, such as the preference for a layer.
    scored = {(one["analysis"], one["model"]) for one in maps.find_columns(statistic=R.name).columns.to_dict("records")}
    tested = [one for one in maps.find_columns(statistic=P.name).columns.to_dict("records") if is_of_study(one)]
    nulls = list(dict.fromkeys(one["null"] for one in tested if (one["analysis"], one["model"]) in scored))
    if not nulls:
        return words[0]
    drawn = any(not null.startswith(NULLS["analytic"]) for null in nulls)
    words.append(f"One-sided p-values came from the null of {'; '.join(nulls)}.")
    if drawn:
        words.append("Of p-values that were counted, the observed correlation is one of the draws [@phipson2010].")
    words.append(
        f"The false discovery rate was controlled at q = {criterion.q:g} {CORRECTED[criterion.correction]} "
        f"{FAMILY[criterion.family]}."
    )
    if criterion.correction == "storey":
        words.append(
            "Storey's procedure keeps that rate for independent voxels; where voxels share noise more discoveries are "
            "false (.13 at q = .05 where they share half of it)."
        )
    return " ".join(words)


def of_shares(maps: Maps, criterion: Criterion) -> str:
    """Write how the score of joint models was split between their bands; nothing where it was not."""
    there = set(maps.columns["statistic"])
    return " ".join(write(maps, criterion) for statistic, write in SHARES.items() if statistic in there)


def variance_of_fitting(maps: Maps, statistic: str) -> str:
    """Continue a sentence on a comparison of models: whether the variance of fitting came into this p."""
    columns = maps.find_columns(statistic=statistic).columns
    n_refits = columns["n_refits"].max() if "n_refits" in columns else 0
    if not n_refits > 0:
        return ", which holds for these fitted models only"
    halves = f"{n_refits:.0f} fits to random halves of the training stimuli"
    return f", and by a t test with the variance of fitting from {halves} [@shao1989]"


def _product(maps: Maps, criterion: Criterion) -> str:
    return (
        "The variance explained by joint models was split between bands by the product measure, which adds up to it "
        "[@duprelatour2022]."
    )


def _unique(maps: Maps, criterion: Criterion) -> str:
    if criterion.share == "freedman-lane":
        test = (
            "by permuting what the other bands leave of the responses and fitting again [@freedman1983]: the null is "
            "that the response is a linear function of the other bands plus noise"
        )
    else:
        test = (
            "by flipping the signs of the differences of squared error over test stimuli"
            f"{variance_of_fitting(maps, UNIQUE_P.name)}: the null is that the band does not help to predict after a "
            "fit to as many stimuli"
        )
    return (
        "The unique share of a band is what the joint model lost when it was refitted without it, with penalties of "
        f"its own; it was tested where the joint model was significant [@berger1982], {test}. Both are about the means "
        "over test stimuli: a shift of the baseline of the test set is no share."
    )


def _shapley(maps: Maps, criterion: Criterion) -> str:
    return (
        "The Shapley share of a band is what it adds to models of the other bands, refitted each with penalties of its "
        "own, averaged over all orders of the bands [@gromping2007]."
    )


def _common(maps: Maps, criterion: Criterion) -> str:
    return (
        "Commonality analysis of all nested models, refitted each with penalties of its own, gave the variance that "
        "only the bands of each set explain together [@mood1971]."
    )


SHARES: Final[Mapping[str, Callable[[Maps, Criterion], str]]] = {
    PRODUCT_SHARE.name: _product,
    UNIQUE_SHARE.name: _unique,
    SHAPLEY_SHARE.name: _shapley,
    COMMON_SHARE.name: _common,
}
"""How each way to split a score is told, by its statistic."""
