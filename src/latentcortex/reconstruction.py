"""Decoded features -> images: every sample of every route, into folders that survive interruption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from latentcortex import _files
from latentcortex._arrays import digest
from latentcortex.datasets.folder import read_image
from latentcortex.errors import IncompleteError, InputError
from latentcortex.features import Features, aligned
from latentcortex.reconstructors import Reconstructor
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
FORMAT: Final = "latentcortex-reconstructions 1"
AT_ONCE: Final = 10
"""Stimuli between two looks at what is there already."""


def reconstruct(
    decoded: Features,
    reconstructor: Reconstructor,
    route: str,
    *,
    store: Path | str,
    ids: Sequence[str] | None = None,
    n_samples: int | None = None,
    progress: bool = True,
) -> Stimuli:
    """Reconstruct stimuli from decoded features by one route, or open them if this was done before.

    The images are written one by one, as PNG, into a folder named by what they depend on; a run that was killed
    goes on with the first that is missing. The folder's manifest, with the hash of each image, comes last.

    Parameters
    ----------
    decoded : Features
        From `Decoder.decode`.
    reconstructor : Reconstructor
        From `reconstructors.make`, fitted.
    route : str
        One of the reconstructor's.
    store : path
        Folder of such folders.
    ids : sequence of str, optional
        All decoded stimuli by default.
    n_samples : int, optional
        The reconstructor's own number by default; fewer are its first.
    progress : bool
        Draw a progress bar.

    Returns
    -------
    Stimuli
        Every sample, named `<stimulus>_sample-<k>` from 1 on; columns `stimulus` and `sample`.

    Raises
    ------
    InputError
        If the route is not known, or a band that it needs was not decoded.
    """
    names = tuple(ids) if ids is not None else decoded.ids
    aligned(decoded, names)
    needed = needed_bands(reconstructor, route, decoded.bands)
    own = reconstructor.n_samples(route)
    n = own if n_samples is None else min(own, n_samples)
    prints = [digest(decoded.array(band, names).tobytes()) for band in needed]
    made_by = {**reconstructor.made_by, "route": route, "n_samples": n}
    folder = Path(store) / f"{route}-{digest(FORMAT, names, needed, prints, made_by)[:16]}"
    if not _complete(folder):
        for start in tqdm(range(0, len(names), AT_ONCE), desc=f"reconstructing {route}", disable=not progress):
            here = names[start : start + AT_ONCE]
            paths = [[folder / _file(start + i, k) for k in range(n)] for i in range(len(here))]
            if all(path.is_file() for some in paths for path in some):
                continue
            latents = {band: decoded.array(band, here) for band in needed}
            images = reconstructor.reconstruct(route, latents, here, n)
            for path, image in zip(np.ravel(np.array(paths, dtype=object)), _flat(images), strict=True):
                _write_png(path, image)
        _finish(folder, names, n, made_by)
    return open_reconstructions(folder)


def needed_bands(reconstructor: Reconstructor, route: str, there: Sequence[str]) -> tuple[str, ...]:
    """Name the bands that a route needs; raise `InputError` if the route or one of the bands is not there."""
    if route not in reconstructor.routes:
        raise InputError(f"There is no route {route!r}; this reconstructor has {', '.join(reconstructor.routes)}.")
    needed = reconstructor.routes[route]
    missing = [band for band in needed if band not in there]
    if missing:
        raise InputError(f"Route {route} needs {' and '.join(missing)}; decoded are {', '.join(there) or 'none'}.")
    return needed


def open_reconstructions(folder: Path) -> Stimuli:
    """Open a finished folder of reconstructions.

    Raises
    ------
    IncompleteError
        If its manifest is missing.
    """
    if not (folder / MANIFEST).is_file():
        raise IncompleteError(f"{folder} has no {MANIFEST}: reconstruction did not finish; run it again.")
    table = _files.read_tsv(folder / "stimuli.tsv", needs=("stimulus_id", "stim_file", "stimulus", "sample"))
    table = table.set_index("stimulus_id")
    table["captions"] = pd.Series([()] * len(table), index=table.index, dtype=object)
    table["sample"] = table["sample"].astype(int)
    files = dict(zip(table.index, table["stim_file"], strict=True))
    return Stimuli(table, lambda name: read_image(folder / files[name]))


def _complete(folder: Path) -> bool:
    """Tell whether a folder is finished and whole; what does not match its hash is removed, to be made again."""
    if not (folder / MANIFEST).is_file():
        return False
    known = _files.read_json(folder / MANIFEST)["images"]
    paths = {folder / name: expected for name, expected in known.items()}
    damaged = [path for path, expected in paths.items() if not path.is_file() or _files.sha256(path) != expected]
    for path in damaged:
        logger.warning("%s is missing or does not match its hash; it is made again.", path)
        path.unlink(missing_ok=True)
    return not damaged


def _name(stimulus: str, k: int) -> str:
    return f"{stimulus}_sample-{k + 1}"


def _file(number: int, k: int) -> str:
    """Name a file by the number of its stimulus, since an id may hold what a file name may not."""
    return f"stimulus-{number + 1:05d}_sample-{k + 1}.png"


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images.reshape(-1, *images.shape[2:])


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    with _files.writing(path) as part, part.open("wb") as handle:
        Image.fromarray(image).save(handle, format="png")


def _finish(folder: Path, names: Sequence[str], n_samples: int, made_by: dict[str, Any]) -> None:
    rows = [
        {"stimulus_id": _name(name, k), "stim_file": _file(i, k), "stimulus": name, "sample": k + 1}
        for i, name in enumerate(names)
        for k in range(n_samples)
    ]
    with _files.writing(folder / "stimuli.tsv") as part:
        pd.DataFrame(rows).to_csv(part, sep="\t", index=False)
    hashes = {row["stim_file"]: _files.sha256(folder / str(row["stim_file"])) for row in rows}
    _files.write_json(folder / MANIFEST, {"format": FORMAT, "made_by": made_by, "images": hashes})
