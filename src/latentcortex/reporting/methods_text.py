"""The methods text of a report, joined of what its parts wrote, and what it cites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import latentcortex
from latentcortex._methods import Reference, cited_keys, literature, read_bibtex, with_citations
from latentcortex.maps import Maps
from latentcortex.reporting.content import Content

MIN_BIAS: Final = 0.005
"""Pooled r that lies so far below 0 without signal is said to be biased."""


PARAGRAPHS: Final = (
    ("dataset", "responses"),
    ("extractor", "features", "estimator"),
    ("splits", "tests", "pooled", "ceiling", "shares"),
)
"""Which parts write the sentences of each paragraph; those of all others follow in one more."""


def methods(content: Content) -> list[str]:
    """Join what the parts of a run wrote of themselves into paragraphs, citations by author and year.

    What the maps, counts and settings of the run tell of responses, features and pooled predictions stands between.
    """
    texts = {
        **content.methods,
        "responses": _responses(content),
        "features": _features(content),
        "pooled": said_of_pooled(content.maps),
    }
    rest = [name for name in texts if not any(name in names for names in PARAGRAPHS)]
    paragraphs = (" ".join(texts[name].strip() for name in names if texts.get(name)) for names in (*PARAGRAPHS, rest))
    works = {**read_bibtex(content.references), **literature()}
    return [with_citations(paragraph, works) for paragraph in paragraphs if paragraph]


def references(content: Content) -> tuple[Reference, ...]:
    """List what the methods text of a report cites, by author."""
    return cited_by(content.methods.values(), content.references)


def cited_by(texts: Iterable[str], more: str = "") -> tuple[Reference, ...]:
    """List the references that texts cite, by key.

    Parameters
    ----------
    texts : iterable of str
    more : str
        BibTeX of references beyond the package's own.
    """
    works = {**read_bibtex(more), **literature()}
    keys = {key for text in texts for key in cited_keys(text)}
    return tuple(works[key] for key in sorted(keys) if key in works)


def _responses(content: Content) -> str:
    """Write what was measured, how it was z-scored and averaged, and on what voxels."""
    facts, zscore = content.facts, content.settings["responses"]["zscore"]
    z = {"session": "within sessions", "run": "within runs", "none": ""}[zscore]
    scored = f"z-scored {z} with the statistics of training rows" if z else "not z-scored"
    if facts.get("held_out", {}).get(zscore):
        scored += f" ({zscore}s without any with their own, so that differences between their means are not tested)"
    repeats = ", and repeats of a stimulus were averaged and weighted by their number" if _repeated(facts) else ""
    where = content.maps.space.methods()
    return (
        f"Responses of participant {content.participant} ({facts['n_trials']} trials in {facts['n_sessions']} "
        f"sessions, {facts['n_voxels']} voxels of which {facts['n_valid']} were valid) were {scored}{repeats}."
        f"{' ' if where else ''}{where}{_regions(content)}"
    )


def _regions(content: Content) -> str:
    """Name the atlas, and say how regions that are given on cortex came to voxels."""
    if content.atlas is None:
        return ""
    given = ", given on cortex: a voxel has the region that most vertices have which meet it"
    return f" Regions are those of the atlas {content.atlas.name}{given if content.atlas.vertices is not None else ''}."


def _repeated(facts: Mapping[str, Any]) -> bool:
    """Tell whether any stimulus was shown more than once."""
    return bool(facts["n_trials"] > facts.get("n_stimuli", facts.get("n_train", 0) + facts.get("n_test", 0)))


def _features(content: Content) -> str:
    """Write what was done to all features, and how much of them hangs on the noise that was drawn."""
    n_dims, words = content.settings["analyses"]["n_dims"], []
    if n_dims:
        words.append(f"Wider bands were reduced to {n_dims} principal components of the training stimuli.")
    reliable = content.made_by.get("seed_reliability", {}).values()
    if reliable:
        words.append(
            f"{min(reliable):.0%} to {max(reliable):.0%} of a band's variance did not depend on the draws of noise."
        )
    return " ".join(words)


def said_of_pooled(maps: Maps) -> str:
    """Say where r that is pooled over folds lies without signal; nothing where none is."""
    medians = [value for value in maps.columns.get("null_median", ()) if value == value]
    if not medians:
        return ""
    ends = " to ".join(dict.fromkeys(f"{end:.2f}" for end in (min(medians), max(medians))))
    tested = "p-values account for it, since every permutation is pooled alike; r itself is not corrected"
    if max(medians) > -MIN_BIAS:
        return f" Without signal, pooled r lies at {ends} (median over permutations and voxels); {tested}."
    return (
        " Where nothing is predicted, r pooled over folds lies below 0, since the mean response that a fold is "
        "predicted with is that of the others, which is low where the fold's is high: here at "
        f"{ends} (median over permutations and voxels). {tested}, and understates how well weak voxels "
        "are predicted."
    )


SOFTWARE: Final = Reference(
    "latentcortex",
    ("The latentcortex developers",),
    2026,
    f"latentcortex (version {latentcortex.__version__})",
    "Computer software",
    kind="misc",
)
"""How to cite the package."""
