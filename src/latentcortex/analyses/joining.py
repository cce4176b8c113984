"""What analyses share: a sample of voxels, and maps side by side."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from latentcortex.encoding import Cell, Cells, Piece, Sample, usable
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import SplitResponses, averaged, usable_voxels
from latentcortex.errors import InputError
from latentcortex.maps import Maps
from latentcortex.responses import counting_lost, tell_of_lost


def usable_sample(responses: SplitResponses, cells: Cells, within: str = "session") -> Sample:
    """Look for the voxels that are usable, and choose some of them; say once how many z-scoring loses.

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
    valid = np.concatenate([result["valid"].values["valid"] for result in results])
    of_chunks = [json.loads(result["lost"].values["json"].tobytes()) for result in results]
    for of_fold in zip(*of_chunks, strict=True):
        tell_of_lost(sum(map(Counter, of_fold), Counter()), within)
    if not valid.any():
        for side in averaged(responses.folds(chunks[0]))[0]:
            usable(side)
    with counting_lost():
        return Sample.of(responses, valid)


def _validity(item: tuple[SplitResponses, slice]) -> Result:
    """Tell which voxels of a chunk are usable, and how many each fold loses by z-scoring."""
    responses, voxels = item
    with counting_lost() as lost:
        valid = usable_voxels(averaged(responses.folds(voxels)))
    text = np.frombuffer(json.dumps(lost).encode(), dtype=np.uint8)
    return {"valid": Piece({"valid": valid}), "lost": Piece({"json": text})}


def joined(parts: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not parts:
        raise InputError("There is nothing to join: no model was run.")
    maps = parts[0]
    for more in parts[1:]:
        maps = maps.join(more)
    return maps
