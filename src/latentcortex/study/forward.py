"""The forward half of a study: images -> features -> maps and their report."""

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
from latentcortex._methods import Part, Sentences
from latentcortex._nifti import as_nifti
from latentcortex._results import LOG, ResultsFolder, refuse_links
from latentcortex._ridge import decompositions
from latentcortex.datasets import Anatomical
from latentcortex.errors import IncompleteError
from latentcortex.extractors import Scheduled
from latentcortex.features import Features
from latentcortex.maps import Maps
from latentcortex.maps.state import load_maps, save_maps
from latentcortex.study.material import Material
from latentcortex.study.methods import of_analyses, of_parts, of_results, plain, section_of
from latentcortex.study.schema import FORWARD, LOOKS

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
"""What this half writes."""


@dataclass(frozen=True, eq=False)
class AllStimuli:
    """The stimuli of a participant, for analyses that split them anew; see `analyses.AllStimuli`.

    Parameters
    ----------
    material : Material
    participant : str
    """

    material: Material
    participant: str

    @property
    def ids(self) -> tuple[str, ...]:
        """List the stimuli, each once."""
        return self.material.ids(self.participant)

    @property
    def groups(self) -> list[str]:
        """Name the group of each stimulus."""
        return list(self.material.groups(self.ids).values())

    @property
    def n_clusters(self) -> int:
        """Into how many clusters [splits] says."""
        return self.material.settings.splits.n_clusters

    def places(self) -> FloatArray:
        """Lay the stimuli out by the embedding that [splits] names, (n_stimuli, n_dims)."""
        return self.material.embedding(self.ids)

    def features(self, train_ids: Sequence[str]) -> Features:
        """Return the features, reduced to components of these stimuli if [analyses] asks for it."""
        return self.material.fitted_features(train_ids)


class Forward:
    """Extracts, encodes and reports into the folder of results itself.

    Parameters
    ----------
    material : Material
    """

    def __init__(self, material: Material) -> None:
        self.material, self.study, self.out = material, material.study, material.out
        self.study.estimator()
        looks = material.settings.report.model_dump(mode="json", include=set(LOOKS))
        settings, sources = material.depends(FORWARD), material.sources
        self.record = ResultsFolder(self.out, material.key(FORWARD), settings, OURS, looks=looks, sources=sources)

    def check(self, judge: Callable[[str], None]) -> None:
        """Build and look at everything that a run needs, before anything is written.

        Parameters
        ----------
        judge : callable
            Is given every participant whose splits are known, to look at the design.
        """
        with self.material.stages.watch("check"), _files.remembering() as self._noticed:
            settings = self.material.settings
            folders = [f"sub-{name}/{part}" for name in self.material.participants for part in ("func", "figures")]
            refuse_links(self.out, ["logs", "work", *folders])
            reporting.check_figures(self.material.figures)
            reporting.check_viewer(settings.report.viewer, self.material.figures)
            self.material.check_refits()
            self.material.check_features()
            for name in reversed(self.material.participants):
                with _files.telling_of(participant=name):
                    self._check_participant(name, judge)

    def _check_participant(self, name: str, judge: Callable[[str], None]) -> None:
        """Look at what is one participant's own."""
        self.material.valid(name)
        if not self.material.by_embedding:
            self.material.check_splits(name)
            self.material.check_fits(name, self.study.estimator())
            judge(name)
        self.material.check_analyses(name)
        self._regions(name)
        self.material.check_report(name)
        self._parts(name)
        self.material.dataset.tables(name)
        self._given_anatomy(name)

    def through(self, until: str) -> None:
        """Run up to a stage."""
        self.record.begin()
        with _files.logging_to(self.material.log(self.out)), self.record.claiming():
            _files.replay([*self.material.noticed, *self._noticed])
            self.record.include(self.material.features.files)
            for name in self.material.participants if until != "extract" else ():
                with _files.telling_of(participant=name):
                    self._encode_and_report(name, until)
            if until == "report":
                with self.record.turn():
                    reporting.write_group(self.out)
        self.record.finish(STAGES[: STAGES.index(until) + 1])

    def tidy(self) -> None:
        """Delete what only runs need, once all maps are there; whoever calls this knows that nobody makes them."""
        if "encode" in self.record.done:
            for name in self.material.participants:
                self._cells(name).forget()
            decompositions.clear(self._scratch)

    @property
    def _scratch(self) -> Path:
        return self.out / "work" / "scratch"

    def _encode_and_report(self, participant: str, until: str) -> None:
        """Look at the design of one participant once more, with features; then make the maps, and their report."""
        with self.material.stages.watch("check"):
            self.material.check_splits(participant)
            design = self.material.design(participant, extracted=True)
            checking.refuse(design, self.study.allowed)
            checking.tell(design, self.study.allowed)
        maps = self._encode(participant)
        if until == "report":
            with self.record.turn():
                self._report(participant, maps)

    def _encode(self, participant: str) -> Maps:
        """Run every analysis; each is kept as a part, and its cells until then, so that an interrupted run goes on."""
        room = int(self.material.settings.run.scratch_gb * 1e9)
        with self.material.stages.watch("encode"), decompositions.keeping(self._scratch, max_bytes=room):
            cells = self._cells(participant)
            scorer, stimuli = self._scorer(participant, cells), AllStimuli(self.material, participant)
            maps = [
                self._kept(participant, analysis.name, partial(analysis.maps, scorer, stimuli))
                for analysis in self._analyses
            ]
            with self.record.alone() as alone:
                if alone:  # others of this study may read them; the last one that is through deletes them
                    cells.forget()
                    decompositions.clear(self._scratch)
            return self._located(analyses.joined([one for one in maps if one is not None]))

    @property
    def _analyses(self) -> list[analyses.Analysis]:
        """The analyses that are asked for, after the ceiling that every report begins with."""
        return [analyses.NoiseCeiling(), *self.material.analyses]

    def _kept(self, participant: str, name: str, compute: Callable[[], Maps | None]) -> Maps | None:
        """Read the maps of an analysis, or compute and keep them.

        Raises
        ------
        IncompleteError
            If they cannot be read back, or parts that they are made from are gone, and so once more.
        """
        store, key = self.record.store, self.record.key_of(f"sub-{participant}_{name}")
        read = partial(load_maps, store, key, n_voxels=self.material.space(participant).n_voxels)
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
        self.record.include_parts([key])
        return maps

    def _keep(self, key: str, compute: Callable[[], Maps | None]) -> bool:
        """Compute and write maps; tell whether there are any."""
        computed = compute()
        if computed is not None:
            save_maps(self.record.store, key, computed)
        return computed is not None

    def _cells(self, participant: str) -> encoding.Cells:
        """Say how the cells of a participant are computed, and that they are kept in this folder until all is done."""
        run = self.material.settings.run
        return encoding.Cells(
            self.study.executor(),
            self.record.store,
            self.record.key_of(f"sub-{participant}_cell"),
            run.chunk_voxels,
            self.material.progress,
            start=self.record.place(),
        )

    def _responses(self, participant: str) -> encoding.ReadByChunk:
        """Say how responses are read, z-scored and parted, some voxels at a time."""
        material = self.material
        read, space = material.reader(participant), material.space(participant)
        return encoding.ReadByChunk(read, space, material.splits(participant), material.zscore)

    def _located(self, maps: Maps) -> Maps:
        """Note where on the noise schedule the band of each column lies."""
        extractor = self.material.extractor
        if not isinstance(extractor, Scheduled):
            return maps
        there = {band: extractor.timestep(band) for band in self.material.features.bands}
        places = [there.get(band, {}) for band in maps.columns["band"]]
        noted = {key: [place.get(key, np.nan) for place in places] for key in ("timestep", "alpha_bar")}
        return maps.described(maps.columns.assign(**noted))

    def _make_estimator(self) -> Callable[[], Any]:
        """Make what makes estimators, without the material, so that cells may be sent elsewhere."""
        return partial(copy.copy, self.material.estimator())

    def _scorer(self, participant: str, cells: encoding.Cells) -> analyses.Scorer:
        """Make what fits and scores the models of analyses on the test set, or across folds."""
        material, responses = self.material, self._responses(participant)
        across = material.across_folds
        return analyses.Scorer(
            material.features if across else material.fitted_features(responses.splits.folds[0].train),
            responses,
            self._make_estimator(),
            material.criterion,
            cells,
            twin=material.settings.inference.twin,
            regions=None if across else self._regions(participant),
        )

    def _regions(self, participant: str) -> encoding.RegionMeans | None:
        """Say which regions of the atlas have means with intervals."""
        atlas, space = self.material.atlas(participant), self.material.space(participant)
        if atlas is None:
            return None
        return encoding.RegionMeans(space.take(atlas.labels).astype(np.intp), atlas.names, seed=self.study.seed)

    def _anatomy(self, participant: str) -> Path | None:
        """Copy the anatomy that cuts are drawn on beside the maps, so that figures can be made again."""
        given = self._given_anatomy(participant)
        if given is None:
            return None
        path = reporting.background_of(self.out, participant)
        with _files.writing(path) as part:
            part.write_bytes(given)
        return path

    def _given_anatomy(self, participant: str) -> bytes | None:
        """Read the anatomy that cuts are drawn on, as a NIfTI image, if there is one."""
        dataset = self.material.dataset
        given = dataset.background(participant) if isinstance(dataset, Anatomical) else None
        return None if given is None else as_nifti(given)

    def _parts(self, participant: str) -> dict[str, Sentences]:
        """Let dataset, extractor, estimator and analyses write what they do for the methods text."""
        material, settings = self.material, self.material.settings
        made = {"dataset": material.dataset, "extractor": material.extractor, "estimator": self.study.estimator()}
        chosen = {kind: getattr(settings, kind) for kind in made}
        parts = {kind: Part(one, chosen[kind].name, chosen[kind].arguments) for kind, one in made.items()}
        written = of_parts(parts, participant=participant, models=material.models)
        return written | of_analyses(self._analyses)

    def _methods(self, participant: str, maps: Maps) -> dict[str, Sentences]:
        """Let every part write what it did for the methods text."""
        material, rows = self.material, self.material.rows(participant)
        results = of_results(
            maps, material.criterion, material.splits(participant), averaged=bool(rows["stimulus"].duplicated().any())
        )
        return self._parts(participant) | results

    def _report(self, participant: str, maps: Maps) -> None:
        stages = self.material.stages
        with stages.watch("write"):
            reporting.write_dataset(self.out, maps, participant)
            for name, table in self.material.dataset.tables(participant).items():
                reporting.write_table(self.out, participant, name, table)
        with stages.watch("report"):
            anatomy = self._anatomy(participant)
            methods, references = plain(self._methods(participant, maps))
            content = reporting.Content(
                participant=participant,
                maps=maps,
                atlas=self.material.atlas(participant),
                facts=reporting.facts_of(maps, self.material.rows(participant), self.material.splits(participant)),
                settings=self.material.settings.plain(),
                made_by=self.material.made_by,
                log=self.material.log(self.out),
                reconstructions=f"decoding/sub-{participant}.html" if self.study.decodes else "",
                viewer=reporting.viewer_page(participant, self.material.settings.report.viewer),
                background=anatomy,
                methods=methods,
                references=references,
                sections={one.name: section_of(one) for one in self._analyses},
            )
            if content.viewer:
                reporting.write_viewer(self.out / content.viewer, content)
            reporting.write(self.out, content, stages.table())
        reporting.write_summary(self.out, participant, maps, stages.table())
