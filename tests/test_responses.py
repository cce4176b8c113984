from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from latentcortex import scoring
from latentcortex.errors import AlignmentError, InputError
from latentcortex.responses import MIN_TRAIN_ROWS, Responses
from latentcortex.space import Unlocated

SHOWN = [*"abcab", *"cdeab", *"fdefc"]
SESSION = [*"11111", *"22222", *"33333"]


def trials(n_voxels: int = 4, *, times: int = 1) -> Responses:
    n = 15 * times
    data = np.random.default_rng(0).standard_normal((n, n_voxels)).astype(np.float32) * 3 + 10
    shown = {"stimulus": SHOWN * times, "session": SESSION * times, "run": ["1"] * n}
    return Responses.single_trials(data, Unlocated(n_voxels), **shown)


def test_averages_are_pandas_and_carry_their_number_of_trials() -> None:
    responses = trials()
    expected = pd.DataFrame(responses.data).groupby(SHOWN).mean()
    averaged = responses.averaged()
    assert averaged.ids == (*"abcdef",)
    np.testing.assert_allclose(averaged.data, expected.loc[list(averaged.ids)], rtol=1e-5)
    assert averaged.n_repeats.tolist() == [3, 3, 3, 2, 2, 2]


def test_averages_of_averages_are_those_of_trials() -> None:
    responses = trials()
    half = [responses.select_stimuli(list("abc")).averaged(), responses.select_stimuli(list("def")).averaged()]
    rows = pd.concat([one.rows for one in half], ignore_index=True)
    joined = Responses(np.concatenate([one.data for one in half]), rows, Unlocated(4))
    np.testing.assert_allclose(joined.averaged().data, responses.averaged().data, rtol=1e-6)


def test_z_scores_use_the_training_rows_of_each_session_only() -> None:
    responses = trials(times=4)
    train, test = responses.split(test_ids=["a", "f"])
    fit = ~np.isin(SHOWN * 4, ["a", "f"])
    for session in "123":
        here = np.array(SESSION * 4) == session
        own = responses.data[here & fit].astype(np.float64)
        np.testing.assert_allclose(train.data[train.rows["session"] == session].mean(0), 0, atol=1e-5)
        expected = (responses.data[here & ~fit] - own.mean(0)) / own.std(0)
        np.testing.assert_allclose(test.data[test.rows["session"] == session], expected, rtol=1e-4, atol=1e-5)


def test_test_rows_never_change_the_training_rows() -> None:
    responses = trials(times=4)
    changed = responses.data.copy()
    changed[np.isin(SHOWN * 4, ["a", "f"])] *= 100
    other = Responses(changed, responses.rows, responses.space)
    np.testing.assert_array_equal(
        responses.split(test_ids=["a", "f"])[0].data, other.split(test_ids=["a", "f"])[0].data
    )


def test_rows_in_neither_side_are_left_out_and_need_no_statistics() -> None:
    responses = trials(times=3)
    only = responses.select_stimuli(list("abc"))
    train, test = responses.split(train_ids=["a", "b", "c"], test_ids=["d"], zscore="none")
    assert (train.ids, test.ids) == (("a", "b", "c"), ("d",))
    np.testing.assert_array_equal(train.data, only.data)
    rows = responses.rows.assign(session=["1"] * 30 + ["9"] * 15)
    lonely = Responses(responses.data, rows.assign(stimulus=[*"abcababcab"] * 3 + ["f"] * 15), responses.space)
    lonely.split(train_ids=["a", "b"], test_ids=["c"])


@pytest.mark.parametrize("within", ["session", "run"])
def test_a_session_that_is_held_out_is_z_scored_with_statistics_of_its_own(within: str) -> None:
    """And the others with those of their training rows, as before: nothing of the held-out rows reaches them."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"stimulus": [f"s{i}" for i in range(60)], "session": np.repeat(["1", "2", "3"], 20)})
    rows = rows.assign(run=rows["session"], n_repeats=1)
    data = rng.standard_normal((60, 4)) + np.repeat([[0.0], [5.0], [-7.0]], 20, axis=0)
    ids = list(rows["stimulus"])
    train, test = Responses(data, rows, Unlocated(4)).split(train_ids=ids[:35], test_ids=ids[35:], zscore=within)
    np.testing.assert_allclose(test.data[5:].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(test.data[5:].std(0), 1, atol=1e-5)
    np.testing.assert_allclose(train.data[20:].mean(0), 0, atol=1e-6)
    expected = (data[35:40] - data[20:35].mean(0)) / data[20:35].std(0)
    np.testing.assert_allclose(test.data[:5], expected, atol=1e-4)


def test_a_held_out_session_of_few_rows_is_an_input_error() -> None:
    responses = trials(times=8)
    few = responses.rows["session"].where(responses.rows.index < 117, "4")
    lonely = replace(responses, rows=responses.rows.assign(session=few, stimulus=[f"s{i}" for i in range(120)]))
    with pytest.raises(InputError, match=r"session 4 has 3 held-out rows; z-scoring needs at least 8.*zscore='none'"):
        lonely.split(train_ids=[f"s{i}" for i in range(117)], test_ids=["s117", "s118", "s119"])


def test_runs_are_told_apart_by_session() -> None:
    responses = trials(times=4)
    rows = responses.rows.assign(run=["1", "1", "2", "2", "2"] * 12)
    scored = Responses(responses.data, rows, Unlocated(4)).zscored(fit=np.ones(60, bool), within="run")
    one = ((rows["session"] == "1") & (rows["run"] == "1")).to_numpy()
    assert responses.data[one].shape == (8, 4)
    np.testing.assert_allclose(scored.data[one].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scored.data[one].std(0), 1, atol=1e-5)


def test_sessions_of_few_training_rows_are_refused_with_the_ways_out() -> None:
    """Of two rows z was as large as 812; seven rows do no better than eight, but some border there must be."""
    responses = trials(times=4)
    for least, session in ((2, "1"), (7, "2")):
        fit = np.ones(60, dtype=bool)
        fit[np.flatnonzero(responses.rows["session"] == session)[least:]] = False
        expected = rf"session {session} has {least} training rows; z-scoring needs at least 8\. Use zscore='none', an"
        with pytest.raises(InputError, match=expected):
            responses.zscored(fit=fit)
    with pytest.raises(InputError, match=r"run 3-1 has 3 training rows, and 2 more runs.*zscore='session', z"):
        responses.zscored(fit=np.arange(60) < 13, within="run")


def test_with_as_many_rows_as_the_floor_scores_are_near_those_of_known_sessions() -> None:
    """R² of the mean of a session, which is the signal here, is a quarter below what many rows give, not all of it."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((60, 1, 500))
    gain, offset = np.exp(0.2 * rng.standard_normal((60, 1, 1))), 0.5 * rng.standard_normal((60, 1, 1))
    r2 = {}
    for n_rows in (MIN_TRAIN_ROWS, 64):
        noise = rng.standard_normal((60, n_rows + 1, 500))
        noise[:, -1:] += signal
        data = (gain * noise + offset).reshape(-1, 500).astype(np.float32)
        session = [str(i) for i in range(60) for _ in range(n_rows + 1)]
        shown = {"stimulus": [*["a"] * n_rows, "b"] * 60, "session": session, "run": ["1"] * len(data)}
        _, test = Responses.single_trials(data, Unlocated(500), **shown).split(test_ids=["b"])
        r2[n_rows] = float(np.mean(np.corrcoef(test.data.ravel(), signal.ravel())[0, 1] ** 2))
        assert np.abs(test.data).max() < 40
    assert 0.6 < r2[MIN_TRAIN_ROWS] / r2[64] < 0.9


def test_constant_and_nan_voxels_are_not_valid_even_after_averaging_and_z_scoring() -> None:
    responses = trials(5, times=4)
    data = responses.data
    data[:, 0], data[1, 1], data[2, 2] = 0.1, np.nan, np.inf
    data[responses.rows["session"] == "1", 3] = 7.7  # constant in one session only
    assert responses.valid().tolist() == [False, False, False, True, True]
    assert responses.averaged().valid().tolist() == [False, False, False, True, True]
    train, _ = responses.split(test_ids=["a"])
    assert train.averaged().valid().tolist() == [False] * 4 + [True]


def test_repeats_are_laid_out_for_the_noise_ceiling() -> None:
    responses = trials()
    repeats = responses.repeats()
    assert repeats.shape == (3, 6, 4)
    assert np.isnan(repeats[2, 3:]).all()
    np.testing.assert_allclose(np.nanmean(repeats, axis=0), responses.averaged().data, rtol=1e-5)
    assert np.isfinite(scoring.noise_ceiling(repeats)).all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda r: r.split(test_ids=["x"]), AlignmentError, "no response: x"),
        (lambda r: r.split(test_ids=["a"], train_ids=["a", "b"]), InputError, "both in train and test: a"),
        (lambda r: r.split(test_ids=["a"], zscore="sesion"), InputError, "Did you mean 'session'"),
        (lambda r: Responses(r.data[1:], r.rows, r.space), AlignmentError, "14"),
        (lambda r: Responses(r.data, r.rows, Unlocated(3)), AlignmentError, "expected \\(n_rows, 3\\)"),
        (lambda r: Responses(r.data, r.rows.drop(columns="run"), r.space), InputError, "lack run"),
    ],
)
def test_what_does_not_fit_is_an_error(call, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        call(trials())


@pytest.mark.parametrize("dtype", ["float16", "float64", "longdouble", "int16", "uint16", "int64", "uint64", ">f4"])
@pytest.mark.parametrize("zscore", ["session", "none"])
def test_responses_of_any_type_are_those_of_float32(dtype: str, zscore: str) -> None:
    responses = trials(times=4)
    whole = np.round(10 * np.abs(responses.data))
    plain, other = (Responses(values, responses.rows, Unlocated(4)) for values in (whole, whole.astype(dtype)))
    assert other.data.dtype == np.float32
    sides = (one.split(test_ids=["a", "f"], zscore=zscore) for one in (plain, other))
    for one, same in zip(*sides, strict=True):
        np.testing.assert_array_equal(one.averaged().data, same.averaged().data)
        assert same.averaged().valid().all()


def test_what_a_masked_array_hides_makes_the_voxel_invalid() -> None:
    responses = trials()
    hidden = np.zeros(responses.data.shape, dtype=bool)
    hidden[3, 1] = True
    masked = Responses(np.ma.array(responses.data, mask=hidden), responses.rows, Unlocated(4))
    assert masked.valid().tolist() == [True, False, True, True]


def test_responses_in_any_unit_survive_and_those_that_cannot_are_said(caplog: pytest.LogCaptureFixture) -> None:
    responses = trials(times=4)
    wide = responses.data.astype(np.float64)
    for factor in (1e-15, 1e15):
        other = Responses(wide * factor, responses.rows, Unlocated(4))
        np.testing.assert_allclose(
            other.split(test_ids=["a"])[0].data, responses.split(test_ids=["a"])[0].data, rtol=1e-4, atol=1e-5
        )
    assert not caplog.text
    with pytest.raises(InputError, match="240 responses are larger than float32 can hold"):
        Responses(wide * 1e300, responses.rows, Unlocated(4))
    for values in (wide * 1e-60, wide + 1e12):
        caplog.clear()
        Responses(values, responses.rows, Unlocated(4))
        assert "4 voxels vary by less than float32 can tell" in caplog.text


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda r: Responses(r.data[:, 0], r.rows, Unlocated(1)), r"Responses is \(15,\); expected \(n_rows, 1\)"),
        (lambda r: Responses([*r.data.tolist(), [None] * 4], r.rows, Unlocated(4)), "got object"),
        (lambda r: Responses(pd.DataFrame(r.data), r.rows, Unlocated(4)), "DataFrame; expected an array"),
        (lambda r: Responses(r.data * 1j, r.rows, Unlocated(4)), "got complex64"),
        (lambda r: Responses(r.data > 0, r.rows, Unlocated(4)), "got bool"),
        (lambda r: Responses(r.data, r.rows.assign(session=[None, *SESSION[1:]]), r.space), "session must be strings"),
        (lambda r: Responses(r.data, r.rows.assign(run=[np.nan] * 15), r.space), "run must be strings"),
        (lambda r: Responses(r.data, r.rows.assign(stimulus=[3, *SHOWN[1:]]), r.space), "found 3, of type int"),
        (lambda r: Responses(r.data, r.rows.assign(n_repeats=0), r.space), "n_repeats must be above 0"),
        (lambda r: Responses(r.data, r.rows.to_dict(), r.space), "must be a DataFrame; got dict"),
        (lambda r: r.split(test_ids=[]), "test_ids is empty"),
        (lambda r: r.split(test_ids="a"), "test_ids must be a list of ids; got 'a'"),
        (lambda r: r.split(test_ids=["a", 3]), "test_ids must be strings; found 3"),
        (lambda r: r.split(test_ids=[*"abcdef"]), "train_ids is empty"),
        (lambda r: r.select_voxels(np.array([0, 1, 2, 3])), "expected truth values"),
        (lambda r: r.zscored(fit=np.ones(3, dtype=bool)), r"fit is \(3,\); expected \(15,\)"),
    ],
)
def test_what_no_participant_can_have_is_one_line(call, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        call(trials())
    assert "\n" not in str(error.value)
