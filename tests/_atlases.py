"""Atlases in folders, drawings and parcellations as tests write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer import io as freesurfer

from latentcortex._pycortex import svg

N = 20484


def flat_points(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read where pycortex puts the vertices: touching, 0..1 over the box round all, y up; and which are flat."""
    pytest.importorskip("svgelements")
    sides = [nib.load(folder / "surfaces" / f"flat_{side}.gii").agg_data() for side in ("lh", "rh")]
    (left, left_triangles), (right, right_triangles) = ((points[:, :2].astype(float), t) for points, t in sides)
    left[:, 0] -= left[:, 0].max()
    right[:, 0] -= right[:, 0].min()
    points = np.concatenate([left, right])
    flat = np.isin(np.arange(len(points)), np.concatenate([left_triangles, right_triangles + len(left)]))
    return (points - points.min(axis=0)) / np.ptp(points, axis=0), flat


SHEET = 'width="200" height="100"'


def write(folder: Path, regions: Mapping[str, str], sheet: str = SHEET, before: str = "", around: str = "") -> Path:
    """Write a drawing: name of a region -> its elements."""
    groups = "".join(f"<g inkscape:label={quoteattr(name)}>{drawn}</g>" for name, drawn in regions.items())
    path = folder / "overlays.svg"
    path.write_text(
        f'{before}<svg xmlns="{svg.SVG}" xmlns:inkscape="{svg.INKSCAPE}" {sheet}><g inkscape:label="sulci"/>'
        f'<g inkscape:label="rois" {around}><g inkscape:label="shapes">{groups}</g><g inkscape:label="labels"/></g>'
        "</svg>",
        encoding="utf-8",
    )
    return path


RECTANGLE = "M 20,30 L 60,30 L 60,70 L 20,70 Z"


TABLE = np.array([[25, 5, 25, 0, 0], [10, 20, 30, 0, 0], [40, 50, 60, 0, 0], [70, 80, 90, 0, 0]])
LEFT = ["unknown", "bankssts", "cuneus", "corpuscallosum"]
RIGHT = ["Medial_wall", "cuneus", "Ünïcode", "???"]


def annotate(folder: Path, name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a parcellation of both hemispheres; return its indices."""
    (folder / "label").mkdir(exist_ok=True)
    rng = np.random.default_rng(n)
    sides = rng.integers(-1, 4, n), rng.integers(-1, 3, n)
    for side, labels, names in zip("lr", sides, (LEFT, RIGHT), strict=True):
        path = folder / "label" / f"{side}h.{name}.annot"
        freesurfer.write_annot(path, labels, TABLE.copy(), [one.encode() for one in names])
    return sides
