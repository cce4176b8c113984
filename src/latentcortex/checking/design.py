"""What the linter looks at: the design of one participant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from latentcortex.checking.alike import Alike, of_copies, of_equal_pixels, of_near_features
from latentcortex.encoding import Criterion
from latentcortex.errors import InputError
from latentcortex.features import Features
from latentcortex.responses import Responses, Within
from latentcortex.splits import Splits
from latentcortex.stimuli import ImageFingerprint


@dataclass(frozen=True, eq=False)
class StudyDesign:
    """What a study is about to do with one participant.

    Parameters
    ----------
    responses : Responses
        Single trials, before anything is split, of all voxels or of some all over them; see
        `responses.sample_valid_voxels`.
    splits : Splits
    criterion : Criterion
    looks : dict of str to ImageFingerprint
        How each stimulus looks; empty where images are not at hand.
    features : Features, optional
        Once they are extracted; rules that need them are left out before.
    models : sequence of tuple of str
        The bands of each model that is fitted.
    unit : {"stimulus", "session", "run", "cluster"}
        What folds hold out.
    clusters : sequence of str
        Those whose signs the null flips; empty if it flips none.
    zscore : {"session", "run", "none"}
    participant : str
    cut : str
        What the extractor leaves out of captions that are longer than its window, in a sentence; empty if nothing.
    alike : Alike, optional
        Which stimuli are as good as one, where that was looked for already; see `likeness`.
    n_valid : int, optional
        Valid voxels in all, where `responses` are of some.
    """

    responses: Responses
    splits: Splits
    criterion: Criterion
    fingerprints: Mapping[str, ImageFingerprint] = field(default_factory=dict)
    features: Features | None = None
    models: Sequence[tuple[str, ...]] = ()
    unit: str = "stimulus"
    clusters: Sequence[str] = ()
    zscore: Within = "none"
    participant: str = ""
    cut: str = ""
    alike: Alike | None = None
    n_valid: int | None = None

    @property
    def ids(self) -> list[str]:
        """All stimuli that are used, each once."""
        return list(self.splits.ids)

    @property
    def extracted(self) -> Features:
        """The features, once they are extracted."""
        if self.features is None:
            raise InputError("The features are not extracted yet.")
        return self.features

    @property
    def n_test(self) -> int:
        """Stimuli that a score is made of: those of the test set, or of all folds together."""
        return len(self.splits.tested)

    @property
    def n_voxels(self) -> int:
        """Valid voxels, all of which are tested."""
        return int(self.responses.valid().sum()) if self.n_valid is None else self.n_valid

    @property
    def bands(self) -> list[str]:
        """The bands that are fitted, each once; all that are extracted where no model is named."""
        used = dict.fromkeys(band for model in self.models for band in model)
        return list(used) or list(self.extracted.bands)

    @cached_property
    def likeness(self) -> Alike:
        """Which stimuli are as good as one, as far as images and features are at hand."""
        if self.alike is not None:
            return self.alike
        near = of_near_features(self.features, self.bands, self.ids) if self.features is not None else []
        return Alike(of_equal_pixels(self.fingerprints, self.ids), of_copies(self.fingerprints, self.ids), near)
