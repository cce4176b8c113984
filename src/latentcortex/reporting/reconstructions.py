"""The page of one participant's reconstructions: what was seen beside what came back, and how good it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import latentcortex
from latentcortex import _files, plotting
from latentcortex.reporting.page import environment
from latentcortex.reporting.tables import alterations

ROUTES: Final = {"zc": "z_c", "z": "z alone", "c": "c alone", "retrieval": "nearest training image"}
"""Routes in words."""
SIMILARITY: Final = "similarity to the original"
ATTRIBUTES: Final = "attributes, two alternatives"
BASELINE: Final = "retrieval"


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """What the page of reconstructions is made from.

    Parameters
    ----------
    participant : str
    names : sequence of str
        Of the stimuli in the grid.
    pictures : dict
        Row of the grid -> images, uint8 (n_stimuli, height, width, 3): `seen`, then the first sample of each route.
    scores : DataFrame
        See `evaluation.score_table`.
    facts : dict
        Numbers of the data.
    settings, made_by : dict
        The study's, and what made decoded features and images.
    log : Path
        JSON lines with what was altered or excluded.
    report : str
        The page of the maps, relative to this one; empty where there is none.
    """

    participant: str
    names: Sequence[str]
    pictures: Mapping[str, NDArray[np.uint8]]
    scores: pd.DataFrame
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    made_by: Mapping[str, Any]
    log: Path
    report: str = ""


def measure_title(measure: str) -> tuple[str, str]:
    """Say a measure in words: the group that it belongs to, and its name there.

    Examples
    --------
    >>> measure_title("identification_space-pixels_fixed-original_pool-48")
    ('two-way identification, pool 48', 'pixels, original fixed')
    >>> measure_title("attribute_name-colour")
    ('attributes, two alternatives', 'colour')
    """
    kind, *pairs = measure.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs)
    if kind == "identification":
        within = f" within {entities['within']}" if "within" in entities else ""
        group = f"two-way identification{within}, pool {entities['pool']}"
        return group, f"{_space(entities['space'])}, {entities['fixed']} fixed"
    if kind == "attribute":
        return ATTRIBUTES, entities["name"]
    return SIMILARITY, _space("ssim") if kind == "ssim" else f"correlation of {entities['space']}"


def _space(name: str) -> str:
    return "SSIM" if name == "ssim" else name


def write_reconstructions(out: Path, content: Reconstructions, stages: Sequence[Mapping[str, Any]]) -> Path:
    """Write figures and page of one participant; return the page."""
    folder, figures = out / f"sub-{content.participant}" / "figures", {}
    report = content.settings["report"]
    style = plotting.Style(width_mm=float(report["width_mm"]))
    drawn = {"reconstructions": _grid(content, style), "scores": _score_figure(content.scores, style)}
    for name, figure in drawn.items():
        plotting.save(figure, folder / f"{name}.{report['format']}")
        figures[name] = base64.b64encode(plotting.png(figure)).decode()
    page = (
        environment()
        .get_template("reconstructions.html")
        .render(
            participant=content.participant,
            version=latentcortex.__version__,
            facts=content.facts,
            figures=figures,
            groups=_groups(content.scores),
            routes=ROUTES,
            alterations=alterations(content.log, content.participant),
            methods=_methods(content),
            settings=json.dumps(content.settings, indent=2, default=str),
            made_by=json.dumps(dict(content.made_by), indent=2, default=str),
            stages=stages,
            report=content.report,
        )
    )
    path = out / f"sub-{content.participant}.html"
    _files.write_text(path, page)
    return path


def _grid(content: Reconstructions, style: plotting.Style) -> Figure:
    rows = {ROUTES.get(name, name): images for name, images in content.pictures.items()}
    return plotting.image_grid(rows, content.names, style=style)


def _score_figure(scores: pd.DataFrame, style: plotting.Style) -> Figure:
    """Draw the scores of images; those of decoded bands stand in the table."""
    own = scores[scores["route"] != "decoded"]
    titles = [measure_title(measure) for measure in own["measure"]]
    table = pd.DataFrame(
        {
            "panel": [group for group, _ in titles],
            "measure": [name for _, name in titles],
            "series": [ROUTES.get(route, route) for route in own["route"]],
            "value": own["score"].to_numpy(),
            "low": own["score_low"].to_numpy(),
            "high": own["score_high"].to_numpy(),
            "chance": own["chance"].to_numpy(),
            "control": own["shuffled"].to_numpy(),
        }
    )
    return plotting.score_intervals(table, n_columns=2, style=style)


def _groups(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Lay out the table: groups of measures, a row for each measure, a cell for each route."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in scores.to_dict("records"):
        group, name = measure_title(row["measure"])
        of = "decoded features" if row["route"] == "decoded" else "images"
        groups.setdefault((of, group), {}).setdefault(name, {})[row["route"]] = row
    laid = []
    for (of, group), measures in groups.items():
        routes = list(dict.fromkeys(route for cells in measures.values() for route in cells))
        rows = {
            name: {
                "cells": cells,
                "chance": _chance(cells.values()),
                "mean_image": next(iter(cells.values())).get("mean_image", float("nan")),
                "n": " to ".join(str(n) for n in sorted({row["n_images"] for row in cells.values()})),
            }
            for name, cells in measures.items()
        }
        laid.append({"title": f"{of[0].upper()}{of[1:]}: {group}", "routes": routes, "measures": rows})
    return laid


def _chance(rows: Iterable[Mapping[str, Any]]) -> str:
    """Write out what chance gives: one number where it is the same for all routes, its range otherwise."""
    known = sorted({f"{row['chance']:.3f}" for row in rows}, key=float)
    return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"


_ROUTES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "zc": lambda made: (
        "For z_c (Takagi and Nishimoto, 2023) the decoded z gave a coarse image, which was encoded again, noised to a "
        f"strength of {made['strength']} % and denoised with the decoded c ({made['scheduler']}, {made['n_steps']} "
        f"steps, guidance {made['guidance']:g})."
    ),
    "z": lambda made: "z alone is the coarse image.",
    "c": lambda made: f"c alone was denoised from pure noise ({made['n_steps']} steps, guidance {made['guidance']:g}).",
}
"""How each route is told in the methods."""


def _together(content: Reconstructions) -> str:
    """Say which images are drawn together."""
    category = content.settings["evaluation"]["category"]
    return f", those of one {category} together," if category else ""


def _methods(content: Reconstructions) -> list[str]:
    """Write the methods paragraphs; every number comes from the run."""
    facts, decoder = content.facts, content.made_by["decoder"]
    where = "; ".join(f"{band} from {', '.join(names)}" for band, names in decoder["rois"].items()) or "all voxels"
    chosen = f", at most the {decoder['n_voxels']} that the band predicts best" if decoder["n_voxels"] else ""
    fitted = f"in {facts['n_folds']} folds" if facts["n_folds"] else f"on {facts['n_train']} training stimuli"
    first = (
        f"Features were decoded by ridge regression from averaged responses ({where}{chosen}, within the training "
        f"stimuli), fitted {fitted} with an intercept and a penalty per dimension chosen by {decoder['cv']}-fold "
        f"cross-validation that groups identical images. {facts['n_decoded']} test stimuli were decoded, and the "
        f"first {facts['n_reconstructed']} of them reconstructed."
    )
    second = " ".join(_ROUTES[route](made) for route, made in content.made_by.items() if route in _ROUTES) + " "
    second += (
        "The baseline is the training image whose features correlate best with the decoded ones. The shuffled control "
        "repeats the whole method, with one sample per image, after responses were exchanged among training and among "
        "test stimuli."
    )
    third = (
        "Every score is a mean over images of the mean over all samples; intervals of 95 % are by Bayesian bootstrap "
        f"over images{_together(content)}, as targets and as distractors, with one more that was not seen and has the "
        "worst score at the lower and the best at the upper end (Gaffke, 2005). In identification a tie counts half. "
        "Chance is that of reconstructions of other images, and one half in identification; the mean training image is "
        "scored as if it were the reconstruction of every stimulus, and may be well above chance. "
        "SSIM looks at all pairs of images where they are few, and at as many drawn at random as make 20,000 otherwise."
    )
    return [first, second, third]
