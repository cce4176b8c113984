"""Releases of the Natural Scenes Dataset, of few voxels, for the tests of its dataset."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import nsd as layout

from latentcortex.datasets.nsd import NSD


@pytest.fixture(scope="session")
def nsd_release(tmp_path_factory: pytest.TempPathFactory) -> layout.NSD:
    return layout.NSD(tmp_path_factory.mktemp("nsd")).write()


@pytest.fixture
def nsd_copy(nsd_release: layout.NSD, tmp_path: Path) -> layout.NSD:
    """Lay the release out anew, by links, so that a test may replace files."""
    shutil.copytree(nsd_release.root, tmp_path / "copy", copy_function=lambda a, b: Path(b).symlink_to(a))
    return layout.NSD(tmp_path / "copy")


@pytest.fixture
def make_nsd(tmp_path: Path) -> Callable[..., NSD]:
    def made(of: layout.NSD, **arguments: object) -> NSD:
        return NSD(str(of.root), scratch=str(tmp_path / "scratch"), **{"rois": ["all"], **arguments})  # type: ignore[arg-type]

    return made
