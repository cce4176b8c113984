"""What a reader should know before believing a split: the honesty panel."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentcortex._arrays import BoolArray
from latentcortex.bands import Model
from latentcortex.maps import Maps, short
from latentcortex.reporting.titles import title_of
from latentcortex.statistics import EXCESS, IDENTIFIABILITY, MASK, MIN_RELIABILITY, PRODUCT_SHARE, P


def joint_models(maps: Maps) -> list[tuple[str, str]]:
    """List the models that are split between bands, as pairs of analysis and model."""
    split = maps.columns[maps.columns["statistic"] == PRODUCT_SHARE.name]
    return list(dict.fromkeys(zip(split["analysis"], split["model"], strict=True)))


def unidentifiable(maps: Maps, analysis: str, model: str) -> BoolArray | None:
    """Tell where no band's share is expected to be reliable, (n_voxels,); None where that was not predicted."""
    predicted = maps.find_columns(analysis=analysis, model=model, statistic=IDENTIFIABILITY.name)
    if not len(predicted.columns):
        return None
    best = np.full(maps.space.n_voxels, -np.inf)
    for reliability, _ in predicted:
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
    """Lay out the panel of one joint model; see `honesty`."""
    of_model = maps.find_columns(analysis=analysis, model=model)
    significant = of_model.values(statistic=MASK.name) == 1
    grey = unidentifiable(maps, analysis, model)
    excess = of_model.find_columns(statistic=EXCESS.name)
    return {
        "analysis": analysis,
        "model": short(model),
        "n_significant": int(significant.sum()),
        "suppressed": sum(int((values[significant] > 0).sum()) for values, _ in excess)
        if len(excess.columns)
        else None,
        "n_unidentifiable": None if grey is None else int((grey & significant).sum()),
        "null": str(of_model.find_columns(statistic=P.name).columns["null"].iloc[0]),
        "bands": [_band(of_model, band, significant) for band in Model.parse(model)],
    }


def _band(of_model: Maps, band: str, significant: BoolArray) -> dict[str, Any]:
    """Lay out what the panel says of one band of a joint model."""
    ((values, share),) = of_model.find_columns(band=band, statistic=PRODUCT_SHARE.name)
    reliability = of_model.find_columns(band=band, statistic=IDENTIFIABILITY.name).columns.to_dict("records")
    return {
        "band": title_of(band),
        "n_negative": int((values[significant] < 0).sum()),
        "stability": _none_for_nan(share["stability"]),
        "overlap": _none_for_nan(reliability[0]["overlap"]) if reliability else None,
    }


def _none_for_nan(value: float) -> float | None:
    """Return None in place of nan, which JSON and templates have no word for."""
    return None if value != value else value
