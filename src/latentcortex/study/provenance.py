"""What the results of a study are made from, as digests: whether they must be computed again, and what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import latentcortex
from latentcortex._arrays import digest
from latentcortex.datasets import WithAtlases
from latentcortex.space import atlas_digest

if TYPE_CHECKING:
    from latentcortex.study.data import StudyData


class Provenance:
    """Digests of the responses, the extractor, the atlas and the settings of a study.

    Parameters
    ----------
    data : StudyData
    """

    def __init__(self, data: StudyData) -> None:
        self.data = data

    @cached_property
    def _responses(self) -> list[str]:
        """Digests of what each participant's responses are made from; whole files are read for them."""
        return [self.data.dataset.fingerprint(name) for name in self.data.participants]

    @cached_property
    def _atlas(self) -> str:
        """Digest of the atlas's files; only an atlas of the participants' own cortex asks for their spaces."""
        if isinstance(self.data.dataset, WithAtlases):
            names = {name: self.data.atlas_name(name) for name in self.data.participants}
            return digest([atlas_digest(atlas, [self.data.space(name)]) for name, atlas in names.items()])
        spaces = (self.data.space(name) for name in self.data.participants)
        return atlas_digest(self.data.settings.report.atlas, spaces)

    def key(self, sections: Sequence[str]) -> str:
        """Digest everything that results depend on which are computed with these sections of the study file."""
        extractor, settings = self.data.extractor, self.data.settings
        made_by = extractor.made_by, extractor.bands, self._atlas
        return digest(
            latentcortex.__version__, settings.depended_on(sections), settings.run.seed, self._responses, made_by
        )

    @property
    def sources(self) -> dict[str, str]:
        """Name each thing beside the settings that enters `key`, with its value or digest, to say which one changed."""
        extractor = self.data.extractor
        return {
            "run.seed": str(self.data.settings.run.seed),
            "the data": digest(self._responses),
            "the model or its bands": digest(extractor.made_by, extractor.bands),
            "the atlas": self._atlas,
            "the version of latentcortex": latentcortex.__version__,
        }

    @property
    def features(self) -> dict[str, Any]:
        """Say what the features are made by, how wide each band is, and its reliability across noise draws if known."""
        features, extractor = self.data.features, self.data.extractor
        reliabilities = {band: features.seed_reliability(band) for band in features.bands}
        rounded = {band: round(r, 3) for band, r in reliabilities.items() if r is not None}
        model = {"model": extractor.model} if hasattr(extractor, "model") else {}
        return {
            **extractor.made_by,
            "dims": features.dims,
            **model,
            **({"seed_reliability": rounded} if rounded else {}),
        }
