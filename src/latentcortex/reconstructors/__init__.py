"""Reconstructors: what turns decoded features into images. Add a file here and a line to the shelf."""

from __future__ import annotations

from typing import Any, Final

from latentcortex._shelf import Shelf
from latentcortex.reconstructors.reconstructor import (
    Checked,
    DescribedReconstructor,
    Reconstructor,
    TitledReconstructor,
)

__all__ = ["SHELF", "Checked", "DescribedReconstructor", "Reconstructor", "TitledReconstructor", "make"]

SHELF: Final = Shelf(
    "reconstructor",
    {
        "ldm": "latentcortex.reconstructors.ldm:LDMReconstructor",
        "retrieval": "latentcortex.reconstructors.retrieval:Retrieval",
    },
)


@SHELF.documented
def make(name: str, **arguments: Any) -> Any:
    """Make a reconstructor by name."""
    return SHELF.make(name, **arguments)


def __getattr__(name: str) -> Any:
    """Find a class on the shelf by its own name; it is imported only then."""
    return SHELF.named(name)
