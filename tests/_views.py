"""Maps that both viewers are tried with: planted ones, and strings that must stay text."""

from __future__ import annotations

import numpy as np

from latentcortex import _surfaces, plotting

N = sum(_surfaces.n_vertices())
LEFT = np.where(np.arange(N) < N // 2, 1.0, np.nan)
NOTHING = np.full(N, np.nan)
FORWARD = np.concatenate([mesh.coordinates[:, 1] for mesh in _surfaces.surface("pial")])
"""Anterior is high."""
MARKUP = "</script><img src=x onerror='hacked=1'> <!--<script> & \"ü\" λ 🧠"


def regions() -> plotting.Rois:
    return plotting.Rois(np.where(FORWARD < -85, 1, np.where(FORWARD > 40, 2, 0)), {1: "back", 2: MARKUP})


def groups() -> list[plotting.Group]:
    numbers = [
        plotting.Panel("left", LEFT),
        plotting.Panel(MARKUP, NOTHING),
        plotting.Panel("front half", np.where(FORWARD < 0, np.nan, 0.5)),
    ]
    shares = plotting.SharePanel("two", LEFT, 0.5 * LEFT, unsure=np.where(FORWARD > 0, 1.0, np.nan))
    layers = plotting.PreferencePanel("which", np.where(FORWARD > 0, 1.0, 0.0), confidence=np.full(N, 0.5))
    return [
        plotting.Group(numbers, "numbers", label=MARKUP, limits=(0.0, 1.0)),
        plotting.Group([plotting.Panel("forward", FORWARD)], limits=(-120.0, 80.0)),
        plotting.Group([shares], "shares", names=("z", MARKUP)),
        plotting.Group([layers], "layers", names=("early", "late")),
    ]
