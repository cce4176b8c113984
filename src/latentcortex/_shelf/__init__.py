"""A shelf: classes that a user picks by name. A stranger adds one file and one line here."""

from latentcortex._shelf.nearest import unknown
from latentcortex._shelf.shelf import Shelf

__all__ = ["Shelf", "unknown"]
