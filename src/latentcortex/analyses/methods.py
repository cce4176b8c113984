"""What analyses did beyond the tests of single maps, in the sentences of a methods section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from latentcortex.encoding.methods import variance_of_fitting
from latentcortex.maps import Maps
from latentcortex.statistics import CEILING, CONFIDENCE, DIFFERENCE, DIFFERENCE_P, IDENTIFIABILITY, UNIQUE_LIMIT


def of_ceiling(maps: Maps) -> str:
    """Write how the noise ceiling was estimated; nothing where nothing was repeated."""
    columns = maps.find_columns(statistic=CEILING.name).columns.to_dict("records")
    if not columns:
        return ""
    words = (
        "The noise ceiling is the fraction of variance of the averaged test responses that is signal, estimated from "
        "the variance over the repeats of each stimulus [@allen2022]."
    )
    if columns[0].get("n_within_run", 0) > 0:
        words += (
            f" {columns[0]['n_within_run']:.0f} stimuli were repeated within a run; noise that such repeats share "
            "counts as signal, and the ceiling is too high by it."
        )
    return words


def of_comparisons(maps: Maps) -> str:
    """Write how models were compared with each other, and what was predicted of shares; nothing where none were."""
    return " ".join(words for words in (write(maps) for write in COMPARISONS) if words)


def of_control(maps: Maps, *, pooled: bool) -> str:
    """Write how many discoveries are expected to be false, and by which shuffles that is known.

    Parameters
    ----------
    maps : Maps
    pooled : bool
        Whether predictions are pooled over folds, whose permutations are the control.
    """
    columns = maps.columns
    if "n_false" not in columns or not columns["n_false"].notna().any():
        return ""
    n_shuffles = columns.loc[columns["n_false"].notna(), "n_shuffles"].max()
    if pooled:
        control, more = f"each of {n_shuffles:.0f} permutations, judged by the others", ""
    else:
        control = "the same analysis of responses that were exchanged among stimuli, within training and within test"
        more = f"; {n_shuffles - 1:.0f} further orders of its test stimuli gave the interval" if n_shuffles > 1 else ""
    return (
        f"How many significant voxels are expected without any relation of stimuli and responses was estimated from "
        f"{control}: voxels of that control with p at most the threshold of the map, times the fraction of voxels "
        f"without a relation, which is that of voxels with p above one half in the map and in the control "
        f"[@storey2002]{more}."
    )


def _differences(maps: Maps) -> str:
    """Write how every two bands alone were compared, where they were."""
    if not len(maps.find_columns(statistic=DIFFERENCE.name).columns):
        return ""
    return (
        "Every two bands, each alone, were compared where Simes's test across both [@simes1986] found either, by the "
        f"differences of their squared errors over test stimuli: by flipping their signs, two-sided"
        f"{variance_of_fitting(maps, DIFFERENCE_P.name)}; the false discovery rate was controlled for each pair's map, "
        "over all valid voxels."
    )


def _reliability(maps: Maps) -> str:
    """Write how the reliability of shares was predicted, where it was."""
    if not len(maps.find_columns(statistic=IDENTIFIABILITY.name).columns):
        return ""
    return (
        "The reliability of shares between halves of the stimuli was predicted for every voxel by drawing responses "
        "from the fitted model's Gaussian process; where no band's was expected to reach one third, shares are drawn "
        "grey."
    )


def _preferences(maps: Maps) -> str:
    """Write how preferred layers were tested, where there are any."""
    columns = maps.find_columns(statistic=CONFIDENCE.name).columns
    if not len(columns):
        return ""
    n_refits = columns["n_refits"].max()
    halves = (
        f", with the variance of fitting from {n_refits:.0f} fits to random halves of the training stimuli [@shao1989]."
        if n_refits > 0
        else ", as they were fitted: nothing was fitted to halves of the training stimuli."
    )
    return (
        "Whether any layer predicts a voxel was decided by Simes's test across layers [@simes1986]; the preferred "
        "layer was compared with the second best by flips of the signs of their losses, and all layers with each "
        f"other{halves}"
    )


def _limits(maps: Maps) -> str:
    """Write how unique shares were extrapolated to unlimited stimuli, where they were."""
    if not len(maps.find_columns(statistic=UNIQUE_LIMIT.name).columns):
        return ""
    return (
        "Unique shares were also scored after fits to fewer stimuli, and extrapolated to unlimited ones by power laws "
        "with exponents of 1/2, 1 and 2, where the curve of their mean falls and has begun to level off."
    )


COMPARISONS: Final[tuple[Callable[[Maps], str], ...]] = (_differences, _reliability, _preferences, _limits)
"""What is written of comparisons, each where its statistics are among the maps."""
