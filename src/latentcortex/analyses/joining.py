"""What analyses share: a sample of voxels, and maps side by side."""

from __future__ import annotations

import numpy as np

from latentcortex.encoding import Cell, Cells, Piece, Sample, usable
from latentcortex.encoding.cells import Result
from latentcortex.encoding.chunks import SplitResponses, averaged, usable_voxels
from latentcortex.errors import InputError
from latentcortex.maps import Maps


def usable_sample(responses: SplitResponses, cells: Cells) -> Sample:
    """Look for the voxels that are usable, and choose some of them; raise `InputError` if there is none."""

    def valid(voxels: slice) -> Result:
        return {"valid": Piece({"valid": usable_voxels(averaged(responses.folds(voxels)))})}

    chunks = cells.chunks(responses.space.n_voxels)
    looked_at = [Cell(voxels, {"valid": f"{voxels.start}-{voxels.stop}"}) for voxels in chunks]
    found = np.concatenate([result["valid"].values["valid"] for result in cells.map(valid, looked_at, title="voxels")])
    if not found.any():
        for side in averaged(responses.folds(chunks[0]))[0]:
            usable(side)
    return Sample.of(responses, found)


def joined(parts: list[Maps]) -> Maps:
    """Put the columns of several maps of one space side by side."""
    if not parts:
        raise InputError("There is nothing to join: no model was run.")
    maps = parts[0]
    for more in parts[1:]:
        maps = maps.join(more)
    return maps
