"""Tables of a report: every model's summary, means by region, what was altered; and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files, inference, scoring
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.errors import InputError
from latentcortex.maps import KEYS, Maps
from latentcortex.reporting.content import Content
from latentcortex.reporting.text import title_of

IN_REGIONS: Final = (
    *("r", "r2", "mask", "ceiling", "confidence"),
    *("shareR2", "shareR", "uniqueR2", "uniqueMask", "shapleyR2", "commonR2"),
)
"""Statistics of which a region has a mean."""
COUNTED: Final = ("n_control", "null_fraction", "n_false", "n_false_low", "n_false_high")
"""What the shuffled control says of a map, see `inference.control.ExpectedFalse`; None without one."""
RELATIVE: Final = ("r", "r2", "shareR2", "uniqueR2", "shapleyR2")
"""Statistics that are related to the noise ceiling."""
P_OF: Final = {"mask": "p", "uniqueMask": "uniqueP"}
"""Masks, and the p that each is made of."""


def summary_rows(participant: str, maps: Maps) -> list[dict[str, Any]]:
    """Summarise every model of every analysis, one row each."""
    rows = []
    for facts in maps.find(statistic="mask").columns.to_dict("records"):
        who = {"analysis": facts["analysis"], "model": facts["model"]}
        mask = maps.values(**who, statistic="mask")
        name = "r" if len(maps.find(**who, statistic="r").columns) else "confidence"
        score = maps.values(**who, statistic=name)
        known = score[np.isfinite(score)]
        rows.append(
            {
                "participant": participant,
                "analysis": facts["analysis"],
                "band": facts["model"],
                "statistic": name,
                "n_voxels": len(mask),
                "n_valid": int(np.isfinite(mask).sum()),
                "n_significant": int((mask == 1).sum()),
                **{name: _number(facts.get(name)) for name in COUNTED},
                "correction": facts["correction"],
                "q": facts["q"],
                "family": facts["family"],
                "score_max": float(known.max()) if len(known) else None,
                "score_median": float(np.median(known)) if len(known) else None,
            }
        )
    return rows


def _number(value: float | None) -> float | None:
    """Read a number that may not be known."""
    return None if value is None or value != value else round(float(value), 3)


def roi_table(content: Content) -> pd.DataFrame | None:
    """Summarise every column by region, over all valid voxels; None without an atlas.

    Scores and shares are also given relative to the noise ceiling, `normalised` (`scoring.normalised_mean`). A mask has
    a `bound`: the fraction of the region's voxels that are truly active at least, with 95 % confidence for all regions
    together; see `inference.true_discovery_bound`.
    """
    if content.atlas is None:
        return None
    labels = content.maps.space.take(content.atlas.labels)
    kept = content.maps.select_columns(content.maps.columns["statistic"].isin(IN_REGIONS).to_numpy())
    table = kept.summarise([int(label) for label in labels], content.atlas.names)
    inside = {name: np.asarray(labels) == label for label, name in content.atlas.names.items()}
    normalised, bounds = _normalised(content.maps, table, inside), _bounds(content.maps, table, inside)
    return table.assign(normalised=normalised, bound=bounds)


def _normalised(maps: Maps, table: pd.DataFrame, inside: Mapping[str, BoolArray]) -> FloatArray:
    """Average what is scored relative to what any model could reach; nan where that is not known or not above 0."""
    normalised = np.full(len(table), np.nan)
    if not len(maps.find(statistic="ceiling").columns):
        return normalised
    ceiling = maps.values(statistic="ceiling")
    # Those of the profile of generalisation have test sets, and ceilings, of their own.
    elsewhere = table["analysis"].str.startswith("generalisation")
    for facts, rows in _by_column(table[table["statistic"].isin(RELATIVE) & ~elsewhere]):
        values, (about,) = maps.values(**facts), maps.find(**facts).columns.to_dict("records")
        n_stimuli = int(about["n_stimuli"]) if facts["statistic"] == "r" else None
        for row in rows:
            region = inside[table["roi"].iloc[row]]
            if region.any():
                normalised[row] = scoring.normalised_mean(values[region], ceiling[region], n_stimuli=n_stimuli)
    return normalised


def _by_column(table: pd.DataFrame) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Yield what each column of maps is that rows of a table are of, and the numbers of these rows."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for row, *named in table[list(KEYS)].itertuples():
        numbers.setdefault(tuple(named), []).append(int(row))
    for facts, rows in numbers.items():
        yield dict(zip(KEYS, facts, strict=True)), rows


def region_means(content: Content, analysis: str, statistic: str) -> pd.DataFrame:
    """Take a statistic's mean over each region's valid voxels, with its interval where one is known.

    Returns
    -------
    DataFrame
        One row per region and column: `roi`, `model`, `band`, `mean`, `low`, `high` (nan for none).
    """
    if content.atlas is None:
        raise InputError("Means by region need an atlas.")
    labels = content.maps.space.take(content.atlas.labels)
    own = content.maps.find(analysis=analysis, statistic=statistic)
    table = own.summarise([int(label) for label in labels], content.atlas.names)
    ends = {name: table.get(name, np.nan) for name in ("low", "high")}
    return table[["roi", "model", "band", "mean"]].assign(**ends)


def _bounds(maps: Maps, table: pd.DataFrame, inside: Mapping[str, BoolArray]) -> FloatArray:
    """Bound true discoveries for every row of a mask; nan for other rows."""
    bounds = np.full(len(table), np.nan)
    for facts, rows in _by_column(table[table["statistic"].isin(list(P_OF))]):
        p = maps.values(**{**facts, "statistic": P_OF[facts["statistic"]]}).astype(np.float64)
        for row in rows:
            bounds[row] = inference.true_discovery_bound(p, inside[table["roi"].iloc[row]])
    return bounds


def bands_table(content: Content) -> list[dict[str, Any]]:
    """List the bands that were fitted: name, title, width, place on the noise schedule, reliability over seeds.

    What is not known is None.
    """
    reliable, dims = content.made_by.get("seed_reliability", {}), content.made_by.get("dims", {})
    known = content.maps.columns.reindex(columns=["model", "timestep", "alpha_bar", "band"])
    rows = []
    for band in dict.fromkeys(part for model in known["model"] for part in str(model).split("+") if part in dims):
        place = known[known["band"] == band].iloc[:1].to_dict("records") or [{"timestep": np.nan, "alpha_bar": np.nan}]
        at = {key: None if place[0][key] != place[0][key] else place[0][key] for key in ("timestep", "alpha_bar")}
        rows.append({"band": band, "title": title_of(band), "n_dims": dims[band], "reliable": reliable.get(band), **at})
    return rows


def alterations(log: Path, participant: str = "") -> list[dict[str, Any]]:
    """Read what was altered or excluded, without other participants'; last, how much of the log cannot be read.

    What is told of shuffled controls, of refits and of cells is not of the participant, and stays in the log.

    Returns
    -------
    list of dict
        `level`, `what`, `models` and `times`: the models that it is told of, where the words do not name one; and how
        many findings have these words and differ in further facts, in files for example.
    """
    entries, n_damaged = _files.read_log(log)
    findings: dict[tuple[str, str], tuple[list[str], list[dict[str, Any]]]] = {}
    for entry in entries:
        of_another = participant and entry.get("participant", participant) != participant
        if entry.get(_files.CONTROL) or entry.get(_files.EVENT) or of_another:
            continue
        models, facts = findings.setdefault((entry["level"], entry["what"]), ([], []))
        named = ", ".join(str(entry[name]) for name in ("analysis", "model") if entry.get(name))
        if named and named not in models and named not in entry["what"]:
            models.append(named)
        other = {key: value for key, value in entry.items() if key not in ("analysis", "model", _files.CELL)}
        if other not in facts:
            facts.append(other)
    rows = [
        {"level": level, "what": what, "models": models, "times": len(facts)}
        for (level, what), (models, facts) in findings.items()
    ]
    if n_damaged:
        lines = "1 line" if n_damaged == 1 else f"{n_damaged} lines"
        sentence = (
            f"{lines} of {log.name} cannot be read (a run was killed, or the file is damaged) and cannot be listed."
        )
        rows.append({"level": "warning", "what": sentence, "models": [], "times": 1})
    return rows


def write_table(out: Path, participant: str, name: str, table: pd.DataFrame) -> None:
    """Write one table of a participant, tab-separated."""
    _files.write_text(out / f"sub-{participant}" / f"sub-{participant}_{name}.tsv", _files.as_tsv(table))


def write_summary(out: Path, participant: str, maps: Maps, stages: Sequence[Mapping[str, Any]]) -> None:
    """Write `summary.json`, keeping the rows of other participants."""
    path = out / "summary.json"
    others = [row for row in _rows_of(path) if row["participant"] != participant]
    _files.write_json(path, {"results": others + summary_rows(participant, maps), "stages": list(stages)})


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a summary; none where it is missing or damaged, since a run writes those of all participants."""
    try:
        known = _files.read_json(path)
    except InputError:
        return []
    rows = known.get("results", []) if isinstance(known, dict) else []
    return [row for row in rows if isinstance(row, dict) and "participant" in row] if isinstance(rows, list) else []
