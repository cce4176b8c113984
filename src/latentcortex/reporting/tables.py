"""Tables of a report: every model's summary, means by region, what was altered; and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files, inference, scoring, statistics
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.bands import Model
from latentcortex.errors import InputError
from latentcortex.maps import KEYS, Maps, is_of_study
from latentcortex.reporting.content import Content
from latentcortex.reporting.titles import title_of

COUNTED: Final = ("n_control", "null_fraction", "n_false", "n_false_low", "n_false_high")
"""Facts of a mask from the shuffled control, see `inference.control.ExpectedFalse`; None without one."""


def summary_rows(participant: str, maps: Maps) -> list[dict[str, Any]]:
    """Summarise every model of every analysis, one row each."""
    rows = []
    for facts in maps.find_columns(statistic=statistics.MASK.name).columns.to_dict("records"):
        of_model = {"analysis": facts["analysis"], "model": facts["model"]}
        mask = maps.values(**of_model, statistic=statistics.MASK.name)
        has_r = len(maps.find_columns(**of_model, statistic=statistics.R.name).columns) > 0
        name = (statistics.R if has_r else statistics.CONFIDENCE).name
        score = maps.values(**of_model, statistic=name)
        finite = score[np.isfinite(score)]
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
                "score_max": float(finite.max()) if len(finite) else None,
                "score_median": float(np.median(finite)) if len(finite) else None,
            }
        )
    return rows


def _number(value: float | None) -> float | None:
    """Round a fact to three decimals; None where it is missing or nan."""
    return None if value is None or value != value else round(float(value), 3)


def roi_table(content: Content) -> pd.DataFrame | None:
    """Summarise every column whose statistic is averaged by region, over all valid voxels; None without an atlas.

    Scores and shares are also given relative to the noise ceiling, `normalised` (`scoring.normalised_mean`). A mask has
    a `bound`: the fraction of the region's voxels that are truly active at least, with 95 % confidence for all regions
    together; see `inference.true_discovery_bound`.
    """
    if content.atlas is None:
        return None
    labels = content.maps.space.take(content.atlas.labels)
    averaged = [bool(statistics.named(str(name)).by_region) for name in content.maps.columns["statistic"]]
    kept = content.maps.select_columns(np.array(averaged, dtype=bool))
    table = kept.summarise([int(label) for label in labels], content.atlas.names)
    inside = {name: np.asarray(labels) == label for label, name in content.atlas.names.items()}
    normalised, bounds = _normalised(content.maps, table, inside), _bounds(content.maps, table, inside)
    return table.assign(normalised=normalised, bound=bounds)


def _normalised(maps: Maps, table: pd.DataFrame, inside: Mapping[str, BoolArray]) -> FloatArray:
    """Average what is scored relative to the noise ceiling; nan where that is not known or not above 0."""
    normalised = np.full(len(table), np.nan)
    if not len(maps.find_columns(statistic=statistics.CEILING.name).columns):
        return normalised
    ceiling = maps.values(statistic=statistics.CEILING.name)
    for facts, rows in _by_column(table):
        relative = statistics.named(facts["statistic"]).relative
        (column,) = maps.find_columns(**facts).columns.to_dict("records")
        # The ceiling is that of the study's test set.
        if not relative or not is_of_study(column):
            continue
        values = maps.values(**facts)
        n_stimuli = int(column["n_stimuli"]) if relative == "correlation" else None
        for row in rows:
            region = inside[table["roi"].iloc[row]]
            if region.any():
                normalised[row] = scoring.normalised_mean(values[region], ceiling[region], n_stimuli=n_stimuli)
    return normalised


def _by_column(table: pd.DataFrame) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Yield the `KEYS` of each column that a table by region summarises, and the numbers of its rows."""
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
    columns = content.maps.find_columns(analysis=analysis, statistic=statistic)
    table = columns.summarise([int(label) for label in labels], content.atlas.names)
    ends = {name: table.get(name, np.nan) for name in ("low", "high")}
    return table[["roi", "model", "band", "mean"]].assign(**ends)


def _bounds(maps: Maps, table: pd.DataFrame, inside: Mapping[str, BoolArray]) -> FloatArray:
    """Bound true discoveries for every row of a mask; nan for other rows."""
    bounds = np.full(len(table), np.nan)
    for facts, rows in _by_column(table):
        significance = statistics.named(facts["statistic"]).significance
        if significance is None or facts["statistic"] != significance.mask:
            continue
        p = maps.values(**{**facts, "statistic": significance.p}).astype(np.float64)
        for row in rows:
            bounds[row] = inference.true_discovery_bound(p, inside[table["roi"].iloc[row]])
    return bounds


def bands_table(content: Content) -> list[dict[str, Any]]:
    """List the bands that were fitted: name, title, width, place on the noise schedule, reliability over seeds.

    What is not known is None.
    """
    reliable, dims = content.made_by.get("seed_reliability", {}), content.made_by.get("dims", {})
    columns = content.maps.columns.reindex(columns=["model", "timestep", "alpha_bar", "band"])
    models, rows = map(Model.parse, filter(None, dict.fromkeys(columns["model"]))), []  # a ceiling has no model
    for band in dict.fromkeys(band for model in models for band in model if band in dims):
        of_band = columns[columns["band"] == band].iloc[:1].to_dict("records")
        place = of_band or [{"timestep": np.nan, "alpha_bar": np.nan}]
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
        summary = _files.read_json(path)
    except InputError:
        return []
    rows = summary.get("results", []) if isinstance(summary, dict) else []
    return [row for row in rows if isinstance(row, dict) and "participant" in row] if isinstance(rows, list) else []
