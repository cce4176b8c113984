"""Features of stimuli in named bands, in a store on disk or in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from scipy import linalg

from latentcortex import _files
from latentcortex._arrays import (
    FloatArray,
    check_axes,
    digest,
    id_list,
    listed,
    numbers,
    positions,
    same_length,
    unique_ids,
    whole_number,
)
from latentcortex._blocks import BLOCK, CHANGED, MANIFEST, REMEDY, block_key, read_manifest, write_manifest
from latentcortex._kernel import products
from latentcortex._shelf import unknown
from latentcortex._store import Store
from latentcortex.bands import Band
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.executors import one_thread

logger = logging.getLogger(__name__)

SPREAD: Final = "spread."
"""Prefix of a band's name for the variance over seeds of each stimulus, summed over dimensions."""
COLUMNS_AT_ONCE: Final = 2048
"""Feature columns that are multiplied together, so that memory does not grow with a band's width."""


@dataclass(frozen=True, eq=False)
class Features:
    """Bands of features, one row per stimulus.

    Made by `extract`, `Features.open` or `Features.from_arrays`. It owns centring and scaling: estimators
    get Gram matrices that are centred and scaled on the ids that they are fitted on.

    Parameters
    ----------
    ids : tuple of str
        Stimulus ids.
    dims : dict
        Band -> n_dims.
    made_by : dict
        The extractor and its settings, as the store keeps them.
    folder : Path, optional
        The store; None where the bands are in memory.
    """

    ids: tuple[str, ...]
    dims: dict[str, int]
    made_by: dict[str, Any]
    folder: Path | None = None
    _blocks: tuple[tuple[str, str], ...] = ()
    _memory: dict[str, FloatArray] = field(default_factory=dict, repr=False)
    _grams: dict[object, FloatArray] = field(default_factory=dict, repr=False)
    _stored: tuple[str, ...] = ()
    _reduced: dict[str, BandReduction] = field(default_factory=dict, repr=False)
    _verified: set[str] = field(default_factory=set, repr=False)

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        bands = listed([f"{band} ({n_dims})" for band, n_dims in self.dims.items()], 6)
        return f"Features({len(self.ids)} stimuli, {len(self.dims)} bands: {bands}; by {self.made_by.get('name', '?')})"

    @classmethod
    def from_arrays(
        cls, ids: Sequence[str], bands: Mapping[str, FloatArray], *, made_by: Mapping[str, Any] | None = None
    ) -> Self:
        """Make features from arrays of shape (n_stimuli, n_dims); `made_by` is kept for the record.

        Raises
        ------
        AlignmentError
            If an array does not have one row per id.
        InputError
            If a value is not finite.
        """
        names = unique_ids(id_list("Stimulus ids", ids), what="Stimulus ids")
        memory = {}
        for band, array in bands.items():
            Band(band)
            values = numbers(f"Band {band}", array)
            check_axes(f"Band {band}", values.shape, "n_stimuli n_dims", {"n_stimuli": len(names)})
            with np.errstate(over="ignore"):
                memory[band] = np.array(values, dtype=np.float32)
        for band, values in memory.items():
            if not np.isfinite(values).all():
                n_infinite = int((~np.isfinite(values)).sum())
                raise InputError(f"Band {band} has {n_infinite} values that are not finite in float32.")
        dims = {band: values.shape[1] for band, values in memory.items()}
        return cls(names, dims, {"name": "arrays", **(made_by or {})}, None, (), memory)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a finished store. Each block is compared with its hash when it is first read.

        Raises
        ------
        IncompleteError
            If its manifest is missing, damaged or not that of a store, or a block is missing or too short for its
            bands; when a band is read, if a block is not as it was written.
        """
        manifest = read_manifest(folder)
        facts, ids, blocks = manifest.facts, tuple(manifest.facts["ids"]), tuple(manifest.files.items())
        for band in facts["dims"]:
            Band(band)
        return cls(ids, facts["dims"], facts["made_by"], folder, blocks, _stored=ids)

    def save(self, folder: Path) -> Features:
        """Write the bands to a store, the manifest last; return it opened.

        How bands were reduced is not written: weights of the opened store are those of its components.
        """
        if self._reduced:
            logger.warning("%s: how %s were reduced is not kept in a store.", folder, listed(self._reduced))
        blocks, store = {}, Store(folder)
        for start in range(0, len(self.ids), BLOCK):
            key, ids = block_key(start), self.ids[start : start + BLOCK]
            store.save(key, {band: self.array(band, ids) for band in self.bands})
            blocks[store.path(key).name] = _files.sha256(store.path(key))
        write_manifest(folder, self.ids, self.dims, self.made_by, blocks)
        return Features.open(folder)

    @property
    def bands(self) -> tuple[Band, ...]:
        """The names of the bands."""
        return tuple(map(Band, self.dims))

    @property
    def fitted_on(self) -> dict[str, tuple[str, ...]]:
        """Reduced band -> the stimuli that its components were fitted on."""
        return {band: reduction.fit_on for band, reduction in self._reduced.items() if band in self.dims}

    def seed_reliability(self, band: str) -> float | None:
        """Estimate the fraction of a band's variance over stimuli that does not depend on the noise that was drawn.

        One less the variance that averaging over seeds leaves, divided by the variance over stimuli, both summed over
        dimensions; at most 1, and possibly below 0 by chance. None where the band was made with one seed, or with none.
        """
        self._check(band)
        within = self.made_by.get("spread", {}).get(band)
        if within is None:
            return None
        values = self.array(band).astype(np.float64)
        return float(1 - within / self.made_by["n_seeds"] / values.var(axis=0, ddof=1).sum())

    def shape(self, band: str) -> tuple[int, int, int] | None:
        """Return the shape of a latent, (n_channels, height, width); None where the extractor did not record it."""
        shape = self.made_by.get("shapes", {}).get(Band(band).kind)
        return None if shape is None else (int(shape[0]), int(shape[1]), int(shape[2]))

    def same_source(self, other: Features) -> bool:
        """Tell whether all bands of the other lie in the same store, or are the same arrays."""
        if self.folder is not None:
            return self.folder == other.folder
        return all(self._memory.get(band) is other._memory.get(band, ()) for band in other.dims)

    def select_stimuli(self, ids: Sequence[str]) -> Features:
        """Take these stimuli, in this order."""
        rows = positions(self.ids, ids, what="stimulus ids")
        memory = {band: values[rows] for band, values in self._memory.items()}
        return replace(self, ids=tuple(ids), _memory=memory, _grams={})

    def select_bands(self, bands: Sequence[str]) -> Features:
        """Take these bands, in this order; they share the cache of Gram matrices."""
        for band in bands:
            self._check(band)
        dims = {band: self.dims[band] for band in bands}
        return replace(self, dims=dims)

    def array(self, band: str, ids: Sequence[str] | None = None) -> FloatArray:
        """Read one band, float32 (n_stimuli, n_dims)."""
        self._check(band)
        asked_ids = self.ids if ids is None else tuple(ids)
        if self.folder is None:
            return self._memory[band][positions(self.ids, asked_ids, what="stimulus ids")]
        rows = positions(self._stored, asked_ids, what="stimulus ids")
        values = np.empty((len(rows), self.dims[band]), dtype=np.float32)
        for k in np.unique(rows // BLOCK):
            in_block = rows // BLOCK == k
            values[in_block] = self._block(self.folder, k, band)[rows[in_block] % BLOCK]
        return values

    def _block(self, folder: Path, k: int, band: str) -> FloatArray:
        """Read one band of one block, whose hash is compared the first time; (n_stimuli, n_dims)."""
        name, expected = self._blocks[k]
        if name not in self._verified:
            if not _files.is_as_written(folder / name, expected):
                raise IncompleteError(f"{folder / name} {CHANGED}; {REMEDY}.")
            self._verified.add(name)
        part = Store(folder).load(block_key(k * BLOCK), names=[band])
        if part is None:
            raise IncompleteError(f"{folder / name} is damaged, or has no band {band}; {REMEDY}.")
        values: FloatArray = part.arrays[band]
        shape = (min(BLOCK, len(self._stored) - k * BLOCK), self.dims[band])
        if values.shape != shape or values.dtype != np.float32:
            raise IncompleteError(
                f"{folder / name} holds {band} as {values.dtype} of shape {values.shape}; expected float32 of {shape}: "
                f"{REMEDY}."
            )
        return values

    def damaged(self) -> list[Path]:
        """List the blocks that are not as they were written; each is compared with its hash only once."""
        if self.folder is None:
            return []
        unread = [(name, expected) for name, expected in self._blocks if name not in self._verified]
        changed = [name for name, expected in unread if not _files.is_as_written(self.folder / name, expected)]
        self._verified.update(name for name, _ in unread if name not in changed)
        return [self.folder / name for name in changed]

    @property
    def files(self) -> dict[Path, str]:
        """The files of the store and the hash of each as it was written; none where the bands are in memory."""
        if self.folder is None:
            return {}
        blocks = {self.folder / name: expected for name, expected in self._blocks}
        return {**blocks, self.folder / MANIFEST: _files.sha256(self.folder / MANIFEST)}

    @one_thread()
    def gram(
        self,
        band: str,
        ids: Sequence[str],
        others: Sequence[str],
        *,
        fit_on: Sequence[str],
        weights: FloatArray | None = None,
        scale: bool = True,
    ) -> FloatArray:
        """Compute the kernel between stimuli, centred and scaled on the stimuli that are fitted on.

        Columns are centred on their weighted mean over `fit_on`; the kernel is divided by its mean diagonal
        over `fit_on`, so that bands of any width weigh the same.

        Parameters
        ----------
        band : str
        ids, others : sequence of str
        fit_on : sequence of str
        weights : ndarray of shape (n_fit_on,), optional
            Trials behind each stimulus; 1 by default.
        scale : bool
            Whether the kernel is divided.

        Returns
        -------
        ndarray of float64, shape (len(ids), len(others))

        Raises
        ------
        InputError
            If the band is constant over `fit_on`.
        """
        w = np.ones(len(fit_on)) if weights is None else np.asarray(weights, dtype=np.float64)
        same_length(fit_on=fit_on, weights=w)
        full = self._full_gram(band)
        rows = positions(self.ids, ids, what="stimulus ids")
        columns = positions(self.ids, others, what="stimulus ids")
        fitted = positions(self.ids, fit_on, what="stimulus ids")
        w = w / w.sum()
        onto_mean = full[:, fitted] @ w
        mean_square = w @ onto_mean[fitted]
        size = float(np.mean(np.diag(full)[fitted] - 2 * onto_mean[fitted] + mean_square))
        if not size > 1e-12 * np.diag(full).max():
            raise InputError(
                f"Band {band} is constant over the {len(fitted)} stimuli that are fitted on and cannot tell them "
                "apart. Leave it out, or look at what it is made from, such as captions."
            )
        centred = full[np.ix_(rows, columns)] - onto_mean[rows][:, None] - onto_mean[columns] + mean_square
        return np.asarray(centred / size) if scale else centred

    @one_thread()
    def across(
        self,
        band: str,
        new: Features,
        ids: Sequence[str],
        *,
        fit_on: Sequence[str],
        weights: FloatArray | None = None,
        scale: bool = True,
    ) -> FloatArray:
        """Compute the kernel between stimuli of other features and the stimuli of these that are fitted on.

        Parameters
        ----------
        band : str
        new : Features
            They need not hold the stimuli that are fitted on.
        ids : sequence of str
            Stimuli of `new`.
        fit_on, weights, scale
            As in `gram`.

        Returns
        -------
        ndarray of float64, shape (len(ids), len(fit_on))
        """
        w = np.ones(len(fit_on)) if weights is None else np.asarray(weights, dtype=np.float64)
        same_length(fit_on=fit_on, weights=w)
        fitted, others = self.array(band, fit_on), new.array(band, ids)
        kernel, size = np.zeros((len(ids), len(fit_on))), 0.0
        for start in range(0, fitted.shape[1], COLUMNS_AT_ONCE):
            of_fitted, of_others = (x[:, start : start + COLUMNS_AT_ONCE].astype(np.float64) for x in (fitted, others))
            mean = w @ of_fitted / w.sum()
            of_fitted -= mean
            of_others -= mean
            size += float((of_fitted * of_fitted).sum()) / len(fit_on)
            kernel += of_others @ of_fitted.T
        return kernel / size if scale else kernel

    @one_thread()
    def reduce(self, n_dims: int, *, fit_on: Sequence[str], weights: FloatArray | None = None) -> Features:
        """Take the first principal components of each wider band, fitted on some stimuli only; exact.

        Components keep their variance (they are not whitened). `expanded` brings weights back.

        Parameters
        ----------
        n_dims : int
            Components to keep; a band with no more dimensions is left as it is.
        fit_on : sequence of str
            Training stimuli.
        weights : ndarray of shape (n_fit_on,), optional
            Trials behind each of them; 1 by default.

        Returns
        -------
        Features
            In memory.

        Raises
        ------
        InputError
            If a band has fewer components than were asked for.
        """
        whole_number("n_dims", n_dims, least=1)
        w = np.ones(len(fit_on)) if weights is None else np.asarray(weights, dtype=np.float64)
        memory, reduced = {}, dict(self._reduced)
        for band, width in self.dims.items():
            if width <= n_dims:
                memory[band] = self.array(band)
                continue
            kernel = self.gram(band, self.ids, fit_on, fit_on=fit_on, weights=w, scale=False)
            inner = kernel[positions(self.ids, fit_on, what="stimulus ids")] * np.sqrt(np.outer(w, w))
            values, vectors = linalg.eigh(inner, subset_by_index=[max(len(w) - n_dims, 0), len(w) - 1])
            if len(values) < n_dims or values[0] <= 1e-10 * values[-1]:
                n_components = int((values > 1e-10 * values[-1]).sum())
                raise InputError(
                    f"Band {band} has {n_components} components over {len(w)} stimuli; {n_dims} were asked for."
                )
            basis = np.sqrt(w)[:, None] * vectors[:, ::-1] / np.sqrt(values[::-1])
            memory[band] = (kernel @ basis).astype(np.float32)
            reduced[band] = BandReduction(self, tuple(fit_on), w, basis)
        made_by = {**self.made_by, "reduced_to": n_dims, "reduced_on": digest(*fit_on)}
        dims = {band: values.shape[1] for band, values in memory.items()}
        return Features(self.ids, dims, made_by, None, (), memory, {}, (), reduced)

    def expanded(self, band: str, weights: FloatArray) -> FloatArray:
        """Bring weights of a band (n_dims, n) back to its dimensions before it was reduced; else return them."""
        if band not in self._reduced:
            return weights
        return self._reduced[band].expanded(band, weights)

    def unreduced(self, band: str) -> Features:
        """Return the features that a band was reduced from; else these."""
        return self._reduced[band].features.unreduced(band) if band in self._reduced else self

    def _full_gram(self, band: str) -> FloatArray:
        """Compute the kernel between all stimuli once, in float64; any centring follows from it exactly."""
        if (band, self.ids) not in self._grams:
            read: Callable[[slice], FloatArray] = lambda rows: self.array(band, self.ids[rows])  # noqa: E731
            self._grams[band, self.ids], varies = products(read, len(self.ids))
            if not varies.all():
                facts = {"band": band, "n_constant": int((~varies).sum()), "n_dims": len(varies)}
                logger.info("%d of %d columns of band %s are the same for all stimuli and carry nothing.",
                            facts["n_constant"], facts["n_dims"], band, extra={"facts": facts})  # fmt: skip
        return self._grams[band, self.ids]

    def _check(self, band: str) -> None:
        """Raise `InputError` unless there is such a band."""
        if band not in self.dims:
            raise unknown("band", band, self.dims)


@dataclass(frozen=True, eq=False)
class BandReduction:
    """How a band was reduced: its components are the centred features of the fitted stimuli, times a basis.

    Parameters
    ----------
    features : Features
        The features before they were reduced.
    fit_on : tuple of str
    weights : ndarray of shape (n_fit_on,)
    basis : ndarray of shape (n_fit_on, n_components)
    """

    features: Features
    fit_on: tuple[str, ...]
    weights: FloatArray
    basis: FloatArray

    def expanded(self, band: str, weights: FloatArray) -> FloatArray:
        """Multiply the components, (n_dims, n_components), with weights (n_components, n)."""
        values = self.features.array(band, self.fit_on).astype(np.float64)
        values -= self.weights @ values / self.weights.sum()
        return self.features.expanded(band, np.asarray(values.T @ (self.basis @ weights)))


def aligned(features: Features, ids: Sequence[str]) -> None:
    """Raise `AlignmentError` unless every id has features."""
    with_features = set(features.ids)
    missing = [name for name in ids if name not in with_features]
    if missing:
        raise AlignmentError(f"{len(missing)} of {len(ids)} stimuli have no features: {listed(missing)}.")
