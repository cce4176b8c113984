"""What is decided and said once of a map: not once per chunk of voxels, per thread, nor again for a control."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latentcortex import BandedRidge, Features, Responses, executors, inference
from latentcortex._ridge import keeping
from latentcortex._store import Store
from latentcortex.analyses import Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Cells, Criterion, ReadByChunk, halves
from latentcortex.encoding.chunks import sample_stretches
from latentcortex.errors import InputError
from latentcortex.responses import sample_valid_voxels
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

IDS = [f"s{i:03d}" for i in range(90)]
NEVER_IN_TIME = {"session": [str(i % 2) for i in range(90)], "run": ["n/a"] * 90}
IN_TIME = {"session": ["1"] * 90, "run": ["1"] * 90}
Log = pytest.LogCaptureFixture


def slow(rng: np.random.Generator, n_columns: int) -> np.ndarray:
    """Draw columns whose neighbouring rows are correlated."""
    noise = rng.standard_normal((100, n_columns)).astype(np.float32)
    return np.mean([noise[k : k + 90] for k in range(10)], axis=0)


def made(n_voxels: int, rows: dict[str, list[str]], *, lost: int | None = None) -> tuple[Features, ReadByChunk]:
    """Make slow responses to slow features of two bands; those to the last third are held out."""
    rng = np.random.default_rng(0)
    bands = {"a": slow(rng, 5), "b": slow(rng, 5)}
    y = slow(rng, n_voxels) + bands["a"][:, :1]
    if lost is not None:
        y[np.array(rows["session"]) == "0", lost] = 1
    responses = Responses.single_trials(y, Unlocated(n_voxels), stimulus=IDS, **rows)
    splits = Splits.labelled(IDS, ["train"] * 60 + ["test"] * 30)
    return Features.from_arrays(IDS, bands), ReadByChunk.of(responses, splits, "session")


def messages(caplog: Log, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


TWO = Latents("latents", (("a",), ("b",)))
FEW = Criterion(n_refits=5, identifiability=False, n_permutations=20)


@pytest.mark.parametrize("size", [1024, 0])
def test_folds_of_stretches_are_told_of_once_per_model(size: int, caplog: Log) -> None:
    how = (lambda: BandedRidge(seed=0), FEW, Cells(chunk_voxels=size))
    with caplog.at_level(logging.INFO):
        Scorer(*made(2048, IN_TIME), *how, twin=True).score(TWO)
    assert len(messages(caplog, "Neighbouring rows are correlated")) == 2


def test_folds_of_stretches_are_told_of_once_across_folds(caplog: Log) -> None:
    features, responses = made(30, IN_TIME)
    folds = ReadByChunk(responses.read, responses.space, Splits.k_fold(IDS, 3, seed=0), "session")
    with caplog.at_level(logging.INFO):
        Scorer(features, folds, lambda: BandedRidge(seed=0), FEW).score(Latents("latents", (("a",),)))
    assert len(messages(caplog, "Neighbouring rows are correlated")) == 1


def test_a_control_does_not_tell_again_of_voxels_that_are_lost(caplog: Log) -> None:
    features, responses = made(30, NEVER_IN_TIME, lost=3)
    with caplog.at_level(logging.INFO):
        Scorer(features, responses, lambda: BandedRidge(seed=0), FEW, twin=True).score(TWO)
    assert len(messages(caplog, "do not vary over the training rows")) == 1


def test_no_usable_voxel_in_any_chunk_is_told_of_the_whole_map() -> None:
    features, responses = made(2048, NEVER_IN_TIME)
    data = responses.read(slice(None)).data.copy()
    data[4] = data[7, :1024] = np.nan
    empty = Responses.single_trials(data, Unlocated(2048), stimulus=IDS, **NEVER_IN_TIME)
    scorer = Scorer(
        features, ReadByChunk.of(empty, responses.splits, "none"), BandedRidge, FEW, Cells(chunk_voxels=1024)
    )
    with pytest.raises(InputError, match=r"0 of 2048 voxels are usable: 1 rows are nan .* is of stimulus s004"):
        scorer.score(TWO)


def test_every_model_is_planned_once_before_threads_ask() -> None:
    calls: list[int] = []

    def noted() -> BandedRidge:
        calls.append(threading.get_ident())
        return BandedRidge(selection="gcv")

    cells = Cells(executors.make("threads", n_workers=4))
    Scorer(*made(30, NEVER_IN_TIME), noted, Criterion(n_refits=0, identifiability=False), cells).score(TWO)
    assert calls == [threading.get_ident()] * 3  # for each of two models, and for the size of chunks


ONE = Latents("latents", (("a",),))


def pooled(n_permutations: int, cells: Cells, responses: ReadByChunk | None = None) -> np.ndarray:
    """Judge 2,048 voxels across three folds."""
    features, held_out = made(2048, NEVER_IN_TIME)
    read = (responses or held_out).read
    folds = ReadByChunk(read, held_out.space, Splits.k_fold(IDS, 3, seed=0), "session")
    criterion = Criterion(n_permutations=n_permutations)
    return Scorer(features, folds, lambda: BandedRidge(selection="gcv"), criterion, cells).score(ONE).data


def test_a_chunk_is_read_once_for_ten_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    _, held_out = made(2048, NEVER_IN_TIME)
    reads: list[int] = []

    def noted(voxels: slice) -> Responses:
        taken = held_out.read(voxels)
        reads.append(taken.space.n_voxels)
        return taken

    counts, maps = [], []
    for room in (10**9, 0):
        monkeypatch.setattr("latentcortex.encoding.permutations.READY_BYTES", room)
        reads.clear()
        maps.append(pooled(10, Cells(chunk_voxels=1024), replace(held_out, read=noted)))
        counts.append(sum(n == 1024 for n in reads))
    assert counts[1] == counts[0] + 2 * 9  # where only one model has room, both chunks are read for each
    np.testing.assert_array_equal(*maps)


def test_kernels_of_permutations_that_exchange_stimuli_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("latentcortex._ridge.decompositions.MIN_SIZE", 0)
    kept = []
    for n_permutations in (2, 6):
        with keeping(tmp_path / str(n_permutations), max_bytes=None):
            pooled(n_permutations, Cells())
        kept.append(Store(tmp_path / str(n_permutations)).keys())
    assert kept[0]
    assert sorted(kept[0]) == sorted(kept[1])


def test_permutations_leave_the_store_once_their_maps_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = Cells(store=Store(tmp_path))
    first = pooled(12, cells)
    assert not any("draws" in part.facts for part in map(cells.store.load, cells.store.keys()))
    monkeypatch.setattr("latentcortex.encoding.permutations.Permutations.drawn", None)
    np.testing.assert_array_equal(pooled(12, cells), first)  # a run that goes on takes the maps that it has


def test_candidates_hold_all_that_storeys_procedure_rejects_at_a_large_q() -> None:
    p = np.r_[np.full(80, 0.001), np.linspace(0.4, 0.58, 40)]
    criterion = Criterion(q=0.6, correction="storey")
    rejected = np.flatnonzero(inference.fdr(p, 0.6, "storey").rejected)
    assert len(rejected) > 80
    assert set(rejected) <= set(halves.candidates(p, criterion))


@pytest.mark.parametrize("apart", [1, 2, 100])
def test_a_sample_of_valid_voxels_has_its_full_number_and_one_of_stretches_a_bounded_length(apart: int) -> None:
    valid = np.zeros(200_000, dtype=bool)
    valid[apart - 1 :: apart] = True
    chosen, stretches = sample_valid_voxels(valid), sample_stretches(valid)
    within = np.concatenate([np.arange(stretch.start, stretch.stop) for stretch in stretches])
    assert len(stretches) == 16
    assert valid[within].sum() == min(2048, -(-valid.sum() // 16) * 16, 16 * -(-2048 // apart))
    assert len(within) <= 16 * 2048
    assert len(chosen) == min(valid.sum(), 2048)
    assert valid[chosen].all()
    assert np.ptp(chosen) > 0.9 * len(valid)
    assert np.ptp(within) > 0.9 * len(valid)
    if apart == 1:
        np.testing.assert_array_equal(within, chosen)
