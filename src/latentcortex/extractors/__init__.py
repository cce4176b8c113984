"""Extractors: what turns images and captions into bands. Add a file here and a line to the shelf."""

from __future__ import annotations

from typing import Any, Final

from latentcortex._shelf import Shelf
from latentcortex.extractors.extractor import (
    ById,
    Counting,
    DescribedExtractor,
    Extractor,
    Scheduled,
    Sized,
    Windowed,
    Wordy,
)

__all__ = [
    "SHELF",
    "ById",
    "Counting",
    "DescribedExtractor",
    "Extractor",
    "Scheduled",
    "Sized",
    "Windowed",
    "Wordy",
    "make",
]

SHELF: Final = Shelf(
    "extractor",
    {
        "categories": "latentcortex.extractors.categories:Categories",
        "clip": "latentcortex.extractors.clip:CLIP",
        "ldm": "latentcortex.extractors.ldm:LDM",
        "pixels": "latentcortex.extractors.pixels:Pixels",
        "precomputed": "latentcortex.extractors.precomputed:Precomputed",
    },
)


@SHELF.documented
def make(name: str, **arguments: Any) -> Any:
    """Make an extractor by name."""
    return SHELF.make(name, **arguments)


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name; it is imported only then."""
    return SHELF.named(name)
