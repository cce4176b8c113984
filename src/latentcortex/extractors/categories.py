"""Categories: which words the captions of an image have, the baseline that every model of meaning must beat."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _arrays
from latentcortex._arrays import FloatArray, listed
from latentcortex._ranges import Names
from latentcortex._shelf import unknown
from latentcortex.errors import InputError

logger = logging.getLogger(__name__)

BAND: Final = "categories"


class Categories:
    """The fraction of an image's captions that have each word, 0 to 1, as one band `categories`.

    Where each image has one caption, a word that names its category makes that category's indicator column.

    Parameters
    ----------
    words : sequence of str
        One column each, in this order; a word may be several with spaces (`fire hydrant`). They are found as whole
        words, in upper or lower case: `cat` is neither in "cats" nor in "scatter"; a plural is a word of its own.

    Raises
    ------
    InputError
        If there is no word, one is empty, or two are the same.
    """

    def __init__(self, *, words: Names) -> None:
        self.words = _arrays.words("words", words)
        same = {" ".join(word.casefold().split()) for word in self.words}
        if "" in same or len(same) < len(self.words):
            raise InputError(f"words must differ in more than case and spaces, and not be empty; got {listed(words)}.")
        self._patterns = [_pattern(word) for word in self.words]

    @property
    def bands(self) -> tuple[str, ...]:
        """The one band."""
        return (BAND,)

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on."""
        return {"name": "categories", "version": 1, "words": list(self.words)}

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write for a methods section how its one band was made."""
        return (
            f"The band {BAND} is the fraction of an image's captions that have each of {len(self.words)} words "
            f"({listed(self.words, 10)}), found as whole words in upper or lower case."
        )

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for another band or missing captions; warn of a word that no caption has."""
        for band in bands:
            if band != BAND:
                raise unknown("band of categories", band, (BAND,))
        if captions is None:
            return
        is_absent = ~self._counted(captions).any(0)
        if is_absent.any():
            absent = listed(np.array(self.words)[is_absent])
            logger.warning("No caption of %d stimuli has %s; its column is constant.", len(captions), absent)

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Find the words in the captions; (n_stimuli, n_words), float32."""
        self.check(bands)
        return {BAND: self._counted(captions)}

    def _counted(self, captions: Sequence[tuple[str, ...]]) -> FloatArray:
        """Compute fractions of captions, (n_stimuli, n_words); they are undefined where there is no caption."""
        if not all(captions):
            missing = sum(not texts for texts in captions)
            raise InputError(f"Band {BAND} needs captions; {missing} stimuli have none. Leave them out.")
        rows = [[np.mean([p.search(text) is not None for text in texts]) for p in self._patterns] for texts in captions]
        return np.array(rows, dtype=np.float32)


def _pattern(word: str) -> re.Pattern[str]:
    r"""Compile what finds a whole word, its spaces any white space.

    Examples
    --------
    >>> [bool(_pattern("fire  hydrant").search(text)) for text in ("A Fire Hydrant.", "fire hydrants")]
    [True, False]
    """
    parts = r"\s+".join(map(re.escape, word.split()))
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)
