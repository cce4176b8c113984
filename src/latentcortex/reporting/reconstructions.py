"""The page of one participant's reconstructions: what was seen beside what came back, and how good it is."""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import latentcortex
from latentcortex import _files, _npy, plotting
from latentcortex._methods import literature, read_bibtex, with_citations
from latentcortex._results import refuse_damaged
from latentcortex.errors import IncompleteError, InputError
from latentcortex.reporting.methods_text import cited_by
from latentcortex.reporting.page import environment
from latentcortex.reporting.tables import alterations

DECODED: Final = "decoded"
"""Stands for a route where a score is of decoded bands and not of images; see `evaluation.DECODED`."""
SIMILARITY: Final = "similarity to the original"
DISTANCE: Final = "distance from the original, the lower the better"
ATTRIBUTES: Final = "attributes, two alternatives"
FOLDER: Final = "decoding"
"""The folder, in a folder of results, of all that the way back writes."""
FORMAT: Final = "latentcortex-reconstructions 3"
CONTENT: Final = "_reconstructions.json"
"""How the file ends that holds what a page of reconstructions states."""
PICTURES: Final = "_pictures.npz"
"""How the file ends that holds the images of its grid."""
MAX_BYTES: Final = 2**28
"""Of one row of the grid: ten images of 3,000 x 3,000 pixels."""
KEPT: Final = (
    *("participant", "names", "facts", "settings", "made_by", "report", "methods", "references"),
    *("routes", "baseline", "metrics"),
)
"""What is kept beside pictures and scores."""
MIN_IMAGES: Final = 8
"""Images from which an interval is shown: of fewer a bootstrap has few draws, and of a score of 1 only that one."""


class Titled(Protocol):
    """A metric, as far as tables and figures name it."""

    @property
    def name(self) -> str:
        """On the shelf."""
        ...

    @property
    def title(self) -> str:
        """What it calls itself; empty where it does not."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether it is a likeness, and no distance."""
        ...


class MetricTitle(NamedTuple):
    """What a metric is called.

    Parameters
    ----------
    title : str
        In tables and figures.
    higher_is_better : bool
        Whether it is a likeness, and no distance.
    """

    title: str
    higher_is_better: bool = True

    @classmethod
    def of(cls, metric: Titled) -> MetricTitle:
        """Keep what a metric says of itself."""
        return cls(metric.title or metric.name, metric.higher_is_better)


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
    methods : mapping of str to str
        What the decoder and each reconstructor wrote of themselves for the methods text, with keys of references.
    references : str
        BibTeX of references that these brought along, beyond the package's own.
    routes : mapping of str to str
        Route -> what its reconstructor calls it.
    baseline : str
        The route that all others must beat.
    metrics : mapping of str to MetricTitle
        Metric, as names of measures have it -> what it is called.
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
    methods: Mapping[str, str] = field(default_factory=dict)
    references: str = ""
    routes: Mapping[str, str] = field(default_factory=dict)
    baseline: str = ""
    metrics: Mapping[str, MetricTitle] = field(default_factory=dict)

    def write(self, out: Path, stages: Sequence[Mapping[str, Any]]) -> None:
        """Keep everything but the log, so that the page can be made again from the folder alone."""
        stem = out / f"sub-{self.participant}" / f"sub-{self.participant}"
        pictures = stem.with_name(stem.name + PICTURES)
        rows: dict[str, Any] = {f"row{i}": images for i, images in enumerate(self.pictures.values())}
        with _files.writing(pictures) as part, part.open("wb") as handle:
            np.savez_compressed(handle, **rows)
        kept = {name: getattr(self, name) for name in KEPT} | {"rows": list(self.pictures), "stages": list(stages)}
        kept |= {"scores": self.scores.to_dict("split", index=False), "pictures": _files.sha256(pictures)}
        _files.write_sealed(stem.with_name(stem.name + CONTENT), {"format": FORMAT, **kept})

    @classmethod
    def read(cls, path: Path, *, log: Path) -> tuple[Reconstructions, list[dict[str, Any]]]:
        """Read what `write` kept; return the stages as well.

        Raises
        ------
        IncompleteError
            If a file is missing or damaged, or is not as the folder's record says.
        InputError
            If it names another participant than its folder, or a page or a format that no study writes.
        """
        who = path.parent.name.removeprefix("sub-")
        pictures = path.with_name(f"sub-{who}{PICTURES}")
        refuse_damaged(path.parents[1], [path, pictures], "evaluate")
        kept = _files.read_sealed(path, kind=FORMAT)
        is_of_folder = kept["participant"] == who and path.name == f"sub-{who}{CONTENT}"
        if not is_of_folder or kept["report"] not in ("", f"../sub-{who}.html"):
            raise InputError(f"{path} is of participant {kept['participant']!r}, or links elsewhere; run again.")
        if kept["settings"]["report"]["format"] not in plotting.FORMATS:
            raise InputError(f"{path} names a format of figures that there is not; run the study again.")
        if not _files.is_as_written(pictures, kept["pictures"]):
            raise IncompleteError(f"{pictures} is missing or not as it was written; run the study again.")
        scores = pd.DataFrame(kept["scores"]["data"], columns=kept["scores"]["columns"])
        numbers = {str(name): float for name in scores if name not in ("route", "measure", "n_images")}
        scores = scores.astype(numbers)  # what was not finite is no number of JSON
        with zipfile.ZipFile(pictures) as archive:
            rows = {
                name: _npy.read_member(archive, f"row{i}", source=str(pictures), max_bytes=MAX_BYTES)
                for i, name in enumerate(kept["rows"])
            }
        fields = {name: kept[name] for name in KEPT}
        fields["metrics"] = {name: MetricTitle(*titled) for name, titled in kept["metrics"].items()}
        return cls(**fields, pictures=rows, scores=scores, log=log), kept["stages"]


def measure_title(measure: str, metrics: Mapping[str, MetricTitle] | None = None) -> tuple[str, str]:
    """Say a measure in words: the group that it belongs to, and its name there.

    Parameters
    ----------
    measure : str
    metrics : mapping of str to MetricTitle, optional
        What metrics are called; by default as they are in names of measures.

    Examples
    --------
    >>> measure_title("identification_space-pixels_fixed-original_pool-48")
    ('two-way identification among 48 images', 'pixels, original fixed')
    >>> measure_title("identification_space-z_fixed-original_within-scene_pool-2")[0]
    'two-way identification within scene, among 2 images'
    >>> measure_title("attribute_name-colour")
    ('attributes, two alternatives', 'colour')
    """
    kind, *pairs = measure.split("_")
    entities = dict(pair.split("-", 1) for pair in pairs)
    space = entities.get("space", kind)
    title, higher_is_better = (metrics or {}).get(space, MetricTitle(space))
    if kind == "identification":
        within = f" within {entities['within']}," if "within" in entities else ""
        group = f"two-way identification{within} among {entities['pool']} images"
        return group, f"{title}, {entities['fixed']} fixed"
    if kind == "attribute":
        return ATTRIBUTES, entities["name"]
    group = SIMILARITY if higher_is_better else DISTANCE
    return group, f"correlation of {title}" if kind == "correlation" else title


def write_reconstructions(out: Path, content: Reconstructions, stages: Sequence[Mapping[str, Any]]) -> Path:
    """Write figures and page of one participant; return the page."""
    folder, figures = out / f"sub-{content.participant}" / "figures", {}
    report = content.settings["report"]
    style = plotting.Style(width_mm=float(report["width_mm"]))
    drawn = {"reconstructions": _grid(content, style), "scores": _score_figure(content, style)}
    for name, figure in drawn.items():
        plotting.save(figure, folder / f"{name}.{report['format']}")
        figures[name] = base64.b64encode(plotting.png(figure)).decode()
    texts, works = _methods(content).values(), {**read_bibtex(content.references), **literature()}
    page = (
        environment()
        .get_template("reconstructions.html")
        .render(
            participant=content.participant,
            version=latentcortex.__version__,
            facts=content.facts,
            figures=figures,
            groups=_groups(content),
            routes=content.routes,
            baseline=content.baseline,
            decoded=DECODED,
            baseline_title=content.routes.get(content.baseline, content.baseline),
            least_images=MIN_IMAGES,
            alterations=alterations(content.log, content.participant),
            methods=[with_citations(text, works) for text in texts],
            references=cited_by(texts, content.references),
            settings=json.dumps(content.settings, indent=2, default=str),
            made_by=json.dumps(dict(content.made_by), indent=2, default=str),
            stages=stages,
            report=content.report,
        )
    )
    content.write(out, stages)
    path = out / f"sub-{content.participant}.html"
    _files.write_text(path, page)
    return path


def _grid(content: Reconstructions, style: plotting.Style) -> Figure:
    """Draw what was seen above what came back by each route."""
    rows = {content.routes.get(name, name): images for name, images in content.pictures.items()}
    return plotting.image_grid(rows, content.names, style=style)


def _score_figure(content: Reconstructions, style: plotting.Style) -> Figure:
    """Draw the scores of images; those of decoded bands stand in the table."""
    of_images = content.scores[content.scores["route"] != DECODED]
    titles = [measure_title(measure, content.metrics) for measure in of_images["measure"]]
    table = pd.DataFrame(
        {
            "panel": [group for group, _ in titles],
            "measure": [name for _, name in titles],
            "series": [content.routes.get(route, route) for route in of_images["route"]],
            "value": of_images["score"].to_numpy(),
            "low": of_images["score_low"].to_numpy(),
            "high": of_images["score_high"].to_numpy(),
            "chance": of_images["chance"].to_numpy(),
            "control": of_images["shuffled"].to_numpy(),
        }
    )
    return plotting.score_intervals(table, n_columns=2, style=style)


def _groups(content: Reconstructions) -> list[dict[str, Any]]:
    """Lay out the table: groups of measures, a row for each measure, a cell for each route."""
    groups: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in content.scores.to_dict("records"):
        group, name = measure_title(row["measure"], content.metrics)
        of = "decoded features" if row["route"] == DECODED else "images"
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
    chances = sorted({f"{row['chance']:.3f}" for row in rows}, key=float)
    return chances[0] if len(chances) == 1 else f"{chances[0]} to {chances[-1]}"


def _methods(content: Reconstructions) -> dict[str, str]:
    """Join what decoder and reconstructors wrote of themselves with what the run tells; keys are not replaced yet."""
    facts, parts, category = content.facts, dict(content.methods), content.settings["evaluation"]["category"]
    together = f", those of one {category} together," if category else ""
    fitted = f"in {facts['n_folds']} folds" if facts["n_folds"] else f"on {facts['n_train']} training stimuli"
    decoded = (
        f"{parts.pop('decoder', '')} Decoders were fitted {fitted}. {facts['n_decoded']} test stimuli were decoded, "
        f"and the first {facts['n_reconstructed']} of them reconstructed."
    )
    control = (
        "The shuffled control repeats the whole method, with one sample per image, after responses were exchanged "
        "among training and among test stimuli."
    )
    scored = (
        "Every score is a mean over images of the mean over all samples; intervals of 95 % are by Bayesian bootstrap "
        f"[@rubin1981] over images{together}, as targets and as distractors, with one more that was not seen "
        "and has the worst score at the lower and the best at the upper end [@gaffke2005]. In identification a tie "
        "counts half. Chance is that of reconstructions of other images, and one half in identification; the mean "
        "training image is scored as if it were the reconstruction of every stimulus, and may be well above chance."
    )
    of_metrics = [parts.pop(name) for name in list(parts) if name.startswith("metric ")]
    texts = {"routes": " ".join([*parts.values(), control]), "scores": " ".join([scored, *of_metrics])}
    return {"decoding": decoded.strip(), **texts}
