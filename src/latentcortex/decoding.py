"""Responses -> features: encoding read backwards, from a participant's voxels to the bands of a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np

from latentcortex import scoring
from latentcortex._arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    fingerprint,
    listed,
    positions,
    random_for,
    whole_number,
)
from latentcortex._files import telling_of
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators import without_warnings
from latentcortex.estimators.banded_ridge import ALPHAS, BandedRidge
from latentcortex.features import Features, aligned
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Space, Unlocated
from latentcortex.splits import Splits

logger = logging.getLogger(__name__)

Regions = Mapping[str, Sequence[str]]
ROIS: Final[dict[str, dict[str, tuple[str, ...]]]] = {"takagi2023": {"z": ("early",), "c": ("ventral",)}}
"""Presets: band -> regions of the atlas `streams` that it is decoded from."""


class Decoder:
    """Ridge regression from voxels to every dimension of each band.

    Averaged responses are centred on their weighted mean over training stimuli. Each dimension has an
    intercept and a penalty of its own, chosen by cross-validation in which equal stimuli share a fold.

    Parameters
    ----------
    rois : str or dict, optional
        Band -> names of regions, or the name of a preset in `ROIS`. Without it every band is decoded from all
        voxels.
    atlas : Atlas, optional
        Where those regions are.
    n_voxels : int
        Of the voxels of a band, take those that the band itself predicts best in cross-validation within the
        training stimuli; 0 takes all. The penalty is chosen on the voxels that were taken.
    alphas : sequence of float
        Penalties to choose from.
    cv : int
        Folds, for the penalty and for the choice of voxels.
    seed : int
        For the folds.

    Raises
    ------
    InputError
        If a preset is not known, or regions are named without an atlas.

    References
    ----------
    Takagi and Nishimoto (2023), doi:10.1109/CVPR52729.2023.01389, for the preset; unlike theirs, this ridge has
    an intercept and averages repeats.
    """

    def __init__(
        self,
        rois: str | Regions | None = None,
        *,
        atlas: Atlas | None = None,
        n_voxels: int = 0,
        alphas: Sequence[float] = ALPHAS,
        cv: int = 5,
        seed: int = 0,
    ) -> None:
        self.rois, self.atlas = regions_of(rois), atlas
        if self.rois and atlas is None:
            raise InputError(f"Decoding from {listed(self.rois)} by region needs an atlas; give one, or no rois.")
        self.n_voxels = whole_number("n_voxels", n_voxels, least=0)
        self.alphas, self.cv, self.seed = alphas, cv, seed
        self._models: dict[str, tuple[IntArray, BandedRidge, FloatArray]] = {}
        self.warned: set[str] = set()

    def __repr__(self) -> str:
        """Say what it is, in one line."""
        places = "; ".join(f"{band} from {listed(names)}" for band, names in self.rois.items()) or "all voxels"
        fitted = f"{listed(self._models)} fitted" if self._models else "not fitted"
        return f"Decoder({places}, {fitted})"

    @property
    def made_by(self) -> dict[str, Any]:
        """What the decoded features depend on, beside the data."""
        return {
            "name": "decoder",
            "version": 1,
            "rois": {band: list(names) for band, names in self.rois.items()},
            "atlas": f"{self.atlas.name} {fingerprint(self.atlas.labels)[:16]}" if self.atlas else "",
            "n_voxels": self.n_voxels,
            "alphas": [float(alpha) for alpha in self.alphas],
            "cv": self.cv,
            "seed": self.seed,
        }

    def methods(self) -> str:
        """Write how features were decoded for a methods section."""
        where = "; ".join(f"{band} from {', '.join(names)}" for band, names in self.rois.items()) or "all voxels"
        published = ", the regions of @takagi2023" if self.rois and self.rois == regions_of("takagi2023") else ""
        best = f", at most the {self.n_voxels} that the band predicts best" if self.n_voxels else ""
        return (
            f"Features were decoded by ridge regression from averaged responses ({where}{published}{best}, within the "
            "training stimuli), with an intercept and a penalty per dimension chosen by "
            f"{self.cv}-fold cross-validation that groups identical images."
        )

    def check(self, groups: Sequence[str], n_bands: Sequence[int] = ()) -> None:
        """Raise `InputError` unless training stimuli of these groups, one name each, fill the folds."""
        self._ridge.check(groups, n_bands)

    @property
    def _ridge(self) -> BandedRidge:
        model = BandedRidge(alphas=self.alphas, selection="kfold", cv=self.cv, seed=self.seed)
        model.warned = self.warned  # one warning for all bands
        return model

    def candidates(self, band: str, space: Space, valid: BoolArray) -> IntArray:
        """List the valid voxels of the regions that a band is decoded from.

        Raises
        ------
        InputError
            If there is none, the table has no such band, or the responses have no known position.
        """
        voxels: IntArray = np.arange(len(valid))
        if self.rois:
            if band not in self.rois:
                raise unknown("band of the regions' table", band, self.rois)
            if self.atlas is None or isinstance(space, Unlocated):
                raise InputError("Responses have no known position: decode without `rois`.")
            voxels = self.atlas.voxels(space, self.rois[band])
        voxels = voxels[valid[voxels]]
        if len(voxels) == 0:
            raise InputError(f"No valid voxel to decode {band} from.")
        return voxels

    def fit(
        self,
        features: Features,
        train: Responses,
        *,
        groups: Mapping[str, str] | None = None,
        usable: BoolArray | None = None,
    ) -> Self:
        """Fit one ridge per band on averaged responses, weighted by how many trials they average.

        Parameters
        ----------
        features : Features
            Each of its bands is decoded.
        train : Responses
        groups : dict, optional
            Stimulus id -> group; stimuli of one group (the same image under two ids) share a fold.
        usable : ndarray of bool, shape (n_voxels,), optional
            Use no other voxels, for example only those that are finite in the responses to be decoded.

        Raises
        ------
        AlignmentError
            If a stimulus has no features.
        InputError
            If a band has no regions in the table, or no voxel is valid.
        """
        averaged = train.averaged()
        aligned(features, averaged.ids)
        shared = [groups[name] for name in averaged.ids] if groups is not None else list(averaged.ids)
        valid = averaged.valid() if usable is None else averaged.valid() & usable
        self._models = {}
        for band in features.bands:
            voxels = self._best(
                self.candidates(band, averaged.space, valid), features.select_bands([band]), averaged, shared
            )
            model = self._ridge
            x, latents = {f"responses (decoding {band})": averaged.data[:, voxels]}, features.array(band, averaged.ids)
            model.fit(x, latents, sample_weight=averaged.n_repeats, groups=_told(shared, averaged))
            # A dimension that does not vary has no model, and is decoded as its value.
            self._models[band] = voxels, model, np.where(np.isnan(model.offset_), latents[0], np.nan)
            logger.info("%s is decoded from %d of %d voxels.", band, len(voxels), len(valid))
        return self

    def decode(self, responses: Responses) -> Features:
        """Decode the bands of each stimulus from its averaged responses.

        Raises
        ------
        AlignmentError
            If a voxel that was fitted is not finite here.
        """
        averaged = responses.averaged()
        bands = {}
        for band, (voxels, model, constant) in self._models.items():
            x = averaged.data[:, voxels]
            if not np.isfinite(x).all():
                bad = int((~np.isfinite(x).all(0)).sum())
                raise AlignmentError(f"{bad} of the {len(voxels)} voxels that {band} is decoded from are not finite.")
            bands[band] = np.where(np.isnan(constant), model.predict({model.bands[0]: x}), constant)
        return Features.from_arrays(averaged.ids, bands, made_by=self.made_by)

    def _best(self, voxels: IntArray, band: Features, train: Responses, groups: Sequence[str]) -> IntArray:
        """Take the voxels that one band predicts best, ascending; training stimuli only."""
        if not self.n_voxels or self.n_voxels >= len(voxels):
            return voxels
        y, predicted = train.data[:, voxels], np.empty((len(train.ids), len(voxels)))
        for fitted, held_out in Splits.k_fold(train.ids, self.cv, groups=groups, seed=self.seed):
            rows, others = (positions(train.ids, ids) for ids in (fitted, held_out))
            shared: dict[str, Any] = {"fit_on": fitted, "weights": train.n_repeats[rows]}
            inner, across = ({b: band.gram(b, ids, fitted, **shared) for b in band.dims} for ids in (fitted, held_out))
            model = without_warnings(BandedRidge(alphas=self.alphas, cv=self.cv, seed=self.seed))
            with telling_of(control="fits that choose voxels"):
                told = _told([groups[i] for i in rows], train)
                model.fit_gram(inner, y[rows], sample_weight=train.n_repeats[rows], groups=told)
            predicted[others] = model.predict_gram(across).sum(0) + model.offset_
        r = scoring.correlation(y, predicted)
        return np.sort(voxels[np.argsort(-np.nan_to_num(r, nan=-2), kind="stable")[: self.n_voxels]])


def _told(groups: Sequence[str], train: Responses) -> Sequence[str] | None:
    """Name the groups of rows to an estimator, unless all differ and the order is that of time, which may tell more."""
    return None if train.in_time and len(set(groups)) == len(groups) else groups


def regions_of(rois: str | Regions | None) -> dict[str, tuple[str, ...]]:
    """Look up a preset, or check a table of regions; empty for all voxels.

    Examples
    --------
    >>> regions_of("takagi2023")
    {'z': ('early',), 'c': ('ventral',)}
    """
    if not rois:
        return {}
    if isinstance(rois, str):
        if rois not in ROIS:
            raise unknown("preset of rois", rois, ROIS)
        return dict(ROIS[rois])
    for band, names in rois.items():
        if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f"Band {band} needs a list of regions, for example ['early']; got {names!r}.")
    return {band: tuple(names) for band, names in rois.items()}


def decode_held_out(
    make_decoder: Callable[[], Decoder],
    features: Features,
    parts: Iterable[tuple[Responses, Responses]],
    *,
    groups: Mapping[str, str] | None = None,
) -> Features:
    """Decode the test stimuli of each fold with a decoder that was fitted on its training stimuli.

    Parameters
    ----------
    make_decoder : callable
        Makes a fresh decoder.
    features : Features
        Their bands are decoded.
    parts : iterable of (train, test)
        The responses of each fold; no stimulus may be in both of a pair, or in two test sets.
    groups : dict, optional
        See `Decoder.fit`.
    """
    decoded: list[Features] = []
    warned: set[str] = set()
    for train, test in parts:
        both = sorted(set(train.ids) & set(test.ids))
        if both:
            raise InputError(f"{len(both)} stimuli to decode were fitted on: {listed(both)}.")
        finite = np.asarray(np.isfinite(test.data).all(0))
        decoder = make_decoder()
        decoder.warned = warned  # and for all folds
        decoded.append(decoder.fit(features, train, groups=groups, usable=finite).decode(test))
    ids = [name for part in decoded for name in part.ids]
    bands = {band: np.concatenate([part.array(band) for part in decoded]) for band in decoded[0].dims}
    return Features.from_arrays(ids, bands, made_by=decoded[0].made_by)


def shuffled(parts: Iterable[tuple[Responses, Responses]], *, seed: int) -> Iterator[tuple[Responses, Responses]]:
    """Exchange averaged responses between stimuli, train and test each for itself: a brain that knows no image.

    Training responses alone would not do: a decoder fitted on noise is still one fixed map, and what it makes of
    true test responses, which have few dimensions, can lie systematically nearer to or further from the truth.
    """
    for k, pair in enumerate(parts):
        train, test = (
            _exchanged(part, random_for(seed, "shuffled", k, name))
            for part, name in zip(pair, ("train", "test"), strict=True)
        )
        yield train, test


def _exchanged(responses: Responses, rng: np.random.Generator) -> Responses:
    averaged = responses.averaged()
    names = [averaged.ids[i] for i in rng.permutation(len(averaged.ids))]
    return Responses(averaged.data, averaged.rows.assign(stimulus=names), averaged.space)
