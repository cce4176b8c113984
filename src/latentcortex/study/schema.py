"""The settings of a study: every section of its file, checked whole before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latentcortex import analyses, datasets, estimators, extractors, reconstructors
from latentcortex._ranges import NoEffect
from latentcortex._shelf import picking, unknown
from latentcortex._shelf.picking import FromShelf, picked_by
from latentcortex._shelf.signatures import STRICT, Chosen
from latentcortex.errors import InputErrors
from latentcortex.study.sections import (
    AnalysesSettings,
    CheckSettings,
    DecodingSettings,
    EvaluationSettings,
    InferenceSettings,
    ReportSettings,
    ResponsesSettings,
    RunSettings,
    SplitsSettings,
)

FIGURE_SETTINGS: Final = tuple(key for key, field in ReportSettings.model_fields.items() if NoEffect in field.metadata)
"""Keys of [report] on which no number depends: a change draws the figures anew, and fits nothing."""
DECODING_ONLY_SECTIONS: Final = ("decoding", "reconstructor", "evaluation")
"""Sections on which no map depends."""
ENCODING_SECTIONS: Final = (
    "dataset",
    "extractor",
    "estimator",
    "responses",
    "splits",
    "analyses",
    "inference",
    "report",
)
"""Sections on which the maps and their report depend."""
DECODED_FEATURES_SECTIONS: Final = ("dataset", "extractor", "responses", "splits")
"""Sections on which decoded features depend, beside the settings of the decoder."""
DECODING_SECTIONS: Final = ("dataset", "extractor", "responses", "splits", "report", *DECODING_ONLY_SECTIONS)
"""Sections on which decoding, reconstructions and their page depend."""


@dataclass(frozen=True)
class Contradiction:
    """Keys that exclude each other.

    Parameters
    ----------
    keys : tuple of str
        As `section.key`.
    line : str
        What is wrong, and what to do.
    """

    keys: tuple[str, ...]
    line: str


class Contradictions(ValueError):
    """Keys of a study file exclude each other.

    Parameters
    ----------
    contradictions : iterable of Contradiction
    """

    def __init__(self, contradictions: Iterable[Contradiction]) -> None:
        self.contradictions = tuple(contradictions)
        super().__init__("\n".join(contradiction.line for contradiction in self.contradictions))


class Settings(BaseModel):
    """What a study file says, complete; see `examples/every_key.toml`."""

    model_config = ConfigDict(**STRICT, use_attribute_docstrings=True)

    dataset: Annotated[Chosen, FromShelf(datasets.SHELF)]
    """Where stimuli and responses come from."""
    responses: ResponsesSettings = ResponsesSettings()
    splits: SplitsSettings = SplitsSettings()
    extractor: Annotated[Chosen, FromShelf(extractors.SHELF)]
    """What turns stimuli into features, band by band."""
    estimator: Annotated[Chosen, FromShelf(estimators.SHELF, ("banded_ridge",))] = Field(
        default={"name": "banded_ridge"}, validate_default=True
    )
    """What predicts responses from features."""
    analyses: AnalysesSettings = AnalysesSettings()
    inference: InferenceSettings = InferenceSettings()
    check: CheckSettings = CheckSettings()
    report: ReportSettings = ReportSettings()
    decoding: DecodingSettings = DecodingSettings()
    reconstructor: Annotated[Chosen, FromShelf(reconstructors.SHELF, ("retrieval", "ldm"))] = Field(
        default={"name": "retrieval"}, validate_default=True
    )
    """What turns decoded features into images; latent diffusion where features come from it, and otherwise the nearest
    training image, unless `name` says another."""
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="before")
    @classmethod
    def _with_reconstructor(cls, given: Any) -> Any:
        return with_reconstructor(given)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        excluding = _between(self.splits, self.analyses, self.inference)
        if excluding:
            raise Contradictions(excluding)
        return self

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Settings:
        """Check what a file says.

        Parameters
        ----------
        given : mapping
            Section -> key -> value.

        Raises
        ------
        InputErrors
            With a line for each key that is not known or not allowed, and for each two that exclude each other.
        """
        given = with_reconstructor(given)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = dict(_problems(error, given))
            wrong = {place.partition(",")[0] for place in problems}
            raised = [detail.get("ctx", {}).get("error") for detail in error.errors(include_url=False)]
            excluding = [one for each in raised if isinstance(each, Contradictions) for one in each.contradictions]
            excluding = excluding or _contradictions_of_rest(given, wrong)
            raise InputErrors([*problems.values(), *(one.line for one in excluding)]) from None

    def depended_on(self, sections: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Write the keys of some sections on which results depend; how figures look is none of them."""
        kept = self.plain(sections)
        for name, keys in kept.items():
            fields = type(getattr(self, name)).model_fields
            needless = {key for key, field in fields.items() if NoEffect in field.metadata}
            kept[name] = {key: value for key, value in keys.items() if key not in needless}
        return kept

    def plain(self, sections: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
        """Write some sections, or all, as a file would: of a class from a shelf the arguments that were given."""
        chosen = {name: getattr(self, name) for name in tuple(sections) or type(self).model_fields}
        return {
            name: section.model_dump(mode="json", exclude_unset=isinstance(section, Chosen))
            for name, section in chosen.items()
        }


def with_reconstructor(given: Any) -> Any:
    """Reconstruct by the model that features come from, where a reconstructor runs it, unless another way is named."""
    if not isinstance(given, Mapping) or not isinstance(given.get("reconstructor", {}), Mapping):
        return given
    source = given.get("extractor")
    name = source.get("name") if isinstance(source, Mapping) else getattr(source, "name", "")
    fitting = (
        name if isinstance(name, str) and name in reconstructors.SHELF and runs_model_of(name, name) else "retrieval"
    )
    return {**given, "reconstructor": {"name": fitting, **given.get("reconstructor", {})}}


def runs_model_of(reconstructor: str, extractor: str) -> bool:
    """Tell whether a reconstructor runs the model of this extractor: not by their names, which may be the same."""
    source = getattr(reconstructors.SHELF.find(reconstructor), "extractor", None)
    return source is not None and extractor in extractors.SHELF and extractors.SHELF.find(extractor) is source


def _problems(error: ValidationError, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what is wrong, as `section.key` (or the section alone) and a line for each."""
    by_section: dict[str, list[Any]] = {}
    for one in error.errors(include_url=False):
        if one["loc"]:
            by_section.setdefault(str(one["loc"][0]), []).append({**one, "loc": one["loc"][1:]})
    for section, errors in by_section.items():
        first = errors[0]
        raised = first.get("ctx", {}).get("error")
        if first["loc"]:
            for key, line in _problems_of_keys(section, errors, given.get(section, {})):
                place = f"[{section}]: " if f"`{key.partition(',')[0]}`" in line else f"[{section}] {key}: "
                yield f"{section}.{key}", line if f"[{section}]" in line else place + line
        elif first["type"] == "extra_forbidden":
            yield section, str(unknown("section", section, Settings.model_fields))
        elif first["type"] == "missing":
            yield section, f"[{section}] needs `name`, a string."
        else:
            yield section, str(raised or f"{section} must be a section, [{section}]; got {first['input']!r}.")


def _problems_of_keys(section: str, errors: list[Any], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what is wrong in one section, a key and a line for each."""
    field = Settings.model_fields[section]
    picked = picked_by(field)
    if picked is not None:
        yield from picking.problems(picked.model(picked.name(given)), errors, given, what=picked.what(given))
    else:
        model: Any = field.annotation
        yield from picking.problems(model, errors, given, what=f"in [{section}]")


def _contradictions_of_rest(given: Mapping[str, Any], wrong: Collection[str]) -> list[Contradiction]:
    """List those between the keys that are not wrong themselves."""

    def rest(section: str) -> dict[str, Any]:
        keys = given.get(section, {}) if section not in wrong else {}
        return {key: value for key, value in keys.items() if f"{section}.{key}" not in wrong}

    splits, chosen = SplitsSettings(**rest("splits")), AnalysesSettings(**rest("analyses"))
    excluding = _between(splits, chosen, InferenceSettings(**rest("inference")))
    sections = [key for key in wrong if "." not in key]
    return [one for one in excluding if not any(key in wrong or key.split(".")[0] in sections for key in one.keys)]


def _between(splits: SplitsSettings, chosen: AnalysesSettings, tests: InferenceSettings) -> list[Contradiction]:
    """List the keys that exclude each other."""
    return [*_between_splits_and_models(splits, chosen), *_between_splits_and_tests(splits, chosen, tests)]


def _between_splits_and_models(splits: SplitsSettings, chosen: AnalysesSettings) -> Iterator[Contradiction]:
    """Find what folds or a test set cannot be asked for."""
    if splits.cross_validation and chosen.n_dims:
        yield Contradiction(
            ("splits.cross_validation", "analyses.n_dims"),
            "`n_dims` in [analyses] needs a test set: across folds every permutation would need components of its own.",
        )
    if splits.cross_validation and chosen.shares != ("product",):
        yield Contradiction(
            ("splits.cross_validation", "analyses.shares"),
            "Across folds only product shares are computed: set shares = ['product'] in [analyses], or use a test set.",
        )
    for name in chosen.run if splits.cross_validation else ():
        if analyses.SHELF.find(name).needs_test_set:
            yield Contradiction(
                ("splits.cross_validation", "analyses.run"),
                f"The analysis {name!r} in `run` in [analyses] needs a test set; leave it out, or cross_validation.",
            )
    if splits.test == "far" and splits.cross_validation:
        yield Contradiction(
            ("splits.test", "splits.cross_validation"),
            "test = 'far' and cross_validation in [splits] exclude each other; leave one out.",
        )
    if splits.unit != "stimulus" and not splits.cross_validation:
        yield Contradiction(
            ("splits.unit", "splits.cross_validation"),
            f"unit = '{splits.unit}' in [splits] is what folds hold out: set cross_validation, too.",
        )


def _between_splits_and_tests(
    splits: SplitsSettings, chosen: AnalysesSettings, tests: InferenceSettings
) -> Iterator[Contradiction]:
    """Find tests that do not hold for these splits, or for shares that are not computed."""
    if tests.share != "gain" and "unique" not in chosen.shares:
        yield Contradiction(
            ("inference.share", "analyses.shares"),
            f"share = {tests.share!r} in [inference] tests unique shares: add 'unique' to `shares` in [analyses].",
        )
    if tests.null == "clusters" and splits.unit == "stimulus":
        yield Contradiction(
            ("inference.null", "splits.unit"),
            "null = 'clusters' in [inference] needs whole clusters that are held out: set unit in [splits], and folds.",
        )
    if splits.cross_validation and tests.null == "analytic":
        yield Contradiction(
            ("splits.cross_validation", "inference.null"),
            "null = 'analytic' in [inference] is not valid for predictions pooled over folds; use 'permutation'.",
        )
