"""The phantom's trials, made from its truth: when each stimulus is shown, and with which noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from latentcortex._arrays import FloatArray, IntArray, random_for
from latentcortex.datasets.phantom.truth import Truth, smooth_noise
from latentcortex.executors import share

N_SESSIONS: Final = 6
RUNS_PER_SESSION: Final = 5
N_TEST_REPEATS: Final = 3
SMOOTH_FRACTION: Final = 0.5
"""Fraction of the noise variance that is smooth over cortex."""
DRIFT_FRACTION: Final = 0.1
"""Fraction of the noise variance that drifts slowly within a session."""


def schedule(ids: Sequence[str], n_train: int, *, seed: int, participant: str) -> pd.DataFrame:
    """Deal trials into sessions and runs: training stimuli twice or three times, test stimuli three times.

    Returns
    -------
    DataFrame
        Columns `stimulus`, `session`, `run`, in order of presentation.
    """
    rng = random_for(seed, "schedule", participant)
    repeats = np.full(len(ids), N_TEST_REPEATS)
    repeats[:n_train] = rng.permutation(np.arange(n_train) % 2) + 2
    first = rng.integers(N_SESSIONS, size=len(ids))
    rows = [
        (name, (start + 2 * k) % N_SESSIONS)
        for name, n, start in zip(ids, repeats, first, strict=True)
        for k in range(n)
    ]
    table = pd.DataFrame(rows, columns=["stimulus", "session"])
    table = table.iloc[rng.permutation(len(table))].sort_values("session", kind="stable").reset_index(drop=True)
    position = table.groupby("session").cumcount() / table.groupby("session")["stimulus"].transform("size")
    table["run"] = [f"{int(p * RUNS_PER_SESSION) + 1:02d}" for p in position]
    table["session"] = [f"{s + 1:02d}" for s in table["session"]]
    return table


def trials(truth: Truth, table: pd.DataFrame, *, seed: int, participant: str) -> FloatArray:
    """Simulate every trial: signal, session offsets, drift and spatially smooth noise.

    The noise variance follows from the planted ceiling c of three averaged trials, sigma² = 3 (1 - c) / c;
    vertices without signal have a variance of 2.

    Returns
    -------
    ndarray of float32, shape (n_trials, n_voxels)
    """
    stimuli = list(dict.fromkeys(table["stimulus"]))
    number = {name: i for i, name in enumerate(stimuli)}
    shown = np.array([number[name] for name in table["stimulus"]])
    ceiling = truth.table["ceiling"].to_numpy()
    variance = np.where(ceiling > 0, N_TEST_REPEATS * (1 - ceiling) / np.maximum(ceiling, 1e-9), 2.0)
    spread = np.sqrt(variance).astype(np.float32)
    data = truth.signal(stimuli)[shown]

    def add_noise(session: str) -> None:
        rows = np.flatnonzero(table["session"] == session)
        rng = random_for(seed, "noise", participant, session)
        noise = _session_noise(truth, len(rows), rng) * spread
        offset = rng.standard_normal(len(spread), dtype=np.float32)  # each session has its own
        data[rows] += noise + offset

    share(add_noise, sorted(set(table["session"])))
    return _with_invalid_voxels(truth, data)


def _session_noise(truth: Truth, n_trials: int, rng: np.random.Generator) -> FloatArray:
    """Draw the noise of one session, (n_trials, n_voxels), of unit variance."""
    n_voxels = len(truth.vertices)
    white = rng.standard_normal((n_voxels, n_trials), dtype=np.float32)
    smooth = smooth_noise(truth.vertices, rng.standard_normal((n_voxels, n_trials), dtype=np.float32), 3)
    drift = smooth_noise(truth.vertices, rng.standard_normal((n_voxels, 4), dtype=np.float32), 6) @ _drift_courses(
        n_trials, rng
    )
    fractions = np.sqrt([1 - SMOOTH_FRACTION - DRIFT_FRACTION, SMOOTH_FRACTION, DRIFT_FRACTION], dtype=np.float32)
    return np.asarray((fractions[0] * white + fractions[1] * smooth + fractions[2] * drift).T)


def _drift_courses(n_trials: int, rng: np.random.Generator) -> FloatArray:
    """Draw slow courses over a session, (4, n_trials): cosines of random phase, together of unit variance."""
    t = np.arange(n_trials) / n_trials
    phase = rng.uniform(0, 2 * np.pi, size=4)
    courses = [np.cos(np.pi * (k + 1) * t + phase[k]) for k in range(4)]
    return np.asarray(np.stack(courses) / np.sqrt(2), dtype=np.float32)


def _with_invalid_voxels(truth: Truth, data: FloatArray) -> FloatArray:
    """Make some vertices constant and some nan in part of the trials, as real data have them."""
    state = truth.table["state"].to_numpy()
    data[:, state == "constant"] = 0.0
    invalid: IntArray = np.flatnonzero(state == "nan")
    data[len(data) // 3 : len(data) // 2, invalid] = np.nan
    return data
