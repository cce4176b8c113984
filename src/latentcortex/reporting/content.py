"""What a report is made from, and what its pictures are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from latentcortex import _files, inference, plotting
from latentcortex._arrays import BoolArray, FloatArray
from latentcortex._results import LOG as LOG_NAME
from latentcortex._results import refuse_damaged
from latentcortex._shelf import unknown
from latentcortex.errors import IncompleteError, InputError
from latentcortex.maps import Maps
from latentcortex.reporting.section import ReportSection
from latentcortex.responses import Responses, Within
from latentcortex.space import LISTED_REGIONS, Atlas, atlas_digest
from latentcortex.splits import Splits
from latentcortex.statistics import MASK, OF_MODEL, R, Significance

FORMAT: Final = "latentcortex-report 3"
CONTENT: Final = "_report.json"
"""How the file ends that holds what a report states beside the maps."""
BACKGROUND: Final = "_background.nii.gz"
"""How the copy ends of the anatomy that a dataset gives."""
KEPT: Final = (
    *("participant", "facts", "settings", "made_by", "reconstructions", "viewer"),
    *("methods", "references", "sections"),
)
"""What of it is kept in that file, beside a hash of the atlas."""
LOG: Final = Path(LOG_NAME)
"""Where a folder of results keeps its log."""


@dataclass(frozen=True, eq=False)
class Content:
    """What a report is made from.

    Parameters
    ----------
    participant : str
    maps : Maps
        All columns of the participant.
    atlas : Atlas, optional
    facts : dict
        Numbers of the data, see `facts_of`.
    settings : dict
        The study's.
    made_by : dict
        What made the features.
    log : Path
        JSON lines with what was altered or excluded.
    reconstructions : str
        The page of reconstructions that the report links to, relative to it; empty for none.
    viewer : str
        The viewer that is written beside the report, relative to it; empty for none.
    background : Path, optional
        Anatomy behind cuts through a volume, beside the maps.
    methods : mapping of str to str
        What each part of the run wrote of itself for the methods text, with keys of references.
    references : str
        BibTeX of references that parts brought along, beyond the package's own.
    sections : mapping of str to ReportSection
        Analysis -> what stands below it; of one that is not among them only histograms.
    """

    participant: str
    maps: Maps
    atlas: Atlas | None
    facts: Mapping[str, Any]
    settings: Mapping[str, Any]
    made_by: Mapping[str, Any]
    log: Path
    reconstructions: str = ""
    viewer: str = ""
    background: Path | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    references: str = ""
    sections: Mapping[str, ReportSection] = field(default_factory=dict)

    def write(self, out: Path, stages: Sequence[Mapping[str, Any]]) -> None:
        """Keep all but the maps beside them, so that the report can be made again from the folder alone."""
        kept = {name: getattr(self, name) for name in KEPT}
        kept["sections"] = {analysis: asdict(section) for analysis, section in self.sections.items()}
        kept["atlas"] = atlas_digest(self.settings["report"]["atlas"], [self.maps.space])
        path = out / f"sub-{self.participant}" / f"sub-{self.participant}{CONTENT}"
        _files.write_sealed(path, {"format": FORMAT, **kept, "stages": list(stages)})

    @classmethod
    def read(cls, path: Path, *, log: Path) -> tuple[Content, list[dict[str, Any]]]:
        """Read what `write` kept, with the maps of its folder; return the stages as well.

        Raises
        ------
        IncompleteError
            If the file is damaged, or a map, or is not as the folder's record says.
        InputError
            If it names another participant than its folder, a page that no study writes, or an unknown format; if
            the atlas is not there any more, or is another one.
        """
        refuse_damaged(path.parents[1], [path, *path.parent.glob(f"*{BACKGROUND}")])
        kept = _files.read_sealed(path, kind=FORMAT)
        _refuse_foreign(kept, path)
        maps = Maps.load(path.parents[1], participant=kept["participant"])
        name = kept["settings"]["report"]["atlas"]
        atlas = Atlas.find(name, maps.space) if name and maps.space.canvases else None
        if name == LISTED_REGIONS and not maps.space.canvases:
            listed_in = path.with_name(f"sub-{kept['participant']}_{LISTED_REGIONS}.tsv")
            refuse_damaged(path.parents[1], [listed_in])
            atlas = Atlas.listed(_files.read_tsv(listed_in, needs=()), listed_in)
        if atlas is not None and kept.get("atlas") not in (None, atlas_digest(name, [maps.space])):
            raise InputError(f"Atlas {name} is not as it was when its regions were scored; run the study again.")
        background = background_of(path.parents[1], kept["participant"])
        given = bool(kept["settings"].get("dataset", {}).get("background"))
        if given and not background.is_file():
            raise IncompleteError(f"{background} is missing, the anatomy behind the slices; run the study again.")
        fields = {name: kept[name] for name in KEPT} | {"background": background if given else None}
        fields["sections"] = {name: ReportSection.from_json(one) for name, one in kept["sections"].items()}
        return cls(maps=maps, atlas=atlas, log=log, **fields), kept["stages"]

    @property
    def analyses(self) -> list[str]:
        """The analyses that the maps are of, in the order of the maps; parts of one are one."""
        whole = {part: name for name, section in self.sections.items() for part in section.parts}
        return list(dict.fromkeys(whole.get(str(name), str(name)) for name in self.maps.columns["analysis"]))

    def section(self, analysis: str) -> ReportSection:
        """Take what an analysis says of its section of the report; nothing of one that is not known."""
        return self.sections.get(analysis, ReportSection())

    def title(self, analysis: str) -> str:
        """Head the section of an analysis."""
        return self.section(analysis).title or analysis

    def columns_of(self, analysis: str) -> pd.DataFrame:
        """List the columns of the maps of an analysis, of all its parts."""
        columns = self.maps.columns
        return columns[columns["analysis"].isin(self.section(analysis).parts or (analysis,))]

    def statistics_of(self, analysis: str) -> set[str]:
        """Name the statistics that the maps of an analysis hold."""
        return set(self.columns_of(analysis)["statistic"])

    @property
    def style(self) -> plotting.Style:
        """How wide the figures may be."""
        return plotting.Style(width_mm=float(self.settings["report"]["width_mm"]))

    @property
    def template(self) -> str:
        """The cortex that maps are drawn on."""
        return self.maps.space.template


def _refuse_foreign(kept: Mapping[str, Any], path: Path) -> None:
    """Raise `InputError` if what becomes a path or a link in the report is not as a study writes it."""
    who, report = kept.get("participant"), (kept.get("settings") or {}).get("report") or {}
    if path.name != f"sub-{who}{CONTENT}" or path.parent.name != f"sub-{who}":
        raise InputError(f"{path} is of participant {who!r}; expected the one that its folder is named after.")
    if report.get("format", "png") not in plotting.FORMATS:
        raise InputError(f"{path}: {unknown('format in [report]:', str(report.get('format')), plotting.FORMATS)}")
    pages = ("", f"decoding/sub-{who}.html"), ("", f"sub-{who}_viewer.html", f"sub-{who}_light.html")
    for name, allowed in zip(("reconstructions", "viewer"), pages, strict=True):
        if kept.get(name) not in allowed:
            raise InputError(f"{path} names {kept.get(name)!r} as `{name}`; a study writes {allowed[-1]} or nothing.")


def background_of(out: Path, participant: str) -> Path:
    """Say where the anatomy behind cuts is kept, if there is one."""
    return out / f"sub-{participant}" / f"sub-{participant}{BACKGROUND}"


@dataclass(frozen=True)
class Figure:
    """One picture of the report.

    Parameters
    ----------
    name : str
        Of its file.
    caption : str
        What it shows, also for those who cannot see it.
    draw : callable
        Draws it in a style.
    """

    name: str
    caption: str
    draw: Callable[[plotting.Style], Any]


def significant(maps: Maps, values: FloatArray, *, analysis: str, model: str) -> FloatArray:
    """Keep values where the model's own mask says so; nan elsewhere."""
    mask = maps.values(analysis=analysis, model=model, statistic=MASK.name)
    return np.asarray(np.where(mask == 1, values, np.nan), dtype=np.float32)


def found_by_any(maps: Maps, maps_of: Sequence[Mapping[str, str]], *, of: Significance = OF_MODEL) -> BoolArray:
    """Tell which voxels any of several maps finds, as one family, (n_voxels,).

    Each voxel's p of several maps are combined by Simes's test and corrected over voxels. The union of the maps' own
    masks would have the false discoveries of all of them: with three maps up to three times the rate.

    Parameters
    ----------
    maps : Maps
    maps_of : sequence of mapping
        Facts of each map: analysis, model, band.
    of : Significance
        The test of each map: that of the model's score by default.
    """
    p = np.stack([maps.values(**facts, statistic=of.p) for facts in maps_of])
    judged = maps.find_columns(**maps_of[0], statistic=of.mask).columns.iloc[0]
    return inference.fdr(inference.simes_p(p), float(judged["q"]), str(judged["correction"])).rejected


def models(maps: Maps, analysis: str) -> list[str]:
    """List the models of an analysis in their order."""
    columns = maps.find_columns(analysis=analysis)
    return list(dict.fromkeys(columns.find_columns(statistic=R.name).columns["model"]))


def said_false(maps: Maps, analysis: str, mask: str = MASK.name) -> str:
    """Say how many voxels of these masks are expected to be false; nothing where there is no shuffled control."""
    masks = maps.find_columns(analysis=analysis, statistic=mask).columns
    if "n_false" not in masks or masks["n_false"].isna().any():
        return ""
    each = [counted(row["n_false"], row["n_false_low"], row["n_false_high"]) for row in masks.to_dict("records")]
    return f" (of these {', '.join(each)} expected without any relation of stimuli and responses)"


def counted(value: float, low: float | None, high: float | None) -> str:
    """Write an expected number of voxels with its interval, if it has one.

    Examples
    --------
    >>> counted(186.4, 150.1, 227.4), counted(0.4, None, None)
    ('186 [150, 227]', '0.4')
    """
    digits = 1 if max(value, high or 0) < 10 else 0
    if low is None or high is None or low != low:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def facts_of(maps: Maps, rows: pd.DataFrame, splits: Splits) -> dict[str, Any]:
    """Count what the report states of the data; valid voxels are those that have a map.

    Parameters
    ----------
    maps : Maps
    rows : DataFrame
        The trials, as `Responses` have them.
    splits : Splits
    """
    fitted = np.zeros(maps.space.n_voxels, dtype=bool)
    for r, _ in maps.find_columns(statistic=R.name):
        fitted |= np.isfinite(r)
    trials, (train, test) = Responses.without_voxels(rows), splits.folds[0]
    split = {"n_train": len(train), "n_test": len(test)}
    return {
        "n_trials": len(rows),
        "n_sessions": rows["session"].nunique(),
        **(split if len(splits) == 1 else {"n_stimuli": len(trials.ids), "n_folds": len(splits)}),
        "n_voxels": maps.space.n_voxels,
        "n_valid": int(fitted.sum()),
        "held_out": {within: _held_out(trials, splits, within) for within in ("session", "run")},
    }


def _held_out(trials: Responses, splits: Splits, within: Within) -> int:
    """Count the sessions or runs that have no training row, in any fold."""
    names: set[str] = set()
    for train_ids, test_ids in splits:
        used = trials.select_stimuli([*train_ids, *test_ids])
        counts = used.training_rows(used.rows["stimulus"].isin(train_ids).to_numpy(), within)
        names |= {name for name, n in counts.items() if n == 0}
    return len(names)
