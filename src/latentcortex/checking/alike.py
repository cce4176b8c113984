"""Which stimuli are as good as one: the same image, copies of an image, or nearly equal features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latentcortex._copies import copies
from latentcortex._duplicates import duplicates
from latentcortex.features import Features
from latentcortex.splits import linked
from latentcortex.stimuli import ImageFingerprint

StimulusPairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Alike:
    """Pairs of stimuli that are as good as one: they may not be parted by a split.

    Parameters
    ----------
    same : list of pairs of str
        Of equal pixels; each with the first of them.
    copies : list of pairs of str
        That look alike: compressed, resized, lighter, grey, framed, mirrored, or cropped by a tenth.
    near : list of pairs of str
        Of nearly equal features over all bands together, each band scaled to the same size.
    """

    same: StimulusPairs
    copies: StimulusPairs
    near: StimulusPairs

    def groups(self, ids: Sequence[str]) -> list[str]:
        """Name the group of each stimulus: those that any pair links go together."""
        place = {name: i for i, name in enumerate(ids)}
        pairs = [*self.same, *self.copies, *self.near]
        return linked(len(ids), pairs=[(place[a], place[b]) for a, b in pairs if a in place and b in place])


def of_equal_pixels(fingerprints: Mapping[str, ImageFingerprint], ids: Sequence[str]) -> StimulusPairs:
    """Pair stimuli whose images are one, each with the first."""
    by_hash: dict[str, list[str]] = {}
    for name in ids if fingerprints else ():
        by_hash.setdefault(fingerprints[name].hash, []).append(name)
    return [(names[0], other) for names in by_hash.values() for other in names[1:]]


def of_copies(fingerprints: Mapping[str, ImageFingerprint], ids: Sequence[str]) -> StimulusPairs:
    """Pair stimuli whose images are copies of each other, but for those of equal pixels."""
    if not fingerprints:
        return []
    pairs = copies([fingerprints[name].views for name in ids])
    return [(ids[i], ids[j]) for i, j in pairs if fingerprints[ids[i]].hash != fingerprints[ids[j]].hash]


def of_near_features(features: Features, bands: Sequence[str], ids: Sequence[str]) -> StimulusPairs:
    """Pair stimuli whose features are nearly equal, over these bands together, each of them scaled to the same size.

    Features that take few values pair nobody, see `_duplicates`.
    """
    joint = np.zeros((len(ids), len(ids)))
    for band in bands:  # one after the other: many kernels of many stimuli would not fit into memory
        joint += features.gram(band, ids, ids, fit_on=ids)
    pairs, _ = duplicates(lambda rows: joint[rows], np.diag(joint))
    return [(ids[i], ids[j]) for i, j in pairs.tolist()]
