"""Maps that both viewers are tried with: planted ones, and strings that must stay text."""

from __future__ import annotations

import numpy as np

from latentcortex import _surfaces, plotting
from latentcortex.space import Atlas

N = sum(_surfaces.n_vertices())
LEFT = np.where(np.arange(N) < N // 2, 1.0, np.nan)
NOTHING = np.full(N, np.nan)
FORWARD = np.concatenate([mesh.coordinates[:, 1] for mesh in _surfaces.surface("pial")])
"""Anterior is high."""
MARKUP = "</script><img src=x onerror='hacked=1'> <!--<script> & \"ü\" λ 🧠"


def regions() -> Atlas:
    labels = np.where(FORWARD < -85, 1, np.where(FORWARD > 40, 2, 0))
    return Atlas("planted", labels, {1: "back", 2: MARKUP}, "fsaverage5")


def groups() -> dict[str, plotting.Painting]:
    numbers = [
        plotting.Panel("left", LEFT),
        plotting.Panel(MARKUP, NOTHING),
        plotting.Panel("front half", np.where(FORWARD < 0, np.nan, 0.5)),
    ]
    shares = plotting.Panel("two", (LEFT, 0.5 * LEFT), unsure=np.where(FORWARD > 0, 1.0, np.nan))
    layers = plotting.Panel("which", np.where(FORWARD > 0, 1.0, 0.0), opacity=np.full(N, 0.5))
    return {
        "numbers": plotting.Scores(numbers, label=MARKUP, limits=(0.0, 1.0)),
        "": plotting.Scores([plotting.Panel("forward", FORWARD)], limits=(-120.0, 80.0)),
        "shares": plotting.Shares([shares], names=("z", MARKUP)),
        "layers": plotting.Preference([layers], ("early", "late")),
    }
