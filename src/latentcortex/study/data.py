"""The data of one run of a study: stimuli, trials, responses, splits and features, each read once and kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from latentcortex import datasets
from latentcortex._arrays import TILE, BoolArray, FloatArray, listed
from latentcortex._profiling import StageTimer
from latentcortex.analyses import SHELF as ANALYSES
from latentcortex.analyses import Analysis
from latentcortex.checking import Alike, of_copies, of_equal_pixels, of_near_features
from latentcortex.encoding import Criterion
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.extraction import extract
from latentcortex.features import Features
from latentcortex.responses import COLUMNS, Responses, none_usable, sample_valid_voxels
from latentcortex.space import LISTED_REGIONS, Atlas, Space, Unlocated
from latentcortex.splits import Splits, coordinates
from latentcortex.stimuli import ImageFingerprint, Stimuli
from latentcortex.study.provenance import Provenance
from latentcortex.study.splitting import embedding_band, split

if TYPE_CHECKING:
    from latentcortex.study import Study

logger = logging.getLogger(__name__)

CHUNK_VOXELS: Final = 8 * TILE
"""Voxels that are read together in a pass over all."""


class StudyData:
    """The data of one run of a study into one folder.

    Parameters
    ----------
    study : Study
    out : Path
        Folder for results.
    progress : bool
        Draw progress bars.

    Attributes
    ----------
    dataset, extractor
        Those that the study names.
    participants : tuple of str
    stimuli : Stimuli
        Those that any participant saw, in the order of the dataset's table.
    provenance : Provenance
        What all of it is made from, as digests.
    timer : StageTimer
    early_log : list of LogRecord
        What was logged while the study was read, before its folder, and so its log, may be written.
    """

    def __init__(self, study: Study, out: Path, progress: bool) -> None:
        self.study, self.settings, self.out, self.progress = study, study.settings, out, progress
        self.dataset, self.extractor = study.dataset(), study.extractor()
        self.participants: tuple[str, ...] = self.dataset.participants
        self.provenance, self.timer = Provenance(self), StageTimer()
        self.early_log: list[logging.LogRecord] = []
        self._rows: dict[str, pd.DataFrame] = {}
        self._spaces: dict[str, Space] = {}
        self._valid: dict[str, BoolArray] = {}
        self._samples: dict[str, Responses] = {}
        self._splits: dict[tuple[str, bool], Splits] = {}
        self._embeddings: dict[tuple[str, tuple[str, ...]], FloatArray] = {}
        self._reduced: dict[tuple[str, ...], Features] = {}
        self._alike: dict[tuple[tuple[str, ...], bool], Alike] = {}
        self._warned: set[str] = set()
        self._atlas: tuple[Space, Atlas] | None = None
        self.stimuli = self._shown(self.dataset.stimuli())

    def _shown(self, stimuli: Stimuli) -> Stimuli:
        """Leave out the stimuli that no participant saw; raise `AlignmentError` for trials of any other."""
        shown = {name for participant in self.participants for name in self.rows(participant)["stimulus"]}
        missing = sorted(shown.difference(stimuli.ids))
        if missing:
            raise AlignmentError(
                f"{len(missing)} of {len(shown)} stimuli of the trials are not among the stimuli: {listed(missing)}."
            )
        n_unseen = len(stimuli.ids) - len(shown)
        if n_unseen:
            sentence = "%d of %d stimuli were shown to no participant of this study and are left out."
            logger.info(sentence, n_unseen, len(stimuli.ids))
        return stimuli.select_stimuli([name for name in stimuli.ids if name in shown]) if n_unseen else stimuli

    # Trials and voxels of a participant

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials of a participant; see `datasets.Dataset.rows`."""
        if participant not in self._rows:
            rows = self.dataset.rows(participant)
            Responses.without_voxels(rows)  # which refuses rows that lack a column
            self._rows[participant] = rows
        return self._rows[participant]

    def trials(self, participant: str) -> Responses:
        """Take the trials of a participant without any voxel, for all that rows alone tell."""
        return Responses.without_voxels(self.rows(participant)[list(COLUMNS)])

    def ids(self, participant: str) -> tuple[str, ...]:
        """List the stimuli that a participant saw, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.rows(participant)["stimulus"]))

    def space(self, participant: str) -> Space:
        """Say where all voxels of a participant are."""
        if participant not in self._spaces:
            self._spaces[participant] = self.dataset.space(participant)
        return self._spaces[participant]

    def atlas_name(self, participant: str) -> str:
        """Name the atlas of the report as `Atlas.find` takes it: the folder of one that the dataset brings."""
        name, dataset = self.settings.report.atlas, self.dataset
        own = dataset.atlas_folder(participant, name) if name and isinstance(dataset, datasets.WithAtlases) else None
        return str(own) if own else name

    def atlas(self, participant: str) -> Atlas | None:
        """Find the atlas of the report, if one is named; the last one is kept.

        Raises
        ------
        InputError
            If the voxels have no known position.
        """
        space = self.space(participant)
        if not self.settings.report.atlas:
            return None
        if isinstance(space, Unlocated):
            regions = self._listed_regions(participant)
            if regions is not None:
                return regions
            raise InputError(
                "`atlas` in [report] needs voxels of known position: give `template` or `mask` in [dataset], or "
                "no atlas; regions that a table lists by voxel are the atlas 'voxels'."
            )
        if self._atlas is None or self._atlas[0] is not space:
            self._atlas = space, Atlas.find(self.atlas_name(participant), space)
        return self._atlas[1]

    def _listed_regions(self, participant: str) -> Atlas | None:
        """Return the regions that the dataset lists for voxels without a position, if [report] asks for these."""
        dataset, is_asked_for = self.dataset, self.settings.report.atlas == LISTED_REGIONS
        return dataset.regions(participant) if is_asked_for and isinstance(dataset, datasets.WithRegions) else None

    def reader(self, participant: str) -> Callable[[slice], Responses]:
        """Make what reads the trials of some voxels, and holds nothing else, so that other processes may be sent it."""
        stimuli, n_voxels = self.rows(participant)["stimulus"], self.space(participant).n_voxels
        return partial(datasets.read_voxels, self.dataset, participant, stimuli, n_voxels)

    def all_voxels(self, participant: str) -> Responses:
        """Read all voxels, chunk by chunk, for a step that needs them together: memory grows with them."""
        read, rows, space = self.reader(participant), self.rows(participant)[list(COLUMNS)], self.space(participant)
        amplitudes, chosen_on = np.empty((len(rows), space.n_voxels), dtype=np.float32), dict[str, None]()
        for voxels in _chunks(space.n_voxels):
            chunk = read(voxels)
            amplitudes[:, voxels] = chunk.data
            chosen_on |= dict.fromkeys(chunk.chosen_on)
        return Responses(amplitudes, rows, space, tuple(chosen_on))

    def valid(self, participant: str) -> BoolArray:
        """Tell which voxels are finite and vary, (n_voxels,), in one pass over the responses that is made once.

        Raises
        ------
        InputError
            If no voxel is.
        """
        if participant not in self._valid:
            read, rows, n_voxels = self.reader(participant), self.rows(participant), self.space(participant).n_voxels
            valid, empty_trials = np.zeros(n_voxels, dtype=bool), np.ones(len(rows), dtype=bool)
            for voxels in _chunks(n_voxels):
                chunk = read(voxels)
                valid[voxels] = chunk.valid()
                empty_trials &= np.isnan(chunk.data).all(1)
            if not valid.any():
                raise none_usable(n_voxels, empty_trials, rows)
            n_invalid = int((~valid).sum())
            if n_invalid:
                logger.info("%d of %d voxels have a nan or do not vary: they are nan.", n_invalid, n_voxels)
            self._valid[participant] = valid
        return self._valid[participant]

    def sample(self, participant: str) -> Responses:
        """Read some valid voxels all over, from which is decided what holds for all; see `sample_valid_voxels`.

        They are read once and kept: a few thousand at most, however many voxels there are.
        """
        if participant not in self._samples:
            read, sampled = self.reader(participant), sample_valid_voxels(self.valid(participant))
            amplitudes, chosen_on = [], dict[str, None]()
            for in_tile in np.split(sampled, np.flatnonzero(np.diff(sampled // TILE)) + 1):
                start, stop = int(in_tile[0]), int(in_tile[-1]) + 1
                part = read(slice(start, stop))
                amplitudes.append(part.data[:, in_tile - start])
                chosen_on |= dict.fromkeys(part.chosen_on)
            rows, space = self.rows(participant)[list(COLUMNS)], self.space(participant).select_voxels(sampled)
            self._samples[participant] = Responses(np.concatenate(amplitudes, axis=1), rows, space, tuple(chosen_on))
        return self._samples[participant]

    # Which stimuli count as one, and who is fitted and tested on

    @cached_property
    def fingerprints(self) -> dict[str, ImageFingerprint]:
        """Stimulus id -> what identifies its image, and what its copies share."""
        return self.stimuli.fingerprints()

    def alike(self, ids: Sequence[str]) -> Alike:
        """Find the stimuli that are as good as one: by their images and, once features are there, by these too."""
        by_features = self._has_features
        key = tuple(ids), by_features
        if key not in self._alike:
            bands = list(dict.fromkeys(band for model in self.models for band in model))
            near = of_near_features(self.features, bands, ids) if by_features else []
            by_images = self._alike.get((key[0], False))
            same = by_images.same if by_images else of_equal_pixels(self.fingerprints, ids)
            self._alike = {key: Alike(same, by_images.copies if by_images else of_copies(self.fingerprints, ids), near)}
        return self._alike[key]

    def groups(self, ids: Sequence[str]) -> dict[str, str]:
        """Name the group of each stimulus: those that are as good as one are never parted, and are exchanged together.

        The one grouping of folds, of their permutations, of a decoder's inner folds and of `check`; an estimator groups
        the rows that it is given by their features in the same way.
        """
        return dict(zip(ids, self.alike(ids).groups(ids), strict=True))

    def splits(self, participant: str) -> Splits:
        """Say which stimuli are fitted and tested on: folds, or one held-out test set; see `splitting.split`."""
        key = participant, self._has_features
        if key not in self._splits:
            self._splits[key] = split(self, participant)
        return self._splits[key]

    def embedding(self, ids: Sequence[str]) -> FloatArray:
        """Lay stimuli out by the band that [splits] names, (n_stimuli, n_dims); the last embedding is kept."""
        key = embedding_band(self), tuple(ids)
        if key not in self._embeddings:
            self._embeddings = {key: coordinates(self.features.gram(key[0], ids, ids, fit_on=ids))}
        return self._embeddings[key]

    # Features and models

    @property
    def _has_features(self) -> bool:
        """Whether this run has extracted its features already, or opened them."""
        return "features" in vars(self)

    @cached_property
    def features(self) -> Features:
        """The features of all stimuli, which are extracted if they are not there."""
        store, bands = self.out / "features", self.extractor.bands
        with self.timer.measure("extract"):
            return extract(self.stimuli, self.extractor, bands=bands, store=store, progress=self.progress)

    def fitted_features(self, train_ids: Sequence[str]) -> Features:
        """Take the features as models get them: reduced, if that is asked for, with components of these stimuli."""
        n_dims, ids = self.settings.analyses.n_dims, tuple(train_ids)
        if not n_dims:
            return self.features
        if ids not in self._reduced:
            self._reduced = {ids: self.features.reduce(n_dims, fit_on=ids)}
        return self._reduced[ids]

    @property
    def analyses(self) -> list[Analysis]:
        """The analyses that are asked for, with their models."""
        return self.study.analyses(self.extractor.bands)

    @property
    def figures(self) -> dict[str, tuple[str, ...]]:
        """The figures that each analysis of the study names."""
        return {name: tuple(ANALYSES.find(name).figures) for name in self.settings.analyses.run}

    @property
    def models(self) -> list[tuple[str, ...]]:
        """The bands of every model of all analyses."""
        return [model for analysis in self.analyses for model in analysis.models]

    def estimator(self) -> Any:
        """Make an estimator that does not warn again of what an earlier one of this run has warned of."""
        estimator = self.study.estimator()
        if isinstance(estimator, BandedRidge):
            estimator.warned = self._warned
        return estimator

    @property
    def criterion(self) -> Criterion:
        """How predictions are judged."""
        tests = self.settings.inference.model_dump(exclude={"twin"})
        return Criterion(shares=self.settings.analyses.shares, **tests, seed=self.study.seed)


def _chunks(n_voxels: int) -> list[slice]:
    """Cut all voxels into those that are read together."""
    return [slice(start, min(start + CHUNK_VOXELS, n_voxels)) for start in range(0, n_voxels, CHUNK_VOXELS)]
