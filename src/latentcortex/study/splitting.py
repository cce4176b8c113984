"""Which stimuli the models of a participant are fitted to and which they are tested on, as [splits] asks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from latentcortex._shelf import unknown
from latentcortex.errors import InputError
from latentcortex.splits import Splits, clusters_of, farthest, linked, sessions_of

if TYPE_CHECKING:
    from latentcortex.study.data import StudyData


def split(data: StudyData, participant: str) -> Splits:
    """Deal a participant's stimuli to folds, or to a training and a test set.

    Stimuli that count as one (see `StudyData.groups`) are never parted, nor are those of a session, run or cluster
    where [splits] holds these out whole.
    """
    settings = data.settings.splits
    if settings.test == "far":
        return _split_off_the_farthest(data, participant)
    if settings.cross_validation:
        return _split_into_folds(data, participant)
    rows = data.rows(participant)
    if "split" not in rows.columns:
        raise InputError("There is no `split` column; add one, or set cross_validation in [splits].")
    return Splits.labelled(list(rows["stimulus"]), list(rows["split"]), participant=participant)


def _split_into_folds(data: StudyData, participant: str) -> Splits:
    settings, seed, ids = data.settings.splits, data.settings.run.seed, data.ids(participant)
    unit, groups = settings.unit, list(data.groups(ids).values())
    if unit in ("session", "run"):
        rows, keys = data.rows(participant), ["session", "run"][: 1 + (unit == "run")]
        units = rows.groupby(keys, sort=False).ngroup().astype(str)
        groups = linked(len(ids), groups, sessions_of(list(rows["stimulus"]), list(units), ids))
    if unit == "cluster":
        groups = linked(len(ids), groups, clusters_of(data.embedding(ids), settings.n_clusters, seed=seed))
    folds = Splits.k_fold(ids, settings.cross_validation, groups=groups, unit=unit, seed=seed, participant=participant)
    return replace(folds, embedding=embedding_band(data)) if unit == "cluster" else folds


def _split_off_the_farthest(data: StudyData, participant: str) -> Splits:
    """Test on the tenth of the stimuli that is farthest from all others in the embedding."""
    ids = data.ids(participant)
    n_test = -(-len(ids) // 10)
    test = [ids[i] for i in farthest(data.embedding(ids), list(data.groups(ids).values()), n_test)]
    train = [name for name in ids if name not in set(test)]
    splits = Splits.held_out(train, test, participant=participant, name="far")
    return replace(splits, embedding=embedding_band(data))


def embedding_band(data: StudyData) -> str:
    """Return the band in which distances between stimuli are measured: that of [splits], else c, else the first."""
    bands, embedding = data.features.bands, data.settings.splits.embedding
    if embedding and embedding not in bands:
        raise unknown("band in [splits]:", embedding, bands)
    return embedding or ("c" if "c" in bands else bands[0])
