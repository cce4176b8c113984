"""What a study asks of a dataset, and what some can do beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Space
from latentcortex.stimuli import Stimuli


class Probe(Protocol):
    """A network that reads attributes, such as a colour, off images."""

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The words of each attribute, in the order of the log-probabilities of `read`."""
        ...

    def read(self, images: NDArray[np.uint8]) -> dict[str, FloatArray]:
        """Compute log-probabilities (n_images, n_words) of each attribute from images (n_images, height, width, 3)."""
        ...


class Dataset(Protocol):
    """Where a study gets stimuli and responses from.

    Nothing but `responses` reads single-trial amplitudes, so that a study can be checked before it reads them.
    """

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants, letters and digits."""
        ...

    def stimuli(self) -> Stimuli:
        """Return the stimuli; a study leaves out those that no participant saw."""
        ...

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the single trials of one participant, without reading a response.

        Returns
        -------
        DataFrame of length n_trials
            `stimulus`, `session`, `run` (strings) and `n_repeats` (1), in the order of the rows of `responses`; if
            there is a test set also `split`, `train` or `test`, the same for all trials of a stimulus.
        """
        ...

    def space(self, participant: str) -> Space:
        """Return the positions of all voxels of one participant, without reading a response."""
        ...

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the single trials of one participant in consecutive voxels, and of no others.

        Parameters
        ----------
        participant : str
        voxels : slice
            Which voxels, counted in `space`; all by default.

        Returns
        -------
        Responses
            Amplitudes float32 (n_trials, n_voxels of the slice), of the trials of `rows`; its space is that slice of
            `space`.
        """
        ...

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return further tables about the voxels, by name, which a study writes beside the maps."""
        ...

    def probe(self) -> Probe | None:
        """Return the network that reads attributes off images, if there is one.

        Its attributes are columns of the stimuli's table, against which reconstructions are scored.
        """
        ...

    def fingerprint(self, participant: str) -> str:
        """Return a digest of all that the responses are made from; results are computed again when it changes."""
        ...


@runtime_checkable
class DescribedDataset(Protocol):
    """A dataset that writes what it holds in the sentences of a methods section; see `_methods`."""

    def methods(self, participant: str) -> str:
        """Write where the responses of a participant are from, in whole sentences that cite by key."""
        ...


@runtime_checkable
class Anatomical(Protocol):
    """A dataset with an anatomical image, which slices through a volume are drawn on."""

    def background(self, participant: str) -> Path | None:
        """Return the path of the anatomical image, in the mm of the voxels, if there is one."""
        ...


@runtime_checkable
class WithRegions(Protocol):
    """A dataset that lists the region of each voxel: `atlas = "voxels"` in [report], where positions are unknown."""

    def regions(self, participant: str) -> Atlas | None:
        """Return the regions, labels (n_voxels,), if they are listed."""
        ...


@runtime_checkable
class WithAtlases(Protocol):
    """A dataset that brings regions of its own, which `atlas` in [report] may name."""

    def atlas_folder(self, participant: str, name: str) -> Path | None:
        """Return the folder of such an atlas, as `space.Atlas.find` reads it; None if it is none of the dataset's."""
        ...
