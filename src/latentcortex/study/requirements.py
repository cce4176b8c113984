"""What a run needs, checked before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentcortex import checking, reporting
from latentcortex._arrays import listed, refuse_beyond_memory
from latentcortex._shelf import unknown
from latentcortex.analyses import StimulusCounts
from latentcortex.checking import StudyDesign
from latentcortex.errors import InputError
from latentcortex.estimators import Checkable, Nesting
from latentcortex.extractors import Windowed

if TYPE_CHECKING:
    from latentcortex.study.data import StudyData


def check_features(data: StudyData) -> None:
    """Check that the extractor can give every band of these captions, and that every image can be read."""
    data.extractor.check(data.extractor.bands, data.stimuli.captions(data.stimuli.ids))
    _ = data.fingerprints


def check_refits(data: StudyData) -> None:
    """Check that the estimator refits models without a band if that is asked for, and that the embedding is a band."""
    settings, embedding = data.settings.analyses, data.settings.splits.embedding
    refits_for_shares = bool(set(settings.shares) - {"product"})
    if refits_for_shares and not any(len(model) > 1 for model in data.models):
        raise InputError(
            f"`shares` in [analyses] are between bands of one model; {listed(settings.run)} fit one band each. "
            "Add an analysis such as 'noise-levels' to `run`, or set shares = ['product']."
        )
    refits = refits_for_shares or any(analysis.refits_nested for analysis in data.analyses)
    if refits and not isinstance(data.study.estimator(), Nesting):
        name = data.settings.estimator.name
        raise InputError(f"{name} does not refit models without a band; use banded_ridge, or shares = ['product'].")
    if embedding and embedding not in data.extractor.bands:
        raise unknown("band in [splits]: embedding", embedding, data.extractor.bands)


def check_splits(data: StudyData, participant: str) -> None:
    """Check that there is something to fit on and to test on, in every fold."""
    trials = data.trials(participant)
    for train_ids, test_ids in data.splits(participant):
        trials.split(test_ids=test_ids, train_ids=train_ids, zscore=data.settings.responses.zscore)


def check_fits(data: StudyData, participant: str, model: object) -> None:
    """Check that an estimator or decoder can be fitted in every fold, on this machine; one that cannot tell passes."""
    if isinstance(model, Checkable):
        groups, n_bands = data.groups(data.ids(participant)), sorted({len(bands) for bands in data.models})
        for train_ids, _ in data.splits(participant):
            model.check([groups[name] for name in train_ids], n_bands)


def check_analyses(data: StudyData, participant: str) -> None:
    """Check that there are enough stimuli for components, clusters, and the analyses that split them anew."""
    n_dims, splits, n = data.settings.analyses.n_dims, data.settings.splits, len(data.ids(participant))
    refuse_beyond_memory("n_permutations in [inference]", data.settings.inference.n_permutations, 16 * n)
    has_test_set = not (splits.by_embedding or splits.cross_validation)  # before features are extracted
    n_train = len(data.splits(participant).folds[0].train) if has_test_set else n
    if n_dims >= n_train:
        raise InputError(
            f"{n_train} training stimuli have at most {n_train - 1} components; n_dims in [analyses] is {n_dims}."
        )
    if splits.unit == "cluster" and splits.n_clusters >= n:
        raise InputError(f"{n} stimuli make fewer than {n} clusters; n_clusters in [splits] is {splits.n_clusters}.")
    for analysis in data.analyses:
        analysis.check(StimulusCounts(n, n_train if has_test_set else None, splits.n_clusters))


def check_report(data: StudyData, participant: str) -> None:
    """Check that the surfaces and images that the report draws on, and its viewer, are there."""
    space = data.space(participant)
    reporting.check_cortex(space)
    reporting.check_viewer(data.settings.report.viewer, data.figures, space)


def design_of(data: StudyData, participant: str, *, extracted: bool) -> StudyDesign:
    """Put together what the linter judges: a sample of voxels, splits, tests, models and, if extracted, features."""
    if extracted:
        _ = data.features  # by which stimuli may be alike, and share a fold
    splits, unit = data.splits(participant), data.settings.splits.unit
    captions = data.stimuli.captions(data.stimuli.ids)
    return StudyDesign(
        data.sample(participant),
        splits,
        data.criterion,
        fingerprints=data.fingerprints,
        features=data.fitted_features(splits.folds[0].train) if extracted else None,
        models=data.models,
        unit=unit,
        clusters=splits.groups if unit != "stimulus" else (),
        zscore=data.settings.responses.zscore,
        participant=participant,
        cut=data.extractor.cut(captions) if isinstance(data.extractor, Windowed) else "",
        alike=data.alike(data.ids(participant)),
        n_valid=int(data.valid(participant).sum()),
    )


def refuse(data: StudyData, participant: str, *, extracted: bool = False) -> None:
    """Raise `InputError` if a design breaks a rule that stops a run, judged with features if they are extracted."""
    checking.refuse(design_of(data, participant, extracted=extracted), data.study.allowed)
