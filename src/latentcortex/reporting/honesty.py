"""What a reader should know before believing a split: the honesty panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latentcortex._arrays import BoolArray, FloatArray
from latentcortex.encoding.partition import LEAST_RELIABILITY
from latentcortex.maps import Maps, short
from latentcortex.reporting.text import title_of


def joint_models(maps: Maps) -> list[tuple[str, str]]:
    """List the models that are split between bands, as pairs of analysis and model."""
    split = maps.columns[maps.columns["statistic"] == "shareR2"]
    return list(dict.fromkeys(zip(split["analysis"], split["model"], strict=True)))


def unidentifiable(maps: Maps, analysis: str, model: str) -> BoolArray | None:
    """Tell where no band's share is expected to be reliable, (n_voxels,); None where that was not predicted."""
    own = maps.find(analysis=analysis, model=model, statistic="identifiability")
    if not len(own.columns):
        return None
    best = np.where(np.isnan(own.data), -np.inf, own.data).max(1)
    return np.asarray(best < LEAST_RELIABILITY)


def honesty(maps: Maps) -> list[dict[str, Any]]:
    """Lay out the panel, one row for each joint model.

    Returns
    -------
    list of dict
        analysis, model; n_significant; by band: negative (voxels among these whose share is below 0), stability,
        overlap; suppressed (voxels that the joint model explains better than the sum of its bands alone);
        n_unidentifiable; null. None where something was not computed.
    """
    return [_row(maps, analysis, model) for analysis, model in joint_models(maps)]


def _row(maps: Maps, analysis: str, model: str) -> dict[str, Any]:
    own = maps.find(analysis=analysis, model=model)
    found = own.values(statistic="mask") == 1
    grey = unidentifiable(maps, analysis, model)
    return {
        "analysis": analysis,
        "model": short(model),
        "n_significant": int(found.sum()),
        "negative": _by_band(own, "shareR2", "n_negative", "{:.0f}"),
        "suppressed": _count_above(own, found),
        "overlap": _by_band(own, "identifiability", "overlap", "{:.2f}"),
        "stability": _by_band(own, "shareR2", "stability", "{:.2f}"),
        "n_unidentifiable": None if grey is None else int((grey & found).sum()),
        "null": str(own.find(statistic="p").columns["null"].iloc[0]),
    }


def _by_band(own: Maps, statistic: str, fact: str, form: str) -> str | None:
    columns = own.find(statistic=statistic).columns
    if not len(columns) or fact not in columns:
        return None
    known: Sequence[tuple[str, float]] = list(zip(columns["band"], columns[fact], strict=True))
    return ", ".join(f"{title_of(band)} {form.format(value) if value == value else 'n/a'}" for band, value in known)


def _count_above(own: Maps, found: BoolArray) -> int | None:
    columns = own.find(statistic="excessR2")
    values: FloatArray = columns.data[:, 0] if len(columns.columns) else np.empty(0)
    return int((values[found] > 0).sum()) if len(values) else None
