"""No digit of a map depends on the size of chunks."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from _encoders import BANDS, IDS, TEST, study

from latentcortex import Features, Maps, Responses, analyses
from latentcortex._store import Store
from latentcortex.analyses import (
    Analysis,
    Scorer,
    profile,
)
from latentcortex.encoding import Cells, Criterion, HeldOutSides, ReadByChunk, RegionMeans
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.estimators.himalaya import Himalaya
from latentcortex.space import Unlocated
from latentcortex.splits import Splits


@pytest.mark.parametrize("name", ["latents", "unet-layers", "unet-partition", "learning-curve"])
def test_no_digit_depends_on_the_size_of_chunks(name: str) -> None:
    """Also of what is tested in the few voxels of a chunk that may be significant, of which one chunk has only one."""
    rng = np.random.default_rng(5)
    values = {band: rng.standard_normal((120, 6)) for band in BANDS}
    data = rng.standard_normal((120, 2 * 1024 + 1)).astype(np.float32)
    for start, band in enumerate(BANDS):
        data[:, 100 * start : 100 * start + 40] += values[band] @ rng.standard_normal((6, 40)).astype(np.float32)
    data[:, [1024, -1]] += values["z"][:, :2] @ np.full((2, 2), 3, dtype=np.float32)
    data[:, 2000] = np.nan
    regions = RegionMeans(np.repeat([1, 2, 0, 5], 600)[: data.shape[1]], {1: "early", 2: "ventral", 5: "late"})
    maps = []
    for size in (1024, 0):
        criterion = Criterion(shares=("product", "unique"), n_refits=5, identifiability=False)
        sides = (Features.from_arrays(IDS, values), once(data), lambda: BandedRidge(seed=0))
        scorer = Scorer(*sides, criterion, Cells(chunk_voxels=size), twin=name == "latents", regions=regions)
        maps.append(analyses.make(name, BANDS).maps(scorer))
    if name != "learning-curve":
        assert set(maps[0].find_columns(statistic="r").columns["intervals"].iloc[0]) == {"early", "ventral", "late"}
    assert_same(maps)


def once(data: np.ndarray) -> HeldOutSides:
    """Take responses to stimuli that were shown once, in one run."""
    alone = {"session": ["1"] * 120, "run": ["1"] * 120}
    responses = Responses.single_trials(data.astype(np.float32), Unlocated(data.shape[1]), stimulus=IDS, **alone)
    return HeldOutSides(*responses.split(test_ids=TEST))


def assert_same(maps: list[Maps]) -> None:
    for other in maps[1:]:
        np.testing.assert_array_equal(other.data, maps[0].data)
        assert other.columns.equals(maps[0].columns)


def test_no_digit_of_a_test_that_refits_depends_on_the_size_of_chunks() -> None:
    """One voxel has an alpha so small that its tile is tested in float64; large alphas make gains nearly equal."""
    rng = np.random.default_rng(7)
    values = {band: rng.standard_normal((120, 6)) for band in ("z", "c")}
    data = rng.standard_normal((120, 3 * 1024 + 7))
    for start, band in enumerate(values):
        data[:, 1000 + start : 3000 : 3] += 0.4 * values[band] @ rng.standard_normal((6, 1))
    data[:, 1500] = values["z"][:, 0] + 1e-3 * rng.standard_normal(120)
    data[:, -1] += values["z"][:, 0]
    features, maps = Features.from_arrays(IDS, values), []
    make = partial(BandedRidge, alphas=(1e-4, 1.0, 1e2, 1e4, 1e6))
    for size in (1024, 0):
        how = Criterion(shares=("unique",), share="freedman-lane", n_permutations=199, identifiability=False)
        scorer = Scorer(features, once(data), make, how, Cells(chunk_voxels=size))
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    p = maps[0].values(band="z", statistic="uniqueP")
    assert (p[1024:2048] < 1).sum() > 100
    assert_same(maps)


class HimalayaOfTwoTiles(Himalaya):
    voxels_at_once = 2048


def test_no_digit_of_himalaya_depends_on_the_size_of_chunks() -> None:
    """Of its own batches of 1,000 valid voxels one ends in another place in each stretch, and some voxels are lost."""
    rng = np.random.default_rng(3)
    values = {band: rng.standard_normal((120, 60)) for band in ("z", "c")}
    data = values["z"] @ rng.standard_normal((60, 5 * 1024 + 3)) + 9 * rng.standard_normal((120, 5 * 1024 + 3))
    data[0, ::10] = np.nan
    features, maps = Features.from_arrays(IDS, values), []
    for size in (1024, 4096, 0):
        scorer = Scorer(
            features,
            once(data),
            lambda: HimalayaOfTwoTiles(alphas=(1.0, 30.0, 1000.0), mixtures="dirichlet", n_iter=4, cv=3),
            Criterion(identifiability=False),
            Cells(chunk_voxels=size),
        )
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    assert_same(maps)


class NotPreparing:
    """A stranger that refits subsets, and does not prepare."""

    def __init__(self) -> None:
        self.own = BandedRidge()

    def __getattr__(self, name: str) -> object:
        if name in ("own", "prepare", "prepare_gram") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.own, name)

    def fit(self, *given: object, **how: object) -> NotPreparing:
        self.own.fit(*given, **how)
        return self


def test_unique_shares_of_a_stranger_do_not_depend_on_the_size_of_chunks() -> None:
    """Also where a chunk has no valid voxel."""
    rng = np.random.default_rng(2)
    values = {band: rng.standard_normal((120, 6)) for band in ("z", "c")}
    data = rng.standard_normal((120, 2 * 1024 + 5))
    data[:, :20] += values["z"] @ rng.standard_normal((6, 20))
    data[:, -2:] += values["z"][:, :1]
    data[:, 1024:2048] = 1.0
    features, maps = Features.from_arrays(IDS, values), []
    for size in (1024, 0):
        criterion = Criterion(shares=("unique",), n_refits=5, identifiability=False)
        scorer = Scorer(features, once(data), NotPreparing, criterion, Cells(chunk_voxels=size))
        maps.append(scorer.score(Analysis("both", (("z", "c"),))))
    assert (maps[0].values(band="z", statistic="uniqueMask")[:20] == 1).sum() > 10
    assert_same(maps)


def test_no_digit_of_a_profile_depends_on_the_size_of_chunks_and_no_cell_is_computed_twice(tmp_path, caplog) -> None:
    """Kinds of splits share a store, and stimuli are repeated, so that ceilings are summed up, too."""
    rng, n_voxels = np.random.default_rng(6), 2 * 1024 + 1
    z = rng.standard_normal((120, 6))
    data = rng.standard_normal((2, 120, n_voxels)).astype(np.float32)
    data[..., :100] += z @ rng.standard_normal((6, 100)).astype(np.float32)
    data[..., -1] += z[:, 0].astype(np.float32)
    data[0, 3, 1500] = np.nan
    shown = {"stimulus": IDS * 2, "session": ["1"] * 120 + ["2"] * 120, "run": ["1"] * 240}
    trials = Responses.single_trials(data.reshape(240, -1), Unlocated(n_voxels), **shown)
    splits = {"random": Splits.held_out(IDS[:80], TEST), "cluster": Splits.held_out(IDS[40:], IDS[:40])}
    kinds = {kind: ReadByChunk.of(trials, split, "session") for kind, split in splits.items()}
    clusters = {name: str(i // 8) for i, name in enumerate(IDS)}
    analysis, features = analyses.make("generalisation", ["z"]), Features.from_arrays(IDS, {"z": z})
    criterion, kept, maps, computed = Criterion(), Cells(store=Store(tmp_path), chunk_voxels=1024), [], []
    for cells in (Cells(), Cells(chunk_voxels=2048), kept, kept):
        caplog.clear()
        with caplog.at_level("INFO"):
            how = {"criterion": criterion, "clusters": clusters, "cells": cells}
            maps.append(profile(analysis, features, kinds, lambda: BandedRidge(seed=0), **how))
        computed.append(caplog.messages.count("A cell was computed."))
    for other in maps[1:]:
        np.testing.assert_array_equal(other.data, maps[0].data)
        assert other.columns.equals(maps[0].columns)
    n_kinds, of_chunks = 2, 2 * 3  # which voxels are usable, and scores; once, the null is chosen
    assert computed == [0, 0, n_kinds * (of_chunks + 1), 0]
    r = maps[0].find_columns(statistic="r").columns
    assert (r["normalised_low"] < r["normalised"]).all()
    assert (r["normalised"] < r["normalised_high"]).all()


def test_no_digit_of_pooled_predictions_depends_on_the_size_of_chunks() -> None:
    features, responses = study(n_voxels=30)
    many = Responses(np.tile(responses.data, (1, 36)), responses.rows, Unlocated(1080))
    by_chunk = ReadByChunk.of(many, Splits.k_fold(IDS, 3, seed=0), "session")
    analysis, maps = analyses.make("noise-levels", features.bands), []
    for size in (1024, 0):
        how = (lambda: BandedRidge(selection="gcv", seed=0), Criterion(n_permutations=12), Cells(chunk_voxels=size))
        maps.append(Scorer(features, by_chunk, *how).score(analysis))
    np.testing.assert_array_equal(maps[1].data, maps[0].data)
    assert maps[1].columns.equals(maps[0].columns)
