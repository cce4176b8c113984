"""The forward half of a study: images -> features -> maps and their report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from latentcortex import _files, analyses, checking, encoding, reporting
from latentcortex._nifti import as_nifti
from latentcortex._results import LOG, ResultsFolder, refuse_links
from latentcortex.datasets import Anatomical
from latentcortex.encoding import rejudged
from latentcortex.extractors import Scheduled
from latentcortex.maps import Maps
from latentcortex.maps.state import load_maps, save_maps
from latentcortex.responses import Responses
from latentcortex.study.draws import KeptDraws
from latentcortex.study.material import Material
from latentcortex.study.schema import FORWARD, LOOKS

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


class Forward:
    """Extracts, encodes and reports into the folder of results itself.

    Parameters
    ----------
    material : Material
    """

    def __init__(self, material: Material) -> None:
        self.material, self.study, self.out = material, material.study, material.out
        self.study.estimator()
        looks = {key: material.settings["report"][key] for key in LOOKS}
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
            reporting.check_viewer(settings["report"]["viewer"], settings["analyses"]["run"])
            self.study.models(self.material.extractor.bands)
            self.material.check_refits()
            self.material.check_features()
            for name in reversed(self.material.participants):
                with _files.telling_of(participant=name):
                    self._check_participant(name, judge)

    def _check_participant(self, name: str, judge: Callable[[str], None]) -> None:
        """Look at what is one participant's own."""
        responses = self.material.responses(name)
        if not self.material.by_embedding:
            self.material.check_sides(responses)
            self.material.check_fits(responses, self.study.estimator())
            judge(name)
        self.material.check_analyses(responses)
        self._regions(responses)
        self.material.check_report(responses)
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

    def _encode_and_report(self, participant: str, until: str) -> None:
        """Look at the design of one participant once more, with features; then make the maps, and their report."""
        responses = self.material.responses(participant)
        with self.material.stages.watch("check"):
            self.material.check_sides(responses)
            design = self.material.design(participant, extracted=True)
            checking.refuse(design, self.study.allowed)
            checking.tell(design, self.study.allowed)
        maps = self._encode(participant, responses)
        if until == "report":
            with self.record.turn():
                self._report(participant, maps, responses)

    def _encode(self, participant: str, responses: Responses) -> Maps:
        """Run every analysis; each is kept in a file of its own, so that an interrupted run goes on."""
        with self.material.stages.watch("encode"):
            train, test = responses, None
            if not self.material.across_folds:
                ((train_ids, test_ids),) = self.material.sides(responses)
                train, test = responses.split(test_ids=test_ids, train_ids=train_ids, zscore=self.material.zscore)
            found = [self._ceiling(responses, test)]
            scorer = self._scorer(participant, responses, train, test)
            for analysis in self.study.models(self.material.extractor.bands):
                key, n_voxels = self.record.key_of(f"sub-{participant}_{analysis.name}"), responses.space.n_voxels
                maps = load_maps(self.record.store, key, n_voxels=n_voxels)
                if maps is None:
                    profile = analysis.name == "generalisation"
                    computed = self._profile(analysis, responses) if profile else scorer.score(analysis)
                    save_maps(self.record.store, key, computed)
                    maps = load_maps(self.record.store, key, n_voxels=n_voxels)
                self.record.include_parts([key])
                self._draws(participant, n_voxels)(analysis.name).remove()
                found.append(maps)
            return self._located(analyses.joined([maps for maps in found if maps is not None]))

    def _ceiling(self, responses: Responses, test: Responses | None) -> Maps | None:
        """Estimate the noise ceiling of what is scored: the test set's, or that of every fold's held-out stimuli."""
        if test is not None:
            return analyses.ceiling(test)
        return analyses.ceiling_across_folds(responses, self.material.splits(responses), self.material.zscore)

    def _located(self, maps: Maps) -> Maps:
        """Note where on the noise schedule the band of each column lies."""
        extractor = self.material.extractor
        if not isinstance(extractor, Scheduled):
            return maps
        there = {band: extractor.timestep(band) for band in self.material.features.bands}
        places = [there.get(band, {}) for band in maps.columns["band"]]
        noted = {key: [place.get(key, np.nan) for place in places] for key in ("timestep", "alpha_bar")}
        return Maps(maps.data, maps.columns.assign(**noted), maps.space)

    def _profile(self, analysis: analyses.Analysis, responses: Responses) -> Maps:
        material, ids = self.material, responses.ids
        sides, clusters = analyses.profile_sides(
            ids,
            list(material.groups(ids).values()),
            material.embedding(ids),
            n_clusters=material.settings["splits"]["n_clusters"],
            seed=self.study.seed,
        )
        profile = [
            analyses.generalisation(
                analysis,
                material.fitted_features(side[0]),
                responses,
                {kind: side},
                self.material.estimator,
                zscore=material.zscore,
                criterion=material.criterion,
                clusters=clusters,
            )
            for kind, side in sides.items()
        ]
        return rejudged(analyses.joined(profile), material.criterion)

    def _scorer(
        self, participant: str, responses: Responses, train: Responses, test: Responses | None
    ) -> analyses.Scorer:
        criterion = self.material.criterion
        twin = self.material.settings["inference"]["twin"]
        make, progress = self.material.estimator, self.material.progress
        if test is not None:
            features = self.material.fitted_features(train.ids)
            sides, regions = (train.averaged(), test.averaged()), self._regions(responses)
            return analyses.HeldOut(features, *sides, make, criterion, progress, twin, regions=regions)
        splits, zscore = self.material.splits(responses), self.material.zscore
        keep = self._draws(participant, responses.space.n_voxels)
        return analyses.AcrossFolds(self.material.features, responses, splits, zscore, make, criterion, progress, keep)

    def _draws(self, participant: str, n_voxels: int) -> Callable[[str], KeptDraws]:
        """Say where finished permutations of an analysis are kept until it is done."""
        key_of = self.record.key_of
        return lambda analysis: KeptDraws(self.record.store, key_of(f"sub-{participant}_{analysis}_draw"), n_voxels)

    def _regions(self, responses: Responses) -> encoding.Regions | None:
        """Say which regions of the atlas have means with intervals."""
        atlas = self.material.atlas(responses)
        if atlas is None:
            return None
        return encoding.Regions(responses.space.take(atlas.labels).astype(np.intp), atlas.names, seed=self.study.seed)

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

    def _report(self, participant: str, maps: Maps, responses: Responses) -> None:
        stages = self.material.stages
        with stages.watch("write"):
            reporting.write_dataset(self.out, maps, participant)
            for name, table in self.material.dataset.tables(participant).items():
                reporting.write_table(self.out, participant, name, table)
        with stages.watch("report"):
            anatomy = self._anatomy(participant)
            content = reporting.Content(
                participant=participant,
                maps=maps,
                atlas=self.material.atlas(responses),
                facts=reporting.facts_of(maps, responses, self.material.sides(responses)),
                settings=self.material.settings,
                made_by=self.material.made_by,
                log=self.material.log(self.out),
                reconstructions=f"decoding/sub-{participant}.html" if self.study.decodes else "",
                viewer=reporting.viewer_page(participant, self.material.settings["report"]["viewer"]),
                background=anatomy,
            )
            if content.viewer:
                reporting.write_viewer(self.out / content.viewer, content)
            reporting.write(self.out, content, stages.table())
        reporting.write_summary(self.out, participant, maps, stages.table())
