"""What runs in a process of its own: the only code that imports pycortex.

pycortex reads its configuration, and writes it if there is none, when it is imported; so the process gets a home
and a configuration of its own before it starts, see `latentcortex._pycortex.run`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(job: Path) -> None:
    """Write the folder of a static viewer, `job/static`, from what `run` left in `job`."""
    import cortex
    from cortex.webgl.view import make_static

    asked = json.loads((job / "job.json").read_text(encoding="utf-8"))
    with np.load(job / "maps.npz", allow_pickle=False) as arrays:
        views = {
            view["id"]: _view(cortex, asked["subject"], view, arrays[view["id"]], i)
            for i, view in enumerate(asked["views"])
        }
    layers = ("rois",)
    make_static(
        str(job / "static"),
        cortex.Dataset(**views),
        overlay_file=str(job / "overlays.svg"),
        overlays_available=("rois",),
        overlays_visible=layers,
        labels_visible=layers,
        title=asked["subject"],
    )


def _view(cortex: Any, subject: str, view: dict[str, Any], values: Any, priority: int) -> Any:
    if view["colours"]:
        red, green, blue = np.ascontiguousarray(values[:, :3].T)
        opacity = cortex.Vertex(values[:, 3] / np.float32(255), subject, vmin=0, vmax=1)
        return cortex.VertexRGB(red, green, blue, subject, alpha=opacity, priority=priority)
    low, high = view["limits"]
    return cortex.Vertex(values, subject, cmap=view["scale"], vmin=low, vmax=high, priority=priority)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
