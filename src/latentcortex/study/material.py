"""What both halves of a study work on: stimuli, responses, who is on which side, and features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

import latentcortex
from latentcortex import checking, datasets, reporting
from latentcortex._arrays import TILE, BoolArray, FloatArray, digest, listed, refuse_beyond_memory
from latentcortex._shelf import unknown
from latentcortex._watch import Stages
from latentcortex.analyses import SHELF as ANALYSES
from latentcortex.analyses import Analysis, StimulusCounts
from latentcortex.checking import Alike, Design, of_copies, of_equal_pixels, of_near_features
from latentcortex.encoding import Criterion
from latentcortex.errors import AlignmentError, InputError
from latentcortex.estimators import Checkable, Nesting
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.extraction import check_room, extract, is_extracted
from latentcortex.extractors import Windowed
from latentcortex.features import Features
from latentcortex.reporting import LOG
from latentcortex.responses import COLUMNS, Responses, Within, none_usable, sample_valid_voxels
from latentcortex.space import Atlas, Bare, Space, atlas_print
from latentcortex.splits import Splits, clusters_of, coordinates, farthest, linked, sessions_of
from latentcortex.stimuli import Look, Stimuli
from latentcortex.study.schema import Settings

if TYPE_CHECKING:
    from latentcortex.study import Study

logger = logging.getLogger(__name__)

CHUNK: Final = 8 * TILE
"""Voxels that are looked at together in a pass over all."""


class Material:
    """The data of one run of a study into one folder.

    Parameters
    ----------
    study : Study
    out : Path
        Folder for results.
    progress : bool
        Draw progress bars.
    """

    def __init__(self, study: Study, out: Path, progress: bool) -> None:
        self.study, self.out, self.progress = study, out, progress
        self.stages = Stages()
        self.noticed: list[logging.LogRecord] = []
        """What the log is to say once it may be begun, of what was read to see whether there is anything to do."""
        self.dataset = study.dataset()
        self.extractor = study.extractor()
        self._rows: dict[str, pd.DataFrame] = {}
        self._spaces: dict[str, Space] = {}
        self._valid: dict[str, BoolArray] = {}
        self._samples: dict[str, Responses] = {}
        self._splits: dict[tuple[str, bool], Splits] = {}
        self.stimuli: Stimuli = self._seen(self.dataset.stimuli())
        self._places: dict[tuple[str, tuple[str, ...]], FloatArray] = {}
        self._narrow: dict[tuple[str, ...], Features] = {}
        self._alike: dict[tuple[tuple[str, ...], bool], Alike] = {}
        self._warned: set[str] = set()
        self._atlas: tuple[Space, Atlas] | None = None

    def key(self, sections: Sequence[str]) -> str:
        """Hash everything that results depend on, when these sections are what they depend on."""
        settings = self.depends(sections)
        made_by = self.extractor.made_by, self.extractor.bands, self._atlas_print
        return digest(latentcortex.__version__, settings, self.study.seed, self._prints, made_by)

    @property
    def sources(self) -> dict[str, str]:
        """Name what the key is a hash of beside the settings, each with its value or hash."""
        return {
            "run.seed": str(self.study.seed),
            "the data": digest(self._prints),
            "the model or its bands": digest(self.extractor.made_by, self.extractor.bands),
            "the atlas": self._atlas_print,
            "the version of latentcortex": latentcortex.__version__,
        }

    @cached_property
    def _atlas_print(self) -> str:
        """Hash of the atlas's files; where the responses are is looked up only for one of the participants' own."""
        spaces = (self.space(name) for name in self.participants)
        return atlas_print(self.settings.report.atlas, spaces)

    def depends(self, sections: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Take the settings that numbers depend on out of these sections; how figures look is none of them."""
        return self.settings.depended_on(sections)

    @cached_property
    def _prints(self) -> list[str]:
        """Hashes of what each participant's responses are made from; whole files are read for them."""
        return [self.dataset.fingerprint(name) for name in self.participants]

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels of the participants."""
        names: tuple[str, ...] = self.dataset.participants
        return names

    @property
    def settings(self) -> Settings:
        """The study's."""
        return self.study.settings

    @property
    def zscore(self) -> Within:
        """Within what responses are z-scored."""
        return self.settings.responses.zscore

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Stimulus id -> what identifies its image, and what its copies share."""
        return self.stimuli.looks()

    def alike(self, ids: Sequence[str]) -> Alike:
        """Find the stimuli that are as good as one: by their images and, once features are there, by these too."""
        key = tuple(ids), "features" in vars(self)
        if key not in self._alike:
            near = of_near_features(self.features, self._modelled, ids) if key[1] else []
            images = self._alike.get((key[0], False))
            same = images.same if images else of_equal_pixels(self.looks, ids)
            self._alike = {key: Alike(same, images.copies if images else of_copies(self.looks, ids), near)}
        return self._alike[key]

    def groups(self, ids: Sequence[str]) -> dict[str, str]:
        """Name the group of each stimulus: those that are as good as one are never parted, and are exchanged together.

        The one grouping of folds, of their permutations, of a decoder's inner folds and of `check`; an estimator groups
        the rows that it is given by their features in the same way.
        """
        return dict(zip(ids, self.alike(ids).groups(ids), strict=True))

    def estimator(self) -> Any:
        """Make an estimator; what one of them has warned of, the next one does not warn of again."""
        model = self.study.estimator()
        if isinstance(model, BandedRidge):
            model.warned = self._warned
        return model

    @property
    def analyses(self) -> list[Analysis]:
        """The analyses that are asked for, with their models."""
        return self.study.analyses(self.extractor.bands)

    @property
    def models(self) -> list[tuple[str, ...]]:
        """The bands of every model of all analyses."""
        return [model for analysis in self.analyses for model in analysis.models]

    @property
    def _modelled(self) -> list[str]:
        """The bands that any analysis fits."""
        return list(dict.fromkeys(band for model in self.models for band in model))

    @cached_property
    def features(self) -> Features:
        """Extract the features, or open them."""
        with self.stages.watch("extract"):
            return extract(
                self.stimuli,
                self.extractor,
                bands=self.extractor.bands,
                store=self.out / "features",
                progress=self.progress,
            )

    def fitted_features(self, train_ids: Sequence[str]) -> Features:
        """Take the features as models get them: reduced, if that is asked for, with components of these stimuli."""
        n_dims, ids = self.settings.analyses.n_dims, tuple(train_ids)
        if not n_dims:
            return self.features
        if ids not in self._narrow:
            self._narrow = {ids: self.features.reduce(n_dims, fit_on=ids)}
        return self._narrow[ids]

    @property
    def diffusion(self) -> bool:
        """Whether features come from a latent diffusion model."""
        return self.settings.extractor.name == "ldm"

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on, and how much of each band does not depend on the noise that was drawn."""
        reliable = {band: self.features.seed_reliability(band) for band in self.features.bands}
        known = {band: round(value, 3) for band, value in reliable.items() if value is not None}
        more = {"dims": self.features.dims, **({"model": self.extractor.model} if self.diffusion else {})}
        return {**self.extractor.made_by, **more, **({"seed_reliability": known} if known else {})}

    @property
    def extracted(self) -> bool:
        """Whether the features are there already."""
        return is_extracted(self.stimuli, self.extractor, store=self.out / "features")

    def check_features(self) -> None:
        """Check that every band can be extracted, and look at every image."""
        self.extractor.check(self.extractor.bands, self.stimuli.captions(self.stimuli.ids))
        _ = self.looks

    def _seen(self, stimuli: Stimuli) -> Stimuli:
        """Take the stimuli that any participant saw, in the order of the table."""
        seen = {name for one in self.participants for name in self.rows(one)["stimulus"]}
        missing = sorted(seen.difference(stimuli.ids))
        if missing:
            raise AlignmentError(
                f"{len(missing)} of {len(seen)} stimuli of the trials are not among the stimuli: {listed(missing)}."
            )
        n_unseen = len(stimuli.ids) - len(seen)
        if n_unseen:
            sentence = "%d of %d stimuli were shown to no participant of this study and are left out."
            logger.info(sentence, n_unseen, len(stimuli.ids))
        return stimuli.select_stimuli([name for name in stimuli.ids if name in seen]) if n_unseen else stimuli

    def rows(self, participant: str) -> pd.DataFrame:
        """Describe the trials of a participant; see `datasets.Dataset.rows`."""
        if participant not in self._rows:
            rows = self.dataset.rows(participant)
            Responses.of_rows(rows)  # which refuses rows that lack a column
            self._rows[participant] = rows
        return self._rows[participant]

    def trials(self, participant: str) -> Responses:
        """Take the trials of a participant without any voxel, for all that rows alone tell."""
        return Responses.of_rows(self.rows(participant)[list(COLUMNS)])

    def space(self, participant: str) -> Space:
        """Say where all voxels of a participant are."""
        if participant not in self._spaces:
            self._spaces[participant] = self.dataset.space(participant)
        return self._spaces[participant]

    def reader(self, participant: str) -> Callable[[slice], Responses]:
        """Make what reads the trials of some voxels of a participant, and nothing else: it may be sent elsewhere."""
        stimuli, n_voxels = self.rows(participant)["stimulus"], self.space(participant).n_voxels
        return partial(datasets.read, self.dataset, participant, stimuli, n_voxels)

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Read the trials of some voxels of a participant; only a step that goes by chunk asks for more than a few."""
        return self.reader(participant)(voxels)

    def all_voxels(self, participant: str) -> Responses:
        """Read all voxels, chunk by chunk, for a step that needs them together: memory grows with them."""
        rows, space = self.rows(participant)[list(COLUMNS)], self.space(participant)
        data, chosen_on = np.empty((len(rows), space.n_voxels), dtype=np.float32), dict[str, None]()
        for voxels in _chunks(space.n_voxels):
            part = self.responses(participant, voxels)
            data[:, voxels] = part.data
            chosen_on |= dict.fromkeys(part.chosen_on)
        return Responses(data, rows, space, tuple(chosen_on))

    def valid(self, participant: str) -> BoolArray:
        """Tell which voxels are finite and vary, (n_voxels,), in one pass over the responses that is made once.

        Raises
        ------
        InputError
            If no voxel is.
        """
        if participant not in self._valid:
            n_voxels, rows = self.space(participant).n_voxels, self.rows(participant)
            valid, empty = np.zeros(n_voxels, dtype=bool), np.ones(len(rows), dtype=bool)
            for voxels in _chunks(n_voxels):
                chunk = self.responses(participant, voxels)
                valid[voxels] = chunk.valid()
                empty &= np.isnan(chunk.data).all(1)
            if not valid.any():
                raise none_usable(n_voxels, empty, rows)
            n_lost = int((~valid).sum())
            if n_lost:
                logger.info("%d of %d voxels have a nan or do not vary: they are nan.", n_lost, n_voxels)
            self._valid[participant] = valid
        return self._valid[participant]

    def sample(self, participant: str) -> Responses:
        """Read some valid voxels all over, from which is decided what holds for all; see `sample_valid_voxels`.

        They are read once and kept: a few thousand at most, however many voxels there are.
        """
        if participant not in self._samples:
            chosen, space = sample_valid_voxels(self.valid(participant)), self.space(participant)
            parts, chosen_on = [], dict[str, None]()
            for own in np.split(chosen, np.flatnonzero(np.diff(chosen // TILE)) + 1):
                start = int(own[0])
                part = self.responses(participant, slice(start, int(own[-1]) + 1))
                parts.append(part.data[:, own - start])
                chosen_on |= dict.fromkeys(part.chosen_on)
            rows, data = self.rows(participant)[list(COLUMNS)], np.concatenate(parts, axis=1)
            self._samples[participant] = Responses(data, rows, space.select_voxels(chosen), tuple(chosen_on))
        return self._samples[participant]

    def check_splits(self, participant: str) -> None:
        """Check that there is something to fit on and to test on, in every fold."""
        trials = self.trials(participant)
        for train_ids, test_ids in self.splits(participant):
            trials.split(test_ids=test_ids, train_ids=train_ids, zscore=self.zscore)

    def check_fits(self, participant: str, model: object) -> None:
        """Check that an estimator or decoder can be fitted here, in every fold; one that cannot tell is let pass."""
        if isinstance(model, Checkable):
            groups, n_bands = self.groups(self.ids(participant)), sorted({len(bands) for bands in self.models})
            for train_ids, _ in self.splits(participant):
                model.check([groups[name] for name in train_ids], n_bands)

    def ids(self, participant: str) -> tuple[str, ...]:
        """List the stimuli that a participant saw, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self.rows(participant)["stimulus"]))

    def check_room(self) -> None:
        """Check that the features have room on the disk, if they are not extracted yet."""
        check_room(self.stimuli, self.extractor, self.extractor.bands, store=self.out / "features")

    def refuse(self, participant: str, *, extracted: bool = False) -> None:
        """Refuse a design that breaks a grave rule, as far as one knows it without features, or with them."""
        checking.refuse(self.design(participant, extracted=extracted), self.study.allowed)

    def check_refits(self) -> None:
        """Check that the estimator can refit the models of some bands, if that is asked for, and the embedding."""
        asked, embedding = self.settings.analyses, self.settings.splits.embedding
        joint = any(len(model) > 1 for model in self.models)
        if set(asked.shares) - {"product"} and not joint:
            raise InputError(
                f"`shares` in [analyses] are between bands of one model; {listed(asked.run)} fit one band each. "
                "Add an analysis such as 'noise-levels' to `run`, or set shares = ['product']."
            )
        refits = any(one.refits_nested for one in self.analyses) or set(asked.shares) - {"product"}
        if refits and not isinstance(self.study.estimator(), Nesting):
            name = self.settings.estimator.name
            raise InputError(f"{name} does not refit models without a band; use banded_ridge, or shares = ['product'].")
        if embedding and embedding not in self.extractor.bands:
            raise unknown("band in [splits]: embedding", embedding, self.extractor.bands)

    def check_analyses(self, participant: str) -> None:
        """Check that there are enough stimuli for components, and for the analyses that split them anew."""
        asked, splits, n = self.settings.analyses, self.settings.splits, len(self.ids(participant))
        refuse_beyond_memory("n_permutations in [inference]", self.settings.inference.n_permutations, 16 * n)
        has_test_set = not (self.by_embedding or self.across_folds)  # before features are extracted
        n_train = len(self.splits(participant).folds[0].train) if has_test_set else n
        if asked.n_dims >= n_train:
            raise InputError(
                f"{n_train} training stimuli have at most {n_train - 1} components; n_dims in [analyses] is "
                f"{asked.n_dims}."
            )
        if splits.unit == "cluster" and splits.n_clusters >= n:
            raise InputError(
                f"{n} stimuli make fewer than {n} clusters; n_clusters in [splits] is {splits.n_clusters}."
            )
        for analysis in self.analyses:
            analysis.check(StimulusCounts(n, n_train if has_test_set else None, splits.n_clusters))

    def design(self, participant: str, *, extracted: bool) -> Design:
        """Put together what the linter looks at."""
        if extracted:
            _ = self.features  # by which stimuli may be alike, and share a fold
        splits, unit = self.splits(participant), self.settings.splits.unit
        return Design(
            self.sample(participant),
            splits,
            self.criterion,
            looks=self.looks,
            features=self.fitted_features(splits.folds[0].train) if extracted else None,
            models=self.models,
            unit=unit,
            clusters=splits.groups if unit != "stimulus" else (),
            zscore=self.zscore,
            participant=participant,
            cut=self._cut,
            alike=self.alike(self.ids(participant)),
            n_valid=int(self.valid(participant).sum()),
        )

    @cached_property
    def _cut(self) -> str:
        """What the extractor leaves out of long captions."""
        captions = self.stimuli.captions(self.stimuli.ids)
        return self.extractor.cut(captions) if isinstance(self.extractor, Windowed) else ""

    @property
    def criterion(self) -> Criterion:
        """How predictions are judged."""
        tests = self.settings.inference.model_dump(exclude={"twin"})
        return Criterion(shares=self.settings.analyses.shares, **tests, seed=self.study.seed)

    @property
    def across_folds(self) -> bool:
        """Whether every stimulus is predicted from a fit on the other folds."""
        return self.settings.splits.cross_validation > 0

    @property
    def by_embedding(self) -> bool:
        """Whether who is on which side depends on features, and is known after they are extracted."""
        splits = self.settings.splits
        return splits.unit == "cluster" or splits.test == "far"

    def splits(self, participant: str) -> Splits:
        """Say who is fitted on and who is tested on: folds, or one held-out test set.

        Folds are dealt by what [splits] holds out, those that are as good as one together.
        """
        key = participant, "features" in vars(self)
        if key not in self._splits:
            self._splits[key] = self._split(participant)
        return self._splits[key]

    def _split(self, participant: str) -> Splits:
        given, ids = self.settings.splits, self.ids(participant)
        if given.test == "far":
            return self._far(participant)
        if not self.across_folds:
            rows = self.rows(participant)
            if "split" not in rows.columns:
                raise InputError("There is no `split` column; add one, or set cross_validation in [splits].")
            return Splits.labelled(list(rows["stimulus"]), list(rows["split"]), participant=participant)
        groups, unit = list(self.groups(ids).values()), given.unit
        if unit in ("session", "run"):
            rows, keys = self.rows(participant), ["session", "run"][: 1 + (unit == "run")]
            units = rows.groupby(keys, sort=False).ngroup().astype(str)
            groups = linked(len(ids), groups, sessions_of(list(rows["stimulus"]), list(units), ids))
        if unit == "cluster":
            clusters = clusters_of(self.embedding(ids), given.n_clusters, seed=self.study.seed)
            groups = linked(len(ids), groups, clusters)
        how: dict[str, Any] = {"unit": unit, "seed": self.study.seed, "participant": participant}
        splits = Splits.k_fold(ids, given.cross_validation, groups=groups, **how)
        return replace(splits, embedding=self._embedding_band) if unit == "cluster" else splits

    def _far(self, participant: str) -> Splits:
        """Test on the tenth of stimuli that is farthest from all others."""
        ids = self.ids(participant)
        chosen = farthest(self.embedding(ids), list(self.groups(ids).values()), -(-len(ids) // 10))
        test = [ids[i] for i in chosen]
        train = [name for name in ids if name not in set(test)]
        splits = Splits.held_out(train, test, participant=participant, name="far")
        return replace(splits, embedding=self._embedding_band)

    @property
    def _embedding_band(self) -> str:
        """The band by whose features stimuli are near or far."""
        bands, band = self.features.bands, self.settings.splits.embedding
        if band and band not in bands:
            raise unknown("band in [splits]:", band, bands)
        return band or ("c" if "c" in bands else bands[0])

    def embedding(self, ids: Sequence[str]) -> FloatArray:
        """Lay stimuli out by the band that [splits] names, (n_stimuli, n_dims)."""
        band = self._embedding_band
        if (band, tuple(ids)) not in self._places:
            self._places = {(band, tuple(ids)): coordinates(self.features.gram(band, ids, ids, fit_on=ids))}
        return self._places[band, tuple(ids)]

    def atlas(self, participant: str) -> Atlas | None:
        """Find the atlas of the report, if one is named and the voxels have a place; the last one is kept."""
        name, space = self.settings.report.atlas, self.space(participant)
        if not name:
            return None
        if isinstance(space, Bare):
            raise InputError(
                "`atlas` in [report] needs voxels of known position: give `template` or `mask` in [dataset], or no "
                "atlas."
            )
        if self._atlas is None or self._atlas[0] is not space:
            self._atlas = space, Atlas.find(name, space)
        return self._atlas[1]

    @property
    def figures(self) -> dict[str, tuple[str, ...]]:
        """The figures that each analysis of the study names."""
        return {name: tuple(ANALYSES.find(name).figures) for name in self.settings.analyses.run}

    def check_report(self, participant: str) -> None:
        """Check that what the report draws on, and its viewer, are there."""
        space = self.space(participant)
        reporting.check_cortex(space)
        reporting.check_viewer(self.settings.report.viewer, self.figures, space)

    def log(self, folder: Path) -> Path:
        """Where a folder of results keeps its log."""
        return folder / LOG


def _chunks(n_voxels: int) -> list[slice]:
    """Cut all voxels into the pieces that are looked at one after the other."""
    return [slice(start, min(start + CHUNK, n_voxels)) for start in range(0, n_voxels, CHUNK)]
