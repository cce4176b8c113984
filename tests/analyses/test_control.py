"""What a shuffled control says of a map, and where: counts at the map's own threshold; warnings in the log only."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import _battery_control as battery
import numpy as np
import pytest
from _rates import missed
from _rates import runs as runs_of

from latentcortex import Encoder, Responses, _files, executors
from latentcortex.analyses import Scorer
from latentcortex.analyses.latents import Latents
from latentcortex.encoding import Cells, Criterion, HeldOutSides, ReadByChunk
from latentcortex.estimators.banded_ridge import BandedRidge
from latentcortex.features import Features
from latentcortex.inference.control import expected_false, tally, tally_draws
from latentcortex.reporting import alterations
from latentcortex.space import Unlocated
from latentcortex.splits import Splits

runs = partial(runs_of, battery.BATTERY)


@runs("expected_false")
def test_as_many_discoveries_are_expected_to_be_false_as_are_planted(n: int) -> None:
    assert missed(battery.expected_false(n)) == []


@runs("wrong_null")
def test_discoveries_of_a_null_that_does_not_fit_are_expected_to_be_false(n: int) -> None:
    """What the false discovery rate that was asked for does not tell."""
    assert missed(battery.wrong_null(n)) == []


@pytest.mark.slow
def test_of_the_phantom_as_many_discoveries_are_expected_to_be_false_as_are_planted(phantom_features: Features) -> None:
    from latentcortex.datasets.phantom import Phantom

    phantom, bands = Phantom(), ("z", "c", "zc_strength-80_step-100")
    responses, ids = phantom.responses("01"), phantom.ids
    train, test = responses.split(train_ids=ids[:900], test_ids=ids[900:], zscore="session")
    criterion = Criterion(identifiability=False)
    sides = phantom_features.select_bands(bands), HeldOutSides(train.averaged(), test.averaged())
    maps = Scorer(*sides, BandedRidge, criterion, twin=True).score(Latents("latents", tuple((b,) for b in bands)))
    null = phantom.truth("01").table["kind"].to_numpy() == "null"
    for band in bands:
        (facts,) = maps.find_columns(model=band, band=band, statistic="mask").columns.to_dict("records")
        false = (maps.values(model=band, band=band, statistic="mask")[null] == 1).sum()
        assert false > 100
        assert facts["n_false_low"] <= false <= facts["n_false_high"] <= 1.5 * facts["n_false"]
        assert facts["null_fraction"] == pytest.approx(null.mean(), abs=0.03)


def test_the_control_is_counted_at_the_threshold_of_the_map_and_scaled_by_the_nulls() -> None:
    p = np.r_[np.full(40, 1e-4), np.full(20, 0.6), np.full(20, 0.4), np.nan]
    assert tally(p, 1e-4) == (40, 20)
    one = expected_false(p, 1e-4, np.array([[5, 39]]))
    assert (one.n_control, one.null_fraction, one.n_false) == (5, 21 / 40, 5 * 21 / 40)
    assert np.isnan([one.low, one.high]).all()
    many = expected_false(p, 1e-4, np.array([[0, 39], [10, 39]] * 50))
    assert many.n_false == pytest.approx(5 * 21 / 40)
    assert (many.low, many.high) == (0, 7)
    assert expected_false(p, 1e-4, np.array([[5, 0]])).null_fraction == 1
    assert expected_false(np.full(9, 0.9), 0.0, np.array([[0, 5]])).n_false == 0


def test_draws_are_judged_among_each_other() -> None:
    rng = np.random.default_rng(0)
    drawn = np.c_[rng.standard_normal((99, 60)), np.full(99, np.nan)]
    counts = tally_draws(drawn, 0.1)
    np.testing.assert_array_equal(counts.sum(0), [60 * 10, 60 * 49])  # ranks 1 to 10, and 51 to 99, of a hundred


def test_what_is_told_of_controls_and_refits_is_in_the_log_and_in_no_report(tmp_path: Path) -> None:
    """In every thread: three models are fitted side by side, and permutations that are too few warn of each."""
    features, responses = battery.participant(0, 0, 120, 100)
    rng = np.random.default_rng(1)
    bands = {name: features.array("z", features.ids) + rng.standard_normal((120, 6)) for name in ("a", "b", "c")}
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")
    criterion = Criterion(identifiability=False, null="permutation", n_permutations=30)
    scorer = Scorer(
        Features.from_arrays(features.ids, bands), HeldOutSides(train, test), BandedRidge, criterion, twin=True
    )
    path = tmp_path / "log.jsonl"
    with _files.logging_to(path), _files.telling_of(participant="01"):
        scorer.score(Latents("latents", (("a",), ("b",), ("c",))))
    entries, _ = _files.read_log(path)
    few = [entry for entry in entries if "30 permutations are too few" in entry["what"]]
    assert {entry["participant"] for entry in entries} == {"01"}
    assert sorted(entry["model"] for entry in few if entry.get("control") == "shuffled control") == ["a", "b", "c"]
    assert sorted(entry["model"] for entry in few if "control" not in entry) == ["a", "b", "c"]
    told = [entry for entry in alterations(path, "01") if "30 permutations are too few" in entry["what"]]
    assert sorted(entry["what"].partition(":")[0] for entry in told) == [f"latents, {name}, p" for name in "abc"]
    assert [entry["times"] for entry in told] == [1, 1, 1]
    assert alterations(path, "02") == []


def test_a_report_names_the_models_that_a_finding_is_told_of_once(tmp_path: Path) -> None:
    path, logger = tmp_path / "log.jsonl", logging.getLogger("latentcortex.tests")
    with _files.logging_to(path):
        for model in ("z", "c", "z"):
            with _files.telling_of(analysis="latents", model=model):
                logger.warning("The folds are uneven.")
            with _files.telling_of(control="permutations that refit"):
                logger.warning("Nobody must be told.")
    assert alterations(path) == [
        {"level": "warning", "what": "The folds are uneven.", "models": ["latents, z", "latents, c"], "times": 1}
    ]


def test_permutations_that_refit_warn_of_nothing_in_a_report(tmp_path: Path) -> None:
    """The smallest penalty is best for noise in a permutation: that is no finding of the participant."""
    features, responses = battery.participant(0, 0, 60, 100)

    class Telling(BandedRidge):
        def prepare(self, *given: object, **more: object) -> object:
            logging.getLogger("latentcortex.tests").warning("A fit was made.")
            return super().prepare(*given, **more)

    path = tmp_path / "log.jsonl"
    with _files.logging_to(path):
        splits = Splits.k_fold(responses.ids, 3, seed=0)
        Encoder(Telling(seed=0)).cross_validate(features, responses, splits, zscore="none", n_permutations=3)
    lines = path.read_text().splitlines()
    assert sum("permutations that refit" in line for line in lines if "A fit was made" in line) == 9
    assert [entry["times"] for entry in alterations(path) if entry["what"] == "A fit was made."] == [1]


class Telling(BandedRidge):
    """An estimator that warns whenever it is made ready for rows."""

    def prepare(self, *given: object, **more: object) -> object:
        logging.getLogger("latentcortex.tests").warning("A fit was made.")
        return super().prepare(*given, **more)


def fits_in_log(tmp_path: Path, scorer: Scorer, analysis: Latents) -> tuple[list[dict[str, Any]], int]:
    """Run an analysis; return the entries of the log on fits, and how many of them a report lists."""
    path = tmp_path / "log.jsonl"
    with _files.logging_to(path), _files.telling_of(participant="01"):
        scorer.score(analysis)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    listed = [entry for entry in alterations(path, "01") if entry["what"] == "A fit was made."]
    return [entry for entry in entries if entry["what"] == "A fit was made."], sum(entry["times"] for entry in listed)


def test_fits_to_halves_and_to_shuffled_responses_warn_of_nothing_in_a_report(tmp_path: Path) -> None:
    features, responses = battery.participant(0, 0, 120, 100)
    rng = np.random.default_rng(1)
    bands = {name: features.array("z", features.ids) + rng.standard_normal((120, 6)) for name in ("a", "b")}
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")
    criterion = Criterion(identifiability=False, n_refits=5, null="analytic")
    scorer = Scorer(Features.from_arrays(features.ids, bands), HeldOutSides(train, test), Telling, criterion, twin=True)
    entries, n_listed = fits_in_log(tmp_path, scorer, Latents("latents", (("a",), ("b",))))
    of = Counter(entry.get("control", "the participant's") for entry in entries)
    assert of["fits to halves of the training stimuli"] == 10
    assert of["shuffled control"] == 2
    assert of["the participant's"] == 2
    assert {entry["model"] for entry in entries if "control" not in entry} <= {"a", "b"}
    assert n_listed == 1  # in the same words of both models
    assert {entry["participant"] for entry in entries} == {"01"}


class Elsewhere:
    """Runs each cell where nothing is known of what the log tells of, as another process would."""

    def map(self, function: Any, cells: Sequence[Any]) -> Iterator[Any]:
        for cell in cells:
            yield Context().run(executors.with_threads, 1, function, cell)


class Reading(HeldOutSides):
    """Responses that warn whenever some of them are read."""

    def folds(self, voxels: slice) -> Any:
        logging.getLogger("latentcortex.tests").warning("Voxels were read.")
        return super().folds(voxels)


@pytest.mark.parametrize("executor", [executors.make("threads"), Elsewhere()], ids=["threads", "elsewhere"])
def test_records_carry_the_cell_that_they_come_from_wherever_it_is_computed(tmp_path: Path, executor: Any) -> None:
    features, responses = battery.participant(0, 0, 120, 100)
    train, test = responses.split(test_ids=responses.ids[80:], zscore="none")
    criterion, path = Criterion(identifiability=False, null="analytic"), tmp_path / "log.jsonl"
    scorer = Scorer(features, Reading(train, test), BandedRidge, criterion, Cells(executor=executor), twin=True)
    with _files.logging_to(path), _files.telling_of(participant="01"):
        scorer.score(Latents("latents", (("z",),)))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    own, shuffled = [], []
    for entry in entries:
        if entry["what"] == "Voxels were read." and "voxels" in entry.get("cell", {}):
            (shuffled if "control" in entry else own).append(entry)
    assert len(own) == len(shuffled) > 0
    assert {entry["participant"] for entry in (*own, *shuffled)} == {"01"}
    assert {(entry["cell"]["analysis"], entry["cell"]["models"]) for entry in (*own, *shuffled)} == {("latents", "z")}
    assert {entry["cell"].get("control") for entry in own} == {None}
    assert {entry["cell"]["control"] for entry in shuffled} == {"shuffled"}
    (listed,) = [entry for entry in alterations(path, "01") if entry["what"] == "Voxels were read."]
    assert listed["times"] == 1


@pytest.mark.parametrize("n_fitted", [18, 40])
def test_every_warning_of_scores_and_tests_names_its_statistic(n_fitted: int, caplog: pytest.LogCaptureFixture) -> None:
    """Shares of few stimuli, a baseline that differs, responses that go against the fitted ones, few permutations."""
    rng = np.random.default_rng(0)
    ids = [f"s{i:02d}" for i in range(n_fitted + 20)]
    bands = {name: rng.standard_normal((len(ids), 3)) for name in ("a", "b")}
    y = bands["a"] @ rng.standard_normal((3, 300)) + 0.5 * rng.standard_normal((len(ids), 300))
    y[n_fitted:] = 3 - y[n_fitted:]
    about = {"stimulus": ids, "session": ["1"] * len(ids), "run": ["1"] * len(ids)}
    responses = Responses.single_trials(y.astype(np.float32), Unlocated(300), **about)
    train, test = responses.split(test_ids=ids[n_fitted:], zscore="none")
    criterion = Criterion(null="permutation", n_permutations=9, n_refits=0)
    features = Features.from_arrays(ids, bands)
    Scorer(features, HeldOutSides(train, test), BandedRidge, criterion).score(Latents("latents", (("a", "b"),)))
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    ours = [record for record in warned if record.name.startswith(("latentcortex.encoding", "latentcortex.inference"))]
    named = {"r": "median r of", "r2": "mean R²", "p": ", p: ", "identifiability": "Identifiability"}
    for record in ours:
        assert named[record.facts["statistic"]] in record.getMessage()  # type: ignore[attr-defined]
    found = {record.facts["statistic"] for record in ours}  # type: ignore[attr-defined]
    assert found >= {"r", "r2"} | ({"identifiability"} if n_fitted == 18 else set())


def test_no_count_is_kept_where_maps_are_judged_together() -> None:
    """Across folds the draws are gone by then, and the threshold of the map alone is not the one that holds."""
    features, whole = battery.participant(0, 0, 60, 50)
    responses = whole.select_voxels(np.arange(battery.N_VOXELS) < 100)
    splits = Splits.k_fold(responses.ids, 3, seed=0)
    for family in ("map", "hierarchical"):
        criterion = Criterion(n_permutations=39, family=family)
        scorer = Scorer(features, ReadByChunk.of(responses, splits, "none"), BandedRidge, criterion)
        columns = scorer.score(Latents("latents", (("z",),))).find_columns(statistic="mask").columns
        assert columns["n_false"].notna().all() == (family == "map")
        assert columns["n_false_is"].notna().all() == (family == "map")
