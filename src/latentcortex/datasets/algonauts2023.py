"""The training data of the Algonauts challenge of 2023: averages of NSD's trials on fsaverage.

ROOT/subj01/training_split/training_images/train-0001_nsd-00013.png, ...
ROOT/subj01/training_split/training_fmri/lh_training_fmri.npy and rh_, (images, vertices)
ROOT/subj01/roi_masks/lh.all-vertices_fsaverage_space.npy and rh.: which vertices of fsaverage the columns are

Amplitudes are z-scored within sessions and averaged over repeats: there are neither trials nor noise ceilings.
"""

from __future__ import annotations

import logging
import re
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentcortex._arrays import digest, listed
from latentcortex._images import ImageFiles
from latentcortex._npy import Matrix, read_npy
from latentcortex._ranges import Participants
from latentcortex.datasets import check_participants, responses_of_slice
from latentcortex.datasets._sampling import sampled_print
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import Responses
from latentcortex.space import Space, Surface, Unlocated
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

SIDES: Final = ("lh", "rh")
IMAGE: Final = re.compile(r"train-(\d+)_(nsd-\d+)\.png")


class Algonauts2023:
    """Responses and images of the training split of the Algonauts challenge of 2023.

    Parameters
    ----------
    root : str
        The folder that holds `subj01` and so on.
    participants : sequence of str
        Their labels, `01` to `08`.
    template : str
        Cortex that the masks of vertices are on; empty if its surfaces are not at hand: positions are unknown then.

    Raises
    ------
    InputError
        If the folder is missing.
    """

    def __init__(self, root: str, participants: Participants = ("01",), *, template: str = "fsaverage") -> None:
        self.root, self.template = Path(root), template
        if not self.root.is_dir():
            raise InputError(f"Dataset folder {self.root} is not there; check `root`.")
        self.participants = check_participants(participants)
        self._opened: dict[str, tuple[Matrix, Matrix]] = {}
        self._listed: dict[str, dict[str, Path]] = {}

    def _folder(self, participant: str) -> Path:
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there is {listed(map(repr, self.participants))}.")
        return self.root / f"subj{participant}"

    def _images(self, participant: str) -> dict[str, Path]:
        """List the images of a participant by id, in the order of the rows; their numbers say which row is whose."""
        if participant not in self._listed:
            folder = self._folder(participant) / "training_split" / "training_images"
            matches = [(IMAGE.fullmatch(path.name), path) for path in sorted(folder.glob("*.png"))]
            named = sorted((int(match[1]), match[2], path) for match, path in matches if match)
            n_rows = self._halves(participant)[0].shape[0]
            if [number for number, *_ in named] != list(range(1, n_rows + 1)):
                raise AlignmentError(
                    f"{folder} has {len(named)} images train-NNNN_nsd-NNNNN.png, the responses {n_rows} rows; expected "
                    f"one image for each, numbered from 1 to {n_rows}."
                )
            self._listed[participant] = {name: path for _, name, path in named}
        return self._listed[participant]

    def _halves(self, participant: str) -> tuple[Matrix, Matrix]:
        """Open the responses of both hemispheres."""
        if participant not in self._opened:
            folder = self._folder(participant) / "training_split" / "training_fmri"
            left, right = (Matrix.open(folder / f"{side}_training_fmri.npy") for side in SIDES)
            for half in (left, right):
                if len(half.shape) != 2 or half.dtype.kind != "f" or half.shape[0] != left.shape[0]:
                    raise AlignmentError(
                        f"{half.path} is {half.dtype}, {half.shape}; expected floating-point numbers (images, "
                        f"vertices), one row for each of {left.shape[0]} images."
                    )
            self._opened[participant] = left, right
            logger.warning(
                "Responses of the Algonauts challenge are averages over up to three trials, z-scored within sessions "
                "with all images: how often each was shown is not given, and a noise ceiling cannot be computed. Its "
                "test images have no responses."
            )
        return self._opened[participant]

    def stimuli(self) -> Stimuli:
        """Return the images that any of the participants saw, by their number in NSD."""
        paths = {name: path for one in self.participants for name, path in self._images(one).items()}
        table = pd.DataFrame({"captions": [()] * len(paths)}, index=pd.Index(list(paths), name="stimulus_id"))
        return Stimuli(table, ImageFiles(paths))

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the rows: one for each image, whose sessions and runs are not known."""
        names = list(self._images(participant))
        return pd.DataFrame({"stimulus": names, "session": "n/a", "run": "n/a", "n_repeats": 1})

    def space(self, participant: str) -> Space:
        """Return which vertices the columns are."""
        halves = self._halves(participant)
        if not self.template:
            return Unlocated(sum(half.shape[1] for half in halves))
        masks = [self._mask(participant, side, half) for side, half in zip(SIDES, halves, strict=True)]
        whole = np.concatenate(masks)
        surface = Surface(self.template)
        if len(whole) != surface.n_vertices:
            raise AlignmentError(
                f"Masks of vertices of participant {participant} are of {len(whole)} vertices, {self.template} has "
                f"{surface.n_vertices}; name the template that they are on."
            )
        return surface.select_voxels(np.flatnonzero(whole))

    def _mask(self, participant: str, side: str, half: Matrix) -> NDArray[np.bool_]:
        """Read which vertices of a hemisphere the columns are."""
        path = self._folder(participant) / "roi_masks" / f"{side}.all-vertices_fsaverage_space.npy"
        if not path.is_file():
            raise InputError(f"{path} is missing; expected 0 and 1 for each vertex, or template = '' in [dataset].")
        with path.open("rb") as handle:
            mask = read_npy(handle, size=path.stat().st_size, source=str(path))
        if mask.ndim != 1 or int((mask != 0).sum()) != half.shape[1]:
            raise AlignmentError(
                f"{path} is {mask.shape} with {int((mask != 0).sum())} vertices, {half.path} has {half.shape[1]} "
                "columns; expected one column for each vertex of the mask."
            )
        return np.asarray(mask != 0)

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the rows of consecutive vertices, left then right."""
        (left, right), space = self._halves(participant), self.space(participant)
        start, stop, _ = voxels.indices(space.n_voxels)
        n_left = left.shape[1]
        parts = [
            half.columns(low, high)
            for half, low, high in (
                (left, start, min(stop, n_left)),
                (right, max(start - n_left, 0), stop - n_left),
            )
            if high > low
        ]
        data = np.concatenate([np.asarray(part, dtype=np.float32) for part in parts], axis=1)
        return responses_of_slice(data, self.rows(participant), space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return no table: the challenge's region masks are not read."""
        return {}

    def probe(self) -> None:
        """Return None: no network comes with these images that reads attributes off them."""

    def methods(self, participant: str) -> str:
        """Write where the responses are from for a methods section."""
        return (
            "Responses are those of the Algonauts challenge of 2023 from the Natural Scenes Dataset [@allen2022]: "
            "amplitudes that were z-scored within sessions and averaged over up to three trials before they were "
            "released, so that trials and noise ceilings are not available."
        )

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}

    def fingerprint(self, participant: str) -> str:
        """Return a digest of samples of the responses, the masks, and of samples of the images."""
        if participant not in self._digests:
            images = [(name, sampled_print(path)) for name, path in self._images(participant).items()]
            halves = [sampled_print(half.path) for half in self._halves(participant)]
            self._digests[participant] = digest(participant, images, halves, repr(self.space(participant)))
        return self._digests[participant]
