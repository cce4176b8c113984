"""Images and captions of the Natural Scenes Dataset."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files
from latentcortex.datasets import _hdf5
from latentcortex.datasets._nsd_design import INFO, N_IMAGES, Design, name_missing, stimulus_id
from latentcortex.datasets._nsd_release import Release
from latentcortex.errors import InputError
from latentcortex.stimuli import Image, Stimuli

logger = logging.getLogger(__name__)

IMAGES: Final = "nsd_stimuli.hdf5"
ARRAY: Final = "imgBrick"
N_CAPTIONS: Final = 5
"""Of each image; the few of COCO that have more keep the first."""


@dataclass(frozen=True)
class Images:
    """The images in their file, of which each is read when it is asked for.

    Parameters
    ----------
    path : Path
    """

    path: Path

    def check(self) -> None:
        """Raise `InputError` unless the file is there and holds 73,000 images."""
        with _hdf5.opened(self.path, expected="the images of NSD") as file:
            stored = _hdf5.array(file, ARRAY, self.path)
            if stored.ndim != 4 or stored.shape[0] != N_IMAGES or stored.shape[3] != 3 or stored.dtype != np.uint8:
                raise InputError(
                    f"{self.path}: {ARRAY} is {stored.dtype} {stored.shape}; expected uint8 ({N_IMAGES}, height, "
                    "width, 3)."
                )

    def __call__(self, name: str) -> Image:
        """Read an image, uint8 (height, width, 3)."""
        with _hdf5.opened(self.path, expected="the images of NSD") as file:
            return np.asarray(_hdf5.array(file, ARRAY, self.path)[int(name.removeprefix("nsd-"))])


def stimuli(design: Design, images: Sequence[int]) -> Stimuli:
    """Describe some images, by their rows of imgBrick, ascending.

    Raises
    ------
    InputError
        If the images were not downloaded.
    """
    release, load = design.release, Images(design.release.stimuli / IMAGES)
    load.check()
    ids = [stimulus_id(image) for image in images]
    table = pd.DataFrame({"captions": [()] * len(ids)}, index=pd.Index(ids, name="stimulus_id"))
    info = design.info
    if info is None:
        name_missing(release.experiment / INFO, "images have no captions and no id of COCO")
        return Stimuli(table, load)
    rows = info.iloc[list(images)]
    table["captions"] = captions(release, rows)
    for column, given in (("coco_id", "cocoId"), ("coco_split", "cocoSplit"), ("flagged", "flagged")):
        table[column] = rows[given].astype(str).to_numpy()
    return Stimuli(table, load)


def captions_path(release: Release, coco_split: str) -> Path:
    """Return where the captions of one split of COCO lie."""
    return release.stimuli / "annotations" / f"captions_{coco_split}.json"


def captions(release: Release, rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Find the captions of images: by their id of COCO, in the file of the split that they are from.

    Parameters
    ----------
    rows : DataFrame of length n_images
        `cocoId` and `cocoSplit`.

    Returns
    -------
    list of tuple of str
        The first five of each, in the order of the file; none where the file was not downloaded.

    Raises
    ------
    InputError
        If a file is not what it must be.
    """
    out: list[tuple[str, ...]] = [()] * len(rows)
    for coco_split in sorted(set(rows["cocoSplit"])):
        path = captions_path(release, coco_split)
        at = np.flatnonzero(rows["cocoSplit"] == coco_split)
        if not path.is_file():
            name_missing(path, f"{len(at)} images have no captions")
            continue
        spoken = _of_coco(path, {int(one) for one in rows["cocoId"].iloc[at]})
        for k in at:
            out[k] = tuple(spoken.get(int(rows["cocoId"].iloc[k]), ()))[:N_CAPTIONS]
        fewer = sum(len(out[k]) < N_CAPTIONS for k in at)
        more = sum(len(one) > N_CAPTIONS for one in spoken.values())
        for n, said in ((fewer, "fewer than"), (more, "more than")):
            if n:
                logger.info("%d images have %s %d captions in %s.", n, said, N_CAPTIONS, path.name)
    return out


def _of_coco(path: Path, wanted: set[int]) -> dict[int, list[str]]:
    """Read the captions of some images; all others are dropped while the file is read."""
    spoken: defaultdict[int, list[str]] = defaultdict(list)

    def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
        if "annotations" in entry:
            return entry
        image, caption = entry.get("image_id"), entry.get("caption")
        if isinstance(image, int) and image in wanted and isinstance(caption, str):
            spoken[image].append(" ".join(caption.split()))
        return None

    _files.refuse_pointer(path)
    try:
        with _files.naming(path), path.open(encoding="utf-8") as handle:
            content = json.load(handle, object_hook=keep)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {str(error).rstrip('.')}. Download it again.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} has no `annotations`; expected the captions of COCO 2017.")
    return spoken
