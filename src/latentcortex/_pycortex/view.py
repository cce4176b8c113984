"""Maps as pycortex's pages show them: a job is written into a folder, and a process of its own makes the page."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcortex._arrays import FloatArray, IntArray
from latentcortex._pycortex import overlays, packing, subject
from latentcortex._surfaces import n_vertices
from latentcortex.errors import LatentcortexError, MissingExtraError
from latentcortex.executors import run_program

SCALE: Final = "scale{}"
VIEW: Final = "map{:04d}"
"""What pycortex is told that scales and maps are called. It writes such names into HTML as they are."""


@dataclass(frozen=True, eq=False)
class View:
    """One map as it is shown.

    Parameters
    ----------
    values : ndarray of shape (n_vertices,) or of uint8, shape (n_vertices, 4)
        Numbers, nan where the curvature shows; or red, green, blue and opacity.
    limits : tuple of float
        Ends of the scale of numbers.
    palette : ndarray of uint8, shape (256, 3), optional
        Colours of the scale of numbers, from its lower end.
    """

    values: FloatArray | NDArray[np.uint8]
    limits: tuple[float, float] = (0.0, 1.0)
    palette: NDArray[np.uint8] | None = None


def require(needed_for: str) -> None:
    """Raise `MissingExtraError` if pycortex is not installed; it is not imported."""
    if importlib.util.find_spec("cortex") is None:
        raise MissingExtraError.of("pycortex", needed_for=needed_for)


def page(
    views: Sequence[View],
    *,
    told: Mapping[str, Any],
    template: str = "fsaverage5",
    regions: tuple[IntArray, Mapping[int, str]] | None = None,
    filestore: Path | None = None,
) -> str:
    """Make the WebGL viewer of some maps: one HTML page that needs no other file.

    Parameters
    ----------
    views : sequence of View
        Called `map0000`, `map0001`, ... in the page.
    told : dict
        What the page says: see `packing.packed`.
    template : str
        Whose vertices they are.
    regions : tuple of (labels, names), optional
        Region of each vertex, and label -> name.
    filestore : Path, optional
        Where the subject is or is put; a temporary folder by default.

    Raises
    ------
    InputError
        If the filestore cannot be used: see `subject.build`.
    LatentcortexError
        If pycortex fails.
    """
    with tempfile.TemporaryDirectory(prefix="latentcortex-") as folder:
        job = Path(folder)
        _prepare(job, views, filestore or job / "filestore", template)
        labels, names = regions or (np.zeros(sum(n_vertices(template)), dtype=np.int64), {})
        (job / "overlays.svg").write_bytes(overlays.drawing(labels, names, template))
        _run(job)
        return packing.packed(job / "static", told, regions=regions is not None)


def _prepare(job: Path, views: Sequence[View], filestore: Path, template: str) -> None:
    """Write the maps, their scales and pycortex's configuration."""
    subject.build(filestore, template)
    for name in ("colormaps", "config/pycortex", "home", "tmp"):
        (job / name).mkdir(parents=True)
    told: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for i, view in enumerate(views):
        palette = grey if view.palette is None else view.palette
        Image.fromarray(palette[None]).convert("RGBA").save(job / "colormaps" / f"{SCALE.format(i)}.png")
        name, coloured = VIEW.format(i), view.values.ndim == 2
        arrays[name] = view.values if coloured else view.values.astype(np.float32)
        told.append({"id": name, "colours": coloured, "limits": view.limits, "scale": SCALE.format(i)})
    np.savez(job / "maps.npz", **arrays)
    (job / "job.json").write_text(json.dumps({"subject": subject.name_of(template), "views": told}), encoding="utf-8")
    (job / "config" / "pycortex" / "options.cfg").write_text(_configuration(job, filestore), encoding="utf-8")


def _configuration(job: Path, filestore: Path) -> str:
    """Write pycortex's settings; a percent sign would be the start of a reference."""
    sections: dict[str, dict[str, Any]] = {
        "basic": {"filestore": filestore.resolve(), "cache": job / "cache", "default_cmap": SCALE.format(0)},
        "webgl": {"colormaps": job / "colormaps"},
        "webshow": {"open_browser": "false"},
        "webgl_viewopts": {"specularity": 0.15, "overlayscale": 1},
        "curvature": {"brightness": 0.55, "contrast": 0.16},
        "rois_paths": {"stroke": "white", "stroke-width": 0.28},
        "rois_labels": {"font-size": "12pt", "font-style": "normal"},
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items()), ""]
    return "\n".join(lines)


def _run(job: Path) -> None:
    """Run the worker where nothing of the user's can be read or written by accident."""
    given = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    private = {
        "HOME": job / "home",
        "XDG_CONFIG_HOME": job / "config",
        "XDG_CACHE_HOME": job / "home",
        "XDG_DATA_HOME": job / "home",
        "MPLCONFIGDIR": job / "home",
        "TMPDIR": job / "tmp",
        # What was installed with `pip install --user` is found relative to HOME otherwise.
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONPATH": os.pathsep.join(str(path) for path in (Path(__file__).parents[2], *map(os.path.abspath, given))),
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": job / "home",
    }
    command = [sys.executable, "-P", "-m", "latentcortex._pycortex.worker", str(job)]
    environment = os.environ | {name: str(value) for name, value in private.items()}
    done = run_program(command, environment=environment, folder=job)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise LatentcortexError(f"pycortex could not make the viewer: {said[-1]}")
