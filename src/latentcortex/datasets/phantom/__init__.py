"""The phantom: a simulated participant who saw drawn scenes, with a planted truth that a test can recover.

Signals come from features of the bundled latent diffusion model; three in four vertices with signal have a
nonlinear or an unmodelled component that no fitted band contains. The truth is in `truth`, how trials are made
from it in `simulation`, the scenes are drawn by `scenes`.
"""

from __future__ import annotations

from pathlib import Path

from latentcortex.datasets.phantom.phantom import Phantom
from latentcortex.datasets.phantom.stimuli import N_TEST, N_TRAIN, draw_stimuli, stimulus_ids

__all__ = ["N_TEST", "N_TRAIN", "Phantom", "draw_stimuli", "model_folder", "stimulus_ids"]


def model_folder() -> Path:
    """Return the folder of the bundled latent diffusion model."""
    return Path(__file__).parent / "model"
