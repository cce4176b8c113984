"""Figures of volumes: cuts through the brain and a look through it, each with its caption."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from latentcortex import plotting
from latentcortex._arrays import FloatArray
from latentcortex.plotting import VolumePanel, VolumeSharePanel
from latentcortex.reporting import cortex
from latentcortex.reporting.content import Content, Figure, models, significant
from latentcortex.reporting.titles import title_of
from latentcortex.statistics import PRODUCT_SHARE

CUTS: Final = (
    "On axial cuts, each of which stands for as many voxels, and on the sagittal and the coronal one that have most "
    "voxels; the left of the brain is on the left, places are in mm of {reference}. A line runs round the voxels of "
    "the mask."
)
"""Said in captions of cuts."""


def accuracy(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the accuracy of each latent on cuts."""
    panels, about = _accuracy(content, analysis)
    how: dict[str, Any] = {"background": content.background, "label": cortex.ACCURACY}
    yield Figure(
        f"{analysis}-slices", f"{about}. {_where(content)}", lambda style: plotting.slices(panels, **how, style=style)
    )


def glass(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the accuracy of each latent as seen through the brain."""
    panels, about = _accuracy(content, analysis)
    yield Figure(
        f"{analysis}-glass",
        f"{about}. Seen through the brain from the left, behind, the right and above: of all voxels along a line of "
        "sight the highest is drawn; from the left and the right only that hemisphere is seen.",
        lambda style: plotting.glass_brain(panels, label=cortex.ACCURACY, style=style),
    )


def _accuracy(content: Content, analysis: str) -> tuple[list[VolumePanel], str]:
    """Prepare a map of each latent, and what is said of them."""
    panels = []
    for model in models(content.maps, analysis):
        r = content.maps.values(analysis=analysis, model=model, statistic="r")
        shown = significant(content.maps, r, analysis=analysis, model=model)
        panels.append(VolumePanel(title_of(model), shown, content.volume))
    return panels, cortex.said_of_accuracy(content, analysis)


def ceiling(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the noise ceiling on cuts."""
    panel = VolumePanel("noise ceiling", cortex.shown_ceiling(content), content.volume)
    how: dict[str, Any] = {"background": content.background, "label": "explainable variance", "limits": (0.0, 1.0)}
    yield Figure(
        f"{analysis}-slices",
        f"{cortex.SAID_OF_CEILING} {_where(content)}",
        lambda style: plotting.slices([panel], **how, style=style),
    )


def shares(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the product shares of z and z_c at every strength or step on cuts."""
    mask, about = cortex.said_of_shares(content, analysis)
    panels = [
        VolumeSharePanel(title, first, second, content.volume, None if unsure is None else _grey(unsure))
        for title, (first, second), unsure in cortex.found_shares(content, analysis, PRODUCT_SHARE.name, mask)
    ]
    how: dict[str, Any] = {"background": content.background, "label": "share of variance (R²)"}
    yield Figure(
        f"{analysis}-slices",
        f"{about} {_where(content)}",
        lambda style: plotting.share_slices(panels, **how, style=style),
    )


def _grey(unsure: FloatArray) -> FloatArray:
    """Mark the voxels that are drawn grey, 1 or nan."""
    return np.where(unsure == 1, 1.0, np.nan).astype(np.float32)


def _where(content: Content) -> str:
    """Say what cuts show, and on what anatomy."""
    said = CUTS.format(reference=content.volume.reference)
    if content.background is not None:
        return f"{said} The anatomy is the image that was given."
    if content.volume.reference.startswith("MNI152"):
        return f"{said} The anatomy is the average of 152 brains, symmetric, of 2009 (ICBM 2009a)."
    return said
