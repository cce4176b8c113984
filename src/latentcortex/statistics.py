"""What every statistic of maps is: its name in files, its unit, and all that is done according to it.

A new statistic is one entry, `add(Statistic(...))`, and the function that computes it. Files, tables by region, figures
and the report read the entry, and none of them names a statistic's rules again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from latentcortex._arrays import FloatArray
from latentcortex.errors import InputError

StatisticKind = Literal["number", "yes or no", "layer"]
ByRegion = Literal["", "mean", "fraction"]
Relative = Literal["", "variance", "correlation"]
Limits = Literal["data", "unit", "symmetric"]

DIVERGING: Final = "RdBu_r"
"""Colour map of differences: blue below 0, white at 0, red above."""


class Significance(NamedTuple):
    """A test of every voxel, by the names of the three statistics that hold it.

    Parameters
    ----------
    p, q, mask : str
        The p-value, the smallest false discovery rate at which the voxel is rejected, and whether it is.
    about : str
        What is tested, in words with `{model}` and `{band}`, for the family that sidecars name.
    """

    p: str
    q: str
    mask: str
    about: str

    @property
    def names(self) -> tuple[str, str, str]:
        """The three statistics, p, q and mask."""
        return self.p, self.q, self.mask

    @property
    def of_band(self) -> bool:
        """Whether each band of a model has such columns, rather than the model."""
        return "{band}" in self.about


OF_MODEL: Final = Significance("p", "q", "mask", "{model}")
OF_UNIQUE_SHARE: Final = Significance("uniqueP", "uniqueQ", "uniqueMask", "the unique share of {band} in {model}")
OF_DIFFERENCE: Final = Significance(
    "differenceP", "differenceQ", "differenceMask", "the difference between {model} and {band}"
)


@dataclass(frozen=True)
class Statistic:
    """A number of every voxel, and what may be done with it.

    Parameters
    ----------
    name : str
        In files and in the columns of `Maps`.
    title : str
        In tables of a report.
    unit : str
    description : str
        The sentence of the sidecar.
    kind : {"number", "yes or no", "layer"}
        Only numbers have a mean over voxels that share a vertex; of the others the most frequent value stands there.
    significance : Significance, optional
        The test that says where it is drawn, by default that of the model; None where nothing is tested.
    by_region : {"", "mean", "fraction"}
        What the tables by region have of it: nothing, its mean over valid voxels, or the fraction of these that are 1.
    on_page : bool
        Whether the tables by region of a report's page and for LaTeX have a row for it, too.
    relative : {"", "variance", "correlation"}
        How it is related to the noise ceiling, a fraction of variance: not at all, as another such fraction, or squared
        and corrected for the number of stimuli; see `scoring.normalised_mean`.
    cmap : str
        Name of the matplotlib colour map that it is drawn with by default.
    limits : {"data", "unit", "symmetric"}
        Ends of its colour scale by default: chosen from the values, 0 and 1, or as far below as above 0.
    compares : bool
        Whether the column's `band` is another model that `model` is compared with.
    numbered : bool
        Whether a number follows the name in files, one for each number of fitted stimuli.
    of_layers : str
        Its description where it is of the layers of a step together, if that is another one.
    """

    name: str
    title: str = ""
    unit: str = ""
    description: str = ""
    kind: StatisticKind = "number"
    significance: Significance | None = OF_MODEL
    by_region: ByRegion = ""
    on_page: bool = False
    relative: Relative = ""
    cmap: str = "inferno"
    limits: Limits = "data"
    compares: bool = False
    numbered: bool = False
    of_layers: str = ""

    @property
    def facts(self) -> dict[str, str]:
        """What its columns say of themselves: `statistic` and `unit`."""
        return {"statistic": self.name, "unit": self.unit}

    def numbered_facts(self, number: int) -> dict[str, str]:
        """Say the same of columns of a statistic that a number follows."""
        return {"statistic": f"{self.name}{number}", "unit": self.unit}

    def scale(self, values: FloatArray) -> tuple[float, float] | None:
        """Choose the ends of the colour scale of some values; None where drawing chooses them from the values."""
        if self.limits == "unit":
            return 0.0, 1.0
        finite = np.abs(values[np.isfinite(values)])
        end = float(finite.max(initial=0.0)) if self.limits == "symmetric" else 0.0
        return (-end, end) if end > 0 else None


_REGISTERED: Final[dict[str, Statistic]] = {}


def add(statistic: Statistic) -> Statistic:
    """Register a statistic, and return it.

    Raises
    ------
    InputError
        If the name is not of letters and digits, or another statistic has it, also one that numbers follow.
    """
    name = statistic.name
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]*", name):
        raise InputError(
            f"A statistic is called {name!r}; expected letters and digits, since files are named after it."
        )
    if named(name) not in (statistic, Statistic(name)):
        raise InputError(f"There is a statistic {name!r} already: {named(name).description}; take another name.")
    return _REGISTERED.setdefault(name, statistic)


def named(name: str) -> Statistic:
    """Look a statistic up by its name in files; of one that is not registered nothing but the name is known.

    Examples
    --------
    >>> named("uniqueR2N240").unit, named("uniqueR2N240") is UNIQUE_AT_N
    ('fraction of variance', True)
    >>> named("somebodysOwn").name, named("somebodysOwn").unit
    ('somebodysOwn', '')
    """
    without_number = _REGISTERED.get(re.sub(r"\d+$", "", name))
    if name not in _REGISTERED and without_number is not None and without_number.numbered:
        return without_number
    return _REGISTERED.get(name, Statistic(name))


def registered() -> tuple[Statistic, ...]:
    """List all statistics, in the order in which they were registered."""
    return tuple(_REGISTERED.values())


VARIANCE: Final = "fraction of variance"
PROBABILITY: Final = "probability"
RATE: Final = "rate"
YES_OR_NO: Final = "0 or 1"

R: Final = add(
    Statistic(
        "r",
        "r",
        "correlation",
        "Pearson correlation of predicted and measured responses over test stimuli",
        by_region="mean",
        on_page=True,
        relative="correlation",
    )
)
R2: Final = add(
    Statistic(
        "r2",
        "R²",
        VARIANCE,
        "Fraction of the variance of the measured test responses that the prediction explains; `offset` is what a "
        "shift of the mean takes from it, averaged over voxels",
        by_region="mean",
        relative="variance",
    )
)
P: Final = add(
    Statistic(
        "p",
        "p",
        PROBABILITY,
        "One-sided p-value of r",
        of_layers="Simes's p of the layers' p-values: that no layer predicts the voxel",
    )
)
Q: Final = add(Statistic("q", "q", RATE, "Smallest false discovery rate at which the voxel is rejected"))
MASK: Final = add(
    Statistic(
        "mask",
        "significant",
        YES_OR_NO,
        "Voxels rejected at the stated false discovery rate (1) or not (0); nan outside the family",
        "yes or no",
        by_region="fraction",
    )
)
CEILING: Final = add(
    Statistic(
        "ceiling",
        "noise ceiling",
        VARIANCE,
        "Noise ceiling: fraction of the variance of the scored responses that any model could explain",
        by_region="mean",
        on_page=True,
        limits="unit",
        significance=None,
    )
)
CEILING_LOW: Final = add(
    Statistic(
        "ceilingLow",
        "lower end of the noise ceiling",
        VARIANCE,
        "Lower end of the 95 % interval of the noise ceiling",
        limits="unit",
        significance=None,
    )
)
CEILING_HIGH: Final = add(
    Statistic(
        "ceilingHigh",
        "upper end of the noise ceiling",
        VARIANCE,
        "Upper end of the 95 % interval of the noise ceiling",
        limits="unit",
        significance=None,
    )
)
PRODUCT_SHARE: Final = add(
    Statistic(
        "shareR2",
        "share of R²",
        VARIANCE,
        "Product share of the band in the joint R2; can be negative",
        by_region="mean",
        on_page=True,
        relative="variance",
    )
)
PRODUCT_SHARE_OF_R: Final = add(
    Statistic(
        "shareR",
        "share of r",
        "correlation",
        "Product share of the band in the joint r; can be negative",
        by_region="mean",
    )
)
UNIQUE_SHARE: Final = add(
    Statistic(
        "uniqueR2",
        "unique R²",
        VARIANCE,
        "R2 about the means that the joint model loses when refitted without the band: gain at this n",
        significance=OF_UNIQUE_SHARE,
        by_region="mean",
        on_page=True,
        relative="variance",
    )
)
UNIQUE_P: Final = add(
    Statistic(
        "uniqueP",
        "p of the unique share",
        PROBABILITY,
        "One-sided p-value of the unique share",
        significance=OF_UNIQUE_SHARE,
    )
)
UNIQUE_Q: Final = add(
    Statistic(
        "uniqueQ",
        "q of the unique share",
        RATE,
        "Smallest false discovery rate at which the unique share is rejected",
        significance=OF_UNIQUE_SHARE,
    )
)
UNIQUE_MASK: Final = add(
    Statistic(
        "uniqueMask",
        "unique share significant",
        YES_OR_NO,
        "Voxels whose unique share is rejected at the stated false discovery rate (1) or not (0)",
        "yes or no",
        significance=OF_UNIQUE_SHARE,
        by_region="fraction",
    )
)
SHAPLEY_SHARE: Final = add(
    Statistic(
        "shapleyR2",
        "Shapley share of R²",
        VARIANCE,
        "Average of what the band adds to R2 about the means over all orders of the bands",
        by_region="mean",
        relative="variance",
    )
)
COMMON_SHARE: Final = add(
    Statistic(
        "commonR2",
        "common R²",
        VARIANCE,
        "R2 about the means that only all bands of the set explain in common; can be negative",
        by_region="mean",
        cmap=DIVERGING,
        limits="symmetric",
    )
)
EXCESS: Final = add(
    Statistic(
        "excessR2",
        "R² beyond the sum of bands alone",
        VARIANCE,
        "Joint R2 less the sum of the R2 of bands alone, about the means; above 0 they complement each other",
        cmap=DIVERGING,
        limits="symmetric",
    )
)
IDENTIFIABILITY: Final = add(
    Statistic(
        "identifiability",
        "expected reliability of the share",
        "correlation",
        "Expected correlation, over voxels alike, of the band's shares from two halves of the stimuli",
    )
)
MIN_RELIABILITY: Final = 1 / 3
"""Expected reliability between halves below which a share cannot be told: by Spearman and Brown's formula, less than
half of what distinguishes voxels alike would be found again on as many other stimuli."""
UNIQUE_AT_N: Final = add(
    Statistic(
        "uniqueR2N",
        "unique R² after a fit to fewer stimuli",
        VARIANCE,
        "Unique share of the band after a fit to `n_fitted` stimuli; `mean` over voxels and its interval",
        numbered=True,
        significance=None,
    )
)
UNIQUE_LIMIT: Final = add(
    Statistic(
        "uniqueR2Limit",
        "unique R² in the limit",
        VARIANCE,
        "Unique share of the band extrapolated to unlimited stimuli",
        significance=None,
    )
)
UNIQUE_LIMIT_LOW: Final = add(
    Statistic(
        "uniqueR2LimitLow",
        "lowest limit of the unique R²",
        VARIANCE,
        "Lowest extrapolation of the unique share among the compatible forms of the curve",
        significance=None,
    )
)
UNIQUE_LIMIT_HIGH: Final = add(
    Statistic(
        "uniqueR2LimitHigh",
        "highest limit of the unique R²",
        VARIANCE,
        "Highest extrapolation of the unique share among the compatible forms of the curve",
        significance=None,
    )
)
DIFFERENCE: Final = add(
    Statistic(
        "differenceR2",
        "difference of R²",
        VARIANCE,
        "R2 of the model less R2 of the model of `band` alone, both about the means",
        significance=OF_DIFFERENCE,
        compares=True,
        cmap=DIVERGING,
        limits="symmetric",
    )
)
DIFFERENCE_P: Final = add(
    Statistic(
        "differenceP",
        "p of the difference",
        PROBABILITY,
        "Two-sided p-value of the difference of losses of the model and of `band` alone, paired by stimulus",
        significance=OF_DIFFERENCE,
        compares=True,
    )
)
DIFFERENCE_Q: Final = add(
    Statistic(
        "differenceQ",
        "q of the difference",
        RATE,
        "Smallest false discovery rate at which the losses of the model and of `band` alone differ, paired",
        significance=OF_DIFFERENCE,
        compares=True,
    )
)
DIFFERENCE_MASK: Final = add(
    Statistic(
        "differenceMask",
        "difference significant",
        YES_OR_NO,
        "Voxels where that difference is significant (1) or not (0)",
        "yes or no",
        significance=OF_DIFFERENCE,
        compares=True,
    )
)
PREFERRED: Final = add(
    Statistic(
        "preferred",
        "preferred layer",
        "layer number",
        "Number of the layer with the highest r, counted from 0 in the order of `layers`",
        "layer",
    )
)
CONFIDENCE: Final = add(
    Statistic(
        "confidence",
        "confidence of the preference",
        "fraction of draws",
        "Fraction of draws of test and training stimuli in which the preferred layer wins again",
        by_region="mean",
        limits="unit",
    )
)
IDENTIFIABLE: Final = add(
    Statistic(
        "identifiable",
        "preferred layer can be told",
        YES_OR_NO,
        "Voxels whose preferred layer can be told from the others (1) or not (0); nan where none is found",
        "yes or no",
    )
)
FLAT_P: Final = add(
    Statistic(
        "flatP",
        "p that all layers predict equally well",
        PROBABILITY,
        "P-value of the test that all layers predict equally well",
    )
)
RUNNER_UP_P: Final = add(
    Statistic(
        "runnerUpP",
        "p against the second best layer",
        PROBABILITY,
        "Two-sided p-value of the preferred layer against the second best",
    )
)
