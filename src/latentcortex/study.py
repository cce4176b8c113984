"""One TOML file is one study: it runs the stages, and skips what is done."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

import latentcortex
from latentcortex import _files, analyses, datasets, encoding, estimators, extractors, inference, reporting
from latentcortex._arrays import digest, listed
from latentcortex._record import Record
from latentcortex._shelf import unknown
from latentcortex._watch import Stages
from latentcortex.analyses import Analysis
from latentcortex.errors import InputError
from latentcortex.extraction import extract
from latentcortex.features import Features
from latentcortex.maps import Maps, load_state, save_state
from latentcortex.responses import Responses
from latentcortex.space import Atlas, Bare, Surface
from latentcortex.splits import Splits, held_out
from latentcortex.stimuli import Stimuli

logger = logging.getLogger(__name__)

OPEN: Final = ("dataset", "extractor", "estimator")
"""Sections whose keys are the arguments of the class that `name` picks."""
SCHEMA: Final[dict[str, dict[str, Any]]] = {
    "responses": {"zscore": "session"},
    "splits": {"test": "split", "cross_validation": 0, "unit": "stimulus"},
    "analyses": {"run": list(analyses.ANALYSES)},
    "inference": {"q": 0.05, "correction": "bh", "null": "", "n_permutations": 1000},
    "report": {"atlas": ""},
    "run": {"seed": 0, "out": ""},
}
"""The other sections: their keys, and the values that they have unless given."""
NOT_PATHS: Final = ("phantom",)
"""Names that stand where a path could."""
STAGES: Final = ("extract", "encode", "report")


@dataclass(frozen=True)
class Study:
    """What to run, checked.

    Parameters
    ----------
    settings : dict
        Section -> keys, complete.
    folder : Path
        Against which paths resolve.
    """

    settings: dict[str, dict[str, Any]]
    folder: Path = field(default_factory=Path)

    @classmethod
    def read(cls, path: Path | str) -> Study:
        """Read a study file.

        Raises
        ------
        InputError
            If the file is missing or not TOML, or a key is unknown or of the wrong type.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"Study file {path} is not there.")
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML: {error}.") from None
        try:
            return cls(complete(given), path.resolve().parent)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @property
    def seed(self) -> int:
        """The seed from which all others follow."""
        return int(self.settings["run"]["seed"])

    @property
    def out(self) -> Path | None:
        """The folder for results that the file names, if it does."""
        given = self.settings["run"]["out"]
        return self._path(given) if given else None

    def run(
        self,
        out: Path | None = None,
        *,
        until: str = "report",
        overwrite: bool = False,
        progress: bool = True,
    ) -> Outcome:
        """Run the stages up to one, skipping what is done.

        Everything that can be checked is checked before anything is written.

        Parameters
        ----------
        out : Path, optional
            Folder for results; the file's by default.
        until : {"extract", "encode", "report"}
        overwrite : bool
            Replace results of another study in that folder.
        progress : bool
            Draw progress bars.

        Raises
        ------
        InputError
            If anything given is not what it must be; then nothing was written.
        """
        out = out if out is not None else self.out
        if out is None:
            raise InputError("No folder for results: give --out, or `out` in [run].")
        return _Run(self, out, overwrite, progress).through(until)

    def dataset(self) -> Any:
        """Make the dataset."""
        return self._make(datasets.SHELF, "dataset", paths=("root",))

    def extractor(self) -> Any:
        """Make the extractor."""
        return self._make(extractors.SHELF, "extractor", paths=("model",), seeded=True)

    def estimator(self) -> Any:
        """Make the estimator."""
        return self._make(estimators.SHELF, "estimator", seeded=True)

    def models(self, bands: tuple[str, ...]) -> list[Analysis]:
        """Choose the models of all analyses."""
        return [analyses.canonical(name, bands) for name in self.settings["analyses"]["run"]]

    def _make(self, shelf: Any, section: str, *, paths: tuple[str, ...] = (), seeded: bool = False) -> Any:
        arguments = dict(self.settings[section])
        name = arguments.pop("name")
        for key in paths:
            if key in arguments and arguments[key] not in NOT_PATHS:
                if not isinstance(arguments[key], str):
                    raise InputError(f"`{key}` in [{section}] must be a string; got {arguments[key]!r}.")
                arguments[key] = str(self._path(arguments[key]))
        if seeded and "seed" not in arguments and shelf.takes(name, "seed"):
            arguments["seed"] = self.seed
        return shelf.make(name, **arguments)

    def _path(self, given: str) -> Path:
        return (self.folder / Path(given).expanduser()).resolve()


def complete(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Check sections, keys and types, and fill in what is not given.

    Raises
    ------
    InputError
        Naming the nearest known section or key.
    """
    for section in given:
        if section not in (*OPEN, *SCHEMA):
            raise unknown("section", section, (*OPEN, *SCHEMA))
        if not isinstance(given[section], dict):
            raise InputError(f"{section} must be a section: [{section}].")
    settings: dict[str, dict[str, Any]] = {}
    for section in OPEN:
        named = {"estimator": "banded_ridge"}.get(section)
        settings[section] = {"name": named, **given.get(section, {})}
        if not isinstance(settings[section]["name"], str):
            raise InputError(f"[{section}] needs `name`, a string.")
    for section, defaults in SCHEMA.items():
        own = given.get(section, {})
        for key, value in own.items():
            if key not in defaults:
                raise unknown(f"key in [{section}]:", key, defaults)
            _same_type(section, key, value, defaults[key])
        settings[section] = {**defaults, **own}
    return _consistent(settings)


def _same_type(section: str, key: str, value: Any, default: Any) -> None:
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(value, wanted) or isinstance(value, bool):
        kind = {str: "a string", int: "a whole number", list: "a list"}.get(type(default), "a number")
        raise InputError(f"`{key}` in [{section}] must be {kind}; got {value!r}.")


def _consistent(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check values against each other and against what is known."""
    splits, tests = settings["splits"], settings["inference"]
    names = settings["analyses"]["run"]
    if not names or len(set(map(str, names))) < len(names):
        raise InputError(f"`run` in [analyses] must name each analysis once; got {listed(names) or 'none'}.")
    for name in names:
        if name not in analyses.ANALYSES:
            raise unknown("analysis", str(name), analyses.ANALYSES)
    if splits["unit"] not in ("stimulus",):
        raise unknown("unit in [splits]:", splits["unit"], ("stimulus",))
    if splits["test"] not in ("split",):
        raise unknown("test in [splits]:", splits["test"], ("split",))
    # A closed form is not valid for predictions pooled over folds, so it is never the default there.
    tests["null"] = tests["null"] or ("permutation" if splits["cross_validation"] else "analytic")
    if tests["null"] not in ("analytic", "permutation"):
        raise unknown("null in [inference]:", tests["null"], ("analytic", "permutation"))
    if splits["cross_validation"] and tests["null"] == "analytic":
        raise InputError("null = 'analytic' is not valid for predictions pooled over folds; use 'permutation'.")
    if tests["n_permutations"] < 1:
        raise InputError(f"n_permutations must be at least 1; got {tests['n_permutations']}.")
    inference.fdr(np.array([0.5]), q=tests["q"], method=tests["correction"])
    return settings


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Parameters
    ----------
    out : Path
    reports : dict
        Participant -> its report.
    computed : bool
        False if everything had been done before.
    """

    out: Path
    reports: dict[str, Path]
    computed: bool


class _Run:
    """One run of a study into one folder."""

    def __init__(self, study: Study, out: Path, overwrite: bool, progress: bool) -> None:
        self.study, self.out, self.overwrite, self.progress = study, out, overwrite, progress
        self.stages = Stages()
        self.dataset = study.dataset()
        self.extractor = study.extractor()
        self.stimuli: Stimuli = self.dataset.stimuli()
        self.hashes: list[str] = []
        study.estimator()
        self.record = Record(out, self._key(), study.settings)

    def _key(self) -> str:
        """Hash everything that the results depend on."""
        prints = [self.dataset.fingerprint(name) for name in self.dataset.participants]
        settings = {name: keys for name, keys in self.study.settings.items() if name != "run"}
        made_by = self.extractor.made_by
        return digest(latentcortex.__version__, settings, self.study.seed, prints, made_by, self.extractor.bands)

    def through(self, until: str) -> Outcome:
        """Run up to a stage."""
        reports = {name: self.out / f"sub-{name}.html" for name in self.dataset.participants}
        self.record.refuse_foreign()
        if not self.overwrite:
            self.record.refuse_other_study()
        if self.record.is_done(until):
            return Outcome(self.out, reports, computed=False)
        with self.stages.watch("check"), _files.remembering() as noticed:
            self.study.models(self.extractor.bands)
            self.extractor.check(self.extractor.bands, self.stimuli.captions(self.stimuli.ids))
            self.hashes = self.stimuli.pixel_hashes()
            loaded = self._check_participants()
        self.record.begin()
        with _files.logging_to(self.out / "logs" / "latentcortex.jsonl"):
            for record in noticed:
                logging.getLogger(record.name).handle(record)
            self._note_duplicates()
            features = self._features()
            for name in self.dataset.participants if until != "extract" else ():
                responses = loaded.pop(name, None) or self._responses(name)
                maps = self._encode(name, features, responses)
                if until == "report":
                    self._report(name, maps, responses)
        self.record.finish(STAGES[: STAGES.index(until) + 1])
        return Outcome(self.out, reports, computed=True)

    def _check_participants(self) -> dict[str, Responses]:
        """Load and check every participant before anything is written; keep only the last, for memory."""
        loaded: dict[str, Responses] = {}
        for name in reversed(self.dataset.participants):
            loaded = {name: self._responses(name)}
            self._check_sides(loaded[name])
            self._atlas(loaded[name])
        return loaded

    def _check_sides(self, responses: Responses) -> None:
        """Check that there is something to fit on and to test on, and that no image is on both sides."""
        one_voxel = Responses(responses.data[:, :1], responses.rows, Bare(1))
        if self.study.settings["splits"]["cross_validation"]:
            for train_ids, test_ids in self._splits(responses):
                one_voxel.split(test_ids=test_ids, train_ids=train_ids, zscore=self._zscore)
            return
        train_ids, test_ids = self._split_ids(responses)
        one_voxel.split(test_ids=test_ids, train_ids=train_ids, zscore=self._zscore)
        hashes = dict(zip(self.stimuli.ids, self.hashes, strict=True))
        fitted = {hashes[name]: name for name in train_ids}
        leaking = [f"{name} = {fitted[hashes[name]]}" for name in test_ids if hashes[name] in fitted]
        if leaking:
            raise InputError(
                f"{len(leaking)} test images are identical to training images ({listed(leaking)}); "
                "put each image on one side of the split."
            )

    @property
    def _zscore(self) -> Any:
        return self.study.settings["responses"]["zscore"]

    def _splits(self, responses: Responses) -> Splits:
        """Deal the stimuli into folds, identical images together."""
        hashes = dict(zip(self.stimuli.ids, self.hashes, strict=True))
        groups = [hashes[name] for name in responses.ids]
        n_splits = self.study.settings["splits"]["cross_validation"]
        return Splits.k_fold(responses.ids, n_splits, groups=groups, seed=self.study.seed)

    def _note_duplicates(self) -> None:
        """Log images that are the same under several names."""
        by_hash: dict[str, list[str]] = {}
        for name, known in zip(self.stimuli.ids, self.hashes, strict=True):
            by_hash.setdefault(known, []).append(name)
        same = [names for names in by_hash.values() if len(names) > 1]
        if same:
            logger.warning(
                "%d images are identical under several ids; they are kept on one side of every split.",
                sum(map(len, same)),
                extra={"facts": {"stimuli": same}},
            )

    # Stages

    def _features(self) -> Features:
        with self.stages.watch("extract"):
            return extract(
                self.stimuli,
                self.extractor,
                bands=self.extractor.bands,
                store=self.out / "features",
                progress=self.progress,
            )

    def _responses(self, participant: str) -> Responses:
        responses: Responses = self.dataset.responses(participant)
        self.stimuli.select(responses.ids)
        encoding.usable(responses)
        return responses

    def _encode(self, participant: str, features: Features, responses: Responses) -> Maps:
        """Run every analysis; each is kept in a file of its own, so that an interrupted run goes on."""
        with self.stages.watch("encode"):
            train, test = self._sides(responses)
            found = [] if test is None else [analyses.ceiling(test)]
            scorer = self._scorer(features, responses, train, test)
            for analysis in self.study.models(self.extractor.bands):
                path = self.out / "work" / f"sub-{participant}_{analysis.name}.npz"
                if not self.record.has(path):
                    save_state(scorer.score(analysis), path)
                    self.record.keep(path)
                found.append(load_state(path))
            return analyses.joined([maps for maps in found if maps is not None])

    def _sides(self, responses: Responses) -> tuple[Responses, Responses | None]:
        """Part the responses by the `split` column; without a test set where folds are asked for."""
        if self.study.settings["splits"]["cross_validation"]:
            return responses, None
        train_ids, test_ids = self._split_ids(responses)
        return responses.split(test_ids=test_ids, train_ids=train_ids, zscore=self._zscore)

    def _split_ids(self, responses: Responses) -> tuple[list[str], list[str]]:
        table = self.stimuli.select(responses.ids).table
        if "split" not in table.columns:
            raise InputError("There is no `split` column; add one, or set cross_validation in [splits].")
        return held_out(list(table.index), list(table["split"]))

    def _scorer(
        self, features: Features, responses: Responses, train: Responses, test: Responses | None
    ) -> analyses.Scorer:
        settings = self.study.settings
        given = settings["inference"]
        n_permutations = given["n_permutations"] if given["null"] == "permutation" else 0
        criterion = analyses.Criterion(given["q"], given["correction"], n_permutations, self.study.seed)
        if test is not None:
            return analyses.HeldOut(
                features, train.averaged(), test.averaged(), self.study.estimator, criterion, self.progress
            )
        splits = self._splits(responses)
        return analyses.AcrossFolds(
            features, responses, splits, self._zscore, self.study.estimator, criterion, self.progress
        )

    def _report(self, participant: str, maps: Maps, responses: Responses) -> None:
        with self.stages.watch("write"):
            reporting.write_dataset(self.out, maps, participant)
            for name, table in self.dataset.tables(participant).items():
                reporting.write_table(self.out, participant, name, table)
        with self.stages.watch("report"):
            content = reporting.Content(
                participant=participant,
                maps=maps,
                atlas=self._atlas(responses),
                facts=reporting.facts_of(maps, responses, self.stimuli),
                settings=self.study.settings,
                made_by=self.extractor.made_by,
                log=self.out / "logs" / "latentcortex.jsonl",
            )
            reporting.write(self.out, content, self.stages.table())
        reporting.write_summary(self.out, participant, maps, self.stages.table())

    def _atlas(self, responses: Responses) -> Atlas | None:
        name = self.study.settings["report"]["atlas"]
        if not name or not isinstance(responses.space, Surface):
            return None
        return Atlas.find(name, responses.space.template)
