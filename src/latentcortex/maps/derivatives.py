"""Maps as BIDS derivatives: images of every column, or tables where the voxels have no known position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.gifti import gifti
from numpy.typing import NDArray

from latentcortex import _files, _gifti
from latentcortex._arrays import FloatArray, listed
from latentcortex._nifti import packed, read_grid, read_header
from latentcortex._results import refuse_damaged
from latentcortex.errors import IncompleteError, InputError, LatentcortexError, first_line
from latentcortex.maps.naming import KEYS, label, sidecar, stem_of
from latentcortex.space import Space, Surface, Unlocated, Volume

VOXELS: Final = "desc-voxels_mask"
"""What the file is called that says which vertices, or places of a grid, are voxels."""
NIFTI: Final = ".nii.gz"
MAX_PLACES: Final = 2**27
"""Of a grid: 512 along each edge, and .5 GB for each map. A header can ask for any number in a few bytes."""
_STRUCTURES: Final = {"L": "CortexLeft", "R": "CortexRight"}

Facts = Sequence[Mapping[str, Any]]
"""What each column is, in the order of the columns."""
ROWS: Final = 2**16
"""Voxels of a table that are written at once."""


def write(column: Callable[[int], FloatArray], facts: Facts, space: Space, func: Path, stem: str) -> list[Path]:
    """Write columns into a folder, with a sidecar each; return the files.

    Parameters
    ----------
    column : callable
        Returns the values of a column, (n_voxels,), by its number; one is asked for after the other.
    facts : sequence of mapping
    space : Space
    func : Path
        The folder.
    stem : str
        How all names begin.

    Raises
    ------
    InputError
        If two columns would be one file.
    """
    names = [stem_of(one) for one in facts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Several columns would be one file, {twice[0]}; give their models other names.")
    if isinstance(space, Unlocated):
        return _write_tables(column, facts, space, func, stem)
    return _write_images(column, facts, space, func, stem)


def read(func: Path, stem: str) -> tuple[list[FloatArray], pd.DataFrame, Space]:
    """Read back what `write` wrote: the values of each column, what each column is, and where the voxels are.

    Raises
    ------
    InputError
        If there is nothing of this stem.
    IncompleteError
        If a file that a sidecar describes is missing or damaged, or no such sidecar is written by `write`; in a folder
        of results also if a file is not as its record says.
    """
    sidecars = sorted(func.glob(f"{stem}_*.json"))
    if not sidecars:
        raise InputError(f"{func} has no maps {stem}_*; expected what a run or Maps.save wrote.")
    refuse_damaged(func.parents[1], sorted(func.glob(f"{stem}_*")))
    images = any("_space-" in path.name for path in sidecars)
    try:
        return _read_images(func, sidecars) if images else _read_tables(sidecars)
    except LatentcortexError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise IncompleteError(
            f"{func} holds sidecars that are not as Maps.save writes them ({first_line(error)}); make the maps again."
        ) from None


def _write_images(
    column: Callable[[int], FloatArray], facts: Facts, space: Surface | Volume, func: Path, stem: str
) -> list[Path]:
    about = {"Description": "Where there are voxels (1) and where not (0)", **space.description, **_whole(facts)}
    written = _write_image(np.ones(space.n_voxels, np.float32), about, space, func / stem, VOXELS)
    for i, one in enumerate(facts):
        described = {**sidecar(space, one), "Column": i}
        written += _write_image(column(i), described, space, func / stem, stem_of(one))
    return written


def _write_image(
    values: FloatArray, described: Mapping[str, Any], space: Surface | Volume, start: Path, name: str
) -> list[Path]:
    """Write the files of one column, and the sidecar of them all."""
    written = []
    for side, end, content in _images(space, np.asarray(values, np.float32), fill=0.0 if name == VOXELS else None):
        written.append(start.with_name(f"{start.name}_{side}{space.entities}_{name}{end}"))
        with _files.writing(written[-1]) as unfinished:
            unfinished.write_bytes(content)
    written.append(start.with_name(f"{start.name}_{space.entities}_{name}.json"))
    _files.write_json(written[-1], described)
    return written


def _images(space: Surface | Volume, values: FloatArray, fill: float | None) -> Iterator[tuple[str, str, bytes]]:
    """Yield how the name of each file of one column begins and ends, and its bytes."""
    if isinstance(space, Volume):
        image = space.to_image(values)
        if fill is not None:
            image = nib.Nifti1Image(np.nan_to_num(image.get_fdata(dtype=np.float32), nan=fill), None, image.header)
        yield "", NIFTI, packed(image)
        return
    for hemisphere, part in space.hemispheres(values).items():
        laid = part if fill is None else np.nan_to_num(part, nan=fill)
        yield f"hemi-{hemisphere}_", ".func.gii", _gifti_bytes(laid, hemisphere)


def _read_images(func: Path, sidecars: Sequence[Path]) -> tuple[list[FloatArray], pd.DataFrame, Space]:
    known = [(_files.read_json(path), path) for path in sidecars]
    whole = [pair for pair in known if "Columns" in pair[0]]
    if len(whole) != 1:
        raise InputError(f"{func} has maps of {len(whole)} spaces; expected one, as Maps.save writes them.")
    (about, described), parts = whole[0], [pair for pair in known if "Columns" not in pair[0]]
    _refuse_other_columns(func, [facts for facts, _ in parts], about)
    if "Grid" not in about:
        space: Space = _read_surface(func, about, described)
        images = (_read_hemispheres(func, path) for _, path in parts)
    else:
        shape = _grid(about, described)
        space = _read_volume(about, described, shape)
        images = (_read_grid(path, shape) for _, path in parts)
    columns = [(space.take(values), facts) for values, (facts, _) in zip(images, parts, strict=True)]
    return _ordered(space, columns, about)


def _read_surface(func: Path, about: Mapping[str, Any], sidecar: Path) -> Surface:
    """Make the surface that the sidecar of its voxels describes."""
    return Surface(str(about["SpatialReference"]), np.flatnonzero(_read_hemispheres(func, sidecar) == 1))


def _read_volume(about: Mapping[str, Any], sidecar: Path, shape: tuple[int, ...]) -> Volume:
    """Make the volume that the sidecar of its voxels describes; a header would round the affine."""
    mask = _read_grid(sidecar, shape) == 1
    placed = np.array(about["CortexToVoxels"]) if "CortexToVoxels" in about else None
    affine, reference = np.array(about["Affine"]), str(about["SpatialReference"])
    return Volume(mask, affine, reference, str(about.get("Cortex", "")), placed)


def _grid(about: Mapping[str, Any], sidecar: Path) -> tuple[int, ...]:
    """Read how many places a grid has along each edge."""
    edges = about["Grid"]
    whole = isinstance(edges, list) and len(edges) == 3 and all(type(edge) is int and edge > 0 for edge in edges)
    if not whole or math.prod(edges) > MAX_PLACES:
        raise InputError(f"{sidecar} has the Grid {edges!r}; expected three whole numbers, at most 512 x 512 x 512.")
    return tuple(edges)


def _read_grid(sidecar: Path, shape: tuple[int, ...]) -> FloatArray:
    """Read the NIfTI file of float32 that a sidecar describes, (x, y, z), to the checksum at its end."""
    path = sidecar.with_name(sidecar.stem + NIFTI)
    try:
        header = read_header(path, expected="a map")
        if header.shape != shape or header.dtype != np.float32:
            raise InputError(f"{path} is {header.dtype} of shape {header.shape}; expected float32 of {shape}")
        return np.asarray(read_grid(path, expected="a map").values, dtype=np.float32)
    except InputError as error:
        raise IncompleteError(f"A map is missing or damaged: {str(error).rstrip('.')}. Run the study again.") from None


def _read_hemispheres(func: Path, sidecar: Path) -> FloatArray:
    """Read the two GIFTI files that a sidecar describes, left then right, (n_vertices,)."""
    start, _, rest = sidecar.stem.partition("_space-")
    sides = []
    for hemisphere, structure in _STRUCTURES.items():
        path = func / f"{start}_hemi-{hemisphere}_space-{rest}.func.gii"
        try:
            values = _gifti.read(path, side=_gifti.SIDES[structure]).only()
        except InputError as error:
            raise IncompleteError(
                f"A map is missing or damaged: {str(error).rstrip('.')}. Run the study again."
            ) from None
        sides.append(np.asarray(values, dtype=np.float32))
    return np.concatenate(sides)


def _read_tables(sidecars: Sequence[Path]) -> tuple[list[FloatArray], pd.DataFrame, Space]:
    columns: list[tuple[NDArray[np.generic], dict[str, Any]]] = []
    abouts: list[dict[str, Any]] = []
    for beside in sidecars:
        path, sidecar = beside.with_suffix(".tsv"), _files.read_json(beside)
        abouts.append(sidecar.pop("voxel"))
        try:
            table = pd.read_csv(
                path, sep="\t", na_values=["n/a"], keep_default_na=False, usecols=list(sidecar), dtype=np.float32
            )
        except (OSError, ValueError, KeyError) as error:
            if _files.is_refused(error):
                raise
            raise IncompleteError(f"{path} is missing or damaged ({error}); make it again.") from None
        columns += [(table[name].to_numpy(), facts) for name, facts in sidecar.items()]
    func, facts = sidecars[0].parent, [facts for _, facts in columns]
    for about in abouts:
        _refuse_other_columns(func, facts, about)
    return _ordered(Unlocated(len(columns[0][0])), columns, abouts[0])


def _refuse_other_columns(func: Path, facts: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Raise unless these are all columns that were saved together, each once."""
    numbers = sorted(int(one["Column"]) for one in facts)
    if len(numbers) != int(about["Columns"]) or numbers != list(range(len(numbers))) or not numbers:
        raise IncompleteError(
            f"{func} holds the columns {listed(numbers)} of {about['Columns']}: some are missing, or were saved at "
            "another time; save all of them into an empty folder."
        )


def _ordered(
    space: Space, columns: Sequence[tuple[NDArray[np.generic], dict[str, Any]]], about: Mapping[str, Any]
) -> tuple[list[FloatArray], pd.DataFrame, Space]:
    """Put columns in the order in which they were saved, with every fact that any of them had."""
    ordered = sorted(columns, key=lambda pair: int(pair[1]["Column"]))
    left_out = {"Description", "Column", *space.description}
    facts = [{key: value for key, value in known.items() if key not in left_out} for _, known in ordered]
    table = pd.DataFrame(facts).reindex(columns=about["Facts"])
    table[list(KEYS)] = table[list(KEYS)].fillna("")
    if not all(isinstance(name, str) for name in table[list(KEYS)].to_numpy().ravel()):
        raise InputError(f"A column's {', '.join(KEYS)} are texts; these are not.")
    return [np.asarray(values, dtype=np.float32) for values, _ in ordered], table, space


def _whole(facts: Facts) -> dict[str, Any]:
    """Say of all columns together what none of them says alone."""
    return {"Columns": len(facts), "Facts": list(dict.fromkeys(name for one in facts for name in one))}


def _gifti_bytes(values: FloatArray, hemisphere: str) -> bytes:
    array = gifti.GiftiDataArray(
        np.asarray(values, dtype=np.float32), intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32"
    )
    structure = {"AnatomicalStructurePrimary": _STRUCTURES[hemisphere]}
    meta = gifti.GiftiMetaData(structure)
    image = gifti.GiftiImage(darrays=[array], meta=meta)
    written: bytes = image.to_bytes()
    return written


def _write_tables(
    column: Callable[[int], FloatArray], facts: Facts, space: Unlocated, func: Path, stem: str
) -> list[Path]:
    """Write one table for every model."""
    models: dict[str, list[int]] = {}
    for i, one in enumerate(facts):
        models.setdefault(label(f"{one['analysis']}-{one['model']}"), []).append(i)
    written = []
    for model, numbers in models.items():
        described: dict[str, Any] = {"voxel": {"Description": "column of the responses, from 0", **_whole(facts)}}
        heads = {i: _head(facts[i]) for i in numbers}
        described |= {heads[i]: {**sidecar(space, facts[i]), "Column": i} for i in numbers}
        path = func / f"{stem}_desc-{model}_statmap.tsv"
        with _files.writing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as handle:
            for start in range(0, space.n_voxels, ROWS):
                rows = slice(start, min(start + ROWS, space.n_voxels))
                table = {"voxel": np.arange(rows.start, rows.stop)} | {
                    heads[i]: column(i)[rows].copy()
                    for i in numbers  # a view would keep the whole column
                }
                pd.DataFrame(table).to_csv(
                    handle, sep="\t", index=False, header=start == 0, na_rep="n/a", float_format="%.9g"
                )
        _files.write_json(path.with_suffix(".json"), described)
        written += [path, path.with_suffix(".json")]
    return written


def _head(facts: Mapping[str, Any]) -> str:
    """Name the column of a table."""
    return f"{facts['statistic']}[{facts['band']}]" if facts["band"] else str(facts["statistic"])
