"""Features that were made elsewhere, read from files: a row for each stimulus, a file for each band.

FOLDER/ids.txt (or ids.tsv with a column stimulus_id)   the stimulus of each row, in order
FOLDER/clip.npy                                         a band `clip`, (n_stimuli, ...), numbers
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import FloatArray, listed, positions, unique_ids, words
from latentcortex._npy import read_npy
from latentcortex._ranges import AnyNames
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError

logger = logging.getLogger(__name__)

IDS: Final = ("ids.tsv", "ids.txt")


class Precomputed:
    """Features that were made elsewhere: each file `BAND.npy` of a folder is a band, its rows named by `ids.tsv`.

    Parameters
    ----------
    folder : str
        Where the files are. `ids.tsv` has a column stimulus_id, or `ids.txt` an id on each line: the stimulus of each
        row of every file. Rows are found by id, never by place; those of other stimuli are not used.
    bands : sequence of str, optional
        Only these; by default all files, in the order of their names.

    Raises
    ------
    InputError
        If the folder, its ids or a band is not there, an id stands twice, or a file is no plain array of numbers.
    AlignmentError
        If a file has not one row for each id.
    """

    def __init__(self, *, folder: str, bands: AnyNames = ()) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"Folder {self.folder} of features is not there; check `folder` in [extractor].")
        files = sorted(path.stem for path in self.folder.glob("*.npy") if not _files.is_incidental(path))
        if not files:
            raise InputError(f"{self.folder} has no .npy file; expected one for each band.")
        self.bands = words("bands", bands) if bands else tuple(files)
        self.check(self.bands)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The stimulus of each row."""
        present = [self.folder / name for name in IDS if (self.folder / name).is_file()]
        if len(present) != 1:
            has = f"both {IDS[0]} and {IDS[1]}" if present else f"neither {IDS[0]} nor {IDS[1]}"
            raise InputError(f"{self.folder} has {has}; expected one: it says of which stimulus each row is.")
        path = present[0]
        if path.suffix == ".tsv":
            names = _files.read_tsv(path, needs=("stimulus_id",))["stimulus_id"].tolist()
        else:
            names = _files.read_text(path, expected="ids of stimuli, one a line").splitlines()
        return unique_ids(names, what=f"Ids in {path}")

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {band: self._read(band) for band in self.bands}

    def _read(self, band: str) -> NDArray[Any]:
        path = self.folder / f"{band}.npy"
        with path.open("rb") as handle:
            values = read_npy(handle, size=path.stat().st_size, source=str(path))
        if values.ndim < 2 or len(values) != len(self.ids):
            raise AlignmentError(
                f"{path} is {values.shape}, and {len(self.ids)} ids are given; expected (n_stimuli, n_dims), a row for "
                "each id."
            )
        if values.dtype != np.float32:
            logger.info("Features %s were cast from %s to float32.", band, values.dtype)
        return values.reshape(len(values), -1)

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on: the files."""
        hashes = {band: _files.sha256(self.folder / f"{band}.npy") for band in self.bands}
        return {"name": "precomputed", "version": 1, "ids": list(self.ids), "files": hashes}

    def methods(self, bands: Sequence[str] = ()) -> str:
        """Write for a methods section where these bands, or all, are from."""
        return (
            f"Features ({listed(bands or self.bands, 20)}) were used as they were given; how they were made is not "
            "recorded with them."
        )

    def check(self, bands: Sequence[str], captions: Sequence[tuple[str, ...]] | None = None) -> None:
        """Raise `InputError` for a band of which there is no file."""
        for band in bands:
            if not (self.folder / f"{band}.npy").is_file():
                raise unknown("band of precomputed", band, [path.stem for path in sorted(self.folder.glob("*.npy"))])

    def dims(self, bands: Sequence[str]) -> dict[str, int]:
        """Say the number of dimensions of each band."""
        return {band: self._arrays[band].shape[1] for band in bands}

    def extract_by_id(self, ids: Sequence[str], bands: Sequence[str]) -> dict[str, FloatArray]:
        """Take the rows of these stimuli; each band (n_stimuli, n_dims), float32.

        Raises
        ------
        AlignmentError
            If a stimulus has no row.
        """
        self.check(bands)
        rows = positions(self.ids, ids, what=f"stimuli of features in {self.folder}")
        return {band: self._arrays[band][rows].astype(np.float32) for band in bands}

    def extract(
        self,
        images: NDArray[np.uint8],
        captions: Sequence[tuple[str, ...]],
        pixel_hashes: Sequence[str],
        bands: Sequence[str],
    ) -> dict[str, FloatArray]:
        """Raise `InputError`: rows belong to ids, and nothing else says whose an image is."""
        raise InputError("Features that were made elsewhere are read by id, and are there for no other image.")
