"""Columns of numbers over voxels, each saying what it is; written as BIDS derivatives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.parsers.expat import ExpatError

import numpy as np
import pandas as pd
from nibabel.gifti import gifti
from numpy.typing import NDArray

from latentcortex import _files
from latentcortex._arrays import BoolArray, FloatArray, listed, same_length
from latentcortex.errors import AlignmentError, IncompleteError, InputError
from latentcortex.features import DAMAGE
from latentcortex.space import Atlas, Bare, Space, Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latentcortex.plotting import Style

KEYS: Final = ("analysis", "model", "band", "statistic")
"""What identifies a column: no two columns of `Maps` agree in all four."""
VOXELS: Final = "desc-voxels_mask"
"""What the file is called that says which vertices are voxels."""
_STRUCTURES: Final = {"L": "CortexLeft", "R": "CortexRight"}


@dataclass(frozen=True, eq=False)
class Maps:
    """Numbers over voxels.

    Parameters
    ----------
    data : ndarray of float32, shape (n_voxels, n_columns)
        nan where undefined.
    columns : DataFrame of length n_columns
        What each column is: `analysis`, `model` (its bands, joined by +), `band` (empty where the column
        belongs to the whole model), `statistic`, `unit`, `n_stimuli`; for significance also `correction`,
        `q`, `family`, `n_tests`, `threshold`.
    space : Space

    Raises
    ------
    AlignmentError
        If data, columns and space do not match, or two columns are the same thing.
    """

    data: FloatArray
    columns: pd.DataFrame
    space: Space

    def __post_init__(self) -> None:
        if self.data.shape != (self.space.n_voxels, len(self.columns)):
            expected = (self.space.n_voxels, len(self.columns))
            raise AlignmentError(f"Maps are {self.data.shape}; expected (n_voxels, n_columns) = {expected}.")
        twice = self.columns.duplicated(subset=list(KEYS))
        if twice.any():
            raise AlignmentError(f"Two columns are the same thing: {dict(self.columns[twice].iloc[0][list(KEYS)])}.")

    @classmethod
    def of(cls, space: Space, columns: Sequence[tuple[FloatArray | BoolArray, Mapping[str, Any]]]) -> Maps:
        """Make maps from pairs of values (n_voxels,) and what they are."""
        data = np.stack([np.asarray(values, dtype=np.float32) for values, _ in columns], axis=1)
        return cls(data, pd.DataFrame([dict(facts) for _, facts in columns]), space)

    def find(self, **facts: str) -> Maps:
        """Take the columns that agree with all given facts."""
        kept = np.ones(len(self.columns), dtype=bool)
        for name, value in facts.items():
            kept &= (self.columns[name] == value).to_numpy()
        return Maps(self.data[:, kept], self.columns[kept].reset_index(drop=True), self.space)

    def values(self, **facts: str) -> FloatArray:
        """Return the one column that agrees with all given facts, (n_voxels,).

        Raises
        ------
        InputError
            If none or several do.
        """
        found = self.find(**facts)
        if len(found.columns) != 1:
            raise InputError(f"{len(found.columns)} columns are {facts}; expected one.")
        return found.data[:, 0]

    def __iter__(self) -> Iterator[tuple[FloatArray, dict[str, Any]]]:
        """Yield each column's values and what it is."""
        for i, facts in enumerate(self.columns.to_dict("records")):
            yield self.data[:, i], {str(k): v for k, v in facts.items()}

    def join(self, other: Maps) -> Maps:
        """Put the columns of two maps of one space side by side."""
        same_length(these=self.data, those=other.data)
        columns = pd.concat([self.columns, other.columns], ignore_index=True)
        return Maps(np.concatenate([self.data, other.data], axis=1), columns, self.space)

    def to_dataframe(self) -> pd.DataFrame:
        """Lay the numbers out as a table that knows what each of them is.

        Returns
        -------
        DataFrame of float32, shape (n_voxels, n_columns)
            Its columns have the levels `analysis`, `model`, `band`, `statistic`, so that
            `table.xs("r", axis=1, level="statistic")` takes all scores. Its rows are `hemisphere` (L, R) and `vertex`,
            counted from 0 in each hemisphere; of voxels without a known position, `voxel`, from 0.
            `table.stack(list(table.columns.names), future_stack=True)` is the long form.
        """
        columns = pd.MultiIndex.from_frame(self.columns[list(KEYS)])
        if not isinstance(self.space, Surface):
            return pd.DataFrame(self.data, pd.RangeIndex(len(self.data), name="voxel"), columns)
        half = self.space.n_vertices // 2
        sides = np.where(self.space.vertices < half, "L", "R")
        rows = pd.MultiIndex.from_arrays([sides, self.space.vertices % half], names=["hemisphere", "vertex"])
        return pd.DataFrame(self.data, rows, columns)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        atlas: Atlas | None = None,
        significant: bool = False,
        cmap: str = "inferno",
        limits: tuple[float, float] | None = None,
        style: Style | None = None,
        **facts: str,
    ) -> Figure:
        """Draw the one column that agrees with all given facts on flattened cortex.

        Parameters
        ----------
        ax : Axes, optional
            Drawn into; by default a figure is made that pyplot knows nothing of.
        atlas : Atlas, optional
            Whose regions are outlined and named.
        significant : bool
            Whether to colour only voxels that the model's mask has.
        cmap : str
        limits : tuple of float, optional
            Ends of the colour scale.
        style : plotting.Style, optional
        **facts
            As for `values`, for example analysis="latents", model="c", statistic="r".

        Raises
        ------
        InputError
            If none or several columns agree, the voxels have no known position, a value is infinite, or a mask that is
            asked for is not there.
        """
        from latentcortex import plotting  # matplotlib is slow to import

        if not isinstance(self.space, Surface):
            raise InputError("Maps of voxels without a known position cannot be drawn on cortex; use to_dataframe.")
        values, (about,) = self.values(**facts), self.find(**facts).columns.to_dict("records")
        if significant:
            values = np.where(self.values(**_mask_of(about)) == 1, values, np.nan)
        several = about["band"] and about["band"] != about["model"]
        return plotting.plot_flatmap(
            self.space.on_mesh(values),
            ax=ax,
            rois=plotting.Rois(atlas.labels, atlas.names) if atlas is not None else None,
            cmap=cmap,
            limits=limits,
            label=f"{about['statistic']} ({about['unit']})" if about.get("unit") else str(about["statistic"]),
            title=_title(about) if several else str(about["model"]),
            style=style or plotting.PAGE,
        )

    def summarise(self, labels: Sequence[int], names: Mapping[int, str]) -> pd.DataFrame:
        """Summarise every column over all valid voxels of each ROI.

        Parameters
        ----------
        labels : ndarray of int, shape (n_voxels,)
            The ROI of each voxel; labels without a name are left out.
        names : dict
            Label -> name.

        Returns
        -------
        DataFrame
            One row per ROI and column: `n_voxels`, `n_valid`, `mean`, `low` and `high` (its 95 % interval over test
            stimuli, if the column knows it), `median`; nan without valid voxels.
        """
        same_length(data=self.data, labels=labels)
        rows = []
        for label, name in names.items():
            inside = self.data[np.asarray(labels) == label]
            for values, known in zip(inside.T, self.columns.to_dict("records"), strict=True):
                facts = {key: known[key] for key in KEYS}
                valid = values[np.isfinite(values)]
                mean, median = (valid.mean(), np.median(valid)) if len(valid) else (np.nan, np.nan)
                counts = {"n_voxels": len(values), "n_valid": len(valid)}
                row: dict[Any, Any] = {"roi": name, **facts, **counts}
                low, high = _interval(known.get("intervals"), name)
                rows.append(row | {"mean": float(mean), "low": low, "high": high, "median": float(median)})
        return pd.DataFrame(rows)

    def save(self, folder: Path | str, *, participant: str, task: str = "images") -> list[Path]:
        """Write the maps as BIDS derivatives below `folder`, unthresholded, with sidecars.

        Surfaces become one GIFTI per column and hemisphere; voxels of unknown position one table per model.
        """
        stem = f"sub-{participant}_task-{task}"
        func = Path(folder) / f"sub-{participant}" / "func"
        names = [stem_of(facts) for _, facts in self]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"Several columns would be one file, {twice[0]}; give their models other names.")
        return (
            _save_surface(self, self.space, func, stem)
            if isinstance(self.space, Surface)
            else _save_table(self, func, stem)
        )

    @classmethod
    def load(cls, folder: Path | str, *, participant: str, task: str = "images") -> Maps:
        """Read back what `save` wrote; values are float32.

        Raises
        ------
        InputError
            If there are no maps of this participant.
        IncompleteError
            If a file that a sidecar describes is missing or damaged.
        """
        stem, func = f"sub-{participant}_task-{task}", Path(folder) / f"sub-{participant}" / "func"
        sidecars = sorted(func.glob(f"{stem}_*.json"))
        if not sidecars:
            raise InputError(f"{func} has no maps {stem}_*; expected what a run or Maps.save wrote.")
        on_surface = any("_space-" in path.name for path in sidecars)
        return _load_surface(func, sidecars) if on_surface else _load_tables(sidecars)


def _mask_of(about: Mapping[Any, Any]) -> dict[str, str]:
    """Say which column says where another one is significant: that of a share or difference its own."""
    own = {key: str(about[key]) for key in ("analysis", "model")}
    for kind in ("unique", "difference"):
        if str(about["statistic"]).startswith(kind):
            return {**own, "band": str(about["band"]), "statistic": f"{kind}Mask"}
    return {**own, "statistic": "mask"}


def _title(about: Mapping[Any, Any]) -> str:
    """Name what a column of a band says of a model."""
    if str(about["statistic"]).startswith("difference"):
        return f"{about['model']} − {about['band']}"
    return f"{about['band']} in {about['model']}"


def _interval(known: Any, name: str) -> tuple[float, float]:
    """Look up the interval of a region's mean; nan where the column does not know it."""
    low, high = known.get(name, (np.nan, np.nan)) if isinstance(known, dict) else (np.nan, np.nan)
    return float(low), float(high)


def label(name: str) -> str:
    """Turn a name into what BIDS allows after a hyphen.

    Examples
    --------
    >>> label("z+zc_strength-80_step-100")
    'zZcStrength80Step100'
    """
    words = re.split(r"[^a-zA-Z0-9]+", name)
    return words[0] + "".join(word[:1].upper() + word[1:] for word in words[1:])


def short(model: str) -> str:
    """Name a model of many bands by what they have in common, so that file names stay short.

    Examples
    --------
    >>> short("unet_layer-mid_step-50+unet_layer-up0_step-50+unet_layer-up2_step-50")
    'unet_step-50'
    >>> short("z+zc_strength-80_step-100")
    'z+zc_strength-80_step-100'
    """
    bands = [band.split("_") for band in model.split("+")]
    if len(bands) < 3:
        return model
    return "_".join(part for part in bands[0] if all(part in other for other in bands)) or model


def stem_of(facts: Mapping[str, Any]) -> str:
    """Name the file of one column by its entities, with a suffix."""
    parts = [str(facts["analysis"]), short(str(facts["model"])), str(facts["band"])]
    # A band is named only where the model has several.
    if facts["band"] == facts["model"]:
        parts = parts[:-1]
    parts = [part for part in parts if part]
    statistic = str(facts["statistic"])
    suffix = "mask" if statistic == "mask" else "statmap"
    stat = "" if statistic == "mask" else f"stat-{label(statistic)}_"
    return f"{stat}desc-{label('-'.join(parts))}_{suffix}"


def _save_surface(maps: Maps, space: Surface, func: Path, stem: str) -> list[Path]:
    place = f"space-{'fsaverage' if space.template.startswith('fsaverage') else space.template}_den-10k"
    about = "Vertices that are voxels of these maps (1) or not (0)"
    described = {"Description": about, **space.description, **_whole(maps)}
    all_columns = [(np.ones(space.n_voxels, np.float32), VOXELS, described)]
    all_columns += [
        (values, stem_of(facts), {**_sidecar(maps, facts), "Column": i}) for i, (values, facts) in enumerate(maps)
    ]
    written = []
    for values, name, sidecar in all_columns:
        for hemisphere, part in space.hemispheres(values).items():
            path = func / f"{stem}_hemi-{hemisphere}_{place}_{name}.func.gii"
            with _files.writing(path) as unfinished:
                unfinished.write_bytes(_gifti(np.nan_to_num(part) if name == VOXELS else part, hemisphere))
            written.append(path)
        written.append(func / f"{stem}_{place}_{name}.json")
        _files.write_json(written[-1], sidecar)
    return written


def _load_surface(func: Path, sidecars: Sequence[Path]) -> Maps:
    found = [(_files.read_json(path), _read_hemispheres(func, path)) for path in sidecars]
    whole = [(facts, values) for facts, values in found if "Columns" in facts]
    if len(whole) != 1:
        raise InputError(f"{func} has maps of {len(whole)} spaces; expected one, as Maps.save writes them.")
    (about, inside), columns = whole[0], [pair for pair in found if "Columns" not in pair[0]]
    space = Surface(str(about["SpatialReference"]), np.flatnonzero(inside == 1))
    return _ordered(func, space, [(space.from_mesh(values), facts) for facts, values in columns], about)


def _read_hemispheres(func: Path, sidecar: Path) -> FloatArray:
    """Read the two GIFTI files that a sidecar describes, left then right, (n_vertices,)."""
    start, _, rest = sidecar.stem.partition("_space-")
    sides = []
    for hemisphere in _STRUCTURES:
        path = func / f"{start}_hemi-{hemisphere}_space-{rest}.func.gii"
        try:
            sides.append(np.asarray(gifti.GiftiImage.from_filename(path).agg_data(), dtype=np.float32))
        except (*DAMAGE, ExpatError) as error:
            raise IncompleteError(f"{path} is missing or damaged ({error}); make it again.") from None
    return np.concatenate(sides)


def _load_tables(sidecars: Sequence[Path]) -> Maps:
    columns: list[tuple[NDArray[np.generic], dict[str, Any]]] = []
    about: dict[str, Any] = {}
    for sidecar in sidecars:
        path, known = sidecar.with_suffix(".tsv"), _files.read_json(sidecar)
        about = known.pop("voxel")
        try:
            table = pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False)[list(known)].astype(
                np.float32
            )
        except (OSError, ValueError, KeyError) as error:
            raise IncompleteError(f"{path} is missing or damaged ({error}); make it again.") from None
        columns += list(zip(table.to_numpy().T, known.values(), strict=True))
    return _ordered(sidecars[0].parent, Bare(len(columns[0][0])), columns, about)


def _ordered(
    func: Path, space: Space, columns: Sequence[tuple[NDArray[np.generic], dict[str, Any]]], about: Mapping[str, Any]
) -> Maps:
    """Put columns in the order in which they were saved, with every fact that any of them had."""
    numbers = sorted(int(facts["Column"]) for _, facts in columns)
    if numbers != list(range(int(about["Columns"]))):
        raise IncompleteError(
            f"{func} holds the columns {listed(numbers)} of {about['Columns']}: some are missing, or were saved at "
            "another time; save all of them into an empty folder."
        )
    ordered = sorted(columns, key=lambda pair: int(pair[1]["Column"]))
    left_out = {"Description", "Column", *space.description}
    facts = [{key: value for key, value in known.items() if key not in left_out} for _, known in ordered]
    table = pd.DataFrame(facts).reindex(columns=about["Facts"])
    table[list(KEYS)] = table[list(KEYS)].fillna("")
    return Maps(np.stack([values for values, _ in ordered], axis=1).astype(np.float32), table, space)


def _whole(maps: Maps) -> dict[str, Any]:
    """Say of all columns together what none of them says alone."""
    return {"Columns": len(maps.columns), "Facts": [str(name) for name in maps.columns.columns]}


def _gifti(values: FloatArray, hemisphere: str) -> bytes:
    array = gifti.GiftiDataArray(
        np.asarray(values, dtype=np.float32), intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32"
    )
    structure = {"AnatomicalStructurePrimary": _STRUCTURES[hemisphere]}
    meta = gifti.GiftiMetaData(structure)
    image = gifti.GiftiImage(darrays=[array], meta=meta)
    written: bytes = image.to_bytes()
    return written


def _save_table(maps: Maps, func: Path, stem: str) -> list[Path]:
    written = []
    for (analysis, model), columns in maps.columns.groupby(["analysis", "model"], sort=False):
        name = f"{stem}_desc-{label(f'{analysis}-{model}')}_statmap"
        records = columns.to_dict("records")
        heads = [f"{facts['statistic']}[{facts['band']}]" if facts["band"] else facts["statistic"] for facts in records]
        table = pd.DataFrame(maps.data[:, columns.index], columns=heads)
        table.insert(0, "voxel", np.arange(len(table)))
        with _files.writing(func / f"{name}.tsv") as unfinished:
            table.to_csv(unfinished, sep="\t", index=False, na_rep="n/a", float_format="%.9g")
        sidecar = {
            head: {**_sidecar(maps, facts), "Column": int(i)}
            for head, facts, i in zip(heads, records, columns.index, strict=True)
        }
        _files.write_json(
            func / f"{name}.json",
            {"voxel": {"Description": "column of the responses, from 0", **_whole(maps)}, **sidecar},
        )
        written += [func / f"{name}.tsv", func / f"{name}.json"]
    return written


_DESCRIPTIONS: Final = {
    "r": "Pearson correlation of predicted and measured responses over test stimuli",
    "r2": "Fraction of the variance of the measured test responses that the prediction explains",
    "p": "One-sided p-value of r",
    "q": "Smallest false discovery rate at which the voxel is rejected",
    "mask": "Voxels rejected at the stated false discovery rate (1) or not (0); nan outside the family",
    "shareR2": "Product share of the band in the joint R2; can be negative",
    "shareR": "Product share of the band in the joint r; can be negative",
    "ceiling": "Noise ceiling: fraction of the variance of the scored responses that any model could explain",
    "uniqueR2": "R2 that the joint model loses when it is refitted without the band: predictive gain at this n",
    "uniqueP": "One-sided p-value of the unique share",
    "uniqueQ": "Smallest false discovery rate at which the unique share is rejected",
    "uniqueMask": "Voxels whose unique share is rejected at the stated false discovery rate (1) or not (0)",
    "shapleyR2": "Average of what the band adds to R2 over all orders of the bands",
    "commonR2": "R2 that only all bands of the set explain in common; can be negative",
    "excessR2": "Joint R2 less the sum of the R2 of each band alone; above 0 the bands complement each other",
    "identifiability": "Expected correlation, over voxels alike, of the band's shares from two halves of the stimuli",
    "uniqueR2N": "Unique share of the band after a fit to `n_fitted` stimuli; `mean` over voxels and its interval",
    "uniqueR2Limit": "Unique share of the band extrapolated to unlimited stimuli",
    "uniqueR2LimitError": "Standard error of the extrapolation, of the fitted sizes alone",
    "differenceR2": "R2 of the model less R2 of the model of `band` alone",
    "differenceP": "Two-sided p-value of the difference of losses of the model and of `band` alone, paired by stimulus",
    "differenceMask": "Voxels where that difference is significant (1) or not (0)",
    "differenceQ": "Smallest false discovery rate at which the losses of the model and of `band` alone differ, paired",
    "preferred": "Number of the layer with the highest r, counted from 0 in the order of `layers`",
    "confidence": "Fraction of draws of test and training stimuli in which the preferred layer wins again",
    "identifiable": "Voxels whose preferred layer can be told from the others (1) or not (0); nan where none is found",
    "flatP": "P-value of the test that all layers predict equally well",
    "runnerUpP": "Two-sided p-value of the preferred layer against the second best",
    "ceilingLow": "Lower end of the 95 % interval of the noise ceiling",
    "ceilingHigh": "Upper end of the 95 % interval of the noise ceiling",
}


def _sidecar(maps: Maps, facts: Mapping[Any, Any]) -> dict[str, Any]:
    known = {key: value for key, value in facts.items() if value is not None and value == value and value != ""}
    what = re.sub(r"\d+$", "", str(facts["statistic"])) if "n_fitted" in known else str(facts["statistic"])
    described = _DESCRIPTIONS.get(what, "")
    if what == "p" and str(facts["model"]).startswith("layers_"):
        described = "Simes's p of the layers' p-values: that no layer predicts the voxel"
    return {"Description": described, **maps.space.description, **known}


def save_state(maps: Maps, path: Path) -> None:
    """Write maps into one file, to be read back by `load_state`."""
    columns = np.frombuffer(json.dumps(_files.plain(maps.columns.to_dict("records"))).encode(), dtype=np.uint8)
    space = maps.space
    vertices = space.vertices if isinstance(space, Surface) else np.arange(0)
    kind = np.frombuffer((space.template if isinstance(space, Surface) else "bare").encode(), dtype=np.uint8)
    with _files.writing(path) as part, part.open("wb") as handle:
        np.savez_compressed(handle, data=maps.data, columns=columns, vertices=vertices, space=kind)


def load_state(path: Path) -> Maps:
    """Read maps back; raise `IncompleteError` if the file is damaged."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            data, vertices = stored["data"], stored["vertices"]
            columns = pd.DataFrame(json.loads(stored["columns"].tobytes()))
            kind = stored["space"].tobytes().decode()
    except DAMAGE as error:
        raise IncompleteError(f"{path} is damaged ({error}); delete it and run again.") from None
    space: Space = Bare(len(data)) if kind == "bare" else Surface(kind, vertices)
    return Maps(data, columns, space)
