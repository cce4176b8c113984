"""The sections and keys of a study file, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from latentcortex import analyses, checking, decoding, inference, plotting, reconstructors, reporting
from latentcortex._arrays import listed, words
from latentcortex._shelf import unknown
from latentcortex.encoding import SHARES, Criterion
from latentcortex.errors import InputError
from latentcortex.splits import UNITS

OPEN: Final = {"dataset": None, "extractor": None, "estimator": "banded_ridge", "reconstructor": ""}
"""Sections whose keys are the arguments of the class that `name` picks, and the name that they have unless given."""
SCHEMA: Final[dict[str, dict[str, Any]]] = {
    "responses": {"zscore": "session"},
    "splits": {"test": "split", "cross_validation": 0, "unit": "stimulus", "embedding": "", "n_clusters": 50},
    "analyses": {"run": list(analyses.CANONICAL), "shares": ["product"], "n_dims": 0},
    "inference": {
        "q": 0.05,
        "correction": "bh",
        "family": "map",
        "null": "auto",
        "n_permutations": 1000,
        "share": "gain",
        "n_refits": 20,
        "identifiability": True,
        "twin": False,
    },
    "check": {"allow": []},
    "report": {"atlas": "", "mask": "own", "figures": ["default"], "width_mm": 180.0, "format": "png", "viewer": False},
    "decoding": {"rois": "", "bands": [], "n_voxels": 0},
    "evaluation": {"n_images": 0, "category": "", "n_bootstrap": 1000},
    "run": {"seed": 0, "out": ""},
}
"""The other sections: their keys, and the values that they have unless given."""
LOOKS: Final = ("figures", "width_mm", "format", "viewer")
"""Keys of [report] on which no number depends: a change draws the figures anew, and fits nothing."""
LEAST: Final = (
    ("analyses", "n_dims", 0),
    ("splits", "n_clusters", 25),
    ("decoding", "n_voxels", 0),
    ("evaluation", "n_images", 0),
    ("evaluation", "n_bootstrap", 1),
)
"""Keys that are counts, and the least that each may be."""
CHECKED: Final = ("rois", "viewer")
"""Keys of more than one type, which `decoding.regions_of` and `reporting.viewer_of` check."""
COMPANION: Final = ("decoding", "reconstructor", "evaluation")
"""Sections on which no map depends."""
FORWARD: Final = ("dataset", "extractor", "estimator", "responses", "splits", "analyses", "inference", "report")
"""Sections on which the maps and their report depend."""
DECODING: Final = ("dataset", "extractor", "responses", "splits")
"""Sections on which decoded features depend, beside the settings of the decoder."""
BACKWARD: Final = ("dataset", "extractor", "responses", "splits", "report", *COMPANION)
"""Sections on which decoding, reconstructions and their page depend."""


def complete(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Check sections, keys and types, and fill in what is not given.

    Raises
    ------
    InputError
        Naming the nearest known section or key.
    """
    for section in given:
        if section not in (*OPEN, *SCHEMA):
            raise unknown("section", section, (*OPEN, *SCHEMA))
        if not isinstance(given[section], dict):
            raise InputError(f"{section} must be a section: [{section}].")
    settings: dict[str, dict[str, Any]] = {}
    for section, named in OPEN.items():
        settings[section] = {"name": named, **given.get(section, {})}
        if not isinstance(settings[section]["name"], str):
            raise InputError(f"[{section}] needs `name`, a string.")
    latent = settings["extractor"]["name"] == "ldm"
    settings["reconstructor"]["name"] = settings["reconstructor"]["name"] or ("ldm" if latent else "retrieval")
    reconstructors.SHELF.known(settings["reconstructor"]["name"])
    for section, defaults in SCHEMA.items():
        own = given.get(section, {})
        for key, value in own.items():
            if key not in defaults:
                raise unknown(f"key in [{section}]:", key, defaults)
            if key not in CHECKED:
                _same_type(section, key, value, defaults[key])
        settings[section] = {**defaults, **own}
    return _consistent(settings)


def _same_type(section: str, key: str, value: Any, default: Any) -> None:
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        kind = {str: "a string", bool: "true or false", int: "a whole number", list: "a list"}.get(
            type(default), "a number"
        )
        raise InputError(f"`{key}` in [{section}] must be {kind}; got {value!r}.")


def _consistent(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check values against each other and against what is known."""
    splits, tests = settings["splits"], settings["inference"]
    names = settings["analyses"]["run"]
    if not names or len(set(map(str, names))) < len(names):
        raise InputError(f"`run` in [analyses] must name each analysis once; got {listed(names) or 'none'}.")
    for name in names:
        if name not in analyses.ANALYSES:
            raise unknown("analysis", str(name), analyses.ANALYSES)
    checking.known_rules(words("`allow` in [check]", settings["check"]["allow"]) if settings["check"]["allow"] else ())
    shares = words("`shares` in [analyses]", settings["analyses"]["shares"])
    for share in shares:
        if share not in SHARES:
            raise unknown("share", share, SHARES)
    if splits["cross_validation"] and settings["analyses"]["n_dims"]:
        raise InputError(
            "`n_dims` in [analyses] needs a test set: across folds every permutation would need components of its own."
        )
    if splits["cross_validation"] and shares != ("product",):
        raise InputError("Across folds only product shares are computed: set shares = ['product'], or use a test set.")
    if tests["share"] != "gain" and "unique" not in shares:
        raise InputError(f"share = {tests['share']!r} in [inference] tests unique shares: add 'unique' to `shares`.")
    if splits["cross_validation"] and "learning-curve" in names:
        raise InputError("The analysis 'learning-curve' needs a test set; leave it out, or cross_validation.")
    if splits["unit"] not in UNITS:
        raise unknown("unit in [splits]:", splits["unit"], UNITS)
    if splits["test"] not in ("split", "far"):
        raise unknown("test in [splits]:", splits["test"], ("split", "far"))
    if splits["test"] == "far" and splits["cross_validation"]:
        raise InputError("test = 'far' and cross_validation in [splits] exclude each other; leave one out.")
    if tests["null"] == "clusters" and splits["unit"] == "stimulus":
        raise InputError("null = 'clusters' needs whole clusters that are held out: set unit in [splits], and folds.")
    if splits["unit"] != "stimulus" and not splits["cross_validation"]:
        raise InputError(f"unit = '{splits['unit']}' in [splits] is what folds hold out: set cross_validation, too.")
    Criterion(**{key: value for key, value in tests.items() if key != "twin"})
    if splits["cross_validation"] and tests["null"] == "analytic":
        raise InputError("null = 'analytic' is not valid for predictions pooled over folds; use 'permutation'.")
    _consistent_report(settings["report"])
    inference.fdr(np.array([0.5]), q=tests["q"], method=tests["correction"])
    if not isinstance(settings["decoding"]["rois"], (str, dict)):
        raise InputError(f"`rois` in [decoding] must be a preset or a table; got {settings['decoding']['rois']!r}.")
    decoding.regions_of(settings["decoding"]["rois"])
    if settings["decoding"]["bands"]:
        words("`bands` in [decoding]", settings["decoding"]["bands"])
    if settings["evaluation"]["n_images"] == 1:
        raise InputError("`n_images` in [evaluation] must be 0 (all) or at least 2; got 1.")
    for section, key, least in LEAST:
        if settings[section][key] < least:
            raise InputError(f"`{key}` in [{section}] must be at least {least}; got {settings[section][key]}.")
    return settings


def _consistent_report(report: Mapping[str, Any]) -> None:
    if report["mask"] not in ("own", "joint"):
        raise unknown("mask in [report]:", report["mask"], ("own", "joint"))
    reporting.chosen(words("`figures` in [report]", report["figures"]))
    if report["format"] not in plotting.FORMATS:
        raise unknown("format in [report]:", report["format"], plotting.FORMATS)
    plotting.Style(width_mm=report["width_mm"])
    reporting.viewer_of(report["viewer"])
