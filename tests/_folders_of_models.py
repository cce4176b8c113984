"""Ways to damage or rewrite a model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from latentcortex import _ldm  # noqa: E402
from latentcortex.errors import InputError  # noqa: E402

Damage = Callable[[Path], None]


def checked(folder: Path) -> None:
    _ldm.DiffusionFolder.read(folder).checked()


def refused(folder: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        checked(folder)
    assert "\n" not in str(error.value)


def replaced(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def weights_of(part: Path) -> Path:
    (path,) = part.glob("*.safetensors")
    return path


def rewritten(part: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = weights_of(part)
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
