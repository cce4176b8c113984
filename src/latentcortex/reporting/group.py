"""The page of several participants: each result beside how many of them show it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

import latentcortex
from latentcortex import _files, inference, plotting
from latentcortex._arrays import FloatArray
from latentcortex.inference.ties import at_most
from latentcortex.maps import short
from latentcortex.reporting.content import CONTENT, LOG, Content, models
from latentcortex.reporting.figures import named
from latentcortex.reporting.page import as_data, environment
from latentcortex.reporting.regions import decimals, region_tables
from latentcortex.reporting.tables import roi_table, summary_rows
from latentcortex.reporting.text import title_of
from latentcortex.space import TEMPLATES, Volume
from latentcortex.statistics import P

ALPHA: Final = 0.05
"""Level of each participant's own test of a voxel, of which the binomial test counts how many reject."""
ONE_SIDED: Final = 0.025
"""Level of each participant's own test of a region, which rejects where its 95 % interval lies above 0."""
Q: Final = 0.05
"""False discovery rate of the vertices where anybody at all is said to show an effect."""
NAME: Final = "group.html"
MISSING: Final = (
    "There is no map of how many people show it: it needs an analysis whose accuracy is drawn on flat cortex, and that "
    "all participants have the same cortex (`template` in [dataset])."
)
"""Sentence of the page where no map of prevalence can be made."""


@dataclass(frozen=True, eq=False)
class Group:
    """What is known of all participants together.

    Parameters
    ----------
    participants : tuple of str
    found : DataFrame
        Significant voxels: a row for each model, a column for each participant.
    regions : DataFrame
        A row for each region and mean: `analysis`, `roi`, `what`, the `mean` over participants with `sd`, `lowest`,
        `highest`, `n_above` (participants whose own interval lies above 0), and the `prevalence` with `low` and `high`;
        empty without an atlas.
    prevalence : dict of str to ndarray of shape (n_vertices,)
        Band -> most probable fraction of the population in which it predicts the vertex, where more participants show
        it than their tests alone would give, nan elsewhere; empty where participants have no common template.
    template : str
        On whose vertices that is; empty where there is no prevalence.
    laid : bool
        Whether voxels are those of volumes.
    rois : Rois, optional
    titles : dict of str to str
        What heads the rows of each analysis.
    """

    participants: tuple[str, ...]
    found: pd.DataFrame
    regions: pd.DataFrame
    prevalence: dict[str, FloatArray]
    template: str
    laid: bool
    rois: plotting.Rois | None
    titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path) -> Group:
        """Read what the participants' reports were made from, one after the other."""
        names, found, regions, hits, templates, laid, rois = [], [], [], [], set(), False, None
        titles: dict[str, str] = {}
        for path in sorted(out.glob(f"sub-*/sub-*{CONTENT}")):
            content, _ = Content.read(path, log=out / LOG)
            names.append(content.participant)
            found.append({_named(row): row["n_significant"] for row in summary_rows(content.participant, content.maps)})
            regions.append(_region_rows(content))
            hits.append(_hits(content))
            templates.add(content.template)
            laid = laid or isinstance(content.maps.space, Volume)
            rois = content.rois
            titles |= {name: content.title(name) for name in content.analyses}
        table = pd.DataFrame(found, index=names).T
        # The vertices of a participant's own cortex are nobody else's, however many there are.
        template = next(iter(templates)) if len(templates) == 1 and templates <= set(TEMPLATES) else ""
        prevalence = _prevalence(hits) if template else {}
        return cls(
            tuple(names), table, _together(regions), prevalence, template, laid, rois if template else None, titles
        )


def write_group(out: Path) -> Path | None:
    """Write the page of all participants whose reports lie in a folder; None for fewer than two."""
    if len(list(out.glob(f"sub-*/sub-*{CONTENT}"))) < 2:
        return None
    group = Group.read(out)
    downloads = {}
    if len(group.regions):
        _files.write_text(out / "group_rois.tsv", _files.as_tsv(group.regions))
        downloads["group_rois.tsv"] = as_data(group.regions)
    page = environment().get_template("group.html").render(
        version=latentcortex.__version__,
        participants=group.participants,
        found=group.found.reset_index().to_dict("split"),
        regions={str(name): part.to_dict("records") for name, part in group.regions.groupby("analysis", sort=False)}
        if len(group.regions)
        else {},
        titles=group.titles,
        decimals=decimals,
        downloads=downloads,
        picture=_picture(out, group),
        missing="" if group.prevalence else MISSING,
    )  # fmt: skip
    _files.write_text(out / NAME, page)
    return out / NAME


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['analysis']}: {short(row['band'])}"


def _region_rows(content: Content) -> pd.DataFrame:
    table = roi_table(content)
    if table is None:
        return pd.DataFrame()
    rows = [(analysis, row) for analysis, own in region_tables(table).items() for row in own]
    return pd.DataFrame(
        [
            {"analysis": analysis, "roi": row.roi, "what": row.what, "mean": row.mean, "low": row.low}
            for analysis, row in rows
        ]
    )


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average each region's means over the participants that have regions, and count whose interval lies above 0."""
    known = [table for table in tables if not table.empty]
    if not known:
        return pd.DataFrame()
    stacked = pd.concat(known, ignore_index=True)
    rows = []
    for (analysis, roi, what), own in stacked.groupby(["analysis", "roi", "what"], sort=False):
        tested, above = int(own["low"].notna().sum()), int((own["low"] > 0).sum())
        facts = {
            "analysis": analysis,
            "roi": roi,
            "what": what,
            "n": len(own),
            "n_tested": tested,
            "mean": own["mean"].mean(),
        }
        facts |= {"sd": own["mean"].std(), "lowest": own["mean"].min(), "highest": own["mean"].max()}
        likely = (
            inference.prevalence(np.array([above]), tested, alpha=ONE_SIDED)[:, 0] if tested else np.full(3, np.nan)
        )
        named = dict(zip(("prevalence", "low", "high"), likely.tolist(), strict=True))
        rows.append(facts | {"n_above": above if tested else np.nan} | named)
    return pd.DataFrame(rows)


def _hits(content: Content) -> dict[str, FloatArray]:
    """Say where each model's own test rejects, on all vertices of the template; nan outside the family.

    Models are those of analyses that name a figure of which the page of several participants has a map. Of a volume it
    must reject in every voxel of a vertex: that is no more often wrong than the test of one voxel.
    """
    maps, hits = content.maps, dict[str, FloatArray]()
    if not maps.space.template:
        return {}
    for analysis in content.analyses:
        if not any(named(figure).prevalence for figure in content.section(analysis).figures):
            continue
        for model in models(maps, analysis):
            p = maps.values(analysis=analysis, model=model, statistic=P.name)
            share = maps.space.on_mesh(np.where(np.isnan(p), np.nan, at_most(p, ALPHA)).astype(np.float32))
            hits[model] = np.where(np.isnan(share), np.nan, share == 1).astype(np.float32)
    return hits


def _prevalence(hits: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Estimate prevalence where every participant has the vertex, and more of them show it than chance would give."""
    found = {}
    for band in [name for name in hits[0] if all(name in one for one in hits)]:
        each = np.stack([one[band] for one in hits])
        known = np.isfinite(each).all(axis=0)
        counts = each[:, known].sum(axis=0).astype(int)
        by_chance = stats.binom.sf(counts - 1, len(hits), ALPHA)
        likely = inference.prevalence(counts, len(hits), alpha=ALPHA)[0]
        found[band] = np.full(each.shape[1], np.nan)
        found[band][known] = np.where(inference.fdr(by_chance, Q).rejected, likely, np.nan)
    return found


def _picture(out: Path, group: Group) -> dict[str, str] | None:
    """Draw the prevalence of every latent where it is shown to be above 0."""
    if not group.prevalence:
        return None
    panels = [
        plotting.Panel(title_of(band), likely, template=group.template) for band, likely in group.prevalence.items()
    ]
    figure = plotting.flatmaps(panels, rois=group.rois, limits=(0.0, 1.0), label="prevalence in the population")
    path = out / "group_prevalence.png"
    plotting.save(figure, path)
    laid = (
        " A vertex counts where all voxels that it meets reject, which fewer do than single ones." if group.laid else ""
    )
    caption = (
        "Most probable fraction of the population in which each latent predicts the voxel (Ince et al., 2021), from "
        f"{len(group.participants)} participants' own tests at {ALPHA:g}; coloured where more of them reject than "
        f"their tests would by chance, at a false discovery rate of {Q:g}.{laid}"
    )
    return {"caption": caption, "picture": base64.b64encode(path.read_bytes()).decode()}
