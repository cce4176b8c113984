"""Draw the phantom's atlas: seven regions on fsaverage5, named like the streams of visual cortex.

    python training/phantom_atlas.py --to atlases/phantom

The regions are geometry, not anatomy: each is a band of fixed width round a path on the spherical surface,
and where two bands meet a gap parts them. The corners of the paths are places that we chose by eye. Nothing
is random and nothing was measured in a brain, so the files are ours to give away.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable, GiftiMetaData

from latentcortex import _surfaces
from latentcortex._arrays import FloatArray, IntArray
from latentcortex._files import sha256, write_json, write_text, writing

RADIUS = 100.0
"""Of fsaverage's sphere, in mm."""

GAP = 5.0
"""Between two regions, in mm on the sphere; neighbouring vertices are 4 mm apart."""


@dataclass(frozen=True)
class Region:
    """A band round a path.

    Parameters
    ----------
    name, colour : str
    width : float
        Half the width of the band, in mm on the sphere.
    path : tuple of (float, float, float)
        Corners of the path near the white surface: distance from the midline, anterior, superior, in mm.
    """

    name: str
    colour: str
    width: float
    path: tuple[tuple[float, float, float], ...]


REGIONS = (
    Region("early", "#0072B2", 32.0, ((12, -98, -2), (8, -84, 3), (12, -68, 6))),
    Region("midventral", "#56B4E9", 23.0, ((30, -76, -16), (20, -64, -8))),
    Region("midlateral", "#009E73", 24.0, ((34, -88, 2), (38, -84, 8))),
    Region("midparietal", "#F0E442", 23.0, ((26, -84, 24), (16, -82, 38))),
    Region("ventral", "#E69F00", 32.0, ((40, -56, -18), (34, -34, -22))),
    Region("lateral", "#D55E00", 39.0, ((46, -66, 8), (54, -50, 8))),
    Region("parietal", "#CC79A7", 38.0, ((26, -62, 46), (34, -44, 48))),
)


def along(path: FloatArray, n_points: int = 40) -> FloatArray:
    """Walk a path of corners (n_corners, 3) on the sphere in even steps: unit vectors (n, 3)."""
    steps = np.linspace(0.0, 1.0, n_points)[:, None]
    points = np.concatenate([(1 - steps) * a + steps * b for a, b in pairwise(path)])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def beyond(region: Region, side: int) -> FloatArray:
    """Measure how far outside a region's band each vertex (n_vertices,) of a hemisphere lies, in mm."""
    white, sphere = _surfaces.surface("white")[side], _surfaces.surface("sphere")[side]
    corners = np.array(region.path) * (-1.0 if side == 0 else 1.0, 1.0, 1.0)
    nearest = np.linalg.norm(white.coordinates[:, None] - corners, axis=2).argmin(axis=0)
    unit = sphere.coordinates / np.linalg.norm(sphere.coordinates, axis=1, keepdims=True)
    cosine = (unit @ along(unit[nearest]).T).max(axis=1)
    return RADIUS * np.arccos(np.clip(cosine, -1.0, 1.0)) - region.width


def labels(side: int) -> IntArray:
    """Label the vertices of a hemisphere, 1..7, or 0 where there is no region."""
    distance = np.stack([beyond(region, side) for region in REGIONS])
    first, second = np.sort(distance, axis=0)[:2]
    cortex = np.split(_surfaces.cortex(), 2)[side]
    within = (first < 0) & (second - first > GAP) & cortex
    return np.where(within, distance.argmin(axis=0) + 1, 0)


def write_gifti(path: Path, values: IntArray, hemisphere: str) -> None:
    """Write a GIFTI label file that says which hemisphere it is of."""
    table = GiftiLabelTable()
    for index, region in enumerate(("none", *REGIONS)):
        colour = "#00000000" if isinstance(region, str) else region.colour + "ff"
        red, green, blue, alpha = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5, 7))
        entry = GiftiLabel(index, red=red, green=green, blue=blue, alpha=alpha)
        entry.label = region if isinstance(region, str) else region.name
        table.labels.append(entry)
    array = GiftiDataArray(values.astype(np.int32), intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
    meta = GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{hemisphere}"})
    image = GiftiImage(darrays=[array], labeltable=table, meta=meta)
    with writing(path) as part:
        part.write_bytes(image.to_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path("atlases/phantom"))
    folder: Path = parser.parse_args().to
    names = [f"tpl-fsaverage_hemi-{letter}_atlas-phantom_den-10k_dseg.label.gii" for letter in "LR"]
    for side, (name, hemisphere) in enumerate(zip(names, ("Left", "Right"), strict=True)):
        write_gifti(folder / name, labels(side), hemisphere)
    rows = [f"{index}\t{region.name}\t{region.colour}" for index, region in enumerate(REGIONS, start=1)]
    write_text(folder / "atlas-phantom_dseg.tsv", "\n".join(["index\tname\tcolor", *rows]) + "\n")
    write_json(folder / "atlas.json", description(folder, [*names, "atlas-phantom_dseg.tsv"]))


def description(folder: Path, names: list[str]) -> dict[str, object]:
    """Say what the atlas is and what its files hash to."""
    return {
        "name": "phantom",
        "space": "fsaverage5",
        "licence": "CC0-1.0",
        "source": "made by the latentcortex authors",
        "method": "Bands of fixed width round hand-chosen paths on fsaverage's spherical surface, with a gap "
        "where two meet; see training/phantom_atlas.py. Geometry for tests and demonstrations: the names "
        "follow the streams of visual cortex, the borders follow no data.",
        "files": {name: {"sha256": sha256(folder / name)} for name in names},
    }


if __name__ == "__main__":
    main()
