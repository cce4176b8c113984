"""The same numbers as arrays of every type that is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TYPES: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "float16": lambda values: values.astype(np.float16),
    "longdouble": lambda values: values.astype(np.longdouble),
    "big endian": lambda values: values.astype(">f8"),
    "int16": lambda values: (10 * values).astype(np.int16),
    "uint16": lambda values: np.abs(10 * values).astype(np.uint16),
    "uint64": lambda values: np.abs(10 * values).astype(np.uint64),
    "matrix of nothing hidden": np.ma.array,
}
