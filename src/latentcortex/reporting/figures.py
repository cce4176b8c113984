"""The figures of every analysis, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import plotting
from latentcortex._arrays import FloatArray
from latentcortex.features import Band
from latentcortex.maps import Maps
from latentcortex.reporting.content import Content
from latentcortex.reporting.honesty import unidentifiable
from latentcortex.reporting.text import number, title_of
from latentcortex.space import Surface

LOWEST_CEILING: Final = 0.1
"""Noise ceiling below which a voxel is not drawn."""


@dataclass(frozen=True)
class Figure:
    """One picture of the report.

    Parameters
    ----------
    name : str
        Of its file.
    caption : str
        What it shows, also for those who cannot see it.
    draw : callable
        Draws it.
    """

    name: str
    caption: str
    draw: Callable[[], Any]


def figures(content: Content) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of every analysis that the maps hold, with the name of the analysis."""
    there = list(dict.fromkeys(content.maps.columns["analysis"]))
    profiles = [name for name in there if name.startswith("generalisation-")]
    for name in [*(name for name in there if name not in profiles), *(["generalisation"] if profiles else [])]:
        if name in _PROFILES:
            yield name, _PROFILES[name](content)
            continue
        own = set(content.maps.find(analysis=name).columns["statistic"])
        maker, needed = _ON_SURFACE.get(name, (_histograms, "r"))
        drawable = isinstance(content.maps.space, Surface) and needed in own
        for figure in (maker if drawable else _histograms)(content, name):
            yield name, figure


def significant(maps: Maps, values: FloatArray, *, analysis: str, model: str) -> FloatArray:
    """Keep values where the model's own mask says so; nan elsewhere."""
    mask = maps.values(analysis=analysis, model=model, statistic="mask")
    return np.asarray(np.where(mask == 1, values, np.nan), dtype=np.float32)


def models(maps: Maps, analysis: str) -> list[str]:
    """List the models of an analysis in their order."""
    own = maps.find(analysis=analysis)
    return list(dict.fromkeys(own.find(statistic="r").columns["model"]))


def ceiling_panel(content: Content) -> plotting.Panel:
    """Lay out the noise ceiling, where there is one to speak of."""
    values = content.maps.values(statistic="ceiling")
    return plotting.Panel("noise ceiling", content.on_mesh(np.where(values >= LOWEST_CEILING, values, np.nan)))


def _ceiling(content: Content, analysis: str) -> Iterator[Figure]:
    values = content.maps.values(statistic="ceiling")
    panel = ceiling_panel(content)
    yield Figure(
        "ceiling",
        "Noise ceiling of the averaged test responses: the fraction of variance that any model could explain. "
        f"Voxels below {LOWEST_CEILING:g} are not coloured here; the map keeps them.",
        lambda: plotting.flatmaps([panel], rois=content.rois, label="explainable variance", limits=(0, 1)),
    )
    if (content.maps.columns["analysis"] == "latents").any():
        names = models(content.maps, "latents")
        best = np.stack([content.maps.values(analysis="latents", model=m, statistic="r2") for m in names])
        score = np.where(np.isnan(best).all(0), np.nan, np.nan_to_num(best, nan=-np.inf).max(0))
        yield Figure(
            "prediction-against-ceiling",
            "Variance explained by the best single latent against the noise ceiling; the line is equality.",
            lambda: plotting.prediction_against_ceiling(score, values, label="R², best latent"),
        )


def accuracy_panels(content: Content, analysis: str) -> list[plotting.Panel]:
    """Lay out the accuracy of each model of one band, where it is significant."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        r = maps.values(analysis=analysis, model=model, statistic="r")
        shown = significant(maps, r, analysis=analysis, model=model)
        panels.append(plotting.Panel(title_of(model), content.on_mesh(shown)))
    return panels


def _accuracy(content: Content, analysis: str) -> Iterator[Figure]:
    maps, panels = content.maps, accuracy_panels(content, analysis)
    q = maps.find(analysis=analysis, statistic="mask").columns["q"].iloc[0]
    about = (
        f"Prediction accuracy (r) of each latent alone; only voxels with q < {q:g} are coloured{_twin(maps, analysis)}."
    )
    label = "prediction accuracy r"
    yield Figure("latents-flat", about, lambda: plotting.flatmaps(panels, rois=content.rois, label=label))
    yield Figure(
        "latents-inflated", about[:-1] + ", on inflated cortex.",
        lambda: plotting.inflated(panels, rois=content.rois, label=label),
    )  # fmt: skip


PALE: Final = 1 / 3
"""Opacity of a preference that cannot be told, relative to one that can."""
GREY: Final = " Grey: the model is significant, and no band's share is expected to be reliable."
"""Said in captions where identifiability was predicted."""


def _twin(maps: Maps, analysis: str, mask: str = "mask") -> str:
    """Say how many voxels the same maps of the shuffled twin would colour; nothing where there is no twin."""
    masks = maps.find(analysis=analysis, statistic=mask).columns
    if "n_twin" not in masks or masks["n_twin"].isna().any():
        return ""
    return f" (in the shuffled twin {', '.join(f'{n:.0f}' for n in masks['n_twin'])})"


def _shares(content: Content, analysis: str) -> Iterator[Figure]:
    own = content.maps.find(analysis=analysis)
    unique = len(own.find(statistic="uniqueR2").columns) > 0
    grey = GREY if len(own.find(statistic="identifiability").columns) else ""
    by_own = unique and content.settings["report"]["mask"] == "own"
    where = "each drawn where its unique share is significant" if by_own else "where the joint model is significant"
    mask = "uniqueMask" if by_own else "mask"
    twin = _twin(content.maps, analysis, mask)
    yield Figure(
        analysis,
        f"Product shares of z and z_c in the variance that their joint model explains, {where}{twin}. Negative shares "
        f"are drawn as 0 and kept in the maps.{grey}",
        _drawn_shares(content, analysis, "shareR2", mask),
    )
    if unique:
        yield Figure(
            f"{analysis}-unique",
            "Unique shares: what the joint model of z and z_c loses when it is refitted without one of them, each "
            "drawn where its own gain is significant. It is the predictive gain at this number of stimuli, not unique "
            "information. Negative shares are drawn as 0 and kept in the maps.",
            _drawn_shares(content, analysis, "uniqueR2", "uniqueMask"),
        )


def _drawn_shares(content: Content, analysis: str, statistic: str, mask: str) -> Callable[[], Any]:
    """Prepare the map of two bands' shares at every strength or step."""
    panels = share_panels(content, analysis, statistic, mask)
    return lambda: plotting.share_maps(panels, rois=content.rois, label="share of variance (R²)")


def share_panels(content: Content, analysis: str, statistic: str, mask: str) -> list[plotting.SharePanel]:
    """Lay out two bands' shares at every strength or step, where a column of this statistic says so."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        facts, bands = {"analysis": analysis, "model": model}, model.split("+")
        share = np.stack([maps.values(**facts, band=band, statistic=statistic) for band in bands])
        judged = [""] * len(bands) if mask == "mask" else bands
        found = np.stack([maps.values(**facts, band=band, statistic=mask) == 1 for band in judged])
        # Where one of them is found, the other is nothing; where none is, there is nothing to draw.
        shown = np.where(found, share, np.where(found.any(0), 0, np.nan)).astype(np.float32)
        grey = _grey(content, analysis, model) if statistic == "shareR2" else None
        both = [content.on_mesh(one) for one in shown]
        step = Band.parse(model.split("+")[1])
        word = f"strength {step.entities['strength']} %"
        if analysis == "denoising-steps":
            word = f"step {step.entities['step']} %"
        panels.append(plotting.SharePanel(word, both[0], both[1], grey))
    return panels


def _grey(content: Content, analysis: str, model: str) -> FloatArray | None:
    """Mark where a significant model's shares cannot be told apart, 1 or nan over the mesh."""
    unsure = unidentifiable(content.maps, analysis, model)
    if unsure is None:
        return None
    found = content.maps.values(analysis=analysis, model=model, statistic="mask") == 1
    return content.on_mesh(np.where(unsure & found, 1.0, np.nan).astype(np.float32))


def preference_panels(content: Content, analysis: str) -> tuple[list[plotting.PreferencePanel], list[str]]:
    """Lay out the preferred layer at every step, where any layer is significant; also name the layers."""
    found = content.maps.find(analysis=analysis, statistic="preferred")
    layers = str(found.columns["layers"].iloc[0]).split("+")
    panels = []
    for model in found.columns["model"]:
        of = {"analysis": analysis, "model": model}
        shown = significant(content.maps, content.maps.values(**of, statistic="preferred"), **of)
        sure = content.maps.values(**of, statistic="confidence")
        told = content.maps.values(**of, statistic="identifiable")
        laid = [content.on_mesh(values) for values in (shown, np.where(told == 1, sure, PALE * sure))]
        panels.append(plotting.PreferencePanel(f"step {model.split('-')[1]} %", *laid))
    return panels, layers


def _preferences(content: Content, analysis: str) -> Iterator[Figure]:
    panels, layers = preference_panels(content, analysis)
    n_refits = content.maps.find(analysis=analysis, statistic="confidence").columns["n_refits"].iloc[0]
    told = content.maps.find(analysis=analysis, statistic="identifiable").data
    counts = ", ".join(f"{(one == 1).sum():,} of {np.isfinite(one).sum():,}" for one in told.T)
    listing = f"told in {counts} voxels"
    yield Figure(
        "unet-layers",
        "The layer that predicts each voxel best. Opacity is the fraction of draws in which it wins again, of "
        f"test stimuli by bootstrap and of training stimuli by {n_refits:.0f} fits to halves of them; a third "
        f"of that where the best cannot be told from the second best, or all from each other ({listing}).",
        lambda: plotting.preference_maps(panels, layers, rois=content.rois),
    )


def partition_panels(content: Content, analysis: str) -> list[plotting.Panel]:
    """Lay out the share of each layer at every step, where the model of all layers is significant."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        for band in model.split("+"):
            share = maps.values(analysis=analysis, model=model, band=band, statistic="shareR2")
            shown = significant(maps, share, analysis=analysis, model=model)
            panels.append(plotting.Panel(title_of(band), content.on_mesh(shown), _grey(content, analysis, model)))
    return panels


def _partition(content: Content, analysis: str) -> Iterator[Figure]:
    maps, panels = content.maps, partition_panels(content, analysis)
    grey = GREY if panels[0].unsure is not None else ""
    n_layers = len(models(maps, analysis)[0].split("+"))
    yield Figure(
        "unet-partition",
        "Product share of each layer in the variance that the joint model of all layers explains, where that "
        f"model is significant{_twin(maps, analysis)}.{grey}",
        lambda: plotting.flatmaps(panels, rois=None, label="share of variance (R²)", n_columns=n_layers),
    )


def _histograms(content: Content, analysis: str) -> Iterator[Figure]:
    for model in models(content.maps, analysis):
        r = content.maps.values(analysis=analysis, model=model, statistic="r")
        found = content.maps.values(analysis=analysis, model=model, statistic="mask") == 1
        # A permutation null belongs to each voxel, and then no one value of r parts the significant from the rest.
        parts = found.any() and np.nanmin(r[found]) > np.nanmax(r[~found], initial=-1)
        threshold = float(r[found].min()) if parts else None
        line = " The line is the smallest significant r." if parts else ""
        yield Figure(
            f"{analysis}-{model.replace('+', '-')}",
            f"Prediction accuracy of {model} over voxels, of which {found.sum():,} are significant.{line}",
            lambda r=r, threshold=threshold: plotting.histogram(r, threshold),  # type: ignore[misc]
        )


def _learning_curve(content: Content) -> Figure:
    rows = []
    for facts in content.maps.find(analysis="learning-curve").columns.to_dict("records"):
        if not facts["statistic"].startswith("uniqueR2Limit"):
            here = {"roi": facts["model"].replace("_step-100", ""), "series": title_of(facts["band"])}
            rows.append(
                {**here, "x": facts["n_fitted"], "y": facts["mean"], "low": facts["low"], "high": facts["high"]}
            )
    limits = content.maps.find(analysis="learning-curve", statistic="uniqueR2Limit").columns
    errors = content.maps.find(analysis="learning-curve", statistic="uniqueR2LimitError").columns["mean"]
    said = ", ".join(
        f"{title_of(str(one['band']))} {number(one['mean'])} (standard error {number(error)})"
        for one, error in zip(limits.to_dict("records"), errors, strict=True)
    )
    return Figure(
        "learning-curve",
        "Unique share of each band, mean over all valid voxels, against the number of fitted stimuli; intervals by "
        "bootstrap over test stimuli. A gain that is the band's own stays; one that only few stimuli give falls. "
        f"Extrapolated to unlimited stimuli: {said}; that means little where a curve still rises, or the most stimuli "
        "are not several times as many as the band has dimensions.",
        lambda: plotting.roi_profiles(
            pd.DataFrame(rows), x_label="fitted stimuli", y_label="unique share (R²)", log_x=True
        ),
    )


def _generalisation(content: Content) -> Figure:
    rows, said = [], []
    columns = content.maps.columns
    for facts in columns[columns["analysis"].str.startswith("generalisation-")].to_dict("records"):
        if facts["statistic"] == "r":
            kind = facts["analysis"].removeprefix("generalisation-")
            rows.append({"roi": title_of(facts["band"]), "x": kind, "y": facts["mean"], "series": "mean r"})
            rows[-1] |= {"low": facts["low"], "high": facts["high"]}
            said.append(f"{title_of(facts['band'])} {kind} {number(facts['normalised'])}")
    n_train = int(columns.loc[columns["analysis"].str.startswith("generalisation-"), "n_train"].max())
    return Figure(
        "generalisation",
        "Mean r over all valid voxels on test stimuli that are drawn at random, held out as whole clusters, or "
        f"farthest from all others, each after a fit to {n_train} stimuli; intervals by bootstrap over test stimuli. "
        f"Divided by the square root of each test set's mean noise ceiling: {', '.join(said)}.",
        lambda: plotting.roi_profiles(pd.DataFrame(rows), x_label="test stimuli", y_label="mean r"),
    )


_PROFILES: Final[dict[str, Callable[[Content], Figure]]] = {
    "learning-curve": _learning_curve,
    "generalisation": _generalisation,
}
"""Analyses that are drawn as means over voxels."""
_ON_SURFACE: Final[dict[str, tuple[Callable[[Content, str], Iterator[Figure]], str]]] = {
    "ceiling": (_ceiling, "ceiling"),
    "latents": (_accuracy, "r"),
    "noise-levels": (_shares, "shareR2"),
    "denoising-steps": (_shares, "shareR2"),
    "unet-layers": (_preferences, "preferred"),
    "unet-partition": (_partition, "shareR2"),
}
"""How each analysis is drawn on cortex, and the statistic that this needs."""
