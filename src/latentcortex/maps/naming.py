"""What the files of maps are called, and what their sidecars say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from latentcortex.space import Space

KEYS: Final = ("analysis", "model", "band", "statistic")
"""What identifies a column: no two columns of `Maps` agree in all four."""
KINDS: Final = ("mask", "uniqueMask", "differenceMask", "preferred", "identifiable")
"""Statistics that are kinds, or yes and no: two voxels of different ones have no mean."""


def label(name: str) -> str:
    """Turn a name into what BIDS allows after a hyphen.

    Examples
    --------
    >>> label("z+zc_strength-80_step-100")
    'zZcStrength80Step100'
    """
    words = re.split(r"[^a-zA-Z0-9]+", name)
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def short(model: str) -> str:
    """Name a model of many bands by what they have in common, so that file names stay short.

    Examples
    --------
    >>> short("unet_layer-mid_step-50+unet_layer-up0_step-50+unet_layer-up2_step-50")
    'unet_step-50'
    >>> short("z+zc_strength-80_step-100")
    'z+zc_strength-80_step-100'
    """
    bands = [band.split("_") for band in model.split("+")]
    if len(bands) < 3:
        return model
    return "_".join(part for part in bands[0] if all(part in other for other in bands)) or model


def stem_of(facts: Mapping[str, Any]) -> str:
    """Name the file of one column by its entities, with a suffix."""
    parts = [str(facts["analysis"]), short(str(facts["model"])), str(facts["band"])]
    # A band is named only where the model has several.
    if facts["band"] == facts["model"]:
        parts = parts[:-1]
    parts = [part for part in parts if part]
    statistic = str(facts["statistic"])
    suffix = "mask" if statistic == "mask" else "statmap"
    stat = "" if statistic == "mask" else f"stat-{label(statistic)}_"
    return f"{stat}desc-{label('-'.join(parts))}_{suffix}"


DESCRIPTIONS: Final = {
    "r": "Pearson correlation of predicted and measured responses over test stimuli",
    "r2": "Fraction of the variance of the measured test responses that the prediction explains; `offset` is what a "
    "shift of the mean takes from it, averaged over voxels",
    "p": "One-sided p-value of r",
    "q": "Smallest false discovery rate at which the voxel is rejected",
    "mask": "Voxels rejected at the stated false discovery rate (1) or not (0); nan outside the family",
    "shareR2": "Product share of the band in the joint R2; can be negative",
    "shareR": "Product share of the band in the joint r; can be negative",
    "ceiling": "Noise ceiling: fraction of the variance of the scored responses that any model could explain",
    "uniqueR2": "R2 about the means that the joint model loses when refitted without the band: gain at this n",
    "uniqueP": "One-sided p-value of the unique share",
    "uniqueQ": "Smallest false discovery rate at which the unique share is rejected",
    "uniqueMask": "Voxels whose unique share is rejected at the stated false discovery rate (1) or not (0)",
    "shapleyR2": "Average of what the band adds to R2 about the means over all orders of the bands",
    "commonR2": "R2 about the means that only all bands of the set explain in common; can be negative",
    "excessR2": "Joint R2 less the sum of the R2 of bands alone, about the means; above 0 they complement each other",
    "identifiability": "Expected correlation, over voxels alike, of the band's shares from two halves of the stimuli",
    "uniqueR2N": "Unique share of the band after a fit to `n_fitted` stimuli; `mean` over voxels and its interval",
    "uniqueR2Limit": "Unique share of the band extrapolated to unlimited stimuli",
    "uniqueR2LimitLow": "Lowest extrapolation of the unique share among the compatible forms of the curve",
    "uniqueR2LimitHigh": "Highest extrapolation of the unique share among the compatible forms of the curve",
    "differenceR2": "R2 of the model less R2 of the model of `band` alone, both about the means",
    "differenceP": "Two-sided p-value of the difference of losses of the model and of `band` alone, paired by stimulus",
    "differenceMask": "Voxels where that difference is significant (1) or not (0)",
    "differenceQ": "Smallest false discovery rate at which the losses of the model and of `band` alone differ, paired",
    "preferred": "Number of the layer with the highest r, counted from 0 in the order of `layers`",
    "confidence": "Fraction of draws of test and training stimuli in which the preferred layer wins again",
    "identifiable": "Voxels whose preferred layer can be told from the others (1) or not (0); nan where none is found",
    "flatP": "P-value of the test that all layers predict equally well",
    "runnerUpP": "Two-sided p-value of the preferred layer against the second best",
    "ceilingLow": "Lower end of the 95 % interval of the noise ceiling",
    "ceilingHigh": "Upper end of the 95 % interval of the noise ceiling",
}


def sidecar(space: Space, facts: Mapping[Any, Any]) -> dict[str, Any]:
    """Say what one column is, and where."""
    known = {key: value for key, value in facts.items() if value is not None and value == value and value != ""}
    what = re.sub(r"\d+$", "", str(facts["statistic"])) if "n_fitted" in known else str(facts["statistic"])
    described = DESCRIPTIONS.get(what, "")
    if what == "p" and str(facts["model"]).startswith("layers_"):
        described = "Simes's p of the layers' p-values: that no layer predicts the voxel"
    return {"Description": described, **space.description, **known}
