"""HDF5 files, MATLAB's of version 7.3 among them: plain arrays of numbers that lie in the file itself.

h5py follows links out of a file, reads arrays whose bytes are in another one, and loads filters as plug-ins. All of
that is refused here before a value is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py

from latentcortex import _files
from latentcortex.errors import InputError, first_line

OLD_MATLAB: Final = b"MATLAB 5.0 MAT-file"


@contextmanager
def opened(path: Path, *, expected: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for errors: `GLMsingle's output`.

    Raises
    ------
    InputError
        If it is missing, only stands for another file, is no HDF5 file, or turns out to be damaged while it is read.
    """
    if not path.is_file():
        dangling = " (a link to a file that was not fetched)" if path.is_symlink() else ""
        raise InputError(f"{path} is missing{dangling}; expected {expected}.")
    _files.refuse_pointer(path)
    with _files.naming(path), path.open("rb") as handle:
        first = handle.read(128)
    if first.startswith(OLD_MATLAB):
        raise InputError(
            f"{path} is a MATLAB file older than version 7.3; expected {expected} as HDF5: save it with -v7.3."
        )
    if not first:
        raise InputError(f"{path} is empty; expected {expected}: was it fetched?")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not HDF5; expected {expected}: it starts with {first[:8]!r}.")
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        if _files.is_refused(error):
            raise
        raise InputError(
            f"{path} cannot be read: {first_line(error)}; is it damaged, or still open for writing? Copy it anew, or "
            "clear its flags with h5clear -s."
        ) from None


def array(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    """Find an array of numbers, without reading a value.

    Parameters
    ----------
    file : File
    key : str
        Path of the array: names of groups and its own, with `/` between them.
    path : Path
        Of the file, for errors.

    Raises
    ------
    InputError
        If there is no such array, it is a link into another file, its values lie in another file or need a plug-in to
        be unpacked, or are no plain numbers.
    """
    holder: Any = file
    for name in key.split("/"):
        link = holder.get(name, getlink=True) if isinstance(holder, h5py.Group) else None
        if link is None:
            present = ", ".join(sorted(holder)[:10]) if isinstance(holder, h5py.Group) else "no group"
            raise InputError(f"{path} has no array {key!r}; it has {present}.")
        if not isinstance(link, h5py.HardLink):
            kind = "a link into another file" if isinstance(link, h5py.ExternalLink) else "a link"
            raise InputError(f"{key!r} in {path} is {kind}, which is not followed; copy the array into it.")
        holder = holder[name]
    if not isinstance(holder, h5py.Dataset):
        raise InputError(f"{key!r} in {path} is a group; expected an array: give the path of one in it.")
    _check_plain(holder, key, str(path))
    return holder


def _check_plain(dataset: h5py.Dataset, key: str, source: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(
            f"The values of {key!r} in {source} lie in another file, which is not read; copy them into one file."
        )
    plist = dataset.id.get_create_plist()
    n_builtin = h5py.h5z.FILTER_SCALEOFFSET + 1
    foreign = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    foreign = [code for code in foreign if code >= n_builtin and code != h5py.h5z.FILTER_LZF]
    if foreign:
        raise InputError(
            f"{key!r} in {source} is packed by filter {foreign[0]} of HDF5, which needs a plug-in; save it with gzip."
        )
    if dataset.shape is None or dataset.dtype.kind not in "biuf":
        raise InputError(f"{key!r} in {source} is {dataset.dtype}, {dataset.shape}; expected an array of numbers.")


def by_matlab(dataset: h5py.Dataset) -> bool:
    """Tell whether MATLAB wrote an array, so that its axes are here in the opposite order."""
    return "MATLAB_class" in dataset.attrs
