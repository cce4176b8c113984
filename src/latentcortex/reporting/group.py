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
from latentcortex.reporting.roi_tables import decimals, region_tables
from latentcortex.reporting.tables import roi_table, summary_rows
from latentcortex.reporting.titles import title_of
from latentcortex.space import TEMPLATES, Atlas, Surface
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
class GroupResults:
    """What the results of all participants are beside each other.

    Parameters
    ----------
    participants : tuple of str
    n_significant : DataFrame
        Significant voxels: a row for each model, a column for each participant.
    regions : DataFrame
        A row for each region and mean: `analysis`, `roi`, `mean_of`, the `mean` over participants with `sd`, `lowest`,
        `highest`, `n_above` (participants whose own interval lies above 0), and the `prevalence` with `low` and `high`;
        empty without an atlas.
    prevalence : dict of str to ndarray of shape (n_vertices,)
        Model -> most probable fraction of the population in which it predicts the vertex, where more participants show
        it than their tests alone would give, nan elsewhere; empty where participants have no common template.
    template : str
        On whose vertices that is; empty where there is no prevalence.
    of_volumes : bool
        Whether voxels are those of volumes.
    atlas : Atlas, optional
        Its labels are those of the vertices of the template.
    titles : dict of str to str
        What heads the rows of each analysis.
    """

    participants: tuple[str, ...]
    n_significant: pd.DataFrame
    regions: pd.DataFrame
    prevalence: dict[str, FloatArray]
    template: str
    of_volumes: bool
    atlas: Atlas | None
    titles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path) -> GroupResults:
        """Read what the participants' reports were made from, one after the other."""
        counts: dict[str, dict[str, int]] = {}
        regions, rejected, templates, titles = [], [], set(), dict[str, str]()
        of_volumes, atlas = False, None
        for path in sorted(out.glob(f"sub-*/sub-*{CONTENT}")):
            content, _ = Content.read(path, log=out / LOG)
            rows = summary_rows(content.participant, content.maps)
            counts[content.participant] = {
                f"{row['analysis']}: {short(row['band'])}": row["n_significant"] for row in rows
            }
            regions.append(_region_means(content))
            rejected.append(_rejected(content))
            templates.add(content.template)
            of_volumes = of_volumes or content.maps.space.volume is not None
            atlas = None
            if content.atlas is not None and content.template:
                atlas = content.atlas.on_cortex(content.maps.space)
            titles |= {name: content.title(name) for name in content.analyses}
        # The vertices of a participant's own cortex are nobody else's, however many there are.
        template = next(iter(templates)) if len(templates) == 1 and templates <= set(TEMPLATES) else ""
        return cls(
            participants=tuple(counts),
            n_significant=pd.DataFrame(counts),
            regions=_over_participants(regions),
            prevalence=_prevalence(rejected) if template else {},
            template=template,
            of_volumes=of_volumes,
            atlas=atlas if template else None,
            titles=titles,
        )


def write_group(out: Path) -> Path | None:
    """Write the page of all participants whose reports lie in a folder; None for fewer than two."""
    if len(list(out.glob(f"sub-*/sub-*{CONTENT}"))) < 2:
        return None
    group = GroupResults.read(out)
    downloads = {}
    if len(group.regions):
        _files.write_text(out / "group_rois.tsv", _files.as_tsv(group.regions))
        downloads["group_rois.tsv"] = as_data(group.regions)
    page = environment().get_template("group.html").render(
        version=latentcortex.__version__,
        participants=group.participants,
        n_significant=group.n_significant.reset_index().to_dict("split"),
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


def _region_means(content: Content) -> pd.DataFrame:
    """List the means of a participant's regions with the lower ends of their intervals; empty without an atlas."""
    table = roi_table(content)
    if table is None:
        return pd.DataFrame()
    rows = [(analysis, row) for analysis, of_analysis in region_tables(table).items() for row in of_analysis]
    names = ("roi", "mean_of", "mean", "low")
    return pd.DataFrame([{"analysis": name} | {key: getattr(row, key) for key in names} for name, row in rows])


def _over_participants(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average each region's means over the participants that have regions, and count whose interval lies above 0."""
    with_regions = [table for table in tables if not table.empty]
    if not with_regions:
        return pd.DataFrame()
    keys, rows = ["analysis", "roi", "mean_of"], []
    for values, of_mean in pd.concat(with_regions, ignore_index=True).groupby(keys, sort=False):
        means, low = of_mean["mean"], of_mean["low"]
        n_tested, n_above = int(low.notna().sum()), int((low > 0).sum())
        facts: dict[str, Any] = dict(zip(keys, values, strict=True))
        facts |= {"n": len(means), "n_tested": n_tested, "mean": means.mean()}
        facts |= {"sd": means.std(), "lowest": means.min(), "highest": means.max()}
        facts["n_above"] = n_above if n_tested else np.nan
        likely = np.full(3, np.nan)
        if n_tested:
            likely = inference.prevalence(np.array([n_above]), n_tested, alpha=ONE_SIDED)[:, 0]
        rows.append(facts | dict(zip(("prevalence", "low", "high"), likely.tolist(), strict=True)))
    return pd.DataFrame(rows)


def _rejected(content: Content) -> dict[str, FloatArray]:
    """Tell where each model's own test rejects, on all vertices of the template: 1 or 0, nan outside the family.

    Models are those of analyses that name a figure of which the page of several participants has a map. Of a volume it
    must reject in every voxel of a vertex: that is no more often wrong than the test of one voxel.
    """
    maps, rejected = content.maps, dict[str, FloatArray]()
    if not maps.space.template:
        return {}
    for analysis in content.analyses:
        if not any(named(figure).prevalence for figure in content.section(analysis).figures):
            continue
        for model in models(maps, analysis):
            p = maps.values(analysis=analysis, model=model, statistic=P.name)
            in_voxels = np.where(np.isnan(p), np.nan, at_most(p, ALPHA)).astype(np.float32)
            fraction = maps.space.on_mesh(in_voxels)
            rejected[model] = np.where(np.isnan(fraction), np.nan, fraction == 1).astype(np.float32)
    return rejected


def _prevalence(rejected: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Estimate prevalence where every participant has the vertex, and more of them show it than chance would give."""
    n_participants, prevalence = len(rejected), {}
    for model in [name for name in rejected[0] if all(name in of_participant for of_participant in rejected)]:
        each = np.stack([of_participant[model] for of_participant in rejected])  # (n_participants, n_vertices)
        common = np.isfinite(each).all(axis=0)
        counts = each[:, common].sum(axis=0).astype(int)
        by_chance = stats.binom.sf(counts - 1, n_participants, ALPHA)
        likely = inference.prevalence(counts, n_participants, alpha=ALPHA)[0]
        prevalence[model] = np.full(each.shape[1], np.nan)
        prevalence[model][common] = np.where(inference.fdr(by_chance, Q).rejected, likely, np.nan)
    return prevalence


def _picture(out: Path, group: GroupResults) -> dict[str, str] | None:
    """Draw the prevalence of every model where it is shown to be above 0."""
    if not group.prevalence:
        return None
    space = Surface(group.template)
    panels = [plotting.Panel(title_of(model), likely, space) for model, likely in group.prevalence.items()]
    painting = plotting.Scores(panels, limits=(0.0, 1.0), label="prevalence in the population")
    figure = plotting.draw(painting, plotting.Flat(group.atlas))
    path = out / "group_prevalence.png"
    plotting.save(figure, path)
    of_vertices = " A vertex counts where all voxels that it meets reject, which fewer do than single ones."
    caption = (
        "Most probable fraction of the population in which each band predicts the voxel (Ince et al., 2021), from "
        f"{len(group.participants)} participants' own tests at {ALPHA:g}; coloured where more of them reject than "
        f"their tests would by chance, at a false discovery rate of {Q:g}.{of_vertices if group.of_volumes else ''}"
    )
    return {"caption": caption, "picture": base64.b64encode(path.read_bytes()).decode()}
