"""Figures of maps: what each shows, in which colours, with its caption; and how it gets onto a canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Final

import numpy as np
from matplotlib.figure import Figure as MatplotlibFigure

from latentcortex import plotting
from latentcortex._arrays import FloatArray
from latentcortex.bands import Band, Model
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
    MASK,
    OF_UNIQUE_SHARE,
    PREFERRED,
    PRODUCT_SHARE,
    UNIQUE_MASK,
    UNIQUE_SHARE,
)

MIN_CEILING: Final = 0.1
"""Noise ceiling below which a voxel is not coloured."""
ACCURACY: Final = "prediction accuracy r"
SHARE: Final = "share of variance (R²)"
PAIRED: Final = DIFFERENCE_Q.name
"""The statistic of maps that hold a paired test of a model against another one, which is the column's band."""
UNCLEAR_OPACITY: Final = 0.5
"""Opacity of a preferred layer that is not clearly better than the second best."""
OPACITIES: Final = {"no clear winner": UNCLEAR_OPACITY, "clear winner": 1.0}
"""What opacities of preferred layers mean."""
CANNOT_BE_TOLD: Final = " Dark grey: the model is significant, and no band's share is expected to be reliable."
"""Sentence of captions where identifiability was predicted."""
BY_UNIQUE_SHARE: Final = (
    "each drawn where its unique share is significant, in voxels where that of either is by Simes's p across both"
)
"""Where shares are drawn that are tested one by one."""


@dataclass(frozen=True, eq=False)
class PaintedMaps:
    """Maps of an analysis as a report shows them, on whichever canvas.

    Parameters
    ----------
    painting : Painting
    caption : str
        Whole sentences that say what the maps show.
    suffix : str
        Of the figure's name, after that of the analysis.
    viewer_label : str
        What the colours mean where no caption stands beside them, in a viewer; by default the painting's label.
    viewer_heading : str
        What follows the title of the analysis over their names in a viewer.
    n_columns : int, optional
        How many maps stand beside each other on flat cortex, if the number has a meaning.
    outlines : bool
        Whether regions are outlined; on many small maps they would hide what is there to be seen.
    """

    painting: plotting.Painting
    caption: str
    suffix: str = ""
    viewer_label: str = ""
    viewer_heading: str = ""
    n_columns: int | None = None
    outlines: bool = True


Paint = Callable[[Content, str], Iterator[PaintedMaps]]
"""Content of a report, name of an analysis -> its maps, in one painting or several."""
CANVASES: Final[dict[str, Callable[[Content, PaintedMaps], plotting.Canvas]]] = {
    "flat": lambda content, maps: plotting.Flat(content.atlas if maps.outlines else None, maps.n_columns),
    "inflated": lambda content, maps: plotting.Inflated(content.atlas if maps.outlines else None),
    "slices": lambda content, maps: plotting.Slices(content.background),
    "glass": lambda content, maps: plotting.Glass(),
}
"""Canvases by the names that spaces have for them."""


def drawn(paint: Paint, canvas: str, suffix: str = "") -> Callable[[Content, str], Iterator[Figure]]:
    """Put the maps of an analysis on a canvas.

    Parameters
    ----------
    paint : callable
        Content, name of the analysis -> its maps.
    canvas : str
        A name of `CANVASES`.
    suffix : str
        Of the names of the figures.
    """

    def make(content: Content, analysis: str) -> Iterator[Figure]:
        for maps in paint(content, analysis):
            on = CANVASES[canvas](content, maps)
            caption = " ".join(sentence for sentence in (maps.caption, on.caption(maps.painting)) if sentence)
            yield Figure(f"{analysis}{maps.suffix}{suffix}", caption, partial(_draw, maps.painting, on))

    return make


def _draw(painting: plotting.Painting, canvas: plotting.Canvas, style: plotting.Style) -> MatplotlibFigure:
    """Draw a painting; its style comes last, when the report is written."""
    return plotting.draw(painting, canvas, style=style)


def ceiling(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the noise ceiling, where there is one to speak of."""
    values = content.maps.values(statistic=CEILING.name)
    panel = plotting.Panel("noise ceiling", np.where(values >= MIN_CEILING, values, np.nan), content.maps.space)
    yield PaintedMaps(
        plotting.Scores([panel], limits=(0.0, 1.0), label="explainable variance"),
        "Noise ceiling of the averaged test responses: the fraction of variance that any model could explain. "
        f"Voxels below {MIN_CEILING:g} are not coloured here; the map keeps them.",
    )


def accuracy(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the accuracy of each model, where it is significant."""
    maps, q = content.maps, _q(content.maps, analysis)
    panels = []
    for model in models(maps, analysis):
        r = maps.values(analysis=analysis, model=model, statistic="r")
        significant_r = significant(maps, r, analysis=analysis, model=model)
        panels.append(plotting.Panel(title_of(model), significant_r, maps.space))
    each = "each model" if any("+" in model for model in models(maps, analysis)) else "each latent alone"
    yield PaintedMaps(
        plotting.Scores(panels, label=ACCURACY),
        f"Prediction accuracy (r) of {each}; only voxels with q < {q:g} are coloured{said_false(maps, analysis)}.",
        viewer_label=f"{ACCURACY}, where q < {q:g}",
    )


def winner(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show which latent predicts each voxel best."""
    names, panel = _scores_where_any_is_significant(content, analysis)
    best = plotting.winners(panel.bands)
    counts = ", ".join(f"{name} {(best == i).sum():,}" for i, name in enumerate(names))
    is_compared = len(content.maps.find_columns(analysis=analysis, statistic=PAIRED).columns) > 0
    compared = (
        "Every two latents are compared by a paired test, see differences."
        if is_compared
        else "Whether the best differs from the second best was not tested."
    )
    yield PaintedMaps(
        plotting.Winner([panel], names, label="highest r"),
        f"The latent with the highest prediction accuracy, in {_where_any_is_significant(content, analysis)}; with the "
        f"number of voxels of each ({counts}). {compared}",
        suffix="-winner",
    )


def rgb(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the accuracy of three latents as red, green and blue."""
    names, panel = _scores_where_any_is_significant(content, analysis)
    colours = ", ".join(f"{name} {light}" for name, light in zip(names, ("red", "green", "blue"), strict=True))
    yield PaintedMaps(
        plotting.RedGreenBlue([panel], names, label=ACCURACY),
        f"Prediction accuracy (r) of each latent alone, mixed as light ({colours}) in proportion to r, none below 0; "
        f"the higher the best of them, the more opaque. In {_where_any_is_significant(content, analysis)}. Mixtures "
        "are predicted by several latents alike: yellow is red with green, magenta red with blue, cyan green with "
        "blue, white all three.",
        suffix="-rgb",
    )


def differences(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show how each two latents differ: in R² where a paired test says so, if there is one; else in r, untested."""
    maps, panels, masks, q = content.maps, [], [], _q(content.maps, analysis)
    for one, other in combinations(models(maps, analysis), 2):
        pair = maps.find_columns(analysis=analysis, model=one, band=other)
        if len(pair.find_columns(statistic=PAIRED).columns):
            masks.append(at_most(pair.values(statistic=PAIRED), q))
            values = pair.values(statistic=DIFFERENCE.name)
        else:
            r, r_other = (maps.values(analysis=analysis, model=model, statistic="r") for model in (one, other))
            values = r - r_other
        panels.append(plotting.Panel(f"{title_of(one)} − {title_of(other)}", values, maps.space))
    is_tested = len(masks) == len(panels)
    columns = maps.find_columns(statistic=PAIRED).columns
    n_refits = columns["n_refits"].max() if "n_refits" in columns else 0
    fits = f" and of {n_refits:.0f} fits to halves of the training stimuli" if n_refits > 0 else ""
    caption = (
        "Difference of explained variance (R²) between each two latents, where either of the two predicts the voxel "
        f"(Simes's p across both) and a paired two-sided test of their losses{fits} says that they differ; the "
        f"larger p of both has q < {q:g}, each pair's map a family of all its valid voxels."
        if is_tested
        else "Difference of prediction accuracy (r) between each two latents; it is not tested, and drawn in all valid "
        "voxels: a difference that is seen here may be due to chance."
    )
    label = f"difference of {'R²' if is_tested else 'r'}"
    painting = plotting.Differences(panels, masks if is_tested else None, label=label)
    yield PaintedMaps(painting, caption, suffix="-difference")


def shares(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the shares of z and z_c at every strength or step: product shares, and unique ones where they are known."""
    statistics = content.statistics_of(analysis)
    by_unique_share = UNIQUE_SHARE.name in statistics and content.settings["report"]["mask"] == "own"
    where = BY_UNIQUE_SHARE if by_unique_share else "where the joint model is significant"
    mask = UNIQUE_MASK.name if by_unique_share else MASK.name
    yield PaintedMaps(
        plotting.Shares(_share_panels(content, analysis, PRODUCT_SHARE.name, mask), label=SHARE),
        f"Product shares of z and z_c in the variance that their joint model explains, {where}"
        f"{said_false(content.maps, analysis, mask)}. Negative shares are drawn as 0, without a colour, and kept in "
        f"the maps.{CANNOT_BE_TOLD if IDENTIFIABILITY.name in statistics else ''}",
        viewer_label=f"product {SHARE}",
    )
    if UNIQUE_SHARE.name in statistics:
        yield PaintedMaps(
            plotting.Shares(_share_panels(content, analysis, UNIQUE_SHARE.name, UNIQUE_MASK.name), label=SHARE),
            "Unique shares: what the joint model of z and z_c loses when it is refitted without one of them, "
            f"{BY_UNIQUE_SHARE}. It is the predictive gain at this number of stimuli, not unique "
            "information. Negative shares are drawn as 0, without a colour, and kept in the maps.",
            suffix="-unique",
            viewer_label=f"unique {SHARE}",
            viewer_heading=": unique shares",
        )


def preferences(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the preferred layer at every step, where any layer is significant."""
    maps, panels = content.maps, []
    preferred = maps.find_columns(analysis=analysis, statistic=PREFERRED.name)
    for model in preferred.columns["model"]:
        facts = {"analysis": analysis, "model": model}
        layer = significant(maps, maps.values(**facts, statistic=PREFERRED.name), **facts)
        is_clear = maps.values(**facts, statistic=IDENTIFIABLE.name) == 1
        opacity = np.where(is_clear, 1.0, UNCLEAR_OPACITY)
        panels.append(plotting.Panel(f"step {model.split('-')[1]} %", layer, maps.space, opacity=opacity))
    clear = maps.find_columns(analysis=analysis, statistic=IDENTIFIABLE.name)
    counts = ", ".join(f"{(values == 1).sum():,} of {np.isfinite(values).sum():,}" for values, _ in clear)
    layers = str(preferred.columns["layers"].iloc[0]).split("+")
    yield PaintedMaps(
        plotting.Preference(panels, layers, opacities=OPACITIES),
        "The layer that predicts each voxel best. In full colour where it is clearly better than the second best "
        f"(in {counts} voxels, step by step), pale where it is not, or no layer is better than any other. How often "
        f"each wins again among other stimuli is a map of its own (confidence).{_widths(content, analysis)}",
        viewer_label="preferred layer; pale where it is no clear winner",
    )


def partition(content: Content, analysis: str) -> Iterator[PaintedMaps]:
    """Show the share of every layer, where the joint model is significant; a row of maps for each step."""
    maps, panels = content.maps, []
    for model in models(maps, analysis):
        unsure = _unsure(content, analysis, model)
        for band in Model.parse(model):
            share = maps.values(analysis=analysis, model=model, band=band, statistic=PRODUCT_SHARE.name)
            significant_share = significant(maps, share, analysis=analysis, model=model)
            panels.append(plotting.Panel(title_of(band), significant_share, maps.space, unsure))
    yield PaintedMaps(
        plotting.Scores(panels, label=SHARE),
        "Product share of each layer in the variance that the joint model of all layers explains, where that "
        f"model is significant{said_false(maps, analysis)}.{CANNOT_BE_TOLD if panels[0].unsure is not None else ''}",
        viewer_label=f"product {SHARE}",
        n_columns=len(Model.parse(models(maps, analysis)[0])),
        outlines=False,
    )


def _scores_where_any_is_significant(content: Content, analysis: str) -> tuple[list[str], plotting.Panel]:
    """Give the short name of each latent, and r of each (n_latents, n_voxels) where any is significant."""
    maps, names = content.maps, []
    is_any = found_by_any(maps, [{"analysis": analysis, "model": model} for model in models(maps, analysis)])
    scores = []
    for model in models(maps, analysis):
        r = maps.values(analysis=analysis, model=model, statistic="r")
        kind = title_of(model) if "+" in model else Band(model).kind
        name = {"zc": "z_c"}.get(kind, kind)
        names.append(title_of(model) if name in names else name)
        scores.append(np.where(is_any, r, np.nan).astype(np.float32))
    return names, plotting.Panel("", scores, maps.space)


def _where_any_is_significant(content: Content, analysis: str) -> str:
    """Say in which voxels maps of several latents at once are coloured."""
    mask = content.maps.find_columns(analysis=analysis, statistic=MASK.name).columns.iloc[0]
    name, n_latents = CORRECTIONS[str(mask["correction"])], len(models(content.maps, analysis))
    return (
        f"voxels that any of the {n_latents} predicts: q < {_q(content.maps, analysis):g} ({name}) of Simes's p across "
        "them, one family of all valid voxels"
    )


def _q(maps: Maps, analysis: str) -> float:
    """Look up the false discovery rate at which the models of an analysis were tested."""
    return float(maps.find_columns(analysis=analysis, statistic=MASK.name).columns["q"].iloc[0])


def _share_panels(content: Content, analysis: str, statistic: str, mask: str) -> list[plotting.Panel]:
    """Take the shares of both bands at every strength or step, where a column of the statistic `mask` says so."""
    maps, axis, panels = content.maps, content.section(analysis).axis, []
    for model in models(maps, analysis):
        facts, bands = {"analysis": analysis, "model": model}, Model.parse(model)
        shares = np.stack([maps.values(**facts, band=band, statistic=statistic) for band in bands])
        tested = [""] * len(bands) if mask == MASK.name else bands
        is_significant = np.stack([maps.values(**facts, band=band, statistic=mask) == 1 for band in tested])
        if mask == UNIQUE_MASK.name:
            is_significant &= found_by_any(maps, [{**facts, "band": band} for band in bands], of=OF_UNIQUE_SHARE)
        # Beside a significant share one that is not is nothing; where neither is, there is nothing to draw.
        shares = np.where(is_significant, shares, np.where(is_significant.any(0), 0, np.nan)).astype(np.float32)
        unsure = _unsure(content, analysis, model) if statistic == PRODUCT_SHARE.name else None
        title = f"{axis} {bands[1].entities[axis]} %"
        panels.append(plotting.Panel(title, shares, maps.space, unsure))
    return panels


def _unsure(content: Content, analysis: str, model: str) -> FloatArray | None:
    """Mark where a significant model's shares cannot be told apart, (n_voxels,): 1, or 0; nan where it is not.

    None where that was not predicted.
    """
    unsure = unidentifiable(content.maps, analysis, model)
    if unsure is None:
        return None
    is_significant = content.maps.values(analysis=analysis, model=model, statistic=MASK.name) == 1
    return np.where(is_significant, unsure, np.nan).astype(np.float32)


def _widths(content: Content, analysis: str) -> str:
    """Say over how many dimensions the layers are spread, for which preferences are not corrected."""
    columns = content.maps.find_columns(analysis=analysis, statistic=PREFERRED.name).columns
    if "effective_dims" not in columns or columns["effective_dims"].isna().any():
        return ""
    by_layer: dict[str, list[str]] = {}
    for row in columns.to_dict("records"):
        for layer, width in zip(row["layers"].split("+"), row["effective_dims"].split("+"), strict=True):
            by_layer.setdefault(layer, []).append(f"{float(width):.0f}")
    listing = ", ".join(f"{layer} {'/'.join(widths)}" for layer, widths in by_layer.items())
    return (
        " It is the best predictor after a fit to these stimuli, not corrected for width or noise: of two layers that "
        "hold as much of a voxel, the one with more dimensions, or with more that has nothing to do with the voxel, "
        f"predicts less well. Effective dimensions (participation ratio), step by step: {listing}."
    )
