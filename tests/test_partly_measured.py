"""Voxels that were not measured in some sessions keep their others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentcortex import scoring
from latentcortex.analyses.joining import valid_voxels
from latentcortex.encoding import Cells, Encoder, ReadByChunk
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features
from latentcortex.responses import Responses
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

N = 200
IDS = [f"s{i:03d}" for i in range(N)]


def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)


def responses(absent: float = 0.0) -> Responses:
    """Make three trials of each stimulus in six sessions; voxel 1 is voxel 0, but for session 2, which it lacks.

    A share `absent` of the stimuli has all of its trials in session 2.
    """
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"stimulus": np.tile(IDS, 3), "run": "1", "n_repeats": 1})
    session = rng.integers(0, 6, (3, N))
    session[:, : int(absent * N)] = 2
    rows["session"] = session.ravel().astype(str)
    signal = features() @ rng.standard_normal((6, 4))
    data = (np.tile(signal, (3, 1)) + 2 * rng.standard_normal((3 * N, 4))).astype(np.float32)
    data[:, 1] = data[:, 0]
    data[(rows["session"] == "2").to_numpy(), 1] = np.nan
    return Responses(data, rows, Unlocated(4))


def test_the_mean_of_a_stimulus_is_that_of_its_measured_trials() -> None:
    given = responses()
    expected = pd.DataFrame(given.data).groupby(given.rows["stimulus"].to_numpy(), sort=False).mean()
    averaged = given.averaged()
    assert given.valid().all()
    assert averaged.valid().all()
    present = expected[1].notna().to_numpy()
    np.testing.assert_allclose(averaged.data[present], expected[present], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(averaged.data[~present, 1], expected[1].mean(), rtol=1e-4)


@pytest.mark.parametrize(("absent", "is_valid"), [(0.05, True), (0.2, False)])
def test_too_few_stimuli_make_it_invalid(absent: float, is_valid: bool) -> None:
    given = responses(absent)
    assert given.valid().tolist() == [True, is_valid, True, True]
    assert given.averaged().valid().tolist() == [True, is_valid, True, True]


def test_a_nan_within_a_session_still_makes_a_voxel_invalid() -> None:
    given = responses()
    given.data[np.flatnonzero(given.rows["session"] == "3")[0], 1] = np.nan
    given.data[7, 2] = np.nan
    assert given.valid().tolist() == [True, False, False, True]
    assert given.averaged().valid().tolist() == [True, False, False, True]


def test_without_repeats_a_session_that_lacks_is_lost_stimuli() -> None:
    given = responses().select_stimuli(IDS)
    first = ~given.rows["stimulus"].duplicated().to_numpy()
    once = Responses(given.data[first], given.rows[first].reset_index(drop=True), given.space)
    assert once.valid().tolist() == [True, False, True, True]


def test_it_is_fitted_and_scored_by_its_other_sessions_and_changes_no_other_voxel() -> None:
    given, x = responses(), Features.from_arrays(IDS, {"x": features()})
    test_ids = IDS[:60]

    def scored(of: Responses) -> np.ndarray:
        train, test = of.split(test_ids=test_ids)
        return Encoder(BandedRidge(), analysis="test").fit(x, train).score(x, test).values(statistic="r")

    r = scored(given)
    whole = given.data.copy()
    whole[:, 1] = whole[:, 0]
    full = scored(Responses(whole, given.rows, given.space))
    assert np.isfinite(r).all()
    np.testing.assert_allclose(np.delete(r, 1), np.delete(full, 1), rtol=1e-5)
    assert r[0] - 0.12 < r[1] < r[0] + 0.05
    assert r[1] != pytest.approx(r[0], abs=1e-6)


def test_its_noise_ceiling_is_that_of_the_measured_trials() -> None:
    given = responses()
    repeats = given.repeats()
    alone = np.sort(repeats[:, :, 1], axis=0)
    np.testing.assert_array_equal(np.isfinite(alone).sum(0), np.isfinite(repeats[:, :, 1]).sum(0))
    found = scoring.noise_ceiling(repeats)
    assert found[1] == pytest.approx(scoring.noise_ceiling(alone[:, :, None])[0], rel=1e-6)


def test_a_study_says_once_how_many_voxels_keep_their_other_sessions(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="latentcortex")
    given = responses()
    by_chunk = ReadByChunk.of(given, Splits.held_out(IDS[60:], IDS[:60]), "session")
    assert valid_voxels(by_chunk, Cells()).all()
    said = [record.getMessage() for record in caplog.records if "not measured" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("1 voxels were not measured in some sessions")
