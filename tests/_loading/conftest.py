"""Model folders of every kind, whole, which tests of several of their parts ask for."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    from _models import small_flow, small_xl

    folder = tmp_path_factory.mktemp("models")
    (folder / "xl").mkdir()
    return {
        "1": tiny_model,
        "xl": small_xl(folder / "xl", tiny_model),
        "3": small_flow(folder / "3", tiny_model),
    }
