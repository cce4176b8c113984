"""Files of bdpy (BData): one table of numbers, of whose columns some are voxels, and others what was shown and when.

/dataset (samples, columns), /metadata/key and /metadata/value (keys, columns): a column belongs to a key where its
value is 1, and not where it is 0 or nan. /vmap/KEY/NUMBER is the label that a number in a column of that key stands
for. Older files have /dataSet and /metaData.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from latentcortex._arrays import FloatArray, IntArray, listed
from latentcortex.datasets import _hdf5
from latentcortex.errors import InputError

EXPECTED: Final = "a BData file of bdpy"
TABLES: Final = ("dataset", "dataSet")
METADATA: Final = ("metadata", "metaData")


@dataclass(frozen=True, eq=False)
class BData:
    """A file of bdpy, of which columns are read as they are asked for.

    Parameters
    ----------
    path : Path
    table : str
        Name of the table of numbers.
    shape : (n_samples, n_columns)
    values : dict of ndarray of shape (n_columns,)
        Key -> what it says of each column.
    labels : dict of dict
        Key -> number -> label.
    """

    path: Path
    table: str
    shape: tuple[int, int]
    values: dict[str, FloatArray]
    labels: dict[str, dict[float, str]]

    @classmethod
    def open(cls, path: Path) -> BData:
        """Read what a file says of its columns.

        Raises
        ------
        InputError
            If it is no such file.
        """
        with _hdf5.opened(path, expected=EXPECTED) as file:
            table, metadata = (next((name for name in names if name in file), "") for names in (TABLES, METADATA))
            if not table or not metadata:
                raise InputError(f"{path} has {listed(sorted(file))}; expected {EXPECTED}: dataset and metadata.")
            dataset = _hdf5.array(file, table, path)
            values = np.asarray(_hdf5.array(file, f"{metadata}/value", path)[()], dtype=np.float64)
            keys = [_text(key) for key in np.atleast_1d(_strings(file, f"{metadata}/key", path))]
            if dataset.ndim != 2 or values.shape != (len(keys), dataset.shape[1]):
                raise InputError(
                    f"{path} has a table {dataset.shape} and metadata {values.shape} of {len(keys)} keys; expected "
                    "(n_samples, n_columns) and (n_keys, n_columns)."
                )
            maps = file.get("vmap", getlink=True)
            labels = _labels(file["vmap"], path) if isinstance(maps, h5py.HardLink) else {}
            return cls(path, table, dataset.shape, dict(zip(keys, values, strict=True)), labels)

    def columns_of(self, key: str) -> IntArray:
        """Return the numbers of the columns that belong to a key; raise `InputError` if there is none."""
        columns = np.flatnonzero(self.values[key] == 1) if key in self.values else np.empty(0, dtype=np.intp)
        if not len(columns):
            raise InputError(f"{self.path} has no column of the key {key!r}; its keys are {listed(self.values, 20)}.")
        return columns

    def read(self, columns: IntArray) -> FloatArray:
        """Read some columns, ascending, of all samples, float64 (n_samples, n_columns)."""
        low, high = int(columns[0]), int(columns[-1]) + 1
        with _hdf5.opened(self.path, expected=EXPECTED) as file:
            stretch = np.asarray(_hdf5.array(file, self.table, self.path)[:, low:high], dtype=np.float64)
        return stretch[:, columns - low]

    def words(self, key: str) -> list[str]:
        """Read the one column of a key as text: labels where numbers stand for these; empty where it is nan."""
        columns = self.columns_of(key)
        if len(columns) > 1:
            raise InputError(f"{self.path} has {len(columns)} columns of the key {key!r}; expected one.")
        labels, numbers = self.labels.get(key, {}), self.read(columns)[:, 0]
        if labels:
            missing = sorted(set(numbers[np.isfinite(numbers)].tolist()) - set(labels))
            if missing:
                raise InputError(f"{self.path} has no label of {key} for {listed(f'{one:g}' for one in missing)}.")
        return [labels.get(one, f"{one:.15g}") if np.isfinite(one) else "" for one in numbers.tolist()]


def _strings(file: h5py.File, key: str, path: Path) -> NDArray[Any]:
    """Read an array of text that lies in the file itself."""
    name, _, last = key.partition("/")
    link = file[name].get(last, getlink=True)
    if not isinstance(link, h5py.HardLink) or file[key].external or file[key].is_virtual:
        raise InputError(f"{path} has no {key} of its own; expected {EXPECTED}.")
    return np.asarray(file[key][()])


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _labels(maps: Any, path: Path) -> dict[str, dict[float, str]]:
    """Read the labels of each key."""
    labels: dict[str, dict[float, str]] = {}
    for key, of_key in maps.items() if isinstance(maps, h5py.Group) else ():
        labels[key] = {}
        for number in of_key:
            stored = of_key[number] if isinstance(of_key.get(number, getlink=True), h5py.HardLink) else None
            try:
                labels[key][float(number)] = _text(stored[()]) if isinstance(stored, h5py.Dataset) else ""
            except ValueError:
                raise InputError(f"{path} has a label of {key} for {number!r}; expected a number.") from None
    return labels
