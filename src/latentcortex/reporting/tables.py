"""Tables of a report: every model's summary, means by region, what was altered; and how they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files
from latentcortex.maps import Maps
from latentcortex.reporting.content import Content
from latentcortex.reporting.figures import title_of
from latentcortex.space import Surface

IN_REGIONS: Final = (
    *("r", "r2", "mask", "ceiling", "confidence"),
    *("shareR2", "shareR", "uniqueR2", "uniqueMask", "shapleyR2", "commonR2"),
)
"""Statistics of which a region has a mean."""


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
                "correction": facts["correction"],
                "q": facts["q"],
                "family": facts["family"],
                "score_max": float(known.max()) if len(known) else None,
                "score_median": float(np.median(known)) if len(known) else None,
            }
        )
    return rows


def roi_table(content: Content) -> pd.DataFrame | None:
    """Summarise every column by region, over all valid voxels; None without an atlas."""
    if content.atlas is None or not isinstance(content.maps.space, Surface):
        return None
    labels = content.maps.space.from_mesh(content.atlas.labels)
    wanted = content.maps.columns["statistic"].isin(IN_REGIONS)
    kept = Maps(content.maps.data[:, wanted], content.maps.columns[wanted].reset_index(drop=True), content.maps.space)
    return kept.summarise([int(label) for label in labels], content.atlas.names)


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """Lay out the mean r and the fraction of significant voxels of each single latent, one row per region."""
    own = table[table["analysis"] == "latents"]
    sizes = own.groupby("roi", sort=False)["n_valid"].first().rename("n valid")
    columns = [sizes]
    for model in dict.fromkeys(own["model"]):
        for statistic, head in (("r", "mean r"), ("mask", "significant")):
            chosen = own[(own["model"] == model) & (own["statistic"] == statistic)].set_index("roi")["mean"]
            columns.append(chosen.rename(f"{title_of(model)}: {head}"))
    return pd.concat(columns, axis=1).reset_index()


def alterations(log: Path) -> list[dict[str, Any]]:
    """Read what was altered or excluded, each message once with how often it came."""
    counts: dict[tuple[str, str], int] = {}
    if log.is_file():
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            key = (entry["level"], entry["what"])
            counts[key] = counts.get(key, 0) + 1
    return [{"level": level, "what": what, "times": n} for (level, what), n in counts.items()]


def write_table(out: Path, participant: str, name: str, table: pd.DataFrame) -> None:
    """Write one table of a participant, tab-separated."""
    with _files.writing(out / f"sub-{participant}" / f"sub-{participant}_{name}.tsv") as part:
        table.to_csv(part, sep="\t", index=False, na_rep="n/a", float_format="%.5g")


def write_summary(out: Path, participant: str, maps: Maps, stages: Sequence[Mapping[str, Any]]) -> None:
    """Write `summary.json`, keeping the rows of other participants."""
    path = out / "summary.json"
    known = _files.read_json(path)["results"] if path.is_file() else []
    others = [row for row in known if row["participant"] != participant]
    _files.write_json(path, {"results": others + summary_rows(participant, maps), "stages": list(stages)})
