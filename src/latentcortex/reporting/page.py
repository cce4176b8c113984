"""Maps on disk as BIDS derivatives, and the page of one participant."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd

import latentcortex
from latentcortex import _files, plotting
from latentcortex.maps import Maps, short
from latentcortex.reporting.content import Content
from latentcortex.reporting.figures import figures
from latentcortex.reporting.honesty import honesty
from latentcortex.reporting.tables import alterations, compact, roi_table, summary_rows, write_table
from latentcortex.reporting.text import REFERENCES, methods

TITLES: Final = {
    "ceiling": "How much any model could explain",
    "latents": "Which latent explains which part of cortex",
    "noise-levels": "Shares of z and z_c, from low to high noise",
    "denoising-steps": "Shares of z and z_c, from early to late denoising",
    "unet-layers": "Preferred U-Net layer, step by step",
    "learning-curve": "Unique shares against the number of fitted stimuli",
    "generalisation": "Scores on stimuli that are unlike the fitted ones",
    "unet-partition": "Shares of the U-Net's layers, fitted jointly",
}


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
    """Write figures, ROI table and the page of one participant; return the page."""
    sections: dict[str, list[dict[str, str]]] = {}
    for name, figure in figures(content):
        kind, drawn = content.settings["report"]["format"], figure.draw(content.style)
        path = out / f"sub-{content.participant}" / "figures" / f"{figure.name}.{kind}"
        plotting.save(drawn, path)
        shown = path.read_bytes() if kind == "png" else plotting.png(drawn)
        picture = base64.b64encode(shown).decode()
        sections.setdefault(name, []).append({"caption": figure.caption, "picture": picture})
    table = roi_table(content)
    if table is not None:
        write_table(out, content.participant, "rois", table)
    page = out / f"sub-{content.participant}.html"
    _files.write_text(page, _render(content, sections, table, stages))
    return page


def environment() -> jinja2.Environment:
    """Make what renders the templates of pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(
    content: Content,
    sections: Mapping[str, Sequence[Mapping[str, str]]],
    table: pd.DataFrame | None,
    stages: Sequence[Mapping[str, Any]],
) -> str:
    small = compact(table) if table is not None and (table["analysis"] == "latents").any() else None
    template = environment().get_template("report.html")
    rows = [row | {"band": short(row["band"])} for row in summary_rows(content.participant, content.maps)]
    return template.render(
        participant=content.participant,
        version=latentcortex.__version__,
        facts=content.facts,
        sections=sections,
        titles=TITLES,
        rows=rows,
        twin=any(row["n_twin"] is not None for row in rows),
        honesty=honesty(content.maps),
        rois=small.to_dict("split") if small is not None else None,
        alterations=alterations(content.log, content.participant),
        methods=methods(content),
        references=REFERENCES,
        settings=json.dumps(content.settings, indent=2, default=str),
        made_by=json.dumps(dict(content.made_by), indent=2, default=str),
        stages=stages,
        reconstructions=content.reconstructions,
    )
