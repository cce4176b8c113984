"""Extraction of features: one pass over the images, into a store from which an interrupted run goes on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from latentcortex import _files
from latentcortex._arrays import FloatArray, digest, listed
from latentcortex._blocks import BLOCK, CHANGED, FORMAT, MANIFEST, REMEDY, block_key, write_manifest
from latentcortex._store import SUFFIX, Part, Store
from latentcortex.bands import Band
from latentcortex.errors import IncompleteError, InputError
from latentcortex.extractors import ById, Counting, Extractor, Sized, Windowed, Wordy
from latentcortex.features import SPREAD, Features
from latentcortex.stimuli import Stimuli, pixel_hash

logger = logging.getLogger(__name__)


def extract(
    stimuli: Stimuli,
    extractor: Extractor,
    *,
    bands: Sequence[str] | None = None,
    store: Path | str,
    progress: bool = True,
) -> Features:
    """Extract bands of features from stimuli, or open them if this was done before.

    The store is a folder named by what was asked: pixels, captions, weights, parameters, bands and version.
    Blocks are written whole, each with its hash in it, and the manifest last; a run that was killed goes on
    with the first block that is missing or damaged. So does one that finished: every block is compared with its hash,
    and one that is not as it was written is named in the log and made again.

    Parameters
    ----------
    stimuli : Stimuli
    extractor : Extractor
        From `extractors.make`.
    bands : sequence of str, optional
        All of the extractor's by default.
    store : path
        Folder of stores.
    progress : bool
        Draw a progress bar.

    Returns
    -------
    Features

    Raises
    ------
    InputError
        If a band is not known to the extractor, or a feature is not finite.
    """
    names = tuple(bands) if bands is not None else tuple(extractor.bands)
    for name in names:
        Band(name)
    extractor.check(names, stimuli.captions(stimuli.ids))
    made_by = {**extractor.made_by, "bands": list(names)}
    folder = _folder(stimuli, made_by, store)
    finished = opened(folder)
    if finished is not None:
        return finished
    _files.sweep(folder)
    _announce(folder, stimuli, extractor, names)
    _extract_into(folder, stimuli, extractor, names, made_by, progress)
    return Features.open(folder)


def predicted_bytes(extractor: Extractor, bands: Sequence[str], n_stimuli: int) -> int | None:
    """Predict how much a store will take on disk; None where the extractor does not know the width of its bands."""
    if not isinstance(extractor, Sized):
        return None
    return 4 * n_stimuli * sum(extractor.dims(bands).values())


def check_room(stimuli: Stimuli, extractor: Extractor, bands: Sequence[str], *, store: Path | str) -> None:
    """Raise `InputError` unless the features that are not extracted yet have room on the disk."""
    folder = _folder(stimuli, {**extractor.made_by, "bands": list(bands)}, store)
    if not (folder / MANIFEST).is_file():
        _announce(folder, stimuli, extractor, bands)


def _announce(folder: Path, stimuli: Stimuli, extractor: Extractor, bands: Sequence[str]) -> None:
    """Log how much will be computed and written and which captions are cut; refuse features that have no room."""
    cut = extractor.cut(stimuli.captions(stimuli.ids)) if isinstance(extractor, Windowed) else ""
    if cut:
        logger.warning("%s", cut)
    needed = predicted_bytes(extractor, bands, len(stimuli.ids))
    if needed is None:
        return
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(above).free + sum(f.stat().st_size for f in folder.glob(f"*{SUFFIX}"))
    rows = f", {extractor.n_rows(bands)} denoiser rows per stimulus" if isinstance(extractor, Counting) else ""
    logger.info("%d stimuli, %d bands: %.2f GB on disk%s.", len(stimuli.ids), len(bands), needed / 1e9, rows)
    if needed > free:
        raise InputError(
            f"The features need {needed / 1e9:.1f} GB, and {above} has {free / 1e9:.1f} GB free; ask for fewer bands, "
            "or pool or project layers."
        )


def is_extracted(stimuli: Stimuli, extractor: Extractor, *, store: Path | str) -> bool:
    """Tell whether a store holds all bands of an extractor already, so that `extract` would only open it."""
    return opened(_folder(stimuli, {**extractor.made_by, "bands": list(extractor.bands)}, store)) is not None


def _folder(stimuli: Stimuli, made_by: dict[str, Any], store: Path | str) -> Path:
    """Name the folder of a store by everything that its features depend on."""
    captions = stimuli.captions(stimuli.ids)
    key = digest(FORMAT, stimuli.pixel_hashes(), captions, stimuli.ids, made_by)[:16]
    return Path(store) / f"{made_by['name']}-{key}"


def _extract_into(
    folder: Path,
    stimuli: Stimuli,
    extractor: Extractor,
    bands: tuple[str, ...],
    made_by: dict[str, Any],
    progress: bool,
) -> None:
    store, hashes = Store(folder), dict[str, str]()
    dims: dict[str, int] = {}
    spread: dict[str, float] = {}
    for start in tqdm(range(0, len(stimuli.ids), BLOCK), desc="extracting", unit="block", disable=not progress):
        key, ids = block_key(start), stimuli.ids[start : start + BLOCK]
        part = _finished(store, key, bands, len(ids)) or _extract_block(store, key, stimuli, extractor, bands, ids)
        hashes[store.path(key).name] = _files.sha256(store.path(key))
        dims = {band: values.shape[1] for band, values in part.arrays.items()}
        spread = {band: spread.get(band, 0.0) + value for band, value in part.facts.get("spread", {}).items()}
    means = {band: value / len(stimuli.ids) for band, value in spread.items()}
    write_manifest(folder, stimuli.ids, dims, {**made_by, **({"spread": means} if means else {})}, hashes)


def opened(folder: Path) -> Features | None:
    """Open a store that is finished and whole; None where it is not, which the log tells if it was finished."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        features = Features.open(folder)
        verify(features)
    except IncompleteError as error:
        logger.warning("%s", error)
        return None
    return features


def _finished(store: Store, key: str, bands: Sequence[str], n_stimuli: int) -> Part | None:
    """Return a block that is there and whole, its bands mapped."""
    part = store.load(key, mmap=True)
    if part is None:
        return None
    if list(part.arrays) != list(bands) or any(
        values.dtype != np.float32 or values.ndim != 2 or len(values) != n_stimuli for values in part.arrays.values()
    ):
        logger.warning("%s holds other bands or stimuli and is computed again.", store.path(key))
        return None
    return part


def _extract_block(
    store: Store,
    key: str,
    stimuli: Stimuli,
    extractor: Extractor,
    bands: tuple[str, ...],
    ids: Sequence[str],
) -> Part:
    extracted = _extracted(stimuli, extractor, bands, ids)
    flat = {band: _checked(band, extracted[band], ids) for band in bands}
    spread = {band.removeprefix(SPREAD): values for band, values in extracted.items() if band.startswith(SPREAD)}
    facts = {"spread": {band: float(values.sum(dtype=np.float64)) for band, values in spread.items()}} if spread else {}
    store.save(key, flat, facts)
    return Part(dict(flat), facts)


def _extracted(
    stimuli: Stimuli, extractor: Extractor, bands: tuple[str, ...], ids: Sequence[str]
) -> dict[str, FloatArray]:
    """Ask an extractor for a few stimuli: by id, without images, or images of one size at a time."""
    if isinstance(extractor, ById):
        return extractor.extract_by_id(ids, bands)
    captions = stimuli.captions(ids)
    if not stimuli.has_images and isinstance(extractor, Wordy):
        return extractor.extract(np.empty((len(ids), 0, 0, 3), dtype=np.uint8), captions, [""] * len(ids), bands)
    sizes = [stimuli.load(name).shape for name in ids] if stimuli.any_size else []
    if len(set(sizes)) < 2:
        images = stimuli.images(ids)
        return extractor.extract(images, captions, [pixel_hash(image) for image in images], bands)
    merged: dict[str, FloatArray] = {}
    for size in dict.fromkeys(sizes):
        at = [i for i, one in enumerate(sizes) if one == size]
        images = stimuli.images([ids[i] for i in at])
        hashes = [pixel_hash(image) for image in images]
        for band, values in extractor.extract(images, [captions[i] for i in at], hashes, bands).items():
            _put(merged, band, at, values, len(ids))
    return merged


def _put(merged: dict[str, FloatArray], band: str, at: Sequence[int], values: FloatArray, n_stimuli: int) -> None:
    """Put the rows of images of one size in their places; raise `InputError` if a band is not as wide as before."""
    whole = merged.setdefault(band, np.empty((n_stimuli, *values.shape[1:]), dtype=values.dtype))
    if whole.shape[1:] != values.shape[1:]:
        raise InputError(
            f"Band {band} is {values.shape[1:]} for images of one size and {whole.shape[1:]} for those of another: "
            "this extractor does not resize images; bring them to one size."
        )
    whole[np.asarray(at)] = values


def _checked(band: str, values: FloatArray, ids: Sequence[str]) -> FloatArray:
    """Return a band as float32 (n_stimuli, n_dims); raise `InputError` if a value is not finite."""
    flat = np.asarray(values, dtype=np.float32).reshape(len(ids), -1)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        names = listed(np.array(ids)[~finite])
        raise InputError(f"Band {band} is not finite for {names}; compute in float32.")
    return flat


def verify(features: Features) -> None:
    """Compare every block of a store with its hash; raise `IncompleteError`, naming those that are not as they were."""
    damaged = features.damaged()
    if damaged:
        raise IncompleteError(f"{listed(damaged)} {CHANGED}; {REMEDY}.")
