"""Tables of trials: under whatever names their columns have, and from the events of BIDS."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from latentcortex import _files
from latentcortex._arrays import FloatArray, IntArray, listed, unique_ids
from latentcortex._shelf import unknown
from latentcortex.errors import AlignmentError, InputError

logger = logging.getLogger(__name__)

NAMES: Final = {
    "stimulus": "stimulus_id",
    "session": "session",
    "run": "run",
    "split": "split",
    "onset": "onset",
    "participant": "participant",
    "row": "row",
}
"""What `columns` may name -> what such a column is called if it does not."""
NEEDED: Final = ("stimulus", "session", "run")
ENTITY: Final = re.compile(r"(?:^|_)(sub|ses|task|run)-([0-9A-Za-z+]+)(?=_)")
NOTHING: Final = ("", "n/a")
"""What an event has for a stimulus that shows none."""
WHOLE_UNITS: Final = 110
"""Percent signal change beyond which amplitudes that are whole numbers are taken for multiples of it."""
SATURATED: Final = 32767


def check_columns(columns: Mapping[str, str]) -> None:
    """Raise `InputError` for the name of a column that no table of trials has."""
    for key in columns:
        if key not in NAMES:
            raise unknown("key of `columns` in [dataset]", key, NAMES)


def read_trials(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read a table of trials, .tsv as BIDS has it or .csv, every cell a string.

    Parameters
    ----------
    path : Path
    columns : mapping
        What the table calls its `stimulus`, `session`, `run`, `split`, `onset`, `participant` and `row`, where these
        have other names.

    Returns
    -------
    DataFrame
        With `stimulus_id`, `session`, `run` and the others by their usual names; its index numbers the rows of the
        file, where the header is the first.

    Raises
    ------
    InputError
        If the file is missing or no such table, or lacks one of these columns.
    """
    called = {key: columns.get(key, name) for key, name in NAMES.items()}
    needs = tuple(called[key] for key in NAMES if key in NEEDED or key in columns)
    table = read_csv(path, needs=needs) if path.suffix == ".csv" else _files.read_tsv(path, needs=needs)
    renamed = {name: NAMES[key] for key, name in called.items() if name in table.columns}
    kept = [name for name in table.columns if name in renamed or name not in NAMES.values()]
    return table[kept].rename(columns=renamed)


def read_csv(path: Path, *, needs: Sequence[str]) -> pd.DataFrame:
    """Read a comma-separated table with every cell a string; the index numbers its rows, as `_files.read_tsv` does.

    Raises
    ------
    InputError
        If the file is missing, is no such table, lacks a needed column, or has a row of another length than its header.
    """
    expected = f"a comma-separated table with {', '.join(needs)}"
    text = _files.read_text(path, expected=expected)
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is not {expected}: {error}.") from None
    numbered = {number: row for number, row in enumerate(rows, start=1) if row}
    if not numbered:
        raise InputError(f"{path} is empty; expected {expected}.")
    header = numbered.pop(min(numbered))
    missing = [name for name in needs if name not in header]
    if missing:
        tabs = " It looks tab-separated; call it .tsv." if "\t" in header[0] else ""
        raise InputError(f"{path} has no column {', '.join(missing)}; found {listed(header)}.{tabs}")
    for number, row in numbered.items():
        if len(row) != len(header):
            raise InputError(f"{path} row {number} has {len(row)} cells; its header has {len(header)}.")
    names = unique_ids(header, what=f"Columns of {path}")
    return pd.DataFrame(list(numbered.values()), index=list(numbered), columns=names, dtype=str)


def in_time(table: pd.DataFrame, path: Path) -> None:
    """Check that trials stand run by run, and within a run by onset, where the table says that.

    Raises
    ------
    AlignmentError
        If the trials of a run are torn apart, or an onset is before the one above it.
    """
    runs = table.groupby(["session", "run"], sort=False).ngroup().to_numpy()
    torn = np.flatnonzero(np.diff(runs) < 0)
    if len(torn):
        row = table.iloc[torn[0] + 1]
        raise AlignmentError(
            f"{path} row {row.name} goes back to session {row['session']}, run {row['run']}; expected the trials of "
            "each run together, in the order in which GLMsingle was given runs: sort the table by run and onset."
        )
    if "onset" not in table.columns:
        logger.info("%s has no column onset: that its rows are in the order of time cannot be checked.", path.name)
        return
    onsets = _onsets(table, path)
    back = np.flatnonzero((np.diff(runs) == 0) & (np.diff(onsets) < 0))
    if len(back):
        at = int(back[0]) + 1
        raise AlignmentError(
            f"{path} row {table.index[at]} has onset {onsets[at]:g} after {onsets[at - 1]:g} in the same run; expected "
            "trials in the order of time, as GLMsingle counts them: sort the table by run and onset."
        )


def _onsets(table: pd.DataFrame, path: Path) -> FloatArray:
    """Read the onsets, in seconds."""
    onsets = pd.to_numeric(table["onset"], errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(onsets))
    if len(bad):
        row = table.iloc[bad[0]]
        raise InputError(f"{path} row {row.name} has the onset {row['onset']!r}; expected a number of seconds.")
    return onsets


def read_events(paths: Sequence[Path], columns: Mapping[str, str]) -> pd.DataFrame:
    """Read the events of runs into one table of trials: by session and run, and within a run by onset.

    Events that show no stimulus (`n/a`) are left out. Labels that are numbers are in the order of numbers.

    Parameters
    ----------
    paths : sequence of Path
        Files `..._events.tsv`, whose session and run stand in their names; entities may be in any order.
    columns : mapping
        As for `read_trials`; the stimulus is `stim_file` unless it says otherwise.

    Returns
    -------
    DataFrame
        As from `read_trials`, with `onset`; its index is the row in the run's file.

    Raises
    ------
    InputError
        If they are of several tasks, two of the same session and run, or one is no such table.
    """
    of_file = {path: dict(ENTITY.findall(path.name)) for path in paths}
    tasks = sorted({entities.get("task", "") for entities in of_file.values()})
    if len(tasks) > 1:
        raise InputError(f"`events` in [dataset] matches runs of several tasks ({listed(tasks)}); name one in it.")
    placed: dict[tuple[str, str], Path] = {}
    for path, entities in of_file.items():
        place = entities.get("ses", ""), entities.get("run", "")
        if place in placed:
            raise InputError(
                f"{path} and {placed[place]} are both of session {place[0] or 'n/a'}, run {place[1] or 'n/a'}; narrow "
                "`events` in [dataset]."
            )
        placed[place] = path
    ordered = sorted(placed, key=lambda place: tuple(_natural(label) for label in place))
    return pd.concat([_events_of(placed[place], place, columns) for place in ordered])


def _events_of(path: Path, place: tuple[str, str], columns: Mapping[str, str]) -> pd.DataFrame:
    """Read the events of one run that show a stimulus, by onset."""
    shown, begins = columns.get("stimulus", "stim_file"), columns.get("onset", "onset")
    table = _files.read_tsv(path, needs=(begins, shown))
    table = table.rename(columns={shown: "stimulus_id", begins: "onset"})
    is_stimulus = ~table["stimulus_id"].isin(NOTHING)
    if not is_stimulus.all():
        sentence = "%d of %d events of %s show no stimulus and are no trials."
        logger.info(sentence, int((~is_stimulus).sum()), len(table), path.name)
    table = table[is_stimulus].assign(session=place[0] or "n/a", run=place[1] or "n/a")
    onsets = _onsets(table, path)
    if (np.diff(onsets) < 0).any():
        logger.info("The events of %s are not in the order of their onsets and were sorted.", path.name)
    return table.iloc[np.argsort(onsets, kind="stable")]


def _natural(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdecimal() else (-1, label)


def described(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Describe single trials as `Dataset.rows` does.

    Raises
    ------
    InputError
        If the trials of a stimulus are in two splits.
    """
    kept = {"stimulus_id": "stimulus", "session": "session", "run": "run"}
    rows = table[list(kept)].rename(columns=kept).reset_index(drop=True).assign(n_repeats=1)
    if "split" not in table.columns:
        return rows
    splits = table.groupby("stimulus_id")["split"].agg(lambda values: listed(sorted(set(values))))
    mixed = splits[splits.str.contains(", ")]
    if len(mixed):
        both = listed(f"{name} ({values})" for name, values in mixed.items())
        raise InputError(f"{path} has stimuli in two splits: {both}; give all trials of one the same split.")
    return rows.assign(split=table["split"].to_numpy())


def response_rows(table: pd.DataFrame, path: Path) -> IntArray:
    """Return the row of the responses of each trial, from 0: by a column `row`, or else by their order.

    Raises
    ------
    AlignmentError
        If a column `row` does not number all rows, each once.
    """
    if "row" not in table.columns:
        return np.arange(len(table))
    numbers, n_rows = pd.to_numeric(table["row"], errors="coerce").to_numpy(dtype=np.float64), len(table)
    if not np.array_equal(np.sort(numbers), np.arange(n_rows)):
        counts_from_one = np.array_equal(np.sort(numbers), np.arange(1, n_rows + 1))
        raise AlignmentError(
            f"{path}, column row, has {listed(table['row'], 5)}; expected the numbers of {n_rows} rows of responses "
            f"from 0 to {n_rows - 1}, each once{', and these count from 1' if counts_from_one else ''}."
        )
    if (np.diff(numbers) < 0).any():
        logger.warning("%s is in another order than the responses; its column row says which is which.", path.name)
    return numbers.astype(np.intp)


def note_scale(values: FloatArray, source: str) -> None:
    """Warn of amplitudes that look like NSD's int16, percent signal change times 300.

    Parameters
    ----------
    values : ndarray
        Of some voxels.
    source : str
        The file, for the log.
    """
    finite = values[np.isfinite(values)]
    if not finite.size or np.abs(finite).max() <= WHOLE_UNITS or (finite != np.rint(finite)).any():
        return
    n_saturated = int((np.abs(finite) >= SATURATED).sum())
    logger.warning(
        "%s holds whole numbers up to %d, as betas in int16 do that are percent signal change times 300; they are used "
        "as they are, no result depends on their unit. %d of %d that were looked at are saturated (at 32767).",
        source,
        int(np.abs(finite).max()),
        n_saturated,
        finite.size,
    )
