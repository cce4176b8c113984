"""What the files of maps are called, and what their sidecars say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from latentcortex import statistics
from latentcortex.bands import Model
from latentcortex.space import Space

KEYS: Final = ("analysis", "model", "band", "statistic")
"""What identifies a column: no two columns of `Maps` agree in all four."""

TEST_SET: Final = "test_set"
"""The fact that names the test set of a column, where that is another one than the study's."""


def is_of_study(facts: Mapping[Any, Any]) -> bool:
    """Tell whether a column is scored on what the study holds out, whose noise ceiling is among the maps.

    Examples
    --------
    >>> is_of_study({"analysis": "latents"}), is_of_study({"analysis": "mine-far", "test_set": "far"})
    (True, False)
    """
    return not isinstance(facts.get(TEST_SET), str)


def label(name: str) -> str:
    """Turn a name into what BIDS allows after a hyphen.

    Examples
    --------
    >>> label("z+zc_strength-80_step-100")
    'zZcStrength80Step100'
    """
    words = re.split(r"[^a-zA-Z0-9]+", name)
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def short(model: str) -> str:
    """Shorten the name of a model of many bands, see `Model.short`; of no model the name is empty."""
    return Model.parse(model).short if model else ""


def stem_of(facts: Mapping[str, Any]) -> str:
    """Name the file of one column by its entities, with a suffix."""
    parts = [str(facts["analysis"]), short(str(facts["model"])), str(facts["band"])]
    # A band is named only where the model has several.
    if facts["band"] == facts["model"]:
        parts = parts[:-1]
    parts = [part for part in parts if part]
    statistic = str(facts["statistic"])
    is_mask = statistic == statistics.MASK.name
    suffix, stat = ("mask", "") if is_mask else ("statmap", f"stat-{label(statistic)}_")
    return f"{stat}desc-{label('-'.join(parts))}_{suffix}"


def sidecar(space: Space, facts: Mapping[Any, Any]) -> dict[str, Any]:
    """Describe one column for its sidecar: what it is, where its voxels are, and every fact that is not empty."""
    stated = {key: value for key, value in facts.items() if value is not None and value == value and value != ""}
    statistic = statistics.named(str(facts["statistic"]))
    of_layers = str(facts["model"]).startswith("layers_") and statistic.of_layers
    return {"Description": of_layers or statistic.description, **space.description, **stated}
