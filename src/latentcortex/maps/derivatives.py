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
"""Name of the file that says which vertices, or positions of a grid, are voxels."""
NIFTI: Final = ".nii.gz"
MAX_PLACES: Final = 2**27
"""Largest number of positions of a grid, 512 along each edge: .5 GB for each map. A header can claim any number."""
_STRUCTURES: Final = {"L": "CortexLeft", "R": "CortexRight"}

Facts = Sequence[Mapping[str, Any]]
"""What each column is, in the order of the columns."""
ROWS_AT_ONCE: Final = 2**16
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
        The beginning of every file's name.

    Raises
    ------
    InputError
        If two columns would be one file.
    """
    names = [stem_of(of_column) for of_column in facts]
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
        If no file begins with this stem.
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
    of_all = {
        "Description": "Where there are voxels (1) and where not (0)",
        **space.description,
        **_facts_of_all(facts),
    }
    written = _write_image(np.ones(space.n_voxels, np.float32), of_all, space, func / stem, VOXELS)
    for i, of_column in enumerate(facts):
        described = {**sidecar(space, of_column), "Column": i}
        written += _write_image(column(i), described, space, func / stem, stem_of(of_column))
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
    sidecar_facts = [(_files.read_json(path), path) for path in sidecars]
    of_voxels = [pair for pair in sidecar_facts if "Columns" in pair[0]]
    if len(of_voxels) != 1:
        raise InputError(f"{func} has maps of {len(of_voxels)} spaces; expected one, as Maps.save writes them.")
    (of_all, voxels_path), of_columns = of_voxels[0], [pair for pair in sidecar_facts if "Columns" not in pair[0]]
    _refuse_other_columns(func, [facts for facts, _ in of_columns], of_all)
    if "Grid" not in of_all:
        vertices = np.flatnonzero(_read_hemispheres(func, voxels_path) == 1)
        space: Space = Surface(str(of_all["SpatialReference"]), vertices)
        images = (_read_hemispheres(func, path) for _, path in of_columns)
    else:
        shape = _grid(of_all, voxels_path)
        space = _read_volume(of_all, voxels_path, shape)
        images = (_read_grid(path, shape) for _, path in of_columns)
    columns = [(space.take(values), facts) for values, (facts, _) in zip(images, of_columns, strict=True)]
    return _ordered(space, columns, of_all)


def _read_volume(facts: Mapping[str, Any], sidecar: Path, shape: tuple[int, ...]) -> Volume:
    """Make the volume that the sidecar of its voxels describes; a header would round the affine."""
    mask = _read_grid(sidecar, shape) == 1
    to_voxels = np.array(facts["CortexToVoxels"]) if "CortexToVoxels" in facts else None
    affine, reference = np.array(facts["Affine"]), str(facts["SpatialReference"])
    return Volume(mask, affine, reference, str(facts.get("Cortex", "")), to_voxels)


def _grid(facts: Mapping[str, Any], sidecar: Path) -> tuple[int, ...]:
    """Read how many places a grid has along each edge."""
    edges = facts["Grid"]
    is_grid = isinstance(edges, list) and len(edges) == 3 and all(type(edge) is int and edge > 0 for edge in edges)
    if not is_grid or math.prod(edges) > MAX_PLACES:
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
    of_tables: list[dict[str, Any]] = []
    for beside in sidecars:
        path, sidecar = beside.with_suffix(".tsv"), _files.read_json(beside)
        of_tables.append(sidecar.pop("voxel"))
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
    for of_all in of_tables:
        _refuse_other_columns(func, facts, of_all)
    return _ordered(Unlocated(len(columns[0][0])), columns, of_tables[0])


def _refuse_other_columns(func: Path, facts: Sequence[Mapping[str, Any]], of_all: Mapping[str, Any]) -> None:
    """Raise unless these are all columns that were saved together, each once."""
    numbers = sorted(int(of_column["Column"]) for of_column in facts)
    if len(numbers) != int(of_all["Columns"]) or numbers != list(range(len(numbers))) or not numbers:
        raise IncompleteError(
            f"{func} holds the columns {listed(numbers)} of {of_all['Columns']}: some are missing, or were saved at "
            "another time; save all of them into an empty folder."
        )


def _ordered(
    space: Space, columns: Sequence[tuple[NDArray[np.generic], dict[str, Any]]], of_all: Mapping[str, Any]
) -> tuple[list[FloatArray], pd.DataFrame, Space]:
    """Put columns in the order in which they were saved, with every fact that any of them had."""
    ordered = sorted(columns, key=lambda pair: int(pair[1]["Column"]))
    left_out = {"Description", "Column", *space.description}
    facts = [{key: value for key, value in of_column.items() if key not in left_out} for _, of_column in ordered]
    table = pd.DataFrame(facts).reindex(columns=of_all["Facts"])
    table[list(KEYS)] = table[list(KEYS)].fillna("")
    if not all(isinstance(name, str) for name in table[list(KEYS)].to_numpy().ravel()):
        raise InputError(f"A column's {', '.join(KEYS)} are texts; these are not.")
    return [np.asarray(values, dtype=np.float32) for values, _ in ordered], table, space


def _facts_of_all(facts: Facts) -> dict[str, Any]:
    """Return the facts of all columns together: how many there are, and the names of their facts."""
    return {"Columns": len(facts), "Facts": list(dict.fromkeys(name for of_column in facts for name in of_column))}


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
    for i, of_column in enumerate(facts):
        models.setdefault(label(f"{of_column['analysis']}-{of_column['model']}"), []).append(i)
    written = []
    for model, numbers in models.items():
        described: dict[str, Any] = {
            "voxel": {"Description": "column of the responses, from 0", **_facts_of_all(facts)}
        }
        heads = {
            i: f"{facts[i]['statistic']}[{facts[i]['band']}]" if facts[i]["band"] else str(facts[i]["statistic"])
            for i in numbers
        }
        described |= {heads[i]: {**sidecar(space, facts[i]), "Column": i} for i in numbers}
        path = func / f"{stem}_desc-{model}_statmap.tsv"
        with _files.writing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as handle:
            for start in range(0, space.n_voxels, ROWS_AT_ONCE):
                rows = slice(start, min(start + ROWS_AT_ONCE, space.n_voxels))
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
