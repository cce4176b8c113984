"""The phantom as a dataset: scenes, trials and the planted truth of simulated participants."""

from __future__ import annotations

from threading import Lock
from typing import Annotated, Final

import numpy as np
import pandas as pd
from annotated_types import Interval

from latentcortex import _files
from latentcortex._arrays import FloatArray, digest, listed
from latentcortex._methods import software
from latentcortex._ranges import Count, Participants
from latentcortex.datasets import check_participants, responses_of_slice
from latentcortex.datasets.phantom import simulation
from latentcortex.datasets.phantom.probe import SceneProbe
from latentcortex.datasets.phantom.stimuli import N_TEST, N_TRAIN, draw_stimuli, stimulus_ids
from latentcortex.datasets.phantom.truth import FACTORS, Truth, cortical_vertices
from latentcortex.errors import InputError
from latentcortex.responses import Responses
from latentcortex.space import Surface
from latentcortex.stimuli import Stimuli

VERSION: Final = 1
SIMULATING: Final = Lock()
"""Threads that ask for chunks at the same time wait for one simulation of all vertices."""


class Phantom:
    """A simulated dataset on fsaverage5.

    Parameters
    ----------
    participants : sequence of str
        Each has vertices, trials and noise of its own.
    seed : int
        Seed of truth, trials and noise; the scenes are always the same.
    n_train, n_test : int
        Numbers of stimuli; by default all 900 and 300 that there are.
    """

    def __init__(
        self,
        participants: Participants = ("01",),
        *,
        seed: Count = 0,
        n_train: Annotated[int, Interval(ge=2, le=N_TRAIN)] = N_TRAIN,
        n_test: Annotated[int, Interval(ge=2, le=N_TEST)] = N_TEST,
    ) -> None:
        self.participants, self.seed = check_participants(participants), seed
        if not (2 <= n_train <= N_TRAIN and 2 <= n_test <= N_TEST):
            raise InputError(
                f"The phantom has 2..{N_TRAIN} train and 2..{N_TEST} test stimuli; got {n_train}, {n_test}."
            )
        self.n_train, self.n_test = n_train, n_test
        self._trials: tuple[str, FloatArray] = ("", np.empty((0, 0), dtype=np.float32))

    @property
    def ids(self) -> list[str]:
        """The stimulus ids, training stimuli first."""
        return stimulus_ids(self.n_train, self.n_test)

    def stimuli(self) -> Stimuli:
        """Draw the scenes, with five captions each."""
        return draw_stimuli(self.ids)

    def truth(self, participant: str) -> Truth:
        """Return what is planted in each vertex of a participant."""
        self._check(participant)
        return Truth.plant(seed=self.seed, participant=participant)

    def rows(self, participant: str) -> pd.DataFrame:
        """Deal the trials of a participant into sessions and runs."""
        self._check(participant)
        trials = simulation.schedule(self.ids, self.n_train, seed=self.seed, participant=participant)
        split = [name.rstrip("0123456789") for name in trials["stimulus"]]
        return trials.assign(n_repeats=1, split=split)

    def space(self, participant: str) -> Surface:
        """Return the vertices of a participant: those of cortex, without the medial wall."""
        self._check(participant)
        return Surface("fsaverage5", cortical_vertices())

    def responses(self, participant: str, voxels: slice = slice(None)) -> Responses:
        """Simulate the trials of a participant.

        Noise is smooth over cortex, so that any slice needs a simulation of all vertices; it is kept until another
        participant is asked for.
        """
        rows, space = self.rows(participant), self.space(participant)
        start, stop, _ = voxels.indices(space.n_voxels)
        with SIMULATING:
            simulated, data = self._trials
            if simulated != participant:
                data = simulation.trials(self.truth(participant), rows, seed=self.seed, participant=participant)
            if stop - start < space.n_voxels:
                self._trials = participant, data
            is_kept = data is self._trials[1]
        part = data[:, start:stop]
        return responses_of_slice(part.copy() if is_kept else part, rows, space, voxels)

    def tables(self, participant: str) -> dict[str, pd.DataFrame]:
        """Return the planted truth of every vertex, which a study writes beside its maps."""
        truth = self.truth(participant)
        table = truth.table.copy()
        table.insert(0, "vertex", truth.vertices)
        return {"truth": table}

    def probe(self) -> SceneProbe:
        """Return the network that reads the attributes of a scene off an image."""
        return SceneProbe()

    def methods(self, participant: str) -> str:
        """Write how the responses were simulated for a methods section."""
        return (
            f"The participant is simulated (the phantom of {software()}, seed {self.seed}): responses to "
            f"{len(self.ids):,} drawn scenes are signals from features of the bundled latent diffusion model, with a "
            "nonlinear or an unmodelled component in three of four vertices with signal, and noise of which half the "
            "variance is smooth over cortex and a tenth drifts within sessions."
        )

    def fingerprint(self, participant: str) -> str:
        """Return a digest of all that the trials are simulated from."""
        self._check(participant)
        return digest("phantom", VERSION, _files.sha256(FACTORS), self.seed, participant, self.n_train, self.n_test)

    def _check(self, participant: str) -> None:
        """Raise `InputError` unless the phantom has this participant."""
        if participant not in self.participants:
            raise InputError(f"No participant {participant!r}; there are {listed(self.participants)}.")
