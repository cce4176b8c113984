"""Rules about images: none may be on both sides of a split, under whatever id and in whatever copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from latentcortex._arrays import listed
from latentcortex.checking.alike import StimulusPairs
from latentcortex.checking.design import StudyDesign

PARTED: Final = "on both sides of a split"


def straddling(design: StudyDesign) -> Iterator[str]:
    """Find images that are fitted on and tested."""
    leaks = _parted(design, _of(design, "same"))
    if leaks:
        yield f"{_many(leaks, 'image')} {PARTED} ({_shown(leaks)}); put each image on one side."


def same_image(design: StudyDesign) -> Iterator[str]:
    """Find images that have two ids."""
    pairs = _of(design, "same")
    if pairs:
        yield f"{_many(pairs, 'image')} under two ids ({_shown(pairs)}); give each image one id."


def near_duplicate(design: StudyDesign) -> Iterator[str]:
    """Find copies and near duplicates of which one is fitted on and the other tested."""
    for what, pairs in _near(design):
        leaks = _parted(design, pairs)
        if leaks:
            many = f"{_many(leaks, 'pair')} of {what}"
            yield f"{many} {PARTED} ({_shown(leaks)}); put both on one side, or leave one out."


def near_duplicate_within(design: StudyDesign) -> Iterator[str]:
    """Find copies and near duplicates that are on one side together."""
    for what, pairs in _near(design):
        parted = set(_parted(design, pairs))
        together = [pair for pair in pairs if pair not in parted]
        if together:
            many = f"{_many(together, 'pair')} of {what}"
            yield f"{many} ({_shown(together)}), on one side: {_as_one(design, together)}."


def _as_one(design: StudyDesign, pairs: StimulusPairs) -> str:
    """Say what is done with stimuli that are as good as one, and what remains to be done."""
    remedy = "give each image one id, or leave one out"
    if len(design.splits) > 1:
        return f"they share a fold and change places together; {remedy}"
    tested = set(design.splits.tested)
    n_tested = sum(one in tested and other in tested for one, other in pairs)
    if n_tested:
        return f"{n_tested} in the test set, where stimuli of nearly equal features are clusters of the null; {remedy}"
    return f"they weigh as one image that was shown more often; {remedy}"


def _near(design: StudyDesign) -> Iterator[tuple[str, StimulusPairs]]:
    """Yield pairs that are nearly one, by how they are so; each pair once."""
    looks = _of(design, "copies")
    yield "images that look alike", looks
    seen = {*looks, *_of(design, "same")}
    yield "stimuli with nearly equal features", [pair for pair in _of(design, "near") if pair not in seen]


def _of(design: StudyDesign, kind: str) -> StimulusPairs:
    """Take the pairs of one kind that are in the design."""
    used = set(design.ids)
    pairs: StimulusPairs = getattr(design.likeness, kind)
    return [pair for pair in pairs if used.issuperset(pair)]


def _parted(design: StudyDesign, pairs: StimulusPairs) -> StimulusPairs:
    """Take the pairs of which one is fitted on where the other is tested."""
    parted = set()
    for train, test in design.splits:
        fitted, tested = set(train), set(test)
        parted |= {
            (one, other)
            for one, other in pairs
            if (one in fitted and other in tested) or (other in fitted and one in tested)
        }
    return [pair for pair in pairs if pair in parted]


def _many(pairs: StimulusPairs, what: str) -> str:
    return f"{len(pairs)} {what}{'s' if len(pairs) > 1 else ''}"


def _shown(pairs: StimulusPairs) -> str:
    return listed(f"{one} = {other}" for one, other in pairs)


def cut_captions(design: StudyDesign) -> Iterator[str]:
    """Tell of captions that are cut."""
    if design.cut:
        yield design.cut
