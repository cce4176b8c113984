"""What a reader should know before believing a split: the honesty panel."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentcortex._arrays import BoolArray
from latentcortex.encoding.partition import MIN_RELIABILITY
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
    best = np.full(maps.space.n_voxels, -np.inf)
    for reliability, _ in own:
        best = np.fmax(best, reliability)
    return np.asarray(best < MIN_RELIABILITY)


def honesty(maps: Maps) -> list[dict[str, Any]]:
    """Lay out the panel, one entry for each joint model.

    Returns
    -------
    list of dict
        analysis, model; n_significant; suppressed (voxels among these that the joint model explains better than the sum
        of its bands alone); n_unidentifiable; null; bands, a list of dict with band, n_negative (of these voxels, those
        whose share is below 0), overlap, stability. None where something was not computed.
    """
    return [_entry(maps, analysis, model) for analysis, model in joint_models(maps)]


def _entry(maps: Maps, analysis: str, model: str) -> dict[str, Any]:
    own = maps.find(analysis=analysis, model=model)
    found = own.values(statistic="mask") == 1
    grey = unidentifiable(maps, analysis, model)
    excess = own.find(statistic="excessR2")
    return {
        "analysis": analysis,
        "model": short(model),
        "n_significant": int(found.sum()),
        "suppressed": sum(int((values[found] > 0).sum()) for values, _ in excess) if len(excess.columns) else None,
        "n_unidentifiable": None if grey is None else int((grey & found).sum()),
        "null": str(own.find(statistic="p").columns["null"].iloc[0]),
        "bands": [_band(own, band, found) for band in model.split("+")],
    }


def _band(own: Maps, band: str, found: BoolArray) -> dict[str, Any]:
    ((values, share),) = own.find(band=band, statistic="shareR2")
    reliability = own.find(band=band, statistic="identifiability").columns.to_dict("records")
    return {
        "band": title_of(band),
        "n_negative": int((values[found] < 0).sum()),
        "stability": _known(share["stability"]),
        "overlap": _known(reliability[0]["overlap"]) if reliability else None,
    }


def _known(value: float) -> float | None:
    return None if value != value else value
