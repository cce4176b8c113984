"""One TOML file is one study: it runs the stages, and skips what is done."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from latentcortex import _files, analyses, checking, datasets, estimators, executors, extractors, reconstructors
from latentcortex._shelf import unknown
from latentcortex._shelf.signatures import Chosen
from latentcortex.analyses import Analysis
from latentcortex.decoding import Decoder
from latentcortex.errors import InputError, InputErrors
from latentcortex.extraction import check_room, is_extracted
from latentcortex.space import TEMPLATES, Atlas
from latentcortex.study import requirements
from latentcortex.study.data import StudyData
from latentcortex.study.decoding_stages import STAGES as DECODING_STAGES
from latentcortex.study.decoding_stages import DecodingStages
from latentcortex.study.encoding_stages import STAGES as ENCODING_STAGES
from latentcortex.study.encoding_stages import EncodingStages
from latentcortex.study.inspection import Inspection, inspect_design
from latentcortex.study.outcome import Outcome
from latentcortex.study.schema import Settings, runs_model_of
from latentcortex.study.sections import CheckSettings

HUB: Final = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""Names of models on the hub."""
NOT_PATHS: Final = ("phantom", *TEMPLATES)
"""Values of keys for paths that are names of what the package has."""
MAX_STUDY_BYTES: Final = 2**16
"""Largest size of a study file, bytes; long ones have a few thousand. Python's reader needs seconds for many dots."""
STAGES: Final = (*ENCODING_STAGES, *DECODING_STAGES)


@dataclass(frozen=True)
class Study:
    """What to run, checked.

    Parameters
    ----------
    settings : Settings
        Section by section, such as `settings.inference.q`.
    folder : Path
        Against which paths resolve.
    decodes : bool
        Whether a run of all stages also decodes, reconstructs and evaluates: the file has a section [decoding].
    file : str
        Where the settings stand, for messages.
    """

    settings: Settings
    folder: Path = field(default_factory=Path)
    decodes: bool = False
    file: str = field(default="", compare=False)

    def __repr__(self) -> str:
        """Say what it runs on what, in one line."""
        of = self.settings
        parts = f"dataset {of.dataset.name}, extractor {of.extractor.name}, estimator {of.estimator.name}"
        return f"Study({parts}; analyses {', '.join(of.analyses.run)})"

    @classmethod
    def read(cls, path: Path | str) -> Study:
        """Read a study file.

        Raises
        ------
        InputError
            If the file is missing or not TOML; with a line for each key that is not known or not allowed.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected a study file in TOML.")
        if not path.is_file():
            raise InputError(f"Study file {path} is not there.")
        text = _files.read_text(path, expected="a study file in TOML", max_bytes=MAX_STUDY_BYTES)
        try:
            content = tomllib.loads(text)
        except RecursionError:
            raise InputError(f"{path} is nested too deeply to be read; expected sections and their keys.") from None
        except ValueError as error:  # of the grammar, or a number of thousands of digits
            raise InputError(f"{path} is not TOML: {str(error).rstrip('.')}.") from None
        try:
            settings = Settings.read(content)
        except InputErrors as error:
            raise InputErrors([f"{path}: {line}" for line in error.lines]) from None
        folder = path.resolve().parent
        return cls(_with_atlas_path(settings, folder), folder, "decoding" in content, str(path))

    @property
    def seed(self) -> int:
        """The seed from which all others follow."""
        return self.settings.run.seed

    @property
    def allowed(self) -> tuple[str, ...]:
        """The rules of the linter that this study may break."""
        return self.settings.check.allow

    def allowing(self, rules: Sequence[str]) -> Study:
        """Allow more rules to be broken."""
        checking.known_rules(rules)
        both = CheckSettings(allow=tuple(dict.fromkeys([*self.allowed, *rules])))
        return replace(self, settings=self.settings.model_copy(update={"check": both}))

    def check(self, out: Path | None = None) -> list[Inspection]:
        """Look for what would flatter a result or stop a run, without computing anything; see `checking.RULES`.

        All that a run needs is built and looked at as it does before it writes anything: dataset, model, images,
        captions, estimator and its backend, atlas, surfaces, background, viewer, decoder and reconstructor, room for
        features.

        Parameters
        ----------
        out : Path, optional
            Folder of results. Rules about features look at those that are extracted there, if they are.

        Returns
        -------
        list of Inspection
            One for each participant and rule.

        Raises
        ------
        InputError
            If a run would stop.
        """
        data = StudyData(self, out or self.out or Path(), progress=False)
        store = data.out / "features"
        extracted = is_extracted(data.stimuli, data.extractor, store=store)
        inspections: dict[str, list[Inspection]] = {}

        def inspect_participant(participant: str) -> None:
            """Hold a participant's design against the rules, once for all stages."""
            if participant not in inspections:
                inspections[participant] = inspect_design(
                    requirements.design_of(data, participant, extracted=extracted)
                )

        for stages, _ in self._goals(None):
            stages(data).check(inspect_participant)
        check_room(data.stimuli, data.extractor, data.extractor.bands, store=store)
        if data.settings.splits.by_embedding and not extracted:
            raise InputError("These splits are made from features: run `latentcortex extract` first.")
        for name in data.participants if data.settings.splits.by_embedding else ():
            requirements.check_splits(data, name)
            requirements.check_fits(data, name, self.estimator())
            inspect_participant(name)
        return [inspection for name in data.participants for inspection in inspections[name]]

    @property
    def out(self) -> Path | None:
        """The folder for results that the file names, if it does."""
        out = self.settings.run.out
        return self._path(out) if out else None

    def run(
        self,
        out: Path | None = None,
        *,
        until: str | None = None,
        overwrite: bool = False,
        progress: bool = True,
    ) -> Outcome:
        """Run the stages up to one, skipping what is done.

        Everything that can be checked is checked before anything is written.

        Parameters
        ----------
        out : Path, optional
            Folder for results; the file's by default.
        until : {"extract", "encode", "report", "decode", "reconstruct", "evaluate"}, optional
            The last three need none of the maps and go into the folder `decoding`. By default all that the
            file asks for: `report`, and `evaluate` if it has a section [decoding].
        overwrite : bool
            Replace results of another study in that folder: files that it wrote, as it left them. All others are kept.
        progress : bool
            Draw progress bars.

        Raises
        ------
        InputError
            If anything given is not what it must be; then nothing was written.
        """
        out = out if out is not None else self.out
        if until not in (None, *STAGES):
            raise unknown("stage", str(until), STAGES)
        if out is None:
            raise InputError("No folder for results: give --out, or `out` in [run].")
        with _files.remembering() as early_log:
            data = StudyData(self, out, progress)
            asked = [(stages(data), last) for stages, last in self._goals(until)]
        data.early_log.extend(early_log)
        for stages, _ in asked:
            stages.results.refuse(overwrite=overwrite)
        todo = [(stages, last) for stages, last in asked if not stages.results.is_done(last)]
        for stages, _ in todo:
            stages.check(partial(requirements.refuse, data))
        with ExitStack() as owned:
            for stages, _ in asked if todo else ():  # both at once: decoding reads what encoding writes
                owned.enter_context(stages.results.owning(overwrite=overwrite, tidy=stages.delete_intermediate))
            for stages, last in todo:
                if not stages.results.was_done_meanwhile(last):
                    stages.run(last)
        pages = {
            name: [stages.out / f"sub-{name}.html" for stages, last in asked if last in ("report", "evaluate")]
            for name in data.participants
        }
        kept = tuple(note for stages, _ in todo for note in stages.results.kept)
        return Outcome(out, pages, computed=bool(todo), kept=kept)

    def _goals(self, until: str | None) -> list[tuple[type[EncodingStages | DecodingStages], str]]:
        """Name the last stage that is run of encoding and of decoding; decoding alone needs only the features."""
        if until in DECODING_STAGES or (until is None and self.decodes):
            return [(EncodingStages, "extract" if until else "report"), (DecodingStages, until or "evaluate")]
        return [(EncodingStages, until or "report")]

    def dataset(self) -> Any:
        """Make the dataset."""
        return self._make(datasets.SHELF, "dataset", paths=("root", "template", "scratch"))

    def extractor(self) -> Any:
        """Make the extractor."""
        return self._make(extractors.SHELF, "extractor", paths=("model", "folder"), seeded=True)

    def estimator(self) -> Any:
        """Make the estimator."""
        return self._make(estimators.SHELF, "estimator", seeded=True)

    def executor(self) -> executors.Executor:
        """Make what computes cells side by side, as many as `n_workers` in [run] says unless the executor's own do."""
        run, arguments = self.settings.run, self.settings.run.executor.arguments
        if run.n_workers and executors.SHELF.takes(run.executor.name, "n_workers"):
            arguments = {"n_workers": run.n_workers, **arguments}
        return executors.make(run.executor.name, **arguments)

    def decoder(self, atlas: Atlas | None) -> Decoder:
        """Make a decoder."""
        settings = self.settings.decoding
        if settings.rois and not self.settings.report.atlas:
            raise InputError("`rois` in [decoding] needs `atlas` in [report], which says where the regions are.")
        if settings.rois and atlas is None:
            raise InputError(
                "`rois` in [decoding] needs voxels of known position: give `template` in [dataset], or no `rois`."
            )
        return Decoder(settings.rois, atlas=atlas, n_voxels=settings.n_voxels, seed=self.seed)

    def reconstructor(self, **arguments: Any) -> Any:
        """Make the reconstructor; one that runs the extractor's model has that, unless it names another.

        Also another one is run as the extractor's is: at its pixels, in its precision, on its device.
        """
        chosen, given = self.settings.reconstructor.name, self.settings.reconstructor.arguments
        extractor, of_extractor = self.settings.extractor.name, self.settings.extractor.arguments
        if not runs_model_of(chosen, extractor):
            return self._make(reconstructors.SHELF, "reconstructor", paths=("model",), seeded=True, **arguments)
        model_keys = ("model", "revision")
        shared = ("pixels", "n_steps", "dtype", "device", *(model_keys if "model" not in given else ()))
        run = {key: of_extractor[key] for key in shared if key in of_extractor}
        run |= {key: given[key] for key in model_keys if key in given}
        model = self._make(extractors.SHELF, "reconstructor", paths=("model",), given=(extractor, run))
        others = {key: value for key, value in given.items() if key not in model_keys}
        picked = (chosen, others | {"model": model})
        return self._make(reconstructors.SHELF, "reconstructor", seeded=True, given=picked, **arguments)

    def analyses(self, bands: tuple[str, ...]) -> list[Analysis]:
        """Make the analyses that are asked for, each with its models among these bands."""
        return [analyses.make(name, bands) for name in self.settings.analyses.run]

    def _make(
        self,
        shelf: Any,
        section: str,
        *,
        paths: tuple[str, ...] = (),
        seeded: bool = False,
        given: tuple[str, Mapping[str, Any]] | None = None,
        **otherwise: Any,
    ) -> Any:
        """Pick from a shelf by the section's `name`; its other keys are the arguments, `otherwise` the defaults.

        `given`, a name and arguments, stands in place of the section.
        """
        chosen: Chosen = getattr(self.settings, section)
        name, of_section = given or (chosen.name, chosen.arguments)
        arguments = {**otherwise, **of_section}
        for key in paths:
            if arguments.get(key, NOT_PATHS[0]) not in NOT_PATHS:
                path = self._path(arguments[key])
                # A name of the model hub looks like a path, and is one only if there is such a folder.
                if key != "model" or path.exists() or not HUB.fullmatch(arguments[key]):
                    arguments[key] = str(path)
        if seeded and "seed" not in arguments and shelf.takes(name, "seed"):
            arguments["seed"] = self.seed
        try:
            return shelf.make(name, **arguments)
        except InputErrors as error:
            raise InputErrors([f"{self._place(section)}{line}" for line in error.lines]) from None
        except InputError as error:
            raise type(error)(f"{self._place(section)}{error}") from None

    def _place(self, section: str) -> str:
        """Say where the keys of a section stand."""
        return f"{self.file}: [{section}]: " if self.file else f"[{section}]: "

    def _path(self, path: str) -> Path:
        """Resolve a path of the study file against the folder that the file is in."""
        return (self.folder / Path(path).expanduser()).resolve()


def _with_atlas_path(settings: Settings, folder: Path) -> Settings:
    """Replace the path of an atlas that is relative to the study's folder by an absolute one."""
    atlas = settings.report.atlas
    path = (folder / Path(atlas).expanduser()).resolve()
    if not atlas or not (path / "atlas.json").is_file():
        return settings
    return settings.model_copy(update={"report": settings.report.model_copy(update={"atlas": str(path)})})
