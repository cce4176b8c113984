"""Columns of numbers over voxels, each saying what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from latentcortex import statistics
from latentcortex._arrays import BoolArray, FloatArray, listed
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError
from latentcortex.maps import derivatives
from latentcortex.maps.naming import KEYS
from latentcortex.space import Atlas, Space, Volume

if TYPE_CHECKING:
    import nibabel as nib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from latentcortex.plotting import Style

Vector = FloatArray | Callable[[], FloatArray]
"""The values of one column, (n_voxels,), or what reads them from a file whenever they are asked for."""


class Maps:
    """Statistics by voxel, one column for each statistic of a model or band.

    Columns may stay in files: what is done to maps is done to one column after the other, and none is kept in memory
    for longer than that takes.

    Parameters
    ----------
    data : ndarray of float32, shape (n_voxels, n_columns), or sequence of n_columns vectors
        nan where undefined. A vector is an array (n_voxels,), or a function without arguments that reads one.
    columns : DataFrame of length n_columns
        Facts that say what each column is: `analysis`, `model` (its bands, joined by +), `band` (empty where the column
        belongs to the whole model), `statistic`, `unit`, `n_stimuli`; for significance also `correction`,
        `q`, `family`, `n_tests`, `threshold`.
    space : Space

    Raises
    ------
    AlignmentError
        If data, columns and space do not match, or two columns are the same thing.
    """

    def __init__(self, data: FloatArray | Sequence[Vector], columns: pd.DataFrame, space: Space) -> None:
        vectors = list(data.T) if isinstance(data, np.ndarray) else data
        self._vectors: tuple[Vector, ...] = tuple(vectors)
        self.columns, self.space = columns, space
        expected = (space.n_voxels, len(columns))
        lengths = [len(one) for one in self._vectors if isinstance(one, np.ndarray)] or [space.n_voxels]
        for shape in ((length, len(self._vectors)) for length in lengths):
            if shape != expected:
                raise AlignmentError(f"Maps are {shape}; expected (n_voxels, n_columns) = {expected}.")
        twice = columns.duplicated(subset=list(KEYS))
        if twice.any():
            raise AlignmentError(f"Two columns are the same thing: {dict(columns[twice].iloc[0][list(KEYS)])}.")

    @property
    def data(self) -> FloatArray:
        """All values in memory, (n_voxels, n_columns): a copy, made whenever it is asked for.

        Iterate over maps, or take `values`, to have one column at a time.
        """
        data = np.empty((self.space.n_voxels, len(self._vectors)), dtype=np.float32)
        for i in range(len(self._vectors)):
            data[:, i] = self.column(i)
        return data

    def column(self, number: int) -> FloatArray:
        """Return the values of the column of this number, (n_voxels,): a copy."""
        vector = self._vectors[number]
        values = np.array(vector) if isinstance(vector, np.ndarray) else vector()
        if values.shape != (self.space.n_voxels,):
            raise AlignmentError(f"A column is {values.shape}; expected (n_voxels,) = ({self.space.n_voxels},).")
        return values

    def __repr__(self) -> str:
        """Say what it holds, in one line."""
        kinds = (listed(list(dict.fromkeys(map(str, self.columns[name]))), 6) for name in ("analysis", "statistic"))
        of, statistics = kinds
        return f"Maps({len(self.columns)} columns of {self.space!r}; analyses {of}; statistics {statistics})"

    @classmethod
    def build(cls, space: Space, columns: Sequence[tuple[FloatArray | BoolArray, Mapping[str, Any]]]) -> Maps:
        """Make maps from columns, each a pair of values (n_voxels,) and the facts that say what they are."""
        vectors = [np.asarray(values, dtype=np.float32) for values, _ in columns]
        return cls(vectors, pd.DataFrame([dict(facts) for _, facts in columns]), space)

    def find_columns(self, **facts: str) -> Maps:
        """Take the columns that agree with all given facts; raise `InputError` if columns have no such fact."""
        for name in facts:
            if name not in self.columns:
                raise unknown("fact of a column:", name, [str(name) for name in self.columns.columns])
        kept = np.ones(len(self.columns), dtype=bool)
        for name, value in facts.items():
            kept &= (self.columns[name] == value).to_numpy()
        return self.select_columns(kept)

    def select_columns(self, kept: BoolArray) -> Maps:
        """Take the columns where `kept`, bool (n_columns,), is true."""
        vectors = [self._vectors[i] for i in np.flatnonzero(kept)]
        return Maps(vectors, self.columns[np.asarray(kept)].reset_index(drop=True), self.space)

    def replace_columns(self, columns: pd.DataFrame, changed: Mapping[int, FloatArray] | None = None) -> Maps:
        """Replace the table that says what the columns are, and the values of some columns, by their number."""
        vectors: dict[int, Vector] = {**dict(enumerate(self._vectors)), **(changed or {})}
        return Maps(list(vectors.values()), columns, self.space)

    def values(self, **facts: str) -> FloatArray:
        """Return the one column that agrees with all given facts, (n_voxels,).

        Raises
        ------
        InputError
            If none or several do.
        """
        matching = self.find_columns(**facts)
        if len(matching.columns) != 1:
            raise InputError(f"{len(matching.columns)} columns are {facts}; expected one. {self._present(facts)}")
        return matching.column(0)

    def _present(self, facts: Mapping[str, str]) -> str:
        """List the values that each of these facts has among the columns."""
        present = {name: listed(list(dict.fromkeys(map(str, self.columns[name]))), 8) for name in facts}
        return " ".join(f"Known as {name}: {values}." for name, values in present.items())

    def __iter__(self) -> Iterator[tuple[FloatArray, dict[str, Any]]]:
        """Yield the values of each column and the facts that say what it is."""
        for i, facts in enumerate(self.columns.to_dict("records")):
            yield self.column(i), {str(k): v for k, v in facts.items()}

    def join(self, other: Maps) -> Maps:
        """Join the columns of two maps; raise `AlignmentError` unless they are of the same voxels."""
        mine, theirs = self.space, other.space
        if mine.n_voxels != theirs.n_voxels:
            raise AlignmentError(f"Maps of {mine.n_voxels} and {theirs.n_voxels} voxels have no columns side by side.")
        if mine.description != theirs.description or not mine.rows.equals(theirs.rows):
            raise AlignmentError("Maps of different voxels have no columns side by side.")
        columns = pd.concat([self.columns, other.columns], ignore_index=True)
        return Maps([*self._vectors, *other._vectors], columns, self.space)

    def to_dataframe(self) -> pd.DataFrame:
        """Lay the numbers out as a table that knows what each of them is.

        Returns
        -------
        DataFrame of float32, shape (n_voxels, n_columns)
            Its columns have the levels `analysis`, `model`, `band`, `statistic`, so that
            `table.xs("r", axis=1, level="statistic")` takes all scores. Its rows are `hemisphere` (L, R) and `vertex`,
            counted from 0 in each hemisphere; of a volume, `i`, `j`, `k`, the place on its grid; of voxels without a
            known position, `voxel`, from 0.
            `table.stack(list(table.columns.names), future_stack=True)` is the long form.
        """
        columns = pd.MultiIndex.from_frame(self.columns[list(KEYS)])
        return pd.DataFrame(self.data, self.space.rows, columns)

    def to_image(self, **facts: str) -> nib.Nifti1Image:
        """Lay the one column that agrees with all given facts onto the grid of its volume.

        Parameters
        ----------
        **facts
            As for `values`.

        Returns
        -------
        Nifti1Image
            Of float32; nan outside the mask, and where undefined.

        Raises
        ------
        InputError
            If none or several columns agree, or the voxels are not those of a volume.
        """
        if not isinstance(self.space, Volume):
            raise InputError("Only voxels of a volume make an image; Maps.to_dataframe has the numbers of all others.")
        return self.space.to_image(self.values(**facts))

    def plot(
        self,
        *,
        ax: Axes | None = None,
        atlas: Atlas | None = None,
        significant: bool = False,
        cmap: str = "",
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
            Whether to colour only voxels in which the statistic is significant: by the mask of its model, or, of a
            unique share or a difference, by its own.
        cmap : str
            By default that of the statistic, see `statistics`.
        limits : tuple of float, optional
            Ends of the colour scale; by default as the statistic's entry says: 0 and 1 of a fraction such as the noise
            ceiling, as far below as above 0 of a difference, and otherwise chosen from the values.
        style : plotting.Style, optional
        **facts
            As for `values`, for example analysis="latents", model="c", statistic="r".

        Raises
        ------
        InputError
            If none or several columns agree, the voxels have no place on cortex, a value is infinite, or a mask that
            is asked for is not there, since nothing was tested.
        """
        from latentcortex import plotting  # matplotlib is slow to import

        values, (of_column,) = self.values(**facts), self.find_columns(**facts).columns.to_dict("records")
        statistic = statistics.named(str(of_column["statistic"]))
        if significant:
            values = np.where(self.values(**_mask_of(of_column)) == 1, values, np.nan)
        several = of_column["band"] and of_column["band"] != of_column["model"]
        compared = (
            f"{of_column['model']} − {of_column['band']}"
            if statistic.compares
            else f"{of_column['band']} in {of_column['model']}"
        )
        title = compared if several else str(of_column["model"])
        is_categorical = statistic.kind != "number"
        return plotting.plot_flatmap(
            plotting.Panel(title, values, self.space, categorical=is_categorical),
            ax=ax,
            atlas=atlas,
            cmap=cmap or statistic.cmap,
            limits=limits or statistic.scale(values),
            label=f"{of_column['statistic']} ({of_column['unit']})"
            if of_column.get("unit")
            else str(of_column["statistic"]),
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
            stimuli, if the column has it), `median`; nan without valid voxels.
        """
        if len(labels) != self.space.n_voxels:
            raise AlignmentError(f"There are {len(labels)} labels and {self.space.n_voxels} voxels; expected one each.")
        inside = {region: np.asarray(labels) == region for region in names}
        rows: dict[int, list[dict[Any, Any]]] = {region: [] for region in names}
        for values, facts in self:
            for region, name in names.items():
                rows[region].append({"roi": name, **_summary(values[inside[region]], facts, name)})
        return pd.DataFrame([row for of_region in rows.values() for row in of_region])

    def save(self, folder: Path | str, *, participant: str, task: str = "images") -> list[Path]:
        """Write the maps as BIDS derivatives below `folder`, unthresholded, with sidecars.

        Surfaces become one GIFTI per column and hemisphere, volumes one NIfTI per column, nan outside the mask; voxels
        of unknown position one table per model.
        """
        func = Path(folder) / f"sub-{_label(participant)}" / "func"
        facts = [{str(name): value for name, value in row.items()} for row in self.columns.to_dict("records")]
        return derivatives.write(self.column, facts, self.space, func, f"sub-{participant}_task-{task}")

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
        func = Path(folder) / f"sub-{_label(participant)}" / "func"
        return cls(*derivatives.read(func, f"sub-{participant}_task-{task}"))


def _label(participant: str) -> str:
    """Return a participant's label; raise `InputError` unless it is letters and digits."""
    if not (participant.isascii() and participant.isalnum()):
        raise InputError(f"Participant {participant!r} must be letters and digits, like '01', without sub-.")
    return participant


def _mask_of(facts: Mapping[Any, Any]) -> dict[str, str]:
    """Name the column that says where another one is significant; raise `InputError` if nothing was tested."""
    significance = statistics.named(str(facts["statistic"])).significance
    if significance is None:
        raise InputError(
            f"Nothing says where {facts['statistic']} is significant: it is not tested. Draw it everywhere."
        )
    of_model = {key: str(facts[key]) for key in ("analysis", "model")} | {"statistic": significance.mask}
    return of_model | ({"band": str(facts["band"])} if significance.of_band else {})


def _summary(values: FloatArray, facts: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Summarise the values of one column in one region, (n_voxels of the region,), beside the facts of the column."""
    valid = values[np.isfinite(values)]
    mean, median = (valid.mean(), np.median(valid)) if len(valid) else (np.nan, np.nan)
    intervals = facts.get("intervals")
    low, high = intervals.get(region, (np.nan, np.nan)) if isinstance(intervals, dict) else (np.nan, np.nan)
    counts = {"n_voxels": len(values), "n_valid": len(valid)}
    means = {"mean": float(mean), "low": float(low), "high": float(high), "median": float(median)}
    return {**{key: facts[key] for key in KEYS}, **counts, **means}
