"""Counts of which more would be held at once than there is memory are refused in one line, before anything is drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latentcortex import cli, evaluation, inference
from latentcortex.errors import InputError

MANY = 10**10
N = 60
RNG = np.random.default_rng(0)
Y, YHAT = RNG.standard_normal((2, N, 5))
CLUSTERS = [str(i) for i in range(N)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: inference.exchange(N, n_permutations=MANY, seed=0),
        lambda: inference.exchange(N, n_permutations=MANY, seed=0, block=5),
        lambda: inference.share_p(Y, YHAT, YHAT / 2, n_permutations=MANY, seed=0),
        lambda: inference.paired_difference_p(Y, YHAT, YHAT / 2, n_permutations=MANY, seed=0),
        lambda: inference.cluster_p(Y, YHAT, CLUSTERS, n_permutations=MANY, seed=0),
        lambda: inference.bootstrap_rows(N, n_draws=MANY, seed=0),
        lambda: inference.bootstrap_weights(N, clusters=CLUSTERS, n_draws=MANY, seed=0),
        lambda: inference.correlation_p(np.array([0.1]), N, n_draws=MANY),
        lambda: inference.identifiability(
            {"a": Y @ Y.T, "b": YHAT @ YHAT.T}, np.full((2, 5), 0.5), np.ones(5), n_draws=MANY
        ),
        lambda: evaluation.image_weights(N, n_draws=MANY, seed=0),
    ],
)
def test_draws_that_no_memory_holds_are_refused_at_once(draw: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=r"= 10000000000 takes .* GB of memory, and .* GB are free; ask for fewer"):
        draw()
    assert time.monotonic() - began < 2


def test_there_are_only_so_many_shifts_however_many_are_asked_for() -> None:
    assert inference.exchange(N, n_permutations=MANY, seed=0, shift=True).shape == (N - 1, N)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("[inference]\nq = 0.05\nn_permutations = 10000000000", "n_permutations in [inference]"),
        (
            "[evaluation]\nn_bootstrap = 10000000000\n[decoding]\nbands = ['pixels']\n[inference]\nq = 0.05",
            "n_bootstrap in [evaluation]",
        ),
        (
            "[splits]\nunit = 'cluster'\ncross_validation = 3\nn_clusters = 10000000000\n[inference]\nq = 0.05",
            "n_clusters in [splits] is 10000000000",
        ),
        ("[splits]\ncross_validation = 10000000000\n[inference]\nq = 0.05", "10000000000 folds cannot be made"),
    ],
)
def test_a_study_that_asks_for_too_many_is_refused_before_anything_is_written(
    folder_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, says: str
) -> None:
    folder_study.write_text(folder_study.read_text().replace("[inference]\nq = 0.05", section))
    assert cli.main(["run", str(folder_study), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not (tmp_path / "out").exists()
