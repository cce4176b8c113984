"""The stages from images to maps: extract features, encode responses, report."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from latentcortex import _files, analyses, checking, encoding, reporting
from latentcortex._arrays import FloatArray
from latentcortex._methods import MethodsPart, Sentences
from latentcortex._nifti import as_nifti
from latentcortex._results import LOG, ResultsFolder, refuse_links
from latentcortex._ridge import decompositions
from latentcortex.datasets import Anatomical
from latentcortex.errors import IncompleteError
from latentcortex.extractors import Scheduled
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.maps.checkpoint import load_maps, save_maps
from latentcortex.study import requirements
from latentcortex.study.data import StudyData
from latentcortex.study.methods import of_analyses, of_parts, of_results, plain, section_of
from latentcortex.study.schema import ENCODING_SECTIONS, FIGURE_SETTINGS

logger = logging.getLogger(__name__)

STAGES: Final = ("extract", "encode", "report")
OURS: Final = (
    "sub-*.html",
    "sub-*/sub-*_report.json",
    "sub-*/sub-*_background.nii.gz",
    "sub-*/sub-*_*.tsv",
    "sub-*/sub-*_rois.tex",
    "sub-*/func/sub-*_task-*",
    "sub-*/figures/*.*",
    "group.html",
    "group_rois.tsv",
    "group_prevalence.png",
    "references.bib",
    LOG,
    "summary.json",
    "dataset_description.json",
    "README.md",
    ".bidsignore",
)
"""Patterns of the files that these stages write."""


@dataclass(frozen=True, eq=False)
class StudyStimuli:
    """The stimuli of a participant, for analyses that split them anew; see `analyses.StudyStimuli`.

    Parameters
    ----------
    data : StudyData
    participant : str
    """

    data: StudyData
    participant: str

    @property
    def ids(self) -> tuple[str, ...]:
        """List the stimuli, each once."""
        return self.data.ids(self.participant)

    @property
    def groups(self) -> list[str]:
        """Name the group of each stimulus."""
        return list(self.data.groups(self.ids).values())

    @property
    def n_clusters(self) -> int:
        """The number of clusters that [splits] asks for."""
        return self.data.settings.splits.n_clusters

    def places(self) -> FloatArray:
        """Lay the stimuli out by the embedding that [splits] names, (n_stimuli, n_dims)."""
        return self.data.embedding(self.ids)

    def features(self, train_ids: Sequence[str]) -> Features:
        """Return the features, reduced to components of these stimuli if [analyses] asks for it."""
        return self.data.fitted_features(train_ids)


class EncodingStages:
    """Extracts features, encodes responses and writes the report, into the folder of results itself.

    Parameters
    ----------
    data : StudyData
    """

    def __init__(self, data: StudyData) -> None:
        self.data, self.study, self.out = data, data.study, data.out
        self.study.estimator()  # which raises here if it cannot be made
        self.results = ResultsFolder(
            self.out,
            data.provenance.key(ENCODING_SECTIONS),
            data.settings.depended_on(ENCODING_SECTIONS),
            OURS,
            data.settings.report.model_dump(mode="json", include=set(FIGURE_SETTINGS)),
            data.provenance.sources,
        )

    def check(self, judge: Callable[[str], None]) -> None:
        """Build and look at everything that a run needs, before anything is written.

        Parameters
        ----------
        judge : callable
            Is given every participant whose splits are known, to look at the design.
        """
        with self.data.timer.measure("check"), _files.remembering() as self._noticed:
            settings = self.data.settings
            folders = [f"sub-{name}/{part}" for name in self.data.participants for part in ("func", "figures")]
            refuse_links(self.out, ["logs", "work", *folders])
            reporting.check_figures(self.data.figures)
            reporting.check_viewer(settings.report.viewer, self.data.figures)
            requirements.check_refits(self.data)
            requirements.check_features(self.data)
            for name in reversed(self.data.participants):
                with _files.telling_of(participant=name):
                    self._check_participant(name, judge)

    def _check_participant(self, name: str, judge: Callable[[str], None]) -> None:
        """Build and check everything that a run needs of one participant alone."""
        self.data.valid(name)
        if not self.data.settings.splits.by_embedding:
            requirements.check_splits(self.data, name)
            requirements.check_fits(self.data, name, self.study.estimator())
            judge(name)
        requirements.check_analyses(self.data, name)
        self._regions(name)
        requirements.check_report(self.data, name)
        self._parts(name)
        self.data.dataset.tables(name)
        self._read_anatomy(name)

    def run(self, until: str) -> None:
        """Run every stage up to one, that one included."""
        self.results.begin()
        with _files.logging_to(self.out / LOG), self.results.claiming():
            _files.replay([*self.data.early_log, *self._noticed])
            self.results.include(self.data.features.files)
            for name in self.data.participants if until != "extract" else ():
                with _files.telling_of(participant=name):
                    self._encode_and_report(name, until)
            if until == "report":
                with self.results.turn():
                    reporting.write_group(self.out)
        self.results.finish(STAGES[: STAGES.index(until) + 1])

    def delete_intermediate(self) -> None:
        """Delete cells and decompositions once all maps are there; the caller sees to it that no process needs them."""
        if "encode" in self.results.done:
            for name in self.data.participants:
                self._cells(name).forget()
            decompositions.clear(self._scratch)

    @property
    def _scratch(self) -> Path:
        return self.out / "work" / "scratch"

    def _encode_and_report(self, participant: str, until: str) -> None:
        """Check the design of one participant once more, with features; then make the maps, and their report."""
        with self.data.timer.measure("check"):
            requirements.check_splits(self.data, participant)
            design = requirements.design_of(self.data, participant, extracted=True)
            checking.refuse(design, self.study.allowed)
            checking.tell(design, self.study.allowed)
        maps = self._encode(participant)
        if until == "report":
            with self.results.turn():
                self._report(participant, maps)

    def _encode(self, participant: str) -> Maps:
        """Run every analysis; each is kept as a part, and its cells until then, so that an interrupted run goes on."""
        room = int(self.data.settings.run.scratch_gb * 1e9)
        with self.data.timer.measure("encode"), decompositions.keeping(self._scratch, max_bytes=room):
            cells = self._cells(participant)
            scorer, stimuli = self._scorer(participant, cells), StudyStimuli(self.data, participant)
            maps = [
                self._kept(participant, analysis.name, partial(analysis.maps, scorer, stimuli))
                for analysis in self._analyses
            ]
            with self.results.alone() as alone:
                if alone:  # others of this study may read them; the last one that is through deletes them
                    cells.forget()
                    decompositions.clear(self._scratch)
            return self._with_timesteps(analyses.joined([computed for computed in maps if computed is not None]))

    @property
    def _analyses(self) -> list[analyses.Analysis]:
        """The analyses that are asked for, after the ceiling that every report begins with."""
        return [analyses.NoiseCeiling(), *self.data.analyses]

    def _kept(self, participant: str, name: str, compute: Callable[[], Maps | None]) -> Maps | None:
        """Read the maps of an analysis, or compute and keep them.

        Raises
        ------
        IncompleteError
            If they cannot be read back, or parts that they are made from are gone, and so once more.
        """
        store, key = self.results.store, self.results.key_of(f"sub-{participant}_{name}")
        read = partial(load_maps, store, key, n_voxels=self.data.space(participant).n_voxels)
        maps = read()
        if maps is None:
            try:
                is_there = self._keep(key, compute)
            except IncompleteError as error:  # gone meanwhile: perhaps since another process has finished them
                logger.warning("%s: %s It is read, or computed, once more.", name, error)
                is_there = read() is not None or self._keep(key, compute)
            if not is_there:
                return None
            maps = read()
        if maps is None:
            raise IncompleteError(
                f"{store.path(key)} was written and cannot be read back: look at the disk, and run the same command "
                "again, or with another folder for results."
            )
        self.results.include_parts([key])
        return maps

    def _keep(self, key: str, compute: Callable[[], Maps | None]) -> bool:
        """Compute and write maps; tell whether there are any."""
        computed = compute()
        if computed is not None:
            save_maps(self.results.store, key, computed)
        return computed is not None

    def _cells(self, participant: str) -> encoding.Cells:
        """Say how the cells of a participant are computed, and that they are kept in this folder until all is done."""
        run = self.data.settings.run
        return encoding.Cells(
            self.study.executor(),
            self.results.store,
            self.results.key_of(f"sub-{participant}_cell"),
            run.chunk_voxels,
            self.data.progress,
            start=self.results.place(),
        )

    def _responses(self, participant: str) -> encoding.ReadByChunk:
        """Say how responses are read, z-scored and parted, some voxels at a time."""
        data = self.data
        read, space = data.reader(participant), data.space(participant)
        return encoding.ReadByChunk(read, space, data.splits(participant), data.settings.responses.zscore)

    def _with_timesteps(self, maps: Maps) -> Maps:
        """Add the timestep and ᾱ of each column's band on the noise schedule; nan for a band without noise."""
        extractor = self.data.extractor
        if not isinstance(extractor, Scheduled):
            return maps
        of_band = {band: extractor.timestep(band) for band in self.data.features.bands}
        timesteps = [of_band.get(band, {}) for band in maps.columns["band"]]
        columns = {key: [entry.get(key, np.nan) for entry in timesteps] for key in ("timestep", "alpha_bar")}
        return maps.replace_columns(maps.columns.assign(**columns))

    def _scorer(self, participant: str, cells: encoding.Cells) -> analyses.Scorer:
        """Make what fits and scores the models of analyses on the test set, or across folds."""
        data, responses = self.data, self._responses(participant)
        across = data.settings.splits.across_folds
        return analyses.Scorer(
            data.features if across else data.fitted_features(responses.splits.folds[0].train),
            responses,
            partial(copy.copy, data.estimator()),  # without the data, so that cells may be sent elsewhere
            data.criterion,
            cells,
            twin=data.settings.inference.twin,
            regions=None if across else self._regions(participant),
        )

    def _regions(self, participant: str) -> encoding.RegionMeans | None:
        """Return the regions of the atlas over whose voxels means with intervals are computed."""
        atlas, space = self.data.atlas(participant), self.data.space(participant)
        if atlas is None:
            return None
        return encoding.RegionMeans(space.take(atlas.labels).astype(np.intp), atlas.names, seed=self.study.seed)

    def _copy_anatomy(self, participant: str) -> Path | None:
        """Copy the anatomical image that slices are drawn on beside the maps, so that figures can be made again."""
        image = self._read_anatomy(participant)
        if image is None:
            return None
        path = reporting.background_of(self.out, participant)
        with _files.writing(path) as unfinished:
            unfinished.write_bytes(image)
        return path

    def _read_anatomy(self, participant: str) -> bytes | None:
        """Read the anatomical image that slices are drawn on, as the bytes of a NIfTI file, if there is one."""
        dataset = self.data.dataset
        path = dataset.background(participant) if isinstance(dataset, Anatomical) else None
        return None if path is None else as_nifti(path)

    def _parts(self, participant: str) -> dict[str, Sentences]:
        """Let dataset, extractor, estimator and analyses write what they do for the methods text."""
        data, settings = self.data, self.data.settings
        made = {"dataset": data.dataset, "extractor": data.extractor, "estimator": self.study.estimator()}
        chosen = {kind: getattr(settings, kind) for kind in made}
        parts = {kind: MethodsPart(one, chosen[kind].name, chosen[kind].arguments) for kind, one in made.items()}
        written = of_parts(parts, participant=participant, models=data.models)
        return written | of_analyses(self._analyses)

    def _methods(self, participant: str, maps: Maps) -> dict[str, Sentences]:
        """Let every part write what it did for the methods text."""
        data, rows = self.data, self.data.rows(participant)
        results = of_results(
            maps, data.criterion, data.splits(participant), averaged=bool(rows["stimulus"].duplicated().any())
        )
        return self._parts(participant) | results

    def _plain_settings(self, participant: str) -> dict[str, dict[str, Any]]:
        """Write the settings down for the report, which finds the atlas again by what it is called there."""
        settings = self.data.settings.plain()
        settings["report"]["atlas"] = self.data.atlas_name(participant)
        return settings

    def _report(self, participant: str, maps: Maps) -> None:
        timer = self.data.timer
        with timer.measure("write"):
            reporting.write_dataset(self.out, maps, participant)
            for name, table in self.data.dataset.tables(participant).items():
                reporting.write_table(self.out, participant, name, table)
        with timer.measure("report"):
            anatomy = self._copy_anatomy(participant)
            methods, references = plain(self._methods(participant, maps))
            content = reporting.Content(
                participant=participant,
                maps=maps,
                atlas=self.data.atlas(participant),
                facts=reporting.facts_of(maps, self.data.rows(participant), self.data.splits(participant)),
                settings=self._plain_settings(participant),
                made_by=self.data.provenance.features,
                log=self.out / LOG,
                reconstructions=f"decoding/sub-{participant}.html" if self.study.decodes else "",
                viewer=reporting.viewer_page(participant, self.data.settings.report.viewer),
                background=anatomy,
                methods=methods,
                references=references,
                sections={one.name: section_of(one) for one in self._analyses},
            )
            if content.viewer:
                reporting.write_viewer(self.out / content.viewer, content)
            reporting.write(self.out, content, timer.table())
        reporting.write_summary(self.out, participant, maps, timer.table())
