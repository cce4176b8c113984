"""Maps whose colours are mixtures or kinds: two shares, three scores, the preferred layer, the best band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from latentcortex._arrays import FloatArray
from latentcortex._surfaces import Raster
from latentcortex.errors import InputError
from latentcortex.plotting._canvas import INK, PAGE, SERIES, Style, house_style
from latentcortex.plotting._legends import (
    LAYERS,
    SQUARE,
    TRIANGLE,
    grey_legend,
    layer_colours,
    layer_legend,
    rgb_colours,
    share_colours,
    share_legend,
    square_legend,
    triangle_legend,
)
from latentcortex.plotting._panels import (
    FSAVERAGE5,
    GREY_LINE,
    PreferencePanel,
    Rois,
    SharePanel,
    cortex_of,
    draw_all,
    greyed,
    greyed_somewhere,
    grid_of,
    note_of,
    on_cortex,
    picture_of,
    strongest_of,
)


@house_style()
def share_maps(
    panels: Sequence[SharePanel],
    *,
    names: tuple[str, str] = ("z", "z_c"),
    rois: Rois | None = None,
    limit: float | None = None,
    label: str = "share of variance",
    n_columns: int | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw two shares of variance per vertex: the hue tells which band, the opacity how much.

    Parameters
    ----------
    panels : sequence of SharePanel
    names : tuple of str
        Of the first and the second band.
    rois : Rois, optional
    limit : float, optional
        Share from which on the colour is opaque; by default the 99th percentile of all shares. Shares below 0 are drawn
        as 0.
    label : str
        What is shared.
    n_columns : int, optional
    style : Style

    Returns
    -------
    Figure
        With a square legend: the first band from left to right, the second upwards.
    """
    raster = picture_of(cortex_of(panels))
    top = limit or strongest(panels)
    grey = any(greyed_somewhere(panel.unsure) for panel in panels)
    grid = grid_of(len(panels), raster, n_columns, foot=SQUARE + GREY_LINE * grey, style=style, rois=rois)
    drawn = []
    for panel in panels:
        colours = share_colours(raster.paint(panel.first), raster.paint(panel.second), limit=top)
        note = note_of(raster, panel.first, panel.second)
        drawn.append((greyed(colours, raster, panel.unsure), panel.title, note))
    draw_all(grid, raster, rois, drawn)
    share_legend(grid, names, top, label)
    if grey:
        grey_legend(grid, SQUARE)
    return grid.figure


@house_style()
def preference_maps(
    panels: Sequence[PreferencePanel],
    layers: Sequence[str],
    *,
    rois: Rois | None = None,
    label: str = "preferred layer",
    opacities: Mapping[str, float] | None = None,
    n_columns: int | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw the preferred layer of each vertex; opacity tells how sure that is.

    Parameters
    ----------
    panels : sequence of PreferencePanel
    layers : sequence of str
        Names in the order of the network.
    rois : Rois, optional
    label : str
    opacities : dict of str to float, optional
        What the opacities mean that panels have, 0..1, the lowest first; by default all occur, from unsure to sure.
    n_columns : int, optional
    style : Style

    Raises
    ------
    InputError
        If a panel prefers a layer that is not named.
    """
    check_layers(panels, layers)
    raster = picture_of(cortex_of(panels))
    grey = any(greyed_somewhere(panel.unsure) for panel in panels)
    grid = grid_of(len(panels), raster, n_columns, foot=LAYERS + GREY_LINE * grey, style=style, rois=rois)
    drawn = []
    for panel in panels:
        colours = _preference_colours(raster, panel, len(layers))
        drawn.append((greyed(colours, raster, panel.unsure), panel.title, note_of(raster, panel.preferred)))
    draw_all(grid, raster, rois, drawn)
    graded = any(panel.confidence is not None for panel in panels)
    layer_legend(grid, layers, label, opacities if opacities or graded else {"": 1.0})
    if grey:
        grey_legend(grid, LAYERS)
    return grid.figure


@house_style()
def winner_map(
    scores: Mapping[str, FloatArray],
    *,
    title: str = "",
    rois: Rois | None = None,
    label: str = "predicts best",
    template: str = FSAVERAGE5,
    counts: Sequence[int] | None = None,
    style: Style = PAGE,
) -> Figure:
    """Draw which of a few bands has the highest score at each vertex.

    Parameters
    ----------
    scores : dict of str to ndarray of shape (n_vertices,)
        Name of the band -> its score, nan where undefined or not significant; two to seven bands. A vertex where one
        band has a score belongs to the best of those that have one; a tie belongs to the first.
    title : str
    rois : Rois, optional
    label : str
        Of the legend.
    template : str
        Whose vertices they are: see `space.Surface`.
    counts : sequence of int, optional
        What the legend says beside each band: how many voxels it has; by default how many vertices.
    style : Style

    Raises
    ------
    InputError
        If there are fewer than two bands or more than there are colours.
    """
    if not 2 <= len(scores) <= len(SERIES):
        raise InputError(f"A map of winners needs two to {len(SERIES)} bands; got {len(scores)}.")
    for values in scores.values():
        on_cortex(values, template)
    winner = winners(list(scores.values()))
    raster = picture_of(template)
    nearest = raster.nearest(np.where(np.isfinite(winner), winner, -1).astype(int))
    colours = np.ones((*raster.shape, 4))
    colours[..., :3] = np.array([to_rgb(colour) for colour in SERIES])[np.maximum(nearest, 0)]
    colours[..., 3] = nearest >= 0
    grid = grid_of(1, raster, None, foot=0.75, style=style, rois=rois, titled=bool(title))
    draw_all(grid, raster, rois, [(colours, title, note_of(raster, *scores.values()))])
    numbers = [int((winner == i).sum()) for i in range(len(scores))] if counts is None else counts
    entries = [(SERIES[i], f"{name} ({n:,})") for i, (name, n) in enumerate(zip(scores, numbers, strict=True))]
    square_legend(grid, 0.12, entries)
    head = grid.legend_axes(0.42, 0.1, 0.1)
    head.text(0.5, 0.5, label, ha="center", va="center", fontsize=style.medium, color=INK)
    head.set_axis_off()
    return grid.figure


def winners(scores: Sequence[FloatArray]) -> FloatArray:
    """Find the highest of several scores at each vertex, its number from 0, (n_vertices,); nan where all are nan."""
    together = np.stack([np.asarray(one, dtype=np.float64) for one in scores])
    best = np.where(np.isnan(together), -np.inf, together).argmax(0)
    return np.where(np.isnan(together).all(0), np.nan, best)


@house_style()
def rgb_map(
    scores: Mapping[str, FloatArray],
    *,
    title: str = "",
    rois: Rois | None = None,
    limit: float | None = None,
    label: str = "prediction accuracy r",
    template: str = FSAVERAGE5,
    style: Style = PAGE,
) -> Figure:
    """Draw three scores as red, green and blue light: the hue tells which bands, the opacity how much.

    Parameters
    ----------
    scores : dict of str to ndarray of shape (n_vertices,)
        Name of the band -> its score; three of them, in the order red, green, blue. nan where undefined or not
        significant: no light of that colour, and bare cortex where all three are nan.
    title : str
    rois : Rois, optional
    limit : float, optional
        Score of the best band from which on the colour is opaque; by default the 99th percentile of all three. Less
        than 0 is no light.
    label : str
    template : str
        Whose vertices they are: see `space.Surface`.
    style : Style

    Returns
    -------
    Figure
        With a triangle of mixtures whose corners are the three bands, and how opaque a score is.

    Raises
    ------
    InputError
        If there are not three bands.
    """
    if len(scores) != 3:
        raise InputError(f"Red, green and blue are three bands; got {len(scores)}.")
    values = list(scores.values())
    for one in values:
        on_cortex(one, template)
    raster = picture_of(template)
    top = limit or strongest_of(values)
    # Undefined beside defined is no light; painting each alone would let its border eat into the others.
    known = np.isfinite(values).any(0)
    lights = [np.where(known, np.nan_to_num(one), np.nan) for one in values]
    colours = rgb_colours(*(raster.paint(light) for light in lights), limit=top)
    grid = grid_of(1, raster, None, foot=TRIANGLE, style=style, rois=rois, titled=bool(title))
    draw_all(grid, raster, rois, [(colours, title, note_of(raster, *values))])
    triangle_legend(grid, tuple(scores), top, label)
    return grid.figure


def strongest(panels: Sequence[SharePanel]) -> float:
    """Choose the share that is opaque: see `share_maps`."""
    shares = [values for panel in panels for values in (panel.first, panel.second)]
    return strongest_of(shares)


def check_layers(panels: Sequence[PreferencePanel], layers: Sequence[str]) -> None:
    """Raise `InputError` if a panel prefers a layer that is not named."""
    for panel in panels:
        known = panel.preferred[np.isfinite(panel.preferred)]
        if known.size and (known.min() < 0 or known.max() >= len(layers)):
            raise InputError(
                f"{panel.title}: preferred layers run from {known.min():g} to {known.max():g}, "
                f"but {len(layers)} layers are named, counted from 0."
            )


def _preference_colours(raster: Raster, panel: PreferencePanel, n_layers: int) -> FloatArray:
    number = np.where(np.isfinite(panel.preferred), panel.preferred, -1).astype(int)
    nearest = raster.nearest(number)
    colours = np.ones((*raster.shape, 4))
    colours[..., :3] = layer_colours(n_layers)[np.maximum(nearest, 0)]
    sure = np.ones(len(number)) if panel.confidence is None else np.nan_to_num(panel.confidence)
    colours[..., 3] = np.where(nearest >= 0, np.clip(np.nan_to_num(raster.paint(sure)), 0.0, 1.0), 0.0)
    return colours
