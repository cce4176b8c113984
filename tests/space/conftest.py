"""Subjects of pycortex and of FreeSurfer that tests of atlases draw on."""

from __future__ import annotations

from pathlib import Path

import pytest
from _atlases import N, annotate
from nibabel.freesurfer import io as freesurfer

from latentcortex import _surfaces
from latentcortex._pycortex import subject


@pytest.fixture
def drawn_on(tmp_path: Path) -> Path:
    """Make a subject as pycortex keeps it: fsaverage5, without any drawing."""
    folder = subject.build(tmp_path / "db")
    (folder / subject.MARK).unlink()
    return folder


@pytest.fixture
def freesurfer_subject(tmp_path: Path) -> Path:
    """Write a subject of FreeSurfer with the white surface of fsaverage5 and two parcellations."""
    folder = tmp_path / "bert"
    (folder / "surf").mkdir(parents=True)
    for side, mesh in zip("lr", _surfaces.surface("white"), strict=True):
        freesurfer.write_geometry(folder / "surf" / f"{side}h.white", mesh.coordinates, mesh.triangles)
    for name in ("aparc", "aparc.a2009s"):
        annotate(folder, name, N // 2)
    return folder
