"""Figures of regions and of whole maps: profiles, strength by step, similarity, histograms, each with its caption."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import inference, plotting
from latentcortex._arrays import listed
from latentcortex.bands import Band, Model
from latentcortex.maps import short
from latentcortex.reporting.content import Content, Figure, found_by_any, models
from latentcortex.reporting.tables import region_means
from latentcortex.reporting.titles import number, title_of
from latentcortex.statistics import CEILING, MASK, PRODUCT_SHARE, R2, UNIQUE_LIMIT, R

MAX_REGIONS: Final = 24
"""Small pictures of a figure."""
WORDS: Final = {"strength": "noise strength", "step": "denoising step"}


def share_profiles(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the mean share of z and z_c in every region, across strengths or steps."""
    yield profile(region_means(content, analysis, PRODUCT_SHARE.name), analysis, content.section(analysis).axis)


def profile(means: pd.DataFrame, analysis: str, key: str) -> Figure:
    """Make the figure of a table of mean shares.

    Parameters
    ----------
    means : DataFrame
        Columns `roi`, `model`, `band`, `mean`, and `low` and `high`, the ends of its interval; nan for none.
    analysis : str
        That they are of, after which the file is named.
    key : str
        The entity of z_c along which the models differ, a key of `WORDS`.
    """
    table = means.copy()
    table["x"] = [Model.parse(model)[1].number(key) for model in table["model"]]
    table["series"] = [{"zc": "z_c"}.get(Band(band).kind, band) for band in table["band"]]
    drawn, missing = _known_regions(table, "mean")
    rows = drawn.rename(columns={"mean": "y"})
    has_intervals = (rows["low"].notna() & rows["high"].notna()).any()
    interval = " Intervals are of 95 %, over test stimuli." if has_intervals else ""
    words: dict[str, Any] = {"x_label": f"{WORDS[key]} (%)", "y_label": "share of variance (R²)"}
    return Figure(
        f"{analysis}-profiles",
        f"Product shares of z and z_c in the variance that their joint model explains, means over all valid voxels of "
        f"each region, significant or not, against the {WORDS[key]}.{interval}{missing}",
        lambda style: plotting.roi_profiles(rows, **words, style=style),
    )


def surfaces(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw the mean share of z_c in every region, by strength and step."""
    alike = [name for name in content.analyses if content.section(name).axis in WORDS]
    with_shares = [name for name in alike if PRODUCT_SHARE.name in content.statistics_of(name)]
    means = [region_means(content, name, PRODUCT_SHARE.name) for name in with_shares]
    table = pd.concat(means, ignore_index=True)
    table = table[table["band"].str.startswith("zc")].drop_duplicates(subset=["roi", "band"])
    for name, key in (("x", "step"), ("y", "strength")):
        table[name] = [Band(band).number(key) for band in table["band"]]
    drawn, missing = _known_regions(table, "mean")
    rows = drawn.rename(columns={"mean": "value"})
    n_cells = len(rows[["x", "y"]].drop_duplicates())
    yield Figure(
        "strength-by-step",
        "Product share of z_c beside z, mean over all valid voxels of each region, by noise strength and denoising "
        f"step ({n_cells} pairs were fitted; hatched ones were not).{missing}",
        lambda style: plotting.region_grids(
            rows,
            x_label="denoising step (%)",
            y_label="noise strength (%)",
            label="share of z_c (R²)",
            style=style,
        ),
    )


def _known_regions(table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, str]:
    """Leave out regions without a number, and the smaller ones of too many; say which."""
    largest = table.groupby("roi", sort=False)[value].max()
    valid = largest.dropna()
    left_out, said = listed(largest.index[largest.isna()]), ""
    if left_out:
        said = f" Without a valid voxel: {left_out}."
    if len(valid) > MAX_REGIONS:
        said += f" Of {len(valid)} regions, the {MAX_REGIONS} with the largest mean are shown."
        kept = set(valid.nlargest(MAX_REGIONS).index)
        valid = valid[[name in kept for name in valid.index]]
    return table[table["roi"].isin(valid.index)].copy(), said


def similarity(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw how alike the maps of all strengths or steps are."""
    space, key = content.maps.space, content.section(analysis).axis
    names = models(content.maps, analysis)
    is_any_significant = found_by_any(content.maps, [{"analysis": analysis, "model": model} for model in names])
    kinds = {"accuracy of z with z_c": (R.name, ""), "share of z_c": (PRODUCT_SHARE.name, "zc")}
    places = space.places()[is_any_significant]
    tables = {}
    for title, (statistic, kind) in kinds.items():
        bands = [next((b for b in Model.parse(m) if kind and b.startswith(kind)), "") for m in names]
        columns = zip(names, bands, strict=True)
        values = [content.maps.values(analysis=analysis, model=m, band=b, statistic=statistic) for m, b in columns]
        tables[title] = inference.map_similarity(
            np.stack(values)[:, is_any_significant], places, seed=int(content.settings["run"]["seed"])
        )
    labels = [f"{Model.parse(m)[1].number(key)} %" for m in names]
    yield Figure(
        f"{analysis}-similarity",
        f"Pearson correlation between the maps of each two {WORDS[key]}s, over the {is_any_significant.sum():,} "
        "voxels where any of the models is significant, by Simes's p across them. Brackets: 95 % interval by Fisher's "
        "z for as many independent places as maps of this smoothness have (Dutilleul, 1993); none where these are "
        "fewer than 8. They are about the choice of voxels, not of stimuli or participants.",
        lambda style: plotting.similarity_matrices(tables, labels, label=f"{WORDS[key]}", style=style),
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


def histograms(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw how the scores of every model are spread."""
    for model in models(content.maps, analysis):
        r = content.maps.values(analysis=analysis, model=model, statistic=R.name)
        found = content.maps.values(analysis=analysis, model=model, statistic=MASK.name) == 1
        # A permutation null belongs to each voxel, and then no one value of r parts the significant from the rest.
        parts = found.any() and np.nanmin(r[found]) > np.nanmax(r[~found], initial=-1)
        threshold = float(r[found].min()) if parts else None
        line = " The line is the smallest significant r." if parts else ""
        yield Figure(
            f"{analysis}-{short(model).replace('+', '-')}",
            f"Prediction accuracy of {model} over voxels, of which {found.sum():,} are significant.{line}",
            lambda style, r=r, threshold=threshold: plotting.histogram(r, threshold, style=style),  # type: ignore[misc]
        )


def learning_curve(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw unique shares against the number of fitted stimuli."""
    rows = []
    for facts in content.maps.find_columns(analysis=analysis).columns.to_dict("records"):
        if not facts["statistic"].startswith(UNIQUE_LIMIT.name):
            curve = {"roi": facts["model"].replace("_step-100", ""), "series": title_of(facts["band"])}
            rows.append(
                {**curve, "x": facts["n_fitted"], "y": facts["mean"], "low": facts["low"], "high": facts["high"]}
            )
    limits = content.maps.find_columns(analysis=analysis, statistic=UNIQUE_LIMIT.name).columns
    said = ", ".join(f"{title_of(str(one['band']))} {_limit(one)}" for one in limits.to_dict("records"))
    yield Figure(
        analysis,
        "Unique share of each band, mean over all valid voxels, against the number of fitted stimuli; intervals by "
        "jackknife over test stimuli. A gain that is the band's own stays; one that only few stimuli give falls. "
        f"Extrapolated to unlimited stimuli: {said}. In brackets: what other forms of the curve give.",
        lambda style: plotting.roi_profiles(
            pd.DataFrame(rows), x_label="fitted stimuli", y_label="unique share (R²)", log_x=True, style=style
        ),
    )


def _limit(facts: Mapping[Hashable, Any]) -> str:
    """Write what the mean curve tends to with its ends, or why nothing can be said."""
    if facts.get("no_limit", np.nan) == facts.get("no_limit", np.nan):
        return f"no limit ({facts['no_limit']})"
    return f"{number(facts['mean'])} [{number(facts['low'])}, {number(facts['high'])}]"


def generalisation(content: Content, analysis: str) -> Iterator[Figure]:
    """Draw scores on three kinds of test stimuli."""
    rows, said = [], []
    columns = content.columns_of(analysis)
    for facts in columns.to_dict("records"):
        if facts["statistic"] == R.name:
            kind = facts["test_set"]
            rows.append({"roi": title_of(facts["band"]), "x": kind, "y": facts["mean"], "series": "mean r"})
            rows[-1] |= {"low": facts["low"], "high": facts["high"]}
            relative, *ends = (number(facts.get(f"normalised{end}")) for end in ("", "_low", "_high"))
            said.append(f"{title_of(facts['band'])} {kind} {relative} [{', '.join(ends)}]")
    n_train = int(columns["n_train"].max())
    yield Figure(
        analysis,
        "Mean r over all valid voxels on test stimuli that are drawn at random, held out as whole clusters, or "
        f"farthest from all others, each after a fit to {n_train} stimuli; intervals by jackknife over test stimuli, "
        "or over clusters where such are held out. Relative to the noise ceiling (root of summed "
        f"squared r over summed ceilings; a perfect model has 1): {', '.join(said)}.",
        lambda style: plotting.roi_profiles(pd.DataFrame(rows), x_label="test stimuli", y_label="mean r", style=style),
    )
