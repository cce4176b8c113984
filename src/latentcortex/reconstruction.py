"""Decoded features -> images: every sample of every route, into folders that survive interruption."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from latentcortex import _files
from latentcortex._arrays import digest, fingerprint
from latentcortex._images import read_image
from latentcortex._store import Manifest
from latentcortex.errors import IncompleteError, InputError
from latentcortex.features import Features, aligned
from latentcortex.reconstructors import Reconstructor
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

MANIFEST: Final = "manifest.json"
FORMAT: Final = "latentcortex-reconstructions 2"
FILE: Final = re.compile(r"\d{5,}_stimulus-[A-Za-z0-9]*_sample-\d+\.png|stimuli\.tsv")
"""What the files of a folder are called."""
COLUMNS: Final = {"stimulus_id", "stim_file", "stimulus", "sample"}
REMEDY: Final = "`latentcortex reconstruct` makes it anew"
AT_ONCE: Final = 10
"""Stimuli that are made, and found again, together."""


def reconstruct(
    decoded: Features,
    reconstructor: Reconstructor,
    route: str,
    *,
    store: Path | str,
    ids: Sequence[str] | None = None,
    n_samples: int | None = None,
    progress: bool = True,
    note: Callable[[Mapping[Path, str]], None] | None = None,
) -> Stimuli:
    """Reconstruct stimuli from decoded features by one route, or open them if this was done before.

    The images are PNG files in a folder named by what they depend on. A few stimuli at a time are written, and
    then their hashes; a run that was killed goes on with the first that are missing or damaged. The folder's
    manifest comes last.

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
    note : callable, optional
        Called with the files of the folder and the hash of each, when all are there.

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
    n_of_route = reconstructor.n_samples(route)
    n = n_of_route if n_samples is None else min(n_of_route, n_samples)
    prints = [fingerprint(decoded.array(band, names)) for band in needed]
    made_by = {**reconstructor.made_by, "route": route, "n_samples": n}
    folder = Path(store) / f"{route}-{digest(FORMAT, names, needed, prints, made_by)[:16]}"
    if not _complete(folder):
        _files.sweep(folder)
        hashes: dict[str, str] = {}
        for start in tqdm(range(0, len(names), AT_ONCE), desc=f"reconstructing {route}", disable=not progress):
            batch = names[start : start + AT_ONCE]
            files = [_file(start + i, name, k) for i, name in enumerate(batch) for k in range(n)]
            part = folder / f"part-{start // AT_ONCE + 1:04d}.json"
            if not _whole(part, files):
                latents = {band: decoded.array(band, batch) for band in needed}
                _write_part(part, files, reconstructor.reconstruct(route, latents, batch, n))
            hashes |= _manifest(part).files
        _finish(folder, names, n, hashes, made_by)
    if note is not None:
        note(_manifest(folder / MANIFEST).hashes())
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
    """Open a finished folder of reconstructions. Each image is compared with its hash when it is read.

    Raises
    ------
    IncompleteError
        If its manifest is missing or damaged; when an image is read, if it is missing or not as it was written.
    """
    manifest = _manifest(folder / MANIFEST)
    table = pd.DataFrame(manifest.facts["reconstructions"]).set_index("stimulus_id")
    table["captions"] = pd.Series([()] * len(table), index=table.index, dtype=object)
    files = dict(zip(table.index, table["stim_file"], strict=True))

    def load(name: str) -> NDArray[np.uint8]:
        path = folder / files[name]
        if not _files.is_as_written(path, manifest.files[path.name]):
            raise IncompleteError(f"{path} is missing or does not match its hash; {REMEDY}.")
        return read_image(path)

    return Stimuli(table, load)


def _manifest(path: Path) -> Manifest:
    """Read a manifest, or that of a part, whose names must be those of files beside it."""
    kind = f"that of a folder of reconstructions; {REMEDY}"
    manifest = Manifest.read(path, FORMAT, what=kind)
    files, rows = manifest.files, manifest.facts.get("reconstructions", [])
    if not (
        all(FILE.fullmatch(name) for name in files)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and set(row) == COLUMNS and row["stim_file"] in files for row in rows)
    ):
        raise IncompleteError(f"{path} is not {kind}.")
    return manifest


def _complete(folder: Path) -> bool:
    """Tell whether a folder is finished and every file in it is as it was written."""
    return _whole(folder / MANIFEST)


def _whole(path: Path, names: Sequence[str] = ()) -> bool:
    """Tell whether a manifest is there and all files that it lists, these among them, match their hashes."""
    if not path.is_file():
        return False
    try:
        manifest = _manifest(path)
    except IncompleteError as error:
        logger.warning("%s It is made again.", error)
        return False
    damaged = manifest.damaged()
    for file in damaged:
        logger.warning("%s is missing or does not match its hash; it is made again.", file)
    return not damaged and set(names) <= set(manifest.files)


def _file(number: int, stimulus: str, k: int) -> str:
    """Name a file by the number of its stimulus, and by what its id has that a file name may hold."""
    safe = "".join(letter for letter in stimulus if letter.isascii() and letter.isalnum())[:40]
    return f"{number + 1:05d}_stimulus-{safe}_sample-{k + 1}.png"


def _write_part(part: Path, files: Sequence[str], images: NDArray[np.uint8]) -> None:
    """Write some images (n_stimuli, n_samples, height, width, 3), and last their hashes."""
    for name, image in zip(files, images.reshape(-1, *images.shape[2:]), strict=True):
        with _files.writing(part.parent / name) as path, path.open("wb") as handle:
            Image.fromarray(image).save(handle, format="png")
    Manifest(part, FORMAT, {name: _files.sha256(part.parent / name) for name in files}).write()


def _finish(
    folder: Path, names: Sequence[str], n_samples: int, hashes: dict[str, str], made_by: dict[str, Any]
) -> None:
    """Write the table, as other datasets have it, and the manifest."""
    rows = [
        {"stimulus_id": f"{name}_sample-{k + 1}", "stim_file": _file(i, name, k), "stimulus": name, "sample": k + 1}
        for i, name in enumerate(names)
        for k in range(n_samples)
    ]
    _files.write_text(folder / "stimuli.tsv", _files.as_tsv(pd.DataFrame(rows)))
    files = {**hashes, "stimuli.tsv": _files.sha256(folder / "stimuli.tsv")}
    Manifest(folder / MANIFEST, FORMAT, files, {"made_by": made_by, "reconstructions": rows}).write()
