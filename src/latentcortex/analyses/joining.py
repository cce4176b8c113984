"""What analyses share: a sample of voxels, and maps side by side."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from latentcortex._arrays import BoolArray
from latentcortex.encoding import Cell, Cells, Piece, Sample
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import SplitResponses, averaged, usable_voxels
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.responses import counting_lost, log_lost, none_usable

logger = logging.getLogger(__name__)


def usable_sample(responses: SplitResponses, cells: Cells, within: str = "session") -> Sample:
    """Choose some of the voxels that are usable; see `valid_voxels`."""
    return sample_of(responses, valid_voxels(responses, cells, within))


def sample_of(responses: SplitResponses, valid: BoolArray) -> Sample:
    """Choose some of the valid voxels; what z-scoring loses was told of when these were looked for."""
    with counting_lost():
        return Sample.of(responses, valid)


def valid_voxels(responses: SplitResponses, cells: Cells, within: str = "session") -> BoolArray:
    """Look for the voxels that are usable, (n_voxels,); say once how many z-scoring loses, or are partly measured.

    Parameters
    ----------
    responses : SplitResponses
    cells : Cells
    within : str
        Within what responses are z-scored.

    Raises
    ------
    InputError
        If no voxel is usable.
    """
    chunks = cells.chunks(responses.space.n_voxels)
    each = [Cell((responses, voxels), {"valid": f"{voxels.start}-{voxels.stop}"}) for voxels in chunks]
    results = cells.map(_validity, each, title="usable voxels")
    valid, partly = (np.concatenate([r["valid"].values[name] for r in results]) for name in ("valid", "partly"))
    of_chunks = [json.loads(result["lost"].values["json"].tobytes()) for result in results]
    for of_fold in zip(*of_chunks, strict=True):
        log_lost(sum(map(Counter, of_fold), Counter()), within)
    if (valid & partly).any():
        sentence = (
            "%d voxels were not measured in some sessions: a stimulus has the mean of its measured trials there, "
        )
        sentence += "and one without any the mean of the voxel's other stimuli."
        logger.info(sentence, int((valid & partly).sum()))
    if not valid.any():
        with counting_lost():
            _refuse(responses, chunks)
    return valid


def _refuse(responses: SplitResponses, chunks: Sequence[slice]) -> None:
    """Raise `InputError` if one side has no valid voxel: rows that are nan in all chunks are the likely reason."""
    n_valid, empty = [0, 0], [np.array(True), np.array(True)]
    for voxels in chunks:
        sides = averaged(responses.folds(voxels))[0]
        for number, side in enumerate(sides):
            n_valid[number] += int(side.valid().sum())
            empty[number] = empty[number] & np.isnan(side.data).all(1)
    for n, rows, side in zip(n_valid, empty, sides, strict=True):
        if not n:
            raise none_usable(responses.space.n_voxels, rows, side.rows)


def _validity(item: tuple[SplitResponses, slice]) -> Result:
    """Tell which voxels of a chunk are usable, and how many each fold loses by z-scoring."""
    responses, voxels = item
    with counting_lost() as lost:
        folds = responses.folds(voxels)
        valid = usable_voxels(averaged(folds))
    partly = np.zeros(len(valid), dtype=bool)
    for side in (side for sides in folds for side in sides):
        partly[side.partly_measured()] = True
    text = np.frombuffer(json.dumps(lost).encode(), dtype=np.uint8)
    return {"valid": Piece({"valid": valid, "partly": partly}), "lost": Piece({"json": text})}


def joined(parts: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not parts:
        raise InputError("There is nothing to join: no model was run.")
    maps = parts[0]
    for more in parts[1:]:
        maps = maps.join(more)
    return maps
