"""Maps on disk as BIDS derivatives, and the page of one participant."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd

import latentcortex
from latentcortex import _files, plotting
from latentcortex._methods import Reference
from latentcortex.errors import IncompleteError, InputError
from latentcortex.maps import Maps, short
from latentcortex.reporting.content import CONTENT, FORMAT, Content, counted, models
from latentcortex.reporting.figures import figures
from latentcortex.reporting.honesty import honesty
from latentcortex.reporting.methods_text import SOFTWARE, cited_by, methods, references, said_of_pooled
from latentcortex.reporting.roi_tables import columns_beside, interval, latex, region_tables
from latentcortex.reporting.tables import alterations, bands_table, roi_table, summary_rows, write_table

FIGURE: Final = re.compile(r"[A-Za-z0-9][\w.+-]*")
"""What the files of figures are called; some are named after an analysis."""


def write_dataset(out: Path, maps: Maps, participant: str) -> None:
    """Write the maps as a BIDS-Derivatives dataset."""
    _files.write_json(
        out / "dataset_description.json",
        {
            "Name": "latentcortex encoding maps",
            "BIDSVersion": "1.10.1",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "latentcortex", "Version": latentcortex.__version__}],
        },
    )
    ignored = (
        "*_statmap.*",
        "*_mask.*",
        "*_rois.tsv",
        "*_rois.tex",
        "*_report.json",
        "*_background.nii.gz",
        "references.bib",
        "group*",
        "*_truth.tsv",
        "*.html",
        "figures",
        "features",
        "decoding",
        "work",
        "logs",
        "study.json",
        "summary.json",
    )
    _files.write_text(out / ".bidsignore", "\n".join(ignored) + "\n")
    _files.write_text(
        out / "README.md",
        "# Encoding maps\n\nMade by latentcortex. Maps are not thresholded; q-values and masks lie beside them, and "
        "each sidecar names its family of tests. Begin with sub-*.html.\n",
    )
    maps.save(out, participant=participant)


def write(out: Path, content: Content, stages: Sequence[Mapping[str, Any]]) -> Path:
    """Write figures, tables by region and the page of one participant; return the page."""
    sections: dict[str, list[dict[str, str]]] = {}
    for name, figure in figures(content):
        if not FIGURE.fullmatch(figure.name):
            raise InputError(f"A figure would be called {figure.name!r}; its maps are of no analysis of a study.")
        kind, drawn = content.settings["report"]["format"], figure.draw(content.style)
        path = out / f"sub-{content.participant}" / "figures" / f"{figure.name}.{kind}"
        plotting.save(drawn, path)
        shown = path.read_bytes() if kind == "png" else plotting.png(drawn)
        picture = base64.b64encode(shown).decode()
        wide = min(100, round(100 * 25.4 * drawn.get_figwidth() / plotting.PAGE.width_mm))
        sections.setdefault(name, []).append({"caption": figure.caption, "picture": picture, "width": f"{wide}%"})
    table = roi_table(content)
    if table is not None:
        write_table(out, content.participant, "rois", table)
        text = latex(region_tables(table), content.participant)
        _files.write_text(out / f"sub-{content.participant}" / f"sub-{content.participant}_rois.tex", text)
    content.write(out, stages)
    _files.write_text(out / "references.bib", "\n".join(one.bibtex for one in (*_cited_in(out), SOFTWARE)))
    page = out / f"sub-{content.participant}.html"
    _files.write_text(page, _render(content, sections, table, stages))
    return page


def _cited_in(out: Path) -> tuple[Reference, ...]:
    """List what the reports of all participants in a folder cite; a damaged one counts once it is made again."""
    kept = []
    for path in sorted(out.glob(f"sub-*/sub-*{CONTENT}")):
        with suppress(IncompleteError):
            kept.append(_files.read_sealed(path, kind=FORMAT))
    more = dict.fromkeys(one["references"] for one in kept if one["references"])
    return cited_by((text for one in kept for text in one["methods"].values()), "\n\n".join(more))


def environment() -> jinja2.Environment:
    """Make what renders the templates of pages; the one script that they may run is known by its hash."""
    folder = Path(__file__).parents[1] / "templates"
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / "sort.js").read_text(encoding="utf-8")
    made.globals["script"] = script
    made.globals["script_hash"] = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return made


def _render(
    content: Content,
    sections: Mapping[str, Sequence[Mapping[str, str]]],
    table: pd.DataFrame | None,
    stages: Sequence[Mapping[str, Any]],
) -> str:
    """Write the page of one participant as HTML."""
    rows = [row | {"band": short(row["band"])} for row in summary_rows(content.participant, content.maps)]
    return (
        environment()
        .get_template("report.html")
        .render(
            participant=content.participant,
            version=latentcortex.__version__,
            facts=content.facts,
            sections=sections,
            titles={name: content.title(name) for name in content.analyses},
            rows=rows,
            control=any(row["n_false"] is not None for row in rows),
            of_one_draw=bool((content.maps.columns.get("n_shuffles", pd.Series(dtype=float)) == 1).any()),
            counted=counted,
            pooled=said_of_pooled(content.maps),
            honesty=honesty(content.maps),
            regions=region_tables(table) if table is not None else {},
            opened=opened(content),
            interval=interval,
            columns_beside=columns_beside,
            downloads={} if table is None else {f"sub-{content.participant}_rois.tsv": as_data(table)},
            bands=bands_table(content),
            alterations=alterations(content.log, content.participant),
            methods=methods(content),
            references=references(content),
            diffusion=content.made_by["name"] == "ldm",
            software=SOFTWARE,
            settings=json.dumps(content.settings, indent=2, default=str),
            made_by=json.dumps(dict(content.made_by), indent=2, default=str),
            stages=stages,
            reconstructions=content.reconstructions,
            viewer=content.viewer,
        )
    )


def opened(content: Content) -> tuple[str, ...]:
    """Name the analyses whose tables by region are open when the page is: the first, and the first that has models."""
    with_models = [name for name in content.analyses if models(content.maps, name)]
    return (*content.analyses[:1], *with_models[:1])


def as_data(table: pd.DataFrame) -> str:
    """Write a table, tab-separated, into an address that a page can offer for download."""
    encoded = base64.b64encode(_files.as_tsv(table).encode()).decode()
    return f"data:text/tab-separated-values;base64,{encoded}"
