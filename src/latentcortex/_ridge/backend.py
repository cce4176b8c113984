"""Where matrix products are computed: numpy on the processor, or torch on a processor or an accelerator.

What is not a product of large matrices stays in numpy. numpy gives the same bits whatever the number of threads;
torch agrees with it to rounding.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from latentcortex._arrays import FloatArray
from latentcortex._ridge import lapack
from latentcortex._shelf import unknown
from latentcortex.errors import InputError, MissingExtraError
from latentcortex.executors import share

_T = TypeVar("_T")
_R = TypeVar("_R")

NAMES: Final = ("auto", "numpy", "torch", "cuda", "mps")


class Backend(Protocol):
    """What the solvers ask of a place to compute in; its arrays know `@`, `*`, `/`, slices and index arrays."""

    name: str
    has_float64: bool

    def put(self, array: FloatArray, dtype: Any) -> Any:
        """Take an array there."""
        ...

    def get(self, array: Any) -> FloatArray:
        """Bring an array back."""
        ...

    def eigh(self, matrix: FloatArray, dtype: Any) -> tuple[FloatArray, FloatArray]:
        """Decompose a symmetric matrix; eigenvalues ascending, and eigenvectors by column, as numpy arrays."""
        ...

    def map(self, function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Map over blocks of work, in the order of the items."""
        ...


class NumPy:
    """The processor, one thread per block of work."""

    name = "numpy"
    has_float64 = True

    def put(self, array: FloatArray, dtype: Any) -> FloatArray:
        """Convert to a precision."""
        return np.asarray(array, dtype=dtype)

    def get(self, array: FloatArray) -> FloatArray:
        """Return the array."""
        return array

    def eigh(self, matrix: FloatArray, dtype: Any) -> tuple[FloatArray, FloatArray]:
        """Decompose by LAPACK."""
        return lapack.eigh(matrix.astype(dtype))

    def map(self, function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Map in threads."""
        return share(function, items)


class Torch:
    """A device of torch, which shares each product among its own threads."""

    def __init__(self, device: str) -> None:
        self.name = "torch" if device == "cpu" else device
        self.has_float64 = device != "mps"
        self._torch, self._device = importlib.import_module("torch"), device

    def put(self, array: FloatArray, dtype: Any) -> Any:
        """Copy to the device."""
        contiguous = np.ascontiguousarray(array, dtype=dtype)
        return self._torch.as_tensor(contiguous, device=self._device)

    def get(self, array: Any) -> FloatArray:
        """Copy from the device."""
        return np.asarray(array.cpu().numpy())

    def eigh(self, matrix: FloatArray, dtype: Any) -> tuple[FloatArray, FloatArray]:
        """Decompose on the device; LAPACK does it for devices that cannot."""
        if self._device == "mps":
            return lapack.eigh(matrix.astype(dtype))
        values, vectors = self._torch.linalg.eigh(self.put(matrix, dtype))
        return self.get(values), self.get(vectors)

    def map(self, function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Map one after the other: the device is shared already."""
        return [function(item) for item in items]


def backend(name: str) -> Backend:
    """Make the backend of a name; `auto` is `cuda` where there is one, and `numpy` elsewhere.

    Raises
    ------
    InputError
        If the name is not known, or this machine has no such device.
    MissingExtraError
        If torch is not installed.
    """
    if name not in NAMES:
        raise unknown("backend", name, NAMES)
    if name == "auto":
        name = "cuda" if _has_cuda() else "numpy"
    if name == "numpy":
        return NumPy()
    if find_spec("torch") is None:
        raise MissingExtraError.of("ldm", needed_for=f"Backend {name!r}")
    torch = importlib.import_module("torch")
    available = {"torch": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise InputError(f"Backend {name!r} is not on this machine; use 'auto' or 'numpy'.")
    return Torch("cpu" if name == "torch" else name)


@lru_cache(maxsize=1)
def _has_cuda() -> bool:
    """Ask torch only where a driver is installed: importing it takes seconds."""
    if shutil.which("nvidia-smi") is None or find_spec("torch") is None:
        return False
    return bool(importlib.import_module("torch").cuda.is_available())
