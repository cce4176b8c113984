"""Figures on cortex: accuracy, shares, preferences and differences, each with its caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np

from latentcortex import plotting
from latentcortex._arrays import FloatArray
from latentcortex.bands import Band
from latentcortex.inference.ties import at_most
from latentcortex.maps import Maps
from latentcortex.reporting.content import Content, Figure, found_by_any, models, said_false, significant
from latentcortex.reporting.honesty import unidentifiable
from latentcortex.reporting.titles import CORRECTIONS, title_of
from latentcortex.statistics import (
    CEILING,
    DIFFERENCE,
    DIFFERENCE_Q,
    IDENTIFIABILITY,
    IDENTIFIABLE,
    OF_UNIQUE_SHARE,
    PREFERRED,
    PRODUCT_SHARE,
    R2,
    UNIQUE_MASK,
    UNIQUE_SHARE,
)

LOWEST_CEILING: Final = 0.1
"""Noise ceiling below which a voxel is not drawn."""
ACCURACY: Final = "prediction accuracy r"
SAID_OF_CEILING: Final = (
    "Noise ceiling of the averaged test responses: the fraction of variance that any model could explain. "
    f"Voxels below {LOWEST_CEILING:g} are not coloured here; the map keeps them."
)
PAIRED: Final = DIFFERENCE_Q.name
"""The statistic of maps that hold a paired test of a model against another one, which is the column's band."""


def shown_ceiling(content: Content) -> FloatArray:
    """Take the noise ceiling, (n_voxels,), where there is one to speak of."""
    values = content.maps.values(statistic=CEILING.name)
    return np.where(values >= LOWEST_CEILING, values, np.nan)


def ceiling_panel(content: Content) -> plotting.Panel:
    """Lay out the noise ceiling, where there is one to speak of."""
    return plotting.Panel("noise ceiling", content.on_mesh(shown_ceiling(content)), template=content.template)


def ceiling(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the noise ceiling."""
    panel = ceiling_panel(content)
    yield Figure(
        analysis,
        SAID_OF_CEILING,
        lambda style: plotting.flatmaps(
            [panel], rois=content.rois, label="explainable variance", limits=(0, 1), style=style
        ),
    )


def against_ceiling(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw scores against the noise ceiling."""
    values = content.maps.values(statistic=CEILING.name)
    names = models(content.maps, analysis)
    word = "model" if any("+" in model for model in names) else "band"
    best = np.stack([content.maps.values(analysis=analysis, model=m, statistic=R2.name) for m in names])
    score = np.where(np.isnan(best).all(0), np.nan, np.nan_to_num(best, nan=-np.inf).max(0))
    yield Figure(
        f"{analysis}-against-ceiling",
        f"Variance explained by the best single {word} against the noise ceiling; the line is equality.",
        lambda style: plotting.prediction_against_ceiling(score, values, label=f"R², best {word}", style=style),
    )


def accuracy_panels(content: Content, analysis: str) -> list[plotting.Panel]:
    """Lay out the accuracy of each model of one band, where it is significant."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        r = maps.values(analysis=analysis, model=model, statistic="r")
        shown = significant(maps, r, analysis=analysis, model=model)
        panels.append(plotting.Panel(title_of(model), content.on_mesh(shown), template=content.template))
    return panels


def _accuracy(content: Content, analysis: str) -> tuple[list[plotting.Panel], str]:
    """Prepare a map of each latent, and what is said of them."""
    return accuracy_panels(content, analysis), said_of_accuracy(content, analysis)


def said_of_accuracy(content: Content, analysis: str) -> str:
    """Say what maps of accuracy show."""
    coloured = f"q < {_q(content.maps, analysis):g} are coloured{said_false(content.maps, analysis)}"
    each = "each model" if any("+" in model for model in models(content.maps, analysis)) else "each latent alone"
    return f"Prediction accuracy (r) of {each}; only voxels with {coloured}"


def _q(maps: Maps, analysis: str) -> float:
    return float(maps.find_columns(analysis=analysis, statistic="mask").columns["q"].iloc[0])


def accuracy_flat(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the accuracy of each latent on flattened cortex."""
    panels, about = _accuracy(content, analysis)
    how: dict[str, Any] = {"rois": content.rois, "label": ACCURACY}
    yield Figure(f"{analysis}-flat", f"{about}.", lambda style: plotting.flatmaps(panels, **how, style=style))


def accuracy_inflated(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the accuracy of each latent on inflated cortex."""
    panels, about = _accuracy(content, analysis)
    how: dict[str, Any] = {"rois": content.rois, "label": ACCURACY}
    about += ", on inflated cortex."
    yield Figure(f"{analysis}-inflated", about, lambda style: plotting.inflated(panels, **how, style=style))


def _scores(content: Content, analysis: str) -> dict[str, FloatArray]:
    """Find r of each latent where any is found, (n_voxels,), by its short name."""
    found: dict[str, FloatArray] = {}
    names = models(content.maps, analysis)
    somewhere = found_by_any(content.maps, [{"analysis": analysis, "model": model} for model in names])
    for model in names:
        r = content.maps.values(analysis=analysis, model=model, statistic="r")
        kind = title_of(model) if "+" in model else Band(model).kind
        name = {"zc": "z_c"}.get(kind, kind)
        found[title_of(model) if name in found else name] = np.where(somewhere, r, np.nan).astype(np.float32)
    return found


def _said_of_any(content: Content, analysis: str) -> str:
    """Say in which voxels maps of several latents at once are coloured."""
    mask = content.maps.find_columns(analysis=analysis, statistic="mask").columns.iloc[0]
    name, n_latents = CORRECTIONS[str(mask["correction"])], len(models(content.maps, analysis))
    return (
        f"voxels that any of the {n_latents} predicts: q < {_q(content.maps, analysis):g} ({name}) of Simes's p across "
        "them, one family of all valid voxels"
    )


def _laid(content: Content, scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Lay scores onto the mesh."""
    return {name: content.on_mesh(values) for name, values in scores.items()}


def _whether(content: Content, analysis: str) -> str:
    """Say whether latents were compared."""
    if len(content.maps.find_columns(analysis=analysis, statistic=PAIRED).columns):
        return "Every two latents are compared by a paired test, see differences."
    return "Whether the best differs from the second best was not tested."


def winner(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw which latent predicts each voxel best."""
    scores = _scores(content, analysis)
    numbers = plotting.winners(list(scores.values()))
    best = content.labels_on_mesh(numbers)
    laid = {
        name: np.where(best == i, values, np.nan) for i, (name, values) in enumerate(_laid(content, scores).items())
    }
    n_voxels = [int((numbers == i).sum()) for i in range(len(scores))]
    counts = ", ".join(f"{name} {n:,}" for name, n in zip(scores, n_voxels, strict=True))
    how: dict[str, Any] = {"rois": content.rois, "label": "highest r", "template": content.template}
    yield Figure(
        f"{analysis}-winner",
        f"The latent with the highest prediction accuracy, in {_said_of_any(content, analysis)}; with the number of "
        f"voxels of each ({counts}). {_whether(content, analysis)}",
        lambda style: plotting.winner_map(laid, **how, counts=n_voxels, style=style),
    )


def rgb(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the accuracy of three latents as red, green and blue."""
    scores = _laid(content, _scores(content, analysis))
    how: dict[str, Any] = {"rois": content.rois, "label": ACCURACY, "template": content.template}
    colours = ", ".join(f"{name} {light}" for name, light in zip(scores, ("red", "green", "blue"), strict=True))
    yield Figure(
        f"{analysis}-rgb",
        f"Prediction accuracy (r) of each latent alone, mixed as light ({colours}) in proportion to r, none below 0; "
        f"the higher the best of them, the more opaque. In {_said_of_any(content, analysis)}. Mixtures are predicted "
        "by several latents alike: yellow is red with green, magenta red with blue, cyan green with blue, white all "
        "three.",
        lambda style: plotting.rgb_map(scores, **how, style=style),
    )


def _fits(maps: Maps) -> str:
    """Say whether differences count the variance of fitting."""
    columns = maps.find_columns(statistic=PAIRED).columns
    n_refits = columns["n_refits"].max() if "n_refits" in columns else 0
    return f" and of {n_refits:.0f} fits to halves of the training stimuli" if n_refits > 0 else ""


def differences(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw how each two latents differ: in R² where a paired test says so, if there is one; else in r, untested."""
    maps, panels, masks, q = content.maps, [], [], _q(content.maps, analysis)
    for one, other in combinations(models(maps, analysis), 2):
        name, pair = f"{title_of(one)} − {title_of(other)}", maps.find_columns(analysis=analysis, model=one, band=other)
        if len(pair.find_columns(statistic=PAIRED).columns):
            found = at_most(pair.values(statistic=PAIRED), q)
            values = np.where(found, pair.values(statistic=DIFFERENCE.name), np.nan)
            masks.append(np.isfinite(content.on_mesh(values)))
        else:
            r, less = (maps.values(analysis=analysis, model=model, statistic="r") for model in (one, other))
            values = r - less
        panels.append(plotting.Panel(name, content.on_mesh(values), template=content.template))
    tested = len(masks) == len(panels)
    about = (
        "Difference of explained variance (R²) between each two latents, where either of the two predicts the voxel "
        f"(Simes's p across both) and a paired two-sided test of their losses{_fits(maps)} says that they differ; the "
        f"larger p of both has q < {q:g}, each pair's map a family of all its valid voxels."
        if tested
        else "Difference of prediction accuracy (r) between each two latents; it is not tested, and drawn in all valid "
        "voxels: a difference that is seen here may be due to chance."
    )
    how: dict[str, Any] = {"rois": content.rois, "label": f"difference of {'R²' if tested else 'r'}"}
    yield Figure(
        f"{analysis}-difference",
        about,
        lambda style: plotting.difference_maps(panels, masks if tested else None, **how, style=style),
    )


PALE: Final = 0.5
"""Opacity of a preferred layer that is not clearly better than the second best."""
CLEAR: Final = {"no clear winner": PALE, "clear winner": 1.0}
"""What opacities of preferred layers mean."""
GREY: Final = " Dark grey: the model is significant, and no band's share is expected to be reliable."
"""Said in captions where identifiability was predicted."""
OWN: Final = (
    "each drawn where its unique share is significant, in voxels where that of either is by Simes's p across both"
)
"""Where shares are drawn that are tested one by one, in words."""


def shares(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the shares of z and z_c at every strength or step."""
    mask, about = said_of_shares(content, analysis)
    yield Figure(analysis, about, _drawn_shares(content, analysis, PRODUCT_SHARE.name, mask))
    if len(content.maps.find_columns(analysis=analysis, statistic=UNIQUE_SHARE.name).columns):
        yield Figure(
            f"{analysis}-unique",
            "Unique shares: what the joint model of z and z_c loses when it is refitted without one of them, "
            f"{OWN}. It is the predictive gain at this number of stimuli, not unique "
            "information. Negative shares are drawn as 0, without a colour, and kept in the maps.",
            _drawn_shares(content, analysis, UNIQUE_SHARE.name, UNIQUE_MASK.name),
        )


def said_of_shares(content: Content, analysis: str) -> tuple[str, str]:
    """Name the statistic that says where product shares are drawn, and say what their maps show."""
    own = content.maps.find_columns(analysis=analysis)
    unique = len(own.find_columns(statistic=UNIQUE_SHARE.name).columns) > 0
    grey = GREY if len(own.find_columns(statistic=IDENTIFIABILITY.name).columns) else ""
    by_own = unique and content.settings["report"]["mask"] == "own"
    where = OWN if by_own else "where the joint model is significant"
    mask = UNIQUE_MASK.name if by_own else "mask"
    false = said_false(content.maps, analysis, mask)
    about = f"Product shares of z and z_c in the variance that their joint model explains, {where}{false}. Negative "
    return mask, f"{about}shares are drawn as 0, without a colour, and kept in the maps.{grey}"


def _drawn_shares(content: Content, analysis: str, statistic: str, mask: str) -> Callable[[plotting.Style], Any]:
    """Prepare the map of two bands' shares at every strength or step."""
    panels = share_panels(content, analysis, statistic, mask)
    return lambda style: plotting.share_maps(panels, rois=content.rois, label="share of variance (R²)", style=style)


def share_panels(content: Content, analysis: str, statistic: str, mask: str) -> list[plotting.SharePanel]:
    """Lay out two bands' shares at every strength or step, where a column of this statistic says so."""
    panels = []
    for title, (first, second), unsure in found_shares(content, analysis, statistic, mask):
        grey = None if unsure is None else _grey_on_mesh(content, unsure)
        both = content.on_mesh(first), content.on_mesh(second)
        panels.append(plotting.SharePanel(title, *both, grey, content.template))
    return panels


def found_shares(
    content: Content, analysis: str, statistic: str, mask: str
) -> Iterator[tuple[str, FloatArray, FloatArray | None]]:
    """Yield two bands' shares (2, n_voxels) at every strength or step, where a column of this statistic says so.

    Before them comes a title; after them 1 where they cannot be told apart, 0 where they can, nan where the joint model
    is not significant; None where that is not known.
    """
    maps = content.maps
    for model in models(maps, analysis):
        facts, bands = {"analysis": analysis, "model": model}, model.split("+")
        share = np.stack([maps.values(**facts, band=band, statistic=statistic) for band in bands])
        judged = [""] * len(bands) if mask == "mask" else bands
        found = np.stack([maps.values(**facts, band=band, statistic=mask) == 1 for band in judged])
        if mask == UNIQUE_MASK.name:
            found &= found_by_any(maps, [{**facts, "band": band} for band in bands], of=OF_UNIQUE_SHARE)
        # Where one of them is found, the other is nothing; where none is, there is nothing to draw.
        shown = np.where(found, share, np.where(found.any(0), 0, np.nan)).astype(np.float32)
        unsure = found_unsure(content, analysis, model) if statistic == PRODUCT_SHARE.name else None
        axis = content.section(analysis).axis
        yield f"{axis} {Band(model.split('+')[1]).entities[axis]} %", shown, unsure


def found_unsure(content: Content, analysis: str, model: str) -> FloatArray | None:
    """Mark where a significant model's shares cannot be told apart, (n_voxels,): 1, or 0; nan where it is not found."""
    unsure = unidentifiable(content.maps, analysis, model)
    if unsure is None:
        return None
    found = content.maps.values(analysis=analysis, model=model, statistic="mask") == 1
    return np.where(found, unsure, np.nan).astype(np.float32)


def _grey_on_mesh(content: Content, unsure: FloatArray) -> FloatArray:
    """Mark the vertices that are drawn grey, 1 or nan."""
    return np.where(content.labels_on_mesh(unsure) == 1, 1.0, np.nan).astype(np.float32)


def preference_panels(content: Content, analysis: str) -> tuple[list[plotting.PreferencePanel], list[str]]:
    """Lay out the preferred layer at every step, where any layer is significant; also name the layers."""
    found = content.maps.find_columns(analysis=analysis, statistic=PREFERRED.name)
    layers = str(found.columns["layers"].iloc[0]).split("+")
    panels = []
    for model in found.columns["model"]:
        of = {"analysis": analysis, "model": model}
        shown = significant(content.maps, content.maps.values(**of, statistic=PREFERRED.name), **of)
        clear = content.maps.values(**of, statistic=IDENTIFIABLE.name) == 1
        laid = content.labels_on_mesh(shown)
        opacity = _of_same(content, laid, shown, np.where(clear, 1.0, PALE))
        title = f"step {model.split('-')[1]} %"
        panels.append(plotting.PreferencePanel(title, laid, opacity, template=content.template))
    return panels, layers


def _of_same(content: Content, laid: FloatArray, labels: FloatArray, values: FloatArray) -> FloatArray:
    """Lay values (n_voxels,) onto the mesh, each vertex that of the voxels that have its label."""
    found = np.full_like(laid, np.nan)
    for label in np.unique(laid[np.isfinite(laid)]):
        own = content.on_mesh(np.where(labels == label, values, np.nan))
        found[laid == label] = own[laid == label]
    return found


def _widths(content: Content, analysis: str) -> str:
    """Say over how many dimensions the layers are spread, for which preferences are not corrected."""
    known = content.maps.find_columns(analysis=analysis, statistic=PREFERRED.name).columns
    if "effective_dims" not in known or known["effective_dims"].isna().any():
        return ""
    by_layer: dict[str, list[str]] = {}
    for row in known.to_dict("records"):
        for layer, width in zip(row["layers"].split("+"), row["effective_dims"].split("+"), strict=True):
            by_layer.setdefault(layer, []).append(f"{float(width):.0f}")
    listing = ", ".join(f"{layer} {'/'.join(widths)}" for layer, widths in by_layer.items())
    return (
        " It is the best predictor after a fit to these stimuli, not corrected for width or noise: of two layers that "
        "hold as much of a voxel, the one with more dimensions, or with more that has nothing to do with the voxel, "
        f"predicts less well. Effective dimensions (participation ratio), step by step: {listing}."
    )


def preferences(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the preferred layer of every step."""
    panels, layers = preference_panels(content, analysis)
    told = content.maps.find_columns(analysis=analysis, statistic=IDENTIFIABLE.name)
    counts = ", ".join(f"{(one == 1).sum():,} of {np.isfinite(one).sum():,}" for one, _ in told)
    yield Figure(
        analysis,
        "The layer that predicts each voxel best. In full colour where it is clearly better than the second best "
        f"(in {counts} voxels, step by step), pale where it is not, or no layer is better than any other. How often "
        f"each wins again among other stimuli is a map of its own (confidence).{_widths(content, analysis)}",
        lambda style: plotting.preference_maps(panels, layers, rois=content.rois, opacities=CLEAR, style=style),
    )


def partition_panels(content: Content, analysis: str) -> list[plotting.Panel]:
    """Lay out the share of every layer, where the joint model is significant."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        unsure = found_unsure(content, analysis, model)
        grey = None if unsure is None else _grey_on_mesh(content, unsure)
        for band in model.split("+"):
            share = maps.values(analysis=analysis, model=model, band=band, statistic=PRODUCT_SHARE.name)
            shown = significant(maps, share, analysis=analysis, model=model)
            panels.append(plotting.Panel(title_of(band), content.on_mesh(shown), grey, content.template))
    return panels


def partition(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the share of every layer."""
    maps, panels = content.maps, partition_panels(content, analysis)
    grey = GREY if panels[0].unsure is not None else ""
    n_layers = len(models(maps, analysis)[0].split("+"))
    yield Figure(
        analysis,
        "Product share of each layer in the variance that the joint model of all layers explains, where that "
        f"model is significant{said_false(maps, analysis)}.{grey}",
        lambda style: plotting.flatmaps(
            panels, rois=None, label="share of variance (R²)", n_columns=n_layers, style=style
        ),
    )
