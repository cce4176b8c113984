"""Regions of the Natural Scenes Dataset as the folder of an atlas, so that a report finds them by name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import nibabel as nib
import numpy as np
from nibabel.gifti.gifti import GiftiDataArray, GiftiImage
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import digest, fingerprint
from latentcortex._nifti import packed
from latentcortex.datasets._nsd_regions import Regions
from latentcortex.space import Surface, Volume

SOURCE: Final = "The Natural Scenes Dataset (Allen et al., 2022): research and education, no redistribution"


def write_atlas(regions: Regions, name: str, space: Volume | Surface, n_left: int, scratch: Path) -> Path:
    """Write regions as `space.Atlas.find` reads them, once; return the folder.

    Parameters
    ----------
    regions : Regions
    name : str
        Of the ROI.
    space : Volume or Surface
        Of the voxels, which says what the regions are on.
    n_left : int
        Vertices of the left hemisphere; of a volume not asked for.
    scratch : Path
        Where such folders lie, each under a hash of what is in it.
    """
    place = space.reference if isinstance(space, Volume) else _named(space.template)
    key = digest("atlas of nsd", name, place, fingerprint(regions.labels), sorted(regions.names.items()))[:32]
    folder = scratch / key / name
    if (folder / "atlas.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"atlas-{''.join(letter for letter in name if letter.isalnum())}"
    lines = ["index\tname", *(f"{label}\t{region}" for label, region in sorted(regions.names.items()))]
    _files.write_text(folder / f"{stem}_dseg.tsv", "\n".join(lines) + "\n")
    files = {f"{stem}_dseg.nii.gz": _volume(regions)} if regions.affine is not None else {}
    if regions.affine is None:
        sides = {"L": regions.labels[:n_left], "R": regions.labels[n_left:]}
        files = {f"hemi-{side}_{stem}_dseg.label.gii": _side(labels) for side, labels in sides.items()}
    for file, content in files.items():
        with _files.writing(folder / file) as part:
            part.write_bytes(content)
    _files.write_json(folder / "atlas.json", {"name": name, "space": place, "source": SOURCE})
    return folder


def _named(template: str) -> str:
    """Name a surface as atlases do: a template, or a subject's folder by its own name."""
    return template if template == "fsaverage" else Path(template).resolve().name


def _volume(regions: Regions) -> bytes:
    image = nib.Nifti1Image(regions.labels.astype(np.int16), None)
    image.set_sform(regions.affine, code=1)
    return packed(image)


def _side(labels: NDArray[np.intp]) -> bytes:
    values = GiftiDataArray(labels.astype(np.int32), intent="NIFTI_INTENT_LABEL")
    return bytes(GiftiImage(darrays=[values]).to_bytes())
