"""One TOML file is one study: it runs the stages, and skips what is done."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from latentcortex import _files, analyses, checking, datasets, estimators, executors, extractors, reconstructors
from latentcortex._shelf import unknown
from latentcortex._shelf.signatures import Chosen
from latentcortex.analyses import Analysis
from latentcortex.decoding import Decoder
from latentcortex.errors import InputError, InputErrors
from latentcortex.space import TEMPLATES, Atlas
from latentcortex.study.backward import STAGES as BACKWARD_STAGES
from latentcortex.study.backward import Backward
from latentcortex.study.forward import STAGES as FORWARD_STAGES
from latentcortex.study.forward import Forward
from latentcortex.study.inspection import Inspection, inspected
from latentcortex.study.material import Material
from latentcortex.study.outcome import Outcome
from latentcortex.study.schema import Settings, runs_model_of
from latentcortex.study.sections import CheckSettings

HUB: Final = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""What a model of the hub is called."""
NOT_PATHS: Final = ("phantom", *TEMPLATES)
"""Names that stand where a path could."""
MAX_STUDY_BYTES: Final = 2**16
"""Of a study file; a long one has a few thousand. Python's reader needs seconds for a key of thousands of dots."""
STAGES: Final = (*FORWARD_STAGES, *BACKWARD_STAGES)


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
        given = self.settings
        picked = f"dataset {given.dataset.name}, extractor {given.extractor.name}, estimator {given.estimator.name}"
        return f"Study({picked}; analyses {', '.join(given.analyses.run)})"

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
            given = tomllib.loads(text)
        except RecursionError:
            raise InputError(f"{path} is nested too deeply to be read; expected sections and their keys.") from None
        except ValueError as error:  # of the grammar, or a number of thousands of digits
            raise InputError(f"{path} is not TOML: {str(error).rstrip('.')}.") from None
        try:
            settings = Settings.read(given)
        except InputErrors as error:
            raise InputErrors([f"{path}: {line}" for line in error.lines]) from None
        folder = path.resolve().parent
        return cls(_placed(settings, folder), folder, "decoding" in given, str(path))

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
        material = Material(self, out or self.out or Path(), progress=False)
        there = material.extracted
        judged: dict[str, list[Inspection]] = {}

        def judge(participant: str) -> None:
            """Look at a participant's design, once for both halves."""
            if participant not in judged:
                judged[participant] = inspected(material.design(participant, extracted=there))

        for half, _ in self._goals(None):
            half(material).check(judge)
        material.check_room()
        if material.by_embedding and not there:
            raise InputError("These splits are made from features: run `latentcortex extract` first.")
        for name in material.participants if material.by_embedding else ():
            material.check_splits(name)
            material.check_fits(name, self.estimator())
            judge(name)
        return [one for name in material.participants for one in judged[name]]

    @property
    def out(self) -> Path | None:
        """The folder for results that the file names, if it does."""
        given = self.settings.run.out
        return self._path(given) if given else None

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
        with _files.remembering() as noticed:
            material = Material(self, out, progress)
            halves = [(half(material), goal) for half, goal in self._goals(until)]
        material.noticed.extend(noticed)
        for half, _ in halves:
            half.record.refuse(overwrite=overwrite)
        todo = [(half, goal) for half, goal in halves if not half.record.is_done(goal)]
        for half, _ in todo:
            half.check(material.refuse)
        with ExitStack() as owned:
            for half, _ in halves if todo else ():  # both at once: what one makes, the other is made from
                owned.enter_context(half.record.owning(overwrite=overwrite, tidy=half.tidy))
            for half, goal in todo:
                if not half.record.was_done_meanwhile(goal):
                    half.through(goal)
        pages = {
            name: [half.out / f"sub-{name}.html" for half, goal in halves if goal in ("report", "evaluate")]
            for name in material.participants
        }
        kept = tuple(note for half, _ in todo for note in half.record.kept)
        return Outcome(out, pages, computed=bool(todo), kept=kept)

    def _goals(self, until: str | None) -> list[tuple[type[Forward | Backward], str]]:
        """Name the last stage of each half; the way back needs only the features of the way there."""
        if until in BACKWARD_STAGES or (until is None and self.decodes):
            return [(Forward, "extract" if until else "report"), (Backward, until or "evaluate")]
        return [(Forward, until or "report")]

    def dataset(self) -> Any:
        """Make the dataset."""
        return self._make(datasets.SHELF, "dataset", paths=("root", "template", "scratch"))

    def extractor(self) -> Any:
        """Make the extractor."""
        return self._make(extractors.SHELF, "extractor", paths=("model",), seeded=True)

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
        given = self.settings.decoding
        if given.rois and not self.settings.report.atlas:
            raise InputError("`rois` in [decoding] needs `atlas` in [report], which says where the regions are.")
        if given.rois and atlas is None:
            raise InputError(
                "`rois` in [decoding] needs voxels of known position: give `template` in [dataset], or no `rois`."
            )
        return Decoder(given.rois, atlas=atlas, n_voxels=given.n_voxels, seed=self.seed)

    def reconstructor(self, **arguments: Any) -> Any:
        """Make the reconstructor; one that runs the extractor's model has that, unless it names another.

        Also another one is run as the extractor's is: at its pixels, in its precision, on its device.
        """
        name, source = self.settings.extractor.name, self.settings.extractor.arguments
        of, given = self.settings.reconstructor.name, self.settings.reconstructor.arguments
        if not runs_model_of(of, name):
            return self._make(reconstructors.SHELF, "reconstructor", paths=("model",), seeded=True, **arguments)
        named = ("model", "revision")
        taken = ("pixels", "n_steps", "dtype", "device", *(named if "model" not in given else ()))
        run = {key: source[key] for key in taken if key in source} | {key: given[key] for key in named if key in given}
        model = self._make(extractors.SHELF, "reconstructor", paths=("model",), given=(name, run))
        rest = {key: value for key, value in given.items() if key not in named} | {"model": model}
        return self._make(reconstructors.SHELF, "reconstructor", seeded=True, given=(of, rest), **arguments)

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
                here = self._path(arguments[key])
                # A name of the model hub looks like a path, and is one only if there is such a folder.
                if key != "model" or here.exists() or not HUB.fullmatch(arguments[key]):
                    arguments[key] = str(here)
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

    def _path(self, given: str) -> Path:
        return (self.folder / Path(given).expanduser()).resolve()


def _placed(settings: Settings, folder: Path) -> Settings:
    """Write an atlas that is a folder beside the study so that it means the same from everywhere."""
    given = settings.report.atlas
    beside = (folder / Path(given).expanduser()).resolve()
    if not given or not (beside / "atlas.json").is_file():
        return settings
    return settings.model_copy(update={"report": settings.report.model_copy(update={"atlas": str(beside)})})
